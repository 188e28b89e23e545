"""Draw a `RoutingReport`: shares of models in calls and cost, savings over time, and a panel for each label."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from io import BytesIO
from itertools import pairwise
from math import ceil, floor, log10
from typing import TYPE_CHECKING, Any, NamedTuple

from .report_tables import EMPTY, clean, counted, distinct, model_names, money, percent, value_forms
from .totals import is_by_day

# Figure objects instead of pyplot, which would choose a backend and keep every figure for the whole process.
try:
    from matplotlib.figure import Figure
    from matplotlib.ticker import Formatter, MaxNLocator
except ImportError as error:
    raise ImportError('A plot needs matplotlib: pip install "bedrock-routing-integrations[plot]"') from error

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase


MOST_BARS = 8
CALLS, _COST = "#1f3b57", "#e0913a"
# The hatches distinguish them in greyscale.
_STACK = ((CALLS, ""), (_COST, "///"), ("#7fa7c9", ""), ("#f3d9b8", "..."), ("#4f7f5f", ""), ("#c9dcc9", "xx"))
_REST = ("#bbbbbb", "")
_MOST_TICKS = 8
# With fewer days, bars are as narrow as with this many.
_FEWEST_DAYS = 6


class Bar(NamedTuple):
    """A model's share of the calls and of the known cost (None without a price); whether some calls have no price."""

    name: str
    calls: float
    cost: float | None
    is_partial: bool


class DayPanel(NamedTuple):
    """The panel of a label of days.

    Attributes:
        title: Its title.
        days: All days from the first to the last.
        layers: Names (an empty one for all calls together) with an amount for each day, from bottom to top.
        is_money: Whether the amounts are US dollars, and not calls.
    """

    title: str
    days: Sequence[date]
    layers: Sequence[tuple[str, Sequence[float]]]
    is_money: bool


def plain(text: str) -> str:
    """Return the text in ASCII: a letter that the font lacks would be drawn as a box, with a warning."""
    return text.encode("ascii", "backslashreplace").decode()


def bars_of(named: Iterable[tuple[str, Mapping[str, Any]]], what: str) -> list[Bar]:
    """Return the bars of some totals; those with the fewest calls are merged.

    Args:
        named: Names and totals.
        what: The plural noun for them.
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
    """Draw two bars for each name: its share of the calls and of the cost.

    Args:
        axes: The axes to draw in.
        bars: The bars.
        of: The beginning of the title.
    """
    priced = any(bar.cost is not None for bar in bars)
    size = 0.38 if priced else 0.6
    places = range(len(bars))
    shift = size / 2 if priced else 0
    # Dark and plain, light and hatched: they differ in greyscale too.
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
    """Return the panel of a label of days; None if no value begins with a day.

    Args:
        label: The name of the label.
        values: Its values with their totals.
    """
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
    """Draw a bar for each day, with its layers stacked.

    Args:
        axes: The axes to draw in.
        panel: The panel.
    """
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
    """Return the handles and names of the layers, the top one first. matplotlib skips names that begin with "_"."""
    handles = list(axes.containers)[::-1]
    return handles, [plain(clean(str(handle.get_label()))) for handle in handles]


def _day_text(days: Sequence[date], tick: int, ticks: Sequence[int]) -> str:
    day, before = days[tick], ticks.index(tick) - 1
    is_new = before < 0 or days[ticks[before]].year != day.year
    return day.strftime("%m-%d") + (f"\n{day.year}" if is_new else "")


class Dollars(Formatter):
    """Tick labels in US dollars, with the same number of digits on the whole axis."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Return the label of one tick."""
        return money(x)

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        """Return the labels of all ticks."""
        step = min((after - before for before, after in pairwise(values)), default=0)
        digits = max(0, -floor(log10(step))) if step > 0 else 2
        if abs(step - round(step, digits)) > step / 100:  # of a step such as 0.0025
            digits += 1
        return [f"{'-' if usd < 0 else ''}${abs(usd):,.{digits}f}" for usd in values]


def bare(axes: Axes) -> None:
    """Hide the lines at the top and on the right."""
    axes.spines[["top", "right"]].set_visible(False)


MOST_LABELS = 6
"""The greatest number of labels that are drawn."""
_LOOKS = {"routing": (CALLS, "-"), "caching": ("#c8641b", "--")}
_DAY = 86_400
_MINUTES = (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720)
_STEPS = (1, 5, 15, 30, *(60 * minutes for minutes in _MINUTES), *(_DAY * days for days in (1, 2, 7, 14, 28, 91, 182)))


class ReportFigure(Figure):
    """A matplotlib ``Figure`` that notebooks show even if pyplot was never imported."""

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def draw(report: Mapping[str, Any], figure: FigureBase | None = None) -> Any:
    """Draw the shares of calls and cost by model, the savings over time if there are any, and a panel for each label.

    A label of days is drawn over time. A label of days and a key is drawn over time with the key's values stacked.

    Args:
        report: The result of `RoutingReport.to_dict`.
        figure: A ``Figure`` or ``SubFigure`` to draw in; None for a new `ReportFigure`.

    Returns:
        The figure. Nothing is shown, and matplotlib's settings are not changed.
    """
    rows = _rows(report)
    heights = [max(panel.height for panel in row) for row in rows]
    if figure is None:
        width = 7.0 if len(rows) == len(rows[0]) == 1 and not isinstance(rows[0][0], _Days) else 11.0
        figure = ReportFigure(figsize=(width, 0.4 + sum(heights)), layout="constrained")
    if not report["totals"]["calls"]:
        figure.text(0.5, 0.5, EMPTY, ha="center", va="center")
        return figure
    figure.suptitle(_title(report["totals"]), parse_math=False)
    grid = figure.add_gridspec(len(rows), 2, height_ratios=heights)
    for number, row in enumerate(rows):
        for column, panel in enumerate(row):
            panel.draw(figure.add_subplot(grid[number, column] if len(row) > 1 else grid[number, :]))
    return figure


