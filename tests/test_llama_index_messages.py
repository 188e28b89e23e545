"""LlamaIndex's messages as Converse takes them: roles, text, cache points, thinking, tool calls and their results."""

from __future__ import annotations

import copy
import logging
from io import BytesIO

import pytest
from llama_index.core.base.llms.types import (
    AudioBlock,
    CacheControl,
    CachePoint,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)
from pydantic import BaseModel
from samples import HELLO

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.llama_index import BedrockRouter
from bedrock_routing_integrations.llama_index.messages import to_converse

PNG = b"\x89PNG\r\n\x1a\n" + bytes(16)
PDF = b"%PDF-1.7\n" + bytes(16)
CALL = ToolCallBlock(tool_call_id="call-1", tool_name="add", tool_kwargs={"a": 1})
USE = {"toolUse": {"toolUseId": "call-1", "name": "add", "input": {"a": 1}}}
ADD = {"tools": [{"toolSpec": {"name": "add", "inputSchema": {"json": {"type": "object"}}}}]}
CITATION = CitationBlock(cited_content="a source", source="s", title="t", additional_location_info={})


def user(*blocks):
    return ChatMessage(role="user", blocks=[TextBlock(text=b) if isinstance(b, str) else b for b in blocks])


def assistant(*blocks, **said):
    blocks = [TextBlock(text=b) if isinstance(b, str) else b for b in blocks]
    return ChatMessage(role="assistant", blocks=blocks, additional_kwargs=said)


def result(*blocks, call_id="call-1", role="tool", **said):
    blocks = [TextBlock(text=b) if isinstance(b, str) else b for b in blocks]
    return ChatMessage(role=role, blocks=blocks, additional_kwargs={"tool_call_id": call_id, **said})


def point(ttl="5m"):
    return CachePoint(cache_control=CacheControl(type="default", ttl=ttl))


def contents(*messages, **options):
    return [message["content"] for message in to_converse(messages, **options)[0]]


def document(**fields):
    return DocumentBlock(**{"data": b"Alice has a brother.", "document_mimetype": "text/plain", **fields})


# --- roles and text ---


@pytest.mark.parametrize(
    ("role", "converse"),
    [("user", "user"), ("assistant", "assistant"), ("chatbot", "assistant"), ("model", "assistant")],
)
def test_each_role_is_one_that_converse_has(role, converse):
    messages, system = to_converse([user("Hello"), assistant("Hi"), user("So?"), ChatMessage("text", role=role)])
    assert messages[-1]["role"] == converse
    assert messages[-1]["content"][-1] == {"text": "text"}
    assert not system


@pytest.mark.parametrize("role", ["system", "developer"])
def test_system_messages_become_the_system_wherever_they_stand(role):
    messages, system = to_converse([
        ChatMessage("Be brief.", role=role), user("Hello"), ChatMessage("And polite.", role=role), user("Again"),
    ])  # fmt: skip
    assert system == [{"text": "Be brief."}, {"text": "And polite."}]
    assert messages == [{"role": "user", "content": [{"text": "Hello"}, {"text": "Again"}]}]


def test_consecutive_messages_of_one_role_are_one():
    messages, _ = to_converse([
        user("a"), user("b"), assistant("c"), ChatMessage("d", role="chatbot"), assistant(CALL), result("2"), user("e"),
    ])  # fmt: skip
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert messages[0]["content"] == [{"text": "a"}, {"text": "b"}]
    assert messages[1]["content"] == [{"text": "c"}, {"text": "d"}, USE]
    assert [next(iter(block)) for block in messages[2]["content"]] == ["toolResult", "text"]


@pytest.mark.parametrize("blank", ["", " ", "\n\t"])
def test_blank_text_is_left_out_and_so_are_messages_that_have_nothing_else(blank):
    system = ChatMessage(blank, role="system")
    messages, converse_system = to_converse([system, user(blank, "Hello", blank), assistant(blank), user("Again")])
    assert converse_system == []
    assert messages == [{"role": "user", "content": [{"text": "Hello"}, {"text": "Again"}]}]


