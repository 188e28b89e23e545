"""The planner: a Converse request → the same with the cachePoints that are expected to save; and what came of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.logs import logger, warn_once

from .candidates import Openings, find_candidates, last_model
from .choosing import Choice
from .draft import Draft, Weighing
from .learning import Lesson, saved_tokens
from .memory import PrefixMemory
from .points import repair_points
from .prefix import read_prefix
from .rules import SECTIONS, most_points, unplannable

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from bedrock_routing_integrations.resolution import ResolvedTarget

    from .memory import Shelf
    from .policy import CachePolicy
    from .sizes import Calibration

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
