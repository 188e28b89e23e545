"""Price a call: find the model's price in the user's own prices or in genai-prices' table, and multiply by the tokens.

Three steps, in this order in the file:

1. The names under which a price may be listed. A router's answer, a profile and a base model have several names, and
   the geography of a profile decides the price. If a name is ambiguous and the prices differ, the cost is None.
2. Rates: prices per token as whole numbers, so that sums are exact, and the checks of the user's own prices.
3. genai-prices' table on a day, and the cost of an `Invocation`.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, timezone
from decimal import Context, Decimal, localcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from bedrock_routing_integrations.errors import InvalidRequestError, InvalidTargetError
from bedrock_routing_integrations.invocation import Usage
from bedrock_routing_integrations.models.candidates import base_model_of_id
from bedrock_routing_integrations.models.families import model_facts
from bedrock_routing_integrations.runtime import logger
from bedrock_routing_integrations.targets import TargetKind, parse_target, split_geography

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bedrock_routing_integrations.invocation import Invocation
    from bedrock_routing_integrations.models.candidates import ResolvedTarget


STANDARD = "standard"
# Targets billed by the token at the model's listed price. Other targets are billed by the hour or have special prices.
_BY_TOKEN = frozenset([
    TargetKind.FOUNDATION_MODEL, TargetKind.SYSTEM_INFERENCE_PROFILE, TargetKind.APPLICATION_INFERENCE_PROFILE,
    TargetKind.DEFAULT_PROMPT_ROUTER, TargetKind.CUSTOM_PROMPT_ROUTER, TargetKind.PROMPT,
])  # fmt: skip
# Regions of other partitions, which have different prices.
_ELSEWHERE = ("us-gov-", "cn-", "us-iso", "eu-iso", "eusc-")


class Names(NamedTuple):
    """The names under which the price of an answer may be listed.

    Attributes:
        base_model: The base model that answered.
        listed: The name in the price table; None if the table cannot have this price.
        keys: The keys of the user's own prices that match, the most specific first.
        or_listed: Another possible name in the price table. If the two prices differ, the price is not known.
    """

    base_model: str | None
    listed: str | None
    keys: tuple[str, ...]
    or_listed: str | None = None


def names_of(model_id: str, base: str | None, resolved: ResolvedTarget, region: str | None = None) -> Names:
    """Return the names under which the price of an answer may be listed.

    Args:
        model_id: The id or ARN of the model or profile that answered.
        base: The base model that answered; None if it is not known.
        resolved: The target with its candidate models.
        region: The Region of the call, if it is known.
    """
    listed, or_listed = _listed_as(model_id, base, resolved), None
    if listed is not None and listed == base:  # no geography
        if (region or "").startswith(_ELSEWHERE):
            listed = None
        elif not _is_told(base, resolved):
            or_listed = f"global.{base}"
    return Names(base, listed, _keys_behind(model_id, base, resolved), or_listed)


def _is_told(base: str, resolved: ResolvedTarget) -> bool:
    """Return whether the target is known well enough to exclude that the model was called through a global profile."""
    if resolved.target.kind is TargetKind.FOUNDATION_MODEL:
        return True
    sources = [candidate.source for candidate in resolved.candidates if candidate.base_model == base]
    return any(source not in ("base_models", "trace") for source in sources)


def _keys_behind(model_id: str, base: str | None, resolved: ResolvedTarget) -> tuple[str, ...]:
    """Return `_keys`, and those of the only profile through which the target can call the model."""
    keys = _keys(model_id, base)
    behind = {c.model_id for c in resolved.candidates if c.base_model == base} - {model_id}
    if base is None or len(behind) != 1 or resolved.target.kind not in _BY_TOKEN:
        return keys
    more = [key for key in (*keys, *_keys(behind.pop(), base)) if key != base]
    return (*dict.fromkeys(more), base)


@functools.lru_cache(maxsize=4096)
def _profile_named(model_id: str) -> str | None:
    try:
        target = parse_target(model_id)
    except InvalidTargetError:
        return None
    return target.resource_id if target.kind is TargetKind.SYSTEM_INFERENCE_PROFILE else None


@functools.lru_cache(maxsize=4096)
def _keys(model_id: str, base: str | None) -> tuple[str, ...]:
    """Return the possible keys of a price: the id, the resource id of an ARN, and the base model."""
    try:
        target = parse_target(model_id)
    except InvalidTargetError:
        return (model_id, *([base] if base else []))
    if target.kind not in _BY_TOKEN:
        return (target.model_id,)
    own = target.resource_id if base_model_of_id(model_id) else None
    return tuple(dict.fromkeys(name for name in (target.model_id, own, base) if name))


def _listed_as(model_id: str, base: str | None, resolved: ResolvedTarget) -> str | None:
    """Return the name of an answer in the price table; None if the table's price does not apply."""
    if base is None or resolved.target.kind not in _BY_TOKEN:
        return None
    named = _profile_named(model_id)
    if named:
        return named
    ids = dict.fromkeys([model_id, *(c.model_id for c in resolved.candidates if c.base_model == base)])
    geographies = {"global" for c in resolved.candidates if c.base_model == base and c.is_global}
    for each in ids:
        try:
            target = parse_target(each)
        except InvalidTargetError:
            continue
        if target.kind not in _BY_TOKEN:
            return None
        if target.kind is TargetKind.SYSTEM_INFERENCE_PROFILE:
            geographies.add(split_geography(target.resource_id)[0] or "")
        elif target.partition not in (None, "aws"):
            return None  # China and GovCloud have different prices
    if "global" in geographies and len(geographies) > 1:
        return None  # a router over two profiles of one model with different prices
    geography = next(iter(sorted(geographies)), None)
    return f"{geography}.{base}" if geography else base


