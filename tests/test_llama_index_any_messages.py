"""Test random messages: they become a valid request or an error of ours. Answers go back unchanged."""

from __future__ import annotations

import functools
import itertools
import json
import re

import botocore.session
from botocore.validate import ParamValidator
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from llama_index.core.base.llms.types import (
    AudioBlock,
    CacheControl,
    CachePoint,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)
from samples import HAIKU, NOVA_LITE

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.llama_index import BedrockRouter
from bedrock_routing_integrations.llama_index._responses import read_content
from bedrock_routing_integrations.llama_index.messages import to_converse

PNG = b"\x89PNG\r\n\x1a\n" + bytes(16)
PDF = b"%PDF-1.7\n" + bytes(16)
IDS = ("call-1", "call-2", "toolu_01|a/b c", "x" * 70)  # the last two are of other providers
NAMES = ("add", "my.tool", "ö" * 80)
TOOLS = {"tools": [{"toolSpec": {"name": "add", "inputSchema": {"json": {"type": "object"}}}}]}

texts = st.one_of(st.sampled_from(["", " ", "\n", "Hello"]), st.text(st.characters(codec="utf-8"), max_size=20))
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=5,
)
objects = st.dictionaries(texts, json_values, max_size=3)

text_blocks = st.builds(TextBlock, text=texts)
images = st.one_of(st.builds(ImageBlock, image=st.sampled_from([PNG, b"\xff\xd8\xff\xe0abc", b"nothing known!"])),
                   st.builds(ImageBlock, url=st.sampled_from(["s3://bucket/a b.png", "s3://bucket/a"])))  # fmt: skip
documents = st.one_of(
    st.builds(DocumentBlock, data=st.sampled_from([PDF, b"Some text."]), title=st.one_of(st.none(), texts)),
    st.builds(lambda value: DocumentBlock(data=json.dumps(value).encode() + b" ", document_mimetype="application/json"),
              json_values),
    st.builds(DocumentBlock, url=st.sampled_from(["s3://bucket/a.pdf", "s3://bucket/a"])),
)  # fmt: skip
points = st.builds(lambda ttl: CachePoint(cache_control=CacheControl(type="default", ttl=ttl)),
                   st.sampled_from(["5m", "1h"]))  # fmt: skip
thinking = st.builds(ThinkingBlock, content=st.one_of(st.none(), texts), additional_information=st.sampled_from(
    [{}, {"signature": "abc"}, {"redacted_content": "AAAA"}, {"redacted_content": "A"}]))  # fmt: skip
calls = st.builds(ToolCallBlock, tool_call_id=st.sampled_from([*IDS, None]), tool_name=st.sampled_from(NAMES),
                  tool_kwargs=st.one_of(objects, st.builds(json.dumps, json_values), texts,
                                        st.sampled_from(['{"a": NaN}', '{"a": 1e999}'])))  # fmt: skip
citations = st.builds(
    CitationBlock, cited_content=texts, source=texts, title=texts,
    additional_location_info=st.dictionaries(
        st.sampled_from(["answer_start", "answer_end", "document_index", "start_char_index", "end_char_index"]),
        st.integers(0, 9),
    ),
)  # fmt: skip
citables = st.builds(CitableBlock, title=texts, source=texts,
                     content=st.lists(st.one_of(text_blocks, images, documents), max_size=3))  # fmt: skip
sounds = st.builds(AudioBlock, audio=st.just(b"ID3\x04abc"), format=st.sampled_from([None, "mp3", "midi"]))
videos = st.builds(VideoBlock, video=st.just(b"video"), video_mimetype=st.sampled_from([None, "video/mp4"]))

OTHERS = (images, documents, points, thinking, calls, citations, citables, sounds, videos)
SUITED = {
    "assistant": st.one_of(text_blocks, thinking, calls, citations, points),
    "user": st.one_of(text_blocks, images, documents, points, citables, sounds, videos),
    "tool": st.one_of(text_blocks, images, documents, points, citables, videos),
    "system": st.one_of(text_blocks, points),
}


