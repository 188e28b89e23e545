"""Plan the cache points of requests, and learn from the answers.

`Planner` connects the parts of this package, whose docstring explains the idea. `PointSelection` holds the
optimization: which candidates get a cache point, and with which ttl.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.models.candidates import ResolvedTarget, from_base_models, resolve_by_id
from bedrock_routing_integrations.runtime import logger, warn_once
from bedrock_routing_integrations.targets import parse_target

from .candidates import PlacementCheck, find_candidates, last_model, read_prefix
from .explanation import USERS_POINT, PlannedPoint, explain, reason_placed
from .policy import policy_of
from .prefix_store import PrefixMemory
from .reuse_statistics import learn_from_answer, saved_tokens
from .rules import SECTIONS, block_lists, cache_point, max_points, repair_points, skip_reason, ttl_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

    from bedrock_routing_integrations.models.facts import CacheRules

    from .candidates import CachePointCandidate, Prefix
    from .explanation import CachePlan
    from .policy import CachePolicy
    from .prefix_store import TargetState
    from .savings_ledger import WriteBudget
    from .sizes import Calibration

# --- A planned request ---


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was known of a request's candidates, and which were chosen.

    Attributes:
        models: The candidate models of the target; lists in `candidates` have their order.
        rules: What the models allow, and their prices.
        state: The state of the target.
        check: Decides where cache points may stand.
        candidates: The candidates, shortest prefix first.
        chosen: The indices in `candidates` of those with a cache point, including the user's own.
        expected_reads: Tokens that each model was expected to read.
        expected_saving: Expected saving of the added cache points, in plain input tokens.
        speculative_cost: Cost of writes without evidence of reuse beyond plain input, in plain input tokens.
    """

    models: tuple[str, ...]
    rules: CacheRules
    state: TargetState
    check: PlacementCheck
    candidates: list[CachePointCandidate]
    chosen: list[int]
    expected_reads: list[float]
    expected_saving: float
    speculative_cost: float

    @property
    def chosen_candidates(self) -> list[CachePointCandidate]:
        """The candidates with a cache point."""
        return [self.candidates[number] for number in self.chosen]

    @property
    def chosen_digests(self) -> list[int]:
        """The digests of the prefixes before the cache points."""
        return [candidate.boundary.digest for candidate in self.chosen_candidates]


@dataclass(eq=False)
class PlannedRequest:
    """A request with its cache points, from planning until its answer.

    Attributes:
        request: The request to send.
        base_request: The same with the user's own cache points only.
        planned_at: When it was planned, in seconds.
        prefix: The request as a prefix; None if it is not a Converse request.
        points: All cache points of `request`, in the order of the prefix.
        skip_reason: Why no candidates were evaluated; None if some were.
        calibration: Corrects estimates of its tokens.
        evaluation: The evaluated candidates.
    """

    request: dict[str, Any]
    base_request: dict[str, Any]
    planned_at: float = 0.0
    prefix: Prefix | None = None
    points: tuple[PlannedPoint, ...] = ()
    skip_reason: str | None = None
    calibration: Calibration | None = None
    evaluation: Evaluation | None = None

    @property
    def has_added_points(self) -> bool:
        """Whether any cache points were added."""
        return any(not point.given for point in self.points)

    def add_points(self) -> None:
        """Put the chosen cache points into a new request; the content of its blocks is shared."""
        chosen = self.evaluation.chosen_candidates if self.evaluation is not None else []
        added = [candidate for candidate in chosen if not candidate.is_users]
        if not added:
            self.remove_added_points()
            return
        request = dict(self.base_request)
        config, messages = request.get("toolConfig"), list(request.get("messages") or ())
        for candidate in reversed(added):  # from the end, which leaves the indices of earlier blocks valid
            boundary, point = candidate.boundary, cache_point(candidate.ttl)
            index = boundary.block_index
            if boundary.section == "tools" and config is not None:
                config = {**config, "tools": _with_point(config["tools"], index, point)}
            elif boundary.section == "system":
                request["system"] = _with_point(request["system"], index, point)
            elif boundary.message_index is not None:
                message = messages[boundary.message_index]
                content = _with_point(message["content"], index, point)
                messages[boundary.message_index] = {**message, "content": content}
        request.update({"toolConfig": config} if config is not None else {})
        request.update({"messages": messages} if "messages" in request else {})
        self.request, self.points = request, tuple(_planned_points(chosen))

    def remove_added_points(self) -> None:
        """Keep only the user's own cache points."""
        evaluation = self.evaluation
        if evaluation is not None:
            users = [number for number in evaluation.chosen if evaluation.candidates[number].is_users]
            if len(users) < len(evaluation.chosen):  # without the added ones nothing is expected to be read
                self.evaluation = replace(
                    evaluation,
                    chosen=users,
                    expected_reads=[0.0] * len(evaluation.models),
                    expected_saving=0.0,
                    speculative_cost=0.0,
                )
        self.request = self.base_request
        self.points = tuple(_users_points(self.base_request))


