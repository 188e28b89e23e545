"""Add up the calls of a report in bounded memory: durations as quantiles, exact sums of money, totals over time."""

from __future__ import annotations

import itertools
import math
from array import array
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timezone
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from bedrock_routing_integrations.targets import TargetKind

from .prices import EXACT, uncached_cost

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .prices import Prices


MOST_EXACT = 128
"""The number of latencies that are kept exactly, in 8 bytes each."""
# Each bucket is 2% wide, so that its middle is within 1% of every value in it.
_GROWTH = math.log(1.02)
_LONGEST_MS = 10**9


class Durations:
    """The latencies of calls, in milliseconds, for quantiles.

    Up to `MOST_EXACT` values are kept. After that only the number of values in each of a row of buckets is kept, each
    2% wider than the one before. Merging is exact and does not depend on the order.
    """

    __slots__ = ("_buckets", "_exact", "_least", "_most")

    def __init__(self) -> None:
        # None before the first value, and after the values went into buckets.
        self._exact: array[float] | None = None
        self._buckets: Counter[int] | None = None
        self._least, self._most = math.inf, 0.0

    @property
    def calls(self) -> int:
        """The number of latencies."""
        return len(self._exact or ()) if self._buckets is None else self._buckets.total()

    def add(self, milliseconds: float) -> None:
        """Add a latency in milliseconds; a latency below one millisecond is counted as 0."""
        self._add((0 if milliseconds < 1 else min(milliseconds, _LONGEST_MS),))

    def merge(self, other: Durations) -> None:
        """Add all latencies of `other`."""
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
        """Replace the single latencies by the number in each bucket."""
        if self._buckets is None:
            self._buckets = Counter(map(_bucket_of, self._exact or ()))
            self._exact = None
        return self._buckets

    def quantile(self, share: float) -> int | None:
        """Return the smallest latency that a share of calls did not exceed, in whole milliseconds; None without calls.

        The result is exact for up to `MOST_EXACT` calls, and for the shortest and the longest call; else within 1%.

        Args:
            share: The share of calls, such as 0.95.
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
        bucket = next(bucket for bucket, last in zip(buckets, ranks, strict=True) if last >= rank)
        middle = 0 if bucket < 0 else math.exp(bucket * _GROWTH)
        return round(min(max(middle, self._least), self._most))

    def as_dict(self) -> dict[str, Any]:
        """Return the median, the 95th percentile and the number of calls."""
        return {"p50": self.quantile(0.5), "p95": self.quantile(0.95), "calls": self.calls}


def _bucket_of(milliseconds: float) -> int:
    return round(math.log(milliseconds) / _GROWTH) if milliseconds else -1


TOKENS = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")
OTHERS = "(others)"
GUARDRAIL = "guardrail_intervened"
"""Converse's stop reason for an answer that a guardrail blocked or changed."""
MOST_KINDS = 100
"""The greatest number of kinds of errors, and of requested and served values."""
# Most tallies count nothing here: they share this counter, which is never changed.
_EMPTY: Counter[Any] = Counter()
_NOTHING = Decimal(0)
_LONGEST = 1_000
_LARGEST = 10**15
_CACHED = TOKENS[2:]
_ROUTERS = (TargetKind.DEFAULT_PROMPT_ROUTER.value, TargetKind.CUSTOM_PROMPT_ROUTER.value)


class Call(NamedTuple):
    """The values of one ``"routing"`` entry that a report counts. Money is exact; None means not known."""

    requested_model_id: str
    target_kind: str
    invoked_model: str | None
    is_fallback: bool | None
    usage: Mapping[str, int] | None
    cost: Decimal | None
    is_routed: bool
    saved_by_routing: Decimal | None
    is_cached: bool
    saved_by_caching: Decimal | None
    latency: tuple[str, str] | None
    service_tier: tuple[str, str] | None
    latency_ms: float | None
    time_to_first_token_ms: float | None
    stop_reason: str | None


