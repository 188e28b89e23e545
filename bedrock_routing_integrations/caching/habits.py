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
            request), ``"past"`` (where an earlier request ended), ``"shared"`` (elsewhere, where requests part).
        state: What is known of it. ``"first"``: nothing, and of nothing before it in the messages either;
            ``"continuing"``: nothing, but an earlier request ended within it; ``"branching"``: nothing, but it begins
            like an earlier one; ``"sibling"``: another model of the router has seen it; ``"again"``: seen before.
        slow: Whether the last gap (of it, or of the conversation that it continues) was longer than five minutes.
        often: Whether it has come back before.
    """

    kind: str
    state: str
    slow: bool = False
    often: bool = False


# (state, slow): expected share that comes back within five minutes, within an hour, and how many observations that is
# worth. A prefix of which nothing is known is as likely to come back as not: where none does, three are written for
# nothing before their price is no longer paid.
_PRIORS = {
    ("first", False): (0.50, 0.55, 2.0),
    ("branching", False): (0.50, 0.55, 2.0),
    ("branching", True): (0.15, 0.55, 2.0),
    ("sibling", False): (0.60, 0.65, 2.0),
    ("sibling", True): (0.15, 0.60, 2.0),
    ("continuing", False): (0.75, 0.80, 4.0),
    ("continuing", True): (0.15, 0.75, 4.0),
    ("again", False): (0.75, 0.80, 4.0),
    ("again", True): (0.15, 0.75, 4.0),
}
# A prefix comes back at least as often as a longer one that begins with it.
_NEARER = {"tools": 0.03, "system": 0.025, "head": 0.02, "turn": 0.015, "shared": 0.015, "past": 0.015, "block": 0.01}
_OFTEN = 0.1
_MOST_TRIED = 100.0
_MOST_TALLIES = 4_096


class Tally:
    """How many prefixes were seen, and how many of them came back: within five minutes, within an hour."""

    __slots__ = ("later", "soon", "tried")

    def __init__(self) -> None:
        self.tried = self.soon = self.later = 0.0

    def add_trial(self) -> None:
        """Count one that was seen. Of old experience less and less is kept, so that new habits show."""
        self.tried += 1.0
        if self.tried > _MOST_TRIED:
            self.tried, self.soon, self.later = self.tried / 2, self.soon / 2, self.later / 2

    def add_return(self, gap: float) -> None:
        """Count one that came back after so many seconds."""
        if gap <= LATER:
            self.later = min(self.later + 1.0, self.tried)
            if gap <= SOON:
                self.soon = min(self.soon + 1.0, self.tried)


Tallies = tuple[Tally, Tally]
"""Of all applications, and of one."""


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
        own = self._own.get(key)
        if own is None:
            while len(self._own) >= _MOST_TALLIES:
                del self._own[next(iter(self._own))]
            own = self._own[key] = Tally()
        return everyone, own

    def chances(self, category: Category, application: int) -> tuple[float, float]:
        """How likely it is that such a prefix comes back within five minutes, and within an hour."""
        soon, later, strength = _PRIORS[category.state, category.slow]
        nearer = _NEARER.get(category.kind, 0.0) + (_OFTEN if category.often else 0.0)
        soon, later = min(0.97, soon + (0.0 if category.slow else nearer)), min(0.97, later + nearer)
        everyone, own = self._all.get(category), self._own.get((category, application))
        if everyone is None:
            return soon, later
        tried, came_soon, came_later = (own.tried, own.soon, own.later) if own is not None else (0.0, 0.0, 0.0)
        others = strength + max(0.0, everyone.tried - tried)
        soon = (strength * soon + max(0.0, everyone.soon - came_soon)) / others
        later = (strength * later + max(0.0, everyone.later - came_later)) / others
        soon = (strength * soon + came_soon) / (strength + tried)
        later = (strength * later + came_later) / (strength + tried)
        return min(soon, 1.0), min(max(soon, later), 1.0)
