"""Citations: which part of an answer rests on which passages, and the answers of RetrieveAndGenerate.

Everywhere in this package a span is half-open and counts Python's characters: ``answer[c.start:c.end] == c.text``.
Bedrock's spans differ and are corrected here. Their end is inclusive. A streamed span also counts a line break that its
text lacks. The unit that they count is not published, so an offset that does not lead to the cited text is replaced by
a search for the text.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .passages import Passage, read_passage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence


@dataclass(frozen=True)
class Citation:
    """A part of an answer, and the passages that it rests on.

    Attributes:
        start: Index of its first character in the answer.
        end: Index of the first character after it.
        text: ``answer[start:end]``.
        passages: Positions of the passages in the result's list (``context`` in LangChain, ``source_nodes`` in
            LlamaIndex).
        sources: The URIs of their documents, each once.
    """

    start: int
    end: int
    text: str
    passages: tuple[int, ...] = ()
    sources: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the citation, JSON-safe."""
        return {**vars(self), "passages": list(self.passages), "sources": list(self.sources)}


@dataclass(frozen=True)
class _PendingSpan:
    """A span as Bedrock gave it, with a value for the caller, until it is located in the answer."""

    text: str
    start: int | None
    end: int | None
    carried: Any


@dataclass
class SpanFinder:
    """Locate the spans that Bedrock gives in the text of an answer, while it arrives.

    The result does not depend on how text and spans are cut into events.
    """

    text: str = ""
    _waiting: list[_PendingSpan] = field(default_factory=list)
    _cursor: int = 0

    def add_text(self, text: str) -> None:
        """Add text of the answer."""
        self.text += text

    def add_span(self, part: Any, carried: Any) -> None:
        """Add a span.

        Args:
            part: A ``textResponsePart``.
            carried: A value that `found` gives back with the span.
        """
        part = part if isinstance(part, dict) else {}
        span = part.get("span") if isinstance(part.get("span"), dict) else {}
        start, end = (at if isinstance(at, int) else None for at in (span.get("start"), span.get("end")))
        text = part.get("text")
        self._waiting.append(_PendingSpan(text if isinstance(text, str) else "", start, end, carried))

    def found(self, *, finished: bool = False) -> Iterator[tuple[int, int, Any]]:
        """Yield the spans that can be located now, in the order in which they came: start, end, carried value.

        Args:
            finished: Whether the answer is complete, so that waiting for more text is useless.
        """
        while self._waiting:
            pending = self._waiting[0]
            span = self._locate(pending) if len(self.text) >= _needed(pending) or finished else None
            if span is None and not finished:
                return  # the same words earlier in the answer may not be the ones that are meant
            self._waiting.pop(0)
            span = span or self._anywhere(pending)
            if span is not None:
                self._cursor = span[1]
                yield (*span, pending.carried)

    def _locate(self, pending: _PendingSpan) -> tuple[int, int] | None:
        if not pending.text:
            return self._by_offsets(pending)
        words = pending.text.rstrip("\n") or pending.text
        for start in _readings(self.text, pending.start):
            if self.text.startswith(words, start):
                return start, start + len(words)
        # Drifted offsets: the parts come in the order of the answer.
        start = self.text.find(words, self._cursor)
        return (start, start + len(words)) if start >= 0 else None

    def _anywhere(self, pending: _PendingSpan) -> tuple[int, int] | None:
        """Locate a span that is out of order, or whose words are not those of the answer."""
        words = pending.text.rstrip("\n")
        start = self.text.find(words) if words else -1
        return (start, start + len(words)) if start >= 0 else self._by_offsets(pending)

    def _by_offsets(self, pending: _PendingSpan) -> tuple[int, int] | None:
        """Return the span at the offsets, for a span without text or whose text is not in the answer."""
        if pending.start is None or pending.end is None or not 0 <= pending.start <= pending.end:
            return None
        end = min(pending.end + 1, len(self.text))
        while end > pending.start and self.text[end - 1] == "\n":
            end -= 1
        return (pending.start, end) if pending.start < end else None


def _needed(pending: _PendingSpan) -> int:
    """Return how many characters of the answer must have arrived before the span can be located."""
    start = pending.start or 0
    return max(start + len(pending.text), (pending.end or 0) + 1 if not pending.text else 0)


