"""What OpenTelemetry's providers make for us, each once: they warn of a second metric by the same name."""

from __future__ import annotations

import functools
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

_NAME = "bedrock_routing_integrations"
# The bucket boundaries that the conventions advise.
_SECONDS = tuple(0.01 * 2**power for power in range(14))
_TOKENS = tuple(4**power for power in range(14))


class Histogram(NamedTuple):
    """A metric, as the conventions define it."""

    name: str
    unit: str
    description: str
    bounds: tuple[float, ...]


CALL_DURATION = Histogram("gen_ai.client.operation.duration", "s", "GenAI operation duration.", _SECONDS)
RETRIEVAL_DURATION = Histogram("gen_ai.retrieval.duration", "s", "GenAI retrieval duration.", _SECONDS)
TOKENS = Histogram("gen_ai.client.token.usage", "{token}", "Number of input and output tokens used.", _TOKENS)

_tracers: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
_histograms: weakref.WeakKeyDictionary[Any, dict[Histogram, Any]] = weakref.WeakKeyDictionary()
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


def is_configured(provider: Any) -> bool:
    """Return whether anything is measured: a provider is given, or the process has another one than the API's own.

    Args:
        provider: None for the process's own, as it is now.
    """
    if provider is not None:
        return True
    if "opentelemetry.metrics" not in sys.modules:
        return False
    from opentelemetry import metrics

    # The API's stand-ins, until one is set or where metrics are switched off, do nothing.
    return not type(metrics.get_meter_provider()).__module__.startswith("opentelemetry.metrics")


def histogram_of(provider: Any, wanted: Histogram) -> Any:
    """Return the histogram of a provider.

    Args:
        provider: None for the process's own, as it is now.
        wanted: Which one.
    """
    if provider is None:
        from opentelemetry import metrics

        provider = metrics.get_meter_provider()

    def make() -> dict[Histogram, Any]:
        meter = provider.get_meter(_NAME, _version())
        return {
            each: meter.create_histogram(
                each.name, unit=each.unit, description=each.description, explicit_bucket_boundaries_advisory=each.bounds
            )
            for each in (CALL_DURATION, RETRIEVAL_DURATION, TOKENS)
        }

    return _made_once(_histograms, provider, make)[wanted]


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
