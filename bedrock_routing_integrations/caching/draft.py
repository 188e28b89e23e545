"""What a plan is, from when it is made until the answer is there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .rules import as_point, block_lists, ttl_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bedrock_routing_integrations.catalog import CacheRules

    from .candidates import Candidate, Openings
    from .memory import Shelf
    from .prefix import Prefix
    from .sizes import Calibration

_GIVEN = "the caller's own"
_KNOWN = {
    "first": "new",
    "resumed": "new",
    "continuing": "the continuation of an earlier request",
    "branching": "new behind a beginning that is known",
    "sibling": "known to another model of the router",
}


@dataclass(frozen=True)
class PlannedPoint:
    """A cachePoint of a request, or a place where one could be.

    Attributes:
        section: ``"tools"``, ``"system"`` or ``"messages"``.
        message: The index of the message; None outside of messages.
        position: The index of the point in its list.
        ttl: ``"5m"`` or ``"1h"``.
        reason: Why it is there, or is not.
        given: Whether it is the caller's own.
    """

    section: str
    message: int | None
    position: int
    ttl: str
    reason: str
    given: bool

    def as_dict(self) -> dict[str, Any]:
        """JSON-safe; `message` only where there is one."""
        where = {} if self.message is None else {"message": self.message}
        return {"section": self.section, **where, "position": self.position, "ttl": self.ttl, "reason": self.reason}


@dataclass(frozen=True, eq=False)
class Weighing:
    """What was weighed, and with what result.

    Attributes:
        models: The base models that can answer; lists in `candidates` have their order.
        rules: What the models allow, and their prices.
        shelf: What was remembered of the target.
        openings: Where points can stand.
        candidates: The places that were weighed, shallowest first.
        chosen: The indices of those that have a point, the caller's too.
        hits: Tokens that each model was expected to read.
        saving: What our points were expected to save, in tokens.
        stake: What is paid for guesses, in tokens.
    """

    models: tuple[str, ...]
    rules: CacheRules
    shelf: Shelf
    openings: Openings
    candidates: list[Candidate]
    chosen: list[int]
    hits: list[float]
    saving: float
    stake: float

    @property
    def digests(self) -> list[int]:
        """The prefixes that the points end."""
        return [self.candidates[number].place.digest for number in self.chosen]


@dataclass(eq=False)
class Draft:
    """A plan for one request.

    Attributes:
        request: The request to send.
        without: The same with the caller's points only.
        at: When it was made.
        prefix: The request as a prefix; None where it is no Converse request.
        points: All points of `request`, in the order of the prefix.
        why_none: Why nothing was weighed; None where something was.
        calibration: How estimates of its tokens are off.
        weighing: What was weighed.
    """

    request: dict[str, Any]
    without: dict[str, Any]
    at: float = 0.0
    prefix: Prefix | None = None
    points: tuple[PlannedPoint, ...] = ()
    why_none: str | None = None
    calibration: Calibration | None = None
    weighing: Weighing | None = None

    @property
    def has_ours(self) -> bool:
        """Whether we placed any."""
        return any(not point.given for point in self.points)

    def put_points(self) -> None:
        """Put the chosen points into a new request; what is in the blocks is shared."""
        weighing = self.weighing
        chosen = [weighing.candidates[number] for number in weighing.chosen] if weighing is not None else []
        ours = [candidate for candidate in chosen if not candidate.given]
        if not ours:
            self.take_out_ours()
            return
        request = dict(self.without)
        config, messages = request.get("toolConfig"), list(request.get("messages") or ())
        for candidate in reversed(ours):  # from the back, so that the indices of those before stay right
            place, point = candidate.place, as_point(candidate.ttl)
            if place.section == "tools" and config is not None:
                config = {**config, "tools": _with_point(config["tools"], place.index, point)}
            elif place.section == "system":
                request["system"] = _with_point(request["system"], place.index, point)
            elif place.message is not None:
                message = messages[place.message]
                messages[place.message] = {**message, "content": _with_point(message["content"], place.index, point)}
        request.update({"toolConfig": config} if config is not None else {})
        request.update({"messages": messages} if "messages" in request else {})
        self.request, self.points = request, tuple(_described(chosen))

    def take_out_ours(self) -> None:
        """Leave the caller's points only."""
        weighing = self.weighing
        if weighing is not None:
            given = [number for number in weighing.chosen if weighing.candidates[number].given]
            if len(given) < len(weighing.chosen):  # nothing is read without them
                none = [0.0] * len(weighing.models)
                self.weighing = replace(weighing, chosen=given, hits=none, saving=0.0, stake=0.0)
        self.request = self.without
        self.points = tuple(_given(self.without))


def _given(request: Mapping[str, Any]) -> Iterator[PlannedPoint]:
    """The points that are in a request."""
    for section, message, blocks in block_lists(request):
        for position, block in enumerate(blocks):
            if "cachePoint" in block:
                yield PlannedPoint(section, message, position, ttl_of(block), _GIVEN, given=True)


def _with_point(blocks: list[Any], index: int, point: dict[str, Any]) -> list[Any]:
    return [*blocks[: index + 1], point, *blocks[index + 1 :]]


def _described(chosen: list[Candidate]) -> Iterator[PlannedPoint]:
    """The points of the planned request, in its own indices."""
    inserted: dict[tuple[str, int | None], int] = {}
    for candidate in chosen:
        place, given = candidate.place, candidate.given
        where = (place.section, place.message)
        position = place.index + 1 + inserted.get(where, 0)
        if not given:
            inserted[where] = inserted.get(where, 0) + 1
        reason = _GIVEN if given else _why_placed(candidate)
        yield PlannedPoint(place.section, place.message, position, candidate.ttl, reason, given)


def _why_placed(candidate: Candidate) -> str:
    state, tokens = candidate.categories[0].state, f"{candidate.tokens:,.0f} tokens"
    if any(candidate.live):
        return f"{tokens} that should be cached, and are read here"
    if state == "again":
        return f"{tokens} that came back; expected to do so again in time: {candidate.chance:.0%}"
    return f"{tokens}, {_KNOWN[state]}; expected to come back in time: {candidate.chance:.0%}"
