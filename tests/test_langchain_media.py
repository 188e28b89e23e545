"""Images, files, videos and sounds of LangChain's messages in the requests of `ChatBedrockRouter`."""

from __future__ import annotations

import base64

import botocore.session
import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from scripted_bedrock import ScriptedBedrock, whole_of

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.langchain import ChatBedrockRouter
from bedrock_routing_integrations.requests import documents as media

PRO = "us.amazon.nova-pro-v1:0"
DATA = base64.b64encode(b"some bytes").decode()
NOW = {"toolSpec": {"name": "now", "description": "The time.", "inputSchema": {"json": {"type": "object"}}}}


@pytest.fixture
def send():
    """Send a user's message of these blocks, and return the content sent."""
    with ScriptedBedrock(whole_of({"text": "ok"})) as server:
        llm = ChatBedrockRouter(model=PRO, cache="off", **server.arguments)

        def send(*blocks, messages=None):
            llm.bind_tools([NOW]).invoke(messages or [HumanMessage([{"type": "text", "text": "what?"}, *blocks])])
            return server.requests[-1]["messages"][-1]["content"][0 if messages else 1 :]

        send.requests = server.requests
        yield send


def s3(uri, **owner):
    return {"s3Location": {"uri": uri, **owner}}


BLOCKS = [
    ({"type": "image", "url": "s3://b/a.png"}, {"image": {"format": "png", "source": s3("s3://b/a.png")}}),
    (
        {"type": "image", "url": "s3://b/a", "mime_type": "image/jpg", "extras": {"bucketOwner": "111122223333"}},
        {"image": {"format": "jpeg", "source": s3("s3://b/a", bucketOwner="111122223333")}},
    ),
    (
        {"type": "image", "source_type": "url", "url": "s3://b/a.webp"},
        {"image": {"format": "webp", "source": s3("s3://b/a.webp")}},
    ),
    (
        {"type": "image_url", "image_url": {"url": "s3://b/a.gif"}},
        {"image": {"format": "gif", "source": s3("s3://b/a.gif")}},
    ),
    (
        {"type": "image_url", "image_url": f"data:image/png;base64,{DATA}"},
        {"image": {"format": "png", "source": {"bytes": DATA}}},
    ),
    (
        {"type": "image", "base64": DATA, "mime_type": "image/webp"},
        {"image": {"format": "webp", "source": {"bytes": DATA}}},
    ),
    (
        {"type": "image", "source_type": "base64", "data": DATA, "mime_type": "image/png"},
        {"image": {"format": "png", "source": {"bytes": DATA}}},
    ),
    (
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DATA}},
        {"image": {"format": "png", "source": {"bytes": DATA}}},
    ),
    (
        {"type": "image", "url": f"data:image/gif;base64,{DATA}"},
        {"image": {"format": "gif", "source": {"bytes": DATA}}},
    ),
    (
        {"type": "video", "url": "s3://films/a.mp4", "mime_type": "video/mp4"},
        {"video": {"format": "mp4", "source": s3("s3://films/a.mp4")}},
    ),
    ({"type": "video", "url": "s3://films/a.3gp"}, {"video": {"format": "three_gp", "source": s3("s3://films/a.3gp")}}),
    (
        {"type": "video", "base64": DATA, "mime_type": "video/quicktime"},
        {"video": {"format": "mov", "source": {"bytes": DATA}}},
    ),
    (
        {"type": "video_url", "video_url": {"url": "s3://b/a.webm"}},
        {"video": {"format": "webm", "source": s3("s3://b/a.webm")}},
    ),
    (
        {"type": "video", "source": {"type": "s3Location", "mediaType": "video/mp4", "data": {"uri": "s3://b/v"}}},
        {"video": {"format": "mp4", "source": s3("s3://b/v")}},
    ),
    (
        {"type": "audio", "base64": DATA, "mime_type": "audio/mpeg"},
        {"audio": {"format": "mp3", "source": {"bytes": DATA}}},
    ),
    ({"type": "audio", "url": "s3://b/a.flac"}, {"audio": {"format": "flac", "source": s3("s3://b/a.flac")}}),
    (
        {"type": "audio", "source_type": "base64", "data": DATA, "mime_type": "audio/x-wav"},
        {"audio": {"format": "wav", "source": {"bytes": DATA}}},
    ),
    (
        {"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}},
        {"audio": {"format": "wav", "source": {"bytes": DATA}}},
    ),
    (
        {"audio": {"format": "mp3", "source": {"bytes": b"some bytes"}}},
        {"audio": {"format": "mp3", "source": {"bytes": DATA}}},
    ),
    (
        {"type": "audio", "audio": {"format": "mp3", "source": {"bytes": b"some bytes"}}},
        {"audio": {"format": "mp3", "source": {"bytes": DATA}}},
    ),
    (
        {"type": "file", "url": "s3://b/the report.pdf", "extras": {"citations": {"enabled": True}}},
        {
            "document": {
                "format": "pdf",
                "name": "the report",
                "source": s3("s3://b/the report.pdf"),
                "citations": {"enabled": True},
            }
        },
    ),
    (
        {"type": "file", "url": "s3://b/x", "mime_type": "text/csv", "filename": "sums.csv"},
        {"document": {"format": "csv", "name": "sums-csv", "source": s3("s3://b/x")}},
    ),
    (
        {"type": "file", "base64": DATA, "mime_type": "application/pdf", "name": "a"},
        {"document": {"format": "pdf", "name": "a", "source": {"bytes": DATA}}},
    ),
    (
        {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{DATA}", "filename": "b.pdf"}},
        {"document": {"format": "pdf", "name": "b-pdf", "source": {"bytes": DATA}}},
    ),
    (
        {"type": "file", "base64": DATA, "mime_type": "text/x-python", "name": "code"},
        {"document": {"format": "txt", "name": "code", "source": {"bytes": DATA}}},
    ),
    (
        {"type": "text-plain", "text": "some bytes", "mime_type": "text/plain", "title": "note"},
        {"document": {"format": "txt", "name": "note", "source": {"bytes": DATA}}},
    ),
    (
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "some bytes"},
            "title": "n",
        },
        {"document": {"format": "txt", "name": "n", "source": {"bytes": DATA}}},
    ),
]


