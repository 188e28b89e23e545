"""`KnowledgeBaseQueryEngine`: the same response in both modes, streamed or not."""

from __future__ import annotations

import asyncio
import gc
import re
import weakref

import pytest
from botocore.exceptions import ClientError
from knowledge_base_calls import DAY, Clock
from llama_index.core.base.response.schema import AsyncStreamingResponse, Response, StreamingResponse
from llama_index.core.memory import ChatMemoryBuffer
from llama_index_knowledge import (
    CONVERSE,
    FACTS,
    FORMS,
    GENERATE,
    MODES,
    WHO,
    Says,
    ask,
    check_citations,
    engine,
    facts,
    start,
    whole,
)
from samples import HAIKU, SONNET

from bedrock_routing_integrations.emulator import BedrockEmulator
from bedrock_routing_integrations.errors import InvalidRequestError, SessionExpiredError, StreamInterruptedError
from bedrock_routing_integrations.knowledge_base import where
from bedrock_routing_integrations.llama_index import KnowledgeBaseQueryEngine, KnowledgeBaseRetriever

KINDS = {"query": Response, "aquery": Response, "stream": StreamingResponse, "astream": AsyncStreamingResponse}
MARKED = "Huygens \N{GRINNING FACE} did [cite: 1]. Lassell found another [cite: 2, 9].[cite: 7]\n\nThat is all."
CLEAN = "Huygens \N{GRINNING FACE} did. Lassell found another.\n\nThat is all."
STREAMED = [form for form in FORMS if "stream" in form]

each_mode = pytest.mark.parametrize("mode", MODES)
each_form = pytest.mark.parametrize("form", FORMS)
streamed = pytest.mark.parametrize("form", STREAMED)


@pytest.fixture
def moons(bedrock):
    return facts(bedrock)


# --- answers ---


@each_form
@each_mode
async def test_an_answer_its_sources_and_what_it_rests_on(bedrock, moons, router, mode, form):
    response = await start(engine(moons, form, model=router, mode=mode), form)
    assert isinstance(response, KINDS[form])
    response = await whole(response)
    assert "Huygens" in str(response)
    assert set(response.metadata) == {"mode", "session_id", "citations", "guardrail_action", "routing"}
    assert response.metadata["mode"] == mode
    assert response.metadata["guardrail_action"] is None
    assert FACTS[1] in [each.node.text for each in response.source_nodes]
    assert any("Huygens" in text for text in check_citations(response))


@each_mode
async def test_every_form_gives_the_same(moons, router, mode):
    seen = []
    for form in FORMS:
        response = await ask(engine(moons, form, model=router, mode=mode), form)
        ids = [each.node.node_id for each in response.source_nodes]
        seen.append((str(response), response.metadata["citations"], ids))
    assert seen[1:] == seen[:1] * 3


@each_form
async def test_markers_of_any_llm_become_citations(moons, form):
    llm = Says(answers=[MARKED])
    response = await ask(engine(moons, form, model=llm, mode=CONVERSE), form)
    assert str(response) == CLEAN
    cited = [(citation.text.strip(". "), citation.passages) for citation in response.metadata["citations"]]
    assert cited == [("Huygens \N{GRINNING FACE} did", (0,)), ("Lassell found another", (1,))]
    assert check_citations(response)
    assert [each.node.text for each in response.source_nodes] == [FACTS[1], FACTS[2]]
    assert response.metadata["routing"] is None


@each_form
async def test_routing_has_the_invoked_model_if_known(bedrock, moons, router, form):
    bedrock.choose(SONNET)
    routing = (await ask(engine(moons, form, model=router, mode=CONVERSE), form)).metadata["routing"]
    assert (routing["invoked_model"], routing["is_fallback"]) == (SONNET, True)
    assert routing["usage"]["input"] > 0
    routing = (await ask(engine(moons, form, model=router, mode=GENERATE), form)).metadata["routing"]
    assert routing["candidates"] == [HAIKU, SONNET]
    unknown = ("invoked_model", "invoked_model_id", "is_fallback", "usage", "cost_usd", "latency_ms")
    assert {routing[name] for name in unknown} == {None}


