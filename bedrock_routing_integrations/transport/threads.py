"""Run blocking calls of asynchronous callers in threads of our own, not in asyncio's small pool.

asyncio's default executor has ``cpu_count + 4`` threads for the whole process, so 256 Bedrock calls would run six at a
time. Until native async, each call takes a thread of a pool as large as the connection pool.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from bedrock_routing_integrations.runtime import DEFAULT_RUNTIME

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

T = TypeVar("T")


class ThreadPool:
    """A pool that starts threads as they are needed.

    Args:
        size: Most threads.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self.reset()

    def reset(self) -> None:
        """Replace the pool: threads do not survive a fork, and a pool without threads would wait for ever."""
        self.executor = ThreadPoolExecutor(self._size, "bedrock-routing")


def pool(max_concurrency: int) -> ThreadPoolExecutor:
    """Return the default runtime's pool of a size.

    Args:
        max_concurrency: Most threads.
    """
    return DEFAULT_RUNTIME.shared(ThreadPool, max_concurrency).executor


async def run_in_thread(max_concurrency: int, call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Await ``call(*args, **kwargs)`` in a thread of the pool, with the caller's context variables.

    Args:
        max_concurrency: The size of the pool.
        call: A function that blocks.
        *args: Its arguments.
        **kwargs: Its keyword arguments.
    """
    context = contextvars.copy_context()
    work = functools.partial(context.run, _without_stop_iteration, call, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(pool(max_concurrency), work)


def _without_stop_iteration(call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    try:
        return call(*args, **kwargs)
    except StopIteration as error:  # asyncio cannot carry it, and would wait for ever
        raise RuntimeError("the call raised StopIteration") from error


async def iterate_in_thread(max_concurrency: int, make: Callable[[], Iterator[T]]) -> AsyncGenerator[T, None]:
    """Iterate asynchronously over an iterator that blocks. Occupies one thread of the pool until the end.

    Items that arrive while the consumer is busy are passed on together. If the consumer stops early (``aclose``, a
    cancelled task), the iterator is closed as soon as it yields again.

    Args:
        max_concurrency: The size of the pool.
        make: Returns the iterator. Called in the thread, with the caller's context variables.
    """
    relay: _Relay[T] = _Relay(asyncio.get_running_loop())
    context = contextvars.copy_context()
    work = pool(max_concurrency).submit(context.run, relay.fill, make)
    try:
        while True:
            for item in await relay.take():
                yield item
            if relay.finished:
                break
        if relay.error is not None:
            raise relay.error
    finally:
        relay.abandon()
        work.cancel()


class _Relay(Generic[T]):
    """Pass items from the thread that produces them to the event loop that consumes them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.finished = False
        self.error: BaseException | None = None
        self._loop = loop
        self._arrived = asyncio.Event()
        self._items: deque[T] = deque()
        self._lock = threading.Lock()
        self._done = False
        self._abandoned = False
        self._waking = False

    def fill(self, make: Callable[[], Iterator[T]]) -> None:
        """Run the iterator to its end. Called in the thread."""
        error: BaseException | None = None
        try:
            iterator = make()
            try:
                for item in iterator:
                    if self._abandoned:
                        break
                    self._put(item)
            finally:
                close = getattr(iterator, "close", None)
                if close is not None:
                    close()
        except BaseException as caught:  # noqa: BLE001 - raised again in the consumer's task
            error = caught
        with self._lock:
            self.error = error
            self._done = True
        self._wake()

    def _put(self, item: T) -> None:
        with self._lock:
            self._items.append(item)
            wake, self._waking = not self._waking, True
        if wake:
            self._wake()

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._arrived.set)
        except RuntimeError:  # the loop was closed while the stream was open
            self._abandoned = True

    async def take(self) -> list[T]:
        """Wait for items. Afterwards, `finished` is True if these were the last. Called in the event loop."""
        await self._arrived.wait()
        with self._lock:
            self._arrived.clear()
            self._waking = False
            items = list(self._items)
            self._items.clear()
            self.finished = self._done
        return items

    def abandon(self) -> None:
        """Close the iterator when it yields again."""
        self._abandoned = True
