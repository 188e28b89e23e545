"""Know where Bedrock accepts cache points, and repair the user's own accordingly.

Sources: the model catalog for what each family supports; AWS's user guide on prompt caching and publicly reported
refusals (2026-11) for the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.runtime import warn_once
from bedrock_routing_integrations.targets import TargetKind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from bedrock_routing_integrations.models.candidates import ResolvedTarget

    Section = tuple[str, list[dict[str, Any]]]

SECTIONS = ("tools", "system", "messages")
"""The parts of a request that can hold cache points, in the order of the prefix."""
MAX_POINTS = 4
"""Maximum number of cache points in one request where the catalog does not know the models."""
_MEDIA = frozenset(["audio", "document", "image", "video"])
# Blocks after which every model is known to accept a cache point. For toolResult see `CacheRules.after_tool_result`.
_PROVEN = frozenset(["text", "toolUse", "toolSpec", "toolResult"])
_NOVA = "amazon"  # the provider whose models accept no cache point in tools, and none after a tool result


# --- Blocks and cache points of a request ---


def block_lists(request: Mapping[str, Any]) -> Iterator[tuple[str, int | None, list[dict[str, Any]]]]:
    """Yield (section, message index, blocks) for each list that can hold cache points, in the order of the prefix."""
    yield "tools", None, (request.get("toolConfig") or {}).get("tools") or []
    yield "system", None, request.get("system") or []
    for number, message in enumerate(request.get("messages") or ()):
        yield "messages", number, message.get("content") or []


def ttl_of(block: Mapping[str, Any]) -> str:
    """Return the ttl of a cachePoint block."""
    return block["cachePoint"].get("ttl") or "5m"


def cache_point(ttl: str) -> dict[str, Any]:
    """Return a cachePoint block."""
    return {"cachePoint": {"type": "default", **({"ttl": ttl} if ttl != "5m" else {})}}


def has_optimized_latency(request: Mapping[str, Any]) -> bool:
    """Return whether a request asks for latency ``optimized``."""
    return (request.get("performanceConfig") or {}).get("latency") == "optimized"


def copy_lists(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy in which every list that can hold cache points is new; the blocks are shared."""
    return _with_sections(request, [(section, list(blocks)) for section, blocks in _sections(request)])


def _sections(request: Mapping[str, Any]) -> Iterator[Section]:
    for section, _, blocks in block_lists(request):
        yield section, blocks


def _with_sections(request: Mapping[str, Any], sections: Sequence[Section]) -> dict[str, Any]:
    (_, tools), (_, system), *contents = sections
    changed, config = dict(request), request.get("toolConfig") or {}
    # Bedrock refuses an empty list of tools: remove a list that held nothing but removed cache points.
    if config.get("tools") and not tools:
        del changed["toolConfig"]
    elif config.get("tools") is not None:
        changed["toolConfig"] = {**config, "tools": tools}
    if request.get("system") and not system:
        del changed["system"]
    elif request.get("system") is not None:
        changed["system"] = system
    if request.get("messages") is not None:
        changed["messages"] = [
            {**message, "content": content} for message, (_, content) in zip(request["messages"], contents, strict=True)
        ]
    return changed


# --- What the models of a target accept ---


def max_points(resolved: ResolvedTarget) -> int:
    """Return how many cache points one request may have."""
    rules = resolved.facts.cache
    return rules.max_points if rules is not None else MAX_POINTS


def section_refusal(section: str, resolved: ResolvedTarget, *, optimized: bool) -> str | None:
    """Return why the models accept no cache points in a section; None if they do, or are not known.

    Args:
        section: One of `SECTIONS`.
        resolved: The target.
        optimized: Whether the request asks for latency ``optimized``.
    """
    rules, facts = resolved.facts.cache, resolved.facts
    if rules is None:
        if facts.known:
            return f"{resolved.target} does not support prompt caching"
        # If the look-up of a Nova router failed, its id still shows that it is a Nova router.
        accepted = not (facts.provider == _NOVA and section == "tools")
    else:
        accepted = section in rules.fields
    if not accepted:
        return f"{resolved.target} accepts no cachePoint in {section}"
    if optimized and rules is not None and not rules.with_optimized_latency:
        return f"{resolved.target} accepts no cachePoint together with latency 'optimized'"
    return None


