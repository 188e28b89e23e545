"""Structured output whose schema is not of an object: a list, a number, a pydantic `RootModel` of such.

Bedrock takes objects only, and so do LangChain's tool calls. Such a schema becomes that of an object with one property,
``root``, whose value is taken out of the answer again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from langchain_core.exceptions import OutputParserException
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough, RunnableSequence
from pydantic import BaseModel, RootModel

from bedrock_routing_integrations.requests import ROOT, object_schema
from bedrock_routing_integrations.stop_reasons import CUT_OFF, NEVER_WHOLE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from langchain_core.runnables import RunnableConfig

# Where the known forms of a tool, other than a JSON schema itself, keep the schema.
_SCHEMA_MEMBERS = ("parameters", "input_schema")


def with_object_root(schema: Any) -> tuple[Any, bool]:
    """Return a schema, or a tool, as a dictionary whose root is an object, and whether it had to be wrapped.

    Args:
        schema: What LangChain takes as schema or tool; what is no dictionary is returned as it is.
    """
    if not isinstance(schema, Mapping) or "toolSpec" in schema:
        return schema, False
    if isinstance(schema.get("function"), Mapping):
        function, is_wrapped = with_object_root(schema["function"])
        return {**schema, "function": function}, is_wrapped
    for member in _SCHEMA_MEMBERS:
        if isinstance(schema.get(member), dict):
            inner, is_wrapped = object_schema(schema[member])
            return ({**schema, member: inner}, True) if is_wrapped else (schema, False)
    if "title" not in schema or "name" in schema:
        return schema, False
    head = {name: schema[name] for name in ("title", "description") if name in schema}
    root, is_wrapped = object_schema({name: value for name, value in schema.items() if name not in head})
    return ({**head, **root}, True) if is_wrapped else (schema, False)


def planned_schema(schema: Any, method: str) -> tuple[Any, Callable[[Any], Any] | None]:
    """Return the schema to ask for, and a function from the answer to the caller's value; None where they are equal."""
    if isinstance(schema, type) and issubclass(schema, RootModel) and method != "function_calling":
        # As a tool's arguments, pydantic takes the one property itself.
        described = {"title": schema.__name__, "description": schema.__doc__ or schema.__name__}
        wrapped, is_wrapped = with_object_root({**schema.model_json_schema(), **described})
        model: type[BaseModel] = schema
        return (wrapped, lambda value: model.model_validate(value[ROOT])) if is_wrapped else (schema, None)
    wrapped, is_wrapped = with_object_root(schema)
    return (wrapped, lambda value: value[ROOT]) if is_wrapped else (schema, None)


def taking_out(chain: Runnable[Any, Any], restore: Callable[[Any], Any], *, include_raw: bool) -> Runnable[Any, Any]:
    """Return a chain that gives the caller's value. A stream gives it once it is whole."""

    def value_of(parsed: Any) -> Any:
        return None if parsed is None else restore(parsed)

    def of_raw(answer: dict[str, Any]) -> dict[str, Any]:
        try:
            return {**answer, "parsed": value_of(answer.get("parsed"))}
        except Exception as error:  # noqa: BLE001 - with include_raw=True no error of parsing is raised
            return {**answer, "parsed": None, "parsing_error": error}

    return chain | RunnableLambda(of_raw if include_raw else value_of)


class _WholeAnswer(RunnablePassthrough):  # type: ignore[type-arg]  # of messages
    """Hands messages on; raises at the end of a stream whose answer was cut off.

    LangChain's parsers complete what has arrived of an object: without the error the half of one looks finished.
    """

    def transform(self, input: Iterator[Any], config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:  # noqa: A002 - its name
        """Hand the chunks on."""
        reason = None
        for chunk in input:
            reason = _stop_reason(chunk) or reason
            yield chunk
        _check_whole(reason)

    async def atransform(
        self,
        input: AsyncIterator[Any],  # noqa: A002 - its name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        """Hand the chunks on."""
        reason = None
        async for chunk in input:
            reason = _stop_reason(chunk) or reason
            yield chunk
        _check_whole(reason)


def _stop_reason(chunk: Any) -> str | None:
    reason = (getattr(chunk, "response_metadata", None) or {}).get("stopReason")
    return reason if isinstance(reason, str) else None


def _check_whole(reason: str | None) -> None:
    if reason in NEVER_WHOLE:
        raise OutputParserException(
            f"The object is not complete (stop reason {reason}): {CUT_OFF[reason]} What was yielded is a part of it."
        )


def checked_to_its_end(chain: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """Return a chain of a model and a parser whose streams raise where the answer was cut off."""
    if not isinstance(chain, RunnableSequence) or len(chain.steps) < 2:
        return chain
    *before, parser = chain.steps
    return RunnableSequence(*before, _WholeAnswer(), parser)
