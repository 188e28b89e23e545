"""Test `CachePolicy` and the argument `cache`."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle

import pytest
from cache_requests import HOUR, POINT, SONNET_37, SONNET_45, points_of

from bedrock_routing_integrations import CachePolicy, RoutedClient, plan_cache_points
from bedrock_routing_integrations.caching import PrefixMemory
from bedrock_routing_integrations.connections import Connection
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.runtime import Runtime

LONG = {"text": "The bees have come home. " * 400}  # 2,500 tokens
SHORT = {"text": "Where are they?"}
TOOL = {"toolSpec": {"name": "look", "description": LONG["text"], "inputSchema": {"json": {"type": "object"}}}}
REQUEST = {
    "modelId": f"us.{SONNET_45}",
    "toolConfig": {"tools": [TOOL]},
    "system": [LONG],
    "messages": [{"role": "user", "content": [LONG, SHORT]}],
}


def planned(request=REQUEST, **policy):
    """Return section and ttl of the points of a plan."""
    return [(point.section, point.ttl) for point in plan_cache_points(request, cache=CachePolicy(**policy)).points]


# --- what each field does ---


def test_default_policy_adds_5m_points_in_all_sections():
    assert set(planned()) == {("tools", "5m"), ("system", "5m"), ("messages", "5m")}


@pytest.mark.parametrize("sections", [["tools"], ["system"], ["messages"], ["system", "tools"], ["messages", "tools"]])
def test_sections_limit_where_points_are_added(sections):
    assert {section for section, _ in planned(sections=sections)} == set(sections)


def test_empty_sections_add_no_points():
    assert planned(sections=[]) == []


@pytest.mark.parametrize("ttl", ["5m", "1h"])
def test_ttl_is_that_of_added_points(ttl):
    assert {lasts for _, lasts in planned(ttl=ttl)} == {ttl}


def test_ttl_1h_becomes_5m_if_model_offers_no_more():
    assert {ttl for _, ttl in planned({**REQUEST, "modelId": f"us.{SONNET_37}"}, ttl="1h")} == {"5m"}


def test_ttl_never_rises_after_user_points():
    marked = {**REQUEST, "system": [LONG, POINT]}
    assert {ttl for section, ttl in planned(marked, ttl="1h") if section == "messages"} == {"5m"}
    marked = {**REQUEST, "system": [LONG, HOUR]}
    assert {ttl for section, ttl in planned(marked, ttl="5m") if section == "tools"} == {"1h"}


@pytest.mark.parametrize("most", [0, 1, 2, 3, 4])
def test_max_points_limits_all_points(most):
    assert len(planned(max_points=most)) == min(most, len(planned()))


def test_user_points_count_and_are_never_removed():
    marked = {**REQUEST, "system": [LONG, POINT, SHORT, POINT], "toolConfig": {"tools": [TOOL, POINT]}}
    own = ["tools", "system", "system"]
    assert [section for section, _ in planned(marked, max_points=2)] == own
    assert [section for section, _ in planned(marked, max_points=0)] == own
    assert [section for section, _ in planned(marked, max_points=4)] == [*own, "messages"]


def test_min_saving_excludes_points_that_save_less():
    saving = plan_cache_points(REQUEST).saving
    assert saving > 100
    assert planned(min_saving=saving - 2) == planned()
    assert planned(min_saving=saving + 2) == []


# --- memory ---


def ask(client, bedrock):
    """Send a request; return whether the client knew its prefix, as the reasons show."""
    plan = client.plan_cache_points(**REQUEST)
    client.converse(**REQUEST)
    return any("cached" in point.reason for point in plan.points)


def test_memory_names_select_who_shares_it(bedrock):
    runtime = bedrock.client("bedrock-runtime")
    clients = {name: RoutedClient(runtime, cache=CachePolicy(memory=name)) for name in ("none", "own", "shared")}
    assert [ask(clients[name], bedrock) for name in ("none", "none")] == [False, False]
    assert [ask(clients[name], bedrock) for name in ("own", "own")] == [False, True]
    assert [ask(clients[name], bedrock) for name in ("shared", "shared")] == [False, True]
    assert ask(RoutedClient(runtime), bedrock)
    assert not ask(RoutedClient(runtime, cache=CachePolicy(memory="own")), bedrock)
    assert not ask(RoutedClient(runtime, runtime=Runtime(clock=lambda: 0.0)), bedrock), "another runtime shares nothing"


def test_memory_object_is_shared_by_clients_that_get_it(bedrock):
    runtime, memory = bedrock.client("bedrock-runtime"), PrefixMemory()
    one, other = (RoutedClient(runtime, cache=CachePolicy(memory=memory)) for _ in range(2))
    assert not ask(one, bedrock)
    assert ask(other, bedrock)
    assert len(memory) > 0
    assert not ask(RoutedClient(runtime), bedrock)


# --- cache= ---


def test_cache_off_sends_request_unchanged(bedrock):
    client = RoutedClient(bedrock.client("bedrock-runtime"), cache="off")
    marked = {**REQUEST, "system": [LONG, POINT]}
    for made in (REQUEST, REQUEST, marked):
        before = copy.deepcopy(made)
        response = client.converse(**made)
        sent = bedrock.requests()[-1].request
        assert {name: sent[name] for name in made} == made == before
        assert [point["section"] for point in response["routing"]["cache_points"]] == [p[0] for p in points_of(made)]


def test_cache_auto_is_the_default_and_adds_points(bedrock):
    for client in (
        RoutedClient(bedrock.client("bedrock-runtime")),
        RoutedClient(bedrock.client("bedrock-runtime"), cache="auto"),
        RoutedClient(bedrock.client("bedrock-runtime"), cache=CachePolicy().as_dict()),
    ):
        assert client.converse(**REQUEST)["routing"]["cache_points"]
        assert points_of(bedrock.requests()[-1].request)


@pytest.mark.parametrize("wrong", [42, None, True, "on", "", [], object])
def test_cache_of_another_value_is_refused(wrong):
    for make in (
        lambda: RoutedClient(Connection(), cache=wrong),
        lambda: plan_cache_points(REQUEST, cache=wrong),
    ):
        with pytest.raises(InvalidRequestError, match="'auto', 'off' or a CachePolicy") as refused:
            make()
        assert repr(wrong) in str(refused.value)


# --- invalid values ---


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sections": ["tools", "sytem"]}, ["'sytem'", "tools, system, messages"]),
        ({"sections": "all"}, ["'all'", "tools, system, messages"]),
        ({"sections": 3}, ["sections", "3", "tools, system, messages"]),
        ({"sections": None}, ["sections", "None", "tools, system, messages"]),
        ({"sections": [["tools"]]}, ["sections", "['tools']"]),
        ({"ttl": "10m"}, ["'10m'", "'auto', '5m', '1h'"]),
        ({"ttl": 300}, ["300", "'auto', '5m', '1h'"]),
        ({"ttl": None}, ["None", "'auto', '5m', '1h'"]),
        ({"max_points": 5}, ["5", "0 to 4"]),
        ({"max_points": -1}, ["-1", "0 to 4"]),
        ({"max_points": 2.5}, ["2.5", "0 to 4"]),
        ({"max_points": "4"}, ["'4'", "0 to 4"]),
        ({"max_points": None}, ["None", "0 to 4"]),
        ({"max_points": [1]}, ["[1]", "0 to 4"]),
        ({"min_saving": -1}, ["-1", "from 0"]),
        ({"min_saving": float("nan")}, ["nan", "from 0"]),
        ({"min_saving": "100"}, ["'100'", "from 0"]),
        ({"min_saving": None}, ["None", "from 0"]),
        ({"memory": "mine"}, ["'mine'", "PrefixMemory", "'shared', 'own', 'none'"]),
        ({"memory": None}, ["None", "PrefixMemory", "'shared', 'own', 'none'"]),
        ({"memory": {}}, ["{}", "PrefixMemory"]),
    ],
)
def test_invalid_value_is_named_with_valid_ones(wrong, message):
    for make in (lambda: CachePolicy(**wrong), lambda: RoutedClient(Connection(), cache=dict(wrong))):
        with pytest.raises(InvalidRequestError) as refused:
            make()
        assert all(word in str(refused.value) for word in message), str(refused.value)


def test_unknown_field_is_named_with_known_ones():
    with pytest.raises(InvalidRequestError, match=r"no 'tll'. Use sections, ttl, min_saving, max_points, memory"):
        RoutedClient(Connection(), cache={"tll": "1h"})


# --- copies ---

POLICIES = [
    CachePolicy(), CachePolicy(sections=["messages", "tools"], ttl="1h", min_saving=12.5, max_points=2, memory="own"),
    CachePolicy(sections="system", memory="none"), CachePolicy(sections=(), max_points=0),
]  # fmt: skip


@pytest.mark.parametrize("policy", POLICIES)
def test_policy_survives_json_pickle_and_copies(policy):
    written = json.loads(json.dumps(policy.as_dict()))
    assert list(written) == [field.name for field in dataclasses.fields(CachePolicy)]
    for again in (CachePolicy(**written), pickle.loads(pickle.dumps(policy)), copy.deepcopy(policy)):
        assert again == policy
        assert hash(again) == hash(policy)
        assert again.as_dict() == policy.as_dict()


def test_pickled_policy_has_an_empty_memory():
    policy = CachePolicy(ttl="1h", memory=PrefixMemory())
    assert policy.as_dict()["memory"] == "shared"
    again = pickle.loads(pickle.dumps(policy))
    assert isinstance(again.memory, PrefixMemory)
    assert (again.ttl, len(again.memory)) == ("1h", 0)
    assert copy.deepcopy(policy).memory is policy.memory


def test_pickled_client_keeps_its_policy(bedrock):
    client = pickle.loads(pickle.dumps(RoutedClient(Connection(), cache=CachePolicy(sections=["system"], ttl="1h"))))
    points = client.converse(**REQUEST)["routing"]["cache_points"]
    assert [(point["section"], point["ttl"]) for point in points] == [("system", "1h")]


def test_sections_are_sorted_in_prefix_order():
    policy = CachePolicy(sections=["messages", "tools", "messages"])
    assert policy.sections == ("tools", "messages")
    assert policy == CachePolicy(sections={"tools", "messages"})
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.ttl = "1h"
