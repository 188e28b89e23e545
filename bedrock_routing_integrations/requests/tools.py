"""Translate tools and tool choices that Bedrock or a model refuses, and translate the tool calls of the response back.

- Bedrock accepts tool names of 1 to 64 letters, digits, ``_`` and ``-`` (``ToolName`` in botocore's service model).
  Names such as ``clock/now.v2`` (MCP servers) or ``Page[str]`` (generic output classes) are replaced by unique valid
  names in the declarations, the tool choice and the history. Calls in the response get the caller's names back.
- The root of a tool's input schema must be an object ("type must be one of the following: object", goose#5064). Another
  root, such as a list, is wrapped in an object with one property, ``root``, and unwrapped in the response.
- Converse has no tool choice ``none``. Bedrock refuses earlier calls in the history if their tools are not declared, so
  the declarations stay, and an instruction asks for an answer without calls.
- A router may send the request to any of its candidate models, so a tool choice must be one that all of them support.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.runtime import warn_once

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from bedrock_routing_integrations.models.candidates import ResolvedTarget

ROOT = "root"
"""The property that holds the value of a wrapped schema: pydantic's name for the value of a `RootModel`."""
NO_CALL = "Answer without calling any tool."

LONGEST_NAME = 64
_LEGAL = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_ILLEGAL = re.compile(r"[^a-zA-Z0-9_-]")
_TOOL_CHANGES = frozenset(["toolAddition", "toolRemoval"])
_DEFINITIONS = ("$defs", "definitions")
# Keywords that constrain no type. A schema with only these accepts any value, and so also objects.
_ANNOTATIONS = frozenset([
    "title", "description", "default", "examples", "$schema", "$id", "$comment", "deprecated", *_DEFINITIONS,
])  # fmt: skip
_OBJECT_KEYWORDS = frozenset(["properties", "required", "additionalProperties", "patternProperties", "propertyNames"])
_DEEPEST = 16


