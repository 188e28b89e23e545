"""Images, documents, videos and sounds of LlamaIndex as Converse takes them: where they come from, formats, names."""

from __future__ import annotations

import base64
import contextlib
import functools
import io
import logging
import pickle
import socket
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor

import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.base.llms.types import (
    AudioBlock,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    TextBlock,
    ToolCallBlock,
    VideoBlock,
)
from samples import NOVA_LITE

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.llama_index import BedrockRouter
from bedrock_routing_integrations.llama_index.messages import to_converse
from bedrock_routing_integrations.requests import DocumentNames
from bedrock_routing_integrations.requests.documents import name_documents

PNG = b"\x89PNG\r\n\x1a\n" + bytes(16)
JPEG = b"\xff\xd8\xff\xe0" + bytes(16)
PDF = b"%PDF-1.7\n" + bytes(16)
MP4 = b"\x00\x00\x00\x18ftypmp42" + bytes(16)
MP3 = b"ID3\x04" + bytes(16)


def sent(*blocks):
    """The blocks of one user message, without the text that documents need."""
    [message], _ = to_converse([ChatMessage(role="user", blocks=[TextBlock(text="See:"), *blocks])])
    return message["content"][1:]


def names(*titles):
    blocks = [DocumentBlock(data=b"Hello, world!", title=title, document_mimetype="text/plain") for title in titles]
    [message] = name_documents([{"role": "user", "content": sent(*blocks)}])
    return [block["document"]["name"] for block in message["content"]]


def image(**fields):
    return sent(ImageBlock(**fields))[0]["image"]


def document(**fields):
    return sent(DocumentBlock(**fields))[0]["document"]


# --- the tables ---


@functools.cache
def _enum(name):
    return set(botocore.session.get_session().get_service_model("bedrock-runtime").shape_for(name).enum)


@pytest.mark.parametrize(("kind", "block"), [("Video", VideoBlock), ("Audio", AudioBlock)])
def test_a_file_in_s3_has_the_format_of_its_suffix(kind, block):
    for name in _enum(f"{kind}Format") - {"mpg"}:  # LlamaIndex takes .mpg for video/mpeg
        [found] = sent(block(url=f"s3://my-bucket/file.{name}"))
        assert found[kind.lower()]["format"] == name


@pytest.mark.parametrize(
    ("block", "kind", "expected"),
    [
        (ImageBlock(image=PNG, image_mimetype="image/png"), "image", "png"),
        (ImageBlock(url="s3://my-bucket/a.JPG"), "image", "jpeg"),
        (VideoBlock(video=MP4), "video", "mp4"),
        (VideoBlock(video=b"?", video_mimetype="video/quicktime"), "video", "mov"),
        (VideoBlock(url="s3://my-bucket/a.3gp"), "video", "three_gp"),
        (VideoBlock(url="s3://my-bucket/a.m4v"), "video", "mp4"),
        (AudioBlock(audio=MP3), "audio", "mp3"),
        (AudioBlock(audio=b"?", format="WAV"), "audio", "wav"),
        (AudioBlock(audio=b"?", format="audio/x-wav"), "audio", "wav"),
        (AudioBlock(audio=b"?", format="pcm"), "audio", "pcm"),
        (AudioBlock(audio=b"?", format="audio/wave"), "audio", "wav"),
        (AudioBlock(audio=b"?", format="audio/vnd.wave"), "audio", "wav"),
        (DocumentBlock(url="s3://my-bucket/a", document_mimetype="text/x-python"), "document", "txt"),
        (DocumentBlock(data=PDF), "document", "pdf"),
        (DocumentBlock(data=PDF, document_mimetype="application/octet-stream"), "document", "pdf"),
        (DocumentBlock(data=b"a,b\n1,2", document_mimetype="text/csv; charset=utf-8"), "document", "csv"),
        (DocumentBlock(data=b"a,b\n1,2", title="numbers.csv"), "document", "csv"),
        (DocumentBlock(data=b"# Hello", title="README.Markdown"), "document", "md"),
        (DocumentBlock(data=b"a: 1", title="a.yaml", document_mimetype="application/yaml"), "document", "txt"),
        (DocumentBlock(data=b'{"a": 1}', document_mimetype="application/json"), "document", "txt"),
        (DocumentBlock(url="s3://my-bucket/report.pdf?versionId=3"), "document", "pdf"),
    ],
)  # fmt: skip
def test_the_format_is_what_is_stated_or_named_or_seen(block, kind, expected):
    assert sent(block)[0][kind]["format"] == expected


