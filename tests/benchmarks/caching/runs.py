"""Run one workload in one flavour with all contenders."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass

from bedrock_routing_integrations.models.families import common_facts
from bedrock_routing_integrations.requests.messages import fit_reasoning

from .contenders import RULES, Ruled, ours
from .oracle import Oracle, with_points
from .prompts import Reader
from .world import World

FIRST = 60
"""Requests at the beginning that are reported separately: learning must not wait for a ttl to pass."""
OURS, ORACLE, BOUND = "ours", "oracle", "bound"


@contextlib.contextmanager
def quiet():
    """Suppress the package's warnings, which simulated mistakes cause."""
    logger = logging.getLogger("bedrock_routing_integrations")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@dataclass(frozen=True)
class Costs:
    """Input cost as a ratio to no caching.

    Attributes:
        ratios: By contender; the oracle's is the least that any contender reached, ``"bound"`` is a lower bound.
        first: The ratios over the first 60 requests.
        uncached: Tokens without caching, weighted by model: the denominator of the ratios.
        uncached_first: The denominator of `first`.
    """

    ratios: dict[str, float]
    first: dict[str, float]
    uncached: float
    uncached_first: float


def combined(parts):
    """Return the `Costs` of several runs together."""
    whole, first = sum(part.uncached for part in parts), sum(part.uncached_first for part in parts)
    return Costs(
        {name: sum(part.ratios[name] * part.uncached for part in parts) / whole for name in parts[0].ratios},
        {name: sum(part.first[name] * part.uncached_first for part in parts) / first for name in parts[0].first},
        whole,
        first,
    )


def simulate(events, flavour, seed=0, reader=None):
    """Return the `Costs` of all contenders.

    Args:
        events: `Event`s, in order.
        flavour: A `Flavour`.
        seed: Seed of the router's choices.
        reader: A `Reader` that has read the workload before.
    """
    reader = reader or Reader()
    models = list(flavour.answering(events, seed))
    requests = [{"modelId": flavour.target, **_accepted(event.request, flavour)} for event in events]
    served = {}
    for name, rule in RULES.items():
        served[name] = _run(events, requests, models, flavour, reader, _ruled(rule, reader))
    if (mine := _run(events, requests, models, flavour, reader, ours)) is not None:
        served[OURS] = mine
    prompts = [reader.read(request) for request in requests]
    times = [event.at for event in events]
    plans = [Oracle(prompts, times, models, flavour.rules, ttls) for ttls in (("5m", "1h"), ("5m",), ("1h",))]
    for number, plan in enumerate(plans):
        placed = [with_points(request, plan.place(n)) for n, request in enumerate(requests)]
        served[ORACLE, number] = _run(events, placed, models, flavour, reader, lambda _, world: world)
    costs = {name: [each.cost for each in all_served] for name, all_served in served.items()}
    return _compared(costs, plans[0].bound())


def _accepted(request, flavour):
    """Return the request without reasoning that the models refuse: all contenders would have to remove it."""
    reasoning = common_facts(flavour.models).reasoning
    return {**request, "messages": list(fit_reasoning(request["messages"], reasoning))}


def _compared(costs, bound):
    plain = costs["none"]
    named = {name: cost for name, cost in costs.items() if isinstance(name, str)}
    whole, first = sum(plain), sum(plain[:FIRST])
    ratios = {name: sum(cost) / whole for name, cost in named.items()}
    ratios |= {ORACLE: min(map(sum, costs.values())) / whole, BOUND: bound / whole}
    return Costs(ratios, {name: sum(cost[:FIRST]) / first for name, cost in named.items()}, whole, first)


def _ruled(rule, reader):
    return lambda flavour, world: Ruled(rule, flavour, world, reader)


def _run(events, requests, models, flavour, reader, contender):
    """Return what was served; None if the contender is not available."""
    world = World(flavour.rules, reader)
    client = contender(flavour, world)
    if client is None:
        return None
    with quiet():
        for event, request, model in zip(events, requests, models, strict=True):
            world.now, world.answers = event.at, model
            client.converse(**request)
    return world.served
