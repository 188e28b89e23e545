"""`Runtime`: the state that objects of one process share. And the package's logger.

Objects with equal settings share boto3 clients, look-ups, what is known of cached prefixes, and more. All of that
belongs to one `Runtime`, which makes each shared object on first use. There is a default; a test that wants a clean
slate, or a clock of its own, passes another one: ``RoutedClient(client, runtime=Runtime(clock=clock))``.

A forked child process starts empty: sockets and threads of the parent are not usable there, and a lock that another
thread held would never be released.

Nothing of a prompt, an answer or a secret is logged above DEBUG, and secrets are logged nowhere.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from bedrock_routing_integrations.bounded_cache import BoundedCache

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable

logger = logging.getLogger("bedrock_routing_integrations")

_WARNINGS_KEPT = 10_000


class Resettable(Protocol):
    """An object with state that a forked process, or the next test, must not see."""

    def reset(self) -> None:
        """Drop all state, and replace locks."""


R = TypeVar("R", bound=Resettable)
_runtimes: weakref.WeakSet[Runtime] = weakref.WeakSet()


class Runtime:
    """The state that objects share. Safe under threads.

    Args:
        clock: Returns seconds that never decrease. Look-ups, cached prefixes and refusals expire by it.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._lock = threading.RLock()  # making one shared object may need another
        self._shared: dict[tuple[Any, ...], Resettable] = {}
        self._attached: weakref.WeakSet[Any] = weakref.WeakSet()
        self._warned: BoundedCache[Hashable, object] = BoundedCache(_WARNINGS_KEPT)
        _runtimes.add(self)

    def shared(self, make: Callable[..., R], *arguments: Hashable) -> R:
        """Return ``make(*arguments)``, made once: everyone who asks for the same gets the same object.

        Args:
            make: A class, or a function that returns a new object. Its objects need a ``reset`` method.
            *arguments: Passed to `make`.
        """
        key = (make, *arguments)
        found: Any = self._shared.get(key)
        if found is None:
            with self._lock:
                found = self._shared.get(key)
                if found is None:
                    found = self._shared[key] = make(*arguments)
        return found  # type: ignore[no-any-return]

    def attach(self, state: Resettable) -> None:
        """Reset an object that others own together with the shared ones, for as long as it lives."""
        self._attached.add(state)

    def warn_once(self, subject: Hashable, message: str) -> None:
        """Log a WARNING unless there was one about the same subject.

        Args:
            subject: What the warning is about, such as ``("denied", target)``.
            message: What is wrong and what to do about it.
        """
        mine = object()
        if subject not in self._warned and self._warned.setdefault(subject, mine) is mine:
            logger.warning("%s", message)

    def reset(self, *, keep: Collection[object] = ()) -> None:
        """Drop all state. Objects that hold a shared object keep it, empty.

        Args:
            keep: Classes whose shared objects stay as they are. A test suite keeps the clients: connecting is slow.
        """
        self._lock = threading.RLock()
        self._warned.reset()
        for (make, *_), state in list(self._shared.items()):
            if make not in keep:
                state.reset()
        for state in list(self._attached):
            state.reset()


DEFAULT_RUNTIME = Runtime()
"""Used wherever no other is passed."""


def warn_once(subject: Hashable, message: str) -> None:
    """Log a WARNING unless the default runtime has logged one about the same subject.

    Args:
        subject: What the warning is about, such as ``("denied", target)``.
        message: What is wrong and what to do about it.
    """
    DEFAULT_RUNTIME.warn_once(subject, message)


def _reset_all() -> None:
    for runtime in list(_runtimes):
        runtime.reset()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_reset_all)
