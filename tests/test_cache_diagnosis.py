"""Test `Diagnosis`: which warnings are logged about caching that does not work, when, and what causes none."""

from __future__ import annotations

import itertools
import json
import logging
import random

import pytest
from cached_calls import (
    NOVA_PRO,
    SONNET_37,
    SONNET_45,
    Clock,
    assistant,
    scripted_client,
    text,
    tool,
    tool_result,
    tool_use,
    user,
    words,
)  # fmt: skip
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripted_bedrock import ScriptedBedrock, whole_of

from bedrock_routing_integrations.runtime import DEFAULT_RUNTIME

PACKAGE = "bedrock_routing_integrations"


@pytest.fixture
def warned(caplog):
    """Return the function that returns the warnings so far."""
    caplog.set_level(logging.INFO, PACKAGE)
    return lambda: [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# --- the prefix changes ---


def with_a_clock(number):
    return {"system": [{"text": f"It is 2026-11-21T10:{number:02d}:07Z. {words(3_000, 'fixed')}"}]}


def with_tools_in_another_order(number):
    tools = [tool(f"tool_{n}", tokens=300) for n in range(8)]
    random.Random(number).shuffle(tools)
    return {"toolConfig": {"tools": tools}, "system": [text(500, "fixed")]}


def with_a_tool_that_counts(number):
    counting = tool(f"tool_of_request_{number}")
    return {"toolConfig": {"tools": [tool("a", 600), tool("b", 600), counting]}, "system": [text(500, "fixed")]}


def with_an_id_after(number):
    identity = {"text": f"Request {random.Random(number).randbytes(16).hex()}"}
    return {"system": [text(3_000, "fixed"), identity, text(200, "also fixed")]}


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("members", "named"),
    [
        (with_a_clock, "system[0]."), (with_tools_in_another_order, "toolConfig.tools: the same tools come in another"),
        (with_a_tool_that_counts, "toolConfig.tools[2]."), (with_an_id_after, "system[1]."),
    ],
)  # fmt: skip
def test_changing_prefix_warns_once_and_names_first_changing_block(world, warned, members, named):
    for number in range(4):
        world.call(world.question(), **members(number))
    assert warned() == [], "not yet a pattern"
    for number in range(4, 30):
        world.call(world.question(), **members(number))
    (message,) = warned()
    assert f"The first block that changes is {named}" in message
    assert SONNET_45 in message


def test_changing_prefix_warns_once_for_each_target(world, warned):
    for number in range(40):
        world.call(world.question(), model=(SONNET_45, SONNET_37)[number % 2], **with_a_clock(number))
    assert len(warned()) == 2
    assert all(any(model in message for message in warned()) for model in (SONNET_45, SONNET_37))


def test_prefix_differing_in_words_warns_only_after_many_requests(world, warned):
    """Users and applications each have their own prompt; only many requests show that none of them returns."""
    for number in range(15):
        world.call(world.question(), system=[text(3_000, f"words {number}")])
    assert warned() == []
    for number in range(15, 30):
        world.call(world.question(), system=[text(3_000, f"words {number}")])
    (message,) = warned()
    assert "system[0]" in message


# --- nothing is read ---


def counting(read=0, written=0):
    def answer(request):
        size = len(json.dumps(request)) // 4 - read - written
        usage = {
            "inputTokens": max(0, size), "outputTokens": 2, "totalTokens": size + read + written + 2,
            "cacheReadInputTokens": read, "cacheWriteInputTokens": written,
        }  # fmt: skip
        return whole_of({"text": "Yes."}, usage=usage)

    return answer


def ask_often(answer, times=12):
    clock = Clock()
    with ScriptedBedrock(answer) as server:
        client = scripted_client(server, clock)
        for number in range(times):
            clock.now += 1
            messages = [user(text(4_000, "doc"), text(10, number))]
            client.converse(modelId=SONNET_45, messages=messages)


@pytest.mark.parametrize("written", [0, 4_000])
def test_cache_never_read_warns_once(warned, written):
    """A gateway removes the points, so that nothing is written; or calls go to many Regions, so that each writes."""
    ask_often(counting(written=written))
    (message,) = warned()
    assert "nothing was read from the cache" in message
    assert SONNET_45 in message


def test_cache_unread_by_few_requests_does_not_warn(warned):
    ask_often(counting(written=4_000), times=4)
    assert warned() == []


def test_cache_read_now_and_then_does_not_warn(warned):
    asked, writes, reads = itertools.count(1), counting(written=4_000), counting(read=4_000)

    def answer(request):
        return reads(request) if next(asked) % 4 == 0 else writes(request)

    ask_often(answer, 20)
    assert warned() == []


def test_usage_without_cache_counters_does_not_warn(warned):
    usage = {"inputTokens": 4_010, "outputTokens": 2, "totalTokens": 4_012}
    ask_often(whole_of({"text": "Yes."}, usage=usage))
    assert warned() == []


