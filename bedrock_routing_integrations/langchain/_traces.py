"""Report calls to LangChain: complete the traces of a run with the invoked model and the cost, and emit custom events.

LangSmith reads both from the metadata of a run: ``ls_model_name``, and ``usage_metadata`` with ``total_cost``.
langchain-core's tracer sets the former before the call, and makes the latter from the message's ``usage_metadata``. The
cost cannot be there: langchain-core adds usages up, and raises for a number that is not an integer. So it is set on the
tracer's run, when there is an answer and before the tracer sends the run.

Langfuse's handler reads the model's name when the run starts, when only the requested target is known, and at the end
from ``llm_output``, which langchain-core does not fill for streams. Its span is the current one when the call starts.
The name and the cost are set on that span, as the attributes that Langfuse reads (langfuse-python 3 to 5, seen
2026-11).
"""

from __future__ import annotations

import contextlib
import json
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackHandler, CallbackManager

from bedrock_routing_integrations.errors import error_kind
from bedrock_routing_integrations.invocation import ROUTING
from bedrock_routing_integrations.observability import CallAnswered, find_external_span
from bedrock_routing_integrations.observability.external_spans import current_span
from bedrock_routing_integrations.runtime import logger

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
    from uuid import UUID

    from langchain_core.callbacks.manager import BaseRunManager
    from langchain_core.tracers.langchain import LangChainTracer

    from bedrock_routing_integrations.observability import (
        AttemptMade,
        CallAbandoned,
        CallFailed,
        CallStarted,
        ExternalSpan,
    )

_LANGFUSE_KIND = "langfuse.observation.type"
_LANGFUSE_MODEL = "langfuse.observation.model.name"
_LANGFUSE_COST = "langfuse.observation.cost_details"


class Run(NamedTuple):
    """A run of LangChain.

    Attributes:
        handlers: The callback handlers of the run.
        run_id: LangChain's id; None for one of several calls in a run.
    """

    handlers: Sequence[BaseCallbackHandler]
    run_id: UUID | None

    @classmethod
    def of(cls, run_manager: BaseRunManager | None, *, is_only_call: bool = True) -> Run | None:
        """Return the run of a run manager.

        Args:
            run_manager: The run manager; None if LangChain passes none.
            is_only_call: Whether the run is one call.
        """
        if run_manager is None:
            return None
        return cls(run_manager.handlers, run_manager.run_id if is_only_call else None)

    def external_span(self) -> ExternalSpan | None:
        """Return the OpenTelemetry span that one of the handlers has made for the run; None if no handler traces."""
        return find_external_span(self.handlers, run_id=self.run_id)

    def has_tracers(self) -> bool:
        """Return whether a handler traces the run for LangSmith or OpenTelemetry."""
        return bool(_langsmith_tracers(self.handlers)) or self.external_span() is not None


class RunRecorder(BaseCallbackHandler):
    """Record the run that starts: LangChain passes no run manager to ``_stream``.

    Args:
        handlers: The other handlers of the run.
    """

    run_inline = True  # `run` must be set when `_stream` is called

    def __init__(self, handlers: Sequence[BaseCallbackHandler]) -> None:
        self._handlers = handlers
        self.run: Run | None = None

    def on_chat_model_start(self, *args: Any, run_id: UUID, **kwargs: Any) -> None:
        """Record the run."""
        self.run = Run(self._handlers, run_id)


