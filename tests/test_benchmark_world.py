"""Test the simulated world of the caching benchmark against the published rules, by examples worked out by hand.

The oracle is compared with trying every placement, the contenders with the packages that they imitate.
"""

from __future__ import annotations

import itertools
import random
from types import SimpleNamespace

import botocore.session
import pytest
from benchmarks import cache_cost
from benchmarks.__main__ import _run
from benchmarks.caching.contenders import langchain_aws
from benchmarks.caching.flavours import FLAVOURS, NOVA_PRO, RULES, SONNET_45
from benchmarks.caching.held_out import HELD_OUT
from benchmarks.caching.oracle import Oracle, with_points
from benchmarks.caching.prompts import Reader
from benchmarks.caching.runs import simulate
from benchmarks.caching.workloads import WORKLOADS
from benchmarks.caching.world import RefusedError, Rules, World
from benchmarks.caching.writing import Event, Writer, assistant, user
from botocore.validate import ParamValidator

pytestmark = pytest.mark.sweep

POINT = {"cachePoint": {"type": "default"}}
HOUR = {"cachePoint": {"type": "default", "ttl": "1h"}}
FIVE = {"cachePoint": {"type": "default", "ttl": "5m"}}


def picture(name):
    """1,600 tokens, and 4 more for the first block of a message."""
    return {"image": {"format": "png", "source": {"bytes": name.encode()}}}


A, B, C, D = map(picture, "ABCD")


class Asking:
    """A world of one or two models with Claude's prices and a minimum of 1,600 tokens or another."""

    def __init__(self, **rules):
        self.world = World({"one": Rules(**{"least": 1_600, **rules}), "two": Rules(least=1_600)})

    def __call__(self, *blocks, at=0.0, model="one", **request):
        """The tokens that are plain, read and written."""
        self.world.now, self.world.answers = at, model
        usage = self.world.converse(modelId="one", messages=[user(*blocks)], **request)["usage"]
        return usage["inputTokens"], usage["cacheReadInputTokens"], usage["cacheWriteInputTokens"]

    @property
    def cost(self):
        return self.world.served[-1].cost


@pytest.fixture
def ask():
    return Asking()


def test_without_points_every_token_is_plain(ask):
    assert [ask(A, B), ask(A, B)] == [(3_204, 0, 0)] * 2
    assert ask.cost == 3_204


def test_world_reads_and_writes_cost_the_published_prices(ask):
    assert ask(A, POINT, B) == (1_600, 0, 1_604)
    assert ask.cost == 1_600 + 1.25 * 1_604
    assert ask(A, POINT, C) == (1_600, 1_604, 0)
    assert ask.cost == pytest.approx(1_600 + 0.1 * 1_604)


def test_a_shorter_prefix_than_the_minimum_is_not_cached():
    ask = Asking(least=1_605)
    assert [ask(A, POINT, B), ask(A, POINT, B)] == [(3_204, 0, 0)] * 2
    assert ask(A, POINT, B, POINT) == (0, 0, 3_204)  # the minimum counts from the start, not from point to point


def test_an_entry_is_found_only_where_a_point_was(ask):
    ask(A, B, POINT)
    assert ask(A, POINT, C) == (1_600, 0, 1_604)


def test_an_entry_lives_five_minutes_and_not_a_second_more(ask):
    ask(A, POINT, B)
    assert ask(A, POINT, B, at=299.0) == (1_600, 1_604, 0)
    assert ask(A, POINT, B, at=599.0) == (1_600, 0, 1_604)
    assert ask(A, POINT, B, at=600.0) == (1_600, 1_604, 0)


def test_each_read_renews_the_entry(ask):
    ask(A, POINT, B)
    assert [ask(A, POINT, B, at=n * 250.0) for n in range(1, 5)] == [(1_600, 1_604, 0)] * 4


def test_a_request_that_reads_nothing_renews_nothing(ask):
    ask(A, POINT, B)
    ask(A, B, at=200.0)
    assert ask(A, POINT, B, at=400.0) == (1_600, 0, 1_604)


