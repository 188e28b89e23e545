"""The custom event that tells LangChain's callbacks of a call to Bedrock which no run of a model stands for.

`RoutingCallbackHandler` counts it; ``astream_events`` shows it; any handler sees it in ``on_custom_event``.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import AsyncCallbackManager, CallbackManager

from bedrock_routing_integrations.errors import error_kind
from bedrock_routing_integrations.invocation import ROUTING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping

    from langchain_core.callbacks.manager import BaseRunManager

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
