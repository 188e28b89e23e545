"""Replay exchanges that were recorded from the real Amazon Bedrock.

The recordings are one JSON file for each exchange, in a folder next to the repository (``../shared/recordings``) or
wherever ``BEDROCK_RECORDINGS`` points. Nothing of them is in the repository.

`RecordedBedrock` is a loopback server that answers with a recording's status, headers and body or raw event-stream
bytes, and keeps the requests it got. What a recording means is read here from its JSON alone: `recorded_answer` and
`recorded_events` share no code with the package, so that a misreading cannot hide in both.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import re
import threading
import urllib.parse
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import botocore.session
import pytest
from botocore.config import Config
from independent_server import frame

ROOT = Path(__file__).resolve().parent.parent


def recordings_folder():
    """Return the folder with the recordings, or None where there is none."""
    folder = Path(os.environ.get("BEDROCK_RECORDINGS") or ROOT.parent / "shared" / "recordings")
    return folder if (folder / "index.tsv").is_file() else None


REPLAYED = [
    pytest.mark.sweep,
    pytest.mark.skipif(recordings_folder() is None, reason="no recordings beside the repository (BEDROCK_RECORDINGS)"),
]
"""Marks of the tests that replay recordings."""


@dataclass(frozen=True, eq=False)
class Recording:
    """A recorded exchange."""

    name: str
    service: str
    operation: str
    path: str
    body: dict
    response: dict
    notes: tuple[str, ...]

    @property
    def model_id(self):
        """The model id or ARN that was called."""
        return self.path.removeprefix("/model/").rpartition("/")[0]

    @property
    def status(self):
        """The HTTP status of the response."""
        return self.response["status"]

    @property
    def is_doubtful(self):
        """Whether the recording seems to be edited by hand."""
        return any("DOUBTFUL" in note for note in self.notes)

    @property
    def is_stream(self):
        """Whether the response is an event stream."""
        return "events" in self.response

    @functools.cached_property
    def event_stream(self):
        """The bytes of the event stream."""
        if "raw_base64" in self.response:
            return base64.b64decode(self.response["raw_base64"])
        return b"".join(frame(kind, payload) for kind, payload in self.response["events"])


@functools.cache
def recordings(*operations):
    """Return the recordings of the operations, sorted by name."""
    folder, recordings = recordings_folder(), []
    if folder is None:
        return []
    for line in (folder / "index.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        file, _, service, operation = line.split("\t")[:4]
        if operation in operations:
            content = json.loads((folder / file).read_text(encoding="utf-8"))
            request = content["request"]
            # One request was recorded as text that is cut off.
            body = request["body"] if isinstance(request["body"], dict) and "_text" not in request["body"] else None
            recordings.append(
                Recording(
                    name=file.removesuffix(".json"),
                    service=service,
                    operation=operation,
                    path=urllib.parse.unquote(request["path"]),
                    body=body,
                    response=content["response"],
                    notes=tuple(content.get("notes", ())),
                )
            )
    return sorted(recordings, key=lambda recording: recording.name)


def answers(*operations):
    """Return the recordings of answers (status 200, no exception in the stream), doubtful ones too."""
    return [recording for recording in recordings(*operations) if recording.status == 200 and not _exception(recording)]


def refusals(*operations):
    """Return the recordings of errors: a status that is not 200, or an exception as an event of a stream."""
    return [recording for recording in recordings(*operations) if recording.status != 200 or _exception(recording)]


def one_of_each_kind(recordings):
    """Return one recording of each provider's each sequence of content blocks, stream or not."""
    kinds = {}
    for recording in recordings:
        provider = re.sub(r"^(us|global)\.", "", recording.model_id).partition(".")[0]
        blocks = [_kind(block) for block in recorded_blocks(recording)]
        kinds.setdefault(str((provider, recording.is_stream, blocks)), recording)
    return list(kinds.values())


