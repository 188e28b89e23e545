"""Who of LangChain's callback handlers tells OpenTelemetry of a call, so that it is told once.

A run manager knows its handlers, and LangChain hands none to what streams: there it is noted when the run begins.
"""

from __future__ import annotations

import contextlib
import contextvars
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import BaseCallbackHandler, CallbackManager
from langchain_core.runnables.config import ensure_config

from bedrock_routing_integrations.telemetry import Outer, is_loaded, outer_of

from ._traces import Traced

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from uuid import UUID

    from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
    from langchain_core.callbacks.manager import BaseRunManager
    from langchain_core.language_models import LanguageModelInput
    from langchain_core.messages import AIMessageChunk, BaseMessage
    from langchain_core.outputs import ChatResult
    from langchain_core.runnables import RunnableConfig

OUTER = "told_to_opentelemetry_by"
"""An argument of a call that was noted, or looked up, before."""

_run: contextvars.ContextVar[tuple[Sequence[BaseCallbackHandler], UUID] | None]
_run = contextvars.ContextVar("run", default=None)


class Told(Traced):
    """A chat model that knows, in what streams too, who tells OpenTelemetry of the call."""

    def _generate_with_cache(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with _noted(run_manager):
            return super()._generate_with_cache(messages, stop, run_manager, **kwargs)

    async def _agenerate_with_cache(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with _noted(run_manager):
            return await super()._agenerate_with_cache(messages, stop, run_manager, **kwargs)

    def stream(
        self,
        input: LanguageModelInput,  # noqa: A002 - its name
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        """LangChain's ``stream``."""
        return super().stream(input, self._noting(config), stop=stop, **kwargs)

    def astream(
        self,
        input: LanguageModelInput,  # noqa: A002 - its name
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        """LangChain's ``astream``."""
        return super().astream(input, self._noting(config), stop=stop, **kwargs)

    def _noting(self, config: RunnableConfig | None) -> RunnableConfig | None:
        if not is_loaded():
            return config
        given = ensure_config(config)
        manager = CallbackManager.configure(given.get("callbacks"), self.callbacks)
        if outer_of(manager.handlers) is None:
            return config
        manager.add_handler(_Noting(manager.handlers), inherit=False)
        return {**given, "callbacks": manager}


class _Noting(BaseCallbackHandler):
    """Notes which run has just begun."""

    run_inline = True

    def __init__(self, handlers: Sequence[BaseCallbackHandler]) -> None:
        self._handlers = handlers

    def on_chat_model_start(self, *args: Any, run_id: UUID, **kwargs: Any) -> None:
        _run.set((self._handlers, run_id))


@contextlib.contextmanager
def _noted(run_manager: BaseRunManager | None) -> Iterator[None]:
    token = _run.set((run_manager.handlers, run_manager.run_id) if run_manager is not None else None)
    try:
        yield
    finally:
        _run.reset(token)


def outer_of_run(run_manager: BaseRunManager | None, *, alone: bool = True) -> Outer | None:
    """Who tells of a call; None where nobody does.

    Args:
        run_manager: Of the call; None where LangChain hands on none.
        alone: Whether it is the only call of its run.
    """
    if run_manager is not None:
        return outer_of(run_manager.handlers, run_id=run_manager.run_id if alone else None)
    noted = _run.get()
    if noted is None:
        return None
    _run.set(None)  # it was for this call
    handlers, run_id = noted
    return outer_of(handlers, run_id=run_id)
