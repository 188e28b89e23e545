"""Run the command `bedrock-routing`: in this process, in a process of its own, or in a terminal."""

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
    """Run the command in this process."""
    return CliRunner().invoke(app, list(arguments), input=stdin)


def command(*arguments, **settings):
    """Run the command in a process of its own, with its output in pipes."""
    options = {"capture_output": True, "text": True, "timeout": 120, "encoding": "utf-8", **settings}
    return subprocess.run([sys.executable, "-m", "bedrock_routing_integrations", *arguments], check=False, **options)


def in_terminal(columns, *arguments):
    """Run the command in a terminal of so many columns. Return its exit code and final text, without colours."""
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
    parent_end, child_end = pty.openpty()
    fcntl.ioctl(child_end, termios.TIOCSWINSZ, (50).to_bytes(2, "little") + columns.to_bytes(2, "little") + bytes(4))
    process = subprocess.Popen(
        [sys.executable, "-m", "bedrock_routing_integrations", *arguments],
        stdin=child_end, stdout=child_end, stderr=child_end,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": ""},
    )  # fmt: skip
    os.close(child_end)
    shown = b""
    try:
        while chunk := os.read(parent_end, 65536):
            shown += chunk
    except OSError:  # Linux raises it when the other end is closed
        pass
    os.close(parent_end)
    return process.wait(timeout=60), shown.decode().replace("\r\n", "\n")