class _Shares:
    """The shares of models, or of the values of a label, in calls and cost."""

    def __init__(self, of: str, bars: Sequence[Bar]) -> None:
        self.of = of
        self.bars = bars
        self.height = 1.5 + 0.5 * max(3, len(bars))

    def draw(self, axes: Axes) -> None:
        draw_shares(axes, self.bars, self.of)


class _Savings:
    """The savings over time."""

    height = 3.0

    def __init__(self, savings: Mapping[str, Sequence[tuple[float, float]]]) -> None:
        self.savings = savings

    def draw(self, axes: Axes) -> None:
        _draw_savings(axes, self.savings)


class _Days:
    """The cost of each day."""

    height = 3.0

    def __init__(self, days: DayPanel) -> None:
        self.days = days

    def draw(self, axes: Axes) -> None:
        draw_days(axes, self.days)


def _rows(report: Mapping[str, Any]) -> list[list[Any]]:
    """Return the rows of panels: two side by side, and panels of days alone."""
    names = model_names(report)
    models = [(plain(names[tally["invoked_model"]]), tally) for tally in report["models"]]
    panels: list[Any] = [_Shares("", bars_of(models, "models"))]
    savings = _savings(report["timeline"])
    panels += [_Savings(savings)] if savings else []
    wide: list[list[Any]] = []
    for label, values in list(report["by"].items())[:MOST_LABELS]:
        days = days_of(label, values) if is_by_day(label) else None
        if days is not None:
            wide.append([_Days(days)])
        else:
            panels.append(_Shares(f"By {plain(clean(label))}: ", bars_of(_named(values), "values")))
    return [panels[at : at + 2] for at in range(0, len(panels), 2)] + wide


def _named(values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    names = distinct(values, value_forms)
    return [(plain(names[value]), tally) for value, tally in values.items() if tally["calls"]]


def _title(totals: Mapping[str, Any]) -> str:
    calls, unpriced = totals["calls"], totals["calls_without_price"]
    if totals["cost_usd"] is None:
        return f"{counted(calls, 'call')}, none with a known price"
    said = f"{counted(calls, 'call')}: {money(totals['cost_usd'])}"
    said += f" ({unpriced:,} without a known price)" if unpriced else ""
    told = []
    for by in ("routing", "caching"):
        usd, missing = totals[f"saved_by_{by}_usd"], totals[f"calls_without_{by}_price"]
        if usd:
            text = f"{by} saved {money(usd)}" if usd > 0 else f"{by} cost {money(-usd)} more"
            told.append(text + (f" (not known for {counted(missing, 'call')})" if missing else ""))
    return "\n".join([said, *([", ".join(told)] if told else [])])


def _savings(timeline: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Return the savings over time for routing and caching: seconds since 1970 and the cumulative savings."""
    found = {}
    for by in ("routing", "caching"):
        amounts = [bucket[f"saved_by_{by}_usd"] or 0.0 for bucket in timeline]
        points, total = [], 0.0
        for bucket, amount in zip(timeline, amounts, strict=True):
            start = datetime.fromisoformat(bucket["start"]).timestamp()
            points += [(start, total), (start + bucket["seconds"], total + amount)]
            total += amount
        if any(amounts):
            found[by] = points
    return found


def _draw_savings(axes: Axes, savings: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    for by, points in savings.items():
        color, line = _LOOKS[by]
        axes.plot(*zip(*points, strict=True), color=color, linestyle=line, linewidth=2, label=f"by {by}")
    axes.axhline(0, color="black", linewidth=0.8)
    every = [when for points in savings.values() for when, _ in points]
    axes.set_xticks(*_time_ticks(min(every), max(every)))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_formatter(Dollars())
    axes.set_title("Saved so far (times are UTC)")
    axes.legend(loc="best")
    bare(axes)


def _time_ticks(first: float, last: float) -> tuple[list[float], list[str]]:
    """Return at most seven round moments and their labels, with the day, or the year for days, where it changes.

    matplotlib's own locators take the time zone from global settings, and warn for some spans.
    """
    step = next((step for step in _STEPS if last - first <= 6 * step), ceil((last - first) / 6 / _DAY) * _DAY)
    ticks = [float(number * step) for number in range(ceil(first / step), floor(last / step) + 1)]
    small, large = ("%m-%d", "%Y") if step >= _DAY else ("%H:%M" if step >= 60 else "%H:%M:%S", "%Y-%m-%d")
    texts, before = [], ""
    for tick in ticks:
        moment = datetime.fromtimestamp(tick, timezone.utc)
        within = moment.strftime(large)
        texts.append(moment.strftime(small) + (f"\n{within}" if within != before else ""))
        before = within
    return ticks, texts
