"""Fixtures for everyone who has this package installed: `bedrock_emulator` and `bedrock_emulator_env`.

This module is loaded in every pytest run of such a person, so it imports nothing but pytest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .server import BedrockEmulator

__all__ = ["bedrock_emulator", "bedrock_emulator_env"]


@pytest.fixture
def bedrock_emulator() -> Iterator[BedrockEmulator]:
    """A fresh Bedrock emulator, running; the environment is left alone."""
    from .server import BedrockEmulator

    with BedrockEmulator() as emulator:
        yield emulator


@pytest.fixture
def bedrock_emulator_env(bedrock_emulator: BedrockEmulator, monkeypatch: pytest.MonkeyPatch) -> BedrockEmulator:
    """`bedrock_emulator`, with the environment variables set that point AWS SDKs to it, past any proxy."""
    from .settings import CONFLICTING

    for name in CONFLICTING:
        monkeypatch.delenv(name, raising=False)
    for name, value in bedrock_emulator.environment().items():
        monkeypatch.setenv(name, value)
    return bedrock_emulator
