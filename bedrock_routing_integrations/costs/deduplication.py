"""Recognize calls that a report has counted already.

A framework can report one call several times: to several handlers that share a report, to one handler that is added at
several places, and for each run or dispatcher that the answer passes through. These reports follow each other closely,
so it is enough to remember the latest ones.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

from bedrock_routing_integrations.bounded_cache import BoundedCache

if TYPE_CHECKING:
    from collections.abc import Hashable

_MAX_SEEN = 10_000


class SeenCalls:
    """The latest calls that one report has counted. Safe under threads.

    Args:
        maximum: The number of calls to remember.
    """

    def __init__(self, maximum: int = _MAX_SEEN) -> None:
        self._keys: BoundedCache[Hashable, object] = BoundedCache(maximum)
        self._errors: weakref.WeakSet[BaseException] = weakref.WeakSet()
        self._lock = threading.Lock()

    def add(self, key: Hashable) -> bool:
        """Remember a call, and return whether it is new.

        Args:
            key: Identifies the call, such as AWS's request id or a framework's id of an event.
        """
        mine = object()
        return self._keys.setdefault(key, mine) is mine

    def add_error(self, error: BaseException, key: Hashable) -> bool:
        """Remember a failed call, and return whether both the call and the exception are new.

        LangChain reports the exception of one prompt to the runs of all prompts of a ``generate``: one failed call.

        Args:
            error: The exception.
            key: Identifies the call.
        """
        try:
            with self._lock:
                is_new = error not in self._errors
                self._errors.add(error)
        except TypeError:  # exceptions of classes that are written in C have no weak references
            is_new = True
        return self.add(("error", key)) and is_new
