"""Measure the planning of cachePoints: time per request, and memory for conversations that go on."""

from __future__ import annotations

import gc
import statistics
import time
import tracemalloc
from types import SimpleNamespace

from bedrock_routing_integrations import RoutedClient
from bedrock_routing_integrations.runtime import Runtime

from .caching.flavours import SONNET_45
from .caching.runs import quiet
from .caching.writing import Writer, assistant, event, user
from .measuring import Row

TITLE = "cache_planning: the time that RoutedClient takes for cachePoints, beyond cache='off'"
PEER = "cache='off'"
ROUNDS = 60
LIVE = 10_000
"""Conversations."""
_CALLS = 5
_MIB = 2**20


class Answers:
    """A client that answers at once, and allocates nothing."""

    def __init__(self):
        self.meta = SimpleNamespace(region_name="us-east-1")
        self._response = {
            "output": {"message": {"role": "assistant", "content": [{"text": "Yes."}]}},
            "usage": {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15},
            "ResponseMetadata": {"RetryAttempts": 0},
        }

    def converse(self, **request):
        return self._response


def run(rounds=ROUNDS, *, full=False):
    """Return the rows; memory with all 10,000 conversations if `full`, else with a tenth, multiplied by ten."""
    live = LIVE if full else LIVE // 10
    with quiet():
        return [
            _planning("200,000 tokens in 40 messages, all but the last known", _known(rounds, 40, 5_000), at_most=2.0),
            _planning("200,000 tokens in 40 messages, all new", _new(rounds, 40, 5_000), at_most=2.0),
            _planning("a small one, all but the last known", _known(rounds, 3, 60), at_most=0.1),
            _planning("a small one, all new", _new(rounds, 3, 60), at_most=0.1),
            _state(live),
        ]


def _known(rounds, messages, tokens):
    """Yield requests with one history, each in new objects as frameworks make them, and another question at the end."""
    history = _history(Writer("known"), messages, tokens)
    for n in range(rounds):
        copied = [{**message, "content": [dict(block) for block in message["content"]]} for message in history[:-1]]
        yield event(0.0, "", [*copied, Writer(f"known {n}").question(tokens)]).request


def _new(rounds, messages, tokens):
    for n in range(rounds):
        yield event(0.0, "", _history(Writer(f"new {n}"), messages, tokens)).request


def _history(writer, messages, tokens):
    """Return alternating questions and answers, with a question at the end."""
    return [(writer.answer if (messages - n) % 2 == 0 else writer.question)(tokens) for n in range(messages)]


def _planning(title, requests, *, at_most):
    """Return the median milliseconds that planning adds to a request, over the fastest of a few calls without."""
    planning, plain = RoutedClient(Answers(), cache="auto"), RoutedClient(Answers(), cache="off")
    differences = []
    for request in requests:
        gc.collect()
        without = min(_seconds(plain, request) for _ in range(_CALLS))
        differences.append(_seconds(planning, request) - without)
    value = statistics.median(differences) * 1000
    return Row(what=title, value=value, unit="ms", target=f"≤ {at_most} ms", met=value <= at_most)


def _seconds(client, request):
    started = time.perf_counter()
    client.converse(modelId=SONNET_45, **request)
    return time.perf_counter() - started


def _state(live):
    """Return the mebibytes that 10,000 conversations of ten turns leave allocated."""
    now = [0.0]
    client = RoutedClient(Answers(), cache="auto", runtime=Runtime(clock=lambda: now[0]))
    client.converse(modelId=SONNET_45, messages=[user({"text": "Once, for objects made at the first call."})])
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for n in range(live):
            now[0] += 200.0 / live  # all of them within the five minutes that caches live
            _converse(client, n)
        gc.collect()
        grown = (tracemalloc.get_traced_memory()[0] - before) / _MIB * (LIVE / live)
    finally:
        tracemalloc.stop()
    title = f"state with {LIVE:,} conversations live" + ("" if live == LIVE else f" (from {live:,})")
    return Row(what=title, value=grown, unit="MiB", target="≤ 32 MiB", met=grown <= 32)


def _converse(client, n):
    messages = []
    for turn in range(10):
        messages.append(user({"text": f"{n}/{turn}: " + "why? " * 80}))
        if turn > 6:
            client.converse(modelId=SONNET_45, messages=list(messages))
        messages.append(assistant({"text": f"{n}/{turn}: " + "because. " * 120}))
