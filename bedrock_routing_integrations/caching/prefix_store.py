"""Remember prefixes, which of them are cached, and the state of each target.

One `PrefixMemory` holds the `TargetState` of many targets. It is bounded: at most 80,000 prefixes of about 300 bytes
each. A prefix that was not seen for an hour, the longest that any cache entry lasts, is forgotten.
"""

from __future__ import annotations

import functools
import threading
from collections import deque
from typing import TYPE_CHECKING

from bedrock_routing_integrations.bounded_cache import BoundedCache

from .explanation import Diagnosis
from .reuse_statistics import TTL_1H, TTL_5M, ReuseStatistics
from .savings_ledger import SavingsLedger
from .sizes import Calibration, TokenCounts

if TYPE_CHECKING:
    from collections.abc import Hashable

    from .reuse_statistics import Tallies

MAX_PREFIXES = 80_000
_MAX_TARGETS = 256
_IN_FLIGHT_SECONDS = 30.0
_MAX_IN_FLIGHT = 1_024
_MAX_EXPECTED_RETURNS = 128
_REFUSAL_SECONDS = 86_400.0
_FADING = 0.97  # of a count, with each answer: about the last thirty answers matter


class PrefixRecord:
    """A prefix that a model has seen.

    Attributes:
        last_seen: When the model last got it, in seconds.
        uses: How often the model got it; counted to 2.
        ended_request: Whether a request ended there.
        is_divergence: Whether requests diverge there.
        cached_until: When its cache entry expires, in seconds; 0 if there is none.
        ttl_seconds: Seconds that the entry lasts from each use.
        tallies: Where to count its return; None once that is counted.
        overdue: Whether it is no longer counted as pending.
        followers: Tallies of the longer prefixes of which it is the leader.
    """

    __slots__ = (
        "cached_until", "ended_request", "followers", "is_divergence", "last_seen", "overdue", "tallies",
        "ttl_seconds", "uses",
    )  # fmt: skip

    def __init__(self, last_seen: float) -> None:
        self.last_seen = last_seen
        self.uses = 1
        self.ended_request = False
        self.is_divergence = False
        self.cached_until = 0.0
        self.ttl_seconds = TTL_5M
        self.tallies: Tallies | None = None
        self.overdue = False
        self.followers: tuple[Tallies, ...] = ()

    def record_return(self, now: float) -> None:
        """Count that the prefix returned, and that its followers could."""
        if self.tallies is not None:
            for tally in self.tallies:
                if not self.overdue:
                    tally.settle()
                tally.add_return(now - self.last_seen)
            self.tallies = None
            for tally in (tally for tallies in self.followers for tally in tallies):
                tally.add_observation()
                tally.settle()
            self.followers = ()
        self.uses = 2
        self.last_seen = max(self.last_seen, now)


