"""Tell tracers which model answered a call, and what it cost.

LangSmith takes both from the metadata of a run: ``ls_model_name``, and ``usage_metadata`` with ``total_cost``.
langchain-core's tracer fills in the first one before anybody has answered, and makes the second one of the message's
own ``usage_metadata``. A cost cannot stand there: langchain-core adds usages up, and raises at a number that is no
integer. So it is put on the tracer's run, when there is an answer and before the tracer sends it.

Langfuse's handler takes the model's name from the start of the run, when only the router is known, and at the end from
``llm_output``, which langchain-core does not fill for streams. Its span is the current one when the call begins. Name
and cost are set on that span, in the attributes that Langfuse reads (langfuse-python 3 to 5, seen 2026-11).

Where no tracer is, nothing is done.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import AsyncCallbackManager, CallbackManager

from bedrock_routing_integrations.errors import error_kind
from bedrock_routing_integrations.invocation import ROUTING
from bedrock_routing_integrations.observability.external_spans import current_span
from bedrock_routing_integrations.runtime import logger

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence

    from langchain_core.callbacks import BaseCallbackHandler
    from langchain_core.callbacks.manager import BaseRunManager
    from langchain_core.tracers.langchain import LangChainTracer

    from .chat_models import Run

_LANGFUSE_KIND = "langfuse.observation.type"
_LANGFUSE_MODEL = "langfuse.observation.model.name"
_LANGFUSE_COST = "langfuse.observation.cost_details"


class Tracing:
    """The tracers of a call, looked for when it begins: whose span is the current one can change in a stream.

    Args:
        run: The run of a model.
    """

    def __init__(self, run: Run | None) -> None:
        self._run = run
        self._span = _langfuse_span(run) if run is not None and run.run_id is not None else None

    def tell(self, metadata: Mapping[str, Any]) -> None:
        """Tell the tracers what the metadata of an answer says."""
        name_in_traces(self._run, metadata)
        routing = metadata.get(ROUTING)
        if self._span is None or not routing:
            return
        try:
            self._span.set_attribute(_LANGFUSE_MODEL, routing["invoked_model"] or routing["requested_model_id"])
            if routing["cost_usd"] is not None:
                self._span.set_attribute(_LANGFUSE_COST, json.dumps({"total": routing["cost_usd"]}))
        except Exception:  # noqa: BLE001 - no trace is worth a call
            logger.debug("Langfuse could not be told who answered", exc_info=True)


def _langfuse_span(run: Run) -> Any:
    if not any(_is_langfuses(type(handler)) for handler in run.handlers):
        return None
    span = current_span()
    kind = (getattr(span, "attributes", None) or {}).get(_LANGFUSE_KIND)
    return span if kind == "generation" else None


def _is_langfuses(kind: type) -> bool:
    return any(base.__module__.partition(".")[0] == "langfuse" for base in kind.__mro__)


def name_in_traces(run: Run | None, said: Mapping[str, Any] | None) -> None:
    """Tell the tracers of a run.

    Args:
        run: The run of a model.
        said: What is known of the answer: ``"routing"``, and ``"usage_metadata"`` where no message says that.
    """
    if run is None or not said or ROUTING not in said:
        return
    try:
        for tracer in tracers_among(run.handlers):
            traced = tracer.run_map.get(str(run.run_id))
            if traced is not None:
                traced.extra["metadata"] = _metadata(traced.extra.get("metadata") or {}, said)
    except Exception:  # noqa: BLE001 - no trace is worth a call
        logger.debug("LangSmith could not be told who answered", exc_info=True)


def tracers_among(handlers: Sequence[BaseCallbackHandler]) -> list[LangChainTracer]:
    """LangSmith's tracers among a run's handlers."""
    if not handlers:
        return []
    from langchain_core.tracers.langchain import LangChainTracer  # LangChain has imported it for the run, not before

    return [handler for handler in handlers if isinstance(handler, LangChainTracer)]


def _metadata(metadata: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    routing = said[ROUTING]
    costs = {} if routing["cost_usd"] is None else {"total_cost": routing["cost_usd"]}
    named = _Metadata({**metadata, "ls_model_name": routing["invoked_model"] or routing["requested_model_id"]})
    named.costs = costs
    if "usage_metadata" in said:
        named["usage_metadata"] = said["usage_metadata"]
    return named


class _Metadata(dict[str, Any]):
    """The metadata of a run, in which the usage that the tracer writes gets its cost."""

    costs: Mapping[str, float]

    def __setitem__(self, name: str, value: Any) -> None:
        if name == "usage_metadata" and isinstance(value, dict):
            value = {**value, **self.costs}
        super().__setitem__(name, value)


# --- The custom event that tells LangChain's callbacks of a call to Bedrock which no run of a model stands for ---

EVENT = "bedrock_routing"
"""Its data is a ``"routing"`` dictionary; or, of a call that failed, ``{"requested_model_id": …, "error": kind}``."""


def failure(error: Exception, requested_model_id: str) -> dict[str, Any]:
    """The data for a call that failed."""
    return {"requested_model_id": requested_model_id, "error": error_kind(error)}


def tell(run: BaseRunManager, data: Mapping[str, Any]) -> None:
    """Tell the handlers of a run."""
    manager = CallbackManager(run.handlers, tags=run.tags, metadata=run.metadata)
    manager.on_custom_event(EVENT, data, run_id=run.run_id)


async def _atell(run: BaseRunManager, data: Mapping[str, Any]) -> None:
    manager = AsyncCallbackManager(run.handlers, tags=run.tags, metadata=run.metadata)
    await manager.on_custom_event(EVENT, data, run_id=run.run_id)


def told(run: BaseRunManager, target: str, answer: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A result of RetrieveAndGenerate, of which the handlers are told; or of its error."""
    try:
        result = answer()
    except Exception as error:
        tell(run, failure(error, target))
        raise
    tell(run, result[ROUTING])
    return result


async def atold(run: BaseRunManager, target: str, answer: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    """`told`, asynchronously."""
    try:
        result = await answer
    except Exception as error:
        await _atell(run, failure(error, target))
        raise
    await _atell(run, result[ROUTING])
    return result


def told_stream(run: BaseRunManager, target: str, chunks: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The same for its stream."""
    with contextlib.closing(chunks):  # type: ignore[type-var]  # a generator
        try:
            for chunk in chunks:
                if ROUTING in chunk:  # the last one: told before it is given out, as nobody need read on
                    tell(run, chunk[ROUTING])
                yield chunk
        except Exception as error:
            tell(run, failure(error, target))
            raise


async def atold_stream(
    run: BaseRunManager, target: str, chunks: AsyncGenerator[dict[str, Any], None]
) -> AsyncIterator[dict[str, Any]]:
    """`told_stream`, asynchronously."""
    async with contextlib.aclosing(chunks):
        try:
            async for chunk in chunks:
                if ROUTING in chunk:
                    await _atell(run, chunk[ROUTING])
                yield chunk
        except Exception as error:
            await _atell(run, failure(error, target))
            raise
