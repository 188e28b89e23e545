"""Of all places where a point could stand, the few that can be worth one, and what is known of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from .reuse_statistics import GUESSES, LEADER, NEW, SOON, Category
from .rules import SECTIONS, block_lists, closed, is_optimized, refusal, ttl_of, unproven
from .sizes import measure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bedrock_routing_integrations.models.candidates import ResolvedTarget
    from bedrock_routing_integrations.models.facts import CacheRules

    from .policy import CachePolicy
    from .prefix_store import Record, Shelf
    from .sizes import Calibration, Part

# So that a place where requests may part gets a point that would cost nothing, before one is seen to be missing there.
_OFTENER = 1.01
_TRIFLE = 24.0  # tokens


@dataclass(eq=False)
class Candidate:
    """A place that may be worth a point. Lists have one value for each model that can answer.

    Attributes:
        at: The index of the place in the prefix.
        place: The place.
        tokens: Tokens before it, as far as they can be estimated.
        open: Whether a point can stand there. Places where none can are watched all the same.
        categories: What it is to each model.
        live: Whether what is before it is cached now: for how long from its next use, ``"5m"`` or ``"1h"``; else None.
        soon: How likely the prefix is to come back, to the same model, within five minutes.
        later: The same, within an hour.
        seen: When each model saw it last; minus infinity for never.
        past: Whether an earlier request ended here.
        given: Whether the caller's own point stands here.
        flying: Whether a request under way writes it.
        ttl: Of the point that stands here, or would.
    """

    at: int
    place: Place
    tokens: float
    open: bool
    categories: list[Category]
    live: list[str | None]
    soon: list[float]
    later: list[float]
    seen: list[float]
    past: bool
    given: bool
    flying: bool
    ttl: str = "5m"

    @property
    def chance(self) -> float:
        """How likely the prefix is to come back in time."""
        return max(self.soon if self.ttl == "5m" else self.later)

    @property
    def is_guess(self) -> bool:
        """Whether nothing at all has been seen that speaks for it."""
        return all(category.state in GUESSES for category in self.categories)


class Openings:
    """Where points can stand in one request, and why not elsewhere."""

    def __init__(  # noqa: PLR0917 - what is known of a request comes from as many places
        self,
        request: Mapping[str, Any],
        resolved: ResolvedTarget,
        rules: CacheRules,
        policy: CachePolicy,
        refused: Sequence[str],
        calibration: Calibration,
    ) -> None:
        self._resolved, self._rules, self._calibration = resolved, rules, calibration
        optimized = is_optimized(request)
        self._answers: dict[int, str | None] = {}
        self._closed: dict[str, str | None] = {}
        for section in SECTIONS:
            why = closed(section, resolved, optimized=optimized)
            if why is None and section not in policy.sections:
                why = "the policy leaves this section out"
            if why is None and section in refused:
                why = "Bedrock refused a point there"
            self._closed[section] = why

    def why_not(self, place: Place) -> str | None:
        """Why no point can stand there; None where one can."""
        if place.number not in self._answers:
            self._answers[place.number] = self._why_not(place)
        return self._answers[place.number]

    def _why_not(self, place: Place) -> str | None:
        why = self._closed[place.section] or refusal(place.block, self._resolved)
        why = why or unproven(place.block, self._resolved)
        if why is not None:
            return why
        tokens = self._calibration.tokens(place.words, place.media)
        least, most = self._rules.min_tokens, self._rules.max_tokens
        if tokens * (1 + self._calibration.margin) < least:
            return f"about {tokens:,.0f} tokens, and nothing is cached below {least:,}"
        if most is not None and self._calibration.at_most(place.words, place.media) > most:
            return f"about {tokens:,.0f} tokens, and at most {most:,} are cached"
        return None


def find_candidates(  # noqa: PLR0917 - as above
    prefix: Prefix,
    openings: Openings,
    shelf: Shelf,
    models: tuple[str, ...],
    calibration: Calibration,
    now: float,
    *,
    patient: bool,
) -> list[Candidate]:
    """The candidates, shallowest first; `patient` as in `Habits.chances`."""
    places = prefix.places
    known = _Known(prefix, shelf, models, now)
    kinds = _kinds(prefix, openings, known)
    for at, place in enumerate(places):
        if place.ttl is not None:
            kinds.setdefault(at, "shared" if place.section == "messages" else place.section)
    reliability, leading = shelf.reliability, _Leading(shelf, prefix.application, len(models), patient=patient)
    found = []
    for at in sorted(kinds):
        place = places[at]
        records = known.records(at)
        categories = [known.category(kinds[at], at, record, records) for record in records]
        chances = [leading.chances(number, category, place.section) for number, category in enumerate(categories)]
        found.append(
            Candidate(
                at=at,
                place=place,
                tokens=calibration.tokens(place.words, place.media),
                open=place.ttl is not None or openings.why_not(place) is None,
                categories=categories,
                live=[_lasting(record, now) for record in records],
                soon=[soon * reliability for soon, _ in chances],
                later=[(soon + slow) * reliability for soon, slow in chances],
                seen=[record.seen if record is not None else float("-inf") for record in records],
                past=any(record is not None and record.ended for record in records),
                given=place.ttl is not None,
                flying=shelf.is_flying(place.digest, now),
                ttl=place.ttl or "5m",
            )
        )
    _make_monotone(found, len(models))
    _leave_out_trifles(found)
    return found


class _Leading:
    """What is expected of what is new: of the first in the messages by itself, of those that it leads along with it."""

    def __init__(self, shelf: Shelf, application: int, models: int, *, patient: bool) -> None:
        self._patient = patient
        self._habits, self._application = shelf.habits, application
        self._stays = shelf.stays if models > 1 else 1.0
        self._leader: list[tuple[float, float] | None] = [None] * models

    def chances(self, number: int, category: Category, section: str) -> tuple[float, float]:
        """Of the next place, going deeper, for a model."""
        if section != "messages" or category.state not in NEW:
            return self._chances(category)
        leader = self._leader[number]
        if leader is None:
            leader = self._chances(category._replace(kind=LEADER))
            self._leader[number] = leader
            return leader
        also = self._habits.also(category, self._application)
        return leader[0] * also, leader[1] * also

    def _chances(self, category: Category) -> tuple[float, float]:
        return self._habits.chances(category, self._application, self._stays, patient=self._patient)


def _lasting(record: Record | None, now: float) -> str | None:
    if record is None or record.until <= now:
        return None
    return "1h" if record.lasts > SOON else "5m"


class _Known:
    """What of a prefix has been seen before."""

    def __init__(self, prefix: Prefix, shelf: Shelf, models: tuple[str, ...], now: float) -> None:
        self._prefix, self._shelf, self._models, self._now = prefix, shelf, models, now
        self.deepest = next((at for at in range(len(prefix.places) - 1, -1, -1) if any(self.records(at))), -1)
        """The index of the deepest place seen by any model; -1 for none."""
        self._origin = self._state_beyond()

    def records(self, at: int) -> list[Record | None]:
        digest = self._prefix.places[at].digest
        return [self._shelf.find(model, digest, self._now) for model in self._models]

    def live(self) -> list[int]:
        """For each model, the index of the deepest place of which an entry is there."""
        found = []
        for model in self._models:
            for at in range(self.deepest, -1, -1):
                record = self._shelf.find(model, self._prefix.places[at].digest, self._now)
                if record is not None and record.until > self._now:
                    found.append(at)
                    break
        return found

    def _state_beyond(self) -> tuple[str, bool]:
        """What is known of a prefix that reaches beyond the deepest place seen."""
        if self.deepest < 0 or self._prefix.places[self.deepest].section != "messages":
            return ("resumed" if "assistant" in self._prefix.roles else "first"), False
        records = [record for record in self.records(self.deepest) if record is not None]
        state = "continuing" if any(record.ended for record in records) else "branching"
        return state, self._now - max(record.seen for record in records) > SOON

    def category(self, kind: str, at: int, record: Record | None, records: list[Record | None]) -> Category:
        """What a place is to one model, of whose record it is; `records` are those of all."""
        seen = [other.seen for other in records if other is not None]
        if not seen:
            return (
                Category(kind, "first")
                if self._prefix.places[at].section != "messages"
                else Category(kind, *self._origin)
            )
        slow = self._now - max(seen) > SOON  # the gap to whichever model: which one a router took is luck
        if record is None:
            return Category(kind, "sibling", slow)
        return Category("past" if kind == "shared" and record.ended else kind, "again", slow, record.uses > 1)


def _kinds(prefix: Prefix, openings: Openings, known: _Known) -> dict[int, str]:
    """The indices of the candidates, and what ends the prefix there."""
    places = prefix.places
    kinds: dict[int, str] = {}

    def add(at: int, kind: str) -> None:
        """The place, and where a point cannot stand there, the nearest before it in the same section."""
        kinds.setdefault(at, kind)
        section = places[at].section
        while at >= 0 and places[at].section == section:
            if openings.why_not(places[at]) is None:
                kinds.setdefault(at, "near" if kind == "end" else kind)
                return
            at -= 1

    ends = {place.section: at for at, place in enumerate(places)}
    for start, kind in _new_places(places, known.deepest):
        add(start, kind)
    for start in (known.deepest, *known.live()):
        if start >= 0:
            section = places[start].section
            add(start, "shared" if section == "messages" else section)
    for section in ("tools", "system"):
        start = ends.get(section, -1)
        if start >= 0:
            add(start, section)
    return kinds


def _new_places(places: list[Place], deepest: int) -> list[tuple[int, str]]:
    """Of what no model has seen: the end of the request, and where the next one may well part from it."""
    last = len(places) - 1
    if last < 0 or places[last].section != "messages":
        return []
    found = [(last, "end")]
    message = places[last].message
    first = last
    while first > 0 and places[first - 1].message == message and places[first - 1].section == "messages":
        first -= 1
    if last - 1 >= first:
        found.append((last - 1, "block"))
        found.append((first, "head"))
    if first > 0 and places[first - 1].section == "messages":
        found.append((first - 1, "turn"))
    return [(at, kind) for at, kind in found if at > deepest or kind == "end"]


def last_model(candidates: Sequence[Candidate]) -> int | None:
    """The index of the model that answered the conversation's last request; None where none is known."""
    continued = [candidate.seen for candidate in candidates if candidate.past]
    return continued[-1].index(max(continued[-1])) if continued else None


