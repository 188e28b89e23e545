"""LangChain's `KnowledgeBaseRetriever`: its requests, and its behaviour among LangChain's runnables."""

from __future__ import annotations

import copy
import pickle
import threading

import pytest
from botocore.session import Session
from knowledge_base_calls import chunk, collection
from langchain_core.load import dumpd
from samples import HAIKU

from bedrock_routing_integrations.errors import BedrockRoutingError, InvalidRequestError
from bedrock_routing_integrations.knowledge_base import where
from bedrock_routing_integrations.langchain import KnowledgeBaseRetriever

OCEAN = "Which moon has an ocean under its ice?"
RERANKER = "cohere.rerank-v3-5:0"
IMPLICIT = {
    "modelArn": f"arn:aws:bedrock:us-east-1::foundation-model/{HAIKU}",
    "metadataAttributes": [{"key": "planet", "type": "STRING", "description": "the planet"}],
}
VECTOR = "vectorSearchConfiguration"


@pytest.fixture
def library(bedrock):
    return bedrock.default_knowledge_base()


def sent(bedrock):
    return bedrock.requests("Retrieve")[-1].request


def search_of(bedrock, section=VECTOR):
    return sent(bedrock)["retrievalConfiguration"][section]


def numbered(bedrock, count, **settings):
    chunks = [chunk(f"krill number {number}", number) for number in range(count)]
    return bedrock.add_knowledge_base(collection(*chunks), **settings)


# --- what is sent ---

OPTIONS = [
    ({"k": 2}, {"numberOfResults": 2}),
    ({"k": 2, "search_type": "HYBRID"}, {"numberOfResults": 2, "overrideSearchType": "HYBRID"}),
    ({"filter": where("planet") == "Jupiter"}, {"filter": {"equals": {"key": "planet", "value": "Jupiter"}}}),
    (
        {"filter": {"equals": {"key": "planet", "value": "Mars"}}},
        {"filter": {"equals": {"key": "planet", "value": "Mars"}}},
    ),
    ({"implicit_filter": IMPLICIT}, {"implicitFilterConfiguration": IMPLICIT}),
    (
        {"reranking": RERANKER},
        {
            "rerankingConfiguration": {
                "type": "BEDROCK_RERANKING_MODEL",
                "bedrockRerankingConfiguration": {
                    "modelConfiguration": {"modelArn": f"arn:aws:bedrock:us-east-1::foundation-model/{RERANKER}"}
                },
            }
        },
    ),
    ({"retrieval_config": {VECTOR: {"numberOfResults": 3}}}, {"numberOfResults": 3}),
    ({"retrieval_config": {VECTOR: {"numberOfResults": 3}}, "k": 1}, {"numberOfResults": 1}),
]


@pytest.mark.parametrize("how", ["constructor", "call", "attribute"])
@pytest.mark.parametrize(("options", "expected"), OPTIONS)
def test_each_option_of_the_search_is_sent(bedrock, library, options, expected, how):
    retriever = KnowledgeBaseRetriever(
        knowledge_base_id=library, **(options if how == "constructor" else {"k": 7} if "k" in options else {})
    )
    if how == "attribute":
        for name, value in options.items():
            setattr(retriever, name, value)
    retriever.invoke(OCEAN, **(options if how == "call" else {}))
    assert search_of(bedrock) == expected


def test_without_options_nothing_but_the_query_is_sent(bedrock, library):
    assert KnowledgeBaseRetriever(knowledge_base_id=library).invoke(OCEAN)
    assert sent(bedrock) == {"knowledgeBaseId": library, "retrievalQuery": {"text": OCEAN}}
    assert bedrock.requests("GetKnowledgeBase") == [], "its type makes no difference to that"


