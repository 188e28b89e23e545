"""The panels of a report's picture that show shares and days, and what all panels have in common."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise
from math import ceil, floor, log10
from typing import TYPE_CHECKING, Any, NamedTuple

from matplotlib.ticker import Formatter, MaxNLocator

from .wording import clean, money, percent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from matplotlib.axes import Axes

__all__ = ["CALLS", "Bar", "DayPanel", "Dollars", "bare", "bars_of", "days_of", "draw_days", "draw_shares", "plain"]

MOST_BARS = 8
CALLS, _COST = "#1f3b57", "#e0913a"
# Told apart in grey too, by their hatches.
_STACK = ((CALLS, ""), (_COST, "///"), ("#7fa7c9", ""), ("#f3d9b8", "..."), ("#4f7f5f", ""), ("#c9dcc9", "xx"))
_REST = ("#bbbbbb", "")
_MOST_TICKS = 8
# Fewer days have bars as narrow as these.
_FEWEST_DAYS = 6


class Bar(NamedTuple):
    """The shares of calls and of the known cost (None without a price) of a model; whether some calls have no price."""

    name: str
    calls: float
    cost: float | None
    is_partial: bool


class DayPanel(NamedTuple):
    """What is drawn of days.

    Attributes:
        title: Of the panel.
        days: All days from the first to the last.
        layers: A name (empty for all calls together) and an amount for each day, from the bottom to the top.
        is_money: Whether the amounts are US dollars; else calls.
    """

    title: str
    days: Sequence[date]
    layers: Sequence[tuple[str, Sequence[float]]]
    is_money: bool


def plain(text: str) -> str:
    """Return the text in ASCII: a letter that the font lacks is drawn as a box, with a warning."""
    return text.encode("ascii", "backslashreplace").decode()


def bars_of(named: Iterable[tuple[str, Mapping[str, Any]]], what: str) -> list[Bar]:
    """Return the bars of some tallies, those of the fewest calls together.

    Args:
        named: Names and tallies.
        what: What they are, a plural noun.
    """
    most = sorted(named, key=lambda pair: -pair[1]["calls"])
    calls = sum(tally["calls"] for _, tally in most) or 1
    cost = sum(tally["cost_usd"] or 0 for _, tally in most)
    shown = [(name, [tally]) for name, tally in most]
    if len(shown) > MOST_BARS:
        rest = [tally for _, tally in most[MOST_BARS - 1 :]]
        shown = [*shown[: MOST_BARS - 1], (f"{len(rest)} other {what}", rest)]
    bars = []
    for name, tallies in shown:
        known = [tally["cost_usd"] for tally in tallies if tally["cost_usd"] is not None]
        share = sum(known) / cost if known and cost else None
        is_partial = any(tally["calls_without_price"] for tally in tallies)
        bars.append(Bar(name, sum(tally["calls"] for tally in tallies) / calls, share, is_partial))
    return bars


def draw_shares(axes: Axes, bars: Sequence[Bar], of: str = "") -> None:
    """Draw two bars for each name: its share of calls and of cost.

    Args:
        axes: Where to draw.
        bars: What to draw.
        of: What the title begins with.
    """
    priced = any(bar.cost is not None for bar in bars)
    size = 0.38 if priced else 0.6
    places = range(len(bars))
    shift = size / 2 if priced else 0
    # Dark and plain, and light and hatched: told apart in grey too.
    axes.barh([place - shift for place in places], [bar.calls for bar in bars], size, color=CALLS, label="calls")
    if priced:
        axes.barh(
            [place + shift for place in places],
            [bar.cost or 0 for bar in bars],
            size,
            color=_COST,
            edgecolor="black",
            linewidth=0.6,
            hatch="///",
            label="cost",
        )
    for place, bar in zip(places, bars, strict=True):
        _annotate(axes, percent(bar.calls), bar.calls, place - shift)
        if priced:
            text = "no price" if bar.cost is None else percent(bar.cost) + ("*" if bar.is_partial else "")
            _annotate(axes, text, bar.cost or 0, place + shift)
    axes.set_yticks(list(places), [bar.name for bar in bars], parse_math=False)
    axes.set_ylim(max(2.5, len(bars) - 0.5), -0.5)
    axes.set_xlim(0, 1.12)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])
    title = f"{of}{'share' if of else 'Share'} of calls" + (" and of cost" if priced else "")
    if any(bar.is_partial and bar.cost is not None for bar in bars):
        title += "  (* of the priced calls)"
    axes.set_title(title, parse_math=False)
    if priced:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.09), ncols=2, frameon=False)  # inside it hides bars
    bare(axes)


def _annotate(axes: Axes, text: str, x: float, y: float) -> None:
    axes.annotate(text, (x, y), xytext=(4, 0), textcoords="offset points", va="center")


def days_of(label: str, values: Mapping[str, Mapping[str, Any]]) -> DayPanel | None:
    """Return what is drawn of a label of days; None where none of its values begins with a day."""
    found: dict[tuple[date, str], Mapping[str, Any]] = {}
    for value, tally in values.items():
        text, _, of = value.partition(", ")
        try:
            found[date.fromisoformat(text), of] = tally
        except ValueError:  # "(others)", or days of the user's own
            continue
    if not found:
        return None
    is_money = any(tally["cost_usd"] for tally in found.values())
    key = "cost_usd" if is_money else "calls"
    totals: dict[str, float] = {}
    for (_, of), tally in found.items():
        totals[of] = totals.get(of, 0) + (tally[key] or 0)
    most = sorted(totals, key=lambda of: -totals[of])
    shown = most if len(most) <= len(_STACK) else most[: len(_STACK) - 1]
    first, last = min(found)[0], max(found)[0]
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    layers = [(of, _amounts(found, days, [of], key)) for of in shown]
    if len(shown) < len(most):
        layers.append((f"{len(most) - len(shown)} others", _amounts(found, days, most[len(shown) :], key)))
    _, _, other = label.partition(",")
    title = f"{'Cost' if is_money else 'Calls'} by day (UTC)" + (f" and {plain(clean(other))}" if other else "")
    if is_money and any(tally["calls_without_price"] for tally in found.values()):
        title += ", of the priced calls"
    return DayPanel(title, days, layers, is_money)


def _amounts(
    found: Mapping[tuple[date, str], Mapping[str, Any]], days: Sequence[date], of: Sequence[str], key: str
) -> list[float]:
    return [sum((found.get((day, each)) or {}).get(key) or 0 for each in of) for day in days]


def draw_days(axes: Axes, panel: DayPanel) -> None:
    """Draw a bar for each day, with the layers on top of one another."""
    places, bottom = range(len(panel.days)), [0.0] * len(panel.days)
    looks = [*_STACK[: len(panel.layers)]]
    if len(panel.layers) == len(_STACK) and panel.layers[-1][0].endswith(" others"):
        looks[-1] = _REST
    for (name, amounts), (color, hatch) in zip(panel.layers, looks, strict=True):
        axes.bar(places, amounts, 0.8, bottom, color=color, hatch=hatch, edgecolor="black", linewidth=0.4, label=name)
        bottom = [below + amount for below, amount in zip(bottom, amounts, strict=True)]
    step = ceil(len(panel.days) / _MOST_TICKS)
    ticks = list(places)[::step]
    axes.set_xticks(ticks, [_day_text(panel.days, tick, ticks) for tick in ticks])
    margin = 0.7 + max(0, _FEWEST_DAYS - len(panel.days)) / 2
    axes.set_xlim(-margin, len(panel.days) - 1 + margin)
    axes.set_ylim(0, max(bottom) * 1.1 or 1)
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=not panel.is_money))
    if panel.is_money:
        axes.yaxis.set_major_formatter(Dollars())
    axes.set_title(panel.title, parse_math=False)
    if len(panel.layers) > 1 or panel.layers[0][0]:
        legend = axes.legend(
            *_legend(axes), loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize="small"
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
    bare(axes)


def _legend(axes: Axes) -> tuple[list[Any], list[str]]:
    """Return the handles and names of the layers, the top one first; matplotlib leaves out names with "_" in front."""
    handles = list(axes.containers)[::-1]
    return handles, [plain(clean(str(handle.get_label()))) for handle in handles]


def _day_text(days: Sequence[date], tick: int, ticks: Sequence[int]) -> str:
    day, before = days[tick], ticks.index(tick) - 1
    is_new = before < 0 or days[ticks[before]].year != day.year
    return day.strftime("%m-%d") + (f"\n{day.year}" if is_new else "")


class Dollars(Formatter):
    """Dollars with the digits that tell one tick from the next, the same on the whole axis."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Return the text of one tick."""
        return money(x)

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        """Return the texts of all ticks."""
        step = min((after - before for before, after in pairwise(values)), default=0)
        digits = max(0, -floor(log10(step))) if step > 0 else 2
        if abs(step - round(step, digits)) > step / 100:  # of a step such as 0.0025
            digits += 1
        return [f"{'-' if usd < 0 else ''}${abs(usd):,.{digits}f}" for usd in values]


def bare(axes: Axes) -> None:
    """Draw no lines at the top and on the right."""
    axes.spines[["top", "right"]].set_visible(False)
