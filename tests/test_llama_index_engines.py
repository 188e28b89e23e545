"""LlamaIndex's query and chat engines on a `BedrockRouter`."""

from __future__ import annotations

import importlib.metadata

import pytest
from llama_index.core import PromptTemplate, Settings, SummaryIndex
from llama_index.core.chat_engine import (
    CondensePlusContextChatEngine,
    CondenseQuestionChatEngine,
    ContextChatEngine,
    SimpleChatEngine,
)
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.query_engine import (
    CitationQueryEngine,
    RetrieverQueryEngine,
    RouterQueryEngine,
    SubQuestionQueryEngine,
)
from llama_index.core.question_gen import LLMQuestionGenerator
from llama_index.core.selectors import (
    LLMMultiSelector,
    LLMSingleSelector,
    PydanticMultiSelector,
    PydanticSingleSelector,
)
from llama_index.core.tools import QueryEngineTool
from llama_index_applications import ALL, LIGHTHOUSE, TICKET, WOOL, answered_by, calls, nodes, routes, text_sent
from llama_index_applications import vector_index as index
from pydantic import BaseModel
from samples import HAIKU, HELLO, LLAMA_8B, LLAMA_70B, NOVA_LITE, NOVA_PRO, SONNET

from bedrock_routing_integrations.errors import StreamInterruptedError
from bedrock_routing_integrations.llama_index import BedrockRouter

# Its refine program waited for the whole answer (seen 2026-11 with 0.14.23, and no more with 0.14.25).
PUTS_TOGETHER = importlib.metadata.version("llama-index-core") in ("0.14.23", "0.14.24")
WHO_BUILT = "Who built the lighthouse?"
WHAT_COSTS = "What does a ticket for the ferry cost?"
MODES = {
    "compact": 1,
    "refine": 3,
    "tree_summarize": 1,
    "simple_summarize": 1,
    "accumulate": 3,
    "compact_accumulate": 1,
}


class Building(BaseModel):
    """A building."""

    name: str
    year: int


@pytest.fixture
def default(monkeypatch):
    """Makes a LLM LlamaIndex's default. Engines read their window off the default one, up to 0.14.23 off no other."""

    def make(llm):
        for name, value in (("_llm", llm), ("_prompt_helper", None), ("_chat_prompt_helper", None)):
            monkeypatch.setattr(Settings, name, value)
        return llm

    return make


# --- query engines ---


def test_query_engine_event_has_the_invoked_model(bedrock, router):
    engine = index().as_query_engine(llm=BedrockRouter(model=router), similarity_top_k=ALL)
    bedrock.choose(SONNET)
    with routes() as seen:
        response = engine.query(WHO_BUILT)
    assert LIGHTHOUSE in str(response)
    assert seen.models == answered_by(bedrock) == [SONNET]
    assert seen.events[0].routing["is_fallback"] is True
    assert {each.node.node_id for each in response.source_nodes} == {"node-0", "node-1", "node-2"}
    sent = calls(bedrock)[0].request
    assert all(node.text in text_sent(calls(bedrock)[0]) for node in nodes())
    assert sent["system"][0]["text"].startswith("You are an expert Q&A system")
    assert set(sent) == {"modelId", "system", "messages"}, "nothing is sent that nobody asked for"


def test_engine_knows_the_routers_smallest_context_window(bedrock, default):
    mixed = bedrock.create_prompt_router(name="mixed", models=[LLAMA_8B, LLAMA_70B], fallback=LLAMA_70B)
    retriever = index().as_retriever(similarity_top_k=ALL)
    RetrieverQueryEngine.from_args(retriever, llm=default(BedrockRouter(model=mixed)))
    assert len(bedrock.requests("GetPromptRouter")) == 1
    assert ChatMemoryBuffer.from_defaults(llm=BedrockRouter(model=mixed)).token_limit == int(128_000 * 0.75)
    given = BedrockRouter(model=bedrock.default_router("anthropic.claude:1"), base_models=[HAIKU, SONNET])
    assert ChatMemoryBuffer.from_defaults(llm=given).token_limit == int(200_000 * 0.75)
    assert len(bedrock.requests("GetPromptRouter")) == 1, "base_models= spares the look-up"
    assert calls(bedrock) == []


