"""Provide the pytest fixtures `bedrock_emulator` and `bedrock_emulator_env`.

pytest loads this module in every test run of an environment that has this package installed, so the module imports
only pytest.
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
    """Yield a new, running emulator. The environment variables stay unchanged."""
    from .server import BedrockEmulator

    with BedrockEmulator() as emulator:
        yield emulator


@pytest.fixture
def bedrock_emulator_env(bedrock_emulator: BedrockEmulator, monkeypatch: pytest.MonkeyPatch) -> BedrockEmulator:
    """Return `bedrock_emulator`, with environment variables that point AWS SDKs at the emulator, past any proxy.

    Args:
        bedrock_emulator: The running emulator.
        monkeypatch: Sets and unsets the variables, and restores them after the test.

    Returns:
        The emulator.
    """
    from .settings import CONFLICTING

    for name in CONFLICTING:
        monkeypatch.delenv(name, raising=False)
    for name, value in bedrock_emulator.environment().items():
        monkeypatch.setenv(name, value)
    return bedrock_emulator
