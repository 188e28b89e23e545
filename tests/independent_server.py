"""A second Bedrock, written from the wire protocol alone with nothing but the standard library.

It shares no line with the package's emulator, so that a misreading of the protocol cannot hide in both. It knows one
default router, one application profile and one plain model, and answers with fixed texts.
"""

from __future__ import annotations

import json
import struct
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

ACCOUNT = "210987654321"
HAIKU = "anthropic.claude-3-haiku-20240307-v1:0"
SONNET = "anthropic.claude-3-5-sonnet-20240620-v1:0"
ROUTER = f"arn:aws:bedrock:us-east-1:{ACCOUNT}:default-prompt-router/anthropic.claude:1"
PROFILE = f"arn:aws:bedrock:us-east-1:{ACCOUNT}:application-inference-profile/abcdefghijkl"


def profile_arn(model):
    return f"arn:aws:bedrock:us-east-1:{ACCOUNT}:inference-profile/us.{model}"


def frame(kind, payload, message_type="event"):
    """Return a message of application/vnd.amazon.eventstream: prelude, headers, payload, two CRCs."""
    names = {
        ":exception-type" if message_type == "exception" else ":event-type": kind,
        ":content-type": "application/json",
        ":message-type": message_type,
    }
    headers = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack("!H", len(value)) + value.encode()
        for name, value in names.items()
    )
    body = json.dumps(payload).encode()
    prelude = struct.pack("!II", 16 + len(headers) + len(body), len(headers))
    prelude += struct.pack("!I", zlib.crc32(prelude))
    message = prelude + headers + body
    return message + struct.pack("!I", zlib.crc32(message))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.server.seen.append(("GET", unquote(self.path)))
        path = unquote(self.path)
        if path == f"/prompt-routers/{ROUTER}":
            self.send_json(200, {
                "promptRouterName": "Anthropic Router", "routingCriteria": {"responseQualityDifference": 0.26},
                "createdAt": "2024-11-20T00:00:00Z", "updatedAt": "2024-11-20T00:00:00Z", "promptRouterArn": ROUTER,
                "models": [{"modelArn": profile_arn(HAIKU)}, {"modelArn": profile_arn(SONNET)}],
                "fallbackModel": {"modelArn": profile_arn(SONNET)}, "status": "AVAILABLE", "type": "default",
            })  # fmt: skip
        elif path == f"/inference-profiles/{PROFILE}":
            self.send_json(200, {
                "inferenceProfileName": "team", "inferenceProfileArn": PROFILE, "inferenceProfileId": "abcdefghijkl",
                "models": [{"modelArn": f"arn:aws:bedrock:{region}::foundation-model/{HAIKU}"}
                           for region in ("us-east-1", "us-west-2")],
                "status": "ACTIVE", "type": "APPLICATION",
            })  # fmt: skip
        else:
            self.send_json(404, {"message": "not found"}, error="ResourceNotFoundException")

    def do_POST(self):
        path = unquote(self.path)
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append(("POST", path))
        model_id, _, operation = path.removeprefix("/model/").rpartition("/")
        prompt = request["messages"][-1]["content"][0]["text"]
        answer = self.answer(model_id, prompt)
        if answer is None:
            self.send_json(400, {"message": "The provided model identifier is invalid."}, error="ValidationException")
        elif operation == "converse":
            self.send_json(200, answer)
        else:
            self.send_stream(answer, cut="cut the stream" in prompt)

    def answer(self, model_id, prompt):
        small = "hello world" in prompt
        trace = {}
        if model_id == ROUTER:
            trace = {"trace": {"promptRouter": {"invokedModelId": profile_arn(HAIKU if small else SONNET)}}}
        elif model_id not in (PROFILE, HAIKU):
            return None
        return {
            "output": {"message": {"role": "assistant", "content": [{"text": f"You said: {prompt}"}]}},
            "stopReason": "end_turn", "usage": {"inputTokens": 27, "outputTokens": 160, "totalTokens": 187},
            "metrics": {"latencyMs": 4504}, "performanceConfig": {"latency": "standard"}, **trace,
        }  # fmt: skip

    def send_json(self, status, payload, error=None):
        body = json.dumps(payload).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-amzn-RequestId", "11111111-2222-3333-4444-555555555555")
        if error:
            self.send_header("x-amzn-errortype", error)
        self.end_headers()
        self.wfile.write(body)

    def send_stream(self, answer, cut):
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.amazon.eventstream")
        self.send_header("x-amzn-RequestId", "11111111-2222-3333-4444-555555555555")
        self.send_header("Connection", "close")
        self.end_headers()
        text = answer["output"]["message"]["content"][0]["text"]
        frames = [frame("messageStart", {"role": "assistant", "p": "abc"})]
        frames += [
            frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": word}, "p": "abcdefgh"})
            for word in text.split(" ")
        ]
        if not cut:
            rest = {name: answer[name] for name in ("usage", "metrics", "trace", "performanceConfig") if name in answer}
            frames += [
                frame("contentBlockStop", {"contentBlockIndex": 0}),
                frame("messageStop", {"stopReason": "end_turn"}),
                frame("metadata", {**rest, "p": "abcd"}),
            ]
        self.wfile.write(b"".join(frames))
        self.close_connection = True


class IndependentBedrock:
    def __enter__(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.seen = self.server.seen = []
        self.endpoint_url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
