"""LlamaIndex's messages as Converse takes them: roles, text, images, cache points, thinking."""

from __future__ import annotations

import copy
from io import BytesIO

import pytest
from llama_index.core.base.llms.types import (
    AudioBlock,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    ImageBlock,
    TextBlock,
    ThinkingBlock,
    VideoBlock,
)
from llama_index_writing import ADD, CALL, PNG, USE, assistant, contents, document, point, result, user
from samples import HELLO, NOVA_LITE
from scripted_bedrock import ScriptedBedrock, whole_of

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.llama_index import BedrockRouter
from bedrock_routing_integrations.llama_index.messages import to_converse

CACHING = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
POINT = {"cachePoint": {"type": "default"}}
CITATION = CitationBlock(cited_content="a source", source="s", title="t", additional_location_info={})

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
def test_to_converse_keeps_later_system_messages_in_place(role):
    messages, system = to_converse([
        ChatMessage("Be brief.", role=role), user(" "), ChatMessage("Be polite.", role=role), user("Hello"),
        ChatMessage("In French.", role=role), ChatMessage("From now on.", role=role), user("Again"), assistant("Oui"),
        ChatMessage(role=role, blocks=[TextBlock(text="Stop."), point()]),
    ])  # fmt: skip
    assert system == [{"text": "Be brief."}, {"text": "Be polite."}], "all before the first message that has content"
    assert messages == [
        {"role": "user", "content": [{"text": "Hello"}]},
        {"role": "system", "content": [{"text": "In French."}, {"text": "From now on."}]},
        {"role": "user", "content": [{"text": "Again"}]}, {"role": "assistant", "content": [{"text": "Oui"}]},
        {"role": "system", "content": [{"text": "Stop."}, POINT]},
    ]  # fmt: skip


@pytest.mark.parametrize("blocks", [[], [TextBlock(text=" ")], [point()]])
def test_to_converse_drops_later_system_message_without_text(blocks):
    assert contents(user("a"), ChatMessage(role="system", blocks=blocks), user("b")) == [[{"text": "a"}, {"text": "b"}]]


def test_to_converse_moves_system_message_after_tool_result():
    reminder = ChatMessage("Be brief.", role="system")
    messages, _ = to_converse([user("a"), assistant(CALL), reminder, result("2"), assistant("b")])
    assert [message["role"] for message in messages] == ["user", "assistant", "user", "system", "assistant"]
    messages, _ = to_converse([user("a"), assistant(CALL), reminder, assistant("b")])
    assert [message["role"] for message in messages] == ["user", "assistant", "user", "system", "assistant"]
    messages, _ = to_converse([user("a"), assistant(CALL), reminder])
    assert [message["role"] for message in messages] == ["user", "assistant", "user", "system"]
    assert "toolResult" in messages[2]["content"][0]


def test_consecutive_messages_of_one_role_are_one():
    messages, _ = to_converse([
        user("a"), user("b"), assistant("c"), ChatMessage("d", role="chatbot"), assistant(CALL), result("2"), user("e"),
    ])  # fmt: skip
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert messages[0]["content"] == [{"text": "a"}, {"text": "b"}]
    assert messages[1]["content"] == [{"text": "c"}, {"text": "d"}, USE]
    assert [next(iter(block)) for block in messages[2]["content"]] == ["toolResult", "text"]


@pytest.mark.parametrize("blank", ["", " ", "\n\t"])
def test_blank_text_and_blank_messages_are_left_out(blank):
    system = ChatMessage(blank, role="system")
    messages, converse_system = to_converse([system, user(blank, "Hello", blank), assistant(blank), user("Again")])
    assert converse_system == []
    assert messages == [{"role": "user", "content": [{"text": "Hello"}, {"text": "Again"}]}]


def test_text_is_sent_with_its_spaces():
    assert contents(user("  Hello \n")) == [[{"text": "  Hello \n"}]]


def test_to_converse_leaves_first_message_of_assistant_to_bedrock():
    assert contents(ChatMessage("Be brief.", role="system"), assistant("How can I help?"), user("Hello")) == [
        [{"text": "How can I help?"}], [{"text": "Hello"}],
    ]  # fmt: skip


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
    "assistant": ["text", "image", "cachePoint", "citation", "reasoningContent", "toolUse"],
    "tool": ["text", "image", "video", "document", "cachePoint", "searchResult"],
    "system": ["text", "cachePoint"],
}


