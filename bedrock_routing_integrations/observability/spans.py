"""Record calls with OpenTelemetry: a span for each call, or the missing attributes of another instrumentation's span.

`OpenTelemetryObserver` decides for each call what to record. A `CallRecording` then owns the span and ends it.
"""

from __future__ import annotations

import functools
import sys
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from bedrock_routing_integrations.bounded_cache import BoundedCache
from bedrock_routing_integrations.runtime import DEFAULT_RUNTIME

from . import attributes
from . import message_content as content
from .call_events import AttemptMade, CallAbandoned, CallAnswered, log_errors
from .external_spans import (
    ExternalSpan,
    claim_span,
    current_span,
    has_measuring_instrumentor,
    is_loaded,
    records_metrics,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from .call_events import CallFailed, CallStarted
    from .options import Telemetry


# --- The operations that are recorded, with their metrics and attributes ---

# The bucket boundaries that the conventions advise.
_SECONDS = tuple(0.01 * 2**power for power in range(14))
_TOKENS = tuple(4**power for power in range(14))


class Histogram(NamedTuple):
    """A metric, as the semantic conventions define it."""

    name: str
    unit: str
    description: str
    bounds: tuple[float, ...]


CALL_DURATION = Histogram("gen_ai.client.operation.duration", "s", "GenAI operation duration.", _SECONDS)
RETRIEVAL_DURATION = Histogram("gen_ai.retrieval.duration", "s", "GenAI retrieval duration.", _SECONDS)
TOKENS = Histogram("gen_ai.client.token.usage", "{token}", "Number of input and output tokens used.", _TOKENS)


class Operation(NamedTuple):
    """An operation, as OpenTelemetry records it.

    Attributes:
        recognized_by: Attributes and values of spans that users and instrumentations make for such a call: by the
            conventions, by OpenInference and by Langfuse.
        mark: The attribute that claims such a span for one call.
        name_attribute: The attribute in a span's name, after the operation.
        duration: The metric of the call's duration.
        attributes_of: Return the attributes that are known when a call starts.
        content_of_request: Return the attributes with the content of a request.
        content_of_response: Return the attributes with the content of a response.
        is_measured_by_others: Whether the instrumentations that record metrics record them for such calls.
    """

    recognized_by: tuple[tuple[str, tuple[str, ...]], ...]
    mark: str
    name_attribute: str
    duration: Histogram
    attributes_of: Callable[[CallStarted], dict[str, Any]]
    content_of_request: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    content_of_response: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    is_measured_by_others: bool

    def span_name(self, known: Mapping[str, Any]) -> str:
        """Return the name of a span with these attributes."""
        return " ".join(str(known[name]) for name in (attributes.OPERATION, self.name_attribute) if name in known)


_CHAT = Operation(
    recognized_by=(
        (attributes.OPERATION, ("chat", "text_completion", "generate_content")),
        ("openinference.span.kind", ("LLM",)),
        ("langfuse.observation.type", ("generation",)),
    ),
    mark=attributes.TARGET_KIND,
    name_attribute=attributes.REQUEST_MODEL,
    duration=CALL_DURATION,
    attributes_of=attributes.of_converse,
    content_of_request=content.of_request,
    content_of_response=content.of_answer,
    is_measured_by_others=True,
)
# The conventions have no operation for RetrieveAndGenerate: a model's answer is a chat.
_GENERATION = _CHAT._replace(
    attributes_of=attributes.of_generation,
    content_of_request=content.of_question,
    content_of_response=content.of_generated,
    is_measured_by_others=False,
)
_RETRIEVAL = Operation(
    recognized_by=(
        (attributes.OPERATION, ("retrieval", "vector_db_retrieve")),
        ("openinference.span.kind", ("RETRIEVER",)),
        ("langfuse.observation.type", ("retriever",)),
    ),
    mark="aws.bedrock.operation",
    name_attribute=attributes.DATA_SOURCE,
    duration=RETRIEVAL_DURATION,
    attributes_of=attributes.of_retrieval,
    content_of_request=content.of_query,
    content_of_response=content.of_results,
    is_measured_by_others=False,
)

OPERATIONS = {
    "Converse": _CHAT,
    "ConverseStream": _CHAT,
    "Retrieve": _RETRIEVAL,
    "RetrieveAndGenerate": _GENERATION,
    "RetrieveAndGenerateStream": _GENERATION,
}
"""Operation of AWS's API → how it is recorded."""

_SCOPE_NAME = "bedrock_routing_integrations"
_MAX_PROVIDERS = 16  # a process has one; tests make more
# The context key by which OpenLLMetry's instrumentations mark that a call to a model is recorded already.
_SUPPRESS_MODEL_CALLS = "suppress_language_model_instrumentation"


class OpenTelemetryObserver:
    """Record the calls of one client.

    Args:
        options: What to record, and with which providers.
    """

    def __init__(self, options: Telemetry) -> None:
        self.options = options

    def is_active(self) -> bool:
        """Return whether OpenTelemetry is in use and not switched off."""
        return self.options.spans == "always" or (self.options.spans == "auto" and is_loaded())

    def observe(self, started: CallStarted) -> CallRecording | None:
        """Return the recording of a call; None if nothing of it is to be recorded.

        Args:
            started: The call.
        """
        mode = self.options.spans
        operation, external_span = OPERATIONS[started.operation], started.external_span
        span, has_meters = current_span(), has_meter_provider(self.options.meter_provider)
        is_inside_span = span.get_span_context().is_valid
        # The usual case is cheap to recognize.
        may_record = mode == "always" or external_span is not None or is_inside_span or has_meters
        if not may_record or _is_suppressed(*_suppression_keys()):
            return None
        if external_span is None:
            mark = started.resolved.target.kind.value if started.resolved is not None else "retrieval"
            if claim_span(span, operation, mark):
                external_span = ExternalSpan(span, records_metrics(span))
        is_recorded = _is_suppressed(_SUPPRESS_MODEL_CALLS)
        if external_span is not None:
            is_measured = is_recorded or (external_span.records_metrics and operation.is_measured_by_others)
            measures = has_meters and not is_measured
            return CallRecording(self.options, operation, started, external_span=external_span, measures=measures)
        if not is_recorded and (mode == "always" or is_inside_span):
            return CallRecording(self.options, operation, started, makes_span=True)
        # Outside of any span, an instrumentation of boto3 keeps recording the call.
        if not is_recorded and has_meters and not (operation.is_measured_by_others and has_measuring_instrumentor()):
            return CallRecording(self.options, operation, started, suppresses_others=False)
        return None


class CallRecording:
    """Record one call: in a span of its own, in another instrumentation's span, or in metrics only.

    Args:
        options: What to record.
        operation: How the call's operation is recorded.
        started: The call.
        makes_span: Whether to make a span.
        external_span: The span of another instrumentation, which gets the attributes that it is missing.
        measures: Whether to record metrics.
        suppresses_others: Whether other instrumentations must not record the call while it is sent.
    """

    def __init__(
        self,
        options: Telemetry,
        operation: Operation,
        started: CallStarted,
        *,
        makes_span: bool = False,
        external_span: ExternalSpan | None = None,
        measures: bool = True,
        suppresses_others: bool = True,
    ) -> None:
        self._operation, self._suppresses_others = operation, suppresses_others
        self._external_span = external_span.span if external_span is not None else None
        self._known = operation.attributes_of(started)
        self._histograms = _instruments().histograms(options.meter_provider) if measures else None
        self._span: Any = None
        self._records_content = False
        self._token: Any = None
        if makes_span:
            self._span = self._start_span(options, started.request)
        elif attributes.DATA_SOURCE in self._known:
            self._complete_external_span({attributes.DATA_SOURCE: self._known[attributes.DATA_SOURCE]})

    def _start_span(self, options: Telemetry, request: Mapping[str, Any]) -> Any:
        from opentelemetry.trace import SpanKind

        tracer = _instruments().tracer(options.tracer_provider)
        name = self._operation.span_name(self._known)
        span = tracer.start_span(name, kind=SpanKind.CLIENT, attributes=self._known)
        self._records_content = span.is_recording() and options.records_content
        if self._records_content:
            with log_errors():
                span.set_attributes(self._operation.content_of_request(request))
        return span

    def before_send(self) -> None:
        """Make our span the current one, and suppress other instrumentations."""
        if not self._suppresses_others:
            return
        from opentelemetry import context, trace

        current = context.get_current()
        for key in (*_suppression_keys(), _SUPPRESS_MODEL_CALLS):
            current = context.set_value(key, True, current)  # noqa: FBT003 - OpenTelemetry's signature
        if self._span is not None:
            current = trace.set_span_in_context(self._span, current)
        self._token = context.attach(current)

    def after_send(self) -> None:
        """Restore the context."""
        if self._token is not None:
            from opentelemetry import context

            context.detach(self._token)
            self._token = None

    def handle(self, event: AttemptMade | CallAnswered | CallFailed | CallAbandoned) -> None:
        """Record an event of the call.

        Args:
            event: The event.
        """
        if isinstance(event, AttemptMade):
            if event.error is None and event.request_id is not None:
                self._add({attributes.REQUEST_ID: event.request_id})
                self._complete_external_span({attributes.REQUEST_ID: event.request_id})
            return
        with log_errors():
            self._add_outcome(event)
        if self._span is not None:
            if self._records_content:
                with log_errors():
                    self._span.set_attributes(self._operation.content_of_response(event.response))
            self._span.end()
        self._measure(event.seconds)

    def _add_outcome(self, event: CallAnswered | CallFailed | CallAbandoned) -> None:
        error = None if isinstance(event, CallAbandoned) else event.error
        if isinstance(event, CallAnswered) and event.routing is not None:
            routing = event.routing
            self._add(attributes.of_answer(routing))
            self._complete_external_span(lambda present: attributes.of_external_span(routing, present))
        if error is not None:
            self._add(attributes.of_error(error))
        if self._span is None:
            return
        if event.response.get("stopReason"):
            self._span.set_attribute(attributes.FINISH_REASONS, (event.response["stopReason"],))
        if error is not None:
            from opentelemetry import trace

            self._span.set_status(trace.Status(trace.StatusCode.ERROR))

    def _add(self, known: Mapping[str, Any]) -> None:
        """Add attributes to the metrics and to our span."""
        self._known.update(known)
        if self._span is not None:
            self._span.set_attributes(known)

    def _complete_external_span(
        self, known: Mapping[str, Any] | Callable[[Collection[str]], Mapping[str, Any]]
    ) -> None:
        span = self._external_span
        if span is None or not span.is_recording():
            return
        present = getattr(span, "attributes", None) or {}
        values = known(present) if callable(known) else known
        # The invoked model replaces their value: they have the requested model, or nothing.
        span.set_attributes({n: v for n, v in values.items() if n == attributes.RESPONSE_MODEL or n not in present})

    def _measure(self, seconds: float) -> None:
        if self._histograms is None:
            return
        context = None
        if self._span is not None:
            from opentelemetry import trace

            context = trace.set_span_in_context(self._span)  # for exemplars
        known = self._known
        labels = {name: known[name] for name in attributes.METRIC_ATTRIBUTES if name in known}
        for kind in ("input", "output"):
            tokens = known.get(f"gen_ai.usage.{kind}_tokens")
            if tokens is not None:
                self._histograms[TOKENS].record(tokens, {**labels, attributes.TOKEN_TYPE: kind}, context)
        if attributes.ERROR_TYPE in known:
            labels[attributes.ERROR_TYPE] = known[attributes.ERROR_TYPE]
        self._histograms[self._operation.duration].record(seconds, labels, context)


# --- Providers ---


def has_meter_provider(provider: Any) -> bool:
    """Return whether metrics are recorded: a provider is given, or the process has set one.

    Args:
        provider: The given meter provider; None for the process's own, as it is now.
    """
    if provider is not None:
        return True
    if "opentelemetry.metrics" not in sys.modules:
        return False
    from opentelemetry import metrics

    # The API's own stand-ins record nothing. They are in use until a provider is set, or if metrics are disabled.
    return not type(metrics.get_meter_provider()).__module__.startswith("opentelemetry.metrics")


class Instruments:
    """The tracers and histograms that all clients share, by provider.

    Older versions of OpenTelemetry's SDK warn if a metric is made a second time.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Drop all instruments, and replace the lock."""
        self._lock = threading.Lock()
        self._tracers: BoundedCache[Any, Any] = BoundedCache(_MAX_PROVIDERS)
        self._histograms: BoundedCache[Any, dict[Histogram, Any]] = BoundedCache(_MAX_PROVIDERS)

    def tracer(self, provider: Any) -> Any:
        """Return the tracer of a provider; None for the process's own."""
        if provider is None:
            from opentelemetry import trace

            provider = trace.get_tracer_provider()
        return self._tracers.get(provider) or self._tracers.setdefault(
            provider, provider.get_tracer(_SCOPE_NAME, _version())
        )

    def histograms(self, provider: Any) -> dict[Histogram, Any]:
        """Return the histograms of a provider; None for the process's own."""
        if provider is None:
            from opentelemetry import metrics

            provider = metrics.get_meter_provider()
        histograms = self._histograms.get(provider)
        if histograms is None:
            with self._lock:
                histograms = self._histograms.get(provider)
                if histograms is None:
                    histograms = _make_histograms(provider)
                    self._histograms.put(provider, histograms)
        return histograms


def _make_histograms(provider: Any) -> dict[Histogram, Any]:
    meter = provider.get_meter(_SCOPE_NAME, _version())
    return {
        each: meter.create_histogram(
            each.name, unit=each.unit, description=each.description, explicit_bucket_boundaries_advisory=each.bounds
        )
        for each in (CALL_DURATION, RETRIEVAL_DURATION, TOKENS)
    }


def _instruments() -> Instruments:
    return DEFAULT_RUNTIME.shared(Instruments)


@functools.lru_cache(maxsize=1)
def _version() -> str:
    from importlib.metadata import version

    return version("bedrock-routing-integrations")


# --- Suppression ---


def _is_suppressed(*keys: str) -> bool:
    from opentelemetry import context

    return any(context.get_value(key) for key in keys)


@functools.lru_cache(maxsize=1)
def _suppression_keys() -> tuple[str, ...]:
    """Return the context keys that all instrumentations respect: opentelemetry.context's, and its name as a string."""
    from opentelemetry import context

    # A private name without an alternative (seen 2026-11: OpenTelemetry's own packages and OpenInference import it).
    key = getattr(context, "_SUPPRESS_INSTRUMENTATION_KEY", None)
    return ("suppress_instrumentation", *([key] if key else []))
