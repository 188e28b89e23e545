"""Read documents into chunks and search them: the content of an emulated knowledge base.

The index is SQLite's full-text search (FTS5), in memory. A query matches every chunk that contains any of its words;
chunks with more of the query's rare words rank first (bm25). This is not an embedding. It is deterministic, and it
ranks the passage that answers a question first where question and passage share words.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import logging
import math
import mimetypes
import os
import re
import sqlite3
import threading
import unicodedata
import uuid
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.emulator.canned_models.documents import document_text, pdf_pages
from bedrock_routing_integrations.emulator.canned_models.words import STOP_WORDS
from bedrock_routing_integrations.emulator.wire.service_model import validation

from .retrieve import check_filter, matches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .knowledge_bases import KnowledgeBases


# --- Chunking of texts ---

LONGEST = 1_200
"""Maximum characters of a chunk: about the 300 tokens of Bedrock's default chunking."""

_PARAGRAPHS = re.compile(r"\n(?:[ \t]*\n)+|\n(?=#{1,6} )|(?<=\n)(?=#{1,6} )")
_HEADING = re.compile(r"#{1,6} [^\n]*")
_SENTENCE_END = re.compile(r"[.!?\u2026\u3002\uff01\uff1f][\"'\u201d\u2019)]*(?:\s+|(?<=[\u3002\uff01\uff1f]))|\n+")
_BLANK = re.compile(r"\s+")


def cut(text: str) -> list[str]:
    """Split a text into chunks, in order. No chunk is empty or longer than `LONGEST` characters.

    A heading begins a new chunk, unless the current chunk holds only headings.
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
    """Return whether every line of a chunk is a heading."""
    return all(_HEADING.fullmatch(line) for line in chunk.splitlines() if line.strip())


def _pieces(block: str) -> Iterator[str]:
    """Split a paragraph that is too long: as late as possible, after a sentence rather than between words."""
    while len(block) > LONGEST:
        ends = [m.end() for m in _SENTENCE_END.finditer(block, 0, LONGEST)]
        ends = ends or [m.end() for m in _BLANK.finditer(block, 0, LONGEST)] or [LONGEST]
        yield block[: ends[-1]].rstrip()
        block = block[ends[-1] :].lstrip()
    if block:
        yield block


def unwrapped(text: str) -> str:
    """Join the lines of a page into paragraphs: a line that does not end a sentence continues in the next."""
    return re.sub(r"(?<![.!?:\n])\n(?=\S)", " ", text)


# --- Folders of documents ---

_LOG = logging.getLogger(__name__)
_SIDECAR = ".metadata.json"
_DATA_SOURCE = "EMULATEDDS"
_MOST_BYTES = 50_000_000  # per file: Bedrock's quota
_TEXTS = {".txt": "txt", ".md": "md", ".html": "html", ".htm": "html"}
_IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".webp")
_SOUNDS = (".mp3", ".wav")
_FILMS = (".mp4",)
_MEDIA_TYPES = {".webp": "image/webp"}  # Python 3.10 does not know this type on every platform
_TYPED = {"STRING": "stringValue", "NUMBER": "numberValue", "BOOLEAN": "booleanValue", "STRING_LIST": "stringListValue"}
# Values with leading zeros are codes, not numbers. Digits of other scripts are text.
_LONG = re.compile(r"[+-]?(?:0|[1-9]\d{0,17})", re.ASCII)
_DOUBLE = re.compile(r"[+-]?(?:(?:0|[1-9]\d*)(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_PAGE = "x-amz-bedrock-kb-document-page-number"


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A piece of a document, as a search returns it.

    Attributes:
        content: RetrievalResultContent of bedrock-agent-runtime: `{"type": "TEXT", "text": …}`.
        location: RetrievalResultLocation: `{"type": "S3", "s3Location": {"uri": …}}`.
        metadata: The sidecar's attributes, and Bedrock's own, which begin with `x-amz-bedrock-kb-`.
        document_id: The id that all chunks of a document share.
        text: The text to search: a passage, the values of a row, or the description of an image, a sound or a video.
    """

    content: Mapping[str, Any]
    location: Mapping[str, Any]
    metadata: Mapping[str, Any]
    document_id: str
    text: str


