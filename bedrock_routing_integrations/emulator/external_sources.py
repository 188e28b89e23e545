"""External sources: the document that a RetrieveAndGenerate request brings or names itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .collection import Chunk
from .collection_text import cut
from .errors import validation
from .programs.documents import document_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .knowledge_bases import KnowledgeBases

__all__ = ["object_text", "read_source"]

_WORD = "application/vnd.openxmlformats-officedocument."
# The user guide's "Chat with your document" names these formats.
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
    """The passages of an external source.

    There is no S3 in the emulator: an object is one of the documents of its knowledge bases.

    Raises:
        ServiceError: ValidationException for a document that is missing, cannot be found or cannot be read.
    """
    kind = source["sourceType"]
    member = {"S3": "s3Location", "BYTE_CONTENT": "byteContent"}[kind]
    if member not in source or len(source) != 2:  # beside the type
        raise validation(f"A source of type {kind} must have {member}, and no other.")
    if kind == "S3":
        return _from_knowledge_bases(source[member]["uri"], bases)
    return _from_bytes(source[member])


def object_text(uri: str, bases: KnowledgeBases) -> str | None:
    """The text of an object in S3; None where no knowledge base has such a document."""
    chunks = _chunks_of(uri, bases)
    return "\n\n".join(chunk.text for chunk in chunks) if chunks else None


def _chunks_of(uri: str, bases: KnowledgeBases) -> list[Chunk]:
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
    """The passages of a document that the request holds. The service gives no location for them."""
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