def test_image_format_follows_bytes_not_name(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(JPEG)
    assert image(path=path)["format"] == "jpeg"
    assert image(image=JPEG, image_mimetype="image/png")["format"] == "jpeg"


@pytest.mark.parametrize(
    "block",
    [
        ImageBlock(image=b"BM" + bytes(30)), ImageBlock(url="s3://my-bucket/a.tiff"), ImageBlock(image=b"\0\1\2"),
        VideoBlock(video=b"\0\1", video_mimetype="video/x-msvideo"), AudioBlock(audio=b"\0\1", format="midi"),
        DocumentBlock(data=b"PK\3\4" + bytes(30)), DocumentBlock(url="s3://my-bucket/a"),
        DocumentBlock(data=b"\xff\xfe\0a", title="a.bin"),
    ],
)  # fmt: skip
def test_unsupported_format_raises_and_lists_supported_formats(block):
    with pytest.raises(
        InvalidRequestError, match=rf"^messages\[0\]\.blocks\[1\] \({type(block).__name__}\).*[Ii]t takes"
    ):
        sent(block)


# --- sources ---


def test_bytes_arrive_as_they_are(bedrock, router):
    blocks = [TextBlock(text="See:"), ImageBlock(image=PNG), DocumentBlock(data=PDF, title="report")]
    BedrockRouter(model=router).chat([ChatMessage(role="user", blocks=blocks)])
    assert bedrock.requests("Converse")[-1].request["messages"][0]["content"] == [
        {"text": "See:"}, {"image": {"format": "png", "source": {"bytes": PNG}}},
        {"document": {"format": "pdf", "name": "report", "source": {"bytes": PDF}}},
    ]  # fmt: skip


def test_every_source_gives_the_same_bytes(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    encoded = base64.b64encode(PNG)
    url = f"data:image/png;base64,{encoded.decode()}"
    with path.open("rb") as file:
        sources = [
            {"image": PNG}, {"image": encoded}, {"image": io.BytesIO(PNG)}, {"image": file}, {"path": path},
            {"url": url},
        ]  # fmt: skip
        for source in sources:
            assert image(**source) == {"format": "png", "source": {"bytes": PNG}}
    data_url = f"data:application/pdf;base64,{base64.b64encode(PDF).decode()}"
    for source in ({"data": PDF}, {"data": io.BytesIO(PDF)}, {"url": data_url}):
        assert document(**source)["source"] == {"bytes": PDF}


def test_text_that_is_open_as_text_arrives_as_utf8():
    found = document(data=io.StringIO("Grüße"), document_mimetype="text/plain")
    assert found == {"format": "txt", "name": "input_document", "source": {"bytes": "Grüße".encode()}}


@pytest.mark.parametrize(
    "block",
    [
        VideoBlock(url="s3://my-bucket/a b/über+1%.mp4"),
        ImageBlock(url="s3://my-bucket/a b/über+1%.png"),
        DocumentBlock(url="s3://my-bucket/a b/über+1%.pdf"),
        DocumentBlock(path="s3://my-bucket/a b/über+1%.pdf"),
    ],
)
def test_s3_location_is_sent_unread_and_unencoded(block):
    [found] = sent(block)
    [(kind, body)] = found.items()
    suffix = {"video": "mp4", "image": "png", "document": "pdf"}[kind]
    assert body["source"] == {"s3Location": {"uri": f"s3://my-bucket/a b/über+1%.{suffix}"}}


def test_bytes_go_before_the_place_that_they_came_from():
    assert image(image=PNG, url="s3://my-bucket/a.png")["source"] == {"bytes": PNG}
    assert document(data=PDF, url="s3://my-bucket/a.pdf")["source"] == {"bytes": PDF}


def test_a_video_in_s3_reaches_a_model_that_sees_videos(bedrock):
    block = VideoBlock(url="s3://my-bucket/a.mp4")
    llm = BedrockRouter(model=NOVA_LITE)
    llm.chat([ChatMessage(role="user", blocks=[TextBlock(text="See:"), block])])
    [message] = bedrock.requests("Converse")[-1].request["messages"]
    expected = {"format": "mp4", "source": {"s3Location": {"uri": "s3://my-bucket/a.mp4"}}}
    assert message["content"][1]["video"] == expected


@pytest.mark.parametrize(
    ("block", "source"),
    [
        (ImageBlock, {}), (ImageBlock, {"image": b""}), (ImageBlock, {"image": io.BytesIO()}), (DocumentBlock, {}),
        (DocumentBlock, {"path": "no/such/file.pdf"}), (VideoBlock, {"url": "data:nothing"}), (AudioBlock, {}),
        (DocumentBlock, {"data": io.StringIO(), "document_mimetype": "text/plain"}),
    ],
)  # fmt: skip
def test_a_source_that_has_nothing_raises_naming_the_block(block, source):
    with pytest.raises(
        InvalidRequestError, match=r"^messages\[0\]\.blocks\[1\] \(\w+Block\) (cannot be read|is empty|is not valid)"
    ):
        sent(block(**source))


def test_a_file_that_was_closed_raises_naming_the_block():
    file = io.BytesIO(MP3)
    block = AudioBlock(audio=file)
    file.close()
    with pytest.raises(InvalidRequestError, match=r"^messages\[0\]\.blocks\[1\] \(AudioBlock\) cannot be read"):
        sent(block)


def test_open_file_is_sent_whole_and_keeps_its_position(tmp_path):
    path = tmp_path / "a.pdf"
    path.write_bytes(PDF)
    with path.open("rb") as file:
        block = DocumentBlock(data=file, document_mimetype="application/pdf")
        file.seek(4)
        for _ in range(2):
            assert sent(block)[0]["document"]["source"] == {"bytes": PDF}
            assert file.tell() == 4


class _Meeting(io.RawIOBase):
    """A file that detects two concurrent readers; each read waits a little for another."""

    def __init__(self):
        self.met = False
        self._readers = threading.Barrier(2)

    def seek(self, *_):
        return 0

    def tell(self):
        return 0

    def read(self, *_):
        try:
            self._readers.wait(0.3)
            self.met = True
        except threading.BrokenBarrierError:
            pass
        return PNG


def test_concurrent_calls_read_one_open_file_in_turn():
    file = _Meeting()
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(lambda _: image(image=file)["source"]["bytes"], range(2))) == [PNG, PNG]
    assert not file.met


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InvalidRequestError, match=r"cannot be read: .*No such file.*missing\.pdf"):
        sent(DocumentBlock(path=str(tmp_path / "missing.pdf")))


