"""Run the command ``bedrock-routing``.

The command needs the extra ``cli``; `demo` and `emulate` also need ``emulator``. (`demo` skips a framework that is not
installed.) Nothing of these extras is imported before `main` runs, so that a missing extra ends in one line with the
pip command.
"""

from __future__ import annotations

import importlib.util
import sys

__all__ = ["main"]

_EXTRAS = {
    "typer": "cli",
    "rich": "cli",
    "aiohttp": "emulator",
}


def main() -> None:
    """Run the command with the arguments of this process.

    Raises:
        SystemExit: Always. The code is 0 for success, 1 if something was missing or refused, 2 for wrong arguments.
    """
    for stream in (sys.stdout, sys.stderr):
        # An answer can hold characters that a terminal or a pipe cannot show (cp1252 on Windows): "?" is better
        # than a traceback in the middle of it.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        from .app import app

        app()
    except ImportError as error:
        advice = how_to_install(error)
        if advice is None:
            raise
        print(f"Error: {advice}", file=sys.stderr)
        raise SystemExit(1) from None


def how_to_install(error: ImportError) -> str | None:
    """Return one line with the pip command for the extras that an import failed for; None for other imports."""
    module = _missing_module(error)
    if module is None:
        return None
    # List all missing extras at once, not one for each attempt.
    missing = {extra for name, extra in _EXTRAS.items() if name == module or not _installed(name)}
    extras = ",".join(extra for extra in dict.fromkeys(_EXTRAS.values()) if extra in missing)
    return f'{module} is not installed: pip install "bedrock-routing-integrations[{extras}]"'


def _missing_module(error: BaseException | None) -> str | None:
    while error is not None:
        if isinstance(error, ImportError):
            module = (error.name or "").partition(".")[0]
            if module in _EXTRAS and not _installed(module):
                return module
        error = error.__cause__
    return None


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
