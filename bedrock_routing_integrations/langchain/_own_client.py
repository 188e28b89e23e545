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
        self, client: Any, *, cache: Any = "auto", prices: Any = None, telemetry: Any = "auto", **options: Any
    ) -> None:
        policy = policy_of(cache)
        if policy.memory == "own":
            policy = replace(policy, memory=PrefixMemory())
        super().__init__(client, cache=policy, prices=prices, telemetry=telemetry, **options)
        self.derived: dict[str, Any] = {}
        self.cache, self.prices, self.telemetry = cache, prices, telemetry

    def following(self, cache: Any, prices: Any, telemetry: Any) -> OwnClient:
        """This client, with what the chat model's `cache_policy`, `prices` and `telemetry` say now."""
        if self.cache is cache and self.prices is prices and self.telemetry is telemetry:
            return self
        other = OwnClient(Connection(), cache=cache, prices=prices, telemetry=telemetry)
        said = {"_prices", "_own_prices", "prices", "_recorder", "telemetry"}
        if self.cache is not cache:
            said |= {"_policy", "_planner", "cache"}
        vars(other).update({name: value for name, value in vars(self).items() if name not in said})
        return other


def client_of(model: ChatBedrockRouter) -> RoutedClient:
    """The client that a chat model is constructed with: the one of ours that it is given, else one of its own.

    Raises:
        InvalidRequestError: It is given one of ours, which says itself what is cached, paid and told, and that too.
    """
    given = model.client
    if isinstance(given, RoutedClient):
        said = model.cache_policy != "auto" or model.prices or model.telemetry != "auto"
        if said and not isinstance(given, OwnClient):
            raise InvalidRequestError("client= is a RoutedClient: give cache, prices and telemetry to that one")
        return given
    return OwnClient(
        given if given is not None else connection_of(model),
        bedrock_client=model.bedrock_client,
        base_models={model.model_id: model.base_models} if model.base_models else None,
        default_headers=model.default_headers,
        cache=model.cache_policy,
        prices=model.prices,
        telemetry=model.telemetry,
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
