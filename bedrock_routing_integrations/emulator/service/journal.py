"""The journal: every request that the emulator got, for tests to read."""

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
    """One request and what became of it. It is filled in while the request runs.

    Attributes:
        method: The HTTP method.
        path: The path and query as sent, ids still percent-encoded (or not).
        headers: The headers, names in lower case, without `authorization`.
        request_id: What the answer gave as `x-amzn-requestid`.
        region: The Region of the signature; the emulator's own for bearer tokens.
        authorization: "sigv4", "bearer", or "" when it was missing.
        service: The service's name in botocore, "" when nothing matched.
        operation: The operation's name, "" when nothing matched.
        request: The parsed members; empty when the request was refused before.
        status: The HTTP status; None while none was sent (hang, reset).
        error: The error's name, or the fault that took the place of an answer; None on success.
        started: When the request had been read (monotonic seconds).
        ended: When the answer was complete or given up; None before.
        client_closed: True when the client hung up before the answer was complete.
        streamed_bytes: Bytes of event stream written.
        difficulty: What the router made of the prompt; None where no router was asked.
        invoked: The id of the model that answered; None where none did.
        served_latency: The latency that a model call was served with: "standard" or "optimized"; None without one.
        latency_ms: The simulated milliseconds of a model's answer, or of a retrieval; None where there was neither.
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


# An emulator can run for days; a test that makes more requests than this reads them as it goes.
_MOST_ENTRIES = 100_000


class Journal:
    """The entries in the order of arrival, and how many requests run at once."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=_MOST_ENTRIES)
        self.in_flight = 0
        self.peak_in_flight = 0
        self._crowds: dict[int, asyncio.Event] = {}

    def begin(self, entry: Entry) -> None:
        """A request has arrived."""
        self._entries.append(entry)
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        if self.in_flight in self._crowds:
            self._crowds.pop(self.in_flight).set()

    async def crowd(self, size: int, seconds: float) -> None:
        """Wait until so many requests have been in flight at once, but no longer than that."""
        if self.peak_in_flight < size:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._crowds.setdefault(size, asyncio.Event()).wait(), seconds)

    def end(self, entry: Entry) -> None:
        """A request is over."""
        entry.ended = time.monotonic()
        self.in_flight -= 1

    def entries(self, operation: str | None = None) -> list[Entry]:
        """A snapshot, of one operation if it is named."""
        return [entry for entry in list(self._entries) if operation is None or entry.operation == operation]

    def clear(self) -> None:
        """Forget the entries; what runs keeps running."""
        self._entries.clear()
        self.peak_in_flight = self.in_flight


# --- The log of model invocations that Bedrock writes where an account has switched it on. ---

_LOGGED = frozenset(["Converse", "ConverseStream"])
# Converse's names for the counts, and the log's.
_IN = {
    "inputTokens": "inputTokenCount",
    "cacheReadInputTokens": "cacheReadInputTokenCount",
    "cacheWriteInputTokens": "cacheWriteInputTokenCount",
}


class InvocationLog:
    """Appends a line of JSON for each call of a model, as in the user guide and in published records (2026-11).

    What it does otherwise than Bedrock: the bodies are in the line however long they are, bytes in them as base64, and
    it tells no ``inferenceRegion``. What Bedrock gives as the ``modelId`` of a call to a prompt router is not
    documented: here it is what was called, and the answer has the trace.

    Args:
        path: The file.
        account: The account's number.

    Raises:
        OSError: The file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], account: str) -> None:
        self._path = Path(path)
        self._account = account
        self._path.open("ab").close()

    def answered(self, entry: Entry, answer: Mapping[str, Any]) -> None:
        """Note an answer; one that was streamed too as Converse gives it."""
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
        """Note a request that was not answered."""
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
