"""Print pip constraints that hold every direct dependency at the lowest version that pyproject admits."""

import re
from pathlib import Path

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib  # comes with pytest and mypy there

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = project["optional-dependencies"].values()
requirements = [*project["dependencies"], *(requirement for extra in extras for requirement in extra)]
lowest = {}
for requirement in requirements:
    found = re.match(r"([A-Za-z0-9._-]+)(?:\[.*\])?>=([0-9][0-9a-z.]*)", requirement)
    if found:
        lowest[found[1]] = found[2]
    elif not requirement.startswith(project["name"]):
        raise SystemExit(f"{requirement!r} names no lowest version")
for name, version in sorted(lowest.items()):
    print(f"{name}=={version}")
