"""Emit LlamaIndex's callbacks and instrumentation events of a call, and our own `ModelRoutedEvent`.

LlamaIndex's decorators make every event even if nothing listens. For a stream that is one event for each chunk, which
takes as long as all of our own work. `InstrumentedCall` emits the same events in the same order, and leaves out those
without a listener (tests/test_llama_index_events.py compares the two).

Our events are emitted where the caller reads the answer, and not when `RoutedClient` receives it: handlers run in the
caller's thread or event loop, and a stream that was answered but not read to its end is not reported as answered.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.generic_utils import chat_response_to_completion_response
from llama_index.core.callbacks import CBEventType, EventPayload
from llama_index.core.instrumentation.events.exception import ExceptionEvent
from llama_index.core.instrumentation.events.llm import (
    LLMChatEndEvent,
    LLMChatInProgressEvent,
    LLMChatStartEvent,
    LLMCompletionEndEvent,
    LLMCompletionInProgressEvent,
    LLMCompletionStartEvent,
)
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.event_handlers import NullEventHandler
from llama_index_instrumentation.span import active_span_id

from bedrock_routing_integrations.errors import InvalidTargetError
from bedrock_routing_integrations.invocation import ROUTING
from bedrock_routing_integrations.observability import find_external_span
from bedrock_routing_integrations.targets import parse_target

from ._responses import as_chat, as_completion
from .events import ModelCallFailedEvent, ModelRoutedEvent

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.base.llms.types import ChatResponse
    from llama_index.core.llms import LLM
    from llama_index_instrumentation.dispatcher import Dispatcher

    from bedrock_routing_integrations.observability import ExternalSpan

    from .llms import BedrockRouter

dispatcher = get_dispatcher(__package__)
"""The dispatcher of our own events."""
# The dispatcher to which LlamaIndex's decorators emit the events of every LLM.
_llm_dispatcher = get_dispatcher("llama_index.core.llms.callbacks")


@dataclass(frozen=True)
class CallKind:
    """LlamaIndex's names and types for a chat or a completion.

    Attributes:
        trace: Name of the trace.
        input_field: The events' field for the messages or the prompt.
        input_payload: The callbacks' key for it.
        answer_payload: The callbacks' key for the answer.
        start_event: Class of the first event.
        progress_event: Class of the event for a chunk.
        end_event: Class of the last event.
        convert_response: Convert a whole response to what the caller gets.
        convert_chunk: Convert a chunk to what the caller gets.
    """

    trace: str
    input_field: str
    input_payload: EventPayload
    answer_payload: EventPayload
    start_event: type[Any]
    progress_event: type[Any]
    end_event: type[Any]
    convert_response: Callable[[ChatResponse], Any]
    convert_chunk: Callable[[ChatResponse], Any]


CHAT = CallKind(
    "chat", "messages", EventPayload.MESSAGES, EventPayload.RESPONSE,
    LLMChatStartEvent, LLMChatInProgressEvent, LLMChatEndEvent, as_chat, as_chat,
)  # fmt: skip
COMPLETION = CallKind(
    "completion", "prompt", EventPayload.PROMPT, EventPayload.COMPLETION,
    LLMCompletionStartEvent, LLMCompletionInProgressEvent, LLMCompletionEndEvent,
    chat_response_to_completion_response, as_completion,
)  # fmt: skip


class InstrumentedCall:
    """One call, and the events that it emits.

    Args:
        llm: The LLM that is called.
        kind: `CHAT` or `COMPLETION`.
        prompt: The messages, or the prompt.
        arguments: The other arguments of the call.
    """

    def __init__(self, llm: BedrockRouter, kind: CallKind, prompt: Any, arguments: dict[str, Any]) -> None:
        self._llm, self._kind, self._arguments = llm, kind, arguments
        self._input = {kind.input_field: prompt}
        self._input_payload: dict[Any, Any] = {kind.input_payload: prompt}
        self._callbacks = llm.callback_manager
        self._span_id = active_span_id.get()
        self._event_id = ""
        self._emits_llm_events = has_listeners(_llm_dispatcher, to_llm_events=True)
        self._answer: Any = None
        self._is_answered = False

    @contextlib.contextmanager
    def sending(self) -> Generator[None, None, None]:
        """Emit the start of the call; on leaving the block its failure, or its end if `answered` was called."""
        with self._callbacks.as_trace(self._kind.trace):
            described = self._llm.to_payload() if self._emits_llm_events or self._callbacks.handlers else {}
            if self._emits_llm_events:
                fields = {**self._input, "additional_kwargs": self._arguments, "model_dict": described}
                _llm_dispatcher.event(self._kind.start_event(**fields, span_id=self._span_id))
            self._event_id = self._callbacks.on_event_start(
                CBEventType.LLM,
                payload={
                    **self._input_payload,
                    EventPayload.ADDITIONAL_KWARGS: self._arguments,
                    EventPayload.SERIALIZED: described,
                },
            )
            try:
                yield
            except BaseException as error:
                self._emit_failure(error)
                raise
            if self._answer is not None:
                self._emit_end(self._answer)

    def answered(self, response: ChatResponse) -> Any:
        """Emit `ModelRoutedEvent` for a whole response, and return what the caller gets. For use in `sending`."""
        self._emit_routed(response)
        self._answer = self._kind.convert_response(response)
        return self._answer

    def emitting(self, chunks: Iterator[ChatResponse]) -> Generator[Any, None, None]:
        """Yield the chunks of a stream as the caller gets them, and emit their events."""
        last = None
        try:
            with self._emitting_exceptions():
                for chunk in chunks:
                    last = self._emit_chunk(chunk)
                    yield last
        finally:
            # Handlers may keep the exception, and with it this frame and the open stream.
            if isinstance(chunks, Generator):
                chunks.close()
        self._emit_end(last)

    async def aemitting(
        self, first: ChatResponse, rest: AsyncGenerator[ChatResponse, None]
    ) -> AsyncGenerator[Any, None]:
        """Do asynchronously what `emitting` does.

        Args:
            first: The first chunk.
            rest: The other chunks.
        """
        try:
            with self._emitting_exceptions():
                last = self._emit_chunk(first)
                yield last
                async for chunk in rest:
                    last = self._emit_chunk(chunk)
                    yield last
        finally:
            await rest.aclose()
        self._emit_end(last)

    def _emit_chunk(self, chunk: ChatResponse) -> Any:
        self._emit_routed(chunk)
        converted = self._kind.convert_chunk(chunk)
        if self._emits_llm_events:
            _llm_dispatcher.event(self._kind.progress_event(**self._input, response=converted, span_id=self._span_id))
        return converted

    def _emit_routed(self, response: ChatResponse) -> None:
        routing = response.additional_kwargs.get(ROUTING)
        if routing is not None:
            self._is_answered = True
            emit_routed(routing, self._span_id)

    @contextlib.contextmanager
    def _emitting_exceptions(self) -> Generator[None, None, None]:
        try:
            yield
        except BaseException as error:
            self._emit_failure(error)
            _llm_dispatcher.event(ExceptionEvent(exception=error, span_id=self._span_id))
            raise

    def _emit_failure(self, error: BaseException) -> None:
        if not self._is_answered:
            emit_failed(self._arguments.get("model") or self._llm.model, error, self._span_id)
        self._end_callbacks({EventPayload.EXCEPTION: error})

    def _emit_end(self, last: Any) -> None:
        self._end_callbacks({**self._input_payload, self._kind.answer_payload: last})
        if self._emits_llm_events:
            _llm_dispatcher.event(self._kind.end_event(**self._input, response=last, span_id=self._span_id))

    def _end_callbacks(self, payload: dict[Any, Any]) -> None:
        self._callbacks.on_event_end(CBEventType.LLM, payload=payload, event_id=self._event_id)


def emit_routed(routing: dict[str, Any], span_id: str | None) -> None:
    """Emit `ModelRoutedEvent` for an answered call.

    Args:
        routing: The ``"routing"`` entry of the call.
        span_id: LlamaIndex's span of the call.
    """
    if has_listeners(dispatcher):
        dispatcher.event(ModelRoutedEvent(routing=routing, span_id=span_id))


def emit_failed(model: Any, error: BaseException, span_id: str | None) -> None:
    """Emit `ModelCallFailedEvent` for a failed call. A cancelled or closed call (not an `Exception`) has no event.

    Args:
        model: The requested target.
        error: The exception.
        span_id: LlamaIndex's span of the call.
    """
    if isinstance(error, Exception) and has_listeners(dispatcher):
        try:
            requested = parse_target(model).model_id
        except InvalidTargetError:
            requested = str(model)
        dispatcher.event(ModelCallFailedEvent(requested_model_id=requested, exception=error, span_id=span_id))


def has_listeners(emitter: Dispatcher, *, to_llm_events: bool = False) -> bool:
    """Return whether a dispatcher, or one that it propagates to, has event handlers.

    Args:
        emitter: The dispatcher.
        to_llm_events: Whether to leave out handlers of this package, which only process our own events: classes with
            ``ignores_llm_events`` in their own body. A subclass may override ``handle``, and is not left out.
    """
    while True:
        for handler in emitter.event_handlers:
            kind = type(handler)
            if kind is not NullEventHandler and not (to_llm_events and "ignores_llm_events" in vars(kind)):
                return True
        if not emitter.propagate:
            return False
        emitter = emitter.parent


def external_span_of_call(caller: LLM | BaseRetriever) -> ExternalSpan | None:
    """Return the OpenTelemetry span that a handler has made for the current call; None if no handler traces.

    Args:
        caller: The LLM or retriever that is being called.
    """
    emitter = get_dispatcher(type(caller).__module__)  # the dispatcher of its decorated methods
    handlers: list[Any] = [*emitter.span_handlers]
    while emitter.propagate and emitter.parent is not None:
        emitter = emitter.parent
        handlers += emitter.span_handlers
    # Span handlers make their span the current one; the older callback handlers do not.
    return find_external_span(handlers, is_current=True) or find_external_span(caller.callback_manager.handlers)
