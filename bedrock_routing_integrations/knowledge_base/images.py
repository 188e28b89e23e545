"""Decide which retrieved images a model is shown, and list what was left out.

A knowledge base returns images as data URIs, with a description that its parser wrote. A model that reads images gets
the image as a content block, named by the index of its passage, and the description as the passage's text, so that
citations of the passage work as for text. Every other model gets the description alone. Everything that was retrieved
and not given to the model is listed as an `Omission`, so that a reader can see that an answer rests on less than was
found.

Limits. The API reference of Converse has up to 20 images of 3.75 MB and 8,000 pixels a side (``Message.content`` of
botocore 1.44). A newer page of the user guide leaves limits to the models ("API restrictions", 2026). Claude's guide
has 5 MB in base64, which is 3.75 MB, and the same 8,000 pixels. Nova's has 25 MB for the whole request, base64
included. The strictest limits hold here. Images of the conversation before count among the 20.
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
from bedrock_routing_integrations.requests.documents import IMAGE_FORMATS, data_url_content, media_format
from bedrock_routing_integrations.runtime import warn_once

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bedrock_routing_integrations.models.candidates import ResolvedTarget

    from .passages import Passage
    from .prompts import Prompt


# --- Images in a query, and formats and sizes of files ---

LARGEST_QUERY_IMAGE = 5_242_880
"""Bytes of an image in a query: ``InputImage`` of botocore's bedrock-agent-runtime (1.43)."""
# Start of frame, of every kind of JPEG: C4, C8 and CC are something else (ISO/IEC 10918-1, table B.1).
_JPEG_FRAMES = frozenset(range(0xFFC0, 0xFFD0)) - {0xFFC4, 0xFFC8, 0xFFCC}
_JPEG_FILL = 0xFFFF
_MOST_JPEG_SEGMENTS = 1_000


def image_query(image: bytes | str) -> dict[str, Any]:
    """Return an image as ``retrievalQuery.image``.

    Args:
        image: The bytes of an image, or a data URI.

    Raises:
        InvalidRequestError: It is not a PNG, JPEG, GIF or WebP, or larger than 5,242,880 bytes.
    """
    data = _bytes_of(image)
    if len(data) > LARGEST_QUERY_IMAGE:
        raise InvalidRequestError(
            f"image is not valid: it has {len(data):,} bytes. Give at most {LARGEST_QUERY_IMAGE:,}."
        )
    image_type = image_format(data)
    if image_type is None:
        raise InvalidRequestError("image is not valid: a query takes PNG, JPEG, GIF or WebP. Convert the image.")
    return {"format": image_type, "inlineContent": data}


def image_format(data: bytes) -> str | None:
    """Return ``"png"``, ``"jpeg"``, ``"gif"`` or ``"webp"`` by the first bytes of a file; None for anything else."""
    return media_format("image", None, content=data)


def image_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height in pixels from the file's header; None if they cannot be read."""
    reader = {"png": _png_size, "jpeg": _jpeg_size, "gif": _gif_size, "webp": _webp_size}.get(image_format(data) or "")
    try:
        return None if reader is None else reader(data)
    except (struct.error, IndexError):  # a truncated header
        return None


