"""Run ``bedrock-routing demo``: send prompts to routers and profiles with both frameworks, show the invoked models.

On the emulator the demo also shows the savings of prompt caching and asks a knowledge base. By default everything fits
one screen of 100 columns and 40 lines; ``--all`` prints every column, both modes of the knowledge base and the report.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from bedrock_routing_integrations.costs.report import RoutingReport
from bedrock_routing_integrations.costs.report_tables import as_text, money, percent

from .demo_sections import CACHING_NOT_ON_AWS, KNOWLEDGE_BASE_NOT_ON_AWS, show_caching, show_knowledge_base
from .demo_steps import STEPS, Framework, Mode, Step, TargetFound, aws_account, emulator
from .errors import explain, is_hopeless
from .output import PIPE_WIDTH, Column, counted, first_words, print_line, print_paragraph, print_table, short_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from .demo_steps import DemoBedrock

    Ask = Callable[[Step, str], tuple[str, Mapping[str, Any]]]

_WHO = "Who answered"
# In fewer characters, prompts are shown without answers.
_LEAST_FOR_ANSWERS = 40
_MODES = {Mode.STREAM: "stream", Mode.QUERY: "query engine"}
# Enough for every prompt of the demo. On AWS it bounds the bill.
_MAX_TOKENS = 400
# The passages that the query engine answers from.
_PASSAGES = (
    "A prompt router is one endpoint for two models of a family. It predicts how well each would answer a prompt.",
    "A router's fallback model is the one to beat: the other is chosen where its answer is predicted to be as good.",
)


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """The result of a step.

    Attributes:
        framework: The framework that sent the prompt.
        step: The step.
        target: The target that it ran on.
        answer: The text of the answer.
        routing: The ``"routing"`` of the answer; None if the call failed.
        error: The error of a call that failed.
        failure: The error in words.
    """

    framework: Framework
    step: Step
    target: TargetFound
    answer: str = ""
    routing: Mapping[str, Any] | None = None
    error: Exception | None = None
    failure: str | None = None


def run_demo(*, on_aws: bool, region: str | None, everything: bool = False) -> int:
    """Run all steps and print their results.

    Args:
        on_aws: Whether to use the account that boto3 finds, instead of an emulator.
        region: The Region to use (on AWS) or to emulate; None for the default one.
        everything: Whether to print all columns and the whole report, instead of one screen.

    Returns:
        The exit code: 1 if no call succeeded, or if a call to the emulator failed.
    """
    console = Console(highlight=False, markup=False)
    results: list[StepResult] = []
    skipped: list[str] = []
    report = RoutingReport()
    with aws_account(region) if on_aws else emulator(region) as bedrock:
        print_line(console, bedrock.title)
        for framework, steps in STEPS.items():
            try:
                ask = _ask_with(framework, bedrock.arguments)
            except ImportError as error:
                skipped.append(f"Skipped {framework.value}: {error}")
                continue
            results += _run(framework, steps, bedrock, ask, console)
        _count(results, report, on_aws=on_aws)
        if results:
            _print_answers(console, results, everything=everything)
        if results and not on_aws:
            show_caching(console, bedrock.arguments, report)
            skipped += show_knowledge_base(console, report, everything=everything)
    if everything:
        _print_report(console, report)
    print_line(console)
    if report.calls and not everything:
        print_paragraph(console, _total(report.to_dict()))
    for line in (
        *skipped,
        *_skipped_targets(bedrock),
        *_failures(results),
        *_next_steps(results, on_aws=on_aws, everything=everything),
    ):
        print_line(console, line)
    succeeded = [result for result in results if result.routing]
    return 0 if succeeded and (on_aws or len(succeeded) == len(results)) else 1


def _run(
    framework: Framework, steps: Sequence[Step], bedrock: DemoBedrock, ask: Ask, console: Console
) -> Iterator[StepResult]:
    """Run the steps for which there is a target."""
    possible = [step for step in steps if step.on in bedrock.targets]
    with console.status("") as status:  # only visible in a terminal
        for number, step in enumerate(possible, 1):
            status.update(Text(f"{number} of {len(possible)}: {first_words(step.prompt, 30)}"))
            yield _run_step(framework, step, bedrock.targets[step.on], ask)


def _run_step(framework: Framework, step: Step, target: TargetFound, ask: Ask) -> StepResult:
    try:
        answer, routing = ask(step, target.model_id)
    except Exception as error:
        failure = explain(error)
        if failure is None or is_hopeless(error):
            raise
        return StepResult(framework=framework, step=step, target=target, error=error, failure=failure)
    return StepResult(framework=framework, step=step, target=target, answer=answer, routing=routing)


def _count(results: Iterable[StepResult], report: RoutingReport, *, on_aws: bool) -> None:
    """Add the results to the report.

    The emulator's latencies are simulated, but the time to the first token is measured on this machine's clock. The two
    do not belong in one table, so the emulator's calls are counted without the latter.
    """
    for result in results:
        if result.error is not None:
            report.add_error(result.error, requested_model_id=result.target.model_id)
        elif result.routing is not None:
            report.add(result.routing if on_aws else {**result.routing, "time_to_first_token_ms": None})


def _ask_with(framework: Framework, arguments: Mapping[str, Any]) -> Ask:
    """Return a function that sends a step to a target and returns the answer and its ``"routing"``.

    Args:
        framework: The framework to use.
        arguments: The connection arguments, which the classes of both frameworks take.

    Raises:
        ImportError: The framework is not installed; the message names the pip command.
    """
    return {Framework.LANGCHAIN: _ask_langchain, Framework.LLAMA_INDEX: _ask_llama_index}[framework](arguments)


def _options(step: Step) -> dict[str, Any]:
    performance = {"performance_config": {"latency": step.latency}} if step.latency else {}
    return {"max_tokens": _MAX_TOKENS, **performance}


def _ask_langchain(arguments: Mapping[str, Any]) -> Ask:
    from bedrock_routing_integrations.langchain import ChatBedrockRouter

    def ask(step: Step, model_id: str) -> tuple[str, Mapping[str, Any]]:
        llm = ChatBedrockRouter(model=model_id, **arguments, **_options(step))
        if step.mode is Mode.STREAM:
            chunks = llm.stream(step.prompt)
            message = next(chunks)
            for chunk in chunks:
                message = message + chunk
        else:
            message = llm.invoke(step.prompt)  # type: ignore[assignment]  # a chunk above, a message here
        return str(message.text), message.response_metadata["routing"]

    return ask


def _ask_llama_index(arguments: Mapping[str, Any]) -> Ask:
    from bedrock_routing_integrations.llama_index import BedrockRouter

    def ask(step: Step, model_id: str) -> tuple[str, Mapping[str, Any]]:
        llm = BedrockRouter(model=model_id, **arguments, **_options(step))
        if step.mode is Mode.QUERY:
            return _query(llm, step.prompt)
        if step.mode is Mode.STREAM:
            *_, response = llm.stream_complete(step.prompt)
        else:
            response = llm.complete(step.prompt)
        return response.text, response.additional_kwargs["routing"]

    return ask


def _query(llm: Any, question: str) -> tuple[str, Mapping[str, Any]]:
    """Ask a query engine. It returns an answer and not the LLM's response, so the event shows the invoked model."""
    from llama_index.core import SummaryIndex
    from llama_index.core.schema import TextNode
    from llama_index_instrumentation import get_dispatcher
    from llama_index_instrumentation.event_handlers import BaseEventHandler

    from bedrock_routing_integrations.llama_index import ModelRoutedEvent

    routings: list[Mapping[str, Any]] = []

    class RoutingListener(BaseEventHandler):
        def handle(self, event: Any, **_: Any) -> None:
            if isinstance(event, ModelRoutedEvent):
                routings.append(event.routing)

    dispatcher, listener = get_dispatcher(), RoutingListener()
    dispatcher.add_event_handler(listener)
    try:
        answer = SummaryIndex([TextNode(text=text) for text in _PASSAGES]).as_query_engine(llm=llm).query(question)
    finally:
        dispatcher.event_handlers.remove(listener)
    return str(answer), routings[-1]


