"""`BedrockRouter`: LlamaIndex's LLM for any Bedrock target, saying which model answered.

It is built on llama-index-core alone. Whoever comes from ``llama_index.llms.bedrock_converse.BedrockConverse`` (0.15)
changes the import, and the model if they like. What is different:

- **Any target** is a model: prompt routers, application profiles, provisioned, custom and imported models, managed
  prompts. `metadata` never raises; for a router the context window is the smallest of its models'.
- **Nothing is sent that was not asked for**: no temperature of 0.1, no limit of 512 tokens, unless you set them. What
  you set is sent: BedrockConverse drops `temperature` and `thinking` for models that it believes not to take them.
- **What happened** is in ``response.additional_kwargs["routing"]``, on a stream's last chunk, and in an event,
  `ModelRoutedEvent`. ``response.raw`` is Bedrock's response, bytes as base64; LlamaIndex's token counts are added.
- ``prompt_tokens`` counts the whole prompt, cached tokens too, so that prompt and completion make the total; and
  LlamaIndex's ``TokenCountingHandler`` counts what Bedrock counted, once per call.
- **Prompts are cached where that is expected to save money** (`cache`). Your cachePoints are kept, and repaired where
  Bedrock would refuse them; `tool_caching` places one in every kind of call, for any model that takes it.
- **A stream that breaks off raises** `StreamInterruptedError`; BedrockConverse returns it as if it were complete. Its
  last chunk has all that `chat` would have returned. Chunks copy nothing that came before.
- **Structured output** forces its tool where the models can be forced, else takes the object as JSON text too. A stream
  yields the object as it grows, and raises where it was cut off.
- **URLs of images, documents, videos and sounds are never fetched**: pass bytes, ``data:`` or ``s3://``.
- **A guardrail without its version raises**; BedrockConverse sends the request without the guardrail.
- **Your lists and blocks stay as they are.** A block that Bedrock cannot take raises, naming it. What has one obvious
  reading is mended (`messages` says what); cachePoints and thinking that the models would refuse are left out.
- ``stream_chat_with_tools`` heeds ``allow_parallel_tool_calls=False`` as ``chat_with_tools`` does.
- **Retries are boto3's** and one layer: `max_retries` is passed to it. It and `timeout` are boto3's own where they are
  not set (BedrockConverse: 10 in two layers, and 60 seconds).
- **Asynchronous calls** need no further package, and up to `max_concurrency` run at once. There is no `async_client`,
  and no `api_version`. Arguments but `model` are given by name.
- **Secrets** are in no ``repr``, dictionary, pickle or event. Objects with equal connections share one boto3 client.
- Errors about a tool call are `ToolCallError`, which is a ValueError too. A message's `additional_kwargs` has
  ``tool_calls`` and not ``tool_call_id`` and ``status``.
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
    Connection,
    config_without_passwords,
    read_config,
    without_password,
)
from bedrock_routing_integrations.errors import InvalidRequestError, InvalidTargetError
from bedrock_routing_integrations.models.families import common_facts
from bedrock_routing_integrations.observability.options import telemetry_of, written_telemetry
from bedrock_routing_integrations.requests import SystemPlacement  # noqa: TC001 - pydantic reads the annotation
from bedrock_routing_integrations.requests.preparation import without_neutral
from bedrock_routing_integrations.runtime import warn_once
from bedrock_routing_integrations.targets import parse_target
from bedrock_routing_integrations.transport.threads import iterate_in_thread, run_in_thread

from ._instrumentation import CHAT, COMPLETION, Call, Kind, external_span_of_call
from ._requests import (
    ONE_TOOL_CALL,
    OPTIONS,
    STRUCTURED,
    Internal,
    build_request,
    check_options,
    refuse_unknown,
    selections,
    tool_config,
    wants_output_format,
    wrapped_tools,
)
from ._responses import read_response, read_stream
from ._structured_output import (
    awhole_objects,
    output_class,
    output_format,
    whole_objects,
    with_object,
    with_properties,
    without_holder,
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


# --- What `BedrockRouter` is made of ---

_SECRETS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "api_key")
_CLIENTS = ("client", "bedrock_client", "botocore_session")
_CONNECTED_BY = (
    "model", "base_models", "cache", "prices", "telemetry", "mid_conversation_system", "region_name", "profile_name",
    "endpoint_url", "timeout", "max_retries", "max_concurrency", "botocore_config", "use_ssl", "verify", *_SECRETS,
    "default_headers",
)  # fmt: skip
_NOT_TAKEN = {
    "async_client": "asynchronous calls need none",
    "api_version": "Bedrock's runtime has one only",
}
# BedrockConverse's users pass None for what they leave open; these have a default that is not None.
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


class Arguments(FunctionCallingLLM):
    """The arguments of `BedrockRouter`, which documents them."""

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

    _given: _Given = PrivateAttr()
    _client: RoutedClient = PrivateAttr()
    _made_of: tuple[Any, ...] = PrivateAttr()

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
            raise InvalidRequestError("only model is given by position; give the others by name, as in temperature=0.5")
        super().__init__(model=model, **arguments)
        self._given = _Given(client, bedrock_client, botocore_session)
        self._connect()

    @property
    def client(self) -> RoutedClient:
        """The client that calls are made with. A boto3 client that is assigned is wrapped; None for one of our own."""
        return self._connected()

    @client.setter
    def client(self, client: Any) -> None:
        before = self._given
        self._given = _Given(client, before.bedrock_client, before.session)
        try:
            self._connect()
        except Exception:
            self._given = before
            raise

    def _connect(self) -> RoutedClient:
        given, made_of = self._given, tuple([self.__dict__[name] for name in _CONNECTED_BY])
        if isinstance(given.client, RoutedClient):
            settings = (
                given.bedrock_client, self.base_models, self.default_headers, self.prices, self.mid_conversation_system,
            )  # fmt: skip
            if any(settings) or self.cache != "auto" or self.telemetry != "auto":
                raise InvalidRequestError(
                    "client= is a RoutedClient: give bedrock_client, base_models, default_headers, cache, prices, "
                    "telemetry and mid_conversation_system to that one"
                )
            self._client = given.client
        else:
            self._client = RoutedClient(
                given.client if given.client is not None else _connection(self, given.session),
                bedrock_client=given.bedrock_client,
                base_models={self.model: self.base_models} if self.base_models else None,
                default_headers=self.default_headers,
                cache=self.cache,
                prices=self.prices,
                telemetry=self.telemetry,
                mid_conversation_system=self.mid_conversation_system,
            )
        self._made_of = made_of  # the last thing: what cannot be made raises at each call, until it is mended
        return self._client

    def _connected(self) -> RoutedClient:
        """The client, made anew where a field that it was made of has been set since."""
        fields = self.__dict__
        return self._client if self._made_of == tuple([fields[name] for name in _CONNECTED_BY]) else self._connect()

    @model_validator(mode="before")
    @classmethod
    def _check_arguments(cls, values: dict[str, Any]) -> dict[str, Any]:
        values = {name: value for name, value in values.items() if name != "class_name"}  # which `model_dump` adds
        profile = values.pop("application_inference_profile_arn", None)
        if values.get("model") is None:
            raise InvalidRequestError("BedrockRouter needs model=, a Bedrock model id or ARN")
        if profile is not None:
            values = {"base_models": [values["model"]], **values, "model": profile}
        for name, why in _NOT_TAKEN.items():
            if values.pop(name, None) is not None:
                raise InvalidRequestError(f"BedrockRouter takes no {name}: {why}. Leave it out.")
        known = [*cls.model_fields, *_CLIENTS]
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
        return written_telemetry(telemetry)

    @field_serializer("botocore_config")
    def _write_config(self, config: Any) -> dict[str, Any] | None:
        return None if config is None else _set_options(read_config(config, "botocore_config"))

    @field_serializer("endpoint_url")
    def _write_endpoint(self, url: str | None) -> str | None:
        return without_password(url)

    def __getstate__(self) -> dict[str, Any]:
        # Secrets stay in this process. The client says so, and what to do where the user's own cannot be pickled.
        client = self._connected()
        pickle.dumps(client)
        public: dict[str, Any] = {
            **dict.fromkeys((*_SECRETS, "default_headers")),
            "botocore_config": config_without_passwords(read_config(self.botocore_config, "botocore_config")),
            "endpoint_url": without_password(self.endpoint_url),
        }
        if client is self._given.client:
            public["client"] = client  # `__init__` takes it again
        state = super().__getstate__()
        return {**state, "__dict__": {**state["__dict__"], **public}, "__pydantic_private__": None}


def _check_secrets(values: Mapping[str, Any]) -> None:
    """Refuse what pydantic would refuse too, and then show."""
    for name in _SECRETS:
        if not isinstance(values.get(name), (str, SecretStr, type(None))):
            raise InvalidRequestError(f"{name} must be a string, and is a {type(values[name]).__name__}")
    headers = values.get("default_headers")
    if headers is not None and not (
        isinstance(headers, Mapping) and all(isinstance(part, str) for pair in headers.items() for part in pair)
    ):
        raise InvalidRequestError("default_headers must be a mapping of strings to strings")


class _Given:
    """What the user made: the same in every copy of the object."""

    def __init__(self, client: Any, bedrock_client: Any, session: Any) -> None:
        self.client, self.bedrock_client, self.session = client, bedrock_client, session

    def __deepcopy__(self, memo: dict[int, Any]) -> _Given:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _Given, (None, None, None)  # what can be pickled of it, the object itself says


def _connection(llm: Arguments, session: Any) -> Connection:
    """How the fields say that Bedrock is reached. Those set after construction are as the user wrote them."""
    set_ones = {name: value for name in _SECRETS if (value := getattr(llm, name))}
    secrets = {name: v.get_secret_value() if isinstance(v, SecretStr) else v for name, v in set_ones.items()}
    return Connection(
        region_name=llm.region_name,
        profile_name=llm.profile_name,
        access_key_id=secrets.get("aws_access_key_id"),
        secret_access_key=secrets.get("aws_secret_access_key"),
        session_token=secrets.get("aws_session_token"),
        api_key=secrets.get("api_key"),
        endpoint_url=llm.endpoint_url,
        config=read_config(llm.botocore_config, "botocore_config"),
        session=session,
        verify=llm.verify,
        use_ssl=llm.use_ssl,
        timeout=llm.timeout,
        max_retries=llm.max_retries,
        max_concurrency=llm.max_concurrency,
    )


def _set_options(config: Any) -> dict[str, Any]:
    """What a botocore ``Config`` sets, as far as JSON can say it; without the passwords of proxies."""
    unset, public = type(config)(), config_without_passwords(config)
    values = {name: getattr(public, name) for name in type(config).OPTION_DEFAULTS}
    options = {name: value for name, value in values.items() if value != getattr(unset, name)}
    return {
        name: value for name, value in options.items() if isinstance(value, (str, int, float, bool, dict, list, tuple))
    }


# --- The methods of `BedrockRouter` that give objects of an output class. ---

structured_prediction = get_dispatcher("llama_index.core.llms.llm")  # where LlamaIndex tells of it


class StructuredOutput(Arguments):
    """Structured output of `BedrockRouter`.

    `structured_predict` and `astructured_predict` are LlamaIndex's, line by line but for the class that the program is
    made for; calling those would make a second span of each.
    """

    def structured_predict(
        self,
        output_cls: type[Any],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Any:
        """Return an object of `output_cls`, which may be a generic class or a `RootModel` too.

        Raises:
            ToolCallError: The model gave none. A ValueError of LlamaIndex: what it gave is none of that class.
        """
        told = LLMStructuredPredictStartEvent(output_cls=output_cls, template=prompt, template_args=prompt_args)
        structured_prediction.event(told)
        program = self._program(output_cls, prompt)
        found = program(llm_kwargs=dict(llm_kwargs or {}), **prompt_args)
        if program.output_cls is not output_cls:
            found = without_holder(found, output_cls)
        structured_prediction.event(LLMStructuredPredictEndEvent(output=found))
        return found

    async def astructured_predict(
        self,
        output_cls: type[Any],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Any:
        """`structured_predict`, asynchronously."""
        told = LLMStructuredPredictStartEvent(output_cls=output_cls, template=prompt, template_args=prompt_args)
        structured_prediction.event(told)
        program = self._program(output_cls, prompt)
        found = await program.acall(llm_kwargs=dict(llm_kwargs or {}), **prompt_args)
        if program.output_cls is not output_cls:
            found = without_holder(found, output_cls)
        structured_prediction.event(LLMStructuredPredictEndEvent(output=found))
        return found

    def _structured_stream_call(
        self,
        output_cls: type[Any],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Any, None, None]:
        program = self._program(output_cls, prompt)
        for found in program.stream_call(llm_kwargs=dict(llm_kwargs or {}), **prompt_args):
            yield found if program.output_cls is output_cls else without_holder(found, output_cls)

    async def _structured_astream_call(
        self,
        output_cls: type[Any],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Any, None]:
        program = self._program(output_cls, prompt)
        objects = await program.astream_call(llm_kwargs=dict(llm_kwargs or {}), **prompt_args)

        async def read() -> AsyncGenerator[Any, None]:
            async for found in objects:
                yield found if program.output_cls is output_cls else without_holder(found, output_cls)

        return read()

    def _program(self, output_cls: type[Any], prompt: PromptTemplate) -> Any:
        return get_program_for_llm(
            with_properties(output_cls), prompt, self, pydantic_program_mode=self.pydantic_program_mode
        )

    def stream_chat_with_tools(self, tools: Sequence[BaseTool], *args: Any, **kwargs: Any) -> ChatResponseGen:
        """`stream_chat` with tools."""
        chunks = super().stream_chat_with_tools(tools, *args, **kwargs)
        wanted = output_class(tools)
        return chunks if wanted is None else whole_objects(chunks, wanted)

    async def astream_chat_with_tools(
        self, tools: Sequence[BaseTool], *args: Any, **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """`stream_chat_with_tools`, asynchronously."""
        chunks = await super().astream_chat_with_tools(tools, *args, **kwargs)
        wanted = output_class(tools)
        return chunks if wanted is None else awhole_objects(chunks, wanted)

    def _validate_chat_with_tools_response(
        self,
        response: ChatResponse,
        tools: Sequence[BaseTool],
        allow_parallel_tool_calls: bool = False,  # noqa: FBT001, FBT002 - LlamaIndex's signature
        **kwargs: Any,
    ) -> ChatResponse:
        wanted = output_class(tools)
        return response if wanted is None else with_object(response, wanted)


class BedrockRouter(StructuredOutput):
    """An LLM on any Bedrock target: prompt routers, inference profiles, models of every kind, managed prompts.

    Nothing is sent, and no boto3 client is made, when it is constructed. The target is looked up at the first call, or
    where `metadata` is first asked for and only a look-up can tell.

    What is said to the models can also be given to a call, by the same name: ``llm.chat(messages, temperature=0)``;
    so can members of Converse's request by AWS's names, and ``model``.

    Args:
        model: What to call; see `parse_target` for the forms.
        base_models: The base models that `model` can use. Given, the target is not looked up (needs no IAM permission).
            The ids of profiles (``us.…``, ``global.…``) tell which price holds, where geographies differ in it.
        context_window: Tokens, where it is not to be what is known of the models. Of what is not known, LlamaIndex's
            cautious default is used, and a warning says so.
        temperature: 0 to 1. As with `top_p`, `max_tokens` (tokens of the answer) and `stop_sequences`: where it is not
            given it is not sent, and the model's own default holds.
        system_prompt: For LlamaIndex's prompts (``predict``, query engines), as with every LLM; `chat` does not add it.
        performance_config: ``{"latency": "optimized"}``.
        service_tier: ``"priority"``, ``"default"``, ``"flex"`` or ``"reserved"``.
        thinking: As Claude takes it: ``{"type": "enabled", "budget_tokens": 2048}``.
        additional_model_request_fields: What else the model itself takes.
        additional_model_response_field_paths: JSON pointers into the model's own response.
        prompt_variables: Name → value, for a managed prompt.
        request_metadata: Name → value, for AWS's invocation logs.
        project_identifier: The Bedrock project that the calls belong to (botocore ≥ 1.44).
        guardrail_identifier: A guardrail, with its `guardrail_version`.
        guardrail_stream_processing_mode: ``"sync"`` or ``"async"``, for streams.
        trace: ``"enabled"``, ``"enabled_full"`` or ``"disabled"``, of the guardrail.
        cache: ``"auto"``: requests get the cachePoints that are expected to save money; ``"off"``: none but your own;
            or a `CachePolicy`. What came of it: ``additional_kwargs["routing"]["cache_points"]``.
        prices: Model, profile or ARN → US dollars per million tokens, where they are not genai-prices': see
            ``bedrock_routing_integrations.costs.prices.Prices``.
        telemetry: What OpenTelemetry is told: ``"auto"``, ``"always"``, ``"off"`` or a `Telemetry`, as `RoutedClient`.
        system_prompt_caching: Put a cachePoint behind the system messages in any case, where the models take it.
        tool_caching: Put a cachePoint behind the tools in any case, where the models take it.
        supports_forced_tool_calls: Whether the models can be forced to call a tool; None for what the catalog knows.
        allow_local_files: Whether files that blocks name by `path` are read and sent, which is LlamaIndex's convention.
            Pass False where messages come from others. A `url` is never fetched, whichever the value.
        mid_conversation_system: Where later system messages go: see `RoutedClient`.
        additional_kwargs: More of the same, for every call: our names or AWS's.
        region_name: The Region; None for the target ARN's, else the one that boto3 finds.
        profile_name: A profile of the AWS configuration files.
        aws_access_key_id: Explicit credentials, with `aws_secret_access_key` and, for temporary ones,
            `aws_session_token`. Without them boto3 looks for credentials when a call is made.
        api_key: A Bedrock API key instead of credentials.
        default_headers: HTTP headers for each call of this object.
        endpoint_url: Another endpoint than AWS's own.
        timeout: Seconds to wait for a connection and for each read.
        max_retries: How many times boto3 tries again.
        max_concurrency: Asynchronous calls that run at once; also the size of the connection pool.
        botocore_config: A ``botocore.config.Config``, or its arguments as a dictionary.
        use_ssl: As boto3's.
        verify: As boto3's.
        client: A boto3 ``bedrock-runtime`` client or a `RoutedClient`, instead of all that says how AWS is reached.
        bedrock_client: A boto3 ``bedrock`` client for look-ups.
        botocore_session: A botocore or boto3 session to make clients from.
        application_inference_profile_arn: Taken for `model`, with what `model` says as its base model.

    Raises:
        InvalidTargetError: `model` is no target.
        InvalidRequestError: An argument that is unknown, or that contradicts another.

    Example:
        ```python
        from bedrock_routing_integrations.llama_index import BedrockRouter

        llm = BedrockRouter(model="arn:aws:bedrock:us-east-1:123456789012:default-prompt-router/amazon.nova:1")
        response = llm.complete("Describe the purpose of a 'hello world' program in one line.")
        response.additional_kwargs["routing"]["invoked_model"]  # "amazon.nova-lite-v1:0"
        ```
    """

    @classmethod
    def class_name(cls) -> str:
        """LlamaIndex's name for this class."""
        return "BedrockRouter"

    # --- what is known of it ---

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex wants to know of the model. Never raises.

        Of a router, or a profile that hides its model, only a look-up can tell: the first time in a process that
        somebody asks, it is made (and waited for, some 100 ms, in an event loop too). Give `base_models` to do without,
        or call `resolved` before.
        """
        facts, refused = self._known("missing")
        if self.context_window is None and facts.context_window is None:
            why = f" (the look-up failed: {refused})" if refused else ""
            warn_once(
                ("context window", self.model),
                f"How much {self.model} can read is not known{why}; LlamaIndex's {DEFAULT_CONTEXT_WINDOW:,} tokens are "
                "assumed. Pass context_window= (or base_models=) to say.",
            )
        return self._describe(facts)

    def to_payload(self) -> dict[str, Any]:
        """What events say of this object: `metadata`, as far as it is known without asking anybody."""
        return {
            "class_name": self.class_name(),
            "model": self.model,
            **self._describe(self._known("never")[0]).model_dump(),
        }

    def _known(self, look_up: Literal["missing", "never"]) -> tuple[ModelFacts, str | None]:
        """What is known of the models, and why that is not more. Of what is no target (any more), nothing."""
        try:
            known = self._connected().resolve(self.model, look_up=look_up)
        except InvalidTargetError as error:
            return common_facts(()), str(error)
        return known.facts, known.refused

    def resolved(self) -> Self:
        """Ask now which models the target can use, so that `metadata` need not.

        Returns:
            The object itself. In an event loop: ``await asyncio.to_thread(llm.resolved)``.
        """
        self._connected().resolve(self.model)
        return self

    def _describe(self, facts: ModelFacts) -> LLMMetadata:
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

    # --- the two ways to ask, for all that follow; they block ---

    def _prepare(
        self, messages: Sequence[ChatMessage], kwargs: dict[str, Any], *, stream: bool
    ) -> tuple[RoutedClient | ClientForCall, dict[str, Any], dict[str, Any]]:
        """Return the client, the request, and how its answer is read."""
        call, client = dict(kwargs), self._connected()
        model = call.pop("model", None) or self.model
        check_options(call, stream=stream, constructor=type(self).model_fields)
        resolved = client.resolve(model)
        mine = {name: value for name in OPTIONS if (value := getattr(self, name)) is not None}
        layers = (mine, self.additional_kwargs, call)
        request = build_request(messages, layers, resolved, local_files=self.allow_local_files)
        optional = wants_output_format(request, call, resolved)
        if optional:
            request["outputConfig"] = output_format(request["toolConfig"])
        wrapped = wrapped_tools(request.get("toolConfig"))
        reading = {"one_tool_call": bool(call.get(ONE_TOOL_CALL)), "wrapped": wrapped}
        options = CallOptions(external_span_of_call(self), optional_output_format=optional)
        return client.for_call(options), request, reading

    def _ask(self, messages: Sequence[ChatMessage], call: dict[str, Any]) -> ChatResponse:
        client, request, reading = self._prepare(messages, call, stream=False)
        return read_response(client.converse(**request), **reading)

    def _open(self, messages: Sequence[ChatMessage], call: dict[str, Any]) -> Iterator[ChatResponse]:
        """Send, and return the chunks. What Bedrock refuses is raised here, not when somebody reads."""
        client, request, reading = self._prepare(messages, call, stream=True)
        return read_stream(client.converse_stream(**request)["stream"], **reading)

    # --- tokens ---

    def count_tokens(
        self, messages: Sequence[ChatMessage], tools: Sequence[BaseTool] | None = None, **kwargs: Any
    ) -> int:
        """Return how many tokens a prompt has: messages, system messages and tools.

        Bedrock counts them where it does so for the target's models, elsewhere they are estimated; the estimates learn
        from what Bedrock counted in earlier answers (`RoutedClient.count_prompt_tokens`).

        Args:
            messages: The messages.
            tools: Tools that the call would have.
            **kwargs: What else it would have, as for `chat`.

        Raises:
            InvalidRequestError: Something that Bedrock, or this target, cannot take.
        """
        call = {"tools": tools, **kwargs} if tools else kwargs
        _, request, _ = self._prepare(messages, call, stream=False)
        return self._connected().count_prompt_tokens(**request)

    async def acount_tokens(
        self, messages: Sequence[ChatMessage], tools: Sequence[BaseTool] | None = None, **kwargs: Any
    ) -> int:
        """`count_tokens`, asynchronously."""
        return await run_in_thread(self.max_concurrency, self.count_tokens, messages, tools, **kwargs)

    # --- LlamaIndex's methods ---

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Ask. See `BedrockRouter` for what a call takes.

        Raises:
            InvalidRequestError: Something that Bedrock, or this target, cannot take; nothing was sent.
            botocore.exceptions.ClientError: Bedrock refused.
        """
        return self._whole(CHAT, messages, messages, kwargs)  # type: ignore[no-any-return]

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """`chat`, asynchronously."""
        return await self._awhole(CHAT, messages, messages, kwargs)  # type: ignore[no-any-return]

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """`chat` in chunks; the last one has the tokens and ``"routing"``.

        Raises:
            StreamInterruptedError: While reading, where the stream breaks off.
        """
        return self._stream(CHAT, messages, messages, kwargs)

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """`stream_chat`, asynchronously. Returns when the first chunk is here."""
        return await self._astream(CHAT, messages, messages, kwargs)

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:  # noqa: FBT001, FBT002 - LlamaIndex's signature
        """`chat` for a prompt."""
        return self._whole(COMPLETION, prompt, _as_messages(prompt), kwargs)  # type: ignore[no-any-return]

    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:  # noqa: FBT001, FBT002 - LlamaIndex's signature
        """`complete`, asynchronously."""
        return await self._awhole(COMPLETION, prompt, _as_messages(prompt), kwargs)  # type: ignore[no-any-return]

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:  # noqa: FBT001, FBT002 - LlamaIndex's signature
        """`stream_chat` for a prompt."""
        return self._stream(COMPLETION, prompt, _as_messages(prompt), kwargs)

    async def astream_complete(
        self,
        prompt: str,
        formatted: bool = False,  # noqa: FBT001, FBT002 - LlamaIndex's signature
        **kwargs: Any,
    ) -> CompletionResponseAsyncGen:
        """`stream_complete`, asynchronously."""
        return await self._astream(COMPLETION, prompt, _as_messages(prompt), kwargs)

    def _whole(self, kind: Kind, asked: Any, messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> Any:
        call = Call(self, kind, asked, kwargs)
        with call.opening():
            if self.rate_limiter is not None:
                self.rate_limiter.acquire()
            return call.answered(self._ask(messages, kwargs))

    async def _awhole(self, kind: Kind, asked: Any, messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> Any:
        call = Call(self, kind, asked, kwargs)
        with call.opening():
            if self.rate_limiter is not None:
                await self.rate_limiter.async_acquire()
            return call.answered(await run_in_thread(self.max_concurrency, self._ask, messages, kwargs))

    def _stream(
        self, kind: Kind, asked: Any, messages: Sequence[ChatMessage], kwargs: dict[str, Any]
    ) -> Generator[Any, None, None]:
        call = Call(self, kind, asked, kwargs)
        with call.opening():
            if self.rate_limiter is not None:
                self.rate_limiter.acquire()
            chunks = self._open(messages, kwargs)
        return call.reading(chunks)

    async def _astream(
        self, kind: Kind, asked: Any, messages: Sequence[ChatMessage], kwargs: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        call = Call(self, kind, asked, kwargs)
        with call.opening():
            if self.rate_limiter is not None:
                await self.rate_limiter.async_acquire()
            chunks = iterate_in_thread(self.max_concurrency, lambda: self._open(messages, kwargs))
            first = await anext(chunks)
        return call.areading(first, chunks)

    # --- tools and structured output ---

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
        if isinstance(user_msg, str):
            user_msg = prompt_to_messages(user_msg)[0]
        messages = [*(chat_history or ()), *([user_msg] if user_msg is not None else ())]
        # Which choices the target takes is known when it is called: this runs in event loops, and may not look it up.
        wanted = {
            "tools": tool_config(tools),
            "tool_choice": tool_choice,
            "tool_required": tool_required,
            ONE_TOOL_CALL: None if allow_parallel_tool_calls else Internal.YES,
            # LlamaIndex's streams take no `tool_required`.
            STRUCTURED: None if output_class(tools) is None else Internal.YES,
        }
        return {"messages": messages, **{name: value for name, value in wanted.items() if value}, **kwargs}

    def get_tool_calls_from_response(
        self,
        response: ChatResponse,
        error_on_no_tool_call: bool = True,  # noqa: FBT001, FBT002 - LlamaIndex's signature
        **kwargs: Any,
    ) -> list[ToolSelection]:
        """The tool calls in a response, or in a chunk as far as they had come.

        Raises:
            ToolCallError: There is none, unless `error_on_no_tool_call` is False; or the arguments of one are no JSON
                object, as when the answer was cut off by `max_tokens`.
        """
        return selections(response, error_on_no_tool_call=error_on_no_tool_call)


def _as_messages(prompt: str) -> list[ChatMessage]:
    if not isinstance(prompt, str):
        raise InvalidRequestError(
            f"prompt must be a str, and is a {type(prompt).__name__}; for messages there is chat()"
        )
    return prompt_to_messages(prompt)