def _leave_out_trifles(candidates: list[Candidate]) -> None:
    """No point for a handful of tokens behind another place: it would use up one of four."""
    before = float("-inf")
    for candidate in candidates:
        if not candidate.open:
            continue
        if candidate.tokens - before < _TRIFLE and not candidate.given and not any(candidate.live):
            candidate.open = False
        else:
            before = candidate.tokens


def _make_monotone(candidates: list[Candidate], models: int) -> None:
    """A prefix comes back somewhat more often than a longer one that begins with it."""
    for number in range(models):
        soon = later = 0.0
        for candidate in reversed(candidates):
            soon = candidate.soon[number] = max(min(1.0, soon * _OFTENER), candidate.soon[number])
            later = candidate.later[number] = max(min(1.0, later * _OFTENER), candidate.later[number])


# --- A Converse request as the prefix that Bedrock caches ---

# Of additionalModelRequestFields: what changes how the prompt is rendered. A change of it breaks the prefix; sampling
# parameters do not (AWS user guide, prompt caching; names differ by model: thinking, reasoning_config …).
_RENDERED = ("think", "reason", "effort", "output", "beta", "tool")


@dataclass(eq=False)
class Place:
    """Behind one block: a place where a cachePoint could stand.

    Attributes:
        section: ``"tools"``, ``"system"`` or ``"messages"``.
        message: The index of the message; None outside of messages.
        index: The index of the block in its list.
        number: How many blocks of the whole prefix are before the place.
        words: Tokens of text before it, estimated, before calibration.
        media: Tokens of media before it, likewise.
        block: The block that it is behind.
        data: What identifies that block.
        ttl: How long the caller's own point that stands here lasts; None where there is none.
        digest: Identifies the whole prefix; 0 until it is asked for.
    """

    section: str
    message: int | None
    index: int
    number: int
    words: float
    media: float
    block: Mapping[str, Any]
    data: bytes
    ttl: str | None = None
    digest: int = 0


