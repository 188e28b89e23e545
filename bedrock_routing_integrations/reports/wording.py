"""How a report writes money, tokens, shares and names, of which none may break a table or pass for another."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = [
    "UNKNOWN", "clean", "counted", "distinct", "model_forms", "money", "percent", "tokens", "value_forms", "width_of",
]  # fmt: skip

UNKNOWN = "–"  # noqa: RUF001 - a dash that no minus sign is taken for
_LONGEST = 72
_DATE_AND_VERSION = re.compile(r"(?:-\d{8})?(?:-v1)?(?::\d+)?$")
# An id that says by itself what it is; the ids of all other resources are opaque without their type.
_SPEAKING = ("foundation-model", "inference-profile")


def money(usd: float | None) -> str:
    """US dollars with the digits that mean something: $1,234, $12.34, $0.000405; $0 for nothing at all only."""
    if usd is None:
        return UNKNOWN
    size, sign = abs(usd), "-" if usd < 0 else ""
    exponent = int(f"{size:.2e}".partition("e")[2])
    if size == 0:
        return "$0"
    if exponent >= 0:
        return f"{sign}${size:,.0f}" if exponent >= 3 else f"{sign}${size:.2f}"
    return f"{sign}${size:.{2 - exponent}f}" if exponent >= -7 else f"{sign}${size:.2g}"


def percent(share: float | None) -> str:
    """A share: 62%; all and nothing are said only where it is all or nothing. Empty where there is none."""
    if share is None:
        return ""
    if 0 < share < 0.01:
        return "<1%"
    if 0.99 < share < 1:
        return ">99%"
    return f"{share:.0%}"


def tokens(number: int) -> str:
    """A number of tokens: 12,345; from a million on three digits of the millions, 1.23M."""
    millions = number / 1_000_000
    return (
        f"{number:,}" if millions < 1 else f"{millions:,.{2 if millions < 9.995 else 1 if millions < 99.95 else 0}f}M"
    )


def counted(number: int, what: str) -> str:
    """A number of things: 1 call, 2,000 calls."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def clean(text: str) -> str:
    r"""`text` on one line and in one direction: what controls a terminal or the order of letters is written \x1b."""
    return "".join(_visible(letter) for letter in str(text)).strip() or "(empty)"


def _visible(letter: str) -> str:
    if letter == " " or unicodedata.category(letter)[0] not in "CZ":
        return letter
    return " " if unicodedata.category(letter) == "Zs" else letter.encode("unicode_escape").decode()


def width_of(text: str) -> int:
    """How many columns of a terminal the text takes: two for a wide letter, none for an accent of its own."""
    return sum(
        0 if unicodedata.category(letter) in ("Mn", "Me") else 1 + (unicodedata.east_asian_width(letter) in ("W", "F"))
        for letter in text
    )


def distinct(names: Iterable[str], forms: Callable[[str], Sequence[str]]) -> dict[str, str]:
    """Give each name the shortest of its `forms` that no other name has; a number where even the longest are equal."""
    kept = list(dict.fromkeys(names))
    possible = {name: [_shortened(clean(form)) for form in forms(name)] for name in kept}
    level = dict.fromkeys(kept, 0)
    while True:
        owners: dict[str, list[str]] = {}
        for name in kept:
            owners.setdefault(possible[name][level[name]], []).append(name)
        clashing = [name for same in owners.values() if len(same) > 1 for name in same]
        longer = [name for name in clashing if level[name] + 1 < len(possible[name])]
        if not longer:
            break
        for name in longer:
            level[name] += 1
    given: dict[str, str] = {}
    taken = set(owners)
    for text, same in owners.items():
        given[same[0]] = text
        for number, name in enumerate(same[1:], start=2):
            given[name] = next(
                other for more in range(number, number + len(kept) + 1) if (other := f"{text} #{more}") not in taken
            )
            taken.add(given[name])
    return given


def _shortened(text: str) -> str:
    """The text without its middle where it is very long; both of its ends tell more."""
    if len(text) <= _LONGEST and width_of(text) <= _LONGEST:
        return text
    half = _LONGEST // 2 - 2
    while width_of(text[:half]) + width_of(text[-half:]) + 3 > _LONGEST:
        half -= 1
    return f"{text[:half]}...{text[-half:]}"


def model_forms(model: str) -> list[str]:
    """A base model's id without provider, date and first version (claude-3-5-sonnet), then whole."""
    name = model.partition(".")[2]
    # deepseek.v3-v1:0: what follows the provider is a version and no name.
    short = _DATE_AND_VERSION.sub("", model if not name or re.match(r"v\d", name) else name)
    return [short or model, model]


def value_forms(value: str) -> list[str]:
    """A target or a label's value; of an ARN the resource, then with its Region, its account, and whole."""
    parts = value.strip().split(":", 5)
    if len(parts) < 6 or parts[0] != "arn":
        return [value]
    _, _, _, region, account, resource = parts
    kind, _, name = resource.partition("/")
    short = name if kind in _SPEAKING and name else resource
    with_region = f"{short} ({region})" if region else short
    return [short, with_region, f"{short} ({', '.join(part for part in (region, account) if part)})", value]
