"""What `BedrockRouter` is made of: its arguments, how they are checked, and what becomes of them in a copy."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any, Literal

from llama_index.core.bridge.pydantic import (
    Field,
    PrivateAttr,
    SecretStr,
    field_serializer,
    model_validator,
)
from llama_index.core.llms.function_calling import FunctionCallingLLM

from bedrock_routing_integrations.caching import CachePolicy, policy_of
from bedrock_routing_integrations.client import RoutedClient
from bedrock_routing_integrations.connections import (
    DEFAULT_MAX_CONCURRENCY,
    Connection,
    config_without_passwords,
    read_config,
    without_password,
)
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.requests import SystemPlacement  # noqa: TC001 - pydantic reads it
from bedrock_routing_integrations.requests.neutral_arguments import without_neutral
from bedrock_routing_integrations.targets import parse_target
from bedrock_routing_integrations.telemetry import telemetry_of, written_telemetry

from ._requests import check_options, refuse_unknown

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
