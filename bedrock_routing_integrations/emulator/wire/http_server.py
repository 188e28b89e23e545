"""Serve the emulator over HTTP: read requests, find their operations, write responses and streams, apply faults."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import socket
import struct
import threading
import time
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from aiohttp import web

from bedrock_routing_integrations.emulator.service.journal import Entry
from bedrock_routing_integrations.emulator.service.targets import Place

from . import event_stream as eventstream
from .service_model import ServiceError, service_models

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from bedrock_routing_integrations.emulator.service.faults import Fault, Faults, Plan
    from bedrock_routing_integrations.emulator.service.journal import InvocationLog, Journal

    from .service_model import Operation

    Handler = Callable[[Mapping[str, Any], Place], dict[str, Any]]


_log = logging.getLogger(__name__)
_MAX_BODY_BYTES = 64 * 1024 * 1024
# Frames without a pause between them are written together, up to this many bytes.
_WRITE_BYTES = 8 * 1024
_CREDENTIAL = re.compile(r"Credential=[^/\s,]+/\d+/([a-z0-9-]+)/")
# SO_LINGER on, zero seconds: closing the socket sends RST instead of FIN.
_RESET = struct.pack("ii", 1, 0)


class Outcome(Protocol):
    """Define the response of a model, whole or as a stream."""

    @property
    def model_id(self) -> str:
        """The invoked model's id."""

    @property
    def difficulty(self) -> float | None:
        """The router's estimate of the prompt's difficulty, 0 to 1, or None without a router."""

    @property
    def served_latency(self) -> str:
        """The served latency: "standard" or "optimized"."""

    @property
    def first_token_ms(self) -> float:
        """Simulated milliseconds until the first token."""

    @property
    def latency_ms(self) -> float:
        """Simulated milliseconds until the last token."""

    @property
    def head(self) -> Mapping[str, Any]:
        """The members that a streamed response sends as headers."""

    def answer(self) -> dict[str, Any]:
        """Return the whole response."""

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the stream's events as (name, members)."""


class Model(Protocol):
    """Define the function that answers an operation by invoking a model."""

    def __call__(self, request: Mapping[str, Any], place: Place, *, streaming: bool) -> Outcome:
        """Answer a request.

        Args:
            request: The members of the request.
            place: The Region and account of the request.
            streaming: Whether the response is an event stream.

        Raises:
            ServiceError: Bedrock would refuse the request.
        """


class _Call(NamedTuple):
    """A request while the server handles the request."""

    request: web.BaseRequest
    entry: Entry
    operation: Operation
    members: dict[str, Any]
    labels: list[str]
    place: Place
    padding: eventstream.Padding


def _without_traceback(record: logging.LogRecord) -> bool:
    """Filter aiohttp's log: reduce an error about invalid HTTP to one line, because the client caused the error."""
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        record.msg, record.args = f"{record.getMessage()}: {' '.join(str(error).split())}", None
        record.exc_info = record.exc_text = None
    return True


_http_log = logging.getLogger(f"{__name__}.http")
_http_log.addFilter(_without_traceback)


