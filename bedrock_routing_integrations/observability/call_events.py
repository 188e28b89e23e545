"""Define the events in the life of a call, and emit them to the observers of a client.

Each call has one `CallStarted`, an `AttemptMade` for each time that boto3 was asked to send its request, and exactly
one of `CallAnswered`, `CallFailed` and `CallAbandoned`. `ObservedCall` emits them and owns the end: of several threads
that end a call, the first one counts.

A stream that its reader drops without closing it is abandoned too. CPython frees it in the thread that drops the last
reference, or wherever the garbage collector happens to run; that thread may hold any lock, such as that of a span
exporter. So the finalizer only marks the call as ended, and another thread delivers `CallAbandoned`.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
import weakref
from _thread import start_new_thread
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from bedrock_routing_integrations.errors import aws_error
from bedrock_routing_integrations.runtime import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from typing_extensions import Self

    from bedrock_routing_integrations.models.candidates import ResolvedTarget

    from .external_spans import ExternalSpan

_Item = TypeVar("_Item")
_call_ids = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class CallStarted:
    """A call is about to be sent. The first event of each call.

    Attributes:
        operation: The operation of AWS's API that the caller asked for: ``"Converse"``, ``"ConverseStream"``,
            ``"Retrieve"``, ``"RetrieveAndGenerate"`` or ``"RetrieveAndGenerateStream"``.
        client: The boto3 client that sends it.
        request: The request, with the cache points that were added to it.
        resolved: The target with its candidate models; None for Retrieve.
        external_span: The OpenTelemetry span that an instrumentation of a framework has made for this call, if known.
        call_id: The number of the call in this process.
    """

    operation: str
    client: Any
    request: Mapping[str, Any]
    resolved: ResolvedTarget | None = None
    external_span: ExternalSpan | None = None
    call_id: int = field(default_factory=_call_ids.__next__)


@dataclass(frozen=True, kw_only=True)
class AttemptMade:
    """The request was sent, and AWS began to respond or refused it.

    Attributes:
        call_id: As in `CallStarted`.
        request_id: AWS's id of the request; None if AWS gave none.
        error: Why the attempt failed; None if it was answered.
        will_retry: Whether the request is sent again, without the part that was refused.
        http_requests: The number of HTTP requests: 1 and boto3's own retries.
    """

    call_id: int
    request_id: str | None
    error: Exception | None = None
    will_retry: bool = False
    http_requests: int = 1


@dataclass(frozen=True, kw_only=True)
class CallAnswered:
    """The answer is complete. For a stream: its ``metadata`` event has arrived.

    Attributes:
        call_id: As in `CallStarted`.
        seconds: The time since `CallStarted`.
        request_id: AWS's id of the request; None if AWS gave none.
        response: The response, or the parts of a stream in the shape of a response.
        routing: The ``"routing"`` entry of the call; None where the API reports nothing of the kind.
        error: The error that the caller gets although Bedrock answered, because the stop reason marks the answer as
            malformed.
    """

    call_id: int
    seconds: float
    request_id: str | None
    response: Mapping[str, Any]
    routing: Mapping[str, Any] | None = None
    error: Exception | None = None


@dataclass(frozen=True, kw_only=True)
class CallFailed:
    """The caller gets an exception and no answer.

    Attributes:
        call_id: As in `CallStarted`.
        seconds: The time since `CallStarted`.
        request_id: AWS's id of the request; None if AWS gave none.
        error: The exception.
        response: The part of a stream that had arrived, in the shape of a response.
    """

    call_id: int
    seconds: float
    request_id: str | None
    error: Exception
    response: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class CallAbandoned:
    """The caller stopped waiting: it closed or dropped the stream, or was cancelled or interrupted.

    Attributes:
        call_id: As in `CallStarted`.
        seconds: The time since `CallStarted`.
        request_id: AWS's id of the request; None if AWS gave none.
        response: The part of a stream that had arrived, in the shape of a response.
    """

    call_id: int
    seconds: float
    request_id: str | None
    response: Mapping[str, Any]


class CallListener(Protocol):
    """The listener for one call. Exceptions that it raises are logged and do not reach the caller."""

    def before_send(self) -> None:
        """Prepare the context in which boto3 sends, such as OpenTelemetry's current span."""

    def after_send(self) -> None:
        """Restore the context."""

    def handle(self, event: AttemptMade | CallAnswered | CallFailed | CallAbandoned) -> None:
        """Process an event of the call, in the thread in which it happens.

        Args:
            event: The event.
        """


