"""Infer the settings of a chat model from its target's candidate models, and make its client from its fields.

langchain-aws infers a profile, the supported tool choices and the request fields for reasoning from the name of one
model, in its pydantic validator. For a target with several models the validator runs once for each, on a copy of the
chat model (`fields_for_inference` makes the copy one of that model). `combine_settings` keeps what all of them allow.

The fields can change at any time: on the object, on a copy, or through LangChain's configurable fields. So the client
that a chat model makes (`OwnClient`) remembers the values that it was made from.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.caching import PrefixMemory, policy_of
from bedrock_routing_integrations.client import RoutedClient
from bedrock_routing_integrations.connections import connection_of
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.runtime import warn_once
from bedrock_routing_integrations.targets import TargetKind, parse_target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_aws import ChatBedrockConverse

    from bedrock_routing_integrations.models.candidates import CandidateModel, ResolvedTarget

    from .chat_models import ChatBedrockRouter

# A model id for which langchain-aws has no rule.
_UNKNOWN_MODEL = "unknown.unknown"


def fields_for_inference(
    user_settings: Mapping[str, Any], candidate: CandidateModel | None, reasoning_effort: Any
) -> dict[str, Any]:
    """Return the fields of a copy on which langchain-aws's validator infers the settings of a model and does no more.

    Args:
        user_settings: The settings that the user has made.
        candidate: The model; None for one of which nothing is known.
        reasoning_effort: The field of this name of the chat model.
    """
    base_model = candidate.base_model if candidate else None
    model = base_model or _UNKNOWN_MODEL
    return {
        **user_settings,
        # langchain-aws first looks for a profile by the id of the inference profile: some geographies have own limits.
        "model_id": (_listed_id(candidate) if candidate and base_model else None) or model,
        "base_model_id": base_model,
        "provider": user_settings["provider"] or model.partition(".")[0],
        # The validator makes clients where there are none, and registers the headers on them.
        "client": _NO_CLIENT,
        "bedrock_client": _NO_CLIENT,
        "config": None,  # for the client; langchain-aws calls its `merge`, and ours may be a mapping
        "default_headers": None,
        # langchain-aws drops it for unknown models, with a warning. The model may become known later.
        "reasoning_effort": reasoning_effort if base_model else None,
    }


def _listed_id(candidate: CandidateModel) -> str | None:
    target = parse_target(candidate.model_id)
    has_name = target.kind in (TargetKind.FOUNDATION_MODEL, TargetKind.SYSTEM_INFERENCE_PROFILE)
    return target.resource_id if has_name else None


def combine_settings(
    user_settings: Mapping[str, Any], resolved: ResolvedTarget, inferred: Sequence[ChatBedrockConverse]
) -> dict[str, Any]:
    """Return the settings that all candidate models of a target allow.

    Args:
        user_settings: The settings that the user has made. They override inferred ones.
        resolved: The target.
        inferred: For each candidate model, a chat model with the settings that langchain-aws has inferred.
    """
    models = resolved.base_models
    first_provider = models[0].partition(".")[0] if models else ""
    return {
        # langchain-aws searches this for names of families. One model of the family stands for all.
        "base_model_id": models[0] if models else None,
        "provider": user_settings["provider"] or resolved.facts.provider or first_provider,
        "profile": user_settings["profile"] or _profile(resolved, inferred),
        "supports_tool_choice_values": _tool_choices(user_settings, resolved, inferred),
        "additional_model_request_fields": _request_fields(user_settings, resolved, inferred),
    }


def _request_fields(
    user_settings: Mapping[str, Any], resolved: ResolvedTarget, inferred: Sequence[ChatBedrockConverse]
) -> dict[str, Any] | None:
    """Return the fields that ask for `reasoning_effort`, if all models take the same: Bedrock routes after us."""
    fields = [model.additional_model_request_fields for model in inferred]
    if all(each == fields[0] for each in fields):
        return fields[0]
    warn_once(
        ("reasoning_effort", resolved.target.model_id),
        f"reasoning_effort is left out for {resolved.target}: its models ({', '.join(resolved.base_models)}) take it "
        "in different ways.",
    )
    user_fields: dict[str, Any] | None = user_settings["additional_model_request_fields"]
    return user_fields


def _tool_choices(
    user_settings: Mapping[str, Any], resolved: ResolvedTarget, inferred: Sequence[ChatBedrockConverse]
) -> tuple[str, ...]:
    if user_settings["supports_tool_choice_values"] is not None:
        return tuple(user_settings["supports_tool_choice_values"])
    allowed = resolved.facts.tool_choice
    for model in inferred:
        # Our facts are about families. langchain-aws also knows what thinking rules out. An empty value means that it
        # does not know the model.
        if model.supports_tool_choice_values:
            allowed = tuple(choice for choice in allowed if choice in model.supports_tool_choice_values)
    return allowed


def _profile(resolved: ResolvedTarget, inferred: Sequence[ChatBedrockConverse]) -> dict[str, Any]:
    """Return langchain-aws's profile, completed by our facts: langchain-aws has no profiles of older models."""
    profile = _common_profile([model.profile or {} for model in inferred])
    facts = resolved.facts
    known = {
        "max_input_tokens": facts.context_window,
        "max_output_tokens": facts.max_output_tokens,
        "tool_calling": facts.tools if facts.known or facts.family else None,
        "image_inputs": facts.image_input,
    }
    return {**{name: value for name, value in known.items() if value is not None}, **profile}


