"""Record every request that the emulator receives, for tests to read."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping


@dataclass
class Entry:
    """A request and its outcome. The fields are filled in while the request runs.

    Attributes:
        method: The HTTP method.
        path: The path and query as sent. Ids may be percent-encoded.
        headers: The headers, names in lower case, without `authorization`.
        request_id: The response's `x-amzn-requestid`.
        region: The Region of the signature; the emulator's own for bearer tokens.
        authorization: "sigv4", "bearer", or "" if it was missing.
        service: The service's name in botocore, "" if no operation matched.
        operation: The operation's name, "" if no operation matched.
        request: The parsed members; empty if the request was refused before parsing.
        status: The HTTP status; None until a status is sent (never for hang and reset).
        error: The error's name, or the fault that replaced the response; None on success.
        started: The time at which the request had been read (monotonic seconds).
        ended: The time at which the response was complete or abandoned; None before.
        client_closed: Whether the client closed the connection before the response was complete.
        streamed_bytes: Bytes of event stream written.
        difficulty: The router's estimate of the prompt's difficulty; None without a router.
        invoked: The id of the model that answered; None without a model.
        served_latency: The latency served for a model call: "standard" or "optimized"; None without a model call.
        latency_ms: The simulated milliseconds of a model's answer or of a retrieval; None for other requests.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    region: str = ""
    authorization: str = ""
    service: str = ""
    operation: str = ""
    request: Mapping[str, Any] = field(default_factory=dict)
    status: int | None = None
    error: str | None = None
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None
    client_closed: bool = False
    streamed_bytes: int = 0
    difficulty: float | None = None
    invoked: str | None = None
    served_latency: str | None = None
    latency_ms: float | None = None


# An emulator can run for days. A test with more requests than this has to read the entries while it runs.
_MOST_ENTRIES = 100_000


class Journal:
    """The entries in order of arrival, and the number of concurrent requests."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=_MOST_ENTRIES)
        self.in_flight = 0
        self.peak_in_flight = 0
        self._crowds: dict[int, asyncio.Event] = {}

    def begin(self, entry: Entry) -> None:
        """Record a request that has arrived."""
        self._entries.append(entry)
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        if self.in_flight in self._crowds:
            self._crowds.pop(self.in_flight).set()

    async def crowd(self, size: int, seconds: float) -> None:
        """Wait until a number of requests have been in flight at once, or until a timeout.

        Args:
            size: The number of concurrent requests. A peak reached earlier counts.
            seconds: The longest wait, in real seconds.
        """
        if self.peak_in_flight < size:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._crowds.setdefault(size, asyncio.Event()).wait(), seconds)

    def end(self, entry: Entry) -> None:
        """Record the end of a request."""
        entry.ended = time.monotonic()
        self.in_flight -= 1

    def entries(self, operation: str | None = None) -> list[Entry]:
        """Return a copy of the entries, of one operation if it is named."""
        return [entry for entry in list(self._entries) if operation is None or entry.operation == operation]

    def clear(self) -> None:
        """Remove the entries. Requests in flight keep running."""
        self._entries.clear()
        self.peak_in_flight = self.in_flight


# --- Model invocation log ---

_LOGGED = frozenset(["Converse", "ConverseStream"])
# Converse's names of the token counts, and the log's.
_IN = {
    "inputTokens": "inputTokenCount",
    "cacheReadInputTokens": "cacheReadInputTokenCount",
    "cacheWriteInputTokens": "cacheWriteInputTokenCount",
}


class InvocationLog:
    """Writes Bedrock's model invocation log: a line of JSON for each model call, as published by AWS (2026-11).

    The format follows the user guide and published records. It differs from Bedrock's in two ways: bodies of any length
    are in the line, with bytes as base64, and ``inferenceRegion`` is missing. AWS does not document the ``modelId`` of
    a call to a prompt router. Here it is the target of the call, and the response holds the trace.

    Args:
        path: The file, which is appended to.
        account: The account's number.

    Raises:
        OSError: The file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], account: str) -> None:
        self._path = Path(path)
        self._account = account
        self._path.open("ab").close()

    def answered(self, entry: Entry, answer: Mapping[str, Any]) -> None:
        """Log an answered request.

        Args:
            entry: The request's journal entry.
            answer: The response in Converse's form, also for ConverseStream.
        """
        if entry.operation not in _LOGGED:
            return
        usage = answer["usage"]
        record = self._record(entry)
        record["input"].update({name: usage[count] for count, name in _IN.items() if count in usage})
        record["output"] = {
            "outputContentType": "application/json",
            "outputBodyJson": answer,
            "outputTokenCount": usage["outputTokens"],
        }
        if "performanceConfig" in answer:
            record["performanceConfig"] = {"latency": answer["performanceConfig"]["latency"].upper()}
        self._write(record)

    def refused(self, entry: Entry, error: str) -> None:
        """Log a request that was not answered.

        Args:
            entry: The request's journal entry.
            error: The error's name.
        """
        if entry.operation in _LOGGED and entry.request:
            self._write({**self._record(entry), "errorCode": error})

    def _record(self, entry: Entry) -> dict[str, Any]:
        request = dict(entry.request)
        record = {
            "timestamp": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "accountId": self._account,
            "identity": {"arn": f"arn:aws:iam::{self._account}:user/emulated"},
            "region": entry.region,
            "requestId": entry.request_id,
            "operation": entry.operation,
            "modelId": request.pop("modelId"),
            "input": {"inputContentType": "application/json", "inputBodyJson": request},
            "schemaType": "ModelInvocationLog",
            "schemaVersion": "1.0",
        }
        if "requestMetadata" in request:
            record["requestMetadata"] = request["requestMetadata"]
        return record

    def _write(self, record: Mapping[str, Any]) -> None:
        line = json.dumps(record, default=lambda data: base64.b64encode(data).decode(), separators=(",", ":"))
        with self._path.open("ab") as file:
            file.write(line.encode() + b"\n")
