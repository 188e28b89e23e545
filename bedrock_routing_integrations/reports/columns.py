"""The columns of a report's tables: what they show of a tally, and which of them hold anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .layout import Column, Row, Table
from .wording import UNKNOWN, money, percent, tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["PARTIAL", "amount", "cached", "filled"]

Tally = dict[str, Any]

PARTIAL = "*"
_NOTHING = frozenset({"", "0", "$0", "100%", UNKNOWN})


def amount(tally: Tally, key: str, missing: str) -> str:
    """An amount of money, marked where it is that of some of the calls only."""
    mark = PARTIAL if tally[missing] and tally[key] is not None else ""
    return money(tally[key]) + mark


def cached(tally: Tally) -> int:
    """The tokens that were read from the cache or written to it."""
    kinds = ("cache_read", "cache_write_5m", "cache_write_1h")
    return sum(tally["tokens"][kind] for kind in kinds)


def _told(tally: Tally, number: int) -> str:
    if tally["calls_without_usage"] >= tally["calls"]:
        return UNKNOWN
    return tokens(number) + (PARTIAL if tally["calls_without_usage"] else "")


def _times(key: str, without: str) -> Callable[[Tally], str]:
    def cell(tally: Tally) -> str:
        times = tally[key]
        return without if times["p50"] is None else f"{times['p50']:,.0f} / {times['p95']:,.0f}"

    return cell


def _usd(key: str, missing: str) -> Callable[[Tally], str]:
    return lambda tally: amount(tally, key, missing)


_CALLS = Column("Calls")
_COLUMNS: tuple[tuple[Column, Callable[[Tally], str]], ...] = (
    (_CALLS, lambda tally: f"{tally['calls']:,}"),
    (Column("Share"), lambda tally: percent(tally["share"])),
    (Column("Tokens\nin"), lambda tally: _told(tally, tally["tokens"]["input"] + cached(tally))),
    (Column("Tokens\nout"), lambda tally: _told(tally, tally["tokens"]["output"])),
    (Column("Cache\nhits"), lambda tally: percent(tally["cache_hit_rate"])),
    (Column("Cost"), _usd("cost_usd", "calls_without_price")),
    (Column("Saved by\nrouting"), _usd("saved_by_routing_usd", "calls_without_routing_price")),
    (Column("Saved by\ncaching"), _usd("saved_by_caching_usd", "calls_without_caching_price")),
    (Column("Failed", part=1), lambda tally: f"{sum(tally['errors'].values()):,}" if tally["errors"] else ""),
    (Column("Latency, ms\np50 / p95", part=1), _times("latency_ms", UNKNOWN)),
    # Only streams have one: where there is none, nothing is unknown.
    (Column("First token, ms\np50 / p95", part=1), _times("time_to_first_token_ms", "")),
)


def filled(head: str, rows: Sequence[tuple[Row, Tally]], more: Sequence[Tally] = (), *, which: str = "more") -> Table:
    """The table of `rows`, whose cells are not there yet, and how many calls `more` has (`which`: "more", "earlier").

    Columns that hold nothing anywhere are left out.
    """
    columns = []
    for column, cell in _COLUMNS:
        cells = [cell(tally) if tally["calls"] or column.head in ("Calls", "Failed") else "" for _, tally in rows]
        if column is _CALLS or not _NOTHING.issuperset(cells):
            columns.append((column, cells))
    done = [
        Row(row.name, [cells[number] for _, cells in columns], row.indent, row.whole_name)
        for number, (row, _) in enumerate(rows)
    ]
    if more:
        calls = f"{sum(tally['calls'] for tally in more):,}"
        done.append(Row(f"and {len(more):,} {which}", [calls, *[""] * (len(columns) - 1)]))
    return Table(head, [column for column, _ in columns], done)
