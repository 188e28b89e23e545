"""``bedrock-routing demo``: prompts through routers and profiles, with each framework, and who answered each.

On the emulator also what prompt caching saves, and a knowledge base. At the end, what all of it cost and saved.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bedrock_routing_integrations.costs.report import RoutingReport
from bedrock_routing_integrations.costs.report_tables import as_text

from . import demo_knowledge_base
from .demo_caching import NOT_ON_AWS, TITLE, ask_about_documents, plain_lines, rich_lines, what_was_saved
from .demo_steps import SECTIONS, Framework, Mode, Offer, Step, Wanted, aws_account, emulator
from .errors import explain, is_hopeless
from .output import aligned, counted, short_model

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .demo_steps import Place


# --- The demo's rows as a table: for a terminal, and as plain text for a pipe. ---

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


# --- How each framework is asked, and where it then has the ``"routing"`` entry. ---

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Ask = Callable[[Step, str], Mapping[str, Any]]


# Enough for every prompt of the demo; on AWS it bounds the bill.
_MAX_TOKENS = 400
# What the query engine finds.
_PASSAGES = (
    "A prompt router is one endpoint for two models of a family. It predicts how well each would answer a prompt.",
    "A router's fallback model is the one to beat: the other is chosen where its answer is predicted to be as good.",
)


def asker(framework: Framework, arguments: Mapping[str, Any]) -> Ask:
    """What sends a step to a target and returns the ``"routing"`` of the answer.

    Args:
        framework: Through which framework.
        arguments: How Bedrock is reached: arguments that the classes of both frameworks take.

    Raises:
        ImportError: The framework is not installed; the message says how to install it.
    """
    return {Framework.LANGCHAIN: _langchain, Framework.LLAMA_INDEX: _llama_index}[framework](arguments)


def _options(step: Step) -> dict[str, Any]:
    performance = {"performance_config": {"latency": step.latency}} if step.latency else {}
    return {"max_tokens": _MAX_TOKENS, **performance}


def _langchain(arguments: Mapping[str, Any]) -> Ask:
    from bedrock_routing_integrations.langchain import ChatBedrockRouter

    def ask(step: Step, model_id: str) -> Mapping[str, Any]:
        llm = ChatBedrockRouter(model=model_id, **arguments, **_options(step))
        if step.mode is Mode.STREAM:
            chunks = llm.stream(step.prompt)
            message = next(chunks)
            for chunk in chunks:
                message = message + chunk
        else:
            message = llm.invoke(step.prompt)  # type: ignore[assignment]  # a chunk above, a message here
        routing: Mapping[str, Any] = message.response_metadata["routing"]
        return routing

    return ask


def _llama_index(arguments: Mapping[str, Any]) -> Ask:
    from bedrock_routing_integrations.llama_index import BedrockRouter

    def ask(step: Step, model_id: str) -> Mapping[str, Any]:
        llm = BedrockRouter(model=model_id, **arguments, **_options(step))
        if step.mode is Mode.QUERY:
            return _query(llm, step.prompt)
        if step.mode is Mode.STREAM:
            *_, response = llm.stream_complete(step.prompt)
        else:
            response = llm.complete(step.prompt)
        routing: Mapping[str, Any] = response.additional_kwargs["routing"]
        return routing

    return ask


def _query(llm: Any, question: str) -> Mapping[str, Any]:
    """Ask a query engine. It returns an answer, not the LLM's response; the event says who gave it."""
    from llama_index.core import SummaryIndex
    from llama_index.core.schema import TextNode
    from llama_index_instrumentation import get_dispatcher
    from llama_index_instrumentation.event_handlers import BaseEventHandler

    from bedrock_routing_integrations.llama_index import ModelRoutedEvent

    seen: list[Mapping[str, Any]] = []

    class Listener(BaseEventHandler):
        def handle(self, event: Any, **_: Any) -> None:
            if isinstance(event, ModelRoutedEvent):
                seen.append(event.routing)

    dispatcher, listener = get_dispatcher(), Listener()
    dispatcher.add_event_handler(listener)
    try:
        SummaryIndex([TextNode(text=text) for text in _PASSAGES]).as_query_engine(llm=llm).query(question)
    finally:
        dispatcher.event_handlers.remove(listener)
    return seen[-1]


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
