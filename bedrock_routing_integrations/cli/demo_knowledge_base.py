"""The demo's section on knowledge bases: one question, asked in both modes, with standard and optimized latency."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from .output import aligned, short_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["NOT_ON_AWS", "STARTING", "TITLE", "Asked", "ask_knowledge_base", "plain_rows", "rich_rows", "what_was_said"]

TITLE = "A knowledge base: one question, two modes, two latencies"
NOT_ON_AWS = (
    "Left out, as it needs a knowledge base: what RetrieveAndGenerate reports, and what Retrieve and Converse do. Run "
    "cookbook/knowledge_bases.ipynb with BEDROCK_ON_AWS=1 and KNOWLEDGE_BASE_ID=…"
)
_QUESTION = "Which moon of Jupiter has an ocean beneath its ice?"
_MODES = ("retrieve_and_generate", "retrieve_then_converse")
STARTING = f"0 of {2 * len(_MODES)}: connecting"
"""What is said before the first question."""
# Both are served with optimized latency, through cross-Region profiles.
_SMALL, _LARGE = "us.meta.llama3-1-70b-instruct-v1:0", "us.meta.llama3-1-405b-instruct-v1:0"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One answer.

    Attributes:
        mode: How it was asked.
        routing: The answer's ``"routing"``.
        answer: The answer.
        sources: The URIs that it cites.
    """

    mode: str
    routing: Mapping[str, Any]
    answer: str
    sources: tuple[str, ...]

    @property
    def taken_ms(self) -> int | None:
        """Milliseconds that the model took, as Bedrock reports them; None where it does not.

        On the emulator they are simulated. The clock on the wall would measure this machine, which is no figure to put
        beside them.
        """
        taken: int | None = self.routing["latency_ms"]
        return taken


def ask_knowledge_base(tell: Callable[[str], None]) -> list[Asked]:
    """Ask on an emulator of its own; with LangChain, or LlamaIndex where there is no LangChain.

    Args:
        tell: Is told, in a few words, what is being asked.

    Raises:
        ImportError: There is neither.
    """
    from bedrock_routing_integrations.emulator import BedrockEmulator

    from .demo_steps import isolated_client

    with BedrockEmulator() as bedrock:
        router = bedrock.create_prompt_router(name="demo-fast-router", models=[_SMALL, _LARGE], fallback=_LARGE)
        client = isolated_client(bedrock, "bedrock-agent-runtime")
        shared = {"knowledge_base_id": bedrock.default_knowledge_base(), "model": router, "client": client, "k": 3}
        ask = _with_langchain if find_spec("langchain_aws") else _with_llama_index
        try:
            calls = [(mode, latency) for latency in ("standard", "optimized") for mode in _MODES]
            asked = []
            for number, (mode, latency) in enumerate(calls, 1):
                tell(f"{number} of {len(calls)}: {mode}")
                answer, citations, routing = ask(shared, mode, {"latency": latency})
                sources = dict.fromkeys(source for citation in citations for source in citation.sources)
                asked.append(Asked(mode=mode, routing=routing, answer=answer, sources=tuple(sources)))
            return asked
        finally:
            client.close()


def _with_langchain(shared: Mapping[str, Any], mode: str, performance: Any) -> tuple[str, Sequence[Any], Any]:
    from bedrock_routing_integrations.langchain import KnowledgeBaseChain

    result = KnowledgeBaseChain(**shared, mode=mode, performance_config=performance).invoke(_QUESTION)
    return result["answer"], result["citations"], result["routing"]


def _with_llama_index(shared: Mapping[str, Any], mode: str, performance: Any) -> tuple[str, Sequence[Any], Any]:
    from bedrock_routing_integrations.llama_index import KnowledgeBaseQueryEngine

    engine = KnowledgeBaseQueryEngine(**shared, mode=mode, performance_config=performance)
    response = engine.query(_QUESTION)
    metadata = response.metadata or {}
    return str(response), metadata["citations"], metadata["routing"]


def what_was_said(asked: Sequence[Asked]) -> Iterator[str]:
    """The answer, where it comes from, and what is to be seen in the table."""
    for answer in dict.fromkeys(one.answer for one in asked):
        yield f"Answer: {answer}"
    yield f"Sources: {', '.join(dict.fromkeys(source for one in asked for source in one.sources))}"
    standard, optimized = (_mean(asked, latency) for latency in ("standard", "optimized"))
    alike = len({(one.answer, one.sources) for one in asked}) == 1
    yield (
        f"{'Both modes give the same answer from the same sources' if alike else 'The answers differ'}; with optimized "
        f"latency Converse took {1 - optimized / standard:.0%} less time (simulated). RetrieveAndGenerate does not say "
        "which model of the router answered, which latency was served, nor how long it took."
    )


def _mean(asked: Sequence[Asked], latency: str) -> float:
    """The mean of the times that are reported for this latency."""
    these = (one.taken_ms for one in asked if one.routing["latency"]["requested"] == latency)
    times = [taken for taken in these if taken is not None]
    return sum(times) / len(times)


def plain_rows(asked: Sequence[Asked]) -> list[str]:
    """Aligned columns for a pipe; times in milliseconds."""
    return aligned([("MODE", "ASKED", "SERVED", "MS", "ANSWERED BY"), *map(_plain_cells, asked)])


def _plain_cells(one: Asked) -> tuple[str, ...]:
    latency = one.routing["latency"]
    served = latency["served"] or "not reported"
    taken = "not reported" if one.taken_ms is None else str(one.taken_ms)
    return one.mode, latency["requested"], served, taken, one.routing["invoked_model"] or "not reported"


def rich_rows(asked: Sequence[Asked]) -> Table:
    """A table for a terminal."""
    table = Table(
        title=TITLE, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    table.add_column("Mode", no_wrap=True)
    table.add_column("Latency\nasked / served", no_wrap=True)
    table.add_column("Time", justify="right", no_wrap=True)
    table.add_column("Answered by", overflow="fold")
    for one in asked:
        model, latency = one.routing["invoked_model"], one.routing["latency"]
        served = Text(latency["served"]) if latency["served"] else Text("not reported", "yellow")
        table.add_row(
            Text(one.mode),
            Text.assemble(f"{latency['requested']} /\n", served),
            Text("not reported", "yellow") if one.taken_ms is None else Text(f"{one.taken_ms} ms"),
            Text(short_model(model), "bold green") if model else Text("not reported", "yellow"),
        )
    return table
