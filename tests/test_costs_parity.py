"""Compare the cost of a call, worked out by hand, with every way to make the call: equal to the last digit.

US dollars per million tokens of input, output, cache read, 5 minute write, 1 hour write (AWS's list, checked 2026-11):

    Claude Sonnet 4.5, regional    3.30   16.50   0.33    4.125   6.60
    Claude Sonnet 4.5, global      3.00   15.00   0.30    3.75    6.00
    Claude Haiku 4.5, regional     1.10    5.50   0.11    1.375   2.20
    Claude 3.5 Sonnet              3.00   15.00
    Claude 3 Haiku                 0.25    1.25
    Nova Pro                       0.80    3.20   0.20    0.80 (as input)
    Llama 3.1 70B                  0.72    0.72
"""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import boto3
import pytest
from llama_index_forms import run
from samples import ALICE, HAIKU, NOVA_PRO, SONNET
from scripted_bedrock import ScriptedBedrock, block_stop, text, whole_of

from bedrock_routing_integrations import RoutedClient
from bedrock_routing_integrations.costs.report import RoutingReport
from bedrock_routing_integrations.langchain import ChatBedrockRouter, RoutingCallbackHandler
from bedrock_routing_integrations.llama_index import BedrockRouter, RoutingEventHandler

SONNET_45 = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
GLOBAL_SONNET_45 = "global.anthropic.claude-sonnet-4-5-20250929-v1:0"
HAIKU_45 = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
LLAMA = "us.meta.llama3-1-70b-instruct-v1:0"
NOBODY_KNOWS = "anthropic.claude-99-20991231-v1:0"
ROUTER = "arn:aws:bedrock:us-east-1:123456789012:default-prompt-router/anthropic.claude:1"
PROFILES = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us."
APPLICATION = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abcdefghijkl"
LOOK_UPS = {
    f"prompt-routers/{ROUTER}": {
        "promptRouterName": "Anthropic", "promptRouterArn": ROUTER, "status": "AVAILABLE", "type": "default",
        "routingCriteria": {"responseQualityDifference": 0.0}, "fallbackModel": {"modelArn": PROFILES + SONNET},
        "models": [{"modelArn": PROFILES + HAIKU}, {"modelArn": PROFILES + SONNET}],
    },
    f"inference-profiles/{APPLICATION}": {
        "inferenceProfileName": "team", "inferenceProfileArn": APPLICATION, "inferenceProfileId": "abcdefghijkl",
        "status": "ACTIVE", "type": "APPLICATION",
        "models": [{"modelArn": f"arn:aws:bedrock:{region}::foundation-model/{NOVA_PRO}"} for region in
                   ("us-east-1", "us-east-2", "us-west-2")],
    },
}  # fmt: skip

PLAIN = {"inputTokens": 1_237, "outputTokens": 419, "totalTokens": 1_656}
READ_AND_WRITTEN = {
    **PLAIN, "cacheReadInputTokens": 20_011, "cacheWriteInputTokens": 10_004, "totalTokens": 31_671,
    "cacheDetails": [{"ttl": "1h", "inputTokens": 7_003}, {"ttl": "5m", "inputTokens": 3_001}],
}  # fmt: skip
FIVE_MINUTES = {
    **PLAIN, "cacheReadInputTokens": 20_011, "cacheWriteInputTokens": 3_001, "totalTokens": 24_668,
    "cacheDetails": [{"ttl": "5m", "inputTokens": 3_001}],
}  # fmt: skip
OPTIMIZED, FLEX = {"performance_config": {"latency": "optimized"}}, {"service_tier": "flex"}
OWN = {LLAMA: {"input_mtok": 0.5, "output_mtok": 0.7, "optimized": {"input_mtok": 0.9, "output_mtok": 0.9}}}


@dataclass(frozen=True)
class Row:
    """A call, Bedrock's metadata, and the cost in millionths of a dollar (None if unknown)."""

    target: str
    usage: dict[str, Any]
    cost: Decimal | None
    fallback: Decimal | None = None
    uncached: Decimal | None = None
    said: dict[str, Any] = field(default_factory=dict)
    asked: dict[str, Any] = field(default_factory=dict)
    prices: Any = None


def served(latency=None, tier=None, invoked=None):
    metadata = {"performanceConfig": {"latency": latency}} if latency else {}
    metadata |= {"serviceTier": {"type": tier}} if tier else {}
    return metadata | ({"trace": {"promptRouter": {"invokedModelId": PROFILES + invoked}}} if invoked else {})


