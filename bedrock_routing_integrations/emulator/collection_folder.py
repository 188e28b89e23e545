"""A folder of documents as chunks: texts, PDFs, tables, pictures, sounds and films, with Bedrock's sidecar files.

A sidecar is named like the document with `.metadata.json` behind it and holds
`{"metadataAttributes": {"year": 1979, …}}`, also in the form that tells types apart
(`{"value": {"type": "NUMBER", "numberValue": 1979}}`). What a picture shows stands in its attribute
"description", what is said in a sound in "transcription", what happens in a film in "summary".
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
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .collection_text import cut, unwrapped
from .programs.documents import document_text, pdf_pages

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["Chunk", "read_folder"]

_LOG = logging.getLogger(__name__)
_SIDECAR = ".metadata.json"
_DATA_SOURCE = "EMULATEDDS"
_MOST_BYTES = 50_000_000  # of one file: Bedrock's quota
_TEXTS = {".txt": "txt", ".md": "md", ".html": "html", ".htm": "html"}
_IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".webp")
_SOUNDS = (".mp3", ".wav")
_FILMS = (".mp4",)
_MEDIA_TYPES = {".webp": "image/webp"}  # Python 3.10 does not know it everywhere
_TYPED = {"STRING": "stringValue", "NUMBER": "numberValue", "BOOLEAN": "booleanValue", "STRING_LIST": "stringListValue"}
# What begins with further noughts is a code, not a number; other scripts' digits are text.
_LONG = re.compile(r"[+-]?(?:0|[1-9]\d{0,17})", re.ASCII)
_DOUBLE = re.compile(r"[+-]?(?:(?:0|[1-9]\d*)(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_PAGE = "x-amz-bedrock-kb-document-page-number"


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A piece of a document, as a search finds it.

    Attributes:
        content: RetrievalResultContent of bedrock-agent-runtime: `{"type": "TEXT", "text": …}`.
        location: RetrievalResultLocation: `{"type": "S3", "s3Location": {"uri": …}}`.
        metadata: The sidecar's attributes, and Bedrock's own, which begin with `x-amz-bedrock-kb-`.
        document_id: What all chunks of one document have in common.
        text: What is searched: the text, a row's values, what is known of a picture, a sound or a film.
    """

    content: Mapping[str, Any]
    location: Mapping[str, Any]
    metadata: Mapping[str, Any]
    document_id: str
    text: str


@dataclass(frozen=True)
class _Part:
    """A chunk before it has a place: its content, its searched text, and metadata of its own."""

    content: Mapping[str, Any]
    text: str
    metadata: Mapping[str, Any]


def read_folder(folder: str | os.PathLike[str], *, bucket: str) -> Iterator[Chunk]:
    """The chunks of every document below a folder, in the order of the paths.

    Hidden files are left out. A file that cannot be read, that holds nothing, whose name is no Unicode or which is a
    link to what lies outside the folder is left out with a log line.

    Raises:
        ValueError: There is no such folder, or a sidecar is not of Bedrock's form.
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
    """The documents below a folder."""
    paths = sorted(root.rglob("*"), key=lambda path: path.relative_to(root).as_posix())
    for path in paths:
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        # Not `Path.is_file`, which raises where a folder may be listed but not entered.
        if not hidden and not path.name.endswith(_SIDECAR) and os.path.isfile(path):  # noqa: PTH113
            yield path


def _problem(path: Path, root: Path) -> str | None:
    """Why a file cannot be a document, whatever it holds; None where it can."""
    if not _within(path, root):
        return "it is a link to a file outside the folder"
    try:
        str(path.relative_to(root)).encode()
    except UnicodeEncodeError:
        return "its name is no Unicode"
    return None


def _within(path: Path, root: Path) -> bool:
    """Whether a file lies in the folder once links are followed."""
    return path.resolve().is_relative_to(root.resolve())


def _placed(parts: Iterable[_Part], name: str, bucket: str, attributes: Mapping[str, Any]) -> Iterator[Chunk]:
    """Parts with their place, their numbers and their metadata."""
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
    """What one file holds, by its ending."""
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
    """What the sidecar says of a file that has no text; else the words of its name."""
    value = attributes.get(key)
    return value if isinstance(value, str) and value.strip() else re.sub(r"[\W_]+", " ", path.stem).strip()


def _texts(text: str, metadata: Mapping[str, Any] | None = None) -> Iterator[_Part]:
    for piece in cut(text):
        yield _Part({"type": "TEXT", "text": piece}, piece, metadata or {})


def _json_parts(value: Any) -> Iterator[_Part]:
    """A list of flat objects is a table; any other JSON is a text, unless it is empty."""
    if value is None or value in ("", [], {}):
        return
    records = value if isinstance(value, list) else []
    if records and all(isinstance(each, dict) and not _nested(each) for each in records):
        yield from map(_row, records)
    else:
        yield from _texts(json.dumps(value, ensure_ascii=False, indent=1))


def _nested(record: Mapping[str, Any]) -> bool:
    return not record or any(isinstance(value, (dict, list)) for value in record.values())


def _row(record: Mapping[Any, Any]) -> _Part:
    """A record of a table: its columns with the types of a structured data store."""
    columns = [_column(str(name), value) for name, value in record.items() if name is not None]
    text = ", ".join(f"{c['columnName']}: {c['columnValue']}" for c in columns if "columnValue" in c)
    return _Part({"type": "ROW", "row": columns}, text, {})


def _column(name: str, value: Any) -> dict[str, str]:
    """One cell; an empty one is NULL."""
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
    """The metadata attributes in the sidecar of a document; none where it has no sidecar in the folder."""
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
    """The value of an attribute in either form."""
    if isinstance(value, dict):
        typed = value["value"]
        value = typed[_TYPED[typed["type"]]]
    if isinstance(value, list) and all(isinstance(member, str) for member in value):
        return value
    if not isinstance(value, (str, int, float)) or (isinstance(value, float) and not math.isfinite(value)):
        raise TypeError(f"{value!r} is neither a string, a number, a boolean nor a list of strings")
    return value