def possible_names(routing: Mapping[str, Any]) -> Iterator[Names]:
    """Yield the possible names of the model of a ``"routing"`` entry, which holds less than the target did.

    Args:
        routing: The ``"routing"`` entry of a call.
    """
    base: str | None = routing.get("invoked_model")
    keys = _keys(routing.get("invoked_model_id") or routing["requested_model_id"], base)
    named = [key for key in keys if not key.startswith("arn:") and split_geography(key)[0]]
    # An id without a geography may be that of a global profile.
    listings: list[str | None] = [*named[:1]] or [base, f"global.{base}"]
    for listed in listings:
        yield Names(base, listed, keys)


def served_mode(latency: tuple[str | None, str | None], tier: tuple[str | None, str | None]) -> str | None:
    """Return the served mode; None if it is not known, or if latency and tier are both special (no common price).

    Args:
        latency: ``performanceConfig.latency`` as requested and as served.
        tier: ``serviceTier.type`` as requested and as served.

    Returns:
        `STANDARD` or one of `MODES`.
    """
    modes = []
    for (requested, served), standard in ((latency, STANDARD), (tier, "default")):
        # A value that was neither requested nor reported is the standard one.
        mode = served or (standard if requested in (None, standard) else None)
        if mode is None:
            return None
        if mode != standard:
            modes.append(mode)
    return STANDARD if not modes else modes[0] if len(modes) == 1 else None


# Rates

MODES = ("optimized", "priority", "flex", "reserved")
"""Modes other than the standard one: a latency mode and service tiers."""
RATES = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok", "cache_write_5m_mtok",
         "cache_write_1h_mtok")  # fmt: skip
"""genai-prices' names of prices, in US dollars per million tokens."""
# The prices of `Usage`'s kinds of tokens, in its order.
_KINDS = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_5m_mtok", "cache_write_1h_mtok")
_PER = 1_000_000
# In this context sums and products of prices and counts are exact, whatever the caller's context is.
EXACT = Context(prec=60)


class Rates(NamedTuple):
    """The prices of a model's tokens, as whole numbers, so that sums are exact.

    Attributes:
        steps: Pairs of a number of prompt tokens and the prices that apply above it: one for each kind of token, in the
            order of `Usage`, or None if it is not known.
        per: The divisor that turns a sum into US dollars.
    """

    steps: tuple[tuple[int, tuple[int | None, ...]], ...]
    per: int

    def cost(self, usage: Usage) -> float | None:
        """Return the cost of a call in US dollars, exact to the last digit; None if a needed price is not known.

        Args:
            usage: The tokens of the call.
        """
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
        try:
            return total / self.per
        except OverflowError:  # the price is too large
            return None


def compiled(rates: Mapping[str, Any], base: str | None, *, like: Rates | None = None) -> Rates:
    """Return prices in dollars per million tokens as `Rates`.

    Args:
        rates: The prices, by genai-prices' names.
        base: The base model, whose published multiples of plain input give cache prices that `rates` lacks.
        like: Other prices of the model; their multiples take precedence over the published ones.
    """
    tiers = (tier for value in rates.values() if not isinstance(value, Decimal) for tier in value.tiers)
    starts = sorted({0, *(tier.start for tier in tiers)})
    with localcontext(EXACT):
        multiples = {**_published(base), **_multiples(like)}
        table = [[_rate(name, rates, start + 1, multiples) for name in _KINDS] for start in starts]
        digits = max((-int(rate.as_tuple().exponent) for row in table for rate in row if rate is not None), default=0)
        scale = 10 ** max(digits, 0)
        steps = [(start, tuple([None if rate is None else int(rate * scale) for rate in row]))
                 for start, row in zip(starts, table, strict=True)]  # fmt: skip
    return Rates(tuple(steps), scale * _PER)


