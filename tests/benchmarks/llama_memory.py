"""LlamaIndex: the memory of all chunks of a stream, as evaluations, logs and caches keep them."""

from __future__ import annotations

import gc
import statistics
import tracemalloc

from .contenders import HAIKU, MESSAGES, raw
from .fixed_server import fixed_server
from .llama_models import ASKED, CHAT, PEER, ours, peer
from .measuring import CHUNKS, RAW, Row

TITLE = "llama_memory: all chunks of a stream kept; of one that is ten times as long the peer's with --full only (2 GB)"
ROUNDS = 3
_TIMES = 10
_WAYS = ("unread", "message.content of each read")


def run(rounds=ROUNDS, *, full=False, alone=False, chunks=CHUNKS):
    rows = []
    # Reading the whole text of each chunk creates it each time, in every contender: 100 KB a chunk in a long stream.
    for length, ways in ((chunks, _WAYS), (_TIMES * chunks, _WAYS[:1])):
        with fixed_server(chunks=length) as url:
            with_peer = not alone and (full or length == chunks)
            models = {**({PEER: peer(url)} if with_peer else {}), "BedrockRouter": ours(url, **ASKED)}
            rows += _figures(models, raw(url), length, ways, rounds)
    return rows


def _figures(models, client, chunks, ways, rounds):
    events = _held(lambda: list(client.converse_stream(modelId=HAIKU, messages=MESSAGES)["stream"]), chunks, rounds)
    yield _row(f"{RAW}, the events of {chunks:,} chunks", events, chunks, None, events)
    for way in ways:
        held = {
            who: _held(lambda model=model, way=way: _keep(model, read=way != _WAYS[0]), chunks, rounds)
            for who, model in models.items()
        }
        for who, size in held.items():
            yield _row(f"{who}, {chunks:,} chunks, {way}", size, chunks, held.get(PEER), events)


def _keep(model, *, read):
    kept = list(model.stream_chat(CHAT))
    if read:
        for chunk in kept:
            _ = chunk.message.content
    return kept


def _held(keep, chunks, rounds):
    """The median of the bytes that stay while what `keep` returns is kept."""
    keep()  # fills what is cached for all
    sizes = []
    for _ in range(rounds):
        gc.collect()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            kept = keep()
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        if len(kept) < chunks:  # a contender that does not stream would win
            raise RuntimeError(f"only {len(kept)} chunks arrived")
        del kept
        sizes.append(after - before)
    return statistics.median(sizes)


def _row(what, size, chunks, theirs, base):
    return Row(
        what=what,
        value=size / chunks / 1024,
        unit="KB a chunk",
        to_peer=size / theirs if theirs else None,
        to_raw=size / base,
    )
