"""An external source where we ask the model: its text as the one passage, or the document itself beside it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.errors import InvalidRequestError

from .generation import external_source
from .passages import Passage

if TYPE_CHECKING:
    from collections.abc import Mapping

# ``DocumentFormat`` of botocore's bedrock-runtime (1.43), by media type.
_FORMATS = {
    "application/pdf": "pdf", "text/csv": "csv", "text/html": "html", "text/plain": "txt", "text/markdown": "md",
    "application/msword": "doc", "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
}  # fmt: skip
_ATTACHED = "The document that is attached to this message."
# 1 to 200 letters, digits, hyphens, parentheses, square brackets and single spaces (API reference, DocumentBlock.name).
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9()\[\] -]+")
_LONGEST_NAME = 200
_CHARSET = re.compile(r"charset\s*=\s*\"?([\w.:-]+)")


@dataclass(frozen=True)
class SourceDocument:
    """A document to answer from.

    Attributes:
        source: Its URI in S3, or its identifier.
        format: As Converse calls it: ``"pdf"``, ``"txt"`` …
        media_type: Its media type.
        name: A name that Converse takes.
        data: Its bytes; None where it is in S3.
        text: Its text, where it is one; then nothing is attached.
    """

    source: str
    format: str
    media_type: str
    name: str
    data: bytes | None
    text: str | None

    @property
    def passage(self) -> Passage:
        """What the answer can cite: the document as a whole."""
        return Passage(text=self.text or "", content_type="TEXT", source=self.source, media_type=self.media_type)

    @property
    def shown(self) -> str:
        """What the prompt says of it."""
        return _ATTACHED if self.text is None else self.text


def read_source(given: str | Mapping[str, Any]) -> SourceDocument:
    """An external source, as `external_source` takes it.

    Raises:
        InvalidRequestError: It is none, or of a type that Converse does not take.
    """
    external_source(given)
    if isinstance(given, str):
        suffix = PurePosixPath(given).suffix.lstrip(".").lower()
        media_type = next((name for name, kind in _FORMATS.items() if kind == suffix), None)
        what = f"{given!r}, which ends in no known type,"
        source, data, parameters = given, None, ""
    else:
        media_type, _, parameters = str(given["contentType"]).lower().partition(";")
        media_type = media_type.strip()
        what = f"the type {media_type!r}"
        source, data = str(given["identifier"]), bytes(given["data"])
    kind = _FORMATS.get(media_type or "")
    if kind is None or media_type is None:
        raise InvalidRequestError(f"Converse does not take {what} as a document; it takes {', '.join(_FORMATS)}")
    name = " ".join(_NOT_IN_A_NAME.sub("-", PurePosixPath(source).name).split()).strip("- ")[:_LONGEST_NAME].strip()
    text = _read(data, parameters) if data is not None and media_type.startswith("text/") else None
    return SourceDocument(source, kind, media_type, name or "document", data, text)


def _read(data: bytes, parameters: str) -> str | None:
    """A text; None where it is in some other encoding than it says: then the model gets the document itself."""
    charset = _CHARSET.search(parameters)
    try:
        return data.decode(charset[1] if charset else "utf-8").removeprefix("\ufeff")
    except (UnicodeError, LookupError):
        return None