@dataclass(frozen=True)
class _Part:
    """A chunk without location and document id: its content, its text to search, and its own metadata."""

    content: Mapping[str, Any]
    text: str
    metadata: Mapping[str, Any]


def read_folder(folder: str | os.PathLike[str], *, bucket: str) -> Iterator[Chunk]:
    """Return the chunks of every document below a folder, in the order of the paths.

    Hidden files are skipped. A file is skipped with a log line if it cannot be read, holds nothing, has a name that is
    not valid Unicode, or is a link to a file outside the folder.

    Args:
        folder: The folder, read with its subfolders.
        bucket: The S3 bucket in the locations of the chunks.

    Raises:
        ValueError: The folder does not exist, or a sidecar does not have Bedrock's format.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"{root} is no folder; a knowledge base is read from a folder of documents.")
    for path in _files(root):
        name = path.relative_to(root).as_posix()
        problem = _problem(path, root)
        if problem is not None:
            _LOG.warning("%a is left out of the knowledge base: %s", name, problem)
            continue
        attributes = _attributes(path, root)
        try:
            parts = [part for part in _parts(path, f"s3://{bucket}/{name}", attributes) if part.text]
        except (OSError, csv.Error, ValueError, RecursionError) as error:
            _LOG.warning("%s is left out of the knowledge base: %s", name, error)
            continue
        if not parts:
            _LOG.warning("%s is left out of the knowledge base: it holds no text that can be read", name)
        yield from _placed(parts, name, bucket, attributes)


def _files(root: Path) -> Iterator[Path]:
    """Return the documents below a folder."""
    paths = sorted(root.rglob("*"), key=lambda path: path.relative_to(root).as_posix())
    for path in paths:
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        # Not `Path.is_file`, which raises if a folder can be listed but not entered.
        if not hidden and not path.name.endswith(_SIDECAR) and os.path.isfile(path):  # noqa: PTH113
            yield path


def _problem(path: Path, root: Path) -> str | None:
    """Return why a file cannot be a document, whatever its content; None if it can."""
    if not _within(path, root):
        return "it is a link to a file outside the folder"
    try:
        str(path.relative_to(root)).encode()
    except UnicodeEncodeError:
        return "its name is no Unicode"
    return None


def _within(path: Path, root: Path) -> bool:
    """Return whether a file is inside the folder once links are resolved."""
    return path.resolve().is_relative_to(root.resolve())


def _placed(parts: Iterable[_Part], name: str, bucket: str, attributes: Mapping[str, Any]) -> Iterator[Chunk]:
    """Return parts as chunks, with location, chunk id and metadata."""
    uri = f"s3://{bucket}/{name}"
    for number, part in enumerate(parts):
        own = {
            "x-amz-bedrock-kb-source-uri": uri,
            "x-amz-bedrock-kb-chunk-id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{uri}#{number}")),
            "x-amz-bedrock-kb-data-source-id": _DATA_SOURCE,
        }
        yield Chunk(
            content=part.content,
            location={"type": "S3", "s3Location": {"uri": uri}},
            metadata={**attributes, **part.metadata, **own},
            document_id=name,
            text=part.text,
        )


def _parts(path: Path, uri: str, attributes: Mapping[str, Any]) -> Iterator[_Part]:
    """Return the parts of a file, read according to its extension."""
    ending = path.suffix.lower()
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"it is larger than {_MOST_BYTES:,} bytes")
    data = path.read_bytes()
    if not data.strip():
        return
    if ending in _TEXTS:
        yield from _texts(document_text(data, _TEXTS[ending]))
    elif ending == ".pdf":
        for number, page in enumerate(pdf_pages(data), start=1):
            yield from _texts(unwrapped(page), {_PAGE: number})
    elif ending == ".csv":
        yield from map(_row, csv.DictReader(io.StringIO(data.decode("utf-8-sig", "replace"), newline="")))
    elif ending == ".json":
        yield from _json_parts(json.loads(data))
    elif ending in _IMAGES:
        kind = _MEDIA_TYPES.get(ending) or mimetypes.guess_type(path.name)[0]
        encoded = f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
        shown = _described(attributes, "description", path)
        yield _Part({"type": "IMAGE", "byteContent": encoded}, shown, {})
    elif ending in (*_SOUNDS, *_FILMS):
        kind, known = ("audio", "transcription") if ending in _SOUNDS else ("video", "summary")
        told = _described(attributes, known, path)
        yield _Part({"type": kind.upper(), kind: {"s3Uri": uri, known: told}}, told, {})
    else:
        raise ValueError(f"documents of the kind {ending or 'without an ending'} are not read")


def _described(attributes: Mapping[str, Any], key: str, path: Path) -> str:
    """Return the sidecar's description of a file without text, or the words of the file's name."""
    value = attributes.get(key)
    return value if isinstance(value, str) and value.strip() else re.sub(r"[\W_]+", " ", path.stem).strip()


def _texts(text: str, metadata: Mapping[str, Any] | None = None) -> Iterator[_Part]:
    """Return a text as parts, one per chunk."""
    for piece in cut(text):
        yield _Part({"type": "TEXT", "text": piece}, piece, metadata or {})


def _json_parts(value: Any) -> Iterator[_Part]:
    """Return a list of flat objects as rows of a table, other JSON as text, and empty JSON as no part."""
    if value is None or value in ("", [], {}):
        return
    records = value if isinstance(value, list) else []
    if records and all(isinstance(each, dict) and not _nested(each) for each in records):
        yield from map(_row, records)
    else:
        yield from _texts(json.dumps(value, ensure_ascii=False, indent=1))


def _nested(record: Mapping[str, Any]) -> bool:
    """Return whether a record is empty or holds lists or objects."""
    return not record or any(isinstance(value, (dict, list)) for value in record.values())


def _row(record: Mapping[Any, Any]) -> _Part:
    """Return a record of a table as a part: its columns with the types of a structured data store."""
    columns = [_column(str(name), value) for name, value in record.items() if name is not None]
    text = ", ".join(f"{c['columnName']}: {c['columnValue']}" for c in columns if "columnValue" in c)
    return _Part({"type": "ROW", "row": columns}, text, {})


def _column(name: str, value: Any) -> dict[str, str]:
    """Return a cell as a column of a row. An empty cell is NULL."""
    text = json.dumps(value) if isinstance(value, (bool, int, float)) else str(value or "").strip()
    if not text:
        return {"columnName": name, "type": "NULL"}
    kind = "STRING"
    if text.lower() in ("true", "false"):
        kind = "BOOLEAN"
    elif _LONG.fullmatch(text):
        kind = "LONG"
    elif _DOUBLE.fullmatch(text):
        kind = "DOUBLE"
    return {"columnName": name, "columnValue": text, "type": kind}


def _attributes(path: Path, root: Path) -> dict[str, Any]:
    """Return the metadata attributes in the sidecar of a document; empty without a sidecar in the folder."""
    sidecar = path.with_name(path.name + _SIDECAR)
    if not sidecar.is_file() or not _within(sidecar, root):
        return {}
    try:
        given = json.loads(sidecar.read_text("utf-8-sig"))["metadataAttributes"]
        return {key: _plain(value) for key, value in given.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f'{sidecar} is no metadata file: it must hold {{"metadataAttributes": {{…}}}} with strings, numbers, '
            f"booleans and lists of strings ({type(error).__name__}: {error})."
        ) from error


def _plain(value: Any) -> Any:
    """Return the value of a metadata attribute, written as a plain value or as a typed object."""
    if isinstance(value, dict):
        typed = value["value"]
        value = typed[_TYPED[typed["type"]]]
    if isinstance(value, list) and all(isinstance(member, str) for member in value):
        return value
    if not isinstance(value, (str, int, float)) or (isinstance(value, float) and not math.isfinite(value)):
        raise TypeError(f"{value!r} is neither a string, a number, a boolean nor a list of strings")
    return value


_MOST_WORDS = 200  # words of a query to search for; a question of 20,000 characters has more
# Scripts without spaces between words (Thai to Tibetan, Burmese, Khmer, Japanese, Chinese), and Korean, which appends
# particles to words: each character is indexed as a word.
_UNSPACED = re.compile(
    r"([\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff"
    r"\uff66-\uff9f\U00020000-\U0003ffff])"
)
_FLOOR, _REACH, _HALF = 0.2, 0.75, 6.0  # constants of _score
_EXACT = 0.3


class Collection:
    """Chunks and an index of their words. Safe to use from several threads.

    Raises:
        RuntimeError: This Python's SQLite was built without FTS5.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._chunks: list[Chunk] = []
        self._index = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        try:
            self._index.execute(
                "CREATE VIRTUAL TABLE words USING "
                "fts5(text, content='', tokenize='porter unicode61 remove_diacritics 2')"
            )
        except sqlite3.OperationalError as error:
            self._index.close()
            raise RuntimeError(
                f"The emulated knowledge base needs SQLite with FTS5, which this Python's SQLite "
                f"{sqlite3.sqlite_version} lacks ({error})."
            ) from error
        # From Python 3.13 on, an open connection that is garbage-collected emits a ResourceWarning.
        weakref.finalize(self, self._index.close)

    @classmethod
    def from_folder(cls, folder: str | os.PathLike[str], *, bucket: str = "emulated-knowledge-base") -> Collection:
        """Return a collection of the documents below a folder.

        Args:
            folder: Text, Markdown, HTML, PDF, CSV, JSON, images, sounds and videos, with sidecar files
                `NAME.metadata.json`.
            bucket: The S3 bucket in the locations of the chunks, "emulated-knowledge-base" by default.

        Raises:
            ValueError: The folder does not exist or holds no document, or a sidecar does not have Bedrock's format.
        """
        collection = cls()
        for chunk in read_folder(folder, bucket=bucket):
            collection.add(chunk)
        if not len(collection):
            raise ValueError(f"{folder} holds no document that can be read.")
        return collection

    def add(self, chunk: Chunk) -> None:
        """Add a chunk at the end of the collection."""
        with self._lock:
            self._index.execute(
                "INSERT INTO words(rowid, text) VALUES (?, ?)", (len(self._chunks), _spaced(chunk.text))
            )
            self._chunks.append(chunk)

    def search(
        self,
        query: str,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the API's own word
        exact_words: bool = False,
    ) -> list[tuple[Chunk, float]]:
        """Return every chunk that has a word of the query, best first, equal chunks in the order of `add`.

        Args:
            query: Any text. It has no query syntax.
            filter: A RetrievalFilter that the chunks' metadata must match; None for no filter.
            exact_words: Whether words as they are written count for more than their stems (hybrid search).

        Returns:
            Chunks with scores between 0 and 1, both exclusive.

        Raises:
            ServiceError: ValidationException if the filter is not valid.
        """
        if filter is not None:
            check_filter(filter)
        words = _key_words(query)
        found = [
            (chunk, _score(rank, _share(words, chunk.text) if exact_words else 0.0))
            for chunk, rank in self._ranked(words)
            if filter is None or matches(filter, chunk.metadata)
        ]
        return sorted(found, key=lambda pair: -pair[1])

    def _ranked(self, words: list[str]) -> list[tuple[Chunk, float]]:
        """Return the chunks that have any of the words, each with its bm25 rank from SQLite (negative)."""
        if not words:
            return []
        expression = " OR ".join(f'"{word}"' for word in words)
        with self._lock:
            rows = self._index.execute(
                "SELECT rowid, bm25(words) FROM words WHERE words MATCH ? ORDER BY rowid", (expression,)
            ).fetchall()
            return [(self._chunks[row], rank) for row, rank in rows]

    def chunks(self) -> list[Chunk]:
        """Return every chunk, in the order of `add`."""
        with self._lock:
            return list(self._chunks)

    def __len__(self) -> int:
        with self._lock:
            return len(self._chunks)


