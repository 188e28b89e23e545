"""LlamaIndex's `KnowledgeBaseRetriever`."""

from __future__ import annotations

import asyncio
import base64
import copy
import logging
import pickle
import threading

import pytest
from botocore.exceptions import ClientError
from knowledge_base_calls import chunk, collection
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import QueryFusionRetriever
from llama_index.core.schema import ImageNode, MetadataMode, QueryBundle
from llama_index_knowledge import FACTS, WHO, emitted, facts, names, span_names

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.knowledge_base import where
from bedrock_routing_integrations.llama_index import BedrockRouter, KnowledgeBaseRetriever

PIXELS = b"\x89PNG\r\n\x1a\n-pixels"
DATA = base64.b64encode(PIXELS).decode()
SECRETS = {
    "aws_access_key_id": "AKIASECRET",
    "aws_secret_access_key": "very-secret",
    "aws_session_token": "token-secret",
}


@pytest.fixture
def moons(bedrock):
    return facts(bedrock)


def found_texts(nodes):
    return [each.node.text for each in nodes]


async def retrieve(retriever, form, query=WHO, **options):
    found = getattr(retriever, form)(query, **options)
    return await found if form == "aretrieve" else found


both = pytest.mark.parametrize("form", ["retrieve", "aretrieve"])


# --- nodes ---


@both
async def test_passage_becomes_node_with_score_and_source(moons, form):
    best = (await retrieve(KnowledgeBaseRetriever(moons), form))[0]
    metadata = best.node.metadata
    assert best.node.text == FACTS[1]
    assert 0 < best.score < 1
    assert metadata == {
        "x-amz-bedrock-kb-source-uri": "s3://bucket/1.md",
        "moon": "Titan",
        "source": "s3://bucket/1.md",
        "score": best.score,
        "type": "TEXT",
        "location": {"type": "S3", "s3Location": {"uri": "s3://bucket/1.md"}},
        "document_id": "document-1",
        "sourceMetadata": {"x-amz-bedrock-kb-source-uri": "s3://bucket/1.md", "moon": "Titan"},
    }


OWN = {"type": "memo", "source": "Anna", "score": 7, "document_id": "A-1", "location": "Bonn", "sourceMetadata": "x"}


@both
async def test_own_attributes_of_a_document_are_kept_under_source_metadata(bedrock, form):
    """Attributes with the service's own names are only there. Neither LLM nor embedding sees the copy."""
    base = bedrock.add_knowledge_base(collection(chunk("krill", 1, **OWN)))
    (found,) = await retrieve(KnowledgeBaseRetriever(base), form, "krill")
    metadata = found.node.metadata
    assert metadata["sourceMetadata"] == {"x-amz-bedrock-kb-source-uri": "s3://bucket/1.md", **OWN}
    assert (metadata["type"], metadata["source"], metadata["document_id"]) == ("TEXT", "s3://bucket/1.md", "document-1")
    for mode in (MetadataMode.LLM, MetadataMode.EMBED):
        assert found.node.get_metadata_str(mode) == "source: s3://bucket/1.md"


def test_llm_metadata_is_source_and_own_attributes(moons):
    node = KnowledgeBaseRetriever(moons).retrieve(WHO)[0].node
    for mode in (MetadataMode.LLM, MetadataMode.EMBED):
        assert node.get_metadata_str(mode) == "moon: Titan\nsource: s3://bucket/1.md"


def test_every_content_type_becomes_a_node(bedrock):
    video = {"type": "VIDEO", "video": {"s3Uri": "s3://bucket/v.mp4", "summary": "krill on film"}}
    audio = {"type": "AUDIO", "audio": {"s3Uri": "s3://bucket/a.mp3", "transcription": "krill sings"}}
    row = {"type": "ROW", "row": [{"columnName": "krill", "columnValue": "7", "type": "LONG"}]}
    image = {"type": "IMAGE", "byteContent": f"data:image/png;base64,{DATA}"}
    contents = (row, image, audio, video)
    knowledge_base = bedrock.add_knowledge_base(
        collection(*(chunk("krill", number, content) for number, content in enumerate(contents)))
    )
    found = {each.node.metadata["type"]: each.node for each in KnowledgeBaseRetriever(knowledge_base).retrieve("krill")}
    assert found["ROW"].text == '{"krill": 7}'
    assert (found["AUDIO"].text, found["VIDEO"].text) == ("krill sings", "krill on film")
    assert found["AUDIO"].metadata["media_uri"] == "s3://bucket/a.mp3"
    assert found["VIDEO"].metadata["media_type"] == "video/mp4"
    picture = found["IMAGE"]
    assert isinstance(picture, ImageNode)
    assert picture.resolve_image().read() == PIXELS
    assert picture.image_mimetype == "image/png"
    for mode in (MetadataMode.ALL, MetadataMode.LLM):
        assert DATA not in picture.get_content(mode)


