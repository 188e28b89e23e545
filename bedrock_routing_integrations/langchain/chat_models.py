"""`ChatBedrockRouter`: langchain-aws's chat model, for any Bedrock target, saying which model answered.

It is ``ChatBedrockConverse`` handed a `RoutedClient`. What langchain-aws decides by a model's name (how messages are
written, which tool choices exist, whether reasoning can be asked for) is decided here per call, for the models that the
target can use: for each call a copy of the chat model is made *as served* by those models, and does the work.
"""

from __future__ import annotations

import contextvars
import hashlib
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from langchain_aws import ChatBedrockConverse
from langchain_core.callbacks import BaseCallbackHandler, CallbackManager
from langchain_core.runnables.config import ensure_config
from pydantic import BaseModel, Field, PrivateAttr, SecretStr, field_serializer, model_validator

from bedrock_routing_integrations.client import CallOptions, RoutedClient
from bedrock_routing_integrations.connections import DEFAULT_MAX_CONCURRENCY
from bedrock_routing_integrations.errors import InvalidRequestError, InvalidTargetError
from bedrock_routing_integrations.invocation import ROUTING
from bedrock_routing_integrations.observability.external_spans import Outer, outer_of
from bedrock_routing_integrations.observability.options import telemetry_of, written_telemetry
from bedrock_routing_integrations.requests import SystemPlacement, check_placement
from bedrock_routing_integrations.requests.tool_choice import converse_tool_choice
from bedrock_routing_integrations.runtime import warn_once
from bedrock_routing_integrations.targets import TargetKind, parse_target
from bedrock_routing_integrations.transport.threads import iterate_in_thread, run_in_thread

from ._answer_blocks import (
    as_chunk,
    copied_containers,
    invalidate_cut_off_call,
    name_the_model,
    restore_fields,
    restored_content,
    token_usage,
)
from ._call_arguments import (
    PREFERRED,
    check_kind,
    checked_call,
    checked_constructor,
    checked_to_its_end,
    converse_arguments,
    known_arguments,
    opaque_fields,
    planned_schema,
    split_model,
    taking_out,
    with_cache_policy,
    with_choice,
    with_concurrency,
    with_object_root,
    with_settled_choice,
    written_policy,
)
from ._converse_client import ConverseClient
from ._converse_messages import converse_messages
from ._model_settings import SECRETS, OwnClient, client_of, combine_settings, probe_update, without_derived
from ._traces import Tracing, tracers_among

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from uuid import UUID

    from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun, Callbacks
    from langchain_core.callbacks.manager import BaseRunManager
    from langchain_core.language_models import LanguageModelInput
    from langchain_core.language_models.base import LangSmithParams
    from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
    from langchain_core.outputs import ChatGenerationChunk, ChatResult, LLMResult
    from langchain_core.runnables import Runnable, RunnableConfig
    from langchain_core.tools import BaseTool
    from typing_extensions import Self

    from bedrock_routing_integrations.models.candidates import Candidate, ResolvedTarget


# --- What a `ChatBedrockRouter` is made of ---


