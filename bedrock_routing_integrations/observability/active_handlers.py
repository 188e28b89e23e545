"""Find the handlers whose ``with`` blocks a call belongs to, in other threads and tasks too.

An open block is an entry of a context variable. Tasks inherit it, and so do the threads of asyncio, of the frameworks
and of this package, which copy the context. A thread that the user starts has a context of its own, without the entry:

- Its calls belong to the blocks that were open when the thread was started, provided that all open blocks are nested in
  one another. If blocks are open side by side, as in two requests of a server, the call could belong to either. Then it
  belongs to none, and a warning is logged once.
- Threads that are older than a block, such as those of a server's pool, do not belong to it. Threads that Python did
  not start have no known age, and belong to no block.
- ``contextvars.copy_context().run`` as the thread's target makes all of this exact.
"""

from __future__ import annotations

import contextvars
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar
from weakref import WeakSet

from bedrock_routing_integrations.runtime import DEFAULT_RUNTIME, warn_once

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class _Block(Generic[T]):
    handler: T
    outer_blocks: tuple[_Block[T], ...]
    older_threads: WeakSet[threading.Thread]


class ActiveHandlers(Generic[T]):
    """The open ``with`` blocks of one class of handlers. Safe under threads.

    Args:
        name: Name of the context variable. Context variables are never freed: make one `ActiveHandlers` for a module.
        advice: The end of the warning about a thread whose calls belong to no block.
        on_change: Called after a block was opened or closed, by one thread at a time.
    """

    def __init__(self, name: str, advice: str, on_change: Callable[[], None] | None = None) -> None:
        self._name, self._advice, self._on_change = name, advice, on_change
        self._blocks: contextvars.ContextVar[tuple[_Block[T], ...] | None] = contextvars.ContextVar(name, default=None)
        self._lock = threading.Lock()
        self._open_blocks: tuple[_Block[T], ...] = ()
        DEFAULT_RUNTIME.attach(self)

    def reset(self) -> None:
        """Replace the lock, which another thread may have held when the process forked. Blocks stay open."""
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        """Return whether any block is open, in any context."""
        return bool(self._open_blocks)

    def enter(self, handler: T) -> None:
        """Open a block of a handler."""
        with self._lock:
            outer_blocks, _ = self._current_blocks()
            block = _Block(handler, outer_blocks, WeakSet(threading.enumerate()))
            self._open_blocks = (*self._open_blocks, block)
            self._blocks.set((*outer_blocks, block))
            if self._on_change is not None:
                self._on_change()

    def leave(self, handler: T) -> None:
        """Close the innermost open block of a handler: of those in this context, else of all.

        Pytest's asyncio plugins, and generators in general, leave a block in another context than they enter it.
        """
        with self._lock:
            in_context = self._blocks.get() or ()
            blocks = [block for block in self._open_blocks if block.handler is handler]
            blocks_in_context = [block for block in blocks if block in in_context]
            for closed in (blocks_in_context or blocks)[-1:]:
                self._open_blocks = tuple(block for block in self._open_blocks if block is not closed)
                self._blocks.set(tuple(block for block in in_context if block is not closed) or None)
            if self._on_change is not None:
                self._on_change()

    def is_open(self, handler: T) -> bool:
        """Return whether a block of a handler is open, in any context."""
        return any(block.handler is handler for block in self._open_blocks)

    def current(self) -> tuple[T, ...]:
        """Return the handlers whose open blocks a call belongs to that is made now, the outermost first."""
        blocks, reason = self._current_blocks()
        if reason:
            thread = threading.current_thread().name
            warn_once((self._name, reason), f"A call of thread {thread!r} is not counted: {reason}. {self._advice}")
        return tuple(block.handler for block in blocks)

    def _current_blocks(self) -> tuple[tuple[_Block[T], ...], str]:
        """Return the current blocks; if there are none but others are open, why."""
        in_context, open_blocks = self._blocks.get(), self._open_blocks
        if in_context is not None:
            return tuple(block for block in in_context if block in open_blocks), ""
        thread = threading.current_thread()
        if isinstance(thread, threading._DummyThread):  # noqa: SLF001 - it has no public name
            return (), ""
        blocks = tuple(block for block in open_blocks if thread not in block.older_threads)
        if open_blocks and not blocks:
            return (), "the thread was started before the open block, and its context does not have the block"
        if blocks and not all(_are_nested(block, blocks[-1]) for block in open_blocks):
            return (), "several blocks are open side by side, and the thread's context does not have any of them"
        return blocks, ""


def _are_nested(block: _Block[T], other: _Block[T]) -> bool:
    return block is other or block in other.outer_blocks or other in block.outer_blocks
