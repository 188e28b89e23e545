"""One call as OpenTelemetry is told of it: a span and metrics of ours, or what somebody else's span of it lacks.

Whatever goes wrong in here, the call itself goes on.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import threading
import time
from _thread import start_new_thread
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.logs import logger

from . import attributes, content
from .instruments import histograms_of, tracer_of
from .outer import Outer, claim, current_span, is_loaded

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from bedrock_routing_integrations.partial import Received
    from bedrock_routing_integrations.resolution import ResolvedTarget

    from .options import Telemetry

# What says that a model's call is told of already, to OpenLLMetry's instrumentations.
_NO_MODEL_CALLS = "suppress_language_model_instrumentation"


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


NOTHING = Call()


class Recorder:
    """Tells OpenTelemetry of the calls of one client.

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
        """A call that is about to be sent.

        Args:
            client: The boto3 client that sends it.
            request: The Converse request.
            resolved: Its target.
            stream: Whether it is ConverseStream.
            outer: Who is known to tell of it already.
        """
        mode = self.options.spans
        if mode == "off" or (mode == "auto" and not is_loaded()):
            return NOTHING
        with _Quietly():
            span = current_span()
            if mode == "auto" and outer is None and not span.is_recording():
                return NOTHING  # the usual case, told apart by one look
            if _is_suppressed(*_suppressing()):
                return NOTHING
            theirs = outer.span if outer is not None else None
            if theirs is None and claim(span, resolved.target.kind.value):
                theirs = span
            if outer is not None or theirs is not None:
                return _Told(theirs)
            if not _is_suppressed(_NO_MODEL_CALLS) and (mode == "always" or span.is_recording()):
                known = attributes.of_request(client, request, resolved, stream=stream)
                return _Recorded(self.options, request, known)
        return NOTHING


class _Sending(Call):
    """While a call is sent, nobody else makes a span of it."""

    _token: Any = None

    def __enter__(self) -> None:
        from opentelemetry import context

        self._token = context.attach(self._context())

    def _context(self) -> Any:
        from opentelemetry import context

        current = context.get_current()
        for key in (*_suppressing(), _NO_MODEL_CALLS):
            current = context.set_value(key, True, current)  # noqa: FBT003 - theirs
        return current

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        from opentelemetry import context

        context.detach(self._token)
        if error is not None:
            self.over(error)


class _Told(_Sending):
    """A call that somebody else tells of; in their span, where it is to be had."""

    def __init__(self, span: Any) -> None:
        self._span = span

    def opened(self, request_id: str | None) -> None:
        if request_id is not None:
            self._tell(lambda _: {attributes.REQUEST_ID: request_id})

    def answered(self, routing: Mapping[str, Any]) -> None:
        self._tell(lambda said: attributes.of_outer(routing, said))

    def _tell(self, known: Callable[[Collection[str]], dict[str, Any]]) -> None:
        with _Quietly():
            span = self._span
            if span is None or not span.is_recording():
                return
            said = getattr(span, "attributes", None) or {}
            # Which model answered we know better: they have what was asked for, or nothing.
            span.set_attributes(
                {n: v for n, v in known(said).items() if n == attributes.RESPONSE_MODEL or n not in said}
            )


class _Recorded(_Sending):
    """A call with a span, and metrics, of its own."""

    tells = True

    def __init__(self, options: Telemetry, request: Mapping[str, Any], known: dict[str, Any]) -> None:
        self._open: list[bool] = []  # not before there is something to end
        from opentelemetry.trace import SpanKind

        _watch_collector()
        self._known = known
        self._duration, self._tokens = histograms_of(options.meter_provider)
        tracer = tracer_of(options.tracer_provider)
        self._started = time.perf_counter()
        name = f"{known[attributes.OPERATION]} {known[attributes.REQUEST_MODEL]}"
        self._span = tracer.start_span(name, kind=SpanKind.CLIENT, attributes=known)
        self._with_content = self._span.is_recording() and options.records_content
        self._open.append(True)
        if self._with_content:
            with _Quietly():
                self._span.set_attributes(content.of_request(request))

    def _context(self) -> Any:
        from opentelemetry import trace

        return trace.set_span_in_context(self._span, super()._context())

    def opened(self, request_id: str | None) -> None:
        if request_id is not None:
            with _Quietly():
                self._tell({attributes.REQUEST_ID: request_id})

    def answered(self, routing: Mapping[str, Any]) -> None:
        with _Quietly():
            self._tell(attributes.of_answer(routing))

    def stream_over(self, error: BaseException | None, received: Received) -> None:
        if self._open:
            self.over(error, received.response())

    def over(self, error: BaseException | None, response: Mapping[str, Any] | None = None) -> None:
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
        from opentelemetry import trace

        with _Quietly():
            if response.get("stopReason"):
                self._tell({attributes.FINISH_REASONS: (response["stopReason"],)})
            if error is not None:
                self._tell(attributes.of_error(error))
                self._span.set_status(trace.Status(trace.StatusCode.ERROR))
            if self._with_content:
                self._span.set_attributes(content.of_answer(response))
        with _Quietly():
            self._span.end()
            self._measure(seconds)

    def _measure(self, seconds: float) -> None:
        from opentelemetry import trace

        known, context = self._known, trace.set_span_in_context(self._span)
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
        self._span.set_attributes(more)

    def __del__(self) -> None:
        # A stream that nobody ever read, and nobody closed.
        self.over(None)


class _Quietly:
    """What goes wrong inside is logged, and nothing else."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> bool:
        if not isinstance(error, Exception):
            return False
        logger.debug("OpenTelemetry could not be told of a call: %r", error)
        return True


def _is_suppressed(*keys: str) -> bool:
    from opentelemetry import context

    return any(context.get_value(key) for key in keys)


@functools.lru_cache(maxsize=1)
def _suppressing() -> tuple[str, ...]:
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
