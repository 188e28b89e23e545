"""One call as OpenTelemetry is told of it: a span of ours, or what somebody else's span of it lacks; and metrics.

Whatever goes wrong in here, the call itself goes on.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import threading
import time
from _thread import start_new_thread
from typing import TYPE_CHECKING, Any, TypeVar

from bedrock_routing_integrations.logs import logger

from . import attributes
from .instruments import TOKENS, histogram_of, tracer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from bedrock_routing_integrations.partial import Received

    from .operations import Operation
    from .options import Telemetry

_Item = TypeVar("_Item")

# What says that a model's call is told of already, to OpenLLMetry's instrumentations.
NO_MODEL_CALLS = "suppress_language_model_instrumentation"


class Call:
    """A call of which nothing is told. Its other kinds tell."""

    tells = False
    """Whether it wants to know when it is over."""

    def __enter__(self) -> None:
        """The request is being sent: what is told in here by others belongs to this call."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        """It was sent. An exception ends the call."""

    def opened(self, request_id: str | None) -> None:
        """A stream has begun, under this id of AWS's: known also where no answer comes of it."""

    def answered(self, routing: Mapping[str, Any]) -> None:
        """What happened: the call's ``"routing"`` entry."""

    def over(self, error: BaseException | None, response: Mapping[str, Any] | None = None) -> None:
        """The answer is here, or will not come. Only the first time counts.

        Args:
            error: Why it will not come; None also where it was given up.
            response: The Converse response.
        """

    def stream_over(self, error: BaseException | None, received: Received) -> None:
        """`over`, for a stream, of which so much was received."""

    def until_over(self, items: Iterator[_Item]) -> Iterator[_Item]:
        """Yield the items of a stream; the call is over when they are, or when nobody wants them any more."""
        try:
            yield from items
        except GeneratorExit:
            self.over(None)
            raise
        except BaseException as error:
            self.over(error)
            raise
        self.over(None)


NOTHING = Call()


class Suppressing(Call):
    """A call during whose sending nobody else makes a span of it, or measures it."""

    _token: Any = None

    def __enter__(self) -> None:
        from opentelemetry import context

        self._token = context.attach(self._context())

    def _context(self) -> Any:
        from opentelemetry import context

        current = context.get_current()
        for key in (*suppressing(), NO_MODEL_CALLS):
            current = context.set_value(key, True, current)  # noqa: FBT003 - theirs
        return current

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        from opentelemetry import context

        context.detach(self._token)
        super().__exit__(kind, error, traceback)


class Told(Suppressing):
    """A call that somebody else has a span of; what it lacks is added, where the span is to be had.

    Args:
        span: Theirs; None where it is not to be had.
        known: The attributes that a span of ours would have from the beginning.
    """

    def __init__(self, span: Any, known: Mapping[str, Any]) -> None:
        self._theirs = span
        source = {name: known[name] for name in (attributes.DATA_SOURCE,) if name in known}
        if source:
            self._add(lambda _: source)

    def opened(self, request_id: str | None) -> None:
        """See `Call`."""
        super().opened(request_id)
        if request_id is not None:
            self._add(lambda _: {attributes.REQUEST_ID: request_id})

    def answered(self, routing: Mapping[str, Any]) -> None:
        """See `Call`."""
        super().answered(routing)
        self._add(lambda said: attributes.of_outer(routing, said))

    def _add(self, known: Callable[[Collection[str]], dict[str, Any]]) -> None:
        with Quietly():
            span = self._theirs
            if span is None or not span.is_recording():
                return
            said = getattr(span, "attributes", None) or {}
            # Which model answered we know better: they have what was asked for, or nothing.
            span.set_attributes(
                {n: v for n, v in known(said).items() if n == attributes.RESPONSE_MODEL or n not in said}
            )


