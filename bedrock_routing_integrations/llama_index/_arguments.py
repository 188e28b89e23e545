"""What `BedrockRouter` is made of: its arguments, how they are checked, and what becomes of them in a copy."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any, Literal

from llama_index.core.bridge.pydantic import (
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    field_serializer,
    model_validator,
)
from llama_index.core.llms.function_calling import FunctionCallingLLM

from bedrock_routing_integrations.client import RoutedClient
from bedrock_routing_integrations.connections import DEFAULT_MAX_CONCURRENCY, Connection
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.logs import warn_once
from bedrock_routing_integrations.targets import parse_target

from ._requests import check_options, refuse_unknown

_SECRETS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "api_key")
_CLIENTS = ("client", "bedrock_client", "botocore_session")
# BedrockConverse's users pass None for what they leave open; these have a default that is not None.
_NOT_NONE = ("additional_kwargs", "callback_manager", "max_concurrency", "system_prompt_caching", "tool_caching")


class Arguments(FunctionCallingLLM):
    """The arguments of `BedrockRouter`, which documents them."""

    # A secret of the wrong type would be in the error's message.
    model_config = ConfigDict(hide_input_in_errors=True)

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
    guardrail_identifier: str | None = None
    guardrail_version: str | None = None
    guardrail_stream_processing_mode: Literal["sync", "async"] | None = None
    trace: str | None = None
    system_prompt_caching: bool = False
    tool_caching: bool = False
    supports_forced_tool_calls: bool | None = None
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

    _client: RoutedClient = PrivateAttr()

    def __init__(
        self,
        model: str | None = None,
        *,
        client: Any = None,
        bedrock_client: Any = None,
        botocore_session: Any = None,
        **arguments: Any,
    ) -> None:
        super().__init__(model=model, **arguments)
        if isinstance(client, RoutedClient):
            self._client = client
            return
        self._client = RoutedClient(
            client if client is not None else _connection(self, botocore_session),
            bedrock_client=bedrock_client,
            base_models={self.model: self.base_models} if self.base_models else None,
            default_headers=self.default_headers,
        )

    @model_validator(mode="before")
    @classmethod
    def _check_arguments(cls, values: dict[str, Any]) -> dict[str, Any]:
        values = {name: value for name, value in values.items() if name != "class_name"}  # which `model_dump` adds
        profile = values.pop("application_inference_profile_arn", None)
        if values.get("model") is None:
            raise InvalidRequestError("BedrockRouter needs model=, a Bedrock model id or ARN")
        if profile is not None:
            values = {"base_models": [values["model"]], **values, "model": profile}
        if values.pop("async_client", None) is not None:
            raise InvalidRequestError("BedrockRouter takes no async_client: asynchronous calls need none.")
        refuse_unknown(values, [*cls.model_fields, *_CLIENTS], "it takes")
        check_options(values.get("additional_kwargs") or {})
        values = {name: value for name, value in values.items() if value is not None or name not in _NOT_NONE}
        if isinstance(values.get("botocore_config"), Mapping):
            from botocore.config import Config

            values["botocore_config"] = Config(**values["botocore_config"])
        return {**values, "model": parse_target(values["model"]).model_id}

    @field_serializer("botocore_config")
    def _write_config(self, config: Any) -> dict[str, Any] | None:
        return None if config is None else _set_options(config)

    def __getstate__(self) -> dict[str, Any]:
        # Secrets stay in this process: a copy elsewhere looks for its own credentials.
        if any(getattr(self, name) for name in (*_SECRETS, "default_headers")):
            warn_once(
                "pickle",
                "Explicit credentials and default_headers are left out of a pickle: the process that loads it uses the "
                "credentials that it finds.",
            )
        pickle.dumps(self._client)  # says what to do where the user's own client cannot be pickled; super() drops it
        state = super().__getstate__()
        hidden = dict.fromkeys((*_SECRETS, "default_headers"))
        return {**state, "__dict__": {**state["__dict__"], **hidden}, "__pydantic_private__": None}


def _connection(llm: Arguments, session: Any) -> Connection:
    """How the fields say that Bedrock is reached."""
    secrets = {name: value.get_secret_value() for name in _SECRETS if (value := getattr(llm, name))}
    return Connection(
        region_name=llm.region_name,
        profile_name=llm.profile_name,
        access_key_id=secrets.get("aws_access_key_id"),
        secret_access_key=secrets.get("aws_secret_access_key"),
        session_token=secrets.get("aws_session_token"),
        api_key=secrets.get("api_key"),
        endpoint_url=llm.endpoint_url,
        config=llm.botocore_config,
        session=session,
        verify=llm.verify,
        use_ssl=llm.use_ssl,
        timeout=llm.timeout,
        max_retries=llm.max_retries,
        max_concurrency=llm.max_concurrency,
    )


def _set_options(config: Any) -> dict[str, Any]:
    """What a botocore ``Config`` sets, as far as JSON can say it; proxies, whose URLs can hold passwords, left out."""
    unset = type(config)()
    values = {name: getattr(config, name) for name in type(config).OPTION_DEFAULTS}
    options = {name: value for name, value in values.items() if value != getattr(unset, name)}
    plain = (str, int, float, bool, dict, list)
    return {name: value for name, value in options.items() if isinstance(value, plain) and "prox" not in name}
