"""Bedrock's rules for cachePoints, kept: those that the caller put, and those that are asked for behind a section.

The prefix that a point ends goes through the request in the order tools, system, messages. Rules: the catalog, for what
a model takes; AWS's user guide on prompt caching, and refusals that were reported (2026-11), for the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.logs import warn_once

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from bedrock_routing_integrations.resolution import ResolvedTarget

    Section = tuple[str, list[dict[str, Any]]]

_MOST = 4  # where the catalog knows nothing of the models
_NOVA = "amazon"  # the provider of the models that take none in tools, and none after the result of a tool


def place_points(request: Mapping[str, Any], resolved: ResolvedTarget, wanted: Collection[str] = ()) -> dict[str, Any]:
    """The request with cachePoints that Bedrock takes.

    A point of the caller's that would be refused where it stands (the models cache nothing there, nothing is before it,
    it follows thinking or a document that is no PDF) is left out; one of an hour lasts five minutes where the models
    offer no more. Each with a warning.

    Args:
        request: A Converse request; not changed.
        resolved: The target.
        wanted: ``"system"``, ``"tools"``: sections to put a point behind, where the models take it and there is room.

    Returns:
        A new request; what is in its content blocks is shared.

    Raises:
        InvalidRequestError: The caller's points are too many, or one of an hour comes after one of five minutes.
    """
    optimized = (request.get("performanceConfig") or {}).get("latency") == "optimized"
    closed = {field: _closed(field, resolved, optimized=optimized) for field in ("tools", "system", "messages")}
    sections = [(field, _taken(field, blocks, closed[field], resolved)) for field, blocks in _sections(request)]
    own = [_ttl(block) for _, blocks in sections for block in blocks if "cachePoint" in block]
    most = resolved.facts.cache.max_points if resolved.facts.cache is not None else _MOST
    _check(own, most)
    room = most - len(own)
    for number, (field, blocks) in enumerate(sections):
        if field not in wanted or room < 1 or not blocks or "cachePoint" in blocks[-1]:
            continue
        if why := closed[field]:
            warn_once(("cachePoint", field, why), f"No cachePoint is put behind the {field}: {why}.")
            continue
        later = [_ttl(block) for _, after in sections[number + 1 :] for block in after if "cachePoint" in block]
        # A point must not last longer than one before it.
        lasting = {"ttl": "1h"} if "1h" in later else {}
        sections[number] = (field, [*blocks, {"cachePoint": {"type": "default", **lasting}}])
        room -= 1
    return _with(request, sections)


def _sections(request: Mapping[str, Any]) -> Iterator[Section]:
    """The lists of the request that can hold points, in the order of the prefix."""
    yield "tools", (request.get("toolConfig") or {}).get("tools") or []
    yield "system", request.get("system") or []
    for message in request.get("messages") or ():
        yield "messages", message["content"]


def _with(request: Mapping[str, Any], sections: Sequence[Section]) -> dict[str, Any]:
    (_, tools), (_, system), *contents = sections
    # Of a list that held nothing but points that were left out, nothing is left: Bedrock takes no empty list of tools.
    placed = {name: value for name, value in request.items() if name not in {"toolConfig", "system", "messages"}}
    if tools:
        placed["toolConfig"] = {**request["toolConfig"], "tools": tools}
    if system:
        placed["system"] = system
    if "messages" in request:
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
        refusal = why or _refusal(kept[-1] if kept else {}, resolved)
        if refusal is None:
            kept.append(_lasting(block, resolved))
        else:
            warn_once(("cachePoint", field, refusal), f"A cachePoint in {field} was left out: {refusal}.")
    return kept


def _closed(field: str, resolved: ResolvedTarget, *, optimized: bool) -> str | None:
    """Why the models take no point in a field; None where they do, and where they are not known."""
    rules, facts = resolved.facts.cache, resolved.facts
    if rules is None:
        # Of a router of Nova's that could not be looked up the id still says that it is Nova's.
        takes = not facts.known and not (facts.provider == _NOVA and field == "tools")
    else:
        takes = field in rules.fields
    if not takes:
        return f"{resolved.target} takes none there"
    if optimized and rules is not None and not rules.with_optimized_latency:
        return f"{resolved.target} takes none together with latency 'optimized'"
    return None


def _refusal(before: Mapping[str, Any], resolved: ResolvedTarget) -> str | None:
    """Why there can be no point behind a block; None where there can."""
    if not before or "cachePoint" in before:
        return "Bedrock refuses one with nothing to cache before it"
    if "reasoningContent" in before:
        return "Bedrock refuses one after thinking"
    if "document" in before and before["document"].get("format") != "pdf":
        return "Bedrock refuses one after a document that is no PDF"
    rules = resolved.facts.cache
    after_result = rules.after_tool_result if rules is not None else resolved.facts.provider != _NOVA
    if "toolResult" in before and not after_result:
        return f"{resolved.target} takes none after the result of a tool"
    return None


def _lasting(point: dict[str, Any], resolved: ResolvedTarget) -> dict[str, Any]:
    """The point, for a time that the models offer."""
    rules, ttl = resolved.facts.cache, _ttl(point)
    if rules is None or ttl in rules.ttls:
        return point
    warn_once(
        ("cachePoint", ttl, resolved.target.model_id),
        f"A cachePoint of ttl {ttl!r} lasts five minutes: {resolved.target} offers no other.",
    )
    return {"cachePoint": {name: value for name, value in point["cachePoint"].items() if name != "ttl"}}


def _ttl(block: Mapping[str, Any]) -> str:
    return block["cachePoint"].get("ttl") or "5m"


def _check(ttls: Sequence[str], most: int) -> None:
    if len(ttls) > most:
        raise InvalidRequestError(f"The request has {len(ttls)} cachePoints; Bedrock takes {most}.")
    if "5m" in ttls and "1h" in ttls[ttls.index("5m") :]:
        raise InvalidRequestError(
            "A cachePoint of ttl '1h' comes after one of '5m' (the order is tools, system, messages), which Bedrock "
            "refuses: let the earlier one last as long."
        )
