"""A ConverseStream that says what happened, and never looks complete when it is not."""

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
from bedrock_routing_integrations.stop_reasons import CUT_OFF

from .stream_accumulator import Received

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType

    from typing_extensions import Self

    Describe = Callable[[dict[str, Any], int | None, str | None, Mapping[str, Any]], Any]
    Over = Callable[[BaseException | None, Received], None]
    Reopen = Callable[[Exception, Callable[[float], bool]], "OpenedStream | None"]

MALFORMED = {
    "malformed_tool_use": "the model wrote a tool call that Bedrock could not read. Ask again, simplify the tool's "
    "schema, or call a larger model.",
    "malformed_model_output": "the model wrote what Bedrock could not read. Ask again, or call another model.",
}
"""Stop reasons of an answer that is none, and what to do (``StopReason`` in botocore's service model, 1.43)."""


class OpenedStream:
    """The events of one answer, and how to read them.

    Args:
        events: boto3's ``EventStream``, or any iterable of its events: a list, or those of a whole answer.
        restore: Translates the events back to the caller's tools; None where nothing has to be.
        started: ``time.monotonic()`` when the request was sent; None where the whole answer came at once, so that
            there is no time to the first token.
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
        """Close the connection, and what reads from it."""
        close_stream(self.events)


class RoutedStream:
    """boto3's event stream, with ``"routing"`` in its ``metadata`` event. Also a context manager.

    Nothing is yielded before there is content, so that what fails before can still be asked for again.

    Args:
        opened: The events.
        describe: Given the ``metadata`` event, the milliseconds to the first token, the stop reason and boto3's
            ``ResponseMetadata``, returns the ``"routing"`` entry.
        reopen: Given an exception that came before any content, and a function that waits for some seconds (False
            where the stream is closed meanwhile), returns the events of another attempt; None for none.
        begun: Called once, when there is content.
        gave_up: Called when it is closed, also by us where it ends without the ``metadata`` event.
        over: Called when nothing will be read any more, maybe several times: with the error that broke the stream off
            (None where it was read to its end, or given up), and what has arrived.

    Raises:
        StreamInterruptedError: While iterating, where the stream ends before Bedrock's ``messageStop`` event: it alone
            proves that the answer is whole, as a connection that is cut between two events ends silently.
        InvalidAnswerError: At the end, where Bedrock itself calls the answer malformed.
        ContextOverflowError: While iterating, where the prompt is too long.
        botocore.exceptions.EventStreamError: While iterating, another error that Bedrock reports in the stream.
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
        return getattr(self._source.opened.events, name)


class _Source:
    """The events, what has arrived of them, and whether they were closed on purpose."""

    def __init__(
        self, opened: OpenedStream, reopen: Reopen, begun: Callable[[], None], gave_up: Callable[[], None]
    ) -> None:
        self.opened = opened
        self.begun = begun
        self.gave_up = gave_up
        self.received = Received()
        self._closed = threading.Event()
        self._reopen = reopen

    @property
    def closed(self) -> bool:
        """Whether it was closed on purpose."""
        return self._closed.is_set()

    def reopen(self, error: Exception) -> bool:
        """Ask once more; return whether there is another answer to read."""
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
    """Close boto3's event stream, and what it is suspended in. What has no ``close``, such as a list, needs none.

    botocore closes the connection only. The generator that reads from it refers to the stream that holds it, so the
    garbage collector would end it, in whatever a thread is doing then. Where that is to take a connection from the
    pool, urllib3 gives the old one back, and waits for ever for a lock that this very thread holds (seen 2026-11 with
    botocore 1.43 and urllib3 2; tests/test_upstream.py names the generator).
    """
    close = getattr(stream, "close", None)
    if close is None:
        return
    # Another thread may be reading: it ends the generator itself, as the connection is closed.
    with contextlib.suppress(ValueError):
        close()
    reading = getattr(stream, "_event_generator", None)
    if reading is not None:
        with contextlib.suppress(ValueError):
            reading.close()


