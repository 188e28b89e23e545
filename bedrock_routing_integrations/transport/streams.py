"""Read a ConverseStream: add ``"routing"``, and raise if the stream ends before the answer is complete.

A connection that is cut between two events ends without an error, so only Bedrock's ``messageStop`` event proves that
an answer is complete. Events without content at the beginning of a stream are held back: if the stream fails before its
first content, `client.exchange` can still send the request again, and the caller sees one stream.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.errors import (
    InvalidAnswerError,
    StreamInterruptedError,
    as_context_overflow,
    is_context_overflow,
)
from bedrock_routing_integrations.runtime import logger, warn_once

from .answer_validation import CUT_OFF
from .stream_accumulator import StreamAccumulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType

    from typing_extensions import Self

    Describe = Callable[[dict[str, Any], int | None, StreamAccumulator, Mapping[str, Any]], Any]
    Over = Callable[[BaseException | None, StreamAccumulator], None]
    Reopen = Callable[[Exception, Callable[[float], bool]], "OpenedStream | None"]

MALFORMED = {
    "malformed_tool_use": "the model wrote a tool call that Bedrock could not parse. Send the request again, simplify "
    "the tool's schema, or call a larger model.",
    "malformed_model_output": "the model wrote output that Bedrock could not parse. Send the request again, or call "
    "another model.",
}
"""Stop reason of an invalid answer → advice (``StopReason`` in botocore's service model, 1.43)."""


class OpenedStream:
    """The events of one response.

    Args:
        events: boto3's ``EventStream``, or another iterable of its events, such as `events_of` a whole response.
        restore: Translate the events back to the caller's tool names; None if no tool was renamed.
        started: ``time.monotonic()`` when the request was sent; None if the response was not streamed, so that it has
            no time to the first token.
        http: boto3's ``ResponseMetadata``.
    """

    def __init__(
        self,
        events: Any,
        restore: Callable[[Iterable[Mapping[str, Any]]], Iterator[Mapping[str, Any]]] | None = None,
        started: float | None = None,
        http: Mapping[str, Any] | None = None,
    ) -> None:
        self.events, self.started, self.http = events, started, http or {}
        self._restore = restore

    def __iter__(self) -> Iterator[Any]:
        return iter(self.events) if self._restore is None else self._restore(self.events)

    def close(self) -> None:
        """Close the connection and the generator that reads from it."""
        close_stream(self.events)


class RoutedStream:
    """boto3's event stream, with ``"routing"`` in its ``metadata`` event. Also a context manager.

    The first event is yielded when there is content, so that a failure before that can be retried.

    Args:
        opened: The events.
        describe: Return the ``"routing"`` entry for a ``metadata`` event, the milliseconds to the first token, the
            parts that have arrived and boto3's ``ResponseMetadata``.
        reopen: Return the events of another attempt, or None. It gets the exception that was raised before any content,
            and a function that sleeps for some seconds and returns False if the stream was closed meanwhile.
        begun: Called once, at the first content.
        gave_up: Called when the stream is closed, or ends without the ``metadata`` event.
        over: Called when no more events will be read, possibly several times, with the error that ended the stream
            (None if it was read to its end or closed) and with the part that has arrived.

    Raises:
        StreamInterruptedError: While iterating: the stream ended before Bedrock's ``messageStop`` event.
        InvalidAnswerError: At the end: the stop reason is one of `MALFORMED`.
        ContextOverflowError: While iterating: the prompt is too long.
        botocore.exceptions.EventStreamError: While iterating: another error that Bedrock reports in the stream.
    """

    def __init__(  # noqa: PLR0917 - one for each thing that can happen to a stream
        self,
        opened: OpenedStream,
        describe: Describe,
        reopen: Reopen,
        begun: Callable[[], None],
        gave_up: Callable[[], None],
        over: Over | None = None,
    ) -> None:
        self._source, self._over = _Source(opened, reopen, begun, gave_up), over
        self._events = _read(self._source, describe)
        if over is not None:
            self._events = _notify_at_end(self._events, self._source.received, over)

    @property
    def received(self) -> StreamAccumulator:
        """The part of the response that has arrived so far."""
        return self._source.received

    def __iter__(self) -> Iterator[dict[str, Any]]:
        # One generator, as in botocore: a second iteration continues where the first one stopped.
        return self._events

    def close(self) -> None:
        """Close the connection without reading the rest of the stream.

        If another thread is waiting for an event, this call waits until that event has arrived.
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
        return getattr(self._source.opened.events, name)


class _Source:
    """The events of a stream, the part that has arrived, and whether the caller closed it."""

    def __init__(
        self, opened: OpenedStream, reopen: Reopen, begun: Callable[[], None], gave_up: Callable[[], None]
    ) -> None:
        self.opened = opened
        self.begun = begun
        self.gave_up = gave_up
        self.received = StreamAccumulator()
        self._closed = threading.Event()
        self._reopen = reopen

    @property
    def closed(self) -> bool:
        """Whether the caller closed the stream."""
        return self._closed.is_set()

    def reopen(self, error: Exception) -> bool:
        """Send the request again, and return whether there is a new stream to read."""
        if self.closed:
            return False
        self.opened.close()
        opened = self._reopen(error, lambda seconds: not self._closed.wait(seconds))
        if opened is None:
            return False
        if self._closed.is_set():  # by another thread, while the request was sent
            opened.close()
            return False
        self.opened = opened
        self.received.reset()
        return True

    def close(self) -> None:
        self._closed.set()
        self.gave_up()
        self.opened.close()


def close_stream(stream: Any) -> None:
    """Close boto3's event stream and its suspended generator. An object without ``close``, such as a list, is ignored.

    botocore's own ``close`` only closes the connection. The generator that reads from it is in a reference cycle with
    the stream, so the garbage collector would finalize it at any moment in any thread. If that thread is just taking a
    connection from urllib3's pool, finalizing puts the old connection back and waits forever for a lock that the same
    thread holds (seen 2026-11 with botocore 1.43 and urllib3 2; tests/test_upstream.py names the generator).
    """
    close = getattr(stream, "close", None)
    if close is None:
        return
    # If another thread is reading, the closed connection makes it end the generator.
    with contextlib.suppress(ValueError):
        close()
    reading = getattr(stream, "_event_generator", None)
    if reading is not None:
        with contextlib.suppress(ValueError):
            reading.close()


# A function and not a method of RoutedStream: a generator that refers to the object that holds it is a reference cycle,
# and the connection of a stream that is dropped half read would stay open until the garbage collector runs.
def _read(source: _Source, describe: Describe) -> Iterator[dict[str, Any]]:
    received = source.received
    state = _Progress()
    try:
        while True:
            try:
                yield from _read_once(source, describe, state)
                break
            except Exception as error:
                # Reading after another thread has closed the connection raises many kinds of errors.
                broken = source.closed or isinstance(error, broken_connection())
                if not broken:
                    if not state.delivers and source.reopen(error):
                        state = _Progress()
                        continue
                    if is_context_overflow(error):
                        raise as_context_overflow(error) from error
                    raise
                if not (state.stopped and state.described):
                    raise _interrupted(received, f"{type(error).__name__}: {error}") from error
                logger.debug("The connection broke after the stream was complete: %s", error)
                break
    finally:
        # No more events will be read: release the connection now, not when the garbage collector runs.
        if state.described:
            source.opened.close()
        else:
            source.close()
    if not state.stopped:
        raise _interrupted(received, "it ended without its messageStop event")
    if not state.described:
        # Seen with gateways that translate other APIs. The answer is complete, but its usage is not known.
        warn_once(
            "stream without metadata",
            "A stream ended without its metadata event, which holds the usage: the endpoint is probably a gateway and "
            "not Bedrock itself. The answer is complete; the tokens and the cost of such calls are not known.",
        )
        yield {"metadata": {"routing": describe({}, state.first_token_ms, received, source.opened.http)}}
    reason = received.stop_reason
    if reason in MALFORMED:
        raise malformed(reason, received.response())


class _Progress:
    """The progress of reading a stream."""

    def __init__(self) -> None:
        self.first_token_ms: int | None = None
        self.delivers = self.stopped = self.described = False


def _read_once(source: _Source, describe: Describe, state: _Progress) -> Iterator[dict[str, Any]]:
    received, started = source.received, source.opened.started
    held: list[dict[str, Any]] = []
    for event in source.opened:
        received.add(event)
        if "contentBlockDelta" in event:
            if state.first_token_ms is None and started is not None and not _is_without_content(event):
                state.first_token_ms = round((time.monotonic() - started) * 1000)
        elif "messageStop" in event:
            state.stopped = True
        elif "metadata" in event:
            state.described = True
            routing = describe(event["metadata"], state.first_token_ms, received, source.opened.http)
            event = {"metadata": {**event["metadata"], "routing": routing}}  # noqa: PLW2901 - replaces the event
        if not state.delivers:
            if _is_without_content(event):
                held.append(event)
                continue
            state.delivers = True
            source.begun()
            yield from held
        yield event


def _is_without_content(event: Mapping[str, Any]) -> bool:
    """Return whether an event is without content: many streams begin with an empty delta (recorded: 5 of 70)."""
    if "contentBlockDelta" in event:
        delta = event["contentBlockDelta"].get("delta") or {}
        inner = [value for value in delta.values() if isinstance(value, dict)]
        return not any(value for value in delta.values() if not isinstance(value, dict)) and not any(
            value for each in inner for value in each.values()
        )
    if "contentBlockStart" in event:
        return not event["contentBlockStart"].get("start")
    return "messageStart" in event or "contentBlockStop" in event


def _notify_at_end(
    events: Iterator[dict[str, Any]], received: StreamAccumulator, over: Over
) -> Iterator[dict[str, Any]]:
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
        error = None  # a local variable with the exception would be a reference cycle


def _interrupted(received: StreamAccumulator, why: str) -> StreamInterruptedError:
    message = f"The response stream broke off ({why}). The part that arrived is in .partial."
    return StreamInterruptedError(message, partial=received.response())


def malformed(reason: str, response: dict[str, Any]) -> InvalidAnswerError:
    """Return the error for an answer with a stop reason of `MALFORMED`.

    Args:
        reason: The stop reason.
        response: The response that arrived.
    """
    return InvalidAnswerError(
        f"The answer is not valid (stop reason {reason}): {MALFORMED[reason]} The part that arrived is in .partial.",
        partial=response,
        stop_reason=reason,
    )


def events_of(response: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a whole Converse response as the events of a stream, with one delta for each block."""
    message = response["output"]["message"]
    yield {"messageStart": {"role": message.get("role", "assistant")}}
    for index, block in enumerate(message["content"]):
        start, deltas = _start_and_deltas(block)
        if start is not None:
            yield {"contentBlockStart": {"contentBlockIndex": index, "start": start}}
        for delta in deltas:
            yield {"contentBlockDelta": {"contentBlockIndex": index, "delta": delta}}
        # A call that may be incomplete gets no contentBlockStop: see `stop_reasons`.
        if not ("toolUse" in block and block is message["content"][-1] and response.get("stopReason") in CUT_OFF):
            yield {"contentBlockStop": {"contentBlockIndex": index}}
    ended = {name: response[name] for name in ("stopReason", "additionalModelResponseFields") if name in response}
    yield {"messageStop": ended}
    known = ("usage", "metrics", "trace", "performanceConfig", "serviceTier")
    yield {"metadata": {name: response[name] for name in known if name in response}}


def _start_and_deltas(  # noqa: PLR0911 - one return for each kind of block
    block: Mapping[str, Any],
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Return the start (None for kinds of blocks without one) and the deltas of a content block."""
    if "toolUse" in block:
        call = dict(block["toolUse"])
        arguments = call.pop("input", {})
        written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        return {"toolUse": call}, [{"toolUse": {"input": written}}]
    if "toolResult" in block:
        result = dict(block["toolResult"])
        content = result.pop("content", [])
        return {"toolResult": result}, [{"toolResult": content}]
    if "reasoningContent" in block:
        reasoning = block["reasoningContent"]
        if "reasoningText" not in reasoning:
            return None, [{"reasoningContent": dict(reasoning)}]
        text = reasoning["reasoningText"]
        return None, [{"reasoningContent": {name: text[name]}} for name in ("text", "signature") if text.get(name)]
    if "citationsContent" in block:
        cited = block["citationsContent"]
        texts = [{"text": part["text"]} for part in cited.get("content") or () if "text" in part]
        return None, [*texts, *({"citation": citation} for citation in cited.get("citations") or ())]
    if "image" in block:
        image = dict(block["image"])
        return {"image": {"format": image.pop("format", "png")}}, [{"image": image}]
    return None, [dict(block)]


def broken_connection() -> tuple[type[Exception], ...]:
    """Return the exception classes of urllib3 and botocore for a connection that broke while it was read."""
    from botocore.eventstream import ParserError
    from botocore.exceptions import HTTPClientError, ResponseStreamingError
    from urllib3.exceptions import HTTPError

    return (HTTPError, HTTPClientError, ResponseStreamingError, ParserError, OSError)
