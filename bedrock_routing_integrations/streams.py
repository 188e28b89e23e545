"""A ConverseStream that says what happened, and never looks complete when it is not."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from .errors import StreamInterruptedError
from .logs import logger
from .partial import Received

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from typing_extensions import Self

    Describe = Callable[[dict[str, Any], int | None], Any]
    Over = Callable[[BaseException | None, Received], None]


class RoutedStream:
    """boto3's event stream, with ``"routing"`` in its ``metadata`` event. Also a context manager.

    Args:
        stream: boto3's ``EventStream``.
        describe: Given the ``metadata`` event and the milliseconds to the first token, returns the ``"routing"`` entry.
        started: ``time.monotonic()`` when the request was sent.
        gave_up: Called when it is closed, also by us where it ends without the ``metadata`` event.
        over: Called when nothing will be read any more, maybe several times: with the error that broke the stream off
            (None where it was read to its end, or given up), and what has arrived.

    Raises:
        StreamInterruptedError: While iterating, where the stream ends before Bedrock's ``messageStop`` and ``metadata``
            events: they alone prove that it is whole, as a connection that is cut between two events ends silently.
        botocore.exceptions.EventStreamError: While iterating, an error that Bedrock itself reports in the stream.
    """

    def __init__(
        self,
        stream: Any,
        describe: Describe,
        started: float,
        gave_up: Callable[[], None],
        over: Over | None = None,
    ) -> None:
        self._source, self._over = _Source(stream, gave_up), over
        self._events = _read(self._source, describe, started)
        if over is not None:
            self._events = _telling(self._events, self._source.received, over)

    @property
    def received(self) -> Received:
        """What has arrived so far, in the shape of a Converse response."""
        return self._source.received

    def __iter__(self) -> Iterator[dict[str, Any]]:
        # One generator, as in botocore: iterating again goes on where the last one stopped.
        return self._events

    def close(self) -> None:
        """Close the connection; what had not been read is given up.

        From another thread than the one that reads, it waits until that one has what it is waiting for.
        """
        self._source.close()
        if self._over is not None:
            self._over(None, self.received)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._source.stream, name)


class _Source:
    """boto3's stream, what has arrived of it, and whether it was closed on purpose."""

    def __init__(self, stream: Any, gave_up: Callable[[], None]) -> None:
        self.stream = stream
        self.gave_up = gave_up
        self.received = Received()
        self.closed = False

    def close(self) -> None:
        self.closed = True
        self.gave_up()
        close_stream(self.stream)


def close_stream(stream: Any) -> None:
    """Close boto3's event stream, and what it is suspended in.

    botocore closes the connection only. The generator that reads from it refers to the stream that holds it, so the
    garbage collector would end it, in whatever a thread is doing then. Where that is to take a connection from the
    pool, urllib3 gives the old one back, and waits for ever for a lock that this very thread holds (seen 2026-11 with
    botocore 1.43 and urllib3 2; tests/test_upstream.py names the generator).
    """
    stream.close()
    reading = getattr(stream, "_event_generator", None)
    if reading is not None:
        # Another thread may be reading: it ends the generator itself, as the connection is closed.
        with contextlib.suppress(ValueError):
            reading.close()


# A function of its own: a generator that refers to the object that holds it is a cycle, and what it has open would wait
# for the garbage collector when the stream is forgotten half read.
def _read(source: _Source, describe: Describe, started: float) -> Iterator[dict[str, Any]]:
    received = source.received
    first_token_ms: int | None = None
    stopped = described = False
    try:
        for event in source.stream:
            received.add(event)
            if "contentBlockDelta" in event:
                if first_token_ms is None:
                    first_token_ms = round((time.monotonic() - started) * 1000)
            elif "messageStop" in event:
                stopped = True
            elif "metadata" in event:
                described = True
                routing = describe(event["metadata"], first_token_ms)
                event = {"metadata": {**event["metadata"], "routing": routing}}  # noqa: PLW2901 - a new event
            yield event
    except Exception as error:
        # What is read after another thread has closed the connection fails in ways of its own.
        if not (source.closed or isinstance(error, broken_connection())):
            raise
        if not (stopped and described):
            raise _interrupted(received, f"{type(error).__name__}: {error}") from error
        logger.debug("The connection broke after the stream was complete: %s", error)
    finally:
        if not described:
            # Given up or broken: nobody will read on, and the connection must not wait for the garbage collector.
            source.close()
    if not (stopped and described):
        missing = "metadata" if stopped else "messageStop"
        raise _interrupted(received, f"it ended without its {missing} event")


def _telling(events: Iterator[dict[str, Any]], received: Received, over: Over) -> Iterator[dict[str, Any]]:
    error: BaseException | None = None
    try:
        yield from events
    except GeneratorExit:
        raise
    except BaseException as caught:
        error = caught
        raise
    finally:
        over(error, received)
        error = None  # with it this frame would be in a cycle


def _interrupted(received: Received, why: str) -> StreamInterruptedError:
    message = f"The response stream broke off ({why}). What had arrived is in .partial."
    return StreamInterruptedError(message, partial=received.response())


def broken_connection() -> tuple[type[Exception], ...]:
    """What urllib3 and botocore raise for one and the same thing, a connection that broke while it was read."""
    from botocore.eventstream import ParserError
    from botocore.exceptions import HTTPClientError, ResponseStreamingError
    from urllib3.exceptions import HTTPError

    return (HTTPError, HTTPClientError, ResponseStreamingError, ParserError, OSError)
