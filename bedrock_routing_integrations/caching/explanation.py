"""`plan_cache_points`: what would be placed in a request and what not, and why, without sending it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.models.candidates import ResolvedTarget, from_base_models, resolve_by_id
from bedrock_routing_integrations.targets import parse_target

from .candidates import read_prefix
from .planner import PlannedPoint, Planner
from .policy import policy_of
from .prefix_store import PrefixMemory
from .rules import copy_lists

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .candidates import Candidate
    from .planner import Draft
    from .policy import CachePolicy

shared_memory = PrefixMemory()
"""What ``memory="shared"`` means."""


@dataclass(frozen=True)
class CachePlan:
    """The plan for one request.

    Attributes:
        request: The request with its points; new, but what is in its content blocks is shared with the one given.
        points: Every point in it, in the order of the prefix; the caller's own too.
        not_placed: Places that were considered and got none; `position` is where it would be in `request`.
        tokens: What the whole prompt has, estimated.
        saving: What our points are expected to save, in plain input tokens, in this request and the next of its kind.
        why_none: Why nothing at all was weighed; None where something was.
    """

    request: dict[str, Any]
    points: tuple[PlannedPoint, ...]
    not_placed: tuple[PlannedPoint, ...]
    tokens: int
    saving: int
    why_none: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON-safe, without the request."""
        return {
            "points": [point.as_dict() for point in self.points],
            "not_placed": [point.as_dict() for point in self.not_placed],
            "tokens": self.tokens,
            "saving": self.saving,
            "why_none": self.why_none,
        }


def plan_cache_points(
    request: Mapping[str, Any],
    *,
    cache: str | CachePolicy = "auto",
    base_models: Sequence[str] | None = None,
    client: Any = None,
) -> CachePlan:
    """Say which cachePoints a Converse request would get, and where it gets none, and why. Sends nothing.

    Without `client` nothing is remembered and nothing looked up: the plan is the one for the first request ever seen.

    Args:
        request: A Converse request with ``modelId``; not changed.
        cache: ``"auto"``, ``"off"``, or a `CachePolicy`.
        base_models: The base models that the target can use, where its id does not say it.
        client: A `RoutedClient`: its policy, its memory and what it knows of the target are used (it may look the
            target up) instead of `cache` and `base_models`.

    Raises:
        InvalidRequestError: `request` is no Converse request.
        InvalidTargetError: ``modelId`` is no target.

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
                f"client= must be a RoutedClient, and is a {type(client).__name__}. A ChatBedrockRouter has one in "
                "`client`."
            )
        if cache != "auto" or base_models is not None:
            raise InvalidRequestError("with client=, cache and base_models are those of that client: leave them out")
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


def explain(draft: Draft) -> CachePlan:
    """A draft, for people.

    Raises:
        InvalidRequestError: It was made of something that is no Converse request.
    """
    try:
        prefix = draft.prefix = draft.prefix or read_prefix(draft.without)
    except Exception:  # noqa: BLE001 - whatever it is made of
        members = ", ".join(map(str, draft.request))
        raise InvalidRequestError(f"This is no Converse request that boto3 would take; it has {members}.") from None
    calibration = draft.calibration
    tokens = calibration.tokens(prefix.words, prefix.media) if calibration else prefix.words + prefix.media
    saving = draft.weighing.saving if draft.weighing is not None else 0.0
    not_placed = tuple(_not_placed(draft))
    return CachePlan(copy_lists(draft.request), draft.points, not_placed, round(tokens), round(saving), draft.why_none)


def _not_placed(draft: Draft) -> Iterator[PlannedPoint]:
    """The ends of the sections, the places in the last message, and the other candidates, as far as they got none."""
    places = draft.prefix.places if draft.prefix is not None else []
    weighed, chosen = _weighed(draft)
    candidates = {candidate.at: candidate for candidate in weighed}
    ends = {place.section: at for at, place in enumerate(places)}
    last = places[-1].message if places else None
    tail = [at for at, place in enumerate(places) if place.message == last and place.section == "messages"]
    for at in sorted({*ends.values(), *tail, *candidates}):
        place = places[at]
        if at in chosen or place.ttl is not None:
            continue
        before = [p for p in draft.points if (p.section, p.message) == (place.section, place.message)]
        position = place.index + 1
        for point in before:
            position += point.position <= position and not point.given
        candidate = candidates.get(at)
        ttl = candidate.ttl if candidate else "5m"
        yield PlannedPoint(place.section, place.message, position, ttl, _why_not(draft, at, candidate), given=False)


def _why_not(draft: Draft, at: int, candidate: Candidate | None) -> str:
    if draft.why_none is not None:
        return draft.why_none
    if draft.weighing is not None and draft.prefix is not None:
        why = draft.weighing.openings.why_not(draft.prefix.places[at])
        if why is not None:
            return why
    if candidate is None:
        return "no request is known to part from others there"
    if not candidate.open:
        return "hardly more tokens than the place before it"
    if candidate.flying:
        return "a request under way writes it"
    covered = max(_weighed(draft)[1], default=-1) > at
    what = "a later point covers it" if covered else "it is not expected to save enough"
    return f"{what}; expected to come back in time: {candidate.chance:.0%}"


def _weighed(draft: Draft) -> tuple[list[Candidate], set[int]]:
    """The candidates, and the places of those that have a point."""
    weighing = draft.weighing
    if weighing is None:
        return [], set()
    return weighing.candidates, {weighing.candidates[number].at for number in weighing.chosen}