def _readings(text: str, offset: int | None) -> Iterator[int]:
    """Yield the indices that an offset can mean: counted in characters, in UTF-16 units, in UTF-8 bytes."""
    if offset is None or offset < 0:
        return
    yield offset
    if not text.isascii():
        for encoding, width in (("utf-16-le", 2), ("utf-8", 1)):
            before = text.encode(encoding, "surrogatepass")[: offset * width]
            yield len(before.decode(encoding, "ignore"))


# --- Answers of RetrieveAndGenerate, whole or streamed ---


@dataclass(frozen=True)
class AnswerPart:
    """The new part of an answer: text, passages, and citations of the text and passages so far."""

    text: str = ""
    passages: tuple[Passage, ...] = ()
    citations: tuple[Citation, ...] = ()
    guardrail_action: str | None = None


@dataclass
class AnswerReader:
    """Assemble an answer of RetrieveAndGenerate, from its stream's events or from a whole response.

    Attributes:
        only_source: The URI of an external source, which references to it lack; None for a knowledge base.
        passages: The passages that were referred to so far, each once.
        citations: The citations so far.
        guardrail_action: ``"INTERVENED"`` or ``"NONE"``; None if the service reported neither.
        has_text: Whether the service gave a text, even an empty one.
    """

    only_source: str | None = None
    passages: list[Passage] = field(default_factory=list)
    citations: list[Citation] = field(default_factory=list)
    guardrail_action: str | None = None
    has_text: bool = False
    _spans: SpanFinder = field(default_factory=SpanFinder)
    _positions: dict[tuple[Any, ...], int] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The answer so far."""
        return self._spans.text

    def read_event(self, event: Mapping[str, Any]) -> AnswerPart:
        """Return what is new with an event of the stream."""
        if "output" in event:
            text = event["output"].get("text")
            self.has_text = self.has_text or isinstance(text, str)
            return self._part(text=text or "")
        if "citation" in event:
            citation = event["citation"]
            # The event has the citation twice. The inner one is deprecated; older services send it alone.
            return self._part(cited=[{**(citation.get("citation") or {}), **citation}])
        if "guardrail" in event:
            return self._part(action=event["guardrail"].get("action"))
        return AnswerPart()

    def finish(self) -> AnswerPart:
        """Return what can only be located when the stream has ended."""
        return self._part(finished=True)

    def read_response(self, response: Mapping[str, Any]) -> AnswerPart:
        """Read a whole response, and return it as one part."""
        text = (response.get("output") or {}).get("text") or ""
        return self._part(
            text=text, cited=response.get("citations") or (), action=response.get("guardrailAction"), finished=True
        )

    def _part(
        self,
        text: str = "",
        cited: Iterable[Mapping[str, Any]] = (),
        action: str | None = None,
        *,
        finished: bool = False,
    ) -> AnswerPart:
        known = len(self.passages)
        self._spans.add_text(text)
        for each in filter(None, cited):
            passages = self._referred(each.get("retrievedReferences") or ())
            if passages:  # a part without references is not a citation
                part = each.get("generatedResponsePart")
                self._spans.add_span(part.get("textResponsePart") if isinstance(part, dict) else None, passages)
        citations = tuple(self._cited(finished=finished))
        self.citations += citations
        if action is not None:
            self.guardrail_action = action
        return AnswerPart(text, tuple(self.passages[known:]), citations, action)

    def _referred(self, references: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
        positions = []
        for passage in map(read_passage, references):
            if passage.source is None and self.only_source is not None:
                passage = replace(passage, source=self.only_source)  # noqa: PLW2901 - a copy
            if passage.key not in self._positions:
                self._positions[passage.key] = len(self.passages)
                self.passages.append(passage)
            positions.append(self._positions[passage.key])
        return tuple(dict.fromkeys(positions))

    def _cited(self, *, finished: bool) -> Iterator[Citation]:
        for start, end, passages in self._spans.found(finished=finished):
            yield cite(self.text, start, end, passages, self.passages)


def cite(text: str, start: int, end: int, numbers: Sequence[int], passages: Sequence[Passage]) -> Citation:
    """Return a citation.

    Args:
        text: The whole answer.
        start: Index of the first cited character.
        end: Index after the last.
        numbers: Positions in `passages`.
        passages: All passages of the answer.
    """
    sources = dict.fromkeys(source for number in numbers if (source := passages[number].source))
    return Citation(start, end, text[start:end], tuple(numbers), tuple(sources))
