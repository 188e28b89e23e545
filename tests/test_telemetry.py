"""OpenTelemetry spans and metrics of a call: names and values of the semantic conventions for generative AI."""

from __future__ import annotations

import contextlib
import copy
import json
import pickle
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
import telemetry_combinations
from botocore.exceptions import ClientError, ParamValidationError
from langchain_core.load import dumps, load
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode
from samples import ALICE, HAIKU, HELLO, NOVA_PRO, SONNET
from telemetry_spans import TelemetryRecorder, ask

from bedrock_routing_integrations import RoutedClient
from bedrock_routing_integrations.connections import Connection
from bedrock_routing_integrations.errors import InvalidRequestError, InvalidTargetError
from bedrock_routing_integrations.langchain import BedrockRouterLLM, ChatBedrockRouter
from bedrock_routing_integrations.llama_index import BedrockRouter
from bedrock_routing_integrations.observability import spans
from bedrock_routing_integrations.observability.options import Telemetry, telemetry_of

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
LONG = "The quick brown fox jumps over the lazy dog. " * 800


@pytest.fixture
def recorder():
    return TelemetryRecorder()


@pytest.fixture
def client(bedrock, recorder):
    return RoutedClient(bedrock.client("bedrock-runtime"), telemetry=recorder.options(spans="always"))


# --- spans ---


def test_span_has_the_request_and_the_invoked_model(bedrock, client, recorder, router):
    routing = client.converse(
        modelId=router,
        inferenceConfig={"maxTokens": 500, "temperature": 0, "topP": 0.5, "stopSequences": ["\n\n"]},
        **ask(HELLO),
    )["routing"]
    span = recorder.only
    at = urlsplit(bedrock.endpoint_url)
    assert (span.name, span.kind, span.status.status_code) == (f"chat {router}", SpanKind.CLIENT, StatusCode.UNSET)
    assert dict(span.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "aws.bedrock",
        "gen_ai.request.model": router,
        "gen_ai.request.max_tokens": 500,
        "gen_ai.request.temperature": 0.0,
        "gen_ai.request.top_p": 0.5,
        "gen_ai.request.stop_sequences": ("\n\n",),
        "gen_ai.response.model": HAIKU,
        "gen_ai.response.finish_reasons": ("end_turn",),
        "gen_ai.usage.input_tokens": routing["usage"]["input"],
        "gen_ai.usage.output_tokens": routing["usage"]["output"],
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.cache_creation.input_tokens": 0,
        "server.address": at.hostname,
        "server.port": at.port,
        "cloud.region": "us-east-1",
        "aws.request_id": routing["request_id"],
        "aws.bedrock.target.kind": "default_prompt_router",
        "aws.bedrock.is_fallback": False,
        "aws.bedrock.cost_usd": routing["cost_usd"],
        "aws.bedrock.fallback_cost_usd": routing["fallback_cost_usd"],
    }
    assert isinstance(span.attributes["gen_ai.request.temperature"], float)


def test_span_of_stream_has_time_to_first_chunk(client, recorder, router):
    client.converse(modelId=router, **ask(ALICE))
    list(client.converse_stream(modelId=router, **ask(ALICE))["stream"])
    whole, stream = (dict(span.attributes) for span in recorder.spans)
    assert stream.pop("gen_ai.request.stream") is True
    assert 0 <= stream.pop("gen_ai.response.time_to_first_chunk") < 60
    for attributes in (whole, stream):
        del attributes["aws.request_id"]
    assert stream == whole
    assert whole["gen_ai.response.model"] == SONNET


def test_span_has_requested_and_served_latency_and_tier(client, recorder):
    client.converse(
        modelId=f"us.{NOVA_PRO}",
        **ask("Hi", performanceConfig={"latency": "optimized"}, serviceTier={"type": "flex"}),
        guardrailConfig={"guardrailIdentifier": "gr1234567890", "guardrailVersion": "1"},
    )
    span = recorder.only.attributes
    assert span["aws.bedrock.target.kind"] == "system_inference_profile"
    assert (span["aws.bedrock.latency.requested"], span["aws.bedrock.latency.served"]) == (
        "optimized",
        "optimized",
    )
    assert (span["aws.bedrock.service_tier.requested"], span["aws.bedrock.service_tier.served"]) == (
        "flex",
        "flex",
    )
    assert span["aws.bedrock.guardrail.id"] == "gr1234567890"


