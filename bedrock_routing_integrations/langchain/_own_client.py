"""The client that a chat model makes for itself, from its fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.client import RoutedClient
from bedrock_routing_integrations.connections import Connection

if TYPE_CHECKING:
    from .chat_models import ChatBedrockRouter

SECRETS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "bedrock_api_key")


class OwnClient(RoutedClient):
    """A chat model's own client, and what was derived for the target that the chat model was made for."""

    def __init__(self, client: Any, **options: Any) -> None:
        super().__init__(client, **options)
        self.derived: dict[str, Any] = {}


def connection_of(model: ChatBedrockRouter) -> Connection:
    """How the fields of a chat model say that Bedrock is reached."""
    secrets = {name: value.get_secret_value() for name in SECRETS if (value := getattr(model, name))}
    return Connection(
        region_name=model.region_name,
        profile_name=model.credentials_profile_name,
        access_key_id=secrets.get("aws_access_key_id"),
        secret_access_key=secrets.get("aws_secret_access_key"),
        session_token=secrets.get("aws_session_token"),
        api_key=secrets.get("bedrock_api_key"),
        endpoint_url=model.endpoint_url,
        config=model.config,
        timeout=model.timeout,
        max_retries=model.max_retries,
        max_concurrency=model.max_concurrency,
    )
