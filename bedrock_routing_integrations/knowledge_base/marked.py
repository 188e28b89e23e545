"""An answer that a model was told to mark with citations: the markers → `Citation`, verified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .answers import Part, cite
from .markers import MarkerReader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .citations import Citation
    from .markers import Claimed
    from .passages import Passage
    from .prompting import Prompt


class MarkedAnswer:
    """Reads an answer as it arrives.

    Args:
        prompt: What the model was asked: a citation of what it did not hold is none.
        passages: Those that the prompt was composed of.

    Attributes:
        citations: Those found so far.
    """

    def __init__(self, prompt: Prompt, passages: Sequence[Passage]) -> None:
        self._numbers, self._passages = prompt.numbers, passages
        self._reader = MarkerReader(len(prompt.numbers) if prompt.cites else 0)
        self.citations: list[Citation] = []

    @property
    def text(self) -> str:
        """The answer so far, without markers."""
        return self._reader.text

    def read(self, text: str) -> Part:
        """What is new now that `text` has arrived."""
        return self._part(*self._reader.read(text))

    def finish(self) -> Part:
        """What is left when nothing more comes."""
        return self._part(*self._reader.finish())

    def _part(self, text: str, claims: Sequence[Claimed]) -> Part:
        citations = tuple(self._cited(claim) for claim in claims)
        self.citations += citations
        return Part(text, (), citations)

    def _cited(self, claim: Claimed) -> Citation:
        numbers = [self._numbers[index] for index in claim.passages]
        return cite(self.text, claim.start, claim.end, numbers, self._passages)
