"""Who else tells OpenTelemetry of a call: instrumentations of the frameworks, and whoever has begun a span of it."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .attributes import OPERATION, TARGET_KIND

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

# Whose handlers make a span of each call of a model (seen 2026-11): the modules of their classes.
_MODULES = (
    "opentelemetry.", "openinference.", "langfuse.", "openlit.", "langchain_azure_ai.", "agentops.",
    "llama_index.observability.otel",
)  # fmt: skip
# How a span says that it is a model's call: the conventions' way, OpenInference's and Langfuse's.
_MODEL_CALLS = (
    (OPERATION, ("chat", "text_completion", "generate_content")),
    ("openinference.span.kind", ("LLM",)),
    ("langfuse.observation.type", ("generation",)),
)


@dataclass(frozen=True)
class Outer:
    """Somebody who tells of a call already.

    Attributes:
        span: Their span of it; None where it is not to be had.
    """

    span: Any = None


def is_loaded() -> bool:
    """Whether anybody in this process has imported OpenTelemetry, without which nothing records."""
    return sys.modules.get("opentelemetry.trace") is not None


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
            return Outer(current_span() if is_current else _span_of(handler, run_id))
    return None


def current_span() -> Any:
    """The current span itself. OpenInference hands out one that later stands for another."""
    from opentelemetry import trace

    span = trace.get_current_span()
    return getattr(span, "__wrapped__", span)


def claim(span: Any, target_kind: str) -> bool:
    """Whether a span is that of a model's call, and of this one: the second call inside it gets a span of its own."""
    said = getattr(span, "attributes", None) or {}
    if TARGET_KIND in said or not any(said.get(name) in values for name, values in _MODEL_CALLS):
        return False
    span.set_attribute(TARGET_KIND, target_kind)
    return True


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
