"""The caller's cachePoints, and what frameworks put for the caller: kept where Bedrock takes them, else repaired."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.logs import warn_once

from .rules import SECTIONS, as_point, block_lists, closed, is_optimized, most_points, refusal, ttl_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from bedrock_routing_integrations.resolution import ResolvedTarget

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
