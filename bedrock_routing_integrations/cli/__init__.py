"""The command ``bedrock-routing``.

Needs the extra ``cli``; `demo` and `emulate` need ``emulator`` too. (`demo` leaves out a framework that is not there.)
Nothing of that is loaded before `main` runs, so that a missing extra ends in one line that says what to install.
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
        SystemExit: Always; 0 when it worked, 1 when something was missing or refused, 2 for a mistake in the arguments.
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
    """One line that says what to install, where an import failed for want of an extra; else None."""
    module = _missing_module(error)
    if module is None:
        return None
    # All that are missing, not only this one: else the user would learn of them one at a time.
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
