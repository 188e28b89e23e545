"""Answer a Converse request: validate, read, choose tool calls or text, and apply the request's limits."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.emulator.service.conversation_rules import ProgramRefusal, check

from .answers import CLEVER, answer_text, styled
from .reading import read
from .schema_values import Clues, fill, schema_problem
from .tokens import OutOfEffortError, block_tokens, bounded, input_tokens, limited
from .tools import react_text, tool_blocks, tool_result_text
from .words import key_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bedrock_routing_integrations.emulator.service.models import EmulatedModel

    from .reading import Reading

__all__ = ["Reply", "deltas", "reply"]

_PIECE = re.compile(r"\S{1,24}\s*|\s+")
_JSON_PIECE = 16  # characters of a tool's input in one delta
_SHORT_WORDS = ("the", "sky", "is", "far", "and", "the", "sea", "is", "low", "but", "we", "go", "on")
_THINKERS = re.compile(r"claude-3-7|claude-(?:sonnet|opus|haiku)-[4-9]")
_LEAST_THINKING_BUDGET = 1_024


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A model's answer.

    Attributes:
        content: The content blocks of Converse's `output.message`; empty when a stop sequence left nothing.
        stop_reason: Converse's `stopReason`.
        input_tokens: Tokens of the request, at least 1.
        output_tokens: Tokens of the content, at least 1.
    """

    content: tuple[dict[str, Any], ...]
    stop_reason: str
    input_tokens: int
    output_tokens: int


def reply(request: Mapping[str, Any], model: EmulatedModel) -> Reply:
    """Answer a Converse request, always the same request in the same way.

    Args:
        request: The parsed members, named as botocore names them (`messages`, `system`, `toolConfig` …), blobs as
            bytes. It is not changed.
        model: The model that answers.

    Raises:
        ProgramRefusal: Where Bedrock would answer `ValidationException`.
    """
    check(request, model)
    tokens_in = input_tokens(request)
    if tokens_in > model.context_window:
        raise ProgramRefusal("Input is too long for requested model.")
    thinking = _thinks(request, model)
    _check_tool_schemas(request)
    reading = read(request)
    _check_output_schema(reading)
    blocks, stop_reason = _within_effort(reading, model)
    if thinking and reading.chunks is None:
        blocks.insert(0, _reasoning(reading, model))
    limits = request.get("inferenceConfig") or {}
    most = limits.get("maxTokens") or (model.max_output_tokens if reading.chunks is None else None)
    blocks, stop_reason = limited(blocks, stop_reason, stops=limits.get("stopSequences") or (), most_tokens=most)
    tokens_out = max(1, sum(map(block_tokens, blocks)))
    return Reply(content=tuple(blocks), stop_reason=stop_reason, input_tokens=tokens_in, output_tokens=tokens_out)


def _check_tool_schemas(request: Mapping[str, Any]) -> None:
    """Every tool's schema is one, whichever tool will be called."""
    for tool in (request.get("toolConfig") or {}).get("tools", ()):
        spec = tool.get("toolSpec")
        problem = None if spec is None else schema_problem(spec["inputSchema"].get("json"))
        if problem is not None:
            raise ProgramRefusal(f"The inputSchema of the tool {spec['name']} is no valid JSON schema: {problem}.")


def _check_output_schema(reading: Reading) -> None:
    """The schema of a structured answer is one."""
    problem = None if reading.output_schema is None else schema_problem(reading.output_schema)
    if problem is not None:
        raise ProgramRefusal(f"The schema of outputConfig.textFormat is no valid JSON schema: {problem}.")


def _within_effort(reading: Reading, model: EmulatedModel) -> tuple[list[dict[str, Any]], str]:
    """The blocks of the answer and why it stops; none where a schema asks for more than an answer may hold."""
    try:
        with bounded():
            blocks = _content(reading, model)
    except OutOfEffortError:
        return [], "max_tokens"
    except RecursionError as error:
        raise ProgramRefusal("A schema of the request refers to itself, or is nested too deeply.") from error
    return blocks, "tool_use" if any("toolUse" in block for block in blocks) else "end_turn"


def _content(reading: Reading, model: EmulatedModel) -> list[dict[str, Any]]:
    """The blocks of the answer, before thinking and limits."""
    if reading.chunks is not None:
        return [{"text": _chunked(reading.chunks)}]

    def answer_from(known: Reading) -> str:
        return tool_result_text(known) if known.outcomes else answer_text(known, model)

    def answer() -> str:
        return answer_from(reading)

    step = react_text(reading, answer_from)
    if step is not None:
        return [{"text": step}]
    calls = tool_blocks(reading, answer)
    if calls:
        return [*_announcement(reading, model, calls), *calls]
    if reading.output_schema is not None:
        known = "\n".join([reading.question, *(outcome.text for outcome in reading.outcomes)])
        value = fill(reading.output_schema, Clues(known, answer=answer), generous=True)
        return [{"text": json.dumps(value, ensure_ascii=False)}]
    text = styled(answer(), reading)
    return [{"text": _continued(reading.prefill, text) if reading.prefill else text}]


