"""Many calls at once: each has a span of its own, under its own parent."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.config import Config
from samples import HELLO
from telemetry_spans import TelemetryRecorder, ask

from bedrock_routing_integrations import RoutedClient
from bedrock_routing_integrations.langchain import ChatBedrockRouter
from bedrock_routing_integrations.llama_index import BedrockRouter

pytestmark = pytest.mark.sweep

MANY = 64
EACH = 3


@pytest.fixture
def recorder():
    return TelemetryRecorder()


def under_own_parents(recorder):
    """Return whether each application span has exactly the calls that were made in it."""
    spans = recorder.exporter.get_finished_spans()
    apps = {span.context.span_id: span.name for span in spans if span.name.startswith("app")}
    parents = [apps[span.parent.span_id] for span in recorder.spans]
    assert sorted(parents) == sorted(name for name in apps.values() for _ in range(EACH))
    assert sum(point.count for point in recorder.points("gen_ai.client.operation.duration")) == MANY * EACH
    assert sum(point.count for point in recorder.points("gen_ai.client.token.usage")) == 2 * MANY * EACH
    return len(apps) == MANY


def test_64_threads(bedrock, recorder, router):
    client = RoutedClient(
        bedrock.client("bedrock-runtime", config=Config(max_pool_connections=MANY)), telemetry=recorder.options()
    )
    together = threading.Barrier(MANY)

    def work(number):
        together.wait()
        with recorder.span(f"app {number}"):
            client.converse(modelId=router, **ask(HELLO))
            streams = [iter(client.converse_stream(modelId=router, **ask(HELLO))["stream"]) for _ in range(EACH - 1)]
            for events in zip(*streams, strict=True):
                assert events

    with ThreadPoolExecutor(MANY) as threads:
        list(threads.map(work, range(MANY)))
    assert under_own_parents(recorder)


@pytest.mark.parametrize("made", [ChatBedrockRouter, BedrockRouter])
def test_64_tasks(bedrock, recorder, router, made):
    llm = made(model=router, telemetry=recorder.options())

    async def work(number):
        with recorder.span(f"app {number}"):
            if made is BedrockRouter:
                await asyncio.gather(*(llm.acomplete(HELLO) for _ in range(EACH - 1)))
                assert [chunk async for chunk in await llm.astream_complete(HELLO)]
            else:
                await asyncio.gather(*(llm.ainvoke(HELLO) for _ in range(EACH - 1)))
                assert [chunk async for chunk in llm.astream(HELLO)]

    async def all_of_them():
        await asyncio.gather(*(work(number) for number in range(MANY)))

    asyncio.run(all_of_them())
    assert under_own_parents(recorder)
