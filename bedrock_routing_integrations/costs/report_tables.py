"""Write the dictionary of a `RoutingReport` as text, Markdown and HTML.

Cells are text: nothing in them can act as markup or control a terminal.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from dataclasses import dataclass
from datetime import datetime, timezone
from html import escape
from typing import TYPE_CHECKING, Any

from .totals import OTHERS, is_by_day

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence


UNKNOWN = "–"  # noqa: RUF001 - a dash that no minus sign is taken for
_LONGEST = 72
_DATE_AND_VERSION = re.compile(r"(?:-\d{8})?(?:-v1)?(?::\d+)?$")
# Ids that are readable without their resource type. The ids of all other resources are opaque.
_SPEAKING = ("foundation-model", "inference-profile")


def money(usd: float | None) -> str:
    """Return US dollars with significant digits, such as $1,234, $12.34 or $0.000405. $0 means exactly nothing."""
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
    """Return a share such as 62%; an empty string for None. 0% and 100% mean exactly none and all."""
    if share is None:
        return ""
    if 0 < share < 0.01:
        return "<1%"
    if 0.99 < share < 1:
        return ">99%"
    return f"{share:.0%}"


def tokens(number: int) -> str:
    """Return a number of tokens, such as 12,345; from a million on with three digits, such as 1.23M."""
    millions = number / 1_000_000
    return (
        f"{number:,}" if millions < 1 else f"{millions:,.{2 if millions < 9.995 else 1 if millions < 99.95 else 0}f}M"
    )


def counted(number: int, what: str) -> str:
    """Return a number with its noun, such as 1 call or 2,000 calls.

    Args:
        number: The number.
        what: The noun in the singular.
    """
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def clean(text: str) -> str:
    r"""Return `text` on one line and in one direction: control characters are written as \\x1b."""
    return "".join(_visible(letter) for letter in str(text)).strip() or "(empty)"


def _visible(letter: str) -> str:
    if letter == " " or unicodedata.category(letter)[0] not in "CZ":
        return letter
    return " " if unicodedata.category(letter) == "Zs" else letter.encode("unicode_escape").decode()


def width_of(text: str) -> int:
    """Return the columns of a terminal that a text takes: two for a wide letter, none for a combining accent."""
    return sum(
        0 if unicodedata.category(letter) in ("Mn", "Me") else 1 + (unicodedata.east_asian_width(letter) in ("W", "F"))
        for letter in text
    )


def distinct(names: Iterable[str], forms: Callable[[str], Sequence[str]]) -> dict[str, str]:
    """Return the shortest form of each name that no other name has; equal longest forms get a number.

    Args:
        names: The names.
        forms: Return the forms of a name, from short to long.
    """
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
    """Return a very long text without its middle: both ends are more distinctive."""
    if len(text) <= _LONGEST and width_of(text) <= _LONGEST:
        return text
    half = _LONGEST // 2 - 2
    while width_of(text[:half]) + width_of(text[-half:]) + 3 > _LONGEST:
        half -= 1
    return f"{text[:half]}...{text[-half:]}"


def model_forms(model: str) -> list[str]:
    """Return the forms of a base model's id: without provider, date and first version, then whole."""
    name = model.partition(".")[2]
    # deepseek.v3-v1:0: after the provider comes a version, not a name.
    short = _DATE_AND_VERSION.sub("", model if not name or re.match(r"v\d", name) else name)
    return [short or model, model]


def value_forms(value: str) -> list[str]:
    """Return the forms of a target or label value; for an ARN the resource, with Region, with account, whole."""
    parts = value.strip().split(":", 5)
    if len(parts) < 6 or parts[0] != "arn":
        return [value]
    _, _, _, region, account, resource = parts
    kind, _, name = resource.partition("/")
    short = name if kind in _SPEAKING and name else resource
    with_region = f"{short} ({region})" if region else short
    return [short, with_region, f"{short} ({', '.join(part for part in (region, account) if part)})", value]


