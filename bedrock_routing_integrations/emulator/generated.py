"""What RetrieveAndGenerate answers: one text, the places in it that cite, and how both travel whole and streamed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .programs.limits import limited
from .retrieval import reference

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .collection import Chunk

__all__ = ["SORRY", "Generated", "Part", "limited_parts"]

SORRY = "Sorry, I am unable to assist you with this request."
"""What the service says where nothing that it retrieved answers, and where a guardrail intervenes."""

_WORDS_PER_EVENT = 3
_PIECE = re.compile(rf"\s*(?:\S+\s*){{1,{_WORDS_PER_EVENT}}}|\s+")


@dataclass(frozen=True, kw_only=True)
class Part:
    """A sentence of the answer.

    Attributes:
        text: The sentence.
        chunks: What it was found in.
    """

    text: str
    chunks: tuple[Chunk, ...] = ()


def limited_parts(parts: Sequence[Part], inference: Mapping[str, Any]) -> tuple[str, list[Part]]:
    """The answer's text as a `textInferenceConfig` limits it, and what is left of its sentences."""
    whole = " ".join(part.text for part in parts)
    blocks, _ = limited(
        [{"text": whole}],
        "end_turn",
        stops=inference.get("stopSequences", ()),
        most_tokens=inference.get("maxTokens"),
    )
    text = str(blocks[0]["text"]) if blocks else ""
    left: list[Part] = []
    start = 0
    for part in parts:
        rest = text[start : start + len(part.text)]
        if rest:
            left.append(Part(text=rest, chunks=part.chunks))
        start += len(part.text) + 1
    return text, left


@dataclass(frozen=True, kw_only=True)
class Generated:
    """An answer of RetrieveAndGenerate or RetrieveAndGenerateStream.

    Attributes:
        text: The whole text.
        parts: Its sentences, one space between them.
        cited: Whether there are citations, which a prompt template decides.
        guardrail_action: What the guardrail did; None without one.
        session_id: The session that it belongs to.
        model_id: The base model that answered, which the service does not tell.
        difficulty: The router's estimate; None without a router.
        served_latency: "standard" or "optimized".
        first_token_ms: Simulated milliseconds until the first token.
        latency_ms: Simulated milliseconds until the last.
    """

    text: str
    parts: Sequence[Part]
    cited: bool
    guardrail_action: str | None
    session_id: str
    model_id: str
    difficulty: float | None
    served_latency: str
    first_token_ms: float
    latency_ms: float

    @property
    def head(self) -> Mapping[str, Any]:
        """The members that travel in headers where the answer is streamed."""
        return {"sessionId": self.session_id}

    def answer(self) -> dict[str, Any]:
        """RetrieveAndGenerate's answer. The end of a span is inclusive."""
        return {
            "sessionId": self.session_id,
            "output": {"text": self.text},
            "citations": [_citation(part, start, end - 1) for part, start, end in self._placed()] if self.cited else [],
            "guardrailAction": self.guardrail_action,
        }

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """RetrieveAndGenerateStream's events, of which none is the last by its kind.

        A citation comes behind its sentence, holds everything twice, and its span counts a line break at the end
        that the text lacks.
        """
        if self.guardrail_action is not None:
            yield "guardrail", {"action": self.guardrail_action}
        done = 0
        for part, start, end in self._placed():
            yield from self._output(done, end)
            done = end
            if self.cited:
                citation = _citation(part, start, end)
                yield "citation", {"citation": citation, **citation}
        yield from self._output(done, len(self.text))

    def _output(self, start: int, end: int) -> Iterator[tuple[str, dict[str, Any]]]:
        for piece in _PIECE.findall(self.text[start:end]):
            yield "output", {"text": piece}

    def _placed(self) -> Iterator[tuple[Part, int, int]]:
        """The sentences with where they start and end, in code points, half-open."""
        start = 0
        for part in self.parts:
            yield part, start, start + len(part.text)
            start += len(part.text) + 1


def _citation(part: Part, start: int, last: int) -> dict[str, Any]:
    return {
        "generatedResponsePart": {"textResponsePart": {"text": part.text, "span": {"start": start, "end": last}}},
        "retrievedReferences": [reference(chunk) for chunk in part.chunks],
    }