class Measured(Call):
    """A call that is measured, and has no span of ours."""

    tells = True

    def __init__(self, options: Telemetry, operation: Operation, known: dict[str, Any]) -> None:
        self._open: list[bool] = []  # not before there is something to end
        _watch_collector()
        self._operation = operation
        self._known = known
        self._duration = histogram_of(options.meter_provider, operation.duration)
        self._tokens = histogram_of(options.meter_provider, TOKENS)
        self._started = time.perf_counter()
        self._open.append(True)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        super().__exit__(kind, error, traceback)
        if error is not None:
            self.over(error)

    def answered(self, routing: Mapping[str, Any]) -> None:
        """See `Call`."""
        with Quietly():
            self._tell(attributes.of_answer(routing))
        super().answered(routing)

    def stream_over(self, error: BaseException | None, received: Received) -> None:
        """See `Call`."""
        if self._open:
            self.over(error, received.response())

    def over(self, error: BaseException | None, response: Mapping[str, Any] | None = None) -> None:
        """See `Call`."""
        try:
            self._open.pop()  # one step, so that of two threads one ends it
        except IndexError:
            return
        ending = (error, response or {}, time.perf_counter() - self._started)
        if threading.get_ident() not in _collecting:
            self._end(*ending)
            return
        # Collecting garbage: this thread may hold the lock that an exporter, or a histogram, now waits for.
        with contextlib.suppress(RuntimeError):  # no more threads: the interpreter is shutting down
            start_new_thread(self._end, ending)

    def _end(self, error: BaseException | None, response: Mapping[str, Any], seconds: float) -> None:
        with Quietly():
            if error is not None:
                self._tell(attributes.of_error(error))
            self._measure(seconds, None)

    def _measure(self, seconds: float, context: Any) -> None:
        """Record the metrics, as those of the span in a context (an exemplar); None for the current one."""
        known = self._known
        series = {name: known[name] for name in attributes.OF_METRICS if name in known}
        for kind in ("input", "output"):
            tokens = known.get(f"gen_ai.usage.{kind}_tokens")
            if tokens is not None:
                self._tokens.record(tokens, {**series, attributes.TOKEN_TYPE: kind}, context)
        if attributes.ERROR_TYPE in known:
            series[attributes.ERROR_TYPE] = known[attributes.ERROR_TYPE]
        self._duration.record(seconds, series, context)

    def _tell(self, more: dict[str, Any]) -> None:
        self._known.update(more)

    def __del__(self) -> None:
        # A stream that nobody ever read, and nobody closed.
        self.over(None)


class ToldAndMeasured(Told, Measured):
    """A call that somebody else has a span of, and does not measure."""

    def __init__(self, options: Telemetry, operation: Operation, known: dict[str, Any], span: Any) -> None:
        Measured.__init__(self, options, operation, known)
        Told.__init__(self, span, known)


class Recorded(Suppressing, Measured):
    """A call with a span, and metrics, of its own."""

    def __init__(
        self, options: Telemetry, operation: Operation, known: dict[str, Any], request: Mapping[str, Any]
    ) -> None:
        from opentelemetry.trace import SpanKind

        super().__init__(options, operation, known)
        self._open.clear()  # until there is a span
        tracer = tracer_of(options.tracer_provider)
        self._span = tracer.start_span(operation.span_name(known), kind=SpanKind.CLIENT, attributes=known)
        self._with_content = self._span.is_recording() and options.records_content
        self._open.append(True)
        if self._with_content:
            with Quietly():
                self._span.set_attributes(operation.content_of_request(request))

    def _context(self) -> Any:
        from opentelemetry import trace

        return trace.set_span_in_context(self._span, super()._context())

    def opened(self, request_id: str | None) -> None:
        """See `Call`."""
        if request_id is not None:
            with Quietly():
                self._tell({attributes.REQUEST_ID: request_id})

    def _end(self, error: BaseException | None, response: Mapping[str, Any], seconds: float) -> None:
        from opentelemetry import trace

        with Quietly():
            if response.get("stopReason"):
                self._tell({attributes.FINISH_REASONS: (response["stopReason"],)})
            if error is not None:
                self._tell(attributes.of_error(error))
                self._span.set_status(trace.Status(trace.StatusCode.ERROR))
            if self._with_content:
                self._span.set_attributes(self._operation.content_of_answer(response))
        with Quietly():
            self._span.end()
            self._measure(seconds, trace.set_span_in_context(self._span))

    def _tell(self, more: dict[str, Any]) -> None:
        super()._tell(more)
        self._span.set_attributes(more)


class Quietly:
    """What goes wrong inside is logged, and nothing else."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> bool:
        if not isinstance(error, Exception):
            return False
        logger.debug("OpenTelemetry could not be told of a call: %r", error)
        return True


def is_suppressed(*keys: str) -> bool:
    """Return whether one of these keys of the current context is set."""
    from opentelemetry import context

    return any(context.get_value(key) for key in keys)


@functools.lru_cache(maxsize=1)
def suppressing() -> tuple[str, ...]:
    """What all instrumentations heed: the key of opentelemetry.context, and its name written out."""
    from opentelemetry import context

    # Not public, and the only way there is (seen 2026-11: its own packages import it, and OpenInference's).
    key = getattr(context, "_SUPPRESS_INSTRUMENTATION_KEY", None)
    return ("suppress_instrumentation", *([key] if key else []))


_collecting: set[int] = set()


def _watch_collector() -> None:
    if _on_collection not in gc.callbacks:
        gc.callbacks.append(_on_collection)


def _on_collection(phase: str, _: object) -> None:
    (_collecting.add if phase == "start" else _collecting.discard)(threading.get_ident())
