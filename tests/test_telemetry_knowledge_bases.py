"""OpenTelemetry spans of knowledge bases: one for each Retrieve and each RetrieveAndGenerate."""

from __future__ import annotations

import asyncio
import json

import pytest
from botocore.exceptions import ClientError
from langchain_core.callbacks import BaseCallbackHandler
from llama_index.core.instrumentation import get_dispatcher
from opentelemetry import context, metrics, trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode
from telemetry_spans import TelemetryRecorder, until
from test_telemetry_external_spans import SpanHandler

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.langchain import KnowledgeBaseChain
from bedrock_routing_integrations.langchain import KnowledgeBaseRetriever as LangChainRetriever
from bedrock_routing_integrations.llama_index import KnowledgeBaseQueryEngine
from bedrock_routing_integrations.llama_index import KnowledgeBaseRetriever as LlamaIndexRetriever

QUESTION = "Who discovered Titan?"
NOVA = "us.amazon.nova-pro-v1:0"
BASE = "EMULATEDKB"


@pytest.fixture
def recorder(monkeypatch, bedrock_emulator_env):
    """A recorder in place of the process's own providers, which knowledge bases use."""
    return the_processs_own(monkeypatch, TelemetryRecorder())


def the_processs_own(monkeypatch, recorder):
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: recorder.tracers)
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: recorder.meters)
    return recorder


async def drained(items):
    return [item async for item in items]


def langchain(mode):
    return KnowledgeBaseChain(knowledge_base_id=BASE, model=NOVA, mode=mode)


def llama_index(mode, **more):
    return KnowledgeBaseQueryEngine(knowledge_base_id=BASE, model=NOVA, mode=mode, **more)


async def streamed(engine):
    return await drained((await engine.aquery(QUESTION)).async_response_gen())


RETRIEVALS = {
    "LangChain": lambda: LangChainRetriever(knowledge_base_id=BASE, k=3).invoke(QUESTION),
    "LangChain, asynchronous": lambda: asyncio.run(LangChainRetriever(knowledge_base_id=BASE, k=3).ainvoke(QUESTION)),
    "LangChain, by page": lambda: list(LangChainRetriever(knowledge_base_id=BASE, k=3).iterate(QUESTION, limit=1)),
    "LlamaIndex": lambda: LlamaIndexRetriever(BASE, k=3).retrieve(QUESTION),
    "LlamaIndex, asynchronous": lambda: asyncio.run(LlamaIndexRetriever(BASE, k=3).aretrieve(QUESTION)),
    "LlamaIndex, by page": lambda: list(LlamaIndexRetriever(BASE, k=3).iterate(QUESTION, limit=1)),
}
GENERATIONS = {
    "LangChain": lambda mode: langchain(mode).invoke(QUESTION),
    "LangChain, asynchronous": lambda mode: asyncio.run(langchain(mode).ainvoke(QUESTION)),
    "LangChain, streamed": lambda mode: list(langchain(mode).stream(QUESTION)),
    "LangChain, streamed asynchronously": lambda mode: asyncio.run(drained(langchain(mode).astream(QUESTION))),
    "LlamaIndex": lambda mode: llama_index(mode).query(QUESTION),
    "LlamaIndex, asynchronous": lambda mode: asyncio.run(llama_index(mode).aquery(QUESTION)),
    "LlamaIndex, streamed": lambda mode: list(llama_index(mode, streaming=True).query(QUESTION).response_gen),
    "LlamaIndex, streamed asynchronously": lambda mode: asyncio.run(streamed(llama_index(mode, streaming=True))),
}


def retrievals(recorder):
    return sum(point.count for point in recorder.points("gen_ai.retrieval.duration"))


def calls(recorder):
    return sum(point.count for point in recorder.points("gen_ai.client.operation.duration"))


