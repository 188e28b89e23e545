"""LlamaIndex: whether a chunk of a stream takes longer, the more came before it."""

from __future__ import annotations

import statistics

from .contenders import raw
from .fixed_server import fixed_server
from .llama_models import ASKED, PEER, ours, peer
from .llama_stream import read_contents, read_deltas, read_raw
from .measuring import CHUNKS, RAW, Row, interleaved, ratio

TITLE = "llama_growth: the time of a chunk in a stream that is ten times as long"
ROUNDS = 7
_TIMES = 10
_AT_MOST = 1.10
_DELTAS, _CONTENTS = "stream_chat, delta read", "stream_chat, message.content read for each chunk"


def run(rounds=ROUNDS, *, alone=False, chunks=CHUNKS):
    contenders = {}
    lengths = (chunks, _TIMES * chunks)
    with fixed_server(chunks=lengths[0]) as short, fixed_server(chunks=lengths[1]) as long:
        for length, url in zip(lengths, (short, long), strict=True):
            for name, read in _contenders(url, alone=alone).items():
                contenders[name, length] = lambda read=read, length=length: read(length)
        times = interleaved(contenders, rounds, warm_up=1)
    names = dict.fromkeys(name for name, _ in times)
    return [row for name in names for row in _rows(name, times, lengths)]


def _contenders(url, *, alone):
    """Name → what reads a stream of so many chunks."""
    client = raw(url)
    models = {**({} if alone else {PEER: peer(url)}), "BedrockRouter": ours(url, **ASKED)}
    reads = {f"{RAW} converse_stream": lambda chunks: read_raw(client, chunks)}
    for way, read in ((_DELTAS, read_deltas), (_CONTENTS, read_contents)):
        for who, model in models.items():
            reads[f"{who}.{way}"] = lambda chunks, read=read, model=model: read(model, chunks)
    return reads


def _rows(name, times, lengths):
    theirs, base = name.replace("BedrockRouter", PEER), f"{RAW} converse_stream"
    for length in lengths:
        wall = times[name, length].wall
        other = times.get((theirs, length))
        yield Row(
            what=f"{name}: {length:,} chunks",
            value=statistics.median(wall) / length * 1e6,
            unit="µs a chunk",
            to_peer=ratio(wall, other.wall) if other and name != base else None,
            to_raw=ratio(wall, times[base, length].wall),
        )
    short, long = (times[name, length].wall for length in lengths)
    growth = ratio(long, short) / _TIMES
    goal = _AT_MOST if name == f"BedrockRouter.{_DELTAS}" else None
    yield Row(
        what=f"{name}: growth",
        value=growth,
        unit="times",
        target=f"≤ {goal:.2f} times" if goal else "",
        met=growth <= goal if goal else None,
    )
