"""``python -m tests.benchmarks [NAME …] [--rounds N] [--full]``."""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import platform
from importlib.metadata import version

from .measuring import PEER, isolate, show

NAMES = ("invoke", "stream", "concurrency", "second_object")


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Ratios against peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all of them by default")
    parser.add_argument("--rounds", type=int, help="rounds of each benchmark, at least 2")
    parser.add_argument("--full", action="store_true", help=f"{PEER} makes 256 concurrent calls too (two minutes more)")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        parser.error(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(NAMES)}")
    if options.rounds is not None and options.rounds < 2:
        parser.error("a median needs --rounds of at least 2")
    isolate()
    packages = ", ".join(f"{name} {version(name)}" for name in ("boto3", "langchain-core", "langchain-aws"))
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {packages}")
    print("Ratios are medians of those within each round.\n")
    for name in options.names or NAMES:
        # Imported one by one, and only now: the frameworks must not see the user's environment.
        module = importlib.import_module(f"{__package__}.{name}")
        rounds = options.rounds or inspect.signature(module.run).parameters["rounds"].default
        print(show(f"{module.TITLE} ({rounds} rounds)", module.run(rounds, full=options.full)), "\n", flush=True)


if __name__ == "__main__":
    main()
