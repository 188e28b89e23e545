"""Pictures in a query, and what kind of file something is."""

from __future__ import annotations

import base64
import binascii
import mimetypes
import re
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

from bedrock_routing_integrations.errors import InvalidRequestError

LARGEST_IMAGE = 5_242_880
"""Bytes of an image in a query: ``InputImage`` of botocore's bedrock-agent-runtime (1.43)."""
_DATA_URI = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?:;[\w=.+-]+)*?;base64,(?P<data>.*)", re.DOTALL)
_SIGNATURES = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF87a": "gif", b"GIF89a": "gif"}
_WEBP = slice(8, 12)


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
    kind = next((kind for start, kind in _SIGNATURES.items() if data.startswith(start)), None)
    if kind is None and data.startswith(b"RIFF") and data[_WEBP] == b"WEBP":
        kind = "webp"
    if kind is None:
        raise InvalidRequestError("the image is no PNG, JPEG, GIF or WebP, which is what a query takes")
    return {"format": kind, "inlineContent": data}


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