@pytest.mark.parametrize("operation", ["converse", "converse_stream"])
def test_input_tokens_count_cached_ones_too(client, recorder, operation):
    request = ask("Which animal?", modelId=CLAUDE, system=[{"text": LONG}, {"cachePoint": {"type": "default"}}])
    for _ in range(2):
        response = getattr(client, operation)(**request)
        list(response.get("stream", ()))
    wrote, read = (span.attributes for span in recorder.spans)
    for attributes, name in ((wrote, "cache_creation"), (read, "cache_read")):
        cached = attributes[f"gen_ai.usage.{name}.input_tokens"]
        assert cached > 1024
        assert 0 < attributes["gen_ai.usage.input_tokens"] - cached < 100
    assert wrote["gen_ai.usage.cache_read.input_tokens"] == read["gen_ai.usage.cache_creation.input_tokens"] == 0
    inputs = [
        p.sum for p in recorder.points("gen_ai.client.token.usage") if p.attributes["gen_ai.token.type"] == "input"
    ]
    assert inputs == [wrote["gen_ai.usage.input_tokens"] + read["gen_ai.usage.input_tokens"]]


def test_unknown_attributes_are_absent(bedrock, recorder):
    opaque = "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abcdefghijkl"
    bedrock.fail("access_denied", operation="GetProvisionedModelThroughput", rate=1.0)
    client = RoutedClient(bedrock.client("bedrock-runtime"), telemetry=recorder.options(spans="always"))
    with pytest.raises(ClientError):
        client.converse(modelId=opaque, **ask("Hi"))
    assert not {name for name in recorder.only.attributes if name.startswith(("gen_ai.response", "gen_ai.usage"))}
    assert "aws.bedrock.cost_usd" not in recorder.only.attributes


def test_span_has_kind_of_error_without_its_message(bedrock, client, recorder, router):
    with pytest.raises(ClientError) as caught:
        client.converse(modelId="amazon.titan-nothing-v1:0", **ask("a secret prompt"))
    with pytest.raises(ParamValidationError):
        client.converse(modelId=router, messages=[{"role": "user", "content": [{"text": {"a secret": "prompt"}}]}])
    refused, invalid = recorder.spans
    assert refused.attributes["error.type"] == "ValidationException"
    assert refused.attributes["aws.request_id"] == caught.value.response["ResponseMetadata"]["RequestId"]
    assert invalid.attributes["error.type"] == "ParamValidationError"
    for span in (refused, invalid):
        assert span.status.status_code is StatusCode.ERROR
        assert "secret" not in span.to_json()
    kinds = {point.attributes.get("error.type") for point in recorder.points("gen_ai.client.operation.duration")}
    assert kinds == {"ValidationException", "ParamValidationError"}


def test_request_refused_before_sending_has_no_span(client, recorder):
    with pytest.raises(InvalidTargetError):
        client.converse(modelId="nonsense", **ask("Hi"))
    with pytest.raises(ParamValidationError):
        client.converse(**ask("Hi"))
    assert recorder.spans == []


# --- metrics ---