@st.composite
def messages(draw):
    """Mostly blocks in messages where they belong; now and then any block in any message."""
    role = draw(st.sampled_from(list(MessageRole)))
    kind = {"chatbot": "assistant", "model": "assistant", "function": "tool", "developer": "system"}.get(
        role, role.value
    )
    blocks = draw(st.lists(SUITED[kind], max_size=4))
    if draw(st.integers(0, 9)) == 0:
        blocks.append(draw(st.one_of(text_blocks, *OTHERS)))
    extra = {"tool_call_id": draw(st.sampled_from([*IDS, *IDS, None]))} if kind == "tool" else {}
    if draw(st.booleans()):
        extra["tool_calls"] = draw(st.lists(st.fixed_dictionaries(
            {"toolUseId": st.sampled_from(IDS)},
            optional={"name": st.sampled_from([*NAMES, 5, None]), "function": st.sampled_from(["add", {"name": "add"}]),
                      "input": json_values})))  # fmt: skip
    return ChatMessage(role=role, blocks=blocks, additional_kwargs=extra)


@functools.cache
def _converse_shape():
    model = botocore.session.get_session().get_service_model("bedrock-runtime")
    return model.operation_model("Converse").input_shape


hello = st.just([ChatMessage("Hello")])
histories = st.builds(lambda first, rest: first + rest, st.one_of(hello, hello, st.just([])),
                      st.lists(messages(), max_size=5))  # fmt: skip


@given(histories, st.booleans())
def test_any_history_is_refused_by_us_or_valid_for_boto3(history, tools):
    before = [message.model_dump_json() for message in history]
    try:
        converse, system = to_converse(history, tools=tools)
    except InvalidRequestError:
        event("refused")
        return
    finally:
        assert [message.model_dump_json() for message in history] == before
    event(f"{min(len(converse), 3)} messages")
    request = {"modelId": HAIKU, "messages": converse, "system": system}
    report = ParamValidator().validate(request, _converse_shape())
    assert not report.has_errors(), report.generate_report()
    roles = [message["role"] for message in converse]
    assert all(role != follower for role, follower in itertools.pairwise(roles))
    assert roles[:1] != ["system"]
    for content in [*(message["content"] for message in converse), *([system] if system else [])]:
        assert content
        blank = [number for number, block in enumerate(content) if "text" in block and not block["text"].strip()]
        assert all(content[number]["text"] and "cachePoint" in content[number + 1] for number in blank)
        assert tools or not any({"toolUse", "toolResult"} & block.keys() for block in content)
    calls: list[str] = []
    for message in converse:  # as Claude wants it: each call's result in the next message, and before all else
        kinds = [next(iter(block)) for block in message["content"]]
        results = [block["toolResult"]["toolUseId"] for block in message["content"] if "toolResult" in block]
        assert kinds[: len(results)] == ["toolResult"] * len(results)
        assert sorted(results) == sorted(calls)
        uses = [block["toolUse"] for block in message["content"] if "toolUse" in block]
        calls = [use["toolUseId"] for use in uses]
        assert len(set(calls)) == len(calls)
        assert all(re.fullmatch("[a-zA-Z0-9_.:-]{1,64}", call) for call in calls)
        json.dumps([use["input"] for use in uses], allow_nan=False)
    assert calls == []
    assert to_converse(history, tools=tools) == (converse, system)


# --- conversations that make sense, through the emulator ---

spoken = st.builds(TextBlock, text=texts.map(lambda text: text.strip() or "Hello"))


@st.composite
def rounds(draw):
    """Draw a conversation of alternating turns with occasional tool calls."""
    seen = draw(st.lists(st.one_of(spoken, documents_with_names, st.builds(ImageBlock, image=st.just(PNG)), points),
                         max_size=3))  # fmt: skip
    asked = ChatMessage(role="user", blocks=[draw(spoken), *seen])
    called = draw(st.lists(st.sampled_from(IDS), unique=True))
    if not called:
        return [
            asked,
            ChatMessage(role="assistant", blocks=[*draw(st.lists(thinking_of_claude, max_size=1)), draw(spoken)]),
        ]
    uses = [ToolCallBlock(tool_call_id=call_id, tool_name="add", tool_kwargs=draw(objects)) for call_id in called]
    outputs = [
        ChatMessage(
            role=draw(st.sampled_from(["tool", "function"])), additional_kwargs={"tool_call_id": call_id},
            blocks=draw(st.lists(st.one_of(text_blocks, documents_with_names, points), max_size=2)),
        )
        for call_id in called
    ]  # fmt: skip
    return [asked, ChatMessage(role="assistant", blocks=[*draw(st.lists(text_blocks, max_size=1)), *uses]), *outputs,
            ChatMessage(role="assistant", blocks=[draw(spoken)])]  # fmt: skip


