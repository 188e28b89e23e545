"""Answers of knowledge bases at status 200 that are not answers, and those that only lack what a gateway leaves out."""

from __future__ import annotations

import json
import pickle

import pytest
from independent_server import frame
from langchain_core.runnables import RunnableLambda
from scripted_bedrock import JSON, SESSION, STREAM, Raw, ScriptedBedrock, raw_json

from bedrock_routing_integrations.client import KnowledgeBaseClient
from bedrock_routing_integrations.errors import InvalidAnswerError, StreamInterruptedError
from bedrock_routing_integrations.knowledge_base import SearchOptions, parse_knowledge_base_id
from bedrock_routing_integrations.langchain import KnowledgeBaseChain
from bedrock_routing_integrations.langchain import KnowledgeBaseRetriever as LangChainRetriever
from bedrock_routing_integrations.llama_index import KnowledgeBaseQueryEngine, KnowledgeBaseRetriever

BASE, NOVA = "ABCDEFGHIJ", "us.amazon.nova-pro-v1:0"
RESULT = {"content": {"type": "TEXT", "text": "Zoë saw krill."}, "location": {"s3Location": {"uri": "s3://b/k.md"}}}
FOUND = json.dumps({"retrievalResults": [RESULT]}, ensure_ascii=False).encode()
SAID = '{"output": {"text": "Zoë saw krill."}, "citations": [], "sessionId": "s-1"}'.encode()
HTML = Raw(b"<!DOCTYPE html><html><body>Please sign in</body></html>", "text/html; charset=utf-8")


def cut(body, at):
    return {
        f"cut at {at}": Raw(body[:at]),
        f"connection cut at {at}": Raw(body[:at], length=len(body)),
    }


