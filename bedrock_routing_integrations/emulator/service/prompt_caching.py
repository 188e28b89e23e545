"""Prompt caching: what of a request is read from the cache, what is written to it, what is plain input.

The rules are those of the user guide (autumn 2026):

- A cachePoint writes an entry for its prefix where that has the model's minimum of tokens.
- From each point the service looks for an entry among the last blocks; the longest one found is read. What lies
  between it and the last point is written, each part with the ttl of the point that ends it. The rest is plain input.
- An entry lives 5 minutes or 1 hour from its last use, whatever the ttl of the point that finds it. A request uses the
  entry that it reads, and those of its own points before that.

Where the guide is vague the emulator takes the view that caches less: the look back over "about 20 blocks" reaches
20 ends of blocks, the point's own with them (as Anthropic documents it for its own service); a point within what is
read, where no entry was, gets none; entries belong to one base model. In two things it is laxer than the
service: an entry can be read as soon as the request that writes it has come in, and in every Region.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from bedrock_routing_integrations.emulator.canned_models.tokens import MESSAGE_TOKENS, block_tokens, tool_list_tokens
from bedrock_routing_integrations.emulator.wire.service_model import ServiceError, validation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from .models import CacheOffer, EmulatedModel


# --- A Converse request as the prompt cache sees it ---

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Block = Mapping[str, Any]


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
    for member, path, blocks in block_lists(request):
        head: list[Any] = [member, next(roles), choice] if member == "messages" else [member]
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
    for member, _, listed in block_lists(request):
        blocks = [block for block in listed if "cachePoint" not in block]
        if member == "tools":
            # As `input_tokens`, which counts no tools of the service's own.
            counts = iter(tool_list_tokens(block["toolSpec"] for block in blocks if "toolSpec" in block))
            for block in blocks:
                total = next(counts) if "toolSpec" in block else total
                yield total
            continue
        total += MESSAGE_TOKENS if member == "messages" else 0
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


LIFETIMES: dict[str, float] = {"1h": 3600.0, "5m": 300.0}
"""Seconds from an entry's last use to its end, the longest first, as `cacheDetails` lists them."""

_LOOK_BACK = 20
_MOST_ENTRIES = 100_000  # some 30 MB


@dataclass(frozen=True, kw_only=True)
class CacheUse:
    """The input tokens of one request by what the cache did with them.

    Attributes:
        read: Read from the cache.
        written: Written to it, by ttl; only what is not 0, the longest ttl first.
        plain: Neither.
    """

    read: int = 0
    written: Mapping[str, int] = field(default_factory=dict)
    plain: int


class PromptCaches:
    """The entries of every model. Safe to use from several threads.

    Args:
        clock: Seconds, only rising.
        most_entries: Beyond this the least recently used entries are dropped.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, most_entries: int = _MOST_ENTRIES) -> None:
        self._clock = clock
        self._most_entries = most_entries
        self._lock = threading.Lock()
        # By ttl: digest of the prefix → last use. Each is in the order of use, which is thereby that of expiry.
        self._entries: dict[str, OrderedDict[bytes, float]] = {ttl: OrderedDict() for ttl in LIFETIMES}

    def __len__(self) -> int:
        with self._lock:
            self._drop_expired(self._clock())
            return self._count()

    def clear(self) -> None:
        """Forget every entry."""
        with self._lock:
            for entries in self._entries.values():
                entries.clear()

    def use(self, request: Mapping[str, Any], model: EmulatedModel, input_tokens: int) -> CacheUse | None:
        """Read and write what a request that is being answered reads and writes.

        Args:
            request: A Converse request that has passed `cache_rules.check_points`.
            model: The base model that answers.
            input_tokens: All tokens of the request.

        Returns:
            What became of the tokens; None for a model without caching.
        """
        if model.cache is None:
            return None
        if not has_points(request):
            return CacheUse(plain=input_tokens)
        prefix = read_prefix(request, model.model_id)
        least = model.cache.minimum_tokens
        points = [point for point in prefix.points if prefix.tokens_of(point.blocks) >= least]
        with self._lock:
            now = self._clock()
            self._drop_expired(now)
            hit = self._longest_hit(prefix, points)
            written = self._write(prefix, points, hit, now)
            self._drop_surplus()
        read = prefix.tokens_of(hit)
        return CacheUse(read=read, written=written, plain=input_tokens - read - sum(written.values()))

    def _longest_hit(self, prefix: Prefix, points: Sequence[Point]) -> int:
        """How many blocks are read from the cache."""
        hit = 0
        for point in points:
            # What ends before the best hit so far is no better.
            for blocks in range(point.blocks, max(hit, point.blocks - _LOOK_BACK), -1):
                if self._holder(prefix.digests[blocks - 1]) is not None:
                    hit = blocks
                    break
        return hit

    def _write(self, prefix: Prefix, points: Sequence[Point], hit: int, now: float) -> dict[str, int]:
        """Renew the entries that are used, make those that are missing; the tokens written by ttl."""
        for blocks in sorted({hit, *(point.blocks for point in points if point.blocks <= hit)} - {0}):
            digest = prefix.digests[blocks - 1]
            holder = self._holder(digest)
            if holder is not None:
                holder[digest] = now
                holder.move_to_end(digest)
        written = dict.fromkeys(LIFETIMES, 0)
        end = hit
        for point in points:
            if point.blocks > hit:
                self._entries[point.ttl][prefix.digests[point.blocks - 1]] = now
                written[point.ttl] += prefix.tokens_of(point.blocks) - prefix.tokens_of(end)
                end = point.blocks
        return {ttl: tokens for ttl, tokens in written.items() if tokens}

    def _holder(self, digest: bytes) -> OrderedDict[bytes, float] | None:
        """The entries among which one is; an entry is in one place only, as what is found is not written again."""
        return next((entries for entries in self._entries.values() if digest in entries), None)

    def _count(self) -> int:
        return sum(map(len, self._entries.values()))

    def _drop_expired(self, now: float) -> None:
        for ttl, entries in self._entries.items():
            while entries and now - next(iter(entries.values())) >= LIFETIMES[ttl]:
                entries.popitem(last=False)

    def _drop_surplus(self) -> None:
        while self._count() > self._most_entries:
            oldest = min(filter(None, self._entries.values()), key=lambda entries: next(iter(entries.values())))
            oldest.popitem(last=False)


# --- What Bedrock refuses about cachePoints. ---

MAX_POINTS = 4
"""Most cachePoints in one request."""


class _Place(NamedTuple):
    """A cachePoint and what it stands behind."""

    field: str
    path: str
    position: int
    ttl: str
    before: Mapping[str, Any] | None
    points_before: int

    @property
    def pointer(self) -> str:
        """Where it stands, as Nova's validator writes it."""
        return f"#/{self.path.replace('.', '/')}/{self.position}"

    @property
    def claude_path(self) -> str:
        """The block that it becomes a mark of, as Claude's validator counts the blocks."""
        return f"{self.path.removeprefix('toolConfig.')}.{max(0, self.position - 1 - self.points_before)}"


