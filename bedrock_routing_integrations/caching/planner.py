"""The planner: a Converse request → the same with the cachePoints that are expected to save; and what came of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from bedrock_routing_integrations.runtime import logger, warn_once

from .candidates import Openings, find_candidates, last_model, read_prefix
from .prefix_store import PrefixMemory
from .reuse_statistics import Lesson, saved_tokens
from .rules import SECTIONS, as_point, block_lists, most_points, repair_points, ttl_of, unplannable

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

    from bedrock_routing_integrations.models.candidates import ResolvedTarget
    from bedrock_routing_integrations.models.facts import CacheRules

    from .candidates import Candidate, Prefix
    from .policy import CachePolicy
    from .prefix_store import Shelf
    from .savings_ledger import Budget
    from .sizes import Calibration


# --- What a plan is, from when it is made until the answer is there. ---

_GIVEN = "the caller's own"
_KNOWN = {
    "first": "new",
    "resumed": "new",
    "continuing": "the continuation of an earlier request",
    "branching": "new behind a beginning that is known",
    "sibling": "known to another model of the router",
}


@dataclass(frozen=True)
class PlannedPoint:
    """A cachePoint of a request, or a place where one could be.

    Attributes:
        section: ``"tools"``, ``"system"`` or ``"messages"``.
        message: The index of the message; None outside of messages.
        position: The index of the point in its list.
        ttl: ``"5m"`` or ``"1h"``.
        reason: Why it is there, or is not.
        given: Whether it is the caller's own.
    """

    section: str
    message: int | None
    position: int
    ttl: str
    reason: str
    given: bool

    def as_dict(self) -> dict[str, Any]:
        """JSON-safe; `message` only where there is one."""
        where = {} if self.message is None else {"message": self.message}
        return {"section": self.section, **where, "position": self.position, "ttl": self.ttl, "reason": self.reason}


@dataclass(frozen=True, eq=False)
class Weighing:
    """What was weighed, and with what result.

    Attributes:
        models: The base models that can answer; lists in `candidates` have their order.
        rules: What the models allow, and their prices.
        shelf: What was remembered of the target.
        openings: Where points can stand.
        candidates: The places that were weighed, shallowest first.
        chosen: The indices of those that have a point, the caller's too.
        hits: Tokens that each model was expected to read.
        saving: What our points were expected to save, in tokens.
        stake: What is paid for guesses, in tokens.
    """

    models: tuple[str, ...]
    rules: CacheRules
    shelf: Shelf
    openings: Openings
    candidates: list[Candidate]
    chosen: list[int]
    hits: list[float]
    saving: float
    stake: float

    @property
    def digests(self) -> list[int]:
        """The prefixes that the points end."""
        return [self.candidates[number].place.digest for number in self.chosen]


@dataclass(eq=False)
class Draft:
    """A plan for one request.

    Attributes:
        request: The request to send.
        without: The same with the caller's points only.
        at: When it was made.
        prefix: The request as a prefix; None where it is no Converse request.
        points: All points of `request`, in the order of the prefix.
        why_none: Why nothing was weighed; None where something was.
        calibration: How estimates of its tokens are off.
        weighing: What was weighed.
    """

    request: dict[str, Any]
    without: dict[str, Any]
    at: float = 0.0
    prefix: Prefix | None = None
    points: tuple[PlannedPoint, ...] = ()
    why_none: str | None = None
    calibration: Calibration | None = None
    weighing: Weighing | None = None

    @property
    def has_ours(self) -> bool:
        """Whether we placed any."""
        return any(not point.given for point in self.points)

    def put_points(self) -> None:
        """Put the chosen points into a new request; what is in the blocks is shared."""
        weighing = self.weighing
        chosen = [weighing.candidates[number] for number in weighing.chosen] if weighing is not None else []
        ours = [candidate for candidate in chosen if not candidate.given]
        if not ours:
            self.take_out_ours()
            return
        request = dict(self.without)
        config, messages = request.get("toolConfig"), list(request.get("messages") or ())
        for candidate in reversed(ours):  # from the back, so that the indices of those before stay right
            place, point = candidate.place, as_point(candidate.ttl)
            if place.section == "tools" and config is not None:
                config = {**config, "tools": _with_point(config["tools"], place.index, point)}
            elif place.section == "system":
                request["system"] = _with_point(request["system"], place.index, point)
            elif place.message is not None:
                message = messages[place.message]
                messages[place.message] = {**message, "content": _with_point(message["content"], place.index, point)}
        request.update({"toolConfig": config} if config is not None else {})
        request.update({"messages": messages} if "messages" in request else {})
        self.request, self.points = request, tuple(_described(chosen))

    def take_out_ours(self) -> None:
        """Leave the caller's points only."""
        weighing = self.weighing
        if weighing is not None:
            given = [number for number in weighing.chosen if weighing.candidates[number].given]
            if len(given) < len(weighing.chosen):  # nothing is read without them
                none = [0.0] * len(weighing.models)
                self.weighing = replace(weighing, chosen=given, hits=none, saving=0.0, stake=0.0)
        self.request = self.without
        self.points = tuple(_given(self.without))


