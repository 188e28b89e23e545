"""Quantiles of how long calls took, in a memory that does not grow with the number of calls."""

from __future__ import annotations

import itertools
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

        None without calls. Exact where it is the shortest or the longest one.
        """
        calls = self._buckets.total()
        if not calls:
            return None
        rank = math.ceil(share * calls)
        if rank in (1, calls):
            return round(self._least if rank == 1 else self._most)
        buckets = sorted(self._buckets)
        ranks = itertools.accumulate(self._buckets[bucket] for bucket in buckets)
        found = next(bucket for bucket, last in zip(buckets, ranks, strict=True) if last >= rank)
        middle = 0 if found < 0 else math.exp(found * _GROWTH)
        return round(min(max(middle, self._least), self._most))

    def as_dict(self) -> dict[str, Any]:
        """The median, the 95th percentile, and of how many."""
        return {"p50": self.quantile(0.5), "p95": self.quantile(0.95), "calls": self._buckets.total()}
