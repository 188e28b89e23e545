"""One span for each call of a model, whoever else makes spans."""

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
from telemetry_spans import OURS, Told, ask

from bedrock_routing_integrations import RoutedClient
from bedrock_routing_integrations.langchain import BedrockRouterLLM, ChatBedrockRouter
from bedrock_routing_integrations.observability.external_spans import find_external_span

TOLD_OUTSIDE = {"aws.bedrock.target.kind", "aws.bedrock.is_fallback", "aws.request_id", "gen_ai.response.model"}


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def client(bedrock, told):
    return RoutedClient(bedrock.client("bedrock-runtime"), telemetry=told.options())


def both(client, router, prompt=ALICE):
    client.converse(modelId=router, **ask(prompt))
    list(client.converse_stream(modelId=router, **ask(prompt))["stream"])


def calls_measured(told):
    return sum(point.count for point in told.points("gen_ai.client.operation.duration"))


# --- inside of ours ---


@pytest.fixture
def botocore(told):
    pytest.importorskip("opentelemetry.instrumentation.botocore")
    from opentelemetry.instrumentation.botocore import BotocoreInstrumentor

    instrumentor = BotocoreInstrumentor()
    instrumentor.instrument(tracer_provider=told.tracers, meter_provider=told.meters)
    yield
    instrumentor.uninstrument()


def model_calls(told):
    spans = told.exporter.get_finished_spans()
    return [span for span in spans if span.attributes.get("gen_ai.operation.name") == "chat"]


def test_botocores_instrumentation_makes_no_second_span(botocore, bedrock, client, told, router):
    with told.span():
        both(client, router)
    assert [span.instrumentation_scope.name for span in model_calls(told)] == [OURS, OURS]
    assert [point.count for point in told.points("gen_ai.client.operation.duration")] == [2]


def test_botocores_instrumentation_works_as_ever_where_we_tell_nothing(botocore, bedrock, told, router):
    with told.span():
        both(RoutedClient(bedrock.client("bedrock-runtime"), telemetry=told.options(spans="off")), router)
    both(RoutedClient(bedrock.client("bedrock-runtime"), telemetry=told.options()), router)
    scopes = {span.instrumentation_scope.name for span in model_calls(told)}
    assert all(scope.startswith("opentelemetry.instrumentation.botocore") for scope in scopes)
    assert len(model_calls(told)) == 4


def test_beside_botocores_instrumentation_each_call_is_measured_once(botocore, bedrock, told, router):
    """Under a span that is sampled, under one that is not, and without one: by us, by us, by them."""
    client = RoutedClient(bedrock.client("bedrock-runtime"), telemetry=told.options())
    with told.span():
        both(client, router)
    assert calls_measured(told) == 2
    with Told(sampler=ALWAYS_OFF).span():
        both(client, router)
    assert calls_measured(told) == 4
    before = len(model_calls(told))
    client.converse(modelId=router, **ask(ALICE))
    measures = Version(version("opentelemetry-instrumentation-botocore")) >= Version("0.52b0")  # 0.51 has spans only
    assert calls_measured(told) == 4 + measures
    assert len(model_calls(told)) == before + 1


def test_who_measures_beside_a_handler_is_known_by_its_module(bedrock, told, router):
    members = {**vars(Handler), "__module__": "openinference.instrumentation.langchain"}
    silent = type("Silent", Handler.__bases__, members)
    for handler, measured in ((Handler, 0), (silent, 2)):
        llm = ChatBedrockRouter(model=router, telemetry=told.options(), callbacks=[handler(told)])
        with told.span():
            llm.invoke(HELLO)
            list(llm.stream(HELLO))
        assert (told.spans, calls_measured(told)) == ([], measured)


def test_look_ups_and_other_services_keep_their_spans(botocore, bedrock, client, told, router):
    with told.span():
        client.converse(modelId=router, **ask(HELLO))
        bedrock.client("bedrock").list_prompt_routers()
    names = [span.name for span in told.exporter.get_finished_spans()]
    assert {"Bedrock.GetPromptRouter", "Bedrock.ListPromptRouters"} <= set(names)


def test_while_sending_our_span_is_the_current_one(bedrock, told, router):
    seen = []

    def look(**_):
        seen.append((trace.get_current_span().name, context.get_value("suppress_instrumentation")))

    boto3_client = bedrock.client("bedrock-runtime")
    boto3_client.meta.events.register("before-send.bedrock-runtime", look)
    client = RoutedClient(boto3_client, telemetry=told.options(spans="always"))
    before = context.get_current()
    both(client, router)
    assert seen == [(f"chat {router}", True)] * 2
    assert context.get_current() == before