def _given(request: Mapping[str, Any]) -> Iterator[PlannedPoint]:
    """The points that are in a request."""
    for section, message, blocks in block_lists(request):
        for position, block in enumerate(blocks):
            if "cachePoint" in block:
                yield PlannedPoint(section, message, position, ttl_of(block), _GIVEN, given=True)


def _with_point(blocks: list[Any], index: int, point: dict[str, Any]) -> list[Any]:
    return [*blocks[: index + 1], point, *blocks[index + 1 :]]


def _described(chosen: list[Candidate]) -> Iterator[PlannedPoint]:
    """The points of the planned request, in its own indices."""
    inserted: dict[tuple[str, int | None], int] = {}
    for candidate in chosen:
        place, given = candidate.place, candidate.given
        where = (place.section, place.message)
        position = place.index + 1 + inserted.get(where, 0)
        if not given:
            inserted[where] = inserted.get(where, 0) + 1
        reason = _GIVEN if given else _why_placed(candidate)
        yield PlannedPoint(place.section, place.message, position, candidate.ttl, reason, given)


def _why_placed(candidate: Candidate) -> str:
    state, tokens = candidate.categories[0].state, f"{candidate.tokens:,.0f} tokens"
    if any(candidate.live):
        return f"{tokens} that should be cached, and are read here"
    if state == "again":
        return f"{tokens} that came back; expected to do so again in time: {candidate.chance:.0%}"
    return f"{tokens}, {_KNOWN[state]}; expected to come back in time: {candidate.chance:.0%}"


# --- Which of the candidates get points ---

_CLEARLY_SLOW = 0.25
LOOK_BACK = 16
"""Blocks before a point in which an entry is surely found. The service looks back "about 20"."""


class Chosen(NamedTuple):
    """A choice.

    Attributes:
        points: The indices of the candidates that have points, the caller's too.
        ttls: The ttl of each candidate.
        saving: What our points are expected to save, in tokens.
        stake: What is paid, more than plain input costs, for writing what is only guessed to come back.
        outlay: What is paid so for everything, as far as it is not expected to come back.
    """

    points: list[int]
    ttls: list[str]
    saving: float
    stake: float
    outlay: float

    @property
    def has_hours(self) -> bool:
        """Whether an entry of an hour is asked for."""
        return any(self.ttls[number] == "1h" for number in self.points)


