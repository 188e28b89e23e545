"""Compare what `RoutedClient` and the frameworks' classes return with recorded answers."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace

from langchain_core.messages import messages_from_dict, messages_to_dict
from llama_index.core.base.llms.types import ChatMessage, CitationBlock, TextBlock, ThinkingBlock, ToolCallBlock
from recorded_bedrock import Citation, recorded_answer
from recorded_messages import LOCATIONS

# --- RoutedClient ---


def check_routing(differences, routing, answer):
    tokens = answer.tokens
    differences.check("routing usage", routing["usage"], {
        "input": tokens.input, "output": tokens.output, "cache_read": tokens.cache_read,
        "cache_write_5m": tokens.cache_write - tokens.cache_write_1h, "cache_write_1h": tokens.cache_write_1h,
    })  # fmt: skip
    differences.check("attempts", routing["attempts"], 1)


# --- ChatBedrockRouter ---


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


# --- BedrockRouter ---


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


def check_chunks(differences, llm, chunks, recording):
    check_response(differences, llm, chunks[-1], recording)
    text = "".join(chunk.delta or "" for chunk in chunks)
    differences.check("text of the deltas", text, recorded_answer(recording).text)
