"""Test that a request succeeds without the added cachePoints if Bedrock refuses them, and that this is remembered."""

from __future__ import annotations

import logging

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from cache_requests import HOUR, POINT, SONNET_37, SONNET_45, Clock, points_of
from samples import NOVA_PRO

from bedrock_routing_integrations import CachePolicy, RoutedClient
from bedrock_routing_integrations.emulator import BedrockEmulator
from bedrock_routing_integrations.runtime import Runtime

CLAUDE = f"us.{SONNET_45}"
LONG = {"text": "The bees have come home. " * 400}  # 2,500 tokens
TOOL = {"toolSpec": {"name": "look", "description": LONG["text"], "inputSchema": {"json": {"type": "object"}}}}
NAMED = {
    "tools": "The model returned the following errors: tools.0.cache_control: Extra inputs are not permitted",
    "system": "The model returned the following errors: system.0.cache_control: Extra inputs are not permitted",
    "messages": "Malformed input request: #/messages/0/content/1: extraneous key [cachePoint] is not permitted",
}


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def emulator(clock):
    with BedrockEmulator(clock=clock) as bedrock:
        yield bedrock


@pytest.fixture
def boto3_client(emulator):
    return emulator.client("bedrock-runtime", config=Config(retries={"total_max_attempts": 1}))


@pytest.fixture
def client(boto3_client, clock):
    return RoutedClient(boto3_client, cache="auto", runtime=Runtime(clock=clock))


def request(model=CLAUDE, *, system=(LONG,), content=({"text": "Where?"}, LONG), **more):
    return {"modelId": model, "system": list(system), "messages": [{"role": "user", "content": list(content)}], **more}


def everywhere(model=CLAUDE, **more):
    return request(model, toolConfig={"tools": [TOOL]}, **more)


def sent(emulator):
    """Return the sections with points of each request that Bedrock got."""
    return [[point[0] for point in points_of(entry.request)] for entry in emulator.requests("Converse")]


def warnings(caplog):
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


def ask(client, made, *, stream=False):
    """Send a request; return the answer's routing."""
    if not stream:
        return client.converse(**made)["routing"]
    *_, last = client.converse_stream(**made)["stream"]
    return last["metadata"]["routing"]


@pytest.mark.parametrize("stream", [False, True])
def test_refused_request_succeeds_without_added_points(client, emulator, stream, caplog):
    emulator.fail("validation", message=NAMED["system"])
    made = request()
    routing = ask(client, made, stream=stream)
    first, second = (entry.request for entry in emulator.requests())
    assert points_of(first)
    assert {name: second[name] for name in made} == made, "as the caller gave it"
    assert routing["cache_points"] == []
    assert routing["usage"]["cache_write_5m"] == 0
    (warning,) = warnings(caplog)
    assert all(word in warning for word in (CLAUDE, "ValidationException", "system", "cache='off'"))


def test_access_denied_for_prompt_caching_is_sent_again(client, emulator):
    message = "You invoked an unsupported model or your request did not allow prompt caching."
    emulator.fail("access_denied", message=message)
    assert ask(client, request())["cache_points"] == []
    assert [bool(points) for points in sent(emulator)] == [True, False]


@pytest.mark.parametrize("named", NAMED)
def test_refused_section_named_by_message_is_skipped_for_a_day(client, emulator, clock, named):
    emulator.fail("validation", message=NAMED[named])
    for _ in range(3):
        ask(client, everywhere())
        clock.now += 60
    first, without, second, third = sent(emulator)
    assert named in first
    assert without == []
    assert second
    assert third
    assert named not in {*second, *third}
    clock.now += 86_400
    ask(client, everywhere())
    assert named in sent(emulator)[-1]


def test_refusal_naming_no_section_skips_all_sections_with_points(client, emulator, clock, caplog):
    emulator.fail("validation", message="There is nothing available to cache.")
    ask(client, everywhere())
    clock.now += 60
    assert ask(client, everywhere())["cache_points"] == []
    assert len(sent(emulator)) == 3
    assert len(warnings(caplog)) == 1
    assert all(section in warnings(caplog)[0] for section in sent(emulator)[0])


def test_refusal_is_remembered_for_one_target(client, emulator):
    emulator.fail("validation", message="cachePoint is not permitted")
    ask(client, request())
    assert ask(client, request())["cache_points"] == []
    assert ask(client, request(f"us.{SONNET_37}"))["cache_points"] != []
    assert ask(client, request(NOVA_PRO))["cache_points"] != []


def test_refused_1h_becomes_5m(boto3_client, emulator, clock, caplog):
    client = RoutedClient(boto3_client, cache=CachePolicy(ttl="1h"), runtime=Runtime(clock=clock))
    emulator.fail("validation", message="system.0.cache_control.ttl: Input should be '5m'")
    assert ask(client, request())["cache_points"] == []
    again = ask(client, request())["cache_points"]
    assert again
    assert {point["ttl"] for point in again} == {"5m"}
    first, _, third = ([point[3] for point in points_of(entry.request)] for entry in emulator.requests())
    assert (set(first), set(third)) == ({"1h"}, {"5m"})
    assert len(warnings(caplog)) == 1