def read_call(routing: Mapping[str, Any], prices: Prices, when: datetime) -> Call:
    """Return the values of a ``"routing"`` entry, with the savings.

    Routing saves compared with the fallback model for the same tokens. Caching saves compared with the same tokens
    uncached.

    Args:
        routing: The ``"routing"`` entry.
        prices: The prices for the savings of caching.
        when: The time of the call.
    """
    kind, usage = text(routing.get("target_kind")), routing.get("usage")
    invoked, invoked_id = (routing.get(name) for name in ("invoked_model", "invoked_model_id"))
    cost, fallback = _decimal(routing.get("cost_usd")), _decimal(routing.get("fallback_cost_usd"))
    usage = {name: int(_number(usage.get(name)) or 0) for name in TOKENS} if isinstance(usage, Mapping) else None
    is_cached = usage is not None and any(usage[name] for name in _CACHED)
    uncached = uncached_cost({**routing, "usage": usage}, prices, when) if is_cached else None
    return Call(
        requested_model_id=text(routing["requested_model_id"]),
        target_kind=kind,
        invoked_model=text(invoked or invoked_id) if invoked or invoked_id else None,
        is_fallback=None if routing.get("is_fallback") is None else bool(routing["is_fallback"]),
        usage=usage,
        cost=cost,
        # A managed prompt may name a router; the trace then has the invoked model.
        is_routed=kind in _ROUTERS or (kind == TargetKind.PROMPT.value and bool(invoked_id)),
        saved_by_routing=_difference(fallback, cost),
        is_cached=is_cached,
        saved_by_caching=_difference(_decimal(uncached), cost),
        latency=_pair(routing.get("latency")),
        service_tier=_pair(routing.get("service_tier")),
        latency_ms=_number(routing.get("latency_ms")),
        time_to_first_token_ms=_number(routing.get("time_to_first_token_ms")),
        stop_reason=text(routing["stop_reason"]) if routing.get("stop_reason") else None,
    )


class Money:
    """A sum of US dollars, some of whose parts are not known."""

    __slots__ = ("known", "total", "unknown")

    def __init__(self) -> None:
        self.total, self.known, self.unknown = _NOTHING, 0, 0

    def add(self, amount: Decimal | None) -> None:
        """Add an amount; None for one that is not known."""
        if amount is None:
            self.unknown += 1
            return
        self.known += 1
        self._add(amount)

    def merge(self, other: Money) -> None:
        """Add another sum."""
        self.known, self.unknown = self.known + other.known, self.unknown + other.unknown
        self._add(other.total)

    def _add(self, amount: Decimal) -> None:
        if amount:
            with localcontext(EXACT):  # whatever the caller's own context rounds to
                self.total += amount

    @property
    def usd(self) -> float | None:
        """The sum of the known amounts; None if there are amounts and none is known."""
        return None if self.unknown and not self.known else float(self.total)


class Tally:
    """The totals of some calls."""

    __slots__ = ("cached_cost", "caching", "calls", "cost", "errors", "first_token", "latency", "routed_cost",
                 "routing", "service_tier", "stop_reasons", "times", "tokens", "without_usage")  # fmt: skip

    def __init__(self) -> None:
        self.calls = self.without_usage = 0
        self.tokens = dict.fromkeys(TOKENS, 0)
        self.cost, self.routing, self.caching = Money(), Money(), Money()
        # The cost of the calls whose savings are known.
        self.routed_cost, self.cached_cost = Money(), Money()
        self.latency: Counter[Any] = _EMPTY
        self.service_tier: Counter[Any] = _EMPTY
        self.times, self.first_token = Durations(), Durations()
        self.errors: Counter[Any] = _EMPTY
        self.stop_reasons: Counter[Any] = _EMPTY

    def add(self, call: Call) -> None:
        """Add an answered call."""
        self.calls += 1
        if call.usage is None:
            self.without_usage += 1
        else:
            for name in TOKENS:
                self.tokens[name] += call.usage[name]
        self.cost.add(call.cost)
        for is_meant, saved, sum_saved, sum_paid in (
            (call.is_routed, call.saved_by_routing, self.routing, self.routed_cost),
            (call.is_cached, call.saved_by_caching, self.caching, self.cached_cost),
        ):
            if is_meant:
                sum_saved.add(saved)
                if saved is not None:
                    sum_paid.add(call.cost)
        for name, pair in (("latency", call.latency), ("service_tier", call.service_tier)):
            if pair is not None:
                self._count(name, pair, (OTHERS, OTHERS))
        if call.stop_reason is not None:
            self._count("stop_reasons", call.stop_reason, OTHERS)
        for durations, milliseconds in (
            (self.times, call.latency_ms),
            (self.first_token, call.time_to_first_token_ms),
        ):
            if milliseconds is not None:
                durations.add(milliseconds)

    def add_error(self, kind: str) -> None:
        """Add a call that failed."""
        self._count("errors", kind, OTHERS)

    def _count(self, name: str, what: Any, others: Any, times: int = 1) -> None:
        """Count a value in the counter of this name, which has a limited number of values."""
        counter: Counter[Any] = getattr(self, name)
        if counter is _EMPTY:
            counter = Counter()
            setattr(self, name, counter)
        counter[what if what in counter or len(counter) < MOST_KINDS else others] += times

    def merge(self, other: Tally) -> None:
        """Add all calls of another tally."""
        self.calls += other.calls
        self.without_usage += other.without_usage
        for name in TOKENS:
            self.tokens[name] += other.tokens[name]
        for name in ("cost", "routing", "routed_cost", "caching", "cached_cost"):
            getattr(self, name).merge(getattr(other, name))
        for name in ("latency", "service_tier", "errors", "stop_reasons"):
            others = OTHERS if name in ("errors", "stop_reasons") else (OTHERS, OTHERS)
            for what, calls in getattr(other, name).items():
                self._count(name, what, others, calls)
        self.times.merge(other.times)
        self.first_token.merge(other.first_token)

    def as_dict(self, of: int) -> dict[str, Any]:
        """Return the totals as a JSON-safe dictionary.

        Args:
            of: The number of calls for the ``share``.
        """
        tokens = self.tokens
        cacheable = sum(tokens[name] for name in _CACHED)
        return {
            "calls": self.calls,
            "share": self.calls / of if of else 0.0,
            "tokens": dict(tokens),
            "calls_without_usage": self.without_usage,
            "cache_hit_rate": tokens["cache_read"] / cacheable if cacheable else None,
            "cost_usd": self.cost.usd,
            "calls_without_price": self.cost.unknown,
            "saved_by_routing_usd": self.routing.usd,
            "routed_cost_usd": self.routed_cost.usd,
            "calls_without_routing_price": self.routing.unknown,
            "saved_by_caching_usd": self.caching.usd,
            "cached_cost_usd": self.cached_cost.usd,
            "calls_without_caching_price": self.caching.unknown,
            "latency": _nested(self.latency),
            "service_tier": _nested(self.service_tier),
            "latency_ms": self.times.as_dict(),
            "time_to_first_token_ms": self.first_token.as_dict(),
            "errors": _most_first(self.errors),
            "stop_reasons": _most_first(self.stop_reasons),
            "guardrail_interventions": self.stop_reasons[GUARDRAIL],
        }


