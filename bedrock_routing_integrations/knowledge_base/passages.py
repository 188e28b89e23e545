"""Passages: read any retrieval result of a knowledge base as a `Passage`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, TypeVar

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.requests.documents import (
    DOCUMENT_FORMATS,
    bare_mime_type,
    legal_document_name,
    suffix_of,
)

from .images import media_type_of

_SOURCE_KEYS = ("x-amz-bedrock-kb-source-uri", "_source_uri")
_NUMBERS = {"LONG": int, "DOUBLE": float}
Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A retrieved piece of a document.

    Attributes:
        text: The text of the piece; empty without one, never base64. A row's columns as a JSON object, the
            transcription of audio, the summary of a video, the description of an image by the knowledge base's parser.
        content_type: ``"TEXT"``, ``"ROW"``, ``"IMAGE"``, ``"AUDIO"``, ``"VIDEO"``, or the service's other value.
        source: One URI, whatever the type of the location; a custom document's id; the query of SQL.
        score: The service's relevance score; None without one (always with RetrieveAndGenerate).
        location: As the service gave it.
        metadata: As the service gave it: attributes of the document, its chunk and page.
        document_id: The document's id.
        media_type: Media type of an image, audio or video, if its URI has one.
        media_uri: URI of the audio or video.
        data_uri: The image itself, ``data:image/jpeg;base64,…``.
    """

    text: str
    content_type: str = "TEXT"
    source: str | None = None
    score: float | None = None
    location: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    document_id: str | None = None
    media_type: str | None = None
    media_uri: str | None = None
    data_uri: str | None = field(default=None, repr=False)

    @property
    def key(self) -> tuple[Any, ...]:
        """A key that is equal for the same piece in any call or citation, whatever its score."""
        chunk = self.metadata.get(_CHUNK)
        return self.source, self.content_type, self.text, self.media_uri, self.data_uri, str(chunk) if chunk else None


class RetrievedPassages(list[Item]):
    """The results of one search, best first, in a framework's own type: a list that also has the guardrail's action.

    Attributes:
        guardrail_action: ``"INTERVENED"`` or ``"NONE"``; None without a guardrail. The metadata of each document or
            node has it too, but if a guardrail intervenes there may be none.
    """

    guardrail_action: str | None

    def __init__(self, items: Iterable[Item] = (), guardrail_action: str | None = None) -> None:
        super().__init__(items)
        self.guardrail_action = guardrail_action


_CHUNK = "x-amz-bedrock-kb-chunk-id"
_DESCRIPTION = "x-amz-bedrock-kb-description"
DESCRIBED = ("IMAGE", "AUDIO", "VIDEO")
"""The types of content whose description is in the metadata."""


def description_of(metadata: Mapping[str, Any]) -> str:
    """Return the description of an image, audio or video; empty without one (Bedrock user guide, 2026-11)."""
    return _string(metadata.get(_DESCRIPTION)) or ""


