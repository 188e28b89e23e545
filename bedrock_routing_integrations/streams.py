"""A ConverseStream that says what happened, and never looks complete when it is not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .errors import StreamInterruptedError
from .logs import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from typing_extensions import Self


class RoutedStream:
    """boto3's event stream, with ``"routing"`` in its ``metadata`` event. Also a context manager.

    Args:
        stream: boto3's ``EventStream``.
        describe: Given the ``metadata`` event and the milliseconds to the first token, returns the ``"routing"`` entry.
        started: ``time.monotonic()`` when the request was sent.

    Raises:
        StreamInterruptedError: While iterating, where the stream ends before Bedrock's ``messageStop`` and ``metadata``
            events: they alone prove that it is whole, as a connection that is cut between two events ends silently.
        botocore.exceptions.EventStreamError: While iterating, an error that Bedrock itself reports in the stream.
    """

    def __init__(self, stream: Any, describe: Callable[[dict[str, Any], int | None], Any], started: float) -> None:
        self._stream = stream
        self._describe = describe
        self._started = started
        self._received = Received()
        self._events = self._iterate()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        # One generator, as in botocore: iterating again goes on where the last one stopped.
        return self._events

    def close(self) -> None:
        """Close the connection; what had not been read is given up."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._stream, name)

    def _iterate(self) -> Iterator[dict[str, Any]]:
        received = self._received
        first_token_ms: int | None = None
        stopped = described = False
        try:
            for event in self._stream:
                received.add(event)
                if "contentBlockDelta" in event:
                    if first_token_ms is None:
                        first_token_ms = round((time.monotonic() - self._started) * 1000)
                elif "messageStop" in event:
                    stopped = True
                elif "metadata" in event:
                    described = True
                    routing = self._describe(event["metadata"], first_token_ms)
                    event = {"metadata": {**event["metadata"], "routing": routing}}  # noqa: PLW2901 - a new event
                yield event
        except _broken_connection() as error:
            if not (stopped and described):
                raise self._interrupted(f"{type(error).__name__}: {error}") from error
            logger.debug("The connection broke after the stream was complete: %s", error)
        finally:
            if not described:
                # Given up or broken: nobody will read on, and the connection must not wait for the garbage collector.
                self.close()
        if not (stopped and described):
            missing = "metadata" if stopped else "messageStop"
            raise self._interrupted(f"it ended without its {missing} event")

    def _interrupted(self, why: str) -> StreamInterruptedError:
        message = f"The response stream broke off ({why}). What had arrived is in .partial."
        return StreamInterruptedError(message, partial=self._received.response())


def _broken_connection() -> tuple[type[Exception], ...]:
    """What urllib3 and botocore raise for one and the same thing, a connection that broke while it was read."""
    from botocore.eventstream import ParserError
    from botocore.exceptions import HTTPClientError, ResponseStreamingError
    from urllib3.exceptions import HTTPError

    return (HTTPError, HTTPClientError, ResponseStreamingError, ParserError, OSError)


class Received:
    """What has arrived of a stream. Adding an event costs next to nothing; putting it together is for errors only."""

    def __init__(self) -> None:
        self._role = "assistant"
        self._blocks: dict[int, dict[str, Any]] = {}
        self._rest: dict[str, Any] = {}
        self._texts: list[str] = []
        self._text_index: int | None = None

    def add(self, event: dict[str, Any]) -> None:
        """Remember an event. The text of deltas is kept and not the events, of which there can be thousands."""
        if "contentBlockDelta" in event:
            body = event["contentBlockDelta"]
            index, delta = body["contentBlockIndex"], body["delta"]
            if "text" not in delta:
                _add_delta(self._blocks.setdefault(index, {}), delta)
                return
            if index != self._text_index:
                self._texts = self._blocks.setdefault(index, {}).setdefault("text", [])
                self._text_index = index
            self._texts.append(delta["text"])
        elif "contentBlockStart" in event:
            body = event["contentBlockStart"]
            for member, value in body["start"].items():
                self._blocks.setdefault(body["contentBlockIndex"], {})[member] = dict(value)
        elif "messageStart" in event:
            self._role = event["messageStart"]["role"]
        else:
            self._rest.update(event.get("messageStop") or event.get("metadata") or {})

    def response(self) -> dict[str, Any]:
        """All of it in the shape of a Converse response."""
        content = [_join(self._blocks[index]) for index in sorted(self._blocks)]
        return {"output": {"message": {"role": self._role, "content": content}}, **self._rest}


def _add_delta(block: dict[str, Any], delta: dict[str, Any]) -> None:
    for member, value in delta.items():
        if isinstance(value, dict):
            inner = block.setdefault(member, {})
            for name, part in value.items():
                inner.setdefault(name, []).append(part)
        else:
            block.setdefault(member, []).extend(value if isinstance(value, list) else [value])


def _join(value: Any) -> Any:
    """Join what was collected piece by piece."""
    if isinstance(value, dict):
        return {name: _join(part) for name, part in value.items()}
    if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        return "".join(value)
    return value
