"""Estimate the probability that a prefix returns, from how many like it did.

Prefixes are counted by `Category`: what ends the prefix, and what is known of it. For each category a `Tally` counts
how many were seen, how many returned within five minutes, and how many later within the hour. The estimate is the mean
of a beta distribution: a prior for the category, worth two or three observations, updated first with the counts of all
applications, then with those of the application itself (the same tools and system prompt).

Three rules keep the counts from misleading the planner:

- *Pending prefixes.* For the 5m TTL, count a prefix as a miss until it returns: waiting five minutes before learning
  from a miss would cost too much. For the 1h TTL, count a pending prefix as 0.25 of a miss until it is overdue: waiting
  is what the hour is for.
- *Leaders.* The unseen prefixes of one request return together or not at all. Only the shortest (the leader) is counted
  as an observation, whatever ends it; the longer ones are counted only once it has returned, so that one long one-off
  prompt is one miss and not five.
- *Forgetting.* Beyond 100 observations the counts are halved, so that a change of habits shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bedrock_routing_integrations.bounded_cache import BoundedCache

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bedrock_routing_integrations.models.facts import CacheRules

    from .candidates import CachePointCandidate, Prefix, PrefixBoundary
    from .planner import Evaluation
    from .prefix_store import PrefixRecord

TTL_5M = 300.0
"""Seconds that a cache entry of ttl ``5m`` lasts from its last use."""
TTL_1H = 3600.0
"""Seconds that a cache entry of ttl ``1h`` lasts from its last use."""


class Category(NamedTuple):
    """The kind of prefixes whose reuse is counted together.

    Attributes:
        kind: Where the prefix ends. ``"tools"``, ``"system"``: at the end of that section. In messages ``"end"``: at
            the end of the request; ``"before_end"``: as near to it as a cache point may stand; ``"first_block"``: after
            the first block of the last message; ``"before_last_block"``: before its last block;
            ``"before_last_message"``: before that message; ``"earlier_end"``: where an earlier request ended;
            ``"divergence"``: elsewhere, where requests diverge.
        state: What is known of the prefix. ``"new"``: neither it nor a shorter one in the messages was seen;
            ``"resumed"``: likewise, though the conversation already has answers; ``"continuing"``: it was not seen, but
            it continues an earlier request; ``"branching"``: it was not seen, but it begins like an earlier request;
            ``"other_model"``: another model of the router has seen it; ``"known"``: the model has seen it.
        long_gap: Whether the last gap (of the prefix, or of the conversation that it continues) was longer than five
            minutes.
        returned_before: Whether the prefix has returned before.
    """

    kind: str
    state: str
    long_gap: bool = False
    returned_before: bool = False


# (state, long gap) → the shares expected to return within five minutes, and later within the hour; and the number of
# observations that these are worth. Without evidence a prefix is as likely to return as not: if none does, three are
# written in vain before the estimate no longer pays for a write.
_PRIORS = {
    ("new", False): (0.50, 0.05, 2.0),
    ("resumed", False): (0.50, 0.05, 2.0),
    ("branching", False): (0.50, 0.05, 2.0),
    ("branching", True): (0.15, 0.40, 2.0),
    ("other_model", False): (0.60, 0.05, 2.0),
    ("other_model", True): (0.15, 0.45, 2.0),
    ("continuing", False): (0.75, 0.02, 3.0),
    ("continuing", True): (0.15, 0.60, 3.0),
    ("known", False): (0.75, 0.02, 2.0),
    ("known", True): (0.15, 0.60, 2.0),
}
# Added for kinds whose prefixes are short: a prefix returns at least as often as a longer one that begins with it.
_SHORTER_PREFIX_BONUS = {"tools": 0.03, "system": 0.025, "earlier_end": 0.015, "divergence": 0.015}
_RETURNED_BEFORE_BONUS = 0.1
_MAX_PROBABILITY = 0.97
_EXPECTED_1H = 0.35  # prior of a return within the hour if the user asks for 1-hour entries

UNSEEN = frozenset(["new", "resumed", "branching", "continuing"])
"""States of prefixes that were not seen. Of several in the messages of one request the shortest is the leader."""
WITHOUT_EVIDENCE = UNSEEN - {"continuing"}
"""States of prefixes with no evidence of their own, only the category's history."""
LEADER = "leader"
"""`Category.kind` under which leaders are counted, whatever ends them."""
_COUNTERPART = {"new": "resumed", "resumed": "new"}

