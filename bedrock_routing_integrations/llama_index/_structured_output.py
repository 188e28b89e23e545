"""Objects of an output class (``structured_predict`` and its kin), also from models that cannot be forced to call.

LlamaIndex declares the output class as the only tool and forces a call of it. The newest Claudes, every Claude while it
thinks, and Llama refuse to be forced. They are left free to call the tool, asked for JSON by Converse's
``outputConfig.textFormat`` where the family takes it, and the JSON text that they may answer with counts as the call.

Text counts only where the output class validates it, so an answer that explains why there is no object stays an error.
A class whose JSON schema has no properties (a `RootModel`, a recursive model) cannot be a tool of LlamaIndex, which
reads the properties; such a class becomes the one field of a class made for the purpose.
"""

from __future__ import annotations

import functools
import json
import re
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ToolCallBlock
from llama_index.core.bridge.pydantic import BaseModel, ValidationError, create_model
from llama_index.core.program.function_program import get_function_tool
from llama_index.core.program.utils import FlexibleModel
from pydantic_core import from_json

from bedrock_routing_integrations.invocation import ROUTING
from bedrock_routing_integrations.requests import ROOT, object_schema

from ._responses import is_cut_off, tool_call_entry, tool_selections
from .messages import finite_number

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Mapping, Sequence

    from llama_index.core.base.llms.types import ChatResponse

_CALL_ID = "text"
_FENCED = re.compile(r"```[a-zA-Z]*\s*\n(.*?)```", re.DOTALL)
# What begins like JSON. Where it turns out to be broken, no part of it is taken for the whole.
_JSON_START = re.compile(r"\{\s*[\"}]|\[\s*(?:[\[{\"\]]|-?\d)")
# A call that Llama writes as text: {"name": "City", "parameters": {…}}.
_ARGUMENTS = ("parameters", "arguments", "input")
_MOST_PIECES = 100
_decoder = json.JSONDecoder(parse_constant=finite_number, parse_float=finite_number)


def output_class(tools: Sequence[Any]) -> type[BaseModel] | None:
    """Return the class that one of LlamaIndex's programs wants an object of; None where the tools are the caller's.

    The programs declare the class by ``get_function_tool``, whose function no caller's tool has.
    """
    if len(tools) != 1:
        return None
    function = getattr(tools[0], "fn", None)
    if getattr(function, "__module__", None) != get_function_tool.__module__:
        return None
    schema: type[BaseModel] | None = tools[0].metadata.fn_schema
    return schema


@functools.lru_cache(maxsize=256)
def _property_names(output_cls: type[BaseModel]) -> frozenset[str] | None:
    """Return the properties of a class's JSON schema; None where it has none. Making a schema takes milliseconds."""
    properties = output_cls.model_json_schema().get("properties")
    return None if properties is None else frozenset(properties)


@functools.lru_cache(maxsize=256)
def _holder(output_cls: type[BaseModel]) -> type[BaseModel]:
    holder: type[BaseModel] = create_model(output_cls.__name__, __doc__=output_cls.__doc__, root=(output_cls, ...))
    return holder


def with_properties(output_cls: type[BaseModel]) -> type[BaseModel]:
    """Return a class whose JSON schema has properties: the class itself, or one that holds its object as ``root``."""
    return _holder(output_cls) if _property_names(output_cls) is None else output_cls


def unwrap_object(found: Any, output_cls: type[BaseModel]) -> Any:
    """Return the object that one of the class of `with_properties` holds, also while it grows."""
    if isinstance(found, output_cls):
        return found
    value = getattr(found, ROOT, None)
    if isinstance(value, output_cls):
        return value
    try:
        return output_cls.model_validate(value)
    except ValidationError:
        return FlexibleModel(**(value if isinstance(value, dict) else {ROOT: value}))


