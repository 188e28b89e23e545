"""Write LangChain's blocks of images, files, videos and sounds as Converse's.

Taken are LangChain's standard blocks (of langchain-core 1 and 0), OpenAI's ``image_url``, ``video_url``,
``input_audio`` and ``file``, and Anthropic's blocks with a ``source``. A URL is an S3 object's, or holds the data; no
URL is fetched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.requests.media import FORMATS, decode_base64, media_format, media_source

# LangChain's name of a kind of block → Converse's.
_KINDS = {"image": "image", "file": "document", "video": "video", "audio": "audio", "text-plain": "document"}
# OpenAI's: the member that holds the URL or the data has the block's own name.
_OPENAI = {"image_url": "image", "video_url": "video", "audio_url": "audio", "input_audio": "audio"}
_NAMES = ("name", "filename", "title")


def media_block(block: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the Converse block of a media block; None where `block` is of another kind.

    Args:
        block: A content block with a ``type``; not changed.

    Raises:
        InvalidRequestError: The media cannot be sent: its URL would have to be fetched, its id is another provider's,
            its type is unknown, or it holds nothing.
    """
    kind = block["type"]
    if kind in FORMATS and isinstance(block.get(kind), Mapping) and "source" in block[kind]:
        return {kind: block[kind]}  # Converse's own, with a type beside it
    if kind in _OPENAI:
        return _openai_block(block, kind)
    if kind == "file" and isinstance(block.get("file"), Mapping):
        file = block["file"]
        return _converse_block("document", _without_none({"url": file.get("file_data"), "file_id": file.get("file_id"),
                                                          "filename": file.get("filename")}), "file")  # fmt: skip
    if isinstance(block.get("source"), Mapping) and kind in FORMATS:
        return _with_source(block, kind)
    if kind not in _KINDS or not any(name in block for name in ("url", "base64", "file_id", "text", "source_type")):
        return None
    return _converse_block(_KINDS[kind], _standard(block), kind)


def _openai_block(block: Mapping[str, Any], kind: str) -> dict[str, Any]:
    given = block.get(kind)
    member = {"url": given} if isinstance(given, str) else dict(given or {})
    if kind == "input_audio":
        member = {"base64": member.get("data"), "mime_type": member.get("format")}
    return _converse_block(_OPENAI[kind], _without_none({**member, "extras": block.get("extras")}), kind)


def _with_source(block: Mapping[str, Any], kind: str) -> dict[str, Any] | None:
    """Return the Converse block of one of Anthropic's, or of langchain-aws's own for videos."""
    source = block["source"]
    mime_type = source.get("media_type") or source.get("mediaType")
    form, data = source.get("type"), source.get("data")
    if form in ("s3Location", "s3_location"):
        if not isinstance(data, Mapping):
            raise InvalidRequestError(
                f"the {kind} block's source.data={data!r} is not valid: give {{'uri': 's3://…'}}."
            )
        owner = data.get("bucketOwner") or data.get("bucket_owner")
        member = {"url": data.get("uri"), "extras": {"bucketOwner": owner}}
    elif form == "text":
        member = {"text": data}
    elif form in ("base64", "url"):
        member = {"base64": data, "url": source.get("url")}
    else:
        return None
    rest = {name: block[name] for name in (*_NAMES, "citations", "context") if name in block}
    return _converse_block(kind, _without_none({**member, "mime_type": mime_type, **rest}), kind)


def _standard(block: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a standard block in its form of langchain-core 1."""
    form = block.get("source_type")
    if form == "base64":
        return {**block, "base64": block.get("data")}
    if form == "text":
        return {**block, "text": block.get("text") or block.get("url")}
    return {**block, "file_id": block.get("id")} if form == "id" else block


def _converse_block(kind: str, media: Mapping[str, Any], given: str) -> dict[str, Any]:
    """Return the Converse block.

    Args:
        kind: Converse's kind of block.
        media: ``url``, ``base64``, ``text`` or ``file_id``, ``mime_type``, names and extras.
        given: What the caller's block is called, for error messages.
    """
    at = f"the {given} block"
    extras = {**(media.get("metadata") or {}), **(media.get("extras") or {})}
    source, mime_type = _source(media, extras, at)
    content = source.get("bytes", b"")
    names = [media[name] for name in _NAMES if media.get(name)] + [extras[name] for name in _NAMES if extras.get(name)]
    place = (source.get("s3Location") or {}).get("uri")
    mime_type = media.get("mime_type") or mime_type
    form = "txt" if "text" in media else media_format(kind, mime_type, *names, place, content=content)
    if form is None:
        raise InvalidRequestError(
            f"{at} is {mime_type or 'of unknown type'}, which Bedrock does not take. Set mime_type to one of "
            f"{', '.join(FORMATS[kind])}."
        )
    if kind != "document":
        return {kind: {"format": form, "source": source}}
    document: dict[str, Any] = {"format": form, "name": _document_name(names, source), "source": source}
    for name in ("citations", "context"):
        value = media.get(name) or extras.get(name)
        if value:
            document[name] = value
    return {"document": document}


def _source(media: Mapping[str, Any], extras: Mapping[str, Any], at: str) -> tuple[dict[str, Any], str | None]:
    if media.get("base64") is not None:
        return {"bytes": decode_base64(media["base64"], at)}, None
    if isinstance(media.get("url"), str):
        owner = extras.get("bucketOwner") or extras.get("bucket_owner") or media.get("bucketOwner")
        return media_source(media["url"], at, bucket_owner=owner)
    text = media.get("text")
    if isinstance(text, str) and text:
        return {"bytes": text.encode("utf-8", "replace")}, None
    if media.get("file_id"):
        raise InvalidRequestError(
            f"{at} names file_id={media['file_id']!r}, which is known to another provider only. Pass the bytes in "
            "base64, or an s3:// URL."
        )
    raise InvalidRequestError(f"{at} holds nothing. Pass the bytes in base64, or an s3:// URL.")


def _document_name(names: list[Any], source: Mapping[str, Any]) -> str:
    """Return a document's name; without one, of an S3 object its key's last part, of bytes a digest.

    The same document gets the same name each time: prompt caching compares the requests.
    """
    if names:
        return str(names[0])
    if "s3Location" in source:
        return PurePosixPath(source["s3Location"]["uri"]).stem or "document"
    return hashlib.sha256(source["bytes"]).hexdigest()[:12]


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
