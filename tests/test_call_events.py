"""Test the events of a call: started, attempted, and exactly one end, whatever a listener does."""

from __future__ import annotations

import gc

import pytest
from botocore.exceptions import ClientError
from telemetry_spans import ask, until

from bedrock_routing_integrations import RoutedClient
from bedrock_routing_integrations.client import CallOptions
from bedrock_routing_integrations.observability import (
    AttemptMade,
    CallAbandoned,
    CallAnswered,
    CallFailed,
    CallStarted,
    ObservedCall,
    observe_call,
)
from bedrock_routing_integrations.observability.call_events import emit_end_of_stream

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
LONG = [{"text": "The quick brown fox jumps over the lazy dog. " * 800}]


class Recorder:
    """An observer that keeps all events."""

    def __init__(self):
        self.events = []

    def is_active(self):
        return True

    def observe(self, started):
        self.events.append(started)
        return self

    def before_send(self):
        pass

    def after_send(self):
        pass

    def handle(self, event):
        self.events.append(event)

    @property
    def kinds(self):
        return [type(event) for event in self.events]


class Broken(Recorder):
    """An observer whose every method raises."""

    def before_send(self):
        raise RuntimeError

    after_send = before_send

    def handle(self, event):
        raise RuntimeError


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def client(bedrock, recorder):
    routed = RoutedClient(bedrock.client("bedrock-runtime"), telemetry="off")
    return routed.for_call(CallOptions(observers=(Broken(), recorder)))


@pytest.fixture
def call(recorder):
    return ObservedCall(CallStarted(operation="Converse", client=None, request={}), (recorder,))


def test_an_answered_call_emits_its_routing_once(client, recorder, router):
    routing = client.converse(modelId=router, **ask("Hi"))["routing"]
    started, attempt, answered_event = recorder.events
    assert recorder.kinds == [CallStarted, AttemptMade, CallAnswered]
    assert (started.operation, started.resolved.target.model_id) == ("Converse", router)
    assert attempt.request_id == answered_event.request_id == routing["request_id"]
    assert answered_event.routing == routing
    assert answered_event.response["output"]
    assert {event.call_id for event in recorder.events} == {started.call_id}
    assert answered_event.seconds > 0


def test_a_stream_is_answered_when_its_metadata_arrives(client, recorder, router):
    events = list(client.converse_stream(modelId=router, **ask("Hi"))["stream"])
    assert recorder.kinds == [CallStarted, AttemptMade, CallAnswered]
    answered_event = recorder.events[-1]
    assert answered_event.routing == events[-1]["metadata"]["routing"]
    assert answered_event.response["stopReason"] == "end_turn"


def test_each_attempt_of_a_call_is_emitted(bedrock, client, recorder):
    bedrock.fail("validation", message="system: cache_control is not permitted")
    client.converse(modelId=CLAUDE, system=LONG, **ask("Hi"))
    assert recorder.kinds == [CallStarted, AttemptMade, AttemptMade, CallAnswered]
    _, refused, sent_again, _ = recorder.events
    assert isinstance(refused.error, ClientError)
    assert refused.will_retry
    assert (sent_again.error, sent_again.will_retry) == (None, False)


def test_attempts_count_the_retries_of_boto3(bedrock, client, recorder):
    bedrock.fail("throttling", times=1)
    client.converse(modelId=CLAUDE, **ask("Hi"))
    assert [event.http_requests for event in recorder.events if isinstance(event, AttemptMade)] == [2]


def test_a_refused_call_fails(bedrock, client, recorder, router):
    bedrock.fail("access_denied")
    with pytest.raises(ClientError) as caught:
        client.converse_stream(modelId=router, **ask("Hi"))
    assert recorder.kinds == [CallStarted, AttemptMade, CallFailed]
    assert recorder.events[-1].error is caught.value
    assert recorder.events[-1].request_id == caught.value.response["ResponseMetadata"]["RequestId"]


def test_a_closed_stream_is_abandoned(client, recorder, router):
    stream = client.converse_stream(modelId=router, **ask("Hi"))["stream"]
    next(iter(stream))
    stream.close()
    assert recorder.kinds == [CallStarted, AttemptMade, CallAbandoned]


def test_a_call_ends_once(call, recorder):
    call.answered(dict)
    call.failed(OSError())
    call.abandoned()
    assert recorder.kinds == [CallStarted, CallAnswered]


@pytest.mark.parametrize(("error", "event"), [(OSError(), CallFailed), (KeyboardInterrupt(), CallAbandoned)])
def test_a_block_that_raises_ends_the_call(call, recorder, error, event):
    with pytest.raises(type(error)), call:
        raise error
    assert recorder.kinds == [CallStarted, event]


@pytest.mark.parametrize("read", [0, 1])
@pytest.mark.parametrize("collected", [False, True])
def test_a_dropped_stream_is_abandoned(call, recorder, read, collected):
    """Another thread delivers the event: the finalizer may run in a thread that holds any lock."""
    stream = emit_end_of_stream(call, iter("abc"))
    call.watch(stream)
    for _ in range(read):
        next(stream)
    cycle = [stream]
    if collected:
        cycle.append(cycle)  # only the garbage collector frees it
    del stream, cycle
    gc.collect()
    assert until(lambda: len(recorder.events) == 2)
    assert recorder.kinds == [CallStarted, CallAbandoned]


def test_a_stream_that_was_read_is_not_abandoned(call, recorder):
    stream = emit_end_of_stream(call, iter("abc"))
    call.watch(stream)
    assert list(stream) == ["a", "b", "c"]
    del stream
    gc.collect()
    assert recorder.kinds == [CallStarted, CallAnswered]


def test_a_call_without_listeners_emits_nothing():
    class Inactive:
        def is_active(self):
            return False

    call = observe_call((Inactive(),), lambda: pytest.fail("nobody is interested"))
    call.answered(lambda: pytest.fail("nothing listens, so the response need not be made"))
    assert not call.has_listeners