def shipped() -> Collection:
    """Return the library that ships with the package: the large moons of the Solar System."""
    return Collection.from_folder(Path(__file__).parent.parent / "library")


def _spaced(text: str) -> str:
    """Return a text as indexed. Lone surrogates, which SQLite does not accept, become question marks."""
    return _UNSPACED.sub(r" \1 ", text).encode("utf-8", "replace").decode("utf-8")


def _words(text: str) -> list[str]:
    """Return the words of a text: runs of letters, digits and their marks."""
    letters = (c if c.isalnum() or unicodedata.category(c)[0] == "M" else " " for c in _spaced(text))
    return "".join(letters).lower().split()


def _key_words(query: str) -> list[str]:
    """Return the words to search for, without duplicates and stop words; all words if only stop words remain."""
    words = list(dict.fromkeys(_words(query)))
    return ([word for word in words if word not in STOP_WORDS] or words)[:_MOST_WORDS]


def _share(words: list[str], text: str) -> float:
    """Return the share of the words that a text contains exactly as they are written."""
    return len(set(words) & set(_words(text))) / len(words)


def _score(rank: float, exact: float) -> float:
    """Combine a bm25 rank (negative, unbounded) and the share of exact words into a score like an embedding's."""
    strength = -rank / (_HALF - rank)
    strength += (1 - strength) * _EXACT * exact
    return round(_FLOOR + _REACH * strength, 7)


