"""When the span of a stream ends, and what is the current span meanwhile."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest
from botocore.exceptions import EventStreamError
from langchain_core.messages import HumanMessage
from opentelemetry import context, trace
from opentelemetry.trace import StatusCode
from samples import ALICE, HELLO, SONNET
from telemetry_spans import OURS, Told, ask, until

from bedrock_routing_integrations import RoutedClient
from bedrock_routing_integrations.errors import StreamInterruptedError
from bedrock_routing_integrations.langchain import ChatBedrockRouter
from bedrock_routing_integrations.llama_index import BedrockRouter

# A stream that nobody begins to read, nor closes, leaves its socket to the garbage collector, as boto3's does.
forgotten = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
DURATION = "gen_ai.client.operation.duration"


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def stream(bedrock, told, router):
    client = RoutedClient(bedrock.client("bedrock-runtime"), telemetry=told.options(spans="always"))

    def begin(prompt=ALICE):
        return client.converse_stream(modelId=router, **ask(prompt))["stream"]

    return begin


def ended(told):
    """How our only span ended, and that it was told once."""
    assert [point.count for point in told.points(DURATION)] == [1]
    return told.only.status.status_code


def test_a_span_lasts_until_the_stream_is_read_to_its_end(told, stream):
    events = iter(stream())
    next(events)
    assert told.spans == []
    list(events)
    assert ended(told) is StatusCode.UNSET
    assert told.only.attributes["gen_ai.response.model"] == SONNET
    assert told.only.attributes["gen_ai.response.finish_reasons"] == ("end_turn",)


def test_reading_on_and_closing_afterwards_tells_nothing_more(told, stream):
    with stream() as read:
        list(read)
        list(read)
        read.close()
    assert ended(told) is StatusCode.UNSET


@pytest.mark.parametrize("read", [0, 1, 5])
def test_closing_ends_it(told, stream, read):
    opened = stream()
    for _ in range(read):
        next(iter(opened))
    assert told.spans == []
    opened.close()
    assert ended(told) is StatusCode.UNSET
    assert "gen_ai.response.model" not in told.only.attributes


@pytest.mark.sample(3)
@forgotten
@pytest.mark.parametrize("read", [0, 1, 5])
def test_giving_it_up_ends_it(bedrock, told, stream, read):
    opened = stream()
    for _ in range(read):
        next(iter(opened))
    del opened
    assert until(lambda: told.points(DURATION)), "another thread ends it, as the finalizer may run inside any lock"
    assert ended(told) is StatusCode.UNSET
    assert told.only.attributes["aws.request_id"] == bedrock.requests("ConverseStream")[-1].request_id
    gc.collect()


def test_stopping_at_the_metadata_ends_it_with_all_that_was_told(told, stream):
    opened = stream()
    for event in opened:
        if "metadata" in event:
            break
    del opened
    assert ended(told) is StatusCode.UNSET
    assert told.only.attributes["gen_ai.response.model"] == SONNET
    assert told.only.attributes["gen_ai.response.finish_reasons"] == ("end_turn",)


@pytest.mark.sample(1)
@forgotten
@pytest.mark.parametrize("read", [0, 3])
def test_one_that_is_collected_as_garbage_is_ended_by_another_thread(told, stream, read):
    by = []

    class Noting(type(told.exporter)):
        def export(self, spans):
            by.append(threading.get_ident())
            return super().export(spans)

    told.exporter.__class__ = Noting
    opened = stream()
    for _ in range(read):
        next(iter(opened))
    opened.itself = opened  # what only the garbage collector frees
    del opened
    assert told.spans == []
    gc.collect()
    assert until(lambda: by and told.points(DURATION))
    # The thread that collects may hold any lock, an exporter's too.
    assert by[0] != threading.get_ident()
    assert ended(told) is StatusCode.UNSET


def test_a_stream_that_is_cut_is_an_error(bedrock, told, stream):
    bedrock.fail("cut", frame=4)
    with pytest.raises(StreamInterruptedError):
        list(stream())
    assert ended(told) is StatusCode.ERROR
    assert told.only.attributes["error.type"] == "StreamInterruptedError"
    assert told.only.attributes["aws.request_id"] == bedrock.requests("ConverseStream")[-1].request_id
    assert told.points(DURATION)[0].attributes["error.type"] == "StreamInterruptedError"
    assert told.points("gen_ai.client.token.usage") == []


def test_an_error_that_bedrock_reports_in_the_stream_is_told_by_its_code(bedrock, told, stream):
    bedrock.fail("exception_event", name="throttlingException", message="Too fast, said the prompt.", frame=3)
    with pytest.raises(EventStreamError):
        list(stream())
    assert ended(told) is StatusCode.ERROR
    assert told.only.attributes["error.type"] == "ThrottlingException"
    assert "Too fast" not in told.only.to_json()


def test_closing_from_another_thread_tells_it_once(bedrock, told, stream):
    opened = stream()
    next(iter(opened))
    threads = [threading.Thread(target=opened.close) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [point.count for point in told.points(DURATION)] == [1]
    assert len(told.spans) == 1


def test_between_chunks_the_applications_span_is_the_current_one(told, stream):
    with told.span() as app:
        before = context.get_current()
        opened = stream()
        assert context.get_current() == before
        for _ in opened:
            assert trace.get_current_span() is app
            assert context.get_current() == before
            with told.span("meanwhile"):
                pass
    others = [span for span in told.exporter.get_finished_spans() if span.name == "meanwhile"]
    assert {span.parent.span_id for span in (*others, told.only)} == {app.get_span_context().span_id}


def test_streams_that_are_read_in_turns_keep_their_own_spans(told, stream):
    first, second = stream(), stream(HELLO)
    for _ in zip(first, second, strict=False):
        assert not trace.get_current_span().is_recording()
    list(first)
    list(second)
    assert len({span.attributes["gen_ai.response.model"] for span in told.spans}) == 2


# --- the doors ---


async def begin_and_leave(chunks):
    await anext(chunks)
    await chunks.aclose()


@pytest.mark.parametrize("door", ["langchain", "llama_index"])
@pytest.mark.parametrize("whole", [True, False])
def test_a_doors_stream_is_told_once_whether_or_not_it_is_read(bedrock, told, router, door, whole):
    options = told.options(spans="always")
    if door == "langchain":
        chunks = ChatBedrockRouter(model=router, telemetry=options).stream(ALICE)
    else:
        chunks = BedrockRouter(model=router, telemetry=options).stream_complete(ALICE)
    next(chunks)
    if whole:
        list(chunks)
    chunks.close()
    assert until(lambda: told.points(DURATION))
    assert ended(told) is StatusCode.UNSET


@pytest.mark.parametrize("door", ["langchain", "llama_index"])
def test_an_asynchronous_stream_that_is_left_is_ended(bedrock, told, router, door):
    options = told.options(spans="always")

    async def leave():
        if door == "langchain":
            await begin_and_leave(ChatBedrockRouter(model=router, telemetry=options).astream([HumanMessage(ALICE)]))
        else:
            await begin_and_leave(await BedrockRouter(model=router, telemetry=options).astream_complete(ALICE))

    asyncio.run(leave())
    assert until(lambda: told.points(DURATION))
    assert ended(told) is StatusCode.UNSET
    assert told.only.instrumentation_scope.name == OURS
