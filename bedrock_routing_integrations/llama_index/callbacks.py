"""Define `RoutingEventHandler`, which adds up LlamaIndex's calls in a `RoutingReport`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, ClassVar

from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from pydantic import PrivateAttr

from bedrock_routing_integrations.costs.report import RoutingReport
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.observability.active_handlers import ActiveHandlers

from ._instrumentation import dispatcher
from .events import ModelCallFailedEvent, ModelRoutedEvent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from llama_index.core.instrumentation.events import BaseEvent
    from typing_extensions import Self

__all__ = ["RoutingEventHandler"]


class RoutingEventHandler(BaseEventHandler):
    """Add up the calls of `BedrockRouter` and `KnowledgeBaseQueryEngine`, also those of engines and agents.

    Added to a dispatcher of LlamaIndex, ``get_dispatcher().add_event_handler(handler)``, it counts all calls of the
    process. With ``with`` or ``async with`` it counts the calls that are made in the block, in its tasks, and in the
    threads of LlamaIndex and of asyncio. A call in a nested block counts for the outer block too. A thread that the
    application starts has a context of its own: its calls count for the blocks that were open when it was started. If
    blocks are open side by side, they count for none, and a warning is logged once. To be sure, start threads with
    ``contextvars.copy_context().run``; threads that are older than the block, such as those of a pool, need it.

    A call counts when its answer is complete: a stream counts when it is read to its end, and for the block in which it
    is read. A failed call counts as an error. An abandoned call (closed, cancelled) does not count, as Bedrock does not
    report its cost. After the end of a block nothing counts for it.

    Copies of a handler are the handler itself; a pickle has a copy of its report.

    Args:
        prices: Your own prices of the calls, to compute what caching saved; see `RoutingReport`.
        report: The report to add to. Handlers that share a report count a call once.

    Raises:
        InvalidRequestError: Both arguments are given.

    Example:
        ```python
        from bedrock_routing_integrations.llama_index import BedrockRouter, RoutingEventHandler

        llm = BedrockRouter(model="arn:aws:bedrock:us-east-1:123456789012:default-prompt-router/amazon.nova:1")
        with RoutingEventHandler() as handler:
            llm.complete("Describe the purpose of a 'hello world' program in one line.")
        print(handler.report)
        ```
    """

    ignores_llm_events: ClassVar[bool] = True
    _report: RoutingReport = PrivateAttr()

    def __init__(
        self, *, prices: Mapping[str, Mapping[str, Any]] | None = None, report: RoutingReport | None = None
    ) -> None:
        if prices is not None and report is not None:
            raise InvalidRequestError(
                "prices= is not valid with report=: a report has its own prices. Give them to RoutingReport(prices=…)."
            )
        super().__init__()
        self._report = RoutingReport(prices=prices) if report is None else report

    @property
    def report(self) -> RoutingReport:
        """The report with the calls that were counted so far."""
        return self._report

    @classmethod
    def class_name(cls) -> str:
        """Return LlamaIndex's name of this class."""
        return "RoutingEventHandler"

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        """Count a call, once however many dispatchers report it.

        Args:
            event: The event; other events than those of this package are ignored.
            **kwargs: Not used; part of LlamaIndex's interface.
        """
        if not isinstance(event, (ModelRoutedEvent, ModelCallFailedEvent)) or not self._report.seen_calls.add(
            event.id_
        ):
            return
        if isinstance(event, ModelRoutedEvent):
            self._report.add(event.routing)
        else:
            self._report.add_error(event.exception, requested_model_id=event.requested_model_id)

    def __enter__(self) -> Self:
        _active_handlers.enter(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _active_handlers.leave(self)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self  # the caller reads the report of the original

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        yield "calls", self._report.calls


class _ActiveHandlersListener(BaseEventHandler):
    """Forward our events to the handlers in whose blocks they are emitted."""

    ignores_llm_events: ClassVar[bool] = True

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        if isinstance(event, (ModelRoutedEvent, ModelCallFailedEvent)):
            for handler in _active_handlers.current():
                # As dispatchers do: an error of one handler must not keep the event from the others.
                with contextlib.suppress(Exception):
                    handler.handle(event, **kwargs)


_listener = _ActiveHandlersListener()


def _listen_while_open() -> None:
    """Add the listener to our dispatcher while a block is open."""
    others = [handler for handler in dispatcher.event_handlers if handler is not _listener]
    # A new list: other threads may iterate over the old one.
    dispatcher.event_handlers = [*others, _listener] if _active_handlers else others


_active_handlers: ActiveHandlers[RoutingEventHandler] = ActiveHandlers(
    "bedrock_routing_llama_index",
    "Start the thread with contextvars.copy_context().run, or as a llama_index.core.types.Thread.",
    _listen_while_open,
)
