"""How likely a prefix is to come back, learned from those that did and did not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bedrock_routing_integrations.models.facts import CacheRules

    from .candidates import Candidate, Place, Prefix
    from .planner import Weighing
    from .prefix_store import Record

SOON = 300.0
"""Seconds that an entry of ttl ``5m`` lasts from its last use."""
LATER = 3600.0
"""Seconds that an entry of ttl ``1h`` lasts."""


class Category(NamedTuple):
    """What prefixes are expected to have in common: those of one category share their experience.

    Attributes:
        kind: What ends the prefix: ``"tools"``, ``"system"``; in messages ``"head"`` (behind the first block of the
            last message), ``"turn"`` (before the last message), ``"block"`` (before its last block), ``"end"`` (of the
            request), ``"near"`` (as near to it as a point can stand), ``"past"`` (where an earlier request ended),
            ``"shared"`` (elsewhere, where requests part).
        state: What is known of it. ``"first"``: nothing, and of nothing before it in the messages either;
            ``"resumed"``: likewise, though the conversation has been going on; ``"continuing"``: nothing, but an
            earlier request ended within it; ``"branching"``: nothing, but it begins like an earlier one;
            ``"sibling"``: another model of the router has seen it; ``"again"``: seen before.
        slow: Whether the last gap (of it, or of the conversation that it continues) was longer than five minutes.
        often: Whether it has come back before.
    """

    kind: str
    state: str
    slow: bool = False
    often: bool = False


# (state, slow): the shares expected to come back within five minutes, and after that within an hour; and how many
# observations that is worth. A prefix of which nothing is known is as likely to come back as not: where none does,
# three are written for nothing before their price is no longer paid.
_PRIORS = {
    ("first", False): (0.50, 0.05, 2.0),
    ("resumed", False): (0.50, 0.05, 2.0),
    ("branching", False): (0.50, 0.05, 2.0),
    ("branching", True): (0.15, 0.40, 2.0),
    ("sibling", False): (0.60, 0.05, 2.0),
    ("sibling", True): (0.15, 0.45, 2.0),
    ("continuing", False): (0.75, 0.02, 3.0),
    ("continuing", True): (0.15, 0.60, 3.0),
    ("again", False): (0.75, 0.02, 2.0),
    ("again", True): (0.15, 0.60, 2.0),
}
# A prefix comes back at least as often as a longer one that begins with it.
_NEARER = {"tools": 0.03, "system": 0.025, "past": 0.015, "shared": 0.015}
NEW = frozenset(["first", "resumed", "branching", "continuing"])
"""States of what has not been seen. Of several such prefixes in the messages of one request the shortest leads."""
LEADER = "new"
"""The kind under which leaders are counted, whatever ends them: does anything of what is new come back?"""
GUESSES = NEW - {"continuing"}
"""Those of them for which nothing speaks but what others of their kind did."""
_ALIKE = {"first": "resumed", "resumed": "first"}
_ALSO = {"head": 0.97, "turn": 0.97, "block": 0.96, "near": 0.96, "end": 0.95, "shared": 0.96, "past": 0.96}
_ALSO_STRENGTH = 2.0
_OFTEN = 0.1
_PATIENT = 0.35
_MOST_TRIED = 100.0
_AWAITED = 0.25
_MOST_TALLIES = 256


class Tally:
    """How many prefixes were seen, and how many of them came back: within five minutes, and later within an hour.

    For the five minutes one counts as lost until it is back: waiting to see would cost too much. For the hour it counts
    by a quarter while it is not overdue: waiting is what the hour is for.
    """

    __slots__ = ("awaited", "slow", "soon", "tried")

    def __init__(self) -> None:
        self.tried = self.soon = self.slow = self.awaited = 0.0

    def add_trial(self) -> None:
        """Count one that was seen. Of old experience less and less is kept, so that new habits show."""
        self.tried += 1.0
        self.awaited += 1.0
        if self.tried > _MOST_TRIED:
            for name in ("tried", "soon", "slow"):
                setattr(self, name, getattr(self, name) / 2)

    def settle(self) -> None:
        """It came back, or it is overdue."""
        self.awaited = max(0.0, self.awaited - 1.0)

    def add_return(self, gap: float) -> None:
        """Count one that came back after so many seconds."""
        if gap <= SOON:
            self.soon = min(self.soon + 1.0, self.tried)
        elif gap <= LATER:
            self.slow = min(self.slow + 1.0, self.tried)

    def without(self, other: Tally | None) -> Tally:
        """What is left of it without another."""
        if other is None:
            return self
        left = Tally()
        for name in self.__slots__:
            setattr(left, name, max(0.0, getattr(self, name) - getattr(other, name)))
        return left

    def mixed(self, soon: float, slow: float, strength: float) -> tuple[float, float]:
        """What is expected, given what was expected before and how many observations that was worth."""
        awaited = min(self.awaited, self.tried)
        settled = max(self.slow, self.tried - (1.0 - _AWAITED) * awaited)
        soon = (strength * soon + self.soon) / (strength + self.tried)
        return soon, min(1.0 - soon, (strength * slow + self.slow) / (strength + settled))


Tallies = tuple[Tally, Tally]
"""Of all applications, and of one."""


def _to_the_same(chance: float, stays: float) -> float:
    """How likely a prefix is to come back to the same model sooner or later, if it comes back each time so likely."""
    return chance * stays / (1.0 - chance * (1.0 - stays))


class Habits:
    """The tallies of one target: by category, and by category and application.

    An application (the same tools and system) is judged by its own experience as far as it goes, beyond that by the
    experience of the others, and beyond that by the priors.
    """

    __slots__ = ("_all", "_own")

    def __init__(self) -> None:
        self._all: dict[Category, Tally] = {}
        self._own: dict[tuple[Category, int], Tally] = {}

    def tallies(self, category: Category, application: int) -> Tallies:
        """Where to count."""
        everyone = self._all.get(category) or self._all.setdefault(category, Tally())
        key = (category, application)
        own = self._own.pop(key, None)
        if own is None:
            while len(self._own) >= _MOST_TALLIES:
                del self._own[next(iter(self._own))]
            own = Tally()
        self._own[key] = own  # the last one: the first are those that were not asked for
        return everyone, own

    def chances(
        self, category: Category, application: int, stays: float, *, patient: bool = False
    ) -> tuple[float, float]:
        """How likely such a prefix is to come back to the same model within five minutes, and later within an hour.

        Args:
            category: What it is.
            application: Whose it is.
            stays: How likely a conversation is to stay with a model; 1 where there is but one.
            patient: Whether the caller says, by asking for entries of an hour, that it comes back within one.
        """
        soon, slow, strength = _PRIORS[category.state, category.slow]
        if patient:
            slow = max(slow, min(_PATIENT, 1.0 - soon))
        soon, slow = _to_the_same(soon, stays), _to_the_same(slow, stays)
        alike = category._replace(state=_ALIKE.get(category.state, category.state))
        if alike != category and alike in self._all:  # where the one does not come back, the other hardly does
            soon = min(soon, self._mixed(alike, application, soon, slow, strength)[0])
        nearer = _NEARER.get(category.kind, 0.0) + (_OFTEN if category.often else 0.0)
        if category.slow:
            slow = min(0.97 - soon, slow + nearer)
        else:
            soon = min(0.97, soon + nearer)
        return self._mixed(category, application, soon, min(slow, 1.0 - soon), strength)

    def also(self, category: Category, application: int) -> float:
        """How likely a prefix is to come back, where the shorter one that leads it (see `LEADER`) does."""
        soon, slow = self._mixed(category, application, _ALSO[category.kind], 0.0, _ALSO_STRENGTH)
        return soon + slow

    def _mixed(
        self, category: Category, application: int, soon: float, slow: float, strength: float
    ) -> tuple[float, float]:
        everyone, own = self._all.get(category), self._own.get((category, application))
        if everyone is None:
            return soon, slow
        if own is None or own.tried < everyone.tried:
            soon, slow = everyone.without(own).mixed(soon, slow, strength)
        return own.mixed(soon, slow, strength) if own is not None else (soon, slow)


# --- What one answer teaches ---

_SURELY = 1.3
_TURNS = 4
_LANDMARKS = 8  # places of the first message, and of the last two, that are remembered


def saved_tokens(usage: Mapping[str, Any], rules: CacheRules) -> float:
    """What caching saved in one call, in plain input tokens; negative where it cost more."""
    hour = sum(d.get("inputTokens") or 0 for d in usage.get("cacheDetails") or () if d.get("ttl") == "1h")
    prices = dict(rules.write_multipliers)
    short = (usage.get("cacheWriteInputTokens") or 0) - hour
    dearer = short * (prices["5m"] - 1.0) + hour * (prices.get("1h", prices["5m"]) - 1.0)
    return float((usage.get("cacheReadInputTokens") or 0) * (1.0 - rules.read_multiplier) - dearer)


class Lesson:
    """What the answer to one request teaches.

    Args:
        weighing: What was weighed for the request.
        prefix: The request.
        at: When it was sent.
        model: The model that answered: a base model, or what the trace said.
        usage: The answer's usage; without its cache members it says nothing about what is cached.
    """

    def __init__(self, weighing: Weighing, prefix: Prefix, at: float, model: str, usage: Mapping[str, Any]) -> None:
        self._weighing, self._prefix, self._at, self._model = weighing, prefix, at, model
        self._shelf = weighing.shelf
        self._read, self._written = usage.get("cacheReadInputTokens"), usage.get("cacheWriteInputTokens")
        self._number = weighing.models.index(model) if model in weighing.models else None
        self._hit = weighing.hits[self._number] if self._number is not None else 0.0

    def learn(self) -> None:
        """Write it down."""
        self._check_read()
        self._diagnose()
        records = self._see()
        leader: Record | None = None
        for candidate in self._weighing.candidates:
            record = records.get(candidate.at)
            if record is None:
                continue
            if self._number is not None:
                leader = self._expect(record, candidate, candidate.categories[self._number], leader)
            kind = candidate.categories[0].kind
            record.ended = record.ended or kind == "end"
            record.shared = record.shared or (kind == "shared" and not record.ended)
        self._cache(records)

    def _find(self, place: Place) -> Record | None:
        return self._shelf.find(self._model, place.digest, self._at)

    def _check_read(self) -> None:
        """Was what should have been read read?"""
        if not self._hit or self._read is None:
            return
        happened = self._read >= self._hit / 2
        self._shelf.expected_read(happened=happened)
        if happened:
            return
        for candidate in self._weighing.candidates:
            record = self._find(candidate.place)
            if record is not None and candidate.tokens > self._read * 1.1:
                record.until = 0.0

    def _diagnose(self) -> None:
        weighing, diagnosis = self._weighing, self._shelf.diagnosis
        if weighing.chosen and self._read is not None:
            # Neither read nor written, though long enough by any estimate: the points did not reach the model.
            longest = max(weighing.candidates[number].tokens for number in weighing.chosen)
            lost = not self._written and longest > _SURELY * weighing.rules.min_tokens
            diagnosis.read(expected=self._hit > 0 or lost, tokens=self._read)
            given = any(weighing.candidates[number].given for number in weighing.chosen)
            diagnosis.write(given=given, read=self._read, written=self._written or 0)
        rules = weighing.rules
        diagnosis.see_tools(
            self._prefix,
            cached=(self._read or 0) + (self._written or 0),
            reading=rules.read_multiplier,
            writing=rules.write_multiplier(rules.ttls[0]),
        )
        before = [candidate for candidate in weighing.candidates if candidate.place.section != "messages"]
        if before:
            last, least = before[-1], weighing.rules.min_tokens
            known, reaches = max(last.seen) > float("-inf"), last.tokens >= least
            if reaches or weighing.candidates[-1].tokens >= least:  # as it stands, or with what follows
                diagnosis.see(self._prefix, known=known, alone=reaches)
            if not self._read and not self._written:  # else it is cached together with what follows it
                diagnosis.see_short(self._prefix.application, last.tokens, least)

    def _see(self) -> dict[int, Record]:
        """Count what came back, remember what may come back, and forget what a conversation has left behind."""
        kept = self._worth_remembering()
        records: dict[int, Record] = {}
        for at, place in enumerate(self._prefix.places):
            record = self._find(place)
            if record is not None:
                record.came_back(self._at)
                if at not in kept and not record.shared:
                    self._shelf.drop(self._model, place.digest)
                    continue
            elif at in kept:
                record = self._shelf.add(self._model, place.digest, self._at)
            else:
                continue
            records[at] = record
        return records

    def _worth_remembering(self) -> set[int]:
        """Where requests to come may part from this one: at candidates, around its first message and its last."""
        places = self._prefix.places
        sections: dict[str, list[int]] = {"tools": [], "system": [], "messages": []}
        for at, place in enumerate(places):
            sections[place.section].append(at)
        messages = sections["messages"]
        last = (places[messages[-1]].message or 0) if messages else 0
        first = [at for at in messages if places[at].message == 0]
        latest = [at for at in messages if (places[at].message or 0) >= last - 1]
        kept = {candidate.at for candidate in self._weighing.candidates}
        kept.update(sections["tools"][-1:], sections["system"][-_LANDMARKS:])
        kept.update(first[:_LANDMARKS], latest[-_LANDMARKS:])
        # Also where the last few messages end: what an application adds for one call only (a reminder, a list of things
        # to do) is gone in the next.
        kept.update({places[at].message: at for at in messages if (places[at].message or 0) >= last - _TURNS}.values())
        return kept

    def _expect(self, record: Record, candidate: Candidate, category: Category, leader: Record | None) -> Record | None:
        """Wait for the prefix to come back; returns what leads those that are new."""
        habits, application = self._shelf.habits, self._prefix.application
        if candidate.place.section != "messages" or category.state not in NEW:
            self._shelf.expect(record, habits.tallies(category, application), self._patience(category))
            return leader
        if leader is None:
            tallies = habits.tallies(category._replace(kind=LEADER), application)
            self._shelf.expect(record, tallies, self._patience(category))
            return record
        record.tallies, record.overdue = habits.tallies(category, application), True  # counted when the leader is back
        leader.followers = (*leader.followers, record.tallies)
        return leader

    def _patience(self, category: Category) -> float:
        """Seconds after which a prefix is overdue: where gaps are long, somewhat more than the last one."""
        if not category.slow:
            return SOON
        seen = [moment for candidate in self._weighing.candidates for moment in candidate.seen]
        return min(LATER, 1.5 * max(self._at - max(seen), SOON))

    def _cache(self, records: Mapping[int, Record]) -> None:
        """What is cached now, as far as the usage tells."""
        unknown = self._read is None and self._written is None
        if not unknown and not (self._read or self._written):
            return
        for number in self._weighing.chosen:
            candidate = self._weighing.candidates[number]
            record = records.get(candidate.at)
            if record is None:
                continue
            lasts, live = LATER if candidate.ttl == "1h" else SOON, record.until > self._at
            if self._read and not live and candidate.tokens <= self._hit:
                continue  # inside of what was read nothing was written
            record.lasts = max(lasts, record.lasts) if live else lasts
            record.until = self._at + record.lasts
        for candidate in self._weighing.candidates if self._hit and (self._read or unknown) else ():
            record = records.get(candidate.at)
            if record is not None and record.until > self._at and candidate.tokens == self._hit:
                record.until = self._at + record.lasts  # reading renews
