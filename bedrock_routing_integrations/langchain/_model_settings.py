"""What langchain-aws derives from the name of a model, reduced to what all models of a target allow."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.caching import PrefixMemory, policy_of
from bedrock_routing_integrations.client import RoutedClient
from bedrock_routing_integrations.connections import Connection
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.runtime import warn_once
from bedrock_routing_integrations.targets import TargetKind, parse_target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_aws import ChatBedrockConverse

    from bedrock_routing_integrations.models.candidates import Candidate, ResolvedTarget

    from .chat_models import ChatBedrockRouter

# Stands for a model of which nothing is known: no rule of langchain-aws is made for it.
_NEUTRAL_MODEL = "unknown.unknown"


def probe_update(asked: dict[str, Any], candidate: Candidate | None, reasoning_effort: Any) -> dict[str, Any]:
    """What to change on a copy so that upstream's validator derives settings for a model, and does nothing else."""
    base = candidate.base_model if candidate else None
    model = base or _NEUTRAL_MODEL
    return {
        **asked,
        # Upstream's profile cards go by the id of the profile first: some geographies have limits of their own.
        "model_id": (_bare_id(candidate) if candidate and base else None) or model,
        "base_model_id": base,
        "provider": asked["provider"] or model.partition(".")[0],
        # Upstream makes clients where there are none, and registers the headers on them.
        "client": _NO_CLIENT,
        "bedrock_client": _NO_CLIENT,
        "config": None,  # for the client; upstream merges it first, and ours may be a mapping
        "default_headers": None,
        # Upstream warns, and drops it, for models that it does not know; such a target may be known later.
        "reasoning_effort": reasoning_effort if base else None,
    }


def _bare_id(candidate: Candidate) -> str | None:
    target = parse_target(candidate.model_id)
    named = target.kind in (TargetKind.FOUNDATION_MODEL, TargetKind.SYSTEM_INFERENCE_PROFILE)
    return target.resource_id if named else None


def combine_settings(
    asked: dict[str, Any], resolved: ResolvedTarget, probes: Sequence[ChatBedrockConverse]
) -> dict[str, Any]:
    """The settings of a target whose models gave `probes`."""
    models = resolved.base_models
    return {
        # For names that upstream matches by their text, one model of the family stands for all.
        "base_model_id": models[0] if models else None,
        "provider": asked["provider"] or resolved.facts.provider or (models[0].partition(".")[0] if models else ""),
        "profile": asked["profile"] or _profile(resolved, probes),
        "supports_tool_choice_values": _tool_choices(asked, resolved, probes),
        "additional_model_request_fields": _common_fields(asked, resolved, probes),
    }


def _common_fields(
    asked: dict[str, Any], resolved: ResolvedTarget, probes: Sequence[ChatBedrockConverse]
) -> dict[str, Any] | None:
    """What `reasoning_effort` becomes. It is written differently for each model, and a router chooses after us."""
    fields = [probe.additional_model_request_fields for probe in probes]
    if all(field == fields[0] for field in fields):
        return fields[0]
    warn_once(
        ("reasoning_effort", resolved.target.model_id),
        f"reasoning_effort is left out for {resolved.target}: its models ({', '.join(resolved.base_models)}) take it "
        "in different ways.",
    )
    fields_asked: dict[str, Any] | None = asked["additional_model_request_fields"]
    return fields_asked


def _tool_choices(
    asked: dict[str, Any], resolved: ResolvedTarget, probes: Sequence[ChatBedrockConverse]
) -> tuple[str, ...]:
    if asked["supports_tool_choice_values"] is not None:
        return tuple(asked["supports_tool_choice_values"])
    allowed = resolved.facts.tool_choice
    for probe in probes:
        # The catalog knows families; upstream also knows what thinking rules out. An empty answer of upstream's
        # means that it does not know the model.
        if probe.supports_tool_choice_values:
            allowed = tuple(choice for choice in allowed if choice in probe.supports_tool_choice_values)
    return allowed


def _profile(resolved: ResolvedTarget, probes: Sequence[ChatBedrockConverse]) -> dict[str, Any]:
    """Upstream's profile cards, and what the catalog knows where they are silent (they leave out older models)."""
    profile = _common_profile([probe.profile or {} for probe in probes])
    facts = resolved.facts
    known = {
        "max_input_tokens": facts.context_window,
        "max_output_tokens": facts.max_output_tokens,
        "tool_calling": facts.tools if facts.known or facts.family else None,
        "image_inputs": facts.image_input,
    }
    return {**{name: value for name, value in known.items() if value is not None}, **profile}


def _common_profile(profiles: Sequence[Any]) -> dict[str, Any]:
    """What every profile says: the smallest limits, the flags that all have, and what is equal in all."""
    common: dict[str, Any] = {}
    for name in dict.fromkeys(name for profile in profiles for name in profile):
        values = [profile.get(name) for profile in profiles]
        if any(value is False for value in values):  # what one model refuses is refused
            common[name] = False
        elif all(isinstance(value, int) and value is not True for value in values):
            common[name] = min(values)
        elif all(value == values[0] for value in values):
            common[name] = values[0]
    return common


class _NoClient:
    """Fills upstream's client fields while it derives settings; using it is a mistake, and says so."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"no client is used while settings are derived, but {name!r} was asked for")


_NO_CLIENT = _NoClient()


# --- The client that a chat model makes for itself, from its fields. ---

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