def broken(body):
    """Answers that are not one, whatever was asked."""
    inside = body.index("ë".encode()) + 1
    return {
        "nothing": Raw(b""), "an empty object": Raw(b"{}"), "HTML": HTML, "HTML called JSON": Raw(HTML.body, JSON),
        "null": Raw(b"null"), "a list": Raw(b"[]"), "a text": Raw(b'"ok"'), "a number": Raw(b"5"),
        "a message": Raw(b'{"message": "ok"}'), "text": Raw(b"Bad gateway", "text/plain"),
        **cut(body, len(body) // 2), **cut(body, inside), **cut(body, len(body) - 1),
    }  # fmt: skip


NO_RESULTS = {
    **broken(FOUND),
    "results of null": Raw(b'{"retrievalResults": null}'),
    "results of text": Raw(b'{"retrievalResults": "none"}'),
    "only a token": Raw(b'{"nextToken": "t"}'),
}
NO_TEXT = {
    **broken(SAID),
    "no output": raw_json({"citations": [], "sessionId": "s-1"}),
    "an empty output": raw_json({"output": {}, "sessionId": "s-1"}),
    "a text of null": raw_json({"output": {"text": None}, "sessionId": "s-1"}),
    "a text of 5": raw_json({"output": {"text": 5}, "sessionId": "s-1"}),
    "an output of text": raw_json({"output": "Krill.", "sessionId": "s-1"}),
}
OUTPUT = frame("output", {"text": "Krill."})
CITED = {"generatedResponsePart": {"textResponsePart": {"text": "x", "span": {"start": 0, "end": 1}}}}
NO_EVENTS = {
    "nothing": Raw(b"", STREAM),
    "an empty object": Raw(b"{}"),
    "HTML": HTML,
    "HTML called a stream": Raw(HTML.body, STREAM),
    "half an event": Raw(OUTPUT[:20], STREAM),
    "half an event, cut": Raw(OUTPUT[:20], STREAM, length=len(OUTPUT)),
    "a citation alone": Raw(frame("citation", {"citation": CITED}), STREAM),
    "an output without text": Raw(frame("output", {}), STREAM),
}


async def read(response):
    """The text of a LlamaIndex response, read to its end."""
    whole = await response.get_response() if hasattr(response, "async_response_gen") else response
    return str(whole)


def chain_of(arguments, mode="retrieve_and_generate"):
    return KnowledgeBaseChain(knowledge_base_id=BASE, model=NOVA, mode=mode, **arguments)


def engine_of(arguments, mode="retrieve_and_generate", **more):
    return KnowledgeBaseQueryEngine(BASE, model=NOVA, mode=mode, **arguments, **more)


async def drained(chunks):
    return [chunk async for chunk in chunks]


SEARCHES = {
    "langchain retriever": lambda a: LangChainRetriever(knowledge_base_id=BASE, **a).invoke("x"),
    "langchain retriever, async": lambda a: LangChainRetriever(knowledge_base_id=BASE, **a).ainvoke("x"),
    "langchain pages": lambda a: list(LangChainRetriever(knowledge_base_id=BASE, **a).iterate("x")),
    "langchain chain": lambda a: chain_of(a, "retrieve_then_converse").invoke("x"),
    "langchain chain, async": lambda a: chain_of(a, "retrieve_then_converse").ainvoke("x"),
    "langchain chain, stream": lambda a: list(chain_of(a, "retrieve_then_converse").stream("x")),
    "langchain chain, astream": lambda a: drained(chain_of(a, "retrieve_then_converse").astream("x")),
    "llama_index retriever": lambda a: KnowledgeBaseRetriever(BASE, **a).retrieve("x"),
    "llama_index retriever, async": lambda a: KnowledgeBaseRetriever(BASE, **a).aretrieve("x"),
    "llama_index pages": lambda a: list(KnowledgeBaseRetriever(BASE, **a).iterate("x")),
    "llama_index engine": lambda a: engine_of(a, "retrieve_then_converse").query("x"),
    "llama_index engine, async": lambda a: engine_of(a, "retrieve_then_converse").aquery("x"),
    "llama_index engine, stream": lambda a: engine_of(a, "retrieve_then_converse", streaming=True).query("x"),
}
ANSWERS = {
    "langchain": lambda a: chain_of(a).invoke("x"),
    "langchain, async": lambda a: chain_of(a).ainvoke("x"),
    "llama_index": lambda a: engine_of(a).query("x"),
    "llama_index, async": lambda a: engine_of(a).aquery("x"),
}
STREAMS = {
    "langchain": lambda a: list(chain_of(a).stream("x")),
    "langchain, async": lambda a: drained(chain_of(a).astream("x")),
    "llama_index": lambda a: str(engine_of(a, streaming=True).query("x")),
    "llama_index, async": lambda a: astreamed(a),  # noqa: PLW0108 - defined below
}


async def astreamed(arguments):
    return await read(await engine_of(arguments, streaming=True).aquery("x"))


async def done(asked):
    return await asked if hasattr(asked, "__await__") else asked


@pytest.mark.sample(10)
@pytest.mark.parametrize("answer", NO_RESULTS)
@pytest.mark.parametrize("way", ["langchain retriever", "llama_index retriever, async"])
async def test_retrieve_raises_where_its_results_are_missing(way, answer):
    """botocore reads what is not JSON as an empty answer, and the chain would answer from nothing."""
    with ScriptedBedrock(NO_RESULTS[answer]) as bedrock, pytest.raises(InvalidAnswerError, match="Retrieve answered"):
        await done(SEARCHES[way](bedrock.arguments))


@pytest.mark.sample(10)
@pytest.mark.parametrize("answer", ["nothing", "HTML", "cut at 70"])
@pytest.mark.parametrize("way", SEARCHES)
async def test_every_search_raises_where_its_results_are_missing(way, answer):
    raw = Raw(FOUND[:70]) if answer.startswith("cut") else NO_RESULTS[answer]
    with ScriptedBedrock(raw) as bedrock:
        with pytest.raises(InvalidAnswerError):
            await done(SEARCHES[way](bedrock.arguments))
        assert len(bedrock.requests) == 1, "no model was asked"


@pytest.mark.parametrize("answer", ["nothing", "HTML", "only a token"])
def test_iterate_raises_for_an_invalid_later_page(answer):
    first = raw_json({"retrievalResults": [RESULT], "nextToken": "t"})
    with ScriptedBedrock(first, NO_RESULTS[answer]) as bedrock:
        documents = LangChainRetriever(knowledge_base_id=BASE, **bedrock.arguments).iterate("x")
        assert next(documents).page_content == "Zoë saw krill."
        with pytest.raises(InvalidAnswerError):
            next(documents)


@pytest.mark.parametrize("way", ["langchain retriever", "llama_index retriever", "langchain pages"])
def test_an_explicitly_empty_list_of_results_is_an_answer(way):
    with ScriptedBedrock(raw_json({"retrievalResults": []})) as bedrock:
        assert SEARCHES[way](bedrock.arguments) == []


@pytest.mark.sample(16)
@pytest.mark.parametrize("answer", NO_TEXT)
@pytest.mark.parametrize("way", ANSWERS)
async def test_retrieve_and_generate_raises_where_its_text_is_missing(way, answer):
    with (
        ScriptedBedrock(NO_TEXT[answer]) as bedrock,
        pytest.raises(InvalidAnswerError, match="RetrieveAndGenerate answered") as e,
    ):
        await done(ANSWERS[way](bedrock.arguments))
    assert e.value.stop_reason is None
    again = pickle.loads(pickle.dumps(e.value))
    assert (str(again), again.partial) == (str(e.value), e.value.partial)
    if answer == "no output":
        assert e.value.partial == {"citations": [], "sessionId": "s-1"}


@pytest.mark.sample(10)
@pytest.mark.parametrize("answer", NO_EVENTS)
@pytest.mark.parametrize("way", STREAMS)
async def test_retrieve_and_generate_stream_raises_where_no_text_comes(way, answer):
    # A response with an event stream's content type that breaks was interrupted before its first event.
    both = InvalidAnswerError, StreamInterruptedError
    with ScriptedBedrock(NO_EVENTS[answer]) as bedrock, pytest.raises(both) as e:
        await done(STREAMS[way](bedrock.arguments))
    assert isinstance(e.value, InvalidAnswerError) == (answer != "HTML called a stream")


@pytest.mark.parametrize("answer", ["nothing", "HTML", "HTML called a stream"])
def test_a_fallback_answers_for_a_stream_without_an_event(answer):
    with ScriptedBedrock(NO_EVENTS[answer]) as bedrock:
        chain = chain_of(bedrock.arguments).with_fallbacks([RunnableLambda(lambda _: "fallback")])
        assert list(chain.stream("x")) == ["fallback"]


@pytest.mark.parametrize("text", ["", "Krill."])
@pytest.mark.parametrize("stream", [False, True])
def test_answer_without_session_id_warns_once(caplog, stream, text):
    raw = Raw(frame("output", {"text": text}), STREAM) if stream else raw_json({"output": {"text": text}})
    with ScriptedBedrock(raw) as bedrock:
        for _ in range(2):
            chain = chain_of(bedrock.arguments)
            result = sum_of(chain.stream("x")) if stream else chain.invoke("x")
            assert (result["answer"], result["session_id"]) == (text, None)
            assert result["routing"]["usage"] is None
            response = engine_of(bedrock.arguments, streaming=stream).query("x")
            assert response.metadata["session_id"] is None
            assert (response.response_txt if stream else response.response) in (text, None)
    assert [record.message for record in caplog.records if "session id" in record.message] == [
        record.message for record in caplog.records
    ]
    assert len(caplog.records) == 1


def test_a_session_id_in_the_header_is_kept(caplog):
    with ScriptedBedrock(Raw(OUTPUT, STREAM, headers={SESSION: "s-1"})) as bedrock:
        assert sum_of(chain_of(bedrock.arguments).stream("x"))["session_id"] == "s-1"
    assert not caplog.records


def test_a_guardrail_that_intervenes_without_a_text_is_an_answer():
    """The service may or may not send its message as an output event: both work."""
    intervened = Raw(frame("guardrail", {"action": "INTERVENED"}), STREAM, headers={SESSION: "s-1"})
    with ScriptedBedrock(intervened) as bedrock:
        result = sum_of(chain_of(bedrock.arguments).stream("x"))
    assert (result["answer"], result["guardrail_action"]) == ("", "INTERVENED")


def test_own_client_errors_are_raised_unchanged():
    class Own:
        def retrieve(self, **request):
            raise AttributeError("my mistake")

        retrieve_and_generate = retrieve
        meta = type("Meta", (), {"region_name": "us-east-1"})

    client = KnowledgeBaseClient(Own())
    with pytest.raises(AttributeError, match="my mistake"):
        client.retrieve(parse_knowledge_base_id(BASE), "x", SearchOptions())


def sum_of(chunks):
    whole = None
    for chunk in chunks:
        whole = chunk if whole is None else whole + chunk
    return whole