class Choice:
    """Points for one request.

    Args:
        candidates: Where points may stand, shallowest first; those of the caller are among them.
        shares: How likely each model is to answer.
        rules: What the models allow, and their prices.
        given: The points that are there in any case, and their ttl; the caller's where it is not said.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        shares: Sequence[float],
        rules: CacheRules,
        given: Mapping[int, str] | None = None,
    ) -> None:
        self._candidates = candidates
        self._shares = shares
        self._rules = rules
        self._read = rules.read_multiplier
        self._write = dict(rules.write_multipliers)
        if given is None:
            given = {number: candidate.ttl for number, candidate in enumerate(candidates) if candidate.given}
        self._given = given
        self._offers_hour = "1h" in rules.ttls
        self._models = range(len(shares))
        self._live = [
            [number for number, candidate in enumerate(candidates) if candidate.live[model]] for model in self._models
        ]

    def choose(self, room: int, ttl: str, min_saving: float, budget: Budget) -> Chosen:
        """The best choice.

        Args:
            room: How many points may be added to the caller's.
            ttl: ``"5m"``, ``"1h"``, or ``"auto"``.
            min_saving: Least saving that is wanted of ours, in tokens.
            budget: What may be paid for writing.
        """
        chosen = self._choose(room, ttl, min_saving, budget)
        more = len(chosen.points) - len(self._given)
        if more in {0, room}:
            return chosen
        # What was chosen as a whole can leave something to be added, of another lifetime: until nothing is, so that to
        # plan what was planned changes nothing.
        fixed = Choice(self._candidates, self._shares, self._rules, {n: chosen.ttls[n] for n in chosen.points})
        added = fixed.choose(room - more, ttl, min_saving, budget)
        return added._replace(
            saving=chosen.saving + added.saving,
            stake=chosen.stake + added.stake,
            outlay=chosen.outlay + added.outlay,
        )

    def _choose(self, room: int, ttl: str, min_saving: float, budget: Budget) -> Chosen:
        everywhere = [number for number, candidate in enumerate(self._candidates) if candidate.open]
        best = self._best(room, ttl, everywhere)
        if best.stake > budget.guesses:
            everywhere = [number for number in everywhere if not self._candidates[number].is_guess]
            best = self._best(room, ttl, everywhere)
        if best.has_hours and best.outlay > budget.outlay_of_hours:
            best = self._best(room, "5m", everywhere)
        if not best.has_hours and best.outlay > budget.outlay:
            best = self._best(room, "5m", [n for n in everywhere if any(self._candidates[n].live)])
        if best.saving < max(min_saving, 1.0):
            return Chosen(sorted(self._given), self._adapted(["5m"] * len(self._candidates)), 0.0, 0.0, 0.0)
        return best

    def _best(self, room: int, ttl: str, among: list[int]) -> Chosen:
        shortest, *longer = [self._fill(room, ttls, among) for ttls in self._lifetimes(ttl)]
        best = max(longer, key=lambda choice: choice.saving, default=shortest)
        return best if best.saving > shortest.saving else shortest

    def _lifetimes(self, ttl: str) -> list[list[str]]:
        """The lifetimes to try, one for each candidate."""
        count = len(self._candidates)
        if ttl == "1h" and self._offers_hour:
            return [self._adapted(["1h"] * count)]
        # What is there for an hour is renewed as such.
        hours = max((n for n, candidate in enumerate(self._candidates) if "1h" in candidate.live), default=-1)
        if ttl == "5m" or not self._offers_hour:
            hours = -1
        short = self._adapted(["1h" if number <= hours else "5m" for number in range(count)])
        if ttl != "auto" or not self._offers_hour or not any(map(self._is_slow, self._candidates)):
            return [short]
        mixed = ["5m" if candidate.place.section == "messages" else "1h" for candidate in self._candidates]
        return [short, self._adapted(["1h"] * count), self._adapted(mixed)]

    def _is_slow(self, candidate: Candidate) -> bool:
        """Whether an hour can be worth more than five minutes.

        Not where nearly all come back within five minutes: how many of those come late after all, and how many never
        again, cannot be told apart before an hour has passed.
        """
        short, long = self._write["5m"], self._write["1h"]
        return any(
            later > (1.0 + _CLEARLY_SLOW) * soon
            and later * (long - self._read) - (long - 1) > max(0.0, soon * (short - self._read) - (short - 1))
            for soon, later in zip(candidate.soon, candidate.later, strict=True)
        )

    def _adapted(self, ttls: list[str]) -> list[str]:
        """Lifetimes that never rise, with the caller's as they are."""
        hours = max((number for number, ttl in self._given.items() if ttl == "1h"), default=-1)
        shorts = min((number for number, ttl in self._given.items() if ttl == "5m"), default=len(ttls))
        return ["1h" if number <= hours else "5m" if number >= shorts else ttl for number, ttl in enumerate(ttls)]

    def _fill(self, room: int, ttls: list[str], among: list[int]) -> Chosen:
        """Add the candidate that saves most, again and again."""
        worth = self._worth(ttls)
        chosen = sorted(self._given)
        alone = best = worth(chosen)
        while room > 0:
            options = [sorted([*chosen, number]) for number in among if number not in chosen]
            if not options:
                break
            values = [worth(option) for option in options]
            value = max(values)
            if value <= best + 1e-6:
                break
            chosen, best, room = options[values.index(value)], value, room - 1
        return Chosen(chosen, ttls, best - alone, *self._paid(chosen, ttls))

    def _paid(self, chosen: list[int], ttls: list[str]) -> tuple[float, float]:
        """A choice's `stake` and `outlay`."""
        stake = outlay = 0.0
        for model in self._models:
            before = self._hit(model, chosen)
            for number in chosen:
                candidate = self._candidates[number]
                written = max(0.0, candidate.tokens - before)
                before += written
                if number in self._given:
                    continue
                premium = self._shares[model] * written * (self._write[ttls[number]] - 1.0)
                stake += premium if candidate.is_guess else 0.0
                outlay += premium * (1.0 - (candidate.soon if ttls[number] == "5m" else candidate.later)[model])
        return stake, outlay

    def _worth(self, ttls: list[str]) -> Callable[[list[int]], float]:
        """What points save: in this request, by what they read less what they write, and in the next one."""
        candidates, read, write = self._candidates, self._read, self._write
        tokens = [candidate.tokens for candidate in candidates]
        premiums = [write[ttl] - 1.0 for ttl in ttls]

        def gain(candidate: Candidate, model: int, ttl: str) -> float:
            chance = candidate.soon[model] if ttl == "5m" else candidate.later[model]
            return chance * (write[ttl] - read)

        # For each model: what a token gains if it is written, and if it is cached already, whatever is written now.
        gains = []
        for model in self._models:
            lasting = {number: candidates[number].live[model] or "5m" for number in self._live[model]}
            lasts = [next((lasting[n] for n in lasting if n >= at), "5m") for at in range(len(candidates))]
            kept = [gain(c, model, ttl) for c, ttl in zip(candidates, lasts, strict=True)]
            new = [gain(c, model, ttl) for c, ttl in zip(candidates, ttls, strict=True)]
            gains.append((kept, new))
        # What another request is writing just now will be there in any case, also where a longer prefix begins with it.
        soon_there = max((candidate.tokens for candidate in candidates if candidate.flying), default=0.0)

        def worth(chosen: list[int]) -> float:
            saved = 0.0
            for model in self._models if chosen else ():
                kept, new = gains[model]
                found = self._hit(model, chosen)
                value, before = (1.0 - read) * found, 0.0
                for number in chosen:
                    there = min(tokens[number], found) - min(before, found)
                    written = tokens[number] - before - there
                    flying = max(0.0, min(tokens[number], soon_there) - max(before, found))
                    value += there * kept[number] + (written - flying) * new[number] - written * premiums[number]
                    before = tokens[number]
                saved += self._shares[model] * value
            return saved

        return worth

    def _hit(self, model: int, chosen: list[int]) -> float:
        """Tokens that the model reads, given these points."""
        for number in reversed(self._live[model]):
            where = self._candidates[number].place.number
            if any(point >= number and self._candidates[point].place.number - where <= LOOK_BACK for point in chosen):
                return self._candidates[number].tokens
        return 0.0

    def hits(self, chosen: list[int]) -> list[float]:
        """Tokens that each model is expected to read, given these points."""
        return [self._hit(model, chosen) for model in self._models]


