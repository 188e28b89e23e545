"""Quantiles of how long calls took, in a memory that does not grow with the number of calls.

Up to `MOST_EXACT` durations are kept as they are, and their quantiles are exact. More are counted in buckets, and a
quantile is within 1%. Which of the two it is depends on the number of durations only, so that merging in any order
gives the same.
"""

from __future__ import annotations

import itertools
import math
from array import array
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_EXACT = 128
"""Durations that are kept as they are, in 8 bytes each."""
# Each bucket is 2% wide, so that its middle is within 1% of everything in it.
_GROWTH = math.log(1.02)
_LONGEST = 10**9


class Durations:
    """Milliseconds of calls. Merging is exact, whatever the order of what was added."""

    __slots__ = ("_buckets", "_exact", "_least", "_most")

    def __init__(self) -> None:
        # In any order; none before the first, and once there are buckets.
        self._exact: array[float] | None = None
        self._buckets: Counter[int] | None = None
        self._least, self._most = math.inf, 0.0

    @property
    def calls(self) -> int:
        """How many were added."""
        return len(self._exact or ()) if self._buckets is None else self._buckets.total()

    def add(self, milliseconds: float) -> None:
        """Count one; what is below one millisecond counts as none."""
        self._add((0 if milliseconds < 1 else min(milliseconds, _LONGEST),))

    def merge(self, other: Durations) -> None:
        """Count what another one has."""
        if other._buckets is None:
            self._add(tuple(other._exact or ()))
            return
        self._count_in_buckets().update(other._buckets)
        self._least, self._most = min(self._least, other._least), max(self._most, other._most)

    def _add(self, values: Iterable[float]) -> None:
        for value in values:
            self._least, self._most = min(self._least, value), max(self._most, value)
            if self._buckets is not None:
                self._buckets[_bucket_of(value)] += 1
            elif self._exact is None:
                self._exact = array("d", (value,))
            else:
                self._exact.append(value)
        if self._exact is not None and len(self._exact) > MOST_EXACT:
            self._count_in_buckets()

    def _count_in_buckets(self) -> Counter[int]:
        """Keep no durations from here on, only how many there are in each bucket."""
        if self._buckets is None:
            self._buckets = Counter(map(_bucket_of, self._exact or ()))
            self._exact = None
        return self._buckets

    def quantile(self, share: float) -> int | None:
        """The least duration that so large a share of calls did not exceed, in whole milliseconds.

        None without calls. Exact for up to `MOST_EXACT` calls, and where it is the shortest or the longest one; of more
        calls within 1%.
        """
        calls = self.calls
        if not calls:
            return None
        rank = math.ceil(share * calls)
        if rank in (1, calls):
            return round(self._least if rank == 1 else self._most)
        if self._buckets is None:
            return round(sorted(self._exact or ())[rank - 1])
        buckets = sorted(self._buckets)
        ranks = itertools.accumulate(self._buckets[bucket] for bucket in buckets)
        found = next(bucket for bucket, last in zip(buckets, ranks, strict=True) if last >= rank)
        middle = 0 if found < 0 else math.exp(found * _GROWTH)
        return round(min(max(middle, self._least), self._most))

    def as_dict(self) -> dict[str, Any]:
        """The median, the 95th percentile, and of how many."""
        return {"p50": self.quantile(0.5), "p95": self.quantile(0.95), "calls": self.calls}


def _bucket_of(milliseconds: float) -> int:
    return round(math.log(milliseconds) / _GROWTH) if milliseconds else -1
