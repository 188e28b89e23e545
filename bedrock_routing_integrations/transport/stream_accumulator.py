"""Accumulate the events of a stream into a Converse response."""

from __future__ import annotations

import json
from typing import Any


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

    def content(self) -> list[dict[str, Any]]:
        """Return the content blocks that have arrived."""
        blocks = [self._blocks[index].content() for index in sorted(self._blocks)]
        return [block for block in blocks if block is not None]

    def only_text(self) -> str | None:
        """Return the text if a single text block is the only content (the most frequent case), else None."""
        block = self._last
        if len(self._blocks) != 1 or block.kind != "text" or block.start:
            return None
        return block.text()

    @property
    def stop_reason(self) -> str | None:
        """Converse's ``stopReason``; None before it has arrived."""
        return self._rest.get("stopReason")

    def response(self) -> dict[str, Any]:
        """Return everything that has arrived, in the shape of a Converse response."""
        return {"output": {"message": {"role": self._role, "content": self.content()}}, **self._rest}


class _Block:
    """One content block. Its kinds are the members of ``ContentBlockDelta`` in botocore's service model (1.43)."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.start: dict[str, Any] = {}
        self.stopped = False
        # The text, the reasoning or the tool arguments, in parts; and the joined text with the number of its parts. One
        # tuple, so that a thread that closes the stream while another one reads it sees both change at once.
        self._parts: list[str] = []
        self._joined = ("", 0)
        # Deltas without text.
        self.others: list[dict[str, Any]] = []
        self.kind: str | None = None

    def add(self, delta: dict[str, Any]) -> None:
        if "text" in delta:
            self._parts.append(delta["text"])
            if self.kind is None:
                self.kind = "text"
        elif "toolUse" in delta:
            self._parts.append(delta["toolUse"].get("input", ""))
            self.kind = "toolUse"
        elif "reasoningContent" in delta:
            part = delta["reasoningContent"]
            if "text" in part:
                self._parts.append(part["text"])
            else:
                self.others.append(part)
            self.kind = "reasoningContent"
        else:
            self.others.append(delta)
            self.kind = next(iter(delta), self.kind)

    def text(self) -> str:
        """Return the text so far. Only the parts since the last time are joined."""
        text, count = self._joined
        if count < len(self._parts):
            parts = self._parts[count:]
            text += "".join(parts)
            self._joined = (text, count + len(parts))
        return text

    def content(self) -> dict[str, Any] | None:
        """Return the block in the shape of a Converse response; None if no known delta has arrived."""
        kind, text, others = next(iter(self.start), self.kind), self.text(), self.others
        if kind == "toolUse":
            return {"toolUse": {**self.start.get("toolUse", {}), "input": _tool_input(text, complete=self.stopped)}}
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
