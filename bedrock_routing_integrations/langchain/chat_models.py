"""`ChatBedrockRouter`: langchain-aws's chat model, for any Bedrock target, saying which model answered.

It is ``ChatBedrockConverse`` handed a `RoutedClient`. What langchain-aws decides by a model's name (how messages are
written, which tool choices exist, whether reasoning can be asked for) is decided here per call, for the models that the
target can use: for each call a copy of the chat model is made *as served* by those models, and does the work.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel, PrivateAttr, model_validator

from bedrock_routing_integrations.client import CallOptions, RoutedClient
from bedrock_routing_integrations.invocation import ROUTING
from bedrock_routing_integrations.targets import TargetKind
from bedrock_routing_integrations.threads import iterate_in_thread, run_in_thread
from bedrock_routing_integrations.tool_choice import converse_tool_choice

from ._answer_blocks import invalidate_cut_off_call, restore_fields, restored_content
from ._call_arguments import checked_call, converse_arguments, opaque_fields
from ._calls import PREFERRED, check_kind, split_model, with_settled_choice
from ._converse_client import ConverseClient
from ._converse_messages import converse_messages
from ._messages import as_chunk, copied_containers, name_the_model, token_usage
from ._own_client import OwnClient, client_of
from ._runs import RUN, Run, Runs, run_of, take_run
from ._served import combine_settings, probe_update
from ._structured_output import checked_to_its_end, planned_schema, taking_out, with_object_root
from ._tools import with_choice
from ._traces import Tracing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

    from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
    from langchain_core.language_models import LanguageModelInput
    from langchain_core.messages import AIMessage, BaseMessage
    from langchain_core.outputs import ChatGenerationChunk, ChatResult
    from langchain_core.runnables import Runnable
    from langchain_core.tools import BaseTool
    from typing_extensions import Self

    from bedrock_routing_integrations.resolution import Candidate, ResolvedTarget


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
            ``bedrock_routing_integrations.pricing.Prices``.
        telemetry: What OpenTelemetry is told: ``"auto"``: a span and metrics of each call where the current span is
            recording and no handler of LangChain's tells of it; ``"always"``, ``"off"``; or a
            ``bedrock_routing_integrations.telemetry.Telemetry``.
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