def test_durations_and_tokens_are_measured_as_the_conventions_advise(bedrock, client, recorder, router):
    client.converse(modelId=router, **ask(HELLO))
    list(client.converse_stream(modelId=router, **ask(HELLO))["stream"])
    at, usage = urlsplit(bedrock.endpoint_url), recorder.spans[0].attributes
    series = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "aws.bedrock",
        "gen_ai.request.model": router,
        "gen_ai.response.model": HAIKU,
        "server.address": at.hostname,
        "server.port": at.port,
    }
    (duration,) = recorder.points("gen_ai.client.operation.duration")
    assert dict(duration.attributes) == series
    assert duration.count == 2
    assert 0 < duration.sum < 60
    assert duration.explicit_bounds == (
        0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
    )  # fmt: skip
    tokens = {point.attributes["gen_ai.token.type"]: point for point in recorder.points("gen_ai.client.token.usage")}
    assert dict(tokens["input"].attributes) == {**series, "gen_ai.token.type": "input"}
    assert {kind: point.sum for kind, point in tokens.items()} == {
        "input": 2 * usage["gen_ai.usage.input_tokens"],
        "output": 2 * usage["gen_ai.usage.output_tokens"],
    }
    assert tokens["output"].explicit_bounds == tuple(4**power for power in range(14))


def test_many_clients_share_what_a_provider_makes(bedrock, recorder, router, caplog):
    for _ in range(3):
        client = RoutedClient(bedrock.client("bedrock-runtime"), telemetry=recorder.options(spans="always"))
        client.converse(modelId=router, **ask(HELLO))
    assert caplog.messages == [], "the SDK warns of a second metric by the same name"
    assert spans._instruments().histograms(recorder.meters) is spans._instruments().histograms(recorder.meters)
    assert spans._instruments().tracer(recorder.tracers) is spans._instruments().tracer(recorder.tracers)


# --- when ---


def test_auto_mode_makes_spans_inside_of_recording_spans(bedrock, router):
    recorder = TelemetryRecorder()
    client = RoutedClient(bedrock.client("bedrock-runtime"), telemetry=recorder.options())
    client.converse(modelId=router, **ask(HELLO))
    assert recorder.spans == []
    with recorder.span() as app:
        client.converse(modelId=router, **ask(HELLO))
    assert recorder.only.parent.span_id == app.get_span_context().span_id
    dropped = TelemetryRecorder(sampler=ALWAYS_OFF)
    with dropped.span():
        client.converse(modelId=router, **ask(HELLO))
    assert len(recorder.spans) == 1


WAYS = {
    "plain": telemetry_combinations.plain,
    "langchain": telemetry_combinations.langchain,
    "llama_index": telemetry_combinations.llama_index,
}


@pytest.mark.sample(4)
@pytest.mark.parametrize("around", ["a span that is dropped", "a span that is recorded", "no span"])
@pytest.mark.parametrize("framework", WAYS)
def test_every_call_is_measured_once_with_any_sampling(bedrock_emulator_env, router, framework, around):
    """In all ways of calling: invoked, streamed, asynchronous; with tokens and the model that answered."""
    recorder = TelemetryRecorder(**({"sampler": ALWAYS_OFF} if around == "a span that is dropped" else {}))
    count = 0
    for _, call in WAYS[framework](recorder.options(), router, []):
        with contextlib.nullcontext() if around == "no span" else recorder.span():
            call()
        count += 1
    points = recorder.points("gen_ai.client.operation.duration")
    assert sum(point.count for point in points) == count
    assert {point.attributes["gen_ai.response.model"] for point in points} == {HAIKU, SONNET}
    assert sum(point.count for point in recorder.points("gen_ai.client.token.usage")) == 2 * count
    assert len(recorder.spans) == (count if around == "a span that is recorded" else 0)


def test_failed_and_abandoned_calls_are_measured_without_a_span(bedrock, router):
    recorder = TelemetryRecorder()
    client = RoutedClient(bedrock.client("bedrock-runtime"), telemetry=recorder.options())
    with pytest.raises(ClientError):
        client.converse(modelId="amazon.titan-nothing-v1:0", **ask("Hi"))
    with pytest.raises(ClientError):
        client.converse_stream(modelId="amazon.titan-nothing-v1:0", **ask("Hi"))
    stream = client.converse_stream(modelId=router, **ask(HELLO))["stream"]
    next(iter(stream))
    stream.close()
    kinds = [point.attributes.get("error.type") for point in recorder.points("gen_ai.client.operation.duration")
             for _ in range(point.count)]  # fmt: skip
    assert sorted(map(str, kinds)) == ["None", "ValidationException", "ValidationException"]


