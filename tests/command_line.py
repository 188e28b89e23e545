"""The command `bedrock-routing`, run in this process, in one of its own, and in a terminal."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from bedrock_routing_integrations.cli.app import app

NOVA_PRO = "us.amazon.nova-pro-v1:0"
EASY = "Describe the purpose of a 'hello world' program in one line."
HARD = "Alice has N brothers and she also has M sisters. How many sisters does Alice's brothers have?"
ROUTER = "arn:aws:bedrock:us-east-1:123456789012:default-prompt-router/anthropic.claude:1"
ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def run(*arguments, stdin=None):
    """In this process."""
    return CliRunner().invoke(app, list(arguments), input=stdin)


def command(*arguments, **settings):
    """In a process of its own, piped."""
    given = {"capture_output": True, "text": True, "timeout": 120, "encoding": "utf-8", **settings}
    return subprocess.run([sys.executable, "-m", "bedrock_routing_integrations", *arguments], check=False, **given)


def in_terminal(columns, *arguments):
    """What a terminal of so many columns shows at the end, without its colours."""
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, (50).to_bytes(2, "little") + columns.to_bytes(2, "little") + bytes(4))
    process = subprocess.Popen(
        [sys.executable, "-m", "bedrock_routing_integrations", *arguments],
        stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm-256color", "COLUMNS": ""},
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
    except OSError:  # Linux says so when the other end is closed
        pass
    os.close(ours)
    return process.wait(timeout=60), shown.decode().replace("\r\n", "\n")