class CallObserver(Protocol):
    """An observer of calls."""

    def is_active(self) -> bool:
        """Return whether the observer may be interested in a call that starts now. It must be fast."""

    def observe(self, started: CallStarted) -> CallListener | None:
        """Return a listener for the further events of a call; None if the observer has no interest in it.

        Args:
            started: The call.
        """


class ObservedCall:
    """One call, and the listeners that get its events.

    As a context manager it emits `CallFailed` when its block raises, or `CallAbandoned` for what is not an `Exception`.
    Leaving the block otherwise does not end the call: a stream ends later.

    Args:
        started: The call.
        observers: The observers to ask for listeners.
    """

    def __init__(self, started: CallStarted, observers: Sequence[CallObserver]) -> None:
        self._call_id = started.call_id
        self._listeners = [listener for each in observers if (listener := _observe(each, started)) is not None]
        self._request_id: str | None = None
        self._started = time.perf_counter()
        self._ended = threading.Lock()  # locked once the call has ended; an atomic flag, never waited for

    @property
    def has_listeners(self) -> bool:
        """Whether anything listens. A stream without listeners need not be watched."""
        return bool(self._listeners)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        if error is not None:
            self.failed(error)

    def sending(self) -> AbstractContextManager[object]:
        """Return the context manager for the time in which boto3 sends the request."""
        return _Sending(self._listeners) if self._listeners else _NO_CONTEXT

    def attempted(
        self, response: Mapping[str, Any], error: Exception | None = None, *, will_retry: bool = False
    ) -> None:
        """Emit `AttemptMade`.

        Args:
            response: The response of boto3; empty if there is none.
            error: Why the attempt failed.
            will_retry: Whether the request is sent again.
        """
        if not self._listeners:
            return
        http = aws_error(error).metadata if error is not None else response.get("ResponseMetadata") or {}
        self._request_id = http.get("RequestId") or self._request_id
        self._emit(
            AttemptMade(
                call_id=self._call_id,
                request_id=http.get("RequestId"),
                error=error,
                will_retry=will_retry,
                http_requests=1 + (http.get("RetryAttempts") or 0),
            )
        )

    def answered(
        self,
        response: Callable[[], Mapping[str, Any]],
        routing: Mapping[str, Any] | None = None,
        error: Exception | None = None,
    ) -> None:
        """Emit `CallAnswered`, unless the call has ended.

        Args:
            response: Return the response. It is only called if something listens.
            routing: The ``"routing"`` entry.
            error: The error that the caller gets although Bedrock answered.
        """
        if self._end():
            seconds, request_id = time.perf_counter() - self._started, self._request_id
            self._emit(
                CallAnswered(
                    call_id=self._call_id,
                    seconds=seconds,
                    request_id=request_id,
                    response=response(),
                    routing=routing,
                    error=error,
                )
            )

    def failed(self, error: BaseException, response: Callable[[], Mapping[str, Any]] = dict) -> None:
        """Emit `CallFailed`, unless the call has ended; `CallAbandoned` for what is not an `Exception`.

        Args:
            error: The exception that the caller gets.
            response: Return the part of a stream that had arrived.
        """
        if not isinstance(error, Exception):
            self.abandoned(response)
        elif self._end():
            self._emit(
                CallFailed(
                    call_id=self._call_id,
                    seconds=time.perf_counter() - self._started,
                    request_id=aws_error(error).request_id or self._request_id,
                    error=error,
                    response=response(),
                )
            )

    def abandoned(self, response: Callable[[], Mapping[str, Any]] = dict) -> None:
        """Emit `CallAbandoned`, unless the call has ended.

        Args:
            response: Return the part of a stream that had arrived.
        """
        if self._end():
            self._emit(self._abandonment(response))

    def watch(self, stream: Iterator[Any], response: Callable[[], Mapping[str, Any]] = dict) -> None:
        """Emit `CallAbandoned` when a stream is freed that was not read to its end, failed or closed.

        Args:
            stream: The generator that the caller reads from. Nothing that listens may refer to it.
            response: Return the part that has arrived. It may not refer to `stream` either.
        """
        if self._listeners:
            # Called before the generator's own `finally`, which would emit in this thread: see the module's docstring.
            weakref.finalize(stream, self._dropped, response).atexit = False

    def _dropped(self, response: Callable[[], Mapping[str, Any]]) -> None:
        if not self._end():
            return
        # Not `threading.Thread`, whose `start` waits for locks. RuntimeError: the interpreter shuts down.
        with contextlib.suppress(RuntimeError):
            start_new_thread(self._emit, (self._abandonment(response),))

    def _abandonment(self, response: Callable[[], Mapping[str, Any]]) -> CallAbandoned:
        return CallAbandoned(
            call_id=self._call_id,
            seconds=time.perf_counter() - self._started,
            request_id=self._request_id,
            response=response(),
        )

    def _end(self) -> bool:
        """Mark the call as ended, and return whether its end must be emitted by the caller of this method."""
        return bool(self._listeners) and self._ended.acquire(blocking=False)

    def _emit(self, event: AttemptMade | CallAnswered | CallFailed | CallAbandoned) -> None:
        for listener in self._listeners:
            with log_errors():
                listener.handle(event)


