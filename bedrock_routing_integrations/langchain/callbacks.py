"""`RoutingCallbackHandler`: what LangChain's calls cost and saved, added up in a `RoutingReport`."""

from __future__ import annotations

import functools
import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tracers.context import register_configure_hook

from bedrock_routing_integrations.costs.report import RoutingReport
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.invocation import ROUTING
from bedrock_routing_integrations.observability.active_handlers import Scopes
from bedrock_routing_integrations.runtime import logger

from ._traces import EVENT

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from types import TracebackType
    from uuid import UUID

    from langchain_core.messages import BaseMessage
    from langchain_core.outputs import Generation, LLMResult
    from typing_extensions import Self


# --- How the open ``with`` blocks of `RoutingCallbackHandler` hear of LangChain's runs. ---


scopes: Scopes[RoutingCallbackHandler] = Scopes(
    "bedrock_routing_langchain",
    "Pass config={'callbacks': [handler]} to the call, or start the thread with contextvars.copy_context().run.",
)


class Listener(BaseCallbackHandler):
    """Hands what LangChain tells of a run to the handlers in whose blocks it was begun, while those are open."""

    run_inline = True
    ignore_chain = ignore_agent = ignore_retriever = ignore_retry = True

    def __init__(self, handlers: tuple[RoutingCallbackHandler, ...] = ()) -> None:
        self._all = handlers

    # LangChain adds a handler once: runs below one that has it already must not get it again.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Listener) and self._all == other._all

    def __hash__(self) -> int:
        return hash(self._all)

    def _open(self) -> list[RoutingCallbackHandler]:
        return [handler for handler in self._all if handler.is_open]

    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        """Hand it on."""
        for handler in self._open():
            handler.on_chat_model_start(*args, **kwargs)

    def on_llm_start(self, *args: Any, **kwargs: Any) -> None:
        """Hand it on."""
        for handler in self._open():
            handler.on_llm_start(*args, **kwargs)

    def on_llm_end(self, *args: Any, **kwargs: Any) -> None:
        """Hand it on."""
        for handler in self._open():
            handler.on_llm_end(*args, **kwargs)

    def on_llm_error(self, *args: Any, **kwargs: Any) -> None:
        """Hand it on."""
        for handler in self._open():
            handler.on_llm_error(*args, **kwargs)

    def on_custom_event(self, *args: Any, **kwargs: Any) -> None:
        """Hand it on."""
        for handler in self._open():
            handler.on_custom_event(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Listener:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Listener, ()  # nothing is open in another process


class _Hook:
    """What LangChain takes for a context variable."""

    def get(self) -> Listener | None:
        handlers = scopes.here() if scopes else ()
        return Listener(tuple(dict.fromkeys(handlers))) if handlers else None


class _Nobody(BaseCallbackHandler):
    """What LangChain makes where it asks the hook twice, and the last block is left in between."""

    def __new__(cls) -> Any:
        return Listener()


register_configure_hook(cast("Any", _Hook()), inheritable=True, handle_class=_Nobody)


# --- What a report has counted already ---

K = TypeVar("K")
V = TypeVar("V")

# What tells of one call follows upon one another. Between the first and the last other threads have their turn.
_MOST_REMEMBERED = 10_000


class Bounded(Generic[K, V]):
    """A mapping that forgets the oldest. For many threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, key: K, value: V) -> None:
        """Remember."""
        with self._lock:
            self._kept[key] = value
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)

    def take(self, key: K) -> tuple[bool, V | None]:
        """Whether it is there, and what it is; afterwards it is not."""
        with self._lock:
            return (True, self._kept.pop(key)) if key in self._kept else (False, None)

    def first(self, key: K, value: V) -> bool:
        """Remember it; whether it was not known."""
        with self._lock:
            if key in self._kept:
                return False
            self._kept[key] = value
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
            return True


class Counted:
    """What has been counted in one report."""

    def __init__(self) -> None:
        self._recent: Bounded[Hashable, object] = Bounded(_MOST_REMEMBERED)
        self._threads = threading.local()

    def first(self, key: Hashable, kept: object = None) -> bool:
        """Whether it is told for the first time. `kept` lives on meanwhile, so that its `id` can be in the key."""
        return self._recent.first(key, kept)

    def error(self, error: BaseException, run_id: Hashable) -> bool:
        """Whether an error is told for the first time.

        LangChain gives the error of one prompt to the runs of all prompts of a batch, one after the other.
        """
        last = getattr(self._threads, "last", None)
        try:
            self._threads.last = weakref.ref(error)
        except TypeError:  # an exception that is not written in Python
            self._threads.last = None
        again = last is not None and last() is error
        return self.first(("error", run_id)) and not again


_counted: weakref.WeakKeyDictionary[object, Counted] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def counted_in(report: object) -> Counted:
    """What has been counted in a report, by whichever handler."""
    found = _counted.get(report)
    if found is None:
        with _lock:
            found = _counted.setdefault(report, Counted())
    return found


_OURS = ("amazon_bedrock_router_chat", "amazon_bedrock_router")
_HOME = ["bedrock_routing_integrations", "langchain"]
# Calls under way at once whose targets are remembered, about 20 MB; of one beyond that the error names no target.
_MOST_UNDER_WAY = 100_000


class RoutingCallbackHandler(BaseCallbackHandler):
    """Adds up the calls of `ChatBedrockRouter`, `BedrockRouterLLM` and `KnowledgeBaseChain` in a `RoutingReport`.

    It can be given to a constructor (``callbacks=[handler]``), to a call (``config={"callbacks": [handler]}``), or be
    opened with ``with`` or ``async with``. Each answer counts once, however often the handler is given, batched,
    streamed, in agents and chains too. What LangChain's cache of responses answers is no call; nor is one that is given
    up (a stream that is closed early, a task that is cancelled), of which Bedrock does not say what it costs. Where
    one of several prompts in ``ChatBedrockRouter.generate`` fails, LangChain tells nobody of the answers before it; in
    ``batch`` each counts.

    ``with`` counts what is called in the block, in its tasks and in the threads of LangChain and of asyncio. A block
    inside another counts for the outer one too. Once a block is left, nothing more is counted for it, also no call that
    is still under way. A thread that you start yourself has no context of ours, so that this is the rule for it: what
    is called in it counts for the blocks that were open when it was started, and it does not count for blocks that are
    open side by side, as it cannot be told which of them is meant. To be sure, give the handler to the call, or start
    threads with ``contextvars.copy_context().run``.

    It may be used by many threads at once. Copies of it are itself; pickled, it takes along its report, as it then is.

    Args:
        prices: As of `RoutingReport`: the prices of your own that the calls were priced by, for what caching saved.
        report: The report to add to, where several handlers share one. Then the prices are that report's.

    Attributes:
        report: The `RoutingReport`.

    Raises:
        InvalidRequestError: Both are given.

    Example:
        ```python
        from bedrock_routing_integrations.langchain import ChatBedrockRouter, RoutingCallbackHandler

        llm = ChatBedrockRouter(model="arn:aws:bedrock:us-east-1:123456789012:default-prompt-router/amazon.nova:1")
        with RoutingCallbackHandler() as handler:
            llm.batch(["Describe the purpose of a 'hello world' program in one line.", "What is a monad?"])
        print(handler.report)
        ```
    """

    # In an event loop too: it takes microseconds, and a thread of asyncio's small pool is waited for much longer.
    run_inline = True
    ignore_chain = ignore_agent = ignore_retriever = ignore_retry = True

    def __init__(
        self, *, prices: Mapping[str, Mapping[str, Any]] | None = None, report: RoutingReport | None = None
    ) -> None:
        if report is not None and prices is not None:
            raise InvalidRequestError("the report is given, so give prices to that: RoutingReport(prices=…)")
        self.report = RoutingReport(prices=prices) if report is None else report
        self._under_way: Bounded[UUID, str | None] = Bounded(_MOST_UNDER_WAY)
        self._blocks: list[None] = []  # as many as are open

    # --- LangChain's events ---

    def on_chat_model_start(
        self, serialized: dict[str, Any], messages: list[list[BaseMessage]], *, run_id: UUID, **kwargs: Any
    ) -> None:
        """Remember what is called, for the case that it fails."""
        self._begin(serialized, run_id, kwargs)

    def on_llm_start(self, serialized: dict[str, Any], prompts: list[str], *, run_id: UUID, **kwargs: Any) -> None:
        """Remember what is called, for the case that it fails."""
        self._begin(serialized, run_id, kwargs)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Count the answer."""
        self._quietly(self._answered, response, run_id)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Count the error; or the answer, where all of it had arrived before the stream was closed."""
        self._quietly(self._failed, error, run_id, kwargs.get("response"))

    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Count a call that a `bedrock_routing` event tells of."""
        if name == EVENT and isinstance(data, Mapping):
            self._quietly(self._told, data, run_id)

    def _quietly(self, count: Callable[..., None], *arguments: Any) -> None:
        # What is wrong with the counting must not be what a call fails with, whatever `raise_error` says.
        try:
            count(*arguments)
        except Exception:  # noqa: BLE001 - as above
            logger.debug("A call could not be counted", exc_info=True)

    def _begin(self, serialized: Any, run_id: UUID, said: Mapping[str, Any]) -> None:
        params = said.get("invocation_params") or {}
        if params.get("_type") in _OURS or ((serialized or {}).get("id") or [])[:2] == _HOME:
            named = (said.get("metadata") or {}).get("ls_model_name"), params.get("model"), params.get("model_name")
            self._under_way.put(run_id, next((name for name in named if name), None))

    def _answered(self, response: LLMResult, run_id: UUID) -> None:
        ours, _ = self._under_way.take(run_id)
        for position, generations in enumerate(response.generations):
            routing = _routing_of(generations[0]) if generations else None
            if routing is not None:
                self._add(routing, (run_id, position), by_request=not ours)

    def _failed(self, error: BaseException, run_id: UUID, response: LLMResult | None) -> None:
        answered = response is not None and any(
            _routing_of(generation) for generations in response.generations for generation in generations
        )
        if response is not None and answered:
            self._answered(response, run_id)
            return
        ours, requested = self._under_way.take(run_id)
        # An early `close` of a stream is a GeneratorExit, that of a task a CancelledError: not Bedrock's.
        if ours and isinstance(error, Exception) and counted_in(self.report).error(error, run_id):
            self.report.add_error(error, requested_model_id=requested)

    def _told(self, data: Mapping[str, Any], run_id: UUID) -> None:
        counted = counted_in(self.report)
        if "error" in data:
            if counted.first((run_id, id(data)), data):
                self.report.add_error(data["error"], requested_model_id=data.get("requested_model_id"))
        elif _is_routing(data) and counted.first((run_id, id(data)), data):
            self.report.add(data)

    def _add(self, routing: Mapping[str, Any], key: object, *, by_request: bool) -> None:
        counted = counted_in(self.report)
        # A chat model of somebody else's that passes on what one of ours said has a run of its own.
        request_id = routing.get("request_id")
        known = request_id is not None and not counted.first(request_id)
        if counted.first(key) and not (by_request and known):
            self.report.add(routing)

    # --- a context manager ---

    @property
    def is_open(self) -> bool:
        """Whether a ``with`` block of it is open."""
        return bool(self._blocks)

    def __enter__(self) -> Self:
        self._blocks.append(None)
        scopes.enter(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        scopes.leave(self)
        self._blocks.pop()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    # --- copies ---

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # the one that somebody asks for the report

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(type(self), report=self.report), ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.report!r})"


def _routing_of(generation: Generation) -> Mapping[str, Any] | None:
    """What a generation says of the call; None where there was none."""
    message = getattr(generation, "message", None)
    if message is None:
        said = (generation.generation_info or {}).get(ROUTING)
    elif "total_cost" in (getattr(message, "usage_metadata", None) or {}):
        said = None  # so marks langchain-core what came from its cache of responses
    else:
        said = message.response_metadata.get(ROUTING)
    return said if _is_routing(said) else None


def _is_routing(said: Any) -> bool:
    return isinstance(said, Mapping) and "requested_model_id" in said
