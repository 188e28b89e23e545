"""Execute the notebooks of the cookbook on the emulator and save them with outputs.

Needs nbclient and ipykernel. Times of day and request ids are replaced, so that a second run changes nothing.

Usage: python .ci/notebooks.py [NAME …]
"""

import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

COOKBOOK = Path(__file__).parent.parent / "cookbook"
STABLE = [
    (
        re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d)?(?: (?:to|\u2013|-) \d{4}-\d\d-\d\d \d\d:\d\d)? UTC"),
        "2026-12-01 UTC",
    ),
    (re.compile(r"('request_id': ')[0-9a-f-]{36}"), r"\g<1>00000000-0000-0000-0000-000000000000"),
]


def stable(value: object) -> object:
    """Return an output with times and ids replaced."""
    if isinstance(value, dict):
        return type(value)({name: part if name == "image/png" else stable(part) for name, part in value.items()})
    if isinstance(value, list):
        return [stable(part) for part in value]
    if isinstance(value, str):
        for pattern, replacement in STABLE:
            value = pattern.sub(replacement, value)
    return value


def execute(path: Path) -> None:
    """Run all cells of a notebook in a fresh kernel and save it."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, record_timing=False, coalesce_streams=True).execute(cwd=str(path.parent))
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [stable(output) for output in cell.outputs]
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, path)


for chosen in sys.argv[1:] or sorted(path.stem for path in COOKBOOK.glob("*.ipynb")):
    execute(COOKBOOK / f"{chosen}.ipynb")
