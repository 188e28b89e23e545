"""A Bedrock that answers at once with bytes made beforehand, in a process of its own.

A server that did any work would hide the client's costs behind its own. It reads no more of a request than HTTP needs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

from tests.independent_server import HAIKU, ROUTER, SONNET, frame, profile_arn

from .measuring import CHUNKS

_SHARED = {
    "usage": {"inputTokens": 27, "outputTokens": 160, "totalTokens": 187},
    "metrics": {"latencyMs": 4504},
    "performanceConfig": {"latency": "standard"},
}
_ROUTED = {"trace": {"promptRouter": {"invokedModelId": profile_arn(HAIKU)}}}
_ANSWER = "It prints a line, which shows that the tools are installed and that a program can be built and run. " * 4


KNOWLEDGE_BASE = "BENCHMARK1"
_PASSAGE = "Beneath the ice of Europa there is probably an ocean of salt water. " * 12


class _Connection(asyncio.Protocol):
    """A keep-alive connection without pipelining: clients wait for each answer."""

    def __init__(self, delay, chunks):
        self.delay = delay
        self.chunks = chunks
        self.received = b""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.received += data
        head, separator, body = self.received.partition(b"\r\n\r\n")
        if not separator or len(body) < _content_length(head):
            return
        self.received = b""
        request_line = head[: head.index(b"\r\n")]
        method, path, _ = request_line.split(b" ")
        delay = self.delay if method == b"POST" else 0
        answer = _answer(method, path, self.chunks)
        if delay:
            asyncio.get_running_loop().call_later(delay, self.transport.write, answer)
        else:
            self.transport.write(answer)


def _content_length(head):
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0]) if found else 0


@functools.cache
def _answer(method, raw_path, chunks):
    path = unquote(raw_path.decode())
    if path == f"/knowledgebases/{KNOWLEDGE_BASE}/retrieve":
        return _json_answer({"retrievalResults": [_passage(number) for number in range(10)]})
    if path == f"/knowledgebases/{KNOWLEDGE_BASE}":
        return _json_answer({"knowledgeBase": {"knowledgeBaseConfiguration": {"type": "VECTOR"}}})
    if method == b"GET":
        return _json_answer(_router() if path == f"/prompt-routers/{ROUTER}" else None)
    model_id, _, operation = path.removeprefix("/model/").rpartition("/")
    shared = {**_SHARED, **(_ROUTED if model_id == ROUTER else {})}
    if operation == "converse-stream":
        return _stream_answer(shared, chunks)
    message = {"role": "assistant", "content": [{"text": _ANSWER}]}
    return _json_answer({"output": {"message": message}, "stopReason": "end_turn", **shared})


def _passage(number):
    uri = f"s3://bucket/document-{number}.md"
    return {
        "content": {"type": "TEXT", "text": _PASSAGE},
        "location": {"type": "S3", "s3Location": {"uri": uri}},
        "metadata": {"year": 2024, "x-amz-bedrock-kb-source-uri": uri, "x-amz-bedrock-kb-chunk-id": f"chunk-{number}"},
        "score": 0.9 - number / 100,
    }


def _router():
    return {
        "promptRouterName": "Anthropic Router",
        "routingCriteria": {"responseQualityDifference": 0.26},
        "createdAt": "2024-11-20T00:00:00Z",
        "updatedAt": "2024-11-20T00:00:00Z",
        "promptRouterArn": ROUTER,
        "models": [{"modelArn": profile_arn(HAIKU)}, {"modelArn": profile_arn(SONNET)}],
        "fallbackModel": {"modelArn": profile_arn(SONNET)},
        "status": "AVAILABLE",
        "type": "default",
    }


def _head(status, *headers):
    lines = (f"HTTP/1.1 {status}", "x-amzn-RequestId: 11111111-2222-3333-4444-555555555555", *headers, "", "")
    return "\r\n".join(lines).encode()


def _json_answer(document):
    if document is None:
        return _head("404 Not Found", "x-amzn-errortype: ResourceNotFoundException", "Content-Length: 0")
    body = json.dumps(document).encode()
    return _head("200 OK", "Content-Type: application/json", f"Content-Length: {len(body)}") + body


def _stream_answer(shared, chunks):
    """Return one event per HTTP chunk, as Bedrock sends them, all at once, so that no client waits for a chunk."""
    frames = [
        frame("messageStart", {"role": "assistant", "p": "abc"}),
        *(
            frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": f"word{n} "}, "p": "abcdefghijkl"})
            for n in range(chunks)
        ),
        frame("contentBlockStop", {"contentBlockIndex": 0, "p": "abcd"}),
        frame("messageStop", {"stopReason": "end_turn", "p": "abcdef"}),
        frame("metadata", {**shared, "p": "abcd"}),
    ]
    body = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in frames)
    head = _head("200 OK", "Content-Type: application/vnd.amazon.eventstream", "Transfer-Encoding: chunked")
    return head + body + b"0\r\n\r\n"


@contextlib.contextmanager
def fixed_server(delay=0.0, chunks=CHUNKS):
    """Start the server as a process of its own.

    Args:
        delay: Seconds until a model answers.
        chunks: Chunks of a streamed answer.

    Yields:
        Its URL.
    """
    command = [sys.executable, "-m", "tests.benchmarks.fixed_server", "--delay", str(delay), "--chunks", str(chunks)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        try:
            port = process.stdout.readline().strip()
            if not port:
                raise RuntimeError("the fixed server did not start")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


async def _serve(delay, chunks):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(delay, chunks), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--chunks", type=int, default=CHUNKS)
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(options.delay, options.chunks))
