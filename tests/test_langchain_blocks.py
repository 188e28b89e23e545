"""`with RoutingCallbackHandler() as handler:` counts what is called in the block, in whichever thread or task."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import queue
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tracers import context as hooks
from langchain_ways import MODELS, WAYS, ask
from samples import HAIKU, HELLO
from scripted_bedrock import ScriptedBedrock, whole_of

from bedrock_routing_integrations.langchain import ChatBedrockRouter, RoutingCallbackHandler
from bedrock_routing_integrations.langchain import callbacks as _listening


@pytest.fixture
def llm(router):
    return ChatBedrockRouter(model=router)


def in_thread(call, *arguments):
    """Run it in a thread of the user's own, which has no context."""
    thread = threading.Thread(target=call, args=arguments)
    thread.start()
    thread.join()


@contextlib.contextmanager
def worker():
    """A thread that is there already; what it is sent it runs, and hands back."""
    sent, done = queue.Queue(), queue.Queue()

    def work():
        for call in iter(sent.get, None):
            done.put(call())

    def run(call):
        sent.put(call)
        return done.get(timeout=20)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield run
    finally:
        sent.put(None)
        thread.join()


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("way", WAYS)
async def test_block_counts_its_own_calls_only(router, kind, way):
    model = MODELS[kind](model=router)
    await ask(model, way, HELLO)
    async with RoutingCallbackHandler() as handler:
        await ask(model, way, HELLO)
        await asyncio.gather(*(ask(model, way, HELLO) for _ in range(3)))
        await asyncio.to_thread(model.invoke, HELLO)
    await ask(model, way, HELLO)
    in_thread(model.invoke, HELLO)
    assert handler.report.calls == 5


def test_nested_chains_and_langchains_threads_count(llm):
    inner = RunnableLambda(lambda question: llm.invoke(question).text)
    with RoutingCallbackHandler() as handler:
        (RunnableParallel(one=inner, other=inner | inner) | (lambda both: both["one"]) | llm).invoke(HELLO)
        RunnableParallel(one=inner, other=llm).batch([HELLO] * 2)
    assert handler.report.calls == 8


def test_an_inner_block_counts_for_the_outer_one_too(llm):
    with RoutingCallbackHandler() as outer:
        llm.invoke(HELLO)
        with RoutingCallbackHandler() as inner:
            llm.invoke(HELLO)
            RunnableLambda(llm.invoke).invoke(HELLO)
        llm.invoke(HELLO)
    assert (outer.report.calls, inner.report.calls) == (4, 2)


def test_block_inside_a_chain_counts_calls_below_it(llm):
    with RoutingCallbackHandler() as outer:
        inner = RoutingCallbackHandler()

        def step(question):
            with inner:
                return llm.invoke(question)

        (RunnableLambda(step) | (lambda message: message.text) | llm).invoke(HELLO)
    assert (outer.report.calls, inner.report.calls) == (2, 1)


def test_a_handler_can_be_opened_again(llm):
    handler = RoutingCallbackHandler()
    for _ in range(2):
        with handler:
            llm.invoke(HELLO)
        llm.invoke(HELLO)
    assert handler.report.calls == 2


def test_a_thread_that_is_started_in_the_block_counts(llm):
    with RoutingCallbackHandler() as handler:
        in_thread(llm.invoke, HELLO)
        with RoutingCallbackHandler() as inner, ThreadPoolExecutor(2) as threads:
            list(threads.map(llm.invoke, [HELLO] * 4))
    assert (handler.report.calls, inner.report.calls) == (5, 4)


def test_an_event_loop_in_a_thread_of_its_own_counts(llm):
    with RoutingCallbackHandler() as handler:
        in_thread(asyncio.run, llm.ainvoke(HELLO))
    assert handler.report.calls == 1


def test_older_thread_counts_only_in_context_of_block(llm):
    with worker() as run, RoutingCallbackHandler() as handler:
        run(lambda: llm.invoke(HELLO))
        assert handler.report.calls == 0
        context = contextvars.copy_context()
        run(lambda: context.run(llm.invoke, HELLO))
        assert handler.report.calls == 1


def test_blocks_side_by_side_count_no_bare_thread(llm, caplog):
    one, other = RoutingCallbackHandler(), RoutingCallbackHandler()

    def both_open(call):
        with other:
            return call()

    with worker() as run, one:
        run(lambda: both_open(lambda: [llm.invoke(HELLO), llm.invoke(HELLO)]))
        assert (one.report.calls, other.report.calls) == (0, 2)
        assert not caplog.records
        run(lambda: both_open(lambda: in_thread(llm.invoke, HELLO)))
        run(lambda: both_open(lambda: in_thread(llm.invoke, HELLO)))
        assert (one.report.calls, other.report.calls) == (0, 2)
        (warning,) = [record for record in caplog.records if record.name == "bedrock_routing_integrations"]
        assert "config={'callbacks': [handler]}" in warning.getMessage()
        run(lambda: both_open(lambda: in_thread(llm.invoke, HELLO, {"callbacks": [other]})))
    assert (one.report.calls, other.report.calls) == (0, 3)