@pytest.mark.parametrize("role", TAKEN)
@pytest.mark.parametrize("kind", BLOCKS)
def test_a_block_arrives_or_raises_naming_its_message_and_itself(role, kind):
    extra = {"tool_call_id": "call-1"} if role == "tool" else {}
    message = ChatMessage(role=role, blocks=[TextBlock(text="See:"), BLOCKS[kind]], additional_kwargs=extra)
    messages = [user("Hello"), assistant("Hi"), user("So?"), *([assistant(CALL)] if role == "tool" else []), message]
    if kind not in TAKEN[role]:
        name = type(BLOCKS[kind]).__name__
        with pytest.raises(InvalidRequestError, match=rf"^messages\[{len(messages) - 1}\]\.blocks\[1\] \({name}\)"):
            to_converse(messages)
        return
    converse, system = to_converse(messages)
    if kind == "toolUse":
        assert "toolResult" in converse.pop()["content"][0]  # the result that it lacks
    assert not system
    content = converse[-1]["content"]
    if role == "tool" and kind != "cachePoint":
        content = content[-1]["toolResult"]["content"]
    if kind == "citation":  # an annotation without a text it belongs to
        assert content == [{"text": "See:"}]
    elif (kind, role) == ("image", "assistant"):
        assert content == [{"text": "See:"}, {"text": "[an image]"}]
    else:
        assert kind in content[-1]


def test_image_of_assistant_becomes_note_with_one_warning(bedrock, router, caplog):
    history = [user("Draw"), assistant("Here:", ImageBlock(image=PNG)), user("Thanks")]
    for _ in range(2):
        BedrockRouter(model=router).chat(history)
    assert bedrock.requests("Converse")[-1].request["messages"][1]["content"] == [
        {"text": "Here:"}, {"text": "[an image]"},
    ]  # fmt: skip
    (record,) = [each for each in caplog.records if each.name == "bedrock_routing_integrations"]
    assert "messages[1].blocks[1] (ImageBlock)" in record.message


@pytest.mark.parametrize("message", [{"role": "user", "content": "a"}, "a", None, TextBlock(text="a")])
def test_invalid_message_raises_with_its_position(message):
    with pytest.raises(InvalidRequestError, match=rf"^messages\[1\] is a \S*{type(message).__name__}\..*ChatMessage"):
        to_converse([user("a"), message])


@pytest.mark.parametrize("messages", ["Hello", user("Hello")])
def test_invalid_list_of_messages_raises(messages):
    with pytest.raises(InvalidRequestError, match=rf"^messages must be a list .* {type(messages).__name__}"):
        to_converse(messages)


# --- nothing that the caller passed is changed ---


def test_messages_and_blocks_stay_unchanged_when_sent_often(bedrock):
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
    llm = BedrockRouter(model=CACHING, cache="off")  # what is learned from one request changes the points of the next
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


def test_cache_point_has_ttl_unless_five_minutes():
    content = [{"text": "a"}, {"cachePoint": {"type": "default", "ttl": "1h"}}, {"text": "b"}]
    assert contents(user("a", point("1h"), "b", point())) == [[*content, {"cachePoint": {"type": "default"}}]]
    system = to_converse([ChatMessage(role="system", blocks=[TextBlock(text="a"), point("1h")])])[1]
    assert system == content[:2]


def test_a_cache_point_for_another_time_raises():
    with pytest.raises(InvalidRequestError, match=r"messages\[0\].blocks\[1\] \(CachePoint\).*'10m'"):
        to_converse([user("a", point("10m"))])


def test_cache_point_keeps_its_position():
    """The client decides for the whole request which of them to keep: tests/test_cache_points.py."""
    thinking = ThinkingBlock(content="Hm.", additional_information={"signature": "x"})
    turns = contents(user(point(), "a", document(), point(), point()), assistant(thinking, point(), "b", point()))
    assert [[next(iter(block)) for block in content] for content in turns] == [
        ["cachePoint", "text", "document", "cachePoint", "cachePoint"],
        ["reasoningContent", "cachePoint", "text", "cachePoint"],
    ]


def test_to_converse_keeps_whitespace_between_document_and_cache_point():
    """The known way to cache a text document, after which Bedrock takes no point."""
    [content] = contents(user("See:", document(), "\n", point(), "\n", point(), " ", "And?"))
    assert [next(iter(block)) for block in content] == ["text", "document", "text", "cachePoint", "cachePoint", "text"]
    assert content[2] == {"text": "\n"}
    [content] = contents(user("See:", document(), "", point()))
    assert [next(iter(block)) for block in content] == ["text", "document", "cachePoint"]


