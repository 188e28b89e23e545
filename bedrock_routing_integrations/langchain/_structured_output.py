"""Build the chain of ``ChatBedrockRouter.with_structured_output``.

langchain-aws builds the chain: the model with a tool or an output format bound to it, then a parser. This module
changes the chain in three ways.

- The schema need not describe an object. Bedrock takes only objects as the arguments of a tool, so another schema is
  sent as the property ``root`` of an object, and the value is taken out of the answer again.
- A stream whose answer was cut off raises at its end. LangChain's parsers complete what has arrived of an object, so
  half an object would look finished.
- A model that is not forced to call the tool may answer with the value as JSON text. The text counts as the call if it
  fits the schema. The newest Claudes, every Claude while it thinks, and Llama cannot be forced.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.runnables import (
    RunnableBinding,
    RunnableLambda,
    RunnableMap,
    RunnablePassthrough,
    RunnableSequence,
    RunnableSerializable,
)
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, RootModel, ValidationError

from bedrock_routing_integrations.requests import ROOT, object_schema
from bedrock_routing_integrations.transport.answer_validation import CUT_OFF, NEVER_COMPLETE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from langchain_core.runnables import Runnable, RunnableConfig

# Members in which the known forms of a tool, other than a JSON schema itself, keep the schema.
_SCHEMA_MEMBERS = ("parameters", "input_schema")
_CALL_ID = "text"
_FENCED = re.compile(r"```[a-zA-Z]*\s*\n(.*?)```", re.DOTALL)


def build_structured_output(
    build: Callable[..., Any], model: Runnable[Any, Any], schema: Any, *, include_raw: bool = False, **kwargs: Any
) -> Runnable[Any, Any]:
    """Return a chain that answers with a value of a schema.

    Args:
        build: langchain-aws's ``with_structured_output``, of a chat model that is configured for the target.
        model: The chat model that the chain calls.
        schema: A pydantic class, a TypedDict class or a JSON schema of any type.
        include_raw: Whether to return a dictionary of ``raw``, ``parsed`` and ``parsing_error`` in place of the value.
        **kwargs: Further arguments of ``with_structured_output``.
    """
    method = kwargs.get("method", "function_calling")
    sent_schema, restore = schema_with_object_root(schema, method)
    # Steps: one that prepares the prompt (for `prompt_prefill`), the bound model, a check of the answer, the parser.
    *steps, parser = build(sent_schema, **kwargs).steps
    position = next(number for number, step in enumerate(steps) if isinstance(step, RunnableBinding))
    prepare, checks = steps[:position], steps[position + 1 :]
    bound = steps[position].model_copy(update={"bound": model})
    reader = _answer_reader(sent_schema, method, raises_if_cut_off=not include_raw)
    chain: Runnable[Any, Any]
    if include_raw:
        parsed = RunnablePassthrough.assign(
            parsed=RunnableSequence(RunnableLambda(itemgetter("raw")), reader, *checks, parser),
            parsing_error=lambda _: None,
        )
        unparsed = RunnablePassthrough.assign(parsed=lambda _: None)
        chain = RunnableSequence(
            *prepare, RunnableMap(raw=bound), parsed.with_fallbacks([unparsed], exception_key="parsing_error")
        )
    else:
        chain = RunnableSequence(*prepare, bound, reader, *checks, parser)
    return chain if restore is None else chain | _restoring(restore, include_raw=include_raw)


def _answer_reader(schema: Any, method: str, *, raises_if_cut_off: bool) -> AnswerReader:
    if method != "function_calling":
        return AnswerReader(raises_if_cut_off=raises_if_cut_off)
    is_class = isinstance(schema, type) and issubclass(schema, BaseModel)
    return AnswerReader(
        tool=convert_to_openai_tool(schema)["function"],
        output_class=schema if is_class else None,
        raises_if_cut_off=raises_if_cut_off,
    )


# --- Schemas whose root is not an object ---


def tool_with_object_root(tool: Any) -> tuple[Any, bool]:
    """Return a tool or a schema whose root is an object, and whether the given one had to be wrapped.

    Args:
        tool: A tool or a schema in any form that LangChain takes. Other objects than dictionaries are returned as is.
    """
    if not isinstance(tool, Mapping) or "toolSpec" in tool:
        return tool, False
    if isinstance(tool.get("function"), Mapping):
        function, is_wrapped = tool_with_object_root(tool["function"])
        return {**tool, "function": function}, is_wrapped
    for member in _SCHEMA_MEMBERS:
        if isinstance(tool.get(member), dict):
            schema, is_wrapped = object_schema(tool[member])
            return ({**tool, member: schema}, True) if is_wrapped else (tool, False)
    if "title" not in tool or "name" in tool:
        return tool, False
    head = {name: tool[name] for name in ("title", "description") if name in tool}
    root, is_wrapped = object_schema({name: value for name, value in tool.items() if name not in head})
    return ({**head, **root}, True) if is_wrapped else (tool, False)


def schema_with_object_root(schema: Any, method: str) -> tuple[Any, Callable[[Any], Any] | None]:
    """Return the schema to send, and a function from the parsed answer to the caller's value; None if they are equal.

    Args:
        schema: The caller's schema.
        method: The method of ``with_structured_output``.
    """
    if isinstance(schema, type) and issubclass(schema, RootModel) and method != "function_calling":
        # Of a tool's arguments, pydantic takes the one property itself.
        described = {"title": schema.__name__, "description": schema.__doc__ or schema.__name__}
        sent, is_wrapped = tool_with_object_root({**schema.model_json_schema(), **described})
        model: type[BaseModel] = schema
        return (sent, lambda value: model.model_validate(value[ROOT])) if is_wrapped else (schema, None)
    sent, is_wrapped = tool_with_object_root(schema)
    return (sent, itemgetter(ROOT)) if is_wrapped else (schema, None)


def _restoring(restore: Callable[[Any], Any], *, include_raw: bool) -> Runnable[Any, Any]:
    """Return a step that makes the caller's value of the parsed one. In a stream it waits for the end."""

    def restore_value(parsed: Any) -> Any:
        return None if parsed is None else restore(parsed)

    def restore_parsed(answer: dict[str, Any]) -> dict[str, Any]:
        try:
            return {**answer, "parsed": restore_value(answer.get("parsed"))}
        except Exception as error:  # noqa: BLE001 - with include_raw=True errors of parsing are not raised
            return {**answer, "parsed": None, "parsing_error": error}

    return RunnableLambda(restore_parsed if include_raw else restore_value)