@pytest.mark.parametrize("name", ["guardrail_config", "guardrails"])
def test_a_guardrail_is_sent_and_its_action_is_not_lost(bedrock, library, name):
    guardrail, version = bedrock.add_guardrail(["bomb"])
    given = {name: {"guardrailId": guardrail, "guardrailVersion": version}}
    for retriever, call in (
        (KnowledgeBaseRetriever(knowledge_base_id=library, **given), {}),
        (KnowledgeBaseRetriever(knowledge_base_id=library), given),
    ):
        found = retriever.invoke(OCEAN, **call)
        assert found
        assert {document.metadata["guardrail_action"] for document in found} == {"NONE"}
        stopped = retriever.invoke("Where is the bomb?", **call)
        assert stopped == []
        assert stopped.guardrail_action == "INTERVENED"
    assert KnowledgeBaseRetriever(knowledge_base_id=library).invoke(OCEAN).guardrail_action is None


def test_a_user_sees_what_the_user_may_see(bedrock):
    base = bedrock.add_knowledge_base(collection(chunk("krill is secret", allowed_users=["ann"]), chunk("krill", 1)))
    retriever = KnowledgeBaseRetriever(knowledge_base_id=base, user_context="ann")
    assert len(retriever.invoke("krill")) == 2
    assert len(retriever.invoke("krill", user_context={"userId": "bob"})) == 1


def test_a_picture_can_be_asked_with(bedrock, library):
    pictures = KnowledgeBaseRetriever(knowledge_base_id=library, filter=where("format") == "png")
    every = KnowledgeBaseRetriever(knowledge_base_id=library, k=100).invoke("diagram orbits moons planet")
    picture = next(document for document in every if document.metadata["type"] == "IMAGE")
    found = KnowledgeBaseRetriever(knowledge_base_id=library).invoke("", image=picture.metadata["data_uri"])
    assert found[0].metadata["source"] == picture.metadata["source"]
    with pytest.raises(InvalidRequestError, match="PNG, JPEG, GIF or WebP"):
        pictures.invoke("", image=b"nothing")


def test_a_managed_knowledge_base_is_detected_or_stated(bedrock):
    base = numbered(bedrock, 3, type="MANAGED")
    retriever = KnowledgeBaseRetriever(knowledge_base_id=base, k=2)
    assert len(retriever.invoke("krill")) == 2
    assert len(retriever.invoke("krill", k=3)) == 3
    assert search_of(bedrock, "managedSearchConfiguration") == {"numberOfResults": 3}
    assert len(bedrock.requests("GetKnowledgeBase")) == 1, "asked once"
    stated = KnowledgeBaseRetriever(knowledge_base_id=base, k=2, knowledge_base_type="MANAGED", reranking="NONE")
    bedrock.clear_journal()
    assert len(stated.invoke("krill")) == 2
    assert bedrock.requests("GetKnowledgeBase") == []


def test_the_region_of_the_arn_is_called(bedrock, library):
    arn = f"arn:aws:bedrock:eu-central-1:123456789012:knowledge-base/{library}"
    assert KnowledgeBaseRetriever(knowledge_base_id=arn, k=1).invoke(OCEAN)
    assert [entry.region for entry in bedrock.journal] == ["eu-central-1", "eu-central-1"]
    assert sent(bedrock)["knowledgeBaseId"] == arn
    KnowledgeBaseRetriever(knowledge_base_id=library, region_name="eu-west-1").invoke(OCEAN)
    assert bedrock.journal[-1].region == "eu-west-1"


def test_langchain_aws_classes_are_taken(bedrock, library):
    from langchain_aws.retrievers.bedrock import RetrievalConfig, SearchFilter, VectorSearchConfig

    config = RetrievalConfig(
        vectorSearchConfiguration=VectorSearchConfig(
            numberOfResults=2, filter=SearchFilter(**{"in": {"key": "planet", "value": ["Jupiter", "Saturn"]}})
        )
    )
    expected = {"numberOfResults": 2, "filter": {"in": {"key": "planet", "value": ["Jupiter", "Saturn"]}}}
    retriever = KnowledgeBaseRetriever(knowledge_base_id=library, retrieval_config=config)
    retriever.invoke(OCEAN)
    assert search_of(bedrock) == expected
    retriever.invoke(OCEAN, k=1, search_type="SEMANTIC")
    assert search_of(bedrock) == {**expected, "numberOfResults": 1, "overrideSearchType": "SEMANTIC"}
    managed = numbered(bedrock, 3, type="MANAGED")
    theirs = RetrievalConfig(managedSearchConfiguration={"numberOfResults": 1})
    assert len(KnowledgeBaseRetriever(knowledge_base_id=managed, retrieval_config=theirs).invoke("krill")) == 1
    assert len(KnowledgeBaseRetriever(knowledge_base_id=managed, retrieval_config=theirs).invoke("krill", k=2)) == 2


