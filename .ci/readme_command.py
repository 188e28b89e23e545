"""Print one of the README's two commands, so that what is checked is what is documented.

Usage: python .ci/readme_command.py demo|test
"""

import re
import sys
from pathlib import Path

readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
marker = {"demo": "demo", "test": "pytest"}[sys.argv[1]]
commands = re.findall(r"^(python -m pip install .+ && .+)$", readme, flags=re.MULTILINE)
print(next(command for command in commands if command.endswith(marker)))
