"""What a call cost: an `Invocation` → the same with its price, by genai-prices' table or by the user's own.

The table lists Bedrock's models by id with the geography that prices depend on: ``global.`` profiles are cheaper than
all others. It has the prices of us-east-1, each from the day on which it holds. What it does not have has no price
here: a latency mode or service tier that is not the standard one, provisioned throughput, imported and custom models.
Prices of one's own (`Prices`) are for these, for private offers and for Regions that are dearer.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, timezone
from decimal import Context, Decimal, localcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from .catalog import model_facts
from .errors import InvalidRequestError, InvalidTargetError
from .invocation import Usage
from .logs import logger
from .resolution import base_model_of_id
from .targets import TargetKind, parse_target, split_geography

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .invocation import Invocation
    from .resolution import ResolvedTarget

STANDARD = "standard"
MODES = ("optimized", "priority", "flex", "reserved")
"""What can be served besides the standard: a latency mode, and service tiers."""

_RATES = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok", "cache_write_5m_mtok",
          "cache_write_1h_mtok")  # fmt: skip
# The prices that `Usage`'s kinds of tokens are charged at, in its order.
_KINDS = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_5m_mtok", "cache_write_1h_mtok")
_PER = 1_000_000
_MOST_KNOWN = 4_096
# Sums and products of prices and counts are exact in it, whatever the caller's own context rounds to.
EXACT = Context(prec=60)
# Billed by the token at the model's listed price. All others are billed by the hour, or at prices of their own.
_BY_TOKEN = frozenset([
    TargetKind.FOUNDATION_MODEL, TargetKind.SYSTEM_INFERENCE_PROFILE, TargetKind.APPLICATION_INFERENCE_PROFILE,
    TargetKind.DEFAULT_PROMPT_ROUTER, TargetKind.CUSTOM_PROMPT_ROUTER, TargetKind.PROMPT,
])  # fmt: skip


class Prices:
    """Where prices come from: the user's own where they say something, else genai-prices' table.

    Args:
        own: What is priced (a model id, a profile's id, an ARN: the most specific one holds) → US dollars per million
            tokens, by genai-prices' names: ``input_mtok``, ``output_mtok``, and where they apply ``cache_read_mtok``,
            ``cache_write_mtok`` (or ``cache_write_5m_mtok`` and ``cache_write_1h_mtok``). Prices of what is served
            besides the standard stand in it under ``optimized``, ``priority``, ``flex`` or ``reserved``.

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
        self._own = {parse_target(name).model_id: _checked(name, price) for name, price in (own or {}).items()}
        self._known: dict[Any, tuple[ResolvedTarget, Any, tuple[Rates | None, Rates | None]]] = {}

    @property
    def source(self) -> str:
        """Which table is used, by its version."""
        from importlib.metadata import version

        return f"{'own prices and ' if self._own else ''}genai-prices {version('genai-prices')}"

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
        if own is not None:
            return _compiled(own, names.base_model)
        if mode != STANDARD or names.listed is None:
            return None
        return _listed(names.listed, names.base_model, _day(when), *_table())

    def rates_of_call(
        self, invocation: Invocation, resolved: ResolvedTarget, when: datetime | None
    ) -> tuple[Rates | None, Rates | None]:
        """The prices of what answered, and of the router's fallback model."""
        mode = _served(
            (invocation.latency_requested, invocation.latency_served),
            (invocation.service_tier_requested, invocation.service_tier_served),
        )
        answered = invocation.invoked_model_id or resolved.target.model_id
        key = (answered, invocation.invoked_model, resolved.target.model_id, mode)
        holds = (_day(when), *_table())
        known = self._known.get(key)
        # A look-up makes another `ResolvedTarget`.
        if known is not None and known[0] is resolved and known[1] == holds:
            return known[2]
        rates, fallback = self.rates(_names(answered, invocation.invoked_model, resolved), mode, when), None
        if resolved.fallback:  # also of the router that a managed prompt names
            ids = [c.model_id for c in resolved.candidates if c.base_model == resolved.fallback]
            fallback = self.rates(_names(ids[0] if ids else resolved.fallback, resolved.fallback, resolved), mode, when)
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[key] = resolved, holds, (rates, fallback)
        return rates, fallback


class Rates(NamedTuple):
    """Prices of a model's tokens, as whole numbers, so that sums are exact.

    Attributes:
        steps: From more than so many tokens of prompt on: the price of a token of each kind, in the order of `Usage`;
            None where it is not known.
        per: What a sum is to be divided by, to be US dollars.
    """

    steps: tuple[tuple[int, tuple[int | None, ...]], ...]
    per: int

    def cost(self, usage: Usage) -> float | None:
        """US dollars, to the last digit of a float; None where a price that is needed is not known."""
        prompt, prices = usage.prompt, self.steps[0][1]
        for start, others in self.steps[1:]:
            if prompt > start:
                prices = others
        total = 0
        for tokens, price in zip(
            (usage.input, usage.output, usage.cache_read, usage.cache_write_5m, usage.cache_write_1h),
            prices,
            strict=True,
        ):
            if tokens:
                if price is None:
                    return None
                total += tokens * price
        return total / self.per


class Names(NamedTuple):
    """What the model that answered is called.

    Attributes:
        base_model: The model.
        listed: How the price table calls it; None where it does not list what answered.
        keys: Under which names the user's own prices may have it, the most specific one first.
    """

    base_model: str | None
    listed: str | None
    keys: tuple[str, ...]


def priced(
    invocation: Invocation, resolved: ResolvedTarget, prices: Prices, when: datetime | None = None
) -> Invocation:
    """The invocation with `cost_usd` and, where a router chose, `fallback_cost_usd`.

    Args:
        invocation: What happened.
        resolved: The target that was called.
        prices: Where prices come from.
        when: The time of the call; by default now.
    """
    cost, fallback_cost = costs(invocation, resolved, prices, when)
    return replace(invocation, cost_usd=cost, fallback_cost_usd=fallback_cost)


def costs(
    invocation: Invocation, resolved: ResolvedTarget, prices: Prices, when: datetime | None = None
) -> tuple[float | None, float | None]:
    """`cost_usd` and `fallback_cost_usd` of an invocation, for arguments as of `priced`."""
    usage = invocation.usage
    if usage is None:
        return None, None
    rates, fallback = prices.rates_of_call(invocation, resolved, when)
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
    usage = Usage(**routing["usage"])
    plain = Usage(input=usage.prompt, output=usage.output)
    if plain == usage:
        return float(routing["cost_usd"])
    latency, tier = routing.get("latency") or {}, routing.get("service_tier") or {}
    mode = _served((latency.get("requested"), latency.get("served")), (tier.get("requested"), tier.get("served")))
    for names in _possible_names(routing):
        rates = prices.rates(names, mode, when)
        if rates is not None and rates.cost(usage) == routing["cost_usd"]:
            return rates.cost(plain)
    return None


def _possible_names(routing: Mapping[str, Any]) -> Iterator[Names]:
    base, model_id = routing.get("invoked_model"), routing.get("invoked_model_id") or routing["requested_model_id"]
    keys = _keys(model_id, base)
    named = next((key for key in keys if not key.startswith("arn:") and split_geography(key)[0]), None)
    # An id that does not say its geography may be that of a global profile.
    for listed in [named] if named else [base, f"global.{base}"]:
        yield Names(base, listed, keys)


def _served(latency: tuple[str | None, str | None], tier: tuple[str | None, str | None]) -> str | None:
    """What was served, of (requested, served) pairs; None where it is not known, or there is no price for both."""
    modes = []
    for (requested, served), standard in ((latency, STANDARD), (tier, "default")):
        # What is not reported of what was not asked for either is the standard.
        mode = served or (standard if requested in (None, standard) else None)
        if mode is None:
            return None
        if mode != standard:
            modes.append(mode)
    return STANDARD if not modes else modes[0] if len(modes) == 1 else None


def _names(model_id: str, base: str | None, resolved: ResolvedTarget) -> Names:
    return Names(base, _listed_as(model_id, base, resolved), _keys(model_id, base))


@functools.lru_cache(maxsize=4096)
def _profile_named(model_id: str) -> str | None:
    try:
        target = parse_target(model_id)
    except InvalidTargetError:
        return None
    return target.resource_id if target.kind is TargetKind.SYSTEM_INFERENCE_PROFILE else None


@functools.lru_cache(maxsize=4096)
def _keys(model_id: str, base: str | None) -> tuple[str, ...]:
    """The names under which a price may stand: the id, the profile's or model's own id of an ARN, the base model."""
    try:
        target = parse_target(model_id)
    except InvalidTargetError:
        return (model_id, *([base] if base else []))
    if target.kind not in _BY_TOKEN:
        return (target.model_id,)
    own = target.resource_id if base_model_of_id(model_id) else None
    return tuple(dict.fromkeys(name for name in (target.model_id, own, base) if name))


def _listed_as(model_id: str, base: str | None, resolved: ResolvedTarget) -> str | None:
    """How the table calls what answered; None where it answered for another price than the table's."""
    if base is None or resolved.target.kind not in _BY_TOKEN:
        return None
    named = _profile_named(model_id)
    if named:
        return named
    ids = dict.fromkeys([model_id, *(c.model_id for c in resolved.candidates if c.base_model == base)])
    geographies = ["global" for c in resolved.candidates if c.base_model == base and c.is_global]
    for each in ids:
        try:
            target = parse_target(each)
        except InvalidTargetError:
            continue
        if target.kind not in _BY_TOKEN:
            return None
        if target.kind is TargetKind.SYSTEM_INFERENCE_PROFILE:
            geographies += [name for name in split_geography(target.resource_id)[:1] if name]
    geography = "global" if "global" in geographies else next(iter(geographies), None)
    return f"{geography}.{base}" if geography else base


# --- the table ---


@functools.lru_cache(maxsize=1)
def _snapshots() -> Any:
    from genai_prices.data_snapshot import get_snapshot

    return get_snapshot


def _table() -> tuple[int, datetime]:
    """Which table genai-prices has now: the one that it ships, or what its own ``UpdatePrices`` fetched."""
    snapshot = _snapshots()()
    return id(snapshot), snapshot.timestamp


@functools.lru_cache(maxsize=4096)
def _listed(listed: str, base: str | None, day: date, *_table: object) -> Rates | None:
    """What the table says of a model on a day; None where it has no price, or one of a kind that we do not know."""
    from genai_prices import Usage as TableUsage
    from genai_prices import calc_price

    noon = datetime(day.year, day.month, day.day, 12, tzinfo=timezone.utc)
    try:
        found = calc_price(TableUsage(), listed, provider_id="aws", genai_request_timestamp=noon)
    except LookupError:
        return None
    except Exception as error:  # noqa: BLE001 - a table that cannot be read must not cost the user the answer
        logger.debug("genai-prices has no price for %s: %s: %s", listed, type(error).__name__, error)
        return None
    rates = {name: value for name, value in vars(found.model_price).items() if value is not None}
    return _compiled(rates, base) if "input_mtok" in rates and rates.keys() <= set(_RATES) else None


def _day(when: datetime | None) -> date:
    return (datetime.now(timezone.utc) if when is None else when.astimezone(timezone.utc)).date()


def _compiled(rates: Mapping[str, Any], base: str | None) -> Rates:
    """Prices in dollars per million tokens, as whole numbers."""
    tiers = (tier for value in rates.values() if not isinstance(value, Decimal) for tier in value.tiers)
    starts = sorted({0, *(tier.start for tier in tiers)})
    with localcontext(EXACT):
        table = [[_rate(name, rates, start + 1, base) for name in _KINDS] for start in starts]
        digits = max((-int(rate.as_tuple().exponent) for row in table for rate in row if rate is not None), default=0)
        scale = 10 ** max(digits, 0)
        steps = [(start, tuple([None if rate is None else int(rate * scale) for rate in row]))
                 for start, row in zip(starts, table, strict=True)]  # fmt: skip
    return Rates(tuple(steps), scale * _PER)


def _rate(name: str, rates: Mapping[str, Any], prompt: int, base: str | None) -> Decimal | None:
    """Dollars per million tokens of one kind."""
    value = rates.get(name)
    if value is None and name == "cache_write_5m_mtok":
        value = rates.get("cache_write_mtok")
    if value is not None:
        return _at_length(value, prompt)
    # A kind that the table leaves out is priced by the multiple of plain input that AWS publishes for the model.
    rules = model_facts(base).cache if base else None
    if rules is None or not name.startswith("cache_"):
        return None
    multiples = {f"cache_write_{ttl}_mtok": multiple for ttl, multiple in rules.write_multipliers}
    multiples["cache_read_mtok"] = rules.read_multiplier
    plain = _at_length(rates["input_mtok"], prompt)
    return Decimal(str(multiples[name])) * plain if name in multiples else None


def _at_length(value: Any, prompt: int) -> Decimal:
    """A price that may depend on the length of the prompt: past a threshold, another one for all tokens."""
    if isinstance(value, Decimal):
        return value
    passed = [tier.price for tier in sorted(value.tiers, key=lambda tier: tier.start) if prompt > tier.start]
    price: Decimal = passed[-1] if passed else value.base
    return price


def _checked(name: str, price: Any) -> dict[str, dict[str, Decimal]]:
    """The user's price of one model, by what was served."""
    if not isinstance(price, Mapping):
        raise InvalidRequestError(
            f"prices[{name!r}] must be a mapping such as {{'input_mtok': 3.0}}, and is {price!r}."
        )
    modes = {mode: price[mode] for mode in MODES if mode in price}
    plain = {rate: value for rate, value in price.items() if rate not in MODES}
    checked = {mode: _checked_rates(f"prices[{name!r}][{mode!r}]", rates) for mode, rates in modes.items()}
    if plain or not modes:
        checked[STANDARD] = _checked_rates(f"prices[{name!r}]", plain)
    return checked


def _checked_rates(where: str, rates: Any) -> dict[str, Decimal]:
    if not isinstance(rates, Mapping) or not {"input_mtok", "output_mtok"} <= set(rates):
        raise InvalidRequestError(
            f"{where} needs input_mtok and output_mtok, US dollars per million tokens: {rates!r}."
        )
    checked = {}
    for name, value in rates.items():
        if name not in _RATES:
            raise InvalidRequestError(
                f"{where} has {name!r}; there are {', '.join(_RATES)}; besides {', '.join(MODES)}."
            )
        number = isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value < 0:
            raise InvalidRequestError(
                f"{where}[{name!r}] must be US dollars per million tokens, from 0, and is {value!r}."
            )
        checked[name] = Decimal(str(value))
    return checked