def block_refusal(block: Mapping[str, Any], resolved: ResolvedTarget) -> str | None:
    """Return why Bedrock refuses a cache point directly after a block; None if it accepts one.

    Args:
        block: The block before the cache point; empty if the cache point would be the first in its list.
        resolved: The target.
    """
    if not block or "cachePoint" in block:
        return "Bedrock refuses a cachePoint with nothing to cache before it"
    if "reasoningContent" in block:
        return "Bedrock refuses a cachePoint after reasoning"
    if "document" in block and block["document"].get("format") != "pdf":
        return "Bedrock refuses a cachePoint after a document that is not a PDF"
    rules = resolved.facts.cache
    if rules is not None and not rules.after_media and _MEDIA & block.keys():
        return f"{resolved.target} accepts no cachePoint directly after an image, a document or other media"
    after_result = rules.after_tool_result if rules is not None else resolved.facts.provider != _NOVA
    if "toolResult" in block and not after_result:
        return f"{resolved.target} accepts no cachePoint after a tool result"
    return None


def unproven_block(block: Mapping[str, Any], resolved: ResolvedTarget) -> str | None:
    """Return why no cache point is added after a block although Bedrock may accept one; None if one may be added.

    Args:
        block: The block before the cache point.
        resolved: The target.
    """
    rules = resolved.facts.cache
    if rules is None or rules.after_media or _PROVEN & block.keys():
        return None
    return f"it is not known whether {resolved.target} accepts a cachePoint there"


def skip_reason(request: Mapping[str, Any], resolved: ResolvedTarget) -> str | None:
    """Return why no cache points at all can be added to a request; None if some can.

    Args:
        request: A Converse request.
        resolved: The target.
    """
    target, facts = resolved.target, resolved.facts
    if target.kind is TargetKind.PROMPT:
        return f"{target} is a managed prompt, whose text is not in the request"
    models, rules = resolved.base_models, facts.cache
    # A router has two models. If its look-up failed, both are known once both have answered.
    known = models and all(candidate.base_model for candidate in resolved.candidates)
    if not known or not (resolved.complete or (target.kind.is_router and len(models) > 1)):
        return f"the candidate models of {target} are not known; name them with base_models=[…]"
    if rules is None:
        if not facts.known:
            return f"the catalog does not know whether {', '.join(models)} supports prompt caching"
        if len(models) > 1:
            return f"not all of {', '.join(models)} support prompt caching"
        return f"{models[0]} does not support prompt caching"
    optimized = has_optimized_latency(request)
    refusals = [section_refusal(section, resolved, optimized=optimized) for section in SECTIONS]
    return None if None in refusals else refusals[-1]


def takes_system_point(resolved: ResolvedTarget, *, optimized: bool) -> bool:
    """Return whether all models of a target are known to accept a cache point after the system prompt.

    Args:
        resolved: The target.
        optimized: Whether the request asks for latency ``optimized``.
    """
    return resolved.facts.cache is not None and section_refusal("system", resolved, optimized=optimized) is None


# --- Repair the user's cache points ---


def repair_points(request: Mapping[str, Any], resolved: ResolvedTarget) -> dict[str, Any]:
    """Return a copy of the request that keeps only cache points that Bedrock accepts.

    Args:
        request: A Converse request; not changed.
        resolved: The target.
    """
    if not any("cachePoint" in block for _, blocks in _sections(request) for block in blocks):
        return dict(request)
    return place_points(request, resolved)


def place_points(
    request: Mapping[str, Any], resolved: ResolvedTarget, required: Collection[str] = ()
) -> dict[str, Any]:
    """Return the request with cache points that Bedrock accepts, logging a warning for each change.

    Cache points that would be refused (the models cache nothing in that section, nothing is before it, or it follows
    reasoning or a document that is not a PDF) are removed. A ttl of ``1h`` becomes ``5m`` if the models offer nothing
    longer, and ``5m`` becomes ``1h`` before another ``1h``. If there are too many, those in the earliest messages are
    removed.

    Args:
        request: A Converse request; not changed.
        resolved: The target.
        required: Sections to end with a cache point, of ``"system"`` and ``"tools"``, if the models accept it and the
            request has fewer than the maximum.

    Returns:
        A new request; the content of its blocks is shared.
    """
    optimized = has_optimized_latency(request)
    refusals = {section: section_refusal(section, resolved, optimized=optimized) for section in SECTIONS}
    sections = [
        (section, _accepted_blocks(section, blocks, refusals[section], resolved))
        for section, blocks in _sections(request)
    ]
    most = max_points(resolved)
    sections = _with_at_most(_with_falling_ttls(sections), most)
    remaining = most - sum("cachePoint" in block for _, blocks in sections for block in blocks)
    for number, (section, blocks) in enumerate(sections):
        if section not in required or remaining < 1 or not blocks or "cachePoint" in blocks[-1]:
            continue
        if refusals[section]:
            warn_once(
                ("cachePoint", section, refusals[section]),
                f"No cachePoint is added after the {section}: {refusals[section]}.",
            )
            continue
        later_ttls = [ttl_of(block) for _, later in sections[number + 1 :] for block in later if "cachePoint" in block]
        # A cache point must not outlive one before it.
        sections[number] = (section, [*blocks, cache_point("1h" if "1h" in later_ttls else "5m")])
        remaining -= 1
    return _with_sections(request, sections)


