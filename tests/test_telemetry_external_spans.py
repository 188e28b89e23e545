"""Test that each call has one span, with any other instrumentation."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableLambda
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from opentelemetry import context, trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from packaging.version import Version
from samples import ALICE, HAIKU, HELLO, LLAMA_70B, SONNET
from telemetry_combinations import INSTRUMENTATIONS, langchain, llama_index
from telemetry_spans import OURS, TelemetryRecorder, ask

from bedrock_routing_integrations import RoutedClient
from bedrock_routing_integrations.langchain import BedrockRouterLLM, ChatBedrockRouter
from bedrock_routing_integrations.observability.external_spans import find_external_span

ADDED_ATTRIBUTES = {"aws.bedrock.target.kind", "aws.bedrock.is_fallback", "aws.request_id", "gen_ai.response.model"}


@pytest.fixture
def recorder():
    return TelemetryRecorder()


@pytest.fixture
def client(bedrock, recorder):
    return RoutedClient(bedrock.client("bedrock-runtime"), telemetry=recorder.options())


def both(client, router, prompt=ALICE):
    client.converse(modelId=router, **ask(prompt))
    list(client.converse_stream(modelId=router, **ask(prompt))["stream"])


def calls_measured(recorder):
    return sum(point.count for point in recorder.points("gen_ai.client.operation.duration"))


# --- inside of ours ---


@pytest.fixture
def botocore(recorder):
    pytest.importorskip("opentelemetry.instrumentation.botocore")
    from opentelemetry.instrumentation.botocore import BotocoreInstrumentor

    instrumentor = BotocoreInstrumentor()
    instrumentor.instrument(tracer_provider=recorder.tracers, meter_provider=recorder.meters)
    yield
    instrumentor.uninstrument()


def model_calls(recorder):
    spans = recorder.exporter.get_finished_spans()
    return [span for span in spans if span.attributes.get("gen_ai.operation.name") == "chat"]


def test_botocores_instrumentation_makes_no_second_span(botocore, bedrock, client, recorder, router):
    with recorder.span():
        both(client, router)
    assert [span.instrumentation_scope.name for span in model_calls(recorder)] == [OURS, OURS]
    assert [point.count for point in recorder.points("gen_ai.client.operation.duration")] == [2]


def test_botocores_instrumentation_works_unchanged_with_telemetry_off(botocore, bedrock, recorder, router):
    with recorder.span():
        both(RoutedClient(bedrock.client("bedrock-runtime"), telemetry=recorder.options(spans="off")), router)
    both(RoutedClient(bedrock.client("bedrock-runtime"), telemetry=recorder.options()), router)
    scopes = {span.instrumentation_scope.name for span in model_calls(recorder)}
    assert all(scope.startswith("opentelemetry.instrumentation.botocore") for scope in scopes)
    assert len(model_calls(recorder)) == 4


def test_call_with_botocores_instrumentation_is_measured_once(botocore, bedrock, recorder, router):
    """Under a span that is sampled, under one that is not, and without one: by us, by us, by them."""
    client = RoutedClient(bedrock.client("bedrock-runtime"), telemetry=recorder.options())
    with recorder.span():
        both(client, router)
    assert calls_measured(recorder) == 2
    with TelemetryRecorder(sampler=ALWAYS_OFF).span():
        both(client, router)
    assert calls_measured(recorder) == 4
    before = len(model_calls(recorder))
    client.converse(modelId=router, **ask(ALICE))
    measures = Version(version("opentelemetry-instrumentation-botocore")) >= Version("0.52b0")  # 0.51 has spans only
    assert calls_measured(recorder) == 4 + measures
    assert len(model_calls(recorder)) == before + 1


def test_measuring_instrumentation_is_known_by_its_module(bedrock, recorder, router):
    members = {**vars(Handler), "__module__": "openinference.instrumentation.langchain"}
    silent = type("Silent", Handler.__bases__, members)
    for handler, measured in ((Handler, 0), (silent, 2)):
        llm = ChatBedrockRouter(model=router, telemetry=recorder.options(), callbacks=[handler(recorder)])
        with recorder.span():
            llm.invoke(HELLO)
            list(llm.stream(HELLO))
        assert (recorder.spans, calls_measured(recorder)) == ([], measured)


def test_look_ups_and_other_services_keep_their_spans(botocore, bedrock, client, recorder, router):
    with recorder.span():
        client.converse(modelId=router, **ask(HELLO))
        bedrock.client("bedrock").list_prompt_routers()
    names = [span.name for span in recorder.exporter.get_finished_spans()]
    assert {"Bedrock.GetPromptRouter", "Bedrock.ListPromptRouters"} <= set(names)


def test_while_sending_our_span_is_the_current_one(bedrock, recorder, router):
    seen = []

    def look(**_):
        seen.append((trace.get_current_span().name, context.get_value("suppress_instrumentation")))

    boto3_client = bedrock.client("bedrock-runtime")
    boto3_client.meta.events.register("before-send.bedrock-runtime", look)
    client = RoutedClient(boto3_client, telemetry=recorder.options(spans="always"))
    before = context.get_current()
    both(client, router)
    assert seen == [(f"chat {router}", True)] * 2
    assert context.get_current() == before


# --- ours inside of another ---


@pytest.mark.parametrize(
    "attributes",
    [
        {"gen_ai.operation.name": "chat"},
        {"openinference.span.kind": "LLM"},
        {"langfuse.observation.type": "generation"},
    ],
)
@pytest.mark.parametrize("mode", ["auto", "always"])
def test_external_span_gets_missing_attributes(bedrock, recorder, router, attributes, mode):
    client = RoutedClient(bedrock.client("bedrock-runtime"), telemetry=recorder.options(spans=mode))
    mine = {**attributes, "gen_ai.response.model": router, "gen_ai.usage.cache_read.input_tokens": 7}
    with recorder.span("mine", attributes=mine):
        routing = client.converse(modelId=router, **ask(ALICE))["routing"]
    (span,) = recorder.exporter.get_finished_spans()
    assert span.attributes["gen_ai.response.model"] == SONNET, "what answered, we know better"
    assert span.attributes["gen_ai.usage.cache_read.input_tokens"] == 7, "what they said stays"
    assert span.attributes["aws.bedrock.cost_usd"] == routing["cost_usd"]
    assert span.attributes.keys() >= ADDED_ATTRIBUTES | attributes.keys()
    assert calls_measured(recorder) == 1


@pytest.mark.parametrize("name", ["gen_ai.operation.name", "openinference.span.kind"])
def test_external_span_keeps_its_own_names_of_token_counts(client, recorder, router, name):
    with recorder.span("mine", attributes={name: "chat" if name.startswith("gen_ai.") else "LLM"}):
        usage = client.converse(modelId=router, **ask(ALICE))["routing"]["usage"]
    (span,) = recorder.exporter.get_finished_spans()
    assert span.attributes["gen_ai.usage.cache_read.input_tokens"] == 0
    counted = {"gen_ai.usage.input_tokens": usage["input"], "gen_ai.usage.output_tokens": usage["output"]}
    assert counted.items() <= span.attributes.items() or name == "openinference.span.kind"
    assert not counted.keys() & span.attributes.keys() or name == "gen_ai.operation.name"


def test_a_second_call_inside_the_same_span_gets_its_own(client, recorder, router):
    with recorder.span("mine", attributes={"gen_ai.operation.name": "chat"}) as mine:
        both(client, router)
    assert recorder.only.parent.span_id == mine.get_span_context().span_id


@pytest.mark.parametrize("operation", ["invoke_agent", "execute_tool", "embeddings"])
def test_span_of_agent_or_tool_is_not_an_external_span(client, recorder, router, operation):
    with recorder.span(operation, attributes={"gen_ai.operation.name": operation}):
        both(client, router)
    assert len(recorder.spans) == 2


@pytest.mark.parametrize("key", ["suppress_instrumentation", "suppress_language_model_instrumentation", "theirs"])
def test_suppressed_instrumentation_records_nothing(bedrock, recorder, router, key):
    key = context._SUPPRESS_INSTRUMENTATION_KEY if key == "theirs" else key
    client = RoutedClient(bedrock.client("bedrock-runtime"), telemetry=recorder.options(spans="always"))
    with recorder.span():
        token = context.attach(context.set_value(key, True))
        both(client, router)
        context.detach(token)
    assert recorder.spans == []
    assert recorder.points("gen_ai.client.operation.duration") == []


# --- handlers of the frameworks: stand-ins that work as OpenLLMetry's and OpenInference's ---


class Handler(BaseCallbackHandler):
    """Makes a span of each run of a model, which is not the current one."""

    def __init__(self, recorder):
        self.spans, self.tracer = {}, recorder.tracers.get_tracer("theirs")

    def on_chat_model_start(self, *_, run_id, **__):
        self.spans[run_id] = SimpleNamespace(span=self.tracer.start_span("theirs"))

    on_llm_start = on_chat_model_start

    def on_llm_end(self, *_, run_id, **__):
        self.spans.pop(run_id).span.end()

    on_llm_error = on_llm_end


class SpanHandler(SimpleSpanHandler):
    """Makes a span of each of LlamaIndex's, and makes it the current one."""

    def __init__(self, recorder):
        super().__init__()
        self._told, self._open = recorder.tracers.get_tracer("theirs"), {}

    def new_span(self, id_, *args, **kwargs):
        span = self._told.start_span("theirs")
        self._open[id_] = span, context.attach(trace.set_span_in_context(span))
        return super().new_span(id_, *args, **kwargs)

    def prepare_to_exit_span(self, id_, *args, **kwargs):
        _, token = self._open[id_]
        token.var.reset(token)
        return super().prepare_to_exit_span(id_, *args, **kwargs)


