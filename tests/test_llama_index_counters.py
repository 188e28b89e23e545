"""LlamaIndex's own counters count what Bedrock billed: cached tokens are part of the prompt, each call counts once."""

from __future__ import annotations

import pytest
from llama_index.core import PromptTemplate, Settings
from llama_index.core.agent.workflow import FunctionAgent, ReActAgent
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.tools import FunctionTool
from llama_index_applications import ALL, routes, vector_index
from llama_index_forms import FORMS, read, run, user
from llama_index_knowledge import CONVERSE, GENERATE, ask, engine, facts
from llama_index_knowledge import FORMS as ASKING
from pydantic import BaseModel
from samples import ALICE, HAIKU, HELLO
from scripted_bedrock import ScriptedBedrock, block_stop, call_delta, call_start, stream_of, text, whole_of

from bedrock_routing_integrations.invocation import Usage
from bedrock_routing_integrations.llama_index import BedrockRouter

CACHES = "us.anthropic.claude-3-7-sonnet-20250219-v1:0"
RULES = "You answer questions about the lighthouse of Varn. " * 200  # some 2,500 tokens
TOPIC = PromptTemplate("Invent a song about {topic}.")


class Song(BaseModel):
    """A song."""

    title: str


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def aws(plain, output, read_=0, written=0, **details):
    """Bedrock's usage, where `plain` leaves out what the cache served or took."""
    usage = {"inputTokens": plain, "outputTokens": output, "totalTokens": plain + output + read_ + written}
    if read_ or written:
        usage |= {"cacheReadInputTokens": read_, "cacheWriteInputTokens": written}
    if details:
        usage["cacheDetails"] = [{"ttl": ttl.removeprefix("of_"), "inputTokens": n} for ttl, n in details.items()]
    return usage


# Bedrock's usage → prompt, answer and total as LlamaIndex counts them, of which read and written.
COUNTED = {
    "no cache": (aws(12, 5), (12, 5, 17, 0, 0)),
    "read": (aws(5, 7, 100), (105, 7, 112, 100, 0)),
    "written for 5 minutes": (aws(5, 7, 0, 30, of_5m=30), (35, 7, 42, 0, 30)),
    "written for both": (aws(5, 7, 100, 50, of_1h=30, of_5m=20), (155, 7, 162, 100, 50)),
    "all of it read": (aws(0, 7, 2048), (2048, 7, 2055, 2048, 0)),
}
NAMES = (
    "prompt_tokens", "completion_tokens", "total_tokens", "cache_read_input_tokens", "cache_creation_input_tokens",
)  # fmt: skip
each_count = pytest.mark.parametrize(("usage", "counts"), COUNTED.values(), ids=COUNTED)


def a_counter():
    # Where it found no counts it would guess by its tokenizer; a guess of this one is seen in any sum.
    return TokenCountingHandler(tokenizer=lambda text: [0] * 99_999)


def counting(counter, model=HAIKU, **arguments):
    return BedrockRouter(model=model, callback_manager=CallbackManager([counter]), **arguments)


def counted(counter):
    return counter.prompt_llm_token_count, counter.completion_llm_token_count, counter.total_llm_token_count


def answer_of(form, usage):
    if "stream" in form:
        return stream_of(text(0, "He"), text(0, "llo"), block_stop(0), usage=usage)
    return whole_of({"text": "Hello"}, usage=usage)


# --- one call ---


@pytest.mark.sample(12)
@pytest.mark.parametrize("form", FORMS)
@each_count
async def test_call_counts_cached_tokens_as_prompt(form, usage, counts):
    counter = a_counter()
    with ScriptedBedrock(answer_of(form, usage)) as server:
        *before, last = await run(counting(counter, **server.arguments), form, "Hello")
    assert len(counter.llm_token_counts) == 1
    assert counted(counter) == counts[:3]
    expected = dict(zip(NAMES, counts, strict=True))
    routing = last.additional_kwargs.pop("routing")
    assert last.additional_kwargs == expected
    assert last.raw["usage"] == usage | expected
    billed = Usage(**routing["usage"])
    assert (billed.prompt, billed.output, billed.total) == counts[:3]
    # Who adds up the chunks of a stream gets the same.
    assert not any(set(NAMES) & {*chunk.additional_kwargs, *(chunk.raw.get("usage") or ())} for chunk in before)


@each_count
async def test_last_chunk_of_a_stream_equals_chat(usage, counts):
    results = []
    for form in ("chat", "achat", "stream_chat", "astream_chat"):
        with ScriptedBedrock(answer_of(form, usage)) as server:
            *_, last = await run(BedrockRouter(model=HAIKU, **server.arguments), form, "Hello")
        routing = last.additional_kwargs.pop("routing")
        results.append((last.message, last.additional_kwargs, last.raw["usage"], routing["usage"], routing["cost_usd"]))
    assert results[0] == results[1] == results[2] == results[3]


async def test_usage_has_opentelemetrys_phoenixs_and_bedrocks_names(router):
    """OpenInference and Langfuse read these in ``raw["usage"]``; ``prompt_tokens`` includes the cached ones there."""
    *_, last = await run(BedrockRouter(model=router), "astream_chat", ALICE)
    assert set(NAMES) <= set(last.raw["usage"])
    # What they would add the cached tokens to, were it there, as with Anthropic's own usage.
    assert "input_tokens" not in last.raw["usage"]


