"""LlamaIndex's agents and workflows on a `BedrockRouter`."""

from __future__ import annotations

import asyncio
import json

import pytest
from botocore.exceptions import ClientError
from llama_index.core.agent.workflow import (
    AgentStream,
    AgentWorkflow,
    FunctionAgent,
    ReActAgent,
    ToolCallResult,
)
from llama_index.core.memory import ChatMemoryBuffer, ChatSummaryMemoryBuffer, Memory
from llama_index.core.tools import QueryEngineTool
from llama_index_applications import ALL, LIGHTHOUSE, answered_by, calls, routes, vector_index
from pydantic import BaseModel
from samples import HAIKU, LLAMA_8B, LLAMA_70B, NOVA_LITE, NOVA_PRO, SONNET
from sqlalchemy.ext.asyncio import create_async_engine

from bedrock_routing_integrations.errors import InvalidRequestError, StreamInterruptedError
from bedrock_routing_integrations.llama_index import BedrockRouter

PARIS_AND_ROME = "What is the weather in Paris and in Rome?"

streamed_or_not = pytest.mark.parametrize("streaming", [True, False], ids=["streamed", "whole"])


def get_weather(city: str) -> str:
    """Get the weather in a city."""
    return f"Sunny in {city}, 25 degrees."


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


def count_inhabitants(city: str) -> int:
    """Count the inhabitants of a city."""
    raise RuntimeError(f"the census of {city} is lost")


class Report(BaseModel):
    """A report."""

    city: str
    degrees: int


def agent_on(model, *tools, **more):
    llm = model if isinstance(model, BedrockRouter) else BedrockRouter(model=model)
    return FunctionAgent(llm=llm, tools=list(tools), **more)


def a_memory(token_limit=10_000):
    return ChatMemoryBuffer.from_defaults(token_limit=token_limit)


def called(output):
    """The calls of tools; those that were made at once come in the order in which they ended."""
    return [(call.tool_name, call.tool_kwargs) for call in output.tool_calls]


def results_sent(entry):
    """The tool results in the last message of a request, sorted: calls made at once end in any order."""
    blocks = entry.request["messages"][-1]["content"]
    return sorted(block["toolResult"]["content"][0]["text"] for block in blocks if "toolResult" in block)


# --- FunctionAgent ---


@streamed_or_not
async def test_an_agent_calls_several_tools_at_once(bedrock, router, streaming):
    with routes() as seen:
        output = await agent_on(router, get_weather, add, streaming=streaming).run(PARIS_AND_ROME)
    assert sorted(called(output), key=str) == [("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Rome"})]
    assert "Sunny in Paris, 25 degrees." in str(output)
    assert "Sunny in Rome, 25 degrees." in str(output)
    first, second = calls(bedrock)
    assert first.operation == ("ConverseStream" if streaming else "Converse")
    assert [tool["toolSpec"]["name"] for tool in first.request["toolConfig"]["tools"]] == ["get_weather", "add"]
    assert "toolChoice" not in first.request["toolConfig"]
    assert results_sent(second) == ["Sunny in Paris, 25 degrees.", "Sunny in Rome, 25 degrees."]
    assert seen.models == answered_by(bedrock)
    assert output.raw["routing"] == seen.events[-1].routing, "the answer itself says so too"


@streamed_or_not
async def test_each_step_of_an_agent_may_go_to_another_model(bedrock, router, streaming):
    for model in (SONNET, HAIKU, SONNET):
        bedrock.choose(model)
    with routes() as seen:
        agent = agent_on(router, add, multiply, streaming=streaming)
        output = await agent.run("Add 3 and 4, then multiply the result by 5.")
    assert called(output) == [("add", {"a": 3, "b": 4}), ("multiply", {"a": 7, "b": 5})]
    assert "35" in str(output)
    assert seen.models == [SONNET, HAIKU, SONNET]
    content = calls(bedrock)[1].request["messages"][1]["content"]
    assert [next(iter(block)) for block in content] == ["text", "toolUse"], "what Sonnet said before its call is kept"


@streamed_or_not
async def test_agent_makes_one_call_at_a_time(bedrock, router, streaming):
    agent = agent_on(router, get_weather, streaming=streaming, allow_parallel_tool_calls=False)
    with routes() as seen:
        output = await agent.run(PARIS_AND_ROME)
    assert [len(results_sent(entry)) for entry in calls(bedrock)] == [0, 1, 1]
    assert called(output) == [("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Rome"})]
    assert seen.models == answered_by(bedrock)