# Prior probability that a longer unseen prefix returns, given that its leader does; and what that is worth.
_FOLLOWS = {
    "first_block": 0.97, "before_last_message": 0.97, "before_last_block": 0.96, "before_end": 0.96, "end": 0.95,
    "divergence": 0.96, "earlier_end": 0.96,
}  # fmt: skip
_FOLLOWS_OBSERVATIONS = 2.0

_MAX_OBSERVED = 100.0
_PENDING_MISS = 0.25
_MAX_TALLIES = 256  # by category and application


class Tally:
    """How many prefixes were seen, and how many of them returned within five minutes, and later within the hour."""

    __slots__ = ("observed", "pending", "returned_1h", "returned_5m")

    def __init__(self) -> None:
        self.observed = self.returned_5m = self.returned_1h = self.pending = 0.0

    def add_observation(self) -> None:
        """Count a prefix that may return."""
        self.observed += 1.0
        self.pending += 1.0
        if self.observed > _MAX_OBSERVED:
            self.observed /= 2
            self.returned_5m /= 2
            self.returned_1h /= 2

    def settle(self) -> None:
        """Count one prefix less as pending: it returned or is overdue."""
        self.pending = max(0.0, self.pending - 1.0)

    def add_return(self, gap: float) -> None:
        """Count a prefix that returned after `gap` seconds."""
        if gap <= TTL_5M:
            self.returned_5m = min(self.returned_5m + 1.0, self.observed)
        elif gap <= TTL_1H:
            self.returned_1h = min(self.returned_1h + 1.0, self.observed)

    def without(self, other: Tally | None) -> Tally:
        """Return the counts that are not in another tally."""
        if other is None:
            return self
        rest = Tally()
        rest.observed = max(0.0, self.observed - other.observed)
        rest.returned_5m = max(0.0, self.returned_5m - other.returned_5m)
        rest.returned_1h = max(0.0, self.returned_1h - other.returned_1h)
        rest.pending = max(0.0, self.pending - other.pending)
        return rest

    def posterior(self, within_5m: float, later: float, observations: float) -> tuple[float, float]:
        """Return the prior updated with the counts.

        Args:
            within_5m: Prior probability of a return within five minutes.
            later: Prior probability of a return later within the hour.
            observations: The number of observations that the prior is worth.
        """
        pending = min(self.pending, self.observed)
        observed_1h = max(self.returned_1h, self.observed - (1.0 - _PENDING_MISS) * pending)
        within_5m = (observations * within_5m + self.returned_5m) / (observations + self.observed)
        return within_5m, min(1.0 - within_5m, (observations * later + self.returned_1h) / (observations + observed_1h))


Tallies = tuple[Tally, Tally]
"""The tally of a category for all applications, and for one."""


