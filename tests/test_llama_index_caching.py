"""cachePoints in LlamaIndex: by default, governed by `cache`, with `CachePoint` blocks and switches understood."""

from __future__ import annotations

import copy
import itertools
import pickle

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, TextBlock, ThinkingBlock
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.tools import FunctionTool
from llama_index_applications import calls
from llama_index_forms import FORMS, run
from llama_index_writing import ADD, CALL, assistant, document, point, result, user
from pydantic import BaseModel
from samples import HAIKU

from bedrock_routing_integrations import CachePolicy, RoutedClient
from bedrock_routing_integrations.caching import PrefixMemory
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.llama_index import BedrockRouter

SONNET_45 = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"  # five minutes and an hour
SONNET_37 = "us.anthropic.claude-3-7-sonnet-20250219-v1:0"
NOVA = "us.amazon.nova-pro-v1:0"
RULES = "You answer questions about the lighthouse of Varn. " * 200  # some 2,500 tokens
KNOWN = "that an earlier request cached; expected to be read"
OWN = "the caller's own"
POLICY = CachePolicy(sections=("system",))


def get_weather(city: str) -> str:
    """Get the weather in a city."""
    return f"Sunny in {city}, 25 degrees. {'The wind is weak. ' * 50}"


class Colour(BaseModel):
    """A colour."""

    name: str


def asking(question="What is its colour?"):
    return [ChatMessage(role="system", content=RULES), user(question)]


def placed(response):
    return response.additional_kwargs["routing"]["cache_points"]


def sections(response):
    return [each["section"] for each in placed(response)]


def reasons(response):
    return [each["reason"] for each in placed(response)]


def read(response):
    return response.additional_kwargs["cache_read_input_tokens"]


def points_sent(bedrock, number=-1):
    """(section, ttl) of every point of a request, in the order of the prefix."""
    request = calls(bedrock)[number].request
    lists = [("tools", (request.get("toolConfig") or {}).get("tools") or []), ("system", request.get("system") or [])]
    lists += [("messages", message["content"]) for message in request["messages"]]
    points = [(name, block["cachePoint"]) for name, blocks in lists for block in blocks if "cachePoint" in block]
    return [(name, each.get("ttl", "5m")) for name, each in points]


# --- `cache` ---


def test_second_question_reads_system_prompt_from_cache_by_default(bedrock):
    llm = BedrockRouter(SONNET_45)
    first, second = llm.chat(asking()), llm.chat(asking("How old is it?"))
    assert (read(first), "system" in sections(first)) == (0, True)
    assert first.additional_kwargs["cache_creation_input_tokens"] > 2_000
    assert read(second) > 2_000
    assert KNOWN in reasons(second)[0]
    assert [(each["section"], each["ttl"]) for each in placed(second)] == points_sent(bedrock)
    assert second.raw["routing"]["cache_points"] == placed(second)
    assert read(second) <= second.additional_kwargs["prompt_tokens"]


def test_off_places_none_and_keeps_the_users_own(bedrock):
    llm = BedrockRouter(SONNET_45, cache="off")
    for _ in range(2):
        assert (sections(llm.chat(asking())), points_sent(bedrock)) == ([], [])
    messages = [ChatMessage(role="system", blocks=[TextBlock(text=RULES), point("1h")]), user("Hello")]
    assert reasons(llm.chat(messages)) == [OWN]
    assert points_sent(bedrock) == [("system", "1h")]


@pytest.mark.parametrize("given", [POLICY, POLICY.as_dict()])
def test_a_policy_says_where(bedrock, given):
    llm = BedrockRouter(SONNET_45, cache=given)
    assert llm.cache == POLICY
    llm.chat(asking())
    assert points_sent(bedrock) == [("system", "5m")]


@pytest.mark.parametrize("given", ["atuo", "", 5, True, CachePolicy])
def test_invalid_cache_value_is_refused(bedrock, given):
    with pytest.raises(InvalidRequestError, match="Use 'auto', 'off' or a CachePolicy"):
        BedrockRouter(SONNET_45, cache=given)
    llm = BedrockRouter(SONNET_45, cache=None)
    assert llm.cache == "auto"
    llm.cache = given
    with pytest.raises(InvalidRequestError, match="'auto', 'off'"):
        llm.complete("Hello")
    assert bedrock.requests() == []


def test_a_client_of_ours_has_its_own_policy(bedrock):
    client = RoutedClient(bedrock.client(), cache="off")
    assert sections(BedrockRouter(SONNET_45, client=client).chat(asking())) == []
    with pytest.raises(InvalidRequestError, match=r"cache.* to that one"):
        BedrockRouter(SONNET_45, client=client, cache=POLICY)