def test_text_is_sent_with_its_spaces():
    assert contents(user("  Hello \n")) == [[{"text": "  Hello \n"}]]


def test_a_conversation_that_the_assistant_starts_raises():
    with pytest.raises(InvalidRequestError, match="starts with a message of the assistant"):
        to_converse([ChatMessage("Be brief.", role="system"), assistant("How can I help?"), user("Hello")])


def test_a_greeting_without_words_does_not_count_as_a_start():
    assert contents(assistant(" "), user("Hello")) == [[{"text": "Hello"}]]


# --- every block in every role ---

BLOCKS = {
    "text": TextBlock(text="Hello"), "image": ImageBlock(image=PNG), "audio": AudioBlock(audio=b"a", format="mp3"),
    "video": VideoBlock(video=b"a", video_mimetype="video/mp4"), "document": document(), "cachePoint": point(),
    "searchResult": CitableBlock(title="t", source="s", content="text"), "citation": CITATION,
    "reasoningContent": ThinkingBlock(content="Hm.", additional_information={"signature": "abc"}), "toolUse": CALL,
}  # fmt: skip
TAKEN = {
    "user": ["text", "image", "audio", "video", "document", "cachePoint", "searchResult"],
    "assistant": ["text", "cachePoint", "citation", "reasoningContent", "toolUse"],
    "tool": ["text", "image", "video", "document", "cachePoint", "searchResult"],
    "system": ["text", "cachePoint"],
}


@pytest.mark.parametrize("role", TAKEN)
@pytest.mark.parametrize("kind", BLOCKS)
def test_a_block_arrives_or_raises_naming_its_message_and_itself(role, kind):
    said = {"tool_call_id": "call-1"} if role == "tool" else {}
    message = ChatMessage(role=role, blocks=[TextBlock(text="See:"), BLOCKS[kind]], additional_kwargs=said)
    messages = [user("Hello"), assistant("Hi"), user("So?"), *([assistant(CALL)] if role == "tool" else []), message]
    if kind not in TAKEN[role]:
        name = type(BLOCKS[kind]).__name__
        with pytest.raises(InvalidRequestError, match=rf"^messages\[{len(messages) - 1}\]\.blocks\[1\] \({name}\)"):
            to_converse(messages)
        return
    converse, system = to_converse(messages)
    if kind == "toolUse":
        assert "toolResult" in converse.pop()["content"][0]  # the result that it lacks
    content = system if role == "system" else converse[-1]["content"]
    if role == "tool" and kind != "cachePoint":
        content = content[-1]["toolResult"]["content"]
    if kind == "citation":  # a note that says of no text where it belongs
        assert content == [{"text": "See:"}]
    else:
        assert kind in content[-1]


# --- nothing that the caller passed is changed ---


def test_messages_and_blocks_stay_as_they_are_however_often_they_are_sent(bedrock, router):
    file = BytesIO(PNG)
    file.seek(3)
    messages = [
        ChatMessage(role="system", blocks=[point(), TextBlock(text="Be brief."), point(), point()]),
        user("Read", document(), document(), document(title="ö/ä.pdf"), point(), " "),
        assistant(ThinkingBlock(content="Hm.", additional_information={"signature": "x"}), "Sum:", CALL,
                  tool_calls=[{"toolUseId": "call-1", "name": "add", "input": "{}"}]),
        result(document(data=b'{"sum": [1]}', document_mimetype="application/json"), point(), is_error=True),
        user(ImageBlock(image=file), CitableBlock(title="t", source="s", content="text"), "What is this?"),
    ]  # fmt: skip
    given, objects = copy.deepcopy([dict(message) for message in messages]), [list(m.blocks) for m in messages]
    llm = BedrockRouter(model=router)
    for _ in range(2):
        llm.chat(messages, toolConfig=ADD)
        llm.chat(messages)
    assert file.tell() == 3
    for message, before, blocks in zip(messages, given, objects, strict=True):
        assert all(ours is theirs for ours, theirs in zip(message.blocks, blocks, strict=True))
        assert message.role == before["role"]
        assert message.additional_kwargs == before["additional_kwargs"]
        kept = [block for block in message.blocks if not isinstance(getattr(block, "image", None), BytesIO)]
        assert kept == [block for block in before["blocks"] if not isinstance(getattr(block, "image", None), BytesIO)]
    first, third = (bedrock.requests("Converse")[number].request for number in (0, 2))
    assert first["messages"] == third["messages"]
    assert first["system"] == third["system"] == [{"text": "Be brief."}, {"cachePoint": {"type": "default"}}]