# --- Answers: complete or cut off, with a tool call or with JSON text ---


class AnswerReader(RunnableSerializable[AIMessage, AIMessage]):
    """Step between the model and the parser: checks that a stream is complete, and accepts JSON text as a tool call.

    Attributes:
        tool: The tool that the model may answer without: ``name`` and ``parameters``, a JSON schema. None for methods
            that ask for JSON text in the first place.
        output_class: The pydantic class that validates the arguments of the tool; None for a JSON schema.
        raises_if_cut_off: Whether a stream that was cut off raises at its end.
    """

    tool: Mapping[str, Any] | None = None
    output_class: type[BaseModel] | None = None
    raises_if_cut_off: bool = True

    def invoke(self, input: AIMessage, config: RunnableConfig | None = None, **kwargs: Any) -> AIMessage:  # noqa: A002 - its name
        """Return the answer, with a tool call if it has the arguments as JSON text.

        Args:
            input: The answer.
            config: Not used.
            **kwargs: Not used.
        """
        call = self._call_in_text(str(input.text), _stop_reason(input), has_calls=_has_calls(input))
        return input if call is None else input.model_copy(update={"tool_calls": [{**call, "type": "tool_call"}]})

    async def ainvoke(self, input: AIMessage, config: RunnableConfig | None = None, **kwargs: Any) -> AIMessage:  # noqa: A002 - its name
        """Return the answer as `invoke` does.

        Args:
            input: The answer.
            config: Not used.
            **kwargs: Not used.
        """
        return self.invoke(input)

    def transform(
        self,
        input: Iterator[AIMessage],  # noqa: A002 - its name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessage]:
        """Yield the chunks of an answer, then one with a tool call if their text is the arguments as JSON.

        Args:
            input: The chunks.
            config: Not used.
            **kwargs: Not used.

        Raises:
            OutputParserException: At the end, if the answer was cut off.
        """
        answer = _StreamedAnswer()
        for chunk in input:
            answer.add(chunk)
            yield chunk
        yield from self._rest(answer)

    async def atransform(
        self,
        input: AsyncIterator[AIMessage],  # noqa: A002 - its name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessage]:
        """Yield as `transform` does.

        Args:
            input: The chunks.
            config: Not used.
            **kwargs: Not used.

        Raises:
            OutputParserException: At the end, if the answer was cut off.
        """
        answer = _StreamedAnswer()
        async for chunk in input:
            answer.add(chunk)
            yield chunk
        for chunk in self._rest(answer):
            yield chunk

    def _rest(self, answer: _StreamedAnswer) -> Iterator[AIMessage]:
        reason = answer.stop_reason
        if self.raises_if_cut_off and reason in NEVER_COMPLETE:
            raise OutputParserException(
                f"The object is not complete (stop reason {reason}): {CUT_OFF[str(reason)]} What was yielded is a part "
                "of it."
            )
        call = self._call_in_text("".join(answer.texts), reason, has_calls=answer.has_calls)
        if call is not None:
            arguments = json.dumps(call["args"], ensure_ascii=False)
            part = tool_call_chunk(name=call["name"], args=arguments, id=call["id"])
            yield AIMessageChunk(content="", tool_call_chunks=[part])

    def _call_in_text(self, text: str, stop_reason: str | None, *, has_calls: bool) -> dict[str, Any] | None:
        """Return the tool call that a text stands for; None if the text does not fit the schema."""
        tool = self.tool
        if tool is None or has_calls or stop_reason in NEVER_COMPLETE:
            return None
        for part in [text, *_FENCED.findall(text)]:
            try:
                value = json.loads(part)
            except (ValueError, RecursionError):
                continue
            for arguments in _possible_arguments(value, tool["name"]):
                if self._fits(arguments, tool.get("parameters") or {}):
                    return {"name": tool["name"], "args": arguments, "id": _CALL_ID}
        return None

    def _fits(self, arguments: dict[str, Any], parameters: Mapping[str, Any]) -> bool:
        """Return whether the schema admits the arguments and declares some of them: optional fields admit any JSON."""
        # Only pydantic's root models have no properties and yet arguments.
        names = set(parameters.get("properties") or ([ROOT] if self.output_class else []))
        if not names & arguments.keys() or not set(parameters.get("required") or ()) <= arguments.keys():
            return False
        if self.output_class is None:
            return True
        try:
            self.output_class(**arguments)
        except (ValidationError, TypeError):
            return False
        return True


def _possible_arguments(value: Any, tool_name: str) -> Iterator[dict[str, Any]]:
    """Yield the arguments that a JSON value can stand for."""
    if isinstance(value, dict):
        # Llama writes a call as text: {"name": "City", "parameters": {…}}.
        if value.get("name") == tool_name and isinstance(value.get("parameters"), dict):
            yield value["parameters"]
        yield value
    yield {ROOT: value}


class _StreamedAnswer:
    """Text, tool calls and stop reason of the chunks that have arrived."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.has_calls = False
        self.stop_reason: str | None = None

    def add(self, chunk: AIMessage) -> None:
        """Add a chunk."""
        self.stop_reason = _stop_reason(chunk) or self.stop_reason
        self.has_calls = self.has_calls or _has_calls(chunk)
        if not self.has_calls:
            self.texts.append(str(chunk.text))


def _has_calls(message: AIMessage) -> bool:
    return bool(message.tool_calls or message.invalid_tool_calls or getattr(message, "tool_call_chunks", None))


def _stop_reason(message: AIMessage) -> str | None:
    reason = message.response_metadata.get("stopReason")
    return reason if isinstance(reason, str) else None
