"""What a report says, whatever it is written in: `RoutingReport.to_dict()` → headline, facts, tables and notes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from .columns import PARTIAL, amount, cached, filled
from .layout import Column, Row, Table
from .tally import OTHERS
from .timeline import is_by_day
from .wording import UNKNOWN, clean, counted, distinct, model_forms, percent, value_forms

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

__all__ = ["EMPTY", "Page", "contents", "model_names"]

Tally = dict[str, Any]

EMPTY = "No calls yet."
NOT_KNOWN = "(not known)"
# Tables of thousands are for programs, and these have the dictionary.
ROWS = 50
# What was not asked for, or not told, in a tally's "latency" and "service_tier"; what was asked for and is not known.
_NONE, _UNKNOWN = "none", "unknown"
# An answer that ends so is as long as it was meant to be.
_USUAL_ENDS = frozenset({"end_turn", "stop_sequence", "tool_use"})


@dataclass(frozen=True)
class Page:
    """Said in this order: a headline, facts (what, how much, a comment), tables with their titles, notes."""

    headline: str
    facts: Sequence[tuple[str, str, str]] = ()
    tables: Sequence[tuple[str, Table]] = ()
    notes: Sequence[str] = ()


def contents(report: Mapping[str, Any]) -> Page:
    """Put together what is said of `report`."""
    totals, targets = report["totals"], report["targets"]
    if not totals["calls"] and not totals["errors"]:
        return Page(EMPTY)
    models, names = model_names(report), distinct(map(_id_of, targets), value_forms)
    tables = [("", _targets_table(report, names, models))] if targets else []  # of an error the target may be unknown
    # Where no model answered for two targets, all this has been said.
    if sum(len(target["models"]) for target in targets) > len(report["models"]) > 1:
        rows = [(Row(models[tally["invoked_model"]], whole_name=_whole(tally)), tally) for tally in report["models"]]
        tables.append(("Models, over all targets", _cut("Model", rows)))
    tables += [*_served_table(targets, names), *_errors_table(targets, names), *_stops_table(targets, names)]
    for label, values in report["by"].items():
        tables.append((f"By {clean(label)}", _label_table(clean(label), values)))
    facts = _facts(report)
    return Page(_headline(report), facts, tables, list(_notes(report, facts, [table for _, table in tables])))


def model_names(report: Mapping[str, Any]) -> dict[str | None, str]:
    """A short name for each model of the report, the same in all its tables and pictures."""
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
    said = counted(report["totals"]["calls"], "call")
    targets = {target["requested_model_id"] for target in report["targets"]}
    if len(targets) > 1:
        said += f" of more than {len(targets) - 1:,} targets" if OTHERS in targets else f" of {len(targets):,} targets"
    since, until = _moment(report["since"]), _moment(report["until"])
    if not since or not until:
        return said
    if since == until:
        return f"{said}, {since} UTC"
    return f"{said}, {since} to {until[11:] if since[:10] == until[:10] else until} UTC"


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
            (what, "", f"{_asked(asked, served)}, {_got(asked, served)}") for asked, served in totals[key].items()
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
    """How much less these calls cost for it, of which that is known; empty where nothing was saved."""
    paid, saved = totals[f"{'routed' if by == 'routing' else 'cached'}_cost_usd"], totals[f"saved_by_{by}_usd"]
    if paid is None or not saved or paid + saved <= 0:
        return ""
    return f"{percent(abs(saved) / (paid + saved))} {'less' if saved > 0 else 'more'}"


def _kinds(errors: Mapping[str, int]) -> str:
    most = sorted(errors, key=lambda kind: -errors[kind])
    names = distinct(most, lambda kind: [kind])
    said = [f"{names[kind]} {errors[kind]:,}" for kind in most[:5]]
    if most[5:]:
        said.append(f"others {sum(errors[kind] for kind in most[5:]):,}")
    return ", ".join(said)


def _asked(asked: str, served: Mapping[str, int]) -> str:
    said = {_NONE: "not asked", _UNKNOWN: "asked, not told for which"}.get(asked) or f"{clean(asked)} asked"
    return f"{said} {sum(served.values()):,}"


def _got(asked: str, served: Mapping[str, int]) -> str:
    """How often what was asked for was served, and what else was: served 9, standard 3."""
    is_known = asked not in (_NONE, _UNKNOWN, OTHERS)  # "others" may have been served as something else
    said = [f"served {served.get(asked, 0):,}"] if is_known else []
    others = [other for other in served if other != asked or not is_known]
    return ", ".join(
        [*said, *(f"{'not told' if other == _NONE else clean(other)} {served[other]:,}" for other in others)]
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
    return filled("Target, and who answered", rows, rest)


def _target_rows(target: Tally, name: str, models: Mapping[str | None, str]) -> list[tuple[Row, Tally]]:
    """The target's row and one for each model below it; one row says both where only one model answered."""
    called, answered = clean(_id_of(target)), target["models"]
    unclear = {tally["invoked_model"] for tally in answered if tally["is_fallback"] is None}
    own = [(models[tally["invoked_model"]] + _role(tally, unclear), tally) for tally in answered]
    if len(own) == 1:
        said = f"{name} → {own[0][0]}"
        itself = answered[0]["invoked_model"] and _id_of(target).endswith(answered[0]["invoked_model"])
        return [(Row(name if itself else said, whole_name=called), target)]
    below = [(Row(model, indent=1, whole_name=_whole(tally)), tally) for model, tally in own]
    return [(Row(name, whole_name=called), target), *below]