# --- what is refused ---


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({}, "needs knowledge_base_id="),
        ({"knowledge_base_id": "short"}, "is not a valid knowledge base id"),
        ({"knowledge_base_id": 5}, "must be a string"),
        ({"knowledge_base_id": "EMULATEDKB", "top_k": 3}, "takes no 'top_k'"),
        ({"knowledge_base_id": "EMULATEDKB", "serch_type": "HYBRID"}, "did you mean 'search_type'"),
        ({"knowledge_base_id": "EMULATEDKB", "k": 0}, "k=0 is not valid: Bedrock returns 1 to 100"),
        ({"knowledge_base_id": "EMULATEDKB", "search_type": "FUZZY"}, "HYBRID or SEMANTIC"),
        ({"knowledge_base_id": "EMULATEDKB", "filter": {"equal": {"key": "a", "value": 1}}}, "did you mean 'equals'"),
        ({"knowledge_base_id": "EMULATEDKB", "guardrails": {"guardrailId": "a"}}, "guardrailVersion"),
        ({"knowledge_base_id": "EMULATEDKB", "user_context": ""}, "id of a user"),
        ({"knowledge_base_id": "EMULATEDKB", "reranking": "MANAGED"}, "for managed knowledge bases"),
        ({"knowledge_base_id": "EMULATEDKB", "knowledge_base_type": "GRAPH"}, "VECTOR, KENDRA, SQL, MANAGED"),
        ({"knowledge_base_id": "EMULATEDKB", "retrieval_config": {"nextToken": "a"}}, "belongs to the request"),
        ({"knowledge_base_id": "EMULATEDKB", "aws_secret_access_key": 12345}, "must be a string, and is a int"),
    ],
)
def test_invalid_arguments_are_refused_with_advice(arguments, match):
    with pytest.raises(InvalidRequestError, match=match) as caught:
        KnowledgeBaseRetriever(**arguments)
    assert "12345" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        ({"top_k": 3}, "takes no 'top_k': did you mean 'k'"),
        ({"guardrail": {"guardrailId": "a", "guardrailVersion": "1"}}, "did you mean 'guardrail_config'"),
        ({"k": 101}, "k=101 is not valid: Bedrock returns 1 to 100"),
        ({"filter": {"equals": {"key": "a"}}}, "filter"),
        ({"min_score_confidence": "high"}, "score_threshold must be a number"),
    ],
)
async def test_invalid_call_is_refused_before_sending(bedrock, library, call, match):
    retriever = KnowledgeBaseRetriever(knowledge_base_id=library)
    with pytest.raises(InvalidRequestError, match=match):
        retriever.invoke(OCEAN, **call)
    with pytest.raises(InvalidRequestError, match=match):
        await retriever.ainvoke(OCEAN, **call)
    with pytest.raises(InvalidRequestError, match=match):
        retriever.iterate(OCEAN, **call)
    assert bedrock.requests("Retrieve") == []


@pytest.mark.parametrize("query", ["", "  \n", "x" * 20_001, 5, None, ["a"]])
def test_a_query_that_bedrock_refuses_is_refused_before(bedrock, library, query):
    with pytest.raises(InvalidRequestError, match="query"):
        KnowledgeBaseRetriever(knowledge_base_id=library).invoke(query)
    assert bedrock.requests() == []


def test_invalid_field_is_refused_at_the_call(bedrock, library):
    retriever = KnowledgeBaseRetriever(knowledge_base_id=library)
    retriever.k = 1000
    with pytest.raises(InvalidRequestError, match="k=1000"):
        retriever.invoke(OCEAN)


# --- before the first call, and between objects ---


