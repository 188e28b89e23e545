"""Ask a knowledge base of the emulator, in both modes, with standard and optimized latency."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from rich.text import Text

from .output import Column, print_line, print_paragraph, print_table, short_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rich.console import Console

    from bedrock_routing_integrations.costs.report import RoutingReport

TITLE = "A knowledge base"
NOT_ON_AWS = (
    "Not run on AWS, because it needs a knowledge base: RetrieveAndGenerate, and Retrieve with Converse. Run "
    "cookbook/knowledge_bases.ipynb with BEDROCK_ON_AWS=1 and KNOWLEDGE_BASE_ID=…"
)
_QUESTION = "Which moon of Jupiter has an ocean beneath its ice?"
# Converse reports the invoked model and the latency; RetrieveAndGenerate reports neither.
_REPORTING_MODE = "retrieve_then_converse"
_MODES = ("retrieve_and_generate", _REPORTING_MODE)
# Both models are served with optimized latency, through cross-Region profiles.
_SMALL, _LARGE = "us.meta.llama3-1-70b-instruct-v1:0", "us.meta.llama3-1-405b-instruct-v1:0"


@dataclass(frozen=True, kw_only=True)
class KnowledgeBaseAnswer:
    """One answer.

    Attributes:
        mode: The mode of the chain or query engine.
        routing: The answer's ``"routing"``.
        answer: The text of the answer.
        sources: The URIs that it cites.
    """

    mode: str
    routing: Mapping[str, Any]
    answer: str
    sources: tuple[str, ...]

    @property
    def latency_ms(self) -> int | None:
        """Milliseconds that Bedrock reports; None if it reports none. On the emulator they are simulated."""
        latency: int | None = self.routing["latency_ms"]
        return latency


def show(console: Console, report: RoutingReport, *, everything: bool) -> list[str]:
    """Ask the question, and print the answer and its sources.

    Args:
        console: Where to print.
        report: The report to which the calls are added.
        everything: Whether to ask in both modes, with both latencies, and to print a table of them.

    Returns:
        The reason why the section was skipped, if it was.
    """
    latencies, modes = (("standard", "optimized"), _MODES) if everything else (("optimized",), (_REPORTING_MODE,))
    try:
        with console.status(Text("Starting a knowledge base")) as status:
            answers = ask_knowledge_base(latencies, modes, lambda text: status.update(Text(text)))
    except ImportError as error:
        return [f"Skipped the knowledge base: {error}"]
    for answer in answers:
        report.add(answer.routing)
    if everything:
        columns = (
            Column("Mode"), Column("Answered by", style="green"), Column("Latency, ms", right=True),
            Column("Requested"), Column("Served"),
        )  # fmt: skip
        print_table(console, TITLE, columns, map(_cells, answers))
        print_line(console)
    else:
        print_line(console)
        print_line(console, TITLE)
    for line in _lines(answers, everything=everything):
        print_paragraph(console, line, indent=len("Answer:   "))
    return []


def ask_knowledge_base(
    latencies: Sequence[str], modes: Sequence[str], report_progress: Callable[[str], None]
) -> list[KnowledgeBaseAnswer]:
    """Ask on an emulator of its own, with LangChain, or with LlamaIndex if LangChain is not installed.

    Args:
        latencies: The values of ``performanceConfig.latency`` to request.
        modes: The modes to ask in.
        report_progress: Called with a few words before each call.

    Raises:
        ImportError: Neither framework is installed.
    """
    from bedrock_routing_integrations.emulator import BedrockEmulator

    from .demo_steps import isolated_client

    with BedrockEmulator() as bedrock:
        router = bedrock.create_prompt_router(name="demo-fast-router", models=[_SMALL, _LARGE], fallback=_LARGE)
        client = isolated_client(bedrock, "bedrock-agent-runtime")
        shared = {"knowledge_base_id": bedrock.default_knowledge_base(), "model": router, "client": client, "k": 3}
        ask = _ask_langchain if find_spec("langchain_aws") else _ask_llama_index
        answers = []
        try:
            for latency in latencies:
                for mode in modes:
                    report_progress(f"{mode}, {latency} latency")
                    answer, citations, routing = ask(shared, mode, {"latency": latency})
                    sources = dict.fromkeys(source for citation in citations for source in citation.sources)
                    answers.append(
                        KnowledgeBaseAnswer(mode=mode, routing=routing, answer=answer, sources=tuple(sources))
                    )
        finally:
            client.close()
    return answers


def _ask_langchain(shared: Mapping[str, Any], mode: str, performance: Any) -> tuple[str, Sequence[Any], Any]:
    from bedrock_routing_integrations.langchain import KnowledgeBaseChain

    result = KnowledgeBaseChain(**shared, mode=mode, performance_config=performance).invoke(_QUESTION)
    return result["answer"], result["citations"], result["routing"]


def _ask_llama_index(shared: Mapping[str, Any], mode: str, performance: Any) -> tuple[str, Sequence[Any], Any]:
    from bedrock_routing_integrations.llama_index import KnowledgeBaseQueryEngine

    engine = KnowledgeBaseQueryEngine(**shared, mode=mode, performance_config=performance)
    response = engine.query(_QUESTION)
    metadata = response.metadata or {}
    return str(response), metadata["citations"], metadata["routing"]


def _cells(answer: KnowledgeBaseAnswer) -> tuple[str, ...]:
    latency, model = answer.routing["latency"], answer.routing["invoked_model"]
    return (
        answer.mode,
        short_model(model) if model else "(not reported)",
        "(not reported)" if answer.latency_ms is None else f"{answer.latency_ms:,}",
        latency["requested"],
        latency["served"] or "(not reported)",
    )


def _lines(answers: Sequence[KnowledgeBaseAnswer], *, everything: bool) -> Iterator[str]:
    yield f"Question: {_QUESTION}"
    for answer in dict.fromkeys(answer.answer for answer in answers):
        yield f"Answer:   {answer}"
    sources = ", ".join(dict.fromkeys(source for answer in answers for source in answer.sources))
    if not everything:
        routing = answers[0].routing
        yield (
            f"Source:   {sources}; answered by {short_model(routing['invoked_model'])}, "
            f"{routing['latency']['served']} latency."
        )
        return
    yield f"Source:   {sources}"
    standard, optimized = (_mean_latency(answers, latency) for latency in ("standard", "optimized"))
    same = len({(answer.answer, answer.sources) for answer in answers}) == 1
    yield (
        f"{'Both modes give the same answer from the same sources.' if same else 'The answers differ.'} With optimized "
        f"latency Converse took {1 - optimized / standard:.0%} less time. RetrieveAndGenerate reports neither the "
        "invoked model nor the latency."
    )


def _mean_latency(answers: Sequence[KnowledgeBaseAnswer], requested: str) -> float:
    """Return the mean of the reported milliseconds of the answers with a requested latency."""
    reported = [
        answer.latency_ms
        for answer in answers
        if answer.routing["latency"]["requested"] == requested and answer.latency_ms is not None
    ]
    return sum(reported) / len(reported)