@pytest.mark.parametrize("mode", MODES)
def test_each_response_mode_answers_with_one_event_for_each_call(bedrock, router, mode):
    engine = RetrieverQueryEngine.from_args(
        index().as_retriever(similarity_top_k=ALL), llm=BedrockRouter(model=router), response_mode=mode
    )
    with routes() as seen:
        response = engine.query(WHO_BUILT)
    assert LIGHTHOUSE in str(response)
    assert seen.models == answered_by(bedrock)
    assert len(seen.models) == MODES[mode]


@pytest.mark.parametrize("mode", MODES)
async def test_each_response_mode_answers_asynchronously(bedrock, router, mode):
    engine = RetrieverQueryEngine.from_args(
        index().as_retriever(similarity_top_k=ALL), llm=BedrockRouter(model=router), response_mode=mode
    )
    with routes() as seen:
        response = await engine.aquery(WHO_BUILT)
    assert LIGHTHOUSE in str(response)
    assert sorted(seen.models) == sorted(answered_by(bedrock))
    assert len(seen.models) == MODES[mode]


def test_each_call_of_one_question_may_go_to_another_model(bedrock, router):
    engine = index().as_query_engine(llm=BedrockRouter(model=router), response_mode="refine", similarity_top_k=ALL)
    for model in (HAIKU, SONNET, HAIKU):
        bedrock.choose(model)
    with routes() as seen:
        engine.query(WHO_BUILT)
    assert seen.models == [HAIKU, SONNET, HAIKU]


async def test_a_tree_is_summarized_with_calls_side_by_side(bedrock, router, default):
    llm = default(BedrockRouter(model=router, context_window=220, max_tokens=40))
    engine = SummaryIndex(nodes()).as_query_engine(llm=llm, response_mode="tree_summarize", use_async=True)
    with routes() as seen:
        response = await engine.aquery(WHO_BUILT)
    assert LIGHTHOUSE in str(response)
    assert len(seen.models) == len(calls(bedrock)) > 1, "the window of 220 tokens holds no three paragraphs"
    assert {entry.request["inferenceConfig"]["maxTokens"] for entry in calls(bedrock)} == {40}


@pytest.mark.parametrize("mode", ["compact", "refine", "tree_summarize", "simple_summarize"])
def test_streaming_engine_reports_after_reading(bedrock, router, mode):
    llm = BedrockRouter(model=router)
    engine = index().as_query_engine(llm=llm, streaming=True, response_mode=mode, similarity_top_k=ALL)
    with routes() as seen:
        pieces = list(engine.query(WHO_BUILT).response_gen)
    assert LIGHTHOUSE in "".join(pieces)
    assert len(pieces) > 5 or (mode in ("compact", "refine") and PUTS_TOGETHER)
    assert seen.models == answered_by(bedrock)
    assert {entry.operation for entry in calls(bedrock)} == {"ConverseStream"}


async def test_a_streaming_engine_yields_the_answer_asynchronously(bedrock, router):
    engine = index().as_query_engine(llm=BedrockRouter(model=router), streaming=True, similarity_top_k=ALL)
    with routes() as seen:
        response = await engine.aquery(WHO_BUILT)
        pieces = [piece async for piece in response.async_response_gen()]
    assert LIGHTHOUSE in "".join(pieces)
    assert seen.models == answered_by(bedrock) == [calls(bedrock)[0].invoked]


def test_broken_stream_is_not_an_answer(bedrock, router):
    engine = index().as_query_engine(llm=BedrockRouter(model=router), streaming=True, similarity_top_k=ALL)
    bedrock.fail("cut", frame=5)
    with routes() as seen, pytest.raises(StreamInterruptedError):
        list(engine.query(WHO_BUILT).response_gen)
    assert seen.events == []


