"""Converse's answers as LlamaIndex's blocks and token counts, and what goes back to Bedrock of them."""

from __future__ import annotations

import base64
import json

import pytest
from llama_index.core.base.llms.types import (
    ChatMessage,
    CitationBlock,
    ImageBlock,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index_forms import FORMS, run, user
from samples import HAIKU
from scripted_bedrock import ScriptedBedrock, block_stop, call_delta, call_start, stream_of, text, whole_of

from bedrock_routing_integrations.errors import ToolCallError
from bedrock_routing_integrations.llama_index import BedrockRouter
from bedrock_routing_integrations.llama_index._responses import read_content, token_counts
from bedrock_routing_integrations.llama_index.messages import to_converse

HIDDEN = b"\x00\xffhidden"
ENCODED = base64.b64encode(HIDDEN).decode()
TOOL = {"toolSpec": {"name": "add", "inputSchema": {"json": {"type": "object"}}}}
PAGE = {"documentPage": {"documentIndex": 0, "start": 1, "end": 2}}


def cited(sentence, *citations):
    return {"citationsContent": {"content": [{"text": sentence}], "citations": list(citations)}}


def citation(location=None, quoted="quoted", **fields):
    source = {"sourceContent": [{"text": quoted}]} if quoted else {}
    return {"title": "Report", **source, **({"location": location} if location else {}), **fields}


def round_trip(content, *, stored=False):
    """Return the assistant's message that goes back to Bedrock for one of its answers."""
    blocks, extra = read_content(content)
    message = ChatMessage(role="assistant", blocks=blocks, additional_kwargs=extra)
    if stored:
        message = ChatMessage.model_validate_json(message.model_dump_json())
    return to_converse([ChatMessage("Hello"), message])[0][1]["content"]


def ask(*answers, **call):
    with ScriptedBedrock(*answers) as server:
        response = BedrockRouter(model=HAIKU, **server.arguments).chat(user("Hello"), **call)
        return response, server.requests


# --- blocks ---


def test_each_kind_of_content_has_its_block_in_its_order():
    blocks, extra = read_content([
        {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "abc"}}},
        {"reasoningContent": {"redactedContent": HIDDEN}}, {"text": "a"}, {"text": "b"},
        {"toolUse": {"toolUseId": "call-1", "name": "add", "input": {"a": 1}}},
        {"image": {"format": "png", "source": {"bytes": b"\x89PNG"}}},
    ])  # fmt: skip
    assert blocks == [
        ThinkingBlock(content="Hm.", additional_information={"signature": "abc"}),
        ThinkingBlock(content=None, additional_information={"redacted_content": ENCODED}),
        TextBlock(text="a"), TextBlock(text="b"),
        ToolCallBlock(tool_call_id="call-1", tool_name="add", tool_kwargs={"a": 1}),
        ImageBlock(image=b"\x89PNG", image_mimetype="image/png"),
    ]  # fmt: skip
    assert extra == {"tool_calls": [{"toolUseId": "call-1", "name": "add", "input": {"a": 1}}]}


@pytest.mark.parametrize(
    "content",
    [
        {"toolUse": {"toolUseId": "s-1", "name": "search", "input": {}, "type": "server_tool_use"}},
        {"toolResult": {"toolUseId": "s-1", "content": [], "type": "search_result"}},
        {"audio": {"format": "mp3", "source": {"bytes": base64.b64encode(b"a").decode()}}},
    ],
)
def test_content_without_block_is_in_raw_only(content):
    response, _ = ask(whole_of(content, {"text": "a"}))
    assert response.message.blocks == [TextBlock(text="a")]
    assert response.message.additional_kwargs == {}
    assert list(response.raw["output"]["message"]["content"][0]) == list(content)


def test_an_answer_without_content_has_no_blocks():
    response, _ = ask(whole_of())
    assert response.message.blocks == []
    assert not response.message.content