@each_mode
async def test_search_options_hold_for_engine_and_call(bedrock, moons, router, mode):
    operation = "RetrieveAndGenerate" if mode == GENERATE else "Retrieve"
    asked = engine(moons, model=router, mode=mode, k=2)
    asked.query(WHO, k=1, filter=where("moon") == "Titan")
    await asked.aquery(WHO)
    sent = []
    for entry in bedrock.requests(operation):
        whole_one = entry.request.get("retrieveAndGenerateConfiguration", {}).get(
            "knowledgeBaseConfiguration", entry.request
        )
        sent.append(whole_one["retrievalConfiguration"]["vectorSearchConfiguration"])
    assert sent == [
        {"numberOfResults": 1, "filter": {"equals": {"key": "moon", "value": "Titan"}}},
        {"numberOfResults": 2},
    ]


@each_form
@each_mode
async def test_a_guardrail_holds_for_all_of_it(bedrock, moons, router, mode, form):
    guardrail, version = bedrock.add_guardrail(["secret"])
    config = {"guardrailId": guardrail, "guardrailVersion": version}
    asked = engine(moons, form, model=router, mode=mode, guardrail_config=config)
    assert (await ask(asked, form)).metadata["guardrail_action"] == "NONE"
    stopped = await ask(asked, form, "Which secret moon is there?")
    assert stopped.metadata["guardrail_action"] == "INTERVENED"
    assert stopped.metadata["citations"] == []
    if mode == CONVERSE:
        sent = {"guardrailIdentifier": guardrail, "guardrailVersion": version}
        answers = bedrock.requests("ConverseStream" if "stream" in form else "Converse")
        assert sent.items() <= answers[0].request["guardrailConfig"].items()


# --- streams ---


@streamed
@each_mode
async def test_a_streams_metadata_is_filled_while_it_is_read(moons, router, mode, form):
    response = await start(engine(moons, form, model=router, mode=mode), form)
    session_id = response.metadata["session_id"]
    assert session_id
    assert response.metadata["citations"] == []
    read = ""
    if form == "stream":
        for text in response.response_gen:
            read += text
    else:
        async for text in response.response_gen:
            read += text
    check_citations(response)
    assert read == str(response)
    assert response.metadata["session_id"] == session_id
    assert response.metadata["routing"]["requested_model_id"] == router
    assert response.source_nodes


async def test_get_response_after_partial_reading_is_whole(moons, capsys):
    asked = engine(moons, "stream", model=Says(answers=[MARKED]), mode=CONVERSE)
    response = asked.query(WHO)
    first = next(response.response_gen)
    assert str(response) == CLEAN != first
    assert response.get_response().response == CLEAN
    response = asked.query(WHO)
    next(response.response_gen)
    response.print_response_stream()
    assert capsys.readouterr().out == CLEAN[len(first) :]
    response.print_response_stream()
    assert capsys.readouterr().out.strip() == CLEAN
    response = await asked.aquery(WHO)
    await anext(response.response_gen)
    assert [text async for text in response.async_response_gen()] != [CLEAN]
    assert [text async for text in response.async_response_gen()] == [CLEAN]
    assert str(response) == (await response.get_response()).response == CLEAN


async def test_str_of_async_stream_raises_in_a_loop(moons):
    response = await engine(moons, "stream", model=Says(answers=[MARKED]), mode=CONVERSE).aquery(WHO)
    with pytest.raises(InvalidRequestError, match=r"await response\.get_response"):
        str(response)
    assert str(await response.get_response()) == CLEAN


def test_str_of_async_stream_is_the_answer_without_a_loop(moons):
    async def begun():
        return await engine(moons, "stream", model=Says(answers=[MARKED]), mode=CONVERSE).aquery(WHO)

    assert str(asyncio.run(begun())) == CLEAN


