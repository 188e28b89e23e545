"""The planner: a Converse request → the same with the cachePoints that are expected to save; and what came of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.logs import logger, warn_once

from .candidates import Openings, find_candidates
from .choosing import Choice
from .habits import LATER, LEADER, NEW, SOON
from .memory import PrefixMemory
from .points import repair_points
from .prefix import read_prefix
from .rules import as_point, most_points, unplannable

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from bedrock_routing_integrations.catalog import CacheRules
    from bedrock_routing_integrations.resolution import ResolvedTarget

    from .candidates import Candidate
    from .habits import Category, Tallies
    from .memory import Record, Shelf
    from .policy import CachePolicy
    from .prefix import Place, Prefix
    from .sizes import Calibration

# seen 2025-26 in refusals: "cache point", "cachePoint", "cache_control", "prompt caching", "available to cache"
_ABOUT_CACHING = re.compile(r"cach", re.IGNORECASE)
_ABOUT_TTL = re.compile(r"\bttl\b", re.IGNORECASE)
_SECTION_NAMES = {"tools": re.compile(r"\btool", re.I), "system": re.compile(r"\bsystem\b", re.I),
                  "messages": re.compile(r"\bmessages?\b", re.I)}  # fmt: skip
_REFUSALS = frozenset(["ValidationException", "AccessDeniedException"])
_WATCHED = 0.25
_LANDMARKS = 8  # places of the first message, and of the last two, that are remembered


@dataclass(frozen=True)
class PlannedPoint:
    """A cachePoint of a request.

    Attributes:
        section: ``"tools"``, ``"system"`` or ``"messages"``.
        message: The index of the message; None outside of messages.
        position: The index of the point in its list.
        ttl: ``"5m"`` or ``"1h"``.
        reason: Why it is there.
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


@dataclass(eq=False)
class Draft:
    """A plan, and what it was made of: kept from sending until the answer is there.

    Attributes:
        request: The request to send.
        without: The request with the caller's points only.
        points: All points of `request`, in the order of the prefix.
        why_none: Why nothing could be weighed; None where it was.
    """

    request: dict[str, Any]
    without: dict[str, Any]
    points: tuple[PlannedPoint, ...] = ()
    why_none: str | None = None
    at: float = 0.0
    prefix: Prefix | None = None
    models: tuple[str, ...] = ()
    candidates: list[Candidate] = field(default_factory=list)
    chosen: list[int] = field(default_factory=list)
    hits: list[float] = field(default_factory=list)
    saving: float = 0.0
    stake: float = 0.0
    rules: CacheRules | None = None
    identified: bool = False
    openings: Openings | None = None
    calibration: Calibration | None = None
    shelf: Shelf | None = None

    @property
    def has_ours(self) -> bool:
        """Whether we placed any."""
        return any(not point.given for point in self.points)

    def take_out_ours(self) -> None:
        """Go back to the caller's points."""
        self.request = self.without
        self.chosen = [number for number in self.chosen if self.candidates[number].given]
        self.points = tuple(_given_points(self.prefix)) if self.prefix is not None else ()


