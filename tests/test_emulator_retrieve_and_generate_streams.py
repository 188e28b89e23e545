"""Test the emulator's RetrieveAndGenerate over several requests and as a stream: sessions, latency, faults."""

import time

import pytest
from botocore.eventstream import ChecksumMismatch
from botocore.exceptions import EventStreamError
from knowledge_base_calls import (
    DAY,
    DECOMPOSED,
    FACTS,
    FAST,
    HAIKU,
    OPTIMIZED,
    SONNET,
    SORRY,
    UNCHECKED,
    Clock,
    ask,
    chunk,
    collection,
    generation,
    refused,
    request,
    spans,
    stream,
    streamed_text,
)

from bedrock_routing_integrations.emulator import BedrockEmulator


@pytest.fixture(scope="module")
def clock():
    return Clock()


@pytest.fixture(scope="module")
def shared(clock):
    with BedrockEmulator(clock=clock) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def client(shared):
    return shared.client("bedrock-agent-runtime", config=UNCHECKED)


@pytest.fixture
def bedrock(shared):
    shared.clear_faults()
    shared.clear_journal()
    return shared


@pytest.fixture(scope="module")
def base(shared):
    return shared.add_knowledge_base(collection(*(chunk(text, number) for number, text in enumerate(FACTS))))


# --- sessions


def test_a_follow_up_is_understood_with_the_question_before_it(client, base):
    first = ask(client, base, "Who was the Huygens that found Titan?")
    again = ask(client, base, "And is it larger?", sessionId=first["sessionId"])
    assert again["sessionId"] == first["sessionId"]
    assert again["output"]["text"] == "Titan is larger than Mercury."
    assert ask(client, base, "And what was he?")["output"]["text"] == SORRY
    assert ask(client, base, "Who found Titan?", sessionId=first["sessionId"])["output"] == first["output"]


def test_a_session_expires_after_a_day(client, base, clock):
    session = ask(client, base)["sessionId"]
    clock.now += DAY - 1
    assert ask(client, base, sessionId=session)["sessionId"] == session
    clock.now += 1
    message = f"Session with Id {session} is not valid. Please check and try again."
    assert refused(ask, client, base, sessionId=session) == message
    assert "not valid" in refused(stream, client, request(base, sessionId="never-made"))


def test_the_key_of_a_session_cannot_change(client, base, bedrock):
    one, two = (f"arn:aws:kms:us-east-1:123456789012:key/{number:036}" for number in (1, 2))
    session = ask(client, base, sessionConfiguration={"kmsKeyArn": one})["sessionId"]
    ask(client, base, sessionId=session, sessionConfiguration={"kmsKeyArn": one})
    ask(client, base, sessionId=session)
    other = {"sessionId": session, "sessionConfiguration": {"kmsKeyArn": two}}
    refused(ask, client, base, code="ConflictException", **other)
    assert bedrock.journal[-1].status == 409


def test_a_refused_request_adds_nothing_to_its_session(client, base):
    session = ask(client, base)["sessionId"]
    refused(ask, client, base, "How many volcanoes has Io?", sessionId=session, **generation(**OPTIMIZED))
    assert "Mercury" in ask(client, base, "And what is it larger than?", sessionId=session)["output"]["text"]


def test_a_decomposed_question_is_answered_in_its_parts(client, base):
    question = "Who found Titan and how many volcanoes has Io?"
    answer = ask(client, base, question, orchestrationConfiguration=DECOMPOSED)
    assert answer["output"]["text"] == "Ann \N{GRINNING FACE} Huygens found Titan in 1655. Io has 400 volcanoes."
    assert len(ask(client, base, question)["citations"]) == 1


# --- latency


def milliseconds(bedrock, client, base, **settings):
    ask(client, base, model=FAST, **settings)
    entry = bedrock.requests("RetrieveAndGenerate")[-1]
    return entry.latency_ms, entry.served_latency


