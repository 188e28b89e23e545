"""Check and normalize the arguments of calls and constructors, and write tools and tool choices for langchain-aws.

langchain-aws raises a ``TypeError`` about a function of its own for an unknown argument of a call, and sends an unknown
argument of a constructor to the model as an additional field. Both are refused here, with advice.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from langchain_core.caches import BaseCache
from langchain_core.runnables.config import ensure_config
from langchain_core.utils.function_calling import convert_to_openai_tool

from bedrock_routing_integrations.caching import CachePolicy, policy_of
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.requests import object_schema
from bedrock_routing_integrations.requests.preparation import NEUTRAL_VALUES, is_neutral, without_neutral
from bedrock_routing_integrations.requests.tools import converse_tool_choice, is_thinking, settle_tool_choice
from bedrock_routing_integrations.targets import TargetKind

from ._converse_client import protect

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydantic import BaseModel

    from bedrock_routing_integrations.models.candidates import ResolvedTarget


# --- Arguments of a call ---

_TARGET_NAMES = ("model", "model_id", "modelId")

ARGUMENT_NAMES = {
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
"""Argument of a call → its name in langchain-aws. Names of langchain-aws and of Converse are accepted."""


def pop_target(call: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """Return the target that a call names, by any of its spellings, and the other arguments of the call.

    Args:
        call: The arguments of the call; not changed.

    Raises:
        InvalidRequestError: The call has an argument that only the constructor takes.
    """
    for name in ("cache", "cache_policy"):
        if name in call:
            raise InvalidRequestError(
                f"{name} is not an argument of a call. Set it where the chat model is made: "
                f"ChatBedrockRouter(model=…, {name}=…)."
            )
    targets = [call[name] for name in _TARGET_NAMES if call.get(name)]
    rest = {name: value for name, value in call.items() if name not in _TARGET_NAMES}
    return (targets[0] if targets else None), rest


def check_target_kind(resolved: ResolvedTarget) -> None:
    """Refuse a target that a chat model cannot call.

    Raises:
        InvalidRequestError: The target is a managed prompt: Converse takes it with ``promptVariables``, and without
            ``system``, ``inferenceConfig`` and tools, which a chat model always sends.
    """
    if resolved.target.kind is TargetKind.PROMPT:
        raise InvalidRequestError(
            f"{resolved.target} is a managed prompt, which takes promptVariables and refuses what a chat model sends. "
            "Call it with RoutedClient(boto3.client('bedrock-runtime')).converse(modelId=…, promptVariables={…})."
        )


def normalize_arguments(call: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by langchain-aws's names, without neutral values.

    Args:
        call: The arguments of the call, without its target.

    Raises:
        InvalidRequestError: An argument does not exist.
    """
    normalized: dict[str, Any] = {}
    for name, value in call.items():
        if value is None:
            continue
        if name in ARGUMENT_NAMES:
            if name not in NEUTRAL_VALUES or not is_neutral(name, value):
                normalized[ARGUMENT_NAMES[name]] = value
        elif not is_neutral(name, value):
            raise InvalidRequestError(_unknown_argument(name, value))
    return normalized


def _unknown_argument(name: str, value: Any) -> str:
    if name == "n":
        return f"n={value!r} is not valid: Bedrock returns one answer to a request. Call batch with as many prompts."
    known = [each for each in ARGUMENT_NAMES if "_" in each or each.islower()]
    return f"{name} is not an argument of a call. {_advice(name, value, known)}"


def _advice(name: str, value: Any, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.75)
    shown = repr(value) if isinstance(value, (int, float, bool)) else "…"
    return (f"Did you mean {near[0]}? " if near else "") + (
        f"Pass a field of the model itself as additional_model_request_fields={{{name!r}: {shown}}}."
    )