def test_constructor_sends_nothing_and_makes_no_client(bedrock, library, monkeypatch):
    made = []
    create, here = Session.create_client, threading.current_thread()

    def create_client(*arguments, **options):
        if threading.current_thread() is here:
            made.append(arguments)
        return create(*arguments, **options)

    monkeypatch.setattr(Session, "create_client", create_client)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "whose-clients-are-made-here")
    retriever = KnowledgeBaseRetriever(knowledge_base_id=library, k=3)
    repr(retriever), dumpd(retriever), copy.deepcopy(retriever), pickle.dumps(retriever)
    assert made == []
    assert bedrock.requests() == []
    for k in (1, 2, 3):
        KnowledgeBaseRetriever(knowledge_base_id=library, k=k, knowledge_base_type="VECTOR").invoke(OCEAN)
    assert len(made) == 1, "objects with equal arguments share one"


def test_missing_region_is_raised_at_the_call(monkeypatch):
    retriever = KnowledgeBaseRetriever(knowledge_base_id="EMULATEDKB")
    with pytest.raises(BedrockRoutingError, match="No AWS Region is known"):
        retriever.invoke(OCEAN)


def test_a_client_that_is_given_is_used(bedrock, library, monkeypatch):
    given = bedrock.client("bedrock-agent-runtime", region_name="ap-southeast-2")
    retriever = KnowledgeBaseRetriever(knowledge_base_id=library, client=given)
    assert retriever.invoke(OCEAN, k=1)
    assert {entry.region for entry in bedrock.journal} == {"ap-southeast-2"}
    with pytest.raises(InvalidRequestError, match="is a client for 'bedrock-runtime'"):
        KnowledgeBaseRetriever(knowledge_base_id=library, client=bedrock.client())


def test_a_stand_in_that_only_retrieves_is_taken():
    """As the tests of an application have one."""

    class Retrieving:
        def retrieve(self, **request):
            return {"retrievalResults": [{"content": {"text": f"of {request['knowledgeBaseId']}"}, "score": 0.5}]}

    retriever = KnowledgeBaseRetriever(
        knowledge_base_id="EMULATEDKB",
        knowledge_base_type="VECTOR",
        client=Retrieving(),
        reranking="amazon.rerank-v1:0",
    )
    (document,) = retriever.invoke(OCEAN)
    assert (document.page_content, document.metadata["score"]) == ("of EMULATEDKB", 0.5)


def test_setting_where_aws_is_takes_effect(bedrock, library):
    retriever = KnowledgeBaseRetriever(knowledge_base_id=library, region_name="eu-west-1")
    retriever.invoke(OCEAN)
    retriever.region_name = "eu-west-3"
    retriever.invoke(OCEAN)
    assert [entry.region for entry in bedrock.requests("Retrieve")] == ["eu-west-1", "eu-west-3"]


def test_copies_and_pickles_answer(bedrock, library):
    retriever = KnowledgeBaseRetriever(knowledge_base_id=library, k=2, filter=where("planet") == "Jupiter")
    before = retriever.invoke(OCEAN)
    for twin in (
        copy.copy(retriever), copy.deepcopy(retriever), pickle.loads(pickle.dumps(retriever)), retriever.model_copy(),
    ):  # fmt: skip
        assert twin.invoke(OCEAN) == before
        assert twin.k == 2


# --- what comes back: more of it is in tests/test_langchain_documents.py ---


def test_documents_have_their_source(library):
    found = KnowledgeBaseRetriever(knowledge_base_id=library, k=3).invoke(OCEAN)
    first = found[0]
    assert "an ocean of salt water" in first.page_content
    assert first.metadata["source"] == "s3://emulated-knowledge-base/moons/europa.md"
    assert first.metadata["location"] == {"type": "S3", "s3Location": {"uri": first.metadata["source"]}}
    assert first.metadata["planet"] == first.metadata["source_metadata"]["planet"] == "Jupiter"
    assert first.metadata["type"] == "TEXT"
    assert first.metadata["document_id"] == "moons/europa.md"
    assert "guardrail_action" not in first.metadata
    scores = [document.metadata["score"] for document in found]
    assert scores == sorted(scores, reverse=True)
