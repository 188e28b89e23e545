"""Mappings that cannot grow without end: one that drops its oldest entries, one whose entries also expire."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")

_MISSING: Any = object()


class BoundedCache(Generic[K, V]):
    """A mapping of at most `capacity` entries. The least recently written one is dropped first.

    Safe under threads. Reads take no lock: they are on the path of every call.

    Args:
        capacity: Most entries, at least 1.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.reset()

    def reset(self) -> None:
        """Drop all entries. Also replaces the lock, which another thread may have held when the process forked."""
        self._lock = threading.Lock()
        self._entries: dict[K, V] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    @overload
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, default: D) -> V | D: ...

    def get(self, key: K, default: Any = None) -> Any:
        """Return the value of a key, or a default.

        Args:
            key: The key.
            default: Returned for a missing key. None unless passed.
        """
        return self._entries.get(key, default)

    def put(self, key: K, value: V) -> None:
        """Store a value as the most recent one.

        Args:
            key: The key.
            value: The value.
        """
        with self._lock:
            self._put(key, value)

    def setdefault(self, key: K, value: V) -> V:
        """Return the value of a key. Stores `value` first if the key is missing, in one step: all threads get the same.

        Args:
            key: The key.
            value: Stored for a missing key.
        """
        with self._lock:
            found = self._entries.get(key, _MISSING)
            if found is not _MISSING:
                return found  # type: ignore[no-any-return]
            self._put(key, value)
            return value

    def pop(self, key: K, default: D) -> V | D:
        """Remove a key and return its value, or a default.

        Args:
            key: The key.
            default: Returned for a missing key.
        """
        with self._lock:
            return self._entries.pop(key, default)

    def drop_oldest_while(self, is_droppable: Callable[[V], bool]) -> None:
        """Drop entries from the oldest on, up to the first that `is_droppable` is False for."""
        with self._lock:
            while self._entries:
                oldest = next(iter(self._entries))
                if not is_droppable(self._entries[oldest]):
                    break
                del self._entries[oldest]

    def _put(self, key: K, value: V) -> None:
        self._entries.pop(key, None)
        self._entries[key] = value
        while len(self._entries) > self._capacity:
            self._entries.pop(next(iter(self._entries)), None)


class _Entry(Generic[V]):
    __slots__ = ("expires", "lock", "value")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.value: V = _MISSING
        self.expires = 0.0


class ExpiringCache(Generic[K, V]):
    """Looked-up values that expire after the seconds that their look-up returned. Safe under threads.

    One thread looks up a key; others that want it wait for the result. If the look-up raises, the next thread tries.

    Args:
        capacity: Most entries, at least 1.
        clock: Returns seconds that never decrease.
    """

    def __init__(self, capacity: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: BoundedCache[K, _Entry[V]] = BoundedCache(capacity)

    def reset(self) -> None:
        """Drop all entries."""
        self._entries.reset()

    def get(self, key: K, look_up: Callable[[V | None], tuple[V, float]]) -> V:
        """Return the value of a key, looking it up if there is none or it has expired.

        Args:
            key: The key.
            look_up: Called with the expired value, or None. Returns a value and the seconds to keep it.
        """
        entry = self._entry(key)
        if self._is_fresh(entry):
            return entry.value
        with entry.lock:
            if not self._is_fresh(entry):
                value, seconds = look_up(None if entry.value is _MISSING else entry.value)
                self._fill(key, entry, value, seconds)
            return entry.value

    def peek(self, key: K, *, expired: bool = False) -> V | None:
        """Return the value of a key without looking it up; None if there is none.

        Args:
            key: The key.
            expired: Whether an expired value counts.
        """
        entry = self._entries.get(key)
        if entry is None or entry.value is _MISSING or not (expired or self._is_fresh(entry)):
            return None
        return entry.value

    def put(self, key: K, value: V, seconds: float) -> None:
        """Store a value that was learned otherwise.

        Args:
            key: The key.
            value: The value.
            seconds: How long to keep it.
        """
        entry = self._entry(key)
        with entry.lock:
            self._fill(key, entry, value, seconds)

    def drop_expired(self) -> None:
        """Drop expired entries, from the oldest on up to the first that has not expired."""
        self._entries.drop_oldest_while(lambda entry: not self._is_fresh(entry))

    def _entry(self, key: K) -> _Entry[V]:
        entry = self._entries.get(key)
        return self._entries.setdefault(key, _Entry()) if entry is None else entry

    def _fill(self, key: K, entry: _Entry[V], value: V, seconds: float) -> None:
        # In this order: readers take no lock.
        entry.value, entry.expires = value, self._clock() + seconds
        self._entries.put(key, entry)

    def _is_fresh(self, entry: _Entry[V]) -> bool:
        return entry.value is not _MISSING and entry.expires > self._clock()
