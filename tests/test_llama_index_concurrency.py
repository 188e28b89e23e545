"""Many calls of `BedrockRouter` at once, in event loops; and what becomes of those that are cancelled."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from llama_index.core.async_utils import asyncio_run
from llama_index_forms import STREAMED, run, start, text_of, user
from samples import HAIKU, HELLO
from scripted_bedrock import ScriptedBedrock, stream_of, text, whole_of

from bedrock_routing_integrations.llama_index import BedrockRouter


def prompt_of(request):
    return request["messages"][0]["content"][0]["text"]


async def test_a_hundred_calls_run_at_once():
    everybody = threading.Barrier(100)  # opens only when all of them are there; asyncio's own threads are fewer

    def together(request):
        everybody.wait(60)
        return whole_of({"text": prompt_of(request)})

    with ScriptedBedrock(together) as server:
        llm = BedrockRouter(model=HAIKU, **server.arguments)
        answers = await asyncio.gather(*(llm.achat(user(f"Number {number}.")) for number in range(100)))
    assert [answer.message.content for answer in answers] == [f"Number {number}." for number in range(100)]


async def test_max_concurrency_bounds_calls_and_streams():
    three, lock, running, counts = threading.Barrier(3), threading.Lock(), [0], []

    def count(by):
        with lock:
            running[0] += by
            counts.append(running[0])

    def answer(request):
        count(1)
        three.wait(60)  # as many as may run at once do
        time.sleep(0.05)  # who should not be running has time to be counted
        if prompt_of(request) == "whole":
            count(-1)  # before the answer is sent: the next call may start as soon as it is there
            return whole_of({"text": "Hi"})
        return stream()

    def stream():
        *events, last = stream_of(text(0, "Hi"))
        yield from events
        count(-1)
        yield last

    with ScriptedBedrock(answer) as server:
        llm = BedrockRouter(model=HAIKU, max_concurrency=3, **server.arguments)
        forms = ("achat", "astream_chat", "acomplete") * 4
        await asyncio.gather(*(run(llm, form, "stream" if form in STREAMED else "whole") for form in forms))
    assert max(counts) == 3


@pytest.mark.parametrize("form", ["achat", "acomplete", "astream_chat", "astream_complete"])
async def test_cancelled_call_ends_at_once_and_next_call_answers(bedrock, form):
    llm = BedrockRouter(model=HAIKU)
    fault = bedrock.fail("hang")
    task = asyncio.create_task(start(llm, form, "Hello"))
    while not fault.hits:  # noqa: ASYNC110 - the emulator counts them, in its own thread
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)
    assert text_of((await run(llm, form, "Hello"))[-1])


@pytest.mark.parametrize("form", ["achat", "acomplete", "astream_chat", "astream_complete"])
async def test_calls_do_not_hold_up_the_event_loop(form):
    arrived, released, in_time = threading.Event(), threading.Event(), []

    def when_released(request):
        arrived.set()
        in_time.append(released.wait(20))
        return stream_of(text(0, "Hi")) if form in STREAMED else whole_of({"text": "Hi"})

    with ScriptedBedrock(when_released) as server:
        task = asyncio.create_task(run(BedrockRouter(model=HAIKU, **server.arguments), form, "Hello"))
        while not arrived.is_set():  # noqa: ASYNC110 - the server sets it in its own thread
            await asyncio.sleep(0.005)
        released.set()  # only a loop that goes on comes here before there is an answer
        assert text_of((await task)[-1]) == "Hi"
    assert in_time == [True]


def test_asyncio_run_of_llama_index_leaves_no_event_loop(router):
    llm = BedrockRouter(model=router)
    assert asyncio_run(llm.acomplete(HELLO)).text
    with pytest.raises(RuntimeError, match="no current event loop"):
        asyncio.get_event_loop()
