"""A server over HTTPS that keeps the headers of each request. The emulator hides some of them."""

from __future__ import annotations

import contextlib
import json
import re
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = "us.anthropic.claude-3-haiku-20240307-v1:0"
PROFILE = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abcdefghijkl"


class Recorder(BaseHTTPRequestHandler):
    """Answers every Converse with the prompt."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes

    def log_message(self, *args):
        pass

    def do_GET(self):
        models = [{"modelArn": f"arn:aws:bedrock:us-east-1::foundation-model/{MODEL.removeprefix('us.')}"}]
        self.server.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        self.answer({
            "inferenceProfileName": "team", "inferenceProfileArn": PROFILE, "inferenceProfileId": "abcdefghijkl",
            "models": models, "status": "ACTIVE", "type": "APPLICATION",
        })  # fmt: skip

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = request["messages"][0]["content"][0]["text"]
        self.server.seen.append((text, {name.lower(): value for name, value in self.headers.items()}))
        self.answer({
            "output": {"message": {"role": "assistant", "content": [{"text": text}]}}, "stopReason": "end_turn",
            "usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}, "metrics": {"latencyMs": 1},
        })  # fmt: skip

    def answer(self, payload):
        body = json.dumps(payload).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """A client that does not trust the certificate hangs up; that is its own business."""


@contextlib.contextmanager
def recording(authority):
    """The server, with a certificate of the authority; `seen` has (text or path, headers), `url` is where it is."""
    server = Server(("127.0.0.1", 0), Recorder)
    server.seen = []
    server.url = f"https://127.0.0.1:{server.server_address[1]}"
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(client, text="hello", **more):
    messages = [{"role": "user", "content": [{"text": text}]}]
    return client.converse(modelId=MODEL, messages=messages, **more)


def key_used(recorder, index=-1):
    """The access key id, or the bearer token, of a request."""
    authorization = recorder.seen[index][1]["authorization"]
    signed = re.search(r"Credential=([^/]+)/", authorization)
    return signed[1] if signed else authorization
