"""One picture of a `RoutingReport`: models that answered, cost, savings over time, and labels such as days."""

from __future__ import annotations

from datetime import datetime, timezone
from io import BytesIO
from math import ceil, floor
from typing import TYPE_CHECKING, Any

from .contents import EMPTY, model_names
from .wording import clean, counted, distinct, money, value_forms

# Figures of our own, never pyplot: that would choose a backend and keep every figure for the whole process.
try:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator
except ImportError as error:
    raise ImportError('A plot needs matplotlib: pip install "bedrock-routing-integrations[plot]"') from error

from .panels import CALLS, Bar, DayPanel, Dollars, bare, bars_of, days_of, draw_days, draw_shares, plain
from .timeline import is_by_day

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

__all__ = ["ReportFigure", "draw"]

MOST_LABELS = 6
"""Labels that are drawn; a picture of more cannot be read."""
_LOOKS = {"routing": (CALLS, "-"), "caching": ("#c8641b", "--")}
_DAY = 86_400
_MINUTES = (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720)
_STEPS = (1, 5, 15, 30, *(60 * minutes for minutes in _MINUTES), *(_DAY * days for days in (1, 2, 7, 14, 28, 91, 182)))


class ReportFigure(Figure):
    """A matplotlib ``Figure`` that a notebook shows, also where pyplot was never loaded."""

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def draw(report: Mapping[str, Any], figure: FigureBase | None = None) -> Any:
    """Draw the shares of calls and cost by model, savings over time where there are any, and a panel for each label.

    A label of days is drawn over time, and one of days and a key with the values of the key on top of one another.

    Args:
        report: What `RoutingReport.to_dict` gives.
        figure: A ``Figure`` or ``SubFigure`` to draw into; a new `ReportFigure` where None.

    Returns:
        The figure: ``figure.savefig("report.png")``. Nothing is shown, and matplotlib's settings stay as they are.
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
    """Bars of a model's, or of a value's, share of calls and of cost."""

    def __init__(self, of: str, bars: Sequence[Bar]) -> None:
        self.of = of
        self.bars = bars
        self.height = 1.5 + 0.5 * max(3, len(bars))

    def draw(self, axes: Axes) -> None:
        draw_shares(axes, self.bars, self.of)


class _Savings:
    """What was saved, over time."""

    height = 3.0

    def __init__(self, savings: Mapping[str, Sequence[tuple[float, float]]]) -> None:
        self.savings = savings

    def draw(self, axes: Axes) -> None:
        _draw_savings(axes, self.savings)


class _Days:
    """Cost by day."""

    height = 3.0

    def __init__(self, days: DayPanel) -> None:
        self.days = days

    def draw(self, axes: Axes) -> None:
        draw_days(axes, self.days)


def _rows(report: Mapping[str, Any]) -> list[list[Any]]:
    """The panels, two side by side, and those of days in rows of their own."""
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
    """By what anything was saved: seconds of the epoch, and what had been saved then; in a stretch steadily."""
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
    """At most seven round moments and their texts; with the day, or for days the year, where it is another one.

    matplotlib's own take the time zone from its global settings, and warn of some spans.
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
