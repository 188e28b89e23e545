"""`RoutingEventHandler`: what LlamaIndex's calls cost, and what routing and caching saved."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from pydantic import PrivateAttr

from bedrock_routing_integrations.costs.report import RoutingReport
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.observability.active_handlers import Scopes

from ._instrumentation import hear_only_ours, ours
from .events import ModelCallFailedEvent, ModelRoutedEvent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from llama_index.core.instrumentation.events import BaseEvent
    from typing_extensions import Self

__all__ = ["RoutingEventHandler"]

_scopes: Scopes[RoutingEventHandler] = Scopes(
    "bedrock_routing_llama_index",
    "Start it with contextvars.copy_context().run, or as a llama_index.core.types.Thread.",
)


class RoutingEventHandler(BaseEventHandler):
    """Adds up the calls of `BedrockRouter` and `KnowledgeBaseQueryEngine`, whoever makes them: engines, agents, you.

    Added to a dispatcher of LlamaIndex, ``get_dispatcher().add_event_handler(handler)``, it counts all calls of the
    process. With ``with`` or ``async with`` it counts those that are made in the block, in its tasks, and in the
    threads of LlamaIndex and of asyncio. A block inside another counts for the outer one too. A thread that you start
    yourself has no context of ours: what is called in it counts for the blocks that were open when it was started.
    Where those lie side by side it cannot be told which of them is meant; it counts for none, and a warning says so.
    To be sure, start threads with ``contextvars.copy_context().run``; those that were there before, as a pool's, need
    it.

    A call counts when its answer is complete: that of a stream when it is read to its end, where it is read. One that
    fails counts among the errors. One that is given up (closed, cancelled) does not count, as Bedrock does not say what
    it costs. Once a block is left, nothing more is counted for it.

    Copies of it are itself; pickled, it takes along its report, as it then is.

    Args:
        prices: As of `RoutingReport`.
        report: Count in this one, which other handlers may count in too: none counts a call twice.

    Raises:
        InvalidRequestError: Both arguments were given.

    Example:
        ```python
        from bedrock_routing_integrations.llama_index import BedrockRouter, RoutingEventHandler

        llm = BedrockRouter(model="arn:aws:bedrock:us-east-1:123456789012:default-prompt-router/amazon.nova:1")
        with RoutingEventHandler() as handler:
            llm.complete("Describe the purpose of a 'hello world' program in one line.")
        print(handler.report)
        ```
    """

    _report: RoutingReport = PrivateAttr()

    def __init__(
        self, *, prices: Mapping[str, Mapping[str, Any]] | None = None, report: RoutingReport | None = None
    ) -> None:
        if prices is not None and report is not None:
            raise InvalidRequestError("give either prices= or report=; a report has its own prices")
        super().__init__()
        self._report = RoutingReport(prices=prices) if report is None else report

    @property
    def report(self) -> RoutingReport:
        """What was counted so far."""
        return self._report

    @classmethod
    def class_name(cls) -> str:
        """LlamaIndex's name for this class."""
        return "RoutingEventHandler"

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        """Count a call, once however many dispatchers tell of it. In whichever thread it was made."""
        if isinstance(event, ModelRoutedEvent):
            if event._is_first_for(self._report):  # noqa: SLF001 - of this door
                self._report.add(event.routing)
        elif isinstance(event, ModelCallFailedEvent) and event._is_first_for(self._report):  # noqa: SLF001 - likewise
            self._report.add_error(event.exception, requested_model_id=event.requested_model_id)

    def __enter__(self) -> Self:
        _scopes.enter(self)
        _listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _scopes.leave(self)
        _listen()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self  # the one that somebody asks for the report

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        yield "calls", self._report.calls


class _Listener(BaseEventHandler):
    """Hands our events to the handlers whose blocks they belong to."""

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        if isinstance(event, (ModelRoutedEvent, ModelCallFailedEvent)):
            for handler in _scopes.here():
                # As dispatchers do: one that fails must not keep the call from the others.
                with contextlib.suppress(Exception):
                    handler.handle(event, **kwargs)


_listener = _Listener()
_listener_lock = threading.Lock()
hear_only_ours.update([RoutingEventHandler, _Listener])


def _listen() -> None:
    """Listen while blocks are open."""
    with _listener_lock:
        others = [handler for handler in ours.event_handlers if handler is not _listener]
        # A new list: other threads may be going through the old one.
        ours.event_handlers = [*others, _listener] if _scopes else others
