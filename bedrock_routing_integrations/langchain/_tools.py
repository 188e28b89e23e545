"""Tools and tool choices of LangChain's calls as Converse has them.

langchain-aws renames keys in a tool's schema, except inside ``properties``, so that a ``$ref`` no longer finds its
definition. It leaves the schema of a ``toolSpec`` alone, so tools are written as such here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from langchain_core.utils.function_calling import convert_to_openai_tool

from bedrock_routing_integrations.requests import object_schema

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_UNIONS = 16
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
    specs = [_tool_spec(tool) for tool in tools]
    if sum(_unions(spec) for spec in specs) <= _MOST_UNIONS:
        return specs
    return [_without_null(spec) for spec in specs]


def _tool_spec(tool: Any) -> Any:
    if isinstance(tool, str):  # the name of a system tool, as `bind_tools` takes it
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
    """Return how many parameters of several types a schema has."""
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

    langchain-aws takes it out of all schemas, as Claude takes no more than 16 parameters of several types in a request.
    With fewer the schema stays as the user wrote it (recorded: Nova 2 takes ``anyOf`` with null). With more, an
    optional parameter need not be null: the model leaves it out.
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


def with_choice(bound: Mapping[str, Any], choice: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that langchain-aws bound with tools, with a tool choice."""
    config = bound.get("toolConfig")
    if config is not None:
        return {**bound, "toolConfig": {**config, "toolChoice": choice}}
    return {**bound, "tool_choice": choice}
