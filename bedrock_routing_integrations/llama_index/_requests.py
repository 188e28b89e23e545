"""The arguments of `BedrockRouter` and of one call → a Converse request."""

from __future__ import annotations

import difflib
import enum
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.caching import place_points
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.requests.neutral_arguments import without_neutral
from bedrock_routing_integrations.targets import TargetKind
from bedrock_routing_integrations.tool_choice import is_thinking

from ._tools import tool_config, with_choice
from .messages import to_converse

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from llama_index.core.base.llms.types import ChatMessage

    from bedrock_routing_integrations.resolution import ResolvedTarget


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
