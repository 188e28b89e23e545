"""Every notebook of the cookbook runs on the emulator, top to bottom."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "cookbook").glob("*.ipynb"))
# What is printed where a notebook shows what it is for: who answered, or what was read from the cache.
SHOWN = {
    "knowledge_bases": "Christiaan Huygens discovered Titan on 25 March 1655.  <- s3://emulated-knowledge-base/moons/titan.md",
    "what_caching_saves": "8747 read      9 plain  cost  10%",
}


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, capsys):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    names = {"__name__": "__main__"}
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [], "outputs are not committed"
            exec(compile("".join(cell["source"]), f"{path.name}[{number}]", "exec"), names)
    assert SHOWN.get(path.stem, "amazon.nova-lite-v1:0") in capsys.readouterr().out
