"""Replay recorded answers of real knowledge bases through the retrievers, the chain and the query engine."""

from __future__ import annotations

import pytest
from recorded_bedrock import REPLAYED, answers, recorded_request

from bedrock_routing_integrations import langchain, llama_index

pytestmark = REPLAYED


def each(*operations):
    actual = answers(*operations)
    return pytest.mark.parametrize("recording", actual, ids=[recording.name for recording in actual])


# --- Retrieve ---


def recorded_results(recording):
    return [
        (result["content"]["text"], result["score"], result["metadata"])
        for result in recording.response["body"]["retrievalResults"]
    ]


@each("Retrieve")
def test_langchain_retriever_gives_the_recorded_results(recorded, recording):
    recorded.play(recording)
    request = recorded_request(recording)
    retriever = langchain.KnowledgeBaseRetriever(
        knowledge_base_id=request["knowledgeBaseId"], client=recorded.client("bedrock-agent-runtime")
    )
    documents = retriever.invoke(request["retrievalQuery"]["text"])
    actual = [(each.page_content, each.metadata["score"], each.metadata["source_metadata"]) for each in documents]
    assert actual == recorded_results(recording)
    assert recorded.requests[-1] == (recording.path, recording.body)


@each("Retrieve")
def test_llama_index_retriever_gives_the_recorded_results(recorded, recording):
    recorded.play(recording)
    request = recorded_request(recording)
    retriever = llama_index.KnowledgeBaseRetriever(
        knowledge_base_id=request["knowledgeBaseId"], client=recorded.client("bedrock-agent-runtime")
    )
    nodes = retriever.retrieve(request["retrievalQuery"]["text"])
    actual = [(each.node.text, each.score, each.node.metadata["sourceMetadata"]) for each in nodes]
    assert actual == recorded_results(recording)
    assert recorded.requests[-1] == (recording.path, recording.body)


# --- RetrieveAndGenerate ---


def recorded_text(recording):
    if recording.is_stream:
        return "".join(payload["text"] for kind, payload in recording.response["events"] if kind == "output")
    return recording.response["body"]["output"]["text"]


def recorded_citations(recording):
    """Return the cited text and the passages of each recorded citation that has passages."""
    if recording.is_stream:
        citations = [payload for kind, payload in recording.response["events"] if kind == "citation"]
    else:
        citations = recording.response["body"]["citations"]
    return [
        (
            citation["generatedResponsePart"]["textResponsePart"]["text"].strip(),
            [reference["content"]["text"] for reference in citation["retrievedReferences"]],
        )
        for citation in citations
        if citation["retrievedReferences"]
    ]


def arguments_of(recorded, recording):
    configuration = recorded_request(recording)["retrieveAndGenerateConfiguration"]
    arguments = {"client": recorded.client("bedrock-agent-runtime"), "mode": "retrieve_and_generate"}
    if "knowledgeBaseConfiguration" in configuration:
        inner = configuration["knowledgeBaseConfiguration"]
        return {**arguments, "knowledge_base_id": inner["knowledgeBaseId"], "model": inner["modelArn"]}
    inner = configuration["externalSourcesConfiguration"]
    return {**arguments, "external_source": inner["sources"][0]["s3Location"]["uri"], "model": inner["modelArn"]}


def question_of(recording):
    return recording.body["input"]["text"]


@each("RetrieveAndGenerate", "RetrieveAndGenerateStream")
def test_chain_gives_the_recorded_answer(recorded, recording):
    recorded.play(recording)
    chain = langchain.KnowledgeBaseChain(**arguments_of(recorded, recording))
    if recording.is_stream:
        result = {}
        for part in chain.stream(question_of(recording)):
            for name, value in part.items():
                result[name] = result[name] + value if name in result else value
    else:
        result = chain.invoke(question_of(recording))
    assert result["answer"] == recorded_text(recording)
    actual = [
        (each.text.strip(), [result["context"][number].page_content for number in each.passages])
        for each in result["citations"]
        if each.passages
    ]
    assert actual == recorded_citations(recording)
    assert recorded.requests[-1] == (recording.path, recording.body)


@each("RetrieveAndGenerate", "RetrieveAndGenerateStream")
def test_query_engine_gives_the_recorded_answer(recorded, recording):
    recorded.play(recording)
    arguments = arguments_of(recorded, recording)
    engine = llama_index.KnowledgeBaseQueryEngine(**arguments, streaming=recording.is_stream)
    response = engine.query(question_of(recording))
    if recording.is_stream:
        response = response.get_response()
    assert str(response) == recorded_text(recording)
    actual = [
        (each.text.strip(), [response.source_nodes[number].node.text for number in each.passages])
        for each in response.metadata["citations"]
        if each.passages
    ]
    assert actual == recorded_citations(recording)
    assert recorded.requests[-1] == (recording.path, recording.body)
