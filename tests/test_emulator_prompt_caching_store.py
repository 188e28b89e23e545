"""Test the emulated prompt cache without HTTP: bounds, threads, and reading the prefix of a request."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock_routing_integrations.emulator import BedrockEmulator
from bedrock_routing_integrations.emulator.canned_models.tokens import input_tokens
from bedrock_routing_integrations.emulator.service.models import MODELS
from bedrock_routing_integrations.emulator.service.prompt_caching import CacheUse, PromptCaches, read_prefix

SONNET = MODELS["anthropic.claude-sonnet-4-5-20250929-v1:0"]
POINT = {"cachePoint": {"type": "default"}}
HOUR = {"cachePoint": {"type": "default", "ttl": "1h"}}


def request(letter, point=POINT):
    return {"messages": [{"role": "user", "content": [{"text": letter * 8_000}, point]}]}


def test_cache_is_bounded_and_evicts_the_least_recently_used():
    now = iter(range(100))
    caches = PromptCaches(lambda: next(now), most_entries=2)

    def read(letter, point=POINT):
        return caches.use(request(letter, point), SONNET, 2_003).read

    assert [read("a", HOUR), read("b"), read("a", HOUR)] == [0, 0, 2_003]
    assert read("c") == 0, "this took the place of b"
    assert len(caches) == 2
    assert [read("a", HOUR), read("c")] == [2_003, 2_003]
    assert read("b") == 0


def test_expired_entries_are_removed():
    now = [0.0]
    caches = PromptCaches(lambda: now[0])
    for letter in "abc":
        caches.use(request(letter), SONNET, 2_003)
    caches.use(request("d", HOUR), SONNET, 2_003)
    now[0] = 300.0
    assert len(caches) == 1
    now[0] = 3_600.0
    assert len(caches) == 0


def test_clearing_forgets_everything():
    caches = PromptCaches()
    caches.use(request("a"), SONNET, 2_003)
    caches.clear()
    assert len(caches) == 0
    assert caches.use(request("a"), SONNET, 2_003) == CacheUse(written={"5m": 2_003}, plain=0)


def test_many_threads_take_turns_and_write_each_prompt_once():
    inside, most, uses = [], [], []

    def clock():
        inside.append(1)
        time.sleep(0.0005)  # lets other threads in if no lock excludes them
        most.append(len(inside))
        inside.pop()
        return 0.0

    caches = PromptCaches(clock)

    def work():
        uses.extend(caches.use(request(letter), SONNET, 2_003) for letter in "abcdefgh")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert len(uses) == 64
    assert sum(1 for use in uses if use.written) == 8


@pytest.mark.parametrize("clock", [0.0, None, "now"])
def test_invalid_clock_is_refused_with_an_example(clock):
    with pytest.raises(ValueError, match=r"such as time\.monotonic"):
        BedrockEmulator(clock=clock)


def test_cache_point_inside_a_tool_result_is_ignored():
    def prefix(*inside):
        result = {"toolResult": {"toolUseId": "1", "content": [{"text": "r" * 8_000}, *inside]}}
        return read_prefix({"messages": [{"role": "user", "content": [result]}]}, SONNET.model_id)

    assert prefix(POINT) == prefix()
    assert prefix(POINT).points == ()


def test_blobs_count_by_their_bytes():
    def digest(data):
        image = {"image": {"format": "png", "source": {"bytes": data}}}
        return read_prefix({"messages": [{"role": "user", "content": [image]}]}, SONNET.model_id).digests

    assert digest(b"\x00\x01") == digest(b"\x00\x01") != digest(b"\x00\x02")


BLOCKS = st.one_of(
    st.text(min_size=1).map(lambda value: {"text": value}),
    st.just(POINT),
    st.just({"image": {"format": "png", "source": {"bytes": b"1"}}}),
    st.dictionaries(st.text(), st.text()).map(
        lambda value: {"toolUse": {"toolUseId": "1", "name": "n", "input": value}}
    ),
)
TOOLS = st.one_of(
    st.just(POINT),
    st.just({"systemTool": {"name": "nova_grounding"}}),
    st.tuples(st.text(min_size=1), st.dictionaries(st.text(), st.text())).map(
        lambda pair: {"toolSpec": {"name": pair[0], "inputSchema": {"json": pair[1]}}}
    ),
)


@given(st.lists(TOOLS, max_size=4), st.lists(BLOCKS, max_size=3), st.lists(st.lists(BLOCKS, min_size=1), max_size=3))
def test_sections_of_a_prefix_add_up_to_the_input_tokens(tools, system, contents):
    messages = [{"role": "user", "content": [*content, {"text": "end"}]} for content in [*contents, []]]
    sent = {"toolConfig": {"tools": tools}, "system": system, "messages": messages}
    prefix = read_prefix(sent, SONNET.model_id)
    assert prefix.tokens[-1] == input_tokens(sent)
    assert list(prefix.tokens) == sorted(prefix.tokens)
    assert len(prefix.digests) == len(set(prefix.digests)) == len(prefix.tokens)
    assert len(prefix.points) == sum(block == POINT for part in [tools, system, *contents] for block in part)
