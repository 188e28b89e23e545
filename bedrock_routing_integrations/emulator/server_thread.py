"""The thread, event loop and socket of a running emulator."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .http_server import HttpServer

__all__ = ["ServerThread"]

_BACKLOG = 1024
_STOP_SECONDS = 5.0
_JOIN_SECONDS = 15.0  # closing takes milliseconds, after a handler that is at work; a daemon thread may be left behind

_log = logging.getLogger(__name__)


class ServerThread:
    """Serves from its construction until `stop`.

    Raises:
        OSError: When the port is taken.
    """

    def __init__(self, http: HttpServer, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # Bound here and not in the loop, so that a taken port raises where start() was called.
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
        # A forked child holds the socket too: while only this process closes it, it would go on accepting.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        listener.close()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await connections.shutdown(_STOP_SECONDS)
        # Transports close their sockets in callbacks of the loop.
        for _ in range(3):
            await asyncio.sleep(0)

    def stop(self) -> None:
        """End the thread; returns when it has ended, or when that takes unreasonably long."""
        if self._stop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_JOIN_SECONDS)
        if self._thread.is_alive():
            _log.warning("The emulator's thread did not end within %g s: a request keeps it busy", _JOIN_SECONDS)