@pytest.mark.sweep
def test_the_processs_own_meter_provider_counts_once_it_is_set():
    code = """
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from bedrock_routing_integrations import RoutedClient
from bedrock_routing_integrations.emulator import BedrockEmulator
from bedrock_routing_integrations.observability.spans import has_meter_provider

asked = dict(modelId="amazon.nova-lite-v1:0", messages=[{"role": "user", "content": [{"text": "Hi"}]}])
with BedrockEmulator() as bedrock:
    client = RoutedClient(bedrock.client("bedrock-runtime"))
    client.converse(**asked)
    assert not has_meter_provider(None)
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    client.converse(**asked)
    (scope,) = reader.get_metrics_data().resource_metrics[0].scope_metrics
    print(sorted((metric.name, sum(p.count for p in metric.data.data_points)) for metric in scope.metrics))
"""
    ran = python(code)
    expected = [("gen_ai.client.operation.duration", 1), ("gen_ai.client.token.usage", 2)]
    assert ran.stdout.strip() == str(expected), ran.stderr


def test_always_measures_what_is_not_sampled_too(bedrock, router):
    recorder = TelemetryRecorder(sampler=ALWAYS_OFF)
    client = RoutedClient(bedrock.client("bedrock-runtime"), telemetry=recorder.options(spans="always", content=True))
    client.converse(modelId=router, **ask(HELLO))
    list(client.converse_stream(modelId=router, **ask(HELLO))["stream"])
    assert recorder.spans == []
    assert [point.count for point in recorder.points("gen_ai.client.operation.duration")] == [2]


def test_telemetry_off_records_nothing(bedrock, recorder, router):
    client = RoutedClient(bedrock.client("bedrock-runtime"), telemetry=recorder.options(spans="off"))
    with recorder.span():
        client.converse(modelId=router, **ask(HELLO))
        list(client.converse_stream(modelId=router, **ask(HELLO))["stream"])
    assert recorder.spans == []


def test_a_fault_of_telling_is_not_one_of_the_call(bedrock, router):
    class Broken:
        def get_tracer(self, *_):
            raise RuntimeError("no tracer today")

    for options in (Telemetry(spans="always", tracer_provider=Broken()),):
        client = RoutedClient(bedrock.client("bedrock-runtime"), telemetry=options)
        assert client.converse(modelId=router, **ask(HELLO))["routing"]["invoked_model"] == HAIKU
        assert "metadata" in list(client.converse_stream(modelId=router, **ask(HELLO))["stream"])[-1]


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def test_opentelemetry_is_not_imported_unless_used():
    ran = python(
        "import sys\n"
        "from bedrock_routing_integrations.emulator import BedrockEmulator\n"
        "from bedrock_routing_integrations import RoutedClient\n"
        "with BedrockEmulator() as bedrock:\n"
        f"    request = dict(modelId={HAIKU!r}, messages=[{{'role': 'user', 'content': [{{'text': 'Hi'}}]}}])\n"
        "    client = RoutedClient(bedrock.client('bedrock-runtime'))\n"
        "    client.converse(**request); list(client.converse_stream(**request)['stream'])\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])\n"
    )
    assert ran.stdout.strip() == "[]", ran.stderr


@pytest.mark.sweep
def test_telemetry_without_opentelemetry_names_the_extra():
    ran = python(
        "import sys; sys.modules.update({'opentelemetry': None, 'opentelemetry.trace': None})\n"
        "from bedrock_routing_integrations import RoutedClient\n"
        "from bedrock_routing_integrations.connections import Connection\n"
        "RoutedClient(Connection()); RoutedClient(Connection(), telemetry='off')\n"
        "RoutedClient(Connection(), telemetry='always')\n"
    )
    assert 'pip install "bedrock-routing-integrations[otel]"' in ran.stderr.splitlines()[-1]
    assert ran.stderr.splitlines()[-1].startswith("ImportError")


