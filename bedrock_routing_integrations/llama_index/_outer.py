"""Who of LlamaIndex's handlers tells OpenTelemetry of a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llama_index_instrumentation import get_dispatcher

from bedrock_routing_integrations.telemetry import Outer, outer_of

if TYPE_CHECKING:
    from llama_index.core.llms import LLM


def outer_of_call(llm: LLM) -> Outer | None:
    """Who tells of the call of an LLM that is being made; None where nobody does."""
    dispatcher = get_dispatcher(type(llm).__module__)  # as the decorator of its methods
    handlers: list[Any] = [*dispatcher.span_handlers]
    while dispatcher.propagate and dispatcher.parent is not None:
        dispatcher = dispatcher.parent
        handlers += dispatcher.span_handlers
    # Span handlers make theirs the current one; the older callback handlers do not.
    return outer_of(handlers, is_current=True) or outer_of(llm.callback_manager.handlers)