_GAP = 2
# The column of names gets at least this much of a line; numbers that do not fit move to a second table.
_NAMES = 30
# Markdown's special characters, and the dollar signs, which notebooks and GitHub would read as mathematics.
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|$~&#])")


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        head: Its heading, of at most two lines.
        words: Whether its cells are words, not numbers.
        part: If a table is split because it is too wide, columns with the same part stay together.
    """

    head: str
    words: bool = False
    part: int = 0


@dataclass(frozen=True)
class Row:
    """A row: its name, the indentation of the name (0 or 1), one cell for each column, and the full name."""

    name: str
    cells: Sequence[str] = ()
    indent: int = 0
    whole_name: str = ""


@dataclass(frozen=True)
class Table:
    """A table: the heading of the names, the columns and the rows."""

    head: str
    columns: Sequence[Column]
    rows: Sequence[Row]


def text_table(table: Table, width: int) -> list[str]:
    """Return a table as aligned lines. Columns that do not fit follow in a second table with the same names.

    Args:
        table: The table.
        width: The width of a line, in characters.
    """
    lines: list[str] = []
    for chosen in _blocks(table, width):
        lines += [*([""] if lines else []), *_text_block(table, chosen, width)]
    return lines


def _width_of_column(table: Table, number: int) -> int:
    cells = [*table.columns[number].head.split("\n"), *(row.cells[number] for row in table.rows)]
    return max(map(width_of, cells))


def _blocks(table: Table, width: int) -> Iterator[list[int]]:
    """Yield the numbers of the columns that fit side by side, at least one at a time."""
    names = min(_NAMES, max(width_of(row.name) + 2 * row.indent for row in table.rows))
    needed = [_width_of_column(table, number) + _GAP for number in range(len(table.columns))]
    whole = names + sum(needed) <= width
    block: list[int] = []
    for number, column in enumerate(table.columns):
        full = names + sum(needed[other] for other in [*block, number]) > width and not column.words
        if block and (full or (not whole and column.part != table.columns[block[-1]].part)):
            yield block
            block = []
        block.append(number)
    yield block


def _text_block(table: Table, chosen: Sequence[int], width: int) -> Iterator[str]:
    widths = [_width_of_column(table, number) for number in chosen]
    room = width - sum(widths) - _GAP * len(widths)
    names = [f"{'  ' * row.indent}{row.name}" for row in table.rows]
    fitting = [width_of(name) for name in names if width_of(name) <= room]
    column = max([width_of(table.head), *fitting])
    heads = [f"\n{table.columns[number].head}".split("\n")[-2:] for number in chosen]

    def line(name: str, cells: Sequence[str]) -> str:
        parts = [padded(name, column, words=True)]
        parts += [
            padded(cell, size, words=table.columns[number].words)
            for cell, size, number in zip(cells, widths, chosen, strict=True)
        ]
        return (" " * _GAP).join(parts).rstrip()

    if any(first for first, _ in heads):
        yield line("", [first for first, _ in heads])
    yield line(table.head, [second for _, second in heads])
    yield "-" * (column + sum(widths) + _GAP * len(widths))
    for row, name in zip(table.rows, names, strict=True):
        if width_of(name) > column:
            yield name
            name = ""  # noqa: PLW2901 - it has had its line
        yield line(name, [row.cells[number] for number in chosen])


def padded(text: str, width: int, *, words: bool) -> str:
    """Return a text filled with spaces: words on the right, numbers on the left.

    Args:
        text: The text.
        width: The width to fill, in columns of a terminal.
        words: Whether the text is words, not a number.
    """
    space = " " * (width - width_of(text))
    return text + space if words else space + text


def in_markdown(text: str) -> str:
    """Return text escaped for Markdown."""
    return _MARKDOWN.sub(r"\\\1", text)


def markdown_table(table: Table) -> list[str]:
    """Return the lines of a table in GitHub-flavoured Markdown."""
    heads = [table.head, *(column.head.replace("\n", " ") for column in table.columns)]
    rules = ["---", *("---" if column.words else "---:" for column in table.columns)]
    # Markdown ignores leading spaces, so the row above indented rows is bold.
    bold = "**" if any(row.indent for row in table.rows) else ""
    names = [in_markdown(row.name) if row.indent else f"{bold}{in_markdown(row.name)}{bold}" for row in table.rows]
    rows = [[name, *map(in_markdown, row.cells)] for name, row in zip(names, table.rows, strict=True)]
    return [f"| {' | '.join(cells)} |" for cells in [[in_markdown(head) for head in heads], rules, *rows]]


def in_html(text: str) -> str:
    """Return text escaped for HTML."""
    return escape(text)


def html_table(table: Table) -> str:
    """Return a ``<table>``; the title of each name is the full name."""
    left, right = 'style="text-align: left"', 'style="text-align: right"'
    heads = "".join(
        f"<th {left if column.words else right}>{in_html(column.head).replace(chr(10), '<br>')}</th>"
        for column in table.columns
    )
    lines = ["<table>", f"<thead><tr><th {left}>{in_html(table.head)}</th>{heads}</tr></thead>", "<tbody>"]
    for row in table.rows:
        style = f"text-align: left; font-weight: normal; padding-left: {0.5 + 1.5 * row.indent}em"
        title = f' title="{in_html(row.whole_name)}"' if row.whole_name else ""
        cells = "".join(
            f"<td {left if column.words else right}>{in_html(cell)}</td>"
            for column, cell in zip(table.columns, row.cells, strict=True)
        )
        lines.append(f'<tr><th style="{style}"{title}>{in_html(row.name)}</th>{cells}</tr>')
    return "\n".join([*lines, "</tbody>", "</table>"])


Tally = dict[str, Any]

PARTIAL = "*"
_NOTHING = frozenset({"", "0", "$0", "100%", UNKNOWN})


def amount(tally: Tally, key: str, missing: str) -> str:
    """Return an amount of money, marked if it covers only some of the calls.

    Args:
        tally: The totals of some calls.
        key: The key of the amount.
        missing: The key of the number of calls without this amount.
    """
    mark = PARTIAL if tally[missing] and tally[key] is not None else ""
    return money(tally[key]) + mark


def cached(tally: Tally) -> int:
    """Return the number of tokens read from the cache or written to it."""
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
    # Only streams have a time to the first token, so a missing one is not unknown.
    (Column("First token, ms\np50 / p95", part=1), _times("time_to_first_token_ms", "")),
)


def filled(head: str, rows: Sequence[tuple[Row, Tally]], more: Sequence[Tally] = (), *, which: str = "more") -> Table:
    """Return a table with its cells, without the columns that are empty in all rows.

    Args:
        head: The heading of the names.
        rows: The rows (without cells) and their totals.
        more: The totals that did not fit; the table ends with the number of their calls.
        which: The word for them: ``"more"`` or ``"earlier"``.
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