ROWS = {
    # 1,237 * 3.3 + 419 * 16.5 + 20,011 * 0.33 + 3,001 * 4.125 + 7,003 * 6.6
    #     = 4,082.1 + 6,913.5 + 6,603.63 + 12,379.125 + 46,219.8; uncached 31,252 * 3.3 + 6,913.5
    "sonnet 4.5, 5m and 1h": Row(SONNET_45, READ_AND_WRITTEN, Decimal("76198.155"), uncached=Decimal("110045.1")),
    # 1,237 * 3 + 419 * 15 + 20,011 * 0.3 + 3,001 * 3.75 + 7,003 * 6
    #     = 3,711 + 6,285 + 6,003.3 + 11,253.75 + 42,018; uncached 31,252 * 3 + 6,285
    "sonnet 4.5, global": Row(GLOBAL_SONNET_45, READ_AND_WRITTEN, Decimal("69271.05"), uncached=Decimal(100041)),
    # 1,237 * 1.1 + 419 * 5.5 + 20,011 * 0.11 + 3,001 * 1.375
    #     = 1,360.7 + 2,304.5 + 2,201.21 + 4,126.375; uncached 24,249 * 1.1 + 2,304.5
    "haiku 4.5, 5m": Row(HAIKU_45, FIVE_MINUTES, Decimal("9992.785"), uncached=Decimal("28978.4")),
    # 1,237 * 0.8 + 419 * 3.2 + 20,011 * 0.2 + 3,001 * 0.8
    #     = 989.6 + 1,340.8 + 4,002.2 + 2,400.8; uncached 24,249 * 0.8 + 1,340.8
    "nova pro": Row("us." + NOVA_PRO, FIVE_MINUTES, Decimal("8733.4"), uncached=Decimal(20740)),
    "nova pro, through a team's profile": Row(APPLICATION, PLAIN, Decimal("2330.4")),  # 989.6 + 1,340.8
    "llama": Row(LLAMA, PLAIN, Decimal("1192.32")),  # 1,656 * 0.72
    "claude 3 haiku": Row(HAIKU, PLAIN, Decimal(833)),  # 1,237 * 0.25 + 419 * 1.25 = 309.25 + 523.75
    "router, the small model": Row(
        ROUTER,
        PLAIN,
        Decimal(833),
        Decimal(9996),
        said=served(invoked=HAIKU),  # 3,711 + 6,285
    ),
    "router, its fallback": Row(ROUTER, PLAIN, Decimal(9996), Decimal(9996), said=served(invoked=SONNET)),
    "router, without a trace": Row(ROUTER, PLAIN, None, Decimal(9996)),
    "unknown model": Row(NOBODY_KNOWS, PLAIN, None),
    "a tier without a price": Row("us." + NOVA_PRO, PLAIN, None, said=served(tier="flex"), asked=FLEX),
    "optimized, without a price": Row(LLAMA, PLAIN, None, said=served("optimized"), asked=OPTIMIZED),
    "optimized requested, standard served": Row(
        LLAMA, PLAIN, Decimal("1192.32"), said=served("standard"), asked=OPTIMIZED
    ),
    "optimized requested, served not reported": Row(LLAMA, PLAIN, None, asked=OPTIMIZED),
    "own price": Row(LLAMA, PLAIN, Decimal("911.8"), prices=OWN),  # 1,237 * 0.5 + 419 * 0.7 = 618.5 + 293.3
    "own price, optimized": Row(
        LLAMA,
        PLAIN,
        Decimal("1490.4"),
        said=served("optimized"),
        asked=OPTIMIZED,
        prices=OWN,  # 1,656 * 0.9
    ),
}


def answer_of(row, *, streamed):
    if not streamed:
        return whole_of({"text": "Hello"}, usage=row.usage) | row.said
    metadata = {"usage": row.usage, "metrics": {"latencyMs": 7}, **row.said}
    return [
        ("messageStart", {"role": "assistant"}), text(0, "Hel"), text(0, "lo"), block_stop(0),
        ("messageStop", {"stopReason": "end_turn"}), ("metadata", metadata),
    ]  # fmt: skip


def dollars(millionths):
    return None if millionths is None else float(millionths / 1_000_000)


# --- the ways to call; each returns the call's "routing" and the report that counted it ---


async def by_client(row, server, form):
    names = {"region_name", "endpoint_url", "aws_access_key_id", "aws_secret_access_key"}
    boto3_client = boto3.client("bedrock-runtime", **{n: v for n, v in server.arguments.items() if n in names})
    client = RoutedClient(boto3_client, prices=row.prices)
    request = {"modelId": row.target, "messages": [{"role": "user", "content": [{"text": ALICE}]}]}
    if "performance_config" in row.asked:
        request["performanceConfig"] = row.asked["performance_config"]
    if "service_tier" in row.asked:
        request["serviceTier"] = {"type": row.asked["service_tier"]}
    if form == "converse":
        routing = client.converse(**request)["routing"]
    else:
        *_, last = client.converse_stream(**request)["stream"]
        routing = last["metadata"]["routing"]
    report = RoutingReport(prices=row.prices)
    report.add(routing)
    boto3_client.close()
    return routing, report


