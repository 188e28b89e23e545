"""``python -m tests.benchmarks [NAME …] [--rounds N] [--chunks N] [--full] [--alone]``."""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import platform
from importlib.metadata import PackageNotFoundError, version

from .measuring import CHUNKS, isolate, show

LANGCHAIN = ("invoke", "stream", "concurrency", "second_object", "retrieve")
LLAMA_INDEX = ("llama_chat", "llama_stream", "llama_growth", "llama_memory")
CACHING = ("cache_cost", "cache_planning")
REPORTS = ("history",)
NAMES = (*LANGCHAIN, *LLAMA_INDEX, *CACHING, *REPORTS)
# LlamaIndex's own model is compared with and not built upon: unlike langchain-aws, nothing else needs it.
LLAMA_PEER = "llama-index-llms-bedrock-converse"


def main():
    options = _options()
    isolate()
    packages = ("boto3", "langchain-core", "langchain-aws", "llama-index-core", LLAMA_PEER)
    installed = {name: number for name in packages if (number := _version(name))}
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {', '.join(map(' '.join, installed.items()))}")
    print("Ratios are medians of those within each round.\n")
    skipped = [
        name for name in options.names if name in LLAMA_INDEX and not options.alone and not installed.get(LLAMA_PEER)
    ]
    if skipped:
        print(f"Skipped, for want of the peer: {', '.join(skipped)}. To run: pip install {LLAMA_PEER}\n")
    for name in options.names:
        if name not in skipped:
            _run(name, options)


def _options():
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Ratios against peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all of them by default")
    parser.add_argument("--rounds", type=int, help="rounds of each benchmark, at least 2")
    parser.add_argument("--chunks", type=int, default=CHUNKS, help=f"chunks of a stream; {CHUNKS:,} by default")
    parser.add_argument(
        "--full",
        action="store_true",
        help="all of it: what takes a peer two minutes or 2 GB of memory, and ten kinds of targets",
    )
    parser.add_argument(
        "--alone", action="store_true", help="leave LlamaIndex's peer out, and run without it installed"
    )
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        parser.error(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(NAMES)}")
    if options.rounds is not None and options.rounds < 2:
        parser.error("a median needs --rounds of at least 2")
    if options.chunks < 1:
        parser.error("a stream needs --chunks of at least 1")
    options.names = options.names or NAMES
    return options


def _version(package):
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _run(name, options):
    # Imported one by one, and only now: the frameworks must not see the user's environment.
    module = importlib.import_module(f"{__package__}.{name}")
    takes = inspect.signature(module.run).parameters
    rounds = options.rounds or takes["rounds"].default
    given = {name: value for name, value in vars(options).items() if name in takes and name != "rounds"}
    size = f"{rounds} rounds, {options.chunks:,} chunks" if "chunks" in takes else f"{rounds} rounds"
    shown = getattr(module, "show", show)  # a module that does not measure time has a table of its own
    print(shown(f"{module.TITLE} ({size})", module.run(rounds, **given), module.PEER), "\n", flush=True)


if __name__ == "__main__":
    main()
