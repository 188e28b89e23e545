"""A long stream, synchronous and asynchronous."""

from __future__ import annotations

import asyncio

from .contenders import HAIKU, MESSAGES, PROMPT, ROUTER, ours, peer, raw
from .fixed_server import STREAM_CHUNKS, fixed_server
from .measuring import PEER, RAW, compared, interleaved

TITLE = f"stream: {STREAM_CHUNKS:,} chunks, sent all at once"
ROUNDS = 40
_AT_MOST = 1.05
_WAYS = ("stream on a model", "stream on a router", "astream on a model")


def run(rounds=ROUNDS, *, full=False):
    loop = asyncio.new_event_loop()  # one loop, so that starting and stopping it is in nobody's time
    try:
        with fixed_server() as url:
            times = interleaved(_contenders(url, loop), rounds)
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    base = times["raw"]
    rows = [compared(f"{RAW} converse_stream", base, peer=times["peer", _WAYS[0]], raw=base)]
    for way in _WAYS:
        theirs, mine = times["peer", way], times["ours", way]
        rows += [
            compared(f"{PEER} {way}", theirs, peer=theirs, raw=base),
            compared(f"ChatBedrockRouter {way}", mine, peer=theirs, raw=base, at_most=_AT_MOST),
        ]
    return rows


def _contenders(url, loop):
    client = raw(url)
    contenders = {
        "raw": lambda: _whole(client.converse_stream(modelId=HAIKU, messages=MESSAGES)["stream"]),
    }
    for name, make in (("peer", peer), ("ours", ours)):
        on_model, on_router = make(url), make(url, ROUTER)
        ways = (
            lambda model=on_model: _whole(model.stream(PROMPT)),
            lambda model=on_router: _whole(model.stream(PROMPT)),
            lambda model=on_model: loop.run_until_complete(_awhole(model.astream(PROMPT))),
        )
        contenders.update({(name, way): call for way, call in zip(_WAYS, ways, strict=True)})
    return contenders


def _whole(stream):
    _check(sum(1 for _ in stream))


async def _awhole(stream):
    count = 0
    async for _ in stream:
        count += 1
    _check(count)


def _check(count):
    if count < STREAM_CHUNKS:  # a model that does not stream would win
        raise RuntimeError(f"only {count} chunks arrived")