# --- External sources of RetrieveAndGenerate ---

_WORD = "application/vnd.openxmlformats-officedocument."
# The formats in the user guide's "Chat with your document".
_KINDS = {
    "text/plain": "txt",
    "text/markdown": "md",
    "text/html": "html",
    "text/csv": "csv",
    "application/pdf": "pdf",
    "application/msword": "doc",
    "application/vnd.ms-excel": "xls",
    f"{_WORD}wordprocessingml.document": "docx",
    f"{_WORD}spreadsheetml.sheet": "xlsx",
}


def read_source(source: Mapping[str, Any], bases: KnowledgeBases) -> list[Chunk]:
    """Return the passages of an external source.

    The emulator has no S3: an S3 object is a document of one of its knowledge bases.

    Args:
        source: An entry of `sources` in an externalSourcesConfiguration.
        bases: The knowledge bases whose documents serve as S3 objects.

    Raises:
        ServiceError: ValidationException for a document that is missing, does not exist or cannot be read.
    """
    kind = source["sourceType"]
    member = {"S3": "s3Location", "BYTE_CONTENT": "byteContent"}[kind]
    if member not in source or len(source) != 2:  # the type and its member
        raise validation(f"A source of type {kind} must have {member}, and no other.")
    if kind == "S3":
        return _from_knowledge_bases(source[member]["uri"], bases)
    return _from_bytes(source[member])