def _users_points(request: Mapping[str, Any]) -> Iterator[PlannedPoint]:
    for section, message_index, blocks in block_lists(request):
        for position, block in enumerate(blocks):
            if "cachePoint" in block:
                yield PlannedPoint(section, message_index, position, ttl_of(block), USERS_POINT, given=True)


def _with_point(blocks: list[Any], index: int, point: dict[str, Any]) -> list[Any]:
    return [*blocks[: index + 1], point, *blocks[index + 1 :]]


def _planned_points(chosen: list[CachePointCandidate]) -> Iterator[PlannedPoint]:
    """Yield the cache points with their positions in the planned request."""
    added: dict[tuple[str, int | None], int] = {}
    for candidate in chosen:
        boundary = candidate.boundary
        block_list = (boundary.section, boundary.message_index)
        position = boundary.block_index + 1 + added.get(block_list, 0)
        if not candidate.is_users:
            added[block_list] = added.get(block_list, 0) + 1
        yield PlannedPoint(*block_list, position, candidate.ttl, reason_placed(candidate), candidate.is_users)


# --- Which candidates get a cache point ---

_CLEARLY_LATER = 0.25
LOOK_BACK = 16
"""Blocks before a cache point in which an entry is certainly found. AWS's guide: "about 20"."""
_NEGLIGIBLE = 1e-6


class Selection(NamedTuple):
    """Chosen candidates.

    Attributes:
        chosen: The indices of the candidates with a cache point, including the user's own.
        ttls: The ttl of each candidate.
        saving: Expected saving of the added cache points, in plain input tokens.
        speculative_cost: Cost beyond plain input of writes without evidence of reuse.
        unrecovered_cost: The same of all writes, weighted by the probability that they are not read.
    """

    chosen: list[int]
    ttls: list[str]
    saving: float
    speculative_cost: float
    unrecovered_cost: float

    @property
    def writes_1h(self) -> bool:
        """Whether 1-hour entries are requested."""
        return any(self.ttls[number] == "1h" for number in self.chosen)


