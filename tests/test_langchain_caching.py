"""Cache points in LangChain: added by default, controlled by `cache`, and those of users and middleware kept."""

from __future__ import annotations

import copy
import itertools
import json
import pickle

import pytest
from langchain.agents import create_agent
from langchain_aws.middleware.prompt_caching import BedrockPromptCachingMiddleware
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.load import dumpd, dumps, load
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import ConfigurableField
from pydantic import BaseModel
from samples import HAIKU, HELLO

from bedrock_routing_integrations import CachePolicy, RoutedClient
from bedrock_routing_integrations.caching import PrefixMemory
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.langchain import BedrockRouterLLM, ChatBedrockRouter

SONNET_45 = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"  # five minutes and an hour
SONNET_37 = "us.anthropic.claude-3-7-sonnet-20250219-v1:0"
NOVA = "us.amazon.nova-pro-v1:0"
RULES = "You answer questions about the lighthouse of Varn. " * 200  # some 2,500 tokens
POINT = {"cachePoint": {"type": "default"}}
HOUR = {"cachePoint": {"type": "default", "ttl": "1h"}}
KNOWN = "that an earlier request cached; expected to be read"
POLICY = CachePolicy(sections=("system",))


def get_weather(city: str) -> str:
    """Get the weather in a city."""
    return f"Sunny in {city}, 25 degrees. {'The wind is weak. ' * 50}"


class Colour(BaseModel):
    """A colour."""

    name: str


def asking(question="What is its colour?"):
    return [SystemMessage(RULES), HumanMessage(question)]


def routing(message):
    return message.response_metadata["routing"]


def sections(message):
    return [point["section"] for point in routing(message)["cache_points"]]


def reasons(message):
    return [point["reason"] for point in routing(message)["cache_points"]]


def read(message):
    return message.usage_metadata["input_token_details"]["cache_read"]


def sent(bedrock):
    return next(e.request for e in reversed(bedrock.requests()) if e.operation in ("Converse", "ConverseStream"))


def points_in(request):
    """(section, ttl) of every point on the wire, in the order of the prefix."""
    lists = [("tools", (request.get("toolConfig") or {}).get("tools") or []), ("system", request.get("system") or [])]
    lists += [("messages", message["content"]) for message in request["messages"]]
    return [
        (name, block["cachePoint"].get("ttl", "5m"))
        for name, blocks in lists
        for block in blocks
        if "cachePoint" in block
    ]


# --- `cache` ---


def test_cache_auto_reads_system_prompt_at_the_second_call(bedrock):
    llm = ChatBedrockRouter(model=SONNET_45)
    first, second = llm.invoke(asking()), llm.invoke(asking("How old is it?"))
    assert (read(first), "system" in sections(first)) == (0, True)
    assert read(second) > 2_000
    assert KNOWN in reasons(second)[0]
    points = routing(second)["cache_points"]
    assert [(p["section"], p["ttl"]) for p in points] == points_in(sent(bedrock))
    assert sent(bedrock)["system"][points[0]["position"]] == POINT
    assert routing(second)["usage"]["cache_read"] == read(second)


def test_cache_off_keeps_only_the_users_points(bedrock):
    llm = ChatBedrockRouter(model=SONNET_45, cache="off")
    for _ in range(2):
        assert sections(llm.invoke(asking())) == []
        assert points_in(sent(bedrock)) == []
    message = llm.invoke([SystemMessage([{"type": "text", "text": RULES}, HOUR]), HumanMessage(HELLO)])
    assert reasons(message) == ["the caller's own"]
    assert points_in(sent(bedrock)) == [("system", "1h")]


@pytest.mark.parametrize("given", [{"cache": POLICY}, {"cache_policy": POLICY}, {"cache": POLICY.as_dict()}])
def test_cache_policy_selects_sections_and_ttl(bedrock, given):
    llm = ChatBedrockRouter(model=SONNET_45, **given)
    assert llm.cache_policy == POLICY
    llm.invoke(asking())
    assert points_in(sent(bedrock)) == [("system", "5m")]


