"""One picture of a `RoutingReport`: who answered and what that cost, and what was saved over time."""

from __future__ import annotations

from datetime import datetime, timezone
from io import BytesIO
from itertools import pairwise
from math import ceil, floor, log10
from typing import TYPE_CHECKING, Any

from .contents import EMPTY, model_names
from .wording import counted, money, percent

# Figures of our own, never pyplot: that would choose a backend and keep every figure for the whole process.
try:
    from matplotlib.figure import Figure
    from matplotlib.ticker import Formatter, MaxNLocator
except ImportError as error:
    raise ImportError('A plot needs matplotlib: pip install "bedrock-routing-integrations[plot]"') from error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

__all__ = ["ReportFigure", "draw"]

MODELS = 8
_CALLS, _COST = "#1f3b57", "#e0913a"
_LOOKS = {"routing": ("#1f3b57", "-"), "caching": ("#c8641b", "--")}
_DAY = 86_400
_MINUTES = (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720)
_STEPS = (1, 5, 15, 30, *(60 * minutes for minutes in _MINUTES), *(_DAY * days for days in (1, 2, 7, 14, 28, 91, 182)))


class ReportFigure(Figure):
    """A matplotlib ``Figure`` that a notebook shows, also where pyplot was never loaded."""

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def draw(report: Mapping[str, Any], figure: FigureBase | None = None) -> FigureBase:
    """Draw the shares of calls and cost by model and, where anything was saved, the savings over time.

    Args:
        report: What `RoutingReport.to_dict` gives.
        figure: A ``Figure`` or ``SubFigure`` to draw into; a new `ReportFigure` where None.

    Returns:
        The figure: ``figure.savefig("report.png")``. Nothing is shown, and matplotlib's settings stay as they are.
    """
    models = _bars(report)
    savings = _savings(report["timeline"])
    if figure is None:
        height = 1.9 + 0.5 * max(3, len(models))
        figure = ReportFigure(figsize=(11.0 if savings else 7.0, height), layout="constrained")
    if not report["totals"]["calls"]:
        figure.text(0.5, 0.5, EMPTY, ha="center", va="center")
        return figure
    figure.suptitle(_title(report["totals"]), parse_math=False)
    panels = figure.subplots(1, 2 if savings else 1, squeeze=False)[0]
    _draw_shares(panels[0], models)
    if savings:
        _draw_savings(panels[1], savings)
    return figure


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


def _bars(report: Mapping[str, Any]) -> list[tuple[str, float, float | None, bool]]:
    """A model's name, its share of calls, its share of the known cost, whether calls of it lack a price."""
    names = model_names(report)
    tallies = sorted(report["models"], key=lambda tally: -tally["calls"])
    calls = report["totals"]["calls"] or 1
    cost = sum(tally["cost_usd"] or 0 for tally in tallies)
    shown = [(_ascii(names[tally["invoked_model"]]), [tally]) for tally in tallies]
    if len(shown) > MODELS:
        rest = tallies[MODELS - 1 :]
        shown = [*shown[: MODELS - 1], (f"{len(rest)} other models", rest)]
    bars = []
    for name, those in shown:
        known = [tally["cost_usd"] for tally in those if tally["cost_usd"] is not None]
        share = sum(known) / cost if known and cost else None
        bars.append(
            (
                name,
                sum(tally["calls"] for tally in those) / calls,
                share,
                any(tally["calls_without_price"] for tally in those),
            )
        )
    return bars


def _ascii(text: str) -> str:
    # A letter that the font lacks is drawn as a box, with a warning.
    return text.encode("ascii", "backslashreplace").decode()


def _draw_shares(axes: Axes, bars: Sequence[tuple[str, float, float | None, bool]]) -> None:
    priced = any(share is not None for _, _, share, _ in bars)
    size = 0.38 if priced else 0.6
    places = range(len(bars))
    shift = size / 2 if priced else 0
    # Dark and plain beside light and hatched: told apart in grey too.
    axes.barh(
        [place - shift for place in places], [calls for _, calls, _, _ in bars], size, color=_CALLS, label="calls"
    )
    if priced:
        axes.barh(
            [place + shift for place in places],
            [share or 0 for _, _, share, _ in bars],
            size,
            color=_COST,
            edgecolor="black",
            linewidth=0.6,
            hatch="///",
            label="cost",
        )
    for place, (_, calls, share, partial) in zip(places, bars, strict=True):
        axes.annotate(percent(calls), (calls, place - shift), xytext=(4, 0), textcoords="offset points", va="center")
        if priced:
            text = "no price" if share is None else percent(share) + ("*" if partial else "")
            axes.annotate(text, (share or 0, place + shift), xytext=(4, 0), textcoords="offset points", va="center")
    axes.set_yticks(list(places), [name for name, *_ in bars], parse_math=False)
    axes.set_ylim(max(2.5, len(bars) - 0.5), -0.5)
    axes.set_xlim(0, 1.12)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])
    partial = any(partial and share is not None for _, _, share, partial in bars)
    axes.set_title(
        "Share of calls and of cost" + ("  (* of the priced calls)" if partial else "") if priced else "Share of calls"
    )
    if priced:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.09), ncols=2, frameon=False)  # inside it hides bars
    _bare(axes)


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
    axes.yaxis.set_major_formatter(_Dollars())
    axes.set_title("Saved so far (times are UTC)")
    axes.legend(loc="best")
    _bare(axes)


class _Dollars(Formatter):
    """Dollars with the digits that tell one tick from the next, the same on the whole axis."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return money(x)

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        step = min((after - before for before, after in pairwise(values)), default=0)
        digits = max(0, -floor(log10(step))) if step > 0 else 2
        if abs(step - round(step, digits)) > step / 100:  # of a step such as 0.0025
            digits += 1
        return [f"{'-' if usd < 0 else ''}${abs(usd):,.{digits}f}" for usd in values]


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


def _bare(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
