"""Explain caching to the user: why a cache point is added or not, and why caching does not work.

`explain` turns a planned request into a `CachePlan`, in which every cache point, and every position without one that
was considered, has a reason. `Diagnosis` watches the answers of one target and logs a warning, once, if there is a
pattern that the user can do something about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from bedrock_routing_integrations.bounded_cache import BoundedCache
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.runtime import warn_once

from .candidates import read_prefix
from .rules import copy_lists

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from .candidates import CachePointCandidate, Prefix, PrefixBoundary
    from .planner import PlannedRequest

# --- Plans ---

USERS_POINT = "the caller's own"
"""`PlannedPoint.reason` of a cache point that was in the user's request."""
_STATES = {
    "new": "new",
    "resumed": "new",
    "continuing": "the continuation of an earlier request",
    "branching": "new after a beginning that is known",
    "other_model": "known to another model of the router",
}


@dataclass(frozen=True)
class PlannedPoint:
    """A cache point of a request, or a position where one could be.

    Attributes:
        section: ``"tools"``, ``"system"`` or ``"messages"``.
        message: The index of the message; None outside of messages.
        position: The index of the cache point in its list.
        ttl: ``"5m"`` or ``"1h"``.
        reason: Why it is there, or is not.
        given: Whether it was in the user's request.
    """

    section: str
    message: int | None
    position: int
    ttl: str
    reason: str
    given: bool

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-safe dict, with `message` only inside of messages."""
        message = {} if self.message is None else {"message": self.message}
        return {"section": self.section, **message, "position": self.position, "ttl": self.ttl, "reason": self.reason}


@dataclass(frozen=True)
class CachePlan:
    """The plan for one request.

    Attributes:
        request: The request with its cache points; new, but it shares the content of its blocks with the original.
        points: Every cache point in it, in the order of the prefix, including the user's own.
        not_placed: Positions that were considered and got none; `position` is where it would be in `request`.
        tokens: Estimated tokens of the whole prompt.
        saving: Expected saving of the added cache points, in plain input tokens, in this request and the next of its
            kind.
        why_none: Why no cache points were considered at all; None if some were.
    """

    request: dict[str, Any]
    points: tuple[PlannedPoint, ...]
    not_placed: tuple[PlannedPoint, ...]
    tokens: int
    saving: int
    why_none: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-safe dict, without the request."""
        return {
            "points": [point.as_dict() for point in self.points],
            "not_placed": [point.as_dict() for point in self.not_placed],
            "tokens": self.tokens,
            "saving": self.saving,
            "why_none": self.why_none,
        }


def explain(planned: PlannedRequest) -> CachePlan:
    """Return a planned request as a plan with reasons.

    Raises:
        InvalidRequestError: It is not a valid Converse request.
    """
    try:
        prefix = planned.prefix or read_prefix(planned.base_request)
    except Exception:  # noqa: BLE001 - the request can be anything
        members = ", ".join(map(str, planned.request))
        raise InvalidRequestError(
            f"The request is not a valid Converse request that boto3 would accept; it has {members}."
        ) from None
    calibration = planned.calibration
    tokens = prefix.text_tokens + prefix.media_tokens
    if calibration is not None:
        tokens = calibration.tokens(prefix.text_tokens, prefix.media_tokens)
    return CachePlan(
        request=copy_lists(planned.request),
        points=planned.points,
        not_placed=tuple(_not_placed(planned, prefix)),
        tokens=round(tokens),
        saving=round(planned.evaluation.expected_saving) if planned.evaluation is not None else 0,
        why_none=planned.skip_reason,
    )


def reason_placed(candidate: CachePointCandidate) -> str:
    """Return why a candidate got a cache point."""
    tokens = f"{candidate.tokens:,.0f} tokens"
    if candidate.is_users:
        return USERS_POINT
    if any(candidate.cached_ttl):
        return f"{tokens} that an earlier request cached; expected to be read"
    state = candidate.categories[0].state
    if state == "known":
        return f"{tokens}, seen before; {_probability(candidate)}"
    return f"{tokens}, {_STATES[state]}; {_probability(candidate)}"


def _not_placed(planned: PlannedRequest, prefix: Prefix) -> Iterator[PlannedPoint]:
    """Yield section ends, boundaries of the last message and candidates that have no cache point."""
    boundaries, evaluation = prefix.boundaries, planned.evaluation
    candidates: dict[int, CachePointCandidate] = {}
    chosen: set[int] = set()
    if evaluation is not None:
        candidates = {candidate.boundary_index: candidate for candidate in evaluation.candidates}
        chosen = {candidate.boundary_index for candidate in evaluation.chosen_candidates}
    section_ends = {boundary.section: index for index, boundary in enumerate(boundaries)}
    last_message = boundaries[-1].message_index if boundaries else None
    in_last_message = [
        index
        for index, boundary in enumerate(boundaries)
        if boundary.message_index == last_message and boundary.section == "messages"
    ]
    for index in sorted({*section_ends.values(), *in_last_message, *candidates}):
        boundary, candidate = boundaries[index], candidates.get(index)
        if index in chosen or boundary.user_ttl is not None:
            continue
        position = boundary.block_index + 1
        for point in planned.points:
            if (point.section, point.message) == (boundary.section, boundary.message_index):
                position += point.position <= position and not point.given
        yield PlannedPoint(
            boundary.section,
            boundary.message_index,
            position,
            candidate.ttl if candidate else "5m",
            _reason_not_placed(planned, boundary, candidate, is_covered=max(chosen, default=-1) > index),
            given=False,
        )


