"""Test what ``cache="auto"`` does for typical traffic: content that repeats is read, other content soon not written."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError
from cached_calls import (
    NOVA_PRO,
    SONNET_37,
    SONNET_45,
    assistant,
    before_sending,
    cost,
    text,
    tool,
    tool_result,
    tool_use,
    user,
    words,
)  # fmt: skip

DOC = 5_000
TOO_MUCH = 20_000  # tokens that Nova caches at most


def agent(world, turns, *, model=SONNET_45, calls=1, name="a", after=1.0):
    """Yield the answered calls of a tool-calling conversation."""
    messages, fixed = [user(text(1_500, name))], {"system": [text(800, "agent")]}
    for turn in range(turns):
        tools = {"tools": [tool("search")]}
        yield world.call(messages=messages, model=model, toolConfig=tools, after=after, **fixed)
        numbers = [f"{name}-{turn}-{call}" for call in range(calls)]
        messages = [*messages, assistant(*map(tool_use, numbers)), user(*map(tool_result, numbers))]


def chat(world, turns, *, after, **members):
    messages = [user(text(4_000, "chat"))]
    for turn in range(turns):
        yield world.call(messages=messages, after=after, **members)
        messages = [*messages, assistant(text(100, f"answer {turn}")), user(world.question())]


# --- one document, many users ---


@pytest.mark.sample(3)
@pytest.mark.parametrize("model", [SONNET_45, SONNET_37, NOVA_PRO])
@pytest.mark.parametrize("members", [{}, {"system": [text(300, "instructions")]}])
def test_document_of_many_users_is_read_from_second_question(world, model, members):
    first, *others = [world.call(text(DOC, "doc"), world.question(), model=model, **members) for _ in range(8)]
    assert first.written >= DOC
    assert all(call.read >= DOC for call in others)
    assert all(call.written < 100 for call in others)
    assert model == NOVA_PRO or others[-1].written == 0, "questions are not worth writing, where that costs more"


@pytest.mark.sample(1)
@pytest.mark.parametrize("one_offs", [3, 8, 40])
def test_document_after_many_one_offs_is_read_from_third_question(world, one_offs):
    for number in range(one_offs):
        world.call(text(DOC, number), world.question())
    _, second, third, *others = [world.call(text(DOC, "doc"), world.question()) for _ in range(6)]
    assert second.written >= DOC
    assert all(call.read >= DOC for call in (third, *others))


def test_document_in_system_prompt_is_read_from_second_question(world):
    calls = [world.call(world.question(), system=[text(100, "role"), text(DOC, "doc")]) for _ in range(5)]
    assert [call.read for call in calls[1:]] == [DOC + 100] * 4


def test_two_alternating_documents_are_both_read(world):
    calls = [world.call(text(DOC, f"doc {n % 2}"), world.question()) for n in range(10)]
    assert all(call.read >= DOC for call in calls[4:])


# --- what does not come back ---


@pytest.mark.sample(1)
@pytest.mark.parametrize("blocks", [1, 2, 5])
def test_long_one_offs_are_written_at_most_three_times(world, blocks):
    calls = [world.call(*[text(DOC // blocks, f"{n}/{b}") for b in range(blocks)]) for n in range(60)]
    assert sum(call.written > 0 for call in calls) <= 3
    assert not any(call.points for call in calls[10:])
    assert cost(calls) <= 1.02


def test_instructions_before_one_offs_are_written_once(world):
    """RAG: the instructions are read, the passages are soon no longer written."""
    calls = [
        world.call(text(3_000, f"passages {n}"), world.question(), system=[text(3_000, "instructions")])
        for n in range(20)
    ]
    assert all(call.read >= 3_000 for call in calls[1:])
    assert [call.written for call in calls[4:]] == [0] * 16
    assert {point["section"] for call in calls[4:] for point in call.points} == {"system"}


def test_clock_in_system_prompt_stops_writes_after_few_requests(world):
    calls = [
        world.call(world.question(), system=[{"text": f"It is {n // 60:02d}:{n % 60:02d}. {words(3_000, 'fixed')}"}])
        for n in range(40)
    ]
    assert sum(call.written > 0 for call in calls) <= 4
    assert not any(call.points for call in calls[10:])


def test_short_prompts_get_no_points_however_often_they_repeat(world):
    calls = [world.call(text(600, "short"), world.question()) for _ in range(10)]
    assert not any(call.points for call in calls)


@pytest.mark.sweep
def test_concurrent_one_offs_write_only_few_times(world):
    """Nothing is learned before the first answers arrive, so that the ledger limits the writes in flight."""
    with before_sending(world, threading.Barrier(60, timeout=20).wait), ThreadPoolExecutor(60) as pool:
        calls = list(pool.map(lambda number: world.call(text(DOC, f"batch {number}"), after=0), range(60)))
    assert sum(call.written > 0 for call in calls) <= 8
    assert cost(calls) <= 1.04


# --- conversations ---


@pytest.mark.sample(2)
@pytest.mark.parametrize("calls", [1, 2, 12, 25])
def test_growing_agent_reads_its_whole_history(world, calls):
    """Also where a turn has more blocks than the service looks back for an entry."""
    turns = list(agent(world, 6, calls=calls))
    for before, call in itertools.pairwise(turns):
        assert call.read == before.tokens
        assert call.plain == 0


@pytest.mark.parametrize("calls", [1, 12])
def test_nova_agent_reads_all_but_newest_tool_results(world, calls):
    """Nova accepts no point after a tool result, but one after the tool calls before it."""
    turns = list(agent(world, 6, model=NOVA_PRO, calls=calls))
    for before, call in itertools.pairwise(turns):
        assert call.read >= before.read + before.written
        assert call.plain <= 205 * calls + 24, "no point is spent on a handful of tokens"
    assert turns[-1].read > turns[1].read


@pytest.mark.sweep
def test_nova_conversation_beyond_cache_maximum_keeps_reading(world):
    turns = list(agent(world, 14, model=NOVA_PRO, calls=12))
    assert turns[-1].tokens > 1.3 * TOO_MUCH
    for call in turns:
        assert call.read + call.written <= TOO_MUCH
    for call in turns[-3:]:
        assert call.read > 0.8 * TOO_MUCH


def test_interleaved_conversations_each_read_their_own_history(world):
    running = [agent(world, 6, name=f"agent-{n}") for n in range(5)]
    rounds = list(zip(*running, strict=True))
    for before, now in itertools.pairwise(rounds):
        assert [call.read for call in now] == [call.read + call.written for call in before]
    assert all(call.read >= 0.8 * call.tokens for call in itertools.chain(*rounds[2:]))


@pytest.mark.sweep
def test_conversation_is_read_despite_one_offs_in_between(world):
    before = None
    for number, call in enumerate(agent(world, 6)):
        for other in range(5):
            world.call(text(DOC, f"{number}/{other}"))
        assert before is None or number < 2 or call.read == before.tokens
        before = call


# --- time ---


def test_long_pauses_select_1h_and_history_is_read(world):
    calls = list(chat(world, 10, after=1_200))
    assert all(call.read for call in calls[2:])
    assert {ttl for call in calls[2:] for ttl in call.ttls} == {"1h"}
    assert cost(calls) < 0.5


def test_lost_1h_entry_is_written_for_1h_again(world):
    """Also by a request that only expected to read it."""
    instructions = {"system": [text(3_000, "fixed")]}
    calls = []
    for number in range(8):
        if number == 5:
            world.emulator.clear_caches()
        calls.append(world.call(world.question(), after=600, **instructions))
    assert {ttl for call in calls[2:] for ttl in call.ttls} == {"1h"}
    assert calls[5].hour == calls[5].written > 0
    assert calls[6].read


@pytest.mark.parametrize("model", [SONNET_37, NOVA_PRO])
def test_models_without_1h_are_never_asked_for_it(world, model):
    calls = list(chat(world, 10, after=1_200, model=model))
    assert {ttl for call in calls for ttl in call.ttls} <= {"5m"}
    assert model == NOVA_PRO or cost(calls) <= 1.07, "for Nova writing costs what reading anew does"
    assert model == NOVA_PRO or not any(call.points for call in calls[4:]), "nothing would be there any more"


def test_short_pauses_select_5m(world):
    calls = list(chat(world, 10, after=120))
    assert {ttl for call in calls for ttl in call.ttls} == {"5m"}
    assert all(call.read for call in calls[1:])


def test_reads_renew_5m_entry_while_requests_continue(world):
    calls = [world.call(text(DOC, "doc"), world.question(), after=290) for _ in range(12)]
    assert all(call.read >= DOC for call in calls[1:])
    assert not any(call.hour for call in calls)


def test_expired_entry_is_written_again(world):
    for _ in range(4):
        world.call(text(DOC, "doc"), world.question())
    late = world.call(text(DOC, "doc"), world.question(), after=4_000)
    assert late.read == 0
    again = [world.call(text(DOC, "doc"), world.question()) for _ in range(3)]
    assert all(call.read >= DOC for call in again[1:])


# --- at the same time ---


class Held:
    """Hold the first request, when it is about to be sent, until `go_on` is set."""

    def __init__(self):
        self.inside, self.go_on, self._first = threading.Event(), threading.Event(), threading.Lock()

    def __call__(self):
        if self._first.acquire(blocking=False):
            self.inside.set()
            self.go_on.wait(20)


def while_one_is_held(world, prompts):
    """Return the calls for the prompts; the first is answered last."""
    held = Held()
    with before_sending(world, held), ThreadPoolExecutor(len(prompts)) as pool:
        first = pool.submit(world.call, *prompts[0], after=0)
        held.inside.wait(20)
        others = list(pool.map(lambda prompt: world.call(*prompt, after=0), prompts[1:]))
        held.go_on.set()
        return [first.result(20), *others]


def test_concurrent_equal_requests_write_once(world):
    calls = while_one_is_held(world, [[text(DOC, "doc")]] * 8)
    assert [call.written >= DOC for call in calls] == [True] + [False] * 7
    assert world.call(text(DOC, "doc")).read >= DOC


def test_concurrent_questions_about_one_document_write_once(world):
    calls = while_one_is_held(world, [[text(DOC, "doc"), world.question()] for _ in range(8)])
    assert [call.written >= DOC for call in calls] == [True] + [False] * 7
    assert world.call(text(DOC, "doc"), world.question()).read >= DOC


def test_failed_write_is_left_to_another_request(world):
    held, request = Held(), {"modelId": SONNET_45, "messages": [user(text(DOC, "doc"))]}
    world.emulator.fail("throttling", times=1)
    with before_sending(world, held), ThreadPoolExecutor(1) as pool:
        writing = pool.submit(world.client.converse, **request)
        held.inside.wait(20)
        assert world.client.plan_cache_points(**request).points == ()
        held.go_on.set()
        with pytest.raises(ClientError, match="Throttling"):
            writing.result(20)
    assert world.call(text(DOC, "doc"), after=0).written >= DOC


@pytest.mark.parametrize("how", ["cut", "exception_event"])
def test_broken_stream_blocks_other_writes_only_briefly(world, how):
    world.emulator.fail(how, times=1)
    broken = world.client.converse_stream(modelId=SONNET_45, messages=[user(text(DOC, "doc"))])["stream"]
    with pytest.raises(Exception, match=r"broke off|error"):
        list(broken)
    world.emulator.clear_caches()
    calls = [world.call(text(DOC, "doc"), after=35) for _ in range(3)]
    assert calls[0].written >= DOC
    assert all(call.read >= DOC for call in calls[1:])
