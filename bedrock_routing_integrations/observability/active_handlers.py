"""For which ``with`` blocks a call counts: those that it is made in, in other threads and tasks too.

A block is known by a context variable, which tasks inherit, and the threads of asyncio and of the frameworks. A thread
that the user starts has a context of its own, in which nothing of the block is known. So:

- A call counts for the blocks of its context, the outer ones too.
- Where its context knows of no block, it counts for those that were open when its thread was started, if all that are
  open now lie inside one another. Of blocks that are open side by side (as two requests of a server, with a pool that
  fills as it is used) it cannot be told who gave the thread its work: the call counts for none, and a warning says so.
- Threads that were there before a block, as a server's, do not count for it unless their context is the block's; nor
  do threads that Python did not start, of which nobody knows since when they are there.
"""

from __future__ import annotations

import contextvars
import threading
from dataclasses import dataclass
from typing import Generic, TypeVar
from weakref import WeakSet

from bedrock_routing_integrations.runtime import warn_once

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class _Scope(Generic[T]):
    """An open block."""

    owner: T
    around: tuple[_Scope[T], ...]
    older_threads: WeakSet[threading.Thread]


class Scopes(Generic[T]):
    """The open blocks of one kind of object. Safe under threads; a block may be left in another context.

    Args:
        name: Of the context variable. They are never freed: make one `Scopes` for a module.
        advice: What to do about a thread whose calls cannot be told apart.
    """

    def __init__(self, name: str, advice: str) -> None:
        self._name, self._advice = name, advice
        self._entered: contextvars.ContextVar[tuple[_Scope[T], ...] | None] = contextvars.ContextVar(name, default=None)
        self._lock = threading.Lock()
        self._open: tuple[_Scope[T], ...] = ()

    def __bool__(self) -> bool:
        """Whether any block is open."""
        return bool(self._open)

    def enter(self, owner: T) -> None:
        """Open a block."""
        with self._lock:
            around, _ = self._here()
            scope = _Scope(owner, around, WeakSet(threading.enumerate()))
            self._open = (*self._open, scope)
            self._entered.set((*around, scope))

    def leave(self, owner: T) -> None:
        """Close the innermost open block of `owner`."""
        with self._lock:
            known = self._entered.get() or ()
            mine = [scope for scope in self._open if scope.owner is owner]
            here = [scope for scope in mine if scope in known]
            for scope in (here or mine)[-1:]:
                self._open = tuple(other for other in self._open if other is not scope)
            if here:
                self._entered.set(tuple(other for other in known if other is not here[-1]) or None)

    def here(self) -> tuple[T, ...]:
        """The objects for whose open blocks a call counts that is made here, the outermost first."""
        scopes, why_not = self._here()
        if why_not:
            thread = threading.current_thread().name
            warn_once(
                (self._name, why_not), f"A call of thread {thread!r} is not counted for {why_not}. {self._advice}"
            )
        return tuple(scope.owner for scope in scopes)

    def _here(self) -> tuple[tuple[_Scope[T], ...], str]:
        """The blocks; where a thread without a context has none of those that are open, why."""
        known, opened = self._entered.get(), self._open
        if known is not None:
            return tuple(scope for scope in known if scope in opened), ""
        thread = threading.current_thread()
        if isinstance(thread, threading._DummyThread):  # noqa: SLF001 - there is no other name for it
            return (), ""
        found = tuple(scope for scope in opened if thread not in scope.older_threads)
        if found and not all(_in_line(scope, found[-1]) for scope in opened):
            return (), "any of the blocks that are open side by side, as it cannot be told which of them is meant"
        if opened and not found:
            return (), "the block that is open, as the thread was started before it and its context knows nothing of it"
        return found, ""


def _in_line(one: _Scope[T], other: _Scope[T]) -> bool:
    """Whether one of them lies inside the other."""
    return one is other or one in other.around or other in one.around
