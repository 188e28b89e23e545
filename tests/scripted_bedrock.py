"""A Bedrock that answers what a test tells it to, for what no emulated model says. Standard library only."""

from __future__ import annotations

import itertools
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from independent_server import frame


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

    def log_message(self, *args):
        pass

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(request)
        answer = next(self.server.answers)
        self.send_response(200)
        if isinstance(answer, dict):
            body = json.dumps(answer).encode()
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_header("Content-Type", "application/vnd.amazon.eventstream")
        self.send_header("Connection", "close")
        self.end_headers()
        for event in answer:
            if isinstance(event, threading.Event):
                event.wait(20)
            else:
                self.wfile.write(frame(*event))
        self.close_connection = True


class ScriptedBedrock:
    """Gives its answers one after the other, the last one again and again.

    An answer is a Converse response, or the events of a stream; a `threading.Event` among those is waited for.
    """

    def __init__(self, *answers):
        self._answers = itertools.chain(answers, itertools.repeat(answers[-1]))

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
        """What an LLM needs to reach it."""
        return {
            "endpoint_url": f"http://127.0.0.1:{self._server.server_address[1]}", "region_name": "us-east-1",
            "aws_access_key_id": "AKIA", "aws_secret_access_key": "secret", "max_retries": 0,
        }  # fmt: skip