async def by_langchain(row, server, form):
    llm = ChatBedrockRouter(model=row.target, prices=row.prices, **row.asked, **server.arguments)
    with RoutingCallbackHandler(prices=row.prices) as handler:
        if form == "invoke":
            message = llm.invoke(ALICE)
        elif form == "ainvoke":
            message = await llm.ainvoke(ALICE)
        elif form == "stream":
            message = functools.reduce(operator.add, llm.stream(ALICE))
        else:
            message = functools.reduce(operator.add, [chunk async for chunk in llm.astream(ALICE)])
    return message.response_metadata["routing"], handler.report


async def by_llama_index(row, server, form):
    llm = BedrockRouter(model=row.target, prices=row.prices, **row.asked, **server.arguments)
    with RoutingEventHandler(prices=row.prices) as handler:
        *_, last = await run(llm, form, ALICE)
    return last.additional_kwargs["routing"], handler.report


WAYS = [
    *((by_client, form) for form in ("converse", "converse_stream")),
    *((by_langchain, form) for form in ("invoke", "ainvoke", "stream", "astream")),
    *((by_llama_index, form) for form in ("chat", "achat", "stream_chat", "astream_chat", "complete")),
]


@pytest.mark.sample(40)
@pytest.mark.parametrize(("way", "form"), WAYS, ids=[form for _, form in WAYS])
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
async def test_a_call_costs_what_was_worked_by_hand(row, way, form):
    with ScriptedBedrock(answer_of(row, streamed="stream" in form), look_ups=LOOK_UPS) as server:
        routing, report = await way(row, server, form)
    assert routing["cost_usd"] == dollars(row.cost)
    assert routing["fallback_cost_usd"] == dollars(row.fallback)
    totals = report.to_dict()["totals"]
    assert totals["calls"] == 1
    assert totals["cost_usd"] == dollars(row.cost)
    assert totals["calls_without_price"] == (row.cost is None)
    # A call without routing saves zero. Without one of the two prices the savings are unknown.
    saved = Decimal(0)
    if row.target == ROUTER:
        saved = None if row.cost is None else row.fallback - row.cost
    assert totals["saved_by_routing_usd"] == dollars(saved)
    assert totals["calls_without_routing_price"] == (saved is None)
    if row.uncached is not None:
        assert totals["saved_by_caching_usd"] == dollars(row.uncached - row.cost)
    elif row.cost is not None:
        assert totals["saved_by_caching_usd"] == 0
    assert totals["tokens"] == routing["usage"]


def test_the_prices_of_the_table_are_sums_of_its_lines():
    """The arithmetic of the comments, in exact decimals and without the package."""
    per_million = {
        "sonnet 4.5, 5m and 1h": ("3.3", "16.5", "0.33", "4.125", "6.6"),
        "sonnet 4.5, global": ("3", "15", "0.3", "3.75", "6"),
        "haiku 4.5, 5m": ("1.1", "5.5", "0.11", "1.375", "2.2"),
        "nova pro": ("0.8", "3.2", "0.2", "0.8", "0"),
        "llama": ("0.72", "0.72", "0", "0", "0"),
        "claude 3 haiku": ("0.25", "1.25", "0", "0", "0"),
    }
    for name, rates in per_million.items():
        row = ROWS[name]
        written = {each["ttl"]: each["inputTokens"] for each in row.usage.get("cacheDetails", ())}
        tokens = (1_237, 419, row.usage.get("cacheReadInputTokens", 0), written.get("5m", 0), written.get("1h", 0))
        assert sum(Decimal(rate) * count for rate, count in zip(rates, tokens, strict=True)) == row.cost
        if row.uncached is not None:
            prompt = sum(tokens) - 419
            assert Decimal(rates[0]) * prompt + Decimal(rates[1]) * 419 == row.uncached


@pytest.mark.parametrize("way", [by_langchain, by_llama_index])
async def test_sums_of_many_calls_are_exact(way):
    """A report adds decimals: a thousand times 0.000833 is 0.833, which floats would miss."""
    row = ROWS["router, the small model"]
    form = "invoke" if way is by_langchain else "chat"
    with ScriptedBedrock(answer_of(row, streamed=False), look_ups=LOOK_UPS) as server:
        routing, _ = await way(row, server, form)
    report = RoutingReport()
    for _ in range(1_000):
        report.add(routing)
    totals = report.to_dict()["totals"]
    assert (totals["cost_usd"], totals["saved_by_routing_usd"]) == (0.833, 9.163)
