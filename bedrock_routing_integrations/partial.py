"""What had arrived of a stream, in the shape of a Converse response."""

from __future__ import annotations

import json
from typing import Any


class Received:
    """Collects a stream's events. Adding one costs next to nothing; putting them together is for errors only."""

    def __init__(self) -> None:
        self._role = "assistant"
        self._rest: dict[str, Any] = {}
        self._blocks: dict[int, _Block] = {}
        self._last: tuple[int | None, _Block] = (None, _Block())

    def add(self, event: dict[str, Any]) -> None:
        """Remember an event. The text of deltas is kept and not the events, of which there can be thousands."""
        if "contentBlockDelta" in event:
            body = event["contentBlockDelta"]
            block, delta = self._block(body["contentBlockIndex"]), body["delta"]
            if "text" in delta:
                block.texts.append(delta["text"])
            else:
                block.add(delta)
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
        if self._last[0] != index:
            self._last = (index, self._blocks.setdefault(index, _Block()))
        return self._last[1]

    def response(self) -> dict[str, Any]:
        """All of it, shaped like a Converse response."""
        blocks = [self._blocks[index].content() for index in sorted(self._blocks)]
        content = [block for block in blocks if block is not None]
        return {"output": {"message": {"role": self._role, "content": content}}, **self._rest}


class _Block:
    """One content block. Its kinds are the members of ``ContentBlockDelta`` in botocore's service model (1.43)."""

    def __init__(self) -> None:
        self.start: dict[str, Any] = {}
        self.stopped = False
        self.texts: list[str] = []
        self._deltas: list[dict[str, Any]] = []

    def add(self, delta: dict[str, Any]) -> None:
        self._deltas.append(delta)

    def content(self) -> dict[str, Any] | None:
        """The block as Converse would give it; None where nothing that we know had come."""
        kinds = {*self.start, *(kind for delta in self._deltas for kind in delta)}
        if "toolUse" in kinds:
            return {"toolUse": {**self.start.get("toolUse", {}), "input": self._tool_input()}}
        if "toolResult" in kinds:
            parts = [part for result in self._of("toolResult") for part in result]
            return {"toolResult": {**self.start.get("toolResult", {}), "content": parts}}
        if "reasoningContent" in kinds:
            return {"reasoningContent": self._reasoning()}
        if "citation" in kinds:
            text = [{"text": "".join(self.texts)}]
            return {"citationsContent": {"content": text, "citations": self._of("citation")}}
        if "image" in kinds:
            parts = [self.start.get("image", {}), *self._of("image")]
            return {"image": {name: value for part in parts for name, value in part.items()}}
        return {"text": "".join(self.texts)} if self.texts else None

    def _of(self, kind: str) -> list[Any]:
        return [delta[kind] for delta in self._deltas if kind in delta]

    def _tool_input(self) -> Any:
        text = "".join(part.get("input", "") for part in self._of("toolUse"))
        if not self.stopped:
            return text
        try:
            return json.loads(text or "{}")
        except ValueError:  # the model wrote no JSON; what it wrote is what arrived
            return text

    def _reasoning(self) -> dict[str, Any]:
        parts = self._of("reasoningContent")
        redacted = [part["redactedContent"] for part in parts if "redactedContent" in part]
        if redacted:
            return {"redactedContent": b"".join(redacted)}
        reasoning = {"text": "".join(part.get("text", "") for part in parts)}
        signature = "".join(part.get("signature", "") for part in parts)
        return {"reasoningText": {**reasoning, "signature": signature} if signature else reasoning}
