"""`Prices`: where prices come from, and what a call cost by them."""

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


# --- What the model that answered is called ---

STANDARD = "standard"
# Billed by the token at the model's listed price. All others are billed by the hour, or at prices of their own.
_BY_TOKEN = frozenset([
    TargetKind.FOUNDATION_MODEL, TargetKind.SYSTEM_INFERENCE_PROFILE, TargetKind.APPLICATION_INFERENCE_PROFILE,
    TargetKind.DEFAULT_PROMPT_ROUTER, TargetKind.CUSTOM_PROMPT_ROUTER, TargetKind.PROMPT,
])  # fmt: skip
# Regions of other partitions, which have prices of their own.
_ELSEWHERE = ("us-gov-", "cn-", "us-iso", "eu-iso", "eusc-")


class Names(NamedTuple):
    """What the model that answered is called.

    Attributes:
        base_model: The model.
        listed: How the price table calls it; None where it does not list what answered.
        keys: Under which names the user's own prices may have it, the most specific one first.
        or_listed: What else the price table may call it: where the prices differ, none is known.
    """

    base_model: str | None
    listed: str | None
    keys: tuple[str, ...]
    or_listed: str | None = None


def names_of(model_id: str, base: str | None, resolved: ResolvedTarget, region: str | None = None) -> Names:
    """The names of a model that answered for a target, called in a Region."""
    listed, or_listed = _listed_as(model_id, base, resolved), None
    if listed is not None and listed == base:  # no geography
        if (region or "").startswith(_ELSEWHERE):
            listed = None
        elif not _is_told(base, resolved):
            or_listed = f"global.{base}"
    return Names(base, listed, _keys_behind(model_id, base, resolved), or_listed)


def _is_told(base: str, resolved: ResolvedTarget) -> bool:
    """Whether it would be known, were a model's profile a global one: of a bare model's id, and of what AWS lists."""
    if resolved.target.kind is TargetKind.FOUNDATION_MODEL:
        return True
    sources = [candidate.source for candidate in resolved.candidates if candidate.base_model == base]
    return any(source not in ("base_models", "trace") for source in sources)


def _keys_behind(model_id: str, base: str | None, resolved: ResolvedTarget) -> tuple[str, ...]:
    """`_keys`; and those of the profile through which the target has the model, where it is one only."""
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
            return None  # China and GovCloud have prices of their own
    if "global" in geographies and len(geographies) > 1:
        return None  # a router over two profiles of one model, of which one is dearer
    geography = next(iter(sorted(geographies)), None)
    return f"{geography}.{base}" if geography else base


def possible_names(routing: Mapping[str, Any]) -> Iterator[Names]:
    """What the model of a ``"routing"`` entry may be called, which does not say all that its target did."""
    base: str | None = routing.get("invoked_model")
    keys = _keys(routing.get("invoked_model_id") or routing["requested_model_id"], base)
    named = [key for key in keys if not key.startswith("arn:") and split_geography(key)[0]]
    # An id that does not say its geography may be that of a global profile.
    listings: list[str | None] = [*named[:1]] or [base, f"global.{base}"]
    for listed in listings:
        yield Names(base, listed, keys)


def served_mode(latency: tuple[str | None, str | None], tier: tuple[str | None, str | None]) -> str | None:
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


# --- Prices of a model's tokens as whole numbers, and the user's own, checked. ---

MODES = ("optimized", "priority", "flex", "reserved")
"""What can be served besides the standard: a latency mode, and service tiers."""
RATES = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok", "cache_write_5m_mtok",
         "cache_write_1h_mtok")  # fmt: skip
"""genai-prices' names of what is charged for, in US dollars per million tokens."""
# The prices that `Usage`'s kinds of tokens are charged at, in its order.
_KINDS = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_5m_mtok", "cache_write_1h_mtok")
_PER = 1_000_000
# Sums and products of prices and counts are exact in it, whatever the caller's own context rounds to.
EXACT = Context(prec=60)


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
        try:
            return total / self.per
        except OverflowError:  # a price beyond all measure
            return None


