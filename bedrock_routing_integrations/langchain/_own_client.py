"""The client that a chat model makes for itself, from its fields."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.caching import PrefixMemory, policy_of
from bedrock_routing_integrations.client import RoutedClient
from bedrock_routing_integrations.connections import Connection
from bedrock_routing_integrations.errors import InvalidRequestError

if TYPE_CHECKING:
    from .chat_models import ChatBedrockRouter

SECRETS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "bedrock_api_key")


class OwnClient(RoutedClient):
    """A chat model's own client, and what was derived for the target that the chat model was made for."""

    def __init__(
        self,
        client: Any,
        *,
        cache: Any = "auto",
        prices: Any = None,
        telemetry: Any = "auto",
        mid_conversation_system: Any = None,
        **options: Any,
    ) -> None:
        policy = policy_of(cache)
        if policy.memory == "own":
            policy = replace(policy, memory=PrefixMemory())
        super().__init__(
            client,
            cache=policy,
            prices=prices,
            telemetry=telemetry,
            mid_conversation_system=mid_conversation_system,
            **options,
        )
        self.derived: dict[str, Any] = {}
        self.cache, self.prices, self.telemetry = cache, prices, telemetry
        self.mid_conversation_system = mid_conversation_system

    def following(self, model: ChatBedrockRouter) -> OwnClient:
        """Return this client, or one like it, with what the fields of the chat model say now."""
        cache, prices, telemetry = model.cache_policy, model.prices, model.telemetry
        placement = model.mid_conversation_system
        if (
            self.cache is cache
            and self.prices is prices
            and self.telemetry is telemetry
            and self.mid_conversation_system == placement
        ):
            return self
        other = OwnClient(
            Connection(), cache=cache, prices=prices, telemetry=telemetry, mid_conversation_system=placement
        )
        replaced = {
            "_prices", "_own_prices", "prices", "_recorder", "telemetry", "_placement", "mid_conversation_system",
        }  # fmt: skip
        if self.cache is not cache:
            replaced |= {"_policy", "_planner", "cache"}
        vars(other).update({name: value for name, value in vars(self).items() if name not in replaced})
        return other


def client_of(model: ChatBedrockRouter, given: Any) -> RoutedClient:
    """Return the client of a chat model: the `RoutedClient` that it is given, else one of its own.

    Args:
        model: The chat model, whose fields say what its client does.
        given: A `RoutedClient`, a boto3 client, or None.

    Raises:
        InvalidRequestError: It is given a `RoutedClient` and settings that are that client's.
    """
    if isinstance(given, RoutedClient):
        has_settings = (
            model.cache_policy != "auto" or model.prices or model.telemetry != "auto" or model.mid_conversation_system
        )
        if has_settings and not isinstance(given, OwnClient):
            raise InvalidRequestError(
                "client= is a RoutedClient: give cache, prices, telemetry and mid_conversation_system to that one"
            )
        return given
    return OwnClient(
        given if given is not None else connection_of(model),
        bedrock_client=model.bedrock_client,
        base_models={model.model_id: model.base_models} if model.base_models else None,
        default_headers=model.default_headers,
        cache=model.cache_policy,
        prices=model.prices,
        telemetry=model.telemetry,
        mid_conversation_system=model.mid_conversation_system,
    )


def without_derived(values: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a constructor, where they are the fields of another chat model: those that were asked for.

    LangChain's configurable fields make a new object, at each call, from those of another: what was derived for the
    other's model, and its client, must not be taken for what was asked. A memory of its own goes on.
    """
    own = values.get("client")
    if not isinstance(own, OwnClient):
        return values
    kept = {name: v for name, v in values.items() if name not in own.derived or v is not own.derived[name]}
    del kept["client"]
    if values.get("cache_policy") is own.cache and own.policy != policy_of(own.cache):
        kept["cache_policy"] = own.policy
    return kept


def connection_of(model: Any) -> Connection:
    """How the fields of a chat model, or a retriever, say that Bedrock is reached."""
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
