"""What a `ChatBedrockRouter` is made of: its fields, and how they are checked, written down and hidden."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from langchain_aws import ChatBedrockConverse
from pydantic import Field, SecretStr, field_serializer, model_validator

from bedrock_routing_integrations.connections import DEFAULT_MAX_CONCURRENCY
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.logs import warn_once
from bedrock_routing_integrations.requests import SystemPlacement, check_placement
from bedrock_routing_integrations.targets import parse_target
from bedrock_routing_integrations.telemetry import telemetry_of, written_telemetry

from ._call_arguments import checked_constructor, known_arguments
from ._calls import with_cache_policy, written_policy
from ._own_client import SECRETS, without_derived


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