def compiled(rates: Mapping[str, Any], base: str | None, *, like: Rates | None = None) -> Rates:
    """Prices in dollars per million tokens, as whole numbers.

    Args:
        rates: The prices, by genai-prices' names.
        base: The model, whose published multiples fill in what caching costs.
        like: Prices that do so before.
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
    """Dollars per million tokens of one kind."""
    value = rates.get(name)
    if value is None and name == "cache_write_5m_mtok":
        value = rates.get("cache_write_mtok")
    if value is not None:
        return _at_length(value, prompt)
    return _at_length(rates["input_mtok"], prompt) * multiples[name] if name in multiples else None


def _published(base: str | None) -> dict[str, Decimal]:
    """What AWS says that a cache costs, as multiples of plain input."""
    rules = model_facts(base).cache if base else None
    if rules is None:
        return {}
    written = {f"cache_write_{ttl}_mtok": Decimal(str(multiple)) for ttl, multiple in rules.write_multipliers}
    return {**written, "cache_read_mtok": Decimal(str(rules.read_multiplier))}


def _multiples(rates: Rates | None) -> dict[str, Decimal]:
    """The same by other prices."""
    prices = rates.steps[0][1] if rates else ()
    if not prices or not prices[0]:
        return {}
    return {name: Decimal(price) / prices[0] for name, price in zip(_KINDS, prices, strict=True) if price is not None}


def _at_length(value: Any, prompt: int) -> Decimal:
    """A price that may depend on the length of the prompt: past a threshold, another one for all tokens."""
    if isinstance(value, Decimal):
        return value
    passed = [tier.price for tier in sorted(value.tiers, key=lambda tier: tier.start) if prompt > tier.start]
    price: Decimal = passed[-1] if passed else value.base
    return price


def checked_price(name: str, price: Any) -> dict[str, dict[str, Decimal]]:
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


# --- genai-prices' table: what it says of a model on a day. ---


@functools.lru_cache(maxsize=1)
def _snapshots() -> Any:
    from genai_prices.data_snapshot import get_snapshot

    return get_snapshot


def table_now() -> tuple[int, datetime]:
    """Which table genai-prices has now: the one that it ships, or what its own ``UpdatePrices`` fetched."""
    snapshot = _snapshots()()
    return id(snapshot), snapshot.timestamp


def table_version() -> str:
    """The version of genai-prices, or when a table that is newer than it was fetched."""
    from importlib.metadata import version

    snapshot = _snapshots()()
    return f"of {snapshot.timestamp:%Y-%m-%d %H:%M}" if snapshot.from_auto_update else version("genai-prices")


@functools.lru_cache(maxsize=4096)
def listed_rates(listed: str, base: str | None, day: date, *_table: object) -> Rates | None:
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
    if not _is_same(listed, found.model.id) or not _is_of_geography(listed, found.model):
        return None
    rates = {name: value for name, value in vars(found.model_price).items() if value is not None}
    return compiled(rates, base) if "input_mtok" in rates and rates.keys() <= set(RATES) else None


# What ends a model's id: version, revision, and what provisioned throughput adds; the date stands before it.
_VERSION = re.compile(r"(?P<version>-v\d+)?(?::(?P<revision>\d+))?(?::[a-z0-9]+)?$")
_DATE = re.compile(r"-20\d{6}$")


def _is_same(asked: str, found: str) -> bool:
    """Whether the table's id names the model that was asked for, and not just another one that begins like it.

    One of them may leave out the version (``-v1:0``), or the date.
    """
    (asked_name, *asked_version), (found_name, *found_version) = (_parts(name) for name in (asked, found))
    if any(mine and theirs and mine != theirs for mine, theirs in zip(asked_version, found_version, strict=True)):
        return False
    plain = _DATE.sub("", asked_name), _DATE.sub("", found_name)
    dated = asked_name != plain[0] and found_name != plain[1]
    return asked_name == found_name if dated else plain[0] == plain[1]


def _is_of_geography(asked: str, found: Any) -> bool:
    """Whether the price holds where it was asked for: everywhere, or not; and GovCloud's only where it says so."""
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
    """The day of a call, in UTC."""
    return (datetime.now(timezone.utc) if when is None else when.astimezone(timezone.utc)).date()


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
