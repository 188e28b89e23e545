"""Find the OpenTelemetry spans that other instrumentations have made for a call, so that it gets no second span.

Instrumentations of LangChain and LlamaIndex are callback or span handlers; they are recognized by the modules of their
classes. A user's own span is recognized by its attributes.
"""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from .spans import Operation

# Modules of handlers that make a span for each call of a model (seen 2026-11).
_TRACING_MODULES = (
    "opentelemetry.", "openinference.", "langfuse.", "openlit.", "langchain_azure_ai.", "agentops.",
    "llama_index.observability.otel",
)  # fmt: skip
# Of those, the ones that also record `gen_ai.client.operation.duration` (read 2026-12): OpenLLMetry's for LangChain,
# the botocore instrumentation, OpenLLMetry's for boto3, and OpenLIT. Others, such as OpenInference, make spans only.
_MEASURING_MODULES = (
    "opentelemetry.instrumentation.langchain", "opentelemetry.instrumentation.bedrock",
    "opentelemetry.instrumentation.botocore", "openlit.",
)  # fmt: skip
_BOTO3_INSTRUMENTORS = (
    ("opentelemetry.instrumentation.botocore", "BotocoreInstrumentor"),
    ("opentelemetry.instrumentation.bedrock", "BedrockInstrumentor"),
)


@dataclass(frozen=True)
class ExternalSpan:
    """A span that another instrumentation, or the user, has made for a call.

    Attributes:
        span: The span; None if the instrumentation keeps it private.
        records_metrics: Whether the instrumentation also records the metrics of the call.
    """

    span: Any = None
    records_metrics: bool = False


def is_loaded() -> bool:
    """Return whether this process has imported OpenTelemetry. If not, nothing can record."""
    return "opentelemetry.trace" in sys.modules or "opentelemetry.metrics" in sys.modules


def find_external_span(
    handlers: Iterable[Any], *, run_id: UUID | None = None, is_current: bool = False
) -> ExternalSpan | None:
    """Return the span that the first tracing handler of a framework has made for a call; None if no handler traces.

    Args:
        handlers: LangChain's callback handlers, or LlamaIndex's span handlers.
        run_id: LangChain's id of the call's run.
        is_current: Whether the handlers make their span the current one.
    """
    if not is_loaded():
        return None
    for handler in handlers:
        kind: type = type(handler)
        if _makes_spans(kind) or _exports_langsmith(handler):
            span = current_span() if is_current else _span_of_run(handler, run_id)
            return ExternalSpan(span, any(base.__module__.startswith(_MEASURING_MODULES) for base in kind.__mro__))
    return None


def current_span() -> Any:
    """Return the current span. OpenInference wraps it in a proxy that later refers to another span: it is unwrapped."""
    from opentelemetry import trace

    span = trace.get_current_span()
    return getattr(span, "__wrapped__", span)


def claim_span(span: Any, operation: Operation, value: str) -> bool:
    """Return whether a span is for this call, and mark it, so that the next call inside it gets its own span.

    Args:
        span: The current span.
        operation: The operation of the call.
        value: The value of the mark.
    """
    present = getattr(span, "attributes", None) or {}
    if operation.mark in present or not any(present.get(name) in values for name, values in operation.recognized_by):
        return False
    span.set_attribute(operation.mark, value)
    return True


def records_metrics(span: Any) -> bool:
    """Return whether the instrumentation that made a span also records the metrics of its call."""
    scope = getattr(getattr(span, "instrumentation_scope", None), "name", None)
    return str(scope).startswith(_MEASURING_MODULES)


def has_measuring_instrumentor() -> bool:
    """Return whether an instrumentation of boto3 is active that makes spans and records metrics for each call."""
    for module, name in _BOTO3_INSTRUMENTORS:
        kind = getattr(sys.modules.get(module), name, None)
        if kind is not None:
            # Instrumentors are singletons. Calling the class would run __init__ again, which drops the user's hooks.
            instrumentor = kind.__new__(kind)
            if getattr(instrumentor, "is_instrumented_by_opentelemetry", False):
                return True
    return False


@functools.lru_cache(maxsize=256)
def _makes_spans(kind: type) -> bool:
    return any(base.__module__.startswith(_TRACING_MODULES) for base in kind.__mro__)


def _exports_langsmith(handler: Any) -> bool:
    # LangChainTracer's client has an exporter with LANGSMITH_OTEL_ENABLED or tracing_mode="otel".
    return getattr(getattr(handler, "client", None), "otel_exporter", None) is not None


def _span_of_run(handler: Any, run_id: UUID | None) -> Any:
    """Return the span of a run: OpenInference's `get_span`, OpenLLMetry's `spans`. Other handlers keep it private."""
    try:
        get_span = getattr(handler, "get_span", None)
        if get_span is not None:
            return get_span(run_id)
        return getattr(getattr(handler, "spans", {}).get(run_id), "span", None)
    except Exception:  # noqa: BLE001 - third-party code; an incomplete span must not fail a call
        return None