class Settings(ChatBedrockConverse):
    """The fields of `ChatBedrockRouter`, which documents them."""

    base_models: list[str] | None = None
    cache_policy: Any = "auto"
    prices: Any = None
    telemetry: Any = "auto"
    max_concurrency: int = DEFAULT_MAX_CONCURRENCY
    mid_conversation_system: SystemPlacement | None = None
    project_identifier: str | None = None
    # Redeclared: upstream fills these from the environment once, so a key that is rotated later would not be seen.
    aws_access_key_id: SecretStr | None = Field(default=None)
    aws_secret_access_key: SecretStr | None = Field(default=None)
    aws_session_token: SecretStr | None = Field(default=None)
    bedrock_api_key: SecretStr | None = Field(default=None, alias="api_key")
    # Redeclared: headers carry tokens, and upstream shows them in repr, dumps and callbacks.
    default_headers: Mapping[str, str] | None = Field(default=None, exclude=True, repr=False)

    @model_validator(mode="before")
    @classmethod
    def set_disable_streaming(cls, values: Any) -> Any:
        """Check the target. Whether it streams is decided when it is called, for the models that it then has."""
        given = values.get("model", values.get("model_id")) if isinstance(values, dict) else None
        if given is None:
            raise InvalidRequestError("ChatBedrockRouter needs model=, a Bedrock model id or ARN")
        check_placement(values.get("mid_conversation_system"))
        values = {n: value for n, value in without_derived(values).items() if n not in ("model", "model_id")}
        if isinstance(values.get("telemetry"), dict):  # as `dumps` writes it
            values["telemetry"] = telemetry_of(values["telemetry"])
        return {**with_cache_policy(values), "model": parse_target(given).model_id}

    @model_validator(mode="before")
    @classmethod
    def build_extra(cls, values: Any) -> Any:
        """Refuse unknown arguments, which langchain-aws would put into the fields that the model is sent.

        Raises:
            InvalidRequestError: There is no such argument.
        """
        if not isinstance(values, dict):
            return values
        values = checked_constructor(cls.__name__, values, known_arguments(cls))
        fields = {**(values.get("model_kwargs") or {}), **(values.get("additional_model_request_fields") or {})}
        values = {n: v for n, v in values.items() if n not in ("model_kwargs", "additional_model_request_fields")}
        return {**values, "additional_model_request_fields": fields} if fields else values

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        # LangChain's caches tell models apart by this; headers can name a tenant, and are not in what is dumped.
        headers = json.dumps(sorted((self.default_headers or {}).items()))
        return f"{super()._get_llm_string(stop, **kwargs)}---{hashlib.sha256(headers.encode()).hexdigest()}"

    @property
    def lc_attributes(self) -> dict[str, Any]:
        """What ``langchain_core.load.dumps`` writes in another form than the field has."""
        written = {"cache_policy": written_policy(self.cache_policy), "telemetry": written_telemetry(self.telemetry)}
        return {**super().lc_attributes, **written}

    @field_serializer("cache_policy")
    def _write_policy(self, cache: Any) -> Any:
        return written_policy(cache)

    @field_serializer("telemetry")
    def _write_telemetry(self, telemetry: Any) -> Any:
        return written_telemetry(telemetry)

    def __getstate__(self) -> dict[str, Any]:
        # Secrets stay in this process: a copy elsewhere looks for its own credentials.
        if any(getattr(self, name) for name in SECRETS) or self.default_headers:
            warn_once(
                "pickle",
                "Explicit credentials and default_headers are left out of a pickle: the process that loads it uses the "
                "credentials that it finds.",
            )
        state = super().__getstate__()
        hidden = dict.fromkeys((*SECRETS, "default_headers"))
        return {**state, "__dict__": {**state["__dict__"], **hidden}}


# --- Which of LangChain's runs a call belongs to: who hears of it, and under which id. ---

RUN = "run_of_langchain"
"""The argument of a call that says what its `Run` is, where that is known already."""


class Run(NamedTuple):
    """A run.

    Attributes:
        handlers: Who hears of it.
        run_id: LangChain's id; None where it stands for several calls.
    """

    handlers: Sequence[BaseCallbackHandler]
    run_id: UUID | None

    def outer(self) -> Outer | None:
        """Who of the handlers tells OpenTelemetry of the call; None where nobody does."""
        return outer_of(self.handlers, run_id=self.run_id)


_noted: contextvars.ContextVar[Run | None] = contextvars.ContextVar("bedrock_routing_langchain_run", default=None)


def run_of(run_manager: BaseRunManager | None, *, alone: bool = True) -> Run | None:
    """The run of a call; None where nobody hears of it.

    Args:
        run_manager: Of the call; None where LangChain has handed on none.
        alone: Whether it is the only call of its run.
    """
    noted = _noted.get()
    if noted is not None:
        _noted.set(None)  # it was for this call
    if run_manager is None:
        return noted
    return Run(run_manager.handlers, run_manager.run_id if alone else None)


def take_run(call: dict[str, Any], run_manager: BaseRunManager | None) -> Run | None:
    """Return the run of a call: the one that its arguments say, which is taken out of them, else `run_of`.

    An argument of that name that a user gave stays, and is refused as any unknown argument.
    """
    if RUN in call and isinstance(call[RUN], (Run, type(None))):
        run: Run | None = call.pop(RUN)
        return run
    return run_of(run_manager)


