"""LlamaIndex's tools → ``toolConfig``, and the tool calls in a response."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ToolCallBlock
from llama_index.core.llms.llm import ToolSelection

from bedrock_routing_integrations.errors import InvalidRequestError, ToolCallError
from bedrock_routing_integrations.requests import object_schema
from bedrock_routing_integrations.stop_reasons import CUT_OFF
from bedrock_routing_integrations.tool_choice import converse_tool_choice, settle_tool_choice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llama_index.core.base.llms.types import ChatResponse
    from llama_index.core.tools.types import BaseTool, ToolMetadata

    from bedrock_routing_integrations.resolution import ResolvedTarget

_NO_CALL = (
    "Ask for the call in the prompt, or use a model that can be forced to call a tool; where an object is wanted, say "
    "in the prompt that the answer is to be JSON."
)
_BROKEN = "Ask again, or use a model that writes JSON more reliably."


def tool_config(tools: Sequence[BaseTool]) -> dict[str, Any] | None:
    """Return Converse's ``toolConfig`` without a choice; None where there are no tools.

    Raises:
        InvalidRequestError: A tool that is no tool of LlamaIndex.
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
        spec: dict[str, Any] = {"name": tool.metadata.name or "", "inputSchema": {"json": _schema(tool.metadata)}}
        if tool.metadata.description.strip():
            spec["description"] = tool.metadata.description
        specs.append({"toolSpec": spec})
    return {"tools": specs} if specs else None


def _schema(metadata: ToolMetadata) -> dict[str, Any]:
    schema: dict[str, Any] = metadata.get_parameters_dict()
    if "properties" in schema or metadata.fn_schema is None:
        return schema
    # LlamaIndex keeps the members of a schema that objects have, and loses what else there is: of a list its items.
    return metadata.fn_schema.model_json_schema()


def wrapped_tools(config: Mapping[str, Any] | None) -> frozenset[str]:
    """Return the names of the tools whose arguments are no object: a list, a text, one of several."""
    specs = [tool["toolSpec"] for tool in (config or {}).get("tools") or () if "toolSpec" in tool]
    return frozenset(spec["name"] for spec in specs if object_schema((spec.get("inputSchema") or {}).get("json"))[1])


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
        choice: What the caller asked for, in any form that `converse_tool_choice` takes.
        supported: The kinds of choice that all models take.
        resolved: The target.
        required: LlamaIndex's wish that some tool be called. It gives way where it cannot be had.
        thinking: Whether the request asks the model to think.

    Raises:
        InvalidRequestError: The caller forces a tool, and not all models can be forced; or names none that is there.
    """
    if not choice and not required:
        return dict(config)
    names = [tool["toolSpec"]["name"] for tool in config["tools"] if "toolSpec" in tool]
    wanted = converse_tool_choice(choice, names) or {"any": {}}
    kind = next(iter(wanted))
    if kind == "none":  # Converse has no such choice: the client writes it so that the tools stay declared
        return {**config, "toolChoice": {"none": {}}}
    settled = settle_tool_choice(kind, choice, supported, resolved, preferred=not choice, thinking=thinking)
    if settled is None:
        return dict(config)
    return {**config, "toolChoice": wanted if settled == kind else {settled: {}}}


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
        raise ToolCallError(
            f"Expected a tool call, and the model called no tool (stop reason: {_stop_reason(response.raw)}). "
            f"{_advice(response.raw) or _NO_CALL}"
        )
    return found


def _arguments(block: ToolCallBlock, response: ChatResponse) -> dict[str, Any]:
    arguments: Any = block.tool_kwargs
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError:
            arguments = None
    # `read_response` leaves the arguments of half a call as text.
    is_cut = isinstance(block.tool_kwargs, str) and is_cut_off(response.raw) and _is_last(block, response.raw)
    if isinstance(arguments, dict) and not is_cut:
        return arguments
    what = "were cut off" if is_cut else "are no JSON object"
    raise ToolCallError(
        f"The arguments of the model's call of {block.tool_name!r} {what} (stop reason: "
        f"{_stop_reason(response.raw)}). {_advice(response.raw) or _BROKEN} What the model wrote is in the "
        "ToolCallBlock's tool_kwargs."
    )


def is_cut_off(raw: Any) -> bool:
    """Return whether an answer may end in the middle of what the model was writing. `raw` is that of its response."""
    return _stop_reason(raw) in CUT_OFF


def _stop_reason(raw: Any) -> str | None:
    return raw.get("stopReason") if isinstance(raw, dict) else None


def _advice(raw: Any) -> str | None:
    return CUT_OFF.get(_stop_reason(raw) or "")


def _is_last(block: ToolCallBlock, raw: Any) -> bool:
    """Return whether the model was writing this call when its answer ended."""
    content = raw["output"]["message"]["content"]
    return bool(content) and content[-1].get("toolUse", {}).get("toolUseId") == block.tool_call_id
