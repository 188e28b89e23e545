"""Run ``bedrock-routing emulate``: the emulator as a server."""

from __future__ import annotations

import errno
import shlex
import signal
import sys
import threading
from typing import TYPE_CHECKING

import typer

from bedrock_routing_integrations.emulator import BedrockEmulator
from bedrock_routing_integrations.emulator.service.documents import Collection
from bedrock_routing_integrations.emulator.settings import CONFLICTING

from .errors import NotWorkingError
from .output import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import FrameType

__all__ = ["run_emulator"]

# On Windows, Ctrl-C cannot interrupt a wait without a timeout.
_WAIT_SECONDS = 0.5


def run_emulator(
    *,
    host: str,
    port: int,
    time_scale: float,
    region: str,
    account_id: str,
    knowledge_bases: Sequence[Path] = (),
    invocation_log: Path | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM. A second signal ends the process at once.

    Standard output gets only the ``unset`` and ``export`` lines, so that a shell can source it. Messages go to standard
    error.

    Args:
        host: The address to listen on.
        port: The port to listen on; 0 for a free one.
        time_scale: The factor of simulated times; 0 for no waiting.
        region: The Region to emulate.
        account_id: The account to emulate.
        knowledge_bases: Ids of knowledge bases with the folders of their documents.
        invocation_log: The file to which the log of model invocations is written; None for no log.

    Raises:
        NotWorkingError: The address is not available, or the log cannot be written.
        typer.BadParameter: The emulator does not accept an argument.
    """
    try:
        try:
            emulator = BedrockEmulator(
                host, port, region=region, account_id=account_id, time_scale=time_scale, invocation_log=invocation_log
            )
        except OSError as error:
            raise NotWorkingError(f"{str(invocation_log)!r} cannot be written: {error.strerror or error}.") from error
        added = {}
        for folder in knowledge_bases:
            documents = Collection.from_folder(folder)
            added[emulator.add_knowledge_base(documents)] = f"{folder} ({counted(len(documents), 'passage')})"
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    stop = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    try:
        emulator.start()
    except OSError as error:
        raise NotWorkingError(_why_not(error, host, port)) from error
    try:
        _tell(emulator, {emulator.default_knowledge_base(): "the library that ships with it", **added})
        while not stop.wait(_WAIT_SECONDS):
            pass
    finally:
        emulator.stop()
    print("Stopped.", file=sys.stderr)


def _tell(emulator: BedrockEmulator, knowledge_bases: Mapping[str, str]) -> None:
    print(
        "The variables that point AWS SDKs here; set them where your application runs:\n", file=sys.stderr, flush=True
    )
    print(f"unset {' '.join(CONFLICTING)}")
    for name, value in emulator.environment().items():
        print(f"export {name}={shlex.quote(value)}")
    sys.stdout.flush()
    print("\nKnowledge bases:", file=sys.stderr)
    for knowledge_base_id, documents in knowledge_bases.items():
        print(f"  {knowledge_base_id}  {documents}", file=sys.stderr)
    router = emulator.default_router()
    print(f'\nThen, for example: bedrock-routing ask {router} "Hello"', file=sys.stderr)
    print(f"Ready: Bedrock is emulated at {emulator.endpoint_url}. Ctrl-C ends it.", file=sys.stderr, flush=True)


def _why_not(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} of {host} is in use. Take another with --port, or any free one with --port 0."
    why = (error.strerror or str(error)).partition(" (while")[0]
    return f"Cannot listen on port {port} of {host}: {why}."
