"""Test the documents of `KnowledgeBaseRetriever`: every content type, odd ones, scores, pages."""

from __future__ import annotations

import json
import re

import pytest
from knowledge_base_calls import chunk, collection
from langchain_core.documents import Document
from scripted_bedrock import ScriptedBedrock

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.langchain import KnowledgeBaseRetriever

PNG = "data:image/png;base64,iVBORw0KGgo="


def text(value, **more):
    return {"content": {"type": "TEXT", "text": value}, **more}


def found(*results, **arguments):
    """Return the documents of a retriever whose service returns these results."""
    with ScriptedBedrock({"retrievalResults": list(results)}) as service:
        retriever = KnowledgeBaseRetriever(knowledge_base_id="EMULATEDKB", **service.arguments, **arguments)
        return retriever.invoke("krill")


def numbered(bedrock, count):
    return bedrock.add_knowledge_base(collection(*(chunk(f"krill number {n}", n) for n in range(count))))


# --- content ---


@pytest.mark.parametrize(
    ("content", "page_content", "metadata"),
    [
        ({"type": "TEXT", "text": "krill"}, "krill", {"type": "TEXT"}),
        ({"text": "krill"}, "krill", {"type": "TEXT"}),
        (
            {
                "type": "ROW",
                "row": [
                    {"columnName": "name", "columnValue": "Io", "type": "STRING"},
                    {"columnName": "year", "columnValue": "1610", "type": "LONG"},
                    {"columnName": "ice", "columnValue": "false", "type": "BOOLEAN"},
                    {"columnName": "note", "type": "NULL"},
                ],
            },
            '{"name": "Io", "year": 1610, "ice": false, "note": null}',
            {"type": "ROW"},
        ),
        (
            {"type": "IMAGE", "byteContent": PNG},
            "",
            {"type": "IMAGE", "data_uri": PNG, "media_type": "image/png"},
        ),
        (
            {"type": "AUDIO", "audio": {"s3Uri": "s3://bucket/song.mp3", "transcription": "it sings"}},
            "it sings",
            {"type": "AUDIO", "media_uri": "s3://bucket/song.mp3", "media_type": "audio/mpeg"},
        ),
        (
            {"type": "VIDEO", "video": {"s3Uri": "s3://bucket/whale.mp4", "summary": "it jumps"}},
            "it jumps",
            {"type": "VIDEO", "media_uri": "s3://bucket/whale.mp4", "media_type": "video/mp4"},
        ),
        ({"type": "HOLOGRAM"}, "", {"type": "HOLOGRAM"}),
    ],
)
def test_every_content_type_becomes_a_document(content, page_content, metadata):
    (document,) = found({"content": content, "score": 0.5})
    assert document.page_content == page_content
    assert document.metadata.items() >= metadata.items()
    assert document.metadata["score"] == 0.5
    json.dumps(document.model_dump())


def test_every_content_type_of_the_emulated_library_comes_through(bedrock):
    retriever = KnowledgeBaseRetriever(knowledge_base_id=bedrock.default_knowledge_base(), k=100)
    documents = retriever.invoke("moons orbit spacecraft recording diagram Apollo Voyager")
    kinds = {document.metadata["type"] for document in documents}
    assert kinds >= {"TEXT", "ROW", "IMAGE", "AUDIO"}
    for document in documents:
        assert "base64" not in document.page_content
        assert document.metadata["source"]
        if document.metadata["type"] == "ROW":
            json.loads(document.page_content)


def test_document_from_a_pdf_has_its_page(bedrock):
    retriever = KnowledgeBaseRetriever(knowledge_base_id=bedrock.default_knowledge_base(), k=100)
    documents = retriever.invoke("names of moons and their orbits")
    pages = {
        document.metadata["x-amz-bedrock-kb-document-page-number"]
        for document in documents
        if document.metadata["source"].endswith(".pdf")
    }
    assert pages


