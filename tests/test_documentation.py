"""Run every code block of the README, the guides, the agent skill and the docstrings, and compare its output.

What a page promises is in its blocks:

- A ``python`` block runs against a fresh emulator. A ``text`` block directly after it is its output; ``…`` stands for
  any text within a line. A function ``test_…`` in the block runs as a test, with the package's fixtures.
- The lines of a ``console`` block that begin with ``bedrock-routing`` run in a folder that has the page's files (blocks
  with ``title="NAME"``) and ``logs/``, an invocation log. A ``text`` block after it is the output of its last line.
- A ``json`` block is valid JSON. ``sh`` blocks are not run: they need AWS, or run until they are stopped.

With ``UPDATE_DOCS=1`` in the environment, outputs that differ are written into the pages (with ``-n 0``: one process).
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest
from llama_index_instrumentation import get_dispatcher
from typer.testing import CliRunner

import bedrock_routing_integrations
from bedrock_routing_integrations.cli.app import app
from bedrock_routing_integrations.emulator import BedrockEmulator

ROOT = Path(__file__).parent.parent
PACKAGE = Path(bedrock_routing_integrations.__file__).parent
SKILL = PACKAGE / "skills" / "bedrock-routing-integrations" / "SKILL.md"
LLMS_TXT = PACKAGE / "llms.txt"
README = ROOT / "README.md"
GUIDES = sorted((ROOT / "cookbook").glob("*.md"))
NOTEBOOKS = sorted((ROOT / "cookbook").glob("*.ipynb"))
PAGES = [README, *GUIDES, SKILL]
PROSE = [
    *PAGES,
    LLMS_TXT,
    *sorted((ROOT / ".github").rglob("*.md")),
]  # .github is absent where only the wheel is tested
REPOSITORY = "https://github.com/bedrock-routing-integrations/bedrock-routing-integrations"
# In a docstring a block may stand under a heading, indented.
BLOCK = re.compile(r"^[ ]*```(\w+)(?: title=\"([\w.-]+)\")?\n(.*?)^[ ]*```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced code block, and the output that the page shows for it."""

    language: str
    title: str | None
    code: str
    output: str | None


def blocks_of(page):
    matches = list(BLOCK.finditer(page.read_text(encoding="utf-8")))
    for match, following in zip(matches, [*matches[1:], None], strict=True):
        output = following[3] if following is not None and following[1] == "text" else None
        yield Block(match[1], match[2], match[3], output)


def examples(language):
    for page in PAGES:
        for number, block in enumerate(block for block in blocks_of(page) if block.language == language):
            yield pytest.param(page, block, id=f"{page.stem}:{number}")


def docstring_examples():
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)) if "```" in source else ():
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for number, match in enumerate(BLOCK.finditer(inspect.cleandoc(ast.get_docstring(node) or ""))):
                name = f"{path.relative_to(PACKAGE)}:{getattr(node, 'name', 'module')}:{number}"
                yield pytest.param(match[1], match[3], id=name)


@contextlib.contextmanager
def event_handlers_restored():
    """Remove the event handlers that an example adds to LlamaIndex's dispatcher."""
    dispatcher = get_dispatcher()
    before = list(dispatcher.event_handlers)
    try:
        yield
    finally:
        dispatcher.event_handlers = before


def run(code, fixtures):
    """Run a block, then the tests that it defines with the fixtures that they name. Return the output."""
    names = {}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), event_handlers_restored():
        # Without this file's `from __future__ import annotations`.
        exec(compile(textwrap.dedent(code), "<example>", "exec", dont_inherit=True), names)
        for name, value in list(names.items()):
            if name.startswith("test_"):
                value(**{argument: fixtures[argument] for argument in inspect.signature(value).parameters})
    return printed.getvalue()


def assert_output(page, block, printed):
    if block.output is None:
        return
    pattern = re.escape(block.output).replace("…", ".+")
    if re.fullmatch(pattern, printed) is None and os.environ.get("UPDATE_DOCS"):
        text = page.read_text(encoding="utf-8")
        before, after = (f"{block.code}```\n\n```text\n{output}```" for output in (block.output, printed))
        page.write_text(text.replace(before, after), encoding="utf-8")
        return
    assert re.fullmatch(pattern, printed), f"The page shows:\n{block.output}\nbut the output is:\n{printed}"


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """Make a working directory with ``logs/``, the invocation log of a few calls."""
    (tmp_path / "logs").mkdir()
    with BedrockEmulator(invocation_log=tmp_path / "logs" / "invocations.json") as bedrock:
        client, router = bedrock.client(), bedrock.default_router("amazon.nova:1")
        for team, text in (("search", "What is 17 * 23, step by step?"), ("chat", "Say good morning.")):
            messages = [{"role": "user", "content": [{"text": text}]}]
            client.converse(modelId=router, messages=messages, requestMetadata={"team": team})
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Documentation is what newcomers try first: the fast run leaves no block to the sweep.
EVERY_CASE = pytest.mark.sample(1_000)