# --- what is wanted ---


@pytest.mark.parametrize("wrong", ["sometimes", "", True, 1, {"spans": "auto", "prompts": True}, ["auto"]])
def test_a_value_that_means_nothing_is_refused(wrong):
    for make in (
        lambda: RoutedClient(Connection(), telemetry=wrong),
        lambda: ChatBedrockRouter(model=HAIKU, telemetry=wrong),
        lambda: BedrockRouter(model=HAIKU, telemetry=wrong),
    ):
        with pytest.raises(InvalidRequestError, match="telemetry"):
            make()


@pytest.mark.parametrize(
    "wrong", [{"content": "yes"}, {"tracer_provider": "console"}, {"meter_provider": 1}, {"spans": "on"}]
)
def test_an_option_that_means_nothing_is_refused(wrong):
    with pytest.raises(InvalidRequestError):
        Telemetry(**wrong)


def test_options_survive_copies_and_pickles_without_their_providers(recorder):
    options = recorder.options(spans="always", content=True)
    assert copy.deepcopy(options) is options
    again = pickle.loads(pickle.dumps(options))
    assert (again.spans, again.content, again.tracer_provider) == ("always", True, None)
    assert "Provider" not in repr(options)
    assert telemetry_of(options) is options


def test_a_client_keeps_them_in_a_pickle(recorder):
    client = RoutedClient(Connection(), telemetry=recorder.options(spans="off", content=False))
    again = pickle.loads(pickle.dumps(client))
    assert again._telemetry == Telemetry(spans="off", content=False)


@pytest.mark.parametrize("made", [ChatBedrockRouter, BedrockRouter, BedrockRouterLLM])
def test_both_frameworks_take_it_and_it_survives_pickles_and_copies(bedrock, recorder, router, made):
    def ask_it(llm):
        return llm.complete(HELLO) if made is BedrockRouter else llm.invoke(HELLO)

    llm = made(model=router, telemetry=recorder.options(spans="always"))
    for each in (llm, copy.copy(llm), copy.deepcopy(llm), llm.model_copy()):
        ask_it(each)
    assert [span.attributes["gen_ai.response.model"] for span in recorder.spans] == [HAIKU] * 4
    again = pickle.loads(pickle.dumps(llm))
    inner = again.chat_model if made is BedrockRouterLLM else again
    assert inner.telemetry == Telemetry(spans="always")
    ask_it(again)
    assert len(recorder.spans) == 4, "in another process it tells that one's providers"


@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
def test_both_frameworks_write_it_down(router, recorder):
    llm = ChatBedrockRouter(model=router, telemetry=recorder.options(spans="off", content=False))
    written = dumps(llm)
    assert "Provider" not in written
    again = load(
        json.loads(written), valid_namespaces=["bedrock_routing_integrations"], allowed_objects=[ChatBedrockRouter]
    )
    assert again.telemetry == Telemetry(spans="off", content=False)
    assert json.loads(llm.model_dump_json(include={"telemetry"}))["telemetry"] == {"spans": "off", "content": False}
    index = BedrockRouter(model=router, telemetry=recorder.options(spans="off"))
    assert BedrockRouter.from_dict(json.loads(index.to_json())).telemetry == Telemetry(spans="off")


@pytest.mark.parametrize("made", [ChatBedrockRouter, BedrockRouter])
def test_telemetry_set_later_applies_to_the_next_call(bedrock, recorder, router, made):
    llm = made(model=router, telemetry="off")
    ask_it = llm.complete if made is BedrockRouter else llm.invoke
    ask_it(HELLO)
    llm.telemetry = recorder.options(spans="always")
    ask_it(HELLO)
    assert len(recorder.spans) == 1
    client = RoutedClient(Connection(), telemetry="off")
    with pytest.raises(InvalidRequestError, match=r"telemetry .*to that one"):
        made(model=router, client=client, telemetry="always")
