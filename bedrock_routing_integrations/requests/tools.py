"""Send tools that Bedrock refuses by their names or schemas in a form that it takes, and translate the answers back.

- Bedrock takes tool names of 1 to 64 letters, digits, ``_`` and ``-`` (``ToolName`` in botocore's service model). Names
  such as ``clock/now.v2`` (MCP servers) or ``Page[str]`` (generic output classes) are replaced, each by a name of its
  own, in the declarations, the tool choice and the history; calls in an answer have the caller's name again.
- The root of a tool's input schema must be an object ("type must be one of the following: object", goose#5064). Another
  root, such as a list, is wrapped in an object with one property, ``root``, and taken out of the answer again.
- Converse has no tool choice ``none``. Without the declarations Bedrock refuses earlier calls in the history, so they
  stay, and an instruction asks for an answer without calls.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

ROOT = "root"
"""The property that holds the value of a wrapped schema: pydantic's name for what a `RootModel` holds."""
NO_CALL = "Answer without calling any tool."

LONGEST_NAME = 64
_LEGAL = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_ILLEGAL = re.compile(r"[^a-zA-Z0-9_-]")
_CHANGES = frozenset(["toolAddition", "toolRemoval"])
_DEFINITIONS = ("$defs", "definitions")
# What says something of a value whatever its type; a schema of nothing else admits any value, objects too.
_ANNOTATIONS = frozenset([
    "title", "description", "default", "examples", "$schema", "$id", "$comment", "deprecated", *_DEFINITIONS,
])  # fmt: skip
_OF_OBJECTS = frozenset(["properties", "required", "additionalProperties", "patternProperties", "propertyNames"])
_DEEPEST = 16


@dataclass(frozen=True)
class ToolTranslation:
    """How the tools of a request are sent under other names or in other schemas.

    Attributes:
        names: Sent name → the caller's, of the tools whose names differ.
        wrapped: Sent names of the tools whose schema was wrapped.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    wrapped: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.names or self.wrapped)

    def restore_content(self, content: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Return the content blocks of an answer with the caller's names and values."""
        return [{**block, "toolUse": self._restored(block["toolUse"])} if "toolUse" in block else block
                for block in content]  # fmt: skip

    def _restored(self, call: Mapping[str, Any]) -> dict[str, Any]:
        restored = {**call, "name": self.names.get(call["name"], call["name"])}
        if call["name"] in self.wrapped and "input" in call:
            restored["input"] = _unwrapped(call["input"])
        return restored

    def restore_events(self, events: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """Yield a stream's events with the caller's names and values.

        The arguments of a wrapped tool are held until its block ends: a part of them cannot be taken out of ``root``.
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
            yield from _as_received(held)  # nothing that has arrived is lost where the stream breaks off
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
    """Return a request with tools that Bedrock takes, and how to read its answer.

    Args:
        request: A Converse request; not changed.

    Returns:
        The request; the one given, and an empty translation, where nothing had to change.
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
    """Return a request of tool choice ``none`` as one that Converse takes: tools declared, no choice, an instruction.

    The instruction is the last block of the user's last turn: in ``system`` it would change the cached beginning.
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
    """Return an ``outputConfig`` whose JSON schema has a legal name, and an object's own schema at its root.

    botocore states no pattern for the name; that of tools is what the models' own APIs take.
    """
    try:
        given = config["textFormat"]["structure"]["jsonSchema"]
        name, schema = given.get("name"), json.loads(given["schema"])
    except (AttributeError, KeyError, TypeError, ValueError):  # another kind of output, or boto3 says what is wrong
        return config
    changed = dict(given)
    if isinstance(name, str) and name and not _LEGAL.fullmatch(name):
        changed["name"] = _ILLEGAL.sub("_", name)[:LONGEST_NAME]
    followed = _followed(schema) if isinstance(schema, dict) else schema
    if followed is not schema:
        changed["schema"] = json.dumps(followed, ensure_ascii=False)
    if changed == given:
        return config
    structure = {**config["textFormat"]["structure"], "jsonSchema": changed}
    return {**config, "textFormat": {**config["textFormat"], "structure": structure}}


def object_schema(schema: Any) -> tuple[Any, bool]:
    """Return a JSON schema whose root is an object, and whether the given one was wrapped.

    Args:
        schema: A tool's input schema; not changed. What is no dictionary is returned as it is.
    """
    if not isinstance(schema, dict) or schema.get("type") == "object":
        return schema, False
    followed = _followed(schema)
    kind = followed.get("type")
    if kind == "object":
        return followed, False
    if isinstance(kind, list) and "object" in kind:
        return {**followed, "type": "object"}, False
    if kind is None and (_OF_OBJECTS & followed.keys() or followed.keys() <= _ANNOTATIONS):
        return {**followed, "type": "object", "properties": followed.get("properties") or {}}, False
    definitions = {name: followed[name] for name in _DEFINITIONS if name in followed}
    inner = {name: value for name, value in followed.items() if name not in _DEFINITIONS}
    wrapped = {"type": "object", "properties": {ROOT: _moved(inner)}, "required": [ROOT]}
    return {**wrapped, **{name: _moved(value) for name, value in definitions.items()}}, True


def _followed(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with a ``$ref`` at its root replaced by what it refers to, as recursive models have one."""
    for _ in range(_DEEPEST):
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return schema
        found: Any = schema
        for part in reference[2:].split("/"):
            found = found.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
        if not isinstance(found, dict):
            return schema
        schema = {**found, **{name: value for name, value in schema.items() if name != "$ref"}}
    return schema


def _moved(schema: Any) -> Any:
    """Return a part of a wrapped schema whose references to the root find it where it is now."""
    if isinstance(schema, list):
        return [_moved(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {name: _moved(value) for name, value in schema.items()}
    reference = schema.get("$ref")
    if (
        isinstance(reference, str)
        and reference.startswith("#")
        and not reference[1:].startswith(("/$defs/", "/definitions/"))
    ):
        moved["$ref"] = f"#/properties/{ROOT}{reference[1:]}"
    return moved


def _legal_names(declared: Iterable[Any], others: Iterable[Any]) -> dict[str, str]:
    """Return name → the name to send, for those that Bedrock refuses.

    Declared tools choose first, so that what is sent for them does not depend on the history: it is cached.
    """
    tools = dict.fromkeys(name for name in declared if isinstance(name, str))
    given = {**tools, **dict.fromkeys(name for name in others if isinstance(name, str))}
    illegal = [name for name in given if not _LEGAL.fullmatch(name)]
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
        for kind in _CHANGES & block.keys():
            yield (block[kind].get("tool") or {}).get("name")


def _sent_change(block: Mapping[str, Any], legal: Mapping[str, str]) -> Mapping[str, Any]:
    (kind,) = _CHANGES & block.keys()
    tool = block[kind].get("tool") or {}
    if tool.get("name") not in legal:
        return block
    return {**block, kind: {**block[kind], "tool": {**tool, "name": legal[tool["name"]]}}}


def _sent_message(message: Mapping[str, Any], legal: Mapping[str, str], wrapped: frozenset[str]) -> Mapping[str, Any]:
    content = message.get("content") or ()
    if any(_CHANGES & block.keys() for block in content):
        return {**message, "content": [_sent_change(b, legal) if _CHANGES & b.keys() else b for b in content]}
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