@pytest.mark.parametrize("cache", ["auto", "off"])
def test_chat_sends_cache_point_after_whitespace_after_document(cache):
    with ScriptedBedrock(whole_of({"text": "ok"})) as server:
        llm = BedrockRouter(model=CACHING, cache=cache, **server.arguments)
        llm.chat([user("See: " + "long " * 2000, document(), "\n", point(), "And?")])
        [message] = server.requests[-1]["messages"]
    kinds = [next(iter(block)) for block in message["content"]]
    assert kinds[kinds.index("document") :] == ["document", "text", "cachePoint", "text"]


def test_to_converse_drops_blank_text_between_text_and_cache_point():
    assert contents(user("a", " ", point(), "b")) == [[{"text": "a"}, POINT, {"text": "b"}]]


def test_refused_cache_points_are_left_out_of_the_request(bedrock):
    history = [
        ChatMessage(role="system", blocks=[point(), TextBlock(text="Be brief."), point()]),
        user("a", document(), point()), assistant(CALL), result("2", point()), user("b", point(), point()),
    ]  # fmt: skip
    BedrockRouter(model=NOVA_LITE).chat(history, toolConfig=ADD)
    sent = bedrock.requests("Converse")[-1].request
    assert sent["system"] == [{"text": "Be brief."}, POINT]
    assert [[next(iter(block)) for block in message["content"]] for message in sent["messages"]] == [
        ["text", "document"], ["toolUse"], ["toolResult", "text", "cachePoint"],
    ]  # fmt: skip


def test_cache_point_alone_in_message_ends_previous_message():
    assert contents(user("a"), user(point()), assistant("b")) == [
        [{"text": "a"}, POINT], [{"text": "b"}],
    ]  # fmt: skip


@pytest.mark.parametrize("place", [0, 1])
def test_message_with_only_cache_point_is_left_out(bedrock, place):
    messages = [user(HELLO)]
    messages.insert(place, [user(point()), assistant(point())][place])
    texts = [[block for block in content if "text" in block] for content in contents(*messages)]
    assert texts == [[{"text": HELLO}]]
    assert len(contents(*messages, user("b"))) == 1
    assert BedrockRouter(model=CACHING).chat(messages).message.content
    assert bedrock.requests("Converse")[-1].request["messages"] == [{"role": "user", "content": [{"text": HELLO}]}]


def test_cache_point_in_a_tool_result_follows_it():
    history = [user("a"), assistant(CALL), result(point("1h"), "2")]
    content = contents(*history)[2]
    assert [next(iter(block)) for block in content] == ["toolResult", "cachePoint"]
    assert content[0]["toolResult"]["content"] == [{"text": "2"}]
    assert content[1] == {"cachePoint": {"type": "default", "ttl": "1h"}}


# --- thinking ---


@pytest.mark.parametrize(
    ("block", "sent"),
    [
        (ThinkingBlock(content="Hm."), {"reasoningText": {"text": "Hm."}}),
        # Newer Claudes return empty thinking with a signature, and want it back.
        (
            ThinkingBlock(content="", additional_information={"signature": "abc"}),
            {"reasoningText": {"text": "", "signature": "abc"}},
        ),
        (
            ThinkingBlock(content="Hm.", additional_information={"signature": "abc"}),
            {"reasoningText": {"text": "Hm.", "signature": "abc"}},
        ),
        (ThinkingBlock(additional_information={"redacted_content": "AAH/"}), {"redactedContent": b"\0\1\xff"}),
    ],
)
def test_to_converse_emits_thinking_as_given(block, sent):
    """The client decides, for every framework, which of it the target accepts."""
    assert contents(user("a"), assistant(block, "b"), user("c"))[1] == [{"reasoningContent": sent}, {"text": "b"}]
    assert contents(user("a"), assistant(block), user("c"))[1] == [{"reasoningContent": sent}]


def test_empty_thinking_is_left_out():
    assert contents(user("a"), assistant(ThinkingBlock(), "b"))[1] == [{"text": "b"}]


def test_redacted_thinking_that_is_damaged_raises():
    damaged = ThinkingBlock(additional_information={"redacted_content": "a"})
    with pytest.raises(InvalidRequestError, match=r"messages\[1\].blocks\[0\] \(ThinkingBlock\)"):
        to_converse([user("a"), assistant(damaged, "b")])