@pytest.mark.parametrize(
    ("block", "converse"), BLOCKS, ids=lambda block: next(iter(block.values()), "") if isinstance(block, dict) else ""
)
def test_media_block_becomes_converses(send, block, converse):
    assert send(block) == [converse]


def test_media_in_tool_results_is_kept_and_audio_follows(send):
    blocks = [
        {"type": "image", "url": "s3://b/a.png"},
        {"type": "file", "url": "s3://b/a.pdf"},
        {"type": "audio", "url": "s3://b/a.mp3"},
    ]
    call = AIMessage("", tool_calls=[{"name": "now", "args": {}, "id": "t1"}])
    result, sound = send(messages=[HumanMessage("q"), call, ToolMessage(blocks, tool_call_id="t1")])
    kinds = [next(iter(block)) for block in result["toolResult"]["content"]]
    assert kinds == ["image", "document"]
    assert sound == {"audio": {"format": "mp3", "source": s3("s3://b/a.mp3")}}


def test_media_in_nested_tool_results_is_kept(send):
    call = AIMessage("", tool_calls=[{"name": "now", "args": {}, "id": "t1"}])
    result = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "image", "url": "s3://b/a.png"}]}
    (sent,) = send(messages=[HumanMessage("q"), call, HumanMessage([result])])
    assert sent["toolResult"]["content"] == [{"image": {"format": "png", "source": s3("s3://b/a.png")}}]


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (
            {"type": "image", "url": "http://169.254.169.254/latest?X-Amz-Signature=secret"},
            "a URL with scheme 'http' is not fetched",
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
            "a URL with scheme 'https' is not fetched",
        ),
        ({"type": "video", "url": "file:///etc/passwd"}, "scheme 'file'"),
        ({"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}, "scheme 'https'"),
        ({"type": "image", "file_id": "file-1"}, "file_id='file-1', which is known to another provider only"),
        ({"type": "video", "url": "s3://b/a"}, "of unknown type, which Bedrock does not take. Set mime_type"),
        ({"type": "image", "base64": DATA, "mime_type": "image/tiff"}, "image/tiff, which Bedrock does not take"),
        ({"type": "image", "base64": "%%%", "mime_type": "image/png"}, "data is not base64"),
        ({"type": "audio", "base64": "", "mime_type": "audio/mpeg"}, "is empty"),
    ],
)
def test_media_that_cannot_be_sent_is_refused_with_advice(send, block, message):
    with pytest.raises(InvalidRequestError, match=message) as caught:
        send(block)
    assert "secret" not in str(caught.value)
    assert not send.requests


