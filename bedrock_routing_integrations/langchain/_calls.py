"""What is done to the arguments of a call before langchain-aws sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.caches import BaseCache
from langchain_core.runnables.config import ensure_config

from bedrock_routing_integrations.caching import CachePolicy, policy_of
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.targets import TargetKind
from bedrock_routing_integrations.tool_choice import converse_tool_choice, is_thinking, settle_tool_choice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bedrock_routing_integrations.resolution import ResolvedTarget

# Says, between `bind_tools` and the call, that a forced tool choice was our idea and may be given up.
PREFERRED = "tool_choice_preferred"
_MODEL_NAMES = ("model", "model_id", "modelId")


def split_model(call: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """The target that a call names, by any of its spellings, and the call without it.

    Raises:
        InvalidRequestError: The call says what is said when a chat model is made.
    """
    for name in ("cache", "cache_policy"):
        if name in call:
            raise InvalidRequestError(
                f"{name} is set where the chat model is made, ChatBedrockRouter(model=…, cache=…), and not in a call."
            )
    named = [call[name] for name in _MODEL_NAMES if call.get(name)]
    return (named[0] if named else None), {name: value for name, value in call.items() if name not in _MODEL_NAMES}


def check_kind(resolved: ResolvedTarget) -> None:
    """Refuse what a chat model cannot call.

    Raises:
        InvalidRequestError: A managed prompt: Converse takes it with ``promptVariables``, and without ``system``,
            ``inferenceConfig`` and tools, which a chat model always sends.
    """
    if resolved.target.kind is TargetKind.PROMPT:
        raise InvalidRequestError(
            f"{resolved.target} is a managed prompt, which takes promptVariables and refuses what a chat model sends. "
            "Call it with RoutedClient(boto3.client('bedrock-runtime')).converse(modelId=…, promptVariables={…})."
        )


def with_settled_choice(
    call: dict[str, Any], supported: Sequence[str], constructed: Mapping[str, Any] | None, resolved: ResolvedTarget
) -> dict[str, Any]:
    """The call with a tool choice that all models of the target take.

    Args:
        call: The call's arguments; not changed.
        supported: The kinds of choice that all models take.
        constructed: The model request fields that the chat model was constructed with; the call's own come on top.
        resolved: The target.

    Raises:
        InvalidRequestError: The caller forces a tool, and not all models can be forced.
    """
    asked = call.get("tool_choice")
    choice = converse_tool_choice(asked)
    kind = next(iter(choice), None) if choice else None
    if choice is None or kind is None or not call.get("tools"):
        return {name: value for name, value in call.items() if name != "tool_choice"}
    if kind == "none":
        return {**call, "tool_choice": choice}
    settled = settle_tool_choice(
        kind,
        asked,
        supported,
        resolved,
        preferred=bool(call.get(PREFERRED)),
        thinking=is_thinking({**(constructed or {}), **(call.get("additional_model_request_fields") or {})}),
    )
    settled_choice = choice if settled == kind else {settled: {}} if settled else None
    return {**call, "tool_choice": settled_choice}


def with_cache_policy(values: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a constructor, with what `cache` says of cachePoints under the name of our own field.

    Raises:
        InvalidRequestError: It says nothing that we or LangChain know.
    """
    if is_policy(values.get("cache")):
        values = {**{name: v for name, v in values.items() if name != "cache"}, "cache_policy": values["cache"]}
    given = values.get("cache_policy", "auto")
    policy = policy_of(given)
    return {**values, "cache_policy": policy} if isinstance(given, dict) else values  # as `dumps` writes it


def is_policy(cache: Any) -> bool:
    """Whether `cache` is to say something of cachePoints. LangChain's own: a cache of responses, True, False, None."""
    return not isinstance(cache, (BaseCache, bool, type(None)))


def written_policy(cache: Any) -> Any:
    """A `cache_policy` as JSON has it."""
    return cache.as_dict() if isinstance(cache, CachePolicy) else cache


def with_concurrency(config: Any, max_concurrency: int) -> Any:
    """The config with our bound where nobody set one; LangChain's own is ``cpu_count + 4`` threads."""
    if config is not None and not isinstance(config, dict):
        return [with_concurrency(each, max_concurrency) for each in config]
    if ensure_config(config).get("max_concurrency") is not None:  # type: ignore[arg-type]  # a RunnableConfig is a dict
        return config
    return {**(config or {}), "max_concurrency": max_concurrency}
