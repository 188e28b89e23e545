"""Decide which retrieved images a model is shown, and say what was left out.

A knowledge base returns images as data URIs, with a description that its parser wrote. A model that reads images gets
the image as a content block, named by the index of its passage, and the description as the passage's text, so that
citations of the passage work as for text. Every other model gets the description alone. What could not be given is
listed as an `Omission`, so that an answer from less than was found can be told from one that is not.

Limits. The API reference of Converse says up to 20 images of 3.75 MB and 8,000 pixels a side (``Message.content`` of
botocore 1.44). A newer page of the user guide says that Bedrock has no limits and models do ("API restrictions", 2026).
Claude's guide has 5 MB in base64, which is 3.75 MB, and the same 8,000 pixels. Nova's has 25 MB for the whole request,
base64 included. The strictest of them holds here. Images of the conversation before count among the 20.
"""

from __future__ import annotations

import base64
import binascii
import mimetypes
import re
import struct
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.runtime import warn_once

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bedrock_routing_integrations.models.candidates import ResolvedTarget

    from .passages import Passage
    from .prompts import Prompt


# --- Pictures in a query, and what kind of file something is. ---

LARGEST_QUERY_IMAGE = 5_242_880
"""Bytes of an image in a query: ``InputImage`` of botocore's bedrock-agent-runtime (1.43)."""
_MEDIA_DATA_URI = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?:;[\w=.+-]+)*?;base64,(?P<data>.*)", re.DOTALL)
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
    if len(data) > LARGEST_QUERY_IMAGE:
        raise InvalidRequestError(f"the image has {len(data):,} bytes; a query takes {LARGEST_QUERY_IMAGE:,}")
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
    found = _MEDIA_DATA_URI.fullmatch(image) if isinstance(image, str) else None
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


MOST_IMAGES = 20
LARGEST_IMAGE = 3_750_000
"""Bytes of one image."""
LARGEST_TOTAL = 18_000_000
"""Bytes of all images of a request: 25 MB in base64, less a megabyte for the text."""
LONGEST_SIDE = 8_000
"""Pixels."""
_MEDIA = ("IMAGE", "AUDIO", "VIDEO")
_FORMATS = {"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
_DATA_URI = re.compile(r"data:(?P<type>[^;,]*)[^,]*;base64,(?P<data>.*)", re.DOTALL)


@dataclass(frozen=True)
class PassageImage:
    """An image as Converse takes it.

    Attributes:
        format: ``"png"``, ``"jpeg"``, ``"gif"`` or ``"webp"``.
        data: Its bytes.
    """

    format: str
    data: bytes

    @property
    def media_type(self) -> str:
        """The media type, such as ``image/png``."""
        return f"image/{self.format}"

    @property
    def base64(self) -> str:
        """The bytes in base64."""
        return base64.b64encode(self.data).decode()


@dataclass(frozen=True)
class Omission:
    """What was retrieved and not given to the model.

    Attributes:
        passage: The position of the passage in the result's list of them (``context``, ``source_nodes``).
        type: ``"IMAGE"``, ``"AUDIO"`` or ``"VIDEO"``.
        source: The URI of its document; None where that is not known.
        reason: Why it was left out.
        given: ``"description"`` where the model got the passage's text instead, None where it got nothing of it.
    """

    passage: int
    type: str
    source: str | None
    reason: str
    given: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return the omission, JSON-safe."""
        return dict(vars(self))


@dataclass(frozen=True)
class ImageSelection:
    """The images of some passages that a model is shown, by the passage's position, and what is left out."""

    attached: Mapping[int, PassageImage]
    omissions: tuple[Omission, ...] = ()

    def labelled(self, prompt: Prompt) -> Iterator[tuple[str, PassageImage]]:
        """Yield each image with the text that stands before it, in the order of the passages' indices."""
        for index, position in enumerate(prompt.numbers, 1):
            if position in self.attached:
                yield f"Image of passage {index}:", self.attached[position]

    def dictionaries(self) -> dict[str, list[dict[str, Any]]]:
        """Return ``{"omissions": [...]}`` for a result; empty where nothing was left out."""
        return {"omissions": [omission.as_dict() for omission in self.omissions]} if self.omissions else {}


def reads_images(resolved: ResolvedTarget) -> bool:
    """Return whether every candidate model of a target is known, and known to read images."""
    known = resolved.complete and all(candidate.base_model for candidate in resolved.candidates)
    return bool(known and resolved.facts.image_input)


def select_images(passages: Sequence[Passage], *, reads: bool, model: str, before: int = 0) -> ImageSelection:
    """Select the images to show, best passages first, and warn once of each kind of omission.

    Args:
        passages: What was retrieved.
        reads: Whether the model reads images.
        model: Its name, for the warning.
        before: Images in the conversation before, which count among those of the request.
    """
    attached: dict[int, PassageImage] = {}
    omissions: list[Omission] = []
    for position, passage in enumerate(passages):
        if passage.content_type not in _MEDIA:
            continue
        found: PassageImage | str | None = None
        if passage.content_type == "IMAGE":
            found = _image_of(passage) if reads else f"{model} does not read images, as far as is known"
        if isinstance(found, PassageImage):
            room = LARGEST_TOTAL - sum(len(image.data) for image in attached.values())
            reason = _refused(found, room=room, number=len(attached) + before)
            if reason is None:
                attached[position] = found
                continue
        elif found is not None:
            reason = found
        elif passage.text.strip():  # the transcription of audio, the summary of video
            continue
        else:
            reason = "it has no text, and audio and video are not given to models"
        given = "description" if passage.text.strip() else None
        omissions.append(Omission(position, passage.content_type, passage.source, reason, given))
    _warn(omissions, model)
    return ImageSelection(attached, tuple(omissions))


def _refused(image: PassageImage, *, room: int, number: int) -> str | None:
    """Why an image is not shown; None where it is."""
    if len(image.data) > LARGEST_IMAGE:
        return f"an image can have {LARGEST_IMAGE:,} bytes, and it has more"
    if max(image_size(image.data) or (0,)) > LONGEST_SIDE:
        return f"an image can have {LONGEST_SIDE:,} pixels a side, and it has more"
    if number >= MOST_IMAGES:
        return f"a request can have {MOST_IMAGES} images, and there are more"
    if len(image.data) > room:
        return f"the images of a request can have {LARGEST_TOTAL:,} bytes, and they have more"
    return None


def _image_of(passage: Passage) -> PassageImage | str:
    """The image of a passage, or why there is none."""
    uri = passage.data_uri
    if not uri:
        return "its bytes were not returned"
    split = _DATA_URI.fullmatch(uri)
    encoded = split["data"] if split else uri
    try:
        data = base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data:
        return "its bytes cannot be read"
    # Models refuse a JPEG that is called a PNG: the bytes say it better than the media type.
    stated = split["type"].strip().lower() if split else passage.media_type
    kind = image_format(data) or _FORMATS.get(stated or "")
    return PassageImage(kind, data) if kind else "it is not a PNG, JPEG, GIF or WebP image"


def _warn(omissions: Sequence[Omission], model: str) -> None:
    for omission in omissions:
        instead = "The model gets its description instead" if omission.given else "It has no description either"
        warn_once(
            ("omission", model, omission.type, omission.reason, omission.given),
            f"A retrieved passage of type {omission.type} is not given to {model}: {omission.reason}. {instead}. "
            'Each answer lists what was left out under "omissions". For images use a model that reads them; an opaque '
            "target says which it is by base_models.",
        )