def converse_arguments(call: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call with the user's data protected from renaming, and tools in Converse's form."""
    prepared = dict(call)
    if "request_metadata" in call:
        prepared["request_metadata"] = protect(call["request_metadata"])
    if call.get("additional_model_request_fields"):
        prepared["additional_model_request_fields"] = protect_fields(call["additional_model_request_fields"])
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
        # A new list: langchain-aws appends cache points to it.
        prepared["toolConfig"] = {**rest, "tools": tool_specs(config.get("tools") or ())}
        if choice:
            prepared["toolConfig"]["toolChoice"] = choice
    return prepared


def protect_fields(fields: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return additional model request fields from which langchain-aws drops nothing.

    langchain-aws itself reads ``reasoningConfig``, which stays as it is.
    """
    if not fields:
        return None
    return {name: value if name == "reasoningConfig" else protect(value) for name, value in fields.items()}


def limit_concurrency(config: Any, max_concurrency: int) -> Any:
    """Return a config with `max_concurrency` if it sets none. LangChain's own default is ``cpu_count + 4`` threads.

    Args:
        config: A RunnableConfig, a sequence of them, or None.
        max_concurrency: Maximum number of calls at once.
    """
    if config is not None and not isinstance(config, dict):
        return [limit_concurrency(each, max_concurrency) for each in config]
    if ensure_config(config).get("max_concurrency") is not None:  # type: ignore[arg-type]  # a RunnableConfig is a dict
        return config
    return {**(config or {}), "max_concurrency": max_concurrency}


# --- Tool choices ---

_PREFERRED = "preferred"


def read_tool_choice(choice: Any) -> tuple[dict[str, Any] | None, bool]:
    """Return a tool choice in Converse's form, and whether it is only preferred: ``{"preferred": choice}``.

    Raises:
        InvalidRequestError: `choice` is not valid.
    """
    is_preferred = isinstance(choice, Mapping) and choice.keys() == {_PREFERRED}
    return converse_tool_choice(choice[_PREFERRED] if is_preferred else choice), is_preferred


def with_tool_choice(bound: Mapping[str, Any], choice: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the arguments that langchain-aws bound with tools, with another tool choice.

    Args:
        bound: The arguments of the binding; not changed.
        choice: The tool choice.
    """
    config = bound.get("toolConfig")
    if config is not None:
        return {**bound, "toolConfig": {**config, "toolChoice": choice}}
    return {**bound, "tool_choice": choice}


def settle_call_tool_choice(
    call: dict[str, Any], supported: Sequence[str], constructed: Mapping[str, Any] | None, resolved: ResolvedTarget
) -> dict[str, Any]:
    """Return a call whose tool choice all candidate models accept.

    Args:
        call: The arguments of the call; not changed.
        supported: The kinds of tool choice that all candidate models accept.
        constructed: The additional model request fields of the chat model. The call's own override them.
        resolved: The target.

    Raises:
        InvalidRequestError: The caller forces a tool, and not all candidate models can be forced.
    """

    def settle(requested: Any) -> dict[str, Any] | None:
        choice, is_preferred = read_tool_choice(requested)
        if not choice or "none" in choice:
            return choice
        (kind,) = choice
        settled = settle_tool_choice(
            kind,
            requested,
            supported,
            resolved,
            preferred=is_preferred,
            thinking=is_thinking({**(constructed or {}), **(call.get("additional_model_request_fields") or {})}),
        )
        return choice if settled == kind else {settled: {}} if settled else None

    config = call.get("toolConfig")
    if config and read_tool_choice(config.get("toolChoice"))[1]:
        return {**call, "toolConfig": {**config, "toolChoice": settle(config["toolChoice"])}}
    if not call.get("tool_choice"):
        return call
    if not call.get("tools"):
        return {name: value for name, value in call.items() if name != "tool_choice"}
    return {**call, "tool_choice": settle(call["tool_choice"])}


# --- Tools ---

_MOST_UNIONS = 16  # parameters of several types in a request to Claude
# Keywords of JSON Schema whose value is a schema, a dictionary of schemas, or a list of schemas. Other values are data.
_SCHEMA = frozenset([
    "items", "additionalProperties", "additionalItems", "contains", "not", "if", "then", "else", "propertyNames",
    "unevaluatedItems", "unevaluatedProperties",
])  # fmt: skip
_NAMED_SCHEMAS = frozenset(["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"])
_LISTED_SCHEMAS = frozenset(["allOf", "anyOf", "oneOf", "prefixItems", "items"])


def tool_specs(tools: Sequence[Any]) -> list[Any]:
    """Return tools in Converse's form: ``toolSpec``, ``systemTool`` and ``cachePoint``.

    Args:
        tools: Tools in any form that langchain-aws takes; not changed.

    Returns:
        The tools, with schemas whose root is an object: the arguments of LangChain's tool calls are dictionaries.
    """
    specs = [_tool_spec(tool) for tool in tools]
    if sum(_unions(spec) for spec in specs) <= _MOST_UNIONS:
        return specs
    return [_without_null(spec) for spec in specs]


def _tool_spec(tool: Any) -> Any:
    if isinstance(tool, str):  # the name of a system tool
        return {"systemTool": {"name": tool}}
    if hasattr(tool, "to_bedrock_format"):  # langchain-aws's NovaSystemTool
        return tool.to_bedrock_format()
    if isinstance(tool, Mapping) and ("cachePoint" in tool or "systemTool" in tool):
        return tool
    if isinstance(tool, Mapping) and "toolSpec" in tool:
        spec = dict(tool["toolSpec"])
        schema = (spec.get("inputSchema") or {}).get("json")
    else:
        function = convert_to_openai_tool(tool)["function"]
        spec = {name: value for name, value in function.items() if name != "parameters"}
        schema = function.get("parameters") or {"type": "object", "properties": {}}
    if schema is not None:
        spec["inputSchema"] = {"json": object_schema(schema)[0]}
    return {"toolSpec": spec}


def _unions(value: Any) -> int:
    """Return the number of parameters of several types in a schema."""
    if isinstance(value, list):
        return sum(_unions(each) for each in value)
    if not isinstance(value, dict):
        return 0
    is_union = isinstance(value.get("anyOf"), list) or isinstance(value.get("type"), list)
    return is_union + sum(_unions(each) for each in value.values())


def _without_null(spec: Any) -> Any:
    if "toolSpec" not in spec or "inputSchema" not in spec["toolSpec"]:
        return spec
    schema = without_null(spec["toolSpec"]["inputSchema"]["json"])
    return {**spec, "toolSpec": {**spec["toolSpec"], "inputSchema": {"json": schema}}}


def without_null(schema: Any) -> Any:
    """Return a JSON schema without ``null`` among alternatives.

    Claude accepts at most 16 parameters of several types in a request, so langchain-aws removes ``null`` from all
    schemas. Here a request with fewer keeps the user's schemas (recorded: Nova 2 accepts ``anyOf`` with null). In a
    request with more, the model leaves out an optional parameter in place of sending null.
    """
    if not isinstance(schema, dict):
        return schema
    result: dict[str, Any] = {}
    for name, value in schema.items():
        if name == "anyOf" and isinstance(value, list):
            others = [without_null(each) for each in value if not _is_null(each)]
            if len(others) == 1 and isinstance(others[0], dict):
                result.update(others[0])
            else:
                result[name] = others or value
        elif name == "type" and isinstance(value, list):
            kinds = [kind for kind in value if kind != "null"]
            result[name] = kinds[0] if len(kinds) == 1 else kinds or value
        elif name in _NAMED_SCHEMAS and isinstance(value, dict):
            result[name] = {key: without_null(each) for key, each in value.items()}
        elif name in _LISTED_SCHEMAS and isinstance(value, list):
            result[name] = [without_null(each) for each in value]
        else:
            result[name] = without_null(value) if name in _SCHEMA else value
    return result


def _is_null(schema: Any) -> bool:
    return isinstance(schema, dict) and schema.get("type") == "null"


# --- Arguments of a constructor ---


def constructor_arguments(model: type[BaseModel]) -> set[str]:
    """Return the names of the arguments that the constructor of a chat model takes."""
    aliases = [field.alias for field in model.model_fields.values() if field.alias]
    return {*model.model_fields, *aliases, "model_kwargs"}


def check_constructor_arguments(class_name: str, values: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    """Return the arguments of a constructor, without unknown ones whose value is neutral.

    Args:
        class_name: The class, for error messages.
        values: The arguments; not changed.
        known: The names of arguments that the constructor takes.

    Raises:
        InvalidRequestError: An argument does not exist, and its value is not neutral.
    """
    checked = without_neutral(values, known)
    for name, value in checked.items():
        if name not in known:
            raise InvalidRequestError(f"{class_name} has no argument {name}. {_advice(name, value, sorted(known))}")
    return checked


def normalize_cache_policy(values: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a constructor with a cache policy in `cache` moved to `cache_policy`.

    Raises:
        InvalidRequestError: The value is neither a cache policy nor one of LangChain's.
    """
    if is_cache_policy(values.get("cache")):
        values = {**{name: v for name, v in values.items() if name != "cache"}, "cache_policy": values["cache"]}
    value = values.get("cache_policy", "auto")
    policy = policy_of(value)
    return {**values, "cache_policy": policy} if isinstance(value, dict) else values  # a dict is what `dumps` writes


def is_cache_policy(cache: Any) -> bool:
    """Return whether `cache` is about cache points. LangChain's values: a cache of responses, True, False, None."""
    return not isinstance(cache, (BaseCache, bool, type(None)))


def serialize_cache_policy(cache_policy: Any) -> Any:
    """Return a `cache_policy` in a form that JSON can hold."""
    return cache_policy.as_dict() if isinstance(cache_policy, CachePolicy) else cache_policy
