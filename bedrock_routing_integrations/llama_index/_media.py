"""Turn image, document, video and audio blocks into Converse's: a format, a name, and bytes or an S3 location.

No URL is ever fetched. A message can come from a chat store, a tool or a user of the application; a URL in it that this
process fetched could name the instance metadata service or a host of the private network, and the model would be given
the answer. So a block's `url` may be ``s3://``, which Bedrock reads with the caller's rights, or ``data:``, which holds
the content itself. LlamaIndex's ``resolve_image`` and its siblings fetch URLs, so they are not used.

A block's `path` names a local file. That is LlamaIndex's convention, and those who take messages from others switch it
off (``BedrockRouter(allow_local_files=False)``).
"""

from __future__ import annotations

import base64
import io
import threading
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, unquote_to_bytes

import filetype
from llama_index.core.utils import resolve_binary

from bedrock_routing_integrations.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

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


def image_block(block: ImageBlock, at: str, *, local_files: bool) -> dict[str, Any]:
    """Converse's ``image`` block."""
    source = _source(block, block.image, at, local_files=local_files)
    # LlamaIndex goes by the suffix; models refuse a JPEG that is called a PNG.
    seen = IMAGE_FORMATS.get(_content_type(source))
    return {
        "image": {"format": seen or _format(block.image_mimetype, IMAGE_FORMATS, source, block, at), "source": source}
    }


def video_block(block: VideoBlock, at: str, *, local_files: bool) -> dict[str, Any]:
    """Converse's ``video`` block."""
    source = _source(block, block.video, at, local_files=local_files)
    return {"video": {"format": _format(block.video_mimetype, VIDEO_FORMATS, source, block, at), "source": source}}


def audio_block(block: AudioBlock, at: str, *, local_files: bool) -> dict[str, Any]:
    """Converse's ``audio`` block."""
    source = _source(block, block.audio, at, local_files=local_files)
    return {"audio": {"format": _format(block.format, AUDIO_FORMATS, source, block, at), "source": source}}


def document_block(block: DocumentBlock, at: str, *, local_files: bool) -> dict[str, Any]:
    """Return Converse's ``document`` block. `RoutedClient` makes its name one that Bedrock takes."""
    source = _source(block, block.data, at, local_files=local_files)
    name = block.title or "document"
    return {"document": {"format": _document_format(block, source, at), "name": name, "source": source}}


def document_bytes(block: DocumentBlock, at: str, *, local_files: bool) -> bytes:
    """Return the content of a document that is not in S3."""
    return _content(block, block.data, at, local_files=local_files)


def s3_uri(block: _Media, data: object) -> str | None:
    """Return the S3 URI of a block; None where it has none. Bytes and files go before a url, as in LlamaIndex."""
    place = block.path or block.url
    if data is not None or not _starts(place, "s3://"):
        return None
    uri = place if isinstance(place, str) else unquote(str(place))  # pydantic's URLs are percent-encoded
    return "s3://" + uri[len("s3://") :]


def _source(block: _Media, data: object, at: str, *, local_files: bool) -> dict[str, Any]:
    uri = s3_uri(block, data)
    return {"s3Location": {"uri": uri}} if uri else {"bytes": _content(block, data, at, local_files=local_files)}


def _content(block: _Media, data: object, at: str, *, local_files: bool) -> bytes:
    """Return a block's bytes, whichever way it holds them.

    Raises:
        InvalidRequestError: It holds none, they cannot be read, or only a download could get them.
    """
    try:
        if isinstance(data, io.IOBase):
            content = _read_open(data)
        elif isinstance(data, (bytes, str)):
            content = resolve_binary(raw_bytes=data).read()  # type: ignore[arg-type]  # LlamaIndex holds base64
        elif block.path:
            content = _local_file(block.path, at, local_files=local_files)
        elif block.url:
            content = _inline(str(block.url), at)
        else:
            raise InvalidRequestError(f"{at} cannot be read: it has no bytes, no path and no url.")
    except (ValueError, OSError) as error:  # no such file, a closed file, base64 that is damaged
        raise InvalidRequestError(f"{at} cannot be read: {error}") from None
    if not content:
        raise InvalidRequestError(f"{at} is empty, which Bedrock does not take.")
    return content.encode() if isinstance(content, str) else content


def _local_file(path: str | Path, at: str, *, local_files: bool) -> bytes:
    file = Path(path)
    if "://" in str(path) or str(file).startswith("\\\\"):  # Windows asks a host for such a path
        raise _url_refused("path", str(path), at)
    if not local_files:
        raise InvalidRequestError(
            f"{at}: its path= names a local file, and allow_local_files=False forbids reading it. Pass the bytes, or "
            "an s3:// URL."
        )
    if file.exists() and not file.is_file():  # a device may never end
        raise InvalidRequestError(f"{at}: path={str(path)!r} is no file.")
    return file.read_bytes()


def _inline(url: str, at: str) -> bytes:
    """Return what a ``data:`` URL holds (RFC 2397)."""
    if not _starts(url, "data:"):
        raise _url_refused("url", url, at)
    header, comma, body = url[len("data:") :].partition(",")
    if not comma:
        raise ValueError("its data: URL has no comma")
    if header.strip().lower().endswith(";base64"):
        return base64.b64decode("".join(unquote(body).split()), validate=True)
    return unquote_to_bytes(body)


def _url_refused(field: str, url: str, at: str) -> InvalidRequestError:
    # The URL itself is not repeated: it can hold a signature that admits anybody.
    scheme, colon, _ = url.partition(":")
    shown = f"{scheme}:…" if colon else "…"
    return InvalidRequestError(
        f"{at}: {field}={shown!r} is not valid: URLs are never fetched, because a message from elsewhere could name an "
        "address of the private network. Pass the bytes, a data: URL, or an s3:// URL, which Bedrock reads itself."
    )


def _starts(place: object, scheme: str) -> bool:
    return str(place or "")[: len(scheme)].lower() == scheme


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
