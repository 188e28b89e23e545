"""The arguments of `BedrockRouter` and of one call → a Converse request."""

from __future__ import annotations

import difflib
import enum
import json
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ToolCallBlock
from llama_index.core.llms.llm import ToolSelection

from bedrock_routing_integrations.caching import place_points
from bedrock_routing_integrations.errors import InvalidRequestError, ToolCallError
from bedrock_routing_integrations.requests import object_schema
from bedrock_routing_integrations.requests.preparation import without_neutral
from bedrock_routing_integrations.requests.tool_choice import converse_tool_choice, is_thinking, settle_tool_choice
from bedrock_routing_integrations.stop_reasons import CUT_OFF
from bedrock_routing_integrations.targets import TargetKind

from .messages import to_converse

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from llama_index.core.base.llms.types import ChatMessage, ChatResponse
    from llama_index.core.tools.types import BaseTool, ToolMetadata

    from bedrock_routing_integrations.models.candidates import ResolvedTarget


# --- LlamaIndex's tools → ``toolConfig``, and the tool calls in a response. ---

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


class Internal(str, enum.Enum):
    """The value of arguments that one method of `BedrockRouter` hands to another: users' arguments have other values.

    It is a string, so that events with a call's arguments can be written as JSON.
    """

    YES = "yes"


ONE_TOOL_CALL = "one_tool_call"
"""Says, between `chat_with_tools` and the call, that of several tool calls in the answer the first is wanted."""
STRUCTURED = "structured"
"""Says, between LlamaIndex's programs and the call, that an object of the only tool's class is wanted."""
_INTERNAL = (ONE_TOOL_CALL, STRUCTURED)
# Our argument → where Converse has it. These may be given to the constructor and to a call.
_INFERENCE = {
    "max_tokens": "maxTokens",
    "temperature": "temperature",
    "top_p": "topP",
    "stop_sequences": "stopSequences",
}
_GUARDRAIL = {
    "guardrail_identifier": "guardrailIdentifier", "guardrail_version": "guardrailVersion", "trace": "trace",
    "guardrail_stream_processing_mode": "streamProcessingMode",
}  # fmt: skip
_STOP = {**_INFERENCE, "stop": "stopSequences"}
_WHOLE = {
    "performance_config": "performanceConfig",
    "project_identifier": "projectIdentifier",
    "request_metadata": "requestMetadata",
    "additional_model_response_field_paths": "additionalModelResponseFieldPaths",
}
_OTHERS = (
    "additional_model_request_fields", "prompt_variables", "service_tier", "supports_forced_tool_calls",
    "system_prompt_caching", "thinking", "tool_caching",
)  # fmt: skip
OPTIONS = (*_INFERENCE, *_GUARDRAIL, *_WHOLE, *_OTHERS)
"""What both the constructor and a call take."""
_CACHING = {"system": "system_prompt_caching", "tools": "tool_caching"}
_PER_CALL = ("stop", "tool_choice", "tool_required", "tools")
_MEMBERS = (
    "additionalModelRequestFields", "additionalModelResponseFieldPaths", "guardrailConfig", "inferenceConfig",
    "outputConfig", "performanceConfig", "projectIdentifier", "promptVariables", "requestMetadata", "serviceTier",
    "system", "toolConfig",
)  # fmt: skip
"""Members of Converse's request that may be given by AWS's own names (botocore's service model, 1.44)."""
_OF_SOME_MODELS = ("frequency_penalty", "presence_penalty", "reasoning_effort", "seed", "top_k")
_KNOWN = (*OPTIONS, *_PER_CALL, *_MEMBERS)
_MERGED = ("additionalModelRequestFields", "guardrailConfig", "inferenceConfig")
"""Those of them that several layers fill together; of the others the last one wins."""


def build_request(
    messages: Sequence[ChatMessage],
    layers: Sequence[Mapping[str, Any]],
    resolved: ResolvedTarget,
    *,
    local_files: bool = True,
) -> dict[str, Any]:
    """Return the request.

    Args:
        messages: LlamaIndex's messages.
        layers: The constructor's `OPTIONS`, its `additional_kwargs`, the call's arguments: a later one wins, by
            whichever name it says something. None means unset.
        resolved: The target.
        local_files: Whether the files that blocks name by `path` may be read.

    Raises:
        InvalidRequestError: Something that Bedrock, or this target, cannot take.
    """
    said = {name: value for layer in layers for name, value in layer.items()}
    request: dict[str, Any] = {"modelId": resolved.target.model_id, **_layered(layers)}
    _check_guardrail(request.get("guardrailConfig"))
    config = _tools(said, resolved, request)
    converse, system = to_converse(messages, tools=bool(config), local_files=local_files)
    system = [*request.pop("system", ()), *system]
    request.update({name: value for name, value in (("system", system), ("toolConfig", config)) if value})
    if converse:
        request["messages"] = converse
    _check(request, resolved)
    wanted = [field for field, option in _CACHING.items() if said.get(option)]
    return place_points(request, resolved, wanted)


def wants_output_format(request: Mapping[str, Any], call: Mapping[str, Any], resolved: ResolvedTarget) -> bool:
    """Return whether to ask for the wanted object as JSON text: no call of its tool is forced, and all models can."""
    config = request.get("toolConfig") or {}
    if not call.get(STRUCTURED) or len(config.get("tools") or ()) != 1 or "outputConfig" in request:
        return False
    return bool(resolved.facts.text_format) and not {"any", "tool"} & (config.get("toolChoice") or {}).keys()