def _most_first(counter: Counter[str]) -> dict[str, int]:
    return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0])))


def text(value: Any) -> str:
    """Return `value` as a row key: valid UTF-8, at most 1,000 characters."""
    return str(value)[:_LONGEST].encode("utf-8", "backslashreplace").decode()


def _number(value: Any) -> float | None:
    """Return a number; None for any other value, which a stored entry may hold."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if is_number and -_LARGEST <= value <= _LARGEST else None


def _decimal(usd: Any) -> Decimal | None:
    number = _number(usd)
    return None if number is None else Decimal(repr(float(number)))


def _difference(before: Decimal | None, after: Decimal | None) -> Decimal | None:
    if before is None or after is None:
        return None
    with localcontext(EXACT):
        return before - after


def _pair(requested_and_served: Any) -> tuple[str, str] | None:
    """Return the requested and the served value; None if there is neither."""
    pair = requested_and_served if isinstance(requested_and_served, Mapping) else {}
    asked, served = pair.get("requested"), pair.get("served")
    return None if asked is None and served is None else (text(asked or "none"), text(served or "none"))


def _nested(pairs: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    nested: dict[str, dict[str, int]] = {}
    for (asked, served), calls in sorted(pairs.items()):
        nested.setdefault(asked, {})[served] = calls
    return nested


DAY = "day"
"""The label whose values are days in UTC (2026-11-20), in chronological order; ``"day,team"`` has days and a key."""

MOST = 240
# The first second of `datetime`; a stretch may begin before it.
_FIRST = int(datetime.min.replace(tzinfo=timezone.utc).timestamp())
# Each divides the next, so that stretches can be merged exactly. After the last one, lengths double.
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
    """Totals over time, in at most `MOST` stretches of equal length.

    When there are more, neighbouring stretches are merged and their length grows. The result does not depend on the
    order of the calls.
    """

    def __init__(self) -> None:
        self._seconds = _SECONDS[0]
        self._stretches: dict[int, _Stretch] = {}
        self.since: datetime | None = None
        self.until: datetime | None = None

    def add(self, call: Call, when: datetime) -> None:
        """Add a call.

        Args:
            call: The call.
            when: Its time, in UTC.
        """
        self.extend(when, when)
        stretch = self._stretches.setdefault(int(when.timestamp() // self._seconds), _Stretch())
        stretch.calls += 1
        stretch.cost.add(call.cost)
        if call.is_routed:
            stretch.routing.add(call.saved_by_routing)
        if call.is_cached:
            stretch.caching.add(call.saved_by_caching)

    def merge(self, other: Timeline) -> None:
        """Add all calls of another timeline."""
        if other.since is None or other.until is None:
            return
        while self._seconds < other._seconds:
            self._widen()
        self.extend(other.since, other.until)
        for start, stretch in other._stretches.items():
            mine = start * other._seconds // self._seconds
            self._stretches.setdefault(mine, _Stretch()).merge(stretch)

    def as_list(self) -> list[dict[str, Any]]:
        """Return the stretches with calls, oldest first."""
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
        """Extend the period of the timeline.

        Args:
            first: The first moment, in UTC.
            last: The last moment, in UTC.
        """
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
