"""A server that answers with bytes as they are: HTML, bodies that were cut, recorded streams."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

JSON, STREAM = "application/json", "application/vnd.amazon.eventstream"
SESSION = "x-amzn-bedrock-knowledge-base-session-id"


@dataclass
class Raw:
    """An answer at status 200; `length` is the Content-Length that it states, if not its own."""

    body: bytes
    kind: str = JSON
    length: int | None = None
    headers: dict = field(default_factory=dict)


def raw_json(value, **how):
    return Raw(json.dumps(value).encode(), **how)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes

    def log_message(self, *args):
        pass

    def do_POST(self):
        self.server.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        answers = self.server.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(200)
        length = len(answer.body) if answer.length is None else answer.length
        for name, value in {"Content-Type": answer.kind, "Content-Length": str(length), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)
        self.close_connection = answer.length is not None


class RawBedrock:
    """Gives its answers one after the other, the last one again and again; `requests` are the bodies that it got."""

    def __init__(self, *answers):
        self._answers = list(answers)

    def __enter__(self):
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self.requests = self._server.requests = []
        self._server.answers = self._answers
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def arguments(self):
        """What a retriever, chain or engine needs to reach it."""
        return {
            "endpoint_url": f"http://127.0.0.1:{self._server.server_address[1]}", "region_name": "us-east-1",
            "aws_access_key_id": "AKIA", "aws_secret_access_key": "secret", "max_retries": 0,
        }  # fmt: skip
