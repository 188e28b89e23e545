"""The cost of one more model object when another is in use."""

from __future__ import annotations

import gc
import statistics
import time
import tracemalloc

from .contenders import HAIKU, PROMPT, ROUTER
from .fixed_server import fixed_server
from .langchain_models import PEER, ours, peer
from .measuring import Row

TITLE = "second object: one more model, when the first has been called"
ROUNDS = 50
_AT_MOST_MS, _AT_MOST_KB = 1.0, 64.0
_THEIRS = 5  # at 100 ms and 18 MB each


def run(rounds=ROUNDS):
    rows = []
    with fixed_server() as url:
        for kind, target in (("model", HAIKU), ("router", ROUTER)):
            for make in (peer, ours):
                make(url, target).invoke(PROMPT)
            rows += _figures(url, f"a {kind}", target, rounds)
    return rows


def _figures(url, kind, target, rounds):
    their_times = _times(lambda: peer(url, target), _THEIRS)
    our_times = _times(lambda: ours(url, target), rounds)
    their_memory = _memory(lambda: peer(url, target), _THEIRS)
    our_memory = _memory(lambda: ours(url, target), rounds)
    called = _memory(lambda: _called(ours(url, target)), rounds)
    return [
        _row(f"{PEER} for {kind}, time", their_times, their_times, "ms"),
        _row(f"ChatBedrockRouter for {kind}, time", our_times, their_times, "ms", _AT_MOST_MS),
        _row(f"{PEER} for {kind}, memory", their_memory, their_memory, "KB"),
        _row(f"ChatBedrockRouter for {kind}, memory", our_memory, their_memory, "KB", _AT_MOST_KB),
        _row(f"ChatBedrockRouter for {kind}, memory once called", called, their_memory, "KB", _AT_MOST_KB),
    ]


def _row(what, value, theirs, unit, at_most=None):
    return Row(
        what=what,
        value=value,
        unit=unit,
        to_peer=value / theirs,
        target=f"≤ {at_most:g} {unit}" if at_most else "",
        met=value <= at_most if at_most else None,
    )


def _called(model):
    model.invoke(PROMPT)
    return model


def _times(make, count):
    """The median, in milliseconds."""
    kept, times = [], []
    gc.collect()
    for _ in range(count):
        started = time.perf_counter()
        kept.append(make())
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


def _memory(make, count):
    """Return the mean memory of an object, in KB. What the objects share counts once."""
    make()  # fills what is cached for all
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        kept = [make() for _ in range(count)]
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (after - before) / len(kept) / 1024
