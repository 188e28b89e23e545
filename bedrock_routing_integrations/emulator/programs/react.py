"""Agents in words: the format "Thought / Action / Action Input / Observation", with the tools in the system prompt."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import TYPE_CHECKING, Any

from .reading import Outcome, Reading, Tool
from .tools import tool_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["react_text"]

_TOOL = re.compile(
    r"^> Tool Name: (\S+)\nTool Description: (.*?)\nTool Args: (\{.*?\})$", re.MULTILINE | re.DOTALL | re.IGNORECASE
)
_ACTION = re.compile(r"Action: (\S+)\s*\nAction Input: (\{.*\})", re.DOTALL)
_OBSERVATION = "Observation:"


def react_text(reading: Reading, answer: Callable[[Reading], str]) -> str | None:
    """The next step: an action, or the answer; None where the system prompt does not ask for that format.

    Args:
        reading: The request.
        answer: How to answer in words, given the tools' results.
    """
    if "Action Input:" not in reading.system or reading.tools:
        return None
    tools = tuple(_tools(reading.system))
    if not tools:
        return None
    said = [*reading.said, reading.question]
    asked_at = max((index for index, text in enumerate(said) if not text.startswith(_OBSERVATION)), default=0)
    observed = [text.removeprefix(_OBSERVATION).strip() for text in said[asked_at + 1 :]]
    actions = [found for text in reading.answered if (found := _ACTION.search(text))]
    asked = dataclasses.replace(
        reading,
        question=said[asked_at],
        said=tuple(said[:asked_at]),
        tools=tools,
        outcomes=tuple(_outcomes(actions[len(actions) - len(observed) :], observed)),
    )
    calls = tool_blocks(asked, lambda: answer(asked))
    if not calls:
        return f"Thought: I can answer without using any more tools.\nAnswer: {answer(asked)}"
    call = calls[0]["toolUse"]
    arguments = json.dumps(call["input"], ensure_ascii=False)
    return f"Thought: I need to use {call['name']}.\nAction: {call['name']}\nAction Input: {arguments}"


def _tools(system: str) -> Iterator[Tool]:
    for name, description, schema in _TOOL.findall(system):
        yield Tool(name=name, description=description, schema=_object(schema))


def _outcomes(actions: list[re.Match[str]], observed: list[str]) -> Iterator[Outcome]:
    for action, text in zip(actions, observed, strict=False):
        yield Outcome(name=action[1], arguments=_object(action[2]), text=text, failed=text.startswith("Error"))


def _object(text: str) -> dict[str, Any]:
    """The JSON object in a text; an empty one where it holds none."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
