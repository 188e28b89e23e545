"""Structured output (``structured_predict`` and its kin), also from models that cannot be forced to call a tool.

LlamaIndex declares the output class as the only tool, and forces a call of it. The newest Claudes, every Claude while
it thinks, and Llama refuse to be forced. Their requests do not force the call, and ask for JSON text by Converse's
``outputConfig.textFormat`` if the family takes it. JSON text in the answer counts as the call.

Text counts only if the output class validates it. An answer that explains why it has none stays an error.

A class whose JSON schema has no properties (a `RootModel`, a recursive model) cannot be a tool of LlamaIndex, which
reads the properties. Such a class becomes the only field, ``root``, of a class made for the purpose.
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
# The beginning of a JSON value. If the value turns out to be broken, none of its parts is taken for the whole.
_JSON_START = re.compile(r"\{\s*[\"}]|\[\s*(?:[\[{\"\]]|-?\d)")
# Llama writes calls as text: {"name": "City", "parameters": {…}}.
_ARGUMENTS = ("parameters", "arguments", "input")
_MAX_VALUES = 100
_decoder = json.JSONDecoder(parse_constant=finite_number, parse_float=finite_number)


def output_class(tools: Sequence[Any]) -> type[BaseModel] | None:
    """Return the output class of one of LlamaIndex's programs; None if the tools are the caller's.

    The programs declare the class by ``get_function_tool``. No caller's tool has its function.
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
    """Return the properties of a class's JSON schema, or None. Cached, because making a schema takes milliseconds."""
    properties = output_cls.model_json_schema().get("properties")
    return None if properties is None else frozenset(properties)


@functools.lru_cache(maxsize=256)
def _holder(output_cls: type[BaseModel]) -> type[BaseModel]:
    holder: type[BaseModel] = create_model(output_cls.__name__, __doc__=output_cls.__doc__, root=(output_cls, ...))
    return holder


def with_properties(output_cls: type[BaseModel]) -> type[BaseModel]:
    """Return a class whose JSON schema has properties: the class itself, or a holder with the field ``root``."""
    return _holder(output_cls) if _property_names(output_cls) is None else output_cls


def unwrap_object(output: Any, output_cls: type[BaseModel]) -> Any:
    """Return the object in a holder of `with_properties`, also while the object grows."""
    if isinstance(output, output_cls):
        return output
    value = getattr(output, ROOT, None)
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
    # Claude takes only objects without further properties.
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
    """Return the response with a call of the output class, if it has the object only as JSON text.

    Args:
        response: A whole answer, or a chunk of a stream, whose object may be incomplete.
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
    extra = {**response.message.additional_kwargs, "tool_calls": [tool_call_entry(call)]}
    message = response.message.model_copy(
        update={"blocks": [*response.message.blocks, call], "additional_kwargs": extra}
    )
    return response.model_copy(update={"message": message})


def check_object_stream(
    chunks: Iterator[ChatResponse], output_cls: type[BaseModel]
) -> Generator[ChatResponse, None, None]:
    """Yield the chunks of a stream, and check at the end that it brought an object.

    Raises:
        ToolCallError: The stream brought no whole object. LlamaIndex also checks, but logs the error and keeps the
            part.
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
    """Yield the chunks of an asynchronous stream, and check at the end that it brought an object."""
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
    """Return the arguments of an object in a text: alone, in a fence, or among words (the last object there)."""
    properties = _property_names(output_cls) or frozenset()
    last = None
    for pieces in ([text], _FENCED.findall(text), None):
        values = _values_among_words(text) if pieces is None else [_parse(piece) for piece in pieces]
        for value in values:
            for arguments in _possible_arguments(value):
                if _is_object(arguments, output_cls, properties, alone=pieces == [text]):
                    last = arguments
                    break
        if last is not None:
            return last
    return None


def _possible_arguments(value: Any) -> list[dict[str, Any]]:
    """Return the possible arguments in a JSON value."""
    if not isinstance(value, dict):
        return [] if value is None else [{ROOT: value}]
    inner = [value[name] for name in _ARGUMENTS if isinstance(value.get(name), dict)]
    return [value, {ROOT: value}, *inner]


def _is_object(
    arguments: dict[str, Any], output_cls: type[BaseModel], properties: frozenset[str], *, alone: bool
) -> bool:
    # A class whose fields are all optional validates any JSON, so one of its fields is required here.
    if not (properties & arguments.keys()) and (arguments or not alone):
        return False
    try:
        output_cls.model_validate(arguments)
    except ValidationError:
        return False
    return True


def _parse(text: str) -> Any:
    try:
        return _decoder.decode(text.strip())
    except (ValueError, RecursionError):
        return None


def _values_among_words(text: str) -> list[Any]:
    values: list[Any] = []
    position = 0
    while len(values) < _MAX_VALUES:
        start = _JSON_START.search(text, position)
        if start is None:
            return values
        try:
            value, position = _decoder.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            if not start[0][-1].isdecimal():  # broken or cut off: what follows may be a part of it
                return values
            position = start.end()  # not JSON, as in "[12 May]"
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
