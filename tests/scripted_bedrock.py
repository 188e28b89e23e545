"""A Bedrock that answers what a test scripts: responses, streams, raw bytes. Standard library only."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import ssl
import threading
import urllib.parse
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from independent_server import frame

JSON, STREAM = "application/json", "application/vnd.amazon.eventstream"
SESSION = "x-amzn-bedrock-knowledge-base-session-id"


@dataclass
class Raw:
    """An answer as bytes; `length` is the Content-Length that it states, if not its own."""

    body: bytes
    kind: str = JSON
    length: int | None = None
    headers: dict = field(default_factory=dict)
    status: int = 200


def raw_json(value, **how):
    return Raw(json.dumps(value).encode(), **how)


def text(index, value):
    return "contentBlockDelta", {"contentBlockIndex": index, "delta": {"text": value}}


def call_start(index, tool_use_id, name):
    return "contentBlockStart", {
        "contentBlockIndex": index, "start": {"toolUse": {"toolUseId": tool_use_id, "name": name}},
    }  # fmt: skip


def call_delta(index, value):
    return "contentBlockDelta", {"contentBlockIndex": index, "delta": {"toolUse": {"input": value}}}


def block_stop(index):
    return "contentBlockStop", {"contentBlockIndex": index}


def stream_of(*events, stop="end_turn", usage=None):
    """The events between the first and the last ones, which are added."""
    usage = usage or {"inputTokens": 3, "outputTokens": 5, "totalTokens": 8}
    return [
        ("messageStart", {"role": "assistant"}), *events, ("messageStop", {"stopReason": stop}),
        ("metadata", {"usage": usage, "metrics": {"latencyMs": 7}}),
    ]  # fmt: skip


def whole_of(*content, stop="end_turn", usage=None):
    return {
        "output": {"message": {"role": "assistant", "content": list(content)}},
        "stopReason": stop,
        "usage": usage or {"inputTokens": 3, "outputTokens": 5, "totalTokens": 8},
        "metrics": {"latencyMs": 7},
    }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes

    def log_message(self, *args):
        pass

    def do_GET(self):
        if self.server.look_ups is None:
            self.send_error(501)
            return
        self.raw(raw_json(self.server.look_ups[urllib.parse.unquote(self.path).strip("/")]))

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(request)
        answer = next(self.server.answers)
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, dict):
            answer = raw_json(answer)
        if isinstance(answer, Raw):
            self.raw(answer)
        else:
            self.events(answer)

    def events(self, answer):
        self.send_response(200)
        self.send_header("Content-Type", STREAM)
        self.send_header("Connection", "close")
        self.end_headers()
        for event in answer:
            if isinstance(event, threading.Event):
                event.wait(20)
            else:
                self.wfile.write(frame(*event))
        self.close_connection = True

    def raw(self, answer):
        self.send_response(answer.status)
        length = len(answer.body) if answer.length is None else answer.length
        for name, value in {"Content-Type": answer.kind, "Content-Length": str(length), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)
        self.close_connection = answer.length is not None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port):
        super().__init__(("127.0.0.1", port), _Handler)
        self.connections = set()

    def process_request(self, request, client_address):
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        self.connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self):
        """Close what clients keep open, so that they do not send the next test's requests here."""
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class ScriptedBedrock:
    """Returns its answers one after the other, the last one repeatedly. `requests` are the bodies it received.

    An answer is a Converse response, or the events of a stream (a `threading.Event` among those is waited for), or
    `Raw`; or it is a function of the request, which returns one. With an authority (of `trustme`) it serves
    HTTPS. `look_ups` are the control plane's answers, by path. It listens on the port of the server before, unless
    that is still in use, so that tests share clients.
    """

    _port = 0

    def __init__(self, *answers, authority=None, look_ups=None):
        self._answers = itertools.chain(answers, itertools.repeat(answers[-1]))
        self._authority, self._look_ups = authority, look_ups

    def __enter__(self):
        try:
            self._server = _Server(ScriptedBedrock._port)
        except OSError:
            self._server = _Server(0)
        self.requests = self._server.requests = []
        self._server.answers = self._answers
        self._server.look_ups = self._look_ups
        if self._authority is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._authority.issue_cert("127.0.0.1").configure_cert(tls)
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.hang_up()
        ScriptedBedrock._port = 0 if any(error) else self._server.server_address[1]

    @property
    def url(self):
        return f"http{'s' * bool(self._authority)}://127.0.0.1:{self._server.server_address[1]}"

    @property
    def arguments(self):
        """Return the arguments with which an LLM reaches this server."""
        return {
            "endpoint_url": self.url, "region_name": "us-east-1",
            "aws_access_key_id": "AKIA", "aws_secret_access_key": "secret", "max_retries": 0,
        }  # fmt: skip
