"""What OpenTelemetry's providers make for us, each once: they warn of a second metric by the same name."""

from __future__ import annotations

import functools
import threading
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_NAME = "bedrock_routing_integrations"
# The bucket boundaries that the conventions advise.
_SECONDS = tuple(0.01 * 2**power for power in range(14))
_TOKENS = tuple(4**power for power in range(14))

_tracers: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
_histograms: weakref.WeakKeyDictionary[Any, tuple[Any, Any]] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def tracer_of(provider: Any) -> Any:
    """Our tracer.

    Args:
        provider: None for the process's own, as it is now.
    """
    if provider is None:
        from opentelemetry import trace

        provider = trace.get_tracer_provider()
    return _made_once(_tracers, provider, lambda: provider.get_tracer(_NAME, _version()))


def histograms_of(provider: Any) -> tuple[Any, Any]:
    """The histograms of durations and of tokens.

    Args:
        provider: None for the process's own, as it is now.
    """
    if provider is None:
        from opentelemetry import metrics

        provider = metrics.get_meter_provider()

    def make() -> tuple[Any, Any]:
        meter = provider.get_meter(_NAME, _version())
        duration = meter.create_histogram(
            "gen_ai.client.operation.duration",
            unit="s",
            description="GenAI operation duration.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )
        return duration, tokens

    found: tuple[Any, Any] = _made_once(_histograms, provider, make)
    return found


def _made_once(made: weakref.WeakKeyDictionary[Any, Any], provider: Any, make: Callable[[], Any]) -> Any:
    found = made.get(provider)
    if found is None:
        with _lock:
            found = made.get(provider)
            if found is None:
                found = made[provider] = make()
    return found


@functools.lru_cache(maxsize=1)
def _version() -> str:
    from importlib.metadata import version

    return version("bedrock-routing-integrations")