@pytest.mark.sample(4)
@pytest.mark.parametrize("way", RETRIEVALS)
def test_each_retrieve_has_a_span(recorder, way):
    with recorder.span() as app:
        assert RETRIEVALS[way]()
    span = recorder.only
    assert (span.name, span.kind, span.status.status_code) == (
        f"retrieval {BASE}", SpanKind.CLIENT, StatusCode.UNSET,
    )  # fmt: skip
    assert span.parent.span_id == app.get_span_context().span_id
    attributes = dict(span.attributes)
    assert attributes.pop("aws.request_id")
    assert attributes.pop("server.address")
    assert attributes.pop("server.port")
    assert attributes == {
        "gen_ai.operation.name": "retrieval",
        "gen_ai.provider.name": "aws.bedrock",
        "gen_ai.data_source.id": BASE,
        "gen_ai.retrieval.top_k": 3,
        "cloud.region": "us-east-1",
        "aws.bedrock.operation": "Retrieve",
    }
    (point,) = recorder.points("gen_ai.retrieval.duration")
    assert (point.count, point.attributes["gen_ai.data_source.id"]) == (1, BASE)
    assert calls(recorder) == 0, "no model was called"


@pytest.mark.sample(4)
@pytest.mark.parametrize("way", GENERATIONS)
def test_each_retrieve_and_generate_has_a_span(recorder, way):
    with recorder.span():
        assert GENERATIONS[way]("retrieve_and_generate")
    span = recorder.only
    assert (span.name, span.kind, span.status.status_code) == (f"chat {NOVA}", SpanKind.CLIENT, StatusCode.UNSET)
    attributes = span.attributes
    assert (attributes["gen_ai.operation.name"], attributes["gen_ai.data_source.id"]) == ("chat", BASE)
    assert attributes["gen_ai.request.model"] == NOVA
    assert attributes["aws.bedrock.operation"].startswith("RetrieveAndGenerate")
    assert attributes["aws.request_id"]
    assert (calls(recorder), retrievals(recorder)) == (1, 0)


@pytest.mark.sample(4)
@pytest.mark.parametrize("way", GENERATIONS)
def test_retrieve_then_converse_has_one_span_per_operation(recorder, way):
    with recorder.span():
        assert GENERATIONS[way]("retrieve_then_converse")
    assert sorted(span.name for span in recorder.spans) == [f"chat {NOVA}", f"retrieval {BASE}"]
    assert (calls(recorder), retrievals(recorder)) == (1, 1)


@pytest.mark.parametrize("around", ["a span that is dropped", "no span"])
@pytest.mark.parametrize("way", ["LangChain", "LlamaIndex"])
def test_knowledge_bases_are_measured_with_any_sampling(monkeypatch, bedrock_emulator_env, way, around):
    recorder = the_processs_own(monkeypatch, TelemetryRecorder(sampler=ALWAYS_OFF))
    with recorder.span():
        token = context.attach(context.Context()) if around == "no span" else None
        RETRIEVALS[way]()
        GENERATIONS[way]("retrieve_and_generate")
        if token is not None:
            context.detach(token)
    assert (recorder.spans, calls(recorder), retrievals(recorder)) == ([], 1, 1)


def test_failed_retrieve_has_kind_of_error(recorder, bedrock_emulator_env):
    bedrock_emulator_env.fail("validation", operation="Retrieve", times=1)
    with recorder.span(), pytest.raises(ClientError):
        LangChainRetriever(knowledge_base_id=BASE).invoke("a secret question")
    assert recorder.only.attributes["error.type"] == "ValidationException"
    assert recorder.only.status.status_code is StatusCode.ERROR
    assert "secret" not in recorder.only.to_json()
    with recorder.span(), pytest.raises(InvalidRequestError):
        LangChainRetriever(knowledge_base_id=BASE).invoke("x" * 30_000)
    assert retrievals(recorder) == len(recorder.spans) == 1


def test_abandoned_stream_ends_its_span(recorder):
    with recorder.span():
        stream = langchain("retrieve_and_generate").stream(QUESTION)
        next(stream)
        stream.close()
    assert until(lambda: recorder.spans), "another thread ends it, as the finalizer may run inside any lock"
    assert recorder.only.status.status_code is StatusCode.UNSET
    assert calls(recorder) == 1