class Runs(Settings):
    """A chat model that knows, in streams too, which run a call belongs to, and what LangChain records of its runs."""

    def generate(
        self,
        messages: list[list[BaseMessage]],
        stop: list[str] | None = None,
        callbacks: Callbacks = None,
        **kwargs: Any,
    ) -> LLMResult:
        """LangChain's ``generate``."""
        noting = self._noting_one(messages, callbacks)
        try:
            return super().generate(messages, stop, noting, **kwargs)
        finally:
            _forget_run(noting)

    async def agenerate(
        self,
        messages: list[list[BaseMessage]],
        stop: list[str] | None = None,
        callbacks: Callbacks = None,
        **kwargs: Any,
    ) -> LLMResult:
        """LangChain's ``agenerate``."""
        noting = self._noting_one(messages, callbacks)
        try:
            return await super().agenerate(messages, stop, noting, **kwargs)
        finally:
            _forget_run(noting)

    def stream(
        self,
        input: LanguageModelInput,  # noqa: A002 - its name
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        """LangChain's ``stream``."""
        config = self._noting_config(config)
        return _forgetting(super().stream(input, config, stop=stop, **kwargs), config)

    def astream(
        self,
        input: LanguageModelInput,  # noqa: A002 - its name
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        """LangChain's ``astream``."""
        config = self._noting_config(config)
        return _aforgetting(super().astream(input, config, stop=stop, **kwargs), config)

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """LangChain's ``batch``, up to `max_concurrency` calls at once unless the config names another number."""
        config = with_concurrency(config, self.max_concurrency)
        return super().batch(inputs, config, return_exceptions=return_exceptions, **kwargs)

    def batch_as_completed(  # type: ignore[override]  # upstream's overloads differ in `return_exceptions` only
        self,
        inputs: Sequence[LanguageModelInput],
        config: RunnableConfig | Sequence[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> Iterator[tuple[int, AIMessage | Exception]]:
        """LangChain's ``batch_as_completed``, with as many calls at once as `batch`."""
        config = with_concurrency(config, self.max_concurrency)
        yield from super().batch_as_completed(inputs, config, return_exceptions=return_exceptions, **kwargs)  # type: ignore[call-overload]

    def _combine_llm_outputs(self, llm_outputs: list[dict[str, Any] | None], /) -> dict[str, Any]:
        outputs = [output for output in llm_outputs if output]
        if len(outputs) <= 1:
            return outputs[0] if outputs else {}
        names = {output["model_name"] for output in outputs}
        return {
            **({"model_name": names.pop()} if len(names) == 1 else {}),
            "token_usage": token_usage([output["token_usage"] for output in outputs]),
            ROUTING: [output[ROUTING] for output in outputs],
        }

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        named_id, rest = split_model(kwargs)
        model_id = named_id or self.model_id
        # With a Region upstream does not ask the client for it, which would build one in an event loop.
        if self.region_name and len(rest) == len(kwargs):
            return super()._get_ls_params(stop=stop, **kwargs)
        try:
            region = self.client.region(model_id)
        except InvalidTargetError:  # the call will say so
            region = None
        named = self.model_copy(update={"model_id": model_id, "region_name": region or ""})
        params = super(Runs, named)._get_ls_params(stop=stop, **rest)
        if region is None:
            params.get("ls_invocation_params", {}).pop("region_name", None)  # type: ignore[attr-defined]
        return params

    def _noting_config(self, config: RunnableConfig | None) -> RunnableConfig | None:
        given = ensure_config(config)
        callbacks = given.get("callbacks")
        noting = self._noting(callbacks)
        return config if noting is callbacks else {**given, "callbacks": noting}

    def _noting_one(self, messages: list[list[BaseMessage]], callbacks: Callbacks) -> Callbacks:
        # Without handlers of its own a call does not stream in here; and of several prompts all runs begin first, so
        # that it would not be known which is whose.
        streams = len(messages) == 1 and (callbacks or self.callbacks)
        return self._noting(callbacks) if streams else callbacks

    def _noting(self, callbacks: Callbacks) -> Callbacks:
        manager = CallbackManager.configure(callbacks, self.callbacks)
        if not tracers_among(manager.handlers) and outer_of(manager.handlers) is None:
            return callbacks
        manager.add_handler(_Noting(manager.handlers), inherit=False)
        return manager


def _forgetting(chunks: Iterator[AIMessageChunk], config: RunnableConfig | None) -> Iterator[AIMessageChunk]:
    try:
        yield from chunks
    finally:
        _forget_run((config or {}).get("callbacks"))


async def _aforgetting(
    chunks: AsyncIterator[AIMessageChunk], config: RunnableConfig | None
) -> AsyncIterator[AIMessageChunk]:
    try:
        async for chunk in chunks:
            yield chunk
    finally:
        await chunks.aclose()  # type: ignore[attr-defined]  # a generator
        _forget_run((config or {}).get("callbacks"))


def _forget_run(callbacks: Callbacks) -> None:
    """Forget the run that was noted for a call which is over, if no call has taken it.

    LangChain starts the run of a call, and then may answer from its cache, or raise. The next call in this context must
    not take the run for its own.
    """
    noted = _noted.get()
    if noted is None or not isinstance(callbacks, CallbackManager):
        return
    if any(isinstance(handler, _Noting) and handler.noted is noted for handler in callbacks.handlers):
        _noted.set(None)


class _Noting(BaseCallbackHandler):
    """Notes which run has just begun."""

    run_inline = True  # in the context of the call

    def __init__(self, handlers: Sequence[BaseCallbackHandler]) -> None:
        self._handlers = handlers
        self.noted: Run | None = None

    def on_chat_model_start(self, *args: Any, run_id: UUID, **kwargs: Any) -> None:
        self.noted = Run(self._handlers, run_id)
        _noted.set(self.noted)


class ChatBedrockRouter(Runs):
    """A chat model on any Bedrock target: prompt routers, inference profiles, models of every kind, managed prompts.

    All arguments of ``ChatBedrockConverse`` are taken; `provider` is never needed. Nothing is sent, and no boto3 client
    is made, when it is constructed: the target is looked up at the first call, and connections are shared.

    Each message says what happened in ``response_metadata["routing"]``, and ``response_metadata["model_name"]`` is the
    model that answered.

    Differences from ``ChatBedrockConverse``:

    - Credentials in the environment are read when a call is made, not when the object is.
    - Without `region_name` the Region of a target's ARN is used.
    - `model` may also be given to a call: ``llm.invoke("…", model=other_target)``.
    - ``batch`` runs up to `max_concurrency` calls at once unless its config says otherwise.
    - A stream that breaks off raises `StreamInterruptedError`.
    - cachePoints of yours, of ``cache_control=`` and of LangChain's prompt caching middleware are kept; where Bedrock
      would refuse one it is repaired or left out, with a warning.

    Args:
        model: What to call; see `parse_target` for the forms.
        base_models: The base models that `model` can use. Given, the target is not looked up (needs no IAM permission).
            The ids of profiles (``us.…``, ``global.…``) tell which price holds, where geographies differ in it.
        cache: ``"auto"`` (the default): requests get the cachePoints that are expected to save money; ``"off"``: none
            but your own; or a `CachePolicy`. What LangChain itself means by `cache` (a cache of responses, True, False,
            None) is passed on to LangChain.
        cache_policy: Where the above is kept. To say both, give LangChain's as `cache`, and this.
        prices: Model, profile or ARN → US dollars per million tokens, where they are not genai-prices': see
            ``bedrock_routing_integrations.costs.prices.Prices``.
        telemetry: What OpenTelemetry is told: ``"auto"``: a span and metrics of each call where the current span is
            recording and no handler of LangChain's tells of it; ``"always"``, ``"off"``; or a
            ``bedrock_routing_integrations.observability.options.Telemetry``.
        max_concurrency: Asynchronous and batched calls that run at once; also the size of the connection pool.
        mid_conversation_system: Where a SystemMessage after the first other message goes: ``"native"``, ``"inline"`` or
            ``"hoist"``; None for what the models are known to take. See `RoutedClient`.
        project_identifier: Converse's ``projectIdentifier``. A call may name another one.

    Raises:
        InvalidTargetError: `model` is no target.
        InvalidRequestError: An argument that there is not, or with a value that it cannot have.

    Example:
        ```python
        from bedrock_routing_integrations.langchain import ChatBedrockRouter

        llm = ChatBedrockRouter(model="arn:aws:bedrock:us-east-1:123456789012:default-prompt-router/amazon.nova:1")
        llm.invoke("Describe the purpose of a 'hello world' program in one line.").response_metadata["model_name"]
        ```
    """

    # What was asked for, before anything was derived for a model; and what was derived when constructing.
    _asked: dict[str, Any] = PrivateAttr(default_factory=dict)
    _derived: dict[str, Any] = PrivateAttr(default_factory=dict)
    _settings: dict[tuple[Any, ...], dict[str, Any]] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def validate_environment(self) -> Self:
        """Prepare what is known without asking anybody; upstream would look up, and make clients."""
        key = self.bedrock_api_key
        if key and key.get_secret_value() == os.environ.get("AWS_BEARER_TOKEN_BEDROCK"):
            self.bedrock_api_key = None  # upstream copied it; boto3 reads it at the call, when it may be another one
        if self.base_models is None and self.base_model_id is not None:
            self.base_models = [self.base_model_id]
        self.client = client_of(self, self.client)
        self._asked = {
            "provider": self.provider,
            # langchain-core has filled in a missing profile by the model's name already.
            "profile": None if self.profile == self._resolve_model_profile() else self.profile,
            "supports_tool_choice_values": self.supports_tool_choice_values,
            "additional_model_request_fields": self.additional_model_request_fields,
        }
        known = self.client.peek(self.model_id)
        settings = self._settings_for(known)
        # What a look-up told is not written down: `dumps`, and LangChain's cache keys made of it, must not depend on
        # what this process happens to have looked up.
        if known.base_models and known.is_stated:
            for name in self._asked:
                setattr(self, name, settings[name])
            if known.target.kind not in (TargetKind.FOUNDATION_MODEL, TargetKind.SYSTEM_INFERENCE_PROFILE):
                self.base_model_id = self.base_model_id or known.only_model
        self._derived = {name: getattr(self, name) for name in self._asked}
        if isinstance(self.client, OwnClient):
            self.client.derived.update(self._derived)
        self._add_version("bedrock-routing-integrations", _version())
        return self

    def resolved(self) -> Self:
        """Ask now which models the target can use, and write down what all of them allow.

        For those who read it off the object, such as LangChain's summarization middleware (``profile``): of a router or
        an application profile nothing is known before the first call.

        Returns:
            A copy with `profile`, `supports_tool_choice_values` and, where only one model can answer, `base_model_id`.
        """
        known = self.client.resolve(self.model_id)
        copy = self.model_copy(
            update={**self._settings_for(known), "base_model_id": self.base_model_id or known.only_model}
        )
        copy._derived = {name: getattr(copy, name) for name in self._asked}  # noqa: SLF001 - a copy of ourselves
        return copy

    # --- the copy that does the work ---

    def _settings_for(self, resolved: ResolvedTarget) -> dict[str, Any]:
        """What langchain-aws derives from a model's name, for all the models that the target can use."""
        # `reasoning_effort` can be set on the object, or on a copy that shares these settings, at any time.
        models = tuple(candidate.model_id for candidate in resolved.candidates)
        key = (resolved.facts.provider, self.reasoning_effort, models)
        found = self._settings.get(key)
        if found is None:
            probes = [self._probe(candidate) for candidate in resolved.candidates or (None,)]
            found = self._settings[key] = combine_settings(self._asked, resolved, probes)
        return found

    def _probe(self, candidate: Candidate | None) -> Self:
        """A copy on which upstream's own validator has derived its settings for one model."""
        probe = super().model_copy(update=probe_update(self._asked, candidate, self.reasoning_effort))
        super(ChatBedrockRouter, probe).validate_environment()  # type: ignore[operator]  # pydantic's proxy is typed so
        return probe

    def _as_served(self, resolved: ResolvedTarget) -> Self:
        return self.model_copy(update=self._served_fields(resolved))

    def _served_fields(self, resolved: ResolvedTarget) -> dict[str, Any]:
        settings, now, derived = self._settings_for(resolved), self.__dict__, self._derived
        # What the user set on the object after constructing it stays.
        fields = {
            name: value for name, value in settings.items() if name == "base_model_id" or now[name] is derived.get(name)
        }
        if self.raw_blocks is not None:
            fields["raw_blocks"] = copied_containers(self.raw_blocks)
        return {**fields, "model_id": resolved.target.model_id}

    def _prepare(
        self, messages: Sequence[BaseMessage], call: dict[str, Any], run: Run | None, *, is_counting: bool = False
    ) -> tuple[Self, list[BaseMessage], dict[str, Any]]:
        """Return the copy for a call, and the call's messages and arguments as langchain-aws is given them."""
        model_id, call = self._called_model(call)
        call = checked_call(call, (PREFERRED,))
        client = self._own_client()
        resolved = client.resolve(model_id)
        check_kind(resolved)
        fields = self._served_fields(resolved)
        model_fields = fields.get("additional_model_request_fields", self.additional_model_request_fields)
        if call.get("tool_choice"):
            supported = fields.get("supports_tool_choice_values", self.supports_tool_choice_values)
            call = with_settled_choice(call, supported or (), model_fields, resolved)
        call.pop(PREFERRED, None)
        project = call.pop("project_identifier", None) or self.project_identifier
        call = converse_arguments(call)
        has_tools = is_counting or bool(call.get("tools") or (call.get("toolConfig") or {}).get("tools"))
        provider = self._asked["provider"] or resolved.facts.provider
        written = converse_messages(messages, provider=provider, has_tools=has_tools)
        sending = ConverseClient(
            client.for_call(CallOptions(external_span=run.outer() if run else None)),
            {"projectIdentifier": project} if project else None,
            is_counting=is_counting,
        )
        update = {**fields, "client": sending, "additional_model_request_fields": opaque_fields(model_fields)}
        # Our own `model_copy` would make a client of ours of this one.
        return super().model_copy(update=update), written, call

    def _own_client(self) -> RoutedClient:
        """Return the client, as the fields are now."""
        client: RoutedClient = self.client
        if isinstance(client, OwnClient):
            following = client.following(self)
            if following is not client:
                self.client = client = following
        return client

    def __setattr__(self, name: str, value: Any) -> None:
        # Tests and applications put a boto3 client, or one of their own, in the place of ours.
        if name == "client" and not isinstance(value, RoutedClient):
            value = client_of(self, value)
        super().__setattr__(name, value)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, with other values for some fields; a boto3 client, or one of your own, is taken for ``client``."""
        copied = super().model_copy(update=update, deep=deep)
        if update and "client" in update:
            copied.client = update["client"]
        return copied

    def _called_model(self, call: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        named, rest = split_model(call)
        return named or self.model_id, rest

    # --- LangChain's extension points ---

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        run = take_run(kwargs, run_manager)
        tracing = Tracing(run)
        served, written, call = self._prepare(messages, kwargs, run)
        result = super(ChatBedrockRouter, served)._generate(written, stop, run_manager, **call)
        message = result.generations[0].message
        message.content = restored_content(message.content)
        invalidate_cut_off_call(cast("AIMessage", message))
        name_the_model(message)
        metadata = message.response_metadata
        restore_fields(metadata)
        tracing.tell(metadata)
        usage = getattr(message, "usage_metadata", None)
        result.llm_output = {
            "model_name": metadata.get("model_name"),
            "token_usage": token_usage([usage or {}]),
            ROUTING: metadata.get(ROUTING),
        }
        return result

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        run = take_run(kwargs, run_manager)
        tracing = Tracing(run)
        if kwargs.get("disable_streaming"):
            chunks = iter([as_chunk(self._generate(messages, stop, None, **{**kwargs, RUN: run}))])
        else:
            served, written, call = self._prepare(messages, kwargs, run)
            # Upstream reports each token before its model name is put right, so it gets no run manager.
            chunks = super(ChatBedrockRouter, served)._stream(written, stop, None, **call)
        for chunk in chunks:
            message = chunk.message
            if message.content:
                message.content = restored_content(message.content)
            if message.response_metadata:
                restore_fields(message.response_metadata)
            if ROUTING in message.response_metadata:
                name_the_model(message)
                tracing.tell(message.response_metadata)
            if run_manager:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        sync_manager = run_manager.get_sync() if run_manager else None
        return await run_in_thread(self.max_concurrency, self._generate, messages, stop, sync_manager, **kwargs)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        sync_manager = run_manager.get_sync() if run_manager else None
        kwargs.setdefault(RUN, run_of(run_manager))
        chunks = iterate_in_thread(self.max_concurrency, lambda: self._stream(messages, stop, sync_manager, **kwargs))
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            await chunks.aclose()

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool | str],
        *,
        tool_choice: dict[str, Any] | str | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """LangChain's ``bind_tools``. Which tool choices the target takes is checked now if known, else at the call."""
        model_id, _ = self._called_model(kwargs)
        resolved = self.client.peek(model_id)
        if "ls_structured_output_format" in kwargs:
            kwargs[PREFERRED] = True
        choice = converse_tool_choice(tool_choice)
        forbids_calls = choice is not None and "none" in choice
        served = self._as_served(resolved)
        bound: Any = super(ChatBedrockRouter, served).bind_tools(
            [with_object_root(tool)[0] for tool in tools],
            tool_choice=None if forbids_calls else choice,
            strict=strict,
            **kwargs,
        )
        update: dict[str, Any] = {"bound": self}
        if choice is not None and forbids_calls:  # langchain-aws takes it for the name of a tool
            update["kwargs"] = with_choice(bound.kwargs, choice)
        return bound.model_copy(update=update)  # type: ignore[no-any-return]

    def with_structured_output(
        self, schema: dict[str, Any] | type, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """LangChain's ``with_structured_output``. The tool is forced where the target allows it.

        The schema may also be of a list or another value that is not an object.
        """
        planned = self._as_served(self.client.peek(self.model_id))
        schema, restore = planned_schema(schema, kwargs.get("method", "function_calling"))
        chain = super(ChatBedrockRouter, planned).with_structured_output(schema, include_raw=include_raw, **kwargs)
        # It goes on to serve calls, for which everything is derived anew.
        for name in ("base_model_id", "raw_blocks", *self._asked):
            setattr(planned, name, getattr(self, name))
        if not include_raw:
            chain = checked_to_its_end(chain)
        if restore is not None:
            chain = taking_out(chain, restore, include_raw=include_raw)
        return cast("Runnable[LanguageModelInput, dict[str, Any] | BaseModel]", chain)

    def get_num_tokens(self, text: str) -> int:
        """Count the tokens of a text by itself: Bedrock's count where it has one for the models, else an estimate."""
        if not text:
            return 0
        messages = [{"role": "user", "content": [{"text": text}]}]
        count: int = self._own_client().count_prompt_tokens(modelId=self.model_id, messages=messages)
        return count

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """Count the input tokens of a call with these messages and tools, as ``invoke`` would send it.

        Args:
            messages: The messages. Of none there are 0 tokens.
            tools: Tools in any form that `bind_tools` takes.

        Returns:
            Bedrock's count where it has one for the models of the target, else an estimate.
        """
        if not messages and not tools:
            return 0
        # Without a tool config langchain-aws would write tool calls in the messages as text.
        call: dict[str, Any] = {"tools": tools} if tools else {"toolConfig": {"tools": []}}
        served, written, call = self._prepare(messages, call, None, is_counting=True)
        super(ChatBedrockRouter, served)._generate(written, None, None, **call)
        counting: ConverseClient = served.client
        return counting.counted

    @property
    def _llm_type(self) -> str:
        return "amazon_bedrock_router_chat"

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Where ``langchain_core.load.load`` finds this class."""
        return ["bedrock_routing_integrations", "langchain"]


def _version() -> str:
    from importlib.metadata import version

    return version("bedrock-routing-integrations")
