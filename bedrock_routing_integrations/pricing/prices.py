"""`Prices`: where prices come from, and what a call cost by them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.invocation import Usage
from bedrock_routing_integrations.targets import parse_target

from .names import STANDARD, Names, names_of, possible_names, served_mode
from .rates import Rates, checked_price, compiled
from .table import day_of, listed_rates, table_now, table_version

if TYPE_CHECKING:
    from datetime import datetime

    from bedrock_routing_integrations.invocation import Invocation
    from bedrock_routing_integrations.resolution import ResolvedTarget

_MOST_KNOWN = 4_096


class Prices:
    """Where prices come from: the user's own where they say something, else genai-prices' table.

    Args:
        own: What is priced (a model id, a profile's id, an ARN: the most specific one holds) → US dollars per million
            tokens, by genai-prices' names: ``input_mtok``, ``output_mtok``, and where they apply ``cache_read_mtok``,
            ``cache_write_mtok`` (or ``cache_write_5m_mtok`` and ``cache_write_1h_mtok``). Prices of what is served
            besides the standard stand in it under ``optimized``, ``priority``, ``flex`` or ``reserved``. What caching
            costs is, where it is not given, the same multiple of plain input as in the table.

    Raises:
        InvalidRequestError: A name, or a price, that cannot be.
        InvalidTargetError: What is priced is no target.

    Example:
        ```python
        from bedrock_routing_integrations.pricing import Prices

        Prices({
            "us.amazon.nova-pro-v1:0": {
                "input_mtok": 0.72, "output_mtok": 2.88,  # a private offer
                "optimized": {"input_mtok": 1.0, "output_mtok": 4.0},
            },
        })
        ```
    """

    def __init__(self, own: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        if own is not None and not isinstance(own, Mapping):
            raise InvalidRequestError(f"prices must be a mapping, {{model id: {{'input_mtok': …}}}}, and is {own!r}.")
        self._own: dict[str, Any] = {}
        for name, price in (own or {}).items():
            target = parse_target(name)
            if target.kind.is_router:
                raise InvalidRequestError(f"prices[{name!r}] is a router; what has a price are the models behind it.")
            if target.model_id in self._own:
                raise InvalidRequestError(f"prices has {target.model_id!r} twice, in two spellings.")
            self._own[target.model_id] = checked_price(name, price)
        self._known: dict[Any, tuple[ResolvedTarget, Any, tuple[Rates | None, Rates | None]]] = {}

    @property
    def source(self) -> str:
        """Which table is used, by its version; by its time, where genai-prices has fetched a newer one."""
        return f"{'own prices and ' if self._own else ''}genai-prices {table_version()}"

    def rates(self, names: Names, mode: str | None, when: datetime | None = None) -> Rates | None:
        """What a model costs; None where that is not known.

        Args:
            names: What it is called.
            mode: What was served: `STANDARD` or one of `MODES`; None where that is not known.
            when: The time of the call, for prices that have changed; by default now.
        """
        if mode is None:
            return None
        own = next((self._own[key][mode] for key in names.keys if mode in self._own.get(key, ())), None)
        listed = None
        if names.listed is not None and (own is not None or mode == STANDARD):
            listed = _listed(names, when)
        return listed if own is None else compiled(own, names.base_model, like=listed)

    def rates_of_call(
        self, invocation: Invocation, resolved: ResolvedTarget, when: datetime | None, region: str | None
    ) -> tuple[Rates | None, Rates | None]:
        """The prices of what answered, and of the router's fallback model."""
        mode = served_mode(
            (invocation.latency_requested, invocation.latency_served),
            (invocation.service_tier_requested, invocation.service_tier_served),
        )
        answered = invocation.invoked_model_id or resolved.target.model_id
        key = (answered, invocation.invoked_model, resolved.target.model_id, mode, region)
        holds = (day_of(when), *table_now())
        known = self._known.get(key)
        # A look-up makes another `ResolvedTarget`.
        if known is not None and known[0] is resolved and known[1] == holds:
            return known[2]
        names = names_of(answered, invocation.invoked_model, resolved, region)
        rates, fallback = self.rates(names, mode, when), None
        if resolved.fallback:  # also of the router that a managed prompt names
            ids = [c.model_id for c in resolved.candidates if c.base_model == resolved.fallback]
            names = names_of(ids[0] if ids else resolved.fallback, resolved.fallback, resolved, region)
            fallback = self.rates(names, mode, when)
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[key] = resolved, holds, (rates, fallback)
        return rates, fallback


def priced(
    invocation: Invocation,
    resolved: ResolvedTarget,
    prices: Prices,
    when: datetime | None = None,
    region: str | None = None,
) -> Invocation:
    """The invocation with `cost_usd` and, where a router chose, `fallback_cost_usd`.

    Args:
        invocation: What happened.
        resolved: The target that was called.
        prices: Where prices come from.
        when: The time of the call; by default now.
        region: Where it was called, if that is known: GovCloud and China have prices of their own.
    """
    cost, fallback_cost = costs(invocation, resolved, prices, when, region)
    return replace(invocation, cost_usd=cost, fallback_cost_usd=fallback_cost)


def costs(
    invocation: Invocation,
    resolved: ResolvedTarget,
    prices: Prices,
    when: datetime | None = None,
    region: str | None = None,
) -> tuple[float | None, float | None]:
    """`cost_usd` and `fallback_cost_usd` of an invocation, for arguments as of `priced`."""
    usage = invocation.usage
    if usage is None:
        return None, None
    rates, fallback = prices.rates_of_call(invocation, resolved, when, region)
    return rates and rates.cost(usage), fallback and fallback.cost(usage)


def uncached_cost(routing: Mapping[str, Any], prices: Prices, when: datetime | None = None) -> float | None:
    """What a call would have cost had nothing been read from or written to a cache; None where that is not known.

    Args:
        routing: The call's ``"routing"`` entry. It does not say which of a model's prices held; that is the one which
            makes the cost that it does say. Without one (the call was priced by prices that are not known here),
            nothing is known.
        prices: Where prices come from.
        when: The time of the call; by default now.
    """
    if routing.get("usage") is None or routing.get("cost_usd") is None:
        return None
    if not all(isinstance(routing.get(name), (str, type(None))) for name in ("invoked_model", "invoked_model_id")):
        return None  # a stored entry may hold anything
    usage = Usage(**routing["usage"])
    plain = Usage(input=usage.prompt, output=usage.output)
    if plain == usage:
        return float(routing["cost_usd"])
    mode = served_mode(*(_asked_and_served(routing.get(name)) for name in ("latency", "service_tier")))
    for names in possible_names(routing):
        rates = prices.rates(names, mode, when)
        if rates is not None and rates.cost(usage) == routing["cost_usd"]:
            return rates.cost(plain)
    return None


def _listed(names: Names, when: datetime | None) -> Rates | None:
    called = [name for name in (names.listed, names.or_listed) if name is not None]
    found = [listed_rates(name, names.base_model, day_of(when), *table_now()) for name in called]
    return found[0] if all(other in (None, found[0]) for other in found[1:]) else None


def _asked_and_served(said: Any) -> tuple[Any, Any]:
    return (said.get("requested"), said.get("served")) if isinstance(said, Mapping) else (None, None)
