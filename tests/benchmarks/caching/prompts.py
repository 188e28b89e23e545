"""Read a Converse request as the service sees it: one row of blocks, tools first, then system, then messages."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

CHARACTERS_PER_TOKEN = 3.7
"""Of no estimator: one that divides by four is off, and one that never looks at the usage stays off."""
SPREAD = 0.08
"""By so much, at most, a block has more or fewer tokens than its characters say."""
MESSAGE_TOKENS = 4
TOOL_TOKENS = 300
"""What tools add once, for the instructions that come with them."""
IMAGE_TOKENS = 1_600


@dataclass(frozen=True)
class Point:
    """A cachePoint.

    Attributes:
        section: ``"tools"``, ``"system"`` or ``"messages"``.
        end: Number of blocks before it, in all sections.
        ttl: ``"5m"`` or ``"1h"``.
        before: The block before it in its own list; None if there is none.
    """

    section: str
    end: int
    ttl: str
    before: dict[str, Any] | None


@dataclass(frozen=True)
class Prompt:
    """The row of blocks of one request.

    Attributes:
        prefixes: A digest for each number of blocks from the start, of 0 blocks too.
        totals: Tokens for each number of blocks from the start.
        kinds: Section and key of each block, such as ``("messages", "toolResult")``; a document's has its format.
        points: The cachePoints.
    """

    prefixes: tuple[bytes, ...]
    totals: tuple[int, ...]
    kinds: tuple[tuple[str, str], ...]
    points: tuple[Point, ...]


class Reader:
    """Read requests, each block once: requests of one conversation share blocks."""

    def __init__(self):
        self._seen = {}

    def read(self, request):
        """Return the `Prompt` of a request."""
        thinking = request.get("additionalModelRequestFields")
        prefixes = [hashlib.blake2b(_dump(thinking), digest_size=12).digest()]
        totals, kinds, points = [0], [], []
        for section, role, blocks in sections(request):
            before, extra = None, MESSAGE_TOKENS if role else TOOL_TOKENS if section == "tools" else 0
            for block in blocks:
                if "cachePoint" in block:
                    points.append(Point(section, len(kinds), block["cachePoint"].get("ttl", "5m"), before))
                    assert block["cachePoint"]["type"] == "default", block
                else:
                    digest, tokens, kind = self._of(block)
                    start = f"{section}/{role}/{before is None}".encode()
                    prefixes.append(hashlib.blake2b(prefixes[-1] + start + digest, digest_size=12).digest())
                    totals.append(totals[-1] + tokens + extra)
                    kinds.append((section, kind))
                    extra = 0
                before = block
        return Prompt(tuple(prefixes), tuple(totals), tuple(kinds), tuple(points))

    def _of(self, block):
        known = self._seen.get(id(block))
        if known is None or known[0] is not block:
            written = _dump(block)
            digest = hashlib.blake2b(written, digest_size=12).digest()
            kind = next(iter(block))
            if kind == "document":
                kind = f"document.{block[kind]['format']}"
            known = self._seen[id(block)] = (block, (digest, _tokens(block, digest), kind))
        return known[1]


def sections(request):
    """Yield section, role and blocks of each list of blocks, in the order of the prefix."""
    yield "tools", None, (request.get("toolConfig") or {}).get("tools") or ()
    yield "system", None, request.get("system") or ()
    for message in request["messages"]:
        yield "messages", message["role"], message["content"]


def _tokens(block, digest):
    if "image" in block:
        return IMAGE_TOKENS
    drift = 1 + SPREAD * (int.from_bytes(digest[:4], "big") / 2**31 - 1)
    return max(1, round(_characters(block) / CHARACTERS_PER_TOKEN * drift))


def _characters(block):
    kind, value = next(iter(block.items()))
    if kind == "text":
        return len(value)
    if kind == "document":
        source = value["source"]
        return len(source["bytes"]) if "bytes" in source else len(source["text"])
    if kind == "toolResult":
        return 40 + sum(_characters(part) for part in value["content"])
    if kind == "reasoningContent":
        return len(value["reasoningText"]["text"])
    return len(_dump(value))


def _dump(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=repr).encode()