def test_an_hour_costs_double_and_lasts_an_hour(ask):
    ask(A, HOUR, B)
    assert ask.cost == 1_600 + 2 * 1_604
    assert ask(A, HOUR, B, at=3_599.0) == (1_600, 1_604, 0)
    assert ask(A, FIVE, B, at=7_000.0) == (1_600, 1_604, 0)  # whatever the point that finds it asks for
    assert ask(A, HOUR, B, at=10_599.0) == (1_600, 1_604, 0)
    assert ask(A, HOUR, B, at=14_199.0) == (1_600, 0, 1_604)


def test_world_writes_each_section_at_its_own_cache_points_price(ask):
    ask(A, HOUR, B, FIVE, C)
    assert ask.cost == 2 * 1_604 + 1.25 * 1_600 + 1_600
    usage = ask.world.converse(modelId="one", messages=[user(D, HOUR, B, FIVE, C)])["usage"]
    assert usage["cacheDetails"] == [{"ttl": "1h", "inputTokens": 1_604}, {"ttl": "5m", "inputTokens": 1_600}]
    assert usage["totalTokens"] == 4_804 + usage["outputTokens"]
    assert ask(A, HOUR, B, FIVE, C, at=1_000.0) == (1_600, 1_604, 1_600)


def test_the_point_finds_entries_among_the_twenty_last_boundaries(ask):
    ask(A, POINT)
    assert ask(A, *map(picture, map(str, range(20))), POINT) == (0, 0, 1_604 + 20 * 1_600)
    ask(D, POINT)
    assert ask(D, *map(picture, map(str, range(19))), POINT) == (0, 1_604, 19 * 1_600)


def test_world_point_inside_a_read_prefix_writes_and_renews_nothing(ask):
    ask(A, B, POINT)
    assert ask(A, HOUR, B, HOUR) == (0, 3_204, 0)
    assert ask(A, POINT, C, at=10.0) == (1_600, 1_604, 0)
    assert ask(A, POINT, D, at=400.0) == (1_600, 0, 1_604)


def test_each_model_has_a_cache_of_its_own(ask):
    ask(A, POINT, B, model="one")
    assert ask(A, POINT, B, model="two") == (1_600, 0, 1_604)
    assert ask(A, POINT, B, model="one") == (1_600, 1_604, 0)


def test_tools_come_before_system_and_messages_and_their_order_counts(ask):
    tools = Writer("tools").tools(2, 200)["tools"]
    system = [C, POINT]
    _, _, written = ask(A, system=system, toolConfig={"tools": tools})
    assert written > 1_600 + 300
    assert ask(A, system=system, toolConfig={"tools": tools})[1] == written
    assert ask(A, system=system, toolConfig={"tools": tools[::-1]})[1] == 0
    assert ask(A, system=system)[1] == 0
    assert ask(A, system=system, additionalModelRequestFields={"thinking": {}})[1] == 0


