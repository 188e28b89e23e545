"""`Runtime`, and the bounded and expiring caches: what is shared, for how long, by how many threads."""

from __future__ import annotations

import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from bedrock_routing_integrations import RoutedClient
from bedrock_routing_integrations.bounded_cache import BoundedCache, ExpiringCache
from bedrock_routing_integrations.connections import Connection
from bedrock_routing_integrations.runtime import DEFAULT_RUNTIME, Runtime

HOUR = 3_600.0


class State:
    """An object with state, as a runtime shares it."""

    def __init__(self, name="state"):
        self.name, self.resets = name, 0

    def reset(self):
        self.resets += 1


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_bounded_cache_drops_the_least_recently_written():
    cache = BoundedCache(2)
    for key in ("a", "b", "a", "c"):
        cache.put(key, key.upper())
    assert [cache.get(key) for key in "abc"] == ["A", None, "C"]
    assert len(cache) == 2
    assert cache.pop("a", None) == "A"
    assert cache.get("a", "none") == "none"
    assert "c" in cache
    cache.reset()
    assert len(cache) == 0


def test_bounded_cache_gives_all_threads_the_same_value():
    cache, barrier = BoundedCache(10), threading.Barrier(16)

    def add(number):
        barrier.wait()
        return cache.setdefault("key", number)

    with ThreadPoolExecutor(16) as threads:
        assert len(set(threads.map(add, range(16)))) == 1


def test_bounded_cache_survives_many_threads():
    cache = BoundedCache(5)

    def work(seed):
        for number in range(2_000):
            cache.put((seed * number) % 17, number)
            cache.pop(number % 17, None)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert len(cache) <= 5


def test_expiring_cache_looks_up_once_until_the_value_expires():
    clock, looked_up = Clock(), []
    cache = ExpiringCache(10, clock)

    def look_up(before):
        looked_up.append(before)
        return len(looked_up), HOUR

    assert [cache.get("key", look_up) for _ in range(3)] == [1, 1, 1]
    clock.now += HOUR
    assert cache.peek("key") is None
    assert cache.peek("key", expired=True) == 1
    assert cache.get("key", look_up) == 2
    assert looked_up == [None, 1], "the look-up sees the expired value"


def test_expiring_cache_keeps_none_as_a_value():
    looked_up = []
    cache = ExpiringCache(10, Clock())
    for _ in range(2):
        assert cache.get("key", lambda _: (looked_up.append(1), (None, HOUR))[1]) is None
    assert looked_up == [1]


def test_expiring_cache_makes_other_threads_wait():
    cache, looked_up, barrier = ExpiringCache(10), [], threading.Barrier(16)

    def look_up(_):
        looked_up.append(1)
        time.sleep(0.05)
        return "value", HOUR

    def get(_):
        barrier.wait()
        return cache.get("key", look_up)

    with ThreadPoolExecutor(16) as threads:
        assert set(threads.map(get, range(16))) == {"value"}
    assert looked_up == [1]


def test_expiring_cache_tries_again_after_a_look_up_that_raised():
    cache = ExpiringCache(10, Clock())

    def interrupted(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.get("key", interrupted)
    assert cache.get("key", lambda _: ("value", HOUR)) == "value"


def test_expiring_cache_drops_expired_entries_from_the_oldest_on():
    clock = Clock()
    cache = ExpiringCache(10, clock)
    cache.put("old", 1, HOUR)
    clock.now += HOUR - 1
    cache.put("new", 2, HOUR)
    clock.now += 1
    cache.drop_expired()
    assert cache.peek("old", expired=True) is None
    assert cache.peek("new") == 2


def test_runtime_makes_a_shared_object_once():
    runtime, barrier = Runtime(), threading.Barrier(16)

    def shared(_):
        barrier.wait()
        return runtime.shared(State, "one")

    with ThreadPoolExecutor(16) as threads:
        assert len(set(map(id, threads.map(shared, range(16))))) == 1
    assert runtime.shared(State, "two") is not runtime.shared(State, "one")
    assert Runtime().shared(State, "one") is not runtime.shared(State, "one")


def test_runtime_resets_shared_and_attached_objects():
    runtime, attached = Runtime(), State()
    shared, kept = runtime.shared(State), runtime.shared(Kept)
    runtime.attach(attached)
    runtime.reset(keep=[Kept])
    assert (shared.resets, kept.resets, attached.resets) == (1, 0, 1)
    assert runtime.shared(State) is shared


class Kept(State):
    """An object that stays."""


def test_runtime_warns_once_until_it_is_reset(caplog):
    runtime = Runtime()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            runtime.warn_once("subject", "Mind the gap.")
        Runtime().warn_once("subject", "Mind the step.")
        runtime.reset()
        runtime.warn_once("subject", "Mind the gap.")
    assert [record.getMessage() for record in caplog.records] == ["Mind the gap.", "Mind the step.", "Mind the gap."]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_process_starts_with_a_reset_runtime():
    runtime = Runtime()
    mine, default = runtime.shared(State), DEFAULT_RUNTIME.shared(State, "of the default")
    child = os.fork()
    if child == 0:
        os._exit(10 * mine.resets + default.resets)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 11
    assert (mine.resets, default.resets) == (0, 0)


def test_clients_of_one_runtime_share_look_ups_with_no_other(bedrock, router):
    clock = Clock()
    runtime = Runtime(clock=clock)
    for _ in range(2):
        assert RoutedClient(Connection(), runtime=runtime).resolve(router).complete
    assert len(bedrock.requests("GetPromptRouter")) == 1
    assert RoutedClient(Connection()).resolve(router).complete
    assert len(bedrock.requests("GetPromptRouter")) == 2
    clock.now += HOUR + 1
    assert RoutedClient(Connection(), runtime=runtime).resolve(router).complete
    assert len(bedrock.requests("GetPromptRouter")) == 3


def test_connections_of_two_runtimes_have_their_own_clients(bedrock):
    one, other = Connection(runtime=Runtime()), Connection(runtime=Runtime())
    assert one == other
    assert one.client("bedrock-runtime") is one.client("bedrock-runtime")
    assert one.client("bedrock-runtime") is not other.client("bedrock-runtime")