# What refusals of cachePoints said (reported 2025-26): "cache point", "cachePoint", "cache_control", "prompt caching",
# "available to cache"; and, where the model's own API refused what Bedrock made of one, only these.
_MAY_BE_A_POINT = re.compile(r"cach|extraneous key|extra inputs|field required|malformed input", re.IGNORECASE)
_REFUSALS = frozenset(["ValidationException", "AccessDeniedException"])
_TTL = re.compile(r"\bttl\b", re.IGNORECASE)
_NAMES = {
    "tools": re.compile(r"\btool", re.IGNORECASE),
    "system": re.compile(r"\bsystem\b", re.IGNORECASE),
    "messages": re.compile(r"\bmessages?\b", re.IGNORECASE),
}
_PROMPT_TOKENS = ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens")
_WATCHED = 0.25  # of the minimum: a conversation that will be long enough began shorter


class Planner:
    """Plans the points of one client's requests, and learns from the answers. Safe under threads.

    Args:
        policy: What may be done.
        memory: Where what was seen is remembered; None remembers nothing.
        clock: Seconds, only ever rising.
    """

    def __init__(self, policy: CachePolicy, memory: PrefixMemory | None, clock: Callable[[], float]) -> None:
        self._policy = policy
        # Refusals are remembered in any case.
        self._memory = memory if memory is not None else PrefixMemory(max_prefixes=1)
        self._learns = memory is not None
        self._clock = clock

    def plan(self, request: Mapping[str, Any], resolved: ResolvedTarget, scope: Hashable) -> Draft:
        """The plan for a request. Remembers nothing yet: see `sent` and `answered`.

        Args:
            request: A Converse request; not changed.
            resolved: The target.
            scope: What tells targets apart in the memory.
        """
        try:
            repaired = repair_points(request, resolved)
            why_none = "caching is off" if self._policy.max_points == 0 else unplannable(repaired, resolved)
            draft = Draft(repaired, repaired, self._clock(), why_none=why_none)
            draft.take_out_ours()
            if why_none is None:
                draft.prefix = read_prefix(repaired)
        except Exception:  # noqa: BLE001 - no Converse request: boto3 says best what is wrong
            logger.debug("No cachePoints were planned", exc_info=True)
            return Draft(dict(request), dict(request), why_none="this is no Converse request")
        try:
            self._weigh(draft, resolved, scope)
            draft.put_points()
        except Exception as error:  # noqa: BLE001 - nothing here may cost a call
            logger.debug("Planning failed", exc_info=True)
            what = type(error).__name__
            warn_once(
                ("planning failed", what), f"cachePoints could not be planned ({what}); the request has none of ours."
            )
            return Draft(repaired, repaired, draft.at, points=draft.points, why_none="planning failed")
        return draft

    def _weigh(self, draft: Draft, resolved: ResolvedTarget, scope: Hashable) -> None:
        rules, prefix = resolved.facts.cache, draft.prefix
        if rules is None or prefix is None or not prefix.places:
            return
        memory = self._memory
        calibration = draft.calibration = self._calibration(resolved)
        tokens = calibration.tokens(prefix.words, prefix.media)
        if tokens * (1 + calibration.margin) < rules.min_tokens * _WATCHED:
            draft.why_none = f"about {tokens:,.0f} tokens, and nothing is cached below {rules.min_tokens:,}"
            return
        prefix.identify()
        models, policy, now = resolved.base_models, self._policy, draft.at
        with memory.lock:
            shelf = memory.shelf(scope, str(resolved.target))
            shelf.give_up_overdue(now)
            refused = [name for name in SECTIONS if shelf.is_refused(name, now)]
            openings = Openings(draft.request, resolved, rules, policy, refused, calibration)
            ttl = "5m" if shelf.is_refused("1h", now) else policy.ttl
            patient = ttl == "1h" and "1h" in rules.ttls
            candidates = find_candidates(prefix, openings, shelf, models, calibration, now, patient=patient)
            shares = shelf.shares(models, last_model(candidates))
            budget = shelf.account.budget(tokens, rules.write_multiplier("1h" if patient else "5m") - 1.0)
        choice = Choice(candidates, shares, rules)
        given = sum(place.ttl is not None for place in prefix.places)
        room = min(policy.max_points, most_points(resolved)) - given
        chosen = choice.choose(room, ttl, policy.min_saving, budget)
        for candidate, lasts in zip(candidates, chosen.ttls, strict=True):
            candidate.ttl = candidate.place.ttl or lasts
        hits = choice.hits(chosen.points)
        draft.weighing = Weighing(
            models, rules, shelf, openings, candidates, chosen.points, hits, chosen.saving, chosen.stake
        )

    def sent(self, draft: Draft) -> None:
        """The request is on its way."""
        weighing, memory = draft.weighing, self._memory
        if weighing is not None and draft.has_ours:
            with memory.lock:
                weighing.shelf.account.stake(draft, weighing.stake, draft.at)
                if len(weighing.models) == 1:  # of a router nobody knows yet which model writes it
                    weighing.shelf.take_off(weighing.digests, draft.at)

    def failed(self, draft: Draft) -> None:
        """There will be no answer."""
        if draft.weighing is not None:
            with self._memory.lock:
                _land(draft, draft.weighing.shelf)

    def answered(self, draft: Draft, model: str | None, usage: Mapping[str, Any] | None) -> None:
        """Learn from an answer.

        Args:
            draft: What was sent.
            model: The base model that answered, or the id that the trace gave; None where it is not known.
            usage: The ``usage`` member of the answer.
        """
        try:
            self._learn(draft, model, usage or {})
        except Exception:  # noqa: BLE001 - an answer that is paid for is not lost for what a gateway wrote into its usage
            logger.debug("Nothing was learned from an answer", exc_info=True)
            self.failed(draft)

    def _learn(self, draft: Draft, model: str | None, usage: Mapping[str, Any]) -> None:
        prefix, memory, weighing = draft.prefix, self._memory, draft.weighing
        if prefix is None or draft.calibration is None:
            return
        if not self._learns:
            self.failed(draft)
            return
        counted = sum(usage.get(name) or 0 for name in _PROMPT_TOKENS)
        with memory.lock:
            # Without the cache's members the tokens that were cached may be missing.
            if not draft.points or any(usage.get(name) is not None for name in _PROMPT_TOKENS[1:]):
                draft.calibration.learn(prefix.words, prefix.media, counted)
            if weighing is None:
                return
            shelf = weighing.shelf
            _land(draft, shelf)
            shelf.account.pay(counted, saved_tokens(usage, weighing.rules))
            if model is None:
                if len(weighing.models) > 1:
                    return
                model = weighing.models[0]
            before = last_model(weighing.candidates) if len(weighing.models) > 1 else None
            shelf.answered(model, as_before=None if before is None else weighing.models[before] == model)
            Lesson(weighing, prefix, draft.at, model, usage).learn()

    # --- tokens ---

    def counted(self, draft: Draft, scope: Hashable, usage: Mapping[str, Any]) -> None:
        """Remember how many tokens Bedrock counted in a prompt.

        Args:
            draft: What was sent.
            scope: As in `plan`.
            usage: The ``usage`` member of the answer.
        """
        try:
            # The total has what was cached also where a gateway leaves out the members of the cache.
            total = (usage.get("totalTokens") or 0) - (usage.get("outputTokens") or 0)
            counted = max(total, sum(usage.get(name) or 0 for name in _PROMPT_TOKENS))
            self._memory.token_counts.learn(scope, draft.without, counted, usage.get("outputTokens") or 0)
        except Exception:  # noqa: BLE001 - an answer is not lost for what a gateway wrote into its usage
            logger.debug("The tokens of a prompt were not remembered", exc_info=True)

    def estimate_tokens(self, request: Mapping[str, Any], resolved: ResolvedTarget, scope: Hashable) -> int:
        """Return how many tokens Bedrock will probably count in a prompt.

        Args:
            request: A Converse request.
            resolved: The target.
            scope: As in `plan`.
        """
        prefix = read_prefix(request)
        return self._memory.token_counts.estimate(scope, request, prefix, self._calibration(resolved))

    def _calibration(self, resolved: ResolvedTarget) -> Calibration:
        return self._memory.calibration(resolved.facts.family or resolved.facts.provider)

    # --- refusals ---

    @staticmethod
    def may_be_ours(draft: Draft, code: str, message: str) -> bool:
        """Whether a refusal may be for a point that we placed, so that it is worth while to ask again without."""
        return draft.has_ours and code in _REFUSALS and _MAY_BE_A_POINT.search(message) is not None

    def refused(self, draft: Draft, code: str, message: str, scope: Hashable, target: str) -> None:
        """Bedrock refused our points, and took the request without: remember that, and warn once.

        Args:
            draft: What was sent first.
            code: The error's code.
            message: The error's message.
            scope: As in `plan`.
            target: The target, for the warning.
        """
        ours = [point for point in draft.points if not point.given]
        sections = list(dict.fromkeys(point.section for point in ours))
        named = [name for name in sections if _NAMES[name].search(message)]
        what = named if len(named) == 1 else sections
        if _TTL.search(message) and any(point.ttl == "1h" for point in ours):
            what = ["1h"]
        with self._memory.lock:
            for name in what:
                self._memory.shelf(scope, target).refuse(name, draft.at)
        warn_once(
            ("cachePoint refused", target, *what),
            f"Bedrock refused a cachePoint that was placed automatically ({', '.join(what)}) for {target}: {code}. The "
            "request was sent again without ours, and none is placed there for a day. cache='off' places none at all.",
        )
        logger.debug("Refused for a cachePoint: %s", message)


def _land(draft: Draft, shelf: Shelf) -> None:
    shelf.account.settle(draft)
    if draft.weighing is not None:
        shelf.land(draft.weighing.digests)