documents_with_names = st.builds(
    DocumentBlock, data=st.sampled_from([PDF, b"Some text."]), title=st.one_of(st.none(), texts)
)
thinking_of_claude = st.builds(ThinkingBlock, content=texts, additional_information=st.just({"signature": "abc"}))


def _with_few_points(parts):
    """The messages with four CachePoints at most: of more only the caller can say which to leave out."""
    room = 4
    messages = [message for part in parts for message in part]
    for message in messages:
        kept = []
        for block in message.blocks:
            room -= isinstance(block, CachePoint)
            kept += [block] if room >= 0 or not isinstance(block, CachePoint) else []
        message.blocks = kept
    return messages


conversations = st.lists(rounds(), max_size=3).map(_with_few_points)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(conversations, st.booleans(), st.booleans())
def test_any_conversation_that_makes_sense_is_one_that_bedrock_takes(router, history, with_tools, on_nova):
    call = {"toolConfig": TOOLS} if with_tools else {}
    llm = BedrockRouter(model=NOVA_LITE if on_nova else router)
    response = llm.chat([ChatMessage("Be brief.", role="system"), *history, ChatMessage("And now?")], **call)
    assert response.additional_kwargs["routing"]["invoked_model"]


# --- answers, there and back ---

sentences = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(lambda text: text.strip())
places = st.one_of(
    st.builds(lambda kind, index, start, end: {kind: {"documentIndex": index, "start": start, "end": end}},
              st.sampled_from(["documentChar", "documentPage", "documentChunk"]), *[st.integers(0, 99)] * 3),
    st.fixed_dictionaries({"searchResultLocation": st.fixed_dictionaries(
        dict.fromkeys(["searchResultIndex", "start", "end"], st.integers(0, 99)))}),
)  # fmt: skip
sources = st.fixed_dictionaries(
    {},
    optional={"title": sentences, "source": sentences, "location": places,
              "sourceContent": st.builds(lambda text: [{"text": text}], sentences)},
)  # fmt: skip
answered = st.one_of(
    st.builds(lambda text: {"text": text}, sentences),
    st.builds(lambda text, cited: {"citationsContent": {"content": [{"text": text}], "citations": cited}},
              sentences, st.lists(sources, min_size=1, max_size=2)),
    st.builds(lambda text: {"reasoningContent": {"reasoningText": {"text": text, "signature": "abc"}}}, texts),
    st.builds(lambda data: {"reasoningContent": {"redactedContent": data}}, st.binary(min_size=1, max_size=9)),
    st.builds(lambda arguments: {"toolUse": {"name": "add", "input": arguments}}, objects),
)  # fmt: skip


def _joined(content):
    """Return the content with texts next to a cited one joined: their boundaries are not kept."""
    joined = []
    for block in content:
        if "text" in block and joined and "text" in joined[-1]:
            joined[-1] = {"text": joined[-1]["text"] + block["text"]}
        else:
            joined.append(block)
    return joined


@given(st.lists(answered, max_size=6), st.booleans())
def test_answer_goes_back_to_the_model_unchanged(content, stored):
    content = [
        {"toolUse": {"toolUseId": f"call-{number}", **block["toolUse"]}} if "toolUse" in block else block
        for number, block in enumerate(content)
    ]
    blocks, extra = read_content(content)
    answer = ChatMessage(role="assistant", blocks=blocks, additional_kwargs=extra)
    if stored:
        answer = ChatMessage.model_validate_json(answer.model_dump_json())
    sent = to_converse([ChatMessage("Hello"), answer, ChatMessage("!", role="assistant")])[0][1]
    if not any("citationsContent" in block for block in content):
        assert sent["content"] == [*content, {"text": "!"}]
    assert _joined(sent["content"]) == _joined([*content, {"text": "!"}])
