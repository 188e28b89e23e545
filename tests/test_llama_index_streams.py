"""Test streams of `BedrockRouter` that break off, are abandoned, or are read while they go on."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import time

import pytest
from botocore.exceptions import EventStreamError
from llama_index.core.base.llms.types import ChatResponse, CompletionResponse
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index_forms import STREAMED, read, run, start, text_of, user
from samples import HAIKU, HELLO
from scripted_bedrock import ScriptedBedrock, block_stop, call_delta, call_start, stream_of, text

from bedrock_routing_integrations.errors import StreamInterruptedError
from bedrock_routing_integrations.llama_index import BedrockRouter


def wait_until(what):
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Keeper(BaseEventHandler):
    """Keeps all events, and with them exceptions and their tracebacks."""

    kept: list = []  # noqa: RUF012 - a pydantic field

    def handle(self, event, **kwargs):
        self.kept.append(event)


@pytest.fixture
def keeper():
    handler = Keeper()
    get_dispatcher().add_event_handler(handler)
    yield handler
    get_dispatcher().event_handlers.remove(handler)


# --- broken ---


@pytest.mark.sample(6)
@pytest.mark.parametrize("form", STREAMED)
@pytest.mark.parametrize("details", [{"frame": 0}, {"frame": 3}, {"byte": 300}, {"frame": 4, "abrupt": True}])
async def test_a_stream_that_breaks_off_raises_with_what_had_arrived(bedrock, router, form, details):
    bedrock.fail("cut", **details)
    received = []
    with pytest.raises(StreamInterruptedError, match="broke off") as caught:
        stream = await start(BedrockRouter(model=router), form, HELLO)
        if form.startswith("a"):
            async for chunk in stream:
                received.append(chunk)
        else:
            for chunk in stream:
                received.append(chunk)
    assert caught.value.text == "".join(chunk.delta for chunk in received)
    assert all("routing" not in chunk.additional_kwargs for chunk in received)


@pytest.mark.parametrize("form", STREAMED)
async def test_an_exception_in_a_stream_is_boto3s(bedrock, router, form):
    bedrock.fail("exception_event", name="throttlingException", message="Too fast.", frame=3)
    with pytest.raises(EventStreamError, match="Too fast"):
        await run(BedrockRouter(model=router), form, HELLO)


# --- abandoned ---


@pytest.mark.sample(3)
@pytest.mark.parametrize("form", ["stream_chat", "stream_complete"])
@pytest.mark.parametrize("how", ["close", "forget", "break"])
def test_stream_abandoned_early_frees_its_connection(bedrock, keeper, form, how):
    """Even if a listener keeps all events: an exception keeps its traceback and the frames in it."""
    bedrock.fail("slow_stream", seconds=0.2, rate=1.0)
    llm = BedrockRouter(model=HAIKU)

    def give_up():
        stream = getattr(llm, form)(user(HELLO) if form == "stream_chat" else HELLO)
        if how == "break":
            for _ in stream:
                return
        next(stream)
        if how == "close":
            stream.close()

    gc.disable()
    try:
        give_up()
        wait_until(lambda: bedrock.in_flight == 0)
    finally:
        gc.enable()
    assert bedrock.requests()[-1].client_closed


@pytest.mark.parametrize("form", ["stream_chat", "stream_complete"])
def test_unread_stream_frees_its_connection(bedrock, form):
    bedrock.fail("slow_stream", seconds=0.2, rate=1.0)
    stream = getattr(BedrockRouter(model=HAIKU), form)(user(HELLO) if form == "stream_chat" else HELLO)
    del stream
    wait_until(lambda: bedrock.in_flight == 0)
    assert bedrock.requests()[-1].client_closed


@pytest.mark.sample(3)
@pytest.mark.parametrize("form", ["astream_chat", "astream_complete"])
@pytest.mark.parametrize("how", ["close", "cancel", "forget", "unread"])
async def test_asynchronous_stream_abandoned_early_frees_its_connection(bedrock, keeper, form, how):
    bedrock.fail("slow_stream", seconds=0.1, rate=1.0)
    llm = BedrockRouter(model=HAIKU)

    async def read_on():
        async for _ in await start(llm, form, HELLO):
            reading.set()

    if how == "cancel":
        reading = asyncio.Event()
        task = asyncio.create_task(read_on())
        await reading.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        stream = await start(llm, form, HELLO)
        if how != "unread":
            await anext(stream)
        if how == "close":
            await stream.aclose()
        del stream
    deadline = time.monotonic() + 20
    while bedrock.in_flight:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    assert bedrock.requests()[-1].client_closed
    assert text_of((await run(llm, "achat", HELLO))[-1])


@pytest.mark.parametrize("form", STREAMED)
async def test_a_chunk_that_is_kept_holds_no_connection(bedrock, form):
    bedrock.fail("slow_stream", seconds=0.1, rate=1.0)
    stream = await start(BedrockRouter(model=HAIKU), form, HELLO)
    chunk = await anext(stream) if form.startswith("a") else next(stream)
    await stream.aclose() if form.startswith("a") else stream.close()
    deadline = time.monotonic() + 20
    while bedrock.in_flight:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    assert text_of(chunk) == chunk.delta, "and can still be read"


# --- chunks ---


def read_chunks(router, form):
    llm = BedrockRouter(model=router)
    return list(llm.stream_chat(user(HELLO)) if form == "stream_chat" else llm.stream_complete(HELLO))


@pytest.mark.parametrize("form", ["stream_chat", "stream_complete"])
def test_chunk_is_an_ordinary_model_of_llama_index(router, form):
    kind = ChatResponse if form == "stream_chat" else CompletionResponse
    chunks = read_chunks(router, form)
    chunk, so_far = chunks[3], "".join(chunk.delta for chunk in chunks[:4])
    assert type(chunk) is kind
    assert chunk.model_fields_set == set(kind.model_fields)
    assert text_of(chunk) == so_far
    for copied in (pickle.loads(pickle.dumps(chunk)), copy.deepcopy(chunk), kind.model_validate(chunk.model_dump())):
        assert copied == chunk
        assert repr(copied) == repr(chunk)
    assert chunk != chunks[4]


@pytest.mark.parametrize("form", ["stream_chat", "stream_complete"])
def test_changing_a_chunk_changes_no_other(router, form):
    """Events and applications may keep chunks; each has blocks and dictionaries of its own."""
    first, second, *_ = read_chunks(router, form)
    before = second.model_dump()
    first.delta = "other"
    first.additional_kwargs["mine"] = 1
    if form == "stream_chat":
        first.message.additional_kwargs["mine"] = 1
        first.message.blocks[0].text = "other"
    assert second.model_dump() == before


def test_chunk_has_what_had_arrived_when_it_was_made():
    events = [
        text(0, "Let me "), text(0, "see."), block_stop(0), call_start(1, "t1", "add"), call_delta(1, '{"a": 1'),
        call_delta(1, ', "b": 2}'), block_stop(1),
    ]  # fmt: skip
    with ScriptedBedrock(stream_of(*events, stop="tool_use")) as server:
        chunks = list(BedrockRouter(model=HAIKU, **server.arguments).stream_chat(user("Add.")))
    assert [chunk.message.content for chunk in chunks][:2] == ["Let me ", "Let me see."]
    calls = [chunk.message.blocks[1].tool_kwargs for chunk in chunks if len(chunk.message.blocks) > 1]
    assert calls == [{}, {"a": 1}, {"a": 1, "b": 2}, {"a": 1, "b": 2}]


async def test_finished_asynchronous_stream_can_be_closed(router):
    stream = await start(BedrockRouter(model=router), "astream_chat", HELLO)
    assert await read(stream)
    await stream.aclose()
    assert await read(stream) == []
