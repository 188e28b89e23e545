"""Tool calls and results that lost one another are mended before Bedrock refuses the whole conversation."""

from __future__ import annotations

import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, TextBlock, ToolCallBlock
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.tools import FunctionTool
from llama_index.core.workflow import Context

from bedrock_routing_integrations.emulator import BedrockEmulator
from bedrock_routing_integrations.llama_index import BedrockRouter
from bedrock_routing_integrations.llama_index.messages import to_converse

UNFINISHED = [{"text": "(no result: the call was not finished)"}]


def calls(*ids, text="I look."):
    blocks = [ToolCallBlock(tool_call_id=i, tool_name="get_weather", tool_kwargs={"city": "Paris"}) for i in ids]
    return ChatMessage(role="assistant", blocks=[TextBlock(text=text), *blocks])


def result(call_id, text="Sunny."):
    return ChatMessage(role="tool", content=text, additional_kwargs={"tool_call_id": call_id})


def user(text="And then?"):
    return ChatMessage(role="user", content=text)


def results_in(message):
    found = [block["toolResult"] for block in message["content"] if "toolResult" in block]
    return [(each["toolUseId"], each.get("status"), each["content"]) for each in found]


def test_a_call_without_its_result_gets_one_that_says_so():
    converse, _ = to_converse([user(), calls("a", "b"), result("b"), user("Go on.")])
    assert results_in(converse[2]) == [("a", "error", UNFINISHED), ("b", None, [{"text": "Sunny."}])]
    assert converse[2]["content"][-1] == {"text": "Go on."}


def test_results_come_before_what_the_user_says_then():
    converse, _ = to_converse([user(), calls("a"), user("Never mind.")])
    assert converse[2]["content"] == [
        {"toolResult": {"toolUseId": "a", "content": UNFINISHED, "status": "error"}}, {"text": "Never mind."},
    ]  # fmt: skip


def test_a_call_that_ends_the_conversation_gets_a_result_too():
    converse, _ = to_converse([user(), calls("a")])
    assert [message["role"] for message in converse] == ["user", "assistant", "user"]
    assert results_in(converse[2]) == [("a", "error", UNFINISHED)]


def test_a_result_without_its_call_becomes_text():
    converse, _ = to_converse([result("gone", "Rain."), user("And in Rome?")])
    assert converse == [{"role": "user", "content": [{"text": "[tool result: Rain.]"}, {"text": "And in Rome?"}]}]
    converse, _ = to_converse([user(), calls("a"), result("a"), result("other", "Snow.")])
    assert results_in(converse[2]) == [("a", None, [{"text": "Sunny."}])]
    assert converse[2]["content"][1] == {"text": "[tool result: Snow.]"}


def test_it_is_said_once_and_not_where_nothing_is_mended(caplog):
    with caplog.at_level(logging.WARNING, "bedrock_routing_integrations"):
        whole = [user(), calls("a", "b"), result("a"), result("b"), user("Thanks.")]
        converse, _ = to_converse(whole)
        assert results_in(converse[2]) == [("a", None, [{"text": "Sunny."}]), ("b", None, [{"text": "Sunny."}])]
        assert not caplog.records
        to_converse(whole[:2])
        to_converse(whole[:2])
    assert [record.message.split(",")[0] for record in caplog.records] == [
        "A conversation has tool calls without a result"
    ]
    assert "Sunny" not in caplog.text


@pytest.fixture(scope="module")
def emulated():
    with BedrockEmulator() as bedrock:
        yield bedrock


def rounds():
    """What an agent's history looks like: questions, several calls at once, results, answers."""
    one = st.integers(0, 3).map(
        lambda count: (
            lambda number: [
                user(f"Question {number}?"),
                *([calls(*(f"c{number}-{n}" for n in range(count)))] if count else []),
                *(result(f"c{number}-{n}") for n in range(count)),
                ChatMessage(role="assistant", content="Done."),
            ]
        )
    )
    return st.lists(one, min_size=1, max_size=4).map(
        lambda made: [message for number, make in enumerate(made) for message in make(number)]
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=rounds(), data=st.data())
def test_bedrock_takes_a_history_from_which_anything_was_lost(emulated, history, data):
    kept = [message for message in history if data.draw(st.booleans())]
    client = {"client": emulated.client(), "bedrock_client": emulated.client("bedrock")}
    llm = BedrockRouter(emulated.default_router("anthropic.claude:1"), **client)
    tool = FunctionTool.from_defaults(get_weather)
    llm.chat_with_tools([tool], chat_history=[user("Begin."), *kept, user("End.")])
    llm.chat([user("Begin."), *kept, user("End.")])


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"It is sunny in {city}."


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def test_an_agent_that_returned_one_result_of_two_directly_can_be_asked_again(bedrock, router):
    tool = FunctionTool.from_defaults(get_weather, return_direct=True)
    agent = FunctionAgent(llm=BedrockRouter(router), tools=[tool])
    memory = ChatMemoryBuffer.from_defaults(token_limit=10_000)
    await agent.run("What is the weather in Paris and in Rome?", memory=memory)
    answer = await agent.run("What is the weather in London?", memory=memory)
    assert "London" in str(answer)


# LlamaIndex's own: it says so of the memory that is passed with a Context (workflows 2.26).
@pytest.mark.filterwarnings("ignore::workflows.context.state_store.UnserializableKeyWarning")
async def test_an_agent_that_was_stopped_between_call_and_result_can_be_asked_again(bedrock, router):
    agent = FunctionAgent(llm=BedrockRouter(router), tools=[get_weather, add], early_stopping_method="generate")
    memory, context = ChatMemoryBuffer.from_defaults(token_limit=10_000), Context(agent)
    await agent.run("Add 3 and 4, then what is the weather in Paris?", ctx=context, memory=memory, max_iterations=2)
    await agent.run("What is the weather in London?", ctx=context, memory=memory, max_iterations=10)
    assert any(results_in(message) for message in bedrock.requests("ConverseStream")[-1].request["messages"])
