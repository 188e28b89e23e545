"""What every test stands on: an AWS environment of its own, and nothing remembered from the test before."""

from __future__ import annotations

import os

import pytest

from bedrock_routing_integrations.emulator import BedrockEmulator
from bedrock_routing_integrations.logs import forget_warnings

ALICE = "Alice has 4 brothers and she also has 3 sisters. How many sisters does Alice's brothers have?"
HELLO = "Describe the purpose of a 'hello world' program in one line."
HAIKU = "anthropic.claude-3-haiku-20240307-v1:0"
SONNET = "anthropic.claude-3-5-sonnet-20240620-v1:0"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith(("AWS_", "LANGSMITH_", "LANGCHAIN_")):
            monkeypatch.delenv(name)
    # No file of the machine's user, and no instance metadata service.
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    forget_warnings()


@pytest.fixture
def bedrock(monkeypatch):
    """The emulator, with the environment pointing at it."""
    with BedrockEmulator() as emulator:
        for name, value in emulator.environment().items():
            monkeypatch.setenv(name, value)
        yield emulator


@pytest.fixture
def router(bedrock):
    return bedrock.default_router("anthropic.claude:1")
