"""Which of LangChain's runs a call belongs to: who hears of it, and under which id.

`_generate` is handed a run manager. What streams is handed none (langchain-core 1.x): there the run is noted when it
begins, where somebody among its handlers must be told of the answer, or tells OpenTelemetry of the call.
"""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_core.callbacks import BaseCallbackHandler, CallbackManager
from langchain_core.runnables.config import ensure_config

from bedrock_routing_integrations.errors import InvalidTargetError
from bedrock_routing_integrations.invocation import ROUTING
from bedrock_routing_integrations.telemetry import Outer, outer_of

from ._calls import split_model, with_concurrency
from ._messages import token_usage
from ._settings import Settings
from ._traces import tracers_among

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from uuid import UUID

    from langchain_core.callbacks import Callbacks
    from langchain_core.callbacks.manager import BaseRunManager
    from langchain_core.language_models import LanguageModelInput
    from langchain_core.language_models.base import LangSmithParams
    from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
    from langchain_core.outputs import LLMResult
    from langchain_core.runnables import RunnableConfig

RUN = "run_of_langchain"
"""The argument of a call that says what its `Run` is, where that is known already."""


class Run(NamedTuple):
    """A run.

    Attributes:
        handlers: Who hears of it.
        run_id: LangChain's id; None where it stands for several calls.
    """

    handlers: Sequence[BaseCallbackHandler]
    run_id: UUID | None

    def outer(self) -> Outer | None:
        """Who of the handlers tells OpenTelemetry of the call; None where nobody does."""
        return outer_of(self.handlers, run_id=self.run_id)


_noted: contextvars.ContextVar[Run | None] = contextvars.ContextVar("bedrock_routing_langchain_run", default=None)


def run_of(run_manager: BaseRunManager | None, *, alone: bool = True) -> Run | None:
    """The run of a call; None where nobody hears of it.

    Args:
        run_manager: Of the call; None where LangChain has handed on none.
        alone: Whether it is the only call of its run.
    """
    noted = _noted.get()
    if noted is not None:
        _noted.set(None)  # it was for this call
    if run_manager is None:
        return noted
    return Run(run_manager.handlers, run_manager.run_id if alone else None)


def take_run(call: dict[str, Any], run_manager: BaseRunManager | None) -> Run | None:
    """Return the run of a call: the one that its arguments say, which is taken out of them, else `run_of`.

    An argument of that name that a user gave stays, and is refused as any unknown argument.
    """
    if RUN in call and isinstance(call[RUN], (Run, type(None))):
        run: Run | None = call.pop(RUN)
        return run
    return run_of(run_manager)


