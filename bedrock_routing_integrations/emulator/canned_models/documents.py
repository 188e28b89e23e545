"""Extract the text of documents, as far as the standard library can read them.

txt, md and csv are text already. HTML loses its tags. PDF text comes from the content streams (plain or
Flate-compressed, literal and hexadecimal strings, ToUnicode maps if they are simple). docx and xlsx are zipped XML. The
old binary formats doc and xls yield their printable runs. A document that cannot be read yields empty text, never an
error.
"""

from __future__ import annotations

import html
import io
import re
import zipfile
import zlib
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["document_text", "pdf_pages"]

_MAX_INFLATED = 20_000_000  # bytes; a document may be 4.5 MB, its text is never this long
_STREAM = re.compile(rb"\bstream\r?\n")
_DICTIONARY_REACH = 1_000  # bytes before the keyword in which a stream's dictionary is looked for
_TOKEN = re.compile(
    rb"\((?:[^\\()]|\\.|\((?:[^\\()]|\\.)*\))*\)"  # a string, with one level of parentheses inside
    rb"|<[0-9A-Fa-f\s]*>|[\[\]]|[-+]?(?:\d+\.?\d*|\.\d+)|/[^\s/\[\]()<>]*|[A-Za-z][A-Za-z0-9*]*|['\"]",
    re.DOTALL,
)
_ESCAPE = re.compile(rb"\\([0-7]{1,3}|\r\n|.)", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"", b"f": b"", b"\n": b"", b"\r": b"", b"\r\n": b""}
_HIDDEN_HTML = re.compile(r"<(?:(script|style)\b|!--)", re.IGNORECASE)
_BLOCK_HTML = re.compile(r"<(?:br|/p|/div|/h\d|/li|/tr|/title|/table|/section)\b[^<>]*>", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")
_BLANKS = re.compile(r"[ \t\r\f\v]+")
_WIDE_GAP = -200  # thousandths of an em in a TJ array: writers that draw no spaces leave gaps of this size


@lru_cache(maxsize=16)  # follow-up questions bring the same document again
def document_text(data: bytes, kind: str) -> str:
    """The text of a document of a Converse request.

    Args:
        data: The document as sent.
        kind: Its `format`: pdf, csv, doc, docx, xls, xlsx, html, txt or md.

    Returns:
        Its text, empty where none can be read.
    """
    if kind == "pdf" or data.startswith(b"%PDF-"):
        return "\n".join(filter(None, pdf_pages(data)))
    if kind in ("docx", "xlsx"):
        return _office_text(data)
    if kind in ("doc", "xls"):
        return "\n".join(run.decode("ascii") for run in re.findall(rb"[ -~]{6,}", data))
    text = data.decode("utf-8-sig", errors="replace")
    return _html_text(text) if kind == "html" else text


def _html_text(text: str) -> str:
    """HTML without tags, scripts and styles, its blocks on lines of their own."""
    plain = html.unescape(_TAG.sub("", _BLOCK_HTML.sub("\n", " ".join(_visible(text)))))
    lines = (_BLANKS.sub(" ", line).strip() for line in plain.splitlines())
    return "\n".join(line for line in lines if line)


def _visible(text: str) -> Iterator[str]:
    """The parts of an HTML text between its scripts, styles and comments."""
    lower = text.lower()
    position = 0
    while match := _HIDDEN_HTML.search(text, position):
        yield text[position : match.start()]
        end = f"</{match[1].lower()}" if match[1] else "-->"
        position = lower.find(end, match.end())
        if position < 0:
            return
        position = text.find(">", position) + 1 or len(text)
    yield text[position:]


def _office_text(data: bytes) -> str:
    """The paragraphs of a docx, or the shared strings of an xlsx."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = [n for n in archive.namelist() if n in ("word/document.xml", "xl/sharedStrings.xml")]
            xml = "\n".join(archive.open(part).read(_MAX_INFLATED).decode("utf-8", "replace") for part in parts)
    except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, NotImplementedError):
        return ""
    return _html_text(re.sub(r"</(?:w:p|si)>", "\n", xml))


def pdf_pages(data: bytes) -> list[str]:
    """The text of each content stream of a PDF that draws any, in the order of the file: a page, as a rule."""
    streams = [content for content in _streams(data) if content]
    glyphs: dict[int, str] = {}
    for stream in streams:
        if b"beginbfchar" in stream or b"beginbfrange" in stream:
            glyphs.update(_unicode_map(stream))
    pages = [_drawn_text(stream, glyphs) for stream in streams if b"BT" in stream]
    return ["\n".join(filter(None, (_BLANKS.sub(" ", line).strip() for line in page.splitlines()))) for page in pages]


def _streams(data: bytes) -> Iterator[bytes | None]:
    """The content of each stream of a PDF; None where it is an image, a font or filtered in a way unknown here."""
    position = 0
    while match := _STREAM.search(data, position):
        position = data.find(b"endstream", match.end())
        if position < 0:
            return
        before = data[max(0, match.start() - _DICTIONARY_REACH) : match.start()]
        yield _inflated(before.rpartition(b" obj")[2], data[match.end() : position])
        position += len(b"endstream")


def _inflated(dictionary: bytes, content: bytes) -> bytes | None:
    """A stream's content; None for images, fonts and unknown filters."""
    if b"/Image" in dictionary or b"/Length1" in dictionary:
        return None
    if b"/Filter" not in dictionary:
        return content
    if b"/FlateDecode" not in dictionary or re.search(rb"/(?:ASCII85|ASCIIHex|LZW|DCT|JPX|Crypt)", dictionary):
        return None
    try:
        return zlib.decompressobj().decompress(content, _MAX_INFLATED)
    except zlib.error:
        return None


def _drawn_text(stream: bytes, glyphs: dict[int, str]) -> str:
    """Return the text that a content stream draws. Moving the pen to another height begins a new line."""
    out: list[str] = []
    operands: list[bytes] = []
    height = b""
    for token in _TOKEN.findall(stream):
        if not token[:1].isalpha() and token not in (b"'", b'"'):
            operands.append(token)
            continue
        if token in (b"'", b'"', b"T*", b"ET"):
            out.append("\n")
        elif token in (b"Td", b"TD"):
            out.append(" " if operands and _number(operands[-1]) == 0 else "\n")
        elif token == b"Tm" and operands:
            out.append(" " if operands[-1] == height else "\n")
            height = operands[-1]
        if token in (b"Tj", b"TJ", b"'", b'"'):
            out.extend(_operand_text(operand, glyphs) for operand in operands)
        operands.clear()
    return "".join(out)


def _operand_text(operand: bytes, glyphs: dict[int, str]) -> str:
    """A string as its text; a number between strings as the space that it may stand for."""
    if operand[:1] in (b"(", b"<"):
        return _shown(operand, glyphs)
    return " " if _number(operand) < _WIDE_GAP else ""


def _number(operand: bytes) -> float:
    """An operand as a number, 0 where it is none."""
    try:
        return float(operand)
    except ValueError:
        return 0.0


def _shown(operand: bytes, glyphs: dict[int, str]) -> str:
    """Return a string operand as text."""
    if operand[:1] == b"<":
        digits = re.sub(rb"\s", b"", operand[1:-1]).decode("ascii")
        raw = bytes.fromhex(digits + "0" * (len(digits) % 2))
        if glyphs:
            codes = (int.from_bytes(raw[i : i + 2], "big") for i in range(0, len(raw), 2))
            return "".join(glyphs.get(code, "") for code in codes)
    else:
        raw = _ESCAPE.sub(_unescaped, operand[1:-1])
    if raw.startswith(b"\xfe\xff"):
        return raw[2:].decode("utf-16-be", "replace")
    return raw.decode("cp1252", "replace")


def _unescaped(match: re.Match[bytes]) -> bytes:
    """Return the bytes of an escape in a literal string (octal codes modulo 256, as the PDF standard defines)."""
    escape = match[1]
    if escape[:1] in b"01234567":
        return bytes([int(escape, 8) & 0xFF])
    return _ESCAPED.get(escape, escape)


def _unicode_map(stream: bytes) -> dict[int, str]:
    """The simple entries of a ToUnicode map: single characters, and ranges with one start."""
    found: dict[int, str] = {}
    for section in re.findall(rb"beginbfchar(.*?)endbfchar", stream, re.DOTALL):
        hexes = re.findall(rb"<([0-9A-Fa-f]+)>", section)
        for source, target in list(pairwise(hexes))[::2]:
            found[int(source, 16)] = bytes.fromhex(target.decode()).decode("utf-16-be", "replace")
    ranges = re.compile(rb"<([0-9A-Fa-f]+)>\s*<([0-9A-Fa-f]+)>\s*<([0-9A-Fa-f]{4})>")
    for section in re.findall(rb"beginbfrange(.*?)endbfrange", stream, re.DOTALL):
        for first, last, target in ranges.findall(section):
            low, high, start = int(first, 16), int(last, 16), int(target, 16)
            length = min(high - low + 1, 0xD800 - start)  # no further than where the surrogates begin
            found.update({low + i: chr(start + i) for i in range(length)})
    return found