def test_document_without_name_gets_a_stable_one(send):
    blocks = [{"type": "file", "base64": DATA, "mime_type": "application/pdf"}] * 2
    names = [[block["document"]["name"] for block in send(*blocks)] for _ in range(2)]
    assert names[0] == names[1]
    assert len(set(names[0])) == 2


@pytest.mark.parametrize(
    ("formats", "shape"),
    [
        (media.IMAGE_FORMATS, "ImageFormat"),
        (media.VIDEO_FORMATS, "VideoFormat"),
        (media.AUDIO_FORMATS, "AudioFormat"),
        (media.DOCUMENT_FORMATS, "DocumentFormat"),
    ],
)
def test_media_formats_are_the_service_models(formats, shape):
    model = botocore.session.get_session().get_service_model("bedrock-runtime")
    assert set(formats.values()) == set(model.shape_for(shape).enum)


@pytest.mark.parametrize(
    ("kind", "mime_type", "names", "content", "expected"),
    [
        ("image", "IMAGE/PNG; charset=x", (), b"", "png"),
        ("image", None, ("a.JPG",), b"", "jpeg"),
        ("image", None, (), b"RIFF1234WEBPVP8 ", "webp"),
        ("image", None, (), b"\x89PNG\r\n\x1a\n", "png"),
        ("audio", None, (), b"RIFF1234WAVEfmt ", "wav"),
        ("audio", "mp3", (), b"", "mp3"),
        ("video", "video/mp4", ("a.webm",), b"", "mp4"),
        ("document", None, ("https://x/a.htm?b=c",), b"", "html"),
        ("document", "application/xml", (), b"", "txt"),
        ("document", None, (), b"%PDF-1.4", "pdf"),
        ("document", "text/x-unknown", (), b"%PDF-1.4", "pdf"),
        ("image", None, (), b"%PDF-1.4", None),
        ("document", "application/zip", (), b"", None),
    ],
)
def test_media_format_comes_from_type_name_or_content(kind, mime_type, names, content, expected):
    assert media.media_format(kind, mime_type, *names, content=content) == expected


@pytest.mark.parametrize(
    ("url", "source", "mime_type"),
    [
        ("S3://my-bucket/A.pdf", {"s3Location": {"uri": "s3://my-bucket/A.pdf"}}, None),
        ("s3://my-bucket/a", {"s3Location": {"uri": "s3://my-bucket/a"}}, None),
        ("DATA:text/plain;base64,YWI%3D", {"bytes": b"ab"}, "text/plain"),
        ("data:text/plain ; base64,YW\nI=", {"bytes": b"ab"}, "text/plain"),
        ("data:,a%20b?c#d", {"bytes": b"a b?c#d"}, None),
    ],
)
def test_media_url_is_normalized(url, source, mime_type):
    assert media.media_source(url, "the block") == (source, mime_type)


@pytest.mark.parametrize(
    ("url", "message"),
    [("data:text/plain,", "is empty"), ("data:x", "no comma"), ("data:;base64,a", "data is not base64")],
)
def test_data_url_without_content_is_refused(url, message):
    with pytest.raises(InvalidRequestError, match=message):
        media.media_source(url, "the block")
