"""The three documents that the demo asks about: small handbooks, made here, as real PDF files."""

from __future__ import annotations

from itertools import count, islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["QUESTIONS", "document_blocks"]

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