class PointSelection:
    """Choose cache points for one request by expected saving.

    Starting from the user's own cache points, the candidate that saves most is added, until none saves anything or the
    maximum is reached. The saving counts this request (reads at the read price, writes at the write price) and the next
    one of its kind (the probability that it reads what is written now).

    Args:
        candidates: The candidates, shortest prefix first, including those with the user's own cache points.
        model_probabilities: How likely each model is to answer.
        rules: What the models allow, and their prices.
        fixed: Index → ttl of candidates that have a cache point in any case; by default the user's own.
    """

    def __init__(
        self,
        candidates: Sequence[CachePointCandidate],
        model_probabilities: Sequence[float],
        rules: CacheRules,
        fixed: Mapping[int, str] | None = None,
    ) -> None:
        self._candidates = candidates
        self._model_probabilities = model_probabilities
        self._rules = rules
        self._read_price = rules.read_multiplier
        self._write_prices = dict(rules.write_multipliers)
        if fixed is None:
            fixed = {number: candidate.ttl for number, candidate in enumerate(candidates) if candidate.is_users}
        self._fixed = fixed
        self._offers_1h = "1h" in rules.ttls
        self._models = range(len(model_probabilities))
        self._cached = [
            [number for number, candidate in enumerate(candidates) if candidate.cached_ttl[model]]
            for model in self._models
        ]

    def select(self, max_added: int, ttl: str, min_saving: float, budget: WriteBudget) -> Selection:
        """Return the best selection within the budget.

        Args:
            max_added: Maximum number of added cache points.
            ttl: ``"5m"``, ``"1h"``, or ``"auto"``.
            min_saving: Minimum expected saving of the added cache points, in plain input tokens.
            budget: What writes may cost.
        """
        selection = self._select_once(max_added, ttl, min_saving, budget)
        added = len(selection.chosen) - len(self._fixed)
        if added in {0, max_added}:
            return selection
        # The best selection with one set of ttls may leave something to be added with another ttl. Repeat until it does
        # not, so that planning a planned request changes nothing.
        fixed = {number: selection.ttls[number] for number in selection.chosen}
        extended = PointSelection(self._candidates, self._model_probabilities, self._rules, fixed).select(
            max_added - added, ttl, min_saving, budget
        )
        return extended._replace(
            saving=selection.saving + extended.saving,
            speculative_cost=selection.speculative_cost + extended.speculative_cost,
            unrecovered_cost=selection.unrecovered_cost + extended.unrecovered_cost,
        )

    def expected_reads(self, chosen: list[int]) -> list[float]:
        """Return the tokens that each model is expected to read, given the chosen candidates."""
        return [self._expected_read(model, chosen) for model in self._models]

    def _select_once(self, max_added: int, ttl: str, min_saving: float, budget: WriteBudget) -> Selection:
        allowed = [number for number, candidate in enumerate(self._candidates) if candidate.allowed]
        best = self._best(max_added, ttl, allowed)
        if best.speculative_cost > budget.speculative:
            allowed = [number for number in allowed if not self._candidates[number].is_speculative]
            best = self._best(max_added, ttl, allowed)
        if best.writes_1h and best.unrecovered_cost > budget.total_1h:
            best = self._best(max_added, "5m", allowed)
        if not best.writes_1h and best.unrecovered_cost > budget.total:
            best = self._best(max_added, "5m", [n for n in allowed if any(self._candidates[n].cached_ttl)])
        if best.saving < max(min_saving, 1.0):
            return Selection(sorted(self._fixed), self._valid_ttls(["5m"] * len(self._candidates)), 0.0, 0.0, 0.0)
        return best

    def _best(self, max_added: int, ttl: str, allowed: list[int]) -> Selection:
        """Return the selection that saves most over all sets of ttls; of equal ones the first."""
        first, *others = [self._add_greedily(max_added, ttls, allowed) for ttls in self._ttl_options(ttl)]
        best = max(others, key=lambda selection: selection.saving, default=first)
        return best if best.saving > first.saving else first

    def _ttl_options(self, ttl: str) -> list[list[str]]:
        """Return the sets of ttls to compare, each with one ttl per candidate."""
        count = len(self._candidates)
        if ttl == "1h" and self._offers_1h:
            return [self._valid_ttls(["1h"] * count)]
        # An entry that exists for an hour is renewed for an hour.
        last_1h = max((n for n, candidate in enumerate(self._candidates) if "1h" in candidate.cached_ttl), default=-1)
        if ttl == "5m" or not self._offers_1h:
            last_1h = -1
        short = self._valid_ttls(["1h" if number <= last_1h else "5m" for number in range(count)])
        if ttl != "auto" or not self._offers_1h or not any(map(self._may_need_1h, self._candidates)):
            return [short]
        mixed = ["5m" if candidate.boundary.section == "messages" else "1h" for candidate in self._candidates]
        return [short, self._valid_ttls(["1h"] * count), self._valid_ttls(mixed)]

    def _may_need_1h(self, candidate: CachePointCandidate) -> bool:
        """Return whether a 1-hour entry can be worth more than a 5-minute one.

        Not if nearly all returns come within five minutes: until an hour has passed, prefixes that return late and
        prefixes that never return look the same.
        """
        write_5m, write_1h, read = self._write_prices["5m"], self._write_prices["1h"], self._read_price
        return any(
            return_1h > (1.0 + _CLEARLY_LATER) * return_5m
            and return_1h * (write_1h - read) - (write_1h - 1)
            > max(0.0, return_5m * (write_5m - read) - (write_5m - 1))
            for return_5m, return_1h in zip(candidate.return_5m, candidate.return_1h, strict=True)
        )

    def _valid_ttls(self, ttls: list[str]) -> list[str]:
        """Return the ttls changed such that they never rise and the fixed ones are kept, as Bedrock requires."""
        last_1h = max((number for number, ttl in self._fixed.items() if ttl == "1h"), default=-1)
        first_5m = min((number for number, ttl in self._fixed.items() if ttl == "5m"), default=len(ttls))
        return ["1h" if n <= last_1h else "5m" if n >= first_5m else ttl for n, ttl in enumerate(ttls)]

    def _add_greedily(self, max_added: int, ttls: list[str], allowed: list[int]) -> Selection:
        """Add the candidate that saves most, again and again."""
        saving_of = self._saving_function(ttls)
        chosen = sorted(self._fixed)
        saving_of_fixed = best_saving = saving_of(chosen)
        while max_added > 0:
            options = [sorted([*chosen, number]) for number in allowed if number not in chosen]
            if not options:
                break
            savings = [saving_of(option) for option in options]
            saving = max(savings)
            if saving <= best_saving + _NEGLIGIBLE:
                break
            chosen, best_saving, max_added = options[savings.index(saving)], saving, max_added - 1
        return Selection(chosen, ttls, best_saving - saving_of_fixed, *self._costs(chosen, ttls))

    def _costs(self, chosen: list[int], ttls: list[str]) -> tuple[float, float]:
        """Return `Selection.speculative_cost` and `Selection.unrecovered_cost`."""
        speculative = unrecovered = 0.0
        for model in self._models:
            tokens_before = self._expected_read(model, chosen)
            for number in chosen:
                candidate = self._candidates[number]
                written = max(0.0, candidate.tokens - tokens_before)
                tokens_before += written
                if number in self._fixed:
                    continue
                premium = self._model_probabilities[model] * written * (self._write_prices[ttls[number]] - 1.0)
                returns = candidate.return_5m if ttls[number] == "5m" else candidate.return_1h
                speculative += premium if candidate.is_speculative else 0.0
                unrecovered += premium * (1.0 - returns[model])
        return speculative, unrecovered

    def _saving_function(self, ttls: list[str]) -> Callable[[list[int]], float]:
        """Return the function that gives the expected saving of chosen candidates, in plain input tokens."""
        candidates, read_price, write_prices = self._candidates, self._read_price, self._write_prices
        tokens = [candidate.tokens for candidate in candidates]
        premiums = [write_prices[ttl] - 1.0 for ttl in ttls]

        def later_saving(candidate: CachePointCandidate, model: int, ttl: str) -> float:
            returns = candidate.return_5m[model] if ttl == "5m" else candidate.return_1h[model]
            return returns * (write_prices[ttl] - read_price)

        # For each model, the later saving per token of an existing entry (with its own ttl) and of a new one.
        later_savings = []
        for model in self._models:
            cached_ttls = {number: candidates[number].cached_ttl[model] or "5m" for number in self._cached[model]}
            covering_ttls = [
                next((cached_ttls[n] for n in cached_ttls if n >= number), "5m") for number in range(len(candidates))
            ]
            of_existing = [later_saving(c, model, ttl) for c, ttl in zip(candidates, covering_ttls, strict=True)]
            of_new = [later_saving(c, model, ttl) for c, ttl in zip(candidates, ttls, strict=True)]
            later_savings.append((of_existing, of_new))
        # What a request in flight writes will exist in any case, also as the beginning of a longer prefix.
        tokens_in_flight = max((candidate.tokens for candidate in candidates if candidate.in_flight), default=0.0)

        def saving_of(chosen: list[int]) -> float:
            saving = 0.0
            for model in self._models if chosen else ():
                of_existing, of_new = later_savings[model]
                read = self._expected_read(model, chosen)
                saving_of_model, before = (1.0 - read_price) * read, 0.0
                for number in chosen:
                    existing = min(tokens[number], read) - min(before, read)
                    written = tokens[number] - before - existing
                    in_flight = max(0.0, min(tokens[number], tokens_in_flight) - max(before, read))
                    saving_of_model += (
                        existing * of_existing[number]
                        + (written - in_flight) * of_new[number]
                        - written * premiums[number]
                    )
                    before = tokens[number]
                saving += self._model_probabilities[model] * saving_of_model
            return saving

        return saving_of

    def _expected_read(self, model: int, chosen: list[int]) -> float:
        """Return the tokens that a model reads: of the longest cached prefix that a chosen cache point finds."""
        for number in reversed(self._cached[model]):
            depth = self._candidates[number].boundary.depth
            if any(point >= number and self._candidates[point].boundary.depth - depth <= LOOK_BACK for point in chosen):
                return self._candidates[number].tokens
        return 0.0


