"""Where images, documents, videos and sounds may come from: never from a URL that this process would fetch."""

from __future__ import annotations

import contextlib
import logging
import pickle
import socket
import traceback

import pytest
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

PNG = b"\x89PNG\r\n\x1a\n" + bytes(16)
PDF = b"%PDF-1.7\n" + bytes(16)
MP4 = b"\x00\x00\x00\x18ftypmp42" + bytes(16)
MP3 = b"ID3\x04" + bytes(16)


def sent(*blocks):
    """The blocks of one user message, without the text that documents need."""
    [message], _ = to_converse([ChatMessage(role="user", blocks=[TextBlock(text="See:"), *blocks])])
    return message["content"][1:]


def document(**fields):
    return sent(DocumentBlock(**fields))[0]["document"]


SIGNED = "?X-Amz-Credential=AKIAEXAMPLE&X-Amz-Signature=c2VjcmV0"
BLOCKS = {"png": ImageBlock, "pdf": DocumentBlock, "mp4": VideoBlock, "mp3": AudioBlock}


@pytest.fixture
def listener():
    """A listening socket; `attempts` says how many connections were made to it."""
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
    said = [TextBlock(text="See:"), block]
    histories = [
        [ChatMessage(role="user", blocks=said)],
        [ChatMessage("Look."), ChatMessage(role="assistant", blocks=[call]), result],
    ]
    if isinstance(block, (ImageBlock, DocumentBlock)):
        citable = CitableBlock(title="t", source="https://example.com/source", content=said)
        histories.append([ChatMessage(role="user", blocks=[citable])])
        histories.append([
            ChatMessage("Look."), ChatMessage(role="assistant", blocks=[call]),
            ChatMessage(role="tool", blocks=[citable], additional_kwargs={"tool_call_id": "t1"}),
        ])  # fmt: skip
    return histories


LOOK = {"toolConfig": {"tools": [{"toolSpec": {"name": "look", "inputSchema": {"json": {"type": "object"}}}}]}}


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
            told = "".join(traceback.format_exception(error.value)) + caplog.text
            assert "Signature" not in told
            assert "user:pass" not in told
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
    with pytest.raises(InvalidRequestError, match="is no file"):
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
