"""What is remembered: prefixes seen, what of them is cached, and the habits of each target.

One `PrefixMemory` holds many `Shelf`s, one for each target and way to reach it. Bounded: so many prefixes, of about
300 bytes each; what was not seen for an hour, as long as any entry lasts, is forgotten.
"""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING

from .diagnosis import Diagnosis
from .reuse_statistics import LATER, SOON, Habits
from .savings_ledger import Account
from .sizes import Calibration, TokenCounts

if TYPE_CHECKING:
    from collections.abc import Hashable

    from .reuse_statistics import Tallies

MAX_PREFIXES = 80_000
_MAX_SHELVES = 256
_FLIGHT_SECONDS = 30.0
_MOST_FLIGHTS = 1_024
_MOST_AWAITED = 128
_REFUSED_SECONDS = 86_400.0


class Record:
    """A prefix that a model has seen.

    Attributes:
        seen: When, last.
        uses: How often, at most 2.
        ended: Whether a request ended there.
        shared: Whether requests part there.
        until: When what is cached of it expires; 0 where nothing is.
        lasts: Seconds that the entry lasts from each use.
        tallies: Where to count that it came back; None once that is counted.
        overdue: Whether it was given up.
        followers: Where to count that the longer prefixes, which this one leads, may have come back with it.
    """

    __slots__ = ("ended", "followers", "lasts", "overdue", "seen", "shared", "tallies", "until", "uses")

    def __init__(self, seen: float) -> None:
        self.seen = seen
        self.uses = 1
        self.ended = False
        self.shared = False
        self.until = 0.0
        self.lasts = SOON
        self.tallies: Tallies | None = None
        self.overdue = False
        self.followers: tuple[Tallies, ...] = ()

    def came_back(self, at: float) -> None:
        """It was seen again."""
        if self.tallies is not None:
            for tally in self.tallies:
                if not self.overdue:
                    tally.settle()
                tally.add_return(at - self.seen)
            self.tallies = None
            for tally in (each for tallies in self.followers for each in tallies):
                tally.add_trial()
                tally.settle()
            self.followers = ()
        self.uses = 2
        self.seen = max(self.seen, at)


class PrefixMemory:
    """A memory of prefixes. Safe under threads. Holds digests and counts, no text.

    Args:
        max_prefixes: How many prefixes are remembered at most; the least recently seen are forgotten first.
    """

    def __init__(self, *, max_prefixes: int = MAX_PREFIXES) -> None:
        self.lock = threading.RLock()
        _living.add(self)
        self._max_prefixes = max_prefixes
        self._half = max(1, max_prefixes // 2)
        # Two generations: what is asked for moves to the young one, and when that is full, or an hour old, the old one
        # is forgotten as a whole. That is "least recently used" without a list to keep in order.
        self._young: dict[int, Record] = {}
        self._old: dict[int, Record] = {}
        self._since: float | None = None
        self._shelves: dict[Hashable, Shelf] = {}
        self._calibrations: dict[str, Calibration] = {}
        self.token_counts = TokenCounts()

    def __len__(self) -> int:
        """How many prefixes are remembered."""
        return len(self._young) + len(self._old)

    def shelf(self, scope: Hashable, name: str) -> Shelf:
        """What is known of one target.

        Args:
            scope: What tells it from others.
            name: What it is called in warnings.
        """
        shelf = self._shelves.pop(scope, None)
        if shelf is None:
            while len(self._shelves) >= _MAX_SHELVES:
                del self._shelves[next(iter(self._shelves))]
            shelf = Shelf(self, scope, name)
        self._shelves[scope] = shelf  # the last one: the first are those that were not asked for
        return shelf

    def calibration(self, family: str) -> Calibration:
        """How estimates of tokens are off for a family of models."""
        return self._calibrations.get(family) or self._calibrations.setdefault(family, Calibration())

    def find(self, key: int, now: float) -> Record | None:
        """A prefix that was seen within the hour."""
        record = self._young.get(key)
        if record is None:
            record = self._old.pop(key, None)
            if record is None:
                return None
            self._keep(key, record, now)
        return record if now - record.seen <= LATER else None

    def add(self, key: int, now: float) -> Record:
        """Remember a prefix."""
        record = Record(now)
        self._old.pop(key, None)
        self._keep(key, record, now)
        return record

    def drop(self, key: int) -> None:
        """Forget a prefix."""
        self._young.pop(key, None)
        self._old.pop(key, None)

    def _keep(self, key: int, record: Record, now: float) -> None:
        if self._since is None:
            self._since = now
        if len(self._young) >= self._half or now - self._since > LATER:
            self._old, self._young, self._since = self._young, {}, now
        self._young[key] = record

    def forget(self) -> None:
        """Forget everything."""
        with self.lock:
            self._young, self._old, self._since = {}, {}, None
            self._shelves.clear()
            self._calibrations.clear()
            self.token_counts.forget()

    def start_afresh(self) -> None:
        """Forget everything in a process that was just forked: a thread that held the lock is not here."""
        self.lock = threading.RLock()
        self.forget()

    def __copy__(self) -> PrefixMemory:
        return self  # what shares a memory goes on sharing it

    def __deepcopy__(self, memo: dict[int, object]) -> PrefixMemory:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        # A copy in another process begins with nothing.
        return functools.partial(PrefixMemory, max_prefixes=self._max_prefixes), ()


_living: weakref.WeakSet[PrefixMemory] = weakref.WeakSet()


def _start_afresh() -> None:
    for memory in list(_living):
        memory.start_afresh()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_start_afresh)