# --- cache points ---


def test_a_cache_point_says_how_long_where_that_is_not_five_minutes():
    content = [{"text": "a"}, {"cachePoint": {"type": "default", "ttl": "1h"}}, {"text": "b"}]
    assert contents(user("a", point("1h"), "b", point())) == [[*content, {"cachePoint": {"type": "default"}}]]
    system = to_converse([ChatMessage(role="system", blocks=[TextBlock(text="a"), point("1h")])])[1]
    assert system == content[:2]


def test_a_cache_point_for_another_time_raises():
    with pytest.raises(InvalidRequestError, match=r"messages\[0\].blocks\[1\] \(CachePoint\).*'10m'"):
        to_converse([user("a", point("10m"))])


REFUSED_POINTS = {
    "first": (user(point(), "a"), [{"text": "a"}]),
    "two in a row": (user("a", point(), point()), ["text", "cachePoint"]),
    "behind a text document": (user("a", document(), point()), ["text", "document"]),
    "behind blank text": (user(" ", point(), "a"), [{"text": "a"}]),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED_POINTS)
def test_a_cache_point_that_bedrock_refuses_is_left_out_with_a_warning(case, caplog):
    message, expected = REFUSED_POINTS[case]
    with caplog.at_level(logging.WARNING, "bedrock_routing_integrations"):
        [content] = contents(message)
    assert expected in (content, [next(iter(block)) for block in content])
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_cache_point_behind_a_pdf_stays():
    [content] = contents(user("Read", document(data=PDF, document_mimetype="application/pdf"), point()))
    assert "cachePoint" in content[-1]


def test_a_cache_point_behind_thinking_is_left_out():
    thinking = ThinkingBlock(content="Hm.", additional_information={"signature": "x"})
    assert [next(iter(block)) for block in contents(user("a"), assistant(thinking, point(), "b"))[1]] == [
        "reasoningContent", "text",
    ]  # fmt: skip


def test_a_cache_point_in_a_message_of_its_own_ends_the_message_before():
    assert contents(user("a"), user(point()), assistant("b")) == [
        [{"text": "a"}, {"cachePoint": {"type": "default"}}], [{"text": "b"}],
    ]  # fmt: skip


@pytest.mark.parametrize("place", [0, 1])
def test_a_message_of_nothing_but_a_cache_point_does_not_become_an_empty_one(router, place):
    messages = [user(HELLO)]
    messages.insert(place, [user(point()), assistant(point())][place])
    assert contents(*messages) == [[{"text": HELLO}]]
    assert contents(*messages, user("b")) == [[{"text": HELLO}, {"text": "b"}]]
    assert BedrockRouter(model=router).chat(messages).message.content


def test_a_cache_point_in_a_tool_result_stands_behind_it_and_for_nova_not_at_all():
    history = [user("a"), assistant(CALL), result("2", point("1h"))]
    assert contents(*history)[2][1:] == [{"cachePoint": {"type": "default", "ttl": "1h"}}]
    assert contents(*history, provider="amazon")[2][1:] == []


# --- thinking ---


def test_thinking_that_claude_has_not_signed_goes_only_to_models_that_take_it():
    history = [user("a"), assistant(ThinkingBlock(content="Hm."), "b")]
    text = [{"text": "b"}]
    assert contents(*history, provider="anthropic")[1] == contents(*history, provider="deepseek")[1] == text
    for provider in ("amazon", "openai", ""):
        unsigned = {"reasoningContent": {"reasoningText": {"text": "Hm."}}}
        assert contents(*history, provider=provider)[1] == [unsigned, *text]