def _role(model: Tally, unclear: Collection[str | None]) -> str:
    if model["is_fallback"]:
        return " (fallback)"
    # Of calls before the router could be looked up it is not known; beside others of the same model that is said.
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
        (target, (f"{what}: {_asked(asked, served)}", _got(asked, served)))
        for target in targets
        for what, key in (("latency", "latency"), ("tier", "service_tier"))
        for asked, served in target[key].items()
    ]
    yield from _words("Asked and served", ("Asked", "Served"), rows, names)


def _errors_table(targets: Sequence[Tally], names: Mapping[str, str]) -> Iterable[tuple[str, Table]]:
    rows = [(target, (_kinds(target["errors"]),)) for target in targets if target["errors"]]
    yield from _words("Failed", ("Why",), rows, names)


def _ends_unusually(tally: Tally) -> bool:
    """Return whether some answers were cut short, blocked or malformed; reports of earlier versions do not say."""
    return not _USUAL_ENDS.issuperset(tally.get("stop_reasons") or ())


def _stops_table(targets: Sequence[Tally], names: Mapping[str, str]) -> Iterable[tuple[str, Table]]:
    unusual = [target for target in targets if _ends_unusually(target)]
    yield from _words("Stop reasons", ("Calls",), [(each, (_kinds(each["stop_reasons"]),)) for each in unusual], names)


def _words(
    title: str, heads: Sequence[str], rows: Sequence[tuple[Tally, Sequence[str]]], names: Mapping[str, str]
) -> Iterable[tuple[str, Table]]:
    """A table of sentences; none where one target has them all, as the facts have said them then."""
    if len({_id_of(target) for target, _ in rows}) > 1:
        done = [Row(names[_id_of(target)], cells, whole_name=clean(_id_of(target))) for target, cells in rows[:ROWS]]
        if rows[ROWS:]:
            done.append(Row(f"and {len(rows) - ROWS:,} more", [""] * len(heads)))
        yield title, Table("Target", [Column(head, words=True) for head in heads], done)


def _notes(report: Mapping[str, Any], facts: Sequence[tuple[str, str, str]], tables: Sequence[Table]) -> Iterable[str]:
    totals = report["totals"]
    if any(target["requested_model_id"] == OTHERS for target in report["targets"]):
        yield f"{OTHERS}: all targets that came after the first {len(report['targets']) - 1:,}."
    cells = [fact[1] for fact in facts] + [cell for table in tables for row in table.rows for cell in row.cells]
    if UNKNOWN in cells:
        yield f"{UNKNOWN} not known."
    if any(cell.endswith(PARTIAL) for cell in cells):
        parts = (
            ("calls_without_price", "without a price"),
            ("calls_without_routing_price", "without what routing saved"),
            ("calls_without_caching_price", "without what caching saved"),
            ("calls_without_usage", "without tokens"),
        )
        said = ", ".join(f"{totals[key]:,} {what}" for key, what in parts if totals[key])
        yield f"{PARTIAL} of some calls only; of all {counted(totals['calls'], 'call')}, {said}."
    if cached(totals):
        yield "Tokens in: with those read from the cache or written to it. Cache hits: the share read of these two."
    if totals["cost_usd"] is not None and totals["calls"]:
        yield f"Prices: {clean(report['prices'])}."