class HttpServer:
    """An aiohttp request handler that plays Bedrock.

    Args:
        handlers: Operation name → handler, for operations that invoke no model.
        models: Operation name → handler, for operations that invoke a model.
        milliseconds: Operation name → simulated milliseconds until a handler's response, 0 if missing.
        faults: The faults to apply.
        journal: Records the requests.
        place: The emulator's own Region and account.
        time_scale: Real seconds to wait for each simulated second.
        invocation_log: Logs the model invocations. None (the default) writes no log.
    """

    def __init__(
        self,
        *,
        handlers: Mapping[str, Handler],
        models: Mapping[str, Model],
        milliseconds: Mapping[str, float],
        faults: Faults,
        journal: Journal,
        place: Place,
        time_scale: float,
        invocation_log: InvocationLog | None = None,
    ) -> None:
        self._handlers = handlers
        self._answering = models
        self._milliseconds = milliseconds
        self._faults = faults
        self._journal = journal
        self._place = place
        self._time_scale = time_scale
        self._invocation_log = invocation_log
        self._models = service_models()
        self._stopping = False

    def aiohttp_server(self, loop: asyncio.AbstractEventLoop) -> web.Server:
        """Return the protocol factory for `loop.create_server`."""

        def make_request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
            return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=_MAX_BODY_BYTES)

        return web.Server(
            self.handle,
            request_factory=make_request,
            handler_cancellation=True,
            loop=loop,
            access_log=None,
            logger=_http_log,
            # ARNs in paths and headers fit easily: an id in a Converse path may have 2,048 characters.
            max_line_size=16_384,
        )

    def stopping(self) -> None:
        """Attribute cancellations from now on to the server's stop, not to a client that hung up."""
        self._stopping = True

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Return the HTTP response to a request, and record the request in the journal."""
        entry = _new_entry(request, self._place.region)
        self._journal.begin(entry)
        try:
            return await self._answer(request, entry)
        except ServiceError as error:
            entry.error = error.name
            if self._invocation_log is not None:
                self._invocation_log.refused(entry, error.name)
            return _json_response(error.status, json.dumps({"message": error.message}).encode(), entry, error.name)
        except (ConnectionError, asyncio.CancelledError):
            entry.client_closed = not self._stopping and entry.error != "reset"
            raise
        except Exception as error:  # noqa: BLE001 - a bug of the emulator: respond 500 instead of hanging up
            _log.exception("The emulator failed on %s %s", entry.method, entry.path)
            entry.error = repr(error)
            body = json.dumps({"message": f"The emulator failed: {error!r}"}).encode()
            return _json_response(500, body, entry, "InternalServerException")
        finally:
            self._journal.end(entry)

    async def _answer(self, request: web.BaseRequest, entry: Entry) -> web.StreamResponse:
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge as error:
            raise ServiceError("RequestEntityTooLargeException", "The request body is too large", 413) from error
        except web.RequestPayloadError as error:  # e.g. Content-Encoding: gzip on a body that is not gzip
            why = " ".join(str(error).split()).removeprefix("400, message: ")
            raise ServiceError("SerializationException", f"The request body cannot be read: {why}") from error
        entry.started = time.monotonic()
        call = self._understand(request, entry, body)
        plan = self._faults.plan(call.operation.name, call.labels)
        if plan.in_flight is not None:
            await self._journal.crowd(plan.in_flight, plan.delay)
        elif plan.delay:
            await asyncio.sleep(plan.delay)
        if plan.fault is not None:
            await self._strike(call, plan.fault)
        model = self._answering.get(call.operation.name)
        if model is not None:
            return await self._ask(model, call, plan)
        handler = self._handlers.get(call.operation.name)
        if handler is None:
            raise ServiceError("NotImplementedException", f"The emulator does not implement {call.operation.name}", 501)
        answer = call.operation.serialize(handler(call.members, call.place))
        entry.latency_ms = self._milliseconds.get(call.operation.name)
        await self._simulate(entry.latency_ms or 0.0)
        return _json_response(call.operation.status, answer, entry)

    def _understand(self, request: web.BaseRequest, entry: Entry, body: bytes) -> _Call:
        """Find the operation, check the authorization, and parse the members.

        Raises:
            ServiceError: The request is not valid.
        """
        path, _, query = request.raw_path.partition("?")
        found = self._models.find(request.method, path)
        if found is not None:
            entry.service, entry.operation = found[0].service, found[0].name
        _check_authorization(entry)
        if found is None:
            raise ServiceError("UnknownOperationException", f"There is no operation {request.method} {path}")
        operation, labels = found
        entry.request = members = operation.parse(labels, query, body)
        place = Place(entry.region, self._place.account)
        padding = eventstream.Padding(zlib.crc32(body))
        return _Call(request, entry, operation, members, [*labels.values(), *_named(members)], place, padding)

    async def _strike(self, call: _Call, fault: Fault) -> None:
        """Apply a fault that replaces the response. `_stream` applies the faults that break streams."""
        error = fault.error(call.operation.name, call.place.account, call.place.region, call.labels)
        if error is not None:
            raise error
        if fault.kind not in {"hang", "reset"}:
            return
        call.entry.error = fault.kind
        transport = call.request.transport
        if fault.kind == "reset" and transport is not None:
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            transport.abort()
        # Wait until the client hangs up (a reset does so at once) or the emulator stops. Both cancel this task.
        await asyncio.Event().wait()

    # --- Responses of models ---

    async def _ask(self, model: Model, call: _Call, plan: Plan) -> web.StreamResponse:
        outcome = model(call.members, call.place, streaming=call.operation.streams)
        entry = call.entry
        entry.difficulty, entry.invoked = outcome.difficulty, outcome.model_id
        entry.served_latency, entry.latency_ms = outcome.served_latency, outcome.latency_ms
        if self._invocation_log is not None:
            self._invocation_log.answered(entry, outcome.answer())
        if call.operation.streams:
            return await self._stream(call, plan, outcome)
        await self._simulate(outcome.latency_ms)
        return _json_response(call.operation.status, call.operation.serialize(outcome.answer()), call.entry)

    async def _simulate(self, milliseconds: float) -> None:
        if self._time_scale > 0:
            await asyncio.sleep(milliseconds / 1000 * self._time_scale)

    async def _stream(self, call: _Call, plan: Plan, outcome: Outcome) -> web.StreamResponse:
        frames = _break(list(_frames(call, outcome)), plan.fault)
        if plan.fault is not None:
            call.entry.error = plan.fault.kind
        await self._simulate(outcome.first_token_ms)
        headers = {**_headers(call.entry), **call.operation.answer_headers(outcome.head)}
        response = web.StreamResponse(status=call.operation.status, headers=headers)
        response.content_type = eventstream.CONTENT_TYPE
        call.entry.status = call.operation.status
        await response.prepare(call.request)
        between = self._time_scale * (outcome.latency_ms - outcome.first_token_ms) / 1000 / max(1, len(frames))
        try:
            async for data in _paced(frames, plan.pause + between):
                await response.write(data)
                call.entry.streamed_bytes += len(data)
        except ConnectionError:  # the client has hung up, which clients may do at any time
            call.entry.client_closed = True
            return response
        if plan.fault is not None and plan.fault.details.get("abrupt") and call.request.transport is not None:
            await asyncio.sleep(0.01)  # let the event loop send the written frames first
            call.request.transport.abort()
            return response
        await response.write_eof()
        return response


def _named(members: Mapping[str, Any]) -> Iterator[str]:
    """Yield the targets in the body of a RetrieveAndGenerate request: a knowledge base, a model."""
    configuration = members.get("retrieveAndGenerateConfiguration", {})
    for part in configuration.values():
        if isinstance(part, dict):
            yield from (part[name] for name in ("knowledgeBaseId", "modelArn") if name in part)


def _new_entry(request: web.BaseRequest, region: str) -> Entry:
    headers = {name.lower(): value for name, value in request.headers.items()}
    authorization = headers.pop("authorization", "")
    credential = _CREDENTIAL.search(authorization)
    entry = Entry(request.method, request.raw_path, headers)
    entry.region = credential[1] if credential else region
    if authorization.startswith("Bearer ") and authorization[7:].strip():
        entry.authorization = "bearer"
    elif authorization:
        entry.authorization = "sigv4" if authorization.startswith("AWS4-") and credential else "other"
    return entry


def _check_authorization(entry: Entry) -> None:
    """Refuse a request without a signature or bearer token. Any signature and any bearer token is accepted."""
    if not entry.authorization:
        raise ServiceError("MissingAuthenticationTokenException", "Missing Authentication Token")
    if entry.authorization == "other":
        raise ServiceError(
            "IncompleteSignatureException",
            "The Authorization header is neither a signature nor a bearer token",
        )


def _headers(entry: Entry) -> dict[str, str]:
    return {"x-amzn-requestid": entry.request_id}


def _json_response(status: int, body: bytes, entry: Entry, error: str | None = None) -> web.Response:
    entry.status = status
    headers = _headers(entry)
    if error is not None:
        headers["x-amzn-errortype"] = error
    return web.Response(status=status, body=body, headers=headers, content_type="application/json")


def _frames(call: _Call, outcome: Outcome) -> Iterator[bytes]:
    """Yield the frames of a whole stream."""
    for name, event in outcome.events():
        if name == "contentBlockDelta" and "text" in event["delta"]:
            yield eventstream.text_delta(event["contentBlockIndex"], event["delta"]["text"], call.padding)
        else:
            yield eventstream.event(name, call.operation.serialize_event(name, event), call.padding)


def _break(frames: list[bytes], fault: Fault | None) -> list[bytes]:
    """Return the frames as changed by a fault."""
    if fault is None:
        return frames
    at = int(fault.details.get("frame", len(frames) // 2))
    if fault.kind == "cut" and "byte" in fault.details:
        return [b"".join(frames)[: int(fault.details["byte"])]]
    if fault.kind == "cut":
        return frames[:at]
    if fault.kind == "bad_checksum":
        return [eventstream.corrupt(frame) if index == at else frame for index, frame in enumerate(frames)]
    name = fault.details.get("name", "throttlingException")
    message = fault.details.get("message", "Too many requests, please wait before trying again.")
    return [*frames[:at], eventstream.exception(name, {"message": message})]


async def _paced(frames: list[bytes], pause: float) -> AsyncIterator[bytes]:
    """Yield the data to write: frame by frame with pauses of `pause` seconds, or in larger pieces without pauses."""
    if pause > 0:
        for index, frame in enumerate(frames):
            if index:
                await asyncio.sleep(pause)
            yield frame
        return
    pending: list[bytes] = []
    size = 0
    for frame in frames:
        pending.append(frame)
        size += len(frame)
        if size >= _WRITE_BYTES:
            yield b"".join(pending)
            await asyncio.sleep(0)  # let other requests run
            pending, size = [], 0
    if pending:
        yield b"".join(pending)


# --- Thread, event loop and socket ---


_BACKLOG = 1024
_STOP_SECONDS = 5.0
_JOIN_SECONDS = 15.0  # closing takes milliseconds once the current handler ends; the thread is a daemon and may survive

_server_thread_log = logging.getLogger(__name__)


class ServerThread:
    """Run an `HttpServer` in a thread with an event loop, from construction until `stop`.

    Args:
        http: The server to run.
        host: The address to listen on. An address with ":" is IPv6.
        port: The port to listen on. 0 lets the system choose a port.

    Raises:
        OSError: The port is taken.
    """

    def __init__(self, http: HttpServer, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # Bound here, not in the loop: a taken port raises in the caller of start().
        self._socket = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        self.port: int = self._socket.getsockname()[1]
        self._http = http
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="bedrock-emulator", daemon=True)
        self._thread.start()
        self._ready.wait()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._ready.set()
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        connections = self._http.aiohttp_server(self._loop)
        listener = await self._loop.create_server(connections, sock=self._socket, backlog=_BACKLOG)
        self._ready.set()
        await self._stop.wait()
        self._http.stopping()
        # A forked child shares the socket. Without shutdown, the socket accepts connections until the child exits.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        listener.close()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await connections.shutdown(_STOP_SECONDS)
        # Transports close their sockets in callbacks of the loop: let these run.
        for _ in range(3):
            await asyncio.sleep(0)

    def stop(self) -> None:
        """Stop the thread, and wait up to 15 s for its end. A thread still alive then is logged as a warning."""
        if self._stop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_JOIN_SECONDS)
        if self._thread.is_alive():
            _server_thread_log.warning(
                "The emulator's thread did not end within %g s: a request keeps it busy", _JOIN_SECONDS
            )