# --- documents: names, and their text blocks ---


@pytest.mark.parametrize(
    ("title", "name"),
    [
        (None, "input_document"), ("", "input_document"), ("report.pdf", "report-pdf"),
        ("Q3 (a) [2]-b", "Q3 (a) [2]-b"),
        ("a  b\t\nc", "a b-c"), ("  a ", "a"), ("報告書.pdf", "document-0cd83b5e"),
        ("../../etc/passwd", "etc-passwd"), ("x" * 300, "x" * 200),
    ],
)  # fmt: skip
def test_a_document_has_a_name_that_bedrock_takes(title, name):
    assert names(title) == [name]


def test_documents_of_one_name_get_distinct_names():
    assert names("a", "a", "b", "a (2)", "a") == ["a", "a (2)", "b", "a (2) (2)", "a (3)"]


def test_a_document_keeps_its_name_when_the_conversation_goes_on():
    first = ChatMessage(role="user", blocks=[TextBlock(text="a"), DocumentBlock(data=PDF), DocumentBlock(data=PDF)])
    before = name_documents(to_converse([first])[0])
    after = name_documents(to_converse([first, ChatMessage("b", role="assistant"), first])[0])
    assert after[0] == before[0]
    assert [block["document"]["name"] for block in after[2]["content"][1:]] == [
        "input_document (3)",
        "input_document (4)",
    ]


@pytest.mark.sweep
@given(st.lists(st.one_of(st.none(), st.text(max_size=300), st.sampled_from(["x" * 196 + " y", "a", "-", "x" * 250]))))
def test_names_are_always_allowed_and_each_once(titles):
    given_names = names(*titles)
    assert len(set(given_names)) == len(titles)
    for name in given_names:
        assert 1 <= len(name) <= 200
        assert all(character.isascii() and (character.isalnum() or character in " -()[]_") for character in name)
        assert name == name.strip()
        assert "  " not in name


@pytest.mark.sweep
@pytest.mark.parametrize("title", ["report", "x" * 300, None])
def test_naming_many_documents_alike_takes_linear_time(title):
    def steps(count):
        """Lines of code that are run: unlike seconds, the same on every machine."""
        lines, titles = 0, DocumentNames()

        def count_lines(frame, event, _):
            nonlocal lines
            lines += event == "line"
            return count_lines

        before = sys.gettrace()
        sys.settrace(count_lines)
        try:
            made = [titles.name(title) for _ in range(count)]
        finally:
            sys.settrace(before)
        assert len(set(made)) == count
        return lines

    assert steps(5_000) < 15 * steps(500), "ten times as many; quadratic were a hundred times"


