"""Streams of `BedrockRouter` that break off, are given up, or are read while they go on."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import sys
import threading
import time
import tracemalloc

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


# --- given up ---


@pytest.mark.sample(3)
@pytest.mark.parametrize("form", ["stream_chat", "stream_complete"])
@pytest.mark.parametrize("how", ["close", "forget", "break"])
def test_a_stream_given_up_early_frees_its_connection(bedrock, keeper, form, how):
    """Though somebody keeps all events: with an exception, its traceback and the frames in it are kept."""
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
def test_a_stream_that_nobody_reads_frees_its_connection(bedrock, form):
    bedrock.fail("slow_stream", seconds=0.2, rate=1.0)
    stream = getattr(BedrockRouter(model=HAIKU), form)(user(HELLO) if form == "stream_chat" else HELLO)
    del stream
    wait_until(lambda: bedrock.in_flight == 0)
    assert bedrock.requests()[-1].client_closed


@pytest.mark.sample(3)
@pytest.mark.parametrize("form", ["astream_chat", "astream_complete"])
@pytest.mark.parametrize("how", ["close", "cancel", "forget", "unread"])
async def test_an_asynchronous_stream_given_up_early_frees_its_connection(bedrock, keeper, form, how):
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


# --- chunks, which read their text when they are asked for it ---


@pytest.fixture
def often():
    """Threads take turns as often as Python lets them."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def a_chunk(router, form, number=3):
    llm = BedrockRouter(model=router)
    chunks = list(llm.stream_chat(user(HELLO)) if form == "stream_chat" else llm.stream_complete(HELLO))
    return chunks[number], "".join(chunk.delta for chunk in chunks[: number + 1])


USES = {
    "model_dump": lambda chunk: type(chunk).model_validate(chunk.model_dump()),
    "model_dump_json": lambda chunk: type(chunk).model_validate_json(chunk.model_dump_json()),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "model_copy": lambda chunk: chunk.model_copy(),
    "model_copy with changes": lambda chunk: chunk.model_copy(update={"logprobs": None}, deep=True),
    "pickle": lambda chunk: pickle.loads(pickle.dumps(chunk)),
    "oldest pickle": lambda chunk: pickle.loads(pickle.dumps(chunk, protocol=0)),
    "vars": lambda chunk: type(chunk)(**vars(chunk)),
    "iteration": lambda chunk: type(chunk)(**dict(chunk)),
    "copy of a copy": lambda chunk: pickle.loads(pickle.dumps(copy.copy(copy.deepcopy(chunk)))),
}


@pytest.mark.parametrize("form", ["stream_chat", "stream_complete"])
@pytest.mark.parametrize("use", USES)
def test_a_chunk_is_an_ordinary_model_to_everybody(router, form, use):
    chunk, said = a_chunk(router, form)
    twin = USES[use](chunk)
    assert isinstance(twin, (ChatResponse, CompletionResponse))
    assert text_of(twin) == text_of(chunk) == said
    assert twin == chunk
    assert chunk == twin
    assert repr(twin) == repr(chunk)
    assert twin.model_dump() == chunk.model_dump()


@pytest.mark.parametrize("form", ["stream_chat", "stream_complete"])
def test_a_chunk_looks_like_one_that_llamaindex_made(router, form):
    kind = ChatResponse if form == "stream_chat" else CompletionResponse
    chunk, said = a_chunk(router, form)
    assert repr(chunk).startswith(f"{kind.__name__}(")
    assert said in str(a_chunk(router, form)[0])
    assert list(a_chunk(router, form)[0].model_dump()) == list(kind.model_fields)
    assert a_chunk(router, form)[0].model_fields_set == set(kind.model_fields)
    assert type(chunk) is kind, "once it has been read"
    fresh = a_chunk(router, form)[0]
    with pytest.raises(AttributeError, match="no_such_thing"):
        fresh.no_such_thing  # noqa: B018
    assert fresh != a_chunk(router, form, number=4)[0]
    assert fresh != "something else"
    with pytest.raises(TypeError, match="unhashable"):
        hash(a_chunk(router, form)[0])


@pytest.mark.parametrize("form", ["stream_chat", "stream_complete"])
def test_chunks_that_nobody_has_read_are_equal_where_they_say_the_same(form):
    with ScriptedBedrock(stream_of(text(0, "Good "), text(0, "morning."))) as server:
        llm = BedrockRouter(model=HAIKU, **server.arguments)

        def chunks():
            return list(llm.stream_chat(user(HELLO)) if form == "stream_chat" else llm.stream_complete(HELLO))

        assert chunks()[0] == chunks()[0]
        assert chunks()[1] == chunks()[1]
        assert chunks()[0] != chunks()[1]
        (read, *_), (unread, *_), (other, *_) = chunks(), chunks(), chunks()
        assert text_of(read) == "Good "
        assert read == unread, "the other way round too"
        other.delta = "other"
        assert chunks()[0] != other