class Planner:
    """Plans the points of one client's requests, and learns from the answers. Safe under threads.

    Args:
        policy: What may be done.
        memory: Where what was seen is remembered.
        clock: Seconds, only ever rising.
    """

    def __init__(self, policy: CachePolicy, memory: PrefixMemory | None, clock: Callable[[], float]) -> None:
        self._policy = policy
        self._memory = memory
        self._clock = clock

    # --- before ---

    def plan(self, request: Mapping[str, Any], resolved: ResolvedTarget, scope: Hashable) -> Draft:
        """The plan for a request. Remembers nothing yet: see `sent` and `answered`.

        Args:
            request: A Converse request; not changed.
            resolved: The target.
            scope: What tells targets apart in the memory.
        """
        try:
            repaired = repair_points(request, resolved)
            prefix = read_prefix(repaired)
        except (AttributeError, KeyError, TypeError, ValueError):  # no Converse request: boto3 says best what is wrong
            return Draft(dict(request), dict(request), why_none="it is no Converse request")
        draft = Draft(repaired, repaired, prefix=prefix, at=self._clock())
        draft.why_none = self._why_none(repaired, resolved)
        if draft.why_none is None:
            self._weigh(draft, resolved, scope)
        if not draft.identified:
            draft.points = tuple(_given_points(prefix))
        return draft

    def _why_none(self, request: Mapping[str, Any], resolved: ResolvedTarget) -> str | None:
        if self._policy.max_points == 0:
            return "caching is off"
        return unplannable(request, resolved)

    def _weigh(self, draft: Draft, resolved: ResolvedTarget, scope: Hashable) -> None:
        rules, prefix = resolved.facts.cache, draft.prefix
        memory = self._memory if self._memory is not None else PrefixMemory(max_prefixes=1)
        if rules is None or prefix is None or not prefix.places:
            return
        draft.models, draft.rules = resolved.base_models, rules
        calibration = draft.calibration = memory.calibration(resolved.facts.family or resolved.facts.provider)
        tokens = calibration.tokens(prefix.words, prefix.media)
        # Somewhat shorter ones are remembered, too: a conversation that will be long enough began there.
        if tokens * (1 + calibration.margin) < rules.min_tokens * _WATCHED:
            draft.why_none = f"about {tokens:,.0f} tokens, and nothing is cached below {rules.min_tokens:,}"
            return
        prefix.identify()
        draft.identified = True
        with memory.lock:
            shelf = draft.shelf = memory.shelf(scope)
            shelf.give_up_overdue(draft.at)
            refused = [name for name in ("tools", "system", "messages") if shelf.is_refused(name, draft.at)]
            draft.openings = Openings(draft.request, resolved, rules, self._policy, refused, calibration)
            draft.candidates = find_candidates(prefix, draft.openings, shelf, draft.models, calibration, draft.at)
            choice = Choice(draft.candidates, shelf.shares(draft.models, _answered_before(draft)), rules)
            budget = shelf.account.budget(tokens)
            ttl = "5m" if shelf.is_refused("1h", draft.at) else self._policy.ttl
        given = sum(place.ttl is not None for place in prefix.places)
        room = min(self._policy.max_points, most_points(resolved)) - given
        chosen = choice.choose(room, ttl, self._policy.min_saving, budget)
        draft.chosen, draft.saving, draft.stake = chosen.points, chosen.saving, chosen.stake
        for candidate, lasts in zip(draft.candidates, chosen.ttls, strict=True):
            candidate.ttl = candidate.place.ttl or lasts
        draft.hits = choice.hits(draft.chosen)
        _insert(draft)

    # --- after ---

    def sent(self, draft: Draft) -> None:
        """The request is on its way."""
        if draft.shelf is not None and self._memory is not None and draft.has_ours:
            with self._memory.lock:
                draft.shelf.account.stake(draft, draft.stake, draft.at)
                if len(draft.models) == 1:
                    draft.shelf.take_off(_digests(draft), draft.at)

    def failed(self, draft: Draft) -> None:
        """There will be no answer."""
        if draft.shelf is not None and self._memory is not None:
            with self._memory.lock:
                draft.shelf.account.settle(draft)
                draft.shelf.land(_digests(draft))

    def refused(self, draft: Draft, code: str, message: str, scope: Hashable, target: str) -> bool:
        """Whether Bedrock refused the request for points of ours; then they are taken out, which is remembered.

        Args:
            draft: What was sent.
            code: The error's code.
            message: The error's message.
            scope: As in `plan`.
            target: The target, for the warning.
        """
        if not draft.has_ours or code not in _REFUSALS or not _ABOUT_CACHING.search(message):
            return False
        ours = [point for point in draft.points if not point.given]
        if _ABOUT_TTL.search(message) and any(point.ttl == "1h" for point in ours):
            what = ["1h"]
        else:
            sections = list(dict.fromkeys(point.section for point in ours))
            named = [name for name in sections if _SECTION_NAMES[name].search(message)]
            what = named if len(named) == 1 else sections
        if self._memory is not None:
            with self._memory.lock:
                for name in what:
                    self._memory.shelf(scope).refuse(name, draft.at)
        warn_once(
            ("cachePoint refused", target, *what),
            f"Bedrock refused a cachePoint that was placed automatically ({', '.join(what)}) for {target}: {code}. The "
            "request is sent again without ours, and none is placed there for a day. cache='off' places none at all.",
        )
        logger.debug("Refused for a cachePoint: %s", message)
        draft.take_out_ours()
        return True

    def answered(self, draft: Draft, model: str | None, usage: Mapping[str, Any] | None) -> None:
        """Learn from an answer.

        Args:
            draft: What was sent.
            model: The base model that answered, or the id that the trace gave; None where it is not known.
            usage: The ``usage`` member of the answer.
        """
        prefix, memory = draft.prefix, self._memory
        if prefix is None or memory is None or draft.calibration is None:
            return
        usage = usage or {}
        read, written = usage.get("cacheReadInputTokens"), usage.get("cacheWriteInputTokens")
        with memory.lock:
            counted = (usage.get("inputTokens") or 0) + (read or 0) + (written or 0)
            draft.calibration.learn(prefix.words, prefix.media, counted)
            if draft.shelf is None:
                return
            draft.shelf.land(_digests(draft))
            draft.shelf.account.settle(draft)
            if draft.rules is not None:
                draft.shelf.account.pay(counted, _saved(usage, draft.rules))
            model = model or draft.models[0]
            draft.shelf.answered(model, _same_as_before(draft, model))
            _Lesson(draft, draft.shelf, model, read, written).learn()


