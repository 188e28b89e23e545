"""The log of model invocations that Bedrock writes where an account has switched it on."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from .journal import Entry

__all__ = ["InvocationLog"]

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