class Runs(Settings):
    """A chat model that knows, in streams too, which run a call belongs to, and what LangChain records of its runs."""

    def generate(
        self,
        messages: list[list[BaseMessage]],
        stop: list[str] | None = None,
        callbacks: Callbacks = None,
        **kwargs: Any,
    ) -> LLMResult:
        """LangChain's ``generate``."""
        noting = self._noting_one(messages, callbacks)
        try:
            return super().generate(messages, stop, noting, **kwargs)
        finally:
            _forget_run(noting)

    async def agenerate(
        self,
        messages: list[list[BaseMessage]],
        stop: list[str] | None = None,
        callbacks: Callbacks = None,
        **kwargs: Any,
    ) -> LLMResult:
        """LangChain's ``agenerate``."""
        noting = self._noting_one(messages, callbacks)
        try:
            return await super().agenerate(messages, stop, noting, **kwargs)
        finally:
            _forget_run(noting)

    def stream(
        self,
        input: LanguageModelInput,  # noqa: A002 - its name
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        """LangChain's ``stream``."""
        config = self._noting_config(config)
        return _forgetting(super().stream(input, config, stop=stop, **kwargs), config)

    def astream(
        self,
        input: LanguageModelInput,  # noqa: A002 - its name
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        """LangChain's ``astream``."""
        config = self._noting_config(config)
        return _aforgetting(super().astream(input, config, stop=stop, **kwargs), config)

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """LangChain's ``batch``, up to `max_concurrency` calls at once unless the config names another number."""
        config = with_concurrency(config, self.max_concurrency)
        return super().batch(inputs, config, return_exceptions=return_exceptions, **kwargs)

    def batch_as_completed(  # type: ignore[override]  # upstream's overloads differ in `return_exceptions` only
        self,
        inputs: Sequence[LanguageModelInput],
        config: RunnableConfig | Sequence[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> Iterator[tuple[int, AIMessage | Exception]]:
        """LangChain's ``batch_as_completed``, with as many calls at once as `batch`."""
        config = with_concurrency(config, self.max_concurrency)
        yield from super().batch_as_completed(inputs, config, return_exceptions=return_exceptions, **kwargs)  # type: ignore[call-overload]

    def _combine_llm_outputs(self, llm_outputs: list[dict[str, Any] | None], /) -> dict[str, Any]:
        outputs = [output for output in llm_outputs if output]
        if len(outputs) <= 1:
            return outputs[0] if outputs else {}
        names = {output["model_name"] for output in outputs}
        return {
            **({"model_name": names.pop()} if len(names) == 1 else {}),
            "token_usage": token_usage([output["token_usage"] for output in outputs]),
            ROUTING: [output[ROUTING] for output in outputs],
        }

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        named_id, rest = split_model(kwargs)
        model_id = named_id or self.model_id
        # With a Region upstream does not ask the client for it, which would build one in an event loop.
        if self.region_name and len(rest) == len(kwargs):
            return super()._get_ls_params(stop=stop, **kwargs)
        try:
            region = self.client.region(model_id)
        except InvalidTargetError:  # the call will say so
            region = None
        named = self.model_copy(update={"model_id": model_id, "region_name": region or ""})
        params = super(Runs, named)._get_ls_params(stop=stop, **rest)
        if region is None:
            params.get("ls_invocation_params", {}).pop("region_name", None)  # type: ignore[attr-defined]
        return params

    def _noting_config(self, config: RunnableConfig | None) -> RunnableConfig | None:
        given = ensure_config(config)
        callbacks = given.get("callbacks")
        noting = self._noting(callbacks)
        return config if noting is callbacks else {**given, "callbacks": noting}

    def _noting_one(self, messages: list[list[BaseMessage]], callbacks: Callbacks) -> Callbacks:
        # Without handlers of its own a call does not stream in here; and of several prompts all runs begin first, so
        # that it would not be known which is whose.
        streams = len(messages) == 1 and (callbacks or self.callbacks)
        return self._noting(callbacks) if streams else callbacks

    def _noting(self, callbacks: Callbacks) -> Callbacks:
        manager = CallbackManager.configure(callbacks, self.callbacks)
        if not tracers_among(manager.handlers) and outer_of(manager.handlers) is None:
            return callbacks
        manager.add_handler(_Noting(manager.handlers), inherit=False)
        return manager


def _forgetting(chunks: Iterator[AIMessageChunk], config: RunnableConfig | None) -> Iterator[AIMessageChunk]:
    try:
        yield from chunks
    finally:
        _forget_run((config or {}).get("callbacks"))


async def _aforgetting(
    chunks: AsyncIterator[AIMessageChunk], config: RunnableConfig | None
) -> AsyncIterator[AIMessageChunk]:
    try:
        async for chunk in chunks:
            yield chunk
    finally:
        await chunks.aclose()  # type: ignore[attr-defined]  # a generator
        _forget_run((config or {}).get("callbacks"))


def _forget_run(callbacks: Callbacks) -> None:
    """Forget the run that was noted for a call which is over, if no call has taken it.

    LangChain starts the run of a call, and then may answer from its cache, or raise. The next call in this context must
    not take the run for its own.
    """
    noted = _noted.get()
    if noted is None or not isinstance(callbacks, CallbackManager):
        return
    if any(isinstance(handler, _Noting) and handler.noted is noted for handler in callbacks.handlers):
        _noted.set(None)


class _Noting(BaseCallbackHandler):
    """Notes which run has just begun."""

    run_inline = True  # in the context of the call

    def __init__(self, handlers: Sequence[BaseCallbackHandler]) -> None:
        self._handlers = handlers
        self.noted: Run | None = None

    def on_chat_model_start(self, *args: Any, run_id: UUID, **kwargs: Any) -> None:
        self.noted = Run(self._handlers, run_id)
        _noted.set(self.noted)