def call_with(arguments, *, streamed):
    whole = whole_of({"toolUse": {"toolUseId": "call-1", "name": "add", "input": arguments}}, stop="tool_use")
    written = call_delta(0, json.dumps(arguments))
    stream = stream_of(call_start(0, "call-1", "add"), written, block_stop(0), stop="tool_use")
    with ScriptedBedrock(stream if streamed else whole) as server:
        llm = BedrockRouter(model=HAIKU, **server.arguments)
        answer = list(llm.stream_chat(user("a")))[-1] if streamed else llm.chat(user("a"))
    [call] = answer.message.blocks
    return call.tool_kwargs, lambda: llm.get_tool_calls_from_response(answer)


@pytest.mark.parametrize("arguments", [[1, 2], 3, True, "text"])
@pytest.mark.parametrize("streamed", [False, True])
def test_arguments_other_than_objects_stay_text(arguments, streamed):
    kept, calls = call_with(arguments, streamed=streamed)
    assert kept == (arguments if isinstance(arguments, str) else json.dumps(arguments))
    with pytest.raises(ToolCallError, match="not a JSON object"):
        calls()


@pytest.mark.parametrize("streamed", [False, True])
def test_arguments_that_are_null_are_none(streamed):
    kept, calls = call_with(None, streamed=streamed)
    assert kept == {}
    assert [call.tool_kwargs for call in calls()] == [{}]


def test_an_answer_goes_back_as_it_came_over_the_wire():
    content = [
        {"reasoningContent": {"reasoningText": {"text": "", "signature": "abc"}}},
        {"reasoningContent": {"redactedContent": ENCODED}},
        {"text": "See: "}, cited("It is so.", citation(PAGE)),
        {"toolUse": {"toolUseId": "call-1", "name": "add", "input": {"a": [1, {"b": None}]}}},
    ]  # fmt: skip
    with ScriptedBedrock(whole_of(*content, stop="tool_use")) as server:
        llm = BedrockRouter(model="anthropic.claude-sonnet-4-5-20250929-v1:0", cache="off", **server.arguments)
        answer = llm.chat(user("Hello"))
        tool_message = ChatMessage("2", role="tool", additional_kwargs={"tool_call_id": "call-1"})
        llm.chat([*user("Hello"), answer.message, tool_message], toolConfig={"tools": [TOOL]})
        assert server.requests[1]["messages"][1] == {"role": "assistant", "content": content}


def test_a_streamed_answer_has_the_blocks_of_a_whole_one():
    def delta(index, value):
        return "contentBlockDelta", {"contentBlockIndex": index, "delta": value}

    stream = stream_of(
        delta(0, {"reasoningContent": {"text": "Hm."}}), delta(0, {"reasoningContent": {"signature": "abc"}}),
        block_stop(0), delta(1, {"reasoningContent": {"redactedContent": ENCODED}}), block_stop(1),
        text(2, "See: "), block_stop(2), text(3, "It is "), text(3, "so."), delta(3, {"citation": citation(PAGE)}),
        block_stop(3), call_start(4, "call-1", "add"), call_delta(4, '{"a"'), call_delta(4, ": 1}"), block_stop(4),
        stop="tool_use",
    )  # fmt: skip
    whole = whole_of(
        {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "abc"}}},
        {"reasoningContent": {"redactedContent": ENCODED}}, {"text": "See: "}, cited("It is so.", citation(PAGE)),
        {"toolUse": {"toolUseId": "call-1", "name": "add", "input": {"a": 1}}}, stop="tool_use",
    )  # fmt: skip
    with ScriptedBedrock(stream, whole) as server:
        llm = BedrockRouter(model=HAIKU, **server.arguments)
        *_, last = llm.stream_chat(user("Hello"))
        assert last.message == llm.chat(user("Hello")).message
    assert last.message.content == "See: It is so."


# --- citations ---

LOCATIONS = [
    {"documentChar": {"documentIndex": 0, "start": 3, "end": 9}}, PAGE,
    {"documentChunk": {"documentIndex": 2, "start": 0, "end": 1}},
    {"searchResultLocation": {"searchResultIndex": 1, "start": 0, "end": 1}}, None,
]  # fmt: skip


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("location", LOCATIONS)
def test_a_citation_goes_back_to_where_it_stood(location, stored):
    content = [{"text": "As we know, "}, cited("it is so", citation(location)), {"text": ". Really."}]
    assert round_trip(content, stored=stored) == content