def test_node_ids_are_chunk_ids_or_stable(bedrock, moons):
    named = {"x-amz-bedrock-kb-chunk-id": "chunk-7"}
    same = bedrock.add_knowledge_base(collection(chunk("krill one", 1, **named), chunk("krill two", 2, **named)))
    one, two = KnowledgeBaseRetriever(same).retrieve("krill")
    assert "chunk-7" in {one.node.node_id, two.node.node_id}, "and LlamaIndex drops none of two of one id"
    ids = [[each.node.node_id for each in KnowledgeBaseRetriever(moons).retrieve(WHO)] for _ in range(2)]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == len(ids[0]) > 1


# --- options ---


@both
async def test_call_options_hold_for_one_call(bedrock, moons, form):
    retriever = KnowledgeBaseRetriever(moons, k=1, search_type="HYBRID")
    metadata_filter = where("moon") == "Titan"
    assert found_texts(await retrieve(retriever, form, "found", k=2)) == [FACTS[1], FACTS[2]]
    assert found_texts(await retrieve(retriever, form, "found", filter=metadata_filter)) == [FACTS[1]]
    await retrieve(retriever, form, "found")
    sent = [
        entry.request["retrievalConfiguration"]["vectorSearchConfiguration"] for entry in bedrock.requests("Retrieve")
    ]
    hybrid = {"overrideSearchType": "HYBRID"}
    assert sent == [
        {"numberOfResults": 2, **hybrid},
        {"numberOfResults": 1, "filter": metadata_filter.as_dict(), **hybrid},
        {"numberOfResults": 1, **hybrid},
    ]


def test_arguments_of_amazon_knowledge_bases_retriever_are_taken(bedrock, moons):
    given = {"vectorSearchConfiguration": {"numberOfResults": 2}}
    old = KnowledgeBaseRetriever(knowledge_base_id=moons, retrieval_config=given, region_name="us-east-1")
    assert len(old.retrieve("found")) == 2
    assert len(KnowledgeBaseRetriever(moons, similarity_top_k=1).retrieve("found")) == 1
    assert KnowledgeBaseRetriever(moons).retrieve("found", similarity_top_k=1)
    assert old.knowledge_base_id == moons


def test_a_threshold_leaves_out_what_scores_below(moons):
    best, second = KnowledgeBaseRetriever(moons).retrieve(WHO)
    assert len(KnowledgeBaseRetriever(moons, score_threshold=best.score).retrieve(WHO)) == 1
    assert second.score < best.score


BAD = {
    "an unknown id": ({"knowledge_base_id": "nothing"}, "is not a valid knowledge base id"),
    "k": ({"k": 0}, "1 to 100"),
    "two names of k": ({"k": 1, "similarity_top_k": 1}, "are the same"),
    "an operator": ({"filter": {"equal": {"key": "a", "value": 1}}}, "did you mean 'equals'"),
    "an unknown argument": ({"serch_type": "HYBRID"}, "did you mean 'search_type'"),
    "a client for something else": ({"client": object()}, "bedrock-agent-runtime"),
    "half of the credentials": ({"aws_access_key_id": "AKIA"}, "aws_secret_access_key is missing"),
    "a secret that is none": ({"api_key": 7}, "must be a string"),
    "half of a guardrail": ({"guardrail_config": {"guardrailId": "g"}}, "guardrailVersion"),
}