def test_cache_policy_may_request_one_hour(bedrock):
    llm = ChatBedrockRouter(model=SONNET_45, cache=CachePolicy(ttl="1h"))
    for question in ("Its colour?", "Its age?", "Its height?"):  # an hour is dear: it is written for what came back
        llm.invoke(asking(question))
    assert ("system", "1h") in points_in(sent(bedrock))


@pytest.mark.parametrize("kind", [ChatBedrockRouter, BedrockRouterLLM])
@pytest.mark.parametrize("given", ["atuo", "", 5, CachePolicy])
def test_cache_with_unknown_value_is_refused(kind, given):
    with pytest.raises(InvalidRequestError, match="Use 'auto', 'off' or a CachePolicy"):
        kind(model=SONNET_45, cache=given)
    with pytest.raises(InvalidRequestError, match="'auto', 'off'"):
        kind(model=SONNET_45, cache_policy=given)


def test_cache_policy_together_with_routed_client_is_refused(bedrock):
    client = RoutedClient(bedrock.client(), cache="off")
    with pytest.raises(InvalidRequestError, match=r"give cache.* to that one"):
        ChatBedrockRouter(model=SONNET_45, client=client, cache=POLICY)
    assert sections(ChatBedrockRouter(model=SONNET_45, client=client).invoke(asking())) == []


@pytest.mark.parametrize("given", [True, False, None])
def test_cache_values_of_langchain_are_passed_on(bedrock, given):
    set_llm_cache(InMemoryCache())
    try:
        llm = ChatBedrockRouter(model=SONNET_45, cache=given, cache_policy=POLICY)
        assert (llm.cache, llm.cache_policy) == (given, POLICY)
        for _ in range(2):
            assert sections(llm.invoke(asking())) == ["system"]
        assert len(bedrock.requests("Converse")) == (2 if given is False else 1)
    finally:
        set_llm_cache(None)


def test_response_cache_and_cache_points_combine(bedrock):
    responses = InMemoryCache()
    llm = ChatBedrockRouter(model=SONNET_45, cache=responses, cache_policy="off")
    assert llm.cache is responses
    assert [sections(llm.invoke(asking())) for _ in range(2)] == [[], []]
    assert len(bedrock.requests("Converse")) == 1
    assert ChatBedrockRouter(model=SONNET_45, cache="off").cache is None


def test_cache_policy_set_later_holds_from_the_next_call(bedrock):
    llm = ChatBedrockRouter(model=SONNET_45)
    quiet = llm.model_copy(update={"cache_policy": "off"})
    assert sections(quiet.invoke(asking())) == []
    assert sections(llm.invoke(asking()))
    llm.cache_policy = POLICY
    assert sections(llm.invoke(asking())) == ["system"]
    llm.cache_policy = "of"
    with pytest.raises(InvalidRequestError, match="cache='of' is not valid"):
        llm.invoke(asking())


# --- what is learned ---


def test_two_models_on_one_connection_share_learned_prefixes(bedrock):
    ChatBedrockRouter(model=SONNET_45, temperature=0.5).invoke(asking())
    second = ChatBedrockRouter(model=SONNET_45, max_tokens=50).invoke(asking("How old is it?"))
    assert KNOWN in reasons(second)[0]


@pytest.mark.parametrize("memory", ["own", "none"])
def test_memory_own_is_not_shared(bedrock, memory):
    policy = CachePolicy(memory=memory)
    llm = ChatBedrockRouter(model=SONNET_45, cache=policy)
    llm.invoke(asking())
    other = ChatBedrockRouter(model=SONNET_45, cache=policy).invoke(asking("How old is it?"))
    assert ", new; " in reasons(other)[0]
    assert read(other) > 2_000, "what Bedrock has it reads all the same"
    assert (KNOWN in reasons(llm.invoke(asking("Who built it?")))[0]) == (memory == "own")


def test_memory_object_is_shared_by_its_models(bedrock):
    memory = PrefixMemory()
    ChatBedrockRouter(model=SONNET_45, cache=CachePolicy(memory=memory)).invoke(asking())
    also = ChatBedrockRouter(model=SONNET_45, cache=CachePolicy(memory=memory)).invoke(asking("How old is it?"))
    other = ChatBedrockRouter(model=SONNET_45).invoke(asking("Who built it?"))
    assert KNOWN in reasons(also)[0]
    assert ", new; " in reasons(other)[0]


