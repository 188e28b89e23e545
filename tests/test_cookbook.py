"""Run the notebooks of the cookbook on the emulator, and compare what they print with their saved outputs."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "cookbook").glob("*.ipynb"))
# Paths of a machine, times of day, and ids that differ in each run.
UNSTABLE = re.compile(
    r"/(?:home|root|tmp|Users)/|\b\d\d:\d\d(?::\d\d)? UTC|[0-9a-f]{8}-(?!0000)[0-9a-f]{4}-[0-9a-f]{4}"
)


def code_cells(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def saved_text(cell, stream):
    return "".join("".join(output["text"]) for output in cell["outputs"] if output.get("name") == stream)


def test_cookbook_has_notebooks():
    assert NOTEBOOKS


@pytest.mark.sweep
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_and_prints_its_saved_outputs(path):
    names = {"__name__": "__main__"}
    for number, cell in enumerate(code_cells(path)):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            # Without this file's `from __future__ import annotations`.
            code = compile("".join(cell["source"]), f"{path.name}[{number}]", "exec", dont_inherit=True)
            exec(code, names)
        assert printed.getvalue() == saved_text(cell, "stdout"), "run .ci/notebooks.py to save the outputs again"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_saved_with_stable_outputs(path):
    cells = code_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1)), "run all cells in order"
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert outputs
    assert not [output for output in outputs if output["output_type"] == "error"]
    for output in outputs:
        data = {kind: part for kind, part in output.get("data", {}).items() if not kind.startswith("image/")}
        assert not UNSTABLE.search(json.dumps([data, output.get("text")]))


def test_notebooks_show_pictures():
    outputs = [output for path in NOTEBOOKS for cell in code_cells(path) for output in cell["outputs"]]
    assert any("image/png" in output.get("data", {}) for output in outputs)
