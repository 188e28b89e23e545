"""Report the input cost with cachePoints as a ratio to no caching, simulated by the published rules."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .caching.flavours import FLAVOURS
from .caching.held_out import HELD_OUT
from .caching.prompts import Reader
from .caching.runs import BOUND, FIRST, ORACLE, OURS, Costs, combined, simulate
from .caching.workloads import WORKLOADS

TITLE = "cache_cost: input cost, as a ratio to no caching"
PEER = "no caching"
ROUNDS = 2
"""Seeds of each workload."""
OTHERS = ("none", "langchain-aws", "fixed")
MORE = 1.02
"""Maximum ratio of our cost to the oracle's (geometric mean), to no caching, and to the best other contender."""


@dataclass(frozen=True)
class Line:
    """The costs of one workload in one flavour."""

    workload: str
    flavour: str
    costs: Costs

    @property
    def best_other(self):
        return min(self.costs.ratios[name] for name in OTHERS)

    @property
    def to_oracle(self):
        return self.costs.ratios[OURS] / self.costs.ratios[ORACLE]

    def missed(self):
        """Return the goals that are missed."""
        if OURS not in self.costs.ratios:
            return []
        mine = self.costs.ratios[OURS]
        goals = {
            f"over {MORE} x no caching": mine,
            f"first {FIRST} over {MORE} x no caching": self.costs.first[OURS],
            f"over {MORE} x the best other": mine / self.best_other,
        }
        return [goal for goal, ratio in goals.items() if ratio > MORE]


def run(rounds=ROUNDS, *, full=False, only=None):
    """Return the lines of the table.

    Args:
        rounds: Number of seeds of each workload; the costs are those of all together.
        full: Whether to run the less usual flavours, too.
        only: Names of the workloads; all by default.
    """
    lines = []
    for name, workload in {**WORKLOADS, **HELD_OUT}.items():
        if only is not None and name not in only:
            continue
        seeds = [(seed, workload(seed), Reader()) for seed in range(rounds)]
        for flavour in FLAVOURS:
            if flavour.usual or full:
                costs = [simulate(events, flavour, seed, reader) for seed, events, reader in seeds]
                lines.append(Line(name, flavour.name, combined(costs)))
    return lines


def show(title, lines, peer):
    """Return the table and its summary."""
    names = [name for name in (*OTHERS, OURS, ORACLE, BOUND) if name in lines[0].costs.ratios]
    head = ["workload", "sent to", *names, "ours/oracle", f"first {FIRST}", ""]
    tables = [
        _table(heading, head, [_cells(line, names) for line in lines if line.workload in workloads])
        for heading, workloads in (("The workloads of the goals", WORKLOADS), ("Others, held out", HELD_OUT))
        if any(line.workload in workloads for line in lines)
    ]
    return "\n\n".join([title, *tables, "\n".join(_summary(lines))])


def _cells(line, names):
    ratios = [f"{line.costs.ratios[name]:.3f}" for name in names]
    mine = [f"{line.to_oracle:.3f}", f"{line.costs.first[OURS]:.3f}"] if OURS in names else ["", ""]
    return [line.workload, line.flavour, *ratios, *mine, "MISSED: " + "; ".join(line.missed()) if line.missed() else ""]


def _table(heading, head, rows):
    columns = list(zip(head, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    text = [heading, ""]
    for row in [head, *rows]:
        cells = [
            cell.ljust(width) if n < 2 or n == len(row) - 1 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def _summary(lines):
    gap = max(line.costs.ratios[ORACLE] / line.costs.ratios[BOUND] for line in lines)
    yield f"The oracle is at most {gap:.3f} x the lower bound."
    if OURS not in lines[0].costs.ratios:
        yield "This version of the package plans no cachePoints yet: no figures of ours."
        return
    sets = {"the goals' workloads": WORKLOADS, "those held out": HELD_OUT, "all": {**WORKLOADS, **HELD_OUT}}
    for name, workloads in sets.items():
        if part := [line for line in lines if line.workload in workloads]:
            mean = math.exp(sum(math.log(line.to_oracle) for line in part) / len(part))
            met = "met" if mean <= MORE else "MISSED"
            yield f"ours / oracle, geometric mean of {name}: {mean:.3f} (goal {MORE}: {met})"
    yield _worst("ours / oracle", lines, lambda line: line.to_oracle)
    yield _worst("ours / no caching", lines, lambda line: line.costs.ratios[OURS])
    yield _worst(f"the same, first {FIRST} requests", lines, lambda line: line.costs.first[OURS])
    yield _worst("ours / best other", lines, lambda line: line.costs.ratios[OURS] / line.best_other)
    missed = [line for line in lines if line.missed()]
    yield f"Goals missed in {len(missed)} of {len(lines)} lines."


def _worst(title, lines, ratio):
    worst = max(lines, key=ratio)
    return f"{title}, at worst: {ratio(worst):.3f} ({worst.workload}; {worst.flavour})"
