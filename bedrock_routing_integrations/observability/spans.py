"""One call as OpenTelemetry is told of it: a span of ours, or what somebody else's span of it lacks; and metrics.

Whatever goes wrong in here, the call itself goes on.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import sys
import threading
import time
import weakref
from _thread import start_new_thread
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from bedrock_routing_integrations.runtime import logger

from . import attributes
from . import message_content as content
from .external_spans import Outer, claim, current_span, instrumentations_measure, is_loaded, measures_calls

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from bedrock_routing_integrations.models.candidates import ResolvedTarget
    from bedrock_routing_integrations.transport.stream_accumulator import StreamAccumulator

    from .options import Telemetry


# --- What OpenTelemetry's providers make for us ---

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

    def stream_over(self, error: BaseException | None, received: StreamAccumulator) -> None:
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

    def stream_over(self, error: BaseException | None, received: StreamAccumulator) -> None:
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


# --- What tells the operations apart of which OpenTelemetry is told ---


class Operation(NamedTuple):
    """A kind of call.

    Attributes:
        said_by: How a span of somebody else says that it is of such a call: attributes and their values, by the
            conventions, by OpenInference and by Langfuse.
        mark: An attribute of ours that such a span gets: it is of one call, and the next call in it has another span.
        name_of: The attribute that stands in a span's name.
        duration: The metric of how long it took.
        content_of_request: The attributes that hold what a request says.
        content_of_answer: The attributes that hold what was answered.
        measured_by_others: Whether the instrumentations that record metrics record those of such calls.
    """

    said_by: tuple[tuple[str, tuple[str, ...]], ...]
    mark: str
    name_of: str
    duration: Histogram
    content_of_request: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    content_of_answer: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    measured_by_others: bool

    def span_name(self, known: Mapping[str, Any]) -> str:
        """Return the name of a span with these attributes."""
        return " ".join(str(known[name]) for name in (attributes.OPERATION, self.name_of) if name in known)


CHAT = Operation(
    said_by=(
        (attributes.OPERATION, ("chat", "text_completion", "generate_content")),
        ("openinference.span.kind", ("LLM",)),
        ("langfuse.observation.type", ("generation",)),
    ),
    mark=attributes.TARGET_KIND,
    name_of=attributes.REQUEST_MODEL,
    duration=CALL_DURATION,
    content_of_request=content.of_request,
    content_of_answer=content.of_answer,
    measured_by_others=True,
)
"""Converse and ConverseStream."""
GENERATION = CHAT._replace(
    content_of_request=content.of_question, content_of_answer=content.of_generated, measured_by_others=False
)
"""RetrieveAndGenerate and its stream. The conventions have no operation for them: a model's answer is a chat."""
RETRIEVAL = Operation(
    said_by=(
        (attributes.OPERATION, ("retrieval", "vector_db_retrieve")),
        ("openinference.span.kind", ("RETRIEVER",)),
        ("langfuse.observation.type", ("retriever",)),
    ),
    mark="aws.bedrock.operation",
    name_of=attributes.DATA_SOURCE,
    duration=RETRIEVAL_DURATION,
    content_of_request=content.of_query,
    content_of_answer=content.of_results,
    measured_by_others=False,
)
"""Retrieve."""


# --- `Recorder`: decide what OpenTelemetry is told of a call, and by which span. ---


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