# --- The planner ---

# Messages of refusals of cache points (reported 2025-26): "cache point", "cachePoint", "cache_control", "prompt
# caching", "available to cache". The other words: the model's own API refused what Bedrock made of a cache point.
_CACHE_POINT_REFUSAL = re.compile(r"cach|extraneous key|extra inputs|field required|malformed input", re.IGNORECASE)
_REFUSAL_CODES = frozenset(["ValidationException", "AccessDeniedException"])
_TTL = re.compile(r"\bttl\b", re.IGNORECASE)
_SECTION_NAMES = {
    "tools": re.compile(r"\btool", re.IGNORECASE),
    "system": re.compile(r"\bsystem\b", re.IGNORECASE),
    "messages": re.compile(r"\bmessages?\b", re.IGNORECASE),
}
_CACHE_COUNTERS = ("cacheReadInputTokens", "cacheWriteInputTokens")
_PROMPT_COUNTERS = ("inputTokens", *_CACHE_COUNTERS)
_MIN_SHARE = 0.25  # of the minimum that is cached: a conversation that becomes long enough is learned from early


class Planner:
    """Plan the cache points of one client's requests, and learn from the answers. Thread-safe.

    For each request call `plan`, then `record_sent`, then `record_answer` or `record_failure`.

    Args:
        policy: The user's policy.
        memory: Where prefixes are remembered; None to remember none.
        clock: Returns seconds, never falling.
    """

    def __init__(self, policy: CachePolicy, memory: PrefixMemory | None, clock: Callable[[], float]) -> None:
        self._policy = policy
        # Refusals are remembered in any case.
        self._memory = memory if memory is not None else PrefixMemory(max_prefixes=1)
        self._learns = memory is not None
        self._clock = clock

    def reset(self) -> None:
        """Forget all requests in a forked process, where another thread may have held the lock."""
        self._memory.reset()

    def plan(self, request: Mapping[str, Any], resolved: ResolvedTarget, scope: Hashable) -> PlannedRequest:
        """Return the request with its cache points. Remembers nothing yet.

        Args:
            request: A Converse request; not changed.
            resolved: The target.
            scope: Identifies the target in the memory.
        """
        try:
            repaired = repair_points(request, resolved)
            why_none = "caching is off" if self._policy.max_points == 0 else skip_reason(repaired, resolved)
            planned = PlannedRequest(repaired, repaired, self._clock(), skip_reason=why_none)
            planned.remove_added_points()
            if why_none is None:
                planned.prefix = read_prefix(repaired)
        except Exception:  # noqa: BLE001 - boto3 explains best why this is not a Converse request
            logger.debug("No cachePoints were planned", exc_info=True)
            return PlannedRequest(dict(request), dict(request), skip_reason="this is not a valid Converse request")
        try:
            self._evaluate(planned, resolved, scope)
            planned.add_points()
        except Exception as error:  # noqa: BLE001 - a failure to plan must not fail the call
            logger.debug("Planning failed", exc_info=True)
            name = type(error).__name__
            warn_once(
                ("planning failed", name),
                f"cachePoints could not be planned ({name}); the request is sent without added ones.",
            )
            return PlannedRequest(
                repaired, repaired, planned.planned_at, points=planned.points, skip_reason="planning failed"
            )
        return planned

    def _evaluate(self, planned: PlannedRequest, resolved: ResolvedTarget, scope: Hashable) -> None:
        rules, prefix = resolved.facts.cache, planned.prefix
        if rules is None or prefix is None or not prefix.boundaries:
            return
        calibration = planned.calibration = self._calibration(resolved)
        tokens = calibration.tokens(prefix.text_tokens, prefix.media_tokens)
        if tokens * (1 + calibration.margin) < rules.min_tokens * _MIN_SHARE:
            planned.skip_reason = f"about {tokens:,.0f} tokens, and nothing is cached below {rules.min_tokens:,}"
            return
        prefix.compute_digests()
        models, policy, now = resolved.base_models, self._policy, planned.planned_at
        with self._memory.lock:
            state = self._memory.target_state(scope, str(resolved.target))
            state.settle_overdue(now)
            refused_sections = [section for section in SECTIONS if state.is_refused(section, now)]
            check = PlacementCheck(planned.request, resolved, rules, policy, refused_sections, calibration)
            ttl = "5m" if state.is_refused("1h", now) else policy.ttl
            expects_1h = ttl == "1h" and "1h" in rules.ttls
            candidates = find_candidates(prefix, check, state, models, calibration, now, expects_1h=expects_1h)
            model_probabilities = state.model_probabilities(models, last_model(candidates))
            budget = state.ledger.budget(tokens, rules.write_multiplier("1h" if expects_1h else "5m") - 1.0)
        selection = PointSelection(candidates, model_probabilities, rules)
        users_points = sum(boundary.user_ttl is not None for boundary in prefix.boundaries)
        max_added = min(policy.max_points, max_points(resolved)) - users_points
        selected = selection.select(max_added, ttl, policy.min_saving, budget)
        for candidate, candidate_ttl in zip(candidates, selected.ttls, strict=True):
            candidate.ttl = candidate.boundary.user_ttl or candidate_ttl
        planned.evaluation = Evaluation(
            models=models,
            rules=rules,
            state=state,
            check=check,
            candidates=candidates,
            chosen=selected.chosen,
            expected_reads=selection.expected_reads(selected.chosen),
            expected_saving=selected.saving,
            speculative_cost=selected.speculative_cost,
        )

    def record_sent(self, planned: PlannedRequest) -> None:
        """Record that a request is about to be sent."""
        evaluation = planned.evaluation
        if evaluation is not None and planned.has_added_points:
            with self._memory.lock:
                evaluation.state.ledger.reserve(id(planned), evaluation.speculative_cost, planned.planned_at)
                if len(evaluation.models) == 1:  # which model of a router will write is not known yet
                    evaluation.state.begin_writes(evaluation.chosen_digests, planned.planned_at)

    def record_failure(self, planned: PlannedRequest) -> None:
        """Record that a request will have no answer."""
        if planned.evaluation is not None:
            with self._memory.lock:
                _end_writes(planned, planned.evaluation)

    def record_answer(self, planned: PlannedRequest, model: str | None, usage: Mapping[str, Any] | None) -> None:
        """Learn from an answer.

        Args:
            planned: The request that was sent.
            model: The base model that answered, or the id in the router's trace; None if it is not known.
            usage: The ``usage`` member of the response.
        """
        try:
            self._learn(planned, model, usage or {})
        except Exception:  # noqa: BLE001 - a gateway's odd usage must not lose an answer that is paid for
            logger.debug("Nothing was learned from an answer", exc_info=True)
            self.record_failure(planned)

    def _learn(self, planned: PlannedRequest, model: str | None, usage: Mapping[str, Any]) -> None:
        prefix, evaluation = planned.prefix, planned.evaluation
        if prefix is None or planned.calibration is None:
            return
        if not self._learns:
            self.record_failure(planned)
            return
        counted = sum(usage.get(name) or 0 for name in _PROMPT_COUNTERS)
        with self._memory.lock:
            # If the cache counters are missing, cached tokens may be missing from the count.
            if not planned.points or any(usage.get(name) is not None for name in _CACHE_COUNTERS):
                planned.calibration.learn(prefix.text_tokens, prefix.media_tokens, counted)
            if evaluation is None:
                return
            _end_writes(planned, evaluation)
            state = evaluation.state
            state.ledger.record(counted, saved_tokens(usage, evaluation.rules))
            if model is None:
                if len(evaluation.models) > 1:
                    return
                model = evaluation.models[0]
            last = last_model(evaluation.candidates) if len(evaluation.models) > 1 else None
            state.record_model(model, stayed=None if last is None else evaluation.models[last] == model)
            learn_from_answer(evaluation, prefix, planned.planned_at, model, usage)

    # --- Token counts ---

    def record_token_count(self, planned: PlannedRequest, scope: Hashable, usage: Mapping[str, Any]) -> None:
        """Remember how many tokens Bedrock counted in a prompt.

        Args:
            planned: The request that was sent.
            scope: Identifies the target in the memory.
            usage: The ``usage`` member of the response.
        """
        try:
            output = usage.get("outputTokens") or 0
            # The total includes cached tokens even if a gateway leaves out the cache counters.
            input_of_total = (usage.get("totalTokens") or 0) - output
            counted = max(input_of_total, sum(usage.get(name) or 0 for name in _PROMPT_COUNTERS))
            self._memory.token_counts.learn(scope, planned.base_request, counted, output)
        except Exception:  # noqa: BLE001 - a gateway's odd usage must not lose an answer
            logger.debug("The tokens of a prompt were not remembered", exc_info=True)

    def estimate_tokens(self, request: Mapping[str, Any], resolved: ResolvedTarget, scope: Hashable) -> int:
        """Return the estimated number of tokens that Bedrock will count in a prompt.

        Args:
            request: A Converse request.
            resolved: The target.
            scope: Identifies the target in the memory.
        """
        prefix = read_prefix(request)
        return self._memory.token_counts.estimate(scope, request, prefix, self._calibration(resolved))

    def _calibration(self, resolved: ResolvedTarget) -> Calibration:
        return self._memory.calibration(resolved.facts.family or resolved.facts.provider)

    # --- Refusals ---

    @staticmethod
    def may_refuse_added_points(planned: PlannedRequest, code: str, message: str) -> bool:
        """Return whether an error may refuse an added cache point, so that a request without them may succeed.

        Args:
            planned: The request that was sent.
            code: The error's code.
            message: The error's message.
        """
        return planned.has_added_points and code in _REFUSAL_CODES and _CACHE_POINT_REFUSAL.search(message) is not None

    def record_refusal(self, planned: PlannedRequest, code: str, message: str, scope: Hashable, target: str) -> None:
        """Remember, and warn once, that Bedrock refused the added cache points and accepted the request without them.

        Args:
            planned: The request that was refused.
            code: The error's code.
            message: The error's message.
            scope: Identifies the target in the memory.
            target: The target's name in the warning.
        """
        added = [point for point in planned.points if not point.given]
        sections = list(dict.fromkeys(point.section for point in added))
        named = [section for section in sections if _SECTION_NAMES[section].search(message)]
        refused = named if len(named) == 1 else sections
        if _TTL.search(message) and any(point.ttl == "1h" for point in added):
            refused = ["1h"]
        with self._memory.lock:
            for name in refused:
                self._memory.target_state(scope, target).record_refusal(name, planned.planned_at)
        warn_once(
            ("cachePoint refused", target, *refused),
            f"Bedrock refused a cachePoint that was added automatically ({', '.join(refused)}) for {target}: {code}. "
            "The request was sent again without, and for a day none is added there. cache='off' adds none at all.",
        )
        logger.debug("Refused for a cachePoint: %s", message)