def _rate(name: str, rates: Mapping[str, Any], prompt: int, multiples: Mapping[str, Decimal]) -> Decimal | None:
    """Return the dollars per million tokens of one kind; None if it is not known."""
    value = rates.get(name)
    if value is None and name == "cache_write_5m_mtok":
        value = rates.get("cache_write_mtok")
    if value is not None:
        return _at_length(value, prompt)
    return _at_length(rates["input_mtok"], prompt) * multiples[name] if name in multiples else None


def _published(base: str | None) -> dict[str, Decimal]:
    """Return AWS's cache prices of a model, as multiples of plain input."""
    rules = model_facts(base).cache if base else None
    if rules is None:
        return {}
    written = {f"cache_write_{ttl}_mtok": Decimal(str(multiple)) for ttl, multiple in rules.write_multipliers}
    return {**written, "cache_read_mtok": Decimal(str(rules.read_multiplier))}


def _multiples(rates: Rates | None) -> dict[str, Decimal]:
    """Return the cache prices of `rates` as multiples of plain input."""
    prices = rates.steps[0][1] if rates else ()
    if not prices or not prices[0]:
        return {}
    return {name: Decimal(price) / prices[0] for name, price in zip(_KINDS, prices, strict=True) if price is not None}


def _at_length(value: Any, prompt: int) -> Decimal:
    """Return a price that may depend on the length of the prompt: above a threshold, another price for all tokens."""
    if isinstance(value, Decimal):
        return value
    passed = [tier.price for tier in sorted(value.tiers, key=lambda tier: tier.start) if prompt > tier.start]
    price: Decimal = passed[-1] if passed else value.base
    return price


def checked_price(name: str, price: Any) -> dict[str, dict[str, Decimal]]:
    """Return the user's prices of one model, by served mode.

    Args:
        name: The key in the user's prices.
        price: Its value.

    Raises:
        InvalidRequestError: A price is missing, has an unknown name or is not a number of dollars.
    """
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
        if name not in RATES:
            raise InvalidRequestError(
                f"{where} has {name!r}; there are {', '.join(RATES)}; besides {', '.join(MODES)}."
            )
        number = isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)
        number = number and not (isinstance(value, Decimal) and value.is_nan())
        if not number or not 0 <= value < math.inf:
            raise InvalidRequestError(
                f"{where}[{name!r}] must be US dollars per million tokens, from 0, and is {value!r}."
            )
        checked[name] = Decimal(str(value))
    return checked


# genai-prices' table


@functools.lru_cache(maxsize=1)
def _snapshots() -> Any:
    from genai_prices.data_snapshot import get_snapshot

    return get_snapshot


def table_now() -> tuple[int, datetime]:
    """Return the identity and time of genai-prices' table: the shipped one, or one that ``UpdatePrices`` fetched."""
    snapshot = _snapshots()()
    return id(snapshot), snapshot.timestamp


def table_version() -> str:
    """Return the version of genai-prices, or the time at which a newer table was fetched."""
    from importlib.metadata import version

    snapshot = _snapshots()()
    return f"of {snapshot.timestamp:%Y-%m-%d %H:%M}" if snapshot.from_auto_update else version("genai-prices")


@functools.lru_cache(maxsize=4096)
def listed_rates(listed: str, base: str | None, day: date, *_table: object) -> Rates | None:
    """Return the listed prices of a model on a day; None if the table has none, or has one of an unknown kind.

    Args:
        listed: The name of the model in the table.
        base: The base model.
        day: The day of the call, in UTC.
    """
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
    if not _is_same(listed, found.model.id) or not _is_of_geography(listed, found.model):
        return None
    rates = {name: value for name, value in vars(found.model_price).items() if value is not None}
    return compiled(rates, base) if "input_mtok" in rates and rates.keys() <= set(RATES) else None


# The end of a model's id: version, revision, and the suffix of provisioned throughput. The date precedes it.
_VERSION = re.compile(r"(?P<version>-v\d+)?(?::(?P<revision>\d+))?(?::[a-z0-9]+)?$")
_DATE = re.compile(r"-20\d{6}$")