@pytest.mark.parametrize("form", ["stream_chat", "stream_complete"])
def test_a_chunk_can_be_changed_like_any_other(router, form):
    chunk, said = a_chunk(router, form)
    chunk.delta = "other"
    chunk.additional_kwargs["mine"] = 1
    assert (chunk.delta, chunk.additional_kwargs["mine"], text_of(chunk)) == ("other", 1, said)
    chunk, said = a_chunk(router, form)
    if form == "stream_chat":
        chunk.message.additional_kwargs["mine"] = 1
        assert chunk.message.additional_kwargs == {"mine": 1}
    else:
        chunk.text = "other"
        assert chunk.text == "other"


def test_a_chunk_reads_the_same_however_late_it_is_read():
    events = [
        text(0, "Let me "), text(0, "see."), block_stop(0), call_start(1, "t1", "add"), call_delta(1, '{"a": 1'),
        call_delta(1, ', "b": 2}'), block_stop(1),
    ]  # fmt: skip
    with ScriptedBedrock(stream_of(*events, stop="tool_use")) as server:
        llm = BedrockRouter(model=HAIKU, **server.arguments)
        at_once = [chunk.message.model_dump() for chunk in llm.stream_chat(user("Add."))]
        late = list(llm.stream_chat(user("Add.")))
        backwards = [chunk.message.model_dump() for chunk in reversed(late)][::-1]
    assert at_once == backwards
    assert [chunk.message.content for chunk in late][:2] == ["Let me ", "Let me see."]
    assert at_once[3]["blocks"][1]["tool_kwargs"] == {"a": 1}
    assert at_once[-1]["blocks"][1]["tool_kwargs"] == {"a": 1, "b": 2}


def test_chunks_can_be_read_in_threads_while_the_stream_goes_on(often):
    words = [f"word{number} " for number in range(400)]
    with ScriptedBedrock(stream_of(*(text(0, word) for word in words))) as server:
        llm = BedrockRouter(model=HAIKU, **server.arguments)
        chunks, wrong, done = [], [], threading.Event()

        def check(position):
            try:
                chunk = chunks[position]
                if chunk.message.content != "".join(words[: position + 1]) or chunk.model_copy() != chunk:
                    wrong.append(position)
            except Exception as error:
                wrong.append(error)

        def watch(step):
            while not done.is_set():
                for position in range(len(chunks) - 1, 0, -step):
                    check(position)

        threads = [threading.Thread(target=watch, args=(step,)) for step in (7, 7, 11, 11)]
        for thread in threads:
            thread.start()
        for chunk in llm.stream_chat(user("Count.")):
            if chunk.delta:
                chunks.append(chunk)
        done.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert len(chunks) == 400
    for position in range(400):
        check(position)
    assert wrong == []


@pytest.mark.parametrize("form", ["stream_chat", "stream_complete"])
def test_threads_that_read_one_chunk_at_once_all_get_it(router, form, often):
    for _ in range(20):
        chunk, said = a_chunk(router, form)
        barrier, texts = threading.Barrier(4), []

        def look(chunk=chunk, barrier=barrier, texts=texts):
            barrier.wait(10)
            texts.append(text_of(chunk))

        threads = [threading.Thread(target=look) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert texts == [said] * 4


def memory_of(llm, form):
    """Bytes that all chunks of a stream take while they are kept, unread."""
    gc.collect()
    tracemalloc.start()
    kept = list(llm.stream_chat(user("Count."))) if form == "stream_chat" else list(llm.stream_complete("Count."))
    gc.collect()
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return taken, kept


@pytest.mark.sweep
@pytest.mark.parametrize("form", ["stream_chat", "stream_complete"])
def test_keeping_a_streams_chunks_takes_memory_in_proportion_to_their_number(form):
    sizes = (300, 3_000)
    streams = [stream_of(*(text(0, f"word{number:06} ") for number in range(size))) for size in sizes]
    with ScriptedBedrock(streams[0], *streams) as server:
        llm = BedrockRouter(model=HAIKU, **server.arguments)
        memory_of(llm, form)
        (small, _), (large, kept) = memory_of(llm, form), memory_of(llm, form)
    assert len(kept) == 3_001
    # Ten times as many. If each held a copy of what came before, this would be near 100.
    assert large / small < 20
    assert text_of(kept[2_999]).endswith("word002999 ")


async def test_an_asynchronous_stream_that_was_read_to_its_end_can_be_closed(router):
    stream = await start(BedrockRouter(model=router), "astream_chat", HELLO)
    assert await read(stream)
    await stream.aclose()
    assert await read(stream) == []