def _end_writes(planned: PlannedRequest, evaluation: Evaluation) -> None:
    evaluation.state.ledger.release(id(planned))
    evaluation.state.end_writes(evaluation.chosen_digests)


# --- Plan one request without sending it ---


def plan_cache_points(
    request: Mapping[str, Any],
    *,
    cache: str | CachePolicy = "auto",
    base_models: Sequence[str] | None = None,
    client: Any = None,
) -> CachePlan:
    """Return the cache points that a Converse request would get, and why it gets none elsewhere. Sends nothing.

    Without `client` nothing is remembered or looked up: the plan is that of the first request ever sent.

    Args:
        request: A Converse request with ``modelId``; not changed.
        cache: ``"auto"``, ``"off"``, or a `CachePolicy`.
        base_models: The candidate models of the target, if its id does not name them.
        client: A `RoutedClient`, whose policy, memory and knowledge of the target are used instead of `cache` and
            `base_models`. It may look the target up.

    Raises:
        InvalidRequestError: `request` is not a valid Converse request.
        InvalidTargetError: ``modelId`` is not a valid target.

    Example:
        ```python
        from bedrock_routing_integrations import plan_cache_points

        plan = plan_cache_points(
            {
                "modelId": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
                "system": [{"text": "You answer questions about bees. " * 400}],
                "messages": [{"role": "user", "content": [{"text": "How many are there?"}]}],
            }
        )
        [point.section for point in plan.points]  # ["system"]
        ```
    """
    if not isinstance(request, dict) or "modelId" not in request:
        raise InvalidRequestError("plan_cache_points needs a Converse request: a dict with modelId, messages …")
    if client is not None:
        if not hasattr(client, "plan_cache_points"):
            raise InvalidRequestError(
                f"client=<{type(client).__name__}> is not valid: it is not a RoutedClient. A ChatBedrockRouter has one "
                "in `client`."
            )
        if cache != "auto" or base_models is not None:
            raise InvalidRequestError("With client=…, cache and base_models are those of the client: leave them out.")
        plan: CachePlan = client.plan_cache_points(**request)
        return plan
    target = parse_target(request["modelId"])
    resolved = (
        from_base_models(target, base_models)
        if base_models
        else resolve_by_id(target) or ResolvedTarget(target, complete=False)
    )
    policy = policy_of(cache)
    memory = policy.memory if isinstance(policy.memory, PrefixMemory) else PrefixMemory(max_prefixes=2)
    return explain(Planner(policy, memory, time.monotonic).plan(request, resolved, target.model_id))
