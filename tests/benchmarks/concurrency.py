"""Many calls at once, to a server that takes its time."""

from __future__ import annotations

import asyncio
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

from .contenders import HAIKU, MESSAGES, PROMPT, raw
from .fixed_server import fixed_server
from .langchain_models import PEER, ours, peer
from .measuring import RAW, Row

DELAY = 0.5
CALLS = 256
TITLE = f"concurrency: {CALLS} calls at once, to a server that answers after {DELAY} s"
ROUNDS = 3
_FEW = 32
_AT_MOST = 1.5


def run(rounds=ROUNDS, *, full=False):
    """The first round opens threads and connections, so it is shown by itself; our `batch` shares those of `ainvoke`.

    ChatBedrockConverse makes few calls, which take it seconds already, unless the run is a `full` one.
    """
    theirs = CALLS if full else _FEW
    with fixed_server(DELAY) as url:
        client, their_model = raw(url, connections=CALLS), peer(url, connections=CALLS)
        passes = {
            f"{RAW}, {CALLS} threads": (CALLS, lambda: _threads(client)),
            "ChatBedrockRouter.ainvoke": (CALLS, lambda: _ainvoke(_called_once(url), CALLS)),
            "ChatBedrockRouter.batch": (CALLS, lambda: _batch(_called_once(url), CALLS)),
            f"{PEER}.ainvoke": (theirs, lambda: _ainvoke(their_model, theirs)),
            f"{PEER}.batch": (theirs, lambda: _batch(their_model, theirs)),
        }
        times = {what: [] for what in passes}
        for _ in range(rounds):
            for what, (_, run_pass) in passes.items():
                times[what].append(run_pass())
    return [row for what, (calls, _) in passes.items() for row in _rows(what, calls, times, full=full)]


def _rows(what, calls, times, *, full):
    base = times[f"{RAW}, {CALLS} threads"]
    theirs = times.get(f"{PEER}.{what.rpartition('.')[2]}")
    goal = _AT_MOST if what.startswith("ChatBedrockRouter") else None
    for when, these in (("first round", slice(0, 1)), ("then", slice(1, None))):
        value = statistics.median(times[what][these])
        comparable = full and theirs is not None
        yield Row(
            what=f"{what} of {calls}, {when}",
            value=value,
            unit="s",
            to_peer=value / statistics.median(theirs[these]) if comparable else None,
            to_raw=value / statistics.median(base[these]) if calls == CALLS else None,
            target=f"≤ {goal} s" if goal else "",
            met=value <= goal if goal else None,
        )


def _called_once(url):
    model = ours(url)
    model.invoke(PROMPT)  # the client exists; the threads and the other connections do not
    return model


def _threads(client):
    with ThreadPoolExecutor(CALLS) as pool:
        started = time.perf_counter()
        list(pool.map(lambda _: client.converse(modelId=HAIKU, messages=MESSAGES), range(CALLS)))
        return time.perf_counter() - started


def _ainvoke(model, calls):
    async def at_once():
        started = time.perf_counter()
        await asyncio.gather(*(model.ainvoke(PROMPT) for _ in range(calls)))
        return time.perf_counter() - started

    return asyncio.run(at_once())


def _batch(model, calls):
    started = time.perf_counter()
    model.batch([PROMPT] * calls)
    return time.perf_counter() - started
