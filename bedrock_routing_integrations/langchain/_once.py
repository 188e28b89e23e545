"""What a report has counted already: LangChain tells of one call as often as it has been given a handler."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

K = TypeVar("K")
V = TypeVar("V")

# What tells of one call follows upon one another. Between the first and the last other threads have their turn.
_MOST_REMEMBERED = 10_000


class Bounded(Generic[K, V]):
    """A mapping that forgets the oldest. For many threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, key: K, value: V) -> None:
        """Remember."""
        with self._lock:
            self._kept[key] = value
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)

    def take(self, key: K) -> tuple[bool, V | None]:
        """Whether it is there, and what it is; afterwards it is not."""
        with self._lock:
            return (True, self._kept.pop(key)) if key in self._kept else (False, None)

    def first(self, key: K, value: V) -> bool:
        """Remember it; whether it was not known."""
        with self._lock:
            if key in self._kept:
                return False
            self._kept[key] = value
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
            return True


class Counted:
    """What has been counted in one report."""

    def __init__(self) -> None:
        self._recent: Bounded[Hashable, object] = Bounded(_MOST_REMEMBERED)
        self._threads = threading.local()

    def first(self, key: Hashable, kept: object = None) -> bool:
        """Whether it is told for the first time. `kept` lives on meanwhile, so that its `id` can be in the key."""
        return self._recent.first(key, kept)

    def error(self, error: BaseException, run_id: Hashable) -> bool:
        """Whether an error is told for the first time.

        LangChain gives the error of one prompt to the runs of all prompts of a batch, one after the other.
        """
        last = getattr(self._threads, "last", None)
        try:
            self._threads.last = weakref.ref(error)
        except TypeError:  # an exception that is not written in Python
            self._threads.last = None
        again = last is not None and last() is error
        return self.first(("error", run_id)) and not again


_counted: weakref.WeakKeyDictionary[object, Counted] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def counted_in(report: object) -> Counted:
    """What has been counted in a report, by whichever handler."""
    found = _counted.get(report)
    if found is None:
        with _lock:
            found = _counted.setdefault(report, Counted())
    return found
