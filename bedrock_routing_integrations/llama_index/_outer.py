"""Who of LlamaIndex's handlers tells OpenTelemetry of a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llama_index_instrumentation import get_dispatcher

from bedrock_routing_integrations.telemetry import Outer, outer_of

if TYPE_CHECKING:
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.llms import LLM


def outer_of_call(caller: LLM | BaseRetriever) -> Outer | None:
    """Return who tells of the call of an LLM, or of a retriever, that is being made; None where nobody does."""
    dispatcher = get_dispatcher(type(caller).__module__)  # as the decorator of its methods
    handlers: list[Any] = [*dispatcher.span_handlers]
    while dispatcher.propagate and dispatcher.parent is not None:
        dispatcher = dispatcher.parent
        handlers += dispatcher.span_handlers
    # Span handlers make theirs the current one; the older callback handlers do not.
    return outer_of(handlers, is_current=True) or outer_of(caller.callback_manager.handlers)