def _print_answers(console: Console, results: Sequence[StepResult], *, everything: bool) -> None:
    if everything:
        for framework in Framework:
            rows = [_all_cells(result) for result in results if result.framework is framework]
            if rows:
                print_table(console, f"{_WHO}, with {framework.value}", _ALL_COLUMNS, rows)
        return
    numbers = Counter(result.framework.value for result in results)
    prompts = ", ".join(f"{counted(number, 'prompt')} with {name}" for name, number in numbers.items())
    columns = (
        Column("Target", style="dim"), Column("Prompt"), Column("Answered by", style="green"),
        Column("Answer", stretch=True),
    )  # fmt: skip
    width = min(console.width, 160) if console.is_terminal else PIPE_WIDTH
    print_table(console, f"{_WHO}: {prompts}", columns, _screen_rows(results, width))


def _screen_rows(results: Sequence[StepResult], width: int) -> Iterator[tuple[str, ...]]:
    """Yield the target, prompt, model and answer of each result, cut so that each row is one line."""
    models = [_answered_by(result) for result in results]
    separators = 4 * len("   ")
    left = width - max(map(len, models)) - max(len(result.target.kind) for result in results) - separators
    for_answer = left // 2 if left >= _LEAST_FOR_ANSWERS else 0
    for result, model in zip(results, models, strict=True):
        answer = first_words(result.answer or "(failed, see below)", for_answer) if for_answer else ""
        yield result.target.kind, first_words(result.step.prompt, left - for_answer), model, answer


