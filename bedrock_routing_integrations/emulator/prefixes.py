"""A Converse request as the prompt cache sees it: one row of blocks, and the cachePoints between them.

Everything before a cachePoint, in the order tools, system, messages, is its prefix. Two prefixes are the same when
their models, what they are generated under, and all their blocks are; see `_START_FIELDS` and `read_prefix` for what
counts beside the blocks. The order of members counts inside JSON documents (a tool's schema, its input, its result),
as the model reads them as they come, and nowhere else.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .programs.tokens import MESSAGE_TOKENS, block_tokens, tool_list_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Block = Mapping[str, Any]

__all__ = ["DEFAULT_TTL", "Point", "Prefix", "block_lists", "has_points", "read_prefix"]

DEFAULT_TTL = "5m"
"""What a cachePoint without `ttl` asks for (botocore's service model, `CachePointBlock`)."""

# Thinking and effort, as the families name them in `additionalModelRequestFields`.
_START_FIELDS = ("thinking", "effort", "output_config", "reasoningConfig", "reasoning_config", "reasoning_effort")
_DOCUMENT_MEMBERS = frozenset({"json", "input"})
_DIGEST_BYTES = 16


@dataclass(frozen=True)
class Point:
    """A cachePoint.

    Attributes:
        blocks: How many blocks of the request come before it.
        ttl: "5m" or "1h".
        path: Where it stands, e.g. "messages.0.content.2".
    """

    blocks: int
    ttl: str
    path: str


@dataclass(frozen=True)
class Prefix:
    """The blocks and cachePoints of a request, in order.

    Attributes:
        digests: For each block what stands for everything up to and with it.
        tokens: For each block the tokens of everything up to and with it.
        points: The cachePoints.
    """

    digests: tuple[bytes, ...]
    tokens: tuple[int, ...]
    points: tuple[Point, ...]

    def tokens_of(self, blocks: int) -> int:
        """The tokens of the first so many blocks."""
        return self.tokens[blocks - 1] if blocks else 0


def block_lists(request: Mapping[str, Any]) -> Iterator[tuple[str, str, Sequence[Block]]]:
    """The lists that may hold cachePoints, in the order of the prefix: (field, path, blocks)."""
    yield "tools", "toolConfig.tools", (request.get("toolConfig") or {}).get("tools") or ()
    yield "system", "system", request.get("system") or ()
    for index, message in enumerate(request.get("messages") or ()):
        yield "messages", f"messages.{index}.content", message["content"]


def has_points(request: Mapping[str, Any]) -> bool:
    """Whether there is any cachePoint."""
    return any("cachePoint" in block for _, _, blocks in block_lists(request) for block in blocks)


def read_prefix(request: Mapping[str, Any], model_id: str) -> Prefix:
    """The blocks and cachePoints of a request to a model.

    A change of the model, of thinking or of effort changes every digest, a change of `toolChoice` those of the
    messages; temperature, maxTokens and the like change none.
    """
    running = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    running.update(_line(["model", model_id, _start(request)]))
    digests: list[bytes] = []
    tokens: list[int] = []
    points: list[Point] = []
    counts = _token_counts(request)
    roles = iter([message["role"] for message in request.get("messages") or ()])
    choice: Any = (request.get("toolConfig") or {}).get("toolChoice") or {"auto": {}}
    for field, path, blocks in block_lists(request):
        head: list[Any] = [field, next(roles), choice] if field == "messages" else [field]
        running.update(_line(head))
        for index, block in enumerate(blocks):
            if "cachePoint" in block:
                ttl = block["cachePoint"].get("ttl", DEFAULT_TTL)
                points.append(Point(len(digests), ttl, f"{path}.{index}"))
                continue
            running.update(_line(_ordered(_without_inner_points(block))))
            digests.append(running.copy().digest())
            tokens.append(next(counts))
    return Prefix(tuple(digests), tuple(tokens), tuple(points))


def _token_counts(request: Mapping[str, Any]) -> Iterator[int]:
    """For each block of the prefix the tokens of everything up to it; the last is all that `input_tokens` counts."""
    total = 0
    for field, _, listed in block_lists(request):
        blocks = [block for block in listed if "cachePoint" not in block]
        if field == "tools":
            # As `input_tokens`, which counts no tools of the service's own.
            counts = iter(tool_list_tokens(block["toolSpec"] for block in blocks if "toolSpec" in block))
            for block in blocks:
                total = next(counts) if "toolSpec" in block else total
                yield total
            continue
        total += MESSAGE_TOKENS if field == "messages" else 0
        for block in blocks:
            total += block_tokens(block)
            yield total


def _start(request: Mapping[str, Any]) -> list[Any]:
    """What a whole prefix is generated under."""
    fields = request.get("additionalModelRequestFields")
    known = fields if isinstance(fields, dict) else {}
    return [*(known.get(name) for name in _START_FIELDS), (request.get("outputConfig") or {}).get("effort")]


def _without_inner_points(block: Block) -> Block:
    """A block without the cachePoints inside a toolResult, which cache nothing and are no part of the prompt."""
    if "toolResult" not in block:
        return block
    result = block["toolResult"]
    return {"toolResult": {**result, "content": [part for part in result["content"] if "cachePoint" not in part]}}


def _ordered(value: Any) -> Any:
    """A structure with its members in one order, its JSON documents untouched."""
    if isinstance(value, dict):
        return {name: value[name] if name in _DOCUMENT_MEMBERS else _ordered(value[name]) for name in sorted(value)}
    if isinstance(value, (list, tuple)):
        return [_ordered(item) for item in value]
    return value


def _line(value: Any) -> bytes:
    """A value as one line of JSON, which holds no line break of its own; blobs by their digest."""
    return json.dumps(value, default=_blob).encode("ascii") + b"\n"


def _blob(value: Any) -> str:
    return hashlib.sha256(value).hexdigest() if isinstance(value, (bytes, bytearray)) else repr(value)