def _reason_not_placed(
    planned: PlannedRequest, boundary: PrefixBoundary, candidate: CachePointCandidate | None, *, is_covered: bool
) -> str:
    if planned.skip_reason is not None:
        return planned.skip_reason
    if planned.evaluation is not None:
        refusal = planned.evaluation.check.refusal(boundary)
        if refusal is not None:
            return refusal
    if candidate is None:
        return "no requests are known to diverge there"
    if not candidate.allowed:
        return "too few tokens after the previous position"
    if candidate.in_flight:
        return "a request in flight is writing it to the cache"
    why = "a later cachePoint covers it" if is_covered else "not expected to save enough"
    return f"{why}; {_probability(candidate)}"


def _probability(candidate: CachePointCandidate) -> str:
    return f"probability of reuse in time: {candidate.return_probability:.0%}"


# --- Warnings about caching that does not work ---

_PATTERN = 5
"""Requests in a row that are a pattern."""
_LONG_PATTERN = 20
"""The same where it could also be many users or applications, each with a prompt of its own, who will return."""
_MAX_CONVERSATIONS = 64  # remembered for each target
_MAX_SHORT_APPLICATIONS = 64
_ALMOST_LONG_ENOUGH = 0.75  # of the minimum
_CLOCK_AND_ID_CHARACTERS = b"0123456789abcdefABCDEF-"


class _BlockIdentity(NamedTuple):
    """A block before the messages.

    Attributes:
        path: Its path in the request.
        content: A hash of its content.
        template: A hash of its content without digits, which does not change with a time of day or an id.
    """

    path: str
    content: int
    template: int


class _Conversation(NamedTuple):
    """The last request of a conversation: hashes of its tools, tokens in the cache, number of messages."""

    tools: frozenset[int]
    cached_tokens: int
    messages: int