EMPTY = "No calls yet."
NOT_KNOWN = "(not known)"
# Longer tables are cut: programs can use the dictionary.
ROWS = 50
# In a tally's "latency" and "service_tier": not requested or not reported, and requested but not known.
_NONE, _UNKNOWN = "none", "unknown"
# The stop reasons of complete answers.
_USUAL_ENDS = frozenset({"end_turn", "stop_sequence", "tool_use"})


@dataclass(frozen=True)
class Page:
    """The parts of a report in order: a headline, facts (name, amount, comment), tables with titles, notes."""

    headline: str
    facts: Sequence[tuple[str, str, str]] = ()
    tables: Sequence[tuple[str, Table]] = ()
    notes: Sequence[str] = ()


def contents(report: Mapping[str, Any]) -> Page:
    """Return the parts of a report."""
    totals, targets = report["totals"], report["targets"]
    if not totals["calls"] and not totals["errors"]:
        return Page(EMPTY)
    models, names = model_names(report), distinct(map(_id_of, targets), value_forms)
    tables = [("", _targets_table(report, names, models))] if targets else []  # of an error the target may be unknown
    # If no model answered for two targets, the table of targets already holds these totals.
    if sum(len(target["models"]) for target in targets) > len(report["models"]) > 1:
        rows = [(Row(models[tally["invoked_model"]], whole_name=_whole(tally)), tally) for tally in report["models"]]
        tables.append(("Models, over all targets", _cut("Model", rows)))
    tables += [*_served_table(targets, names), *_errors_table(targets, names), *_stops_table(targets, names)]
    for label, values in report["by"].items():
        tables.append((f"By {clean(label)}", _label_table(clean(label), values)))
    facts = _facts(report)
    return Page(_headline(report), facts, tables, list(_notes(report, facts, [table for _, table in tables])))


def model_names(report: Mapping[str, Any]) -> dict[str | None, str]:
    """Return a short name for each model of the report, the same in all tables and pictures."""
    within = [model for target in report["targets"] for model in target["models"]]
    known = [tally["invoked_model"] for tally in [*report["models"], *within] if tally["invoked_model"]]
    names: dict[str | None, str] = dict(distinct(known, model_forms).items())
    if any(not tally["invoked_model"] for tally in [*report["models"], *within]):
        names.update(dict.fromkeys([None, ""], NOT_KNOWN))
    return names