def _is_same(asked: str, found: str) -> bool:
    """Return whether the table's id is the requested model, and not another one with the same beginning.

    Either id may omit the version (``-v1:0``) or the date.
    """
    (asked_name, *asked_version), (found_name, *found_version) = (_parts(name) for name in (asked, found))
    if any(mine and theirs and mine != theirs for mine, theirs in zip(asked_version, found_version, strict=True)):
        return False
    plain = _DATE.sub("", asked_name), _DATE.sub("", found_name)
    dated = asked_name != plain[0] and found_name != plain[1]
    return asked_name == found_name if dated else plain[0] == plain[1]


def _is_of_geography(asked: str, found: Any) -> bool:
    """Return whether a listed price applies to the requested geography."""
    geography, _ = split_geography(asked)
    if (geography == "global") != found.id.startswith("global."):
        return False
    return geography != "us-gov" or "us-gov." in repr(found.match)


def _parts(name: str) -> tuple[str, str | None, str | None]:
    model = split_geography(name.removeprefix("regional."))[1]
    ending = _VERSION.search(model)
    if ending is None:
        return model, None, None
    return model[: ending.start()], ending["version"], ending["revision"]


def day_of(when: datetime | None) -> date:
    """Return the day of a call, in UTC."""
    return (datetime.now(timezone.utc) if when is None else when.astimezone(timezone.utc)).date()


_MOST_KNOWN = 4_096


class Prices:
    """Prices of models: the user's own where there are some, else genai-prices' table.

    Args:
        own: Model id, profile id or ARN (the most specific one applies) → US dollars per million tokens, by
            genai-prices'
            names: ``input_mtok``, ``output_mtok``, and optionally ``cache_read_mtok`` and ``cache_write_mtok`` (or
            ``cache_write_5m_mtok`` and ``cache_write_1h_mtok``). Prices of other modes are nested under ``optimized``,
            ``priority``, ``flex`` or ``reserved``. Missing cache prices are the same multiples of plain input as in the
            table.

    Raises:
        InvalidRequestError: A name or a price is not valid.
        InvalidTargetError: A key is not a valid target.

    Example:
        ```python
        from bedrock_routing_integrations.costs import Prices

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
        """The price table in use: genai-prices' version, or the time of a newer table that it fetched."""
        return f"{'own prices and ' if self._own else ''}genai-prices {table_version()}"

    def rates(self, names: Names, mode: str | None, when: datetime | None = None) -> Rates | None:
        """Return the prices of a model; None if they are not known.

        Args:
            names: The possible names of the model.
            mode: The served mode: `STANDARD` or one of `MODES`; None if it is not known.
            when: The time of the call, because prices change; by default now.
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
        """Return the prices of the model that answered, and those of the router's fallback model.

        Args:
            invocation: The call.
            resolved: The target with its candidate models.
            when: The time of the call; by default now.
            region: The Region of the call, if it is known.
        """
        mode = served_mode(
            (invocation.latency_requested, invocation.latency_served),
            (invocation.service_tier_requested, invocation.service_tier_served),
        )
        answered = invocation.invoked_model_id or resolved.target.model_id
        key = (answered, invocation.invoked_model, resolved.target.model_id, mode, region)
        holds = (day_of(when), *table_now())
        known = self._known.get(key)
        # A look-up creates a new `ResolvedTarget`.
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
    """Return the invocation with `cost_usd` and, for a router, `fallback_cost_usd`.

    Args:
        invocation: The call.
        resolved: The target with its candidate models.
        prices: The prices to use.
        when: The time of the call; by default now.
        region: The Region of the call, if it is known: GovCloud and China have their own prices.
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
    """Return `cost_usd` and `fallback_cost_usd` of an invocation.

    Args:
        invocation: The call.
        resolved: The target with its candidate models.
        prices: The prices to use.
        when: The time of the call; by default now.
        region: The Region of the call, if it is known.
    """
    usage = invocation.usage
    if usage is None:
        return None, None
    rates, fallback = prices.rates_of_call(invocation, resolved, when, region)
    return rates and rates.cost(usage), fallback and fallback.cost(usage)


def uncached_cost(routing: Mapping[str, Any], prices: Prices, when: datetime | None = None) -> float | None:
    """Return the cost of a call without cache reads and writes, in US dollars; None if it is not known.

    Args:
        routing: The call's ``"routing"`` entry. It does not name the price that was applied, so the price is the one
            that gives the entry's own cost. If no price gives that cost, the result is None.
        prices: The prices to use.
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
