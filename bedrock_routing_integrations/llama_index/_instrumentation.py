"""What LlamaIndex's callbacks and instrumentation are told of a call, and who answered it.

LlamaIndex's own decorators make every event, whether or not anybody listens: for a stream one for each chunk, which
takes as long as all that we do. `Call` tells the same in the same order and leaves out the events that nobody hears
(tests/test_llama_index_events.py compares the two).
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
from bedrock_routing_integrations.observability.external_spans import ExternalSpan, find_external_span
from bedrock_routing_integrations.targets import parse_target

from ._responses import as_chat, as_completion
from .events import ModelCallFailedEvent, ModelRoutedEvent

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Container, Iterator

    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.base.llms.types import ChatResponse
    from llama_index.core.llms import LLM
    from llama_index_instrumentation.dispatcher import Dispatcher

    from .llms import BedrockRouter

ours = get_dispatcher(__package__)
# Where LlamaIndex's decorators tell of the calls of every LLM; whoever listens there hears ours too.
_theirs = get_dispatcher("llama_index.core.llms.callbacks")
hear_only_ours: set[type] = {NullEventHandler}
"""Kinds of handlers for whom LlamaIndex's own events need not be made."""


@dataclass(frozen=True)
class Kind:
    """What LlamaIndex calls the parts of a chat, or of a completion, and how an answer becomes one of them."""

    trace: str
    asked: str
    asked_payload: EventPayload
    answered_payload: EventPayload
    start: type[Any]
    progress: type[Any]
    end: type[Any]
    whole: Callable[[ChatResponse], Any]
    chunk: Callable[[ChatResponse], Any]


CHAT = Kind(
    "chat", "messages", EventPayload.MESSAGES, EventPayload.RESPONSE,
    LLMChatStartEvent, LLMChatInProgressEvent, LLMChatEndEvent, as_chat, as_chat,
)  # fmt: skip
COMPLETION = Kind(
    "completion", "prompt", EventPayload.PROMPT, EventPayload.COMPLETION,
    LLMCompletionStartEvent, LLMCompletionInProgressEvent, LLMCompletionEndEvent,
    chat_response_to_completion_response, as_completion,
)  # fmt: skip


