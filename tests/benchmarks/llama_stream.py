"""LlamaIndex: a long stream, read in the two ways that people read it, and asynchronously."""

from __future__ import annotations

import asyncio

from .contenders import HAIKU, MESSAGES, ROUTER, raw
from .fixed_server import fixed_server
from .llama_models import ASKED, CHAT, INFERENCE, PEER, ours, peer, peer_threads
from .measuring import CHUNKS, RAW, compared, interleaved

TITLE = f"llama_stream: a long answer, sent all at once; asynchronously the peer reads {peer_threads()}"
ROUNDS = 40
_AT_MOST = 0.75
_WAYS = (
    "stream_chat, delta read",
    "stream_chat, message.content read for each chunk",
    "astream_chat, delta read",
)
_ON_ROUTER = "stream_chat on a router, delta read"


def run(rounds=ROUNDS, *, alone=False, chunks=CHUNKS):
    loop = asyncio.new_event_loop()  # one loop, so that no measured time includes starting and stopping it
    try:
        with fixed_server(chunks=chunks) as url:
            models = {"ours": ours(url, **ASKED), **({} if alone else {"peer": peer(url)})}
            router = ours(url, ROUTER, **ASKED)
            client = raw(url)
            contenders = {
                "raw": lambda: read_raw(client, chunks),
                ("ours", _ON_ROUTER): lambda: read_deltas(router, chunks),
                **{key: call for who, model in models.items() for key, call in _ways(who, model, loop, chunks)},
            }
            times = interleaved(contenders, rounds)
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    return list(_rows(times))


def _ways(who, model, loop, chunks):
    calls = (
        lambda: read_deltas(model, chunks),
        lambda: read_contents(model, chunks),
        lambda: loop.run_until_complete(_aread_deltas(model, chunks)),
    )
    return (((who, way), call) for way, call in zip(_WAYS, calls, strict=True))


def _rows(times):
    base = times["raw"]
    plain = times.get(("peer", _WAYS[0]))
    yield compared(f"{RAW} converse_stream", base, peer=plain, raw=base)
    for way in _WAYS:
        theirs = times.get(("peer", way))
        if theirs:
            yield compared(f"{PEER}.{way}", theirs, peer=theirs, raw=base)
        # Between threads the figure is the scheduler's as much as ours: it differs from run to run, and is not a goal.
        goal = None if way.startswith("astream") else _AT_MOST
        yield compared(f"BedrockRouter.{way}", times["ours", way], peer=theirs, raw=base, at_most=goal)
    # The peer cannot call a router, so there is only raw boto3 to compare with.
    yield compared(f"BedrockRouter.{_ON_ROUTER}", times["ours", _ON_ROUTER], peer=None, raw=base)


def read_raw(client, chunks):
    """A stream of raw boto3, reading its text."""
    answer = client.converse_stream(modelId=HAIKU, messages=MESSAGES, inferenceConfig=INFERENCE)
    _check(sum(1 for event in answer["stream"] if "contentBlockDelta" in event), chunks)


def read_deltas(model, chunks):
    """A stream of which only the new text of each chunk is looked at."""
    _check(sum(1 for chunk in model.stream_chat(CHAT) if chunk.delta), chunks)


def read_contents(model, chunks):
    """A stream of which all the text so far is looked at with each chunk."""
    lengths = {len(chunk.message.content or "") for chunk in model.stream_chat(CHAT)}
    _check(len(lengths), chunks)  # each chunk's text is longer than the last one's


async def _aread_deltas(model, chunks):
    count = 0
    async for chunk in await model.astream_chat(CHAT):
        count += bool(chunk.delta)
    _check(count, chunks)


def _check(count, chunks):
    if count != chunks:  # a model that does not stream, or that leaves out what was asked for, would win
        raise RuntimeError(f"{count} chunks with text arrived, not {chunks}")
