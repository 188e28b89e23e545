"""`Recorder`: decide what OpenTelemetry is told of a call, and by which span.

Two questions are answered apart, as OpenTelemetry keeps its two signals apart:

- **The span.** Where somebody else has begun a span of this very call, their span gets what it lacks. Else the call
  gets a span of ours, where there is a span around it (or always, with ``spans="always"``); whether it is recorded is
  for the sampler to say.
- **The metrics.** Each call is measured once wherever a meter provider is configured, whatever the sampler says and
  whether or not there is a span; not by us where whoever has the span measures the call too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import attributes
from .calls import (
    NO_MODEL_CALLS,
    NOTHING,
    Measured,
    Quietly,
    Recorded,
    Told,
    ToldAndMeasured,
    is_suppressed,
    suppressing,
)
from .instruments import is_configured
from .operations import CHAT, GENERATION, RETRIEVAL
from .outer import Outer, claim, current_span, instrumentations_measure, is_loaded, measures_calls

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bedrock_routing_integrations.resolution import ResolvedTarget

    from .calls import Call
    from .operations import Operation
    from .options import Telemetry


class Recorder:
    """Tell OpenTelemetry of the calls of one client.

    Args:
        options: What is wanted.
    """

    def __init__(self, options: Telemetry) -> None:
        self.options = options

    def begin(
        self,
        client: Any,
        request: Mapping[str, Any],
        resolved: ResolvedTarget,
        *,
        stream: bool = False,
        outer: Outer | None = None,
    ) -> Call:
        """Return a call of Converse that is about to be sent.

        Args:
            client: The boto3 client that sends it.
            request: The Converse request.
            resolved: Its target.
            stream: Whether it is ConverseStream.
            outer: Who is known to tell of it already.
        """
        mark = resolved.target.kind.value
        return self._begin(
            CHAT, mark, request, lambda: attributes.of_request(client, request, resolved, stream=stream), outer
        )

    def begin_retrieval(self, client: Any, request: Mapping[str, Any], *, outer: Outer | None = None) -> Call:
        """Return a call of Retrieve that is about to be sent; see `begin`."""
        return self._begin(RETRIEVAL, "retrieval", request, lambda: attributes.of_retrieval(client, request), outer)

    def begin_generation(
        self, client: Any, request: Mapping[str, Any], resolved: ResolvedTarget, *, stream: bool = False
    ) -> Call:
        """Return a call of RetrieveAndGenerate, or of its stream, that is about to be sent; see `begin`."""
        mark = resolved.target.kind.value
        return self._begin(
            GENERATION, mark, request, lambda: attributes.of_generation(client, request, resolved, stream=stream), None
        )

    def _begin(
        self,
        operation: Operation,
        mark: str,
        request: Mapping[str, Any],
        describe: Callable[[], dict[str, Any]],
        outer: Outer | None,
    ) -> Call:
        mode = self.options.spans
        if mode == "off" or (mode == "auto" and not is_loaded()):
            return NOTHING
        with Quietly():
            span, measures = current_span(), is_configured(self.options.meter_provider)
            is_inside = span.get_span_context().is_valid
            # The usual case, known at a glance, and the rare one.
            is_of_interest = mode == "always" or outer is not None or is_inside or measures
            if not is_of_interest or is_suppressed(*suppressing()):
                return NOTHING
            if outer is None and claim(span, operation, mark):
                outer = Outer(span, measures_calls(span))
            if outer is not None:
                return self._told(operation, describe, outer, measures=measures)
            if not is_suppressed(NO_MODEL_CALLS):
                if mode == "always" or is_inside:
                    return Recorded(self.options, operation, describe(), request)
                # Without a span around it an instrumentation of boto3 has the call for itself, as ever.
                if measures and not (operation.measured_by_others and instrumentations_measure()):
                    return Measured(self.options, operation, describe())
        return NOTHING

    def _told(
        self, operation: Operation, describe: Callable[[], dict[str, Any]], outer: Outer, *, measures: bool
    ) -> Call:
        known = describe()
        is_measured = outer.measures and operation.measured_by_others
        if not measures or is_measured or is_suppressed(NO_MODEL_CALLS):
            return Told(outer.span, known)
        return ToldAndMeasured(self.options, operation, known, outer.span)