def _accepted_blocks(
    section: str, blocks: Sequence[dict[str, Any]], refusal: str | None, resolved: ResolvedTarget
) -> list[dict[str, Any]]:
    """Return the blocks without refused cache points; `refusal` is that of the whole section."""
    accepted: list[dict[str, Any]] = []
    for block in blocks:
        if "cachePoint" not in block:
            accepted.append(block)
            continue
        why = refusal or block_refusal(accepted[-1] if accepted else {}, resolved)
        if why is None:
            accepted.append(_with_offered_ttl(block, resolved))
        else:
            warn_once(
                ("cachePoint", section, why, resolved.target.model_id),
                f"A cachePoint in {section} of a request to {resolved.target} was removed: {why}.",
            )
    return accepted


def _with_offered_ttl(point: dict[str, Any], resolved: ResolvedTarget) -> dict[str, Any]:
    """Return the cache point with a ttl that the models offer."""
    rules, ttl = resolved.facts.cache, ttl_of(point)
    if rules is None or ttl in rules.ttls:
        return point
    warn_once(
        ("cachePoint", ttl, resolved.target.model_id),
        f"A cachePoint with ttl {ttl!r} was changed to five minutes: {resolved.target} offers "
        f"{' and '.join(rules.ttls)}.",
    )
    return {"cachePoint": {name: value for name, value in point["cachePoint"].items() if name != "ttl"}}


def _with_falling_ttls(sections: list[Section]) -> list[Section]:
    """Return the sections with ``1h`` for every cache point before one of ``1h``, as Bedrock requires."""
    from_the_end: list[Section] = []
    seen_hour = False
    for section, blocks in reversed(sections):
        if not any("cachePoint" in block for block in blocks):
            from_the_end.append((section, blocks))
            continue
        changed = []
        for block in reversed(blocks):
            if "cachePoint" not in block:
                changed.append(block)
                continue
            if seen_hour and ttl_of(block) == "5m":
                warn_once(
                    ("cachePoint", section, "1h after 5m"),
                    f"A cachePoint in {section} was changed to ttl '1h': one with ttl '1h' comes after it (the order "
                    "is tools, system, messages), and Bedrock refuses that after one of five minutes.",
                )
                block = {"cachePoint": {**block["cachePoint"], "ttl": "1h"}}  # noqa: PLW2901 - a new block
            seen_hour = seen_hour or ttl_of(block) == "1h"
            changed.append(block)
        from_the_end.append((section, changed[::-1]))
    return from_the_end[::-1]


def _with_at_most(sections: list[Section], most: int) -> list[Section]:
    """Return the sections with at most so many cache points, dropping those of the earliest messages first."""
    surplus = sum("cachePoint" in block for _, blocks in sections for block in blocks) - most
    if surplus <= 0:
        return sections
    warn_once(
        ("cachePoint", "too many"),
        f"A request had {most + surplus} cachePoints, and Bedrock accepts {most}: the first ones in its messages were "
        "removed.",
    )
    # A later point of the messages caches what an earlier one does, too. Only if removing those of the messages is not
    # enough, remove some before the messages, from the front.
    removal_order = sorted(range(len(sections)), key=lambda number: (sections[number][0] != "messages", number))
    remaining = dict(enumerate(sections))
    for number in removal_order:
        section, blocks = remaining[number]
        kept: list[dict[str, Any]] = []
        for block in blocks:
            if surplus > 0 and "cachePoint" in block:
                surplus -= 1
            else:
                kept.append(block)
        remaining[number] = (section, kept)
    return [remaining[number] for number in range(len(sections))]
