"""Emulate prompt caching: divide the input tokens of a request into cache reads, cache writes and plain input.

The rules are those of the user guide (autumn 2026):

- A cachePoint writes an entry for its prefix if the prefix has the model's minimum of tokens.
- From each cachePoint the service looks back over the last blocks for an entry. The longest entry found is read. The
  tokens between this entry and the last cachePoint are written, each part with the ttl of the cachePoint that ends
  the part. The rest is plain input.
- An entry lives 5 minutes or 1 hour from its last use, by its own ttl, even if a cachePoint with another ttl finds the
  entry. A request uses the entry that is read, and the entries of the request's own cachePoints before that entry.

Where the guide is vague, the emulator caches less:

- The guide's look back over "about 20 blocks" covers 20 ends of blocks, including the cachePoint's own (as Anthropic
  documents for its own service).
- A cachePoint within the prefix that is read, without an entry of its own, gets no entry.
- Entries belong to one base model.

The emulator is laxer than the service in two ways: an entry can be read as soon as the request that writes the entry
has arrived, and in every Region.
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

    Block = Mapping[str, Any]


# --- The prefix of a request ---


DEFAULT_TTL = "5m"
"""The ttl of a cachePoint without `ttl` (botocore's service model, `CachePointBlock`)."""

# The model families' names for thinking and effort in `additionalModelRequestFields`.
_START_FIELDS = ("thinking", "effort", "output_config", "reasoningConfig", "reasoning_config", "reasoning_effort")
_DOCUMENT_MEMBERS = frozenset({"json", "input"})
_DIGEST_BYTES = 16


@dataclass(frozen=True)
class Point:
    """A cachePoint of a request.

    Attributes:
        blocks: The number of blocks before the cachePoint.
        ttl: The time to live of the entry, "5m" or "1h".
        path: The cachePoint's path, e.g. "messages.0.content.2".
    """

    blocks: int
    ttl: str
    path: str


@dataclass(frozen=True)
class Prefix:
    """The blocks and cachePoints of a request, in order.

    Attributes:
        digests: For each block, the digest of the prefix that ends with the block.
        tokens: For each block, the tokens of the prefix that ends with the block.
        points: The cachePoints.
    """

    digests: tuple[bytes, ...]
    tokens: tuple[int, ...]
    points: tuple[Point, ...]

    def tokens_of(self, blocks: int) -> int:
        """Return the tokens of the first `blocks` blocks."""
        return self.tokens[blocks - 1] if blocks else 0


def block_lists(request: Mapping[str, Any]) -> Iterator[tuple[str, str, Sequence[Block]]]:
    """Yield the lists that may hold cachePoints, in the order of the prefix, as (field, path, blocks)."""
    yield "tools", "toolConfig.tools", (request.get("toolConfig") or {}).get("tools") or ()
    yield "system", "system", request.get("system") or ()
    for index, message in enumerate(request.get("messages") or ()):
        yield "messages", f"messages.{index}.content", message["content"]


def has_points(request: Mapping[str, Any]) -> bool:
    """Return whether a request has a cachePoint."""
    return any("cachePoint" in block for _, _, blocks in block_lists(request) for block in blocks)


def read_prefix(request: Mapping[str, Any], model_id: str) -> Prefix:
    """Return the blocks and cachePoints of a request.

    A change of the model, of thinking or of effort changes every digest. A change of `toolChoice` changes the digests
    of the messages. Other inference settings, such as temperature and maxTokens, change no digest.

    Args:
        request: The members of a Converse request.
        model_id: The invoked model's id.
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
    """Yield for each block the tokens of the prefix that ends with the block. The last count equals `input_tokens`."""
    total = 0
    for member, _, listed in block_lists(request):
        blocks = [block for block in listed if "cachePoint" not in block]
        if member == "tools":
            # System tools count no tokens, as in `input_tokens`.
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
    """Return the settings that apply to a whole prefix: thinking and effort."""
    fields = request.get("additionalModelRequestFields")
    known = fields if isinstance(fields, dict) else {}
    return [*(known.get(name) for name in _START_FIELDS), (request.get("outputConfig") or {}).get("effort")]


def _without_inner_points(block: Block) -> Block:
    """Return a block without the cachePoints in its toolResult.

    These cachePoints cache nothing and are not part of the prompt.
    """
    if "toolResult" not in block:
        return block
    result = block["toolResult"]
    return {"toolResult": {**result, "content": [part for part in result["content"] if "cachePoint" not in part]}}


def _ordered(value: Any) -> Any:
    """Return a structure with sorted members. JSON documents keep their order."""
    if isinstance(value, dict):
        return {name: value[name] if name in _DOCUMENT_MEMBERS else _ordered(value[name]) for name in sorted(value)}
    if isinstance(value, (list, tuple)):
        return [_ordered(item) for item in value]
    return value


def _line(value: Any) -> bytes:
    """Return a value as a line of JSON without inner line breaks. Blobs are replaced by their digests."""
    return json.dumps(value, default=_blob).encode("ascii") + b"\n"


def _blob(value: Any) -> str:
    return hashlib.sha256(value).hexdigest() if isinstance(value, (bytes, bytearray)) else repr(value)


# --- Cache entries ---

LIFETIMES: dict[str, float] = {"1h": 3600.0, "5m": 300.0}
"""Seconds from an entry's last use to its expiry, by ttl. The longest ttl is first, as in `cacheDetails`."""

_LOOK_BACK = 20
_MOST_ENTRIES = 100_000  # about 30 MB


@dataclass(frozen=True, kw_only=True)
class CacheUse:
    """The input tokens of a request by their cache use.

    Attributes:
        read: The tokens read from the cache.
        written: The tokens written to the cache by ttl, the longest ttl first, without zeros.
        plain: The tokens neither read nor written.
    """

    read: int = 0
    written: Mapping[str, int] = field(default_factory=dict)
    plain: int


class PromptCaches:
    """Hold the cache entries of every model. Safe to use from several threads.

    Args:
        clock: Returns seconds and never goes back. The default is `time.monotonic`.
        most_entries: The maximum number of entries, 100,000 by default. Beyond the maximum, the least recently used
            entries are dropped.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, most_entries: int = _MOST_ENTRIES) -> None:
        self._clock = clock
        self._most_entries = most_entries
        self._lock = threading.Lock()
        # ttl → (digest of the prefix → last use), in the order of last use, which is also the order of expiry.
        self._entries: dict[str, OrderedDict[bytes, float]] = {ttl: OrderedDict() for ttl in LIFETIMES}

    def __len__(self) -> int:
        with self._lock:
            self._drop_expired(self._clock())
            return self._count()

    def clear(self) -> None:
        """Remove every entry."""
        with self._lock:
            for entries in self._entries.values():
                entries.clear()

    def use(self, request: Mapping[str, Any], model: EmulatedModel, input_tokens: int) -> CacheUse | None:
        """Read and write the cache entries of a request that is being answered.

        Args:
            request: A Converse request that has passed `check_points`.
            model: The invoked model.
            input_tokens: All input tokens of the request.

        Returns:
            The tokens by cache use, or None for a model without caching.
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
        """Return the number of blocks that are read from the cache."""
        hit = 0
        for point in points:
            # Prefixes shorter than the longest hit so far are not looked up.
            for blocks in range(point.blocks, max(hit, point.blocks - _LOOK_BACK), -1):
                if self._holder(prefix.digests[blocks - 1]) is not None:
                    hit = blocks
                    break
        return hit

    def _write(self, prefix: Prefix, points: Sequence[Point], hit: int, now: float) -> dict[str, int]:
        """Renew the used entries, create the missing entries, and return the written tokens by ttl."""
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
        """Return the entries of the ttl that hold a digest, or None.

        A digest has one ttl only, because an entry that is found is not written again.
        """
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


# --- Checks of cachePoints ---

MAX_POINTS = 4
"""The maximum number of cachePoints in a request."""


class _Place(NamedTuple):
    """A cachePoint and its position.

    Attributes:
        field: "tools", "system" or "messages".
        path: The path of the list that holds the cachePoint.
        position: The cachePoint's index in the list.
        ttl: The time to live, "5m" or "1h".
        before: The block before the cachePoint, or None at the start of the list.
        points_before: The number of cachePoints before this one in the list.
    """

    field: str
    path: str
    position: int
    ttl: str
    before: Mapping[str, Any] | None
    points_before: int

    @property
    def pointer(self) -> str:
        """The cachePoint's position in the notation of Nova's validator."""
        return f"#/{self.path.replace('.', '/')}/{self.position}"

    @property
    def claude_path(self) -> str:
        """The path of the block that the cachePoint marks, with blocks counted as in Claude's validator."""
        return f"{self.path.removeprefix('toolConfig.')}.{max(0, self.position - 1 - self.points_before)}"


def check_points(request: Mapping[str, Any], model: EmulatedModel) -> None:
    """Raise if Bedrock would refuse the request's cachePoints.

    Args:
        request: A Converse request that fits the service model.
        model: The invoked model. For a router: the model that the router chose.

    Raises:
        ServiceError: ValidationException. AccessDeniedException for a model without caching.
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
    """Return the error for a cachePoint that the model's own API does not accept at this position."""
    if model.provider == "Anthropic":
        return _model_error(f"{place.claude_path}.{claude_says}")
    return _model_error(
        f"Malformed input request: {place.pointer}: extraneous key [cachePoint] is not permitted, "
        "please reformat your input and try again."
    )


def _check_position(place: _Place, model: EmulatedModel, offer: CacheOffer) -> None:
    """Refuse a cachePoint in a field without caching, or after a block that cannot be cached."""
    before = place.before
    if before is None or "cachePoint" in before:
        raise validation("There is nothing available to cache.")
    if "reasoningContent" in before:
        raise validation("Cache point cannot be inserted after reasoning block.")
    if place.field not in offer.fields or any(kind in before for kind in offer.never_after):
        raise _unknown_member(place, model, "cache_control: Extra inputs are not permitted")
    if "document" in before and before["document"].get("format") != "pdf":
        if model.provider == "Anthropic":  # the cachePoint becomes a block of its own, which is not valid
            raise _model_error(f"{place.path}.{place.position}.type: Field required")
        raise _unknown_member(place, model, "")


def _check_ttls(places: list[_Place], model: EmulatedModel, offer: CacheOffer) -> None:
    """Refuse a ttl that the model does not offer, and a 1h cachePoint after a 5m cachePoint."""
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
    """Refuse a prefix longer than the model caches."""
    prefix = read_prefix(request, model_id)
    for point in prefix.points:
        tokens = prefix.tokens_of(point.blocks)
        if tokens > most:
            raise validation(
                f"The cachePoint at {point.path} ends a prefix of {tokens} tokens, which exceeds the limit of {most} "
                "cached tokens. Move the cachePoint, or remove it."
            )
