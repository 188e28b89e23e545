"""Find the few positions in a request where a cache point can be worth its cost.

A request can have hundreds of content blocks, and a cache point could follow almost any of them. `read_prefix` lists
all these boundaries and identifies the prefix that ends at each. `find_candidates` keeps those where reuse is likely to
begin or end:

- the end of tools, of system, and of the request (a conversation continues from its end);
- just before the end of the request and just before its last message (the next request may differ there: another
  question about one document, or a message that the application adds for one call);
- the longest prefix that any model has seen, and the longest that each has in its cache (requests diverge there).

Where Bedrock accepts no cache point, the nearest boundary before it in the same section is a candidate, too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from .reuse_statistics import LEADER, TTL_5M, UNSEEN, WITHOUT_EVIDENCE, Category
from .rules import SECTIONS, block_lists, block_refusal, has_optimized_latency, section_refusal, ttl_of, unproven_block
from .sizes import measure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bedrock_routing_integrations.models.candidates import ResolvedTarget
    from bedrock_routing_integrations.models.facts import CacheRules

    from .policy import CachePolicy
    from .prefix_store import PrefixRecord, TargetState
    from .sizes import Calibration

# --- The prefix that Bedrock caches ---

# Of additionalModelRequestFields: fields that change how the prompt is rendered. Changing them invalidates the cache;
# sampling parameters do not (AWS user guide, prompt caching; names differ by model: thinking, reasoning_config …).
_RENDERED_FIELDS = ("think", "reason", "effort", "output", "beta", "tool")


@dataclass(eq=False)
class PrefixBoundary:
    """The end of one content block, where a cache point could stand, and the prefix before it.

    Attributes:
        section: ``"tools"``, ``"system"`` or ``"messages"``.
        message_index: The index of the message; None outside of messages.
        block_index: The index of the block in its list.
        depth: The number of blocks in the prefix.
        text_tokens: Estimated tokens of text in the prefix, before calibration.
        media_tokens: Estimated tokens of media in the prefix, before calibration.
        block: The last block of the prefix.
        identity: The bytes that identify that block.
        user_ttl: The ttl of the user's own cache point at this boundary; None if there is none.
        digest: Identifies the prefix; 0 until `Prefix.compute_digests`.
    """

    section: str
    message_index: int | None
    block_index: int
    depth: int
    text_tokens: float
    media_tokens: float
    block: Mapping[str, Any]
    identity: bytes
    user_ttl: str | None = None
    digest: int = 0


@dataclass(eq=False)
class Prefix:
    """A Converse request as Bedrock caches it: tools, then system, then messages.

    Attributes:
        boundaries: The end of every block, shortest prefix first.
        roles: The role of each message.
        settings: The request fields that change how the prompt is rendered, encoded.
        tool_choice: The request's toolChoice, encoded; empty for the default. It changes the messages only.
        application: A digest of tools and system, which requests of one application share.
    """

    boundaries: list[PrefixBoundary]
    roles: list[str]
    settings: bytes
    tool_choice: bytes
    application: int = 0

    @property
    def text_tokens(self) -> float:
        """Estimated tokens of text."""
        return self.boundaries[-1].text_tokens if self.boundaries else 0.0

    @property
    def media_tokens(self) -> float:
        """Estimated tokens of media."""
        return self.boundaries[-1].media_tokens if self.boundaries else 0.0

    def compute_digests(self) -> None:
        """Set the digest of every boundary. The most expensive step of a plan, and not needed by all plans."""
        running = sha256(self.settings)
        message_index: int | None = None
        in_messages = False
        for boundary in self.boundaries:
            if boundary.section == "messages":
                if not in_messages:
                    self.application = int.from_bytes(running.digest()[:8], "big")
                    in_messages = True
                    running.update(self.tool_choice)
                if boundary.message_index != message_index:
                    message_index = boundary.message_index
                    running.update(b"\x1e" + self.roles[message_index or 0].encode())
            # With the length, so that one text cannot have the digest of two blocks.
            kind = next(iter(boundary.block), "")
            running.update(f"{boundary.section}:{kind}:{len(boundary.identity)}:".encode())
            running.update(boundary.identity)
            boundary.digest = int.from_bytes(running.copy().digest()[:8], "big")


def read_prefix(request: Mapping[str, Any]) -> Prefix:
    """Return a Converse request as a prefix; cache points in it become `PrefixBoundary.user_ttl`."""
    boundaries: list[PrefixBoundary] = []
    text_tokens = media_tokens = 0.0
    for section, message_index, blocks in block_lists(request):
        for block_index, block in enumerate(blocks):
            if "cachePoint" in block:
                if block_index and boundaries:
                    boundaries[-1].user_ttl = ttl_of(block)
                continue
            _, identity, block_text, block_media = measure(block)
            text_tokens += block_text
            media_tokens += block_media
            depth = len(boundaries) + 1
            boundaries.append(
                PrefixBoundary(section, message_index, block_index, depth, text_tokens, media_tokens, block, identity)
            )
    fields = request.get("additionalModelRequestFields") or {}
    rendered = {name: value for name, value in fields.items() if any(word in name.lower() for word in _RENDERED_FIELDS)}
    latency = (request.get("performanceConfig") or {}).get("latency")
    settings = [rendered, request.get("outputConfig"), latency if latency != "standard" else None]
    tool_choice = (request.get("toolConfig") or {}).get("toolChoice")
    return Prefix(
        boundaries=boundaries,
        roles=[message.get("role", "") for message in request.get("messages") or ()],
        settings=json.dumps(settings, default=repr).encode(),
        tool_choice=json.dumps(tool_choice, default=repr).encode() if tool_choice not in (None, {"auto": {}}) else b"",
    )


# --- Where a cache point may be added ---


class PlacementCheck:
    """Decide for each boundary of one request whether a cache point may stand there.

    Args:
        request: The Converse request.
        resolved: The target.
        rules: The cache rules of its models.
        policy: The user's policy.
        refused_sections: Sections in which Bedrock refused a cache point lately.
        calibration: Corrects estimates of tokens.
    """

    def __init__(  # noqa: PLR0917 - each rule has its own source
        self,
        request: Mapping[str, Any],
        resolved: ResolvedTarget,
        rules: CacheRules,
        policy: CachePolicy,
        refused_sections: Sequence[str],
        calibration: Calibration,
    ) -> None:
        self._resolved, self._rules, self._calibration = resolved, rules, calibration
        optimized = has_optimized_latency(request)
        self._refusals: dict[int, str | None] = {}
        self._section_refusals: dict[str, str | None] = {}
        for section in SECTIONS:
            why = section_refusal(section, resolved, optimized=optimized)
            if why is None and section not in policy.sections:
                why = "the policy excludes this section"
            if why is None and section in refused_sections:
                why = "Bedrock refused a cachePoint there"
            self._section_refusals[section] = why

    def refusal(self, boundary: PrefixBoundary) -> str | None:
        """Return why no cache point may stand at a boundary; None if one may."""
        if boundary.depth not in self._refusals:
            self._refusals[boundary.depth] = self._find_refusal(boundary)
        return self._refusals[boundary.depth]

    def _find_refusal(self, boundary: PrefixBoundary) -> str | None:
        why = self._section_refusals[boundary.section] or block_refusal(boundary.block, self._resolved)
        why = why or unproven_block(boundary.block, self._resolved)
        if why is not None:
            return why
        tokens = self._calibration.tokens(boundary.text_tokens, boundary.media_tokens)
        lowest, highest = self._rules.min_tokens, self._rules.max_tokens
        if tokens * (1 + self._calibration.margin) < lowest:
            return f"about {tokens:,.0f} tokens, and nothing is cached below {lowest:,}"
        if highest is not None:
            upper_bound = self._calibration.upper_bound(boundary.text_tokens, boundary.media_tokens)
            if upper_bound > highest:
                return f"about {tokens:,.0f} tokens, and at most {highest:,} are cached"
        return None


# --- Candidates ---

# A shorter prefix returns slightly more often, so that a boundary where requests may diverge gets a cache point that
# costs nothing extra before its lack is noticed.
_SHORTER_RETURNS_MORE = 1.01
_MIN_DISTANCE = 24.0  # tokens between two candidates


@dataclass(eq=False)
class CachePointCandidate:
    """A boundary that may be worth a cache point. Lists have one value for each candidate model of the target.

    Attributes:
        boundary_index: The index of the boundary in the prefix.
        boundary: The boundary.
        tokens: Estimated tokens of the prefix.
        allowed: Whether a cache point may stand there. Boundaries where none may are tracked all the same.
        categories: What is known of the prefix.
        cached_ttl: The ttl (``"5m"``, ``"1h"``) of the cache entry that exists now; None if there is none.
        return_5m: Probability that the same model gets the prefix again within five minutes.
        return_1h: The same within an hour.
        last_seen: When the model last got the prefix; minus infinity for never.
        ended_request: Whether an earlier request ended there.
        is_users: Whether the user's own cache point stands there.
        in_flight: Whether a request in flight writes the prefix.
        ttl: The ttl of the cache point that stands there, or would.
    """

    boundary_index: int
    boundary: PrefixBoundary
    tokens: float
    allowed: bool
    categories: list[Category]
    cached_ttl: list[str | None]
    return_5m: list[float]
    return_1h: list[float]
    last_seen: list[float]
    ended_request: bool
    is_users: bool
    in_flight: bool
    ttl: str = "5m"

    @property
    def return_probability(self) -> float:
        """Probability that the prefix returns before the cache entry expires."""
        return max(self.return_5m if self.ttl == "5m" else self.return_1h)

    @property
    def is_speculative(self) -> bool:
        """Whether nothing but the history of its category suggests that the prefix returns."""
        return all(category.state in WITHOUT_EVIDENCE for category in self.categories)


def find_candidates(  # noqa: PLR0917 - a plan combines this many inputs
    prefix: Prefix,
    check: PlacementCheck,
    state: TargetState,
    models: tuple[str, ...],
    calibration: Calibration,
    now: float,
    *,
    expects_1h: bool,
) -> list[CachePointCandidate]:
    """Return the candidates of a request, shortest prefix first.

    Args:
        prefix: The request, with digests.
        check: Decides where a cache point may stand.
        state: The state of the target.
        models: The candidate models of the target.
        calibration: Corrects estimates of tokens.
        now: The time, in seconds.
        expects_1h: Whether the user asks for 1-hour entries, and so expects reuse within the hour.
    """
    seen = _SeenPrefixes(prefix, state, models, now)
    kinds = _candidate_kinds(prefix, check, seen)
    for index, boundary in enumerate(prefix.boundaries):
        if boundary.user_ttl is not None:
            kinds.setdefault(index, _divergence_kind(boundary))
    reliability = state.read_reliability
    estimates = _ReturnEstimates(state, prefix.application, len(models), expects_1h=expects_1h)
    candidates = []
    for index in sorted(kinds):
        boundary = prefix.boundaries[index]
        records = seen.records(index)
        categories = [seen.category(kinds[index], index, record, records) for record in records]
        returns = [estimates.next(model, category, boundary.section) for model, category in enumerate(categories)]
        candidates.append(
            CachePointCandidate(
                boundary_index=index,
                boundary=boundary,
                tokens=calibration.tokens(boundary.text_tokens, boundary.media_tokens),
                allowed=boundary.user_ttl is not None or check.refusal(boundary) is None,
                categories=categories,
                cached_ttl=[_cached_ttl(record, now) for record in records],
                return_5m=[within_5m * reliability for within_5m, _ in returns],
                return_1h=[(within_5m + later) * reliability for within_5m, later in returns],
                last_seen=[record.last_seen if record is not None else float("-inf") for record in records],
                ended_request=any(record is not None and record.ended_request for record in records),
                is_users=boundary.user_ttl is not None,
                in_flight=state.is_in_flight(boundary.digest, now),
                ttl=boundary.user_ttl or "5m",
            )
        )
    _make_monotone(candidates, len(models))
    _disallow_close_candidates(candidates)
    return candidates


def last_model(candidates: Sequence[CachePointCandidate]) -> int | None:
    """Return the index of the model that answered the conversation's last request; None if it is not known."""
    continued = [candidate.last_seen for candidate in candidates if candidate.ended_request]
    return continued[-1].index(max(continued[-1])) if continued else None