REFUSED = {
    "five": ([A, POINT, B, POINT, C, POINT, D, POINT, picture("E"), POINT], {}),
    "an hour after five minutes": ([A, FIVE, B, HOUR], {}),
    "nothing before it": ([POINT, A], {}),
    "two side by side": ([A, POINT, POINT], {}),
    "after thinking": ([{"reasoningContent": {"reasoningText": {"text": "Hm."}}}, POINT], {}),
    "after a document that is no PDF": (
        [{"document": {"name": "a", "format": "txt", "source": {"bytes": b"a"}}}, POINT], {},
    ),
    "with optimized latency": ([A, POINT], {"performanceConfig": {"latency": "optimized"}}),
    "an unknown ttl": ([A, {"cachePoint": {"type": "default", "ttl": "2h"}}], {}),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_world_refuses_the_cache_points_that_bedrock_refuses(ask, case):
    blocks, request = REFUSED[case]
    with pytest.raises(RefusedError):
        ask(*blocks, **request)


def test_a_pdf_may_end_a_prefix(ask):
    pdf = {"document": {"name": "a", "format": "pdf", "source": {"bytes": b"a" * 20_000}}}
    assert ask(pdf, POINT, A)[2] > 4_000


RESULT = {"toolResult": {"toolUseId": "t", "content": [{"text": "42"}]}}
NOVA_REFUSES = {
    "tools": {"toolConfig": {"tools": [*Writer("tools").tools(1)["tools"], POINT]}, "messages": [user(A)]},
    "the result of a tool": {"messages": [user(A, RESULT, POINT)]},
    "20,001 tokens": {"messages": [user(*[A] * 13, POINT)]},
    "an hour": {"messages": [user(A, HOUR)]},
}


@pytest.mark.parametrize("case", NOVA_REFUSES)
def test_nova_refuses_what_claude_takes(case):
    World(RULES).converse(modelId=SONNET_45, **NOVA_REFUSES[case])
    with pytest.raises(RefusedError):
        World(RULES).converse(modelId=NOVA_PRO, **NOVA_REFUSES[case])


def test_nova_writes_for_nothing_and_reads_for_a_quarter():
    world = World(RULES)
    for _ in range(2):
        world.converse(modelId=NOVA_PRO, messages=[user(*[A] * 12, POINT)])
    assert [each.cost for each in world.served] == [19_204, 0.25 * 19_204]


def test_the_tokens_of_a_cheaper_model_weigh_less():
    world = World({"cheap": Rules(least=1_600, weight=0.25)})
    for _ in range(2):
        world.converse(modelId="cheap", messages=[user(A, POINT)])
    assert [each.cost for each in world.served] == [0.25 * 1.25 * 1_604, pytest.approx(0.25 * 0.1 * 1_604)]
    assert [each.uncached for each in world.served] == [0.25 * 1_604] * 2


def test_world_router_reports_the_invoked_model():
    flavour = next(flavour for flavour in FLAVOURS if flavour.choice == "random")
    world = World(flavour.rules)
    world.answers = flavour.models[1]
    response = world.converse(modelId=flavour.target, messages=[user(A)])
    assert response["trace"]["promptRouter"]["invokedModelId"].endswith(f"foundation-model/{flavour.models[1]}")


def everything_tried(events, rules):
    """The least that any placement costs: all of them are tried."""
    world, ends = World({"one": rules}), [len(event.request["messages"][0]["content"]) for event in events]
    choices = [list(itertools.product((None, *rules.ttls), repeat=end)) for end in ends]
    best = float("inf")
    for placement in itertools.product(*choices):
        world = World({"one": rules}, world._reader)
        try:
            for event, ttls in zip(events, placement, strict=True):
                world.now = event.at
                points = {end: ttl for end, ttl in enumerate(ttls, 1) if ttl}
                world.converse(modelId="one", **with_points(event.request, points))
        except RefusedError:
            continue
        best = min(best, sum(each.cost for each in world.served))
    return best


@pytest.mark.parametrize("seed", range(6))
def test_the_oracle_finds_what_trying_everything_finds(seed):
    rng, now, events = random.Random(seed), 0.0, []
    for _ in range(3):
        now += rng.choice((10.0, 200.0, 1_000.0, 4_000.0))
        blocks = (A, *(rng.choice((B, C)) for _ in range(rng.choice((0, 1)))), rng.choice((B, C, D)))[:3]
        events.append(Event(now, "one", {"messages": [user(*blocks)]}))
    rules = Rules(least=rng.choice((1_600, 3_000)))
    prompts = [Reader().read(event.request) for event in events]
    best, reached = everything_tried(events, rules), []
    for ttls in (("5m", "1h"), ("5m",), ("1h",)):
        oracle = Oracle(prompts, [event.at for event in events], ["one"] * 3, {"one": rules}, ttls)
        world = World({"one": rules})
        for n, event in enumerate(events):
            world.now = event.at
            world.converse(modelId="one", **with_points(event.request, oracle.place(n)))
        reached.append(sum(each.cost for each in world.served))
        assert ttls != ("5m", "1h") or oracle.bound() <= best + 0.01
    assert min(reached) == pytest.approx(best)


def test_the_oracle_keeps_for_an_hour_only_what_must_be():
    """A comes every four minutes, A and B every twenty; an hour's point must not follow one of five minutes."""
    times = [n * 240.0 for n in range(16)]
    conversations = [[user(A, B if n % 5 == 0 else picture(str(n)))] for n in range(16)]
    rules = {"one": Rules(least=1_600)}
    prompts = [Reader().read({"messages": messages}) for messages in conversations]
    oracle, world = Oracle(prompts, times, ["one"] * 16, rules), World(rules)
    for n, messages in enumerate(conversations):
        world.now = times[n]
        world.converse(modelId="one", **with_points({"messages": messages}, oracle.place(n)))
    assert [oracle.place(n) for n in (0, 1, 15)] == [{1: "1h", 2: "1h"}, {1: "5m"}, {2: "1h"}]
    assert sum(each.cost for each in world.served) == pytest.approx(
        2 * 3_204 + 3 * 0.1 * 3_204 + 12 * (0.1 * 1_604 + 1_600)
    )


CONVERSATIONS = [
    [user(A)],
    [user(A), assistant({"text": "Hm."}), user(B)],
    [user(A), assistant({"reasoningContent": {"reasoningText": {"text": "Hm."}}}), user(B)],
    [user(A), *Writer("calls").calls()],
]


@pytest.mark.parametrize("messages", CONVERSATIONS)
@pytest.mark.parametrize("flavour", FLAVOURS, ids=lambda flavour: flavour.name)
@pytest.mark.parametrize("sections", [{}, {"system": [C], "toolConfig": Writer("tools").tools(2)}])
def test_langchain_aws_places_its_documented_cache_points(messages, flavour, sections):
    real = pytest.importorskip("langchain_aws").ChatBedrockConverse
    marked = {
        "messages": [{**m, "content": [*m["content"]]} for m in messages],
        "system": [*sections.get("system", [])],
    }
    tools = {"toolConfig": {"tools": [*sections["toolConfig"]["tools"]]}} if sections else {}
    model = SimpleNamespace(provider=flavour.models[0].split(".")[0], _get_base_model=lambda: flavour.models[0])
    real._apply_cache_points(model, {"type": "ephemeral"}, marked["system"], marked["messages"], tools)
    expected = {**marked, **tools} if marked["system"] else {"messages": marked["messages"]}
    assert langchain_aws({"messages": messages, **sections}, flavour) == expected


@pytest.mark.parametrize("name", [*WORKLOADS, *HELD_OUT])
def test_workload_is_valid_for_converse_and_reproducible(name):
    workload = {**WORKLOADS, **HELD_OUT}[name]
    events, again, other = workload(0), workload(0), workload(1)
    assert events == again
    assert events != other
    assert [event.at for event in events] == sorted(event.at for event in events)
    shape = botocore.session.get_session().get_service_model("bedrock-runtime").operation_model("Converse").input_shape
    for event in (events[0], events[len(events) // 2], events[-1]):
        report = ParamValidator().validate({"modelId": "one", **event.request}, shape)
        assert not report.has_errors(), report.generate_report()
        roles = [message["role"] for message in event.request["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]


@pytest.mark.parametrize("name", ["document, follow-up questions", "agent that thinks aloud"])
@pytest.mark.parametrize("flavour", FLAVOURS, ids=lambda flavour: flavour.name)
def test_oracle_lies_between_the_bound_and_every_contender(name, flavour):
    ratios = simulate({**WORKLOADS, **HELD_OUT}[name](3), flavour).ratios
    oracle = ratios.pop("oracle")
    assert ratios.pop("bound") <= oracle + 1e-9 <= min(ratios.values()) + 2e-9


def test_the_table_shows_all_contenders_of_each_workload(monkeypatch, capsys):
    held_out = {name: HELD_OUT[name] for name in ("documents that are no PDF",)}
    monkeypatch.setattr(cache_cost, "WORKLOADS", {"short prompts": WORKLOADS["short prompts"]})
    monkeypatch.setattr(cache_cost, "HELD_OUT", held_out)
    _run("cache_cost", SimpleNamespace(rounds=1, full=False, chunks=1))
    shown = capsys.readouterr().out
    assert all(name in shown for name in (*cache_cost.OTHERS, "ours", "oracle", "bound"))
    assert "Goals missed in " in shown
    for name in ("short prompts", *held_out):
        assert shown.count(f"\n{name}  ") == sum(flavour.usual for flavour in FLAVOURS)


def test_with_short_prompts_nothing_can_be_saved_or_lost():
    (ratios,) = [line.costs.ratios for line in cache_cost.run(1, only={"short prompts"}) if line.flavour == "claude"]
    assert ratios == dict.fromkeys(ratios, 1.0)