@streamed_or_not
async def test_error_of_a_tool_is_sent_to_the_model(bedrock, router, streaming):
    agent = agent_on(router, count_inhabitants, streaming=streaming)
    handler = agent.run("Call count_inhabitants(city='Paris').")
    failed = [
        event.tool_output.is_error async for event in handler.stream_events() if isinstance(event, ToolCallResult)
    ]
    output = await handler
    assert failed == [True]
    assert "the census of Paris is lost" in str(output)
    assert results_sent(calls(bedrock)[1]) == ["the census of Paris is lost"]


async def test_agent_stream_is_its_answer_and_json(bedrock, router):
    handler = agent_on(router, get_weather).run(PARIS_AND_ROME)
    events = [event async for event in handler.stream_events()]
    output = await handler
    chunks = [event for event in events if isinstance(event, AgentStream)]
    answer = [chunk for chunk in chunks if not chunk.tool_calls]
    assert "".join(chunk.delta for chunk in answer) == str(output) == chunks[-1].response
    arguments = [json.dumps([call.tool_kwargs for call in chunk.tool_calls]) for chunk in chunks if chunk.tool_calls]
    assert len(set(arguments)) > 2, "the arguments grow as they arrive"
    assert arguments[-1] == json.dumps([{"city": "Paris"}, {"city": "Rome"}])
    assert all(json.loads(event.model_dump_json()) for event in events)
    routed = [chunk.raw["routing"] for chunk in chunks if "output" in chunk.raw]
    assert [routing["invoked_model"] for routing in routed] == answered_by(bedrock)


async def test_an_agent_can_be_made_to_begin_with_a_tool(bedrock, router):
    agent = agent_on(router, get_weather, add, initial_tool_choice="add")
    output = await agent.run("Tell me about 3 and 4.")
    assert called(output) == [("add", {"a": 3, "b": 4})]
    chosen = [entry.request["toolConfig"].get("toolChoice") for entry in calls(bedrock)]
    assert chosen == [{"tool": {"name": "add"}}, None]
    with pytest.raises(InvalidRequestError, match="not supported by all models"):
        await agent_on(bedrock.default_router("meta.llama:1"), add, initial_tool_choice="add").run("Add 3 and 4.")


@streamed_or_not
async def test_an_agent_answers_with_an_object(bedrock, router, streaming):
    agent = agent_on(router, get_weather, output_cls=Report, streaming=streaming, system_prompt="You are a weatherman.")
    with routes() as seen:
        output = await agent.run("What is the weather in Paris?")
    assert output.structured_response == {"city": "Paris", "degrees": 25}
    assert output.get_pydantic_model(Report) == Report(city="Paris", degrees=25)
    assert len(seen.models) == 3
    assert seen.models == answered_by(bedrock)
    last = calls(bedrock)[-1].request
    assert last["toolConfig"]["toolChoice"] == {"any": {}}
    assert last["system"] == [{"text": "You are a weatherman."}]


# --- memory ---


async def test_an_agent_remembers_its_tools_results_across_turns(bedrock, router):
    agent, memory = agent_on(router, get_weather), a_memory()
    await agent.run("My name is Ada.", memory=memory)
    await agent.run("What is the weather in Paris?", memory=memory)
    assert "Ada" in str(await agent.run("What is my name?", memory=memory))
    sent = calls(bedrock)[-1].request["messages"]
    kinds = [[message["role"], *(next(iter(block)) for block in message["content"])] for message in sent]
    assert kinds == [
        ["user", "text"], ["assistant", "text"],
        ["user", "text"], ["assistant", "toolUse"], ["user", "toolResult"], ["assistant", "text"],
        ["user", "text"],
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["buffer", "summary", "memory"])
async def test_an_agent_goes_on_when_its_memory_is_full(bedrock, router, kind):
    llm = BedrockRouter(model=router)
    engine = create_async_engine("sqlite+aiosqlite:///:memory:")
    if kind == "memory":
        memory = Memory.from_defaults(token_limit=300, token_flush_size=100, async_engine=engine)
    elif kind == "summary":
        memory = ChatSummaryMemoryBuffer.from_defaults(llm=llm, token_limit=150)
    else:
        memory = a_memory(150)
    try:
        for number in range(4):
            assert "Sunny" in str(await agent_on(llm, get_weather).run(f"{PARIS_AND_ROME} ({number})", memory=memory))
    finally:
        await engine.dispose()
    longest = max(len(entry.request["messages"]) for entry in calls(bedrock))
    assert longest < 3 * 4 + 2, "something was forgotten, and what was left is a conversation that Bedrock takes"


# --- ReActAgent ---