Handler.__module__ = "opentelemetry.instrumentation.langchain"
SpanHandler.__module__ = "openinference.instrumentation.llama_index"


def test_langchain_call_with_tracing_handler_has_one_span(bedrock, recorder, router):
    handler = Handler(recorder)
    for name, call in langchain(recorder.options(), router, [handler]):
        recorder.exporter.clear()
        with recorder.span():
            call()
        theirs, _ = spans = recorder.exporter.get_finished_spans()
        assert [span.name for span in spans] == ["theirs", "app"], name
        assert theirs.attributes.keys() >= ADDED_ATTRIBUTES, name
        assert theirs.attributes["gen_ai.response.model"] == (SONNET if "stream" in name else HAIKU)
    assert recorder.points("gen_ai.client.operation.duration") == []


def test_langchain_batches_and_event_streams_have_one_span_per_call(bedrock, recorder, router):
    handler = Handler(recorder)
    llm = ChatBedrockRouter(model=router, telemetry=recorder.options(), callbacks=[handler])

    async def events():
        return [event async for event in llm.astream_events(HELLO)]

    def tools(llm):
        return llm.bind_tools([{"name": "look", "description": "Look.", "input_schema": {"type": "object"}}])

    silent = ChatBedrockRouter(model=f"us.{LLAMA_70B}", telemetry=recorder.options(), callbacks=[handler])
    with recorder.span():
        llm.batch([HELLO, ALICE])
        asyncio.run(llm.abatch([HELLO, ALICE]))
        asyncio.run(events())
        list(llm.stream(HELLO))
        list(tools(llm).stream(HELLO))
        list(tools(silent).stream(HELLO))
    spans = recorder.exporter.get_finished_spans()
    assert [span.name for span in spans] == ["theirs"] * 8 + ["app"]
    assert all(span.attributes.keys() >= ADDED_ATTRIBUTES for span in spans[:-1])


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_so_is_a_call_that_langchain_streams_because_somebody_listens(bedrock, recorder, router, way):
    llm = ChatBedrockRouter(model=router, telemetry=recorder.options(), callbacks=[Handler(recorder)])

    async def ainvoke(text):
        return await llm.ainvoke(text)

    async def listen():
        step = RunnableLambda(llm.invoke if way == "invoke" else ainvoke)
        return [event["event"] async for event in step.astream_events(ALICE)]

    with recorder.span():
        assert asyncio.run(listen()).count("on_chat_model_stream") > 1
    theirs, _ = spans = recorder.exporter.get_finished_spans()
    assert [span.name for span in spans] == ["theirs", "app"]
    assert theirs.attributes["gen_ai.response.model"] == SONNET


