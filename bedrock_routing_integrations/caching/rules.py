"""Where Bedrock takes a cachePoint, for the models of a target.

Sources: the catalog, for what a model takes; AWS's user guide on prompt caching, and refusals that were reported
(2026-11), for the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.targets import TargetKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bedrock_routing_integrations.resolution import ResolvedTarget

SECTIONS = ("tools", "system", "messages")
"""The parts of a request that hold cachePoints, in the order of the prefix."""
MOST_POINTS = 4
"""Points in one request, where the catalog knows nothing of the models."""
_MEDIA = frozenset(["audio", "document", "image", "video"])
# What every model takes a point after. Of toolResult `after_tool_result` says more.
_PROVEN = frozenset(["text", "toolUse", "toolSpec", "toolResult"])
_NOVA = "amazon"  # the provider of the models that take none in tools, and none after the result of a tool


def block_lists(request: Mapping[str, Any]) -> Iterator[tuple[str, int | None, list[dict[str, Any]]]]:
    """The lists of a request that can hold points, in the order of the prefix: section, index of message, blocks."""
    yield "tools", None, (request.get("toolConfig") or {}).get("tools") or []
    yield "system", None, request.get("system") or []
    for number, message in enumerate(request.get("messages") or ()):
        yield "messages", number, message.get("content") or []


def ttl_of(block: Mapping[str, Any]) -> str:
    """How long the entry of a cachePoint block lasts."""
    return block["cachePoint"].get("ttl") or "5m"


def as_point(ttl: str) -> dict[str, Any]:
    """A cachePoint block."""
    return {"cachePoint": {"type": "default", **({"ttl": ttl} if ttl != "5m" else {})}}


def is_optimized(request: Mapping[str, Any]) -> bool:
    """Whether a request asks for latency ``optimized``."""
    return (request.get("performanceConfig") or {}).get("latency") == "optimized"


def most_points(resolved: ResolvedTarget) -> int:
    """How many points one request may have."""
    rules = resolved.facts.cache
    return rules.max_points if rules is not None else MOST_POINTS


def closed(field: str, resolved: ResolvedTarget, *, optimized: bool) -> str | None:
    """Why the models take no point in a section; None where they do, and where they are not known."""
    rules, facts = resolved.facts.cache, resolved.facts
    if rules is None:
        # Of a router of Nova's that could not be looked up the id still says that it is Nova's.
        takes = not facts.known and not (facts.provider == _NOVA and field == "tools")
    else:
        takes = field in rules.fields
    if rules is None and not takes and facts.known:
        return f"{resolved.target} caches no prompts"
    if not takes:
        return f"{resolved.target} takes none there"
    if optimized and rules is not None and not rules.with_optimized_latency:
        return f"{resolved.target} takes none together with latency 'optimized'"
    return None


def refusal(before: Mapping[str, Any], resolved: ResolvedTarget) -> str | None:
    """Why there can be no point behind a block; None where there can."""
    if not before or "cachePoint" in before:
        return "Bedrock refuses one with nothing to cache before it"
    if "reasoningContent" in before:
        return "Bedrock refuses one after thinking"
    if "document" in before and before["document"].get("format") != "pdf":
        return "Bedrock refuses one after a document that is no PDF"
    rules = resolved.facts.cache
    if rules is not None and not rules.after_media and _MEDIA & before.keys():
        return f"{resolved.target} takes none directly after an image, a document or other media"
    after_result = rules.after_tool_result if rules is not None else resolved.facts.provider != _NOVA
    if "toolResult" in before and not after_result:
        return f"{resolved.target} takes none after the result of a tool"
    return None


def unproven(before: Mapping[str, Any], resolved: ResolvedTarget) -> str | None:
    """Return why no point is placed unasked behind a block that Bedrock may well take one after; None where one is."""
    rules = resolved.facts.cache
    if rules is None or rules.after_media or _PROVEN & before.keys():
        return None
    return f"whether {resolved.target} takes one there is not known"


def unplannable(request: Mapping[str, Any], resolved: ResolvedTarget) -> str | None:
    """Why no point at all can be placed unasked; None where some can."""
    target, facts = resolved.target, resolved.facts
    if target.kind is TargetKind.PROMPT:
        return f"{target} is a managed prompt, whose text is not in the request"
    models, rules = resolved.base_models, facts.cache
    # A router has two models. Where the look-up failed, both are known when both have answered.
    known = models and all(candidate.base_model for candidate in resolved.candidates)
    if not known or not (resolved.complete or (target.kind.is_router and len(models) > 1)):
        return f"which models can answer for {target} is not known; base_models=[…] can say it"
    if rules is None:
        if not facts.known:
            return f"the catalog does not know whether {', '.join(models)} caches prompts"
        return f"not all of {', '.join(models)} cache prompts" if len(models) > 1 else f"{models[0]} caches no prompts"
    sections = [closed(section, resolved, optimized=is_optimized(request)) for section in SECTIONS]
    return None if None in sections else sections[-1]


def takes_system_point(resolved: ResolvedTarget, *, optimized: bool) -> bool:
    """Whether all models of a target are known to take a point behind the system prompt."""
    return resolved.facts.cache is not None and closed("system", resolved, optimized=optimized) is None
