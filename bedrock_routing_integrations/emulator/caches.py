"""Prompt caching: what of a request is read from the cache, what is written to it, what is plain input.

The rules are those of the user guide (autumn 2026):

- A cachePoint writes an entry for its prefix where that has the model's minimum of tokens.
- From each point the service looks for an entry among the last blocks; the longest one found is read. What lies
  between it and the last point is written, each part with the ttl of the point that ends it. The rest is plain input.
- An entry lives 5 minutes or 1 hour from its last use, whatever the ttl of the point that finds it. A request uses the
  entry that it reads, and those of its own points before that.

Where the guide is vague the emulator takes the view that caches less: the look back over "about 20 blocks" reaches
20 ends of blocks, the point's own with them (as Anthropic documents it for its own service); a point within what is
read, where no entry was, gets none; entries belong to one base model. In two things it is laxer than the
service: an entry can be read as soon as the request that writes it has come in, and in every Region.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .prefixes import has_points, read_prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .models import EmulatedModel
    from .prefixes import Point, Prefix

__all__ = ["LIFETIMES", "CacheUse", "PromptCaches"]

LIFETIMES: dict[str, float] = {"1h": 3600.0, "5m": 300.0}
"""Seconds from an entry's last use to its end, the longest first, as `cacheDetails` lists them."""

_LOOK_BACK = 20
_MOST_ENTRIES = 100_000  # some 30 MB


@dataclass(frozen=True, kw_only=True)
class CacheUse:
    """The input tokens of one request by what the cache did with them.

    Attributes:
        read: Read from the cache.
        written: Written to it, by ttl; only what is not 0, the longest ttl first.
        plain: Neither.
    """

    read: int = 0
    written: Mapping[str, int] = field(default_factory=dict)
    plain: int


class PromptCaches:
    """The entries of every model. Safe to use from several threads.

    Args:
        clock: Seconds, only rising.
        most_entries: Beyond this the least recently used entries are dropped.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, most_entries: int = _MOST_ENTRIES) -> None:
        self._clock = clock
        self._most_entries = most_entries
        self._lock = threading.Lock()
        # By ttl: digest of the prefix → last use. Each is in the order of use, which is thereby that of expiry.
        self._entries: dict[str, OrderedDict[bytes, float]] = {ttl: OrderedDict() for ttl in LIFETIMES}

    def __len__(self) -> int:
        with self._lock:
            self._drop_expired(self._clock())
            return self._count()

    def clear(self) -> None:
        """Forget every entry."""
        with self._lock:
            for entries in self._entries.values():
                entries.clear()

    def use(self, request: Mapping[str, Any], model: EmulatedModel, input_tokens: int) -> CacheUse | None:
        """Read and write what a request that is being answered reads and writes.

        Args:
            request: A Converse request that has passed `cache_rules.check_points`.
            model: The base model that answers.
            input_tokens: All tokens of the request.

        Returns:
            What became of the tokens; None for a model without caching.
        """
        if model.cache is None:
            return None
        if not has_points(request):
            return CacheUse(plain=input_tokens)
        prefix = read_prefix(request, model.model_id)
        least = model.cache.minimum_tokens
        points = [point for point in prefix.points if prefix.tokens_of(point.blocks) >= least]
        with self._lock:
            now = self._clock()
            self._drop_expired(now)
            hit = self._longest_hit(prefix, points)
            written = self._write(prefix, points, hit, now)
            self._drop_surplus()
        read = prefix.tokens_of(hit)
        return CacheUse(read=read, written=written, plain=input_tokens - read - sum(written.values()))

    def _longest_hit(self, prefix: Prefix, points: Sequence[Point]) -> int:
        """How many blocks are read from the cache."""
        hit = 0
        for point in points:
            # What ends before the best hit so far is no better.
            for blocks in range(point.blocks, max(hit, point.blocks - _LOOK_BACK), -1):
                if self._holder(prefix.digests[blocks - 1]) is not None:
                    hit = blocks
                    break
        return hit

    def _write(self, prefix: Prefix, points: Sequence[Point], hit: int, now: float) -> dict[str, int]:
        """Renew the entries that are used, make those that are missing; the tokens written by ttl."""
        for blocks in sorted({hit, *(point.blocks for point in points if point.blocks <= hit)} - {0}):
            digest = prefix.digests[blocks - 1]
            holder = self._holder(digest)
            if holder is not None:
                holder[digest] = now
                holder.move_to_end(digest)
        written = dict.fromkeys(LIFETIMES, 0)
        end = hit
        for point in points:
            if point.blocks > hit:
                self._entries[point.ttl][prefix.digests[point.blocks - 1]] = now
                written[point.ttl] += prefix.tokens_of(point.blocks) - prefix.tokens_of(end)
                end = point.blocks
        return {ttl: tokens for ttl, tokens in written.items() if tokens}

    def _holder(self, digest: bytes) -> OrderedDict[bytes, float] | None:
        """The entries among which one is; an entry is in one place only, as what is found is not written again."""
        return next((entries for entries in self._entries.values() if digest in entries), None)

    def _count(self) -> int:
        return sum(map(len, self._entries.values()))

    def _drop_expired(self, now: float) -> None:
        for ttl, entries in self._entries.items():
            while entries and now - next(iter(entries.values())) >= LIFETIMES[ttl]:
                entries.popitem(last=False)

    def _drop_surplus(self) -> None:
        while self._count() > self._most_entries:
            oldest = min(filter(None, self._entries.values()), key=lambda entries: next(iter(entries.values())))
            oldest.popitem(last=False)
