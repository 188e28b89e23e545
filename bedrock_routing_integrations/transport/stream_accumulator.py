"""What has arrived of a stream, in the shape of a Converse response: all of it, or as it was at some moment."""

from __future__ import annotations

import json
from typing import Any

Mark = tuple[tuple["_Block", str | None, int, int, bool], ...]
"""A moment of a stream: for each content block its kind, how much of it had come, and whether it had ended."""


class Received:
    """Collects a stream's events. Adding one costs next to nothing, however many came before."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything: the stream is asked for once more, before anything of it was delivered."""
        self._role = "assistant"
        self._rest: dict[str, Any] = {}
        self._blocks: dict[int, _Block] = {}
        self._last = _Block(-1)

    def add(self, event: dict[str, Any]) -> None:
        """Remember an event. The text of deltas is kept and not the events, of which there can be thousands."""
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

    def mark(self) -> Mark:
        """This moment, for `content` to go back to. May be used in another thread while events are added."""
        return tuple([(b, b.kind, b.text.length, len(b.others), b.stopped) for b in self._blocks.values()])

    def content(self, mark: Mark | None = None) -> list[dict[str, Any]]:
        """The content blocks that had arrived by then; by default all that has arrived by now."""
        moments = sorted(mark if mark is not None else self.mark(), key=lambda moment: moment[0].index)
        blocks = [block.content(kind, length, others, stopped) for block, kind, length, others, stopped in moments]
        return [block for block in blocks if block is not None]

    def only_text(self, mark: Mark) -> str | None:
        """`content` in short for most moments of most streams: the text, where that is all; None where it is not."""
        if len(mark) != 1 or mark[0][1] != "text" or mark[0][0].start:
            return None
        return mark[0][0].text.up_to(mark[0][2])

    @property
    def stop_reason(self) -> str | None:
        """Converse's ``stopReason``, once it is there."""
        return self._rest.get("stopReason")

    def response(self) -> dict[str, Any]:
        """All that has arrived, shaped like a Converse response."""
        return {"output": {"message": {"role": self._role, "content": self.content()}}, **self._rest}


class _Text:
    """Text that grows, and can be read as it was at any length without joining it from the start each time.

    One thread may add while others read.
    """

    def __init__(self) -> None:
        self.length = 0
        self._parts: list[str] = []
        self._joined = ("", 0)  # the text of the first so many parts, replaced in one step

    def add(self, part: str) -> None:
        self._parts.append(part)
        self.length += len(part)

    def up_to(self, length: int) -> str:
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
        # A block is of one kind: its text, its reasoning or the arguments of its tool call, and whatever is no text.
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
        stopped: bool,  # noqa: FBT001 - a mark's parts
    ) -> dict[str, Any] | None:
        """The block as Converse would give it; None where nothing that we know had come."""
        kind, text, others = next(iter(self.start), kind), self.text.up_to(length), self.others[:count]
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
    except ValueError:  # the model wrote no JSON; what it wrote is what arrived
        return text


def _reasoning(text: str, others: list[dict[str, Any]]) -> dict[str, Any]:
    redacted = [part["redactedContent"] for part in others if "redactedContent" in part]
    if redacted:
        return {"redactedContent": b"".join(redacted)}
    signature = "".join(part.get("signature", "") for part in others)
    return {"reasoningText": {"text": text, "signature": signature} if signature else {"text": text}}
