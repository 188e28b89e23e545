"""Test blocking calls and iterators under asyncio: enough threads, the right context, no leaks."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock_routing_integrations.transport.threads import iterate_in_thread, pool, run_in_thread

MANY = 256
REQUEST = contextvars.ContextVar("request", default=None)


async def collect(stream):
    return [item async for item in stream]


async def until(condition, seconds=5):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:  # noqa: ASYNC110 - set by other threads
        await asyncio.sleep(0.01)
    return condition()


def python(code):
    """Return what code prints in a new interpreter where warnings are errors."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # In development mode asyncio reports callbacks that took 100 ms, which happens on a busy machine.
    assert [line for line in done.stderr.splitlines() if not line.startswith("Executing <")] == []
    return done.stdout


# Calls


def in_a_loop_of_its_own(work):
    """asyncio.run, in a thread: in the main one it would take pytest-asyncio's loop away, on Python 3.10."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


async def test_256_calls_run_at_once():
    everybody = threading.Barrier(MANY)  # opens only when all of them are waiting at it
    await asyncio.gather(*(run_in_thread(MANY, everybody.wait, 60) for _ in range(MANY)))


async def test_no_more_run_at_once_than_the_pool_has_threads():
    running, most, lock = 0, 0, threading.Lock()

    def work():
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1

    await asyncio.gather(*(run_in_thread(7, work) for _ in range(50)))
    assert most == 7


async def test_asyncios_own_pool_stays_free():
    loop = asyncio.get_running_loop()
    release = threading.Event()
    calls = [asyncio.ensure_future(run_in_thread(40, release.wait, 10)) for _ in range(40)]
    await asyncio.sleep(0.05)
    await asyncio.wait_for(loop.run_in_executor(None, int), 8)
    release.set()
    assert all(await asyncio.gather(*calls))


async def test_call_has_arguments_and_result_or_error():
    assert await run_in_thread(2, divmod, 7, 2) == (3, 1)
    assert await run_in_thread(2, sorted, [1, 3, 2], reverse=True) == [3, 2, 1]
    with pytest.raises(ZeroDivisionError):
        await run_in_thread(2, divmod, 1, 0)


@pytest.mark.parametrize("error", [StopIteration("x"), StopAsyncIteration("x"), KeyError("x")], ids=repr)
async def test_no_error_of_a_call_hangs_or_is_lost(error):
    def work():
        raise error

    with pytest.raises((type(error), RuntimeError)):
        await asyncio.wait_for(run_in_thread(2, work), 5)


async def test_call_has_a_copy_of_its_tasks_context():
    async def request(number):
        REQUEST.set(number)

        def work():
            items = REQUEST.get()
            REQUEST.set("changed in the thread")
            return items

        items = await run_in_thread(8, work)
        return items, REQUEST.get()

    results = await asyncio.gather(*(asyncio.ensure_future(request(n)) for n in range(50)))
    assert results == [(n, n) for n in range(50)]
    assert REQUEST.get() is None


async def test_a_cancelled_call_that_had_not_begun_never_runs():
    release, ran = threading.Event(), []
    first = asyncio.ensure_future(run_in_thread(1, release.wait, 10))
    await asyncio.sleep(0.05)
    second = asyncio.ensure_future(run_in_thread(1, ran.append, "second"))
    await asyncio.sleep(0.05)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    release.set()
    await first
    await run_in_thread(1, int)
    assert ran == []


async def test_a_cancelled_call_gives_control_back_at_once():
    release = threading.Event()
    call = asyncio.ensure_future(run_in_thread(3, release.wait, 10))
    await asyncio.sleep(0.05)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(call, 8)
    assert not release.is_set(), "its thread is still waiting"
    release.set()


def test_a_pool_outlives_its_event_loop():
    async def ask():
        return await run_in_thread(2, threading.get_ident)

    assert in_a_loop_of_its_own(ask())
    assert in_a_loop_of_its_own(ask())


def test_pool_is_shared_by_size():
    assert pool(5) is pool(5)
    assert pool(5) is not pool(6)


# Iterators


@given(st.lists(st.integers() | st.none() | st.text(max_size=3), max_size=50))
def test_items_come_once_and_in_their_order(items):
    assert in_a_loop_of_its_own(collect(iterate_in_thread(4, lambda: iter(items)))) == items


async def test_an_item_is_handed_over_when_it_is_there():
    more = threading.Event()

    def slow():
        yield "first"
        more.wait(10)
        yield "second"

    stream = iterate_in_thread(4, slow)
    assert await asyncio.wait_for(anext(stream), 5) == "first"
    more.set()
    assert [item async for item in stream] == ["second"]


async def test_a_busy_consumer_misses_nothing():
    items = []
    async for item in iterate_in_thread(4, lambda: iter(range(1000))):
        if item % 100 == 0:
            await asyncio.sleep(0.01)
        items.append(item)
    assert items == list(range(1000))


async def test_many_streams_at_once_each_have_their_own_items():
    def slow(number):
        for step in range(5):
            time.sleep(0.01)
            yield number, step

    streams = [collect(iterate_in_thread(100, lambda number=n: slow(number))) for n in range(100)]
    assert await asyncio.gather(*streams) == [[(n, step) for step in range(5)] for n in range(100)]


class Mine(BaseException):
    pass


@pytest.mark.parametrize(
    "error", [KeyError("x"), StopAsyncIteration("x"), Mine("x"), asyncio.CancelledError()], ids=repr
)
async def test_an_error_comes_after_the_items_that_came_before_it(error):
    def broken():
        yield 1
        yield 2
        raise error

    items = []

    async def read():
        async for item in iterate_in_thread(4, broken):
            items.append(item)

    with pytest.raises((type(error), RuntimeError)):
        await asyncio.wait_for(asyncio.ensure_future(read()), 5)
    assert items == [1, 2]


async def test_an_error_while_making_the_iterator_is_raised():
    def refuse():
        raise PermissionError("no")

    with pytest.raises(PermissionError, match="no"):
        await collect(iterate_in_thread(4, refuse))


async def test_stop_iteration_inside_is_not_the_end():
    class Broken:
        def __iter__(self):
            return self

        def __next__(self):
            raise RuntimeError("generator raised StopIteration")

    with pytest.raises(RuntimeError):
        await collect(iterate_in_thread(4, Broken))
    with pytest.raises((StopIteration, RuntimeError)):
        await asyncio.wait_for(collect(iterate_in_thread(4, lambda: next(iter([])))), 5)


async def test_error_while_closing_is_raised_without_a_hang():
    class Source:
        def __iter__(self):
            return iter([1, 2])

        def close(self):
            raise OSError("closing failed")

    async def read():
        try:
            return await collect(iterate_in_thread(4, Source))
        except OSError as error:
            return str(error)

    assert await asyncio.wait_for(read(), 5) in ([1, 2], "closing failed")


async def test_the_iterator_sees_the_context_variables_of_its_task():
    REQUEST.set("mine")

    def look():
        yield REQUEST.get()
        REQUEST.set("changed in the thread")
        yield REQUEST.get()

    assert await collect(iterate_in_thread(4, look)) == ["mine", "changed in the thread"]
    assert REQUEST.get() == "mine"


class Source:
    """An endless iterator that knows whether it was closed."""

    def __init__(self):
        self.closed = threading.Event()
        self.given = 0

    def __call__(self):
        try:
            while True:
                self.given += 1
                yield self.given
                time.sleep(0.005)
        finally:
            self.closed.set()


async def test_stopping_early_closes_the_iterator():
    source = Source()
    stream = iterate_in_thread(4, source)
    async for item in stream:
        if item == 3:
            break
    await stream.aclose()
    assert await until(source.closed.is_set)
    given = source.given
    await asyncio.sleep(0.05)
    assert source.given == given


async def test_an_error_of_the_consumer_closes_the_iterator():
    source = Source()
    stream = iterate_in_thread(4, source)
    with pytest.raises(KeyError, match="mine"):
        try:
            async for _ in stream:
                raise KeyError("mine")
        finally:
            await stream.aclose()
    assert await until(source.closed.is_set)


async def test_cancelling_the_consumer_closes_the_iterator():
    source = Source()
    task = asyncio.ensure_future(collect(iterate_in_thread(4, source)))
    await until(lambda: source.given > 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await until(source.closed.is_set)


async def test_a_timeout_of_the_consumer_closes_the_iterator():
    source = Source()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(collect(iterate_in_thread(4, source)), 0.1)
    assert await until(source.closed.is_set)


async def test_a_stream_that_is_forgotten_closes_its_iterator():
    source = Source()
    stream = iterate_in_thread(4, source)
    await anext(stream)
    del stream
    gc.collect()
    assert await until(source.closed.is_set)


async def test_stream_waiting_for_a_thread_can_be_cancelled():
    release = threading.Event()
    first = asyncio.ensure_future(run_in_thread(1, release.wait, 10))
    await asyncio.sleep(0.05)
    source = Source()
    task = asyncio.ensure_future(collect(iterate_in_thread(1, source)))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()
    await first
    await run_in_thread(1, int)
    assert source.given == 0


async def test_a_stream_that_is_never_read_starts_nothing():
    source = Source()
    stream = iterate_in_thread(4, source)
    await stream.aclose()
    await asyncio.sleep(0.05)
    assert source.given == 0


async def test_stopped_streams_free_their_threads():
    for _ in range(10):
        sources = [Source() for _ in range(4)]
        streams = [iterate_in_thread(4, source) for source in sources]
        for stream in streams:
            await asyncio.wait_for(anext(stream), 5)
        for stream in streams:
            await stream.aclose()
        for source in sources:
            assert await until(source.closed.is_set)


def test_loop_closed_with_open_stream_leaves_no_thread():
    source = Source()
    loop = asyncio.new_event_loop()
    stream = iterate_in_thread(4, source)
    assert loop.run_until_complete(anext(stream)) == 1
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    assert source.closed.wait(5)


def test_program_ends_quietly_after_calls_and_streams():
    output = python("""
        import asyncio, time
        from bedrock_routing_integrations.transport.threads import iterate_in_thread, run_in_thread

        async def main():
            await asyncio.gather(*(run_in_thread(50, time.sleep, 0.01) for _ in range(100)))
            stream = iterate_in_thread(50, lambda: iter(range(10)))
            async for item in stream:
                if item == 3:
                    break
            return item

        print(asyncio.run(main()))
    """)
    assert output.split() == ["3"]


def test_a_program_that_is_interrupted_amid_a_stream_ends_quietly():
    output = python("""
        import asyncio, time
        from bedrock_routing_integrations.transport.threads import iterate_in_thread

        def slow():
            for number in range(1000):
                time.sleep(0.02)
                yield number

        async def main():
            async for item in iterate_in_thread(4, slow):
                if item == 3:
                    raise SystemExit("stopped")

        started = time.monotonic()
        try:
            asyncio.run(main())
        except SystemExit as stop:
            print(stop, time.monotonic() - started < 10)
    """)
    assert output.split() == ["stopped", "True"]