def output_format(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return Converse's ``outputConfig`` that asks for the arguments of the only tool as JSON text."""
    spec = config["tools"][0]["toolSpec"]
    schema, _ = object_schema(spec["inputSchema"]["json"])
    # Claude takes objects without further properties only.
    definition = {"name": re.sub(r"[^a-zA-Z0-9_-]", "_", spec["name"])[:64], "schema": json.dumps(_closed(schema))}
    return {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": definition}}}


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(value) for name, value in schema.items()}
    if closed.get("type") == "object" and "additionalProperties" not in closed:
        closed["additionalProperties"] = False
    return closed


def add_object_call(response: ChatResponse, output_cls: type[BaseModel]) -> ChatResponse:
    """Return the response with a call of the output class where it only has the object as JSON text.

    Args:
        response: An answer, or a chunk of a stream, whose object is then what there is of it so far.
        output_cls: The class.
    """
    if any(isinstance(block, ToolCallBlock) for block in response.message.blocks):
        return response
    text = response.message.content or ""
    if ROUTING in response.additional_kwargs:  # the whole answer
        arguments = None if is_cut_off(response.raw) else _object_in(text, output_cls)
    else:
        arguments = _object_so_far(text, output_cls)
    if arguments is None:
        return response
    call = ToolCallBlock(tool_call_id=_CALL_ID, tool_name=output_cls.__name__, tool_kwargs=arguments)
    said = {**response.message.additional_kwargs, "tool_calls": [tool_call_entry(call)]}
    message = response.message.model_copy(
        update={"blocks": [*response.message.blocks, call], "additional_kwargs": said}
    )
    return response.model_copy(update={"message": message})


def check_object_stream(
    chunks: Iterator[ChatResponse], output_cls: type[BaseModel]
) -> Generator[ChatResponse, None, None]:
    """Yield the chunks of a stream that is to bring an object.

    Raises:
        ToolCallError: At the end, where it did not. LlamaIndex asks too, logs the error, and keeps the part that came.
    """
    last = None
    try:
        for chunk in chunks:
            last = add_object_call(chunk, output_cls)
            yield last
    finally:
        chunks.close()  # type: ignore[attr-defined]  # a generator
    if last is not None:
        tool_selections(last, error_on_no_tool_call=True)


async def acheck_object_stream(
    chunks: AsyncIterator[ChatResponse], output_cls: type[BaseModel]
) -> AsyncGenerator[ChatResponse, None]:
    """`check_object_stream`, asynchronously."""
    last = None
    try:
        async for chunk in chunks:
            last = add_object_call(chunk, output_cls)
            yield last
    finally:
        await chunks.aclose()  # type: ignore[attr-defined]  # a generator
    if last is not None:
        tool_selections(last, error_on_no_tool_call=True)


def _object_in(text: str, output_cls: type[BaseModel]) -> dict[str, Any] | None:
    """Return the arguments of an object that a text holds: alone, in a fence, or among words (the last one there)."""
    properties = _property_names(output_cls) or frozenset()
    found = None
    for pieces in ([text], _FENCED.findall(text), None):
        values = _values_among_words(text) if pieces is None else [_json(piece) for piece in pieces]
        for value in values:
            for arguments in _readings(value):
                if _is_object(arguments, output_cls, properties, alone=pieces == [text]):
                    found = arguments
                    break
        if found is not None:
            return found
    return None


def _readings(value: Any) -> list[dict[str, Any]]:
    """Return what a JSON value can mean as arguments."""
    if not isinstance(value, dict):
        return [] if value is None else [{ROOT: value}]
    inner = [value[name] for name in _ARGUMENTS if isinstance(value.get(name), dict)]
    return [value, {ROOT: value}, *inner]


def _is_object(
    arguments: dict[str, Any], output_cls: type[BaseModel], properties: frozenset[str], *, alone: bool
) -> bool:
    # A class whose fields are all optional validates any JSON. Of its fields one must be there.
    if not (properties & arguments.keys()) and (arguments or not alone):
        return False
    try:
        output_cls.model_validate(arguments)
    except ValidationError:
        return False
    return True


def _json(text: str) -> Any:
    try:
        return _decoder.decode(text.strip())
    except (ValueError, RecursionError):
        return None


def _values_among_words(text: str) -> list[Any]:
    values: list[Any] = []
    position = 0
    while len(values) < _MOST_PIECES:
        start = _JSON_START.search(text, position)
        if start is None:
            return values
        try:
            value, position = _decoder.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            if not start[0][-1].isdecimal():  # broken, or cut: what follows is a part of it
                return values
            position = start.end()  # as in "[12 May]"
            continue
        values.append(value)
    return values


def _object_so_far(text: str, output_cls: type[BaseModel]) -> dict[str, Any] | None:
    start = _JSON_START.search(text)
    if start is None:
        return None
    try:
        value = from_json(text[start.start() :].partition("```")[0], allow_partial="trailing-strings")
    except ValueError:
        return None
    if isinstance(value, dict) and (ROOT not in output_cls.model_fields or ROOT in value):
        return value
    return {ROOT: value} if ROOT in output_cls.model_fields else None