@pytest.mark.parametrize("mode", ["compact", "tree_summarize"])
def test_a_query_engine_fills_an_object(bedrock, router, mode):
    llm = BedrockRouter(model=router)
    engine = index().as_query_engine(llm=llm, output_cls=Building, response_mode=mode, similarity_top_k=ALL)
    with routes() as seen:
        response = engine.query("In which year was the lighthouse built?")
    assert isinstance(response.response, Building)
    assert response.response.year == 1874
    assert seen.models == answered_by(bedrock)
    assert calls(bedrock)[0].request["toolConfig"]["toolChoice"] == {"any": {}}


async def test_a_structured_llm_serves_a_query_engine(bedrock, router):
    llm = BedrockRouter(model=router).as_structured_llm(Building)
    with routes() as seen:
        response = await index().as_query_engine(llm=llm, similarity_top_k=ALL).aquery("When was the lighthouse built?")
    assert response.response.year == 1874
    assert seen.models == answered_by(bedrock)


def test_a_model_that_cannot_be_forced_fills_an_object_too(bedrock):
    llm = BedrockRouter(model=bedrock.default_router("meta.llama:1"))
    prompt = PromptTemplate("Call the tool Building for: the building named {name} is of the year {year}.")
    with routes() as seen:
        building = llm.structured_predict(Building, prompt, name="'Varn'", year=1874)
    assert building == Building(name="Varn", year=1874)
    assert seen.models[0] in (LLAMA_8B, LLAMA_70B)
    assert "toolChoice" not in calls(bedrock)[0].request["toolConfig"]


def test_a_citation_engine_cites_the_source_that_it_used(bedrock, router):
    engine = CitationQueryEngine.from_args(index(), llm=BedrockRouter(model=router), similarity_top_k=ALL)
    with routes() as seen:
        response = engine.query(WHO_BUILT)
    answer, _, number = str(response).removesuffix("]").partition(" [")
    assert answer == LIGHTHOUSE
    assert LIGHTHOUSE in response.source_nodes[int(number) - 1].node.get_content()
    assert seen.models == answered_by(bedrock)


# --- engines that choose ---


def two_tools(llm):
    index_of_both = index()
    return [
        QueryEngineTool.from_defaults(
            index_of_both.as_query_engine(llm=llm, similarity_top_k=ALL), name=name, description=description
        )
        for name, description in (
            ("lighthouse", "Tells of the lighthouse: who built it, and when"),
            ("ferry", "Tells of the ferry: departures and what a ticket costs"),
        )
    ]


@pytest.mark.parametrize(
    "selector", [LLMSingleSelector, LLMMultiSelector, PydanticSingleSelector, PydanticMultiSelector]
)
def test_a_router_engine_selects_with_the_router(bedrock, router, selector):
    llm = BedrockRouter(model=router)
    engine = RouterQueryEngine.from_defaults(two_tools(llm), llm=llm, selector=selector.from_defaults(llm=llm))
    with routes() as seen:
        response = engine.query(WHAT_COSTS)
    assert response.metadata["selector_result"].inds == [1]
    assert TICKET in str(response)
    assert seen.models == answered_by(bedrock)
    assert len(seen.models) == 2, "one call chooses, one answers"
    assert ("toolConfig" in calls(bedrock)[0].request) is selector.__name__.startswith("Pydantic")


async def test_a_router_engine_takes_tool_calls_by_default(bedrock, router):
    llm = BedrockRouter(model=router)
    with routes() as seen:
        response = await RouterQueryEngine.from_defaults(two_tools(llm), llm=llm).aquery(WHAT_COSTS)
    assert response.metadata["selector_result"].inds == [1]
    assert calls(bedrock)[0].request["toolConfig"]["tools"][0]["toolSpec"]["name"] == "SingleSelection"
    assert seen.models == answered_by(bedrock)


