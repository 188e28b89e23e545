"""Test the dependencies and extras of an installation."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import bedrock_routing_integrations as package

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"
ROOT = Path(package.__file__).parent


def extras():
    if sys.version_info < (3, 11):
        pytest.skip("tomllib is of Python 3.11")
    import tomllib

    return tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]


def required_by(name, all_of):
    """Return the requirements of an extra, with those of the extras in it."""
    for requirement in all_of[name]:
        inner = re.match(r"bedrock-routing-integrations\[(.*)\]", requirement)
        if inner is None:
            yield requirement
        for other in inner[1].split(",") if inner else ():
            yield from required_by(other, all_of)


@pytest.mark.parametrize("name", ["async", "all", "test"])
def test_no_extra_brings_a_package_that_holds_boto3_back(name):
    """aiobotocore admits a narrow range of botocore; installed with it, boto3 stays at an older version."""
    assert not [each for each in required_by(name, extras()) if each.startswith(("aiobotocore", "aioboto3"))]


def test_extra_all_includes_every_extra_except_test():
    all_of = extras()
    assert {"async", "cli", "emulator", "langchain", "llama-index", "otel", "plot", "all", "test"} <= set(all_of)
    (everything,) = all_of["all"]
    assert set(re.search(r"\[(.*)\]", everything)[1].split(",")) == set(all_of) - {"all", "test"}


def test_package_never_imports_aiobotocore_or_aioboto3():
    for path in ROOT.rglob("*.py"):
        assert not re.search(
            r"^\s*(?:import|from) aio(?:boto3|botocore)", path.read_text(encoding="utf-8"), re.MULTILINE
        )
