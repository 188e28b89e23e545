"""A local Bedrock that speaks the real wire protocol, for tests, demonstrations and benchmarks.

It emulates the service, not intelligence: its "models" are deterministic programs. Nothing is loaded before
`BedrockEmulator` is asked for; it needs the extra `emulator` (aiohttp).
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