# --- ours inside of another ---


@pytest.mark.parametrize(
    "said",
    [
        {"gen_ai.operation.name": "chat"},
        {"openinference.span.kind": "LLM"},
        {"langfuse.observation.type": "generation"},
    ],
)
@pytest.mark.parametrize("mode", ["auto", "always"])
def test_a_span_that_is_the_models_call_already_gets_what_it_lacks(bedrock, told, router, said, mode):
    client = RoutedClient(bedrock.client("bedrock-runtime"), telemetry=told.options(spans=mode))
    mine = {**said, "gen_ai.response.model": router, "gen_ai.usage.cache_read.input_tokens": 7}
    with told.span("mine", attributes=mine):
        routing = client.converse(modelId=router, **ask(ALICE))["routing"]
    (span,) = told.exporter.get_finished_spans()
    assert span.attributes["gen_ai.response.model"] == SONNET, "what answered, we know better"
    assert span.attributes["gen_ai.usage.cache_read.input_tokens"] == 7, "what they said stays"
    assert span.attributes["aws.bedrock.cost_usd"] == routing["cost_usd"]
    assert span.attributes.keys() >= TOLD_OUTSIDE | said.keys()
    assert calls_measured(told) == 1


@pytest.mark.parametrize("name", ["gen_ai.operation.name", "openinference.span.kind"])
def test_a_span_gets_all_tokens_unless_it_counts_them_by_other_names(client, told, router, name):
    with told.span("mine", attributes={name: "chat" if name.startswith("gen_ai.") else "LLM"}):
        usage = client.converse(modelId=router, **ask(ALICE))["routing"]["usage"]
    (span,) = told.exporter.get_finished_spans()
    assert span.attributes["gen_ai.usage.cache_read.input_tokens"] == 0
    counted = {"gen_ai.usage.input_tokens": usage["input"], "gen_ai.usage.output_tokens": usage["output"]}
    assert counted.items() <= span.attributes.items() or name == "openinference.span.kind"
    assert not counted.keys() & span.attributes.keys() or name == "gen_ai.operation.name"


def test_a_second_call_inside_the_same_span_gets_its_own(client, told, router):
    with told.span("mine", attributes={"gen_ai.operation.name": "chat"}) as mine:
        both(client, router)
    assert told.only.parent.span_id == mine.get_span_context().span_id


@pytest.mark.parametrize("operation", ["invoke_agent", "execute_tool", "embeddings"])
def test_a_span_of_an_agent_or_a_tool_is_not_that_of_the_call(client, told, router, operation):
    with told.span(operation, attributes={"gen_ai.operation.name": operation}):
        both(client, router)
    assert len(told.spans) == 2


@pytest.mark.parametrize("key", ["suppress_instrumentation", "suppress_language_model_instrumentation", "theirs"])
def test_where_telling_is_suppressed_nothing_is_told(bedrock, told, router, key):
    key = context._SUPPRESS_INSTRUMENTATION_KEY if key == "theirs" else key
    client = RoutedClient(bedrock.client("bedrock-runtime"), telemetry=told.options(spans="always"))
    with told.span():
        token = context.attach(context.set_value(key, True))
        both(client, router)
        context.detach(token)
    assert told.spans == []
    assert told.points("gen_ai.client.operation.duration") == []


# --- handlers of the frameworks: stand-ins that work as OpenLLMetry's and OpenInference's ---


class Handler(BaseCallbackHandler):
    """Makes a span of each run of a model, which is not the current one."""

    def __init__(self, told):
        self.spans, self.tracer = {}, told.tracers.get_tracer("theirs")

    def on_chat_model_start(self, *_, run_id, **__):
        self.spans[run_id] = SimpleNamespace(span=self.tracer.start_span("theirs"))

    on_llm_start = on_chat_model_start

    def on_llm_end(self, *_, run_id, **__):
        self.spans.pop(run_id).span.end()

    on_llm_error = on_llm_end


class SpanHandler(SimpleSpanHandler):
    """Makes a span of each of LlamaIndex's, and makes it the current one."""

    def __init__(self, told):
        super().__init__()
        self._told, self._open = told.tracers.get_tracer("theirs"), {}

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


def test_each_way_to_call_langchain_is_told_once_where_a_handler_tells_of_it(bedrock, told, router):
    handler = Handler(told)
    for name, call in langchain(told.options(), router, [handler]):
        told.exporter.clear()
        with told.span():
            call()
        theirs, _ = spans = told.exporter.get_finished_spans()
        assert [span.name for span in spans] == ["theirs", "app"], name
        assert theirs.attributes.keys() >= TOLD_OUTSIDE, name
        assert theirs.attributes["gen_ai.response.model"] == (SONNET if "stream" in name else HAIKU)
    assert told.points("gen_ai.client.operation.duration") == []