def sub_question_engine(llm, **more):
    questions = LLMQuestionGenerator.from_defaults(llm=llm)
    return SubQuestionQueryEngine.from_defaults(two_tools(llm), llm=llm, question_gen=questions, verbose=False, **more)


def test_a_sub_question_engine_asks_each_tool_its_part(bedrock, router, capsys):
    engine = sub_question_engine(BedrockRouter(model=router), use_async=False)
    with routes() as seen:
        response = engine.query("Who built the lighthouse and what does a ticket for the ferry cost?")
    assert LIGHTHOUSE in str(response) or TICKET in str(response)
    asked = [text_sent(entry) for entry in calls(bedrock)]
    assert len(asked) == len(seen.models) == 4, "one makes the questions, two answer them, one puts it together"
    assert "Query: Who built the lighthouse?" in asked[1]
    assert "Query: what does a ticket for the ferry cost?" in asked[2]
    assert f"Response: {LIGHTHOUSE}" in asked[3]
    assert f"Response: {TICKET}" in asked[3]
    assert seen.models == answered_by(bedrock)
    assert capsys.readouterr().out == ""


async def test_a_sub_question_engine_asks_side_by_side(bedrock, router):
    engine = sub_question_engine(BedrockRouter(model=router))
    with routes() as seen:
        response = await engine.aquery("Who built the lighthouse and what does a ticket for the ferry cost?")
    assert len(seen.models) == 4
    assert sorted(seen.models) == sorted(answered_by(bedrock))
    assert len(response.source_nodes) == 2 + 2 * ALL


# --- chat engines ---


def memory():
    return ChatMemoryBuffer.from_defaults(token_limit=10_000)


def chat_engines(llm):
    retriever = index().as_retriever(similarity_top_k=ALL)
    query_engine = index().as_query_engine(llm=llm, similarity_top_k=ALL)
    return {
        "simple": SimpleChatEngine.from_defaults(
            llm=llm, memory=memory(), system_prompt=f"You know this: {LIGHTHOUSE}"
        ),
        "context": ContextChatEngine.from_defaults(retriever=retriever, llm=llm, memory=memory()),
        "condense_question": CondenseQuestionChatEngine.from_defaults(query_engine, llm=llm, memory=memory()),
        "condense_plus_context": CondensePlusContextChatEngine.from_defaults(retriever, llm=llm, memory=memory()),
    }


each_chat_engine = pytest.mark.parametrize("name", ["simple", "context", "condense_question", "condense_plus_context"])


def remembers(engine, bedrock, name):
    """The engine has both turns in memory, and the second request was made with the first one in it."""
    assert [str(message.role.value) for message in engine.chat_history] == ["user", "assistant"] * 2
    second = calls(bedrock)[2 if name.startswith("condense") else 1]
    sent_text = text_sent(calls(bedrock)[1])
    assert WHO_BUILT in sent_text, "the conversation so far is told"
    assert "Who was the lighthouse built by?" in text_sent(second)


@each_chat_engine
def test_chat_engine_remembers_and_reports_routing(bedrock, router, name):
    engine = chat_engines(BedrockRouter(model=router))[name]
    with routes() as seen:
        answers = [engine.chat(question) for question in (WHO_BUILT, "Who was the lighthouse built by?")]
    assert all(LIGHTHOUSE in str(answer) for answer in answers)
    assert seen.models == answered_by(bedrock)
    remembers(engine, bedrock, name)


@each_chat_engine
async def test_a_chat_engine_remembers_asynchronously(bedrock, router, name):
    engine = chat_engines(BedrockRouter(model=router))[name]
    with routes() as seen:
        answers = [await engine.achat(question) for question in (WHO_BUILT, "Who was the lighthouse built by?")]
    assert all(LIGHTHOUSE in str(answer) for answer in answers)
    assert seen.models == answered_by(bedrock)
    remembers(engine, bedrock, name)


