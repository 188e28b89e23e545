"""Sums over time, in so many stretches however long it takes."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from .tally import Money

if TYPE_CHECKING:
    from .tally import Call

DAY = "day"
"""The label whose values are days in UTC (2026-11-20), shown in order of time; ``"day,team"`` has days and a key."""

MOST = 240
# The first second that a datetime knows; a stretch may begin before it.
_FIRST = int(datetime.min.replace(tzinfo=timezone.utc).timestamp())
# Each divides the next, so that stretches can be put together exactly; from there on they double.
_SECONDS = [1, 5, 15, 60, 300, 900, 3_600, 21_600, 86_400, 604_800]


def is_by_day(label: str) -> bool:
    """Return whether the values of a label begin with a day."""
    return label.partition(",")[0] == DAY


class _Stretch:
    __slots__ = ("caching", "calls", "cost", "routing")

    def __init__(self) -> None:
        self.calls = 0
        self.cost, self.routing, self.caching = Money(), Money(), Money()

    def merge(self, other: _Stretch) -> None:
        self.calls += other.calls
        self.cost.merge(other.cost)
        self.routing.merge(other.routing)
        self.caching.merge(other.caching)


class Timeline:
    """What calls came to in each stretch of time. What it says does not depend on the order of what was added."""

    def __init__(self) -> None:
        self._seconds = _SECONDS[0]
        self._stretches: dict[int, _Stretch] = {}
        self.since: datetime | None = None
        self.until: datetime | None = None

    def add(self, call: Call, when: datetime) -> None:
        """Count a call."""
        self.extend(when, when)
        stretch = self._stretches.setdefault(int(when.timestamp() // self._seconds), _Stretch())
        stretch.calls += 1
        stretch.cost.add(call.cost)
        if call.is_routed:
            stretch.routing.add(call.saved_by_routing)
        if call.is_cached:
            stretch.caching.add(call.saved_by_caching)

    def merge(self, other: Timeline) -> None:
        """Count what another one has."""
        if other.since is None or other.until is None:
            return
        while self._seconds < other._seconds:
            self._widen()
        self.extend(other.since, other.until)
        for start, stretch in other._stretches.items():
            mine = start * other._seconds // self._seconds
            self._stretches.setdefault(mine, _Stretch()).merge(stretch)

    def as_list(self) -> list[dict[str, Any]]:
        """The stretches in which something was, oldest first."""
        return [
            {
                "start": datetime.fromtimestamp(max(start * self._seconds, _FIRST), timezone.utc).isoformat(),
                "seconds": self._seconds,
                "calls": stretch.calls,
                "cost_usd": stretch.cost.usd,
                "saved_by_routing_usd": stretch.routing.usd,
                "saved_by_caching_usd": stretch.caching.usd,
            }
            for start, stretch in sorted(self._stretches.items())
        ]

    def extend(self, first: datetime, last: datetime) -> None:
        """Something was from `first` to `last`."""
        self.since = first if self.since is None or first < self.since else self.since
        self.until = last if self.until is None or last > self.until else self.until
        while self.until.timestamp() // self._seconds - self.since.timestamp() // self._seconds >= MOST:
            self._widen()

    def _widen(self) -> None:
        wider = next((each for each in _SECONDS if each > self._seconds), self._seconds * 2)
        stretches, self._stretches = self._stretches, {}
        for start, stretch in stretches.items():
            self._stretches.setdefault(start * self._seconds // wider, _Stretch()).merge(stretch)
        self._seconds = wider