def test_several_prompts_in_one_run_do_not_share_attributes(bedrock, recorder, router):
    with recorder.span():
        BedrockRouterLLM(model=router, telemetry=recorder.options()).generate(
            [HELLO, ALICE], callbacks=[Handler(recorder)]
        )
    *theirs, _ = recorder.exporter.get_finished_spans()
    assert [span.name for span in theirs] == ["theirs"] * 2
    assert not [span for span in theirs if "gen_ai.response.model" in span.attributes]


def test_stream_does_not_reuse_the_run_of_another_stream(bedrock, recorder, router):
    llm = ChatBedrockRouter(model=router, telemetry=recorder.options())
    with recorder.span():
        list(llm.stream(HELLO, {"callbacks": [Handler(recorder)]}))
        list(llm.stream(HELLO))
        llm.invoke(HELLO, {"callbacks": [Handler(recorder)]})
        list(llm.stream(HELLO))
    assert len(recorder.spans) == 2
    assert len(recorder.exporter.get_finished_spans()) == 5


def test_llama_index_call_with_tracing_handler_has_one_span(bedrock, recorder, router):
    handler = SpanHandler(recorder)
    get_dispatcher().add_span_handler(handler)
    try:
        for name, call in llama_index(recorder.options(), router, []):
            with recorder.span():
                call()
            recorder.exporter.clear()
            handler._open.popitem()[1][0].end()
            (theirs,) = recorder.exporter.get_finished_spans()
            assert theirs.attributes.keys() >= ADDED_ATTRIBUTES, name
    finally:
        get_dispatcher().span_handlers.remove(handler)
    assert recorder.spans == []
    assert calls_measured(recorder) == 5, "OpenInference's instrumentations make spans, and measure nothing"


