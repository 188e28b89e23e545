"""Test LangChain's own counters with our calls: `usage_metadata`, `get_usage_metadata_callback`, `llm_output`.

The arithmetic is that of `invocation.Usage`: Bedrock's inputTokens exclude what a cache had, LangChain's include it.
"""

from __future__ import annotations

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler, get_usage_metadata_callback
from langchain_core.tools import tool
from langchain_ways import MODELS, WAYS, ask
from samples import ALICE, HAIKU, HELLO, SONNET
from scripted_bedrock import ScriptedBedrock, block_stop, stream_of, text, whole_of

from bedrock_routing_integrations.invocation import Usage
from bedrock_routing_integrations.langchain import ChatBedrockRouter


def aws(input_, output, read=None, written=None, total=None, **details):
    usage = {"inputTokens": input_, "outputTokens": output}
    usage["totalTokens"] = total or input_ + output + (read or 0) + (written or 0)
    if read is not None:
        usage |= {"cacheReadInputTokens": read, "cacheWriteInputTokens": written}
    if details:
        usage["cacheDetails"] = [{"ttl": ttl.removeprefix("of_"), "inputTokens": n} for ttl, n in details.items()]
    return usage


def counts(input_, output, **details):
    return {
        "input_tokens": input_, "output_tokens": output, "total_tokens": input_ + output,
        "input_token_details": {"cache_read": 0, "cache_creation": 0, **details},
    }  # fmt: skip


# Bedrock's usage → LangChain's usage_metadata. Writes by their lifetimes go by langchain-anthropic's names; then
# they are no part of `cache_creation`, as what adds the details up (LangSmith, Langfuse) would count them twice.
COUNTED = {
    "no cache": (aws(12, 5), counts(12, 5)),
    "read": (aws(5, 7, 100, 0), counts(105, 7, cache_read=100)),
    "written": (aws(5, 7, 0, 30), counts(35, 7, cache_creation=30)),
    "written for 5 minutes": (aws(5, 7, 0, 30, of_5m=30), counts(35, 7, ephemeral_5m_input_tokens=30)),
    "written for both": (
        aws(5, 7, 100, 50, of_1h=30, of_5m=20),
        counts(155, 7, cache_read=100, ephemeral_5m_input_tokens=20, ephemeral_1h_input_tokens=30),
    ),
    "all of it read": (aws(0, 7, 2048, 0), counts(2048, 7, cache_read=2048)),
    "a total without the cache": (aws(5, 7, 100, 0, total=12), counts(105, 7, cache_read=100)),
}
each_count = pytest.mark.parametrize(("usage", "expected"), COUNTED.values(), ids=COUNTED)
each_way = pytest.mark.parametrize("way", WAYS)


def answer_of(way, usage):
    if "stream" in way:
        return stream_of(text(0, "Yes"), text(0, "."), block_stop(0), usage=usage)
    return whole_of({"text": "Yes."}, usage=usage)


class Seen(BaseCallbackHandler):
    def __init__(self):
        self.results = []

    def on_llm_end(self, response, **kwargs):
        self.results.append(response)


# --- one call ---


@pytest.mark.sample(8)
@each_way
@each_count
async def test_a_message_counts_what_the_cache_had_as_input(way, usage, expected):
    with ScriptedBedrock(answer_of(way, usage)) as server, get_usage_metadata_callback() as counter:
        message = await ask(ChatBedrockRouter(model=HAIKU, **server.arguments), way, "Yes?")
    assert message.text == "Yes."
    assert message.usage_metadata == expected
    assert counter.usage_metadata == {HAIKU: expected}
    billed = Usage(**message.response_metadata["routing"]["usage"])
    assert (billed.prompt, billed.total) == (expected["input_tokens"], expected["total_tokens"])
    assert message.response_metadata["model_name"] == HAIKU


