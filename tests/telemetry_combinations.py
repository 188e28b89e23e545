"""Calls under instrumentations that people run, and the spans that come of them. A program of its own: some of them
cannot be taken out of a process again.

Usage: python telemetry_combinations.py TELEMETRY FRAMEWORK [INSTRUMENTATION …]; prints JSON: call → its spans.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys

from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from samples import ALICE, HELLO

from bedrock_routing_integrations.emulator import BedrockEmulator
from bedrock_routing_integrations.observability.options import Telemetry

INSTRUMENTATIONS = {
    "botocore": ("opentelemetry.instrumentation.botocore", "BotocoreInstrumentor"),
    "traceloop-bedrock": ("opentelemetry.instrumentation.bedrock", "BedrockInstrumentor"),
    "openinference-bedrock": ("openinference.instrumentation.bedrock", "BedrockInstrumentor"),
    "traceloop-langchain": ("opentelemetry.instrumentation.langchain", "LangchainInstrumentor"),
    "openinference-langchain": ("openinference.instrumentation.langchain", "LangChainInstrumentor"),
    "traceloop-llama-index": ("opentelemetry.instrumentation.llamaindex", "LlamaIndexInstrumentor"),
    "openinference-llama-index": ("openinference.instrumentation.llama_index", "LlamaIndexInstrumentor"),
    "langfuse-langchain": ("langfuse.langchain", "CallbackHandler"),
}


def plain(options, target, _):
    import boto3

    from bedrock_routing_integrations import RoutedClient

    client = RoutedClient(boto3.client("bedrock-runtime"), telemetry=options)

    def ask(prompt):
        return {"modelId": target, "messages": [{"role": "user", "content": [{"text": prompt}]}]}

    yield "converse", lambda: client.converse(**ask(HELLO))
    yield "converse_stream", lambda: list(client.converse_stream(**ask(ALICE))["stream"])


def langchain(options, target, handlers):
    from bedrock_routing_integrations.langchain import BedrockRouterLLM, ChatBedrockRouter

    config = {"callbacks": handlers or None}
    for made in (ChatBedrockRouter(model=target, telemetry=options), BedrockRouterLLM(model=target, telemetry=options)):
        name = type(made).__name__
        yield f"{name}.invoke", lambda made=made: made.invoke(HELLO, config)
        yield f"{name}.stream", lambda made=made: list(made.stream(ALICE, config))
        yield f"{name}.ainvoke", lambda made=made: asyncio.run(made.ainvoke(HELLO, config))
        yield f"{name}.astream", lambda made=made: asyncio.run(all_of(made.astream(ALICE, config)))


def llama_index(options, target, _):
    from llama_index.core.llms import ChatMessage

    from bedrock_routing_integrations.llama_index import BedrockRouter

    llm, asked = BedrockRouter(model=target, telemetry=options), [ChatMessage(content=ALICE)]

    async def astream():
        return await all_of(await llm.astream_chat(asked))

    yield "chat", lambda: llm.chat(asked)
    yield "stream_chat", lambda: list(llm.stream_chat(asked))
    yield "achat", lambda: asyncio.run(llm.achat(asked))
    yield "astream_chat", lambda: asyncio.run(astream())
    yield "complete", lambda: llm.complete(HELLO)


async def all_of(chunks):
    return [chunk async for chunk in chunks]


def told(span):
    return {
        "name": span.name,
        "scope": span.instrumentation_scope.name,
        "attributes": {name: value for name, value in span.attributes.items() if isinstance(value, (str, int, float))},
    }


def run(mode, framework, names):
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    provider, meters = TracerProvider(), MeterProvider([reader])
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    handlers = []
    for name in names:
        module, kind = INSTRUMENTATIONS[name]
        made = getattr(importlib.import_module(module), kind)()
        if name.startswith("langfuse"):
            handlers.append(made)
        else:
            made.instrument(tracer_provider=provider)
    options = Telemetry(spans=mode, tracer_provider=provider, meter_provider=meters)
    calls = {"plain": plain, "langchain": langchain, "llama_index": llama_index}[framework]
    spans = {}
    with BedrockEmulator() as bedrock:
        os.environ.update(bedrock.environment())
        for name, call in calls(options, bedrock.default_router("anthropic.claude:1"), handlers):
            exporter.clear()
            with provider.get_tracer("app").start_as_current_span("app"):
                call()
            spans[name] = [told(span) for span in exporter.get_finished_spans() if "GetPromptRouter" not in span.name]
    metrics = reader.get_metrics_data()
    counted = [m for r in (metrics.resource_metrics if metrics else ()) for s in r.scope_metrics for m in s.metrics]
    return {"spans": spans, "measured": sum(p.count for m in counted for p in m.data.data_points)}


if __name__ == "__main__":
    mode, framework, *names = sys.argv[1:]
    print(json.dumps(run(mode, framework, names)))