class Diagnosis:
    """Warn, once for each target, if caching cannot work.

    Args:
        target: The target's name in warnings.
    """

    __slots__ = (
        "_blocks", "_changed", "_changes", "_clear_changes", "_conversations", "_short_prefixes", "_target",
        "_unread", "_unread_writes", "_unread_written_tokens",
    )  # fmt: skip

    def __init__(self, target: Hashable) -> None:
        self._target = target
        self._unread = self._unread_writes = self._unread_written_tokens = 0
        self._changes = self._clear_changes = 0
        self._changed: str | None = None
        self._blocks: tuple[_BlockIdentity, ...] = ()
        self._short_prefixes: BoundedCache[int, int] = BoundedCache(_MAX_SHORT_APPLICATIONS)
        self._conversations: BoundedCache[int, _Conversation] = BoundedCache(_MAX_CONVERSATIONS)

    def check_read(self, *, expected: bool, tokens: int) -> None:
        """Warn if requests with cache points never read anything.

        Args:
            expected: Whether the request should have read or written something.
            tokens: Tokens that it read.
        """
        if tokens:
            self._unread = 0
        elif expected:
            self._unread += 1
        if self._unread == _PATTERN:
            warn_once(
                ("cache never read", self._target),
                f"{_PATTERN} requests to {self._target} in a row had cachePoints after content that had been cached "
                "shortly before, and nothing was read from the cache. Check for a gateway, a profile that spreads "
                "calls over many Regions, or code that rewrites the requests. cache='off' adds no cachePoints.",
            )

    def check_user_points(self, *, has_user_points: bool, read: int, written: int) -> None:
        """Warn if the user's own cache points are only ever written.

        Args:
            has_user_points: Whether the request had any.
            read: Tokens that the request read.
            written: Tokens that the request wrote.
        """
        if read or not has_user_points:
            self._unread_writes = self._unread_written_tokens = 0
            return
        self._unread_writes += bool(written)
        self._unread_written_tokens += written
        if self._unread_writes == _LONG_PATTERN:
            warn_once(
                ("cache only written", self._target),
                f"{_LONG_PATTERN} requests to {self._target} in a row wrote {self._unread_written_tokens:,} tokens "
                "before cachePoints of your own, and read none. Where a write costs more than plain input, that costs "
                "more than no caching: the content before the cachePoints is different each time. Remove them; "
                "cache='auto' finds content that repeats.",
            )

    def check_changes(self, prefix: Prefix, *, is_seen: bool, is_long_enough: bool) -> None:
        """Warn if tools and system are new in each request, naming the first block that changes.

        If that block is the same but for digits or the order of tools, five requests in a row are enough, otherwise
        twenty. Applications and users that take turns cause no warning: the blocks of each are known after its first
        request.

        Args:
            prefix: The request.
            is_seen: Whether its tools and system were seen before.
            is_long_enough: Whether they are long enough to be cached without messages.
        """
        if is_seen:
            self._blocks, self._changes, self._clear_changes = (), 0, 0
            return
        blocks = tuple(_blocks_before_messages(prefix.boundaries))
        previous, self._blocks = self._blocks, blocks
        if not previous:
            return
        changed, is_clear = _first_change(previous, blocks)
        if changed is None:
            return
        same_as_before = changed == self._changed or self._changes == 0
        self._changes = self._changes + 1 if same_as_before else 1
        self._clear_changes = (self._clear_changes if same_as_before else 0) + is_clear
        self._changed = changed
        if self._clear_changes == _PATTERN or (is_long_enough and self._changes == _LONG_PATTERN):
            warn_once(
                ("prefix changes", self._target),
                f"The tools and system prompt of requests to {self._target} cannot be cached: they were new in each of "
                f"{self._changes} requests in a row. The first block that changes is {changed}. Move content that "
                "changes (a clock, facts of one request) after content that does not: into the last message, or the "
                "last system block.",
            )

    def check_tools(self, prefix: Prefix, *, cached_tokens: int, read_price: float, write_price: float) -> None:
        """Warn if tools change during a conversation: everything after them must be cached again.

        Args:
            prefix: The request.
            cached_tokens: Tokens that it read from the cache or wrote to it.
            read_price: Price of a token read, as a share of a plain input token.
            write_price: Price of a token written, as a share of a plain input token.
        """
        # System and first message identify a conversation. The first message alone does not: agents that pass a
        # question on to one another share it.
        opening = [
            boundary for boundary in prefix.boundaries if boundary.section == "system" or boundary.message_index == 0
        ]
        if not opening or opening[-1].section == "system":
            return
        tools = frozenset(hash(boundary.identity) for boundary in prefix.boundaries if boundary.section == "tools")
        key = hash(tuple([boundary.identity for boundary in opening]))
        previous = self._conversations.get(key)
        if (
            previous is not None
            and previous.tools != tools
            and previous.cached_tokens
            and len(prefix.roles) > previous.messages
        ):
            change = "added" if previous.tools < tools else "removed" if previous.tools > tools else "changed"
            warn_once(
                ("tools change", self._target),
                f"Tools were {change} during a conversation with {self._target}. Tools come before all messages, so "
                f"{previous.cached_tokens:,} cached tokens cost {write_price:g} times plain input again instead of "
                f"{read_price:g} times. Declare all tools from the beginning, keep their order, and write in a message "
                "which of them may be used.",
            )
        self._conversations.put(key, _Conversation(tools, cached_tokens, len(prefix.roles)))

    def check_length(self, application: int, tokens: float, min_tokens: int) -> None:
        """Warn if the tools and system of one application repeat, and are just too short to be cached.

        Args:
            application: `Prefix.application`.
            tokens: Estimated tokens of tools and system.
            min_tokens: Tokens of the shortest prefix that is cached.
        """
        if not _ALMOST_LONG_ENOUGH * min_tokens <= tokens < min_tokens:
            return
        times = self._short_prefixes.get(application, 0) + 1
        self._short_prefixes.put(application, times)
        if times == _PATTERN:
            warn_once(
                ("prefix too short", self._target),
                f"The tools and system prompt of requests to {self._target} repeat, and are just too short to be "
                f"cached: about {tokens:,.0f} tokens, where the minimum is {min_tokens:,}. A few more examples there "
                "could cost less than none.",
            )


def _blocks_before_messages(boundaries: Sequence[PrefixBoundary]) -> Iterator[_BlockIdentity]:
    for boundary in boundaries:
        if boundary.section == "messages":
            return
        section = "toolConfig.tools" if boundary.section == "tools" else "system"
        template = boundary.identity.translate(None, _CLOCK_AND_ID_CHARACTERS)
        yield _BlockIdentity(f"{section}[{boundary.block_index}]", hash(boundary.identity), hash(template))


def _first_change(previous: Sequence[_BlockIdentity], current: Sequence[_BlockIdentity]) -> tuple[str | None, bool]:
    """Return the path of the first block that differs (None if there is none), and whether it is a clear case."""
    previous_tools, current_tools = (
        {block.content for block in blocks if block.path.startswith("tool")} for blocks in (previous, current)
    )
    for old, new in zip(previous, current, strict=False):
        if old.content != new.content:
            if new.path.startswith("tool") and previous_tools == current_tools:
                return "toolConfig.tools: the same tools come in another order", True
            return new.path, old.path == new.path and old.template == new.template
    return (None if len(current) <= len(previous) else current[len(previous)].path), False
