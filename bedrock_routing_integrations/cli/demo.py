"""``bedrock-routing demo``: prompts through routers and profiles, with each framework, and who answered each.

On the emulator also what prompt caching saves, and a knowledge base. At the end, what all of it cost and saved.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.text import Text

from bedrock_routing_integrations.reports import RoutingReport
from bedrock_routing_integrations.reports.tables import as_text

from . import demo_knowledge_base
from .demo_asking import asker
from .demo_caching import NOT_ON_AWS, TITLE, ask_about_documents, plain_lines, rich_lines, what_was_saved
from .demo_places import aws_account, emulator
from .demo_steps import SECTIONS, Offer, Step, Wanted
from .demo_tables import plain_table, rich_table
from .output import counted, short_model
from .problems import explain, is_hopeless

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .demo_asking import Ask
    from .demo_places import Place

__all__ = ["run_demo"]

# In fewer columns a table is a tower of letters; plain lines, which the terminal wraps, can still be read.
_NARROWEST_TABLE = 60
REPORT = "What it cost, and what routing and caching saved"


@dataclass(frozen=True, kw_only=True)
class Row:
    """What came of a step.

    Attributes:
        step: The step.
        offer: The target that it ran on.
        routing: The message's ``"routing"``; None where the call failed.
        error: What was raised where it failed.
        failure: Why it failed, in words.
    """

    step: Step
    offer: Offer
    routing: Mapping[str, Any] | None = None
    error: Exception | None = None
    failure: str | None = None


def run_demo(*, on_aws: bool, region: str | None) -> int:
    """Run every section and show what happened.

    Args:
        on_aws: Use the account that boto3 finds, instead of an emulator.
        region: The Region to use (on AWS) or to emulate.

    Returns:
        The exit code: 1 where nothing could run, or where the emulator failed.
    """
    console = Console(highlight=False, markup=False)
    rows: list[Row] = []
    missing: list[str] = []
    report = RoutingReport()
    with aws_account(region) if on_aws else emulator(region) as place:
        _say(console, place.title)
        for section in SECTIONS:
            try:
                ask = asker(section.framework, place.arguments)
            except ImportError as error:
                missing.append(f"Skipped {section.framework.value}: {error}")
                continue
            found = _run(section.steps, place, ask, console)
            _count(found, report, on_aws=on_aws)
            _show(f"Who answers, with {section.framework.value}", found, console)
            rows += found
        if rows and not on_aws:
            _show_caching(place, console, report)
            missing += _show_knowledge_base(console, report)
    _show_report(report, console)
    if not console.is_terminal:
        typer.echo()
    for line in (*missing, *_skipped(place), *_closing(rows, on_aws=on_aws)):
        _say(console, line)
    worked = [row for row in rows if row.routing]
    return 0 if worked and (on_aws or len(worked) == len(rows)) else 1


def _say(console: Console, line: str) -> None:
    """A line: wrapped between words in a terminal, left alone in a pipe."""
    if console.is_terminal:
        console.print(line)
    else:
        typer.echo(line)


def _run(steps: Sequence[Step], place: Place, ask: Ask, console: Console) -> list[Row]:
    """Run the steps for which the place has a target."""
    rows = []
    possible = [step for step in steps if step.on in place.offers]
    with console.status("") as status:  # shows itself in a terminal only
        for number, step in enumerate(possible, 1):
            status.update(Text(f"{number} of {len(possible)}: {step.prompt[:50]}"))
            rows.append(_run_step(step, place.offers[step.on], ask))
    return rows


def _count(rows: Sequence[Row], report: RoutingReport, *, on_aws: bool) -> None:
    """Add the rows to the report.

    The emulator's times are simulated. That to the first token is measured here, by the clock on the wall, and would
    stand beside them.
    """
    for row in rows:
        if row.error is not None:
            report.add_error(row.error, requested_model_id=row.offer.model_id)
        elif row.routing is not None:
            report.add(row.routing if on_aws else {**row.routing, "time_to_first_token_ms": None})


def _run_step(step: Step, offer: Offer, ask: Ask) -> Row:
    try:
        routing = ask(step, offer.model_id)
    except Exception as error:
        failure = explain(error)
        if failure is None or is_hopeless(error):
            raise
        return Row(step=step, offer=offer, error=error, failure=failure)
    return Row(step=step, offer=offer, routing=routing)


def _show(title: str, rows: Sequence[Row], console: Console) -> None:
    if not rows:
        return
    if console.is_terminal and console.width >= _NARROWEST_TABLE:
        console.print(rich_table(title, rows, console.width))
        return
    for line in ("", title, *plain_table(rows)):
        typer.echo(line)


def _show_caching(place: Place, console: Console, report: RoutingReport) -> None:
    calls = ask_about_documents(place.arguments)
    for call in calls:
        report.add(call.routing)
    if console.is_terminal and console.width >= _NARROWEST_TABLE:
        console.print(rich_lines(calls, console.width))
    else:
        for line in ("", TITLE, *plain_lines(calls), ""):
            typer.echo(line)
    for line in what_was_saved(calls):
        _say(console, line)


def _show_knowledge_base(console: Console, report: RoutingReport) -> list[str]:
    """Show the section; why not, where it cannot be shown."""
    try:
        with console.status(Text(demo_knowledge_base.STARTING)) as status:
            asked = demo_knowledge_base.ask_knowledge_base(lambda what: status.update(Text(what)))
    except ImportError as error:
        return [f"Skipped the knowledge base: {error}"]
    for one in asked:
        report.add(one.routing)
    if console.is_terminal and console.width >= _NARROWEST_TABLE:
        console.print(demo_knowledge_base.rich_rows(asked))
    else:
        for line in ("", demo_knowledge_base.TITLE, *demo_knowledge_base.plain_rows(asked), ""):
            typer.echo(line)
    for line in demo_knowledge_base.what_was_said(asked):
        _say(console, line)
    return []


def _show_report(report: RoutingReport, console: Console) -> None:
    """What all of it cost and saved: the report that the callback handlers of both frameworks make."""
    if console.is_terminal:
        console.print(Text(REPORT, "bold"))
        console.print(Text(as_text(report.to_dict(), console.width)), soft_wrap=True)
    else:
        typer.echo(f"\n{REPORT}\n{as_text(report.to_dict())}")


def _skipped(place: Place) -> Iterable[str]:
    wanted = dict.fromkeys(step.on for section in SECTIONS for step in section.steps)
    for kind in wanted:
        if kind in place.lacking:
            yield f"Skipped, no {kind.value}: {place.lacking[kind]}"


def _closing(rows: Sequence[Row], *, on_aws: bool) -> Iterable[str]:
    """What was seen, and how to go on."""
    for row in rows:
        if row.failure:
            asked = f" with {row.step.latency} latency" if row.step.latency else ""
            yield f"Refused{asked}, {row.offer.kind} {row.offer.name}: {row.failure}"
    worked = [row for row in rows if row.routing]
    if not worked:
        yield "Nothing could run."
        return
    yield from _who_answered(worked)
    if on_aws:
        yield NOT_ON_AWS
        yield demo_knowledge_base.NOT_ON_AWS
        yield 'Go on: `bedrock-routing ask TARGET "your prompt"`, TARGET being a router, profile or model of yours.'
    else:
        if any(row.step.on is Wanted.LAUNCH_ROUTER for row in worked):
            yield (
                "The launch router is the one of the launch of prompt routers, with its prompts: its models are at or "
                "near their end of life on AWS."
            )
        yield "This Bedrock was emulated: the protocol is real, the models are small programs, the times are simulated."
        yield "Go on: `bedrock-routing demo --aws` on your account; `bedrock-routing emulate` for your own application."


def _who_answered(rows: Sequence[Row]) -> Iterable[str]:
    """The models behind the router that most of the steps ran on."""
    routed = [row for row in rows if row.step.on is Wanted.DEFAULT_ROUTER]
    models = Counter(row.routing["invoked_model"] for row in routed if row.routing and row.routing["invoked_model"])
    if not models:
        return
    counts = [f"{short_model(model)} ({counted(number, 'prompt')})" for model, number in models.items()]
    yield f"{counted(len(models), 'model')} answered for the router {routed[0].offer.name}: {' and '.join(counts)}."
