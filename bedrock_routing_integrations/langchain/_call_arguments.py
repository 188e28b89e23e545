"""Check the arguments of a call, and of a constructor, and prepare them for langchain-aws.

langchain-aws raises a ``TypeError`` about a function of its own for an argument of a call that it does not know, and
puts one of a constructor into the fields that the model is sent. Both are refused here by name.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.requests.neutral_arguments import NEUTRAL_VALUES, asks_for_nothing, without_neutral
from bedrock_routing_integrations.tool_choice import converse_tool_choice

from ._opaque import opaque
from ._tools import tool_specs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic import BaseModel

# Arguments of a call → the name by which langchain-aws takes them: its own and Converse's are taken.
NAMES = {
    "stop": "stop", "stop_sequences": "stop_sequences", "max_tokens": "max_tokens", "temperature": "temperature",
    "top_p": "top_p", "tools": "tools", "tool_choice": "tool_choice", "inference_config": "inference_config",
    "tool_config": "toolConfig", "additional_model_request_fields": "additional_model_request_fields",
    "additional_model_response_field_paths": "additional_model_response_field_paths",
    "guardrail_config": "guardrail_config", "performance_config": "performance_config", "service_tier": "service_tier",
    "request_metadata": "request_metadata", "output_config": "output_config", "response_format": "response_format",
    "reasoning_effort": "reasoning_effort", "cache_control": "cache_control", "stream": "stream",
    "disable_streaming": "disable_streaming", "project_identifier": "project_identifier",
    "guardrails": "guardrail_config",
    "stopSequences": "stop_sequences", "maxTokens": "max_tokens", "topP": "top_p", "toolChoice": "tool_choice",
    "inferenceConfig": "inference_config", "toolConfig": "toolConfig",
    "additionalModelRequestFields": "additional_model_request_fields",
    "additionalModelResponseFieldPaths": "additional_model_response_field_paths",
    "guardrailConfig": "guardrail_config", "performanceConfig": "performance_config", "serviceTier": "service_tier",
    "requestMetadata": "request_metadata", "outputConfig": "output_config", "projectIdentifier": "project_identifier",
}  # fmt: skip


def checked_call(call: Mapping[str, Any], ours: Iterable[str]) -> dict[str, Any]:
    """Return the arguments of a call by the names of langchain-aws, without those that ask for nothing.

    Args:
        call: The arguments.
        ours: Names that are handed from one part of this package to another.

    Raises:
        InvalidRequestError: An argument that a call does not take.
    """
    checked: dict[str, Any] = {}
    for name, value in call.items():
        if name in ours:
            checked[name] = value
        elif value is None:
            continue
        elif name in NAMES:
            if name not in NEUTRAL_VALUES or not asks_for_nothing(name, value):
                checked[NAMES[name]] = value
        elif not asks_for_nothing(name, value):
            raise InvalidRequestError(_unknown_argument(name, value))
    return checked


def _unknown_argument(name: str, value: Any) -> str:
    if name == "n":
        return f"n={value!r} is not valid: Bedrock gives one answer to a request. Call batch with as many prompts."
    known = [each for each in NAMES if "_" in each or each.islower()]
    return f"{name} is not an argument of a call. {_advice(name, value, known)}"


def known_arguments(model: type[BaseModel]) -> set[str]:
    """Return what the constructor of a chat model takes."""
    aliases = [field.alias for field in model.model_fields.values() if field.alias]
    return {*model.model_fields, *aliases, "model_kwargs"}


def checked_constructor(class_name: str, values: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    """Return the arguments of a constructor, without those that are no field and ask for nothing.

    Raises:
        InvalidRequestError: One is no field, and asks for something.
    """
    checked = without_neutral(values, known)
    for name, value in checked.items():
        if name not in known:
            raise InvalidRequestError(f"{class_name} has no argument {name}. {_advice(name, value, sorted(known))}")
    return checked


def _advice(name: str, value: Any, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.75)
    shown = repr(value) if isinstance(value, (int, float, bool)) else "…"
    return (f"Did you mean {near[0]}? " if near else "") + (
        f"A field of the model's own belongs into additional_model_request_fields={{{name!r}: {shown}}}."
    )


def converse_arguments(call: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call with the user's data kept from renaming, and tools as Converse has them."""
    prepared = dict(call)
    if "request_metadata" in call:
        prepared["request_metadata"] = opaque(call["request_metadata"])
    if call.get("additional_model_request_fields"):
        prepared["additional_model_request_fields"] = opaque_fields(call["additional_model_request_fields"])
    config = call.get("toolConfig")
    if call.get("tools"):
        specs = tool_specs(call["tools"])
        if config is None and any("systemTool" in spec for spec in specs):  # langchain-aws takes those there only
            del prepared["tools"]
            config = {"tools": specs, "toolChoice": prepared.pop("tool_choice", None)}
        else:
            prepared["tools"] = specs
    if config:
        choice = converse_tool_choice(config.get("toolChoice"))
        rest = {name: value for name, value in config.items() if name not in ("tools", "toolChoice")}
        # A list of its own: langchain-aws appends cache points to it.
        prepared["toolConfig"] = {**rest, "tools": tool_specs(config.get("tools") or ())}
        if choice:
            prepared["toolConfig"]["toolChoice"] = choice
    return prepared


def opaque_fields(fields: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return additional model request fields of which langchain-aws drops nothing.

    It looks into ``reasoningConfig`` itself.
    """
    if not fields:
        return None
    return {name: value if name == "reasoningConfig" else opaque(value) for name, value in fields.items()}