class _Lesson:
    """What one answer teaches of the prefix of its request."""

    def __init__(self, draft: Draft, shelf: Shelf, model: str, read: int | None, written: int | None) -> None:
        self._draft, self._shelf, self._model = draft, shelf, model
        self._read, self._written = read, written
        self._number = draft.models.index(model) if model in draft.models else None
        seen = [moment for candidate in draft.candidates for moment in candidate.seen if moment > float("-inf")]
        self._gap = draft.at - max(seen, default=draft.at)

    def learn(self) -> None:
        draft, prefix = self._draft, self._draft.prefix
        if prefix is None:
            return
        self._check_read()
        records = self._see(prefix.places)
        candidates = {candidate.at: candidate for candidate in draft.candidates}
        leader: Record | None = None
        for at, candidate in candidates.items():
            record = records.get(at)
            if record is None:
                continue
            if self._number is not None:
                leader = self._expect(record, candidate, prefix.application, leader)
            kind = candidate.categories[0].kind
            record.ended = record.ended or kind == "end"
            record.shared = record.shared or (kind == "shared" and not record.ended)
        self._cache(candidates, records)

    def _check_read(self) -> None:
        """Was what should have been read read?"""
        expected = self._draft.hits[self._number] if self._number is not None and self._draft.hits else 0.0
        if expected and self._read is not None:
            happened = self._read >= expected / 2
            self._shelf.expected_read(happened)
            if not happened:
                for candidate in self._draft.candidates:
                    record = self._find(candidate.place)
                    if record is not None and candidate.tokens > self._read * 1.1:
                        record.until = 0.0

    def _expect(self, record: Record, candidate: Candidate, application: int, leader: Record | None) -> Record | None:
        """Wait for the prefix to come back; returns what leads those that are new."""
        category = candidate.categories[self._number or 0]
        habits = self._shelf.habits
        if candidate.place.section != "messages" or category.state not in NEW:
            tallies = habits.tallies(category, application)
            self._shelf.expect(record, tallies, self._patience(category, tallies))
            return leader
        if leader is None:
            tallies = habits.tallies(category._replace(kind=LEADER), application)
            self._shelf.expect(record, tallies, self._patience(category, tallies))
            return record
        record.tallies, record.overdue = habits.tallies(category, application), True  # counted when the leader is back
        leader.followers = (*leader.followers, record.tallies)
        return leader

    def _patience(self, category: Category, tallies: Tallies) -> float:
        """Seconds after which a prefix is overdue."""
        if category.slow:  # somewhat more than the last gap
            return min(LATER, 1.5 * max(self._gap, SOON))
        return min(SOON, 3.0 * tallies[0].gap)

    def _find(self, place: Place) -> Record | None:
        return self._shelf.find(self._model, place.digest, self._draft.at)

    def _see(self, places: list[Place]) -> dict[int, Record]:
        """Count what came back, remember what may come back, and forget what a conversation has left behind."""
        draft = self._draft
        kept = _worth_remembering(places, {candidate.at for candidate in draft.candidates})
        records: dict[int, Record] = {}
        for at, place in enumerate(places):
            record = self._find(place)
            if record is not None:
                record.came_back(draft.at)
                if at not in kept and not record.shared:
                    self._shelf.drop(self._model, place.digest)
                    continue
            elif at in kept:
                record = self._shelf.add(self._model, place.digest, draft.at)
            else:
                continue
            records[at] = record
        return records

    def _cache(self, candidates: dict[int, Candidate], records: dict[int, Record]) -> None:
        """What is cached now, as far as the usage tells."""
        draft = self._draft
        sent = [draft.candidates[number] for number in draft.chosen]
        unknown = self._read is None and self._written is None
        cached = (self._read or 0) + (self._written or 0)
        if not unknown and not cached:
            return
        for candidate in sent:
            record = records.get(candidate.at)
            if record is None:
                continue
            lasts = LATER if candidate.ttl == "1h" else SOON
            record.lasts = max(lasts, record.lasts) if record.until > draft.at else lasts
            record.until = draft.at + record.lasts
        # Reading renews what was read.
        hit = self._draft.hits[self._number] if self._number is not None and draft.hits else 0.0
        if self._read or (unknown and hit):
            for at, candidate in candidates.items():
                record = records.get(at)
                if record is not None and record.until > draft.at and candidate.tokens == hit:
                    record.until = draft.at + record.lasts


