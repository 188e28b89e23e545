"""`BedrockRouter`: LlamaIndex's LLM for any Bedrock target. Each response names the model that answered.

It is built on llama-index-core alone. To migrate from ``llama_index.llms.bedrock_converse.BedrockConverse`` (0.15),
change the import, and the model if you like. The differences:

- **Any target** is a model: prompt routers, application profiles, provisioned, custom and imported models, managed
  prompts. `metadata` never raises; a router's context window is the smallest of its candidate models'.
- **Only arguments that you set are sent**, without a default temperature of 0.1 and a limit of 512 tokens.
  `temperature` and `thinking` are always sent; BedrockConverse drops them for models that it believes not to take them.
- **The routing** is in ``response.additional_kwargs["routing"]``, in a stream's last chunk, and in an event,
  `ModelRoutedEvent`. ``response.raw`` is Bedrock's response with bytes as base64; LlamaIndex's token counts are added.
- ``prompt_tokens`` counts the whole prompt, cached tokens too, so that prompt and completion make the total.
  LlamaIndex's ``TokenCountingHandler`` counts what Bedrock counted, once per call.
- **Prompts are cached** if that is expected to save money (`cache`). Your cachePoints are kept, and repaired where
  Bedrock would refuse them. `tool_caching` places one in every kind of call, for any model that takes it.
- **A stream that breaks off raises** `StreamInterruptedError`; BedrockConverse returns it as if it were complete. The
  last chunk has everything that `chat` would have returned.
- **Structured output** forces a call of its tool, and accepts JSON text from models that cannot be forced. A stream
  yields the object as it grows, and raises if it was cut off.
- **URLs of images, documents, videos and audio are never fetched**: pass bytes, ``data:`` or ``s3://``.
- **A guardrail without its version raises**; BedrockConverse sends the request without the guardrail.
- **Your lists and blocks are not changed.** A block that Bedrock cannot take raises an error that names it. A message
  with one obvious reading is mended (see `messages`). CachePoints and thinking that the models would refuse are left
  out.
- ``stream_chat_with_tools`` honors ``allow_parallel_tool_calls=False``, as ``chat_with_tools`` does.
- **Retries are boto3's**, in one layer: `max_retries` is passed to boto3. The defaults of `max_retries` and `timeout`
  are boto3's own (BedrockConverse: 10 in two layers, and 60 seconds).
- **Asynchronous calls** need no further package, and up to `max_concurrency` run at once. There is no `async_client`,
  and no `api_version`. Pass all arguments but `model` by name.
- **Secrets** are in no ``repr``, dictionary, pickle or event. Objects with equal connections share one boto3 client.
- Errors about a tool call are `ToolCallError`, which is also a ValueError. A message's `additional_kwargs` has
  ``tool_calls``, without ``tool_call_id`` and ``status``.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from llama_index.core.base.llms.generic_utils import prompt_to_messages
from llama_index.core.base.llms.types import LLMMetadata
from llama_index.core.bridge.pydantic import Field, PrivateAttr, SecretStr, field_serializer, model_validator
from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW, DEFAULT_NUM_OUTPUTS
from llama_index.core.instrumentation.events.llm import LLMStructuredPredictEndEvent, LLMStructuredPredictStartEvent
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.program.utils import get_program_for_llm
from llama_index_instrumentation import get_dispatcher

from bedrock_routing_integrations.caching import CachePolicy, policy_of
from bedrock_routing_integrations.client import CallOptions, RoutedClient
from bedrock_routing_integrations.connections import (
    DEFAULT_MAX_CONCURRENCY,
    check_secrets,
    config_without_passwords,
    connection_of,
    read_config,
    secrets_in,
    without_password,
)
from bedrock_routing_integrations.errors import InvalidRequestError, InvalidTargetError
from bedrock_routing_integrations.models.families import common_facts
from bedrock_routing_integrations.observability.options import serialize_telemetry, telemetry_of
from bedrock_routing_integrations.requests import SystemPlacement  # noqa: TC001 - pydantic reads it
from bedrock_routing_integrations.requests.preparation import without_neutral
from bedrock_routing_integrations.runtime import warn_once
from bedrock_routing_integrations.targets import parse_target
from bedrock_routing_integrations.transport.threads import iterate_in_thread, run_in_thread

from ._instrumentation import CHAT, COMPLETION, CallKind, InstrumentedCall, external_span_of_call
from ._requests import OPTIONS, PreparedCall, check_options, prepare_call, refuse_unknown, tool_config
from ._responses import read_response, read_stream, tool_selections
from ._structured_output import (
    acheck_object_stream,
    add_object_call,
    check_object_stream,
    output_class,
    unwrap_object,
    with_properties,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterator, Sequence

    from llama_index.core.base.llms.types import (
        ChatMessage,
        ChatResponse,
        ChatResponseAsyncGen,
        ChatResponseGen,
        CompletionResponse,
        CompletionResponseAsyncGen,
        CompletionResponseGen,
    )
    from llama_index.core.llms.llm import ToolSelection
    from llama_index.core.prompts import PromptTemplate
    from llama_index.core.tools.types import BaseTool
    from typing_extensions import Self

    from bedrock_routing_integrations.client import ClientForCall
    from bedrock_routing_integrations.models.facts import ModelFacts

_CLIENT_ARGUMENTS = ("client", "bedrock_client", "botocore_session")
_CLIENT_FIELDS = (
    "model", "base_models", "cache", "prices", "telemetry", "mid_conversation_system", "region_name", "profile_name",
    "endpoint_url", "timeout", "max_retries", "max_concurrency", "botocore_config", "use_ssl", "verify",
    "aws_access_key_id", "aws_secret_access_key", "aws_session_token", "api_key", "default_headers",
)  # fmt: skip
"""Fields that `RoutedClient` is made of."""
_NOT_TAKEN = {
    "async_client": "asynchronous calls need none",
    "api_version": "Bedrock's runtime has only one",
}
# BedrockConverse's users pass None for arguments that they leave open. These have a default other than None.
_NOT_NONE = (
    "additional_kwargs",
    "allow_local_files",
    "cache",
    "callback_manager",
    "max_concurrency",
    "system_prompt_caching",
    "telemetry",
    "tool_caching",
)
_llm_events = get_dispatcher("llama_index.core.llms.llm")  # where LlamaIndex emits its structured-prediction events


class BedrockRouter(FunctionCallingLLM):
    """An LLM on any Bedrock target: prompt routers, inference profiles, models of every kind, managed prompts.

    Constructing it sends nothing and makes no boto3 client. The target is looked up at the first call, or when
    `metadata` is first read and only a look-up can answer.

    A call takes the inference arguments too, by the same name: ``llm.chat(messages, temperature=0)``. It also takes
    members of Converse's request by AWS's names, ``model``, and:

    - ``tools``.
    - ``tool_choice``, in any form of Converse, Anthropic or OpenAI.
    - ``tool_required``: True to force a call of some tool, if the models can be forced.
    - ``allow_parallel_tool_calls``: False to leave out all tool calls of an answer but the first.
    - ``allow_json_text``: True to ask for the arguments of the only tool as JSON text, if its call is not forced and
      the models take an output format. LlamaIndex's structured output sets it.

    Args:
        model: The target to call. See `parse_target` for the forms.
        base_models: The base models of `model`. If given, the target is not looked up (needs no IAM permission). Ids of
            profiles (``us.…``, ``global.…``) select the price, where prices differ between geographies.
        context_window: Tokens. None for the models' own; if that is not known, LlamaIndex's cautious default is used
            with a warning.
        temperature: 0 to 1. None to send none, so that the model's own default holds; as with `top_p`, `max_tokens`
            (tokens of the answer) and `stop_sequences`.
        max_tokens: The most tokens of an answer.
        top_p: 0 to 1.
        stop_sequences: Texts that end the answer.
        system_prompt: For LlamaIndex's prompts (``predict``, query engines), as with every LLM. `chat` does not add it.
        performance_config: ``{"latency": "optimized"}``.
        service_tier: ``"priority"``, ``"default"``, ``"flex"`` or ``"reserved"``.
        thinking: In Claude's form: ``{"type": "enabled", "budget_tokens": 2048}``.
        additional_model_request_fields: Fields that only the model itself takes.
        additional_model_response_field_paths: JSON pointers into the model's own response.
        prompt_variables: Name → value, for a managed prompt.
        request_metadata: Name → value, for AWS's invocation logs.
        project_identifier: The Bedrock project that the calls belong to (botocore ≥ 1.44).
        guardrail_identifier: A guardrail, with its `guardrail_version`.
        guardrail_version: A number, or ``"DRAFT"``.
        guardrail_stream_processing_mode: ``"sync"`` or ``"async"``, for streams.
        trace: ``"enabled"``, ``"enabled_full"`` or ``"disabled"``, of the guardrail.
        cache: ``"auto"`` places the cachePoints that are expected to save money, ``"off"`` sends none but your own; or
            a `CachePolicy`. The result is in ``additional_kwargs["routing"]["cache_points"]``.
        prices: Model, profile or ARN → US dollars per million tokens, where they differ from genai-prices'. See
            ``bedrock_routing_integrations.costs.prices.Prices``.
        telemetry: The OpenTelemetry spans and metrics of calls: ``"auto"``, ``"always"``, ``"off"`` or a `Telemetry`,
            as for `RoutedClient`.
        system_prompt_caching: Put a cachePoint after the system messages of every call, if the models take it.
        tool_caching: Put a cachePoint after the tools of every call, if the models take it.
        supports_forced_tool_calls: Whether the models can be forced to call a tool. None for the catalog's fact.
        allow_local_files: Read and send the files that blocks name by `path`, as LlamaIndex does. Pass False if
            messages come from others. A `url` is never fetched, whichever the value.
        mid_conversation_system: Where system messages amid a conversation go. See `RoutedClient`.
        additional_kwargs: Further arguments of every call, by our names or AWS's.
        region_name: The Region. None for the target ARN's, else the Region that boto3 finds.
        profile_name: A profile of the AWS configuration files.
        aws_access_key_id: Explicit credentials, with `aws_secret_access_key`. Without them boto3 looks for credentials
            at the first call.
        aws_secret_access_key: The secret of `aws_access_key_id`.
        aws_session_token: The token of temporary credentials.
        api_key: A Bedrock API key instead of credentials.
        default_headers: HTTP headers for each call of this object.
        endpoint_url: Another endpoint than AWS's own.
        timeout: Seconds to wait for a connection and for each read. None for boto3's own.
        max_retries: The number of retries. None for boto3's own.
        max_concurrency: Asynchronous calls that run at once; also the size of the connection pool.
        botocore_config: A ``botocore.config.Config``, or its arguments as a dictionary.
        use_ssl: As for boto3.
        verify: As for boto3.
        client: A boto3 ``bedrock-runtime`` client or a `RoutedClient`, instead of all arguments that select one.
        bedrock_client: A boto3 ``bedrock`` client for look-ups.
        botocore_session: A botocore or boto3 session to make clients from.
        application_inference_profile_arn: Used as the target, with `model` as its base model.

    Raises:
        InvalidTargetError: `model` is not a valid target.
        InvalidRequestError: An argument is unknown, or contradicts another.

    Example:
        ```python
        from bedrock_routing_integrations.llama_index import BedrockRouter

        llm = BedrockRouter(model="arn:aws:bedrock:us-east-1:123456789012:default-prompt-router/amazon.nova:1")
        response = llm.complete("Describe the purpose of a 'hello world' program in one line.")
        response.additional_kwargs["routing"]["invoked_model"]  # "amazon.nova-lite-v1:0"
        ```
    """

    model: str
    base_models: list[str] | None = None
    context_window: int | None = Field(default=None, gt=0)
    temperature: float | None = Field(default=None, ge=0, le=1)
    max_tokens: int | None = Field(default=None, gt=0)
    top_p: float | None = Field(default=None, ge=0, le=1)
    stop_sequences: list[str] | None = None
    performance_config: dict[str, Any] | None = None
    service_tier: str | dict[str, Any] | None = None
    thinking: dict[str, Any] | None = None
    additional_model_request_fields: dict[str, Any] | None = None
    additional_model_response_field_paths: list[str] | None = None
    prompt_variables: dict[str, Any] | None = None
    request_metadata: dict[str, str] | None = None
    project_identifier: str | None = None
    guardrail_identifier: str | None = None
    guardrail_version: str | None = None
    guardrail_stream_processing_mode: Literal["sync", "async"] | None = None
    trace: str | None = None
    cache: Any = "auto"
    prices: Any = None
    telemetry: Any = "auto"
    system_prompt_caching: bool = False
    tool_caching: bool = False
    supports_forced_tool_calls: bool | None = None
    allow_local_files: bool = True
    mid_conversation_system: SystemPlacement | None = None
    additional_kwargs: dict[str, Any] = Field(default_factory=dict)

    region_name: str | None = None
    profile_name: str | None = None
    endpoint_url: str | None = Field(default=None, repr=False)
    timeout: float | None = None
    max_retries: int | None = None
    max_concurrency: int = DEFAULT_MAX_CONCURRENCY
    botocore_config: Any = Field(default=None, repr=False)
    use_ssl: bool = True
    verify: bool | str | None = None
    aws_access_key_id: SecretStr | None = Field(default=None, exclude=True, repr=False)
    aws_secret_access_key: SecretStr | None = Field(default=None, exclude=True, repr=False)
    aws_session_token: SecretStr | None = Field(default=None, exclude=True, repr=False)
    api_key: SecretStr | None = Field(default=None, exclude=True, repr=False)
    default_headers: Mapping[str, str] | None = Field(default=None, exclude=True, repr=False)

    _user_clients: _UserClients = PrivateAttr()
    _client: RoutedClient = PrivateAttr()
    _client_fields: tuple[Any, ...] = PrivateAttr()

    def __init__(
        self,
        model: str | None = None,
        *others: Any,
        client: Any = None,
        bedrock_client: Any = None,
        botocore_session: Any = None,
        **arguments: Any,
    ) -> None:
        if others:
            raise InvalidRequestError(
                "Only model is taken by position. Pass the others by name, as in temperature=0.5."
            )
        super().__init__(model=model, **arguments)
        self._user_clients = _UserClients(client, bedrock_client, botocore_session)
        self._connect()

    @classmethod
    def class_name(cls) -> str:
        """Return LlamaIndex's name for this class."""
        return "BedrockRouter"

    # --- The client ---

    @property
    def client(self) -> RoutedClient:
        """The client that sends the calls. Assign a boto3 client to wrap it, or None for a client of our own."""
        return self._connected()

    @client.setter
    def client(self, client: Any) -> None:
        before = self._user_clients
        self._user_clients = _UserClients(client, before.bedrock_client, before.session)
        try:
            self._connect()
        except Exception:
            self._user_clients = before
            raise

    def _connect(self) -> RoutedClient:
        user, client_fields = self._user_clients, tuple([self.__dict__[name] for name in _CLIENT_FIELDS])
        if isinstance(user.client, RoutedClient):
            settings = (
                user.bedrock_client, self.base_models, self.default_headers, self.prices, self.mid_conversation_system,
            )  # fmt: skip
            if any(settings) or self.cache != "auto" or self.telemetry != "auto":
                raise InvalidRequestError(
                    "client= is a RoutedClient: give bedrock_client, base_models, default_headers, cache, prices, "
                    "telemetry and mid_conversation_system to that one."
                )
            self._client = user.client
        else:
            self._client = RoutedClient(
                user.client
                if user.client is not None
                else connection_of({**vars(self), "botocore_session": user.session}),
                bedrock_client=user.bedrock_client,
                base_models={self.model: self.base_models} if self.base_models else None,
                default_headers=self.default_headers,
                cache=self.cache,
                prices=self.prices,
                telemetry=self.telemetry,
                mid_conversation_system=self.mid_conversation_system,
            )
        self._client_fields = client_fields  # last, so that a client that cannot be made raises at each call
        return self._client

    def _connected(self) -> RoutedClient:
        """Return the client. Make a new one if one of its fields has been set since."""
        fields = self.__dict__
        is_current = self._client_fields == tuple([fields[name] for name in _CLIENT_FIELDS])
        return self._client if is_current else self._connect()

    # --- Validation, serialization, pickling ---

    @model_validator(mode="before")
    @classmethod
    def _check_arguments(cls, values: dict[str, Any]) -> dict[str, Any]:
        values = {name: value for name, value in values.items() if name != "class_name"}  # `model_dump` adds it
        profile = values.pop("application_inference_profile_arn", None)
        if values.get("model") is None:
            raise InvalidRequestError("BedrockRouter needs model=, a Bedrock model id or ARN.")
        if profile is not None:
            values = {"base_models": [values["model"]], **values, "model": profile}
        for name, reason in _NOT_TAKEN.items():
            if values.pop(name, None) is not None:
                raise InvalidRequestError(f"BedrockRouter takes no {name}: {reason}. Leave it out.")
        known = [*cls.model_fields, *_CLIENT_ARGUMENTS]
        values = without_neutral(values, known)
        refuse_unknown(values, known, "it takes")
        _check_secrets(values)
        check_options(values.get("additional_kwargs") or {})
        values = {name: value for name, value in values.items() if value is not None or name not in _NOT_NONE}
        if values.get("botocore_config") is not None:
            values["botocore_config"] = read_config(values["botocore_config"], "botocore_config")
        policy = policy_of(values.get("cache", "auto"))
        if isinstance(values.get("cache"), dict):  # as `to_dict` writes it
            values["cache"] = policy
        if isinstance(values.get("telemetry"), dict):
            values["telemetry"] = telemetry_of(values["telemetry"])
        return {**values, "model": parse_target(values["model"]).model_id}

    @field_serializer("cache")
    def _write_cache(self, cache: Any) -> Any:
        return cache.as_dict() if isinstance(cache, CachePolicy) else cache

    @field_serializer("telemetry")
    def _write_telemetry(self, telemetry: Any) -> Any:
        return serialize_telemetry(telemetry)

    @field_serializer("botocore_config")
    def _write_config(self, config: Any) -> dict[str, Any] | None:
        return None if config is None else _set_options(read_config(config, "botocore_config"))

    @field_serializer("endpoint_url")
    def _write_endpoint(self, url: str | None) -> str | None:
        return without_password(url)

    def __getstate__(self) -> dict[str, Any]:
        # Secrets stay in this process. A client that cannot be pickled raises here, with advice.
        client = self._connected()
        pickle.dumps(client)
        public: dict[str, Any] = {
            **dict.fromkeys((*secrets_in(vars(self)), "default_headers")),
            "botocore_config": config_without_passwords(read_config(self.botocore_config, "botocore_config")),
            "endpoint_url": without_password(self.endpoint_url),
        }
        if client is self._user_clients.client:
            public["client"] = client  # LlamaIndex unpickles by calling `__init__`, which takes it again
        state = super().__getstate__()
        return {**state, "__dict__": {**state["__dict__"], **public}, "__pydantic_private__": None}

    # --- Metadata ---

    @property
    def metadata(self) -> LLMMetadata:
        """LlamaIndex's facts about the model. Never raises.

        For a router, or a profile that hides its model, a look-up is made the first time in a process that the facts
        are needed. It blocks for some 100 ms, in an event loop too. To avoid that, give `base_models`, or call
        `resolved` before.
        """
        facts, refused = self._facts("missing")
        if self.context_window is None and facts.context_window is None:
            reason = f" (the look-up failed: {refused})" if refused else ""
            warn_once(
                ("context window", self.model),
                f"The context window of {self.model} is not known{reason}. LlamaIndex's {DEFAULT_CONTEXT_WINDOW:,} "
                "tokens are assumed. Pass context_window= or base_models= to set it.",
            )
        return self._llm_metadata(facts)

    def to_payload(self) -> dict[str, Any]:
        """Return `metadata` for events, as far as it is known without a look-up."""
        return {
            "class_name": self.class_name(),
            "model": self.model,
            **self._llm_metadata(self._facts("never")[0]).model_dump(),
        }

    def _facts(self, look_up: Literal["missing", "never"]) -> tuple[ModelFacts, str | None]:
        """Return the facts of the models, and why a look-up failed. An invalid target has no facts."""
        try:
            resolved = self._connected().resolve(self.model, look_up=look_up)
        except InvalidTargetError as error:
            return common_facts(()), str(error)
        return resolved.facts, resolved.refused

    def resolved(self) -> Self:
        """Look the target up now, so that `metadata` need not.

        Returns:
            The object itself. In an event loop: ``await asyncio.to_thread(llm.resolved)``.
        """
        self._connected().resolve(self.model)
        return self

    def _llm_metadata(self, facts: ModelFacts) -> LLMMetadata:
        window = self.context_window or facts.context_window or DEFAULT_CONTEXT_WINDOW
        # LlamaIndex keeps this much of the window free for the answer.
        answer = self.max_tokens or min(facts.max_output_tokens or DEFAULT_NUM_OUTPUTS, window // 2)
        return LLMMetadata(
            context_window=window,
            num_output=answer,
            is_chat_model=True,
            is_function_calling_model=facts.tools,
            model_name=self.model,
        )

    # --- Chat and completion: LlamaIndex's eight methods ---

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Return the model's answer to messages.

        Args:
            messages: The conversation so far.
            **kwargs: See `BedrockRouter` for the arguments of a call.

        Raises:
            InvalidRequestError: An argument that Bedrock, or this target, cannot take. Nothing was sent.
            botocore.exceptions.ClientError: Bedrock refused the request.
        """
        return self._call(CHAT, messages, messages, kwargs)  # type: ignore[no-any-return]

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Return the model's answer to messages, asynchronously.

        Args:
            messages: The conversation so far.
            **kwargs: As for `chat`.
        """
        return await self._acall(CHAT, messages, messages, kwargs)  # type: ignore[no-any-return]

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Return the answer in chunks. The last chunk has the tokens and ``"routing"``.

        The request is sent at once, and errors of the request are raised here. Each chunk has the whole message so far,
        as LlamaIndex defines it: an application that keeps all chunks of long answers should keep each `delta` instead.

        Args:
            messages: The conversation so far.
            **kwargs: As for `chat`.

        Raises:
            StreamInterruptedError: While reading, if the stream breaks off.
        """
        return self._stream(CHAT, messages, messages, kwargs)

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """Return the answer in chunks, asynchronously, once the first chunk has arrived.

        Args:
            messages: The conversation so far.
            **kwargs: As for `chat`.
        """
        return await self._astream(CHAT, messages, messages, kwargs)

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:  # noqa: FBT001, FBT002 - LlamaIndex's signature
        """Return the model's answer to a prompt.

        Args:
            prompt: The prompt, sent as a user message.
            formatted: Ignored: every target is a chat model.
            **kwargs: As for `chat`.
        """
        return self._call(COMPLETION, prompt, _as_messages(prompt), kwargs)  # type: ignore[no-any-return]

    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:  # noqa: FBT001, FBT002 - LlamaIndex's signature
        """Return the model's answer to a prompt, asynchronously.

        Args:
            prompt: The prompt, sent as a user message.
            formatted: Ignored: every target is a chat model.
            **kwargs: As for `chat`.
        """
        return await self._acall(COMPLETION, prompt, _as_messages(prompt), kwargs)  # type: ignore[no-any-return]

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:  # noqa: FBT001, FBT002 - LlamaIndex's signature
        """Return the answer to a prompt in chunks, as `stream_chat` does.

        Args:
            prompt: The prompt, sent as a user message.
            formatted: Ignored: every target is a chat model.
            **kwargs: As for `chat`.
        """
        return self._stream(COMPLETION, prompt, _as_messages(prompt), kwargs)

    async def astream_complete(
        self,
        prompt: str,
        formatted: bool = False,  # noqa: FBT001, FBT002 - LlamaIndex's signature
        **kwargs: Any,
    ) -> CompletionResponseAsyncGen:
        """Return the answer to a prompt in chunks, asynchronously, once the first chunk has arrived.

        Args:
            prompt: The prompt, sent as a user message.
            formatted: Ignored: every target is a chat model.
            **kwargs: As for `chat`.
        """
        return await self._astream(COMPLETION, prompt, _as_messages(prompt), kwargs)

    def _call(self, kind: CallKind, prompt: Any, messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> Any:
        call = InstrumentedCall(self, kind, prompt, kwargs)
        with call.sending():
            if self.rate_limiter is not None:
                self.rate_limiter.acquire()
            return call.answered(self._converse(messages, kwargs))

    async def _acall(self, kind: CallKind, prompt: Any, messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> Any:
        call = InstrumentedCall(self, kind, prompt, kwargs)
        with call.sending():
            if self.rate_limiter is not None:
                await self.rate_limiter.async_acquire()
            return call.answered(await run_in_thread(self.max_concurrency, self._converse, messages, kwargs))

    def _stream(
        self, kind: CallKind, prompt: Any, messages: Sequence[ChatMessage], kwargs: dict[str, Any]
    ) -> Generator[Any, None, None]:
        call = InstrumentedCall(self, kind, prompt, kwargs)
        with call.sending():
            if self.rate_limiter is not None:
                self.rate_limiter.acquire()
            chunks = self._converse_stream(messages, kwargs)
        return call.emitting(chunks)

    async def _astream(
        self, kind: CallKind, prompt: Any, messages: Sequence[ChatMessage], kwargs: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        call = InstrumentedCall(self, kind, prompt, kwargs)
        with call.sending():
            if self.rate_limiter is not None:
                await self.rate_limiter.async_acquire()
            chunks = iterate_in_thread(self.max_concurrency, lambda: self._converse_stream(messages, kwargs))
            first = await anext(chunks)
        return call.aemitting(first, chunks)

    # --- Converse and ConverseStream; these block ---

    def _converse(self, messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> ChatResponse:
        client, call = self._prepare(messages, kwargs, stream=False)
        response = client.converse(**call.request)
        return read_response(response, first_call_only=call.first_call_only, wrapped=call.wrapped)

    def _converse_stream(self, messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> Iterator[ChatResponse]:
        """Send the request, and return the chunks. A refusal is raised here, not at the first chunk."""
        client, call = self._prepare(messages, kwargs, stream=True)
        stream = client.converse_stream(**call.request)["stream"]
        return read_stream(stream, first_call_only=call.first_call_only, wrapped=call.wrapped)

    def _prepare(
        self, messages: Sequence[ChatMessage], kwargs: dict[str, Any], *, stream: bool
    ) -> tuple[RoutedClient | ClientForCall, PreparedCall]:
        arguments, client = dict(kwargs), self._connected()
        model = arguments.pop("model", None) or self.model
        check_options(arguments, stream=stream, constructor=type(self).model_fields)
        constructor = {name: value for name in OPTIONS if (value := getattr(self, name)) is not None}
        layers = (constructor, self.additional_kwargs, arguments)
        call = prepare_call(messages, layers, client.resolve(model), local_files=self.allow_local_files)
        options = CallOptions(external_span_of_call(self), optional_output_format=call.optional_output_format)
        return client.for_call(options), call

    # --- Tokens ---

    def count_tokens(
        self, messages: Sequence[ChatMessage], tools: Sequence[BaseTool] | None = None, **kwargs: Any
    ) -> int:
        """Return the number of tokens of a prompt: messages, system messages and tools.

        Bedrock counts them if it counts for the target's models. Otherwise they are estimated; the estimates learn from
        what Bedrock counted in earlier answers (`RoutedClient.count_prompt_tokens`).

        Args:
            messages: The messages.
            tools: The tools of the call.
            **kwargs: Other arguments of the call, as for `chat`.

        Raises:
            InvalidRequestError: An argument that Bedrock, or this target, cannot take.
        """
        kwargs = {"tools": tools, **kwargs} if tools else kwargs
        _, call = self._prepare(messages, kwargs, stream=False)
        return self._connected().count_prompt_tokens(**call.request)

    async def acount_tokens(
        self, messages: Sequence[ChatMessage], tools: Sequence[BaseTool] | None = None, **kwargs: Any
    ) -> int:
        """Return the number of tokens of a prompt, asynchronously.

        Args:
            messages: The messages.
            tools: The tools of the call.
            **kwargs: Other arguments of the call, as for `chat`.
        """
        return await run_in_thread(self.max_concurrency, self.count_tokens, messages, tools, **kwargs)

    # --- Tools ---

    def _prepare_chat_with_tools(  # noqa: PLR0917 - LlamaIndex's signature
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,  # noqa: FBT001, FBT002 - LlamaIndex's signature
        allow_parallel_tool_calls: bool = False,  # noqa: FBT001, FBT002 - LlamaIndex's signature
        tool_required: bool = False,  # noqa: FBT001, FBT002 - LlamaIndex's signature
        tool_choice: str | dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Return the arguments of `chat`. They are those that a user may pass, and can be written as JSON in events."""
        if isinstance(user_msg, str):
            user_msg = prompt_to_messages(user_msg)[0]
        messages = [*(chat_history or ()), *([user_msg] if user_msg is not None else ())]
        wants_object = output_class(tools) is not None
        # The supported tool choices are looked up in the call: this method runs in event loops, where it may not block.
        options = {
            "tools": tool_config(tools),
            "tool_choice": tool_choice,
            "tool_required": tool_required or wants_object,  # LlamaIndex's streams take no `tool_required`
            "allow_json_text": wants_object,
        }
        call: dict[str, Any] = {name: value for name, value in options.items() if value}
        if not allow_parallel_tool_calls:
            call["allow_parallel_tool_calls"] = False
        return {"messages": messages, **call, **kwargs}

    def stream_chat_with_tools(self, tools: Sequence[BaseTool], *args: Any, **kwargs: Any) -> ChatResponseGen:
        """Return the answer of `stream_chat` with tools.

        Args:
            tools: The tools.
            *args: As for LlamaIndex's ``FunctionCallingLLM.stream_chat_with_tools``.
            **kwargs: Likewise.
        """
        chunks = super().stream_chat_with_tools(tools, *args, **kwargs)
        output_cls = output_class(tools)
        return chunks if output_cls is None else check_object_stream(chunks, output_cls)

    async def astream_chat_with_tools(
        self, tools: Sequence[BaseTool], *args: Any, **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """Return the answer of `astream_chat` with tools.

        Args:
            tools: The tools.
            *args: As for LlamaIndex's ``FunctionCallingLLM.astream_chat_with_tools``.
            **kwargs: Likewise.
        """
        chunks = await super().astream_chat_with_tools(tools, *args, **kwargs)
        output_cls = output_class(tools)
        return chunks if output_cls is None else acheck_object_stream(chunks, output_cls)

    def _validate_chat_with_tools_response(
        self,
        response: ChatResponse,
        tools: Sequence[BaseTool],
        allow_parallel_tool_calls: bool = False,  # noqa: FBT001, FBT002 - LlamaIndex's signature
        **kwargs: Any,
    ) -> ChatResponse:
        output_cls = output_class(tools)
        return response if output_cls is None else add_object_call(response, output_cls)

    def get_tool_calls_from_response(
        self,
        response: ChatResponse,
        error_on_no_tool_call: bool = True,  # noqa: FBT001, FBT002 - LlamaIndex's signature
        **kwargs: Any,
    ) -> list[ToolSelection]:
        """Return the tool calls of a response, or of a chunk as far as they have arrived.

        Args:
            response: The response or chunk.
            error_on_no_tool_call: Raise if there are none.
            **kwargs: Ignored.

        Raises:
            ToolCallError: There is none, unless `error_on_no_tool_call` is False; or the arguments of a call are not a
                JSON object, as when the answer was cut off by `max_tokens`.
        """
        return tool_selections(response, error_on_no_tool_call=error_on_no_tool_call)

    # --- Structured output ---
    # These are LlamaIndex's methods, line by line but for the class of the program. Calling LlamaIndex's would make a
    # second span of each.

    def structured_predict(
        self,
        output_cls: type[Any],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Any:
        """Return an object of a class, which may also be a generic class or a `RootModel`.

        Args:
            output_cls: The class of the object.
            prompt: The prompt.
            llm_kwargs: Arguments of the call, as for `chat`.
            **prompt_args: The prompt's variables.

        Raises:
            ToolCallError: The model gave no object.
            ValueError: LlamaIndex's, if the class does not validate the model's object.
        """
        _emit_structured_start(output_cls, prompt, prompt_args)
        program = self._program(output_cls, prompt)
        output = _as_output(program(llm_kwargs=dict(llm_kwargs or {}), **prompt_args), program, output_cls)
        _llm_events.event(LLMStructuredPredictEndEvent(output=output))
        return output

    async def astructured_predict(
        self,
        output_cls: type[Any],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Any:
        """Return an object of a class, asynchronously.

        Args:
            output_cls: The class of the object.
            prompt: The prompt.
            llm_kwargs: Arguments of the call, as for `chat`.
            **prompt_args: The prompt's variables.
        """
        _emit_structured_start(output_cls, prompt, prompt_args)
        program = self._program(output_cls, prompt)
        output = await program.acall(llm_kwargs=dict(llm_kwargs or {}), **prompt_args)
        output = _as_output(output, program, output_cls)
        _llm_events.event(LLMStructuredPredictEndEvent(output=output))
        return output

    def _structured_stream_call(
        self,
        output_cls: type[Any],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Any, None, None]:
        program = self._program(output_cls, prompt)
        for output in program.stream_call(llm_kwargs=dict(llm_kwargs or {}), **prompt_args):
            yield _as_output(output, program, output_cls)

    async def _structured_astream_call(
        self,
        output_cls: type[Any],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Any, None]:
        program = self._program(output_cls, prompt)
        outputs = await program.astream_call(llm_kwargs=dict(llm_kwargs or {}), **prompt_args)

        async def read() -> AsyncGenerator[Any, None]:
            async for output in outputs:
                yield _as_output(output, program, output_cls)

        return read()

    def _program(self, output_cls: type[Any], prompt: PromptTemplate) -> Any:
        return get_program_for_llm(
            with_properties(output_cls), prompt, self, pydantic_program_mode=self.pydantic_program_mode
        )


def _emit_structured_start(output_cls: type[Any], prompt: PromptTemplate, prompt_args: dict[str, Any]) -> None:
    _llm_events.event(LLMStructuredPredictStartEvent(output_cls=output_cls, template=prompt, template_args=prompt_args))


def _as_output(output: Any, program: Any, output_cls: type[Any]) -> Any:
    """Return a program's output as an object of the caller's class."""
    return output if program.output_cls is output_cls else unwrap_object(output, output_cls)


def _as_messages(prompt: str) -> list[ChatMessage]:
    if not isinstance(prompt, str):
        raise InvalidRequestError(
            f"prompt must be a str, and is a {type(prompt).__name__}. For messages there is chat()."
        )
    return prompt_to_messages(prompt)


# --- Connections ---


class _UserClients:
    """Clients that the user made: the same objects in every copy of the LLM."""

    def __init__(self, client: Any, bedrock_client: Any, session: Any) -> None:
        self.client, self.bedrock_client, self.session = client, bedrock_client, session

    def __deepcopy__(self, memo: dict[int, Any]) -> _UserClients:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _UserClients, (None, None, None)  # `BedrockRouter.__getstate__` keeps a client that can be pickled


def _check_secrets(values: Mapping[str, Any]) -> None:
    """Refuse secrets of a wrong type: pydantic's own error would show their values."""
    check_secrets(values)
    headers = values.get("default_headers")
    if headers is not None and not (
        isinstance(headers, Mapping) and all(isinstance(part, str) for pair in headers.items() for part in pair)
    ):
        raise InvalidRequestError("default_headers must be a mapping of strings to strings.")


def _set_options(config: Any) -> dict[str, Any]:
    """Return the options that a botocore ``Config`` sets and JSON can hold, without the passwords of proxies."""
    unset, public = type(config)(), config_without_passwords(config)
    values = {name: getattr(public, name) for name in type(config).OPTION_DEFAULTS}
    options = {name: value for name, value in values.items() if value != getattr(unset, name)}
    return {
        name: value for name, value in options.items() if isinstance(value, (str, int, float, bool, dict, list, tuple))
    }
