"""Who else tells OpenTelemetry of a call: instrumentations of the frameworks, and whoever has begun a span of it."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from .spans import Operation

# Whose handlers make a span of each call of a model (seen 2026-11): the modules of their classes.
_MODULES = (
    "opentelemetry.", "openinference.", "langfuse.", "openlit.", "langchain_azure_ai.", "agentops.",
    "llama_index.observability.otel",
)  # fmt: skip
# Who of them records `gen_ai.client.operation.duration` too (read 2026-12): OpenLLMetry's for LangChain, the botocore
# instrumentation and OpenLLMetry's for boto3, OpenLIT. Others, such as OpenInference, make spans only.
_MEASURING = (
    "opentelemetry.instrumentation.langchain", "opentelemetry.instrumentation.bedrock",
    "opentelemetry.instrumentation.botocore", "openlit.",
)  # fmt: skip
# The instrumentations of boto3 among them.
_OF_BOTO3 = (
    ("opentelemetry.instrumentation.botocore", "BotocoreInstrumentor"),
    ("opentelemetry.instrumentation.bedrock", "BedrockInstrumentor"),
)


@dataclass(frozen=True)
class Outer:
    """Somebody who tells of a call already.

    Attributes:
        span: Their span of it; None where it is not to be had.
        measures: Whether they record its metrics too.
    """

    span: Any = None
    measures: bool = False


def is_loaded() -> bool:
    """Whether anybody in this process has imported OpenTelemetry, without which nothing records."""
    return "opentelemetry.trace" in sys.modules or "opentelemetry.metrics" in sys.modules


def outer_of(handlers: Iterable[Any], *, run_id: UUID | None = None, is_current: bool = False) -> Outer | None:
    """The first of a framework's handlers that tells OpenTelemetry of a call; None where none does.

    Args:
        handlers: LangChain's callback handlers, or LlamaIndex's span handlers.
        run_id: LangChain's id of the call.
        is_current: Whether they make their span the current one.
    """
    if not is_loaded():
        return None
    for handler in handlers:
        kind: type = type(handler)
        if _is_of_opentelemetry(kind) or _exports_langsmith(handler):
            span = current_span() if is_current else _span_of(handler, run_id)
            return Outer(span, any(base.__module__.startswith(_MEASURING) for base in kind.__mro__))
    return None


def current_span() -> Any:
    """The current span itself. OpenInference hands out one that later stands for another."""
    from opentelemetry import trace

    span = trace.get_current_span()
    return getattr(span, "__wrapped__", span)


def claim(span: Any, operation: Operation, value: str) -> bool:
    """Return whether a span is of a call of this kind, and of this call: the next call inside it gets its own span.

    Args:
        span: The current span.
        operation: The kind of call.
        value: What the span is marked with.
    """
    said = getattr(span, "attributes", None) or {}
    if operation.mark in said or not any(said.get(name) in values for name, values in operation.said_by):
        return False
    span.set_attribute(operation.mark, value)
    return True


def measures_calls(span: Any) -> bool:
    """Return whether who has made a span records the metrics of its call too."""
    scope = getattr(getattr(span, "instrumentation_scope", None), "name", None)
    return str(scope).startswith(_MEASURING)


def instrumentations_measure() -> bool:
    """Return whether an instrumentation of boto3 is switched on that makes spans and records metrics of each call."""
    for module, name in _OF_BOTO3:
        kind = getattr(sys.modules.get(module), name, None)
        if kind is not None:
            # Instrumentors are singletons. Calling the class would run __init__ again, which forgets the user's hooks.
            instrumentor = kind.__new__(kind)
            if getattr(instrumentor, "is_instrumented_by_opentelemetry", False):
                return True
    return False


@functools.lru_cache(maxsize=256)
def _is_of_opentelemetry(kind: type) -> bool:
    return any(base.__module__.startswith(_MODULES) for base in kind.__mro__)


def _exports_langsmith(handler: Any) -> bool:
    # LangChainTracer's client has one with LANGSMITH_OTEL_ENABLED or tracing_mode="otel".
    return getattr(getattr(handler, "client", None), "otel_exporter", None) is not None


def _span_of(handler: Any, run_id: UUID | None) -> Any:
    """The span of a run: OpenInference's `get_span`, OpenLLMetry's `spans`. Others keep theirs to themselves."""
    try:
        get_span = getattr(handler, "get_span", None)
        if get_span is not None:
            return get_span(run_id)
        return getattr(getattr(handler, "spans", {}).get(run_id), "span", None)
    except Exception:  # noqa: BLE001 - somebody else's code; what their span lacks is no reason to fail
        return None
