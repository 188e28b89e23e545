"""Check the folders of the package and the directions of imports between them, by reading the source."""

from __future__ import annotations

import ast
import functools
import importlib
from pathlib import Path

import pytest

import bedrock_routing_integrations as package

NAME = package.__name__
ROOT = Path(package.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
# Each part may import the parts above it. Parts on one line may not import each other.
CORE = [
    ["errors", "bounded_cache"],
    ["runtime"],
    ["model_ids"],
    ["targets"],
    ["models"],
    ["caching"],
    ["invocation"],
    ["requests"],
    ["costs"],
    ["knowledge_base"],
    ["transport"],
    ["observability"],
    ["connections"],
    ["client"],
]
CORE_PARTS = {part for line in CORE for part in line}
FRAMEWORKS = {"langchain", "llama_index"}
# Old paths of public names.
ALIASES = {"pricing", "telemetry"}
ENTRIES = FRAMEWORKS | ALIASES | {"emulator", "cli", "__main__", "__init__"}
# Top-level modules that belong to one part only.
FRAMEWORK_MODULES = {
    "langchain": ("langchain", "langchain_core", "langchain_aws", "langchain_classic", "langgraph", "langsmith"),
    "llama_index": ("llama_index", "llama_index_instrumentation"),
    "emulator": ("aiohttp", "pytest"),
    "cli": ("typer", "rich", "click"),
}


def part_of(path):
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


@functools.cache
def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=(3, 10))


def is_type_checking(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def running(node):
    """Yield the nodes that run: all but those for type checkers."""
    for child in ast.iter_child_nodes(node):
        if is_type_checking(child):
            for other in child.orelse:
                yield other
                yield from running(other)
        else:
            yield child
            yield from running(child)


@functools.cache
def imported(path, type_checking=False):
    """Return the absolute names that a file imports, anywhere in it.

    Args:
        path: The file.
        type_checking: Whether to include imports for type checkers only.
    """
    package_parts = [NAME, *path.relative_to(ROOT).parts[:-1]]
    names = []
    for node in ast.walk(tree_of(path)) if type_checking else running(tree_of(path)):
        if isinstance(node, ast.Import):
            names += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*package_parts[: len(package_parts) - node.level + 1]] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names += (f"{module}.{alias.name}" for alias in node.names)
    return names


def our_parts(path):
    """Yield the parts of this package that a file imports from, for type checkers too."""
    for name in imported(path, type_checking=part_of(path) != "__init__"):
        parts = name.split(".")
        if parts[0] == NAME:
            known = parts[1] if len(parts) > 1 else ""
            yield known if known in CORE_PARTS | ENTRIES else "__init__"


def test_every_file_has_a_part():
    unknown = {part_of(path) for path in FILES} - CORE_PARTS - ENTRIES
    assert not unknown, f"{unknown}: give it a line in this test and in the architecture"


def test_part_is_either_a_file_or_a_folder():
    names = [path.stem if path.is_file() else path.name for path in ROOT.iterdir() if path.suffix in {".py", ""}]
    assert sorted(names) == sorted(set(names)), "one of them would never be imported"


def test_imports_point_up_the_list_only():
    for path in FILES:
        part, used = part_of(path), set(our_parts(path)) - {part_of(path)}
        if part in CORE_PARTS:
            line = next(number for number, parts in enumerate(CORE) if part in parts)
            assert used <= {other for parts in CORE[:line] for other in parts}
        elif part in FRAMEWORKS:
            assert used <= CORE_PARTS, "a framework's folder imports the core and itself"
        elif part == "emulator":
            assert used == set(), "the emulator must not share a mistake with what it tests"
        elif part == "__init__":
            assert used == set(), "the public names are loaded lazily"


def test_a_framework_is_imported_in_its_own_part_only():
    for path in FILES:
        tops = {name.partition(".")[0] for name in imported(path)}
        for part, modules in FRAMEWORK_MODULES.items():
            # The demo is a program of its own that shows LangChain at work.
            if part_of(path) not in (part, "cli", "__main__"):
                assert not tops & set(modules), f"{tops & set(modules)} belong in {part}/"


def test_core_modules_do_not_import_boto3():
    for path in FILES:
        if part_of(path) not in CORE_PARTS | {"__init__"}:
            continue
        for node in tree_of(path).body:
            if isinstance(node, (ast.Import, ast.ImportFrom)) and not is_type_checking(node):
                text = ast.unparse(node)
                for heavy in ("boto3", "botocore", "urllib3", "aiobotocore", "genai_prices"):
                    assert heavy not in text


def test_knowledge_bases_are_neutral_and_wait_for_no_network():
    for path in FILES:
        if part_of(path) == "knowledge_base":
            sends = {"boto3", "botocore", "urllib3", "aiobotocore", "socket", "http", "asyncio"}
            assert not sends & {name.partition(".")[0] for name in imported(path)}, (
                "client/ is the only place that sends"
            )


def test_nothing_of_langchain_aws_that_is_underscored_is_imported():
    for path in FILES:
        for name in imported(path):
            top, *rest = name.split(".")
            if top.startswith(("langchain", "llama_index", "botocore", "boto3")):
                private = [part for part in rest if part.startswith("_") and not part.startswith("__")]
                assert not private, f"{name} is not ours to use"


def test_boto3s_global_session_is_left_alone():
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("boto3.client", "boto3.resource", "boto3.setup_default_session")
            if isinstance(node, (ast.Assign, ast.AugAssign, ast.Delete)):
                assert "os.environ" not in ast.unparse(node).partition("=")[0], "the environment belongs to the user"


# Since Python 3.11, and so not for us.
TOO_NEW = {
    "asyncio.timeout", "asyncio.TaskGroup", "asyncio.Runner", "enum.StrEnum", "typing.Self", "typing.Never",
    "typing.assert_never", "typing.NotRequired", "typing.Required", "typing.override", "datetime.UTC", "tomllib",
    "itertools.batched", "hashlib.file_digest", "contextlib.chdir",
}  # fmt: skip


def test_nothing_newer_than_python_3_10_is_used():
    for path in FILES:
        used = set(imported(path))
        used |= {ast.unparse(node) for node in ast.walk(tree_of(path)) if isinstance(node, ast.Attribute)}
        assert not used & TOO_NEW
        assert not {name.partition(".")[0] for name in used} & TOO_NEW


@pytest.mark.parametrize("name", [NAME, f"{NAME}.langchain", f"{NAME}.llama_index"])
def test_public_names_are_lazy_and_visible_to_type_checkers(name):
    module = importlib.import_module(name)
    assert set(module.__all__) == set(module._MODULES)
    assert list(module.__all__) == sorted(module.__all__)
    seen_by_type_checkers = {
        alias.asname or alias.name
        for node in tree_of(Path(module.__file__)).body
        if is_type_checking(node)
        for statement in node.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert seen_by_type_checkers == set(module.__all__)
    for public, home in module._MODULES.items():
        assert getattr(importlib.import_module(f"{name}.{home}"), public) is getattr(module, public)


def test_no_secret_setting_is_written_into_the_environment():
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in ("os.putenv", "os.environ.update", "os.environ.setdefault"), path
