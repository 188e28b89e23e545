"""How each framework is asked, and where it then has the ``"routing"`` entry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .demo_steps import Framework, Mode, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Ask = Callable[[Step, str], Mapping[str, Any]]

__all__ = ["asker"]

# Enough for every prompt of the demo; on AWS it bounds the bill.
_MAX_TOKENS = 400
# What the query engine finds.
_PASSAGES = (
    "A prompt router is one endpoint for two models of a family. It predicts how well each would answer a prompt.",
    "A router's fallback model is the one to beat: the other is chosen where its answer is predicted to be as good.",
)


def asker(framework: Framework, arguments: Mapping[str, Any]) -> Ask:
    """What sends a step to a target and returns the ``"routing"`` of the answer.

    Args:
        framework: Through which framework.
        arguments: How Bedrock is reached: arguments that the classes of both frameworks take.

    Raises:
        ImportError: The framework is not installed; the message says how to install it.
    """
    return {Framework.LANGCHAIN: _langchain, Framework.LLAMA_INDEX: _llama_index}[framework](arguments)


def _options(step: Step) -> dict[str, Any]:
    performance = {"performance_config": {"latency": step.latency}} if step.latency else {}
    return {"max_tokens": _MAX_TOKENS, **performance}


def _langchain(arguments: Mapping[str, Any]) -> Ask:
    from bedrock_routing_integrations.langchain import ChatBedrockRouter

    def ask(step: Step, model_id: str) -> Mapping[str, Any]:
        llm = ChatBedrockRouter(model=model_id, **arguments, **_options(step))
        if step.mode is Mode.STREAM:
            chunks = llm.stream(step.prompt)
            message = next(chunks)
            for chunk in chunks:
                message = message + chunk
        else:
            message = llm.invoke(step.prompt)  # type: ignore[assignment]  # a chunk above, a message here
        routing: Mapping[str, Any] = message.response_metadata["routing"]
        return routing

    return ask


def _llama_index(arguments: Mapping[str, Any]) -> Ask:
    from bedrock_routing_integrations.llama_index import BedrockRouter

    def ask(step: Step, model_id: str) -> Mapping[str, Any]:
        llm = BedrockRouter(model=model_id, **arguments, **_options(step))
        if step.mode is Mode.QUERY:
            return _query(llm, step.prompt)
        if step.mode is Mode.STREAM:
            *_, response = llm.stream_complete(step.prompt)
        else:
            response = llm.complete(step.prompt)
        routing: Mapping[str, Any] = response.additional_kwargs["routing"]
        return routing

    return ask


def _query(llm: Any, question: str) -> Mapping[str, Any]:
    """Ask a query engine. It returns an answer, not the LLM's response; the event says who gave it."""
    from llama_index.core import SummaryIndex
    from llama_index.core.schema import TextNode
    from llama_index_instrumentation import get_dispatcher
    from llama_index_instrumentation.event_handlers import BaseEventHandler

    from bedrock_routing_integrations.llama_index import ModelRoutedEvent

    seen: list[Mapping[str, Any]] = []

    class Listener(BaseEventHandler):
        def handle(self, event: Any, **_: Any) -> None:
            if isinstance(event, ModelRoutedEvent):
                seen.append(event.routing)

    dispatcher, listener = get_dispatcher(), Listener()
    dispatcher.add_event_handler(listener)
    try:
        SummaryIndex([TextNode(text=text) for text in _PASSAGES]).as_query_engine(llm=llm).query(question)
    finally:
        dispatcher.event_handlers.remove(listener)
    return seen[-1]
