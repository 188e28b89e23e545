"""Images, documents, videos and sounds as Converse takes them: a format, a name, and bytes or a place in S3."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import filetype

from bedrock_routing_integrations.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llama_index.core.base.llms.types import AudioBlock, DocumentBlock, ImageBlock, VideoBlock

# The formats are the enums of botocore's service model (1.43); a test compares them.
IMAGE_FORMATS = {
    "image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/gif": "gif", "image/webp": "webp",
}  # fmt: skip
VIDEO_FORMATS = {
    "video/x-matroska": "mkv", "video/quicktime": "mov", "video/mp4": "mp4", "video/x-m4v": "mp4", "video/webm": "webm",
    "video/x-flv": "flv", "video/mpeg": "mpeg", "video/mpg": "mpg", "video/x-ms-wmv": "wmv", "video/3gpp": "three_gp",
}  # fmt: skip
AUDIO_FORMATS = {
    "audio/mpeg": "mp3", "audio/mp3": "mp3", "audio/opus": "opus", "audio/wav": "wav", "audio/x-wav": "wav",
    "audio/aac": "aac", "audio/flac": "flac", "audio/x-flac": "flac", "audio/mp4": "mp4", "audio/ogg": "ogg",
    "audio/m4a": "m4a", "audio/x-m4a": "m4a", "audio/webm": "webm", "audio/pcm": "pcm",
}  # fmt: skip
DOCUMENT_FORMATS = {
    "application/pdf": "pdf", "text/csv": "csv", "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "text/html": "html", "text/plain": "txt", "text/markdown": "md", "text/x-markdown": "md",
}  # fmt: skip
_SUFFIXES = {**{name: name for name in DOCUMENT_FORMATS.values()}, "htm": "html", "markdown": "md", "text": "txt"}

# 1 to 200 letters, digits, hyphens, parentheses, square brackets and single spaces (API reference, DocumentBlock.name).
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9()\[\] -]+")
_LONGEST_NAME = 200


class DocumentNames:
    """The names that the documents of one request have: allowed ones, each once, the same for the same history."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def name(self, title: str | None) -> str:
        """A name that Bedrock takes, as near to `title` as it allows."""
        name = " ".join(_NOT_IN_A_NAME.sub("-", title or "").split()).strip("- ")[:_LONGEST_NAME].strip() or "document"
        unique, number = name, 1
        while unique in self._taken:
            number += 1
            ending = f" ({number})"
            unique = name[: _LONGEST_NAME - len(ending)] + ending
        self._taken.add(unique)
        return unique


def image_block(block: ImageBlock, at: str) -> dict[str, Any]:
    """Converse's ``image`` block."""
    source = _source(block.url, block.resolve_image, at)
    return {"image": {"format": _format(block.image_mimetype, IMAGE_FORMATS, source, at), "source": source}}


def video_block(block: VideoBlock, at: str) -> dict[str, Any]:
    """Converse's ``video`` block."""
    source = _source(block.url, block.resolve_video, at)
    return {"video": {"format": _format(block.video_mimetype, VIDEO_FORMATS, source, at), "source": source}}


def audio_block(block: AudioBlock, at: str) -> dict[str, Any]:
    """Converse's ``audio`` block."""
    source = _source(block.url, block.resolve_audio, at)
    named = (block.format or "").lower()
    known = named if named in AUDIO_FORMATS.values() else _format(named, AUDIO_FORMATS, source, at)
    return {"audio": {"format": known, "source": source}}


def document_block(block: DocumentBlock, at: str, names: DocumentNames) -> dict[str, Any]:
    """Converse's ``document`` block, with a name that Bedrock takes."""
    source = _source(block.url, block.resolve_document, at)
    return {
        "document": {"format": _document_format(block, source, at), "name": names.name(block.title), "source": source}
    }


def document_bytes(block: DocumentBlock, at: str) -> bytes:
    """What is in a document that is not in S3."""
    return _read(block.resolve_document, at)


def _source(url: object, resolve: Callable[[], Any], at: str) -> dict[str, Any]:
    if url is not None and str(url).startswith("s3://"):
        return {"s3Location": {"uri": str(url)}}
    return {"bytes": _read(resolve, at)}


def _read(resolve: Callable[[], Any], at: str) -> bytes:
    try:
        content: bytes = resolve().read()
    except (ValueError, OSError) as error:  # nothing in it, no such file, a download that failed
        raise InvalidRequestError(f"{at} cannot be read: {error}") from error
    return content


def _format(mimetype: str | None, formats: Mapping[str, str], source: Mapping[str, Any], at: str) -> str:
    stated = _bare(mimetype)
    found = formats.get(stated) or formats.get(str(filetype.guess_mime(source.get("bytes", b""))))
    if found is None:
        raise InvalidRequestError(
            f"{at} is {stated or 'of an unknown type'}, which Bedrock does not take; it takes "
            f"{', '.join(dict.fromkeys(formats))}."
        )
    return found


def _document_format(block: DocumentBlock, source: Mapping[str, Any], at: str) -> str:
    stated = _bare(block.document_mimetype)
    names = (block.title, block.path, (block.url or "").partition("?")[0])
    by_name = [_SUFFIXES.get(PurePosixPath(str(name or "")).suffix.lstrip(".").lower()) for name in names]
    content = source.get("bytes", b"")
    known = (DOCUMENT_FORMATS.get(stated), *by_name, DOCUMENT_FORMATS.get(str(filetype.guess_mime(content))))
    for found in known:
        if found is not None:
            return found
    # JSON, YAML, source code: Bedrock reads it as text.
    if content and _is_text(content):
        return "txt"
    raise InvalidRequestError(
        f"{at} is {stated or 'of an unknown type'}, which Bedrock does not take as a document; it takes text and "
        f"{', '.join(dict.fromkeys(DOCUMENT_FORMATS.values()))}. Set document_mimetype=, or a title with its suffix."
    )


def _is_text(content: bytes) -> bool:
    try:
        return "\0" not in content.decode()
    except UnicodeDecodeError:
        return False


def _bare(mimetype: str | None) -> str:
    return (mimetype or "").partition(";")[0].strip().lower()
