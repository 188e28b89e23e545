"""Record the spans and metrics of a test, with providers of its own."""

from __future__ import annotations

import time

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bedrock_routing_integrations.observability.options import Telemetry

OURS = "bedrock_routing_integrations"


class TelemetryRecorder:
    """Providers whose spans and metrics a test can read."""

    def __init__(self, **provided):
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = TracerProvider(shutdown_on_exit=False, **provided)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)

    def options(self, **said):
        return Telemetry(tracer_provider=self.tracers, meter_provider=self.meters, **said)

    def span(self, name="app", **said):
        """A span of the application's, made the current one."""
        return self.tracers.get_tracer("app").start_as_current_span(name, **said)

    @property
    def spans(self):
        """Our spans that have ended."""
        return [span for span in self.exporter.get_finished_spans() if span.instrumentation_scope.name == OURS]

    @property
    def only(self):
        (span,) = self.spans
        return span

    def points(self, name):
        """What was measured under a name: its attributes → how often, and the sum."""
        data = self.reader.get_metrics_data()
        metrics = [m for r in (data.resource_metrics if data else ()) for s in r.scope_metrics for m in s.metrics]
        return [point for metric in metrics if metric.name == name for point in metric.data.data_points]


def ask(prompt, **more):
    return {"messages": [{"role": "user", "content": [{"text": prompt}]}], **more}


def until(true):
    """Wait for another thread's work."""
    for _ in range(500):
        if true():
            return True
        time.sleep(0.01)
    return False