@pytest.mark.parametrize(
    ("location", "source"),
    [
        ({"type": "S3", "s3Location": {"uri": "s3://bucket/a.md"}}, "s3://bucket/a.md"),
        ({"type": "WEB", "webLocation": {"url": "https://example.org/a"}}, "https://example.org/a"),
        ({"type": "CONFLUENCE", "confluenceLocation": {"url": "https://c.example.org"}}, "https://c.example.org"),
        ({"type": "SALESFORCE", "salesforceLocation": {"url": "https://s.example.org"}}, "https://s.example.org"),
        ({"type": "SHAREPOINT", "sharePointLocation": {"url": "https://p.example.org"}}, "https://p.example.org"),
        ({"type": "KENDRA", "kendraDocumentLocation": {"uri": "https://k.example.org"}}, "https://k.example.org"),
        ({"type": "CUSTOM", "customDocumentLocation": {"id": "my-document"}}, "my-document"),
        ({"type": "SQL", "sqlLocation": {"query": "SELECT 1"}}, "SELECT 1"),
        (None, "s3://bucket/by-metadata.md"),
    ],
)
def test_source_is_a_uri_for_every_location(location, source):
    metadata = {} if location else {"x-amz-bedrock-kb-source-uri": "s3://bucket/by-metadata.md"}
    (document,) = found(text("krill", metadata=metadata, **({"location": location} if location else {})))
    assert document.metadata["source"] == source
    assert document.metadata.get("location") == location


def test_document_attributes_never_hide_the_retrievers_metadata(bedrock):
    attributes = {"source": "their source", "score": "high", "type": "report", "location": "shelf", "title": "T"}
    (document,) = found(
        text("krill", score=0.25, metadata=attributes, location={"type": "S3", "s3Location": {"uri": "s3://b/a"}})
    )
    assert (document.metadata["source"], document.metadata["score"], document.metadata["type"]) == (
        "s3://b/a", 0.25, "TEXT",
    )  # fmt: skip
    assert document.metadata["title"] == "T"
    assert document.metadata["source_metadata"] == attributes


ODD = [
    {}, {"content": {}}, {"content": {"type": "TEXT"}}, {"content": {"type": "ROW"}}, {"content": {"type": "AUDIO"}},
    {"content": {"type": "IMAGE"}}, {"content": {"type": "ROW", "row": [{}]}}, {"content": {"text": ""}},
    {"content": {"type": "TEXT", "text": "x"}, "location": {"type": "S3"}}, {"content": {"type": "VIDEO", "video": {}}},
    {"content": {"type": "TEXT", "text": "x"}, "metadata": {"nested": {"a": [1, None]}}},
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_result_does_not_cost_the_others(odd):
    documents = found(text("before"), odd, text("after"))
    assert [documents[0].page_content, documents[-1].page_content] == ["before", "after"]
    assert len(documents) == 3
    assert all(isinstance(document, Document) for document in documents)


def test_an_empty_list_of_results_is_an_empty_list():
    with ScriptedBedrock({"retrievalResults": []}) as service:
        retriever = KnowledgeBaseRetriever(knowledge_base_id="EMULATEDKB", **service.arguments)
        assert retriever.invoke("krill") == []
        assert list(retriever.iterate("krill")) == []


UNICODE = "Zoë \N{GRINNING FACE} ate caf\u0065\u0301 \U0001f469\u200d\U0001f680 \u202eabc\u202c \u0000 日本語"


def test_any_unicode_comes_through(bedrock, tmp_path):
    (tmp_path / "krill.md").write_text(f"krill {UNICODE}", encoding="utf-8")
    base = bedrock.add_knowledge_base(tmp_path)
    (document,) = KnowledgeBaseRetriever(knowledge_base_id=base).invoke("krill \N{GRINNING FACE} 日本語")
    assert document.page_content == f"krill {UNICODE}"


def test_a_huge_document_comes_through():
    (document,) = found(text("krill " * 1_000_000))
    assert len(document.page_content) == 6_000_000


# --- scores ---


@pytest.mark.parametrize("name", ["score_threshold", "min_score_confidence"])
def test_only_documents_with_the_least_score_are_returned(bedrock, name):
    results = [text("good", score=0.9), text("just", score=0.5), text("bad", score=0.4), text("unknown")]
    assert [document.page_content for document in found(*results, **{name: 0.5})] == ["good", "just"]
    everything = [document.metadata["score"] for document in found(*results)]
    assert everything == [0.9, 0.5, 0.4, None], "an unknown score is not 0"
    assert len(found(*results, **{name: 0})) == 3


def test_the_least_score_can_be_given_to_a_call(bedrock):
    retriever = KnowledgeBaseRetriever(knowledge_base_id=bedrock.default_knowledge_base(), k=20)
    scores = [document.metadata["score"] for document in retriever.invoke("ocean ice")]
    assert len(retriever.invoke("ocean ice", score_threshold=scores[2])) == 3
    assert retriever.invoke("ocean ice", score_threshold=1) == []


# --- pages ---


def test_pages_are_asked_for_when_they_are_needed(bedrock):
    retriever = KnowledgeBaseRetriever(knowledge_base_id=numbered(bedrock, 12), k=5)
    every = retriever.iterate("krill")
    assert bedrock.requests("Retrieve") == []
    for _ in range(5):
        next(every)
    assert len(bedrock.requests("Retrieve")) == 1
    next(every)
    assert len(bedrock.requests("Retrieve")) == 2
    sources = [document.metadata["source"] for document in retriever.iterate("krill")]
    assert len(sources) == len(set(sources)) == 12
    tokens = [entry.request.get("nextToken") for entry in bedrock.requests("Retrieve")[2:]]
    assert tokens[0] is None
    assert None not in tokens[1:]


@pytest.mark.parametrize(("limit", "requests"), [(1, 1), (5, 1), (6, 2), (10, 2), (12, 3), (100, 3)])
async def test_a_limit_saves_requests(bedrock, limit, requests):
    retriever = KnowledgeBaseRetriever(knowledge_base_id=numbered(bedrock, 12), k=5)
    assert len(list(retriever.iterate("krill", limit=limit))) == min(limit, 12)
    assert len(bedrock.requests("Retrieve")) == requests
    assert len([document async for document in retriever.aiterate("krill", limit=limit)]) == min(limit, 12)
    assert len(bedrock.requests("Retrieve")) == 2 * requests


async def test_async_pages_are_asked_for_when_they_are_needed_too(bedrock):
    retriever = KnowledgeBaseRetriever(knowledge_base_id=numbered(bedrock, 30), k=2)
    every = retriever.aiterate("krill")
    assert (await anext(every)).page_content.startswith("krill")
    assert (await anext(every)).page_content.startswith("krill")
    await every.aclose()
    assert len(bedrock.requests("Retrieve")) == 1


def test_options_of_the_call_hold_for_every_page(bedrock):
    retriever = KnowledgeBaseRetriever(knowledge_base_id=numbered(bedrock, 6))
    assert len(list(retriever.iterate("krill", k=2, search_type="SEMANTIC"))) == 6
    asked = [entry.request["retrievalConfiguration"]["vectorSearchConfiguration"] for entry in bedrock.journal[-3:]]
    assert asked == [{"numberOfResults": 2, "overrideSearchType": "SEMANTIC"}] * 3


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "3"])
def test_limit_that_is_not_a_count_is_refused(limit):
    retriever = KnowledgeBaseRetriever(knowledge_base_id="EMULATEDKB")
    with pytest.raises(InvalidRequestError, match=re.escape(f"limit={limit!r}")):
        retriever.iterate("krill", limit=limit)


