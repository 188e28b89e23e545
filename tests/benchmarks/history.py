"""Reading logs of invocations: time against that of parsing their JSON, and memory for a log ten times as long."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bedrock_routing_integrations.costs.invocation_logs.reading import read_history

from .measuring import Row, interleaved, ratio

TITLE = "history: a log of model invocations, read into a report"
PEER = "json.loads alone"
ROUNDS = 7
_MB = 1_000_000
_TIMED_MB = 10
_READ = """
import resource, sys
from bedrock_routing_integrations.costs.invocation_logs import read_history
assert read_history([sys.argv[1]]).malformed == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10))
"""


def run(rounds=ROUNDS, *, full=False):
    """The rows; `full` for the memory of 100 MB and 1 GB, and a tenth of it otherwise."""
    with tempfile.TemporaryDirectory() as folder:
        times = [
            *_times(
                Path(folder), "answers of up to 60,000 characters", (200, 2_000, 10_000, 60_000), rounds, at_most=2.5
            ),
            *_times(Path(folder), "answers of 200 characters", (200,), rounds),
        ]
        return [*times, *_memory(Path(folder), (100, 1000) if full else (10, 100))]


def _times(folder, what, lengths, rounds, at_most=None):
    path = folder / "timed"
    _write(path, _TIMED_MB, lengths)
    contenders = {PEER: lambda: _parse(path), "read_history": lambda: read_history([path])}
    samples = interleaved(contenders, rounds, warm_up=1)
    peer = samples[PEER]
    for name, each in samples.items():
        middle, limit = ratio(each.wall, peer.wall), at_most if each is not peer else None
        yield Row(
            what=f"{name}: {what}",
            value=_TIMED_MB / statistics.median(each.wall),
            unit="MB/s",
            to_peer=middle,
            cpu_to_peer=ratio(each.cpu, peer.cpu),
            target=f"≤ {limit:.2f} x the peer" if limit else "",
            met=middle <= limit if limit else None,
        )


def _memory(folder, sizes):
    """Of a process of its own that reads the log, at its peak."""
    taken = []
    for size in sizes:
        path = folder / "measured"
        _write(path, size, (200, 2_000, 10_000, 60_000))
        ran = subprocess.run([sys.executable, "-c", _READ, str(path)], capture_output=True, text=True, check=True)
        taken.append(float(ran.stdout))
        yield Row(what=f"peak memory of the process, {size:,} MB", value=taken[-1], unit="MiB")
    growth = taken[-1] / taken[0]
    yield Row(what="growth", value=growth, unit="times", target="≤ 1.15 times", met=growth <= 1.15)


def _write(path, size, lengths):
    sys.path.insert(0, str(Path(__file__).parents[1]))
    try:
        from invocation_logs import write_mixed
    finally:
        sys.path.pop(0)
    return write_mixed(path, size * _MB, lengths=lengths)


def _parse(path):
    with path.open("rb") as file:
        for line in file:
            json.loads(line)