class ReuseStatistics:
    """The tallies of one target, by category, and by category and application."""

    __slots__ = ("_by_application", "_by_category")

    def __init__(self) -> None:
        self._by_category: dict[Category, Tally] = {}
        self._by_application: BoundedCache[tuple[Category, int], Tally] = BoundedCache(_MAX_TALLIES)

    def tallies(self, category: Category, application: int) -> Tallies:
        """Return the tallies in which to count a prefix, creating them if needed.

        Args:
            category: The category of the prefix.
            application: `Prefix.application`.
        """
        of_all = self._by_category.get(category) or self._by_category.setdefault(category, Tally())
        key = (category, application)
        of_application = self._by_application.get(key) or Tally()
        self._by_application.put(key, of_application)  # now the most recently used
        return of_all, of_application

    def return_probabilities(
        self, category: Category, application: int, stay_probability: float, *, expects_1h: bool = False
    ) -> tuple[float, float]:
        """Return the probabilities that a prefix returns to its model within five minutes, and later within the hour.

        Args:
            category: The category of the prefix.
            application: `Prefix.application`.
            stay_probability: Probability that the next request of a conversation goes to the same model; 1 for a
                target with one model.
            expects_1h: Whether the user asks for 1-hour entries, and so expects reuse within the hour.
        """
        within_5m, later, observations = _PRIORS[category.state, category.long_gap]
        if expects_1h:
            later = max(later, min(_EXPECTED_1H, 1.0 - within_5m))
        within_5m, later = _to_same_model(within_5m, stay_probability), _to_same_model(later, stay_probability)
        counterpart = category._replace(state=_COUNTERPART.get(category.state, category.state))
        if counterpart != category and counterpart in self._by_category:
            # If prompts of the one state do not return, those of the other hardly will.
            within_5m = min(within_5m, self._posterior(counterpart, application, within_5m, later, observations)[0])
        bonus = _SHORTER_PREFIX_BONUS.get(category.kind, 0.0)
        bonus += _RETURNED_BEFORE_BONUS if category.returned_before else 0.0
        if category.long_gap:
            later = min(_MAX_PROBABILITY - within_5m, later + bonus)
        else:
            within_5m = min(_MAX_PROBABILITY, within_5m + bonus)
        return self._posterior(category, application, within_5m, min(later, 1.0 - within_5m), observations)

    def follow_probability(self, category: Category, application: int) -> float:
        """Return the probability that a longer unseen prefix returns, given that its leader does.

        Args:
            category: The category of the longer prefix.
            application: `Prefix.application`.
        """
        within_5m, later = self._posterior(category, application, _FOLLOWS[category.kind], 0.0, _FOLLOWS_OBSERVATIONS)
        return within_5m + later

    def _posterior(
        self, category: Category, application: int, within_5m: float, later: float, observations: float
    ) -> tuple[float, float]:
        """Update a prior with the counts of all other applications, then with those of this one."""
        of_all = self._by_category.get(category)
        of_application = self._by_application.get((category, application))
        if of_all is None:
            return within_5m, later
        if of_application is None or of_application.observed < of_all.observed:
            within_5m, later = of_all.without(of_application).posterior(within_5m, later, observations)
        if of_application is None:
            return within_5m, later
        return of_application.posterior(within_5m, later, observations)


def _to_same_model(probability: float, stay_probability: float) -> float:
    """Return the probability that a prefix returns to the same model at its first or a later return."""
    return probability * stay_probability / (1.0 - probability * (1.0 - stay_probability))


# --- Learn from an answer ---

_CERTAINLY_LONG_ENOUGH = 1.3  # times the minimum: such a prefix is cached, however wrong the estimate of its size
_REMEMBERED_MESSAGES = 4
_REMEMBERED_BOUNDARIES = 8  # of the first message, and of the last two


def saved_tokens(usage: Mapping[str, Any], rules: CacheRules) -> float:
    """Return what caching saved in one answered request, in plain input tokens; negative if it cost more.

    Args:
        usage: The ``usage`` member of the response.
        rules: The cache rules of the model, with its prices.
    """
    details = usage.get("cacheDetails") or ()
    written_1h = sum(detail.get("inputTokens") or 0 for detail in details if detail.get("ttl") == "1h")
    prices = dict(rules.write_multipliers)
    written_5m = (usage.get("cacheWriteInputTokens") or 0) - written_1h
    premium = written_5m * (prices["5m"] - 1.0) + written_1h * (prices.get("1h", prices["5m"]) - 1.0)
    return float((usage.get("cacheReadInputTokens") or 0) * (1.0 - rules.read_multiplier) - premium)


