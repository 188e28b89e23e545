"""LlamaIndex's tools → ``toolConfig``, and the tool calls in a response."""

from __future__ import annotations

import json
import re
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ToolCallBlock
from llama_index.core.llms.llm import ToolSelection

from bedrock_routing_integrations.errors import InvalidRequestError, ToolCallError
from bedrock_routing_integrations.tool_choice import settle_tool_choice

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from llama_index.core.base.llms.types import ChatResponse
    from llama_index.core.tools.types import BaseTool

    from bedrock_routing_integrations.resolution import ResolvedTarget

# Of StopReason in botocore's service model (1.43): the answer ends because there was no room for more.
_USED_UP = ("max_tokens", "model_context_window_exceeded")
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")  # ToolName of botocore's service model (1.43)


def tool_config(tools: Sequence[BaseTool]) -> dict[str, Any] | None:
    """Converse's ``toolConfig`` without a choice; None where there are no tools.

    Raises:
        InvalidRequestError: A name that Bedrock does not take.
    """
    specs: list[dict[str, Any]] = []
    for tool in tools:
        if isinstance(tool, dict):  # as Converse has it
            specs.append(tool)
            continue
        if not hasattr(tool, "metadata"):
            raise InvalidRequestError(
                f"tools has a {type(tool).__name__}, {getattr(tool, '__name__', '')!r}; a function becomes a tool by "
                "FunctionTool.from_defaults(function)."
            )
        name = tool.metadata.name or ""
        if not _TOOL_NAME.fullmatch(name):
            raise InvalidRequestError(f"the tool name {name!r} must be 1 to 64 letters, digits, '_' or '-'")
        spec: dict[str, Any] = {"name": name, "inputSchema": {"json": tool.metadata.get_parameters_dict()}}
        if tool.metadata.description.strip():
            spec["description"] = tool.metadata.description
        specs.append({"toolSpec": spec})
    return {"tools": specs} if specs else None


def with_choice(
    config: Mapping[str, Any],
    choice: str | Mapping[str, Any] | None,
    supported: Sequence[str],
    resolved: ResolvedTarget,
    *,
    required: bool,
    thinking: bool,
) -> dict[str, Any]:
    """The ``toolConfig`` with a choice that every model of the target takes.

    Args:
        config: ``toolConfig``; not changed.
        choice: What the caller asked for: ``"auto"``, ``"any"`` (or ``"required"``), ``"none"``, a tool's name, or
            Converse's form.
        supported: The kinds of choice that all models take.
        resolved: The target.
        required: LlamaIndex's wish that some tool be called. It gives way where it cannot be had.
        thinking: Whether the request asks the model to think.

    Raises:
        InvalidRequestError: The caller forces a tool, and not all models can be forced; or names none that is there.
    """
    if not choice and not required:
        return dict(config)
    wanted = _converse_choice(choice, config) if choice else {"any": {}}
    kind = next(iter(wanted))
    if kind == "none":  # Converse has no such choice: the client writes it so that the tools stay declared
        return {**config, "toolChoice": {"none": {}}}
    settled = settle_tool_choice(kind, choice, supported, resolved, preferred=not choice, thinking=thinking)
    if settled is None:
        return dict(config)
    return {**config, "toolChoice": wanted if settled == kind else {settled: {}}}


def _converse_choice(choice: str | Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(choice, str):
        kind = {"auto": "auto", "any": "any", "required": "any", "none": "none"}.get(choice)
        wanted: dict[str, Any] = {kind: {}} if kind else {"tool": {"name": choice}}
    elif "function" in choice:  # OpenAI's form, which LlamaIndex's own code passes on
        wanted = {"tool": {"name": choice["function"].get("name")}}
    else:
        wanted = dict(choice)
    names = [tool["toolSpec"]["name"] for tool in config["tools"] if "toolSpec" in tool]
    known = set(wanted) in ({"auto"}, {"any"}, {"none"}, {"tool"})
    if not known or ("tool" in wanted and wanted["tool"].get("name") not in names):
        raise InvalidRequestError(
            f"tool_choice={choice!r} is none of 'auto', 'any', 'none', or the name of a tool ({', '.join(names)})"
        )
    return wanted


def selections(response: ChatResponse, *, error_on_no_tool_call: bool) -> list[ToolSelection]:
    """The tool calls in a response.

    Raises:
        ToolCallError: There is none, and there had to be; or the arguments of one are no JSON object, or were cut off.
    """
    found = [
        ToolSelection(
            tool_id=block.tool_call_id or "", tool_name=block.tool_name, tool_kwargs=_arguments(block, response)
        )
        for block in response.message.blocks
        if isinstance(block, ToolCallBlock)
    ]
    if not found and error_on_no_tool_call:
        stopped = response.raw.get("stopReason") if isinstance(response.raw, dict) else None
        raise ToolCallError(
            f"Expected a tool call, and the model called no tool (stop reason: {stopped}). If it was cut off, raise "
            "max_tokens."
        )
    return found


def whole_calls(chunks: Iterator[ChatResponse]) -> Iterator[ChatResponse]:
    """The chunks of a stream that is to bring an object.

    Raises:
        ToolCallError: At the end, where it did not. LlamaIndex asks too, logs the error, and keeps the part that came.
    """
    last = None
    try:
        for last in chunks:
            yield last
    finally:
        if isinstance(chunks, Generator):
            chunks.close()
    if last is not None:
        selections(last, error_on_no_tool_call=True)


def _arguments(block: ToolCallBlock, response: ChatResponse) -> dict[str, Any]:
    arguments: Any = block.tool_kwargs
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError:
            arguments = None
    raw = response.raw if isinstance(response.raw, dict) else {}
    if isinstance(arguments, dict) and not _is_cut_off(block, raw):
        return arguments
    what = "were cut off" if isinstance(arguments, dict) else "are no JSON object"
    raise ToolCallError(
        f"The arguments of the model's call of {block.tool_name!r} {what} (stop reason: {raw.get('stopReason')}). "
        "If it was cut off, raise max_tokens. What the model wrote is in the ToolCallBlock's tool_kwargs."
    )


def _is_cut_off(block: ToolCallBlock, raw: Mapping[str, Any]) -> bool:
    """Whether the model was writing this call when its tokens were used up.

    The arguments can be an object all the same: none had come yet, or, where the answer is not streamed, Bedrock made
    one of what had come (which it does not document).
    """
    if raw.get("stopReason") not in _USED_UP:
        return False
    content = raw["output"]["message"]["content"]
    return bool(content) and content[-1].get("toolUse", {}).get("toolUseId") == block.tool_call_id
