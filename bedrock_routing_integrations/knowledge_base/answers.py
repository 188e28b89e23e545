"""What RetrieveAndGenerate answers, whole or as a stream, put together."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .citations import Citation, SpanFinder
from .passages import Passage, read_passage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence


@dataclass(frozen=True)
class Part:
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

    def read_event(self, event: Mapping[str, Any]) -> Part:
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
        return Part()

    def finish(self) -> Part:
        """What can only be told when the stream has ended."""
        return self._part(finished=True)

    def read_response(self, response: Mapping[str, Any]) -> Part:
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
    ) -> Part:
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
        return Part(text, tuple(self.passages[known:]), citations, action)

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