def test_a_token_that_comes_again_ends_the_pages():
    with ScriptedBedrock({"retrievalResults": [text("krill")], "nextToken": "again"}) as service:
        retriever = KnowledgeBaseRetriever(knowledge_base_id="EMULATEDKB", **service.arguments)
        assert len(list(retriever.iterate("krill"))) == 2
        assert len(service.requests) == 2


def test_a_page_of_nothing_does_not_end_the_pages():
    pages = [
        {"retrievalResults": [text("bad", score=0.1)], "nextToken": "1"},
        {"retrievalResults": [], "nextToken": "2"},
        {"retrievalResults": [text("good", score=0.9)]},
    ]
    with ScriptedBedrock(*pages) as service:
        retriever = KnowledgeBaseRetriever(knowledge_base_id="EMULATEDKB", score_threshold=0.5, **service.arguments)
        assert [document.page_content for document in retriever.iterate("krill")] == ["good"]


# --- what goes wrong ---


def test_throttling_is_retried_as_everywhere(bedrock):
    base = numbered(bedrock, 1)
    fault = bedrock.fail("throttling", operation="Retrieve", times=1)
    assert len(KnowledgeBaseRetriever(knowledge_base_id=base).invoke("krill")) == 1
    assert fault.hits == 1
    bedrock.fail("throttling", operation="Retrieve", times=1)
    with pytest.raises(Exception, match="Throttling"):
        KnowledgeBaseRetriever(knowledge_base_id=base, max_retries=0).invoke("krill")


def test_retriever_searches_without_permission_for_get_knowledge_base(bedrock, caplog):
    base = numbered(bedrock, 3)
    bedrock.fail("access_denied", operation="GetKnowledgeBase", times=10)
    assert len(KnowledgeBaseRetriever(knowledge_base_id=base, k=2).invoke("krill")) == 2
    assert len(KnowledgeBaseRetriever(knowledge_base_id=base, k=1).invoke("krill")) == 1
    warnings = [record for record in caplog.records if "bedrock:GetKnowledgeBase" in record.getMessage()]
    assert len(warnings) == 1