_ALL_COLUMNS = (
    Column("Target", style="dim"), Column("Name", style="dim"), Column("Answered by", style="green"),
    Column("Tokens in", right=True), Column("Tokens out", right=True), Column("Latency, ms", right=True),
    Column("Requested"), Column("Served"), Column("Mode"), Column("Prompt", stretch=True),
)  # fmt: skip


def _all_cells(result: StepResult) -> tuple[str, ...]:
    routing = result.routing or {}
    usage, latency = routing.get("usage") or {}, routing.get("latency") or {}
    milliseconds = routing.get("latency_ms")
    return (
        result.target.kind,
        result.target.name,
        _answered_by(result),
        str(usage.get("input", "")),
        str(usage.get("output", "")),
        "" if milliseconds is None else f"{milliseconds:,}",
        latency.get("requested") or "",
        latency.get("served") or "",
        _MODES.get(result.step.mode, ""),
        result.step.prompt,
    )


def _answered_by(result: StepResult) -> str:
    if result.routing is None:
        return "(failed)"
    model = result.routing["invoked_model"]
    name = short_model(model) if model else "(not known)"
    return f"{name} (fallback)" if result.routing["is_fallback"] else name


def _print_report(console: Console, report: RoutingReport) -> None:
    print_line(console)
    console.print(Text("Cost and savings", "bold")) if console.is_terminal else print_line(console, "Cost and savings")
    width = console.width if console.is_terminal else None
    text = as_text(report.to_dict(), width)
    if console.is_terminal:
        console.print(Text(text), soft_wrap=True)
    else:
        print_line(console, text)


def _total(report: Mapping[str, Any]) -> str:
    """Return the cost of all calls and the savings in one line."""
    totals = report["totals"]
    priced = totals["calls"] - totals["calls_without_price"]
    calls = counted(totals["calls"], "call")
    if totals["calls_without_price"]:
        calls = f"{priced} of {calls} have a listed price and"
    parts = [f"Total: {calls} cost {money(totals['cost_usd'])}"]
    for source, paid in (("routing", "routed_cost_usd"), ("caching", "cached_cost_usd")):
        saved, cost = totals[f"saved_by_{source}_usd"], totals[paid]
        if saved and cost is not None and cost + saved > 0:
            parts.append(f"{source} saved {money(saved)} ({percent(saved / (cost + saved))})")
    return "; ".join(parts) + "."


def _skipped_targets(bedrock: DemoBedrock) -> Iterator[str]:
    kinds = dict.fromkeys(step.on for steps in STEPS.values() for step in steps)
    for kind in kinds:
        if kind in bedrock.missing:
            yield f"Skipped, no {kind.value}: {bedrock.missing[kind]}"


def _failures(results: Iterable[StepResult]) -> Iterator[str]:
    for result in results:
        if result.failure:
            latency = f" with {result.step.latency} latency" if result.step.latency else ""
            yield f"Failed{latency}, {result.target.kind} {result.target.name}: {result.failure}"


def _next_steps(results: Sequence[StepResult], *, on_aws: bool, everything: bool) -> Iterator[str]:
    if not any(result.routing for result in results):
        yield "Nothing could run."
        return
    if on_aws:
        yield CACHING_NOT_ON_AWS
        yield KNOWLEDGE_BASE_NOT_ON_AWS
        yield 'Next: `bedrock-routing ask TARGET "your prompt"`, with a router, profile or model of yours.'
        return
    details = "" if everything else "`demo --all` for details, "
    yield f"Next: {details}`demo --aws` on your account, `emulate` for your own application."