@streamed
@each_mode
async def test_broken_stream_raises_every_time(bedrock, moons, router, mode, form):
    operation = "RetrieveAndGenerateStream" if mode == GENERATE else "ConverseStream"
    bedrock.fail("cut", operation=operation, frame=2, abrupt=True)
    asked = engine(moons, form, model=router, mode=mode)
    response = await start(asked, form)
    for _ in range(2):
        with pytest.raises(StreamInterruptedError) as caught:
            await whole(response)
    assert isinstance(caught.value.partial, dict)
    if mode == CONVERSE:
        session_id = response.metadata["session_id"]
        await ask(asked, form, session_id=session_id)
        sent = bedrock.requests("ConverseStream")[-1].request["messages"]
        assert len(sent) == 1, "the conversation does not go on from half an answer"


@each_mode
def test_refusals_are_raised_by_the_call(router, mode):
    for form in ("query", "stream"):
        with pytest.raises(ClientError, match="ResourceNotFound"):
            engine("AAAAAAAAAA", form, model=router, mode=mode).query(WHO)


@each_mode
def test_dropped_stream_closes_its_connection(moons, router, mode):
    response = engine(moons, "stream", model=router, mode=mode).query(WHO)
    next(response.response_gen)
    texts = weakref.ref(response.response_gen)
    gc.disable()
    try:
        del response
        assert texts() is None, "something keeps it until the garbage is collected"
    finally:
        gc.enable()


# --- sessions ---


@each_form
@each_mode
async def test_a_session_goes_on(bedrock, moons, router, mode, form):
    asked = engine(moons, form, model=router, mode=mode)
    first = await ask(asked, form)
    second = await ask(asked, form, "And who found Triton?", session_id=first.metadata["session_id"])
    assert second.metadata["session_id"] == first.metadata["session_id"]
    assert (await ask(asked, form)).metadata["session_id"] != first.metadata["session_id"]
    if mode == CONVERSE:
        asked_models = bedrock.requests("Converse") + bedrock.requests("ConverseStream")
        (answering,) = [each.request["messages"] for each in asked_models if len(each.request["messages"]) == 3]
        assert [message["content"][0]["text"] for message in answering[:2]] == [WHO, str(first)]
        (rewording,) = [each for each in asked_models if "Follow-up question: And who" in str(each.request)]
        assert f"User: {WHO}\nAssistant: {first}" in rewording.request["messages"][0]["content"][0]["text"]


@each_form
@each_mode
async def test_expired_session_raises(moons, router, mode, form):
    asked = engine(moons, form, model=router, mode=mode)
    with pytest.raises(SessionExpiredError, match="24 hours") as caught:
        await ask(asked, form, session_id="11111111-2222-3333-4444-555555555555")
    assert caught.value.session_id.startswith("1111")


def test_bedrocks_sessions_last_a_day(monkeypatch):
    clock = Clock()
    with BedrockEmulator(clock=clock) as bedrock:
        for name, value in bedrock.environment().items():
            monkeypatch.setenv(name, value)
        asked = engine(facts(bedrock), model=HAIKU)
        session_id = asked.query(WHO).metadata["session_id"]
        clock.now += DAY + 1
        with pytest.raises(SessionExpiredError):
            asked.query(WHO, session_id=session_id)


@each_form
async def test_conversations_can_be_kept_elsewhere_under_any_id(moons, form):
    kept = {}

    def get_memory(session_id):
        if session_id not in kept:
            kept[session_id] = ChatMemoryBuffer.from_defaults(token_limit=1_000)
        return kept[session_id]

    llm = Says(answers=[MARKED])
    asked = engine(moons, form, model=llm, mode=CONVERSE, get_memory=get_memory)
    response = await ask(asked, form, session_id="my session #7")
    assert response.metadata["session_id"] == "my session #7"
    history = await kept["my session #7"].aget_all()
    assert [(each.role.value, each.content) for each in history] == [("user", WHO), ("assistant", CLEAN)]
    await ask(asked, form, "And when?", session_id="my session #7")
    rewriting, answering = llm.asked[1:]
    assert len(rewriting) == 1
    assert f"User: {WHO}\nAssistant: Huygens" in rewriting[0].content
    assert [each.content for each in answering[1:3]] == [WHO, CLEAN]
    assert re.fullmatch(r"[0-9a-f-]{36}", (await ask(asked, form)).metadata["session_id"])