def in_json(value):
    """Return a value of boto3's as JSON has it: blobs in base64."""
    if isinstance(value, dict):
        return {name: in_json(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [in_json(item) for item in value]
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _kind(block):
    (kind, value), *_ = block.items()
    if kind == "text":
        return kind, bool(value.strip()), "<thinking>" in value
    return kind, value.get("type"), sorted(value), sorted(value.get("reasoningText", ()))


def _exception(recording):
    return next((event for event in recording.response.get("events", ()) if event[0].endswith("Exception")), None)


# --- the server ---


_DENIED = 403, {"x-amzn-errortype": "AccessDeniedException"}, b'{"message": "not authorized"}'


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes

    def log_message(self, *args):
        pass

    def do_GET(self):
        """Deny every look-up: no recording has one."""
        self._send(*_DENIED)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((urllib.parse.unquote(self.path), json.loads(body or b"{}")))
        self._send(*_response_to(self.path, self.server.recording))

    def _send(self, status, headers, content):
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in _TRANSFER_HEADERS:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


# What belongs to the connection over which a response was recorded, not to the response.
_TRANSFER_HEADERS = {"content-length", "transfer-encoding", "connection", "content-encoding", "keep-alive"}


def _response_to(path, recording):
    """Return the status, headers and content of the recorded response, in the form that the path asks for."""
    headers = recording.response["headers"]
    if path.endswith("/count-tokens") and recording.operation != "CountTokens":
        return _DENIED
    if recording.status == 200 and path.endswith("/converse") and recording.is_stream:
        return 200, {"Content-Type": "application/json"}, json.dumps(whole_of(recording)).encode()
    if recording.status == 200 and path.endswith("/converse-stream") and not recording.is_stream:
        content = b"".join(frame(kind, payload) for kind, payload in events_of(recording))
        return 200, {"Content-Type": "application/vnd.amazon.eventstream"}, content
    if recording.is_stream:
        return recording.status, headers, recording.event_stream
    return recording.status, headers, json.dumps(recording.response["body"]).encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True


class RecordedBedrock:
    """Answer every request with the recording set last by `play`; `requests` has the path and body of each since.

    Converse for an answer that was recorded as a stream returns what its events add up to; ConverseStream for one that
    was not returns the same answer in pieces.
    """

    def __enter__(self):
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.requests = []
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self._clients = {}
        return self

    def __exit__(self, *error):
        for client in self._clients.values():
            client.close()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def requests(self):
        return self._server.requests

    def play(self, recording):
        """Answer with this recording from now on."""
        self._server.recording = recording
        self._server.requests.clear()

    def client(self, service="bedrock-runtime"):
        """Return a boto3 client for this server, one for each service, that sends each request once."""
        if service not in self._clients:
            session = boto3.Session("AKIA", "secret", region_name="us-east-1")
            config = Config(retries={"total_max_attempts": 1, "mode": "standard"})
            self._clients[service] = session.client(service, endpoint_url=self.url, config=config)
        return self._clients[service]


# --- requests and responses in boto3's form ---


@functools.cache
def _service_model(service):
    return botocore.session.get_session().get_service_model(service)


def recorded_request(recording):
    """Return the arguments with which boto3 sends the recorded request."""
    model = _service_model(recording.service).operation_model(recording.operation)
    # A model's ARN has slashes.
    path = re.sub(r"\{(\w+)\}", r"(?P<\1>.+)", model.http["requestUri"])
    return {**_in_boto3_form(model.input_shape, recording.body or {}), **re.fullmatch(path, recording.path).groupdict()}


def same_request(recording, body):
    """Return whether a request's body equals the recorded one, in any order. Members that are null are ignored."""
    model = _service_model(recording.service).operation_model(recording.operation)
    return _in_boto3_form(model.input_shape, body) == _in_boto3_form(model.input_shape, recording.body)


def recorded_response(recording):
    """Return the recorded response as boto3 gives it, without ``ResponseMetadata``."""
    model = _service_model(recording.service).operation_model(recording.operation)
    return _in_boto3_form(model.output_shape, recording.response["body"])


def recorded_content(recording):
    """Return the content blocks of a recorded answer as boto3 takes and gives them."""
    message = _service_model(recording.service).shape_for("Message")
    return _in_boto3_form(message.members["content"], recorded_blocks(recording))


def recorded_events(recording):
    """Return the events of a recorded stream as boto3 gives them."""
    model = _service_model(recording.service).operation_model(recording.operation)
    union = model.get_event_stream_output()
    return [{kind: _in_boto3_form(union.members[kind], payload)} for kind, payload in recording.response["events"]]


def _in_boto3_form(shape, value):
    """Decode blobs, and leave out null and members that the installed botocore does not know."""
    if shape.type_name == "structure" and not getattr(shape, "is_document_type", False):
        members = {name: member for name, member in shape.members.items() if value.get(name) is not None}
        return {name: _in_boto3_form(member, value[name]) for name, member in members.items()}
    if shape.type_name == "list":
        return [_in_boto3_form(shape.member, item) for item in value]
    if shape.type_name == "map":
        return {key: _in_boto3_form(shape.value, item) for key, item in value.items()}
    return base64.b64decode(value) if shape.type_name == "blob" else value


# --- the content of an answer ---


@dataclass(frozen=True)
class Citation:
    """A citation: the title and text of its source, where in the source, and the answer's text that rests on it."""

    title: str
    quoted: str
    location: dict
    answer_text: str


@dataclass(frozen=True)
class Tokens:
    """The tokens of an answer."""

    input: int
    output: int
    cache_read: int
    cache_write: int
    cache_write_1h: int

    @property
    def prompt(self):
        """The whole prompt, cached tokens included."""
        return self.input + self.cache_read + self.cache_write

    @property
    def total(self):
        """The prompt and the answer."""
        return self.prompt + self.output


@dataclass
class Answer:
    """The content of a recorded answer.

    Attributes:
        text: All text, cited text included.
        calls: Id, name and arguments of each tool call that is the caller's to run.
        unclosed: Those of the calls that ``max_tokens`` cut: the last block of an answer that ended so.
        server_calls: Ids of the tools that Bedrock ran.
        reasoning: Text, signature and redacted content (base64) of each reasoning block; None where there is none.
        citations: The citations in their order.
        tokens: The tokens, or None where none were recorded.
    """

    text: str = ""
    calls: list = field(default_factory=list)
    unclosed: list = field(default_factory=list)
    server_calls: list = field(default_factory=list)
    reasoning: list = field(default_factory=list)
    citations: list = field(default_factory=list)
    stop_reason: str | None = None
    tokens: Tokens | None = None


def recorded_answer(recording):
    """Return the content of a recorded answer of Converse or ConverseStream."""
    if recording.is_stream:
        last = {kind: payload for kind, payload in recording.response["events"] if kind in ("messageStop", "metadata")}
        blocks = recorded_blocks(recording)
        return _answer(blocks, last["messageStop"]["stopReason"], last["metadata"].get("usage"))
    body = recording.response["body"]
    return _answer(recorded_blocks(recording), body.get("stopReason"), body.get("usage"))


def recorded_blocks(recording):
    """Return the content blocks of a recorded answer, as JSON in the form of Converse."""
    if recording.is_stream:
        return blocks_of(recording.response["events"])
    return recording.response["body"].get("output", {}).get("message", {}).get("content", [])


def blocks_of(events):
    """Return the content blocks that the events of a stream add up to; each event is a kind and a payload."""
    parts = {}
    for kind, payload in events:
        if kind == "contentBlockStart":
            parts.setdefault(payload["contentBlockIndex"], []).append(payload["start"])
        elif kind == "contentBlockDelta":
            parts.setdefault(payload["contentBlockIndex"], []).append(payload["delta"])
    return [_joined(parts[index]) for index in sorted(parts)]


def whole_of(recording):
    """Return the response of Converse that the events of a recorded stream add up to."""
    rest = {kind: payload for kind, payload in recording.response["events"] if kind in ("messageStop", "metadata")}
    message = {"role": "assistant", "content": recorded_blocks(recording)}
    return {"output": {"message": message}, **rest["messageStop"], **rest["metadata"]}


def events_of(recording):
    """Return the events in which a recorded response of Converse could have been streamed."""
    body, events = recording.response["body"], [("messageStart", {"role": "assistant"})]
    for index, block in enumerate(recorded_blocks(recording)):
        start, deltas = _streamed(block)
        if start:
            events.append(("contentBlockStart", {"contentBlockIndex": index, "start": start}))
        events += [("contentBlockDelta", {"contentBlockIndex": index, "delta": delta}) for delta in deltas]
        events.append(("contentBlockStop", {"contentBlockIndex": index}))
    rest = {name: value for name, value in body.items() if name not in ("output", "stopReason", _RESPONSE_FIELDS)}
    fields = {_RESPONSE_FIELDS: body[_RESPONSE_FIELDS]} if _RESPONSE_FIELDS in body else {}
    return [*events, ("messageStop", {"stopReason": body["stopReason"], **fields}), ("metadata", rest)]


_RESPONSE_FIELDS = "additionalModelResponseFields"


def _streamed(block):
    """Return the start (None where the kind has none) and the deltas of a content block, in the forms of recordings."""
    (kind, value), *_ = block.items()
    if kind == "text":
        return None, [{"text": piece} for piece in _pieces(value)]
    if kind == "citationsContent":
        text = "".join(part["text"] for part in value.get("content", ()))
        cited = [{"text": piece} for piece in _pieces(text)] if text else []
        return None, cited + [{"citation": citation} for citation in value["citations"]]
    if kind == "reasoningContent":
        if "redactedContent" in value:
            return None, [{kind: value}]
        written = value["reasoningText"]
        signature = [{kind: {"signature": written["signature"]}}] if "signature" in written else []
        return None, [*({kind: {"text": piece}} for piece in _pieces(written["text"])), *signature]
    if kind == "toolResult":
        rest = {name: inner for name, inner in value.items() if name != "content"}
        return {kind: rest}, [{kind: value["content"]}]
    assert kind == "toolUse", f"a kind of block that no recording had: {block}"
    start = {name: inner for name, inner in value.items() if name != "input"}
    return {kind: start}, [{kind: {"input": piece}} for piece in _pieces(json.dumps(value["input"]))]


def _pieces(text):
    """Return the text in at most three pieces."""
    size = len(text) // 3 + 1
    return [text[start : start + size] for start in range(0, len(text), size)] or [""]


def _joined(parts):
    """Return the content block that the start and the deltas of one index add up to."""
    kinds = {kind for part in parts for kind in part}
    text = "".join(part.get("text", "") for part in parts)
    if "citation" in kinds:
        content = {"content": [{"text": text}]} if "text" in kinds else {}
        return {
            "citationsContent": {**content, "citations": [part["citation"] for part in parts if "citation" in part]}
        }
    if "toolUse" in kinds:
        arguments = "".join(part["toolUse"].get("input", "") for part in parts)
        return {"toolUse": {**parts[0]["toolUse"], "input": json.loads(arguments or "{}")}}
    if "toolResult" in kinds:
        content = [item for part in parts[1:] for item in part["toolResult"]]
        return {"toolResult": {**parts[0]["toolResult"], "content": content}}
    if "reasoningContent" in kinds:
        reasoning = [part["reasoningContent"] for part in parts]
        redacted = b"".join(base64.b64decode(part.get("redactedContent", "")) for part in reasoning)
        if redacted:
            return {"reasoningContent": {"redactedContent": base64.b64encode(redacted).decode()}}
        joined = {name: "".join(part.get(name, "") for part in reasoning) for name in ("text", "signature")}
        return {"reasoningContent": {"reasoningText": {name: value for name, value in joined.items() if value}}}
    return {"text": text}


def _answer(blocks, stop_reason, usage):
    answer = Answer(stop_reason=stop_reason, tokens=_tokens(usage))
    for number, block in enumerate(blocks):
        if "text" in block:
            answer.text += block["text"]
        elif "citationsContent" in block:
            cited = "".join(part["text"] for part in block["citationsContent"].get("content", ()))
            answer.text += cited
            answer.citations += [_citation(each, cited) for each in block["citationsContent"]["citations"]]
        elif "toolUse" in block:
            call = block["toolUse"]
            if call.get("type") == "server_tool_use":
                answer.server_calls.append(call["toolUseId"])
            elif stop_reason == "max_tokens" and number == len(blocks) - 1:
                answer.unclosed.append((call["toolUseId"], call["name"]))
            else:
                answer.calls.append((call["toolUseId"], call["name"], call.get("input") or {}))
        elif "reasoningContent" in block:
            reasoning = block["reasoningContent"]
            text = reasoning.get("reasoningText", {})
            answer.reasoning.append(
                (text.get("text") or None, text.get("signature") or None, reasoning.get("redactedContent"))
            )
        else:
            assert set(block) <= {"toolResult"}, f"a kind of block that no recording had: {block}"
    return answer


def _citation(citation, cited):
    quoted = "".join(part.get("text", "") for part in citation.get("sourceContent", ()))
    return Citation(citation.get("title", ""), quoted, citation.get("location", {}), cited)


def _tokens(usage):
    if not usage or "inputTokens" not in usage:
        return None
    written = usage.get("cacheWriteInputTokens", 0)
    one_hour = sum(each["inputTokens"] for each in usage.get("cacheDetails", ()) if each["ttl"] == "1h")
    tokens = Tokens(
        usage["inputTokens"], usage["outputTokens"], usage.get("cacheReadInputTokens", 0), written, one_hour
    )
    assert tokens.total == usage["totalTokens"]
    return tokens


def recorded_refusal(recording):
    """Return the code and message of a recorded error, as boto3 names them."""
    event = _exception(recording)
    if event is not None:
        return event[0], event[1]["message"]
    headers = {name.lower(): value for name, value in recording.response["headers"].items()}
    # Some recorders keep no headers. boto3 then has the status for the code.
    code = headers.get("x-amzn-errortype", str(recording.status)).partition(":")[0]
    return code, recording.response["body"]["message"]


# --- conversations ---


@dataclass(frozen=True)
class Conversation:
    """Calls of one conversation in their order: each has the messages of the one before, and more.

    Attributes:
        name: The name that the recordings share.
        model_id: The model that all calls go to.
        calls: The recordings; `recorded_request` and `recorded_answer` read them. ``recorded_answer(call).tokens``
            has the prompt's tokens, ``prompt`` being all of them, cached ones included.
    """

    name: str
    model_id: str
    calls: tuple[Recording, ...]


def recorded_conversations(minimum=2):
    """Yield the conversations of at least `minimum` answered calls, the longest first.

    Recordings of one source test belong together where each one's messages begin with the messages of the one before;
    tools and system may change on the way.
    """
    groups = {}
    for recording in answers("Converse", "ConverseStream"):
        numbered = re.fullmatch(r"(.+)\.(\d+)", recording.name)
        if numbered and recording.body and not recording.is_doubtful and recorded_answer(recording).tokens:
            groups.setdefault((numbered[1], recording.model_id), []).append((int(numbered[2]), recording))
    conversations = []
    for (name, model_id), group in groups.items():
        chains = []
        for _, recording in sorted(group, key=lambda item: item[0]):
            chain = next((chain for chain in reversed(chains) if _continues(chain[-1], recording)), None)
            if chain is None:
                chains.append([recording])
            else:
                chain.append(recording)
        conversations += [Conversation(name, model_id, tuple(chain)) for chain in chains if len(chain) >= minimum]
    return sorted(conversations, key=lambda conversation: -len(conversation.calls))


def _continues(earlier, later):
    before, after = earlier.body["messages"], later.body["messages"]
    return len(after) > len(before) and after[: len(before)] == before
