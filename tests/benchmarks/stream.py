"""A long stream, synchronous and asynchronous."""

from __future__ import annotations

import asyncio

from .contenders import HAIKU, MESSAGES, PROMPT, ROUTER, raw
from .fixed_server import fixed_server
from .langchain_models import PEER, ours, peer
from .measuring import CHUNKS, RAW, compared, interleaved

TITLE = "stream: a long answer, sent all at once"
ROUNDS = 40
_AT_MOST = 1.05
_WAYS = ("stream on a model", "stream on a router", "astream on a model")


def run(rounds=ROUNDS, *, chunks=CHUNKS):
    loop = asyncio.new_event_loop()  # one loop, so that no measured time includes starting and stopping it
    try:
        with fixed_server(chunks=chunks) as url:
            times = interleaved(_contenders(url, loop, chunks), rounds)
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


def _contenders(url, loop, chunks):
    client = raw(url)
    contenders = {
        "raw": lambda: _whole(client.converse_stream(modelId=HAIKU, messages=MESSAGES)["stream"], chunks),
    }
    for name, make in (("peer", peer), ("ours", ours)):
        on_model, on_router = make(url), make(url, ROUTER)
        ways = (
            lambda model=on_model: _whole(model.stream(PROMPT), chunks),
            lambda model=on_router: _whole(model.stream(PROMPT), chunks),
            lambda model=on_model: loop.run_until_complete(_awhole(model.astream(PROMPT), chunks)),
        )
        contenders.update({(name, way): call for way, call in zip(_WAYS, ways, strict=True)})
    return contenders


def _whole(stream, chunks):
    _check(sum(1 for _ in stream), chunks)


async def _awhole(stream, chunks):
    count = 0
    async for _ in stream:
        count += 1
    _check(count, chunks)


def _check(count, chunks):
    if count < chunks:  # a model that does not stream would win
        raise RuntimeError(f"only {count} chunks arrived")
