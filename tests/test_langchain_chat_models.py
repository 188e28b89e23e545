"""`ChatBedrockRouter` as a LangChain user calls it: messages, callbacks, targets, tools, agents, copies, batches."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import pickle
import threading
import time

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.session import Session
from langchain_core.callbacks import BaseCallbackHandler, get_usage_metadata_callback
from langchain_core.load import dumpd, load
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from pydantic import BaseModel, Field
from samples import ALICE, HAIKU, HELLO, LLAMA_8B, LLAMA_70B, NOVA_LITE, SONNET, usd

from bedrock_routing_integrations import BedrockRoutingError, RoutedClient
from bedrock_routing_integrations.errors import InvalidRequestError, InvalidTargetError, StreamInterruptedError
from bedrock_routing_integrations.langchain import ChatBedrockRouter


def merged(chunks):
    full = None
    for chunk in chunks:
        full = chunk if full is None else full + chunk
    return full


def routing_of(message):
    return message.response_metadata["routing"]


@tool
def get_weather(city: str) -> str:
    """Get the weather in a city."""
    return f"Sunny in {city}, 25 degrees."


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Joke(BaseModel):
    """A joke to tell the user."""

    setup: str = Field(description="question to set up the joke")
    punchline: str = Field(description="answer to resolve the joke")


class Recorder(BaseCallbackHandler):
    def __init__(self):
        self.tokens, self.results, self.started = [], [], []

    def on_chat_model_start(self, serialized, messages, **kwargs):
        self.started.append((serialized, kwargs))

    def on_llm_new_token(self, token, *, chunk=None, **kwargs):
        self.tokens.append(chunk)

    def on_llm_end(self, response, **kwargs):
        self.results.append(response)


# --- who answered ---


@pytest.mark.parametrize(
    ("prompt", "model", "fallback", "price"), [(ALICE, SONNET, True, (3, 15)), (HELLO, HAIKU, False, (0.25, 1.25))]
)
def test_message_names_the_invoked_model(router, prompt, model, fallback, price):
    message = ChatBedrockRouter(model=router).invoke(prompt)
    assert message.response_metadata["model_name"] == model
    assert routing_of(message) == {
        "requested_model_id": router,
        "target_kind": "default_prompt_router",
        "invoked_model_id": f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.{model}",
        "invoked_model": model,
        "is_fallback": fallback,
        "candidates": [HAIKU, SONNET],
        "latency": {"requested": None, "served": None},
        "service_tier": {"requested": None, "served": None},
        "usage": {
            "input": message.usage_metadata["input_tokens"],
            "output": message.usage_metadata["output_tokens"],
            "cache_read": 0,
            "cache_write_5m": 0,
            "cache_write_1h": 0,
        },
        "cost_usd": usd(message.usage_metadata, *price),
        "fallback_cost_usd": usd(message.usage_metadata, 3, 15),
        "latency_ms": message.response_metadata["metrics"]["latencyMs"][0],
        "time_to_first_token_ms": None,
        "attempts": 1,
        "request_id": message.response_metadata["ResponseMetadata"]["RequestId"],
        "cache_points": [],
        "stop_reason": "end_turn",
        "project": None,
    }


def test_usage_callback_counts_by_invoked_model(router):
    llm = ChatBedrockRouter(model=router)
    with get_usage_metadata_callback() as usage:
        answers = [llm.invoke(ALICE), llm.invoke(HELLO)]
    assert usage.usage_metadata == {
        SONNET: {**answers[0].usage_metadata},
        HAIKU: {**answers[1].usage_metadata},
    }


async def test_usage_callback_counts_streams_by_invoked_model(router):
    llm = ChatBedrockRouter(model=router)
    with get_usage_metadata_callback() as usage:
        merged(llm.stream(ALICE))
        async for _ in llm.astream(HELLO):
            pass
    assert set(usage.usage_metadata) == {SONNET, HAIKU}
    assert all(counts["total_tokens"] > 0 for counts in usage.usage_metadata.values())


def test_merged_stream_equals_invoke(router):
    llm = ChatBedrockRouter(model=router)
    whole, streamed = llm.invoke(ALICE), merged(llm.stream(ALICE))
    assert streamed.text == whole.text
    assert streamed.response_metadata["model_name"] == SONNET
    assert streamed.usage_metadata == whole.usage_metadata
    assert routing_of(streamed)["time_to_first_token_ms"] >= 0
    differing = {"time_to_first_token_ms", "request_id", "latency_ms"}
    assert {k: v for k, v in routing_of(streamed).items() if k not in differing} == {
        k: v for k, v in routing_of(whole).items() if k not in differing
    }


def test_callbacks_get_only_the_invoked_model(router):
    seen = Recorder()
    llm = ChatBedrockRouter(model=router, callbacks=[seen])
    llm.invoke(HELLO)
    result = seen.results[0]
    assert result.generations[0][0].message.response_metadata["model_name"] == HAIKU
    assert result.llm_output["model_name"] == HAIKU
    assert result.llm_output["routing"]["invoked_model"] == HAIKU
    list(llm.stream(HELLO))
    names = [chunk.message.response_metadata.get("model_name") for chunk in seen.tokens]
    assert set(names) == {None, HAIKU}
    streamed = seen.results[1].generations[0][0].message
    assert streamed.response_metadata["model_name"] == HAIKU
    assert streamed.response_metadata["routing"]["invoked_model"] == HAIKU


def test_generate_reports_each_of_several_answers(router):
    seen = Recorder()
    result = ChatBedrockRouter(model=router, callbacks=[seen]).generate([[HumanMessage(ALICE)], [HumanMessage(HELLO)]])
    assert [routing["invoked_model"] for routing in result.llm_output["routing"]] == [SONNET, HAIKU]
    assert {r.llm_output["model_name"] for r in seen.results} == {SONNET, HAIKU}


async def test_async_calls_have_the_same_metadata(router):
    llm = ChatBedrockRouter(model=router)
    message = await llm.ainvoke(ALICE)
    assert message.response_metadata["model_name"] == SONNET
    streamed = merged([chunk async for chunk in llm.astream(ALICE)])
    assert streamed.text == message.text
    assert streamed.response_metadata["model_name"] == SONNET
    events = [event async for event in llm.astream_events(HELLO)]
    assert events[-1]["data"]["output"].response_metadata["model_name"] == HAIKU
    batch = await llm.abatch([ALICE, HELLO])
    assert [answer.response_metadata["model_name"] for answer in batch] == [SONNET, HAIKU]


# --- any target ---


def test_every_kind_of_target_answers(bedrock):
    custom = bedrock.create_prompt_router(name="mine", models=[LLAMA_8B, LLAMA_70B], fallback=LLAMA_70B)
    profile = bedrock.create_application_profile(name="team", copy_from=HAIKU)
    targets = {
        HAIKU: HAIKU,
        f"arn:aws:bedrock:us-east-1::foundation-model/{HAIKU}": HAIKU,
        f"us.{HAIKU}": HAIKU,
        f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.{HAIKU}": HAIKU,
        profile: HAIKU,
        bedrock.add_provisioned_model(NOVA_LITE): NOVA_LITE,
        bedrock.add_custom_model_deployment(NOVA_LITE): NOVA_LITE,
    }
    for target, model in targets.items():
        message = ChatBedrockRouter(model=target).invoke("Hello")
        assert message.text, target
        assert message.response_metadata["model_name"] == model, target
        assert merged(ChatBedrockRouter(model=target).stream("Hello")).response_metadata["model_name"] == model, target
    assert ChatBedrockRouter(model=custom).invoke("Hello").response_metadata["model_name"] in (LLAMA_8B, LLAMA_70B)


def test_call_may_name_another_target(bedrock, router):
    llm = ChatBedrockRouter(model=NOVA_LITE, temperature=0)
    assert llm.invoke("Hello", model=HAIKU).response_metadata["model_name"] == HAIKU
    assert llm.invoke(HELLO, model=router).response_metadata["model_name"] == HAIKU
    assert merged(llm.stream(ALICE, model=router)).response_metadata["model_name"] == SONNET
    assert llm.bind(model=router).invoke(ALICE).response_metadata["model_name"] == SONNET
    assert llm.with_config(tags=["x"]).invoke("Hello").response_metadata["model_name"] == NOVA_LITE
    assert llm.invoke("Hello").response_metadata["model_name"] == NOVA_LITE


def test_region_of_the_arn_is_called(bedrock, monkeypatch):
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    arn = "arn:aws:bedrock:eu-west-1:123456789012:default-prompt-router/anthropic.claude:1"
    message = ChatBedrockRouter(model=arn).invoke(HELLO)
    assert ":eu-west-1:" in routing_of(message)["invoked_model_id"]


def test_managed_prompt_answers_with_its_variables(bedrock):
    prompt = bedrock.add_prompt("greeting", "Say hello to {{name}}.", model_id=HAIKU)
    client = RoutedClient(bedrock.client())
    response = client.converse(modelId=prompt, promptVariables={"name": {"text": "Ada"}})
    assert response["routing"]["invoked_model"] == HAIKU
    assert response["routing"]["target_kind"] == "prompt"


# --- nothing happens before the first call ---


def test_constructor_sends_nothing_and_makes_no_client(bedrock, router, monkeypatch):
    made = []
    create, here = Session.create_client, threading.current_thread()

    def create_client(*arguments, **options):
        if threading.current_thread() is here:  # a thread of another test may still be at work
            made.append(arguments)
        return create(*arguments, **options)

    monkeypatch.setattr(Session, "create_client", create_client)
    profile = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abcdefghijkl"
    for target in (router, profile, HAIKU, f"us.{HAIKU}"):
        llm = ChatBedrockRouter(model=target, default_headers={"x-team": "a"})
        llm.bind_tools([add], tool_choice="any")
        llm.with_structured_output(Joke)
        repr(llm), dumpd(llm), copy.deepcopy(llm)
    assert made == []
    assert bedrock.requests() == []


def test_constructor_refuses_an_invalid_target():
    with pytest.raises(InvalidTargetError, match="did you mean 'prompt-router'"):
        ChatBedrockRouter(model="arn:aws:bedrock:us-east-1:123456789012:promptrouter/x")
    with pytest.raises(BedrockRoutingError, match="needs model="):
        ChatBedrockRouter()


def test_missing_region_raises_at_the_call(monkeypatch):
    llm = ChatBedrockRouter(model=HAIKU)
    with pytest.raises(BedrockRoutingError, match="No AWS Region is known"):
        llm.invoke("Hello")


def test_router_is_looked_up_once_for_all_objects(bedrock, router):
    for _ in range(3):
        ChatBedrockRouter(model=router).invoke(HELLO)
    ChatBedrockRouter(model=router, endpoint_url=bedrock.endpoint_url).invoke(HELLO)
    assert len(bedrock.requests("GetPromptRouter")) == 1


def test_base_models_skip_the_look_up(bedrock, router):
    llm = ChatBedrockRouter(model=router, base_models=[HAIKU, SONNET])
    assert routing_of(llm.invoke(HELLO))["candidates"] == [HAIKU, SONNET]
    assert llm.profile["max_input_tokens"] == 200_000
    assert bedrock.requests("GetPromptRouter") == []


def test_missing_look_up_permission_is_one_warning(bedrock, router, caplog):
    bedrock.fail("access_denied", operation="GetPromptRouter", rate=1.0)
    llm = ChatBedrockRouter(model=router)
    first, second = routing_of(llm.invoke(HELLO)), routing_of(llm.invoke(ALICE))
    assert (first["invoked_model"], second["invoked_model"]) == (HAIKU, SONNET)
    assert first["is_fallback"] is None
    assert routing_of(llm.invoke(HELLO))["candidates"] == [HAIKU, SONNET], "learned from the traces"
    warnings = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "bedrock:GetPromptRouter" in warnings[0]
    assert "base_models=" in warnings[0]
    assert len(bedrock.requests("GetPromptRouter")) == 1


# --- tools, structured output, agents ---


@pytest.mark.parametrize("streamed", [False, True])
def test_tools_work_on_a_router(router, streamed):
    llm = ChatBedrockRouter(model=router).bind_tools([get_weather, add])
    question = "What is the weather in Paris?"
    message = merged(llm.stream(question)) if streamed else llm.invoke(question)
    assert message.tool_calls[0]["name"] == "get_weather"
    assert message.tool_calls[0]["args"] == {"city": "Paris"}


@pytest.mark.parametrize("streamed", [False, True])
def test_tools_of_a_model_without_streamed_tools(bedrock, streamed):
    llm = ChatBedrockRouter(model=f"us.{LLAMA_70B}").bind_tools([get_weather])
    question = "What is the weather in Paris?"
    message = merged(llm.stream(question)) if streamed else llm.invoke(question)
    assert message.tool_calls[0]["args"] == {"city": "Paris"}
    assert message.response_metadata["model_name"] == LLAMA_70B
    assert bedrock.requests("ConverseStream") == [], "Llama refuses to stream with tools"


def test_structured_output_on_routers(bedrock, router):
    assert isinstance(ChatBedrockRouter(model=router).with_structured_output(Joke).invoke("Tell me a joke."), Joke)
    custom = bedrock.create_prompt_router(name="llamas", models=[LLAMA_8B, LLAMA_70B], fallback=LLAMA_70B)
    # Llama takes no forced tool choice; that is only known when the call is made.
    llm = ChatBedrockRouter(model=custom).with_structured_output(Joke)
    assert isinstance(llm.invoke("Tell me a joke."), Joke)


def test_forced_tool_is_refused_before_sending_to_llama(bedrock):
    custom = bedrock.create_prompt_router(name="llamas", models=[LLAMA_8B, LLAMA_70B], fallback=LLAMA_70B)
    llm = ChatBedrockRouter(model=custom).bind_tools([add], tool_choice="any")
    with pytest.raises(InvalidRequestError, match=r"tool_choice=.*supported: auto"):
        llm.invoke("What is 1 + 2?")
    assert bedrock.requests("Converse") == []


def test_agent_with_two_tools_completes_on_a_router(router):
    from langchain.agents import create_agent

    agent = create_agent(ChatBedrockRouter(model=router), tools=[get_weather, add])
    result = agent.invoke(
        {"messages": [{"role": "user", "content": "What is the weather in Paris, and what is 2 + 3?"}]}
    )
    called = {
        call["name"] for message in result["messages"] if isinstance(message, AIMessage) for call in message.tool_calls
    }
    assert called == {"get_weather", "add"}
    assert "25 degrees" in result["messages"][-1].text
    assert all(routing_of(m)["invoked_model"] for m in result["messages"] if isinstance(m, AIMessage))


async def test_agent_streams_on_a_router(router):
    from langchain.agents import create_agent

    agent = create_agent(ChatBedrockRouter(model=router), tools=[get_weather])
    inputs = {"messages": [{"role": "user", "content": "What is the weather in Paris?"}]}
    parts = [part async for part, _ in agent.astream(inputs, stream_mode="messages")]
    assert "25 degrees" in "".join(part.text for part in parts)


def test_chains_fallbacks_and_configs(bedrock, router):
    chain = ChatPromptTemplate.from_messages([("system", "Be brief."), ("user", "{question}")])
    chain = chain | ChatBedrockRouter(model=router) | StrOutputParser()
    assert "hello world" in chain.invoke({"question": HELLO}).lower()
    bedrock.fail("access_denied", operation="Converse", model_id=NOVA_LITE, rate=1.0)
    safe = ChatBedrockRouter(model=NOVA_LITE).with_fallbacks([ChatBedrockRouter(model=router)])
    assert safe.invoke(HELLO).response_metadata["model_name"] == HAIKU


# --- latency and tiers ---


def test_routing_has_requested_and_served_latency_and_tier(bedrock_with_quota):
    llm = ChatBedrockRouter(
        model="us.amazon.nova-pro-v1:0", performance_config={"latency": "optimized"}, service_tier="priority"
    )
    first, second = routing_of(llm.invoke("Hello")), routing_of(merged(llm.stream("Hello")))
    assert first["latency"] == {"requested": "optimized", "served": "optimized"}
    assert second["latency"] == {"requested": "optimized", "served": "standard"}, "the quota was used up"
    assert first["service_tier"]["requested"] == "priority"
    assert first["service_tier"]["served"] is not None


@pytest.fixture
def bedrock_with_quota(monkeypatch):
    from bedrock_routing_integrations.emulator import BedrockEmulator

    with BedrockEmulator(optimized_quota=1) as emulator:
        for name, value in emulator.environment().items():
            monkeypatch.setenv(name, value)
        yield emulator


def test_call_may_request_latency(bedrock):
    llm = ChatBedrockRouter(model="us.amazon.nova-pro-v1:0")
    answer = llm.invoke("Hello", performance_config={"latency": "optimized"})
    assert routing_of(answer)["latency"] == {"requested": "optimized", "served": "optimized"}


# --- messages survive ---


@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
def test_messages_survive_json_and_load(router):
    message = ChatBedrockRouter(model=router).invoke(ALICE)
    assert json.loads(json.dumps(message.response_metadata))["routing"] == routing_of(message)
    again = load(dumpd(message), allowed_objects=[AIMessage])
    assert again == message


def test_messages_survive_a_langgraph_checkpoint(router):
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.graph import START, MessagesState, StateGraph

    llm = ChatBedrockRouter(model=router)
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [llm.invoke(state["messages"])]})
    graph.add_edge(START, "model")
    app = graph.compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    app.invoke({"messages": [HumanMessage(HELLO)]}, config)
    app.invoke({"messages": [HumanMessage(ALICE)]}, config)
    answers = [m for m in app.get_state(config).values["messages"] if isinstance(m, AIMessage)]
    assert [routing_of(answer)["invoked_model"] for answer in answers] == [HAIKU, SONNET]


# --- secrets, copies ---


def test_secrets_appear_in_no_output(caplog):
    secrets = {
        "aws_access_key_id": "AKIASECRET", "aws_secret_access_key": "very-secret", "aws_session_token": "token-secret",
        "default_headers": {"authorization": "header-secret"},
    }  # fmt: skip
    caplog.set_level(logging.DEBUG)
    llm = ChatBedrockRouter(
        model=HAIKU, region_name="us-east-1", endpoint_url="http://127.0.0.1:9", max_retries=0, **secrets
    )
    seen = Recorder()
    with pytest.raises(Exception, match="connect"):
        llm.invoke("Hello", config={"callbacks": [seen]})
    shown = [repr(llm), str(llm), json.dumps(dumpd(llm)), repr(llm.client), repr(seen.started), repr(llm.asdict())]
    shown += [str(pickle.dumps(llm))]
    shown += [record.getMessage() for record in caplog.records if record.name.startswith("bedrock_routing")]
    for text in shown:
        for secret in ("AKIASECRET", "very-secret", "token-secret", "header-secret"):
            assert secret not in text


def test_copies_and_pickles_can_be_called(router):
    llm = ChatBedrockRouter(model=router, temperature=0.5)
    for twin in (copy.copy(llm), copy.deepcopy(llm), pickle.loads(pickle.dumps(llm)), llm.model_copy()):
        assert twin.invoke(HELLO).response_metadata["model_name"] == HAIKU
        assert twin.temperature == 0.5


def test_callers_arguments_stay_unchanged(bedrock):
    raw = [{"role": "user", "content": [{"text": "Hello"}]}]
    llm = ChatBedrockRouter(model=NOVA_LITE, raw_blocks=raw)
    before = copy.deepcopy(raw)
    for _ in range(2):
        llm.invoke("ignored", cache_control={"type": "ephemeral"})
    assert raw == before
    sent = bedrock.requests("Converse")[-1].request["messages"][0]["content"]
    assert sum("cachePoint" in block for block in sent) == 1, "points do not pile up call after call"


def test_attributes_set_later_are_used(bedrock):
    llm = ChatBedrockRouter(model=HAIKU)
    llm.temperature = 0.25
    llm.supports_tool_choice_values = ("auto",)
    with pytest.raises(ValueError, match="tool_choice"):
        llm.bind_tools([add], tool_choice="any")
    llm.invoke("Hello")
    assert bedrock.requests("Converse")[0].request["inferenceConfig"]["temperature"] == 0.25


def test_only_parameters_that_are_set_are_sent(bedrock):
    ChatBedrockRouter(model=HAIKU).invoke([SystemMessage("Be brief."), HumanMessage("Hello")])
    sent = bedrock.requests("Converse")[0].request
    assert sent.get("inferenceConfig", {}) == {}
    assert sent["system"] == [{"text": "Be brief."}]


# --- faults ---


@pytest.mark.parametrize("details", [{"frame": 3}, {"byte": 300}])
async def test_cut_stream_raises(bedrock, router, details):
    llm = ChatBedrockRouter(model=router)
    bedrock.fail("cut", operation="ConverseStream", times=2, **details)
    received = []
    with pytest.raises(StreamInterruptedError) as caught:
        for chunk in llm.stream(HELLO):
            received.append(chunk.text)
    assert caught.value.text == "".join(received)
    with pytest.raises(StreamInterruptedError):
        async for _ in llm.astream(HELLO):
            pass


def test_refusals_of_bedrock_are_boto3s_errors(bedrock):
    with pytest.raises(ClientError, match="on-demand throughput") as caught:
        ChatBedrockRouter(model="anthropic.claude-sonnet-4-5-20250929-v1:0").invoke("Hello")
    assert caught.value.response["Error"]["Code"] == "ValidationException"


def test_attempts_are_counted(bedrock):
    bedrock.fail("throttling", operation="Converse", times=1)
    llm = ChatBedrockRouter(model=HAIKU, config=Config(retries={"mode": "standard", "total_max_attempts": 3}))
    assert routing_of(llm.invoke("Hello"))["attempts"] == 2


# --- many at once ---


async def test_256_async_calls_run_at_once(bedrock):
    bedrock.fail("slow_first_byte", operation="Converse", times=200, seconds=10, in_flight=200)
    llm = ChatBedrockRouter(model=HAIKU)
    await asyncio.gather(*(llm.ainvoke(f"Hello {number}") for number in range(256)))
    assert bedrock.peak_in_flight >= 200  # asyncio's own pool would run cpu_count + 4 of them at once
    assert len(bedrock.requests("Converse")) == 256


def test_batch_concurrency_is_limited_by_config_or_field(bedrock):
    bedrock.fail("slow_first_byte", operation="Converse", times=25, seconds=5, in_flight=25)
    llm = ChatBedrockRouter(model=HAIKU)
    llm.batch(["Hello"] * 64)
    assert bedrock.peak_in_flight > 24
    slow = bedrock.fail("slow_first_byte", seconds=0.5, rate=1.0, operation="Converse")
    started = time.monotonic()
    llm.batch(["Hello"] * 6, config={"max_concurrency": 2})
    assert time.monotonic() - started > 1.4, "three rounds of two"
    slow.cancel()
    assert sorted(index for index, _ in llm.batch_as_completed(["Hello"] * 20)) == list(range(20))


async def test_call_beyond_max_concurrency_waits(bedrock):
    bedrock.fail("slow_first_byte", seconds=0.2, rate=1.0, operation="Converse")
    llm = ChatBedrockRouter(model=HAIKU, max_concurrency=4)
    await asyncio.gather(*(llm.ainvoke("Hello") for _ in range(12)))
    assert bedrock.peak_in_flight <= 4
