"""The demo's section on prompt caching: three documents, three questions, with cachePoints and without.

It repeats what AWS published at the launch of prompt caching: the first call wrote 29,841 tokens to the cache, each
later one read the same number and took 55% less time.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count, islice
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from bedrock_routing_integrations.caching import saved_tokens
from bedrock_routing_integrations.client import RoutedClient

from .output import aligned, short_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bedrock_routing_integrations.models.facts import CacheRules


# --- The three documents that the demo asks about ---

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
# With so much in each, the emulator counts 29,841 tokens in all, as were counted at the launch of prompt caching.
_CHARACTERS = 39_772
_LINES_PER_PAGE = 56
_PAGE = (
    "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >> /Contents {} 0 R >>"
)


def document_blocks() -> list[dict[str, Any]]:
    """The documents, as blocks of a Converse message."""
    return [
        {"document": {"format": "pdf", "name": name, "source": {"bytes": _pdf(_rules(name, duties))}}}
        for name, duties in _HANDBOOKS.items()
    ]


def _rules(handbook: str, duties: Sequence[str]) -> list[str]:
    """The lines of a handbook, as many as make up the characters; the last is cut."""
    rules = (f"Rule {n} of {handbook}: {duties[n % len(duties)]} {n} minutes after sunrise." for n in count(1))
    return "\n".join(islice(rules, _CHARACTERS // 20))[:_CHARACTERS].splitlines()


def _pdf(lines: Sequence[str]) -> bytes:
    """A PDF file with these lines, which are plain ASCII without parentheses (ISO 32000-1, 7.5: file structure)."""
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
    """Catalog, tree of pages and font; then each page and what is on it."""
    first = 4
    kids = " ".join(f"{first + 2 * number} 0 R" for number in range(len(pages)))
    yield b"<< /Type /Catalog /Pages 2 0 R >>"
    yield f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode()
    yield b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
    for number, lines in enumerate(pages):
        yield _PAGE.format(first + 2 * number + 1).encode()
        text = f"BT /F1 11 Tf 13 TL 60 790 Td {' '.join(f'({line}) Tj T*' for line in lines)} ET".encode()
        yield b"<< /Length %d >>\nstream\n%s\nendstream" % (len(text), text)


TITLE = "What caching saves: three documents, three questions"
NOT_ON_AWS = (
    "Left out, as long prompts cost real money: what caching saves. See it with `bedrock-routing demo`; to try it on "
    "AWS, run cookbook/what_caching_saves.ipynb with BEDROCK_ON_AWS=1."
)
_MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
_WIDE = 100


@dataclass(frozen=True, kw_only=True)
class CachedCall:
    """A question about the documents, asked with a cachePoint and without.

    Attributes:
        question: What was asked.
        written: Input tokens written to the cache.
        read: Input tokens read from it.
        plain: Other input tokens.
        cost: What all of them cost, in plain input tokens.
        latency_ms: Milliseconds that the answer took.
        uncached_ms: The same, asked without a cachePoint.
        routing: The ``"routing"`` of the answer with it.
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


def ask_about_documents(arguments: Mapping[str, Any]) -> list[CachedCall]:
    """Ask each question, with all the documents in front of it.

    Args:
        arguments: How Bedrock is reached: `client` and `bedrock_client`.
    """
    inside, control = arguments["client"], arguments["bedrock_client"]
    caching = RoutedClient(inside, bedrock_client=control)
    without = RoutedClient(inside, bedrock_client=control, cache="off")
    rules = caching.resolve(_MODEL).facts.cache
    if rules is None:
        raise AssertionError(f"the catalog says that {_MODEL} does not cache")
    documents = document_blocks()
    return [_asked(question, documents, caching, without, rules) for question in QUESTIONS]


def _asked(
    question: str, documents: list[dict[str, Any]], caching: RoutedClient, without: RoutedClient, rules: CacheRules
) -> CachedCall:
    request = {"modelId": _MODEL, "messages": [{"role": "user", "content": [*documents, {"text": question}]}]}
    cached, uncached = (client.converse(**request) for client in (caching, without))
    usage = cached["usage"]
    written, read, plain = (usage[name] for name in ("cacheWriteInputTokens", "cacheReadInputTokens", "inputTokens"))
    return CachedCall(
        question=question,
        written=written,
        read=read,
        plain=plain,
        cost=written + read + plain - saved_tokens(usage, rules),
        latency_ms=cached["routing"]["latency_ms"],
        uncached_ms=uncached["routing"]["latency_ms"],
        routing=cached["routing"],
    )


def what_was_saved(calls: Sequence[CachedCall]) -> Iterator[str]:
    """The sum of it, in words."""
    cost, tokens = sum(call.cost for call in calls), sum(call.tokens for call in calls)
    later = calls[1:]
    faster = 1 - sum(call.latency_ms for call in later) / sum(call.uncached_ms for call in later)
    model = short_model(_MODEL.partition(".")[2])
    yield (
        f"All {len(calls)} calls to {model}: input for {cost / tokens:.0%} of what it costs without caching, and "
        f"{faster:.0%} less time (simulated) for the later answers."
    )
    yield 'It took no argument: cache="auto" is the default. `bedrock-routing plan` shows where points are placed.'


def plain_lines(calls: Sequence[CachedCall]) -> list[str]:
    """Aligned columns for a pipe; times in milliseconds."""
    return aligned(
        [("WRITTEN", "READ", "PLAIN", "INPUT COST", "MS", "MS WITHOUT", "QUESTION"), *map(_plain_cells, calls)]
    )


def _plain_cells(call: CachedCall) -> tuple[str, ...]:
    tokens = map(str, (call.written, call.read, call.plain))
    times = map(str, (call.latency_ms, call.uncached_ms))
    return (*tokens, f"{call.cost / call.tokens:.0%}", *times, call.question)


def rich_lines(calls: Sequence[CachedCall], width: int) -> Table:
    """A table for a terminal that is `width` columns wide."""
    table = Table(
        title=TITLE, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    table.add_column("Question", ratio=1 if width < _WIDE else None, overflow="fold")
    for name in ("Tokens\nwritten", "\nread", "\nplain", "Input cost,\nof no caching", "Time,\nwithout"):
        table.add_column(name, justify="right", no_wrap=True)
    for call in calls:
        table.add_row(
            Text(call.question),
            Text(f"{call.written:,}", "yellow" if call.written else "dim"),
            Text(f"{call.read:,}", "bold green" if call.read else "dim"),
            Text(f"{call.plain:,}"),
            Text(f"{call.cost / call.tokens:.0%}", "bold green" if call.cost < call.tokens else "yellow"),
            Text(f"{call.latency_ms} ms\n{call.uncached_ms} ms"),
        )
    return table