async def test_every_kind_of_call_reads_and_reports_the_cache(bedrock):
    llm = ChatBedrockRouter(model=SONNET_45)
    llm.invoke(asking())
    answers = [
        await llm.ainvoke(asking("How old?")), *llm.batch([asking("How high?"), asking("How wide?")]),
        *await llm.abatch([asking("How far?")]),
    ]  # fmt: skip
    chunks = list(llm.stream(asking("How deep?")))
    achunks = [chunk async for chunk in llm.astream(asking("How long?"))]
    for parts in (chunks, achunks):
        whole = parts[0]
        for part in parts[1:]:
            whole += part
        answers.append(whole)
    for answer in answers:
        assert read(answer) > 2_000
        assert KNOWN in reasons(answer)[0]


def test_structured_output_is_cached(bedrock):
    chain = ChatBedrockRouter(model=SONNET_45).with_structured_output(Colour, include_raw=True)
    raw = [chain.invoke(asking(question))["raw"] for question in ("Its colour?", "The sea's colour?")]
    assert (read(raw[0]), read(raw[1]) > 2_000) == (0, True)
    assert "toolConfig" in sent(bedrock)


def test_llm_takes_the_same_cache_policies(bedrock):
    prompt = RULES + "What is its colour?"
    infos = [
        BedrockRouterLLM(model=SONNET_45, cache=cache).generate([prompt]).generations[0][0].generation_info
        for cache in ("auto", "off", CachePolicy(max_points=1))
    ]
    assert [[p["section"] for p in info["routing"]["cache_points"]] for info in infos] == [
        ["messages"], [], ["messages"],
    ]  # fmt: skip
    assert infos[2]["usage_metadata"]["input_token_details"]["cache_read"] > 2_000
    assert BedrockRouterLLM(model=SONNET_45, cache=(responses := InMemoryCache())).cache is responses
    with pytest.raises(InvalidRequestError, match="so set cache on that chat model"):
        BedrockRouterLLM(chat_model=ChatBedrockRouter(model=SONNET_45), cache="off")


# --- copies ---

COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda llm: pickle.loads(pickle.dumps(llm)),
    "model_copy": lambda llm: llm.model_copy(),
    "deep model_copy": lambda llm: llm.model_copy(deep=True),
    "dumpd": lambda llm: load(dumpd(llm), allowed_objects=[type(llm), ChatBedrockRouter],
                              valid_namespaces=["bedrock_routing_integrations"]),
    "dumps": lambda llm: load(json.loads(dumps(llm)), allowed_objects=[type(llm), ChatBedrockRouter],
                              valid_namespaces=["bedrock_routing_integrations"]),
    "model_dump": lambda llm: type(llm)(**llm.model_dump(exclude={"client", "bedrock_client"})),
    "resolved": lambda llm: llm.resolved(),
    "configured": lambda llm: llm.configurable_fields(max_tokens=ConfigurableField(id="n")).with_config(
        configurable={"n": 60}),
}  # fmt: skip


@pytest.mark.sample(8)
@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("cache", ["off", POLICY, CachePolicy(sections=("system",), memory="own")])
def test_copies_keep_the_cache_policy(bedrock, how, cache):
    twin = COPIES[how](ChatBedrockRouter(model=SONNET_45, cache=cache))
    for _ in range(2):
        message = twin.invoke(asking())
        assert points_in(sent(bedrock)) == ([] if cache == "off" else [("system", "5m")])
    assert getattr(twin, "cache_policy", cache) == cache
    if cache != "off":
        assert KNOWN in reasons(message)[0], "and it learns"


def test_dumped_cache_policy_is_json_for_any_memory():
    own = ChatBedrockRouter(model=SONNET_45, cache=CachePolicy(memory=PrefixMemory()))
    default = ChatBedrockRouter(model=SONNET_45, cache=CachePolicy())
    assert dumps(own) == dumps(default)
    assert "not_implemented" not in dumps(own)
    assert json.loads(own.model_dump_json(exclude={"client"}))["cache_policy"]["memory"] == "shared"


