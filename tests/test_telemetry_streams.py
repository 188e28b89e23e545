"""Test when the span of a stream ends, and the current span meanwhile."""

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
from telemetry_spans import OURS, TelemetryRecorder, ask, until

from bedrock_routing_integrations import RoutedClient
from bedrock_routing_integrations.errors import StreamInterruptedError
from bedrock_routing_integrations.langchain import ChatBedrockRouter
from bedrock_routing_integrations.llama_index import BedrockRouter

# A stream that is neither read nor closed leaves its socket to the garbage collector, as boto3's does.
forgotten = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
DURATION = "gen_ai.client.operation.duration"


@pytest.fixture
def recorder():
    return TelemetryRecorder()


@pytest.fixture
def stream(bedrock, recorder, router):
    client = RoutedClient(bedrock.client("bedrock-runtime"), telemetry=recorder.options(spans="always"))

    def begin(prompt=ALICE):
        return client.converse_stream(modelId=router, **ask(prompt))["stream"]

    return begin


def ended(recorder):
    """Return the status of our only span, and check that the call was measured once."""
    assert [point.count for point in recorder.points(DURATION)] == [1]
    return recorder.only.status.status_code


def test_span_ends_when_stream_is_read_to_its_end(recorder, stream):
    events = iter(stream())
    next(events)
    assert recorder.spans == []
    list(events)
    assert ended(recorder) is StatusCode.UNSET
    assert recorder.only.attributes["gen_ai.response.model"] == SONNET
    assert recorder.only.attributes["gen_ai.response.finish_reasons"] == ("end_turn",)


def test_reading_and_closing_after_the_end_record_nothing_more(recorder, stream):
    with stream() as read:
        list(read)
        list(read)
        read.close()
    assert ended(recorder) is StatusCode.UNSET


@pytest.mark.parametrize("read", [0, 1, 5])
def test_closing_ends_it(recorder, stream, read):
    opened = stream()
    for _ in range(read):
        next(iter(opened))
    assert recorder.spans == []
    opened.close()
    assert ended(recorder) is StatusCode.UNSET
    assert "gen_ai.response.model" not in recorder.only.attributes


@pytest.mark.sample(3)
@forgotten
@pytest.mark.parametrize("read", [0, 1, 5])
def test_giving_it_up_ends_it(bedrock, recorder, stream, read):
    opened = stream()
    for _ in range(read):
        next(iter(opened))
    del opened
    assert until(lambda: recorder.points(DURATION)), "another thread ends it, as the finalizer may run inside any lock"
    assert ended(recorder) is StatusCode.UNSET
    assert recorder.only.attributes["aws.request_id"] == bedrock.requests("ConverseStream")[-1].request_id
    gc.collect()


def test_span_is_complete_if_reading_stops_at_metadata(recorder, stream):
    opened = stream()
    for event in opened:
        if "metadata" in event:
            break
    del opened
    assert ended(recorder) is StatusCode.UNSET
    assert recorder.only.attributes["gen_ai.response.model"] == SONNET
    assert recorder.only.attributes["gen_ai.response.finish_reasons"] == ("end_turn",)


@pytest.mark.sample(1)
@forgotten
@pytest.mark.parametrize("read", [0, 3])
def test_span_of_garbage_stream_ends_in_another_thread(recorder, stream, read):
    by = []

    class Noting(type(recorder.exporter)):
        def export(self, spans):
            by.append(threading.get_ident())
            return super().export(spans)

    recorder.exporter.__class__ = Noting
    opened = stream()
    for _ in range(read):
        next(iter(opened))
    opened.itself = opened  # what only the garbage collector frees
    del opened
    assert recorder.spans == []
    gc.collect()
    assert until(lambda: by and recorder.points(DURATION))
    # The thread that collects may hold any lock, an exporter's too.
    assert by[0] != threading.get_ident()
    assert ended(recorder) is StatusCode.UNSET


def test_a_stream_that_is_cut_is_an_error(bedrock, recorder, stream):
    bedrock.fail("cut", frame=4)
    with pytest.raises(StreamInterruptedError):
        list(stream())
    assert ended(recorder) is StatusCode.ERROR
    assert recorder.only.attributes["error.type"] == "StreamInterruptedError"
    assert recorder.only.attributes["aws.request_id"] == bedrock.requests("ConverseStream")[-1].request_id
    assert recorder.points(DURATION)[0].attributes["error.type"] == "StreamInterruptedError"
    assert recorder.points("gen_ai.client.token.usage") == []


def test_span_has_code_of_error_event_in_stream(bedrock, recorder, stream):
    bedrock.fail("exception_event", name="throttlingException", message="Too fast, said the prompt.", frame=3)
    with pytest.raises(EventStreamError):
        list(stream())
    assert ended(recorder) is StatusCode.ERROR
    assert recorder.only.attributes["error.type"] == "ThrottlingException"
    assert "Too fast" not in recorder.only.to_json()


def test_closing_from_another_thread_ends_the_span_once(bedrock, recorder, stream):
    opened = stream()
    next(iter(opened))
    threads = [threading.Thread(target=opened.close) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [point.count for point in recorder.points(DURATION)] == [1]
    assert len(recorder.spans) == 1


def test_between_chunks_the_applications_span_is_the_current_one(recorder, stream):
    with recorder.span() as app:
        before = context.get_current()
        opened = stream()
        assert context.get_current() == before
        for _ in opened:
            assert trace.get_current_span() is app
            assert context.get_current() == before
            with recorder.span("meanwhile"):
                pass
    others = [span for span in recorder.exporter.get_finished_spans() if span.name == "meanwhile"]
    assert {span.parent.span_id for span in (*others, recorder.only)} == {app.get_span_context().span_id}


def test_streams_that_are_read_in_turns_keep_their_own_spans(recorder, stream):
    first, second = stream(), stream(HELLO)
    for _ in zip(first, second, strict=False):
        assert not trace.get_current_span().is_recording()
    list(first)
    list(second)
    assert len({span.attributes["gen_ai.response.model"] for span in recorder.spans}) == 2


# --- the frameworks ---


async def begin_and_leave(chunks):
    await anext(chunks)
    await chunks.aclose()


@pytest.mark.parametrize("framework", ["langchain", "llama_index"])
@pytest.mark.parametrize("whole", [True, False])
def test_span_of_framework_stream_ends_once(bedrock, recorder, router, framework, whole):
    options = recorder.options(spans="always")
    if framework == "langchain":
        chunks = ChatBedrockRouter(model=router, telemetry=options).stream(ALICE)
    else:
        chunks = BedrockRouter(model=router, telemetry=options).stream_complete(ALICE)
    next(chunks)
    if whole:
        list(chunks)
    chunks.close()
    assert until(lambda: recorder.points(DURATION))
    assert ended(recorder) is StatusCode.UNSET


@pytest.mark.parametrize("framework", ["langchain", "llama_index"])
def test_an_asynchronous_stream_that_is_left_is_ended(bedrock, recorder, router, framework):
    options = recorder.options(spans="always")

    async def leave():
        if framework == "langchain":
            await begin_and_leave(ChatBedrockRouter(model=router, telemetry=options).astream([HumanMessage(ALICE)]))
        else:
            await begin_and_leave(await BedrockRouter(model=router, telemetry=options).astream_complete(ALICE))

    asyncio.run(leave())
    assert until(lambda: recorder.points(DURATION))
    assert ended(recorder) is StatusCode.UNSET
    assert recorder.only.instrumentation_scope.name == OURS