def check_points(request: Mapping[str, Any], model: EmulatedModel) -> None:
    """Refuse cachePoints that Bedrock would refuse.

    Args:
        request: A Converse request of the right shape.
        model: The model that is to answer; behind a router the one that it chose.

    Raises:
        ServiceError: ValidationException; AccessDeniedException for a model without caching.
    """
    places = list(_places(request))
    if not places:
        return
    if model.cache is None:
        raise ServiceError(
            "AccessDeniedException",
            "You invoked an unsupported model or your request did not allow prompt caching.",
        )
    if (request.get("performanceConfig") or {}).get("latency") == "optimized":
        raise _unknown_member(places[0], model, "cache_control: Extra inputs are not permitted")
    for place in places:
        _check_position(place, model, model.cache)
    if len(places) > MAX_POINTS:
        raise _model_error(f"A maximum of {MAX_POINTS} blocks with cache_control may be provided. Found {len(places)}.")
    _check_ttls(places, model, model.cache)
    if model.cache.maximum_tokens is not None:
        _check_length(request, model.model_id, model.cache.maximum_tokens)


def _places(request: Mapping[str, Any]) -> Iterator[_Place]:
    for member, path, blocks in block_lists(request):
        seen = 0
        for index, block in enumerate(blocks):
            if "cachePoint" in block:
                before = blocks[index - 1] if index else None
                yield _Place(member, path, index, block["cachePoint"].get("ttl", DEFAULT_TTL), before, seen)
                seen += 1


def _model_error(text: str) -> ServiceError:
    return validation(f"The model returned the following errors: {text}")


def _unknown_member(place: _Place, model: EmulatedModel, claude_says: str) -> ServiceError:
    """A point that the model's own interface does not know there."""
    if model.provider == "Anthropic":
        return _model_error(f"{place.claude_path}.{claude_says}")
    return _model_error(
        f"Malformed input request: {place.pointer}: extraneous key [cachePoint] is not permitted, "
        "please reformat your input and try again."
    )


def _check_position(place: _Place, model: EmulatedModel, offer: CacheOffer) -> None:
    """The place of one point: in a field for it, behind something that can be cached."""
    before = place.before
    if before is None or "cachePoint" in before:
        raise validation("There is nothing available to cache.")
    if "reasoningContent" in before:
        raise validation("Cache point cannot be inserted after reasoning block.")
    if place.field not in offer.fields or any(kind in before for kind in offer.never_after):
        raise _unknown_member(place, model, "cache_control: Extra inputs are not permitted")
    if "document" in before and before["document"].get("format") != "pdf":
        if model.provider == "Anthropic":  # the point becomes a block of its own, and no valid one
            raise _model_error(f"{place.path}.{place.position}.type: Field required")
        raise _unknown_member(place, model, "")


def _check_ttls(places: list[_Place], model: EmulatedModel, offer: CacheOffer) -> None:
    """Lifetimes that the model offers, never rising."""
    for place in places:
        if place.ttl not in offer.ttls:
            raise _unknown_member(place, model, f"cache_control.ttl: Input should be '{DEFAULT_TTL}'")
    for earlier, later in pairwise(places):
        if earlier.ttl == "5m" and later.ttl == "1h":
            raise _model_error(
                f"{later.claude_path}.cache_control.ttl: a ttl='1h' cache_control block must not come after a "
                "ttl='5m' cache_control block. Note that blocks are processed in the following order: `tools`, "
                "`system`, `messages`."
            )


def _check_length(request: Mapping[str, Any], model_id: str, most: int) -> None:
    """No prefix longer than the model caches."""
    prefix = read_prefix(request, model_id)
    for point in prefix.points:
        tokens = prefix.tokens_of(point.blocks)
        if tokens > most:
            raise validation(
                f"The cachePoint at {point.path} ends a prefix of {tokens} tokens, which exceeds the limit of {most} "
                "cached tokens. Move the cachePoint, or remove it."
            )