@pytest.mark.parametrize("field", ["cache", "cache_policy"])
def test_cache_policy_is_configurable_per_call(bedrock, field):
    llm = ChatBedrockRouter(model=SONNET_45).configurable_fields(**{field: ConfigurableField(id="points")})
    for config, expected in ((None, True), ({"configurable": {"points": "off"}}, False), (None, True)):
        assert bool(sections(llm.invoke(asking(), config))) == expected
    llm.with_config(configurable={"points": POLICY}).invoke(asking("How old?"))
    assert points_in(sent(bedrock)) == [("system", "5m")]


def test_cache_points_fit_the_called_model(bedrock):
    llm = ChatBedrockRouter(model=SONNET_45)
    assert sections(llm.invoke(asking(), model=HAIKU)) == []
    assert sections(llm.bind(model=NOVA).invoke(asking()))
    assert ", new; " in reasons(llm.invoke(asking()))[0], "what one model read the other has not"


@pytest.mark.parametrize("name", ["cache", "cache_policy"])
def test_cache_as_call_argument_is_refused(bedrock, name):
    llm = ChatBedrockRouter(model=SONNET_45)
    for call in (lambda: llm.invoke("Hi", **{name: "off"}), lambda: llm.bind(**{name: "off"}).invoke("Hi")):
        with pytest.raises(InvalidRequestError, match=f"^{name} is not an argument of a call. Set it where the chat"):
            call()
    assert bedrock.requests() == []


# --- an agent ---


@pytest.mark.parametrize("middleware", [(), ("5m",), ("1h",)], ids=["", "with LangChain's, 5m", "with LangChain's, 1h"])
@pytest.mark.parametrize("model", [SONNET_45, NOVA])
def test_agent_reads_its_history_from_the_cache(bedrock, model, middleware):
    more = [BedrockPromptCachingMiddleware(ttl=ttl) for ttl in middleware]
    agent = create_agent(ChatBedrockRouter(model=model), [get_weather], system_prompt=RULES, middleware=more)
    messages = []
    for city in ("Paris", "Rome", "Oslo"):
        before = copy.deepcopy(messages)
        messages = agent.invoke({"messages": [*messages, ("user", f"What is the weather in {city}?")]})["messages"]
        assert messages[: len(before)] == before
    answers = [message for message in messages if isinstance(message, AIMessage)]
    assert len(answers) == 6
    assert [entry.status for entry in bedrock.requests("Converse")] == [200] * 6
    sizes = [answer.usage_metadata["input_tokens"] for answer in answers]
    for past, answer in zip(sizes, answers[1:], strict=False):
        # Nova takes no point after the result of a tool: what is before that one is read.
        # For a handful of tokens behind a place that has one no point is spent.
        assert read(answer) >= (past - 30 if model == SONNET_45 else 2_400)
    assert read(answers[-1]) > sizes[1]
    for entry in bedrock.requests("Converse"):
        assert len(points_in(entry.request)) <= 4
        if middleware:
            assert {ttl for _, ttl in points_in(entry.request)} <= {"5m" if model == NOVA else middleware[0], "5m"}


# --- cache points of users and middleware ---


def test_one_hour_after_five_minutes_is_not_refused(bedrock):
    """langchain-aws#3758."""
    system = SystemMessage([{"type": "text", "text": RULES}, POINT])
    message = ChatBedrockRouter(model=SONNET_45).invoke([system, HumanMessage("Hello")], cache_control={"ttl": "1h"})
    assert points_in(sent(bedrock)) == [("system", "1h"), ("messages", "1h")]
    assert set(reasons(message)) == {"the caller's own"}


def test_cache_control_for_an_hour_becomes_what_the_model_offers(bedrock):
    ChatBedrockRouter(model=SONNET_37).invoke(asking(), cache_control={"type": "ephemeral", "ttl": "1h"})
    assert points_in(sent(bedrock)) == [("system", "5m"), ("messages", "5m")]