def test_so_are_batches_and_streams_of_events_and_models_that_do_not_stream(bedrock, told, router):
    handler = Handler(told)
    llm = ChatBedrockRouter(model=router, telemetry=told.options(), callbacks=[handler])

    async def events():
        return [event async for event in llm.astream_events(HELLO)]

    def tools(llm):
        return llm.bind_tools([{"name": "look", "description": "Look.", "input_schema": {"type": "object"}}])

    silent = ChatBedrockRouter(model=f"us.{LLAMA_70B}", telemetry=told.options(), callbacks=[handler])
    with told.span():
        llm.batch([HELLO, ALICE])
        asyncio.run(llm.abatch([HELLO, ALICE]))
        asyncio.run(events())
        list(llm.stream(HELLO))
        list(tools(llm).stream(HELLO))
        list(tools(silent).stream(HELLO))
    spans = told.exporter.get_finished_spans()
    assert [span.name for span in spans] == ["theirs"] * 8 + ["app"]
    assert all(span.attributes.keys() >= TOLD_OUTSIDE for span in spans[:-1])


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_so_is_a_call_that_langchain_streams_because_somebody_listens(bedrock, told, router, way):
    llm = ChatBedrockRouter(model=router, telemetry=told.options(), callbacks=[Handler(told)])

    async def ainvoke(text):
        return await llm.ainvoke(text)

    async def listen():
        step = RunnableLambda(llm.invoke if way == "invoke" else ainvoke)
        return [event["event"] async for event in step.astream_events(ALICE)]

    with told.span():
        assert asyncio.run(listen()).count("on_chat_model_stream") > 1
    theirs, _ = spans = told.exporter.get_finished_spans()
    assert [span.name for span in spans] == ["theirs", "app"]
    assert theirs.attributes["gen_ai.response.model"] == SONNET


def test_of_several_prompts_in_one_run_none_is_taken_for_another(bedrock, told, router):
    with told.span():
        BedrockRouterLLM(model=router, telemetry=told.options()).generate([HELLO, ALICE], callbacks=[Handler(told)])
    *theirs, _ = told.exporter.get_finished_spans()
    assert [span.name for span in theirs] == ["theirs"] * 2
    assert not [span for span in theirs if "gen_ai.response.model" in span.attributes]


def test_a_stream_without_a_handler_is_told_by_us_after_one_that_had_one(bedrock, told, router):
    llm = ChatBedrockRouter(model=router, telemetry=told.options())
    with told.span():
        list(llm.stream(HELLO, {"callbacks": [Handler(told)]}))
        list(llm.stream(HELLO))
        llm.invoke(HELLO, {"callbacks": [Handler(told)]})
        list(llm.stream(HELLO))
    assert len(told.spans) == 2
    assert len(told.exporter.get_finished_spans()) == 5


def test_each_way_to_call_llama_index_is_told_once_where_a_handler_tells_of_it(bedrock, told, router):
    handler = SpanHandler(told)
    get_dispatcher().add_span_handler(handler)
    try:
        for name, call in llama_index(told.options(), router, []):
            with told.span():
                call()
            told.exporter.clear()
            handler._open.popitem()[1][0].end()
            (theirs,) = told.exporter.get_finished_spans()
            assert theirs.attributes.keys() >= TOLD_OUTSIDE, name
    finally:
        get_dispatcher().span_handlers.remove(handler)
    assert told.spans == []
    assert calls_measured(told) == 5, "OpenInference's instrumentations make spans, and measure nothing"


def test_who_tells_opentelemetry_is_known_by_the_module_of_the_handler():
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
def test_beside_the_instrumentations_that_people_run_each_call_has_one_span(combination):
    framework, *names = combination
    missing = [name for name in names if not is_installed(INSTRUMENTATIONS[name][0])]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    program = Path(__file__).parent / "telemetry_combinations.py"
    command = [sys.executable, str(program), "auto", framework, *names]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout.splitlines()[-1])
    for call, spans in told["spans"].items():
        (span,) = (span for span in spans if span["name"] != "app")
        assert (span["scope"] == OURS) == (framework == "plain"), call
        assert span["attributes"].keys() >= TOLD_OUTSIDE, call
        assert span["attributes"]["gen_ai.response.model"] in (HAIKU, SONNET), call
    # OpenLLMetry's instrumentation of LangChain measures the calls itself, the others here do not.
    assert (told["measured"] > 0) == ("traceloop-langchain" not in names)
