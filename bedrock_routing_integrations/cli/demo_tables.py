"""The demo's rows as a table: for a terminal, and as plain text for a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from .demo_steps import Mode
from .output import aligned, short_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .demo import Row

__all__ = ["plain_table", "rich_table"]

# Narrower than this, target and times get no columns of their own: too little would be left for the prompts.
_WIDE = 108
_HOW = {Mode.STREAM: "streamed", Mode.QUERY: "a query engine"}


def rich_table(title: str, rows: Sequence[Row], width: int) -> Table:
    """A table for a terminal that is `width` columns wide."""
    wide = width >= _WIDE
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    table.add_column("Prompt" if wide else "Prompt, and its target", ratio=1, overflow="fold")
    if wide:
        table.add_column("Target", overflow="fold")
    table.add_column("Answered by", overflow="fold")
    table.add_column("Tokens\nin / out", justify="right", no_wrap=True)
    if wide:
        table.add_column("Time", justify="right", no_wrap=True)
    table.add_column("Latency\nasked / served", no_wrap=True)
    for row in rows:
        table.add_row(*(_wide_cells(row) if wide else _narrow_cells(row)))
    return table


def _wide_cells(row: Row) -> tuple[Text, ...]:
    target = Text.assemble((row.offer.kind, "dim"), "\n", row.offer.name)
    tokens_in, tokens_out, taken, _, _ = _numbers(row)
    return (
        Text(row.step.prompt),
        target,
        _who(row),
        Text(f"{tokens_in} / {tokens_out}"),
        Text(f"{taken} ms"),
        _latency(row),
    )


def _narrow_cells(row: Row) -> tuple[Text, ...]:
    prompt = Text.assemble(row.step.prompt, "\n", (f"{row.offer.kind} {row.offer.name}", "dim"))
    tokens_in, tokens_out, taken, _, _ = _numbers(row)
    return prompt, _who(row), Text.assemble(f"{tokens_in} / {tokens_out}\n", (f"{taken} ms", "dim")), _latency(row)


def _who(row: Row) -> Text:
    if row.routing is None:
        return Text("refused, see below", "red")
    model = row.routing["invoked_model"]
    who = Text(short_model(model), "bold green") if model else Text("not known", "yellow")
    notes = ["the fallback"] if row.routing["is_fallback"] else []
    notes += [_HOW[row.step.mode]] if row.step.mode in _HOW else []
    return Text.assemble(who, "\n", (", ".join(notes), "dim")) if notes else who


def _latency(row: Row) -> Text:
    *_, asked, served = _numbers(row)
    if asked == served == "-":
        return Text("-", "dim")
    return Text(f"{asked} /\n{served}")


def _numbers(row: Row) -> tuple[str, str, str, str, str]:
    """Tokens in and out, milliseconds, latency asked and served."""
    routing = row.routing or {}
    usage = routing.get("usage") or {}
    latency = routing.get("latency") or {}
    taken = routing.get("latency_ms")
    return (
        str(usage.get("input", "-")),
        str(usage.get("output", "-")),
        "-" if taken is None else str(taken),
        latency.get("requested") or "-",
        latency.get("served") or "-",
    )


def plain_table(rows: Sequence[Row]) -> list[str]:
    """Aligned columns, nothing cut and nothing drawn; the prompt, which is the longest, is the last."""
    lines = [("TARGET", "NAME", "ANSWERED BY", "FALLBACK", "IN", "OUT", "MS", "ASKED", "SERVED", "MODE", "PROMPT")]
    for row in rows:
        routing = row.routing or {}
        who = (routing.get("invoked_model") or "not known") if row.routing else "refused"
        fallback = "-"
        if row.offer.kind.endswith("router") and routing.get("is_fallback") is not None:
            fallback = "yes" if routing["is_fallback"] else "no"
        lines.append(
            (row.offer.kind, row.offer.name, who, fallback, *_numbers(row), row.step.mode.value, row.step.prompt)
        )
    return aligned(lines)
