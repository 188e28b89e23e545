"""Tool calls and their results in LlamaIndex's messages, as Converse takes them."""

from __future__ import annotations

import pytest
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, ToolCallBlock
from llama_index_writing import ADD, CALL, PNG, USE, assistant, contents, document, result, user
from pydantic import BaseModel

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.llama_index import BedrockRouter
from bedrock_routing_integrations.llama_index.messages import to_converse

# --- calls ---


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ({"a": 1}, {"a": 1}), ('{"a": 1}', {"a": 1}), ("", {}), ({}, {}),
        ('{"a": 1, "b', {"invalid_json": '{"a": 1, "b'}),
        ("[1, 2]", {"value": [1, 2]}), ("null", {}),
    ],
)  # fmt: skip
def test_the_arguments_of_a_call_are_always_an_object(arguments, sent):
    call = ToolCallBlock(tool_call_id="call-1", tool_name="add", tool_kwargs=arguments)
    assert contents(user("a"), assistant(call))[1] == [{"toolUse": {**USE["toolUse"], "input": sent}}]
    older = assistant(tool_calls=[{"toolUseId": "call-1", "name": "add", "input": arguments}])
    assert contents(user("a"), older)[1] == [{"toolUse": {**USE["toolUse"], "input": sent}}]


class _Function(BaseModel):
    name: str = "add"
    arguments: str = '{"a": 1}'


class _OpenAICall(BaseModel):
    id: str = "call-1"
    type: str = "function"
    function: _Function = _Function()


OLDER = {
    "bedrock": {"toolUseId": "call-1", "name": "add", "input": {"a": 1}},
    "bedrock, as text": {"toolUseId": "call-1", "name": "add", "input": '{"a": 1}'},
    "anthropic": {"id": "call-1", "type": "tool_use", "name": "add", "input": {"a": 1}},
    "openai": _OpenAICall(),
    "openai, stored": _OpenAICall().model_dump(),
}


@pytest.mark.parametrize("form", OLDER)
def test_calls_of_older_histories_are_sent_once(form):
    assert contents(user("a"), assistant("Sum:", tool_calls=[OLDER[form]]))[1] == [{"text": "Sum:"}, USE]
    assert contents(user("a"), assistant(CALL, tool_calls=[OLDER[form]]))[1] == [USE]


@pytest.mark.parametrize(
    "calls",
    [
        None,
        "add",
        [None],
        ["add"],
        [{"name": "add"}],
        [{"toolUseId": "call-1"}],
        {},
        [{"id": "call-1", "function": "add"}],
    ],
)
def test_other_blocks_are_not_tool_calls(calls):
    assert contents(user("a"), assistant("b", tool_calls=calls))[1] == [{"text": "b"}]


def test_to_converse_leaves_tool_names_to_the_client():
    call = ToolCallBlock(tool_call_id="call-1", tool_name="clock/now.v2")
    assert contents(user("a"), assistant(call))[1][0]["toolUse"]["name"] == "clock/now.v2"


@pytest.mark.parametrize("call_id", [None, ""])
def test_a_call_without_an_id_raises_on_both_sides(call_id):
    call = ToolCallBlock(tool_call_id=call_id, tool_name="add")
    with pytest.raises(InvalidRequestError, match=r"messages\[1\]\.blocks\[0\] \(ToolCallBlock\)\.tool_call_id is"):
        to_converse([user("a"), assistant(call)])
    with pytest.raises(InvalidRequestError, match=r"messages\[0\] is the result of a tool.*'tool_call_id'"):
        to_converse([result("2", call_id=call_id)])


def test_tool_result_without_its_call_id_raises():
    with pytest.raises(InvalidRequestError, match=r"messages\[0\].*tool_call_id.*None"):
        to_converse([ChatMessage("2", role="tool")])


# --- results ---

RESULTS = {
    "text": (result("2"), [{"text": "2"}]),
    "as a function's": (result("2", role="function"), [{"text": "2"}]),
    "several texts": (result("2", "3"), [{"text": "2"}, {"text": "3"}]),
    "nothing": (result(), [{"text": "(nothing)"}]),
    "blank": (result(" "), [{"text": "(nothing)"}]),
    "an object": (result(document(data=b'{"sum": [1, null]}', document_mimetype="application/json; charset=utf-8")),
                  [{"json": {"sum": [1, None]}}]),
    "an empty object": (result(document(data=b"{}", document_mimetype="application/json")), [{"json": {}}]),
    "a list": (result(document(data=b"[1, 2]", document_mimetype="application/json", title="sums")),
               [{"document": {"format": "txt", "name": "sums", "source": {"bytes": b"[1, 2]"}}}]),
    "an image": (result("See:", ImageBlock(image=PNG)),
                 [{"text": "See:"}, {"image": {"format": "png", "source": {"bytes": PNG}}}]),
}  # fmt: skip


