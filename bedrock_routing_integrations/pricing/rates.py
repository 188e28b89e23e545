"""Prices of a model's tokens as whole numbers, and the user's own, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Context, Decimal, localcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from bedrock_routing_integrations.catalog import model_facts
from bedrock_routing_integrations.errors import InvalidRequestError

from .names import STANDARD

if TYPE_CHECKING:
    from bedrock_routing_integrations.invocation import Usage

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