def read_passage(result: Mapping[str, Any]) -> Passage:
    """Return a retrieval result, or a reference of a citation, as a `Passage`.

    Never raises: missing or malformed members are left out, so that one odd result does not lose the others.
    """
    result = _mapping(result)
    content = _mapping(result.get("content"))
    kind = _string(content.get("type")) or _kind_of(content)
    location, metadata = _mapping(result.get("location")), _mapping(result.get("metadata"))
    media_uri = next(
        (_string(_mapping(content[name]).get("s3Uri")) for name in ("audio", "video") if content.get(name)), None
    )
    data = _string(content.get("byteContent"))
    source = _source(location, metadata) or media_uri
    return Passage(
        text=_text(kind, content) or (description_of(metadata) if kind in DESCRIBED else ""),
        content_type=kind,
        source=source,
        score=_score(result.get("score")),
        location=dict(location) or None,
        metadata=dict(metadata),
        document_id=_string(result.get("documentId")),
        media_type=None if kind in ("TEXT", "ROW") else media_type_of(data or media_uri or source),
        media_uri=media_uri,
        data_uri=data,
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _score(value: Any) -> float | None:
    """Return a finite number, or None: NaN and infinity do not compare and are not JSON."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if number and abs(value) < float("inf") else None


def _kind_of(content: Mapping[str, Any]) -> str:
    """Return the type of a content without one, from its members; results of old vector stores lack the type."""
    members = {"row": "ROW", "byteContent": "IMAGE", "audio": "AUDIO", "video": "VIDEO"}
    return next((kind for member, kind in members.items() if member in content), "TEXT")


def _text(kind: str, content: Mapping[str, Any]) -> str:
    if kind == "ROW":
        return _row(content.get("row"))
    path = {"AUDIO": ("audio", "transcription"), "VIDEO": ("video", "summary")}.get(kind)
    media_text = _mapping(content.get(path[0])).get(path[1]) if path else None
    text = media_text or content.get("text")
    return text if isinstance(text, str) else ""


def _row(columns: Any) -> str:
    cells = [cell for cell in columns if isinstance(cell, Mapping)] if isinstance(columns, Sequence) else []
    names = [_string(cell.get("columnName")) for cell in cells]
    values = [_cell(cell) for cell in cells]
    # Two columns of one name are possible in SQL, not in an object.
    row: Any = dict(zip(names, values, strict=True))
    if len(row) < len(names) or None in row:
        row = [{"columnName": name, "columnValue": value} for name, value in zip(names, values, strict=True)]
    return json.dumps(row, ensure_ascii=False, default=str)


def _cell(cell: Mapping[str, Any]) -> Any:
    kind, value = _string(cell.get("type")), cell.get("columnValue")
    if value is None or kind == "NULL":
        return None
    if kind == "BOOLEAN" and str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    if kind in _NUMBERS:
        try:
            number = _NUMBERS[kind](value)
        except (ValueError, TypeError, OverflowError):
            return value
        return number if number == number and abs(number) != float("inf") else value  # noqa: PLR0124 - not a number
    return value


def _source(location: Mapping[str, Any], metadata: Mapping[str, Any]) -> str | None:
    """Return the URI of a location. Each type of location has a member of its own with the URI."""
    for member in location.values():
        for name in ("uri", "url", "id", "query"):
            uri = _mapping(member).get(name)
            if uri:
                return str(uri)
    return next((str(metadata[key]) for key in _SOURCE_KEYS if metadata.get(key)), None)


# --- External sources: one document to answer from, instead of a knowledge base ---

LARGEST_SOURCE = 10_485_760
"""Bytes of an external source."""
_LONGEST_IDENTIFIER = 1_024
_S3 = re.compile(r"(?=.{1,1024}\Z)s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/.+")
_CONTENT_TYPE = re.compile(r"[a-z]{1,20}/.+")
_CHARSET = re.compile(r"charset\s*=\s*\"?([\w.:-]+)")
_ATTACHED = "The document that is attached to this message."


def external_source(source: str | Mapping[str, Any]) -> dict[str, Any]:
    """Return an external source as RetrieveAndGenerate takes it.

    Raises:
        InvalidRequestError: It is neither an S3 URI nor a document with its type and name.
    """
    if isinstance(source, str):
        if not _S3.fullmatch(source):
            raise InvalidRequestError(
                f"external_source={source!r} is not valid. Give s3://bucket/key, the bucket of 3 to 63 lower-case "
                "letters, digits, dots and hyphens."
            )
        return {"sourceType": "S3", "s3Location": {"uri": source}}
    if not isinstance(source, Mapping) or set(source) != {"data", "contentType", "identifier"}:
        raise InvalidRequestError(
            "external_source is not valid. Give 's3://bucket/key', or {'data': bytes, 'contentType': "
            "'application/pdf', 'identifier': 'report.pdf'}."
        )
    data = source["data"]
    if not isinstance(data, (bytes, bytearray)) or not 1 <= len(data) <= LARGEST_SOURCE:
        size = f"has {len(data):,}" if isinstance(data, (bytes, bytearray)) else f"is a {type(data).__name__}"
        raise InvalidRequestError(f"external_source: data must be 1 to {LARGEST_SOURCE:,} bytes, and {size}.")
    content_type, identifier = source["contentType"], source["identifier"]
    if not isinstance(content_type, str) or not _CONTENT_TYPE.fullmatch(content_type):
        raise InvalidRequestError(
            f"external_source: contentType={content_type!r} is not valid. Give a media type like 'application/pdf'."
        )
    if not isinstance(identifier, str) or not 1 <= len(identifier) <= _LONGEST_IDENTIFIER:
        raise InvalidRequestError(
            f"external_source: identifier={identifier!r} is not valid. Give 1 to {_LONGEST_IDENTIFIER:,} characters."
        )
    return {"sourceType": "BYTE_CONTENT", "byteContent": dict(source)}


@dataclass(frozen=True)
class SourceDocument:
    """A document to answer from.

    Attributes:
        source: Its URI in S3, or its identifier.
        format: As Converse calls it: ``"pdf"``, ``"txt"`` …
        media_type: Its media type.
        name: A name that Converse takes.
        data: Its bytes; None for a document in S3.
        text: Its text; None for a document that has to be attached.
    """

    source: str
    format: str
    media_type: str
    name: str
    data: bytes | None
    text: str | None

    @property
    def passage(self) -> Passage:
        """The document as one passage, for citations."""
        return Passage(text=self.text or "", content_type="TEXT", source=self.source, media_type=self.media_type)

    @property
    def shown(self) -> str:
        """The text of the passage in the prompt."""
        return _ATTACHED if self.text is None else self.text


def read_source(source: str | Mapping[str, Any]) -> SourceDocument:
    """Return an external source as a document that Converse takes.

    Raises:
        InvalidRequestError: It is not a valid external source, or of a type that Converse does not take.
    """
    external_source(source)
    if isinstance(source, str):
        suffix = suffix_of(source)
        media_type = next((name for name, each in DOCUMENT_FORMATS.items() if each == suffix), "")
        described = f"{source!r}, which ends in no known type,"
        uri, data, content_type = source, None, ""
    else:
        content_type = str(source["contentType"])
        media_type = bare_mime_type(content_type)
        described = f"the type {media_type!r}"
        uri, data = str(source["identifier"]), bytes(source["data"])
    document_format = DOCUMENT_FORMATS.get(media_type)
    if document_format is None:
        raise InvalidRequestError(
            f"external_source: Converse does not take {described} as a document. It takes "
            f"{', '.join(DOCUMENT_FORMATS)}."
        )
    text = _decode(data, content_type.lower()) if data is not None and media_type.startswith("text/") else None
    name = legal_document_name(PurePosixPath(uri).name)
    return SourceDocument(uri, document_format, media_type, name, data, text)


def _decode(data: bytes, content_type: str) -> str | None:
    """Return a document's text; None if its encoding is not the stated one: then the document is attached."""
    charset = _CHARSET.search(content_type)
    try:
        return data.decode(charset[1] if charset else "utf-8").removeprefix("\ufeff")
    except (UnicodeError, LookupError):
        return None