def test_cache_set_later_applies_from_the_next_call(bedrock):
    llm = BedrockRouter(SONNET_45)
    quiet = llm.model_copy(update={"cache": "off"})
    assert sections(quiet.chat(asking())) == []
    assert sections(llm.chat(asking()))
    llm.cache = POLICY
    assert sections(llm.chat(asking())) == ["system"]


@pytest.mark.sample(6)
@pytest.mark.parametrize(
    "how",
    [
        copy.copy, copy.deepcopy, lambda llm: pickle.loads(pickle.dumps(llm)), lambda llm: llm.model_copy(deep=True),
        lambda llm: BedrockRouter.from_dict(llm.to_dict()), lambda llm: BedrockRouter.from_json(llm.to_json()),
    ],
)  # fmt: skip
@pytest.mark.parametrize("cache", ["off", POLICY, CachePolicy(sections=("system",), memory="own")])
def test_copies_keep_the_policy_and_learn(bedrock, how, cache):
    twin = how(BedrockRouter(SONNET_45, cache=cache))
    assert twin.cache == cache
    for _ in range(2):
        response = twin.chat(asking())
        assert points_sent(bedrock) == ([] if cache == "off" else [("system", "5m")])
    assert cache == "off" or KNOWN in reasons(response)[0]


def test_memory_of_the_user_is_neither_copied_nor_serialized(bedrock):
    memory = PrefixMemory()
    llm = BedrockRouter(SONNET_45, cache=CachePolicy(memory=memory))
    llm.chat(asking())
    assert KNOWN in reasons(copy.deepcopy(llm).chat(asking("How old is it?")))[0]
    assert llm.to_dict()["cache"]["memory"] == "shared"
    assert ", new; " in reasons(BedrockRouter.from_json(llm.to_json()).chat(asking("Who built it?")))[0]


@pytest.mark.sample(4)
@pytest.mark.parametrize("form", FORMS)
async def test_every_way_to_ask_reads_and_says_so(bedrock, form):
    llm = BedrockRouter(SONNET_45)
    asked = RULES + "What is its colour?"
    for _ in range(3):
        last = (await run(llm, form, asked))[-1]
    assert read(last) > 2_000
    assert KNOWN in reasons(last)[-1]


def test_two_objects_on_one_connection_share_what_is_learned(bedrock):
    BedrockRouter(SONNET_45, temperature=0.5).chat(asking())
    assert KNOWN in reasons(BedrockRouter(SONNET_45, max_tokens=50).chat(asking("How old is it?")))[0]


@pytest.mark.parametrize("memory", ["own", "none"])
def test_own_memory_is_not_shared_with_other_objects(bedrock, memory):
    llm, other = (BedrockRouter(SONNET_45, cache=CachePolicy(memory=memory)) for _ in range(2))
    llm.chat(asking())
    response = other.chat(asking("How old is it?"))
    assert ", new; " in reasons(response)[0]
    assert read(response) > 2_000, "what Bedrock has it reads all the same"
    assert (KNOWN in reasons(llm.chat(asking("Who built it?")))[0]) == (memory == "own")


def test_the_points_are_those_for_the_model_that_is_called(bedrock):
    llm = BedrockRouter(SONNET_45, system_prompt_caching=True)
    assert sections(llm.chat(asking(), model=HAIKU)) == []
    assert sections(llm.chat(asking(), model=NOVA))


def test_structured_output_caches_too(bedrock):
    llm, prompt = BedrockRouter(SONNET_45), PromptTemplate(RULES + "{question}")
    for question in ("What is its colour?",) * 2:
        llm.structured_predict(Colour, prompt, question=question)
    *_, last = llm.stream_structured_predict(Colour, prompt, question="What is its colour?")
    assert isinstance(last, Colour)
    assert len(calls(bedrock)) == 3
    assert all(0 < len(points_sent(bedrock, number)) <= 4 for number in range(3))


# --- an agent ---