@pytest.mark.sample(8)
@each_way
@each_count
async def test_a_text_counts_the_same(way, usage, expected):
    seen = Seen()
    with ScriptedBedrock(answer_of(way, usage)) as server:
        assert await ask(MODELS["llm"](model=HAIKU, callbacks=[seen], **server.arguments), way, "Yes?") == "Yes."
    (result,) = seen.results
    assert result.generations[0][0].generation_info["usage_metadata"] == expected
    assert result.generations[0][0].generation_info["model_name"] == HAIKU


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_older_callbacks_find_their_names(kind, way):
    seen = Seen()
    with ScriptedBedrock(whole_of({"text": "Yes."}, usage=aws(5, 7, 100, 0))) as server:
        await ask(MODELS[kind](model=HAIKU, callbacks=[seen], **server.arguments), way, "Yes?")
    output = seen.results[0].llm_output
    assert output["model_name"] == HAIKU
    assert output["token_usage"] == {
        "prompt_tokens": 105, "completion_tokens": 7, "total_tokens": 112, "input_tokens": 105, "output_tokens": 7,
    }  # fmt: skip


# --- many calls ---


async def test_the_models_of_a_router_are_counted_apart(router):
    llm = ChatBedrockRouter(model=router)
    with get_usage_metadata_callback() as counter:
        messages = [llm.invoke(ALICE), *llm.batch([HELLO] * 3), *[await ask(llm, way, HELLO) for way in WAYS]]
    assert set(counter.usage_metadata) == {SONNET, HAIKU}
    for model in (SONNET, HAIKU):
        theirs = [m.usage_metadata for m in messages if m.response_metadata["model_name"] == model]
        for name in ("input_tokens", "output_tokens", "total_tokens"):
            assert counter.usage_metadata[model][name] == sum(usage[name] for usage in theirs)


@pytest.mark.parametrize("kind", MODELS)
def test_a_batch_is_counted_once_over_all_its_results(router, kind):
    seen = Seen()
    model = MODELS[kind](model=router, callbacks=[seen])
    whole = model.generate_prompt([model._convert_input(question) for question in (ALICE, HELLO, HELLO)])
    billed = [result.llm_output["token_usage"] for result in seen.results]
    assert len(billed) == 3
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert sum(usage.get(name, 0) for usage in billed) == whole.llm_output["token_usage"][name] > 0
    # Of several models none stands for all; a name that is None is more than callbacks reckon with.
    assert "model_name" not in whole.llm_output


def test_parts_of_a_stream_add_up_in_any_grouping(router):
    parts = list(ChatBedrockRouter(model=router).stream(HELLO))
    assert [part.usage_metadata for part in parts if part.usage_metadata] == [parts[-2].usage_metadata]
    head, tail = parts[0], parts[-1]
    for part in parts[1:]:
        head = head + part
    for part in reversed(parts[:-1]):
        tail = part + tail
    assert head.usage_metadata == tail.usage_metadata == parts[-2].usage_metadata
    assert head.response_metadata["model_name"] == tail.response_metadata["model_name"] == HAIKU


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"Sunny in {city}."


async def test_an_agent_counts_each_of_its_turns(bedrock):
    # Sonnet 4.5 caches, so that the second turn reads what the first one wrote.
    model = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
    agent = create_agent(ChatBedrockRouter(model=model), [weather], system_prompt="Be of help. " * 800)
    with get_usage_metadata_callback() as counter:
        turns = [
            message
            for state in (
                agent.invoke({"messages": [("user", "What is the weather in Paris?")]}),
                await agent.ainvoke({"messages": [("user", "What is the weather in Rome?")]}),
            )
            for message in state["messages"]
            if message.type == "ai"
        ]
    (total,) = counter.usage_metadata.values()
    assert total["input_tokens"] == sum(turn.usage_metadata["input_tokens"] for turn in turns)
    assert total["input_token_details"]["cache_read"] > 0
    billed = [Usage(**turn.response_metadata["routing"]["usage"]) for turn in turns]
    assert (sum(u.prompt for u in billed), sum(u.total for u in billed)) == (
        total["input_tokens"],
        total["total_tokens"],
    )