def test_user_points_stay_when_added_ones_are_removed(client, emulator):
    made = request(system=[LONG, POINT], content=[LONG, POINT, LONG])
    planned = client.plan_cache_points(**made)
    assert [point.given for point in planned.points].count(False) >= 1
    emulator.fail("validation", message="cachePoint is not permitted")
    routing = ask(client, made)
    first, second = (entry.request for entry in emulator.requests())
    assert (first["system"], first["messages"]) == (planned.request["system"], planned.request["messages"])
    assert (second["system"], second["messages"]) == (made["system"], made["messages"])
    assert [(point["section"], point["position"]) for point in routing["cache_points"]] == [
        ("system", 1), ("messages", 1),
    ]  # fmt: skip


@pytest.mark.parametrize("cache", ["auto", "off"])
def test_refusal_of_user_points_is_raised_at_once(boto3_client, emulator, clock, cache):
    client = RoutedClient(boto3_client, cache=cache, runtime=Runtime(clock=clock))
    emulator.fail("validation", message="cachePoint is not permitted")
    with pytest.raises(ClientError, match="cachePoint is not permitted"):
        client.converse(**request(system=[{"text": "Hi"}], content=[{"text": "Ho"}, HOUR]))
    assert sent(emulator) == [["messages"]]


@pytest.mark.parametrize("stream", [False, True])
def test_second_error_is_raised_and_nothing_remembered(client, emulator, stream, caplog):
    emulator.fail("validation", message="cachePoint is not permitted")
    emulator.fail("validation", message="messages: roles must alternate", after=1)
    with pytest.raises(ClientError, match="roles must alternate"):
        ask(client, request(), stream=stream)
    assert len(emulator.requests()) == 2
    assert warnings(caplog) == []
    assert ask(client, request(), stream=stream)["cache_points"] != []
    assert len(emulator.requests()) == 3


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("throttling", None),
        ("throttling", "Too many cachePoint requests"),
        ("unavailable", None),
        ("validation", "The maximum tokens you requested exceeds the model limit of 4096."),
        ("validation", "The model returned the following errors: Input is too long for requested model."),
        ("access_denied", None),
    ],
)
def test_other_errors_are_raised_without_second_attempt(client, emulator, kind, message, stream, caplog):
    emulator.fail(kind, **({"message": message} if message else {}))
    with pytest.raises(ClientError):
        ask(client, request(), stream=stream)
    assert len(emulator.requests()) == 1
    assert warnings(caplog) == []
    assert ask(client, request(), stream=stream)["cache_points"] != []


def test_repeated_refusals_warn_once(client, emulator, clock, caplog):
    for _ in range(3):
        emulator.fail("validation", message="cachePoint is not permitted")
        assert ask(client, request())["cache_points"] == []
        clock.now += 100_000  # longer than it is remembered
    assert len(sent(emulator)) == 6
    assert len(warnings(caplog)) == 1


def test_client_without_memory_remembers_refusals(boto3_client, emulator, clock):
    client = RoutedClient(boto3_client, cache=CachePolicy(memory="none"), runtime=Runtime(clock=clock))
    emulator.fail("validation", message="cachePoint is not permitted")
    for _ in range(2):
        assert ask(client, request())["cache_points"] == []
    assert [bool(points) for points in sent(emulator)] == [True, False, False]


def test_refusal_keeps_earlier_cache_entries_known(client, emulator, clock):
    """The request that was sent again had no points, so that it read nothing."""
    for number in range(3):
        clock.now += 10
        ask(client, request(content=[{"text": f"Question {number}?"}]))
    emulator.fail("validation", message="messages.0.content.1.cache_control: Extra inputs are not permitted")
    clock.now += 10
    assert ask(client, request())["usage"]["cache_read"] == 0
    clock.now += 10
    routing = ask(client, request(content=[{"text": "And now?"}]))
    assert routing["usage"]["cache_read"] > 2_000


def test_failed_planning_still_repairs_user_points(client, emulator, monkeypatch, caplog):
    def broken(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr("bedrock_routing_integrations.caching.planner.find_candidates", broken)
    routing = ask(client, request(system=[POINT, LONG, POINT]))
    assert [(point["section"], point["position"]) for point in routing["cache_points"]] == [("system", 1)]
    assert [line for line in warnings(caplog) if "could not be planned (ZeroDivisionError)" in line]
    assert len(emulator.requests()) == 1


def test_stream_closed_unread_releases_its_reservation(client):
    for number in range(6):
        made = request(system=(), content=[{"text": f"{number} {LONG['text']}"}])
        assert client.plan_cache_points(**made).points, "a guess is still allowed"
        client.converse_stream(**made)["stream"].close()