@pytest.mark.parametrize("streaming", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("model", [SONNET_45, NOVA])
async def test_an_agent_reads_its_past_from_the_cache(bedrock, model, streaming):
    agent = FunctionAgent(
        llm=BedrockRouter(model), tools=[get_weather], system_prompt=RULES, streaming=streaming,
    )  # fmt: skip
    memory = ChatMemoryBuffer.from_defaults(token_limit=50_000)
    for city in ("Paris", "Rome", "Oslo"):
        output = await agent.run(f"What is the weather in {city}?", memory=memory)
        usage = output.raw["usage"]
        assert usage["cacheReadInputTokens"] > 2_400, "the second step of each run reads the first"
        assert usage["cache_read_input_tokens"] == usage["cacheReadInputTokens"]
        assert KNOWN in str(output.raw["routing"]["cache_points"])
    assert usage["cacheReadInputTokens"] > 2_900, "and the runs before"
    assert [entry.status for entry in calls(bedrock)] == [200] * 6
    for number in range(6):
        assert len(points_sent(bedrock, number)) <= 4


# --- the user's own points ---


def test_hour_for_messages_after_minutes_for_system_is_accepted(bedrock):
    messages = [ChatMessage(role="system", content=RULES), user("Hello", point("1h"))]
    tools = [FunctionTool.from_defaults(get_weather)]
    response = BedrockRouter(SONNET_45, system_prompt_caching=True, tool_caching=True).chat_with_tools(
        tools, chat_history=messages
    )
    assert points_sent(bedrock) == [("tools", "1h"), ("system", "1h"), ("messages", "1h")]
    assert reasons(response) == [OWN] * 3
    system = ChatMessage(role="system", blocks=[TextBlock(text=RULES), point()])
    BedrockRouter(SONNET_45).chat([system, user("Hello", point("1h"))])
    assert points_sent(bedrock)[:2] == [("system", "1h"), ("messages", "1h")]


@pytest.mark.parametrize("form", ["chat_with_tools", "achat_with_tools", "stream_chat_with_tools"])
async def test_caching_switches_place_one_point_each_in_every_form(bedrock, form):
    llm = BedrockRouter(SONNET_45, system_prompt_caching=True, tool_caching=True, cache="off")
    tools = [FunctionTool.from_defaults(get_weather)]
    for _ in range(2):
        response = getattr(llm, form)(tools, chat_history=[ChatMessage(role="system", content="Be kind."), user("Hi")])
        response = await response if form.startswith("a") else response
        if "stream" in form:
            list(response)
        assert points_sent(bedrock) == [("tools", "5m"), ("system", "5m")]


def test_there_are_never_more_than_four(bedrock, caplog):
    llm = BedrockRouter(SONNET_45, system_prompt_caching=True, tool_caching=True)
    tools = [FunctionTool.from_defaults(get_weather)]
    for own in range(6):
        blocks = [block for number in range(own) for block in (f"{RULES} {number}", point())]
        history = [ChatMessage(role="system", content=RULES), user(*blocks, "What is the weather in Paris?")]
        llm.chat_with_tools(tools, chat_history=history)
        assert len(points_sent(bedrock)) <= 4
        assert points_sent(bedrock).count(("messages", "5m")) >= min(own, 2)
    assert "5 cachePoints" in caplog.text


def test_no_cache_point_follows_thinking_or_non_pdf_documents(bedrock):
    thought = ThinkingBlock(content=RULES, additional_information={"signature": "c2lnbmVk"})
    llm = BedrockRouter(SONNET_37, thinking={"type": "enabled", "budget_tokens": 1024})
    history = [*asking(), assistant("Hi", thought, point()), user("Read:", document(data=RULES.encode()), point())]
    for _ in range(3):
        llm.chat(history)
        assert points_sent(bedrock)
        for message in calls(bedrock)[-1].request["messages"]:
            for before, block in itertools.pairwise(message["content"]):
                assert not ("cachePoint" in block and before.keys() & {"reasoningContent", "document"})
    assert [entry.status for entry in calls(bedrock)] == [200] * 3


def test_no_point_after_tool_results_or_in_tools_of_nova(bedrock):
    llm = BedrockRouter(NOVA, tool_caching=True)
    history = [*asking("Add"), assistant(CALL), result(RULES, point())]
    for _ in range(3):
        response = llm.chat(history, toolConfig=ADD)
        request = calls(bedrock)[-1].request
        assert request["toolConfig"]["tools"] == ADD["tools"]
        assert [next(iter(block)) for block in request["messages"][-1]["content"]] == ["toolResult"]
    assert read(response) > 2_000


def test_callers_arguments_stay_unchanged_and_points_do_not_accumulate(bedrock):
    messages = [
        ChatMessage(role="system", blocks=[TextBlock(text=RULES), point("1h")]),
        user(RULES, point(), "What is its colour?"),
    ]  # fmt: skip
    config = {"tools": [*ADD["tools"], {"cachePoint": {"type": "default"}}]}
    before = copy.deepcopy((messages, config))
    llm = BedrockRouter(SONNET_45, system_prompt_caching=True, tool_caching=True)
    for _ in range(6):
        response = llm.chat(messages, toolConfig=config)
        assert points_sent(bedrock)[:2] == [("tools", "1h"), ("system", "1h")]
        assert len(points_sent(bedrock)) <= 4
        assert reasons(response)[:3] == [OWN] * 3
    assert (messages, config) == before