@pytest.mark.parametrize("what", BAD)
def test_invalid_arguments_are_refused_at_construction(bedrock, moons, what):
    arguments, says = BAD[what]
    with pytest.raises(InvalidRequestError, match=says):
        KnowledgeBaseRetriever(**{"knowledge_base_id": moons, **arguments})
    assert bedrock.journal == []


@both
async def test_invalid_call_option_sends_nothing(bedrock, moons, form):
    retriever = KnowledgeBaseRetriever(moons)
    for options in ({"k": 101}, {"kk": 1}, {"region_name": "eu-west-1"}):
        with pytest.raises(InvalidRequestError):
            await retrieve(retriever, form, **options)
    with pytest.raises(InvalidRequestError, match="is empty"):
        await retrieve(retriever, form, "  ")
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        await retrieve(retriever, form, QueryBundle("a", image_path="/nowhere.png"))
    assert bedrock.requests("Retrieve") == []


@both
async def test_image_query_from_call_or_image_path(bedrock, tmp_path, form):
    picture = {"type": "IMAGE", "byteContent": f"data:image/png;base64,{DATA}"}
    knowledge_base = bedrock.add_knowledge_base(collection(chunk("krill", 1, picture)), multimodal=True)
    path = tmp_path / "krill.png"
    path.write_bytes(PIXELS)
    retriever = KnowledgeBaseRetriever(knowledge_base)
    for query, options in ((QueryBundle("", image_path=str(path)), {}), ("", {"image": PIXELS})):
        assert isinstance((await retrieve(retriever, form, query, **options))[0].node, ImageNode)
    for entry in bedrock.requests("Retrieve"):
        assert entry.request["retrievalQuery"]["image"] == {"format": "png", "inlineContent": PIXELS}


@both
async def test_guardrail_action_is_kept(bedrock, moons, form):
    guardrail, version = bedrock.add_guardrail(["secret"])
    config = {"guardrailId": guardrail, "guardrailVersion": version}
    retriever = KnowledgeBaseRetriever(moons, guardrail_config=config)
    stopped = await retrieve(retriever, form, "a secret moon")
    assert (stopped, stopped.guardrail_action) == ([], "INTERVENED")
    passed = await retrieve(retriever, form)
    assert passed.guardrail_action == "NONE"
    assert {each.node.metadata["guardrail_action"] for each in passed} == {"NONE"}
    assert (await retrieve(KnowledgeBaseRetriever(moons), form)).guardrail_action is None


# --- pages ---


@pytest.fixture
def whales(bedrock):
    texts = [f"Whale number {number} eats krill." for number in range(23)]
    return bedrock.add_knowledge_base(collection(*(chunk(text, number) for number, text in enumerate(texts))))


def test_all_pages_are_walked_each_when_it_is_needed(bedrock, whales):
    retriever = KnowledgeBaseRetriever(whales, k=10)
    walk = retriever.iterate("krill")
    assert bedrock.requests("Retrieve") == []
    first = [next(walk) for _ in range(10)]
    assert len(bedrock.requests("Retrieve")) == 1
    assert len({each.node.text for each in [*first, *walk]}) == 23
    assert len(bedrock.requests("Retrieve")) == 3
    assert len(list(retriever.iterate("krill", 12))) == 12
    with pytest.raises(InvalidRequestError, match="limit=0"):
        retriever.iterate("krill", limit=0)


async def test_pages_are_walked_asynchronously_and_as_lazily(bedrock, whales):
    retriever = KnowledgeBaseRetriever(whales)
    walk = retriever.aiterate("krill", k=10)
    for _ in range(10):
        await anext(walk)
    assert len(bedrock.requests("Retrieve")) == 1
    assert len([each async for each in walk]) == 13
    assert len([each async for each in retriever.aiterate("krill", 7, k=5)]) == 7


# --- in LlamaIndex ---


@both
async def test_events_spans_and_callbacks_come_once(moons, form):
    debug = LlamaDebugHandler(print_trace_on_end=False)
    retriever = KnowledgeBaseRetriever(moons, callback_manager=CallbackManager([debug]))
    with emitted() as (events, spans):
        nodes = await retrieve(retriever, form, k=1)
    assert names(events) == ["RetrievalStartEvent", "RetrievalEndEvent"]
    assert events[-1].nodes == nodes
    assert span_names(spans) == ["KnowledgeBaseRetriever._retrieve", f"KnowledgeBaseRetriever.{form}"]
    ((_, ended),) = debug.get_event_pairs(CBEventType.RETRIEVE)
    assert ended.payload["nodes"] == nodes


