"""Define `RoutingCallbackHandler`, which adds up LangChain's calls in a `RoutingReport`."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tracers.context import register_configure_hook

from bedrock_routing_integrations.bounded_cache import BoundedCache
from bedrock_routing_integrations.costs.report import RoutingReport
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.invocation import ROUTING
from bedrock_routing_integrations.observability.active_handlers import ActiveHandlers
from bedrock_routing_integrations.runtime import logger

from ._traces import EVENT

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from uuid import UUID

    from langchain_core.messages import BaseMessage
    from langchain_core.outputs import Generation, LLMResult
    from typing_extensions import Self


# --- The ``with`` blocks of `RoutingCallbackHandler` ---

_active_handlers: ActiveHandlers[RoutingCallbackHandler] = ActiveHandlers(
    "bedrock_routing_langchain",
    "Pass config={'callbacks': [handler]} to the call, or start the thread with contextvars.copy_context().run.",
)


class ActiveHandlersListener(BaseCallbackHandler):
    """Forward LangChain's events of a run to the handlers in whose blocks it was started, while these are open.

    Args:
        handlers: The handlers.
    """

    run_inline = True
    ignore_chain = ignore_agent = ignore_retriever = ignore_retry = True

    def __init__(self, handlers: tuple[RoutingCallbackHandler, ...] = ()) -> None:
        self._handlers = handlers

    # LangChain adds a handler once, by equality: a nested run must not get a second listener for the same handlers.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActiveHandlersListener) and self._handlers == other._handlers

    def __hash__(self) -> int:
        return hash(self._handlers)

    def _open_handlers(self) -> list[RoutingCallbackHandler]:
        return [handler for handler in self._handlers if handler.is_open]

    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        """Forward the event."""
        for handler in self._open_handlers():
            handler.on_chat_model_start(*args, **kwargs)

    def on_llm_start(self, *args: Any, **kwargs: Any) -> None:
        """Forward the event."""
        for handler in self._open_handlers():
            handler.on_llm_start(*args, **kwargs)

    def on_llm_end(self, *args: Any, **kwargs: Any) -> None:
        """Forward the event."""
        for handler in self._open_handlers():
            handler.on_llm_end(*args, **kwargs)

    def on_llm_error(self, *args: Any, **kwargs: Any) -> None:
        """Forward the event."""
        for handler in self._open_handlers():
            handler.on_llm_error(*args, **kwargs)

    def on_custom_event(self, *args: Any, **kwargs: Any) -> None:
        """Forward the event."""
        for handler in self._open_handlers():
            handler.on_custom_event(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> ActiveHandlersListener:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return ActiveHandlersListener, ()  # no block is open in another process


class _Hook:
    """Give LangChain the listener for the current blocks, in place of a context variable.

    A context variable of LangChain's holds one handler; several blocks can be open.
    """

    def get(self) -> ActiveHandlersListener | None:
        handlers = _active_handlers.current() if _active_handlers else ()
        return ActiveHandlersListener(tuple(dict.fromkeys(handlers))) if handlers else None


class _NoListener(BaseCallbackHandler):
    """Make a listener without handlers. LangChain calls `_Hook.get` twice, and the last block may close in between."""

    def __new__(cls) -> Any:
        return ActiveHandlersListener()


register_configure_hook(cast("Any", _Hook()), inheritable=True, handle_class=_NoListener)


# --- The handler ---

_OURS = ("amazon_bedrock_router_chat", "amazon_bedrock_router")
_NAMESPACE = ["bedrock_routing_integrations", "langchain"]
# The number of open runs whose targets are remembered, about 20 MB. The error of an older run has no target.
_MAX_OPEN_RUNS = 100_000


class RoutingCallbackHandler(BaseCallbackHandler):
    """Add up the calls of `ChatBedrockRouter`, `BedrockRouterLLM` and `KnowledgeBaseChain` in a `RoutingReport`.

    Give it to a constructor (``callbacks=[handler]``) or to a call (``config={"callbacks": [handler]}``), or open it
    with ``with`` or ``async with``. Each answer counts once, however often the handler is given, also in batches,
    streams, agents and chains. Answers of LangChain's cache of responses do not count. Abandoned calls (a closed
    stream, a cancelled task) do not count either, as Bedrock does not report their cost. If one of several prompts in
    ``ChatBedrockRouter.generate`` fails, LangChain reports none of the answers before it; ``batch`` counts each.

    A ``with`` block counts the calls that are made in it, in its tasks, and in the threads of LangChain and of asyncio.
    A call in a nested block counts for the outer block too. After the end of a block nothing counts for it, not even a
    call that was started in it. A thread that the application starts has a context of its own: its calls count for the
    blocks that were open when it was started, unless blocks are open side by side. To be sure, give the handler to the
    call, or start threads with ``contextvars.copy_context().run``.

    A handler is safe under threads. Copies of it are the handler itself; a pickle has a copy of its report.

    Args:
        prices: Your own prices of the calls, to compute what caching saved; see `RoutingReport`.
        report: The report to add to, if several handlers share one. Its prices are used.

    Attributes:
        report: The `RoutingReport`.

    Raises:
        InvalidRequestError: Both arguments are given.

    Example:
        ```python
        from bedrock_routing_integrations.langchain import ChatBedrockRouter, RoutingCallbackHandler

        llm = ChatBedrockRouter(model="arn:aws:bedrock:us-east-1:123456789012:default-prompt-router/amazon.nova:1")
        with RoutingCallbackHandler() as handler:
            llm.batch(["Describe the purpose of a 'hello world' program in one line.", "What is a monad?"])
        print(handler.report)
        ```
    """

    # Also in an event loop: counting takes microseconds, waiting for a thread of asyncio's small pool takes longer.
    run_inline = True
    ignore_chain = ignore_agent = ignore_retriever = ignore_retry = True

    def __init__(
        self, *, prices: Mapping[str, Mapping[str, Any]] | None = None, report: RoutingReport | None = None
    ) -> None:
        if report is not None and prices is not None:
            raise InvalidRequestError(
                "prices= is not valid with report=: a report has its own prices. Give them to RoutingReport(prices=…)."
            )
        self.report = RoutingReport(prices=prices) if report is None else report
        self._open_runs: BoundedCache[UUID, str | None] = BoundedCache(_MAX_OPEN_RUNS)

    # --- LangChain's events ---

    def on_chat_model_start(
        self, serialized: dict[str, Any], messages: list[list[BaseMessage]], *, run_id: UUID, **kwargs: Any
    ) -> None:
        """Remember the target, in case the call fails.

        Args:
            serialized: The model, as LangChain serializes it.
            messages: Not used.
            run_id: LangChain's id of the run.
            **kwargs: The other details of the run.
        """
        self._count(self._start, serialized, run_id, kwargs)

    def on_llm_start(self, serialized: dict[str, Any], prompts: list[str], *, run_id: UUID, **kwargs: Any) -> None:
        """Remember the target, in case the call fails.

        Args:
            serialized: The model, as LangChain serializes it.
            prompts: Not used.
            run_id: LangChain's id of the run.
            **kwargs: The other details of the run.
        """
        self._count(self._start, serialized, run_id, kwargs)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Count the answer.

        Args:
            response: The answers.
            run_id: LangChain's id of the run.
            **kwargs: Not used.
        """
        self._count(self._add_answers, response, run_id)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Count the error, or the answer if a stream was closed after all of it had arrived.

        Args:
            error: The exception.
            run_id: LangChain's id of the run.
            **kwargs: ``response``: the part of a stream that had arrived.
        """
        self._count(self._add_failure, error, run_id, kwargs.get("response"))

    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Count the call of a `bedrock_routing` event.

        Args:
            name: Name of the event; other events are ignored.
            data: Data of the event.
            run_id: LangChain's id of the run.
            **kwargs: Not used.
        """
        if name == EVENT and isinstance(data, Mapping):
            self._count(self._add_event, data, run_id)

    def _count(self, count: Callable[..., None], *arguments: Any) -> None:
        # An error in counting must not break a call, whatever LangChain's `raise_error` is set to.
        try:
            count(*arguments)
        except Exception:  # noqa: BLE001 - as above
            logger.debug("A call could not be counted", exc_info=True)

    def _start(self, serialized: Any, run_id: UUID, details: Mapping[str, Any]) -> None:
        params = details.get("invocation_params") or {}
        if params.get("_type") not in _OURS and ((serialized or {}).get("id") or [])[:2] != _NAMESPACE:
            return
        names = (details.get("metadata") or {}).get("ls_model_name"), params.get("model"), params.get("model_name")
        self._open_runs.put(run_id, next((name for name in names if name), None))

    def _end(self, run_id: UUID) -> tuple[bool, str | None]:
        """Forget a run, and return whether it is a run of our models, and its target."""
        if run_id not in self._open_runs:
            return False, None
        return True, self._open_runs.pop(run_id, None)

    def _add_answers(self, response: LLMResult, run_id: UUID) -> None:
        is_ours, _ = self._end(run_id)
        for position, generations in enumerate(response.generations):
            routing = _routing_of(generations[0]) if generations else None
            if routing is not None:
                self._add(routing, (run_id, position), is_ours=is_ours)

    def _add(self, routing: Mapping[str, Any], key: tuple[UUID, int], *, is_ours: bool) -> None:
        seen = self.report.seen_calls
        request_id = routing.get("request_id")
        is_known = request_id is not None and not seen.add(request_id)
        # A third-party chat model that returns an answer of one of our models has a run of its own.
        if seen.add(key) and (is_ours or not is_known):
            self.report.add(routing)

    def _add_failure(self, error: BaseException, run_id: UUID, response: LLMResult | None) -> None:
        if response is not None and any(_routing_of(each) for several in response.generations for each in several):
            self._add_answers(response, run_id)
            return
        is_ours, requested = self._end(run_id)
        # A closed stream raises GeneratorExit, a cancelled task CancelledError: these are not errors of the call.
        if is_ours and isinstance(error, Exception) and self.report.seen_calls.add_error(error, run_id):
            self.report.add_error(error, requested_model_id=requested)

    def _add_event(self, data: Mapping[str, Any], run_id: UUID) -> None:
        if not self.report.seen_calls.add(data.get("event_id") or run_id):
            return
        if "error" in data:
            self.report.add_error(data["error"], requested_model_id=data.get("requested_model_id"))
        elif _is_routing(data):
            self.report.add(data)

    # --- Context manager ---

    @property
    def is_open(self) -> bool:
        """Whether a ``with`` block of this handler is open."""
        return _active_handlers.is_open(self)

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

    # --- Copies ---

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # the caller reads the report of the original

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(type(self), report=self.report), ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.report!r})"


def _routing_of(generation: Generation) -> Mapping[str, Any] | None:
    """Return the ``"routing"`` entry of a generation; None if it is not the answer of a call."""
    message = getattr(generation, "message", None)
    if message is None:
        routing = (generation.generation_info or {}).get(ROUTING)
    elif "total_cost" in (getattr(message, "usage_metadata", None) or {}):
        routing = None  # langchain-core's mark of an answer from its cache of responses
    else:
        routing = message.response_metadata.get(ROUTING)
    return routing if _is_routing(routing) else None


def _is_routing(value: Any) -> bool:
    return isinstance(value, Mapping) and "requested_model_id" in value
