"""Test `PrefixMemory`: who shares it, its bounds, how long it remembers, and threads, tasks, forks and copies."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import pickle
import signal
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from cached_calls import NOVA_PRO, ONCE, SONNET_37, SONNET_45, text, user

from bedrock_routing_integrations import CachePolicy, RoutedClient
from bedrock_routing_integrations.caching import PrefixMemory
from bedrock_routing_integrations.connections import Connection
from bedrock_routing_integrations.runtime import DEFAULT_RUNTIME

DOC = 3_000


@pytest.fixture
def environment(running, monkeypatch):
    for name, value in running.emulator.environment().items():
        monkeypatch.setenv(name, value)


def request(world, seed="doc", tokens=DOC):
    return {"modelId": SONNET_45, "messages": [user(text(tokens, seed), world.question())]}


def knows(client, world, seed="doc"):
    """Return whether a client has seen a document."""
    points = client.plan_cache_points(**request(world, seed)).points
    return any("cached" in point.reason or "seen before" in point.reason for point in points)


# --- who shares it ---


def test_shared_memory_covers_equal_connections(world, environment):
    one, two = RoutedClient(Connection()), RoutedClient(Connection())
    elsewhere = RoutedClient(Connection(region_name="eu-west-1"))
    one.converse(**request(world))
    assert knows(one, world)
    assert knows(two, world)
    assert not knows(elsewhere, world)


def test_shared_memory_covers_one_boto3_client_and_separates_accounts(world):
    keys = {"aws_access_key_id": "another", "aws_secret_access_key": "another"}
    other = world.emulator.client("bedrock-runtime", config=ONCE, **keys)
    one, two, stranger = RoutedClient(world.boto), RoutedClient(world.boto), RoutedClient(other)
    one.converse(**request(world))
    assert knows(two, world)
    other_session = Connection(
        region_name="us-east-1", endpoint_url=world.emulator.endpoint_url, access_key_id="b", secret_access_key="b"
    )
    assert not knows(RoutedClient(other_session), world)
    assert not knows(stranger, world)


def test_memory_keeps_targets_apart(world):
    world.client.converse(**request(world))
    assert knows(world.client, world)
    for model in (SONNET_37, NOVA_PRO):
        plan = world.client.plan_cache_points(**{**request(world), "modelId": model})
        assert not any("cached" in point.reason for point in plan.points)


def test_client_with_own_runtime_or_memory_shares_nothing(world):
    RoutedClient(world.boto).converse(**request(world))
    assert knows(RoutedClient(world.boto), world)
    assert not knows(world.new_client(), world)
    assert not knows(RoutedClient(world.boto, cache=CachePolicy(memory="own")), world)
    assert not knows(RoutedClient(world.boto, cache=CachePolicy(memory="none")), world)


def test_client_without_memory_plans_each_request_as_first(world):
    client = world.new_client(cache=CachePolicy(memory="none"))
    calls = [world.call(text(DOC, f"one-off {n}"), client=client) for n in range(6)]
    assert all(call.points for call in calls)
    assert len(DEFAULT_RUNTIME.shared(PrefixMemory)) == 0


def test_prefix_memory_is_shared_by_clients_that_get_it(world):
    memory = PrefixMemory()
    one, two = (world.new_client(cache=CachePolicy(memory=memory)) for _ in range(2))
    one.converse(**request(world))
    assert knows(two, world)
    assert len(memory) > 0
    memory.forget()
    assert len(memory) == 0
    assert not knows(two, world)


# --- how much, and for how long ---


@pytest.mark.sample(1)
@pytest.mark.parametrize("most", [1, 2, 7, 100])
def test_memory_is_bounded_and_keeps_recently_used_prefixes(world, most):
    memory = PrefixMemory(max_prefixes=most)
    client = world.new_client(cache=CachePolicy(memory=memory))
    for number in range(max(30, most)):
        world.call(text(DOC, number), world.question(), client=client)
        world.call(text(DOC, "doc"), world.question(), client=client)
        assert len(memory) <= max(2, most)
    if most == 100:
        assert knows(client, world, "doc")
        assert not knows(client, world, 0)


def test_memory_forgets_prefix_after_an_hour(world):
    memory = PrefixMemory()
    client = world.new_client(cache=CachePolicy(memory=memory))
    client.converse(**request(world))
    world.clock.now += 3_590
    assert knows(client, world)
    world.clock.now += 20
    assert not knows(client, world)
    for hour in range(4):
        world.call(text(DOC, f"other {hour}"), client=client, after=3_700)
    assert len(memory) <= 4, "and its place is free"


def test_memory_holds_no_text(world):
    memory = PrefixMemory()
    client = world.new_client(cache=CachePolicy(memory=memory))
    secret = "the treasure lies below the old oak " * 200
    for number in range(8):  # the changes before the messages are watched, too
        messages = [user({"text": secret}, world.question())]
        client.converse(modelId=SONNET_45, system=[{"text": f"{number}{secret}"}], messages=messages)
    assert len(memory) > 5
    assert "treasure" not in repr(everything(memory))


def everything(thing, seen=None):
    """Return all that can be reached from an object of this package, as plain values."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return None
    seen.add(id(thing))
    if isinstance(thing, dict):
        return [everything(part, seen) for pair in list(thing.items()) for part in pair]
    if not isinstance(thing, str) and hasattr(thing, "__iter__"):
        return [everything(part, seen) for part in thing]
    names = [*getattr(thing, "__dict__", ()), *getattr(type(thing), "__slots__", ())]
    return [everything(getattr(thing, name), seen) for name in names] or thing