def object_text(uri: str, bases: KnowledgeBases) -> str | None:
    """Return the text of an S3 object.

    Args:
        uri: The object's URI, `s3://BUCKET/KEY`.
        bases: The knowledge bases whose documents serve as S3 objects.

    Returns:
        The text, or None if no knowledge base has such a document.
    """
    chunks = _chunks_of(uri, bases)
    return "\n\n".join(chunk.text for chunk in chunks) if chunks else None


def _chunks_of(uri: str, bases: KnowledgeBases) -> list[Chunk]:
    """Return the chunks of the document with an S3 URI; empty if no knowledge base has it."""
    for base in bases.all():
        found = [chunk for chunk in base.collection.chunks() if chunk.location.get("s3Location", {}).get("uri") == uri]
        if found:
            return found
    return []


def _from_knowledge_bases(uri: str, bases: KnowledgeBases) -> list[Chunk]:
    found = _chunks_of(uri, bases)
    if not found:
        raise validation(f"The S3 object {uri} does not exist, or cannot be read.")
    return found


def _from_bytes(document: Mapping[str, Any]) -> list[Chunk]:
    """Return the passages of a document in the request. The service returns no location for such passages."""
    kind = _KINDS.get(document["contentType"].partition(";")[0])
    if kind is None:
        raise validation(
            f"The content type {document['contentType']} is not supported; use one of: {', '.join(_KINDS)}."
        )
    pieces = cut(document_text(document["data"], kind))
    if not pieces:
        raise validation(f"No text can be read in {document['identifier']}.")
    return [
        Chunk(
            content={"type": "TEXT", "text": piece},
            location={},
            metadata={},
            document_id=document["identifier"],
            text=piece,
        )
        for piece in pieces
    ]
