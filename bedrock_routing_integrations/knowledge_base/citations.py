"""Citations: which part of an answer rests on which passages.

Everywhere in this package a span is half-open and counts Python's characters: ``answer[c.start:c.end] == c.text``.
Bedrock's spans differ, and are put right here: their end is inclusive; a streamed one also counts a line break that its
text lacks. What unit they count is not published, so that where an offset does not lead to the text, the text decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .passages import Passage, read_passage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence


@dataclass(frozen=True)
class Citation:
    """A part of an answer, and what it rests on.

    Attributes:
        start: Where it begins in the answer.
        end: Where it ends: the index of the first character behind it.
        text: ``answer[start:end]``.
        passages: The passages that it rests on, by their positions in the result's list of them (``context``,
            ``source_nodes``).
        sources: The URIs of the documents that these are from, each once.
    """

    start: int
    end: int
    text: str
    passages: tuple[int, ...] = ()
    sources: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The citation, JSON-safe."""
        return {**vars(self), "passages": list(self.passages), "sources": list(self.sources)}


@dataclass(frozen=True)
class _Claim:
    """A span as Bedrock gave it, and what it carries for whoever reads it."""

    text: str
    start: int | None
    end: int | None
    carried: Any


@dataclass
class SpanFinder:
    """Finds the spans that Bedrock gives in the text of an answer, as far as it has arrived.

    What it finds does not depend on the pieces in which the text and the spans come.
    """

    text: str = ""
    _waiting: list[_Claim] = field(default_factory=list)
    _cursor: int = 0

    def add_text(self, text: str) -> None:
        """More of the answer has arrived."""
        self.text += text

    def add_span(self, part: Any, carried: Any) -> None:
        """A ``textResponsePart`` has arrived, and with it whatever it stands for."""
        part = part if isinstance(part, dict) else {}
        span = part.get("span") if isinstance(part.get("span"), dict) else {}
        start, end = (at if isinstance(at, int) else None for at in (span.get("start"), span.get("end")))
        text = part.get("text")
        self._waiting.append(_Claim(text if isinstance(text, str) else "", start, end, carried))

    def found(self, *, finished: bool = False) -> Iterator[tuple[int, int, Any]]:
        """The spans that can be told now, in the order in which they came: start, end, what was carried."""
        while self._waiting:
            claim = self._waiting[0]
            place = self._locate(claim) if len(self.text) >= _needed(claim) or finished else None
            if place is None and not finished:
                return  # an earlier place with the same words may not be the one that is meant
            self._waiting.pop(0)
            place = place or self._anywhere(claim)
            if place is not None:
                self._cursor = place[1]
                yield (*place, claim.carried)

    def _locate(self, claim: _Claim) -> tuple[int, int] | None:
        if not claim.text:
            return self._by_offsets(claim)
        words = claim.text.rstrip("\n") or claim.text
        for start in _readings(self.text, claim.start):
            if self.text.startswith(words, start):
                return start, start + len(words)
        # Drifted offsets: the parts come in the order of the answer.
        start = self.text.find(words, self._cursor)
        return (start, start + len(words)) if start >= 0 else None

    def _anywhere(self, claim: _Claim) -> tuple[int, int] | None:
        """Out of order, or other words than those of the answer."""
        words = claim.text.rstrip("\n")
        start = self.text.find(words) if words else -1
        return (start, start + len(words)) if start >= 0 else self._by_offsets(claim)

    def _by_offsets(self, claim: _Claim) -> tuple[int, int] | None:
        """What stands at the offsets, where the text is not given or not to be found."""
        if claim.start is None or claim.end is None or not 0 <= claim.start <= claim.end:
            return None
        end = min(claim.end + 1, len(self.text))
        while end > claim.start and self.text[end - 1] == "\n":
            end -= 1
        return (claim.start, end) if claim.start < end else None


def _needed(claim: _Claim) -> int:
    """How much of the answer must be there before its place can be told."""
    start = claim.start or 0
    return max(start + len(claim.text), (claim.end or 0) + 1 if not claim.text else 0)