def _layered(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The members of the request that the layers say, by AWS's names."""
    merged: dict[str, Any] = {}
    for layer in filter(None, layers):
        for name, value in _members(layer).items():
            if name in _MERGED and isinstance(value, dict):
                merged[name] = {**merged.get(name, {}), **value}
            else:
                merged[name] = value
    for name in _MERGED:
        merged[name] = {inner: value for inner, value in (merged.get(name) or {}).items() if value is not None}
    return {name: value for name, value in merged.items() if value}


def _members(layer: Mapping[str, Any]) -> dict[str, Any]:
    thinking = {"thinking": layer["thinking"]} if "thinking" in layer else {}
    members: dict[str, Any] = {
        # Libraries pass stop=None to every LLM; only stop_sequences=None takes back what the constructor says.
        "inferenceConfig": _renamed(layer, _STOP if layer.get("stop") else _INFERENCE),
        "guardrailConfig": _renamed(layer, _GUARDRAIL),
        "additionalModelRequestFields": {**thinking, **(layer.get("additional_model_request_fields") or {})},
        **_renamed(layer, _WHOLE),
    }
    if "service_tier" in layer:
        members["serviceTier"] = _service_tier(layer["service_tier"])
    if layer.get("tools") is not None:
        given = layer["tools"]
        members["toolConfig"] = dict(given) if isinstance(given, dict) else tool_config(given)
    if "prompt_variables" in layer:
        members["promptVariables"] = _prompt_variables(layer["prompt_variables"])
    if layer.get("additional_model_request_fields", members) is None and not thinking:
        members["additionalModelRequestFields"] = None  # unset
    stop = members["inferenceConfig"].get("stopSequences")
    if isinstance(stop, str):
        members["inferenceConfig"]["stopSequences"] = [stop]
    for name in _MEMBERS:
        if name in layer:
            inner = members.get(name) if name in _MERGED else None
            members[name] = {**inner, **layer[name]} if inner and layer[name] else layer[name]
    return members


def check_options(call: Mapping[str, Any], *, stream: bool = False, constructor: Container[str] = ()) -> None:
    """Refuse arguments of a call that are not known, unless their value asks for nothing (``n=1``, ``user=None``).

    Args:
        call: The arguments.
        stream: Whether the answer is streamed; then ``stream=True`` asks for nothing more.
        constructor: Names that the constructor takes.

    Raises:
        InvalidRequestError: One is unknown; the message names the nearest that is known.
    """
    call = {name: value for name, value in call.items() if name not in _INTERNAL or value is not Internal.YES}
    asking = without_neutral(call, _KNOWN)
    if stream and asking.get("stream") is True:
        del asking["stream"]
    for name in asking:
        if name in constructor and name not in _KNOWN:
            raise InvalidRequestError(
                f"{name!r} is no argument of a call; it is set where the LLM is made: BedrockRouter(model=…, {name}=…)."
            )
    refuse_unknown(asking, _KNOWN, "a call takes")


def refuse_unknown(given: Mapping[str, Any], known: Sequence[str], who: str) -> None:
    """Raise for the first name that is not known.

    Raises:
        InvalidRequestError: As said.
    """
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
            meant = f"did you mean {near[0]!r}?" if near else f"{who} {', '.join(sorted(known))}."
            if name in _OF_SOME_MODELS:
                meant = f"what only some models take goes into additional_model_request_fields={{{name!r}: …}}."
            raise InvalidRequestError(f"BedrockRouter knows no argument {name!r}; {meant}")


def _renamed(said: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {theirs: said[ours] for ours, theirs in names.items() if ours in said}


def _check_guardrail(guardrail: Mapping[str, Any] | None) -> None:
    if guardrail and not (guardrail.get("guardrailIdentifier") and guardrail.get("guardrailVersion")):
        raise InvalidRequestError(
            "A guardrail needs both guardrail_identifier and guardrail_version (a number, or 'DRAFT'); with one of "
            f"them it would not be applied. Given: {', '.join(guardrail)}."
        )


def _service_tier(tier: str | Mapping[str, Any] | None) -> dict[str, Any]:
    return {"type": tier} if isinstance(tier, str) else dict(tier or {})


def _prompt_variables(variables: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: v if isinstance(v, dict) else {"text": str(v)} for name, v in (variables or {}).items()}


def _tools(said: Mapping[str, Any], resolved: ResolvedTarget, request: dict[str, Any]) -> dict[str, Any] | None:
    config = request.pop("toolConfig", None)
    if not config:
        return None
    required = bool(said.get("tool_required") or said.get(STRUCTURED))
    if not said.get("tool_choice") and not required:
        return dict(config)
    thinking = is_thinking(request.get("additionalModelRequestFields"))
    forced = said.get("supports_forced_tool_calls")
    supported = resolved.facts.tool_choice if forced is None else ("auto", "any", "tool") if forced else ("auto",)
    return with_choice(config, said.get("tool_choice"), supported, resolved, required=required, thinking=thinking)


# What a managed prompt says itself (API reference, Converse: modelId).
_REFUSED_BY_PROMPTS = ("additionalModelRequestFields", "inferenceConfig", "system", "toolConfig")


def _check(request: Mapping[str, Any], resolved: ResolvedTarget) -> None:
    is_prompt = resolved.target.kind is TargetKind.PROMPT
    refused = [name for name in _REFUSED_BY_PROMPTS if name in request] if is_prompt else []
    if refused:
        raise InvalidRequestError(
            f"{resolved.target} is a managed prompt, which sets {', '.join(refused)} itself: leave out the arguments "
            "(temperature, max_tokens, tools, thinking …) and the system messages, and pass prompt_variables={…}."
        )
    if "promptVariables" in request and not is_prompt:
        raise InvalidRequestError(f"prompt_variables are for managed prompts, and {resolved.target} is none.")
    if "messages" not in request and not is_prompt:
        raise InvalidRequestError("There is nothing to send: no message of a user or the assistant with content.")
