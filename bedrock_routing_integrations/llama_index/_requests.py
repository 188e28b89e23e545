"""Turn the arguments of `BedrockRouter` and of one call into a Converse request."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.caching import place_points
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.requests import object_schema
from bedrock_routing_integrations.requests.preparation import without_neutral
from bedrock_routing_integrations.requests.tools import converse_tool_choice, is_thinking, settle_tool_choice
from bedrock_routing_integrations.targets import TargetKind

from ._structured_output import output_format
from .messages import to_converse

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from llama_index.core.base.llms.types import ChatMessage
    from llama_index.core.tools.types import BaseTool, ToolMetadata

    from bedrock_routing_integrations.models.candidates import ResolvedTarget


# --- Arguments ---

# Our argument → the member of Converse's request. The constructor and a call take these.
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
_INFERENCE_AND_STOP = {**_INFERENCE, "stop": "stopSequences"}
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
"""Arguments of both the constructor and a call."""
_CACHING = {"system": "system_prompt_caching", "tools": "tool_caching"}
_PER_CALL = ("allow_json_text", "allow_parallel_tool_calls", "stop", "tool_choice", "tool_required", "tools")
_MEMBERS = (
    "additionalModelRequestFields", "additionalModelResponseFieldPaths", "guardrailConfig", "inferenceConfig",
    "outputConfig", "performanceConfig", "projectIdentifier", "promptVariables", "requestMetadata", "serviceTier",
    "system", "toolConfig",
)  # fmt: skip
"""Members of Converse's request that a call takes by AWS's own names (botocore's service model, 1.44)."""
_MODEL_SPECIFIC = ("frequency_penalty", "presence_penalty", "reasoning_effort", "seed", "top_k")
_KNOWN = (*OPTIONS, *_PER_CALL, *_MEMBERS)
_MERGED = ("additionalModelRequestFields", "guardrailConfig", "inferenceConfig")
"""Members that several layers fill together. Of every other member the last layer wins."""


def check_options(call: Mapping[str, Any], *, stream: bool = False, constructor: Container[str] = ()) -> None:
    """Refuse unknown arguments of a call, except values that ask for nothing (``n=1``, ``user=None``).

    Args:
        call: The arguments.
        stream: Whether the answer is streamed, so that ``stream=True`` asks for nothing more.
        constructor: Names of the constructor's arguments.

    Raises:
        InvalidRequestError: An argument is unknown. The message names the nearest known one.
    """
    unknown = without_neutral(call, _KNOWN)
    if stream and unknown.get("stream") is True:
        del unknown["stream"]
    for name in unknown:
        if name in constructor and name not in _KNOWN:
            raise InvalidRequestError(
                f"{name!r} is not an argument of a call. Set it where the LLM is made: "
                f"BedrockRouter(model=…, {name}=…)."
            )
    refuse_unknown(unknown, _KNOWN, "a call takes")


def refuse_unknown(arguments: Mapping[str, Any], known: Sequence[str], lead_in: str) -> None:
    """Raise for the first unknown argument.

    Args:
        arguments: Argument → value.
        known: The names that are known.
        lead_in: What comes before the list of known names, if none of them is near: ``"a call takes"``.

    Raises:
        InvalidRequestError: An argument is unknown.
    """
    for name in arguments:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
            advice = f"did you mean {near[0]!r}?" if near else f"{lead_in} {', '.join(sorted(known))}."
            if name in _MODEL_SPECIFIC:
                advice = (
                    f"a field that only some models have goes into additional_model_request_fields={{{name!r}: …}}."
                )
            raise InvalidRequestError(f"BedrockRouter has no argument {name!r}; {advice}")


# --- Requests ---


@dataclass(frozen=True, kw_only=True)
class PreparedCall:
    """A Converse request, and how to read its answer.

    Attributes:
        request: The arguments of ``converse``.
        optional_output_format: Whether ``outputConfig`` is ours, and may be left out where Bedrock refuses it.
        first_call_only: Whether to leave out all tool calls of the answer but the first.
        wrapped: Names of the tools whose arguments are not an object.
    """

    request: dict[str, Any]
    optional_output_format: bool
    first_call_only: bool
    wrapped: frozenset[str]


def prepare_call(
    messages: Sequence[ChatMessage],
    layers: Sequence[Mapping[str, Any]],
    resolved: ResolvedTarget,
    *,
    local_files: bool = True,
) -> PreparedCall:
    """Return the request of a call, and how to read its answer.

    Args:
        messages: LlamaIndex's messages.
        layers: The constructor's `OPTIONS`, its `additional_kwargs`, and the call's arguments. A later layer wins,
            whether it uses our name or AWS's. None means unset.
        resolved: The target.
        local_files: Whether the files that blocks name by `path` may be read.

    Raises:
        InvalidRequestError: An argument that Bedrock, or this target, cannot take.
    """
    options = {name: value for layer in layers for name, value in layer.items()}
    request: dict[str, Any] = {"modelId": resolved.target.model_id, **_members_of_layers(layers)}
    _check_guardrail(request.get("guardrailConfig"))
    config = _tools(options, resolved, request)
    converse, system = to_converse(messages, tools=bool(config), local_files=local_files)
    system = [*request.pop("system", ()), *system]
    request.update({name: value for name, value in (("system", system), ("toolConfig", config)) if value})
    if converse:
        request["messages"] = converse
    _check_request(request, resolved)
    request = place_points(request, resolved, [section for section, option in _CACHING.items() if options.get(option)])
    wants_json = bool(options.get("allow_json_text")) and _may_ask_for_json(request, resolved)
    if wants_json:
        request["outputConfig"] = output_format(request["toolConfig"])
    return PreparedCall(
        request=request,
        optional_output_format=wants_json,
        first_call_only=options.get("allow_parallel_tool_calls") is False,
        wrapped=_wrapped_tools(request.get("toolConfig")),
    )


def _may_ask_for_json(request: Mapping[str, Any], resolved: ResolvedTarget) -> bool:
    """Return whether a call of the only tool is not forced, and all models take an output format."""
    config = request.get("toolConfig") or {}
    if len(config.get("tools") or ()) != 1 or "outputConfig" in request:
        return False
    return bool(resolved.facts.text_format) and not {"any", "tool"} & (config.get("toolChoice") or {}).keys()


def _members_of_layers(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the request's members that the layers set, by AWS's names."""
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
        # Libraries pass stop=None to every LLM. Only stop_sequences=None unsets the constructor's stop_sequences.
        "inferenceConfig": _renamed(layer, _INFERENCE_AND_STOP if layer.get("stop") else _INFERENCE),
        "guardrailConfig": _renamed(layer, _GUARDRAIL),
        "additionalModelRequestFields": {**thinking, **(layer.get("additional_model_request_fields") or {})},
        **_renamed(layer, _WHOLE),
    }
    if "service_tier" in layer:
        members["serviceTier"] = _service_tier(layer["service_tier"])
    if layer.get("tools") is not None:
        tools = layer["tools"]
        members["toolConfig"] = dict(tools) if isinstance(tools, dict) else tool_config(tools)
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


def _renamed(layer: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {converse_name: layer[name] for name, converse_name in names.items() if name in layer}


def _check_guardrail(guardrail: Mapping[str, Any] | None) -> None:
    if guardrail and not (guardrail.get("guardrailIdentifier") and guardrail.get("guardrailVersion")):
        raise InvalidRequestError(
            "A guardrail needs both guardrail_identifier and guardrail_version: Bedrock would not apply it with only "
            f"{', '.join(guardrail)}. Pass both; the version is a number, or 'DRAFT'."
        )


def _service_tier(tier: str | Mapping[str, Any] | None) -> dict[str, Any]:
    return {"type": tier} if isinstance(tier, str) else dict(tier or {})


def _prompt_variables(variables: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: v if isinstance(v, dict) else {"text": str(v)} for name, v in (variables or {}).items()}


# Members that a managed prompt sets itself (API reference, Converse: modelId).
_REFUSED_BY_PROMPTS = ("additionalModelRequestFields", "inferenceConfig", "system", "toolConfig")


def _check_request(request: Mapping[str, Any], resolved: ResolvedTarget) -> None:
    is_prompt = resolved.target.kind is TargetKind.PROMPT
    refused = [name for name in _REFUSED_BY_PROMPTS if name in request] if is_prompt else []
    if refused:
        raise InvalidRequestError(
            f"{resolved.target} is a managed prompt, which sets {', '.join(refused)} itself. Leave out the arguments "
            "(temperature, max_tokens, tools, thinking …) and the system messages, and pass prompt_variables={…}."
        )
    if "promptVariables" in request and not is_prompt:
        raise InvalidRequestError(
            f"prompt_variables are for managed prompts, and {resolved.target} is not one. Leave them out."
        )
    if "messages" not in request and not is_prompt:
        raise InvalidRequestError(
            "messages has nothing to send: no message of a user or the assistant with content. Add one."
        )


# --- Tools ---


def tool_config(tools: Sequence[BaseTool]) -> dict[str, Any] | None:
    """Return Converse's ``toolConfig`` without a choice; None if there are no tools.

    Raises:
        InvalidRequestError: An element of `tools` is not a tool of LlamaIndex.
    """
    specs: list[dict[str, Any]] = []
    for tool in tools:
        if isinstance(tool, dict):  # Converse's form already
            specs.append(tool)
            continue
        if not hasattr(tool, "metadata"):
            raise InvalidRequestError(
                f"tools has a {type(tool).__name__}, {getattr(tool, '__name__', '')!r}, which is not a tool. Make a "
                "tool of a function by FunctionTool.from_defaults(function)."
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
    # LlamaIndex keeps only the schema members that objects have, and drops others, such as a list's items.
    return metadata.fn_schema.model_json_schema()


def _wrapped_tools(config: Mapping[str, Any] | None) -> frozenset[str]:
    """Return the names of the tools whose arguments are not an object but a list, a text, or a union."""
    specs = [tool["toolSpec"] for tool in (config or {}).get("tools") or () if "toolSpec" in tool]
    return frozenset(spec["name"] for spec in specs if object_schema((spec.get("inputSchema") or {}).get("json"))[1])


def _tools(options: Mapping[str, Any], resolved: ResolvedTarget, request: dict[str, Any]) -> dict[str, Any] | None:
    """Take ``toolConfig`` out of a request, and return it with a choice that every model of the target takes.

    The caller's `tool_choice` is sent or refused. LlamaIndex's `tool_required` is dropped if the models cannot be
    forced.

    Raises:
        InvalidRequestError: `tool_choice` forces a tool and not all models can be forced, or names an unknown tool.
    """
    config = request.pop("toolConfig", None)
    if not config:
        return None
    choice = options.get("tool_choice")
    if not choice and not options.get("tool_required"):
        return dict(config)
    names = [tool["toolSpec"]["name"] for tool in config["tools"] if "toolSpec" in tool]
    converse_choice = converse_tool_choice(choice, names) or {"any": {}}
    kind = next(iter(converse_choice))
    if kind == "none":  # Converse has no such choice. The client rewrites it so that the tools stay declared.
        return {**config, "toolChoice": {"none": {}}}
    forced = options.get("supports_forced_tool_calls")
    supported = resolved.facts.tool_choice if forced is None else ("auto", "any", "tool") if forced else ("auto",)
    thinking = is_thinking(request.get("additionalModelRequestFields"))
    settled = settle_tool_choice(kind, choice, supported, resolved, preferred=not choice, thinking=thinking)
    if settled is None:
        return dict(config)
    return {**config, "toolChoice": converse_choice if settled == kind else {settled: {}}}
