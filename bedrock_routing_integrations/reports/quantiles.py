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

    __slots__ = ("_buckets",)

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()

    def add(self, milliseconds: float) -> None:
        """Count one; what is below one millisecond counts as none."""
        below = milliseconds < 1
        self._buckets[-1 if below else round(math.log(min(milliseconds, _LONGEST)) / _GROWTH)] += 1

    def merge(self, other: Durations) -> None:
        """Count what another one has."""
        self._buckets.update(other._buckets)

    def quantile(self, share: float) -> int | None:
        """The least duration that so large a share of calls did not exceed, within 1% and half a millisecond.

        None without calls.
        """
        rank = math.ceil(share * self._buckets.total()) if self._buckets else 0
        for bucket in sorted(self._buckets):
            rank -= self._buckets[bucket]
            if rank <= 0:
                return 0 if bucket < 0 else round(math.exp(bucket * _GROWTH))
        return None

    def as_dict(self) -> dict[str, Any]:
        """The median, the 95th percentile, and of how many."""
        return {"p50": self.quantile(0.5), "p95": self.quantile(0.95), "calls": self._buckets.total()}
