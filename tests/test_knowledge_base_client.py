"""`KnowledgeBaseClient` over HTTP: results, pages, answers, sessions and errors."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError
from samples import HAIKU

from bedrock_routing_integrations.client import KnowledgeBaseClient
from bedrock_routing_integrations.client.knowledge_bases import KnowledgeBaseTypes
from bedrock_routing_integrations.connections import Connection
from bedrock_routing_integrations.emulator import BedrockEmulator
from bedrock_routing_integrations.errors import (
    InvalidRequestError,
    MissingRegionError,
    SessionExpiredError,
    StreamInterruptedError,
)
from bedrock_routing_integrations.knowledge_base import (
    GenerationOptions,
    Question,
    SearchOptions,
    parse_knowledge_base_id,
    where,
)

SERVICE = "bedrock-agent-runtime"
ASKED = "Who discovered Titan, and when was Titan discovered?"
STREAM = "RetrieveAndGenerateStream"
PLAIN, DEFAULT = SearchOptions(), GenerationOptions()


@pytest.fixture
def kb(bedrock):
    return parse_knowledge_base_id(bedrock.default_knowledge_base())


@pytest.fixture
def managed(bedrock):
    return parse_knowledge_base_id(bedrock.add_knowledge_base(type="MANAGED"))


@pytest.fixture
def client(bedrock):
    return KnowledgeBaseClient(Connection())


def once(bedrock):
    """A client that does not try again."""
    return KnowledgeBaseClient(bedrock.client(SERVICE, config=Config(retries={"total_max_attempts": 1})))


# --- retrieving


def test_results_come_best_first_each_with_its_source(client, kb):
    found = client.retrieve(kb, ASKED, SearchOptions(k=3))
    assert len(found.passages) == 3
    scores = [passage.score for passage in found.passages]
    assert scores == sorted(scores, reverse=True)
    assert all(passage.text and passage.source.startswith("s3://") for passage in found.passages)
    assert found.guardrail_action is None


def test_iterate_requests_pages_lazily(bedrock, client, kb):
    pages = client.iterate(kb, "moon", SearchOptions(k=2), limit=5)
    assert bedrock.requests("Retrieve") == []
    next(pages)
    assert len(bedrock.requests("Retrieve")) == 1
    assert len(list(pages)) == 4
    assert len(bedrock.requests("Retrieve")) == 3
    assert bedrock.requests("Retrieve")[-1].request["nextToken"]


def test_all_pages_are_all_results_each_once(client, kb):
    at_once = client.retrieve(kb, "moon", SearchOptions(k=100))
    assert at_once.next_token is None
    assert len(at_once.passages) > 7
    assert list(client.iterate(kb, "moon", SearchOptions(k=7))) == list(at_once.passages)
    first = client.retrieve(kb, "moon", SearchOptions(k=7))
    second = client.retrieve(kb, "moon", SearchOptions(k=7), next_token=first.next_token)
    assert [*first.passages, *second.passages] == list(at_once.passages[:14])


@pytest.mark.parametrize("limit", [0, -1, True, "5", 2.5])
def test_invalid_limit_is_refused_at_once(client, kb, limit):
    with pytest.raises(InvalidRequestError, match="limit"):
        client.iterate(kb, "moon", PLAIN, limit=limit)


def test_results_below_the_threshold_are_left_out(client, kb):
    every = client.retrieve(kb, "moon", SearchOptions(k=20)).passages
    least = every[3].score
    kept = client.retrieve(kb, "moon", SearchOptions(k=20, score_threshold=least)).passages
    assert list(kept) == [passage for passage in every if passage.score >= least]


def test_a_filter_reaches_the_service(client, kb):
    found = client.retrieve(kb, "moon", SearchOptions(k=20, filter=where("planet") == "Saturn")).passages
    assert found
    assert {passage.metadata["planet"] for passage in found} == {"Saturn"}


def test_guardrail_action_is_returned(bedrock, client, kb):
    guardrail, version = bedrock.add_guardrail(["titan"])
    options = SearchOptions(guardrail={"guardrailId": guardrail, "guardrailVersion": version})
    assert client.retrieve(kb, ASKED, options).guardrail_action == "INTERVENED"
    assert client.retrieve(kb, "Europa", options).guardrail_action == "NONE"


def test_refused_requests_raise_client_error(bedrock, client):
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        client.retrieve(parse_knowledge_base_id("NOSUCHBASE"), ASKED, PLAIN)
    bedrock.clear_journal()
    with pytest.raises(InvalidRequestError):
        client.retrieve(parse_knowledge_base_id("NOSUCHBASE"), "", PLAIN)
    assert bedrock.requests("Retrieve") == []


# --- which type


def test_fifty_threads_look_up_the_type_once(bedrock, kb):
    start = threading.Barrier(50)

    def retrieve(_):
        start.wait(30)
        return KnowledgeBaseClient(Connection()).retrieve(kb, ASKED, SearchOptions(k=2)).passages

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(retrieve, range(50)))
    assert all(answer == answers[0] for answer in answers)
    assert len(bedrock.requests("GetKnowledgeBase")) == 1
    assert len(bedrock.requests("Retrieve")) == 50


@pytest.mark.parametrize("options", [{}, {"knowledge_base_type": "VECTOR", "k": 2}, {"user_context": "somebody"}])
def test_type_is_looked_up_only_if_needed(bedrock, client, kb, options):
    assert client.retrieve(kb, ASKED, SearchOptions(**options)).passages
    assert bedrock.requests("GetKnowledgeBase") == []


@pytest.mark.parametrize("stated", [None, "MANAGED"])
def test_a_managed_knowledge_base_is_detected_or_stated(bedrock, client, managed, stated):
    found = client.retrieve(managed, ASKED, SearchOptions(k=2, knowledge_base_type=stated))
    assert len(found.passages) == 2
    assert list(bedrock.requests("Retrieve")[0].request["retrievalConfiguration"]) == ["managedSearchConfiguration"]
    assert len(bedrock.requests("GetKnowledgeBase")) == (0 if stated else 1)
    config = {"managedSearchConfiguration": {"numberOfResults": 1}}
    assert len(client.retrieve(managed, ASKED, SearchOptions(retrieval_config=config)).passages) == 1


def test_refused_type_look_up_warns_once(bedrock, client, kb, caplog):
    bedrock.fail("access_denied", operation="GetKnowledgeBase", rate=1.0)
    for _ in range(3):
        assert client.retrieve(kb, ASKED, SearchOptions(k=2)).passages
    (warning,) = (record for record in caplog.records if record.levelname == "WARNING")
    assert "bedrock:GetKnowledgeBase" in warning.message
    assert len(bedrock.requests("GetKnowledgeBase")) == 1


def test_type_look_up_expires(bedrock, kb, managed):
    """The type is looked up again after an hour, and after five minutes if the look-up was refused."""
    now = [0.0]
    types, source = KnowledgeBaseTypes(lambda: now[0]), Connection()
    fault = bedrock.fail("access_denied", operation="GetKnowledgeBase", rate=1.0)
    assert types.find(kb, source) is None
    fault.cancel()
    assert types.find(kb, source) is None
    now[0] += 301
    assert types.find(kb, source) == "VECTOR"
    assert types.find(managed, source) == "MANAGED"
    now[0] += 3599
    assert types.find(kb, source) == "VECTOR"
    assert len(bedrock.requests("GetKnowledgeBase")) == 3
    now[0] += 2
    types.find(kb, source)
    assert len(bedrock.requests("GetKnowledgeBase")) == 4


# --- generating


def test_an_answer_has_its_citations_its_passages_and_its_session(client, kb, router):
    answer = client.generate(Question(text=ASKED, knowledge_base=kb), router, PLAIN, DEFAULT)
    assert "Huygens" in answer.reader.text
    assert answer.session_id
    assert list(answer.parts) == []
    for citation in answer.reader.citations:
        assert answer.reader.text[citation.start : citation.end] == citation.text
        assert any(citation.text in answer.reader.passages[number].text for number in citation.passages)


@pytest.mark.parametrize("question", [ASKED, "Which moon has the Laplace resonance?", "What is the price of tea?"])
def test_a_stream_gives_what_the_whole_answer_gives(client, kb, question):
    asked = Question(text=question, knowledge_base=kb)
    whole = client.generate(asked, HAIKU, PLAIN, DEFAULT)
    stream = client.generate_stream(asked, HAIKU, PLAIN, DEFAULT)
    parts = list(stream.parts)
    assert len([part for part in parts if part.text]) > 1
    assert "".join(part.text for part in parts) == stream.reader.text == whole.reader.text
    assert stream.reader.citations == whole.reader.citations
    assert stream.reader.passages == whole.reader.passages
    assert stream.session_id


def test_routing_is_null_where_the_api_reports_nothing(client, kb, router):
    options = GenerationOptions(performance_config={"latency": "standard"})
    asked = Question(text=ASKED, knowledge_base=kb)
    for call in (client.generate, client.generate_stream):
        answer = call(asked, router, PLAIN, options)
        list(answer.parts)
        routing = json.loads(json.dumps(answer.routing))
        assert routing.pop("request_id")
        assert routing.pop("candidates") == [HAIKU, "anthropic.claude-3-5-sonnet-20240620-v1:0"]
        assert routing == {
            "requested_model_id": router, "target_kind": "default_prompt_router", "invoked_model_id": None,
            "invoked_model": None, "is_fallback": None, "latency": {"requested": "standard", "served": None},
            "service_tier": {"requested": None, "served": None}, "usage": None, "cost_usd": None,
            "fallback_cost_usd": None, "latency_ms": None, "time_to_first_token_ms": None, "attempts": 1,
            "cache_points": [], "project": None, "stop_reason": None,
        }  # fmt: skip


def test_a_retry_is_counted(bedrock, client, kb):
    bedrock.fail("throttling", operation="RetrieveAndGenerate", times=1)
    answer = client.generate(Question(text=ASKED, knowledge_base=kb), HAIKU, PLAIN, DEFAULT)
    assert answer.routing["attempts"] == 2
    assert len(bedrock.requests("RetrieveAndGenerate")) == 2


@pytest.mark.parametrize("call", ["generate", "generate_stream"])
def test_a_managed_knowledge_base_is_refused_with_the_other_mode(bedrock, client, managed, call):
    with pytest.raises(InvalidRequestError, match="retrieve_then_converse"):
        getattr(client, call)(Question(text=ASKED, knowledge_base=managed), HAIKU, PLAIN, DEFAULT)


def test_a_document_is_asked_instead_of_a_knowledge_base(client):
    document = {"data": b"The blue moon is made of cheese.", "contentType": "text/plain", "identifier": "m.txt"}
    answer = client.generate(Question(text="What is the blue moon made of?", source=document), HAIKU, PLAIN, DEFAULT)
    assert "cheese" in answer.reader.text


# --- sessions


@pytest.mark.parametrize("call", ["generate", "generate_stream"])
def test_session_continues_or_raises_expired(call):
    now = [0.0]
    with BedrockEmulator(clock=lambda: now[0]) as bedrock:
        client, kb = once(bedrock), parse_knowledge_base_id(bedrock.default_knowledge_base())

        def ask(session_id):
            asked = Question(text=ASKED, knowledge_base=kb, session_id=session_id)
            answer = getattr(client, call)(asked, HAIKU, PLAIN, DEFAULT)
            list(answer.parts)
            return answer.session_id

        session = ask(None)
        assert ask(session) == session
        now[0] += 24 * 3600 + 1
        with pytest.raises(SessionExpiredError, match="24 hours") as expired:
            ask(session)
        assert expired.value.session_id == session
        with pytest.raises(SessionExpiredError):
            ask("never-was")


def test_another_key_for_a_session_is_boto3s_error(client, kb):
    asked = Question(text=ASKED, knowledge_base=kb)
    session = client.generate(asked, HAIKU, PLAIN, DEFAULT).session_id
    key = "arn:aws:kms:us-east-1:123456789012:key/12345678-1234-1234-1234-123456789012"
    again = Question(text=ASKED, knowledge_base=kb, session_id=session)
    with pytest.raises(ClientError, match="ConflictException"):
        client.generate(again, HAIKU, PLAIN, GenerationOptions(kms_key_arn=key))


# --- streams that break or are abandoned


@pytest.mark.parametrize("fault", [("cut", {"abrupt": True}), ("bad_checksum", {})], ids=lambda fault: fault[0])
@pytest.mark.parametrize("frame", [1, 3])
def test_broken_stream_raises_with_partial_answer(bedrock, kb, fault, frame):
    bedrock.fail(fault[0], operation=STREAM, frame=frame, **fault[1])
    answer = once(bedrock).generate_stream(Question(text=ASKED, knowledge_base=kb), HAIKU, PLAIN, DEFAULT)
    shown = ""
    with pytest.raises(StreamInterruptedError) as broken:
        for part in answer.parts:
            shown += part.text
    assert broken.value.text == answer.reader.text == shown != ""
    assert broken.value.partial["sessionId"] == answer.session_id
    for citation in broken.value.partial["citations"]:
        assert shown[citation["start"] : citation["end"]] == citation["text"]
    assert pickle.loads(pickle.dumps(broken.value)).partial == broken.value.partial


@pytest.mark.parametrize("fault", [("cut", {"abrupt": True}), ("bad_checksum", {})], ids=lambda fault: fault[0])
def test_generate_stream_raises_early_failures_at_once(bedrock, kb, fault):
    """Fallbacks of a framework only take over before anything was given out."""
    bedrock.fail(fault[0], operation=STREAM, frame=0, **fault[1])
    with pytest.raises(StreamInterruptedError) as broken:
        once(bedrock).generate_stream(Question(text=ASKED, knowledge_base=kb), HAIKU, PLAIN, DEFAULT)
    assert broken.value.text == ""
    bedrock.fail("exception_event", operation=STREAM, name="throttlingException", message="Too fast.", frame=0)
    with pytest.raises(EventStreamError, match="Too fast"):
        once(bedrock).generate_stream(Question(text=ASKED, knowledge_base=kb), HAIKU, PLAIN, DEFAULT)


def test_an_error_that_bedrock_reports_in_the_stream_is_boto3s(bedrock, kb):
    bedrock.fail("exception_event", operation=STREAM, name="throttlingException", message="Too fast.", frame=2)
    answer = once(bedrock).generate_stream(Question(text=ASKED, knowledge_base=kb), HAIKU, PLAIN, DEFAULT)
    with pytest.raises(EventStreamError, match="Too fast"):
        list(answer.parts)
    assert answer.reader.text, "what had arrived is there"


@pytest.mark.sample(2)
@pytest.mark.parametrize("leave", ["close", "forget", "close unread", "forget unread"])
def test_abandoned_stream_closes_its_connection(bedrock, kb, leave):
    bedrock.fail("slow_stream", operation=STREAM, seconds=30)
    answer = once(bedrock).generate_stream(Question(text=ASKED, knowledge_base=kb), HAIKU, PLAIN, DEFAULT)
    if "unread" not in leave:
        next(answer.parts)
    if leave.startswith("close"):
        answer.parts.close()
    else:
        del answer
        gc.collect()
    (entry,) = bedrock.requests(STREAM)
    until = time.monotonic() + 10
    while not entry.client_closed and time.monotonic() < until:
        time.sleep(0.01)
    assert entry.client_closed


# --- how it is reached


def test_constructor_sends_nothing(bedrock, monkeypatch):
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    client = KnowledgeBaseClient(Connection())
    assert bedrock.journal == []
    with pytest.raises(MissingRegionError):
        client.retrieve(parse_knowledge_base_id("ABCDEFGHIJ"), ASKED, PLAIN)


def test_the_region_is_that_of_the_arn(bedrock, client, monkeypatch):
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    arn = "arn:aws:bedrock:eu-west-1:123456789012:knowledge-base/ABCDEFGHIJ"
    with pytest.raises(ClientError):
        client.retrieve(parse_knowledge_base_id(arn), ASKED, SearchOptions(k=2))
    assert {entry.region for entry in bedrock.journal} == {"eu-west-1"}


def test_the_environments_endpoint_for_this_service_is_used(bedrock, kb, monkeypatch):
    for name in bedrock.environment():
        if name.startswith("AWS_ENDPOINT"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_AGENT_RUNTIME", bedrock.endpoint_url)
    client = KnowledgeBaseClient(Connection())
    assert client.retrieve(kb, ASKED, SearchOptions(k=2)).passages
    assert bedrock.requests("GetKnowledgeBase"), "the look-up goes to the same place"
    assert client.generate(Question(text=ASKED, knowledge_base=kb), HAIKU, PLAIN, DEFAULT).reader.text


def test_own_client_serves_calls_and_look_ups(bedrock, kb, monkeypatch):
    for name in bedrock.environment():
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    client = KnowledgeBaseClient(bedrock.client(SERVICE, config=Config(user_agent_extra="my-application")))
    assert client.retrieve(kb, ASKED, SearchOptions(k=2)).passages
    assert "my-application" in bedrock.requests("Retrieve")[0].headers["user-agent"]
    assert len(bedrock.requests("GetKnowledgeBase")) == 1
    router = bedrock.default_router("anthropic.claude:1")
    answer = client.generate(Question(text=ASKED, knowledge_base=kb), router, PLAIN, DEFAULT)
    assert answer.routing["candidates"]


@pytest.mark.parametrize(
    ("made", "message"), [("bedrock-runtime", "'bedrock-runtime'"), ("bedrock-agent", "'bedrock-agent'")]
)
def test_a_client_of_another_service_is_refused_at_once(bedrock, made, message):
    with pytest.raises(InvalidRequestError, match=message):
        KnowledgeBaseClient(bedrock.client(made))


@pytest.mark.parametrize("other", [None, "client", object()])
def test_constructor_refuses_other_objects(other):
    with pytest.raises(InvalidRequestError, match=SERVICE):
        KnowledgeBaseClient(other)


def test_knowledge_base_client_is_copied_and_pickled_like_other_clients(bedrock, client, kb):
    assert copy.deepcopy(client) is client
    assert pickle.loads(pickle.dumps(client)).retrieve(kb, ASKED, PLAIN).passages
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(once(bedrock))