def _id_of(target: Tally) -> str:
    return target["requested_model_id"] or NOT_KNOWN


def _whole(model: Tally) -> str:
    return clean(model["invoked_model"] or NOT_KNOWN)


def _headline(report: Mapping[str, Any]) -> str:
    headline = counted(report["totals"]["calls"], "call")
    targets = {target["requested_model_id"] for target in report["targets"]}
    if len(targets) > 1:
        headline += (
            f" of more than {len(targets) - 1:,} targets" if OTHERS in targets else f" of {len(targets):,} targets"
        )
    since, until = _moment(report["since"]), _moment(report["until"])
    if not since or not until:
        return headline
    if since == until:
        return f"{headline}, {since} UTC"
    return f"{headline}, {since} to {until[11:] if since[:10] == until[:10] else until} UTC"


def _moment(iso: str | None) -> str:
    return datetime.fromisoformat(iso).astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M") if iso else ""


def _facts(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    totals = report["totals"]
    calls, unpriced = totals["calls"], totals["calls_without_price"]
    facts = []
    if calls:
        comment = f"{unpriced:,} of {counted(calls, 'call')} without a price" if unpriced else ""
        facts.append(("Cost", amount(totals, "cost_usd", "calls_without_price"), comment))
    is_routed = any(target["target_kind"].endswith("router") for target in report["targets"])
    if calls and (is_routed or totals["saved_by_routing_usd"] != 0):  # a managed prompt may name a router
        facts.append(_saving(report, "routing", "always the fallback model"))
    if cached(totals):
        facts.append(_saving(report, "caching", "no caching"))
    if totals["errors"]:
        facts.append(("Failed", f"{sum(totals['errors'].values()):,}", _kinds(totals["errors"])))
    if totals.get("guardrail_interventions"):
        facts.append(
            ("Guardrail", f"{totals['guardrail_interventions']:,}", "answers that a guardrail blocked or changed")
        )
    if _ends_unusually(totals):
        facts.append(("Stop reasons", "", _kinds(totals["stop_reasons"])))
    for what, key in (("Latency", "latency"), ("Service tier", "service_tier")):
        facts += [
            (what, "", f"{_requested(asked, served)}, {_served(asked, served)}")
            for asked, served in totals[key].items()
        ]
    return facts


def _saving(report: Mapping[str, Any], by: str, otherwise: str) -> tuple[str, str, str]:
    totals, saved, missing = report["totals"], f"saved_by_{by}_usd", f"calls_without_{by}_price"
    less = _less(totals, by)
    comment = f"{less} than {otherwise}" if less else f"against {otherwise}"
    if totals[missing]:
        comment += f"; not known for {totals[missing]:,} of {counted(totals['calls'], 'call')}"
    return f"Saved by {by}", amount(totals, saved, missing), comment


def _less(totals: Tally, by: str) -> str:
    """Return how much less the calls cost with routing or caching; an empty string if nothing was saved."""
    paid, saved = totals[f"{'routed' if by == 'routing' else 'cached'}_cost_usd"], totals[f"saved_by_{by}_usd"]
    if paid is None or not saved or paid + saved <= 0:
        return ""
    return f"{percent(abs(saved) / (paid + saved))} {'less' if saved > 0 else 'more'}"


def _kinds(errors: Mapping[str, int]) -> str:
    most = sorted(errors, key=lambda kind: -errors[kind])
    names = distinct(most, lambda kind: [kind])
    parts = [f"{names[kind]} {errors[kind]:,}" for kind in most[:5]]
    if most[5:]:
        parts.append(f"others {sum(errors[kind] for kind in most[5:]):,}")
    return ", ".join(parts)


def _requested(asked: str, served: Mapping[str, int]) -> str:
    text = {_NONE: "not requested", _UNKNOWN: "requested, value not logged"}.get(asked) or f"{clean(asked)} requested"
    return f"{text} {sum(served.values()):,}"


def _served(asked: str, served: Mapping[str, int]) -> str:
    """Return how often the requested value was served, and how often others were: served 9, standard 3."""
    is_known = asked not in (_NONE, _UNKNOWN, OTHERS)  # "others" may have been served as something else
    parts = [f"served {served.get(asked, 0):,}"] if is_known else []
    others = [other for other in served if other != asked or not is_known]
    return ", ".join(
        [*parts, *(f"{'not reported' if other == _NONE else clean(other)} {served[other]:,}" for other in others)]
    )


def _targets_table(report: Mapping[str, Any], names: Mapping[str, str], models: Mapping[str | None, str]) -> Table:
    rows: list[tuple[Row, Tally]] = []
    shown = 0
    for target in report["targets"]:
        if len(rows) >= ROWS:
            break
        shown += 1
        rows += _target_rows(target, names[_id_of(target)], models)
    rest = report["targets"][shown:]
    if len(report["targets"]) > 1:
        rows.append((Row("Total"), report["totals"]))
    return filled("Target and invoked model", rows, rest)


def _target_rows(target: Tally, name: str, models: Mapping[str | None, str]) -> list[tuple[Row, Tally]]:
    """Return the row of a target and one row for each of its models; a single row if only one model answered."""
    called, answered = clean(_id_of(target)), target["models"]
    unclear = {tally["invoked_model"] for tally in answered if tally["is_fallback"] is None}
    own = [(models[tally["invoked_model"]] + _role(tally, unclear), tally) for tally in answered]
    if len(own) == 1:
        both = f"{name} → {own[0][0]}"
        itself = answered[0]["invoked_model"] and _id_of(target).endswith(answered[0]["invoked_model"])
        return [(Row(name if itself else both, whole_name=called), target)]
    below = [(Row(model, indent=1, whole_name=_whole(tally)), tally) for model, tally in own]
    return [(Row(name, whole_name=called), target), *below]


def _role(model: Tally, unclear: Collection[str | None]) -> str:
    if model["is_fallback"]:
        return " (fallback)"
    # Before the router was looked up, it is not known whether a call went to the fallback. If a model has calls of both
    # kinds, the rows are labelled.
    return " (not the fallback)" if model["is_fallback"] is False and model["invoked_model"] in unclear else ""


def _cut(head: str, rows: Sequence[tuple[Row, Tally]]) -> Table:
    return filled(head, rows[:ROWS], [tally for _, tally in rows[ROWS:]])


def _label_table(label: str, values: Mapping[str, Tally]) -> Table:
    order = list(values) if is_by_day(label) else sorted(values, key=lambda value: -values[value]["calls"])
    names = distinct(order, value_forms)
    rows = [(Row(names[value], whole_name=clean(value)), values[value]) for value in order]
    if is_by_day(label):  # the last days, as many as there is room for
        return filled(label, rows[-ROWS:], [tally for _, tally in rows[:-ROWS]], which="earlier")
    return _cut(label, rows)


def _served_table(targets: Sequence[Tally], names: Mapping[str, str]) -> Iterable[tuple[str, Table]]:
    rows = [
        (target, (f"{what}: {_requested(asked, served)}", _served(asked, served)))
        for target in targets
        for what, key in (("latency", "latency"), ("tier", "service_tier"))
        for asked, served in target[key].items()
    ]
    yield from _words("Requested and served", ("Requested", "Served"), rows, names)


def _errors_table(targets: Sequence[Tally], names: Mapping[str, str]) -> Iterable[tuple[str, Table]]:
    rows = [(target, (_kinds(target["errors"]),)) for target in targets if target["errors"]]
    yield from _words("Failed", ("Why",), rows, names)


def _ends_unusually(tally: Tally) -> bool:
    """Return whether some answers were truncated, blocked or malformed. Older reports have no stop reasons."""
    return not _USUAL_ENDS.issuperset(tally.get("stop_reasons") or ())


def _stops_table(targets: Sequence[Tally], names: Mapping[str, str]) -> Iterable[tuple[str, Table]]:
    unusual = [target for target in targets if _ends_unusually(target)]
    yield from _words("Stop reasons", ("Calls",), [(each, (_kinds(each["stop_reasons"]),)) for each in unusual], names)


def _words(
    title: str, heads: Sequence[str], rows: Sequence[tuple[Tally, Sequence[str]]], names: Mapping[str, str]
) -> Iterable[tuple[str, Table]]:
    """Yield a table of sentences, unless one target has them all: then the facts already hold them."""
    if len({_id_of(target) for target, _ in rows}) > 1:
        done = [Row(names[_id_of(target)], cells, whole_name=clean(_id_of(target))) for target, cells in rows[:ROWS]]
        if rows[ROWS:]:
            done.append(Row(f"and {len(rows) - ROWS:,} more", [""] * len(heads)))
        yield title, Table("Target", [Column(head, words=True) for head in heads], done)


def _notes(report: Mapping[str, Any], facts: Sequence[tuple[str, str, str]], tables: Sequence[Table]) -> Iterable[str]:
    totals = report["totals"]
    if any(target["requested_model_id"] == OTHERS for target in report["targets"]):
        yield f"{OTHERS}: all targets after the first {len(report['targets']) - 1:,}."
    cells = [fact[1] for fact in facts] + [cell for table in tables for row in table.rows for cell in row.cells]
    if UNKNOWN in cells:
        yield f"{UNKNOWN} not known."
    if any(cell.endswith(PARTIAL) for cell in cells):
        parts = (
            ("calls_without_price", "without a price"),
            ("calls_without_routing_price", "without known routing savings"),
            ("calls_without_caching_price", "without known caching savings"),
            ("calls_without_usage", "without tokens"),
        )
        parts_text = ", ".join(f"{totals[key]:,} {what}" for key, what in parts if totals[key])
        yield f"{PARTIAL} of some calls only; of {counted(totals['calls'], 'call')}, {parts_text}."
    if cached(totals):
        yield "Tokens in: including cache reads and writes. Cache hits: reads as a share of reads and writes."
    if totals["cost_usd"] is not None and totals["calls"]:
        yield f"Prices: {clean(report['prices'])}."


WIDTH = 100


def as_text(report: Mapping[str, Any], width: int | None = None) -> str:
    """Return the report as text for a terminal.

    Args:
        report: The result of `RoutingReport.to_dict`.
        width: The columns of the terminal; 100 if None. Only names and words that are longer go beyond it.
    """
    page = contents(report)
    lines = [page.headline]
    widths = [max((width_of(fact[part]) for fact in page.facts), default=0) for part in (0, 1)]
    for what, amount, comment in page.facts:
        parts = [padded(what, widths[0], words=True), padded(amount, widths[1], words=True), comment]
        lines += _wrapped(f"  {'  '.join(parts)}".rstrip(), width or WIDTH, sum(widths) + 6)
    for title, table in page.tables:
        lines += ["", *([title] if title else []), *text_table(table, width or WIDTH)]
    notes = [line for note in page.notes for line in _wrapped(note, width or WIDTH, 2)]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def _wrapped(line: str, width: int, hanging: int) -> list[str]:
    return textwrap.wrap(
        line, max(width, hanging + 20), subsequent_indent=" " * hanging, break_long_words=False, break_on_hyphens=False
    )


def as_markdown(report: Mapping[str, Any]) -> str:
    """Return the report as GitHub-flavoured Markdown."""
    page = contents(report)
    lines = [f"**{in_markdown(page.headline)}**", *([""] if page.facts else [])]
    lines += [
        f"- {in_markdown(what)}: {in_markdown(_together(amount, comment))}" for what, amount, comment in page.facts
    ]
    for title, table in page.tables:
        lines += ["", *([f"**{in_markdown(title)}**", ""] if title else []), *markdown_table(table)]
    for note in page.notes:
        lines += ["", in_markdown(note)]
    return "\n".join([*lines, ""])


def as_html(report: Mapping[str, Any]) -> str:
    """Return the report as an HTML fragment for a notebook. It loads and runs nothing."""
    page = contents(report)
    # Without these classes a notebook renders the text between two dollar signs as mathematics.
    lines = ['<div class="tex2jax_ignore mathjax_ignore">', f"<p><b>{in_html(page.headline)}</b></p>"]
    if page.facts:
        facts = [f"{in_html(what)}: {in_html(_together(amount, comment))}" for what, amount, comment in page.facts]
        lines.append(f"<p>{'<br>'.join(facts)}</p>")
    for title, table in page.tables:
        lines += [*([f"<p><b>{in_html(title)}</b></p>"] if title else []), html_table(table)]
    lines += [f"<p><small>{in_html(note)}</small></p>" for note in page.notes]
    return "\n".join([*lines, "</div>"])


def _together(amount: str, comment: str) -> str:
    return f"{amount} ({comment})" if amount and comment else amount or comment