# --- what cannot be ---

KEY = f"arn:aws:kms:us-east-1:123456789012:key/{'a' * 36}"
PROMPT = "arn:aws:bedrock:us-east-1:123456789012:prompt/PROMPT1234"
SOURCE = {"data": b"x", "contentType": "text/plain", "identifier": "x.txt"}
BAD = {
    "a mode": ({"mode": "retrieve"}, "mode='retrieve'"),
    "an argument": ({"temperature": 1}, "takes no 'temperature'"),
    "nowhere to look": ({"knowledge_base_id": None}, "knowledge_base_id"),
    "two places to look": ({"external_source": SOURCE}, "knowledge_base_id"),
    "an LLM where Bedrock asks": ({"model": Says(answers=["a"])}, "which takes LLMs"),
    "a managed prompt": ({"model": PROMPT}, "managed prompt"),
    "a threshold": ({"score_threshold": 0.5}, "reports no scores"),
    "a memory": ({"get_memory": lambda _: None}, "get_memory is not valid with mode='retrieve_and_generate'"),
    "a cache": ({"cache": "off"}, "cache is not valid with mode"),
    "a retriever": ({"retriever": KnowledgeBaseRetriever("AAAAAAAAAA")}, "retriever is not valid with mode"),
    "a managed knowledge base": ({"knowledge_base_type": "MANAGED"}, "managed"),
    "a template": ({"prompt_template": "no placeholder"}, r"\$search_results\$"),
    "a long template": ({"prompt_template": "$search_results$" + "x" * 4_000}, "4,000"),
    "inference": ({"inference_config": {"max_tokens": 7}}, "did you mean 'maxTokens'"),
    "latency": ({"performance_config": {"latency": "fast"}}, "optimized"),
    "a search of a document": ({"knowledge_base_id": None, "external_source": SOURCE, "k": 3}, "is not searched"),
    "a key in the second mode": ({"mode": CONVERSE, "kms_key_arn": KEY}, "kms_key_arn"),
    "a template in the second mode": ({"mode": CONVERSE, "prompt_template": "$query$"}, r"\$search_results\$"),
    "inference in the second mode": ({"mode": CONVERSE, "inference_config": {"top_p": 1}}, "did you mean 'topP'"),
    "options of an LLM": ({"mode": CONVERSE, "model": Says(answers=["a"]), "inference_config": {"maxTokens": 5}},
                          "inference_config is not valid here: it belongs to the LLM"),
    "a model that is none": ({"mode": CONVERSE, "model": 7}, "it is a int"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_arguments_without_effect_are_refused(bedrock, what):
    arguments, says = BAD[what]
    with pytest.raises(InvalidRequestError, match=says):
        KnowledgeBaseQueryEngine(**{"knowledge_base_id": "AAAAAAAAAA", "model": HAIKU, **arguments})
    assert bedrock.journal == []


@each_form
@each_mode
async def test_invalid_call_sends_nothing(bedrock, moons, router, mode, form):
    asked = engine(moons, form, model=router, mode=mode)
    for question, call in ((" ", {}), (WHO, {"k": 0}), (WHO, {"kk": 1}), (WHO, {"session_id": ""})):
        with pytest.raises(InvalidRequestError):
            await ask(asked, form, question, **call)
    assert [entry.operation for entry in bedrock.journal if entry.operation.startswith(("Retrieve", "Converse"))] == []
    if mode == GENERATE:
        with pytest.raises(InvalidRequestError, match="mode='retrieve_then_converse' takes more"):
            await ask(asked, form, "long " * 201)
    else:
        assert str(await ask(asked, form, f"{'Well. ' * 200}{WHO}"))