def test_signed_thinking_without_words_is_sent_because_claude_wants_it_back():
    signed = ThinkingBlock(content="", additional_information={"signature": "abc"})
    [sent, _] = contents(user("a"), assistant(signed, CALL), provider="anthropic")[1]
    assert sent == {"reasoningContent": {"reasoningText": {"text": "", "signature": "abc"}}}


def test_thinking_that_says_nothing_at_all_is_left_out():
    assert contents(user("a"), assistant(ThinkingBlock(), "b"))[1] == [{"text": "b"}]


def test_an_answer_that_was_cut_off_while_thinking_is_left_out():
    cut = assistant(ThinkingBlock(content="Hm", additional_information={"signature": "abc"}))
    assert contents(user("a"), cut, user("b")) == [[{"text": "a"}, {"text": "b"}]]
    assert len(contents(user("a"), cut, assistant("b"))[1]) == 2


def test_redacted_thinking_that_is_damaged_raises():
    damaged = ThinkingBlock(additional_information={"redacted_content": "a"})
    with pytest.raises(InvalidRequestError, match=r"messages\[1\].blocks\[0\] \(ThinkingBlock\)"):
        to_converse([user("a"), assistant(damaged, "b")])


# --- tool calls ---


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
def test_calls_in_the_place_where_older_histories_have_them_are_sent_once(form):
    assert contents(user("a"), assistant("Sum:", tool_calls=[OLDER[form]]))[1] == [{"text": "Sum:"}, USE]
    assert contents(user("a"), assistant(CALL, tool_calls=[OLDER[form]]))[1] == [USE]


@pytest.mark.parametrize("calls", [None, "add", [None], ["add"], [{"name": "add"}], [{"toolUseId": "call-1"}], {}])
def test_what_else_stands_there_is_no_call(calls):
    assert contents(user("a"), assistant("b", tool_calls=calls))[1] == [{"text": "b"}]


@pytest.mark.parametrize("call_id", [None, "", "a b", "x" * 65, "é"])
def test_a_call_without_an_id_that_bedrock_takes_raises_on_both_sides(call_id):
    call = ToolCallBlock(tool_call_id=call_id, tool_name="add")
    with pytest.raises(InvalidRequestError, match=r"messages\[1\]\.blocks\[0\] \(ToolCallBlock\)\.tool_call_id is"):
        to_converse([user("a"), assistant(call)])
    with pytest.raises(InvalidRequestError, match=r"messages\[0\] is the result of a tool.*'tool_call_id'"):
        to_converse([result("2", call_id=call_id)])


def test_a_result_that_says_nothing_of_its_call_raises():
    with pytest.raises(InvalidRequestError, match=r"messages\[0\].*tool_call_id.*None"):
        to_converse([ChatMessage("2", role="tool")])


# --- tool results ---

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
    ("said", "status"),
    [
        ({"is_error": True}, "error"), ({"status": "error"}, "error"), ({"status": "success"}, "success"),
        ({"is_error": False}, None), ({}, None), ({"status": "completed"}, None),
    ],
)  # fmt: skip
def test_a_result_says_whether_the_tool_failed(said, status):
    assert contents(user("a"), assistant(CALL), result("2", **said))[2][0]["toolResult"].get("status") == status


def test_a_result_that_says_it_is_json_and_is_not_raises():
    broken = result(document(data=b'{"sum": ', document_mimetype="application/json"))
    with pytest.raises(InvalidRequestError, match=r"messages\[2\]\.blocks\[0\] \(DocumentBlock\) says that it is JSON"):
        to_converse([user("a"), assistant(CALL), broken])


def test_results_of_several_calls_are_one_message(bedrock, router):
    second = ToolCallBlock(tool_call_id="call-2", tool_name="add")
    history = [user("a"), assistant(CALL, second), result("2"), result("3", call_id="call-2")]
    BedrockRouter(model=router).chat(history, toolConfig=ADD)
    sent = bedrock.requests("Converse")[-1].request["messages"][2]["content"]
    assert [block["toolResult"]["toolUseId"] for block in sent] == ["call-1", "call-2"]


def test_a_history_with_tools_is_told_in_words_where_there_are_none_now(bedrock, router):
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
