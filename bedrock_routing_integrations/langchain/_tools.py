"""Tools and tool choices of LangChain's calls as Converse has them.

langchain-aws renames keys in a tool's schema, except inside ``properties``, so that a ``$ref`` no longer finds its
definition. It leaves the schema of a ``toolSpec`` alone, so tools are written as such here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from langchain_core.utils.function_calling import convert_to_openai_tool

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.requests import object_schema

if TYPE_CHECKING:
    from collections.abc import Sequence

_CHOICES = {"auto": "auto", "any": "any", "required": "any", "none": "none"}
# Keywords of JSON Schema that hold a schema, several by name, or several in a list. What the others hold is data.
_SCHEMA = frozenset([
    "items", "additionalProperties", "additionalItems", "contains", "not", "if", "then", "else", "propertyNames",
    "unevaluatedItems", "unevaluatedProperties",
])  # fmt: skip
_NAMED_SCHEMAS = frozenset(["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"])
_LISTED_SCHEMAS = frozenset(["allOf", "anyOf", "oneOf", "prefixItems", "items"])


def tool_specs(tools: Sequence[Any]) -> list[Any]:
    """Return tools as Converse has them: ``toolSpec``, ``systemTool`` and ``cachePoint``.

    Args:
        tools: Tools in any form that langchain-aws takes; not changed.

    Returns:
        The tools, with schemas whose root is an object: the arguments of LangChain's tool calls are dictionaries.
    """
    return [_tool_spec(tool) for tool in tools]


def _tool_spec(tool: Any) -> Any:
    if isinstance(tool, Mapping) and ("cachePoint" in tool or "systemTool" in tool):
        return tool
    if isinstance(tool, Mapping) and "toolSpec" in tool:
        spec = dict(tool["toolSpec"])
        schema = (spec.get("inputSchema") or {}).get("json")
    else:
        function = convert_to_openai_tool(tool)["function"]
        spec = {name: value for name, value in function.items() if name != "parameters"}
        schema = without_null(function.get("parameters") or {"type": "object", "properties": {}})
    if schema is not None:
        spec["inputSchema"] = {"json": object_schema(schema)[0]}
    return {"toolSpec": spec}


def without_null(schema: Any) -> Any:
    """Return a JSON schema without ``null`` among alternatives, as langchain-aws sends it.

    Bedrock takes 16 parameters of several types in a request. That an optional one may be null need not be said: the
    model leaves it out.
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


def converse_tool_choice(choice: Any) -> dict[str, Any] | None:
    """Return a tool choice as Converse has it, with ``{"none": {}}`` for no call at all; None for none given.

    Args:
        choice: ``"auto"``, ``"any"`` (or ``"required"``), ``"none"``, True (any), the name of a tool, Converse's form,
            OpenAI's or Anthropic's.

    Raises:
        InvalidRequestError: It is none of these.
    """
    if not choice:
        return None
    if choice is True:
        return {"any": {}}
    if isinstance(choice, str):
        return {_CHOICES[choice]: {}} if choice in _CHOICES else {"tool": {"name": choice}}
    if isinstance(choice, Mapping):
        found = _of_mapping(choice)
        if found is not None:
            return found
    raise InvalidRequestError(
        f"tool_choice={choice!r} is not valid: it must be 'auto', 'any', 'none' or the name of a tool."
    )


def _of_mapping(choice: Mapping[str, Any]) -> dict[str, Any] | None:
    kind = choice.get("type")
    if kind is None and len(choice) == 1:
        (kind,) = choice
        if kind == "tool" and isinstance(choice["tool"], Mapping) and choice["tool"].get("name"):
            return {"tool": dict(choice["tool"])}
        return {kind: {}} if kind in ("auto", "any", "none") else None
    function = choice.get("function")
    name = function.get("name") if isinstance(function, Mapping) else choice.get("name")
    if kind in ("function", "tool") and isinstance(name, str) and name:
        return {"tool": {"name": name}}
    return {_CHOICES[kind]: {}} if kind in _CHOICES else None


def with_choice(bound: Mapping[str, Any], choice: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that langchain-aws bound with tools, with a tool choice."""
    config = bound.get("toolConfig")
    if config is not None:
        return {**bound, "toolConfig": {**config, "toolChoice": choice}}
    return {**bound, "tool_choice": choice}