class Call:
    """One call, as it is told.

    Args:
        llm: Whose call it is.
        kind: `CHAT` or `COMPLETION`.
        asked: The messages, or the prompt.
        arguments: The other arguments of the call.
    """

    def __init__(self, llm: BedrockRouter, kind: Kind, asked: Any, arguments: dict[str, Any]) -> None:
        self._llm, self._kind, self._asked, self._arguments = llm, kind, asked, arguments
        self._callbacks = llm.callback_manager
        self._span_id = active_span_id.get()
        self._event_id = ""
        self._heard = _is_heard(_theirs, hear_only_ours)
        self._answer: Any = None
        self._is_answered = False

    @contextlib.contextmanager
    def opening(self) -> Generator[None, None, None]:
        """Around the sending of the request, and the answer where it comes whole."""
        with self._callbacks.as_trace(self._kind.trace):
            described = self._llm.to_payload() if self._heard or self._callbacks.handlers else {}
            if self._heard:
                asked = {self._kind.asked: self._asked, "additional_kwargs": self._arguments, "model_dict": described}
                _theirs.event(self._kind.start(**asked, span_id=self._span_id))
            self._event_id = self._callbacks.on_event_start(
                CBEventType.LLM,
                payload={
                    self._kind.asked_payload: self._asked,
                    EventPayload.ADDITIONAL_KWARGS: self._arguments,
                    EventPayload.SERIALIZED: described,
                },
            )
            try:
                yield
            except BaseException as error:
                self._fail(error)
                raise
            if self._answer is not None:
                self._finish(self._answer)

    def answered(self, response: ChatResponse) -> Any:
        """The whole answer; inside of `opening`, which tells of it."""
        self._answer = self._kind.whole(self._told(response))
        return self._answer

    def reading(self, chunks: Iterator[ChatResponse]) -> Generator[Any, None, None]:
        """The chunks, told as they are read."""
        last = None
        try:
            with self._failing():
                for chunk in chunks:
                    last = self._progress(chunk)
                    yield last
        finally:
            # Who keeps the exception that was told keeps this frame, and all that is in it.
            if isinstance(chunks, Generator):
                chunks.close()
        self._finish(last)

    async def areading(
        self, first: ChatResponse, rest: AsyncGenerator[ChatResponse, None]
    ) -> AsyncGenerator[Any, None]:
        """`reading`, asynchronously; the first chunk is here already."""
        try:
            with self._failing():
                last = self._progress(first)
                yield last
                async for chunk in rest:
                    last = self._progress(chunk)
                    yield last
        finally:
            await rest.aclose()
        self._finish(last)

    def _progress(self, chunk: ChatResponse) -> Any:
        shown = self._kind.chunk(self._told(chunk))
        if self._heard:
            asked = {self._kind.asked: self._asked}
            _theirs.event(self._kind.progress(**asked, response=shown, span_id=self._span_id))
        return shown

    def _told(self, response: ChatResponse) -> ChatResponse:
        """The response, after telling who gave it. One `ModelRoutedEvent` for each answered call."""
        routing = response.additional_kwargs.get(ROUTING)
        if routing is not None:
            self._is_answered = True
            tell_routed(routing, self._span_id)
        return response

    @contextlib.contextmanager
    def _failing(self) -> Generator[None, None, None]:
        try:
            yield
        except BaseException as error:
            self._fail(error)
            _theirs.event(ExceptionEvent(exception=error, span_id=self._span_id))
            raise

    def _fail(self, error: BaseException) -> None:
        if not self._is_answered:
            tell_failed(self._arguments.get("model") or self._llm.model, error, self._span_id)
        self._end({EventPayload.EXCEPTION: error})

    def _finish(self, last: Any) -> None:
        self._end({self._kind.asked_payload: self._asked, self._kind.answered_payload: last})
        if self._heard:
            asked = {self._kind.asked: self._asked}
            _theirs.event(self._kind.end(**asked, response=last, span_id=self._span_id))

    def _end(self, payload: dict[Any, Any]) -> None:
        self._callbacks.on_event_end(CBEventType.LLM, payload=payload, event_id=self._event_id)


def tell_routed(routing: dict[str, Any], span_id: str | None) -> None:
    """Tell who answered a call."""
    if _is_heard(ours):
        ours.event(ModelRoutedEvent(routing=routing, span_id=span_id))


def tell_failed(model: Any, error: BaseException, span_id: str | None) -> None:
    """Tell that a call of `model` failed. Of one that was cancelled or closed (no `Exception`) nothing is told."""
    if isinstance(error, Exception) and _is_heard(ours):
        try:
            requested = parse_target(model).model_id
        except InvalidTargetError:
            requested = str(model)
        ours.event(ModelCallFailedEvent(requested_model_id=requested, exception=error, span_id=span_id))


def _is_heard(dispatcher: Dispatcher, deaf: Container[type] = (NullEventHandler,)) -> bool:
    """Whether anybody listens to what is told there, but for handlers of the types `deaf`."""
    while True:
        for handler in dispatcher.event_handlers:
            if type(handler) not in deaf:
                return True
        if not dispatcher.propagate:
            return False
        dispatcher = dispatcher.parent


# --- Who of LlamaIndex's handlers tells OpenTelemetry of a call. ---


def external_span_of_call(caller: LLM | BaseRetriever) -> ExternalSpan | None:
    """Return who tells of the call of an LLM, or of a retriever, that is being made; None where nobody does."""
    dispatcher = get_dispatcher(type(caller).__module__)  # as the decorator of its methods
    handlers: list[Any] = [*dispatcher.span_handlers]
    while dispatcher.propagate and dispatcher.parent is not None:
        dispatcher = dispatcher.parent
        handlers += dispatcher.span_handlers
    # Span handlers make theirs the current one; the older callback handlers do not.
    return find_external_span(handlers, is_current=True) or find_external_span(caller.callback_manager.handlers)
