"""Quantiles of how long calls took, in a memory that does not grow with the number of calls."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

# Each bucket is 2% wide, so that its middle is within 1% of everything in it.
_GROWTH = math.log(1.02)
_LONGEST = 10**9


class Durations:
    """Milliseconds, counted in buckets. Sums of two of them are exact, whatever the order of what was added."""

    __slots__ = ("_buckets", "_least", "_most")

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self._least, self._most = math.inf, 0.0

    def add(self, milliseconds: float) -> None:
        """Count one; what is below one millisecond counts as none."""
        value = 0 if milliseconds < 1 else min(milliseconds, _LONGEST)
        self._buckets[round(math.log(value) / _GROWTH) if value else -1] += 1
        self._least, self._most = min(self._least, value), max(self._most, value)

    def merge(self, other: Durations) -> None:
        """Count what another one has."""
        self._buckets.update(other._buckets)
        self._least, self._most = min(self._least, other._least), max(self._most, other._most)

    def quantile(self, share: float) -> int | None:
        """The least duration that so large a share of calls did not exceed, within 1% and half a millisecond.

        None without calls. Exact where all took as long.
        """
        rank = math.ceil(share * self._buckets.total()) if self._buckets else 0
        for bucket in sorted(self._buckets):
            rank -= self._buckets[bucket]
            if rank <= 0:
                middle = 0 if bucket < 0 else math.exp(bucket * _GROWTH)
                return round(min(max(middle, self._least), self._most))
        return None

    def as_dict(self) -> dict[str, Any]:
        """The median, the 95th percentile, and of how many."""
        return {"p50": self.quantile(0.5), "p95": self.quantile(0.95), "calls": self._buckets.total()}
