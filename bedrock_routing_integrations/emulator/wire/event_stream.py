"""Encode frames in Amazon's event-stream format.

A frame holds, in this order: the total length, the length of the headers, the CRC32 of these eight bytes, the headers,
the payload, and the CRC32 of everything before. Integers are big-endian.
See https://smithy.io/2.0/aws/amazon-eventstream.html.
"""

from __future__ import annotations

import functools
import json
import random
import struct
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CONTENT_TYPE", "Padding", "corrupt", "event", "exception", "text_delta"]

CONTENT_TYPE = "application/vnd.amazon.eventstream"
_PADDING = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_STRING = 7
_quote = json.encoder.encode_basestring


def _header(name: str, value: str) -> bytes:
    key, text = name.encode(), value.encode()
    return struct.pack("!B", len(key)) + key + struct.pack("!BH", _STRING, len(text)) + text


@functools.lru_cache(maxsize=64)
def _headers(message_type: str, name: str) -> bytes:
    type_header = ":exception-type" if message_type == "exception" else ":event-type"
    return (
        _header(type_header, name)
        + _header(":content-type", "application/json")
        + _header(":message-type", message_type)
    )


def _frame(headers: bytes, payload: bytes) -> bytes:
    prelude = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    message = b"".join((prelude, struct.pack("!I", zlib.crc32(prelude)), headers, payload))
    return message + struct.pack("!I", zlib.crc32(message))


class Padding:
    """Generate the member "p", the padding of random length by which Bedrock hides token lengths.

    Args:
        seed: The seed of the random numbers. Equal seeds generate equal paddings.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - nothing secret

    def next(self) -> str:
        """Return a padding of 1 to 62 characters."""
        return _PADDING[: int(self._random.random() * len(_PADDING)) + 1]


def event(name: str, document: Mapping[str, Any], padding: Padding) -> bytes:
    """Return an event frame with padding.

    Args:
        name: The event's name, e.g. "messageStop".
        document: The event's members.
        padding: The source of the padding.
    """
    payload = json.dumps({**document, "p": padding.next()}, ensure_ascii=False, separators=(",", ":"))
    return _frame(_headers("event", name), payload.encode(errors="replace"))


def text_delta(index: int, text: str, padding: Padding) -> bytes:
    """Return the `contentBlockDelta` frame of a text.

    This function formats the JSON without an encoder, because most frames of a stream are text deltas.

    Args:
        index: The index of the content block.
        text: The text of the delta.
        padding: The source of the padding.
    """
    payload = f'{{"contentBlockIndex":{index},"delta":{{"text":{_quote(text)}}},"p":"{padding.next()}"}}'
    return _frame(_headers("event", "contentBlockDelta"), payload.encode(errors="replace"))


def exception(name: str, document: Mapping[str, Any]) -> bytes:
    """Return an exception frame.

    Args:
        name: The exception's name, e.g. "throttlingException".
        document: The exception's members.
    """
    return _frame(_headers("exception", name), json.dumps(document).encode())


def corrupt(frame: bytes) -> bytes:
    """Return the frame with a wrong message checksum."""
    return frame[:-4] + bytes(byte ^ 0xFF for byte in frame[-4:])