class PrefixMemory:
    """A thread-safe memory of prefixes. Holds digests and counts, no text.

    Args:
        max_prefixes: Maximum number of prefixes; the least recently seen are forgotten first.
    """

    def __init__(self, *, max_prefixes: int = MAX_PREFIXES) -> None:
        self.lock = threading.RLock()
        self._max_prefixes = max_prefixes
        self._max_per_generation = max(1, max_prefixes // 2)
        # Two generations: a record that is looked up moves to the young one. When that is full, or an hour old, the old
        # one is dropped as a whole. That is "least recently used" without a list to keep in order.
        self._young: dict[int, PrefixRecord] = {}
        self._old: dict[int, PrefixRecord] = {}
        self._young_since: float | None = None
        self._targets: BoundedCache[Hashable, TargetState] = BoundedCache(_MAX_TARGETS)
        self._calibrations: dict[str, Calibration] = {}
        self.token_counts = TokenCounts()

    def __len__(self) -> int:
        """Return the number of prefixes."""
        return len(self._young) + len(self._old)

    def target_state(self, scope: Hashable, name: str) -> TargetState:
        """Return the state of one target, creating it if needed.

        Args:
            scope: Identifies the target, and the way to reach it.
            name: The target's name in warnings.
        """
        state = self._targets.get(scope)
        if state is None:
            state = TargetState(self, scope, name)
        self._targets.put(scope, state)  # now the most recently used
        return state

    def calibration(self, family: str) -> Calibration:
        """Return the calibration of a model family."""
        return self._calibrations.get(family) or self._calibrations.setdefault(family, Calibration())

    def find(self, key: int, now: float) -> PrefixRecord | None:
        """Return the record of a prefix that was seen within the hour.

        Args:
            key: Identifies the prefix, target and model.
            now: The time, in seconds.
        """
        record = self._young.get(key)
        if record is None:
            record = self._old.pop(key, None)
            if record is None:
                return None
            self._keep(key, record, now)
        return record if now - record.last_seen <= TTL_1H else None

    def add(self, key: int, now: float) -> PrefixRecord:
        """Remember a prefix, and return its record.

        Args:
            key: Identifies the prefix, target and model.
            now: The time, in seconds.
        """
        record = PrefixRecord(now)
        self._old.pop(key, None)
        self._keep(key, record, now)
        return record

    def remove(self, key: int) -> None:
        """Forget a prefix."""
        self._young.pop(key, None)
        self._old.pop(key, None)

    def _keep(self, key: int, record: PrefixRecord, now: float) -> None:
        if self._young_since is None:
            self._young_since = now
        if len(self._young) >= self._max_per_generation or now - self._young_since > TTL_1H:
            self._old, self._young, self._young_since = self._young, {}, now
        self._young[key] = record

    def forget(self) -> None:
        """Forget everything."""
        with self.lock:
            self._young, self._old, self._young_since = {}, {}, None
            self._targets.reset()
            self._calibrations.clear()
            self.token_counts.forget()

    def reset(self) -> None:
        """Forget everything in a forked process, with a new lock: no thread of this process can release the old one."""
        self.lock = threading.RLock()
        self.forget()

    def __copy__(self) -> PrefixMemory:
        return self  # a copied client goes on sharing the memory

    def __deepcopy__(self, memo: dict[int, object]) -> PrefixMemory:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        # In another process the memory begins empty.
        return functools.partial(PrefixMemory, max_prefixes=self._max_prefixes), ()


class TargetState:
    """What is remembered of one target.

    Args:
        memory: Holds the records of its prefixes.
        scope: Identifies the target.
        name: The target's name in warnings.

    Attributes:
        statistics: How often prefixes return.
        ledger: What caching cost and saved.
        diagnosis: Warns if caching does not work.
    """

    def __init__(self, memory: PrefixMemory, scope: Hashable, name: str) -> None:
        self._memory = memory
        self._scope = scope
        self._model_salts: dict[str, int] = {}
        self._answers: dict[str, float] = {}
        self._in_flight: BoundedCache[int, float] = BoundedCache(_MAX_IN_FLIGHT)
        self._refused: dict[str, float] = {}
        self._reads_expected = self._reads_happened = 0.0
        self._continued = self._stayed = 0.0
        self._expected_returns: deque[tuple[float, PrefixRecord, Tallies]] = deque()
        self.statistics = ReuseStatistics()
        self.ledger = SavingsLedger()
        self.diagnosis = Diagnosis(name)

    # --- Prefixes ---

    def find(self, model: str, digest: int, now: float) -> PrefixRecord | None:
        """Return the record of a prefix that a model has seen within the hour.

        Args:
            model: The model.
            digest: Identifies the prefix.
            now: The time, in seconds.
        """
        return self._memory.find(digest ^ self._model_salt(model), now)

    def add(self, model: str, digest: int, now: float) -> PrefixRecord:
        """Remember a prefix that a model has seen, and return its record.

        Args:
            model: The model.
            digest: Identifies the prefix.
            now: The time, in seconds.
        """
        return self._memory.add(digest ^ self._model_salt(model), now)

    def remove(self, model: str, digest: int) -> None:
        """Forget a prefix.

        Args:
            model: The model that has seen it.
            digest: Identifies the prefix.
        """
        self._memory.remove(digest ^ self._model_salt(model))

    def _model_salt(self, model: str) -> int:
        salt = self._model_salts.get(model)
        if salt is None:
            salt = self._model_salts[model] = hash((self._scope, model)) & 0xFFFFFFFFFFFFFFFF
        return salt

    # --- Expected returns ---

    def expect_return(self, record: PrefixRecord, tallies: Tallies, seconds: float) -> None:
        """Count a prefix as an observation, pending until it returns or is overdue.

        Args:
            record: The prefix.
            tallies: Where to count.
            seconds: Seconds since it was last seen, after which it is overdue.
        """
        record.tallies, record.overdue = tallies, False
        for tally in tallies:
            tally.add_observation()
        self._expected_returns.append((record.last_seen + seconds, record, tallies))
        if len(self._expected_returns) > _MAX_EXPECTED_RETURNS:
            self._settle_next()

    def settle_overdue(self, now: float) -> None:
        """Stop counting overdue prefixes as pending; `now` in seconds."""
        while self._expected_returns and self._expected_returns[0][0] <= now:
            self._settle_next()

    def _settle_next(self) -> None:
        _, record, tallies = self._expected_returns.popleft()
        if record.tallies is tallies and not record.overdue:
            record.overdue = True
            for tally in tallies:
                tally.settle()

    # --- A router's choice of models ---

    def record_model(self, model: str, *, stayed: bool | None) -> None:
        """Count which model answered.

        Args:
            model: The model.
            stayed: Whether the conversation's last answer came from the same model; None if that is not known.
        """
        if stayed is not None:
            self._continued = self._continued * _FADING + 1.0
            self._stayed = self._stayed * _FADING + float(stayed)
        for name in self._answers:
            self._answers[name] *= _FADING
        self._answers[model] = self._answers.get(model, 0.0) + 1.0

    def model_probabilities(self, models: tuple[str, ...], last: int | None) -> list[float]:
        """Return the probability of each model to answer next.

        Args:
            models: The candidate models.
            last: The index of the model that answered the conversation's last request; None if that is not known.
        """
        if len(models) == 1:
            return [1.0]
        counts = [1.0 + self._answers.get(model, 0.0) for model in models]
        if last is None:
            return [count / sum(counts) for count in counts]
        stay_probability = self.stay_probability
        others = sum(counts) - counts[last]
        return [
            stay_probability if index == last else (1 - stay_probability) * count / others
            for index, count in enumerate(counts)
        ]

    @property
    def stay_probability(self) -> float:
        """Probability that a conversation stays with the model that answered last."""
        return (1.2 + self._stayed) / (2.0 + self._continued)

    # --- Expected reads ---

    @property
    def read_reliability(self) -> float:
        """Share of expected reads that happen. A profile may send a call to a Region where nothing is cached."""
        return (4.75 + self._reads_happened) / (5.0 + self._reads_expected)

    def record_expected_read(self, *, happened: bool) -> None:
        """Count an expected read, and whether it happened."""
        self._reads_expected = self._reads_expected * _FADING + 1.0
        self._reads_happened = self._reads_happened * _FADING + float(happened)

    # --- Writes in flight ---

    def begin_writes(self, digests: list[int], now: float) -> None:
        """Mark prefixes as being written, so that concurrent requests do not pay for the same write.

        Args:
            digests: Identify the prefixes.
            now: The time, in seconds.
        """
        for digest in digests:
            self._in_flight.put(digest, now)
        self._in_flight.drop_oldest_while(lambda since: now - since > _IN_FLIGHT_SECONDS)

    def end_writes(self, digests: list[int]) -> None:
        """Unmark prefixes: the request was answered or it failed."""
        for digest in digests:
            self._in_flight.pop(digest, None)

    def is_in_flight(self, digest: int, now: float) -> bool:
        """Return whether a request in flight writes a prefix.

        Args:
            digest: Identifies the prefix.
            now: The time, in seconds.
        """
        since = self._in_flight.get(digest)
        return since is not None and now - since <= _IN_FLIGHT_SECONDS

    # --- Refusals ---

    def record_refusal(self, refused: str, now: float) -> None:
        """Remember for a day that Bedrock refused a cache point.

        Args:
            refused: A section, or a ttl.
            now: The time, in seconds.
        """
        self._refused[refused] = now

    def is_refused(self, refused: str, now: float) -> bool:
        """Return whether Bedrock refused a cache point within the last day.

        Args:
            refused: A section, or a ttl.
            now: The time, in seconds.
        """
        since = self._refused.get(refused)
        return since is not None and now - since <= _REFUSAL_SECONDS
