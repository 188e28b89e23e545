"""Make ten thousand calls from 64 threads and 64 tasks in both frameworks: no cost and no token is lost."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from benchmarks.fixed_server import fixed_server

from bedrock_routing_integrations.langchain import ChatBedrockRouter, RoutingCallbackHandler
from bedrock_routing_integrations.llama_index import BedrockRouter, RoutingEventHandler

LLAMA_70B = "us.meta.llama3-1-70b-instruct-v1:0"  # 0.72 dollars a million, in and out


class Langchain:
    handler = RoutingCallbackHandler

    def __init__(self, **arguments):
        llm = ChatBedrockRouter(model=LLAMA_70B, **arguments)
        self.ask, self.aask = (lambda: llm.invoke("Hello")), (lambda: llm.ainvoke("Hello"))


class LlamaIndex:
    handler = RoutingEventHandler

    def __init__(self, **arguments):
        llm = BedrockRouter(model=LLAMA_70B, **arguments)
        self.ask, self.aask = (lambda: llm.complete("Hello")), (lambda: llm.acomplete("Hello"))


@pytest.mark.parametrize("each", [100, pytest.param(2_500, marks=pytest.mark.sweep)])
@pytest.mark.parametrize("framework", [Langchain, LlamaIndex])
def test_every_call_is_counted_and_every_digit_of_its_cost(framework, each):
    """`each` calls by threads, and as many by tasks."""

    async def by_tasks(ask):
        left = iter(range(each))

        async def work():
            for _ in left:
                await ask()

        await asyncio.gather(*[work() for _ in range(64)])

    with fixed_server() as url:
        calls = framework(
            endpoint_url=url, region_name="us-east-1", aws_access_key_id="AKIA", aws_secret_access_key="none"
        )
        with framework.handler() as handler, ThreadPoolExecutor(64) as threads:
            for done in [threads.submit(calls.ask) for _ in range(each)]:
                done.result()
            asyncio.run(by_tasks(calls.aask))
    totals = handler.report.to_dict()["totals"]
    tokens = totals["tokens"]
    assert (totals["calls"], totals["calls_without_price"], totals["errors"]) == (2 * each, 0, {})
    assert (tokens["input"], tokens["output"]) == (2 * each * 27, 2 * each * 160)
    assert totals["cost_usd"] == float(2 * each * (27 + 160) * Decimal("0.72") / 1_000_000)