@each_chat_engine
def test_a_chat_engine_streams(bedrock, router, name):
    engine = chat_engines(BedrockRouter(model=router))[name]
    with routes() as seen:
        for question in (WHO_BUILT, "Who was the lighthouse built by?"):
            assert LIGHTHOUSE in "".join(engine.stream_chat(question).response_gen)
    assert seen.models == answered_by(bedrock)
    assert calls(bedrock)[-1].operation == "ConverseStream"
    remembers(engine, bedrock, name)


@each_chat_engine
async def test_a_chat_engine_streams_asynchronously(bedrock, router, name):
    engine = chat_engines(BedrockRouter(model=router))[name]
    with routes() as seen:
        for question in (WHO_BUILT, "Who was the lighthouse built by?"):
            response = await engine.astream_chat(question)
            assert LIGHTHOUSE in "".join([piece async for piece in response.async_response_gen()])
    assert seen.models == answered_by(bedrock)
    remembers(engine, bedrock, name)


async def test_a_chat_engine_raises_when_its_stream_breaks_off(bedrock, router):
    engine = chat_engines(BedrockRouter(model=router))["simple"]
    bedrock.fail("cut", frame=4)
    response = await engine.astream_chat(WHO_BUILT)
    with pytest.raises(StreamInterruptedError):
        [piece async for piece in response.async_response_gen()]
    assert [message.role.value for message in engine.chat_history] == ["user"], "half an answer is not remembered"


# --- other targets, prompts, Settings ---


def test_an_application_profile_serves_a_query_engine(bedrock):
    profile = bedrock.create_application_profile(name="team", copy_from=NOVA_PRO)
    llm = BedrockRouter(model=NOVA_PRO, application_inference_profile_arn=profile)
    engine = index().as_query_engine(llm=llm, similarity_top_k=ALL)
    with routes() as seen:
        assert LIGHTHOUSE in str(engine.query(WHO_BUILT))
    assert seen.models == [NOVA_PRO]
    assert seen.events[0].requested_model_id == profile == calls(bedrock)[0].request["modelId"]
    assert bedrock.requests("GetInferenceProfile") == []


@pytest.mark.parametrize(
    ("kind", "models"), [("amazon.nova:1", (NOVA_LITE, NOVA_PRO)), ("meta.llama:1", (LLAMA_8B, LLAMA_70B))]
)
def test_other_routers_serve_engines(bedrock, kind, models):
    engine = index().as_query_engine(llm=BedrockRouter(model=bedrock.default_router(kind)), similarity_top_k=ALL)
    for model in models:
        bedrock.choose(model)
        with routes() as seen:
            assert LIGHTHOUSE in str(engine.query(WHO_BUILT))
        assert seen.models == [model]


async def test_prompts_are_predicted_in_all_four_ways(bedrock, router):
    llm = BedrockRouter(model=router, system_prompt="You are a guide.")
    prompt = PromptTemplate(HELLO.replace("'hello world'", "{what}"))
    with routes() as seen:
        texts = [llm.predict(prompt, what="'hello world'"), "".join(llm.stream(prompt, what="'hello world'"))]
        texts.append(await llm.apredict(prompt, what="'hello world'"))
        stream = await llm.astream(prompt, what="'hello world'")
        texts.append("".join([piece async for piece in stream]))
    assert len(set(texts)) == 1
    assert "hello world" in texts[0]
    assert seen.models == [HAIKU] * 4
    assert [entry.request["system"] for entry in calls(bedrock)] == [[{"text": "You are a guide."}]] * 4


def test_settings_make_it_the_default(bedrock, router, default):
    default(BedrockRouter(model=router))
    with routes() as seen:
        response = SummaryIndex(nodes()).as_query_engine().query("What color is the wool dyed?")
    assert WOOL in str(response)
    assert seen.models == answered_by(bedrock)