@EVERY_CASE
@pytest.mark.parametrize(("page", "block"), list(examples("python")))
def test_python_block_runs_and_prints_its_output(bedrock_emulator_env, tmp_path, monkeypatch, page, block):
    monkeypatch.chdir(tmp_path)
    fixtures = {"bedrock_emulator_env": bedrock_emulator_env, "bedrock_emulator": bedrock_emulator_env}
    assert_output(page, block, run(block.code, fixtures))


@EVERY_CASE
@pytest.mark.parametrize(("page", "block"), list(examples("console")))
def test_console_block_runs_and_prints_its_output(bedrock_emulator_env, workspace, page, block):
    for other in blocks_of(page):
        if other.title:
            (workspace / other.title).write_text(other.code, encoding="utf-8")
    lines = [line for line in block.code.splitlines() if line.startswith("bedrock-routing ")]
    for line in lines:
        done = CliRunner().invoke(app, shlex.split(line)[1:])
        assert done.exit_code == 0, done.output
    if lines:
        assert_output(page, block, done.stdout)


@EVERY_CASE
@pytest.mark.parametrize(("page", "block"), list(examples("json")))
def test_json_block_is_valid(page, block):
    json.loads(block.code)


@EVERY_CASE
@pytest.mark.parametrize(("language", "code"), list(docstring_examples()))
def test_docstring_block_runs(bedrock_emulator_env, language, code):
    assert language == "python"
    run(code, {"bedrock_emulator_env": bedrock_emulator_env})


@pytest.mark.parametrize(("name", "end"), [("demo", "demo"), ("test", "pytest")])
def test_readme_has_the_command(name, end):
    script = ROOT / ".ci" / "readme_command.py"
    done = subprocess.run([sys.executable, str(script), name], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip().endswith(end)


def test_readme_has_at_most_200_lines():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 200


@EVERY_CASE
@pytest.mark.parametrize("page", PROSE, ids=lambda page: page.name)
def test_page_links_to_files_that_exist(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)|^\[[^\]]+\]:\s+(\S+)$", text, flags=re.MULTILINE)
    for link in filter(None, (first or second for first, second in links)):
        path = link.removeprefix(f"{REPOSITORY}/blob/main/")
        if path != link:
            target = (PACKAGE.parent if path.startswith(PACKAGE.name) else ROOT) / path.partition("#")[0]
        elif "://" in link:
            continue
        else:
            target = page.parent / link.partition("#")[0] if not link.startswith("#") else page
        if ".github" in target.parts and not (ROOT / ".github").exists():
            continue
        assert target.exists(), f"{page.name} links to {link}"
        heading = link.partition("#")[2]
        if heading:
            assert heading in headings_of(target), f"{page.name} links to {link}"


def headings_of(page):
    """Return the anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


LONG = ("description: ", "- [", "https://")  # a skill's front matter, and links: they cannot be broken
# The words that our style guide bans, as far as a pattern can find them without a false alarm.
BANNED = re.compile(
    r"\b(doors?|rooms?|heeds?|heeded|told|tells?|gives? up|given up|said|says|hears?|beside)\b|\bis no [a-z]+"
)


def prose_of(page):
    text = page.read_text(encoding="utf-8")
    if page.suffix != ".ipynb":
        return text
    return "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown")


@EVERY_CASE
@pytest.mark.parametrize("page", [*PROSE, *NOTEBOOKS], ids=lambda page: page.name)
def test_page_keeps_to_the_style(page):
    text = prose_of(page)
    assert not [line for line in text.splitlines() if len(line) > 120 and not line.startswith(LONG)]
    # The glossary names the words that it replaces, in backquotes.
    prose = re.sub(r"`[^`\n]*`", "", BLOCK.sub("", text))
    assert not [found[0] for found in BANNED.finditer(prose)]


# --- bedrock-routing docs


def run_docs(*options):
    done = CliRunner().invoke(app, ["docs", *options])
    assert done.exit_code == 0
    return done.stdout


def test_docs_command_prints_paths_and_urls():
    printed = run_docs()
    assert str(SKILL) in printed
    assert str(LLMS_TXT) in printed
    for guide in GUIDES:
        assert f"{REPOSITORY}/blob/main/cookbook/{guide.name}" in printed


def test_docs_command_prints_json():
    printed = json.loads(run_docs("--json"))
    assert printed["skill"] == str(SKILL)
    assert printed["llms_txt"] == str(LLMS_TXT)
    assert {url.rpartition("/")[2] for url in printed["guides"].values()} == {guide.name for guide in GUIDES}


def test_llms_txt_names_every_guide():
    text = LLMS_TXT.read_text(encoding="utf-8")
    assert text.startswith("# bedrock-routing-integrations\n\n> ")
    for guide in GUIDES:
        assert f"({REPOSITORY}/blob/main/cookbook/{guide.name})" in text


def test_skill_has_a_front_matter():
    _, front_matter, body = SKILL.read_text(encoding="utf-8").split("---\n", 2)
    fields = dict(line.split(": ", 1) for line in front_matter.splitlines())
    assert fields["name"] == SKILL.parent.name
    assert 0 < len(fields["description"]) <= 1024
    assert body.strip()