def learn_from_answer(
    evaluation: Evaluation, prefix: Prefix, sent_at: float, model: str, usage: Mapping[str, Any]
) -> None:
    """Update the state of a target with the answer to one request.

    Args:
        evaluation: What was known and decided when the request was planned.
        prefix: The request.
        sent_at: When it was planned, in seconds.
        model: The model that answered: a base model, or the id in the router's trace.
        usage: The ``usage`` member of the response; without its cache members it does not show what is cached.
    """
    _AnswerUpdate(evaluation, prefix, sent_at, model, usage).apply()


class _AnswerUpdate:
    """One call of `learn_from_answer`."""

    def __init__(
        self, evaluation: Evaluation, prefix: Prefix, sent_at: float, model: str, usage: Mapping[str, Any]
    ) -> None:
        self._evaluation, self._prefix, self._sent_at, self._model = evaluation, prefix, sent_at, model
        self._state = evaluation.state
        self._read, self._written = usage.get("cacheReadInputTokens"), usage.get("cacheWriteInputTokens")
        self._model_index = evaluation.models.index(model) if model in evaluation.models else None
        self._expected_read = evaluation.expected_reads[self._model_index] if self._model_index is not None else 0.0

    def apply(self) -> None:
        self._check_expected_read()
        self._diagnose()
        records = self._record_prefixes()
        leader: PrefixRecord | None = None
        for candidate in self._evaluation.candidates:
            record = records.get(candidate.boundary_index)
            if record is None:
                continue
            if self._model_index is not None:
                leader = self._expect_return(record, candidate, candidate.categories[self._model_index], leader)
            kind = candidate.categories[0].kind
            record.ended_request = record.ended_request or kind == "end"
            record.is_divergence = record.is_divergence or (kind == "divergence" and not record.ended_request)
        self._record_cache_entries(records)

    def _find(self, boundary: PrefixBoundary) -> PrefixRecord | None:
        return self._state.find(self._model, boundary.digest, self._sent_at)

    def _check_expected_read(self) -> None:
        """Count whether an expected read happened; if not, the longer entries are gone."""
        if not self._expected_read or self._read is None:
            return
        happened = self._read >= self._expected_read / 2
        self._state.record_expected_read(happened=happened)
        if happened:
            return
        for candidate in self._evaluation.candidates:
            record = self._find(candidate.boundary)
            if record is not None and candidate.tokens > self._read * 1.1:
                record.cached_until = 0.0

    def _diagnose(self) -> None:
        evaluation, diagnosis = self._evaluation, self._state.diagnosis
        rules = evaluation.rules
        chosen = evaluation.chosen_candidates
        if chosen and self._read is not None:
            # Neither read nor written, though certainly long enough: the cache points did not reach the model.
            longest = max(candidate.tokens for candidate in chosen)
            lost = not self._written and longest > _CERTAINLY_LONG_ENOUGH * rules.min_tokens
            diagnosis.check_read(expected=self._expected_read > 0 or lost, tokens=self._read)
            users = any(candidate.is_users for candidate in chosen)
            diagnosis.check_user_points(has_user_points=users, read=self._read, written=self._written or 0)
        diagnosis.check_tools(
            self._prefix,
            cached_tokens=(self._read or 0) + (self._written or 0),
            read_price=rules.read_multiplier,
            write_price=rules.write_multiplier(rules.ttls[0]),
        )
        candidates = evaluation.candidates
        before_messages = [candidate for candidate in candidates if candidate.boundary.section != "messages"]
        if before_messages:
            last = before_messages[-1]
            is_seen, is_long_enough = max(last.last_seen) > float("-inf"), last.tokens >= rules.min_tokens
            if is_long_enough or candidates[-1].tokens >= rules.min_tokens:  # by itself, or with the messages
                diagnosis.check_changes(self._prefix, is_seen=is_seen, is_long_enough=is_long_enough)
            if not self._read and not self._written:  # else it is cached together with messages
                diagnosis.check_length(self._prefix.application, last.tokens, rules.min_tokens)

    def _record_prefixes(self) -> dict[int, PrefixRecord]:
        """Count returns, remember prefixes that may return, and forget those that the conversation has outgrown."""
        remembered = self._boundaries_to_remember()
        records: dict[int, PrefixRecord] = {}
        for index, boundary in enumerate(self._prefix.boundaries):
            record = self._find(boundary)
            if record is not None:
                record.record_return(self._sent_at)
                if index not in remembered and not record.is_divergence:
                    self._state.remove(self._model, boundary.digest)
                    continue
            elif index in remembered:
                record = self._state.add(self._model, boundary.digest, self._sent_at)
            else:
                continue
            records[index] = record
        return records

    def _boundaries_to_remember(self) -> set[int]:
        """Return where later requests may diverge: at candidates, and around the first message and the last ones."""
        boundaries = self._prefix.boundaries
        sections: dict[str, list[int]] = {"tools": [], "system": [], "messages": []}
        for index, boundary in enumerate(boundaries):
            sections[boundary.section].append(index)
        messages = sections["messages"]
        last = (boundaries[messages[-1]].message_index or 0) if messages else 0
        first_message = [index for index in messages if boundaries[index].message_index == 0]
        last_two = [index for index in messages if (boundaries[index].message_index or 0) >= last - 1]
        remembered = {candidate.boundary_index for candidate in self._evaluation.candidates}
        remembered.update(sections["tools"][-1:], sections["system"][-_REMEMBERED_BOUNDARIES:])
        remembered.update(first_message[:_REMEMBERED_BOUNDARIES], last_two[-_REMEMBERED_BOUNDARIES:])
        # The ends of the last few messages: a message that an application adds for one call only (a reminder, a list
        # of things to do) is missing in the next request.
        message_ends = {
            boundaries[index].message_index: index
            for index in messages
            if (boundaries[index].message_index or 0) >= last - _REMEMBERED_MESSAGES
        }
        remembered.update(message_ends.values())
        return remembered

    def _expect_return(
        self, record: PrefixRecord, candidate: CachePointCandidate, category: Category, leader: PrefixRecord | None
    ) -> PrefixRecord | None:
        """Count a prefix as an observation, or as a follower of the leader; return the leader."""
        statistics, application = self._state.statistics, self._prefix.application
        if candidate.boundary.section != "messages" or category.state not in UNSEEN:
            tallies = statistics.tallies(category, application)
            self._state.expect_return(record, tallies, self._overdue_after(category))
            return leader
        if leader is None:
            tallies = statistics.tallies(category._replace(kind=LEADER), application)
            self._state.expect_return(record, tallies, self._overdue_after(category))
            return record
        record.tallies, record.overdue = statistics.tallies(category, application), True  # counted with the leader
        leader.followers = (*leader.followers, record.tallies)
        return leader

    def _overdue_after(self, category: Category) -> float:
        """Return seconds after which a prefix is overdue: after a long gap, half as long again as that gap."""
        if not category.long_gap:
            return TTL_5M
        last_seen = max(moment for candidate in self._evaluation.candidates for moment in candidate.last_seen)
        return min(TTL_1H, 1.5 * max(self._sent_at - last_seen, TTL_5M))

    def _record_cache_entries(self, records: Mapping[int, PrefixRecord]) -> None:
        """Record which cache entries exist now, as far as the usage shows."""
        is_unknown = self._read is None and self._written is None
        if not is_unknown and not (self._read or self._written):
            return
        for candidate in self._evaluation.chosen_candidates:
            record = records.get(candidate.boundary_index)
            if record is None:
                continue
            seconds, is_cached = TTL_1H if candidate.ttl == "1h" else TTL_5M, record.cached_until > self._sent_at
            if self._read and not is_cached and candidate.tokens <= self._expected_read:
                continue  # nothing is written inside of what is read
            record.ttl_seconds = max(seconds, record.ttl_seconds) if is_cached else seconds
            record.cached_until = self._sent_at + record.ttl_seconds
        if not self._expected_read or not (self._read or is_unknown):
            return
        for candidate in self._evaluation.candidates:  # reading renews an entry
            record = records.get(candidate.boundary_index)
            if record is not None and record.cached_until > self._sent_at and candidate.tokens == self._expected_read:
                record.cached_until = self._sent_at + record.ttl_seconds