class _ReturnEstimates:
    """Estimate return probabilities of one request's candidates, shortest prefix first.

    The shortest unseen prefix of the messages (the leader) is estimated by itself; longer unseen ones follow it: they
    cannot return without it.
    """

    def __init__(self, state: TargetState, application: int, models: int, *, expects_1h: bool) -> None:
        self._statistics, self._application, self._expects_1h = state.statistics, application, expects_1h
        self._stay_probability = state.stay_probability if models > 1 else 1.0
        self._leader: list[tuple[float, float] | None] = [None] * models

    def next(self, model: int, category: Category, section: str) -> tuple[float, float]:
        """Return the probabilities of a return within five minutes, and later within the hour."""
        if section != "messages" or category.state not in UNSEEN:
            return self._estimate(category)
        leader = self._leader[model]
        if leader is None:
            leader = self._estimate(category._replace(kind=LEADER))
            self._leader[model] = leader
            return leader
        follows = self._statistics.follow_probability(category, self._application)
        return leader[0] * follows, leader[1] * follows

    def _estimate(self, category: Category) -> tuple[float, float]:
        return self._statistics.return_probabilities(
            category, self._application, self._stay_probability, expects_1h=self._expects_1h
        )


def _cached_ttl(record: PrefixRecord | None, now: float) -> str | None:
    if record is None or record.cached_until <= now:
        return None
    return "1h" if record.ttl_seconds > TTL_5M else "5m"


