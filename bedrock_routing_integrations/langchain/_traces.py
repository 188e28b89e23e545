"""What LangSmith is told of a call: the model that answered, and what it cost.

LangSmith takes both from the metadata of a run: ``ls_model_name``, and ``usage_metadata`` with ``total_cost``.
langchain-core's tracer fills in the first one before anybody has answered, and makes the second one of the message's
own ``usage_metadata``. A cost cannot stand there: langchain-core adds usages up, and raises at a number that is no
integer. So it is put on the tracer's run, when there is an answer and before the tracer sends it. Where no tracer is,
nothing is done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import BaseCallbackHandler, CallbackManager
from langchain_core.runnables.config import ensure_config

from bedrock_routing_integrations.invocation import ROUTING
from bedrock_routing_integrations.logs import logger

from ._settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
    from uuid import UUID

    from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
    from langchain_core.callbacks.manager import BaseRunManager
    from langchain_core.language_models import LanguageModelInput
    from langchain_core.messages import AIMessageChunk, BaseMessage
    from langchain_core.outputs import ChatResult, LLMResult
    from langchain_core.runnables import RunnableConfig
    from langchain_core.tracers.langchain import LangChainTracer


class Traced(Settings):
    """A chat model that tells LangSmith's tracer, where there is one, who answered and what it cost."""

    def _generate_with_cache(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        result = super()._generate_with_cache(messages, stop, run_manager, **kwargs)
        _name_result(run_manager, result)
        return result

    async def _agenerate_with_cache(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        result = await super()._agenerate_with_cache(messages, stop, run_manager, **kwargs)
        _name_result(run_manager, result)
        return result

    # LangChain hands no run manager to what streams.

    def stream(
        self,
        input: LanguageModelInput,  # noqa: A002 - its name
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        """LangChain's ``stream``."""
        return super().stream(input, self._with_names(config), stop=stop, **kwargs)

    def astream(  # no generator of its own: it would only hand on what the other one yields
        self,
        input: LanguageModelInput,  # noqa: A002 - its name
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        """LangChain's ``astream``."""
        return super().astream(input, self._with_names(config), stop=stop, **kwargs)

    def _with_names(self, config: RunnableConfig | None) -> RunnableConfig | None:
        manager = CallbackManager.configure(ensure_config(config).get("callbacks"), self.callbacks)
        tracers = _tracers_among(manager.handlers)
        if not tracers:
            return config
        manager.handlers.insert(0, _Naming(tracers))  # before they send what they have
        return {**ensure_config(config), "callbacks": manager}


class _Naming(BaseCallbackHandler):
    """Tells tracers of the answer of a stream."""

    run_inline = True

    def __init__(self, tracers: Sequence[LangChainTracer]) -> None:
        self._tracers = tracers

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        message: Any = response.generations[0][0]
        _name(self._tracers, run_id, message.message.response_metadata)


def name_in_traces(run: BaseRunManager | None, said: Mapping[str, Any] | None) -> None:
    """Tell the tracers of a run.

    Args:
        run: The run of a model.
        said: What is known of the answer: ``"routing"``, and ``"usage_metadata"`` where no message says that.
    """
    if run is not None and said:
        _name(_tracers_among(run.handlers), run.run_id, said)


def _name_result(run: BaseRunManager | None, result: ChatResult) -> None:
    message: Any = result.generations[0].message
    if "total_cost" not in (message.usage_metadata or {}):  # so are answers of LangChain's cache marked
        name_in_traces(run, message.response_metadata)


def _tracers_among(handlers: Sequence[BaseCallbackHandler]) -> list[LangChainTracer]:
    if not handlers:
        return []
    from langchain_core.tracers.langchain import LangChainTracer  # LangChain has imported it for the run, not before

    return [handler for handler in handlers if isinstance(handler, LangChainTracer)]


def _name(tracers: Sequence[LangChainTracer], run_id: UUID, said: Mapping[str, Any]) -> None:
    if ROUTING not in said:
        return
    try:
        for tracer in tracers:
            run = tracer.run_map.get(str(run_id))
            if run is not None:
                run.extra["metadata"] = _metadata(run.extra.get("metadata") or {}, said)
    except Exception:  # noqa: BLE001 - no trace is worth a call
        logger.debug("LangSmith could not be told who answered", exc_info=True)


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
