"""Every code block of the README and of the docstrings runs, and prints what it says that it prints."""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import json
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from llama_index_instrumentation import get_dispatcher

import bedrock_routing_integrations

ROOT = Path(__file__).parent.parent
PACKAGE = Path(bedrock_routing_integrations.__file__).parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
# In a docstring a block may stand under a heading, indented.
BLOCK = re.compile(r"^[ ]*```(\w+)\n(.*?)^[ ]*```$", re.MULTILINE | re.DOTALL)


def readme_examples():
    """The Python blocks, each with the text block that follows it at once."""
    blocks = [(match[1], match[2], match.end()) for match in BLOCK.finditer(README)]
    for (language, code, _), following in zip(blocks, [*blocks[1:], ("", "", 0)], strict=True):
        if language == "python":
            yield code, following[1] if following[0] == "text" else None


def docstring_examples():
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for number, match in enumerate(BLOCK.finditer(inspect.cleandoc(ast.get_docstring(node) or ""))):
                name = f"{path.relative_to(PACKAGE)}:{getattr(node, 'name', 'module')}:{number}"
                yield pytest.param(match[1], match[2], id=name)


@contextlib.contextmanager
def listeners_restored():
    """What an example adds to LlamaIndex's instrumentation of this process, other tests do not hear."""
    dispatcher = get_dispatcher()
    before = list(dispatcher.event_handlers)
    try:
        yield
    finally:
        dispatcher.event_handlers = before


def run(code, fixtures):
    """Run a block; what it defines as a test is run as pytest would, with the fixtures that it names."""
    names = {}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), listeners_restored():
        exec(compile(textwrap.dedent(code), "<example>", "exec"), names)
        for name, value in list(names.items()):
            if name.startswith("test_"):
                value(**{argument: fixtures[argument] for argument in inspect.signature(value).parameters})
    return printed.getvalue()


@pytest.mark.parametrize(("code", "expected"), list(readme_examples()))
def test_a_python_block_of_the_readme(bedrock_emulator_env, code, expected):
    printed = run(code, {"bedrock_emulator_env": bedrock_emulator_env})
    if expected is not None:
        pattern = re.escape(expected).replace("…", ".+")
        assert re.fullmatch(pattern, printed), f"README says:\n{expected}\nbut it prints:\n{printed}"


@pytest.mark.parametrize(("language", "code"), list(docstring_examples()))
def test_a_block_of_a_docstring(bedrock_emulator_env, language, code):
    assert language == "python"
    run(code, {"bedrock_emulator_env": bedrock_emulator_env})


def test_the_json_of_the_readme_is_json():
    blocks = [match[2] for match in BLOCK.finditer(README) if match[1] == "json"]
    assert blocks
    for block in blocks:
        json.loads(block)


def command_lines():
    lines = [line for match in BLOCK.finditer(README) if match[1] == "console" for line in match[2].splitlines()]
    return [line for line in lines if line.startswith("bedrock-routing ")]


@pytest.mark.sample(1)
@pytest.mark.parametrize("line", command_lines())
def test_a_command_of_the_readme(bedrock_emulator_env, line):
    arguments = shlex.split(line)[1:]
    command = [sys.executable, "-m", "bedrock_routing_integrations", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "amazon.nova" in done.stdout + done.stderr


def test_the_readme_has_the_two_commands():
    script = ROOT / ".ci" / "readme_command.py"
    for name, end in (("demo", "demo"), ("test", "pytest")):
        done = subprocess.run(
            [sys.executable, str(script), name], capture_output=True, text=True, timeout=60, check=True
        )
        assert done.stdout.strip().endswith(end)