def test_tracing_handlers_are_recognized_by_their_module():
    class Other(BaseCallbackHandler):
        pass

    class Derived(Handler):
        __module__ = "my.app"

    exporting = SimpleNamespace(client=SimpleNamespace(otel_exporter=object()))
    silent = SimpleNamespace(client=SimpleNamespace(otel_exporter=None))
    assert find_external_span([Other(), silent]) is None
    assert find_external_span([Other(), exporting]).span is None
    assert find_external_span([object.__new__(Derived)], run_id="unknown").span is None


# --- the real ones, where they are installed ---

BESIDE = [
    ("plain", "botocore"),
    ("plain", "traceloop-bedrock"),
    ("plain", "openinference-bedrock"),
    ("plain", "botocore", "traceloop-bedrock", "openinference-bedrock"),
    ("langchain", "traceloop-langchain"),
    ("langchain", "openinference-langchain"),
    ("langchain", "traceloop-langchain", "botocore", "traceloop-bedrock"),
    ("langchain", "openinference-langchain", "botocore", "openinference-bedrock"),
    ("llama_index", "traceloop-llama-index"),
    ("llama_index", "openinference-llama-index"),
    ("llama_index", "openinference-llama-index", "botocore", "openinference-bedrock"),
    ("llama_index", "traceloop-llama-index", "botocore", "traceloop-bedrock"),
]


def is_installed(module):
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.sweep
@pytest.mark.parametrize("combination", BESIDE, ids="+".join)
def test_call_has_one_span_with_installed_instrumentations(combination):
    framework, *names = combination
    missing = [name for name in names if not is_installed(INSTRUMENTATIONS[name][0])]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    program = Path(__file__).parent / "telemetry_combinations.py"
    command = [sys.executable, str(program), "auto", framework, *names]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    recorder = json.loads(ran.stdout.splitlines()[-1])
    for call, spans in recorder["spans"].items():
        (span,) = (span for span in spans if span["name"] != "app")
        assert (span["scope"] == OURS) == (framework == "plain"), call
        assert span["attributes"].keys() >= ADDED_ATTRIBUTES, call
        assert span["attributes"]["gen_ai.response.model"] in (HAIKU, SONNET), call
    # OpenLLMetry's instrumentation of LangChain measures the calls itself, the others here do not.
    assert (recorder["measured"] > 0) == ("traceloop-langchain" not in names)