def test_content_of_knowledge_base_is_recorded_on_request(recorder, monkeypatch):
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
    with recorder.span():
        RETRIEVALS["LangChain"]()
        GENERATIONS["LangChain"]("retrieve_and_generate")
    retrieval, generation = (span.attributes for span in recorder.spans)
    assert retrieval["gen_ai.retrieval.query.text"] == QUESTION
    documents = json.loads(retrieval["gen_ai.retrieval.documents"])
    assert len(documents) == 3
    assert all(set(document) == {"id", "score"} for document in documents)
    assert QUESTION in generation["gen_ai.input.messages"]
    assert "Christiaan Huygens" in generation["gen_ai.output.messages"]


# --- with other instrumentations


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "attributes",
    [
        {"gen_ai.operation.name": "retrieval"},
        {"openinference.span.kind": "RETRIEVER"},
        {"langfuse.observation.type": "retriever"},
    ],
)
@pytest.mark.parametrize("way", ["LangChain", "LlamaIndex"])
def test_a_span_of_the_retrieval_gets_what_it_lacks(recorder, way, attributes):
    with recorder.span("theirs", attributes=attributes):
        RETRIEVALS[way]()
    assert recorder.spans == []
    (theirs,) = recorder.exporter.get_finished_spans()
    assert theirs.attributes["gen_ai.data_source.id"] == BASE
    assert theirs.attributes["aws.request_id"]
    assert retrievals(recorder) == 1


class Handler(BaseCallbackHandler):
    """Makes a span of each run of a retriever, which is not the current one, as OpenInference's does."""

    def __init__(self, recorder):
        self._spans, self._tracer = {}, recorder.tracers.get_tracer("theirs")

    def on_retriever_start(self, *_, run_id, **__):
        self._spans[run_id] = self._tracer.start_span("theirs")

    def on_retriever_end(self, *_, run_id, **__):
        self._spans.pop(run_id).end()

    def get_span(self, run_id):
        return self._spans.get(run_id)


class OfModelsOnly(BaseCallbackHandler):
    """Makes spans of models, and none of retrievers."""


Handler.__module__ = OfModelsOnly.__module__ = "openinference.instrumentation.langchain"


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_langchain_retriever_with_tracing_handler_has_one_span(recorder, way):
    retriever, config = LangChainRetriever(knowledge_base_id=BASE), {"callbacks": [Handler(recorder)]}
    with recorder.span():
        found = getattr(retriever, way)(QUESTION, config)
        assert asyncio.run(found) if way == "ainvoke" else found
    theirs, _ = recorder.exporter.get_finished_spans()
    assert (theirs.name, recorder.spans) == ("theirs", [])
    assert theirs.attributes["gen_ai.data_source.id"] == BASE
    assert retrievals(recorder) == 1
    with recorder.span():
        retriever.invoke(QUESTION, {"callbacks": [OfModelsOnly()]})
    assert recorder.only.name == f"retrieval {BASE}"


def test_llama_index_retriever_with_tracing_handler_has_one_span(recorder):
    handler = SpanHandler(recorder)
    get_dispatcher().add_span_handler(handler)
    try:
        with recorder.span():
            RETRIEVALS["LlamaIndex"]()
    finally:
        get_dispatcher().span_handlers.remove(handler)
    assert recorder.spans == []
    assert retrievals(recorder) == 1


def test_botocores_instrumentation_makes_no_second_span_of_a_retrieve(recorder):
    module = pytest.importorskip("opentelemetry.instrumentation.botocore")
    instrumentor = module.BotocoreInstrumentor()
    instrumentor.instrument(tracer_provider=recorder.tracers, meter_provider=recorder.meters)
    try:
        with recorder.span():
            RETRIEVALS["LangChain"]()
            GENERATIONS["LangChain"]("retrieve_and_generate")
    finally:
        instrumentor.uninstrument()
    names = [span.name for span in recorder.exporter.get_finished_spans() if ".Get" not in span.name]  # look-ups
    assert names == [f"retrieval {BASE}", f"chat {NOVA}", "app"]
