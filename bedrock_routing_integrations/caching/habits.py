"""How likely a prefix is to come back, learned from those that did and did not."""

from __future__ import annotations

from typing import NamedTuple

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
