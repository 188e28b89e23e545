"""Tool calls and results that lost one another are mended before Bedrock refuses the whole conversation."""

from __future__ import annotations

import logging
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import CacheControl, CachePoint, ChatMessage, TextBlock, ToolCallBlock
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
    results = [block["toolResult"] for block in message["content"] if "toolResult" in block]
    return [(each["toolUseId"], each.get("status"), each["content"]) for each in results]


def test_tool_call_without_result_gets_a_placeholder_result():
    converse, _ = to_converse([user(), calls("a", "b"), result("b"), user("Go on.")])
    assert results_in(converse[2]) == [("b", None, [{"text": "Sunny."}]), ("a", "error", UNFINISHED)]
    assert converse[2]["content"][2:] == [{"text": "Go on."}]


def test_tool_results_precede_the_users_next_message():
    converse, _ = to_converse([user(), calls("a"), user("Never mind.")])
    assert converse[2]["content"] == [
        {"toolResult": {"toolUseId": "a", "content": UNFINISHED, "status": "error"}}, {"text": "Never mind."},
    ]  # fmt: skip


def test_tool_results_precede_text_written_before_them():
    point = CachePoint(cache_control=CacheControl(type="default"))
    given = [user(), calls("a", "b"), user("Wait."), result("a"), ChatMessage(role="user", blocks=[point]), result("b")]
    converse, _ = to_converse(given)
    assert converse[2]["content"] == [
        *({"toolResult": {"toolUseId": each, "content": [{"text": "Sunny."}]}} for each in "ab"),
        {"text": "Wait."}, {"cachePoint": {"type": "default"}},
    ]  # fmt: skip


def test_second_result_of_one_call_becomes_text():
    converse, _ = to_converse([user(), calls("a"), result("a", "Sunny."), result("a", "Rain.")])
    assert results_in(converse[2]) == [("a", None, [{"text": "Sunny."}])]
    assert converse[2]["content"][1:] == [{"text": "[tool result: Rain.]"}]


def test_a_call_that_is_there_twice_is_sent_once():
    converse, _ = to_converse([user(), calls("a", "b"), calls("a", text="Again."), result("a"), result("b")])
    content = [block["text"] if "text" in block else block["toolUse"]["toolUseId"] for block in converse[1]["content"]]
    assert content == ["I look.", "a", "b", "Again."]
    assert [call for call, _, _ in results_in(converse[2])] == ["a", "b"]


def test_later_call_may_reuse_an_earlier_id():
    converse, _ = to_converse([user(), calls("a"), result("a"), calls("a"), result("a", "Rain.")])
    assert [results_in(converse[number])[0][2] for number in (2, 4)] == [[{"text": "Sunny."}], [{"text": "Rain."}]]
    assert "toolUse" in converse[3]["content"][1]


FOREIGN = ("fc_0|call 1", "x" * 65, "é", " ", "call/1")


@pytest.mark.parametrize("call_id", FOREIGN)
def test_foreign_id_is_converted_alike_for_call_and_result(call_id):
    history = [user(), calls(call_id), result(call_id)]
    converse, _ = to_converse(history)
    (sent,) = [block["toolUse"]["toolUseId"] for block in converse[1]["content"] if "toolUse" in block]
    assert re.fullmatch("[a-zA-Z0-9_.:-]{1,64}", sent)
    assert results_in(converse[2]) == [(sent, None, [{"text": "Sunny."}])]
    assert to_converse(history)[0] == converse, "a prompt cache needs the same again"


def test_ids_of_other_providers_stay_apart():
    near = (*FOREIGN, "call 1", "call|1", "call_1", "y" * 65, "x" * 66)
    converse, _ = to_converse([user(), calls(*near), *(result(each, each) for each in near)])
    results = results_in(converse[2])
    assert len({sent for sent, _, _ in results}) == len(near)
    assert [content[0]["text"].strip() or "(nothing)" for _, _, content in results] == [
        each.strip() or "(nothing)" for each in near
    ]
    assert "call_1" in {sent for sent, _, _ in results}, "what Bedrock takes stays as it is"


@pytest.mark.parametrize("tools", [True, False])
def test_foreign_call_in_both_places_is_sent_once(tools):
    twice = calls("call 1")
    twice.additional_kwargs["tool_calls"] = [{"id": "call 1", "name": "get_weather", "input": {"city": "Paris"}}] * 2
    older = ChatMessage(role="assistant", content="I look.", additional_kwargs=twice.additional_kwargs)
    for asked in (twice, older):
        converse, _ = to_converse([user(), asked, result("call 1")], tools=tools)
        assert len(converse[1]["content"]) == 2


def test_bedrock_takes_a_history_of_another_provider(bedrock, router):
    tool = FunctionTool.from_defaults(get_weather)
    foreign = ToolCallBlock(tool_call_id="fc|1", tool_name="functions.get weather", tool_kwargs="{}")
    history = [user(), ChatMessage(role="assistant", blocks=[foreign]), result("fc|1"), user("Thanks.")]
    BedrockRouter(router).chat_with_tools([tool], chat_history=history)
    (sent,) = bedrock.requests("Converse")[-1].request["messages"][1]["content"]
    assert sent["toolUse"]["name"] == "functions_get_weather"


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


def test_pairing_warns_once_and_only_after_a_repair(caplog):
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
    """Draw an agent's history: questions, several tool calls at once, results, answers."""
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


@pytest.mark.sweep
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


async def test_agent_answers_again_after_returning_one_result_directly(bedrock, router):
    tool = FunctionTool.from_defaults(get_weather, return_direct=True)
    agent = FunctionAgent(llm=BedrockRouter(router), tools=[tool])
    memory = ChatMemoryBuffer.from_defaults(token_limit=10_000)
    await agent.run("What is the weather in Paris and in Rome?", memory=memory)
    answer = await agent.run("What is the weather in London?", memory=memory)
    assert "London" in str(answer)


# LlamaIndex's own: its warning about a memory that is passed with a Context (workflows 2.26).
@pytest.mark.filterwarnings("ignore::workflows.context.state_store.UnserializableKeyWarning")
async def test_agent_answers_again_after_stop_before_result(bedrock, router):
    agent = FunctionAgent(llm=BedrockRouter(router), tools=[get_weather, add], early_stopping_method="generate")
    memory, context = ChatMemoryBuffer.from_defaults(token_limit=10_000), Context(agent)
    await agent.run("Add 3 and 4, then what is the weather in Paris?", ctx=context, memory=memory, max_iterations=2)
    await agent.run("What is the weather in London?", ctx=context, memory=memory, max_iterations=10)
    assert any(results_in(message) for message in bedrock.requests("ConverseStream")[-1].request["messages"])
