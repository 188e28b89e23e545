"""Emulate Bedrock locally, over its real wire protocol, for tests, demonstrations and benchmarks.

The emulator plays the service, not the intelligence: its models are deterministic programs. `BedrockEmulator` is
imported on first access, because it needs the extra `emulator` (aiohttp).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .server import BedrockEmulator

__all__ = ["BedrockEmulator"]


def __getattr__(name: str) -> Any:
    if name == "BedrockEmulator":
        from .server import BedrockEmulator

        return BedrockEmulator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