def test_optimized_latency_is_lower_in_generation_and_in_orchestration(client, base, bedrock):
    session = ask(client, base, model=FAST)["sessionId"]
    plain, served = milliseconds(bedrock, client, base)
    fast, served_fast = milliseconds(bedrock, client, base, **generation(**OPTIMIZED))
    assert (served, served_fast) == ("standard", "optimized")
    assert fast < plain
    assert milliseconds(bedrock, client, base, orchestrationConfiguration=OPTIMIZED)[0] == plain
    rewritten, _ = milliseconds(bedrock, client, base, sessionId=session)
    rewritten_fast, _ = milliseconds(bedrock, client, base, sessionId=session, orchestrationConfiguration=OPTIMIZED)
    decomposed, _ = milliseconds(bedrock, client, base, orchestrationConfiguration=DECOMPOSED)
    assert plain < rewritten_fast < rewritten == decomposed


def test_the_quota_and_the_time_scale_hold_for_generated_answers():
    with BedrockEmulator(optimized_quota=1, time_scale=0.05) as bedrock:
        base = bedrock.add_knowledge_base(collection(chunk(FACTS[0])))
        client = bedrock.client("bedrock-agent-runtime")
        started = time.monotonic()
        first = milliseconds(bedrock, client, base, **generation(**OPTIMIZED))
        waited = time.monotonic() - started
        second = milliseconds(bedrock, client, base, **generation(**OPTIMIZED))
    assert (first[1], second[1]) == ("optimized", "standard")
    assert waited >= 0.05 * first[0] / 1000


# --- the stream


def test_stream_repeats_each_citation_and_counts_the_line_break(client, base):
    body = request(base, "Who found Titan and Triton?", SONNET)
    whole = client.retrieve_and_generate(**body)
    session, events = stream(client, body)
    assert session
    assert session != whole["sessionId"]
    assert streamed_text(events) == whole["output"]["text"]
    assert sum("output" in event for event in events) > 2
    citations = [event["citation"] for event in events if "citation" in event]
    assert spans(citations) == [(text, start, end + 1) for text, start, end in spans(whole["citations"])]
    for streamed, complete in zip(citations, whole["citations"], strict=True):
        assert streamed["retrievedReferences"] == complete["retrievedReferences"]
        inner = streamed.pop("citation")
        assert inner == streamed
    # After its sentence, without an event that marks the end.
    first = next(index for index, event in enumerate(events) if "citation" in event)
    assert streamed_text(events[:first]) == spans(citations)[0][0]
    assert {name for event in events for name in event} == {"output", "citation"}


def test_a_stream_continues_a_session(client, base):
    session, _ = stream(client, request(base))
    again, events = stream(client, request(base, "And what is it larger than?", sessionId=session))
    assert (again, streamed_text(events)) == (session, "Titan is larger than Mercury.")


def test_stream_breaks_as_configured(client, base, bedrock):
    body = request(base)
    _, events = stream(client, body)

    def broken(kind, **details):
        bedrock.fail(kind, operation="RetrieveAndGenerateStream", **details)
        return stream(client, body)[1]

    assert broken("cut", frame=2) == events[:2]
    with pytest.raises(ChecksumMismatch):
        broken("bad_checksum")
    with pytest.raises(EventStreamError, match="throttlingException"):
        broken("exception_event")
    started = time.monotonic()
    assert broken("slow_stream", seconds=0.02) == events
    assert time.monotonic() - started >= 0.02 * (len(events) - 1)
    refused(broken, "throttling", model_id=base, code="ThrottlingException")
    refused(broken, "bad_gateway", model_id=HAIKU, code="BadGatewayException")
    assert bedrock.journal[-1].status == 502
    with pytest.raises(ValueError, match="breaks streams"):
        bedrock.fail("cut", operation="RetrieveAndGenerate")
    bedrock.fail("cut")  # by default a fault is for Converse and ConverseStream
    assert stream(client, body)[1] == events