# --- just too short ---


def test_changing_short_system_prompt_is_named(world, warned):
    """A date in the system prompt prevents reads of the whole conversation after it."""
    messages = []
    for number in range(14):
        messages = [*messages, user(text(300, f"question {number}"))]
        system = [{"text": f"It is 10:{number:02d}."}, text(100, "fixed")]
        world.call(messages=messages, system=system, after=10)
        messages = [*messages, assistant(text(300, f"answer {number}"))]
    (warning,) = warned()
    assert "The first block that changes is system[0]" in warning


POINT = {"cachePoint": {"type": "default"}}


def test_user_points_only_written_warn_once(world, warned):
    for number in range(45):
        world.call(text(2_000, f"prompt {number}"), POINT, text(10, "and"))
    (warning,) = [line for line in warned() if "of your own" in line]
    assert warning.startswith(f"20 requests to {SONNET_45} in a row wrote 40,")
    assert "costs more than no caching" in warning


def test_user_points_read_now_and_then_do_not_warn(world, warned):
    for number in range(45):
        world.call(text(2_000, f"prompt {number // 15}"), POINT, text(10, f"and {number}"))
    assert [line for line in warned() if "of your own" in line] == []


@pytest.mark.parametrize("model", [SONNET_45, NOVA_PRO])
def test_instructions_just_too_short_warn_once(world, warned, model):
    for _ in range(12):
        world.call(world.question(), system=[text(900, "instructions")], model=model)
    (message,) = warned()
    assert "just too short" in message
    assert model in message
    assert "about 9" in message


@pytest.mark.parametrize("tokens", [500, 1_200])
def test_instructions_long_enough_or_far_too_short_do_not_warn(world, warned, tokens):
    for _ in range(12):
        world.call(world.question(), system=[text(tokens, "instructions")])
    assert warned() == []


# --- healthy use: no warning ---


def an_agent(world, turns=10, instructions=800, name="a"):
    messages = [user(text(1_500, name))]
    for turn in range(turns):
        system = [text(instructions, "agent")]
        yield world.call(messages=messages, system=system, toolConfig={"tools": [tool("search")]})
        messages = [*messages, assistant(tool_use(f"{name}-{turn}")), user(tool_result(f"{name}-{turn}"))]


@pytest.mark.sweep
def test_short_instructions_do_not_warn_if_history_is_read(world, warned):
    for name in range(6):
        list(an_agent(world, name=f"agent-{name}"))
    assert warned() == []


def test_rag_does_not_warn(world, warned):
    for number in range(20):
        world.call(text(3_000, f"passages {number}"), world.question(), system=[text(2_000, "instructions")])
    assert warned() == []


@pytest.mark.sample(1)
@pytest.mark.parametrize("applications", [2, 5, 8, 15])
def test_alternating_applications_do_not_warn(world, warned, applications):
    for number in range(40):
        own = number % applications
        world.call(world.question(), system=[text(2_000, f"application {own}")])
    assert warned() == []


@pytest.mark.sample(1)
@pytest.mark.parametrize("users", [3, 15])
def test_prompts_of_returning_users_do_not_warn(world, warned, users):
    names = [words(4, f"name {number}")[-12:] for number in range(users)]
    for number in range(60):
        world.call(world.question(), system=[{"text": f"You help {names[number % users]}. {words(2_000, 'fixed')}"}])
    assert warned() == []


def test_numbered_user_prompts_asked_several_times_do_not_warn(world, warned):
    for number in range(60):
        world.call(world.question(), system=[{"text": f"You help customer {number // 3}. {words(2_000, 'fixed')}"}])
    assert warned() == []


def test_pauses_one_offs_and_short_prompts_do_not_warn(world, warned):
    for number in range(12):
        world.call(text(3_000, f"one-off {number}"))
        world.call(world.question())
        world.call(text(3_000, "doc"), world.question(), after=4_000)
        world.call(text(3_000, "doc"), world.question(), after=400, model=SONNET_37)
    assert warned() == []


# --- no content of prompts ---

secrets = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=12, max_size=40)


@pytest.mark.sweep
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(secrets)
def test_warnings_contain_no_text_of_prompts(running, caplog, secret):
    world = running.fresh()
    DEFAULT_RUNTIME.reset()
    caplog.clear()
    caplog.set_level(logging.INFO)
    point = {"cachePoint": {"type": "default"}}
    for number in range(7):
        changing = [{"text": f"{number} {secret} {words(2_000, 'fixed')}"}]
        world.call({"text": secret}, point, system=changing, toolConfig={"tools": [tool("a")]})
        world.call({"text": secret}, system=[{"text": f"{secret} {words(860, 'short')}"}], model=SONNET_37)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) >= 2
    assert not any(secret in message or secret[:12] in message for message in messages)