def test_documents_of_one_name_reach_bedrock(router):
    blocks = [TextBlock(text="Compare"), *(DocumentBlock(data=PDF, title="ä/b.pdf") for _ in range(3))]
    assert BedrockRouter(model=router).chat([ChatMessage(role="user", blocks=blocks)]).message.content


def test_document_without_a_text_block_raises_naming_it():
    with pytest.raises(InvalidRequestError, match=r"user message with the document 'report' has no text beside it"):
        to_converse([ChatMessage(role="user", blocks=[TextBlock(text=" "), DocumentBlock(data=PDF, title="report")])])


def test_text_of_merged_message_accompanies_a_document():
    messages = [ChatMessage("Read this:"), ChatMessage(role="user", blocks=[DocumentBlock(data=PDF)])]
    assert [next(iter(block)) for block in to_converse(messages)[0][0]["content"]] == ["text", "document"]


# --- what can be cited ---


def test_citable_text_is_a_search_result(bedrock, router):
    block = CitableBlock(
        title="Alice", source="https://example.com", content=[TextBlock(text="a"), TextBlock(text=" ")]
    )
    BedrockRouter(model=router).chat([ChatMessage(role="user", blocks=[TextBlock(text="See:"), block])])
    assert bedrock.requests("Converse")[-1].request["messages"][0]["content"][1] == {"searchResult": {
        "source": "https://example.com", "title": "Alice", "content": [{"text": "a"}], "citations": {"enabled": True},
    }}  # fmt: skip
    assert sent(CitableBlock(title="t", source="s", content=" ")) == []


def test_a_citable_document_can_be_cited_by_its_title():
    parts = [TextBlock(text="a"), DocumentBlock(data=PDF), DocumentBlock(data=PDF, title="own"), ImageBlock(image=PNG)]
    text, untitled, titled, picture = sent(CitableBlock(title="Report", source="s", content=parts))
    assert text == {"text": "a"}
    assert untitled["document"] == {
        "format": "pdf", "name": "Report", "source": {"bytes": PDF}, "citations": {"enabled": True},
    }  # fmt: skip
    assert titled["document"]["name"] == "own"
    assert "image" in picture
    assert parts[1].title == "input_document"


# --- never from a URL that this process would fetch ---


SIGNED = "?X-Amz-Credential=AKIAEXAMPLE&X-Amz-Signature=c2VjcmV0"
BLOCKS = {"png": ImageBlock, "pdf": DocumentBlock, "mp4": VideoBlock, "mp3": AudioBlock}