def _worth_remembering(places: list[Place], candidates: set[int]) -> set[int]:
    """Where requests to come may part from this one: where it has candidates, around its first message and its last."""
    kept = set(candidates)
    messages = [at for at, place in enumerate(places) if place.section == "messages"]
    last = places[messages[-1]].message if messages else None
    first = [at for at in messages if places[at].message == 0]
    latest = [at for at in messages if last is not None and (places[at].message or 0) >= last - 1]
    kept.update(first[:_LANDMARKS], latest[-_LANDMARKS:])
    system = [at for at, place in enumerate(places) if place.section == "system"]
    tools = [at for at, place in enumerate(places) if place.section == "tools"]
    kept.update(system[-_LANDMARKS:], tools[-1:])
    return kept


def _saved(usage: Mapping[str, Any], rules: CacheRules) -> float:
    """What caching saved in one call, in plain input tokens; negative where it cost more."""
    hour = sum(d.get("inputTokens") or 0 for d in usage.get("cacheDetails") or () if d.get("ttl") == "1h")
    prices = dict(rules.write_multipliers)
    written = (usage.get("cacheWriteInputTokens") or 0) - hour
    dearer = written * (prices["5m"] - 1.0) + hour * (prices.get("1h", prices["5m"]) - 1.0)
    return float((usage.get("cacheReadInputTokens") or 0) * (1.0 - rules.read_multiplier) - dearer)


def _answered_before(draft: Draft) -> int | None:
    """The model that answered the conversation's last request: its index."""
    continued = [candidate.seen for candidate in draft.candidates if candidate.past]
    return continued[-1].index(max(continued[-1])) if continued else None


def _same_as_before(draft: Draft, model: str) -> bool | None:
    before = _answered_before(draft)
    return None if before is None or len(draft.models) < 2 else draft.models[before] == model


def _digests(draft: Draft) -> list[int]:
    return [draft.candidates[number].place.digest for number in draft.chosen]


def _given_points(prefix: Prefix) -> list[PlannedPoint]:
    return [
        PlannedPoint(place.section, place.message, place.index + 1, place.ttl, _GIVEN, given=True)
        for place in prefix.places
        if place.ttl is not None
    ]


_GIVEN = "the caller's own"


def _insert(draft: Draft) -> None:
    """Put the chosen points into a new request; what is in the blocks is shared."""
    ours = [draft.candidates[number] for number in draft.chosen if not draft.candidates[number].given]
    request = dict(draft.without)
    if ours:
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
    draft.request = request
    draft.points = tuple(_described(draft))


def _with_point(blocks: list[Any], index: int, point: dict[str, Any]) -> list[Any]:
    return [*blocks[: index + 1], point, *blocks[index + 1 :]]


def _described(draft: Draft) -> list[PlannedPoint]:
    """The points of the planned request, in its own indices."""
    found: list[PlannedPoint] = []
    inserted: dict[tuple[str, int | None], int] = {}
    for number in draft.chosen:
        candidate = draft.candidates[number]
        place = candidate.place
        where = (place.section, place.message)
        position = place.index + 1 + inserted.get(where, 0)
        if not candidate.given:
            inserted[where] = inserted.get(where, 0) + 1
        reason = _GIVEN if candidate.given else why_placed(candidate)
        found.append(PlannedPoint(place.section, place.message, position, candidate.ttl, reason, candidate.given))
    return found


def why_placed(candidate: Candidate) -> str:
    """Why a point is placed, in a line."""
    what = candidate.categories[0]
    chance = max(candidate.soon if candidate.ttl == "5m" else candidate.later)
    tokens = f"{candidate.tokens:,.0f} tokens"
    if any(candidate.live):
        return f"{tokens} are cached and read here"
    if what.state == "again":
        return f"{tokens} that came back, and come back again in {chance:.0%} of such cases"
    known = {
        "first": "new",
        "resumed": "new",
        "continuing": "the continuation of an earlier request",
        "branching": "new behind a beginning that is known",
        "sibling": "known to another model of the router",
    }[what.state]
    return f"{tokens}, {known}: {chance:.0%} of such prefixes are expected to come back in time"