def test_cache_control_without_caching_model_is_dropped(bedrock):
    assert sections(ChatBedrockRouter(model=HAIKU).invoke(asking(), cache_control={"type": "ephemeral"})) == []
    assert points_in(sent(bedrock)) == []


def test_fifth_cache_point_of_the_user_is_dropped(bedrock, caplog):
    text = {"type": "text", "text": RULES}
    four = [SystemMessage([text, POINT]), HumanMessage([text, POINT, text, POINT, text, POINT])]
    for cache_control in (None, {"ttl": "5m"}):
        ChatBedrockRouter(model=SONNET_45).invoke(four, **({"cache_control": cache_control} if cache_control else {}))
        assert points_in(sent(bedrock)) == [("system", "5m"), *[("messages", "5m")] * 3]
    assert not caplog.records
    five = [four[0], HumanMessage([text, POINT] * 4)]
    ChatBedrockRouter(model=SONNET_45).invoke(five)
    assert points_in(sent(bedrock)) == [("system", "5m"), *[("messages", "5m")] * 3]
    assert sent(bedrock)["messages"][0]["content"][:2] == [{"text": RULES}] * 2
    assert "5 cachePoints" in caplog.text


def test_no_cache_point_follows_thinking(bedrock):
    thought = {"type": "reasoning_content", "reasoning_content": {"text": RULES, "signature": "c2lnbmVk"}}
    llm = ChatBedrockRouter(
        model=SONNET_37, additional_model_request_fields={"thinking": {"type": "enabled", "budget_tokens": 1024}}
    )
    answer = AIMessage([thought, POINT, {"type": "text", "text": "Hi"}])
    for _ in range(3):
        llm.invoke([*asking(), answer, HumanMessage(RULES)], cache_control={"ttl": "5m"})
        assert points_in(sent(bedrock))
        for message in sent(bedrock)["messages"]:
            for before, block in itertools.pairwise(message["content"]):
                assert not ("reasoningContent" in before and "cachePoint" in block)
    assert [entry.status for entry in bedrock.requests("Converse")] == [200] * 3


def test_nova_gets_no_cache_points_after_tool_results(bedrock):
    history = [
        *asking("What is the weather in Paris?"),
        AIMessage("", tool_calls=[{"name": "get_weather", "args": {"city": "Paris"}, "id": "call_1"}]),
        ToolMessage([{"type": "text", "text": get_weather("Paris")}, POINT], tool_call_id="call_1"),
    ]  # fmt: skip
    llm = ChatBedrockRouter(model=NOVA).bind_tools([get_weather, POINT])
    for _ in range(3):
        message = llm.invoke(history, cache_control={"ttl": "1h"})
        request = sent(bedrock)
        assert all("cachePoint" not in tool for tool in request["toolConfig"]["tools"])
        assert [next(iter(block)) for block in request["messages"][-1]["content"]] == ["toolResult"]
    assert read(message) > 2_000


def test_callers_messages_stay_unchanged_over_many_calls(bedrock):
    raw = [{"role": "user", "content": [{"text": RULES}, POINT, {"text": "What is its colour?"}]}]
    tools = [{"name": "get_weather", "description": "x", "input_schema": {"type": "object", "properties": {}}}, POINT]
    messages = [SystemMessage([{"type": "text", "text": RULES}, HOUR]), HumanMessage([{"type": "text", "text": RULES}])]
    before = copy.deepcopy((raw, tools, messages))
    by_blocks = ChatBedrockRouter(model=SONNET_45, raw_blocks=raw)
    bound = ChatBedrockRouter(model=SONNET_45).bind_tools(tools)
    for cache_control in ({}, {"cache_control": {"ttl": "1h"}}) * 3:
        by_blocks.invoke("ignored", **cache_control)
        assert len(points_in(sent(bedrock))) <= 2
        bound.invoke(messages, **cache_control)
        assert [name for name, _ in points_in(sent(bedrock))].count("tools") == 1
        assert [name for name, _ in points_in(sent(bedrock))].count("system") == 1
        assert len(points_in(sent(bedrock))) <= 4
    assert (raw, tools, messages) == before