class _SeenPrefixes:
    """What the models of a target have seen of one request."""

    def __init__(self, prefix: Prefix, state: TargetState, models: tuple[str, ...], now: float) -> None:
        self._prefix, self._target_state, self._models, self._now = prefix, state, models, now
        boundaries = range(len(prefix.boundaries) - 1, -1, -1)
        self.longest = next((index for index in boundaries if any(self.records(index))), -1)
        """The index of the boundary that ends the longest prefix seen by any model; -1 for none."""
        self._unseen_state, self._unseen_long_gap = self._beyond_longest()

    def records(self, index: int) -> list[PrefixRecord | None]:
        """Return each model's record of the prefix that ends at a boundary."""
        digest = self._prefix.boundaries[index].digest
        return [self._target_state.find(model, digest, self._now) for model in self._models]

    def longest_cached(self) -> list[int]:
        """Return the index of the longest cached prefix of each model that has one."""
        indices = []
        for model in self._models:
            for index in range(self.longest, -1, -1):
                record = self._target_state.find(model, self._prefix.boundaries[index].digest, self._now)
                if record is not None and record.cached_until > self._now:
                    indices.append(index)
                    break
        return indices

    def _beyond_longest(self) -> tuple[str, bool]:
        """Return the state of prefixes longer than the longest seen, and whether the last gap was long."""
        if self.longest < 0 or self._prefix.boundaries[self.longest].section != "messages":
            return ("resumed" if "assistant" in self._prefix.roles else "new"), False
        records = [record for record in self.records(self.longest) if record is not None]
        state = "continuing" if any(record.ended_request for record in records) else "branching"
        return state, self._now - max(record.last_seen for record in records) > TTL_5M

    def category(
        self, kind: str, index: int, record: PrefixRecord | None, records: list[PrefixRecord | None]
    ) -> Category:
        """Return the category of a candidate for the model that has `record`; `records` are those of all models."""
        last_seen = [other.last_seen for other in records if other is not None]
        if not last_seen:
            if self._prefix.boundaries[index].section != "messages":
                return Category(kind, "new")
            return Category(kind, self._unseen_state, self._unseen_long_gap)
        # The gap since any model saw it: which one a router chose is chance.
        long_gap = self._now - max(last_seen) > TTL_5M
        if record is None:
            return Category(kind, "other_model", long_gap)
        kind = "earlier_end" if kind == "divergence" and record.ended_request else kind
        return Category(kind, "known", long_gap, record.uses > 1)