def _png_size(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _gif_size(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = 2
    for _ in range(_MOST_JPEG_SEGMENTS):  # a hostile file must not take long
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


def _bytes_of(image: bytes | str) -> bytes:
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    inline = data_url_content(image, "image") if isinstance(image, str) else None
    if inline is None:
        raise InvalidRequestError(
            f"image={_shown(image)} is not valid: it is neither bytes nor a data URI (data:image/png;base64,…). For a "
            "file give Path(…).read_bytes()."
        )
    return inline[0]


def _shown(value: object) -> str:
    return repr(value) if len(repr(value)) <= 80 else f"a {type(value).__name__}"


def media_type_of(uri: str | None) -> str | None:
    """Return the media type of a data URI, or of another URI by its extension; None if it is not known."""
    if not uri:
        return None
    if uri.startswith("data:"):
        return uri[len("data:") :].partition(",")[0].partition(";")[0] or None
    try:
        return mimetypes.guess_type(PurePath(urlsplit(uri).path).name)[0]
    except ValueError:  # not a URI
        return None


# --- Images that a model is shown ---

MOST_IMAGES = 20
LARGEST_IMAGE = 3_750_000
"""Bytes of one image."""
LARGEST_TOTAL = 18_000_000
"""Bytes of all images of a request: 25 MB in base64, less a megabyte for the text."""
LONGEST_SIDE = 8_000
"""Pixels."""
_MEDIA = ("IMAGE", "AUDIO", "VIDEO")
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
    """A retrieved passage that was not given to the model, or not as an image.

    Attributes:
        passage: The position of the passage in the result's list of them (``context``, ``source_nodes``).
        type: ``"IMAGE"``, ``"AUDIO"`` or ``"VIDEO"``.
        source: The URI of its document; None if it is not known.
        reason: Why it was left out.
        given: ``"description"`` if the model got the passage's text instead, None if it got nothing.
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
    """The images that a model is shown, by the position of the passage, and the omissions."""

    attached: Mapping[int, PassageImage]
    omissions: tuple[Omission, ...] = ()

    def labelled(self, prompt: Prompt) -> Iterator[tuple[str, PassageImage]]:
        """Yield each image with the text before it, in the order of the passages' indices."""
        for index, position in enumerate(prompt.numbers, 1):
            if position in self.attached:
                yield f"Image of passage {index}:", self.attached[position]

    def dictionaries(self) -> dict[str, list[dict[str, Any]]]:
        """Return ``{"omissions": [...]}`` for a result; empty without omissions."""
        return {"omissions": [omission.as_dict() for omission in self.omissions]} if self.omissions else {}


def reads_images(resolved: ResolvedTarget) -> bool:
    """Return whether every candidate model of a target is known, and known to read images."""
    known = resolved.complete and all(candidate.base_model for candidate in resolved.candidates)
    return bool(known and resolved.facts.image_input)


def select_images(passages: Sequence[Passage], *, reads: bool, model: str, before: int = 0) -> ImageSelection:
    """Select the images to show, best passages first, and log one warning for each kind of omission.

    Args:
        passages: The retrieved passages.
        reads: Whether the model reads images.
        model: The model's name, for the warning.
        before: Number of images in the conversation before, which count among those of the request.
    """
    attached: dict[int, PassageImage] = {}
    omissions: list[Omission] = []
    for position, passage in enumerate(passages):
        if passage.content_type not in _MEDIA:
            continue
        image: PassageImage | str | None = None
        if passage.content_type == "IMAGE":
            image = _image_of(passage) if reads else f"{model} does not read images, as far as is known"
        if isinstance(image, PassageImage):
            bytes_left = LARGEST_TOTAL - sum(len(image.data) for image in attached.values())
            reason = _why_not_shown(image, bytes_left=bytes_left, number=len(attached) + before)
            if reason is None:
                attached[position] = image
                continue
        elif image is not None:
            reason = image
        elif passage.text.strip():  # the transcription of audio, the summary of video
            continue
        else:
            reason = "it has no text, and audio and video are not given to models"
        given = "description" if passage.text.strip() else None
        omissions.append(Omission(position, passage.content_type, passage.source, reason, given))
    _warn(omissions, model)
    return ImageSelection(attached, tuple(omissions))


def _why_not_shown(image: PassageImage, *, bytes_left: int, number: int) -> str | None:
    """Return why an image is not shown; None if it is."""
    if len(image.data) > LARGEST_IMAGE:
        return f"an image can have {LARGEST_IMAGE:,} bytes, and it has more"
    if max(image_size(image.data) or (0,)) > LONGEST_SIDE:
        return f"an image can have {LONGEST_SIDE:,} pixels a side, and it has more"
    if number >= MOST_IMAGES:
        return f"a request can have {MOST_IMAGES} images, and there are more"
    if len(image.data) > bytes_left:
        return f"the images of a request can have {LARGEST_TOTAL:,} bytes, and they have more"
    return None


def _image_of(passage: Passage) -> PassageImage | str:
    """Return the image of a passage, or the reason why there is none."""
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
    # Models refuse a JPEG that is labelled PNG, so the bytes decide before the media type.
    stated = split["type"].strip().lower() if split else passage.media_type
    kind = image_format(data) or IMAGE_FORMATS.get(stated or "")
    return PassageImage(kind, data) if kind else "it is not a PNG, JPEG, GIF or WebP image"


def _warn(omissions: Sequence[Omission], model: str) -> None:
    for omission in omissions:
        instead = "The model gets its description instead" if omission.given else "It has no description either"
        warn_once(
            ("omission", model, omission.type, omission.reason, omission.given),
            f"A retrieved passage of type {omission.type} is not given to {model}: {omission.reason}. {instead}. "
            'Each answer lists what was left out under "omissions". For images use a model that reads them. For a '
            "target that cannot be looked up, name its models with base_models.",
        )