# --- threads, tasks, forks ---


@pytest.mark.sweep
def test_memory_survives_eight_threads(world):
    """Conversations, documents and one-offs, with so small a memory that it forgets all the time."""
    memory = PrefixMemory(max_prefixes=50)
    clients = [world.new_client(cache=CachePolicy(memory=memory)) for _ in range(8)]
    start = threading.Barrier(8, timeout=20)

    def work(number):
        start.wait()
        messages = []
        for turn in range(15):
            messages = [*messages, user(text(1_200, f"{number}/{turn}"))]
            call = world.call(messages=messages, client=clients[number], after=0)
            messages.append(call.answer)
            world.call(text(DOC, turn % 3), text(5, number), client=clients[number], after=0)
            world.call(text(DOC, f"one-off {number}/{turn}"), client=clients[number], after=61)
            assert len(memory) <= 50
        return call.read

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    memory.forget()
    calls = [world.call(text(DOC, "afterwards"), world.question(), client=clients[0]) for _ in range(3)]
    assert [call.read >= DOC for call in calls] == [False, True, True]


async def test_memory_is_shared_by_concurrent_tasks(world):
    await asyncio.to_thread(world.call, text(DOC, "doc"), world.question())
    questions = [world.question() for _ in range(20)]
    calls = await asyncio.gather(*[asyncio.to_thread(world.call, text(DOC, "doc"), q) for q in questions])
    assert all(call.read >= DOC for call in calls)


def in_child(work, seconds=15):
    """Run work in a forked child; return its result, or None if it did not end in time."""
    receive, send = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of threads; that is what is tested
        child = os.fork()
    if child == 0:
        try:
            signal.alarm(seconds)
            os.write(send, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        result = pipe.read()
    os.waitpid(child, 0)
    return json.loads(result) if result else None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("memory", ["shared", "own", "object"])
def test_forked_child_does_not_hang_on_memory_lock(world, memory):
    policy = CachePolicy(memory=PrefixMemory() if memory == "object" else memory)
    client = RoutedClient(world.boto, cache=policy)
    client.converse(**request(world))
    used = client._planner._memory
    inside, go_on = threading.Event(), threading.Event()

    def hold():
        with used.lock:
            inside.set()
            go_on.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    inside.wait(10)
    try:
        planned = in_child(lambda: [len(client.plan_cache_points(**request(world)).points), knows(client, world)])
    finally:
        go_on.set()
        holder.join()
    assert planned == [1, False], "it plans, and begins with nothing"
    assert knows(client, world), "the parent goes on knowing"


# --- copies ---


@pytest.mark.parametrize(
    "cache",
    ["auto", "off", CachePolicy(ttl="1h", sections=("system",), min_saving=5, max_points=2), CachePolicy(memory="own"),
     CachePolicy(memory="none"), CachePolicy(memory=PrefixMemory())],
)  # fmt: skip
def test_pickled_client_keeps_policy_without_memory(world, environment, cache):
    client = RoutedClient(Connection(), cache=cache)
    client.converse(**request(world))
    again = pickle.loads(pickle.dumps(client))
    given_policy = cache.as_dict() if isinstance(cache, CachePolicy) else None
    if given_policy:
        assert again._policy.as_dict() == given_policy
    DEFAULT_RUNTIME.reset()  # as in another process
    assert not knows(again, world)
    points = again.converse(**request(world))["routing"]["cache_points"]
    assert points == [] if cache == "off" or (given_policy and given_policy["sections"] == ["system"]) else points


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy])
@pytest.mark.parametrize("memory", ["own", "object"])
def test_copied_client_shares_the_memory(world, how, memory):
    policy = CachePolicy(memory=PrefixMemory() if memory == "object" else memory)
    client = world.new_client(cache=policy)
    client.converse(**request(world))
    assert knows(how(client), world)
    assert how(policy).memory is policy.memory
    if memory == "object":
        assert knows(world.new_client(cache=how(policy)), world)


def test_pickled_memory_keeps_its_size():
    memory = pickle.loads(pickle.dumps(PrefixMemory(max_prefixes=2)))
    for number in range(50):
        memory.add(number, 0.0)
    assert len(memory) <= 2
