"""Show the demo's sections on prompt caching and on a knowledge base. Both run on the emulator only.

Prompt caching repeats the example that AWS published at its launch: the first of three calls about three documents
wrote 29,841 tokens to the cache, and each later call read as many and took 55% less time.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count, islice
from typing import TYPE_CHECKING, Any

from rich.text import Text

from bedrock_routing_integrations.caching import saved_tokens
from bedrock_routing_integrations.client import RoutedClient

from .output import Column, print_line, print_paragraph, print_table, short_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rich.console import Console

    from bedrock_routing_integrations.costs.report import RoutingReport
    from bedrock_routing_integrations.models.facts import CacheRules

QUESTIONS = (
    "What does rule 17 of beekeeping say?",
    "What does rule 203 of gardening say?",
    "What does rule 350 of carpentry say?",
)
_HANDBOOKS = {
    "beekeeping": ("open the hive", "feed the queen"),
    "gardening": ("water the beans", "turn the compost"),
    "carpentry": ("sharpen the saw", "oil the bench"),
}
# At this length the emulator counts 29,841 tokens for all three, the number in AWS's example.
_CHARACTERS = 39_772
_LINES_PER_PAGE = 56
_PAGE = (
    "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >> /Contents {} 0 R >>"
)


def document_blocks() -> list[dict[str, Any]]:
    """Return the three documents as content blocks of a Converse message."""
    return [
        {"document": {"format": "pdf", "name": name, "source": {"bytes": _pdf(_rules(name, duties))}}}
        for name, duties in _HANDBOOKS.items()
    ]


def _rules(handbook: str, duties: Sequence[str]) -> list[str]:
    """Return the lines of a handbook of `_CHARACTERS` characters; the last line is cut."""
    rules = (f"Rule {n} of {handbook}: {duties[n % len(duties)]} {n} minutes after sunrise." for n in count(1))
    return "\n".join(islice(rules, _CHARACTERS // 20))[:_CHARACTERS].splitlines()


def _pdf(lines: Sequence[str]) -> bytes:
    """Return a PDF file with lines of plain ASCII without parentheses (ISO 32000-1, 7.5: file structure)."""
    pages = [lines[start : start + _LINES_PER_PAGE] for start in range(0, len(lines), _LINES_PER_PAGE)]
    objects = list(_objects(pages))
    file = b"%PDF-1.4\n"
    offsets = []
    for number, content in enumerate(objects, 1):
        offsets.append(len(file))
        file += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    ending = b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n"
    return file + ending % (size, table, size, len(file))


def _objects(pages: Sequence[Sequence[str]]) -> Iterator[bytes]:
    """Yield the objects of the file: catalog, page tree and font, then each page and its content."""
    first = 4
    kids = " ".join(f"{first + 2 * number} 0 R" for number in range(len(pages)))
    yield b"<< /Type /Catalog /Pages 2 0 R >>"
    yield f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode()
    yield b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
    for number, lines in enumerate(pages):
        yield _PAGE.format(first + 2 * number + 1).encode()
        text = f"BT /F1 11 Tf 13 TL 60 790 Td {' '.join(f'({line}) Tj T*' for line in lines)} ET".encode()
        yield b"<< /Length %d >>\nstream\n%s\nendstream" % (len(text), text)


CACHING_TITLE = "Prompt caching: three questions about the same three documents"
CACHING_NOT_ON_AWS = (
    "Not run on AWS, because long prompts cost real money: prompt caching. See it with `bedrock-routing demo`; to try "
    "it on AWS, run cookbook/what_caching_saves.ipynb with BEDROCK_ON_AWS=1."
)
_MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"


@dataclass(frozen=True, kw_only=True)
class CachedCall:
    """A question about the documents, asked with cache points and without.

    Attributes:
        question: The question.
        written: Input tokens written to the cache.
        read: Input tokens read from the cache.
        plain: Other input tokens.
        cost: The cost of all input tokens, in plain input tokens.
        latency_ms: Latency with cache points, in milliseconds.
        uncached_ms: Latency without cache points, in milliseconds.
        routing: The ``"routing"`` of the answer with cache points.
    """

    question: str
    written: int
    read: int
    plain: int
    cost: float
    latency_ms: int
    uncached_ms: int
    routing: Mapping[str, Any]

    @property
    def tokens(self) -> int:
        """All input tokens."""
        return self.written + self.read + self.plain


def show_caching(console: Console, arguments: Mapping[str, Any], report: RoutingReport) -> None:
    """Ask about the documents, and print the tokens, the cost and the latency of each call.

    Args:
        console: Where to print.
        arguments: The connection arguments `client` and `bedrock_client`.
        report: The report to which the calls are added.
    """
    calls = ask_about_documents(arguments)
    for call in calls:
        report.add(call.routing)
    columns = (
        Column("Question", stretch=True), Column("Tokens written", right=True),
        Column("Tokens read", right=True), Column("Input cost", right=True), Column("ms", right=True),
        Column("ms uncached", right=True),
    )  # fmt: skip
    print_table(console, CACHING_TITLE, columns, map(_caching_cells, calls))
    print_paragraph(console, _savings(calls))


def _caching_cells(call: CachedCall) -> tuple[str, ...]:
    tokens = (f"{call.written:,}", f"{call.read:,}")
    return call.question, *tokens, f"{call.cost / call.tokens:.0%}", f"{call.latency_ms:,}", f"{call.uncached_ms:,}"


def ask_about_documents(arguments: Mapping[str, Any]) -> list[CachedCall]:
    """Ask each question with all the documents in the prompt.

    Args:
        arguments: The connection arguments `client` and `bedrock_client`.
    """
    client, bedrock_client = arguments["client"], arguments["bedrock_client"]
    caching = RoutedClient(client, bedrock_client=bedrock_client)
    uncached = RoutedClient(client, bedrock_client=bedrock_client, cache="off")
    rules = caching.resolve(_MODEL).facts.cache
    if rules is None:
        raise AssertionError(f"{_MODEL} has no prompt caching in the table of models")
    documents = document_blocks()
    return [_ask(question, documents, caching, uncached, rules) for question in QUESTIONS]


def _ask(
    question: str, documents: list[dict[str, Any]], caching: RoutedClient, uncached: RoutedClient, rules: CacheRules
) -> CachedCall:
    request = {"modelId": _MODEL, "messages": [{"role": "user", "content": [*documents, {"text": question}]}]}
    response, uncached_response = (client.converse(**request) for client in (caching, uncached))
    usage = response["usage"]
    written, read, plain = (usage[name] for name in ("cacheWriteInputTokens", "cacheReadInputTokens", "inputTokens"))
    return CachedCall(
        question=question,
        written=written,
        read=read,
        plain=plain,
        cost=written + read + plain - saved_tokens(usage, rules),
        latency_ms=response["routing"]["latency_ms"],
        uncached_ms=uncached_response["routing"]["latency_ms"],
        routing=response["routing"],
    )


def _savings(calls: Sequence[CachedCall]) -> str:
    cost, tokens = sum(call.cost for call in calls), sum(call.tokens for call in calls)
    later = calls[1:]
    faster = 1 - sum(call.latency_ms for call in later) / sum(call.uncached_ms for call in later)
    model = short_model(_MODEL.partition(".")[2])
    return (
        f'{model} with the default cache="auto": {1 - cost / tokens:.0%} off the input, and {faster:.0%} less time for '
        "the later answers."
    )


# A knowledge base

KNOWLEDGE_BASE_TITLE = "A knowledge base"
KNOWLEDGE_BASE_NOT_ON_AWS = (
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


def show_knowledge_base(console: Console, report: RoutingReport, *, everything: bool) -> list[str]:
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
        print_table(console, KNOWLEDGE_BASE_TITLE, columns, map(_knowledge_base_cells, answers))
        print_line(console)
    else:
        print_line(console)
        print_line(console, KNOWLEDGE_BASE_TITLE)
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


def _knowledge_base_cells(answer: KnowledgeBaseAnswer) -> tuple[str, ...]:
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