def _common_profile(profiles: Sequence[Any]) -> dict[str, Any]:
    """Return the smallest limits, the flags that all profiles have, and the values that are equal in all."""
    common: dict[str, Any] = {}
    for name in dict.fromkeys(name for profile in profiles for name in profile):
        values = [profile.get(name) for profile in profiles]
        if any(value is False for value in values):  # refused by one model
            common[name] = False
        elif all(isinstance(value, int) and value is not True for value in values):
            common[name] = min(values)
        elif all(value == values[0] for value in values):
            common[name] = values[0]
    return common


class _NoClient:
    """Fill langchain-aws's client fields during inference. Raise if a client is used."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"no client is used while settings are inferred, but {name!r} was requested")


_NO_CLIENT = _NoClient()


# --- The client of a chat model ---


class OwnClient(RoutedClient):
    """The client that a chat model makes from its fields, as opposed to one that the user passes.

    Args:
        client: A boto3 client or a `Connection`.
        cache: The field `cache_policy`.
        prices: The field `prices`.
        telemetry: The field `telemetry`.
        mid_conversation_system: The field `mid_conversation_system`.
        **options: Further arguments of `RoutedClient`.

    Attributes:
        inferred_settings: Field → value that was inferred for the target of the chat model.
    """

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
        self.inferred_settings: dict[str, Any] = {}
        self.cache, self.prices, self.telemetry = cache, prices, telemetry
        self.mid_conversation_system = mid_conversation_system
        self._client, self._options = client, options

    def with_settings(self, model: ChatBedrockRouter) -> OwnClient:
        """Return this client if it has the settings of a chat model's fields, else a new one for the same AWS client.

        The new client keeps a memory of its own unless `cache_policy` has changed.
        """
        cache, placement = model.cache_policy, model.mid_conversation_system
        if (
            self.cache is cache
            and self.prices is model.prices
            and self.telemetry is model.telemetry
            and self.mid_conversation_system == placement
        ):
            return self
        other = OwnClient(
            self._client,
            cache=self.policy if self.cache is cache else cache,
            prices=model.prices,
            telemetry=model.telemetry,
            mid_conversation_system=placement,
            **self._options,
        )
        other.cache, other.inferred_settings = cache, self.inferred_settings
        return other


def client_of(model: ChatBedrockRouter, client: Any) -> RoutedClient:
    """Return the client of a chat model: the user's `RoutedClient`, or one made from the fields of the chat model.

    Args:
        model: The chat model.
        client: A `RoutedClient`, a boto3 client, or None.

    Raises:
        InvalidRequestError: `client` is a `RoutedClient`, and the chat model has settings that belong to that client.
    """
    if isinstance(client, RoutedClient):
        has_settings = (
            model.cache_policy != "auto" or model.prices or model.telemetry != "auto" or model.mid_conversation_system
        )
        if has_settings and not isinstance(client, OwnClient):
            raise InvalidRequestError(
                "client= is a RoutedClient: give cache, prices, telemetry and mid_conversation_system to that one."
            )
        return client
    return OwnClient(
        client if client is not None else connection_of(vars(model)),
        bedrock_client=model.bedrock_client,
        base_models={model.model_id: model.base_models} if model.base_models else None,
        default_headers=model.default_headers,
        cache=model.cache_policy,
        prices=model.prices,
        telemetry=model.telemetry,
        mid_conversation_system=model.mid_conversation_system,
    )


def without_inferred_settings(values: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a constructor without settings that were inferred for another chat model.

    LangChain's configurable fields make a new chat model for each call, from all fields of another one. Its client and
    its inferred settings must not count as the user's. A cache memory of its own is kept.
    """
    client = values.get("client")
    if not isinstance(client, OwnClient):
        return values
    inferred = client.inferred_settings
    kept = {name: v for name, v in values.items() if name not in inferred or v is not inferred[name]}
    del kept["client"]
    if values.get("cache_policy") is client.cache and client.policy != policy_of(client.cache):
        kept["cache_policy"] = client.policy
    return kept