@pytest.fixture
def listener():
    """A listening socket; `attempts` is the number of connections made to it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)

        def attempts():
            count = 0
            with contextlib.suppress(BlockingIOError):
                while True:
                    server.accept()[0].close()
                    count += 1
            return count

        yield server.getsockname()[1], attempts


def messages_with(block):
    """Conversations that hold a block in each place where one can be."""
    call = ToolCallBlock(tool_call_id="t1", tool_name="look")
    result = ChatMessage(role="tool", blocks=[block], additional_kwargs={"tool_call_id": "t1"})
    blocks = [TextBlock(text="See:"), block]
    histories = [
        [ChatMessage(role="user", blocks=blocks)],
        [ChatMessage("Look."), ChatMessage(role="assistant", blocks=[call]), result],
    ]
    if isinstance(block, (ImageBlock, DocumentBlock)):
        citable = CitableBlock(title="t", source="https://example.com/source", content=blocks)
        histories.append([ChatMessage(role="user", blocks=[citable])])
        histories.append([
            ChatMessage("Look."), ChatMessage(role="assistant", blocks=[call]),
            ChatMessage(role="tool", blocks=[citable], additional_kwargs={"tool_call_id": "t1"}),
        ])  # fmt: skip
    return histories


LOOK = {"toolConfig": {"tools": [{"toolSpec": {"name": "look", "inputSchema": {"json": {"type": "object"}}}}]}}


@pytest.mark.sample(12)
@pytest.mark.parametrize("suffix", BLOCKS)
@pytest.mark.parametrize("start", ["http://127.0.0.1:{}", "HTTP://user:pass@127.0.0.1:{}", "ftp://127.0.0.1:{}"])
@pytest.mark.parametrize("stored", [False, True])
async def test_chat_never_fetches_url_of_block(listener, bedrock, caplog, suffix, start, stored):
    port, attempts = listener
    block = BLOCKS[suffix](url=f"{start.format(port)}/a.{suffix}{SIGNED}")
    llm = BedrockRouter(model=NOVA_LITE)
    caplog.set_level(logging.DEBUG)
    histories = messages_with(block)
    if stored:
        histories = [[ChatMessage.model_validate_json(each.model_dump_json()) for each in one] for one in histories]
    for history in histories:
        for form in ("chat", "stream_chat", "achat", "astream_chat"):
            with pytest.raises(InvalidRequestError) as error:
                response = getattr(llm, form)(history, **LOOK)
                await response if form.startswith("a") else list(response)
            if "Audio" not in type(block).__name__ or history[-1].role == "user":
                assert "URLs are never fetched" in str(error.value)
                assert "Pass the bytes" in str(error.value)
            shown = "".join(traceback.format_exception(error.value)) + caplog.text
            assert "Signature" not in shown
            assert "user:pass" not in shown
    assert attempts() == 0
    assert bedrock.requests("Converse") == []


@pytest.mark.parametrize(
    "url", ["file:///etc/hostname", "/etc/hostname", "//127.0.0.1/a.pdf", "gopher://127.0.0.1", ""]
)
def test_url_of_document_must_be_s3_or_data(url):
    with pytest.raises(InvalidRequestError, match=r"URLs are never fetched|has no bytes, no path and no url"):
        sent(DocumentBlock(url=url, document_mimetype="text/plain"))


@pytest.mark.parametrize("path", ["http://127.0.0.1/a.pdf", "file:///etc/hostname", r"\\127.0.0.1\share\a.pdf"])
def test_path_of_document_must_not_be_url(path):
    with pytest.raises(InvalidRequestError, match="URLs are never fetched"):
        sent(DocumentBlock(path=path))


@pytest.mark.parametrize("path", [".", "/dev/zero"])
def test_path_of_document_must_be_file(path):
    with pytest.raises(InvalidRequestError, match="not a regular file"):
        sent(DocumentBlock(path=path, document_mimetype="text/plain"))


def test_citation_and_source_urls_are_sent_and_not_fetched(listener):
    port, attempts = listener
    url = f"http://127.0.0.1:{port}/source"
    place = {"answer_start": 0, "answer_end": 1}
    citation = CitationBlock(cited_content=ImageBlock(url=url), source=url, title="t", additional_location_info=place)
    answer = ChatMessage(role="assistant", blocks=[TextBlock(text="a"), citation])
    to_converse([ChatMessage("Hello"), answer, ChatMessage("b")])
    [found] = sent(CitableBlock(title="t", source=url, content="text"))
    assert found["searchResult"]["source"] == url
    assert attempts() == 0


def test_content_of_data_url_is_decoded():
    assert document(url="data:text/plain,a%20b?c#d", title="a.txt")["source"] == {"bytes": b"a b?c#d"}
    assert document(url="DATA:text/plain;base64,YWI%3D", title="a.txt")["source"] == {"bytes": b"ab"}
    with pytest.raises(InvalidRequestError, match="data is not base64"):
        sent(DocumentBlock(url="data:text/plain;base64,a", title="a.txt"))


def test_s3_url_is_taken_in_any_case():
    assert document(url="S3://my-bucket/A.pdf")["source"] == {"s3Location": {"uri": "s3://my-bucket/A.pdf"}}


@pytest.mark.parametrize("suffix", BLOCKS)
def test_allow_local_files_false_refuses_path(bedrock, tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes({"png": PNG, "pdf": PDF, "mp4": MP4, "mp3": MP3}[suffix])
    block = BLOCKS[suffix](path=path)
    llm = BedrockRouter(model=NOVA_LITE, allow_local_files=False)
    for history in messages_with(block):
        with pytest.raises(InvalidRequestError, match=r"allow_local_files=False forbids|does not take it"):
            llm.chat(history, **LOOK)
    llm.chat([ChatMessage(role="user", blocks=[TextBlock(text="See:"), ImageBlock(url="s3://my-bucket/a.png")])])
    assert len(bedrock.requests("Converse")) == 1
    assert BedrockRouter.from_dict(llm.to_dict()).allow_local_files is False
    assert pickle.loads(pickle.dumps(llm)).allow_local_files is False
    if suffix == "png":
        BedrockRouter(model=NOVA_LITE).chat(messages_with(block)[0])
        assert len(bedrock.requests("Converse")) == 2


def test_json_document_of_tool_result_is_read_only_where_allowed(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": 1}')
    block = DocumentBlock(path=str(path), document_mimetype="application/json")
    history = messages_with(block)[1]
    assert to_converse(history)[0][-1]["content"][0]["toolResult"]["content"] == [{"json": {"a": 1}}]
    with pytest.raises(InvalidRequestError, match="allow_local_files=False forbids"):
        to_converse(history, local_files=False)
