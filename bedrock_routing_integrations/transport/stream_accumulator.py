"""Accumulate the events of a stream into a Converse response, as of now or as of an earlier moment.

LlamaIndex's chunks each hold the whole text so far. Joining it for each chunk would take quadratic time, so a chunk
keeps a `Snapshot` instead: for each content block the length that had arrived. The text is joined when it is read.
"""

from __future__ import annotations

import json
from typing import Any

Snapshot = tuple[tuple["_Block", str | None, int, int, bool], ...]
"""The state of a stream at a moment: for each content block its kind, the arrived lengths, and whether it had ended."""


class StreamAccumulator:
    """Accumulate a stream's events. Adding an event takes constant time."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Drop all events, because the request is sent again. No event has been delivered yet."""
        self._role = "assistant"
        self._rest: dict[str, Any] = {}
        self._blocks: dict[int, _Block] = {}
        self._last = _Block(-1)

    def add(self, event: dict[str, Any]) -> None:
        """Add an event. Only the text of deltas is kept, not the event objects."""
        if "contentBlockDelta" in event:
            body = event["contentBlockDelta"]
            block = self._last
            if block.index != body["contentBlockIndex"]:
                block = self._block(body["contentBlockIndex"])
            block.add(body["delta"])
        elif "contentBlockStart" in event:
            body = event["contentBlockStart"]
            self._block(body["contentBlockIndex"]).start = dict(body["start"])
        elif "contentBlockStop" in event:
            self._block(event["contentBlockStop"]["contentBlockIndex"]).stopped = True
        elif "messageStart" in event:
            self._role = event["messageStart"]["role"]
        else:
            self._rest.update(event.get("messageStop") or event.get("metadata") or {})

    def _block(self, index: int) -> _Block:
        if self._last.index != index:
            self._last = self._blocks.setdefault(index, _Block(index))
        return self._last

    def snapshot(self) -> Snapshot:
        """Return the state of this moment, for `content`. Another thread may use it while events are added."""
        return tuple([(b, b.kind, b.text.length, len(b.others), b.stopped) for b in self._blocks.values()])

    def content(self, snapshot: Snapshot | None = None) -> list[dict[str, Any]]:
        """Return the content blocks that had arrived at the time of `snapshot`; by default those of now."""
        states = sorted(snapshot if snapshot is not None else self.snapshot(), key=lambda moment: moment[0].index)
        blocks = [block.content(kind, length, others, stopped) for block, kind, length, others, stopped in states]
        return [block for block in blocks if block is not None]

    def only_text(self, snapshot: Snapshot) -> str | None:
        """Return the text if a single text block is the only content (the most frequent case), else None."""
        if len(snapshot) != 1 or snapshot[0][1] != "text" or snapshot[0][0].start:
            return None
        return snapshot[0][0].text.prefix(snapshot[0][2])

    @property
    def stop_reason(self) -> str | None:
        """Converse's ``stopReason``; None before it has arrived."""
        return self._rest.get("stopReason")

    def response(self) -> dict[str, Any]:
        """Return everything that has arrived, in the shape of a Converse response."""
        return {"output": {"message": {"role": self._role, "content": self.content()}}, **self._rest}


class _Text:
    """Text that grows, and can be read at any earlier length without joining all parts each time.

    One thread may add parts while other threads read.
    """

    def __init__(self) -> None:
        self.length = 0
        self._parts: list[str] = []
        # The joined text and the number of its parts: one tuple, so that readers in other threads see both at once.
        self._joined = ("", 0)

    def add(self, part: str) -> None:
        self._parts.append(part)
        self.length += len(part)

    def prefix(self, length: int) -> str:
        text, count = self._joined
        if len(text) < length:
            more = self._parts[count:]
            text = text + "".join(more)
            self._joined = (text, count + len(more))
        return text[:length]


class _Block:
    """One content block. Its kinds are the members of ``ContentBlockDelta`` in botocore's service model (1.43)."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.start: dict[str, Any] = {}
        self.stopped = False
        # `text` holds the text, the reasoning or the tool arguments; `others` holds deltas without text.
        self.text = _Text()
        self.others: list[dict[str, Any]] = []
        self.kind: str | None = None

    def add(self, delta: dict[str, Any]) -> None:
        if "text" in delta:
            self.text.add(delta["text"])
            if self.kind is None:
                self.kind = "text"
        elif "toolUse" in delta:
            self.text.add(delta["toolUse"].get("input", ""))
            self.kind = "toolUse"
        elif "reasoningContent" in delta:
            part = delta["reasoningContent"]
            if "text" in part:
                self.text.add(part["text"])
            else:
                self.others.append(part)
            self.kind = "reasoningContent"
        else:
            self.others.append(delta)
            self.kind = next(iter(delta), self.kind)

    def content(
        self,
        kind: str | None,
        length: int,
        count: int,
        stopped: bool,  # noqa: FBT001 - the parts of a snapshot
    ) -> dict[str, Any] | None:
        """Return the block in the shape of a Converse response; None if no known delta has arrived."""
        kind, text, others = next(iter(self.start), kind), self.text.prefix(length), self.others[:count]
        if kind == "toolUse":
            return {"toolUse": {**self.start.get("toolUse", {}), "input": _tool_input(text, complete=stopped)}}
        if kind == "toolResult":
            parts = [part for delta in others for part in delta.get("toolResult", ())]
            return {"toolResult": {**self.start.get("toolResult", {}), "content": parts}}
        if kind == "reasoningContent":
            return {"reasoningContent": _reasoning(text, others)}
        if kind == "citation":
            citations = [delta["citation"] for delta in others if "citation" in delta]
            return {"citationsContent": {"content": [{"text": text}], "citations": citations}}
        if kind == "image":
            parts = [self.start.get("image", {}), *(delta.get("image", {}) for delta in others)]
            return {"image": {name: value for part in parts for name, value in part.items()}}
        return {"text": text} if text else None


def _tool_input(text: str, *, complete: bool) -> Any:
    if not complete:
        return text
    try:
        return json.loads(text or "{}")
    except ValueError:  # the model wrote invalid JSON: return its text
        return text


def _reasoning(text: str, others: list[dict[str, Any]]) -> dict[str, Any]:
    redacted = [part["redactedContent"] for part in others if "redactedContent" in part]
    if redacted:
        return {"redactedContent": b"".join(redacted)}
    signature = "".join(part.get("signature", "") for part in others)
    return {"reasoningText": {"text": text, "signature": signature} if signature else {"text": text}}
