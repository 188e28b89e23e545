"""Convert images, documents, videos and audio to Converse's formats, sources and document names.

Shared by both frameworks and the knowledge bases. The formats are the enums of botocore's service model (1.44), and a
test compares them. No function here reads a file or fetches a URL.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import unicodedata
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from bedrock_routing_integrations.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

IMAGE_FORMATS = {
    "image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/gif": "gif", "image/webp": "webp",
}  # fmt: skip
VIDEO_FORMATS = {
    "video/x-matroska": "mkv", "video/quicktime": "mov", "video/mp4": "mp4", "video/x-m4v": "mp4", "video/webm": "webm",
    "video/x-flv": "flv", "video/mpeg": "mpeg", "video/mpg": "mpg", "video/x-ms-wmv": "wmv", "video/3gpp": "three_gp",
}  # fmt: skip
AUDIO_FORMATS = {
    "audio/mpeg": "mp3", "audio/mp3": "mp3", "audio/opus": "opus", "audio/wav": "wav", "audio/x-wav": "wav",
    "audio/wave": "wav", "audio/vnd.wave": "wav", "audio/aac": "aac", "audio/flac": "flac", "audio/x-flac": "flac",
    "audio/mp4": "mp4", "audio/ogg": "ogg", "audio/m4a": "m4a", "audio/x-m4a": "m4a", "audio/webm": "webm",
    "audio/pcm": "pcm", "audio/x-aac": "x-aac", "audio/x-matroska": "mka", "video/x-matroska": "mkv",
    "audio/x-mpeg": "mpeg", "audio/mpga": "mpga",
}  # fmt: skip
DOCUMENT_FORMATS = {
    "application/pdf": "pdf", "text/csv": "csv", "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "text/html": "html", "text/plain": "txt", "text/markdown": "md", "text/x-markdown": "md",
}  # fmt: skip
FORMATS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {"image": IMAGE_FORMATS, "video": VIDEO_FORMATS, "audio": AUDIO_FORMATS, "document": DOCUMENT_FORMATS}
)
"""Kind of block → MIME type → format."""
DOCUMENT_SUFFIXES = {
    **{name: name for name in DOCUMENT_FORMATS.values()}, "htm": "html", "markdown": "md", "text": "txt",
}  # fmt: skip
# File suffixes that differ from the name of the format.
ALIASES = {"jpg": "jpeg", "3gp": "three_gp", "m4v": "mp4"}
# The first bytes of files that are often sent without a MIME type.
_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF87a", "gif"), (b"GIF89a", "gif"), (b"%PDF-", "pdf"),
    (b"ID3", "mp3"), (b"fLaC", "flac"), (b"OggS", "ogg"),
)  # fmt: skip
_DATA_URL = re.compile(r"data:(?P<type>[^;,]*)(?P<parameters>(?:;[^;,]*)*),(?P<data>.*)", re.DOTALL | re.IGNORECASE)


def bare_mime_type(mime_type: str | None) -> str:
    """Return a MIME type in lower case and without parameters; an empty string if there is none."""
    return (mime_type or "").partition(";")[0].strip().lower()


def suffix_of(name: object) -> str:
    """Return the suffix of a file name, path or URL, in lower case and without its dot."""
    return PurePosixPath(str(name or "").partition("?")[0]).suffix.lstrip(".").lower()


def media_format(kind: str, mime_type: str | None, *names: object, content: bytes = b"") -> str | None:
    """Return Converse's name for the format of a block.

    Args:
        kind: ``"image"``, ``"video"``, ``"audio"`` or ``"document"``.
        mime_type: The stated MIME type, or the name of a format. It is tried first.
        names: File names, paths or URLs. Their suffixes are tried next.
        content: The bytes of the file. Their signature is tried last.

    Returns:
        The format; None if Bedrock accepts none of the stated ones. A document of any other text type is ``txt``, as
        in langchain-aws.
    """
    formats, stated = FORMATS[kind], bare_mime_type(mime_type)
    if stated in formats:
        return formats[stated]
    suffixes = DOCUMENT_SUFFIXES if kind == "document" else {name: name for name in formats.values()}
    for spelling in (stated, stated.rpartition("/")[2], *map(suffix_of, names)):
        found = suffixes.get(ALIASES.get(spelling, spelling))
        if found is not None:
            return found
    found = _format_of_content(formats, content)
    is_text = stated.startswith("text/") or stated in ("application/xml", "application/json")
    return "txt" if found is None and kind == "document" and is_text else found


def _format_of_content(formats: Mapping[str, str], content: bytes) -> str | None:
    if content[:4] == b"RIFF":
        found = {b"WEBP": "webp", b"WAVE": "wav"}.get(content[8:12])
    else:
        found = next((name for beginning, name in _BEGINNINGS if content.startswith(beginning)), None)
    return found if found in formats.values() else None


def media_source(url: str, at: str, *, bucket_owner: str | None = None) -> tuple[dict[str, Any], str | None]:
    """Return Converse's ``source`` for an S3 or data URL, and the MIME type that a data URL states.

    Args:
        url: ``s3://bucket/key`` or ``data:…``.
        at: The position of the URL in the request, for error messages.
        bucket_owner: The id of the account that owns the bucket; None if it is the caller's.

    Raises:
        InvalidRequestError: The URL has another scheme (it is never fetched), or the data URL is empty or malformed.
    """
    uri = s3_uri(url)
    if uri is not None:
        return {"s3Location": {"uri": uri, **({"bucketOwner": bucket_owner} if bucket_owner else {})}}, None
    inline = data_url_content(url, at)
    if inline is not None:
        content, mime_type = inline
        return {"bytes": content}, mime_type
    scheme = urlsplit(url).scheme if "://" in url else "no"
    # The message does not quote the URL: a presigned URL is a secret.
    raise InvalidRequestError(
        f"{at} is not valid: a URL with scheme {scheme!r} is not fetched. Pass the bytes in base64, a data: URL, or an "
        "s3:// URL."
    )


def s3_uri(url: str) -> str | None:
    """Return an S3 URL with its scheme in lower case, as Bedrock requires; None for any other URL."""
    return f"s3://{url[5:]}" if url[:5].lower() == "s3://" else None


def data_url_content(url: str, at: str) -> tuple[bytes, str | None] | None:
    """Return the content of a data URL (RFC 2397) and the MIME type that it states; None for any other URL.

    Args:
        url: The URL.
        at: The position of the URL in the request, for error messages.

    Raises:
        InvalidRequestError: The URL has no content, or its content is marked as base64 and is not.
    """
    if url[:5].lower() != "data:":
        return None
    parts = _DATA_URL.fullmatch(url)
    if parts is None:
        raise InvalidRequestError(f"{at} is not valid: its data: URL has no comma. Use data:<type>;base64,<data>.")
    parameters = [parameter.strip() for parameter in parts["parameters"].lower().split(";")]
    data = parts["data"]
    content = decode_base64(unquote(data), at) if "base64" in parameters else unquote_to_bytes(data)
    if not content:
        raise InvalidRequestError(f"{at} is not valid: it is empty. Pass content, or leave the block out.")
    return content, parts["type"].strip() or None


def decode_base64(data: Any, at: str) -> bytes:
    """Return the bytes of base64 text; bytes are returned unchanged.

    Args:
        data: Base64 text (white space is allowed), or bytes.
        at: The position of the data in the request, for error messages.

    Raises:
        InvalidRequestError: The data is not valid base64, or empty.
    """
    if isinstance(data, str):
        try:
            data = base64.b64decode("".join(data.split()), validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidRequestError(
                f"{at} is not valid: its data is not base64 ({error}). Encode the bytes with base64."
            ) from None
    if not isinstance(data, (bytes, bytearray)) or not data:
        raise InvalidRequestError(f"{at} is not valid: it is empty, or not base64 text. Pass the bytes in base64.")
    return bytes(data)


# Document names. Bedrock accepts letters, digits, spaces (no two in a row), hyphens, parentheses and square brackets,
# and refuses a request in which two documents have the same name.

LONGEST_NAME = 200
_LEGAL_NAME = re.compile(r"(?! )(?:[A-Za-z0-9()\[\]_-]| (?! ))+(?<! )")
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9()\[\]_ -]+")


def legal_document_name(title: str | None) -> str:
    """Return the name closest to a title that Bedrock accepts."""
    if title and len(title) <= LONGEST_NAME and _LEGAL_NAME.fullmatch(title):
        return title
    # "é" decomposes into "e" and an accent. The accent is dropped; other characters outside ASCII become hyphens.
    decomposed = unicodedata.normalize("NFKD", title or "")
    letters = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    name = " ".join(_NOT_IN_A_NAME.sub("-", letters).split()).strip("- ")[:LONGEST_NAME].strip()
    stem = [letter for letter in letters.rpartition(".")[0] or letters if letter.isalnum()]
    if name and 2 * sum(map(str.isascii, stem)) >= len(stem):
        return name
    return f"document-{hashlib.sha256(title.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}" if title else "document"


class DocumentNames:
    """Assign unique names to the documents of one request. The same documents in the same order get the same names."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._last: dict[str, int] = {}

    def name(self, title: str | None) -> str:
        """Return a valid name that no earlier document has: ``report``, then ``report (2)``."""
        name = legal_document_name(title)
        unique, number = name, self._last.get(name, 1)
        while unique in self._taken:
            number += 1
            ending = f" ({number})"
            unique = name[: LONGEST_NAME - len(ending)].rstrip() + ending
        self._taken.add(unique)
        self._last[name] = number
        return unique


def name_documents(messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return messages whose documents have valid, unique names; `messages` itself if they already have."""
    current = [document.get("name") for document in _documents(messages)]
    if not current:
        return messages
    names = DocumentNames()
    # A document without a name is the caller's mistake; boto3's validation names the missing member.
    legal = [name if not isinstance(name, str) else names.name(name) for name in current]
    if legal == current:
        return messages
    in_order = iter(legal)
    return [
        {**message, "content": [_named(block, in_order) for block in message["content"]]}
        if "content" in message
        else message
        for message in messages
    ]


def _documents(messages: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for message in messages:
        for block in message.get("content") or ():
            if "document" in block:
                yield block["document"]
            elif "toolResult" in block:
                yield from (part["document"] for part in block["toolResult"].get("content") or () if "document" in part)


def _named(block: Mapping[str, Any], names: Iterator[Any]) -> Mapping[str, Any]:
    if "document" in block:
        name = next(names)
        return block if name is None else {**block, "document": {**block["document"], "name": name}}
    content = (block.get("toolResult") or {}).get("content") or ()
    if any("document" in part for part in content):
        return {**block, "toolResult": {**block["toolResult"], "content": [_named(part, names) for part in content]}}
    return block