@dataclass(eq=False)
class Prefix:
    """The places of a request, in the order of the prefix, and what the request has besides blocks.

    Attributes:
        places: Every place, shallowest first.
        roles: The role of each message.
        application: What tells applications apart, which have habits of their own: a digest of tools and system.
    """

    places: list[Place]
    roles: list[str]
    seed: bytes
    choice: bytes
    application: int = field(default=0)

    @property
    def words(self) -> float:
        """Tokens of text, estimated."""
        return self.places[-1].words if self.places else 0.0

    @property
    def media(self) -> float:
        """Tokens of media, estimated."""
        return self.places[-1].media if self.places else 0.0

    def identify(self) -> None:
        """Fill in every place's digest. The costly part of a plan, so it is left until it is needed."""
        running = sha256(self.seed)
        message: int | None = None
        in_messages = False
        for place in self.places:
            if place.section == "messages":
                if not in_messages:
                    self.application = int.from_bytes(running.digest()[:8], "big")
                    in_messages = True
                    running.update(self.choice)  # another toolChoice breaks the messages only
                if place.message != message:
                    message = place.message
                    running.update(b"\x1e" + self.roles[message or 0].encode())
            # With its length: no text can pass for two blocks.
            running.update(f"{place.section}:{next(iter(place.block), '')}:{len(place.data)}:".encode())
            running.update(place.data)
            place.digest = int.from_bytes(running.copy().digest()[:8], "big")


def read_prefix(request: Mapping[str, Any]) -> Prefix:
    """Measure a Converse request; cachePoints in it count as marks on the places before them."""
    places: list[Place] = []
    words = media = 0.0
    for section, message, blocks in block_lists(request):
        for index, block in enumerate(blocks):
            if "cachePoint" in block:
                if index and places:
                    places[-1].ttl = ttl_of(block)
                continue
            part: Part = measure(block)
            words += part[2]
            media += part[3]
            places.append(Place(section, message, index, len(places) + 1, words, media, block, part[1]))
    fields = request.get("additionalModelRequestFields") or {}
    rendered = {name: v for name, v in fields.items() if any(word in name.lower() for word in _RENDERED)}
    latency = (request.get("performanceConfig") or {}).get("latency")
    seed = [rendered, request.get("outputConfig"), latency if latency != "standard" else None]
    choice = (request.get("toolConfig") or {}).get("toolChoice")
    return Prefix(
        places=places,
        roles=[message.get("role", "") for message in request.get("messages") or ()],
        seed=json.dumps(seed, default=repr).encode(),
        choice=json.dumps(choice, default=repr).encode() if choice not in (None, {"auto": {}}) else b"",
    )
