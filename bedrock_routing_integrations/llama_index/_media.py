"""Convert image, document, video and audio blocks to Converse's: a format, a name, and bytes or an S3 location.

URLs are never fetched. A message can come from a chat store, a tool or a user of the application. If this process
fetched a URL in it, the URL could name the instance metadata service or a host of the private network, and the model
would get the answer. So a block's `url` may be ``s3://``, which Bedrock reads with the caller's rights, or ``data:``,
which holds the content itself. LlamaIndex's ``resolve_image`` and its siblings fetch URLs, so they are not used.

A block's `path` names a local file, as LlamaIndex defines it. An application that takes messages from others turns this
off with ``BedrockRouter(allow_local_files=False)``.
"""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import filetype
from llama_index.core.utils import resolve_binary

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.requests import documents as shared_media
from bedrock_routing_integrations.requests.documents import FORMATS, bare_mime_type, data_url_content, media_format

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llama_index.core.base.llms.types import AudioBlock, DocumentBlock, ImageBlock, VideoBlock

    _Media = AudioBlock | DocumentBlock | ImageBlock | VideoBlock


def image_block(block: ImageBlock, at: str, *, local_files: bool) -> dict[str, Any]:
    """Return Converse's ``image`` block."""
    source = _source(block, block.image, at, local_files=local_files)
    # LlamaIndex goes by the suffix, but models refuse a JPEG that is declared as PNG.
    actual_format = FORMATS["image"].get(_content_type(source.get("bytes", b"")))
    form = actual_format or _format("image", block.image_mimetype, source, at, block.path or block.url)
    return {"image": {"format": form, "source": source}}


def video_block(block: VideoBlock, at: str, *, local_files: bool) -> dict[str, Any]:
    """Return Converse's ``video`` block."""
    source = _source(block, block.video, at, local_files=local_files)
    form = _format("video", block.video_mimetype, source, at, block.path or block.url)
    return {"video": {"format": form, "source": source}}


def audio_block(block: AudioBlock, at: str, *, local_files: bool) -> dict[str, Any]:
    """Return Converse's ``audio`` block."""
    source = _source(block, block.audio, at, local_files=local_files)
    form = _format("audio", block.format, source, at, block.path or block.url)
    return {"audio": {"format": form, "source": source}}


def document_block(block: DocumentBlock, at: str, *, local_files: bool) -> dict[str, Any]:
    """Return Converse's ``document`` block. `RoutedClient` makes its name valid."""
    source = _source(block, block.data, at, local_files=local_files)
    form = _format("document", block.document_mimetype, source, at, block.title, block.path, block.url)
    return {"document": {"format": form, "name": block.title or "document", "source": source}}


def document_bytes(block: DocumentBlock, at: str, *, local_files: bool) -> bytes:
    """Return the content of a document that is not in S3."""
    return _content(block, block.data, at, local_files=local_files)


def s3_uri(block: _Media, data: object) -> str | None:
    """Return the S3 URI of a block, or None. Bytes and files have precedence over a url, as in LlamaIndex."""
    location = block.path or block.url
    if data is not None or not location:
        return None
    return shared_media.s3_uri(
        location if isinstance(location, str) else unquote(str(location))
    )  # pydantic percent-encodes


def _source(block: _Media, data: object, at: str, *, local_files: bool) -> dict[str, Any]:
    uri = s3_uri(block, data)
    return {"s3Location": {"uri": uri}} if uri else {"bytes": _content(block, data, at, local_files=local_files)}


def _content(block: _Media, data: object, at: str, *, local_files: bool) -> bytes:
    """Return a block's bytes, from its data, path or ``data:`` URL.

    Raises:
        InvalidRequestError: The block has no bytes, they cannot be read, or they would have to be fetched.
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
            raise InvalidRequestError(f"{at} cannot be read: it has no bytes, no path and no url. Pass one of them.")
    except (ValueError, OSError) as error:  # no such file, a closed file, base64 that is damaged
        raise InvalidRequestError(f"{at} cannot be read: {error}") from None
    if not content:
        raise InvalidRequestError(f"{at} is empty, and Bedrock does not take empty media. Leave it out.")
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
        raise InvalidRequestError(f"{at}: path={str(path)!r} is not valid: it is not a regular file. Pass a file.")
    return file.read_bytes()


def _inline(url: str, at: str) -> bytes:
    """Return the content of a ``data:`` URL."""
    content_and_type = data_url_content(url, at)
    if content_and_type is None:
        raise _url_refused("url", url, at)
    return content_and_type[0]


def _url_refused(field: str, url: str, at: str) -> InvalidRequestError:
    # The URL itself is not shown: it can hold a signature that gives access to anybody.
    scheme, colon, _ = url.partition(":")
    shown = f"{scheme}:…" if colon else "…"
    return InvalidRequestError(
        f"{at}: {field}={shown!r} is not valid: URLs are never fetched, because a message from elsewhere could name an "
        "address of the private network. Pass the bytes, a data: URL, or an s3:// URL, which Bedrock reads itself."
    )


_reading = threading.Lock()


def _read_open(file: io.IOBase) -> str | bytes:
    """Return the whole content of an open file, and keep its position. Several threads may read the same file."""
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


def _format(kind: str, stated: str | None, source: Mapping[str, Any], at: str, *names: object) -> str:
    content = source.get("bytes", b"")
    known_format = media_format(kind, stated, *names, content=content) or FORMATS[kind].get(_content_type(content))
    if known_format is not None:
        return known_format
    problem = f"{at} is {bare_mime_type(stated) or 'of an unknown type'}, which Bedrock does not take"
    if kind != "document":
        raise InvalidRequestError(f"{problem}. It takes {', '.join(FORMATS[kind])}.")
    # YAML, source code: Bedrock reads it as text.
    if content and _is_text(content):
        return "txt"
    raise InvalidRequestError(
        f"{problem} as a document. It takes text and {', '.join(dict.fromkeys(FORMATS[kind].values()))}. Set "
        "document_mimetype=, or a title with its suffix."
    )


def _is_text(content: bytes) -> bool:
    try:
        return "\0" not in content.decode()
    except UnicodeDecodeError:
        return False


def _content_type(content: bytes) -> str:
    return str(filetype.guess_mime(content))
