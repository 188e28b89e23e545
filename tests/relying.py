"""Fail with advice when an upstream package loses a property that this package relies on."""

from __future__ import annotations

import importlib.metadata

LANGCHAIN = ("langchain-aws", "langchain-core", "botocore", "boto3")
LLAMA_INDEX = ("llama-index-core", "llama-index-instrumentation", "pydantic", "pydantic-core", "filetype")


def relies(holds, on, where, advice, packages=LANGCHAIN):
    """Fail with advice.

    Args:
        holds: Whether it is still so.
        on: What we rely on.
        where: Our file that does.
        advice: What to do.
        packages: Whose it is; the message gives their versions.
    """
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    assert holds, f"{where} relies on {on}, which has changed ({versions}). {advice}"