@pytest.mark.parametrize("case", RESULTS)
def test_a_tool_result_is_sent_as_what_it_is(bedrock, router, case):
    message, expected = RESULTS[case]
    history = [user("What is 1 + 1?"), assistant(CALL), message]
    sent = {"toolResult": {"toolUseId": "call-1", "content": expected}}
    assert contents(*history)[2] == [sent]
    BedrockRouter(model=router).chat(history, toolConfig=ADD)
    assert bedrock.requests("Converse")[-1].request["messages"][2]["content"] == [sent]


@pytest.mark.parametrize(
    ("extra", "status"),
    [
        ({"is_error": True}, "error"), ({"status": "error"}, "error"), ({"status": "success"}, "success"),
        ({"is_error": False}, None), ({}, None), ({"status": "completed"}, None),
    ],
)  # fmt: skip
def test_tool_result_has_the_status_of_the_tool(extra, status):
    assert contents(user("a"), assistant(CALL), result("2", **extra))[2][0]["toolResult"].get("status") == status


def test_result_declared_as_json_must_be_json():
    broken = result(document(data=b'{"sum": ', document_mimetype="application/json"))
    with pytest.raises(
        InvalidRequestError, match=r"messages\[2\]\.blocks\[0\] \(DocumentBlock\) has document_mimetype="
    ):
        to_converse([user("a"), assistant(CALL), broken])


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_nan_raises_in_result_and_stays_text_in_call(number):
    broken = result(document(data=f'{{"sum": [{number}]}}'.encode(), document_mimetype="application/json"))
    with pytest.raises(InvalidRequestError, match=rf"messages\[2\]\.blocks\[0\] \(DocumentBlock\).*{number} is no"):
        to_converse([user("a"), assistant(CALL), broken])
    written = f'{{"a": {number}}}'
    call = ToolCallBlock(tool_call_id="call-1", tool_name="add", tool_kwargs=written)
    assert contents(user("a"), assistant(call))[1][0]["toolUse"]["input"] == {"invalid_json": written}


def test_other_numbers_arrive_as_they_are():
    turn = result(document(data=b'{"sum": [1.5, -2e3, 12345678901234567890]}', document_mimetype="application/json"))
    sent = contents(user("a"), assistant(CALL), turn)[2][0]["toolResult"]["content"]
    assert sent == [{"json": {"sum": [1.5, -2000.0, 12345678901234567890]}}]


def test_results_of_several_calls_are_one_message(bedrock, router):
    second = ToolCallBlock(tool_call_id="call-2", tool_name="add")
    history = [user("a"), assistant(CALL, second), result("2"), result("3", call_id="call-2")]
    BedrockRouter(model=router).chat(history, toolConfig=ADD)
    sent = bedrock.requests("Converse")[-1].request["messages"][2]["content"]
    assert [block["toolResult"]["toolUseId"] for block in sent] == ["call-1", "call-2"]


def test_history_with_tools_becomes_text_without_tools(bedrock, router):
    history = [
        user("Add"), assistant("Sum:", CALL), result("zwölf", document(data=b'{"sum": "\xc3\xb6"}',
                                                                document_mimetype="application/json")),
        assistant(CALL), result(ImageBlock(image=PNG), document(title="notes"), is_error=True), user("So?"),
    ]  # fmt: skip
    BedrockRouter(model=router).chat(history)
    sent = bedrock.requests("Converse")[-1].request["messages"]
    assert sent[1]["content"] == [{"text": "Sum:"}, {"text": '[tool call: add {"a": 1}]'}]
    assert sent[2]["content"] == [{"text": '[tool result: zwölf {"sum": "ö"}]'}]
    assert [next(iter(block)) for block in sent[4]["content"]] == ["text", "image", "document", "text"]
    assert sent[4]["content"][0]["text"].startswith("[tool error: ")