def _readings(text: str, offset: int | None) -> Iterator[int]:
    """The indices that an offset can mean: counted in characters, in UTF-16 units, in UTF-8 bytes."""
    if offset is None or offset < 0:
        return
    yield offset
    if not text.isascii():
        for encoding, width in (("utf-16-le", 2), ("utf-8", 1)):
            before = text.encode(encoding, "surrogatepass")[: offset * width]
            yield len(before.decode(encoding, "ignore"))


# --- What RetrieveAndGenerate answers, whole or as a stream, put together. ---


@dataclass(frozen=True)
class AnswerPart:
    """What has newly arrived of an answer: text, passages that are new, citations of text and passages so far."""

    text: str = ""
    passages: tuple[Passage, ...] = ()
    citations: tuple[Citation, ...] = ()
    guardrail_action: str | None = None


@dataclass
class AnswerReader:
    """Puts an answer of RetrieveAndGenerate together, from its stream's events or from a whole response.

    Attributes:
        only_source: The one document that was asked about, whose name references to it lack.
        passages: Those that were referred to so far, each once.
        citations: Those found so far.
        guardrail_action: ``"INTERVENED"`` or ``"NONE"`` as the service said; None where it said nothing.
        has_text: Whether the service gave a text, if only an empty one.
    """

    only_source: str | None = None
    passages: list[Passage] = field(default_factory=list)
    citations: list[Citation] = field(default_factory=list)
    guardrail_action: str | None = None
    has_text: bool = False
    _spans: SpanFinder = field(default_factory=SpanFinder)
    _places: dict[tuple[Any, ...], int] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The answer so far."""
        return self._spans.text

    def read_event(self, event: Mapping[str, Any]) -> AnswerPart:
        """What is new with an event of the stream."""
        if "output" in event:
            text = event["output"].get("text")
            self.has_text = self.has_text or isinstance(text, str)
            return self._part(text=text or "")
        if "citation" in event:
            claim = event["citation"]
            # The event has it twice; the inner one is deprecated, and alone in what older services send.
            return self._part(claims=[{**(claim.get("citation") or {}), **claim}])
        if "guardrail" in event:
            return self._part(action=event["guardrail"].get("action"))
        return AnswerPart()

    def finish(self) -> AnswerPart:
        """What can only be told when the stream has ended."""
        return self._part(finished=True)

    def read_response(self, response: Mapping[str, Any]) -> AnswerPart:
        """A whole answer."""
        text = (response.get("output") or {}).get("text") or ""
        return self._part(
            text=text, claims=response.get("citations") or (), action=response.get("guardrailAction"), finished=True
        )

    def _part(
        self,
        text: str = "",
        claims: Iterable[Mapping[str, Any]] = (),
        action: str | None = None,
        *,
        finished: bool = False,
    ) -> AnswerPart:
        known = len(self.passages)
        self._spans.add_text(text)
        for claim in filter(None, claims):
            passages = self._referred(claim.get("retrievedReferences") or ())
            if passages:  # a part that rests on nothing is no citation
                part = claim.get("generatedResponsePart")
                self._spans.add_span(part.get("textResponsePart") if isinstance(part, dict) else None, passages)
        citations = tuple(self._cited(finished=finished))
        self.citations += citations
        if action is not None:
            self.guardrail_action = action
        return AnswerPart(text, tuple(self.passages[known:]), citations, action)

    def _referred(self, references: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
        found = []
        for passage in map(read_passage, references):
            if passage.source is None and self.only_source is not None:
                passage = replace(passage, source=self.only_source)  # noqa: PLW2901 - a new one
            if passage.key not in self._places:
                self._places[passage.key] = len(self.passages)
                self.passages.append(passage)
            found.append(self._places[passage.key])
        return tuple(dict.fromkeys(found))

    def _cited(self, *, finished: bool) -> Iterator[Citation]:
        for start, end, passages in self._spans.found(finished=finished):
            yield cite(self.text, start, end, passages, self.passages)


def cite(text: str, start: int, end: int, numbers: Sequence[int], passages: Sequence[Passage]) -> Citation:
    """A citation of `passages` by their `numbers`."""
    sources = dict.fromkeys(source for number in numbers if (source := passages[number].source))
    return Citation(start, end, text[start:end], tuple(numbers), tuple(sources))
