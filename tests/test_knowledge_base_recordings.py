"""Replay responses of the real service, recorded by others, through the retrievers, the chain and the engine.

The recordings are not part of this repository: a folder next to it, or where ``BEDROCK_RECORDINGS`` points.
"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest
from scripted_bedrock import SESSION, STREAM, Raw, ScriptedBedrock, raw_json

from bedrock_routing_integrations.langchain import KnowledgeBaseChain
from bedrock_routing_integrations.langchain import KnowledgeBaseRetriever as LangChainRetriever
from bedrock_routing_integrations.llama_index import KnowledgeBaseQueryEngine, KnowledgeBaseRetriever

FOLDER = Path(os.environ.get("BEDROCK_RECORDINGS") or Path(__file__).resolve().parents[2] / "shared" / "recordings")
OPERATIONS = ("Retrieve", "RetrieveAndGenerate", "RetrieveAndGenerateStream")
pytestmark = pytest.mark.skipif(not (FOLDER / "index.tsv").is_file(), reason="there are no recordings")


def recordings(*operations):
    index = FOLDER / "index.tsv"
    lines = index.read_text(encoding="utf-8").splitlines()[1:] if index.is_file() else []
    files = [columns[0] for line in lines if (columns := line.split("\t"))[3] in operations]
    return [pytest.param(json.loads((FOLDER / file).read_text(encoding="utf-8")), id=file) for file in files]


def replayed(recorded):
    response = recorded["response"]
    if "events" in response:
        raw = base64.b64decode(response["raw_base64"])
        return ScriptedBedrock(Raw(raw, STREAM, headers={SESSION: "s-1"}))
    return ScriptedBedrock(raw_json(response["body"]))


def asked(recorded):
    """Return arguments of a chain or an engine that make the recorded request."""
    config = recorded["request"]["body"]["retrieveAndGenerateConfiguration"]
    if "externalSourcesConfiguration" in config:
        config = config["externalSourcesConfiguration"]
        return {"external_source": config["sources"][0]["s3Location"]["uri"], "model": config["modelArn"]}
    config = config["knowledgeBaseConfiguration"]
    return {"knowledge_base_id": config["knowledgeBaseId"], "model": config["modelArn"]}


def question_of(recorded):
    return recorded["request"]["body"]["input"]["text"]


@pytest.mark.parametrize("recorded", recordings("Retrieve"))
async def test_a_recorded_retrieve_gives_the_recorded_passages(recorded):
    results = recorded["response"]["body"]["retrievalResults"]
    expected = [(result["content"].get("text", ""), result["score"], _uri(result)) for result in results]
    base, query = recorded["request"]["path"].split("/")[2], recorded["request"]["body"]["retrievalQuery"]["text"]
    with replayed(recorded) as bedrock:
        retriever = LangChainRetriever(knowledge_base_id=base, **bedrock.arguments)
        for documents in (retriever.invoke(query), await retriever.ainvoke(query)):
            assert [(d.page_content, d.metadata["score"], d.metadata["source"]) for d in documents] == expected
            assert [d.metadata["source_metadata"] for d in documents] == [result["metadata"] for result in results]
        other = KnowledgeBaseRetriever(base, **bedrock.arguments)
        for nodes in (other.retrieve(query), await other.aretrieve(query)):
            assert [(n.node.text, n.score, n.node.metadata["source"]) for n in nodes] == expected
            assert [n.node.metadata["sourceMetadata"] for n in nodes] == [result["metadata"] for result in results]
        assert bedrock.requests == [recorded["request"]["body"]] * 4


def _uri(result):
    ((_, place),) = [item for item in result["location"].items() if item[0] != "type"]
    return next(iter(place.values()))


def _claims(recorded):
    """The recorded citations that have references: their texts, and the texts that they rest on."""
    response = recorded["response"]
    if "events" in response:
        claims = [payload for kind, payload in response["events"] if kind == "citation"]
        # The outer members are what is current; the inner citation is deprecated.
        claims = [{**(claim.get("citation") or {}), **claim} for claim in claims]
    else:
        claims = response["body"]["citations"]
    return [
        (
            claim["generatedResponsePart"]["textResponsePart"]["text"].rstrip("\n"),
            [reference["content"]["text"] for reference in claim["retrievedReferences"]],
        )
        for claim in claims
        if claim["retrievedReferences"]
    ]


def _text(recorded):
    response = recorded["response"]
    if "events" in response:
        return "".join(payload["text"] for kind, payload in response["events"] if kind == "output")
    return response["body"]["output"]["text"]


def _checked(recorded, answer, citations, texts, session_id):
    assert answer == _text(recorded)
    assert all(answer[c.start : c.end] == c.text for c in citations)
    cited = [(c.text, [texts[number] for number in c.passages]) for c in citations]
    assert cited == [(text, list(dict.fromkeys(references))) for text, references in _claims(recorded)]
    assert session_id == recorded["response"].get("body", {}).get("sessionId", "s-1")


@pytest.mark.parametrize("recorded", recordings("RetrieveAndGenerate", "RetrieveAndGenerateStream"))
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_recorded_answer_gives_the_recorded_text_and_citations(recorded, asynchronous):
    streamed, question = "events" in recorded["response"], question_of(recorded)
    with replayed(recorded) as bedrock:
        chain = KnowledgeBaseChain(**asked(recorded), **bedrock.arguments)
        if streamed:
            parts = [c async for c in chain.astream(question)] if asynchronous else list(chain.stream(question))
            result = parts[0]
            for part in parts[1:]:
                result = result + part
        else:
            result = await chain.ainvoke(question) if asynchronous else chain.invoke(question)
        texts = [document.page_content for document in result["context"]]
        _checked(recorded, result["answer"], result["citations"], texts, result["session_id"])

        engine = KnowledgeBaseQueryEngine(streaming=streamed, **asked(recorded), **bedrock.arguments)
        response = await engine.aquery(question) if asynchronous else engine.query(question)
        if streamed:
            response = await response.get_response() if asynchronous else response.get_response()
        texts = [node.node.text for node in response.source_nodes]
        _checked(recorded, str(response), response.metadata["citations"], texts, response.metadata["session_id"])
        assert bedrock.requests[0] == recorded["request"]["body"]