@streamed_or_not
async def test_a_react_agent_works_with_text_alone(bedrock, router, streaming):
    agent = ReActAgent(llm=BedrockRouter(model=router), tools=[get_weather, add], streaming=streaming)
    with routes() as seen:
        output = await agent.run(PARIS_AND_ROME)
    assert sorted(called(output), key=str) == [("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Rome"})]
    assert "Sunny in Rome, 25 degrees." in str(output)
    assert len(seen.models) == 3
    assert seen.models == answered_by(bedrock)
    assert all("toolConfig" not in entry.request for entry in calls(bedrock))
    assert calls(bedrock)[1].request["messages"][-1]["content"] == [
        {"text": "Observation: Sunny in Paris, 25 degrees."}
    ]


async def test_a_react_agent_reports_a_tool_that_raises(bedrock, router):
    agent = ReActAgent(llm=BedrockRouter(model=router), tools=[count_inhabitants])
    output = await agent.run("Call count_inhabitants(city='Paris').")
    assert "the census of Paris is lost" in str(output)


# --- several agents ---


@streamed_or_not
async def test_agents_hand_over_to_agents_on_other_routers(bedrock, router, streaming):
    other = bedrock.default_router("amazon.nova:1")
    first = agent_on(router, get_weather, name="weatherman", description="Tells the weather.", streaming=streaming)
    second = agent_on(other, add, name="calculator", description="Adds numbers.", streaming=streaming)
    workflow = AgentWorkflow(agents=[first, second], root_agent="weatherman", initial_state={"unit": "celsius"})
    with routes() as seen:
        output = await workflow.run('Call handoff(to_agent="calculator", reason="sums"). Add 3 and 4.')
    assert output.current_agent_name == "calculator"
    assert [name for name, _ in called(output)] == ["handoff", "add"]
    assert [event.requested_model_id for event in seen.events] == [router, other, other]
    assert seen.models == answered_by(bedrock)
    assert "'unit': 'celsius'" in calls(bedrock)[0].request["messages"][0]["content"][0]["text"]


async def test_an_agent_asks_a_query_engine_on_another_router(bedrock, router):
    reader = BedrockRouter(model=bedrock.default_router("amazon.nova:1"))
    engine = vector_index().as_query_engine(llm=reader, similarity_top_k=ALL)
    library = QueryEngineTool.from_defaults(engine, name="search_island", description="Find information on the island.")
    with routes() as seen:
        output = await agent_on(router, library).run("Who built the lighthouse?")
    assert LIGHTHOUSE in str(output)
    assert [event.requested_model_id for event in seen.events] == [router, reader.model, router]
    assert seen.models == answered_by(bedrock)


async def test_many_agents_work_at_the_same_time(bedrock, router):
    llm = BedrockRouter(model=router)

    async def ask(number):
        return await agent_on(llm, add).run(f"Add {number} and 1000.")

    with routes() as seen:
        outputs = await asyncio.gather(*(ask(number) for number in range(20)))
    assert [called(output) for output in outputs] == [[("add", {"a": number, "b": 1000})] for number in range(20)]
    assert [output.raw["routing"]["requested_model_id"] for output in outputs] == [router] * 20
    assert len({event.routing["request_id"] for event in seen.events}) == len(seen.events) == 40
    assert len(bedrock.requests("GetPromptRouter")) == 1


# --- other targets ---


@pytest.mark.parametrize(
    ("kind", "models"), [("amazon.nova:1", (NOVA_LITE, NOVA_PRO)), ("meta.llama:1", (LLAMA_8B, LLAMA_70B))]
)
@streamed_or_not
async def test_other_routers_serve_agents(bedrock, kind, models, streaming):
    for model in models:
        bedrock.choose(model)
    with routes() as seen:
        output = await agent_on(bedrock.default_router(kind), get_weather, streaming=streaming).run(PARIS_AND_ROME)
    assert sorted(called(output), key=str) == [("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Rome"})]
    assert seen.models == list(models)


async def test_an_application_profile_serves_an_agent(bedrock):
    profile = bedrock.create_application_profile(name="team", copy_from=HAIKU)
    with routes() as seen:
        output = await agent_on(profile, get_weather).run(PARIS_AND_ROME)
    assert "Sunny in Rome" in str(output)
    assert seen.models == [HAIKU, HAIKU]
    assert {event.requested_model_id for event in seen.events} == {profile}


# --- when it goes wrong ---


@pytest.mark.parametrize(("fault", "error"), [("access_denied", ClientError), ("cut", StreamInterruptedError)])
async def test_an_agent_raises_what_the_call_raised(bedrock, router, fault, error):
    bedrock.fail(fault)
    with routes() as seen, pytest.raises(error):
        await agent_on(router, get_weather).run(PARIS_AND_ROME)
    assert seen.events == []
