"""Where a text is cut into chunks: at headings, between paragraphs, else after sentences, else between words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LONGEST", "cut", "unwrapped"]

LONGEST = 1_200
"""Characters of a chunk at most: about the 300 tokens of Bedrock's default chunking."""

_PARAGRAPHS = re.compile(r"\n(?:[ \t]*\n)+|\n(?=#{1,6} )|(?<=\n)(?=#{1,6} )")
_HEADING = re.compile(r"#{1,6} [^\n]*")
_SENTENCE_END = re.compile(r"[.!?\u2026\u3002\uff01\uff1f][\"'\u201d\u2019)]*(?:\s+|(?<=[\u3002\uff01\uff1f]))|\n+")
_BLANK = re.compile(r"\s+")


def cut(text: str) -> list[str]:
    """The chunks of `text`, in order, none empty, none longer than `LONGEST` characters.

    A heading begins a chunk, unless nothing but headings stands before it.
    """
    chunks: list[str] = []
    for block in filter(None, map(str.strip, _PARAGRAPHS.split(text))):
        for piece in _pieces(block):
            fits = bool(chunks) and len(chunks[-1]) + len(piece) + 2 <= LONGEST
            if fits and (_HEADING.match(piece) is None or _only_headings(chunks[-1])):
                chunks[-1] += f"\n\n{piece}"
            else:
                chunks.append(piece)
    return chunks


def _only_headings(chunk: str) -> bool:
    """Whether no line of a chunk is text."""
    return all(_HEADING.fullmatch(line) for line in chunk.splitlines() if line.strip())


def _pieces(block: str) -> Iterator[str]:
    """A paragraph, cut where it is too long: as late as possible, after a sentence rather than between words."""
    while len(block) > LONGEST:
        ends = [m.end() for m in _SENTENCE_END.finditer(block, 0, LONGEST)]
        ends = ends or [m.end() for m in _BLANK.finditer(block, 0, LONGEST)] or [LONGEST]
        yield block[: ends[-1]].rstrip()
        block = block[ends[-1] :].lstrip()
    if block:
        yield block


def unwrapped(text: str) -> str:
    """The lines of a page as paragraphs: a line that ends no sentence goes on in the next."""
    return re.sub(r"(?<![.!?:\n])\n(?=\S)", " ", text)
