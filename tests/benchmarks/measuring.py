"""Measure contenders in interleaved rounds, and show medians and ratios within a round."""

from __future__ import annotations

import gc
import os
import statistics
import time
from dataclasses import dataclass

RAW = "raw boto3"
CHUNKS = 2000
"""Chunks of a stream."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of a table.

    Attributes:
        what: Who did what.
        to_peer: Times what the peer takes for the same; None where there is nothing to compare.
        to_raw: Times what raw boto3 takes.
        quartiles: Lower and upper quartile of `to_peer` over the rounds.
        cpu_to_peer: `to_peer` in CPU seconds of this process, which other programs on the machine disturb less.
        value: The median, in `unit`.
        unit: Unit of `value`.
        target: The goal in words; empty where there is none.
        met: Whether it was met in this run.
    """

    what: str
    value: float
    unit: str
    to_peer: float | None = None
    to_raw: float | None = None
    quartiles: tuple[float, float] | None = None
    cpu_to_peer: float | None = None
    target: str = ""
    met: bool | None = None


def isolate():
    """Take the user's AWS account, tracing and proxies out of this process and of the servers that it starts."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "LANGSMITH_", "LANGCHAIN_")) or name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ.update(
        AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull, AWS_EC2_METADATA_DISABLED="true"
    )


@dataclass
class Samples:
    """Seconds, one for each round: on the wall clock, and of this process's CPU (all its threads)."""

    wall: list[float]
    cpu: list[float]


def interleaved(contenders, rounds, *, warm_up=3):
    """Time every contender once a round.

    The order turns from round to round, so that no contender always follows the same other one (a heap just
    grown, a clock just raised).

    Args:
        contenders: Name → what to run.
        rounds: How many rounds count.
        warm_up: Rounds before them that do not.

    Returns:
        Name → `Samples`.
    """
    names = list(contenders)
    samples = {name: Samples([], []) for name in names}
    for _ in range(warm_up):
        for call in contenders.values():
            call()
    gc.collect()
    gc.freeze()  # modules and clients leave the collector's sight: scanning them would fall on anybody, by chance
    try:
        for n in range(rounds):
            turn = n % len(names)
            for name in names[turn:] + names[:turn]:
                _sample(contenders[name], samples[name])
    finally:
        gc.unfreeze()
    return samples


def _sample(call, samples):
    gc.collect()  # a contender pays only for its own garbage
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    samples.cpu.append(time.process_time() - cpu)
    samples.wall.append(time.perf_counter() - wall)


def repeated(count, call):
    """`call`, so many times: a single one is too short to time."""

    def calls():
        for _ in range(count):
            call()

    return calls


def ratio(times, others):
    """The median of the ratios round by round: a noisy moment that lasts longer than a round falls out of it."""
    return statistics.median(_ratios(times, others))


def _ratios(times, others):
    return [mine / other for mine, other in zip(times, others, strict=True)]


def compared(what, samples, *, peer, raw, calls=1, at_most=None):
    """The row of one contender.

    Args:
        what: Its name in the table.
        samples: What it took.
        peer: What the peer took in the same rounds; None where it did not run.
        raw: What raw boto3 took.
        calls: Calls made in each round.
        at_most: The goal, times `peer`.
    """
    alone = {
        "what": what,
        "value": statistics.median(samples.wall) / calls * 1000,
        "unit": "ms",
        "to_raw": ratio(samples.wall, raw.wall),
        "target": f"≤ {at_most:.2f} x the peer" if at_most else "",
    }
    if peer is None:
        return Row(**alone)
    middle = ratio(samples.wall, peer.wall)
    lower, _, upper = statistics.quantiles(_ratios(samples.wall, peer.wall), n=4)
    return Row(
        **alone,
        to_peer=middle,
        quartiles=None if samples is peer else (lower, upper),
        cpu_to_peer=ratio(samples.cpu, peer.cpu),
        met=middle <= at_most if at_most else None,
    )


def show(title, rows, peer):
    """Return the table as text, machine-independent columns first and empty columns left out.

    Args:
        title: The line above it.
        rows: Its `Row`s.
        peer: The name of the contender that the others are compared with.
    """
    lines = [["", f"x {peer}", "quartiles", "in CPU time", f"x {RAW}", "median", "target", ""]]
    lines += [_cells(row) for row in rows]
    columns = [column for column in zip(*lines, strict=True) if column[0] == "" or any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    text = [title, ""]
    for n in range(len(lines)):
        cells = [
            column[n].rjust(width) if column[0] and column[0] != "target" else column[n].ljust(width)
            for column, width in zip(columns, widths, strict=True)
        ]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def _cells(row):
    spread = f"{row.quartiles[0]:.3f}-{row.quartiles[1]:.3f}" if row.quartiles else ""
    met = {True: "met", False: "MISSED", None: ""}[row.met]
    value = f"{row.value:,.{0 if row.value >= 1000 else 2}f} {row.unit}"
    return [
        row.what, _times(row.to_peer), spread, _times(row.cpu_to_peer), _times(row.to_raw), value, row.target, met,
    ]  # fmt: skip


def _times(ratio):
    if ratio is None:
        return ""
    return f"{ratio:.3f}" if ratio >= 0.1 else f"{ratio:.2g}"
