"""Read an external source: one document to answer from, instead of a knowledge base.

RetrieveAndGenerate takes the document as it is. Where this package asks the model, a text goes into the prompt, and any
other document is attached to the message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.requests.documents import (
    DOCUMENT_FORMATS,
    bare_mime_type,
    legal_document_name,
    suffix_of,
)

from .passages import Passage

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
