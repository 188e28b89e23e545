"""Replay recorded answers of the real Bedrock through `RoutedClient`, `ChatBedrockRouter` and `BedrockRouter`.

Each test goes through all recordings and fails with a list of those that came out wrong. What is expected is read from
the recorded JSON by `recorded_bedrock`. Recordings that seem to be edited by hand must not raise, and nothing more.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
from dataclasses import replace

import pytest
from botocore.exceptions import ClientError
from langchain_core.messages import HumanMessage, messages_from_dict, messages_to_dict
from llama_index.core.base.llms.types import (
    ChatMessage,
    CitationBlock,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from recorded_bedrock import (
    Citation,
    RecordedBedrock,
    answers,
    blocks_of,
    in_json,
    one_of_each_kind,
    recorded_answer,
    recorded_blocks,
    recorded_events,
    recorded_refusal,
    recorded_request,
    recorded_response,
    recordings,
    recordings_folder,
    refusals,
    same_request,
)
from recorded_differences import Differences
from recorded_messages import LOCATIONS

from bedrock_routing_integrations import RoutedClient
from bedrock_routing_integrations.errors import ContextOverflowError, InvalidTargetError
from bedrock_routing_integrations.langchain import ChatBedrockRouter
from bedrock_routing_integrations.llama_index import BedrockRouter

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(recordings_folder() is None, reason="no recordings beside the repository (BEDROCK_RECORDINGS)"),
]


@pytest.fixture(scope="module")
def recorded():
    with RecordedBedrock() as server:
        yield server


def client_of(recorded):
    return RoutedClient(recorded.client(), bedrock_client=recorded.client("bedrock"), cache="off")


def whole():
    """Return the answers to ask for with Converse: those recorded so, and of each kind of stream what it adds up to."""
    return [*answers("Converse"), *one_of_each_kind(answers("ConverseStream"))]


def streamed():
    """Return the answers to ask for with ConverseStream: those recorded so, and one of each other kind in pieces.

    Without one that ``max_tokens`` cut inside a tool call: how far its arguments had come was not recorded.
    """
    others = [
        recording
        for recording in one_of_each_kind(answers("Converse"))
        if not recording.is_doubtful and not recorded_answer(recording).unclosed
    ]
    return [*answers("ConverseStream"), *others]


# --- RoutedClient ---


def check_routing(differences, routing, answer):
    tokens = answer.tokens
    differences.check("routing usage", routing["usage"], {
        "input": tokens.input, "output": tokens.output, "cache_read": tokens.cache_read,
        "cache_write_5m": tokens.cache_write - tokens.cache_write_1h, "cache_write_1h": tokens.cache_write_1h,
    })  # fmt: skip
    differences.check("attempts", routing["attempts"], 1)


def check_sent(differences, recorded, recording):
    """Nothing that Bedrock accepted may be changed on its way."""
    path, body = recorded.requests[-1]
    differences.check("path", path, recording.path)
    if recording.body and not same_request(recording, body):
        differences.add("request", body, recording.body)


def test_routed_client_returns_the_recorded_response(recorded):
    client = client_of(recorded)
    with Differences() as differences:
        for recording in answers("Converse"):
            with differences.of(recording):
                recorded.play(recording)
                response = client.converse(**recorded_request(recording))
                if not recording.is_doubtful:
                    routing, _ = response.pop("routing"), response.pop("ResponseMetadata")
                    differences.check("response", response, recorded_response(recording))
                    check_sent(differences, recorded, recording)
                    check_routing(differences, routing, recorded_answer(recording))


def test_routed_client_yields_the_recorded_events(recorded):
    client = client_of(recorded)
    with Differences() as differences:
        for recording in answers("ConverseStream"):
            with differences.of(recording):
                recorded.play(recording)
                events = list(client.converse_stream(**recorded_request(recording))["stream"])
                if not recording.is_doubtful:
                    routing = events[-1]["metadata"].pop("routing")
                    differences.check("events", events, recorded_events(recording))
                    check_sent(differences, recorded, recording)
                    check_routing(differences, routing, recorded_answer(recording))


# A model that has no stream (`ModelFacts.streaming`).
WHOLE_ONLY = "cohere.command-text-v14"


def test_routed_client_streams_answers_of_models_without_streams(recorded):
    client = client_of(recorded)
    messages = [{"role": "user", "content": [{"text": "go on"}]}]
    with Differences() as differences:
        for recording in streamed():
            with differences.of(recording):
                recorded.play(recording)
                stream = client.converse_stream(modelId=WHOLE_ONLY, messages=messages)["stream"]
                events = [next(iter(event.items())) for event in stream]
                differences.check("operation", recorded.requests[-1][0], f"/model/{WHOLE_ONLY}/converse")
                differences.check("blocks", blocks_of(in_json(events)), recorded_blocks(recording))
                ends = [kind for kind, _ in events[:1] + events[-2:]]
                differences.check("first and last events", ends, ["messageStart", "messageStop", "metadata"])
                answer = recorded_answer(recording)
                differences.check("stop reason", events[-2][1]["stopReason"], answer.stop_reason)
                check_routing(differences, events[-1][1]["routing"], answer)


@pytest.mark.parametrize("version", ["v0", "v1"])
def test_chat_bedrock_router_streams_answers_of_models_without_streams(recorded, version):
    with Differences() as differences:
        for recording in one_of_each_kind(streamed()):
            with differences.of(recording):
                recorded.play(recording)
                llm = chat_of(recorded, recording, output_version=version)
                message = sum_of(llm.stream("go on", model=WHOLE_ONLY))
                differences.check("operation", recorded.requests[-1][0], f"/model/{WHOLE_ONLY}/converse")
                check_message(differences, message, recording)


def test_bedrock_router_streams_answers_of_models_without_streams(recorded):
    with Differences() as differences:
        for recording in one_of_each_kind(streamed()):
            with differences.of(recording):
                recorded.play(recording)
                llm = llama_of(recorded, recording)
                check_chunks(differences, llm, list(llm.stream_chat(QUESTION, model=WHOLE_ONLY)), recording)
                differences.check("operation", recorded.requests[-1][0], f"/model/{WHOLE_ONLY}/converse")


def without_cache_points(value):
    if isinstance(value, dict):
        return {name: without_cache_points(inner) for name, inner in value.items()}
    if isinstance(value, list):
        points = [item for item in value if isinstance(item, dict) and "cachePoint" in item]
        return [without_cache_points(item) for item in value if item not in points]
    return value


def test_routed_client_adds_nothing_but_cache_points(recorded):
    client = RoutedClient(recorded.client(), bedrock_client=recorded.client("bedrock"))
    added = 0
    with Differences() as differences:
        for recording in answers("Converse"):
            with differences.of(recording):
                recorded.play(recording)
                client.converse(**recorded_request(recording))
                sent, expected = recorded.requests[-1][1], recording.body or {}
                added += str(sent).count("cachePoint") - str(expected).count("cachePoint")
                differences.check("request", without_cache_points(sent), without_cache_points(expected))
    assert added > 0


def test_routed_client_counts_tokens_as_recorded(recorded):
    client = client_of(recorded)
    with Differences() as differences:
        for recording in recordings("CountTokens"):
            with differences.of(recording):
                recorded.play(recording)
                count = functools.partial(client.count_tokens, **recorded_request(recording))
                if recording.status == 200:
                    differences.check("tokens", count()["inputTokens"], recording.response["body"]["inputTokens"])
                else:
                    check_refusal(differences, recording, count)


# --- ChatBedrockRouter ---


def chat_of(recorded, recording, **settings):
    return ChatBedrockRouter(
        model=recording.model_id, client=recorded.client(), bedrock_client=recorded.client("bedrock"), cache="off",
        **settings,
    )  # fmt: skip


def in_camel_case(value):
    if isinstance(value, dict):
        return {re.sub(r"_([a-z])", lambda found: found[1].upper(), key): in_camel_case(v) for key, v in value.items()}
    return value


def annotation(block, each):
    extras = each.get("extras") or {}
    return Citation(
        each.get("title", ""), each.get("cited_text", ""), in_camel_case(extras.get("location", {})), block["text"]
    )


def as_far_as_known(cited, expected):
    """Return the citations without the text that rests on them where that was not recorded (Nova's grounding)."""
    pairs = itertools.zip_longest(cited, expected[: len(cited)])
    return [each if not known or known.answer_text else replace(each, answer_text="") for each, known in pairs]


def without_inline_thinking(text):
    """Return the text without what Nova 1 writes in ``<thinking>`` tags, and without space around it."""
    return re.sub(r"<thinking>.*?</thinking>", "", text, flags=re.DOTALL).strip()


def check_message(differences, message, recording):
    """Compare a LangChain message with a recorded answer."""
    answer = recorded_answer(recording)
    blocks = message.content_blocks
    reasoning = [
        (
            block.get("reasoning") or None,
            (block.get("extras") or {}).get("signature") or None,
            (block.get("extras") or {}).get("redacted_content"),
        )
        for block in blocks
        if block["type"] == "reasoning"
    ]
    text = message.text
    # langchain-aws takes what Nova 1 thinks aloud for reasoning where an answer is not streamed.
    aloud = [inner.strip() for inner in re.findall(r"<thinking>(.*?)</thinking>", answer.text, re.DOTALL)]
    if aloud and reasoning:
        differences.check("thinking in tags", [each[0] for each in reasoning], aloud)
        differences.check("text", text.strip(), without_inline_thinking(answer.text))
    else:
        differences.check("text", text, answer.text)
        differences.check("reasoning", reasoning, answer.reasoning)
    calls = [(call["id"], call["name"], call["args"]) for call in message.tool_calls]
    differences.check("tool calls", calls, answer.calls)
    unclosed = [(call["id"], call["name"]) for call in message.invalid_tool_calls]
    differences.check("invalid tool calls", unclosed, answer.unclosed)
    cited = [annotation(block, each) for block in blocks for each in block.get("annotations", ())]
    differences.check("citations", as_far_as_known(cited, answer.citations), answer.citations)
    check_langchain_usage(differences, message.usage_metadata, answer.tokens)
    differences.check("stop reason", message.response_metadata.get("stopReason"), answer.stop_reason)
    [kept] = messages_from_dict(json.loads(json.dumps(messages_to_dict([message]))))
    differences.check("kept as JSON", kept, message)
    differences.check("routing", message.response_metadata["routing"]["usage"]["input"], answer.tokens.input)


def check_langchain_usage(differences, usage, tokens):
    details = usage.get("input_token_details", {})
    written = sum(
        details.get(name, 0)
        for name in ("cache_creation", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
    )  # fmt: skip
    differences.check(
        "usage",
        (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"], details.get("cache_read", 0), written),
        (tokens.prompt, tokens.output, tokens.total, tokens.cache_read, tokens.cache_write),
    )


def sum_of(chunks):
    whole = None
    for chunk in chunks:
        whole = chunk if whole is None else whole + chunk
    return whole


@pytest.mark.parametrize("version", ["v0", "v1"])
def test_chat_bedrock_router_invoke_gives_the_recorded_answer(recorded, version):
    with Differences() as differences:
        for recording in whole():
            with differences.of(recording):
                recorded.play(recording)
                message = chat_of(recorded, recording, output_version=version).invoke("go on")
                if not recording.is_doubtful:
                    check_message(differences, message, recording)


@pytest.mark.parametrize("version", ["v0", "v1"])
def test_chat_bedrock_router_stream_gives_the_recorded_answer(recorded, version):
    with Differences() as differences:
        for recording in streamed():
            with differences.of(recording):
                recorded.play(recording)
                message = sum_of(chat_of(recorded, recording, output_version=version).stream("go on"))
                check_message(differences, message, recording)


async def test_chat_bedrock_router_gives_recorded_answers_asynchronously(recorded):
    with Differences() as differences:
        for recording in one_of_each_kind(streamed()):
            with differences.of(recording):
                recorded.play(recording)
                llm = chat_of(recorded, recording)
                check_message(differences, await llm.ainvoke("go on"), recording)
                check_message(differences, sum_of([chunk async for chunk in llm.astream("go on")]), recording)


# --- BedrockRouter ---


def llama_of(recorded, recording):
    return BedrockRouter(
        model=recording.model_id, client=recorded.client(), bedrock_client=recorded.client("bedrock"), cache="off"
    )


def cited_by(block, text):
    info = block.additional_location_info
    location = {}
    for kind, names in LOCATIONS.items():
        if all(name in info for name in names.values()):
            location[kind] = {member: info[name] for member, name in names.items()}
    if block.source.startswith("http"):
        location["web"] = {"url": block.source}
    return Citation(block.title, block.cited_content.text, location, text[info["answer_start"] : info["answer_end"]])


def as_llama_index_can(citation):
    """Return the citation with what a `CitationBlock` can hold: of a web page the address."""
    location = {kind: {"url": value["url"]} if kind == "web" else value for kind, value in citation.location.items()}
    return Citation(citation.title, citation.quoted, location, citation.answer_text)


def check_response(differences, llm, response, recording):
    """Compare a LlamaIndex response with a recorded answer."""
    answer, blocks = recorded_answer(recording), response.message.blocks
    text = "".join(block.text for block in blocks if isinstance(block, TextBlock))
    differences.check("text", text, answer.text)
    calls = [
        (call.tool_id, call.tool_name, call.tool_kwargs)
        for call in selections_of(llm, response, answer)
    ]  # fmt: skip
    differences.check("tool calls", calls, answer.calls)
    if not answer.unclosed:
        in_blocks = [(b.tool_call_id, b.tool_name, b.tool_kwargs) for b in blocks if isinstance(b, ToolCallBlock)]
        differences.check("tool call blocks", in_blocks, answer.calls)
    reasoning = [
        (
            block.content or None,
            block.additional_information.get("signature"),
            block.additional_information.get("redacted_content"),
        )
        for block in blocks
        if isinstance(block, ThinkingBlock)
    ]
    differences.check("reasoning", reasoning, answer.reasoning)
    cited = [cited_by(block, text_before(blocks, block)) for block in blocks if isinstance(block, CitationBlock)]
    expected = [as_llama_index_can(each) for each in answer.citations]
    differences.check("citations", as_far_as_known(cited, expected), expected)
    counts, tokens = response.additional_kwargs, answer.tokens
    names = ("prompt_tokens", "completion_tokens", "total_tokens", "cache_read_input_tokens")
    differences.check(
        "usage",
        [counts.get(name) for name in (*names, "cache_creation_input_tokens")],
        [tokens.prompt, tokens.output, tokens.total, tokens.cache_read, tokens.cache_write],
    )
    differences.check("stop reason", response.raw.get("stopReason"), answer.stop_reason)
    kept = ChatMessage.model_validate_json(response.message.model_dump_json())
    differences.check("kept as JSON", kept.model_dump(), response.message.model_dump())
    differences.check("routing", counts["routing"]["usage"]["input"], tokens.input)


def text_before(blocks, citation):
    """Return the text that a citation block belongs to: that of the text block before it."""
    text = ""
    for block in blocks:
        if block is citation:
            return text
        if isinstance(block, TextBlock):
            text = block.text
    raise AssertionError("not in the blocks")


def selections_of(llm, response, answer):
    try:
        return llm.get_tool_calls_from_response(response, error_on_no_tool_call=False)
    except ValueError:
        if answer.unclosed:  # an error is right for a call that max_tokens cut
            return []
        raise


QUESTION = [ChatMessage(role="user", content="go on")]


def test_bedrock_router_chat_gives_the_recorded_answer(recorded):
    with Differences() as differences:
        for recording in whole():
            with differences.of(recording):
                recorded.play(recording)
                llm = llama_of(recorded, recording)
                response = llm.chat(QUESTION)
                if not recording.is_doubtful:
                    check_response(differences, llm, response, recording)


def check_chunks(differences, llm, chunks, recording):
    check_response(differences, llm, chunks[-1], recording)
    text = "".join(chunk.delta or "" for chunk in chunks)
    differences.check("text of the deltas", text, recorded_answer(recording).text)


def test_bedrock_router_stream_chat_gives_the_recorded_answer(recorded):
    with Differences() as differences:
        for recording in streamed():
            with differences.of(recording):
                recorded.play(recording)
                llm = llama_of(recorded, recording)
                check_chunks(differences, llm, list(llm.stream_chat(QUESTION)), recording)


async def test_bedrock_router_gives_recorded_answers_asynchronously(recorded):
    with Differences() as differences:
        for recording in one_of_each_kind(streamed()):
            with differences.of(recording):
                recorded.play(recording)
                llm = llama_of(recorded, recording)
                check_response(differences, llm, await llm.achat(QUESTION), recording)
                chunks = [chunk async for chunk in await llm.astream_chat(QUESTION)]
                check_chunks(differences, llm, chunks, recording)


# --- errors ---


def check_refusal(differences, recording, call):
    code, message = recorded_refusal(recording)
    try:
        call()
    except InvalidTargetError as error:
        # Refused before sending: an id without a provider, which Bedrock refused too.
        differences.check("refused before sending", "." in recording.model_id and str(error), False)
    except ClientError as error:
        got = error.response["Error"]
        differences.check("code", got["Code"], code)
        # Advice may follow what Bedrock said.
        differences.check("message", got["Message"][: len(message)], message)
        too_long = "Input Tokens Exceeded" in message
        differences.check("context overflow", isinstance(error, ContextOverflowError), too_long)
    else:
        differences.add("error", "no exception", f"{code}: {message}")


WAYS = {
    "RoutedClient": lambda recorded, recording: client_of(recorded).converse(**recorded_request(recording)),
    "RoutedClient stream": lambda recorded, recording: list(
        client_of(recorded).converse_stream(**recorded_request(recording))["stream"]
    ),
    "ChatBedrockRouter": lambda recorded, recording: chat_of(recorded, recording).invoke([HumanMessage("go on")]),
    "ChatBedrockRouter stream": lambda recorded, recording: list(chat_of(recorded, recording).stream("go on")),
    "BedrockRouter": lambda recorded, recording: llama_of(recorded, recording).chat(QUESTION),
    "BedrockRouter stream": lambda recorded, recording: list(llama_of(recorded, recording).stream_chat(QUESTION)),
}


@pytest.mark.parametrize("way", WAYS)
def test_recorded_errors_come_out_with_code_and_message(recorded, way):
    with Differences() as differences:
        for recording in refusals("ConverseStream" if "stream" in way else "Converse"):
            with differences.of(recording):
                recorded.play(recording)
                check_refusal(differences, recording, functools.partial(WAYS[way], recorded, recording))