def _divergence_kind(boundary: PrefixBoundary) -> str:
    return "divergence" if boundary.section == "messages" else boundary.section


def _candidate_kinds(prefix: Prefix, check: PlacementCheck, seen: _SeenPrefixes) -> dict[int, str]:
    """Return index → `Category.kind` of the boundaries that are candidates."""
    boundaries = prefix.boundaries
    kinds: dict[int, str] = {}

    def add(index: int, kind: str) -> None:
        """Add a boundary, and if no cache point may stand there, the nearest allowed one before it in the section."""
        kinds.setdefault(index, kind)
        section = boundaries[index].section
        while index >= 0 and boundaries[index].section == section:
            if check.refusal(boundaries[index]) is None:
                kinds.setdefault(index, "before_end" if kind == "end" else kind)
                return
            index -= 1

    for index, kind in _unseen_kinds(boundaries, seen.longest):
        add(index, kind)
    for index in (seen.longest, *seen.longest_cached()):
        if index >= 0:
            add(index, _divergence_kind(boundaries[index]))
    section_ends = {boundary.section: index for index, boundary in enumerate(boundaries)}
    for section in ("tools", "system"):
        if section in section_ends:
            add(section_ends[section], section)
    return kinds


def _unseen_kinds(boundaries: list[PrefixBoundary], longest_seen: int) -> list[tuple[int, str]]:
    """Return the end of the request, and unseen boundaries at which the next request may diverge from it."""
    last = len(boundaries) - 1
    if last < 0 or boundaries[last].section != "messages":
        return []
    kinds = [(last, "end")]
    message_index = boundaries[last].message_index
    first = last
    while (
        first > 0
        and boundaries[first - 1].message_index == message_index
        and boundaries[first - 1].section == "messages"
    ):
        first -= 1
    if last - 1 >= first:
        kinds.append((last - 1, "before_last_block"))
        kinds.append((first, "first_block"))
    if first > 0 and boundaries[first - 1].section == "messages":
        kinds.append((first - 1, "before_last_message"))
    return [(index, kind) for index, kind in kinds if index > longest_seen or kind == "end"]


def _disallow_close_candidates(candidates: list[CachePointCandidate]) -> None:
    """Allow no cache point for a handful of tokens after another candidate: a request has only four."""
    previous_tokens = float("-inf")
    for candidate in candidates:
        if not candidate.allowed:
            continue
        is_close = candidate.tokens - previous_tokens < _MIN_DISTANCE
        if is_close and not candidate.is_users and not any(candidate.cached_ttl):
            candidate.allowed = False
        else:
            previous_tokens = candidate.tokens


def _make_monotone(candidates: list[CachePointCandidate], models: int) -> None:
    """Make a prefix at least slightly more likely to return than a longer one that begins with it."""
    for model in range(models):
        return_5m = return_1h = 0.0
        for candidate in reversed(candidates):
            return_5m = max(min(1.0, return_5m * _SHORTER_RETURNS_MORE), candidate.return_5m[model])
            return_1h = max(min(1.0, return_1h * _SHORTER_RETURNS_MORE), candidate.return_1h[model])
            candidate.return_5m[model], candidate.return_1h[model] = return_5m, return_1h