# A function of its own: a generator that refers to the object that holds it is a cycle, and what it has open would wait
# for the garbage collector when the stream is forgotten half read.
def _read(source: _Source, describe: Describe) -> Iterator[dict[str, Any]]:
    received = source.received
    state = _Progress()
    try:
        while True:
            try:
                yield from _read_once(source, describe, state)
                break
            except Exception as error:
                # What is read after another thread has closed the connection fails in ways of its own.
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
        # Nobody will read on, and the connection must not wait for the garbage collector.
        if state.described:
            source.opened.close()
        else:
            source.close()
    if not state.stopped:
        raise _interrupted(received, "it ended without its messageStop event")
    if not state.described:
        # Seen with gateways that translate other APIs. The answer is whole; what it cost is not known.
        warn_once(
            "stream without metadata",
            "A stream ended without its metadata event, which has the usage: what answers there is not Bedrock itself. "
            "The answer is complete; tokens and cost of such calls are not known.",
        )
        yield {"metadata": {"routing": describe({}, state.first_token_ms, received.stop_reason, source.opened.http)}}
    reason = received.stop_reason
    if reason in MALFORMED:
        raise malformed(reason, received.response())


class _Progress:
    """How far a stream has been read."""

    def __init__(self) -> None:
        self.first_token_ms: int | None = None
        self.delivers = self.stopped = self.described = False


def _read_once(source: _Source, describe: Describe, state: _Progress) -> Iterator[dict[str, Any]]:
    received, started = source.received, source.opened.started
    held: list[dict[str, Any]] = []
    for event in source.opened:
        received.add(event)
        if "contentBlockDelta" in event:
            if state.first_token_ms is None and started is not None and not _says_nothing(event):
                state.first_token_ms = round((time.monotonic() - started) * 1000)
        elif "messageStop" in event:
            state.stopped = True
        elif "metadata" in event:
            state.described = True
            routing = describe(event["metadata"], state.first_token_ms, received.stop_reason, source.opened.http)
            event = {"metadata": {**event["metadata"], "routing": routing}}  # noqa: PLW2901 - a new event
        if not state.delivers:
            if _says_nothing(event):
                held.append(event)
                continue
            state.delivers = True
            source.begun()
            yield from held
        yield event


def _says_nothing(event: Mapping[str, Any]) -> bool:
    """Return whether an event has no content: many streams begin with an empty delta (recorded: 5 of 70)."""
    if "contentBlockDelta" in event:
        delta = event["contentBlockDelta"].get("delta") or {}
        inner = [value for value in delta.values() if isinstance(value, dict)]
        return not any(value for value in delta.values() if not isinstance(value, dict)) and not any(
            value for each in inner for value in each.values()
        )
    if "contentBlockStart" in event:
        return not event["contentBlockStart"].get("start")
    return "messageStart" in event or "contentBlockStop" in event


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


def malformed(reason: str, response: dict[str, Any]) -> InvalidAnswerError:
    """Return the error for an answer that Bedrock itself calls malformed."""
    return InvalidAnswerError(
        f"The answer is not complete (stop reason {reason}): {MALFORMED[reason]} What had arrived is in .partial.",
        partial=response,
        stop_reason=reason,
    )


def events_of(response: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a whole Converse answer as the events of a stream, each block in one piece."""
    message = response["output"]["message"]
    yield {"messageStart": {"role": message.get("role", "assistant")}}
    for index, block in enumerate(message["content"]):
        start, deltas = _pieces(block)
        if start is not None:
            yield {"contentBlockStart": {"contentBlockIndex": index, "start": start}}
        for delta in deltas:
            yield {"contentBlockDelta": {"contentBlockIndex": index, "delta": delta}}
        # Whether a call that was cut off is whole is not known: see `stop_reasons`.
        if not ("toolUse" in block and block is message["content"][-1] and response.get("stopReason") in CUT_OFF):
            yield {"contentBlockStop": {"contentBlockIndex": index}}
    ended = {name: response[name] for name in ("stopReason", "additionalModelResponseFields") if name in response}
    yield {"messageStop": ended}
    known = ("usage", "metrics", "trace", "performanceConfig", "serviceTier")
    yield {"metadata": {name: response[name] for name in known if name in response}}


def _pieces(  # noqa: PLR0911 - one return for each kind of block
    block: Mapping[str, Any],
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Return the start (None where such a block has none) and the deltas of a content block."""
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
    """Return what urllib3 and botocore raise for one and the same thing, a connection that broke while it was read."""
    from botocore.eventstream import ParserError
    from botocore.exceptions import HTTPClientError, ResponseStreamingError
    from urllib3.exceptions import HTTPError

    return (HTTPError, HTTPClientError, ResponseStreamingError, ParserError, OSError)
