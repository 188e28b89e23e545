"""Test which blocks count a call: those of its context, else those its thread was started in, where that is clear."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from bedrock_routing_integrations.observability.active_handlers import ActiveHandlers

# Context variables are never freed; every test closes what it opens.
_handlers: ActiveHandlers[str] = ActiveHandlers("test_active_handlers", "Start them apart.")


@contextlib.contextmanager
def block(owner):
    _handlers.enter(owner)
    try:
        yield
    finally:
        _handlers.leave(owner)


@pytest.fixture(autouse=True)
def _closed():
    yield
    assert not _handlers
    assert _handlers.current() == ()


def in_thread(call, *args):
    """Return the result of a call in a new thread, which has a context of its own."""
    found = []
    thread = threading.Thread(target=lambda: found.append(call(*args)))
    thread.start()
    thread.join()
    return found[0]


def test_a_call_counts_for_the_blocks_around_it():
    assert _handlers.current() == ()
    with block("outer"):
        assert _handlers
        with block("inner"):
            assert _handlers.current() == ("outer", "inner")
        assert _handlers.current() == ("outer",)
    assert _handlers.current() == ()


def test_a_block_that_is_left_by_an_exception_is_closed():
    with contextlib.suppress(KeyError), block("one"):
        raise KeyError
    assert _handlers.current() == ()


def test_one_object_may_have_blocks_inside_one_another():
    with block("one"):
        with block("one"):
            assert _handlers.current() == ("one", "one")
        assert _handlers.current() == ("one",)


def test_blocks_may_be_left_in_any_order():
    _handlers.enter("a")
    _handlers.enter("b")
    _handlers.enter("c")
    _handlers.leave("a")
    assert _handlers.current() == ("b", "c")
    _handlers.leave("c")
    assert _handlers.current() == ("b",)
    _handlers.leave("b")


def test_leaving_what_was_not_entered_does_nothing():
    with block("one"):
        _handlers.leave("other")
        assert _handlers.current() == ("one",)


def test_threads_that_are_started_in_a_block_count_for_it():
    with block("outer"), block("inner"):
        assert in_thread(_handlers.current) == ("outer", "inner")
        assert in_thread(in_thread, _handlers.current) == ("outer", "inner")


def test_older_threads_need_the_context_of_the_block():
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        with block("one"):
            assert pool.submit(_handlers.current).result() == ()
            assert pool.submit(contextvars.copy_context().run, _handlers.current).result() == ("one",)


def test_bare_thread_belongs_to_blocks_open_at_its_start():
    with block("outer"), ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        with block("inner"):
            assert pool.submit(_handlers.current).result() == ("outer",)


def test_a_thread_that_python_did_not_start_counts_for_none():
    found = []
    ended = _thread.allocate_lock()
    ended.acquire()

    def work():
        found.append(_handlers.current())
        ended.release()

    with block("one"):
        _thread.start_new_thread(work, ())
        assert ended.acquire(timeout=20)
    assert found == [()]


def test_block_in_bare_thread_is_nested_in_its_blocks():
    def inside():
        with block("inner"):
            return _handlers.current(), in_thread(_handlers.current)

    with block("outer"):
        assert in_thread(inside) == (("outer", "inner"), ("outer", "inner"))
        assert _handlers.current() == ("outer",)


def test_bare_thread_belongs_to_no_block_side_by_side(caplog):
    opened, done = threading.Barrier(2), threading.Event()

    def elsewhere():
        with block("other"):
            opened.wait(20)
            done.wait(20)

    beside = threading.Thread(target=elsewhere)
    beside.start()
    opened.wait(20)
    try:
        with block("mine"):
            assert _handlers.current() == ("mine",)
            assert in_thread(_handlers.current) == in_thread(_handlers.current) == ()
            assert in_thread(contextvars.copy_context().run, _handlers.current) == ("mine",)
    finally:
        done.set()
        beside.join()
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "side by side" in warning
    assert warning.endswith("Start them apart.")


def test_pool_thread_belongs_to_no_block_side_by_side(caplog):
    is_open, done = threading.Event(), threading.Event()

    def first(pool):
        with block("first"):
            assert pool.submit(_handlers.current).result() == ("first",), "its thread is started here"
            is_open.set()
            done.wait(20)
            assert pool.submit(_handlers.current).result() == ("first",), "alone again"

    with ThreadPoolExecutor(1) as pool:
        beside = threading.Thread(target=first, args=[pool])
        # Both threads are there before either block: neither lies in the other.
        barrier = threading.Barrier(2)

        def second():
            barrier.wait(20)
            is_open.wait(20)
            with block("second"):
                return pool.submit(_handlers.current).result()

        with ThreadPoolExecutor(1) as other:
            waiting = other.submit(second)
            barrier.wait(20)
            beside.start()
            assert waiting.result() == ()
            done.set()
            beside.join()
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "side by side" in warning


async def test_tasks_side_by_side_count_each_for_its_own_block():
    together = asyncio.Barrier(3) if hasattr(asyncio, "Barrier") else None

    async def work(name):
        with block(name):
            if together is not None:
                await together.wait()
            else:
                await asyncio.sleep(0)
            inner = await asyncio.create_task(here())
            return _handlers.current(), inner, await asyncio.to_thread(_handlers.current)

    async def here():
        return _handlers.current()

    with block("outer"):
        found = await asyncio.gather(*(work(name) for name in "abc"))
    assert found == [(("outer", name),) * 3 for name in "abc"]


async def test_task_belongs_to_no_block_of_another_task():
    inside, done = asyncio.Event(), asyncio.Event()

    async def with_block():
        with block("one"):
            inside.set()
            await done.wait()

    task = asyncio.create_task(with_block())
    await inside.wait()
    assert _handlers.current() == ()
    done.set()
    await task


async def test_a_task_that_outlives_its_block_counts_no_longer():
    go = asyncio.Event()

    async def later():
        await go.wait()
        return _handlers.current()

    with block("one"):
        task = asyncio.create_task(later())
    with block("two"):
        go.set()
        assert await task == ()


def test_a_block_may_be_left_in_another_context():
    contextvars.copy_context().run(_handlers.enter, "one")
    assert _handlers
    _handlers.leave("one")
    assert not _handlers
    _handlers.enter("two")
    contextvars.copy_context().run(_handlers.leave, "two")
    assert _handlers.current() == ()


def test_the_innermost_block_of_this_context_is_left():
    elsewhere = contextvars.copy_context()
    _handlers.enter("one")
    elsewhere.run(_handlers.enter, "one")
    _handlers.leave("one")
    assert _handlers.current() == ()
    assert elsewhere.run(_handlers.current) == ("one",)
    elsewhere.run(_handlers.leave, "one")


def test_call_of_older_thread_warns_once(caplog):
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        with block("mine"):
            assert pool.submit(_handlers.current).result() == pool.submit(_handlers.current).result() == ()
            assert pool.submit(contextvars.copy_context().run, _handlers.current).result() == ("mine",)
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "was started before" in warning
    assert warning.endswith("Start them apart.")