class _Sending:
    """The context managers of all listeners, in one. A class, as contextlib's take longer."""

    def __init__(self, listeners: Sequence[CallListener]) -> None:
        self._listeners = listeners

    def __enter__(self) -> None:
        for listener in self._listeners:
            with log_errors():
                listener.before_send()

    def __exit__(self, *error: object) -> None:
        for listener in reversed(self._listeners):
            with log_errors():
                listener.after_send()


_NO_CONTEXT = contextlib.nullcontext()


class log_errors:  # noqa: N801 - used like a function, as contextlib.suppress
    """Log an exception of a listener at DEBUG and suppress it: no observer may break a call."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> bool:
        if not isinstance(error, Exception):
            return False
        logger.debug("An observer of calls failed: %r", error)
        return True


def observe_call(observers: Sequence[CallObserver], start: Callable[[], CallStarted]) -> ObservedCall:
    """Begin a call.

    Args:
        observers: The observers of the client and of the call.
        start: Return the first event. It is only called if an observer is active, as most calls have none.
    """
    active = [observer for observer in observers if observer.is_active()]
    return ObservedCall(start(), active) if active else _UNOBSERVED


def _observe(observer: CallObserver, started: CallStarted) -> CallListener | None:
    with log_errors():
        return observer.observe(started)
    return None


def emit_end_of_stream(
    call: ObservedCall, items: Iterator[_Item], response: Callable[[], Mapping[str, Any]] = dict
) -> Iterator[_Item]:
    """Yield the items of a stream, and emit how the call ended.

    Args:
        call: The call.
        items: The stream. Its end means that the answer is complete.
        response: Return the part that has arrived.
    """
    try:
        yield from items
    except GeneratorExit:
        call.abandoned(response)
        raise
    except BaseException as error:
        call.failed(error, response)
        raise
    call.answered(response)


_UNOBSERVED = ObservedCall(CallStarted(operation="", client=None, request={}, call_id=0), ())