class Shelf:
    """What is remembered of one target: its habits, how its models take turns, what it refused."""

    def __init__(self, memory: PrefixMemory, scope: Hashable, name: str) -> None:
        self._memory = memory
        self._scope = scope
        self._salts: dict[str, int] = {}
        self._answers: dict[str, float] = {}
        self._flights: dict[int, float] = {}
        self._refused: dict[str, float] = {}
        self._reads_expected = self._reads = 0.0
        self._continued = self._stayed = 0.0
        self._awaited: deque[tuple[float, Record, Tallies]] = deque()
        self.habits = Habits()
        self.account = Account()
        self.diagnosis = Diagnosis(name)

    def find(self, model: str, digest: int, now: float) -> Record | None:
        """A prefix that the model has seen within the hour."""
        return self._memory.find(digest ^ self._salt(model), now)

    def add(self, model: str, digest: int, now: float) -> Record:
        """Remember a prefix that the model has seen."""
        return self._memory.add(digest ^ self._salt(model), now)

    def drop(self, model: str, digest: int) -> None:
        """Forget a prefix."""
        self._memory.drop(digest ^ self._salt(model))

    def _salt(self, model: str) -> int:
        salt = self._salts.get(model)
        if salt is None:
            salt = self._salts[model] = hash((self._scope, model)) & 0xFFFFFFFFFFFFFFFF
        return salt

    # --- what is awaited ---

    def expect(self, record: Record, tallies: Tallies, within: float) -> None:
        """A trial: the prefix may come back. Count it as lost for good if it does not come within so many seconds."""
        record.tallies, record.overdue = tallies, False
        for tally in tallies:
            tally.add_trial()
        self._awaited.append((record.seen + within, record, tallies))
        if len(self._awaited) > _MOST_AWAITED:
            self._give_up()

    def give_up_overdue(self, now: float) -> None:
        """Count what is overdue."""
        while self._awaited and self._awaited[0][0] <= now:
            self._give_up()

    def _give_up(self) -> None:
        _, record, tallies = self._awaited.popleft()
        if record.tallies is tallies and not record.overdue:
            record.overdue = True
            for tally in tallies:
                tally.settle()

    # --- who answers ---

    def answered(self, model: str, *, as_before: bool | None) -> None:
        """Count an answer, and whether it came from the model that the conversation had last; old ones fade."""
        if as_before is not None:
            self._continued = self._continued * 0.97 + 1.0
            self._stayed = self._stayed * 0.97 + float(as_before)
        for name in self._answers:
            self._answers[name] *= 0.97
        self._answers[model] = self._answers.get(model, 0.0) + 1.0

    def shares(self, models: tuple[str, ...], before: int | None) -> list[float]:
        """How likely each model is to answer next, given the one that the conversation had last."""
        if len(models) == 1:
            return [1.0]
        counts = [1.0 + self._answers.get(model, 0.0) for model in models]
        if before is None:
            return [count / sum(counts) for count in counts]
        stays = self.stays
        others = sum(counts) - counts[before]
        return [stays if n == before else (1 - stays) * count / others for n, count in enumerate(counts)]

    @property
    def stays(self) -> float:
        """How likely a conversation is to stay with the model that answered last."""
        return (1.2 + self._stayed) / (2.0 + self._continued)

    # --- whether what is cached is read ---

    @property
    def reliability(self) -> float:
        """The share of expected reads that happen. A profile may send a call to a Region where nothing is cached."""
        return (4.75 + self._reads) / (5.0 + self._reads_expected)

    def expected_read(self, *, happened: bool) -> None:
        """Count a read that was expected."""
        self._reads_expected = self._reads_expected * 0.97 + 1.0
        self._reads = self._reads * 0.97 + float(happened)

    # --- what is being written at this moment ---

    def take_off(self, digests: list[int], now: float) -> None:
        """These are being written: others that ask at the same time need not pay for it again."""
        for digest in digests:
            self._flights[digest] = now
        while self._flights:
            digest, since = next(iter(self._flights.items()))
            if len(self._flights) <= _MOST_FLIGHTS and now - since <= _FLIGHT_SECONDS:
                break
            del self._flights[digest]

    def land(self, digests: list[int]) -> None:
        """They are written, or will not be."""
        for digest in digests:
            self._flights.pop(digest, None)

    def is_flying(self, digest: int, now: float) -> bool:
        """Whether a request under way writes it."""
        since = self._flights.get(digest)
        return since is not None and now - since <= _FLIGHT_SECONDS

    # --- what was refused ---

    def refuse(self, what: str, now: float) -> None:
        """Bedrock refused a point in a section, or a ttl."""
        self._refused[what] = now

    def is_refused(self, what: str, now: float) -> bool:
        """Whether it did, within a day."""
        since = self._refused.get(what)
        return since is not None and now - since <= _REFUSED_SECONDS