def test_a_block_can_be_left_in_another_context(llm):
    # As the fixtures of pytest's asyncio plugins, and generators in general, are.
    def fixture():
        with RoutingCallbackHandler() as handler:
            yield handler

    opened = fixture()
    context = contextvars.copy_context()
    handler = context.run(next, opened)
    context.run(llm.invoke, HELLO)
    with pytest.raises(StopIteration):
        next(opened)
    context.run(llm.invoke, HELLO)
    llm.invoke(HELLO)
    assert handler.report.calls == 1
    assert not handler.is_open
    with RoutingCallbackHandler() as later:
        context.run(llm.invoke, HELLO)
    assert later.report.calls == 0


async def test_stream_that_ends_after_block_does_not_count(llm):
    with RoutingCallbackHandler() as handler:
        stream = llm.astream(HELLO)
        await anext(stream)
    async for _ in stream:
        pass
    assert handler.report.calls == 0


async def test_a_stream_counts_that_another_task_reads_to_its_end(llm):
    with RoutingCallbackHandler() as handler:
        stream = llm.stream(HELLO)
        next(stream)
        with worker() as run:
            run(lambda: list(stream))
    assert handler.report.calls == 1


async def test_tasks_count_for_the_block_that_they_were_started_in(llm):
    async def one_of_many(number):
        async with RoutingCallbackHandler() as handler:
            await asyncio.gather(*(llm.ainvoke(HELLO) for _ in range(number)))
        return handler.report.calls

    with RoutingCallbackHandler() as outer:
        assert await asyncio.gather(*map(one_of_many, range(1, 6))) == [1, 2, 3, 4, 5]
    assert outer.report.calls == 15


def test_blocks_restore_langchains_state(llm):
    before = len(hooks._configure_hooks)
    for _ in range(3):
        with RoutingCallbackHandler() as handler:
            llm.invoke(HELLO)
    assert len(hooks._configure_hooks) == before
    assert handler.report.calls == 1


def test_block_may_close_while_langchain_reads_the_hook(llm, monkeypatch):
    handler, inner = RoutingCallbackHandler(), RoutingCallbackHandler()
    ask_hook = _listening._Hook.get
    answers = iter([_listening.ActiveHandlersListener((handler,)), None])  # it asks whether there is one, then for it
    monkeypatch.setattr(_listening._Hook, "get", lambda hook: next(answers) if inner not in entered else ask_hook(hook))
    entered = []

    def step(question):
        entered.append(inner)
        with inner:
            return llm.invoke(question)

    assert RunnableLambda(step).invoke(HELLO).text
    assert (handler.report.calls, inner.report.calls) == (0, 1)


def test_nested_runs_reach_one_listener(llm):
    found_listeners = []

    def step(question, config):
        found_listeners.append(
            [each for each in config["callbacks"].handlers if isinstance(each, _listening.ActiveHandlersListener)]
        )
        return question

    with RoutingCallbackHandler():
        (RunnableLambda(step) | RunnableLambda(RunnableLambda(step).invoke) | llm).invoke(HELLO)
    assert [len(listeners) for listeners in found_listeners] == [1, 1]


# --- sums ---


@pytest.fixture
def counted_calls():
    usage = {"inputTokens": 7, "outputTokens": 11, "totalTokens": 18}
    with ScriptedBedrock(whole_of({"text": "Yes."}, usage=usage)) as server:
        yield ChatBedrockRouter(model=HAIKU, max_concurrency=64, **server.arguments), 64


def check_sums(handler, calls):
    totals = handler.report.to_dict()["totals"]
    # Claude 3 Haiku: 0.25 and 1.25 US dollars per million tokens.
    assert (totals["calls"], totals["errors"]) == (calls, {})
    assert (totals["tokens"]["input"], totals["tokens"]["output"]) == (7 * calls, 11 * calls)
    assert totals["cost_usd"] == (7 * 25 + 11 * 125) * calls / 100_000_000


def test_calls_from_64_threads_add_up(counted_calls):
    llm, calls = counted_calls
    with RoutingCallbackHandler() as handler, ThreadPoolExecutor(64) as threads:
        list(threads.map(llm.invoke, ["Yes?"] * calls))
    check_sums(handler, calls)


async def test_calls_from_64_tasks_add_up(counted_calls):
    llm, calls = counted_calls
    left = iter(range(calls))

    async def work():
        for _ in left:
            await llm.ainvoke("Yes?")

    async with RoutingCallbackHandler() as handler:
        await asyncio.gather(*(work() for _ in range(64)))
    check_sums(handler, calls)