def test_cited_answer_is_one_text_with_positions_of_citations():
    first, second = citation(PAGE, source="s3://a"), citation({"web": {"url": "https://b", "domain": "b"}}, "")
    blocks, _ = read_content([{"text": "As we know, "}, cited("it is so", first, second), {"text": "."}])
    assert [block.text for block in blocks[:1]] == ["As we know, it is so."]
    assert blocks[1] == CitationBlock(
        cited_content=TextBlock(text="quoted"), source="s3://a", title="Report",
        additional_location_info={
            "answer_start": 12, "answer_end": 20, "document_index": 0, "start_page_number": 1, "end_page_number": 2,
        },
    )  # fmt: skip
    assert blocks[2].source == "https://b"
    assert blocks[0].text[12:20] == "it is so"


def test_the_space_between_two_cited_sentences_is_kept():
    content = [cited("One.", citation(PAGE)), {"text": " "}, cited("Two.", citation(PAGE)), {"text": "\n"}]
    assert round_trip(content) == [cited("One.", citation(PAGE)), cited(" Two.", citation(PAGE))]


def test_citations_that_no_longer_fit_the_text_are_left_out():
    blocks, _ = read_content([cited("It is so.", citation(PAGE)), {"text": " And more."}])
    for changed in ("Cut", "", "  "):
        message = ChatMessage(role="assistant", blocks=[TextBlock(text=changed), *blocks[1:]])
        messages, _ = to_converse([ChatMessage("Hello"), message])
        assert [message["content"] for message in messages[1:]] == ([[{"text": "Cut"}]] if changed.strip() else [])


def test_first_of_overlapping_citations_is_kept_with_all_text():
    def block(start, end):
        return CitationBlock(
            cited_content="q", source="", title="t", additional_location_info={"answer_start": start, "answer_end": end}
        )

    message = ChatMessage(role="assistant", blocks=[TextBlock(text="abcdef"), block(1, 4), block(2, 6), block(5, 5)])
    content = to_converse([ChatMessage("Hello"), message])[0][1]["content"]
    kept = {"title": "t", "sourceContent": [{"text": "q"}]}
    assert content == [{"text": "a"}, cited("bcd", kept), {"text": "ef"}]


# --- tokens ---

USAGE = {"inputTokens": 10, "outputTokens": 5, "totalTokens": 1015, "cacheReadInputTokens": 600,
         "cacheWriteInputTokens": 400}  # fmt: skip
COUNTS = {
    "prompt_tokens": 1010, "completion_tokens": 5, "total_tokens": 1015, "cache_read_input_tokens": 600,
    "cache_creation_input_tokens": 400,
}  # fmt: skip


def test_prompt_and_completion_make_the_total_as_bedrock_counts_it():
    assert token_counts(USAGE) == COUNTS
    assert token_counts({"inputTokens": 10, "outputTokens": 5, "totalTokens": 15}) == {
        "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "cache_read_input_tokens": 0,
        "cache_creation_input_tokens": 0,
    }  # fmt: skip
    assert token_counts({}) == token_counts(None) == {}


@pytest.mark.parametrize("form", FORMS)
async def test_tokens_are_counted_alike_in_all_eight_forms(form):
    stream = stream_of(text(0, "Hello"), block_stop(0), usage=USAGE)
    counter = TokenCountingHandler(tokenizer=str.split)
    with ScriptedBedrock(stream if "stream" in form else whole_of({"text": "Hello"}, usage=USAGE)) as server:
        llm = BedrockRouter(model=HAIKU, **server.arguments, callback_manager=CallbackManager([counter]))
        last = (await run(llm, form, "Hello"))[-1]
    extra = last.additional_kwargs
    assert {name: extra[name] for name in COUNTS} == COUNTS
    assert last.raw["usage"] == {**USAGE, **COUNTS}
    counted = (counter.prompt_llm_token_count, counter.completion_llm_token_count, counter.total_llm_token_count)
    assert counted == (1010, 5, 1015)