@dataclass(frozen=True)
class ToolTranslation:
    """The changes made to the tools of a request, for restoring the caller's names and values in the response.

    Attributes:
        names: Sent name → the caller's name, for each tool that was renamed.
        wrapped: The sent names of the tools whose schema was wrapped.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    wrapped: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.names or self.wrapped)

    def restore_content(self, content: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Return the content blocks of a response with the caller's tool names and arguments."""
        return [{**block, "toolUse": self._restored(block["toolUse"])} if "toolUse" in block else block
                for block in content]  # fmt: skip

    def _restored(self, call: Mapping[str, Any]) -> dict[str, Any]:
        restored = {**call, "name": self.names.get(call["name"], call["name"])}
        if call["name"] in self.wrapped and "input" in call:
            restored["input"] = _unwrapped(call["input"])
        return restored

    def restore_events(self, events: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """Yield a stream's events with the caller's tool names and arguments.

        The arguments of a wrapped tool are held back until its block ends: ``root`` can only be unwrapped as a whole.
        """
        held: dict[int, list[str]] = {}
        try:
            for event in events:
                start = (event.get("contentBlockStart") or {}).get("start") or {}
                body: Any = next(iter(event.values()), {})
                index = body.get("contentBlockIndex")
                if "toolUse" in start:
                    yield self._restored_start(event, held)
                elif index in held and "contentBlockDelta" in event:
                    held[index].append((event["contentBlockDelta"]["delta"].get("toolUse") or {}).get("input", ""))
                else:
                    if index in held:
                        yield _delta(index, _unwrapped_text("".join(held.pop(index))))
                    yield event
        except Exception:
            yield from _as_received(held)  # lose nothing that arrived before the stream broke off
            raise
        yield from _as_received(held)

    def _restored_start(self, event: Mapping[str, Any], held: dict[int, list[str]]) -> Mapping[str, Any]:
        body = event["contentBlockStart"]
        call = body["start"]["toolUse"]
        if call["name"] in self.wrapped:
            held[body["contentBlockIndex"]] = []
        name = self.names.get(call["name"], call["name"])
        return {"contentBlockStart": {**body, "start": {**body["start"], "toolUse": {**call, "name": name}}}}


NO_TRANSLATION = ToolTranslation()


def translate_tools(request: Mapping[str, Any]) -> tuple[Mapping[str, Any], ToolTranslation]:
    """Return the request with tools that Bedrock accepts, and the translation for its response.

    Args:
        request: A Converse request. It is not changed.

    Returns:
        A new request and its translation, or `request` itself and `NO_TRANSLATION` if nothing had to change.
    """
    config, messages = request.get("toolConfig") or {}, request.get("messages") or ()
    specs = [tool["toolSpec"] for tool in config.get("tools") or () if "toolSpec" in tool]
    calls = [block["toolUse"] for message in messages for block in message.get("content") or () if "toolUse" in block]
    references = [reference for message in messages for reference in _references(message)]
    declared = [spec.get("name") for spec in specs]
    legal = _legal_names(declared, [*(call.get("name") for call in calls), *references])
    schemas = {id(spec): object_schema((spec.get("inputSchema") or {}).get("json")) for spec in specs}
    if not legal and all(schema is (spec.get("inputSchema") or {}).get("json") for spec in specs
                         for schema, _ in [schemas[id(spec)]]):  # fmt: skip
        return request, NO_TRANSLATION
    wrapped = frozenset(legal.get(spec["name"], spec["name"]) for spec in specs if schemas[id(spec)][1])
    changed = dict(request)
    if config:
        changed["toolConfig"] = {
            **config,
            "tools": [_sent_tool(tool, legal, schemas) if "toolSpec" in tool else tool for tool in config["tools"]],
        }
        chosen = ((config.get("toolChoice") or {}).get("tool") or {}).get("name")
        if chosen in legal:
            changed["toolConfig"]["toolChoice"] = {"tool": {"name": legal[chosen]}}
    if messages and (legal or wrapped):
        changed["messages"] = [_sent_message(message, legal, wrapped) for message in messages]
    return changed, ToolTranslation({sent: name for name, sent in legal.items()}, wrapped)


def without_calls(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a request with tool choice ``none`` in a form that Converse has: tools, no choice, and an instruction.

    The instruction is the last block of the last user message: in ``system`` it would change the cached prefix.
    """
    config = {name: value for name, value in request["toolConfig"].items() if name != "toolChoice"}
    changed = {**request, "toolConfig": config}
    if not config.get("tools"):
        del changed["toolConfig"]
        return changed
    messages = list(request.get("messages") or ())
    if messages and messages[-1].get("role") == "user":
        messages[-1] = {**messages[-1], "content": [*(messages[-1].get("content") or ()), {"text": NO_CALL}]}
        return {**changed, "messages": messages}
    return {**changed, "system": [*(request.get("system") or ()), {"text": NO_CALL}]}


def legal_output_config(config: Any) -> Any:
    """Return an ``outputConfig`` whose JSON schema has a valid name and no ``$ref`` at its root.

    botocore states no pattern for the name; the models' own APIs use the pattern of tool names.
    """
    try:
        definition = config["textFormat"]["structure"]["jsonSchema"]
        name, schema = definition.get("name"), json.loads(definition["schema"])
    except (AttributeError, KeyError, TypeError, ValueError):  # another kind of output, or a mistake that boto3 names
        return config
    changed = dict(definition)
    if isinstance(name, str) and name and not _LEGAL.fullmatch(name):
        changed["name"] = _ILLEGAL.sub("_", name)[:LONGEST_NAME]
    resolved = _without_root_reference(schema) if isinstance(schema, dict) else schema
    if resolved is not schema:
        changed["schema"] = json.dumps(resolved, ensure_ascii=False)
    if changed == definition:
        return config
    structure = {**config["textFormat"]["structure"], "jsonSchema": changed}
    return {**config, "textFormat": {**config["textFormat"], "structure": structure}}


def object_schema(schema: Any) -> tuple[Any, bool]:
    """Return a JSON schema whose root is an object, and whether `schema` had to be wrapped for that.

    Args:
        schema: A tool's input schema. It is not changed. A value that is not a dictionary is returned unchanged.
    """
    if not isinstance(schema, dict) or schema.get("type") == "object":
        return schema, False
    resolved = _without_root_reference(schema)
    kind = resolved.get("type")
    if kind == "object":
        return resolved, False
    if isinstance(kind, list) and "object" in kind:
        return {**resolved, "type": "object"}, False
    if kind is None and (_OBJECT_KEYWORDS & resolved.keys() or resolved.keys() <= _ANNOTATIONS):
        return {**resolved, "type": "object", "properties": resolved.get("properties") or {}}, False
    definitions = {name: resolved[name] for name in _DEFINITIONS if name in resolved}
    inner = {name: value for name, value in resolved.items() if name not in _DEFINITIONS}
    wrapped = {"type": "object", "properties": {ROOT: _with_moved_references(inner)}, "required": [ROOT]}
    return {**wrapped, **{name: _with_moved_references(value) for name, value in definitions.items()}}, True


def _without_root_reference(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with a ``$ref`` at its root (recursive models have one) replaced by its definition."""
    for _ in range(_DEEPEST):
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return schema
        definition: Any = schema
        for part in reference[2:].split("/"):
            name = part.replace("~1", "/").replace("~0", "~")
            definition = definition.get(name) if isinstance(definition, dict) else None
        if not isinstance(definition, dict):
            return schema
        schema = {**definition, **{name: value for name, value in schema.items() if name != "$ref"}}
    return schema


def _with_moved_references(schema: Any) -> Any:
    """Return a part of a wrapped schema with its references to the root pointing to the new position."""
    if isinstance(schema, list):
        return [_with_moved_references(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {name: _with_moved_references(value) for name, value in schema.items()}
    reference = schema.get("$ref")
    if (
        isinstance(reference, str)
        and reference.startswith("#")
        and not reference[1:].startswith(("/$defs/", "/definitions/"))
    ):
        moved["$ref"] = f"#/properties/{ROOT}{reference[1:]}"
    return moved


def _legal_names(declared: Iterable[Any], others: Iterable[Any]) -> dict[str, str]:
    """Return name → name to send, for each name that Bedrock refuses.

    Declared tools are named first, so that their sent names do not depend on the history: declarations are cached.
    """
    tools = dict.fromkeys(name for name in declared if isinstance(name, str))
    names = {**tools, **dict.fromkeys(name for name in others if isinstance(name, str))}
    illegal = [name for name in names if not _LEGAL.fullmatch(name)]
    if not illegal:
        return {}
    taken, legal = {name for name in tools if _LEGAL.fullmatch(name)}, {}
    for name in illegal:
        sent = _ILLEGAL.sub("_", name)[:LONGEST_NAME] or "_"
        if sent in taken or len(name) > LONGEST_NAME:
            digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
            sent = f"{sent[: LONGEST_NAME - len(digest) - 1]}-{digest}"
        taken.add(sent)
        legal[name] = sent
    return legal


def _sent_tool(tool: Mapping[str, Any], legal: Mapping[str, str], schemas: Mapping[int, tuple[Any, bool]]) -> Any:
    spec = tool["toolSpec"]
    sent = {**spec, "name": legal.get(spec["name"], spec["name"])} if "name" in spec else dict(spec)
    schema, _ = schemas[id(spec)]
    if "inputSchema" in spec and "json" in spec["inputSchema"]:
        sent["inputSchema"] = {**spec["inputSchema"], "json": schema}
    return {**tool, "toolSpec": sent}


def _references(message: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the names in ``toolAddition`` and ``toolRemoval`` blocks."""
    for block in message.get("content") or ():
        for kind in _TOOL_CHANGES & block.keys():
            yield (block[kind].get("tool") or {}).get("name")


def _sent_change(block: Mapping[str, Any], legal: Mapping[str, str]) -> Mapping[str, Any]:
    (kind,) = _TOOL_CHANGES & block.keys()
    tool = block[kind].get("tool") or {}
    if tool.get("name") not in legal:
        return block
    return {**block, kind: {**block[kind], "tool": {**tool, "name": legal[tool["name"]]}}}


def _sent_message(message: Mapping[str, Any], legal: Mapping[str, str], wrapped: frozenset[str]) -> Mapping[str, Any]:
    content = message.get("content") or ()
    if any(_TOOL_CHANGES & block.keys() for block in content):
        return {**message, "content": [_sent_change(b, legal) if _TOOL_CHANGES & b.keys() else b for b in content]}
    if not any("toolUse" in block for block in content):
        return message
    return {
        **message,
        "content": [_sent_call(block, legal, wrapped) if "toolUse" in block else block for block in content],
    }


def _sent_call(block: Mapping[str, Any], legal: Mapping[str, str], wrapped: frozenset[str]) -> Mapping[str, Any]:
    call = block["toolUse"]
    name, value = legal.get(call.get("name"), call.get("name")), call.get("input")
    sent = {**call, "name": name}
    if name in wrapped and not (isinstance(value, dict) and value.keys() == {ROOT}):
        sent["input"] = {ROOT: value}
    return {**block, "toolUse": sent}


def _unwrapped(value: Any) -> Any:
    return value[ROOT] if isinstance(value, dict) and value.keys() == {ROOT} else value


def _unwrapped_text(text: str) -> str:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return json.dumps(_unwrapped(value), ensure_ascii=False)


def _delta(index: int, text: str) -> dict[str, Any]:
    return {"contentBlockDelta": {"contentBlockIndex": index, "delta": {"toolUse": {"input": text}}}}


def _as_received(held: Mapping[int, Sequence[str]]) -> Iterator[Mapping[str, Any]]:
    for index, parts in held.items():
        yield _delta(index, "".join(parts))


_KINDS = {"auto": "auto", "any": "any", "required": "any", "none": "none"}


def converse_tool_choice(choice: Any, names: Sequence[str] | None = None) -> dict[str, Any] | None:
    """Return a tool choice in Converse's form, or ``{"none": {}}`` to forbid calls; None if there is no choice.

    Args:
        choice: Any of these:

            - ``"auto"``, ``"any"``, ``"required"`` (any), ``"none"``, True (any), or the name of a tool,
            - Converse's ``{"auto": {}}``, ``{"any": {}}``, ``{"tool": {"name": …}}``, and ``{"none": {}}``,
            - Anthropic's ``{"type": "auto"}``, ``{"type": "any"}``, ``{"type": "none"}``,
              ``{"type": "tool", "name": …}``,
            - OpenAI's ``{"type": "function", "function": {"name": …}}``, with or without its type, and
              ``{"type": "function", "name": …}``.
        names: The names of the tools; None to accept any name.

    Raises:
        InvalidRequestError: `choice` has none of these forms, or names a tool that is not among `names`.
    """
    if not choice:
        return None
    converted: dict[str, Any] | None = None
    if choice is True:
        converted = {"any": {}}
    elif isinstance(choice, str):
        converted = {_KINDS[choice]: {}} if choice in _KINDS else {"tool": {"name": choice}}
    elif isinstance(choice, Mapping):
        converted = _choice_of_mapping(choice)
    if converted is None or (names is not None and "tool" in converted and converted["tool"]["name"] not in names):
        known = f" ({', '.join(names)})" if names else ""
        raise InvalidRequestError(
            f"tool_choice={choice!r} is not valid: it must be 'auto', 'any', 'none' or the name of a tool{known}."
        )
    return converted


def _choice_of_mapping(choice: Mapping[str, Any]) -> dict[str, Any] | None:
    kind = choice.get("type")
    if kind is None and len(choice) == 1:
        (kind,) = choice
        if kind in _KINDS:
            return {_KINDS[kind]: {}}
    member = choice.get(kind) if kind in ("function", "tool") else None
    name = member.get("name") if isinstance(member, Mapping) else choice.get("name")
    if kind in ("function", "tool"):
        return {"tool": {"name": name}} if isinstance(name, str) and name else None
    return {_KINDS[kind]: {}} if isinstance(kind, str) and kind in _KINDS else None


def settle_tool_choice(
    kind: str, choice: Any, supported: Sequence[str], resolved: ResolvedTarget, *, preferred: bool, thinking: bool
) -> str | None:
    """Return the kind of tool choice to send.

    Args:
        kind: The requested kind: ``"auto"``, ``"any"`` or ``"tool"``.
        choice: The choice as the caller wrote it, for messages.
        supported: The kinds that all candidate models support without extended thinking.
        resolved: The target with its candidate models.
        preferred: Whether a framework made the choice, so that it may be weakened; False if the caller made it.
        thinking: Whether the request asks for extended thinking. Claude then refuses a forced tool choice (Anthropic's
            guide on extended thinking).

    Returns:
        One of `supported`; None to send no choice, which Bedrock treats as ``auto``.

    Raises:
        InvalidRequestError: The caller forces a tool, and not all models can be forced.
    """
    if thinking:
        supported = [each for each in supported if each == "auto"]
    if kind in supported:
        return kind
    if preferred:
        return "any" if "any" in supported else None
    if thinking and "auto" in supported:
        # langchain-aws does the same for models that it knows: agents force tools whether the model thinks or not.
        warn_once(
            ("thinking", resolved.target.model_id),
            f"tool_choice={choice!r} is not valid while {resolved.target} is thinking; sending 'auto' instead.",
        )
        return "auto"
    raise InvalidRequestError(
        f"tool_choice={choice!r} is not supported by all models of {resolved.target} "
        f"({', '.join(resolved.base_models) or 'models unknown'}); supported: {', '.join(supported) or 'none'}."
    )


def is_thinking(model_fields: dict[str, Any] | None) -> bool:
    """Return whether ``additionalModelRequestFields`` turn on Claude's extended thinking."""
    thinking = (model_fields or {}).get("thinking") or {}
    return thinking.get("type") in ("enabled", "adaptive")
