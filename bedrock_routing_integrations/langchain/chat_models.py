"""Define `ChatBedrockRouter`, LangChain's chat model for any Bedrock target.

`ChatBedrockRouter` is ``langchain_aws.ChatBedrockConverse`` with a `RoutedClient` in place of a boto3 client.

langchain-aws decides by the name of one model how it writes messages, which tool choices it allows and how it asks for
reasoning. A target such as a router has several models, and they may be unknown until the first call. So each call is
made on a copy of the chat model that is configured for the target's candidate models (`_configured_for`,
`_model_settings`). The copy's client is a `ConverseClient`, which corrects the requests that langchain-aws writes and
the responses that it reads (`_converse_client`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from langchain_aws import ChatBedrockConverse
from langchain_core.callbacks import CallbackManager
from langchain_core.runnables.config import ensure_config
from pydantic import BaseModel, Field, PrivateAttr, SecretStr, field_serializer, model_validator

from bedrock_routing_integrations.client import CallOptions, RoutedClient
from bedrock_routing_integrations.connections import DEFAULT_MAX_CONCURRENCY, secrets_in, warn_about_pickle
from bedrock_routing_integrations.errors import InvalidRequestError, InvalidTargetError
from bedrock_routing_integrations.invocation import ROUTING
from bedrock_routing_integrations.observability.options import serialize_telemetry, telemetry_of
from bedrock_routing_integrations.requests import SystemPlacement, check_placement
from bedrock_routing_integrations.targets import TargetKind, parse_target
from bedrock_routing_integrations.transport.threads import iterate_in_thread, run_in_thread

from ._call_arguments import (
    check_constructor_arguments,
    check_target_kind,
    constructor_arguments,
    converse_arguments,
    limit_concurrency,
    normalize_arguments,
    normalize_cache_policy,
    pop_target,
    protect_fields,
    read_tool_choice,
    serialize_cache_policy,
    settle_call_tool_choice,
    with_tool_choice,
)
from ._converse_client import (
    ConverseClient,
    answer_as_chunk,
    invalidate_incomplete_call,
    restore_content,
    restore_response_fields,
    set_invoked_model,
    sum_token_usage,
)
from ._converse_messages import converse_messages
from ._model_settings import OwnClient, client_of, combine_settings, fields_for_inference, without_inferred_settings
from ._structured_output import build_structured_output, tool_with_object_root
from ._traces import Run, RunObserver, RunRecorder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun, Callbacks
    from langchain_core.callbacks.manager import BaseRunManager
    from langchain_core.language_models import LanguageModelInput
    from langchain_core.language_models.base import LangSmithParams
    from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
    from langchain_core.outputs import ChatGenerationChunk, ChatResult, LLMResult
    from langchain_core.runnables import Runnable, RunnableConfig
    from langchain_core.tools import BaseTool
    from typing_extensions import Self

    from bedrock_routing_integrations.models.candidates import CandidateModel, ResolvedTarget


class ChatBedrockRouter(ChatBedrockConverse):
    """Chat model on any Bedrock target: prompt router, inference profile, model of any kind.

    It takes all arguments of ``ChatBedrockConverse`` and never needs `provider`. The constructor sends nothing and
    makes no boto3 client. The first call looks the target up. Objects with equal connection settings share connections.

    ``response_metadata["routing"]`` of each message describes the call; ``response_metadata["model_name"]`` is the
    invoked model.

    Differences from ``ChatBedrockConverse``:

    - Credentials in the environment are read at each call, not in the constructor.
    - Without `region_name` the Region of the target's ARN is used.
    - A call can name another target: ``llm.invoke("…", model=other_target)``.
    - ``batch`` runs up to `max_concurrency` calls at once unless its config sets another number.
    - A stream that breaks off raises `StreamInterruptedError`.
    - Cache points in messages, of ``cache_control=`` and of LangChain's prompt caching middleware are kept. One that
      Bedrock would refuse is repaired or left out, with a warning.

    Args:
        model: The target; see `parse_target` for its forms.
        base_models: The candidate models of `model`. With them the target is not looked up, which saves the IAM
            permission. Ids of inference profiles (``us.…``, ``global.…``) also select the price, where geographies
            differ.
        cache: ``"auto"`` (default) adds the cache points that are expected to save money, ``"off"`` adds none, a
            `CachePolicy` sets the details. LangChain's own values (a cache of responses, True, False, None) go to
            LangChain.
        cache_policy: The field that keeps `cache`. Set it to combine a cache policy with LangChain's `cache`.
        prices: Model, profile or ARN → US dollars per million tokens, to replace genai-prices': see
            ``bedrock_routing_integrations.costs.prices.Prices``.
        telemetry: OpenTelemetry for each call. ``"auto"`` (default): a span and metrics if the current span is
            recording and no LangChain handler already records the call. ``"always"``, ``"off"``, or a
            ``bedrock_routing_integrations.observability.options.Telemetry``.
        max_concurrency: Maximum number of asynchronous and batched calls at once, and the size of the connection pool.
        mid_conversation_system: Position of a SystemMessage after the first other message: ``"native"``, ``"inline"``
            or ``"hoist"``. None (default) selects what the models are known to accept. See `RoutedClient`.
        project_identifier: Converse's ``projectIdentifier``. A call can name another project.

    Raises:
        InvalidTargetError: `model` is not a valid target.
        InvalidRequestError: An argument does not exist, or its value is not valid.

    Example:
        ```python
        from bedrock_routing_integrations.langchain import ChatBedrockRouter

        llm = ChatBedrockRouter(model="arn:aws:bedrock:us-east-1:123456789012:default-prompt-router/amazon.nova:1")
        llm.invoke("Describe the purpose of a 'hello world' program in one line.").response_metadata["model_name"]
        ```
    """

    base_models: list[str] | None = None
    cache_policy: Any = "auto"
    prices: Any = None
    telemetry: Any = "auto"
    max_concurrency: int = DEFAULT_MAX_CONCURRENCY
    mid_conversation_system: SystemPlacement | None = None
    project_identifier: str | None = None
    # Redeclared: langchain-aws reads these from the environment once, so it would miss a rotated key.
    aws_access_key_id: SecretStr | None = Field(default=None)
    aws_secret_access_key: SecretStr | None = Field(default=None)
    aws_session_token: SecretStr | None = Field(default=None)
    bedrock_api_key: SecretStr | None = Field(default=None, alias="api_key")
    # Redeclared: headers carry tokens, and langchain-aws shows them in repr, dumps and callbacks.
    default_headers: Mapping[str, str] | None = Field(default=None, exclude=True, repr=False)

    _user_settings: dict[str, Any] = PrivateAttr(default_factory=dict)
    """Values of the fields that langchain-aws infers from the model's name, as the user set them."""
    _inferred_settings: dict[str, Any] = PrivateAttr(default_factory=dict)
    """Values of the same fields after inference. A field that has another value now was set by the user since."""
    _run_recorder: RunRecorder | None = PrivateAttr(default=None)
    """On the copy for one call: the recorder of its run."""
    _settings_by_models: dict[tuple[Any, ...], dict[str, Any]] = PrivateAttr(default_factory=dict)

    # --- Construction. langchain-aws's validators are overridden by their names. ---

    @model_validator(mode="before")
    @classmethod
    def set_disable_streaming(cls, values: Any) -> Any:
        """Normalize the target and the arguments of our own fields.

        Whether the target streams is decided at each call, for the models that it then has.

        Raises:
            InvalidTargetError: `model` is not a valid target.
            InvalidRequestError: `model` is missing, or `mid_conversation_system` or `cache` is not valid.
        """
        model = values.get("model", values.get("model_id")) if isinstance(values, dict) else None
        if model is None:
            raise InvalidRequestError("ChatBedrockRouter needs model=, a Bedrock model id or ARN.")
        check_placement(values.get("mid_conversation_system"))
        values = {n: v for n, v in without_inferred_settings(values).items() if n not in ("model", "model_id")}
        if isinstance(values.get("telemetry"), dict):  # the form that `dumps` writes
            values["telemetry"] = telemetry_of(values["telemetry"])
        return {**normalize_cache_policy(values), "model": parse_target(model).model_id}

    @model_validator(mode="before")
    @classmethod
    def build_extra(cls, values: Any) -> Any:
        """Refuse unknown arguments, which langchain-aws would send to the model as additional fields.

        Raises:
            InvalidRequestError: An argument does not exist.
        """
        if not isinstance(values, dict):
            return values
        values = check_constructor_arguments(cls.__name__, values, constructor_arguments(cls))
        fields = {**(values.get("model_kwargs") or {}), **(values.get("additional_model_request_fields") or {})}
        values = {n: v for n, v in values.items() if n not in ("model_kwargs", "additional_model_request_fields")}
        return {**values, "additional_model_request_fields": fields} if fields else values

    @model_validator(mode="after")
    def validate_environment(self) -> Self:
        """Infer settings without a look-up; langchain-aws would make clients and ask the control plane."""
        key = self.bedrock_api_key
        if key and key.get_secret_value() == os.environ.get("AWS_BEARER_TOKEN_BEDROCK"):
            self.bedrock_api_key = None  # copied by langchain-aws; boto3 reads the current value at each call
        if self.base_models is None and self.base_model_id is not None:
            self.base_models = [self.base_model_id]
        self.client = client_of(self, self.client)
        self._user_settings = {
            "provider": self.provider,
            # langchain-core has already filled in a missing profile by the model's name.
            "profile": None if self.profile == self._resolve_model_profile() else self.profile,
            "supports_tool_choice_values": self.supports_tool_choice_values,
            "additional_model_request_fields": self.additional_model_request_fields,
        }
        resolved = self.client.resolve(self.model_id, look_up="never")
        settings = self._settings_for(resolved)
        # The result of a look-up is not written to the fields: `dumps`, and LangChain's cache keys made of it, must not
        # depend on the look-ups that this process happens to have made.
        if resolved.base_models and resolved.is_stated:
            for name in self._user_settings:
                setattr(self, name, settings[name])
            if resolved.target.kind not in (TargetKind.FOUNDATION_MODEL, TargetKind.SYSTEM_INFERENCE_PROFILE):
                self.base_model_id = self.base_model_id or resolved.only_model
        self._inferred_settings = {name: getattr(self, name) for name in self._user_settings}
        if isinstance(self.client, OwnClient):
            self.client.inferred_settings.update(self._inferred_settings)
        self._add_version("bedrock-routing-integrations", _version())
        return self

    def resolved(self) -> Self:
        """Look the target up now and return a copy with the settings that all its candidate models allow.

        For code that reads the settings from the object, such as LangChain's summarization middleware (``profile``).
        The models of a router or an application profile are unknown before the first call.

        Returns:
            A copy with `profile`, `supports_tool_choice_values` and, where only one model can answer, `base_model_id`.
        """
        resolved = self.client.resolve(self.model_id)
        settings = {**self._settings_for(resolved), "base_model_id": self.base_model_id or resolved.only_model}
        copy = self.model_copy(update=settings)
        copy._inferred_settings = {name: getattr(copy, name) for name in self._user_settings}  # noqa: SLF001 - own class
        return copy

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with other values for some fields.

        Args:
            update: Field → value. ``client`` may be a boto3 client or a `RoutedClient`.
            deep: Whether to copy the values of the fields, too.
        """
        copied = super().model_copy(update=update, deep=deep)
        if update and "client" in update:
            copied.client = update["client"]
        return copied

    def __setattr__(self, name: str, value: Any) -> None:
        # Tests and applications replace the client by a boto3 client or by one of their own.
        if name == "client" and not isinstance(value, RoutedClient):
            value = client_of(self, value)
        super().__setattr__(name, value)

    # --- Serialization ---

    def __getstate__(self) -> dict[str, Any]:
        # Secrets stay in this process: a copy elsewhere looks for its own credentials.
        secrets = secrets_in(vars(self))
        if secrets or self.default_headers:
            warn_about_pickle()
        state = super().__getstate__()
        hidden = dict.fromkeys((*secrets, "default_headers"))
        return {**state, "__dict__": {**state["__dict__"], **hidden}}

    @property
    def lc_attributes(self) -> dict[str, Any]:
        """Values that ``langchain_core.load.dumps`` writes in another form than the field has."""
        return {
            **super().lc_attributes,
            "cache_policy": serialize_cache_policy(self.cache_policy),
            "telemetry": serialize_telemetry(self.telemetry),
        }

    @field_serializer("cache_policy")
    def _serialize_cache_policy(self, cache_policy: Any) -> Any:
        return serialize_cache_policy(cache_policy)

    @field_serializer("telemetry")
    def _serialize_telemetry(self, telemetry: Any) -> Any:
        return serialize_telemetry(telemetry)

    @property
    def _llm_type(self) -> str:
        return "amazon_bedrock_router_chat"

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Return the path by which ``langchain_core.load.load`` finds this class."""
        return ["bedrock_routing_integrations", "langchain"]

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        # LangChain's caches key on this. Headers can name a tenant, and `dumps` leaves them out.
        headers = json.dumps(sorted((self.default_headers or {}).items()))
        return f"{super()._get_llm_string(stop, **kwargs)}---{hashlib.sha256(headers.encode()).hexdigest()}"

    # --- Settings for the models that can answer a call ---

    def _settings_for(self, resolved: ResolvedTarget) -> dict[str, Any]:
        """Return the settings that langchain-aws infers from a model's name, combined for all candidate models."""
        # `reasoning_effort` is part of the key: users set it on the object, or on a copy that shares this dictionary.
        models = tuple(candidate.model_id for candidate in resolved.candidates)
        key = (resolved.facts.provider, self.reasoning_effort, models)
        settings = self._settings_by_models.get(key)
        if settings is None:
            inferred = [self._infer_settings(candidate) for candidate in resolved.candidates or (None,)]
            settings = self._settings_by_models[key] = combine_settings(self._user_settings, resolved, inferred)
        return settings

    def _infer_settings(self, candidate: CandidateModel | None) -> Self:
        """Return a copy on which langchain-aws's own validator has inferred its settings for one model."""
        copy = super().model_copy(update=fields_for_inference(self._user_settings, candidate, self.reasoning_effort))
        super(ChatBedrockRouter, copy).validate_environment()  # type: ignore[operator]  # pydantic's proxy is typed so
        return copy

    def _configured_for(self, resolved: ResolvedTarget) -> Self:
        """Return a copy with the settings for the candidate models of a target."""
        return self.model_copy(update=self._fields_for(resolved))

    def _fields_for(self, resolved: ResolvedTarget) -> dict[str, Any]:
        settings, current, inferred = self._settings_for(resolved), self.__dict__, self._inferred_settings
        # A value that the user has set on the object since its construction stays.
        fields = {
            name: value
            for name, value in settings.items()
            if name == "base_model_id" or current[name] is inferred.get(name)
        }
        if self.raw_blocks is not None:
            fields["raw_blocks"] = _copy_raw_blocks(self.raw_blocks)
        return {**fields, "model_id": resolved.target.model_id}

    def _prepare_call(
        self, messages: Sequence[BaseMessage], call: dict[str, Any], run: Run | None, *, is_counting: bool = False
    ) -> tuple[Self, list[BaseMessage], dict[str, Any]]:
        """Return the copy that makes a call, and the messages and arguments to call it with."""
        model_id, call = self._pop_target(call)
        call = normalize_arguments(call)
        client = self._current_client()
        resolved = client.resolve(model_id)
        check_target_kind(resolved)
        fields = self._fields_for(resolved)
        model_fields = fields.get("additional_model_request_fields", self.additional_model_request_fields)
        supported = fields.get("supports_tool_choice_values", self.supports_tool_choice_values)
        call = settle_call_tool_choice(call, supported or (), model_fields, resolved)
        project = call.pop("project_identifier", None) or self.project_identifier
        call = converse_arguments(call)
        has_tools = is_counting or bool(call.get("tools") or (call.get("toolConfig") or {}).get("tools"))
        provider = self._user_settings["provider"] or resolved.facts.provider
        prepared = converse_messages(messages, provider=provider, has_tools=has_tools)
        converse_client = ConverseClient(
            client.for_call(_call_options(run)),
            {"projectIdentifier": project} if project else None,
            is_counting=is_counting,
        )
        update = {**fields, "client": converse_client, "additional_model_request_fields": protect_fields(model_fields)}
        # Not our own `model_copy`, which would replace this client by a `RoutedClient`.
        return super().model_copy(update=update), prepared, call

    def _current_client(self) -> RoutedClient:
        """Return the client for the current values of the fields."""
        client: RoutedClient = self.client
        if isinstance(client, OwnClient):
            current = client.with_settings(self)
            if current is not client:
                self.client = client = current
        return client

    def _pop_target(self, call: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return the target of a call, which may name its own, and its other arguments."""
        model_id, rest = pop_target(call)
        return model_id or self.model_id, rest

    # --- Calls ---

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self._generate_in_run(messages, stop, Run.of(run_manager), kwargs, run_manager)

    def _generate_in_run(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None,
        run: Run | None,
        call: dict[str, Any],
        run_manager: CallbackManagerForLLMRun | None = None,
    ) -> ChatResult:
        """Answer messages. `run` is the run whose traces the call completes, `call` the arguments of the call."""
        configured, prepared, call = self._prepare_call(messages, call, run)
        result = super(ChatBedrockRouter, configured)._generate(prepared, stop, run_manager, **call)
        message = result.generations[0].message
        message.content = restore_content(message.content)
        invalidate_incomplete_call(cast("AIMessage", message))
        set_invoked_model(message)
        metadata = message.response_metadata
        restore_response_fields(metadata)
        result.llm_output = {
            "model_name": metadata.get("model_name"),
            "token_usage": sum_token_usage([getattr(message, "usage_metadata", None) or {}]),
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
        return self._stream_in_run(messages, stop, self._run_of_stream(run_manager), kwargs, run_manager)

    def _run_of_stream(self, run_manager: BaseRunManager | None) -> Run | None:
        recorded = self._run_recorder.run if self._run_recorder is not None else None
        return Run.of(run_manager) or recorded

    def _stream_in_run(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None,
        run: Run | None,
        call: dict[str, Any],
        run_manager: CallbackManagerForLLMRun | None = None,
    ) -> Iterator[ChatGenerationChunk]:
        """Stream the answer to messages. `run` and `call` as for `_generate_in_run`."""
        if call.get("disable_streaming"):
            chunks = iter([answer_as_chunk(self._generate_in_run(messages, stop, run, call))])
        else:
            configured, prepared, call = self._prepare_call(messages, call, run)
            # Without a run manager: langchain-aws would report each token before its model name is corrected.
            chunks = super(ChatBedrockRouter, configured)._stream(prepared, stop, None, **call)
        for chunk in chunks:
            message = chunk.message
            if message.content:
                message.content = restore_content(message.content)
            if message.response_metadata:
                restore_response_fields(message.response_metadata)
            if ROUTING in message.response_metadata:
                set_invoked_model(message)
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
        run = self._run_of_stream(run_manager)
        chunks = iterate_in_thread(
            self.max_concurrency, lambda: self._stream_in_run(messages, stop, run, kwargs, sync_manager)
        )
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            await chunks.aclose()

    # --- LangChain's own methods, so that a stream knows its run ---

    def generate(
        self,
        messages: list[list[BaseMessage]],
        stop: list[str] | None = None,
        callbacks: Callbacks = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Answer several lists of messages, one after the other; see LangChain's ``generate``.

        Args:
            messages: One list of messages per answer.
            stop: Stop sequences.
            callbacks: Callback handlers for the runs.
            **kwargs: Arguments of each call, and LangChain's ``tags``, ``metadata``, ``run_name`` and ``run_id``.
        """
        model, callbacks = self._recording_single_run(messages, callbacks)
        return super(ChatBedrockRouter, model).generate(messages, stop, callbacks, **kwargs)

    async def agenerate(
        self,
        messages: list[list[BaseMessage]],
        stop: list[str] | None = None,
        callbacks: Callbacks = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Answer several lists of messages at once; see LangChain's ``agenerate``.

        Args:
            messages: One list of messages per answer.
            stop: Stop sequences.
            callbacks: Callback handlers for the runs.
            **kwargs: Arguments of each call, and LangChain's ``tags``, ``metadata``, ``run_name`` and ``run_id``.
        """
        model, callbacks = self._recording_single_run(messages, callbacks)
        return await super(ChatBedrockRouter, model).agenerate(messages, stop, callbacks, **kwargs)

    def stream(
        self,
        input: LanguageModelInput,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        """Stream an answer; see LangChain's ``stream``.

        Args:
            input: A prompt, or messages.
            config: LangChain's config of the run.
            stop: Stop sequences.
            **kwargs: Arguments of the call.

        Returns:
            The chunks. Their sum is the message that ``invoke`` returns.
        """
        config = ensure_config(config)
        model, config["callbacks"] = self._recording_run(config.get("callbacks"))
        return super(ChatBedrockRouter, model).stream(input, config, stop=stop, **kwargs)

    def astream(
        self,
        input: LanguageModelInput,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        """Stream an answer asynchronously; see LangChain's ``astream``.

        Args:
            input: A prompt, or messages.
            config: LangChain's config of the run.
            stop: Stop sequences.
            **kwargs: Arguments of the call.

        Returns:
            The chunks. Their sum is the message that ``invoke`` returns.
        """
        config = ensure_config(config)
        model, config["callbacks"] = self._recording_run(config.get("callbacks"))
        return super(ChatBedrockRouter, model).astream(input, config, stop=stop, **kwargs)

    def _recording_single_run(self, messages: list[list[BaseMessage]], callbacks: Callbacks) -> tuple[Self, Callbacks]:
        # ``generate`` calls ``_stream`` only if a handler listens. It starts the runs of all messages before the first
        # call, so one recorder cannot distinguish them.
        is_needed = len(messages) == 1 and (callbacks or self.callbacks)
        return self._recording_run(callbacks) if is_needed else (self, callbacks)

    def _recording_run(self, callbacks: Callbacks) -> tuple[Self, Callbacks]:
        """Return a copy for one call that knows its run, and the callbacks for it; unchanged if no handler traces."""
        manager = CallbackManager.configure(callbacks, self.callbacks)
        if not Run(manager.handlers, None).has_tracers():
            return self, callbacks
        recorder = RunRecorder(manager.handlers)
        manager.add_handler(recorder, inherit=False)
        self._current_client()  # so that this object and the copy share the client for the current fields
        copy = self.model_copy()
        copy._run_recorder = recorder  # noqa: SLF001 - own class
        return copy, manager

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """Answer several inputs, up to `max_concurrency` at once unless the config sets another number.

        Args:
            inputs: One input per call.
            config: One config for all calls, or a list with one for each.
            return_exceptions: Whether to return the exception of a failed call in place of its message.
            **kwargs: Arguments of each call.

        Returns:
            The messages, in the order of `inputs`.
        """
        config = limit_concurrency(config, self.max_concurrency)
        return super().batch(inputs, config, return_exceptions=return_exceptions, **kwargs)

    def batch_as_completed(  # type: ignore[override]  # LangChain's overloads differ in `return_exceptions` only
        self,
        inputs: Sequence[LanguageModelInput],
        config: RunnableConfig | Sequence[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> Iterator[tuple[int, AIMessage | Exception]]:
        """Answer several inputs as `batch` does, and yield each message when it is complete.

        Args:
            inputs: One input per call.
            config: One config for all calls, or a sequence with one for each.
            return_exceptions: Whether to yield the exception of a failed call in place of its message.
            **kwargs: Arguments of each call.

        Yields:
            The position in `inputs`, and the message.
        """
        config = limit_concurrency(config, self.max_concurrency)
        yield from super().batch_as_completed(inputs, config, return_exceptions=return_exceptions, **kwargs)  # type: ignore[call-overload]

    def _combine_llm_outputs(self, llm_outputs: list[dict[str, Any] | None], /) -> dict[str, Any]:
        outputs = [output for output in llm_outputs if output]
        if len(outputs) <= 1:
            return outputs[0] if outputs else {}
        names = {output["model_name"] for output in outputs}
        return {
            **({"model_name": names.pop()} if len(names) == 1 else {}),
            "token_usage": sum_token_usage([output["token_usage"] for output in outputs]),
            ROUTING: [output[ROUTING] for output in outputs],
        }

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        model_id, rest = self._pop_target(kwargs)
        # Without a Region langchain-aws would ask the client for it, which would make a client in an event loop.
        if self.region_name and len(rest) == len(kwargs):
            return super()._get_ls_params(stop=stop, **kwargs)
        try:
            region = self.client.region(model_id)
        except InvalidTargetError:  # the call raises it
            region = None
        copy = self.model_copy(update={"model_id": model_id, "region_name": region or ""})
        params = super(ChatBedrockRouter, copy)._get_ls_params(stop=stop, **rest)
        if region is None:
            params.get("ls_invocation_params", {}).pop("region_name", None)  # type: ignore[attr-defined]
        return params

    # --- Tools and structured output ---

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool | str],
        *,
        tool_choice: dict[str, Any] | str | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return a model that can call tools.

        A tool choice is checked now if the candidate models are known, else at the call.

        Args:
            tools: Tools in any form that LangChain takes, or names of Bedrock's system tools.
            tool_choice: ``"auto"``, ``"any"``, ``"none"``, a tool's name, or a dictionary as Converse, Anthropic or
                OpenAI take it. ``{"preferred": choice}`` is sent if all candidate models accept it, else replaced by
                the nearest choice that they accept.
            strict: Whether the arguments must match the schema exactly, for models that can guarantee it.
            **kwargs: Further arguments of each call.

        Raises:
            InvalidRequestError: `tool_choice` is not valid.
            ValueError: The candidate models are known and do not all accept `tool_choice`.
        """
        model_id, _ = self._pop_target(kwargs)
        choice, is_preferred = read_tool_choice(tool_choice)
        # `with_structured_output` prefers to force its tool. Models that refuse it are asked without.
        is_preferred = is_preferred or "ls_structured_output_format" in kwargs
        is_own_form = choice is not None and (is_preferred or "none" in choice)
        configured = self._configured_for(self.client.resolve(model_id, look_up="never"))
        bound: Any = super(ChatBedrockRouter, configured).bind_tools(
            [tool_with_object_root(tool)[0] for tool in tools],
            tool_choice=None if is_own_form else choice,
            strict=strict,
            **kwargs,
        )
        update: dict[str, Any] = {"bound": self}
        if is_own_form:  # langchain-aws does not know these choices
            update["kwargs"] = with_tool_choice(bound.kwargs, {"preferred": choice} if is_preferred else choice)
        return bound.model_copy(update=update)  # type: ignore[no-any-return]

    def with_structured_output(
        self, schema: dict[str, Any] | type, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """Return a chain that answers with a value of a schema. The tool is forced where the target allows it.

        Args:
            schema: A pydantic class, a TypedDict class or a JSON schema. Unlike langchain-aws's, it need not describe
                an object: a list, for example, works as well.
            include_raw: Whether to return a dictionary of ``raw``, ``parsed`` and ``parsing_error``, not the value.
            **kwargs: ``method`` (``"function_calling"``, ``"json_schema"`` or ``"prompt_prefill"``) and ``strict``, as
                for ``ChatBedrockConverse``.
        """
        configured = self._configured_for(self.client.resolve(self.model_id, look_up="never"))
        chain = build_structured_output(
            super(ChatBedrockRouter, configured).with_structured_output, self, schema, include_raw=include_raw, **kwargs
        )
        return cast("Runnable[LanguageModelInput, dict[str, Any] | BaseModel]", chain)

    # --- Token counts ---

    def get_num_tokens(self, text: str) -> int:
        """Return the number of tokens of a text: Bedrock's count where it has one for the models, else an estimate."""
        if not text:
            return 0
        messages = [{"role": "user", "content": [{"text": text}]}]
        count: int = self._current_client().count_prompt_tokens(modelId=self.model_id, messages=messages)
        return count

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """Return the number of input tokens of a call with these messages and tools, as ``invoke`` would send it.

        Args:
            messages: The messages. Without messages and tools the result is 0.
            tools: Tools in any form that `bind_tools` takes.

        Returns:
            Bedrock's count where it has one for the models of the target, else an estimate.
        """
        if not messages and not tools:
            return 0
        # Without a tool config langchain-aws would write tool calls in the messages as text.
        call: dict[str, Any] = {"tools": tools} if tools else {"toolConfig": {"tools": []}}
        configured, prepared, call = self._prepare_call(messages, call, None, is_counting=True)
        super(ChatBedrockRouter, configured)._generate(prepared, None, None, **call)
        counting: ConverseClient = configured.client
        return counting.counted


def _call_options(run: Run | None) -> CallOptions:
    if run is None or not run.handlers:
        return CallOptions()
    return CallOptions(external_span=run.external_span(), observers=(RunObserver(run),))


def _copy_raw_blocks(raw_blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the user's raw messages with lists of their own, to which langchain-aws appends cache points."""
    return [
        {**message, "content": list(message["content"])} if isinstance(message.get("content"), list) else dict(message)
        for message in raw_blocks
    ]


def _version() -> str:
    from importlib.metadata import version

    return version("bedrock-routing-integrations")