class RunObserver:
    """Write the invoked model and the cost of a call into the traces of its run.

    Args:
        run: The run.
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    def is_active(self) -> bool:
        """Return whether the run has handlers, and the call is its only one."""
        return self._run.run_id is not None and bool(self._run.handlers)

    def observe(self, started: CallStarted) -> RunListener | None:
        """Return the listener for the call; None if no handler traces its run.

        Args:
            started: The call.
        """
        # Now, as the current span can change while a stream is read.
        span = _langfuse_span(self._run)
        if span is None and not _langsmith_tracers(self._run.handlers):
            return None
        return RunListener(self._run, span)


class RunListener:
    """See `RunObserver`.

    Args:
        run: The run.
        langfuse_span: Langfuse's span of the run; None if there is none.
    """

    def __init__(self, run: Run, langfuse_span: Any) -> None:
        self._run, self._langfuse_span = run, langfuse_span

    def before_send(self) -> None:
        """Do nothing."""

    def after_send(self) -> None:
        """Do nothing."""

    def handle(self, event: AttemptMade | CallAnswered | CallFailed | CallAbandoned) -> None:
        """Complete the traces when the call is answered.

        Args:
            event: An event of the call.
        """
        if not isinstance(event, CallAnswered) or event.routing is None:
            return
        routing = event.routing
        complete_trace(self._run, {ROUTING: routing})
        if self._langfuse_span is not None:
            self._langfuse_span.set_attribute(_LANGFUSE_MODEL, _model_name(routing))
            if routing["cost_usd"] is not None:
                self._langfuse_span.set_attribute(_LANGFUSE_COST, json.dumps({"total": routing["cost_usd"]}))


def _langfuse_span(run: Run) -> Any:
    if not any(_is_of_langfuse(type(handler)) for handler in run.handlers):
        return None
    span = current_span()
    kind = (getattr(span, "attributes", None) or {}).get(_LANGFUSE_KIND)
    return span if kind == "generation" else None


def _is_of_langfuse(kind: type) -> bool:
    return any(base.__module__.partition(".")[0] == "langfuse" for base in kind.__mro__)


def complete_trace(run: Run | None, info: Mapping[str, Any] | None) -> None:
    """Write the invoked model and the cost into the metadata of a run, for LangSmith.

    Args:
        run: The run; None if nothing listens.
        info: ``"routing"``, and ``"usage_metadata"`` for a text, whose usage the tracer does not read itself.
    """
    if run is None or not info or ROUTING not in info:
        return
    try:
        for tracer in _langsmith_tracers(run.handlers):
            traced = tracer.run_map.get(str(run.run_id))
            if traced is not None:
                traced.extra["metadata"] = _metadata(traced.extra.get("metadata") or {}, info)
    except Exception:  # noqa: BLE001 - a trace must not break a call
        logger.debug("The invoked model could not be written into LangSmith's run", exc_info=True)


def _langsmith_tracers(handlers: Sequence[BaseCallbackHandler]) -> list[LangChainTracer]:
    if not handlers:
        return []
    from langchain_core.tracers.langchain import LangChainTracer  # loaded by LangChain when it starts a run

    return [handler for handler in handlers if isinstance(handler, LangChainTracer)]


def _model_name(routing: Mapping[str, Any]) -> str:
    name: str = routing["invoked_model"] or routing["requested_model_id"]
    return name


def _metadata(metadata: Mapping[str, Any], info: Mapping[str, Any]) -> dict[str, Any]:
    routing = info[ROUTING]
    completed = _MetadataWithCost({**metadata, "ls_model_name": _model_name(routing)})
    completed.cost = {} if routing["cost_usd"] is None else {"total_cost": routing["cost_usd"]}
    if "usage_metadata" in info:
        completed["usage_metadata"] = info["usage_metadata"]
    return completed


class _MetadataWithCost(dict[str, Any]):
    """The metadata of a run, which adds the cost to the usage when the tracer writes the usage.

    A hack: the tracer replaces ``usage_metadata`` at the end of the run and sends it at once, with no hook in between.
    """

    cost: Mapping[str, float]

    def __setitem__(self, name: str, value: Any) -> None:
        if name == "usage_metadata" and isinstance(value, dict):
            value = {**value, **self.cost}
        super().__setitem__(name, value)


# --- The custom event for a call to Bedrock that is not the only call of a model's run ---

EVENT = "bedrock_routing"
"""Name of the event. Its data is a ``"routing"`` dictionary, or ``{"requested_model_id": …, "error": kind}`` for a
failed call, and an ``"event_id"``: one handler can get an event several times."""


def failure(error: Exception, requested_model_id: str) -> dict[str, Any]:
    """Return the data of the event for a failed call.

    Args:
        error: The exception.
        requested_model_id: The target.
    """
    return {"requested_model_id": requested_model_id, "error": error_kind(error)}


def emit(run: BaseRunManager, data: Mapping[str, Any]) -> None:
    """Emit the event to the handlers of a run.

    Args:
        run: The run manager.
        data: The data of the event.
    """
    manager = CallbackManager(run.handlers, tags=run.tags, metadata=run.metadata)
    manager.on_custom_event(EVENT, _with_event_id(data), run_id=run.run_id)


async def _aemit(run: BaseRunManager, data: Mapping[str, Any]) -> None:
    manager = AsyncCallbackManager(run.handlers, tags=run.tags, metadata=run.metadata)
    await manager.on_custom_event(EVENT, _with_event_id(data), run_id=run.run_id)


def _with_event_id(data: Mapping[str, Any]) -> dict[str, Any]:
    return {**data, "event_id": uuid.uuid4().hex}


def emitting(run: BaseRunManager, target: str, call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the result of RetrieveAndGenerate, and emit the event for the answer or the failure.

    Args:
        run: The run manager.
        target: The target.
        call: Make the call, and return a result with ``"routing"``.
    """
    try:
        result = call()
    except Exception as error:
        emit(run, failure(error, target))
        raise
    emit(run, result[ROUTING])
    return result


async def aemitting(run: BaseRunManager, target: str, call: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    """Do asynchronously what `emitting` does.

    Args:
        run: The run manager.
        target: The target.
        call: The call, with a result with ``"routing"``.
    """
    try:
        result = await call
    except Exception as error:
        await _aemit(run, failure(error, target))
        raise
    await _aemit(run, result[ROUTING])
    return result


def emitting_stream(run: BaseRunManager, target: str, chunks: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the chunks of RetrieveAndGenerateStream, and emit the event for the answer or the failure.

    Args:
        run: The run manager.
        target: The target.
        chunks: The chunks, the last one with ``"routing"``.
    """
    with contextlib.closing(chunks):  # type: ignore[type-var]  # a generator
        try:
            for chunk in chunks:
                if ROUTING in chunk:  # before the last chunk is yielded, as the consumer may stop there
                    emit(run, chunk[ROUTING])
                yield chunk
        except Exception as error:
            emit(run, failure(error, target))
            raise


async def aemitting_stream(
    run: BaseRunManager, target: str, chunks: AsyncGenerator[dict[str, Any], None]
) -> AsyncIterator[dict[str, Any]]:
    """Do asynchronously what `emitting_stream` does.

    Args:
        run: The run manager.
        target: The target.
        chunks: The chunks, the last one with ``"routing"``.
    """
    async with contextlib.aclosing(chunks):
        try:
            async for chunk in chunks:
                if ROUTING in chunk:
                    await _aemit(run, chunk[ROUTING])
                yield chunk
        except Exception as error:
            await _aemit(run, failure(error, target))
            raise
