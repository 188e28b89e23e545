"""Images, documents, videos and sounds as Converse takes them: a format, a name, and bytes or a place in S3."""

from __future__ import annotations

import io
import re
import threading
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import filetype

from bedrock_routing_integrations.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llama_index.core.base.llms.types import AudioBlock, DocumentBlock, ImageBlock, VideoBlock

    _Media = AudioBlock | DocumentBlock | ImageBlock | VideoBlock

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
    "audio/m4a": "m4a", "audio/x-m4a": "m4a", "audio/webm": "webm", "audio/pcm": "pcm", "audio/x-aac": "x-aac",
    "audio/x-matroska": "mka", "video/x-matroska": "mkv", "audio/x-mpeg": "mpeg", "audio/mpga": "mpga",
}  # fmt: skip
DOCUMENT_FORMATS = {
    "application/pdf": "pdf", "text/csv": "csv", "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "text/html": "html", "text/plain": "txt", "text/markdown": "md", "text/x-markdown": "md",
}  # fmt: skip
_SUFFIXES = {**{name: name for name in DOCUMENT_FORMATS.values()}, "htm": "html", "markdown": "md", "text": "txt"}
# What files are called whose format Bedrock calls otherwise.
_ALIASES = {"jpg": "jpeg", "3gp": "three_gp", "m4v": "mp4"}

# 1 to 200 letters, digits, hyphens, parentheses, square brackets and single spaces (API reference, DocumentBlock.name).
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9()\[\] -]+")
_LONGEST_NAME = 200


class DocumentNames:
    """The names that the documents of one request have: allowed ones, each once, the same for the same history."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._last: dict[str, int] = {}

    def name(self, title: str | None) -> str:
        """A name that Bedrock takes, as near to `title` as it allows."""
        name = " ".join(_NOT_IN_A_NAME.sub("-", title or "").split()).strip("- ")[:_LONGEST_NAME].strip() or "document"
        unique, number = name, self._last.get(name, 1)
        while unique in self._taken:
            number += 1
            ending = f" ({number})"
            unique = name[: _LONGEST_NAME - len(ending)].rstrip() + ending
        self._taken.add(unique)
        self._last[name] = number
        return unique


def image_block(block: ImageBlock, at: str) -> dict[str, Any]:
    """Converse's ``image`` block."""
    source = _source(block, block.image, block.resolve_image, at)
    # LlamaIndex goes by the suffix; models refuse a JPEG that is called a PNG.
    seen = IMAGE_FORMATS.get(_content_type(source))
    return {
        "image": {"format": seen or _format(block.image_mimetype, IMAGE_FORMATS, source, block, at), "source": source}
    }


def video_block(block: VideoBlock, at: str) -> dict[str, Any]:
    """Converse's ``video`` block."""
    source = _source(block, block.video, block.resolve_video, at)
    return {"video": {"format": _format(block.video_mimetype, VIDEO_FORMATS, source, block, at), "source": source}}


def audio_block(block: AudioBlock, at: str) -> dict[str, Any]:
    """Converse's ``audio`` block."""
    source = _source(block, block.audio, block.resolve_audio, at)
    return {"audio": {"format": _format(block.format, AUDIO_FORMATS, source, block, at), "source": source}}


def document_block(block: DocumentBlock, at: str, names: DocumentNames) -> dict[str, Any]:
    """Converse's ``document`` block, with a name that Bedrock takes."""
    source = _source(block, block.data, block.resolve_document, at)
    return {
        "document": {"format": _document_format(block, source, at), "name": names.name(block.title), "source": source}
    }


def document_bytes(block: DocumentBlock, at: str) -> bytes:
    """What is in a document that is not in S3."""
    return _read(block.data, block.resolve_document, at)


def s3_uri(block: _Media, data: object) -> str | None:
    """The object in S3 that a block stands for. Bytes and files go before a url, as in LlamaIndex."""
    place = block.path or block.url
    if data is not None or not str(place).startswith("s3://"):
        return None
    return place if isinstance(place, str) else unquote(str(place))  # pydantic's URLs are percent-encoded


def _source(block: _Media, data: object, resolve: Callable[[], Any], at: str) -> dict[str, Any]:
    uri = s3_uri(block, data)
    return {"s3Location": {"uri": uri}} if uri else {"bytes": _read(data, resolve, at)}


def _read(data: object, resolve: Callable[[], Any], at: str) -> bytes:
    try:
        content: str | bytes = _read_open(data) if isinstance(data, io.IOBase) else resolve().read()
    except (ValueError, OSError) as error:  # nothing in it, no such file, a download that failed
        # What a failed download says holds the URL, and a URL can hold a signature that lets anybody in.
        why = type(error).__name__ if "://" in str(error) or "?" in str(error) else str(error)
        raise InvalidRequestError(f"{at} cannot be read: {why}") from None
    if not content:
        raise InvalidRequestError(f"{at} is empty, which Bedrock does not take.")
    return content.encode() if isinstance(content, str) else content


_reading = threading.Lock()


def _read_open(file: io.IOBase) -> str | bytes:
    """All that is in an open file, which stays where it stood; several calls at once may send the same one."""
    if isinstance(file, io.BytesIO):
        return file.getvalue()
    with _reading:
        position = file.tell()
        try:
            file.seek(0)
            content: str | bytes = file.read()
        finally:
            file.seek(position)
    return content


def _format(mimetype: str | None, formats: Mapping[str, str], source: Mapping[str, Any], block: _Media, at: str) -> str:
    stated = _bare(mimetype)
    by_name = [_ALIASES.get(name, name) for name in (stated, _suffix(block.path or block.url))]
    known = (formats.get(stated), *(name for name in by_name if name in formats.values()))
    found = next(filter(None, known), None) or formats.get(_content_type(source))
    if found is None:
        raise InvalidRequestError(
            f"{at} is {stated or 'of an unknown type'}, which Bedrock does not take; it takes "
            f"{', '.join(dict.fromkeys(formats))}."
        )
    return found


def _document_format(block: DocumentBlock, source: Mapping[str, Any], at: str) -> str:
    stated = _bare(block.document_mimetype)
    by_name = [_SUFFIXES.get(_suffix(name)) for name in (block.title, block.path, block.url)]
    content = source.get("bytes", b"")
    known = (DOCUMENT_FORMATS.get(stated), *by_name, DOCUMENT_FORMATS.get(_content_type(source)))
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


def _content_type(source: Mapping[str, Any]) -> str:
    return str(filetype.guess_mime(source.get("bytes", b"")))


def _suffix(place: object) -> str:
    return PurePosixPath(str(place or "").partition("?")[0]).suffix.lstrip(".").lower()


def _bare(mimetype: str | None) -> str:
    return (mimetype or "").partition(";")[0].strip().lower()
