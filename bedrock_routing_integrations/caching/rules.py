"""Where Bedrock takes a cachePoint, for the models of a target.

Sources: the catalog, for what a model takes; AWS's user guide on prompt caching, and refusals that were reported
(2026-11), for the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.runtime import warn_once
from bedrock_routing_integrations.targets import TargetKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bedrock_routing_integrations.models.candidates import ResolvedTarget

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


# --- The caller's cachePoints ---

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from bedrock_routing_integrations.models.candidates import ResolvedTarget

    Section = tuple[str, list[dict[str, Any]]]


def repair_points(request: Mapping[str, Any], resolved: ResolvedTarget) -> dict[str, Any]:
    """The request with those of its cachePoints that Bedrock takes; a copy of it as it is where there are none."""
    if not any("cachePoint" in block for _, blocks in _sections(request) for block in blocks):
        return dict(request)
    return place_points(request, resolved)


def copy_lists(request: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of which every list that can hold points is a new one; what is in its blocks is shared."""
    return _with(request, [(field, list(blocks)) for field, blocks in _sections(request)])


def place_points(request: Mapping[str, Any], resolved: ResolvedTarget, wanted: Collection[str] = ()) -> dict[str, Any]:
    """The request with cachePoints that Bedrock takes.

    A point that would be refused where it stands (the models cache nothing there, nothing is before it, it follows
    thinking or a document that is no PDF) is left out; one of an hour lasts five minutes where the models offer no
    more, and one before one of an hour lasts an hour; of too many, those in the earliest messages are left out. Each
    with a warning.

    Args:
        request: A Converse request; not changed.
        resolved: The target.
        wanted: ``"system"``, ``"tools"``: sections to put a point behind, where the models take it and there is room.

    Returns:
        A new request; what is in its content blocks is shared.
    """
    optimized = is_optimized(request)
    why = {field: closed(field, resolved, optimized=optimized) for field in SECTIONS}
    sections = [(field, _taken(field, blocks, why[field], resolved)) for field, blocks in _sections(request)]
    most = most_points(resolved)
    sections = _as_many(_lasting_on(sections), most)
    room = most - sum("cachePoint" in block for _, blocks in sections for block in blocks)
    for number, (field, blocks) in enumerate(sections):
        if field not in wanted or room < 1 or not blocks or "cachePoint" in blocks[-1]:
            continue
        if why[field]:
            warn_once(("cachePoint", field, why[field]), f"No cachePoint is put behind the {field}: {why[field]}.")
            continue
        later = [ttl_of(block) for _, after in sections[number + 1 :] for block in after if "cachePoint" in block]
        # A point must not last longer than one before it.
        sections[number] = (field, [*blocks, as_point("1h" if "1h" in later else "5m")])
        room -= 1
    return _with(request, sections)


def _sections(request: Mapping[str, Any]) -> Iterator[Section]:
    for section, _, blocks in block_lists(request):
        yield section, blocks


def _with(request: Mapping[str, Any], sections: Sequence[Section]) -> dict[str, Any]:
    (_, tools), (_, system), *contents = sections
    placed, config = dict(request), request.get("toolConfig") or {}
    # What held nothing but points that were left out goes: Bedrock takes no empty list of tools.
    if config.get("tools") and not tools:
        del placed["toolConfig"]
    elif config.get("tools") is not None:
        placed["toolConfig"] = {**config, "tools": tools}
    if request.get("system") and not system:
        del placed["system"]
    elif request.get("system") is not None:
        placed["system"] = system
    if request.get("messages") is not None:
        placed["messages"] = [
            {**message, "content": content} for message, (_, content) in zip(request["messages"], contents, strict=True)
        ]
    return placed


def _taken(
    field: str, blocks: Sequence[dict[str, Any]], why: str | None, resolved: ResolvedTarget
) -> list[dict[str, Any]]:
    """The blocks without the points that are refused there: all of them, for the reason `why`, or some."""
    kept: list[dict[str, Any]] = []
    for block in blocks:
        if "cachePoint" not in block:
            kept.append(block)
            continue
        wrong = why or refusal(kept[-1] if kept else {}, resolved)
        if wrong is None:
            kept.append(_offered(block, resolved))
        else:
            warn_once(
                ("cachePoint", field, wrong, resolved.target.model_id),
                f"A cachePoint in {field} of a request to {resolved.target} was left out: {wrong}.",
            )
    return kept


def _offered(point: dict[str, Any], resolved: ResolvedTarget) -> dict[str, Any]:
    """The point, for a time that the models offer."""
    rules, ttl = resolved.facts.cache, ttl_of(point)
    if rules is None or ttl in rules.ttls:
        return point
    why = f"{resolved.target} offers {' and '.join(rules.ttls)}"
    warn_once(("cachePoint", ttl, resolved.target.model_id), f"A cachePoint of ttl {ttl!r} lasts five minutes: {why}.")
    return {"cachePoint": {name: value for name, value in point["cachePoint"].items() if name != "ttl"}}


def _lasting_on(sections: list[Section]) -> list[Section]:
    """Points before one of an hour last an hour, as Bedrock asks."""
    until_now: list[Section] = []
    hour = False
    for field, blocks in reversed(sections):
        if not any("cachePoint" in block for block in blocks):
            until_now.append((field, blocks))
            continue
        lasting = []
        for block in reversed(blocks):
            if "cachePoint" not in block:
                lasting.append(block)
                continue
            if hour and ttl_of(block) == "5m":
                warn_once(
                    ("cachePoint", field, "1h after 5m"),
                    f"A cachePoint in {field} lasts an hour, as one of ttl '1h' comes after it (the order is tools, "
                    "system, messages) and Bedrock refuses that after one of five minutes.",
                )
                block = {"cachePoint": {**block["cachePoint"], "ttl": "1h"}}  # noqa: PLW2901 - a new block
            hour = hour or ttl_of(block) == "1h"
            lasting.append(block)
        until_now.append((field, lasting[::-1]))
    return until_now[::-1]


def _as_many(sections: list[Section], most: int) -> list[Section]:
    """No more points than Bedrock takes. Of messages the later ones are kept: they cache what the earlier do, too."""
    surplus = sum("cachePoint" in block for _, blocks in sections for block in blocks) - most
    if surplus <= 0:
        return sections
    warn_once(
        ("cachePoint", "too many"),
        f"A request had {most + surplus} cachePoints, and Bedrock takes {most}: the first ones in its messages were "
        "left out.",
    )
    # Messages first; then what is before them, from the front, as the last of a list caches the most.
    order = sorted(range(len(sections)), key=lambda number: (sections[number][0] != "messages", number))
    kept = dict(enumerate(sections))
    for number in order:
        field, blocks = kept[number]
        left: list[dict[str, Any]] = []
        for block in blocks:
            if surplus > 0 and "cachePoint" in block:
                surplus -= 1
            else:
                left.append(block)
        kept[number] = (field, left)
    return [kept[number] for number in range(len(sections))]