@pytest.mark.parametrize("form", FORMS)
async def test_tokens_are_those_that_bedrock_counted(router, form):
    counter = a_counter()
    *_, last = await run(counting(counter, router), form, ALICE)
    usage = last.raw["usage"]
    assert counted(counter) == (usage["inputTokens"], usage["outputTokens"], usage["totalTokens"])


def test_tokens_of_several_calls_add_up(router):
    counter = a_counter()
    llm = counting(counter, router)
    answers = [llm.chat(user(ALICE)), llm.complete(HELLO), *list(llm.stream_chat(user(HELLO)))[-1:]]
    assert counter.total_llm_token_count == sum(answer.raw["usage"]["totalTokens"] for answer in answers)


# --- what LlamaIndex makes of calls ---


async def predicted(llm, way):
    streamed, asynchronous = "stream" in way, way.startswith("a")
    arguments = (Song, TOPIC) if "structured" in way else (TOPIC,)
    answer = getattr(llm, way)(*arguments, topic="cats")
    if asynchronous:
        answer = await answer
    return await read(answer) if streamed else answer


def predicting(way, usage):
    streamed = "stream" in way
    if "structured" not in way:
        return answer_of(way, usage)
    if streamed:
        call = call_start(0, "t1", "Song"), call_delta(0, '{"title": '), call_delta(0, '"Cats"}'), block_stop(0)
        return stream_of(*call, stop="tool_use", usage=usage)
    call = {"toolUse": {"toolUseId": "t1", "name": "Song", "input": {"title": "Cats"}}}
    return whole_of(call, stop="tool_use", usage=usage)


PREDICTING = (
    "predict", "apredict", "stream", "astream", "structured_predict", "astructured_predict",
    "stream_structured_predict", "astream_structured_predict",
)  # fmt: skip


@pytest.mark.filterwarnings("ignore:The `json` method is deprecated")
@pytest.mark.parametrize("way", PREDICTING)
async def test_a_prediction_counts_once(way):
    usage, counts = COUNTED["written for both"]
    counter = a_counter()
    with ScriptedBedrock(predicting(way, usage)) as server:
        results = await predicted(counting(counter, **server.arguments), way)
        assert len(server.requests) == 1
    assert results
    assert len(counter.llm_token_counts) == 1
    assert counted(counter) == counts[:3]


def billed(seen):
    """The tokens of all calls, by the events that say who answered."""
    calls = [Usage(**event.routing["usage"]) for event in seen.events]
    return tuple(sum(getattr(call, name) for call in calls) for name in ("prompt", "output", "total"))


@pytest.mark.parametrize("streaming", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("kind", [FunctionAgent, ReActAgent])
async def test_each_step_of_an_agent_counts_once_cached_tokens_included(bedrock, kind, streaming):
    counter = a_counter()
    llm = counting(counter, CACHES)
    with routes() as seen:
        for _ in range(2):  # what the first run writes, the second one reads
            agent = kind(llm=llm, tools=[FunctionTool.from_defaults(add)], system_prompt=RULES, streaming=streaming)
            await agent.run("Add 3 and 4, then add 5 to the result.")
    assert len(counter.llm_token_counts) == len(seen.events) >= 2
    assert counted(counter) == billed(seen)
    if kind is FunctionAgent:
        assert sum(event.routing["usage"]["cache_read"] for event in seen.events) > 1_000


@pytest.mark.parametrize("way", ["chat_with_tools", "achat_with_tools", "stream_chat_with_tools"])
async def test_a_call_with_tools_counts_once(router, way):
    counter = a_counter()
    with routes() as seen:
        answer = getattr(counting(counter, router), way)([FunctionTool.from_defaults(add)], "Add 3 and 4.")
        if way.startswith("a"):
            await answer
        elif "stream" in way:
            list(answer)
    assert len(counter.llm_token_counts) == len(seen.events) == 1
    assert counted(counter) == billed(seen)


def test_each_call_of_a_query_engine_counts_once(router, monkeypatch):
    counter = a_counter()
    monkeypatch.setattr(Settings, "callback_manager", CallbackManager([counter]))  # which engines give their LLMs
    asked = vector_index().as_query_engine(
        llm=BedrockRouter(model=router), response_mode="refine", similarity_top_k=ALL
    )
    with routes() as seen:
        asked.query("Who built the lighthouse of Varn?")
    assert len(counter.llm_token_counts) == len(seen.events) == ALL
    assert counted(counter) == billed(seen)


@pytest.mark.parametrize("form", ASKING)
async def test_knowledge_base_counts_known_tokens_of_model(bedrock, router, form):
    base = facts(bedrock)
    for mode, calls in ((CONVERSE, 1), (GENERATE, 0)):
        counter = a_counter()
        with routes() as seen:
            await ask(engine(base, form, model=router, mode=mode, callback_manager=CallbackManager([counter])), form)
        assert len(counter.llm_token_counts) == calls
        assert [event.routing["usage"] is not None for event in seen.events] == [mode == CONVERSE]
        assert not calls or counted(counter) == billed(seen)


def test_counts_absent_from_bedrock_stay_absent():
    """LlamaIndex then estimates with the user's tokenizer, as for other models."""
    counter = TokenCountingHandler(tokenizer=str.split)
    silent = whole_of({"text": "one two three"})
    del silent["usage"]
    with ScriptedBedrock(silent) as server:
        response = counting(counter, **server.arguments).complete("four five")
    assert set(response.additional_kwargs) == {"routing"}
    assert counted(counter) == (2, 3, 5)