async def test_async_calls_block_no_event_loop(moons):
    seen = []

    class Watched(KnowledgeBaseRetriever):
        def _retrieve(self, query_bundle):
            seen.append(threading.current_thread().name)
            return super()._retrieve(query_bundle)

    await asyncio.gather(*(Watched(moons).aretrieve(WHO) for _ in range(3)))
    assert len(seen) == 3
    assert all(name.startswith("bedrock-routing") for name in seen)


async def test_retriever_works_in_llama_indexs_engines(bedrock, moons, router):
    retriever = KnowledgeBaseRetriever(moons, k=2)
    engine = RetrieverQueryEngine.from_args(retriever, llm=BedrockRouter(model=router))
    assert "Huygens" in str(engine.query(WHO))
    assert "Huygens" in str(await engine.aquery(WHO))
    fused = QueryFusionRetriever([retriever], llm=BedrockRouter(model=router), num_queries=1, use_async=False)
    assert fused.retrieve(WHO)[0].node.text == FACTS[1]
    assert retriever.get_prompts() == {}


# --- connections and copies ---


def test_a_client_of_ones_own_is_used_as_it_is(bedrock, moons, monkeypatch):
    client = bedrock.client("bedrock-agent-runtime")
    for name in bedrock.environment():
        monkeypatch.delenv(name)
    assert KnowledgeBaseRetriever(moons, client=client).retrieve(WHO)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(KnowledgeBaseRetriever(moons, client=client))


def test_client_can_be_replaced(bedrock, moons):
    retriever = KnowledgeBaseRetriever(moons, region_name="eu-west-1")
    assert retriever.retrieve(WHO)
    other = bedrock.client("bedrock-agent-runtime", region_name="ap-southeast-2")
    retriever.client = other
    assert retriever.client is other
    assert retriever.retrieve(WHO)
    assert [entry.region for entry in bedrock.requests("Retrieve")] == ["eu-west-1", "ap-southeast-2"]
    with pytest.raises(InvalidRequestError, match="must be a client for 'bedrock-agent-runtime'"):
        retriever.client = bedrock.client()


def test_a_stand_in_that_only_retrieves_is_taken():
    """As the tests of an application have one."""

    class Retrieving:
        def retrieve(self, **request):
            return {"retrievalResults": [{"content": {"text": f"of {request['knowledgeBaseId']}"}, "score": 0.5}]}

    (node,) = KnowledgeBaseRetriever("EMULATEDKB", knowledge_base_type="VECTOR", client=Retrieving()).retrieve(WHO)
    assert (node.text, node.score) == ("of EMULATEDKB", 0.5)


def test_refusals_are_boto3s_errors(bedrock):
    with pytest.raises(ClientError, match="ResourceNotFound"):
        KnowledgeBaseRetriever("AAAAAAAAAA").retrieve(WHO)


@pytest.mark.parametrize("secrets", [SECRETS, {"api_key": "very-secret"}])
def test_secrets_are_in_no_repr_and_no_pickle(bedrock, moons, caplog, secrets):
    retriever = KnowledgeBaseRetriever(moons, k=1, **secrets)
    retriever.retrieve(WHO)
    pickled = pickle.dumps(retriever)
    for secret in secrets.values():
        assert secret not in f"{retriever!r}{vars(retriever)!r}"
        assert secret.encode() not in pickled
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert found_texts(pickle.loads(pickled).retrieve(WHO)) == [FACTS[1]], "with the credentials that it finds"


def test_copies_retrieve(bedrock, moons):
    retriever = KnowledgeBaseRetriever(moons, k=1, filter=where("moon") == "Titan")
    for twin in (copy.copy(retriever), copy.deepcopy(retriever), pickle.loads(pickle.dumps(retriever))):
        assert twin.options == retriever.options
        assert found_texts(twin.retrieve("found")) == [FACTS[1]]