def _announcement(reading: Reading, model: EmulatedModel, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The sentence with which larger models introduce a call that nobody forced."""
    if model.size < CLEVER or reading.choice != "auto":
        return []
    names = " and ".join(dict.fromkeys(call["toolUse"]["name"] for call in calls))
    return [{"text": f"I'll use {names} for that."}]


def _continued(prefill: str, text: str) -> str:
    """An answer that goes on where the prefilled text ends."""
    if text.startswith(prefill):
        return text[len(prefill) :] or text
    if prefill.rstrip().endswith("{"):
        return json.dumps({"answer": text}, ensure_ascii=False)[1:]
    return text if prefill[-1:].isspace() else f" {text}"


def _chunked(count: int) -> str:
    """A text of exactly `count` pieces (at least one)."""
    count = max(1, count)
    return " ".join((_SHORT_WORDS * (count // len(_SHORT_WORDS) + 1))[:count])


def _thinks(request: Mapping[str, Any], model: EmulatedModel) -> bool:
    """Return whether the answer begins with reasoning: requested in Claude's format, or always for this model."""
    wanted = (request.get("additionalModelRequestFields") or {}).get("thinking")
    if not isinstance(wanted, dict) or wanted.get("type") not in ("enabled", "adaptive"):
        return model.model_id.startswith(("deepseek.r1", "openai.gpt-oss"))
    if model.provider != "Anthropic":
        raise ProgramRefusal(
            "Malformed input request: #: extraneous key [thinking] is not permitted, "
            "please reformat your input and try again."
        )
    if not _THINKERS.search(model.model_id):
        raise ProgramRefusal("The model returned the following errors: thinking: Extra inputs are not permitted")
    budget = wanted.get("budget_tokens")
    if wanted["type"] == "enabled" and (not isinstance(budget, int) or budget < _LEAST_THINKING_BUDGET):
        raise ProgramRefusal(
            "The model returned the following errors: thinking.enabled.budget_tokens: "
            f"Input should be greater than or equal to {_LEAST_THINKING_BUDGET}"
        )
    most = (request.get("inferenceConfig") or {}).get("maxTokens")
    if most is not None and isinstance(budget, int) and most <= budget:
        raise ProgramRefusal(
            "The model returned the following errors: `max_tokens` must be greater than `thinking.budget_tokens`."
        )
    choice = ((request.get("toolConfig") or {}).get("toolChoice") or {}).keys()
    if choice & {"any", "tool"}:
        raise ProgramRefusal(
            "The model returned the following errors: Thinking may not be enabled when tool_choice forces tool use."
        )
    return True


def _reasoning(reading: Reading, model: EmulatedModel) -> dict[str, Any]:
    """A block of reasoning; Claude's carries a signature."""
    words = ", ".join(key_words(reading.question[:1_000])[:5]) or "very little"
    text = f"The user asks about {words}. I will answer from what I have been given, briefly."
    if model.provider != "Anthropic":
        return {"reasoningContent": {"reasoningText": {"text": text}}}
    digest = hashlib.sha512(f"{model.model_id}\n{text}".encode("utf-8", "replace")).digest()
    return {
        "reasoningContent": {"reasoningText": {"text": text, "signature": base64.b64encode(digest).decode("ascii")}}
    }


def deltas(block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The deltas in which one content block is streamed; joined, they are the block.

    A text comes word by word (a longer run of letters in pieces of 24), a tool's input as pieces of its
    JSON, reasoning word by word with the signature last.
    """
    if "text" in block:
        for piece in _PIECE.findall(block["text"]):
            yield {"text": piece}
    elif "toolUse" in block:
        text = json.dumps(block["toolUse"]["input"], ensure_ascii=False)
        for start in range(0, len(text), _JSON_PIECE):
            yield {"toolUse": {"input": text[start : start + _JSON_PIECE]}}
    elif "reasoningContent" in block:
        reasoning = block["reasoningContent"].get("reasoningText", {})
        for piece in _PIECE.findall(reasoning.get("text", "")):
            yield {"reasoningContent": {"text": piece}}
        if "signature" in reasoning:
            yield {"reasoningContent": {"signature": reasoning["signature"]}}
