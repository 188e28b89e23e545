"""Pictures in a query, and what kind of file something is."""

from __future__ import annotations

import base64
import binascii
import mimetypes
import re
import struct
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

from bedrock_routing_integrations.errors import InvalidRequestError

LARGEST_IMAGE = 5_242_880
"""Bytes of an image in a query: ``InputImage`` of botocore's bedrock-agent-runtime (1.43)."""
_DATA_URI = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?:;[\w=.+-]+)*?;base64,(?P<data>.*)", re.DOTALL)
_SIGNATURES = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF87a": "gif", b"GIF89a": "gif"}
_WEBP = slice(8, 12)
# Start of frame, of every kind of JPEG: C4, C8 and CC are something else (ISO/IEC 10918-1, table B.1).
_JPEG_FRAMES = frozenset(range(0xFFC0, 0xFFD0)) - {0xFFC4, 0xFFC8, 0xFFCC}
_JPEG_FILL = 0xFFFF
_MOST_JPEG_SEGMENTS = 1_000


def image_query(image: bytes | str) -> dict[str, Any]:
    """An image as ``retrievalQuery.image``.

    Args:
        image: Its bytes, or a data URI.

    Raises:
        InvalidRequestError: It is no PNG, JPEG, GIF or WebP, or too large.
    """
    data = _data_of(image)
    if len(data) > LARGEST_IMAGE:
        raise InvalidRequestError(f"the image has {len(data):,} bytes; a query takes {LARGEST_IMAGE:,}")
    kind = image_format(data)
    if kind is None:
        raise InvalidRequestError("the image is no PNG, JPEG, GIF or WebP, which is what a query takes")
    return {"format": kind, "inlineContent": data}


def image_format(data: bytes) -> str | None:
    """Return ``"png"``, ``"jpeg"``, ``"gif"`` or ``"webp"`` by the first bytes of a file; None for anything else."""
    if data.startswith(b"RIFF") and data[_WEBP] == b"WEBP":
        return "webp"
    return next((kind for start, kind in _SIGNATURES.items() if data.startswith(start)), None)


def image_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height in pixels as the file's header states them; None where it does not."""
    reader = {"png": _png_size, "jpeg": _jpeg_size, "gif": _gif_size, "webp": _webp_size}.get(image_format(data) or "")
    try:
        return None if reader is None else reader(data)
    except (struct.error, IndexError):  # a header that is cut
        return None


def _png_size(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _gif_size(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = 2
    for _ in range(_MOST_JPEG_SEGMENTS):  # hostile files must not take long
        marker, length = struct.unpack_from(">HH", data, at)
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        if marker == _JPEG_FILL:  # a fill byte before a marker
            at += 1
            continue
        at += 2 + length
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    return None


def _data_of(image: bytes | str) -> bytes:
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    found = _DATA_URI.fullmatch(image) if isinstance(image, str) else None
    if found is None:
        raise InvalidRequestError(
            f"image must be bytes or a data URI (data:image/png;base64,…), and is {_shown(image)}; of a file: "
            "Path(…).read_bytes()"
        )
    try:
        return base64.b64decode(found["data"], validate=True)
    except binascii.Error as error:
        raise InvalidRequestError(f"the data URI of the image is no base64: {error}") from error


def _shown(value: object) -> str:
    return repr(value) if len(repr(value)) <= 80 else f"a {type(value).__name__}"


def media_type_of(uri: str | None) -> str | None:
    """The media type that a URI says: a data URI by itself, another by its extension; None where it says none."""
    if not uri:
        return None
    if uri.startswith("data:"):
        return uri[len("data:") :].partition(",")[0].partition(";")[0] or None
    try:
        return mimetypes.guess_type(PurePath(urlsplit(uri).path).name)[0]
    except ValueError:  # no URI, whatever it is
        return None
