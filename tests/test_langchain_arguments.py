"""Arguments of calls and constructors, replaced clients, token counts, fallbacks and tracers of `ChatBedrockRouter`."""

from __future__ import annotations

import contextlib
import json

import boto3
import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage, trim_messages
from langchain_core.tools import tool
from opentelemetry import context, trace
from opentelemetry.sdk.trace import TracerProvider
from samples import HAIKU, HELLO, NOVA_LITE, SONNET
from scripted_bedrock import ScriptedBedrock, stream_of, text, whole_of

from bedrock_routing_integrations import BedrockRoutingError, RoutedClient
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.langchain import BedrockRouterLLM, ChatBedrockRouter
from bedrock_routing_integrations.requests.preparation import NEUTRAL_VALUES

CLASSES = [ChatBedrockRouter, BedrockRouterLLM]


@pytest.fixture
def server():
    with ScriptedBedrock(whole_of({"text": "ok"})) as server:
        yield server


# --- calls ---


@pytest.mark.parametrize("kind", CLASSES)
def test_call_drops_neutral_arguments(server, kind):
    llm = kind(model=HAIKU, **server.arguments)
    llm.invoke("x", stop=None, seed=None, temperature=None, top_p=None, n=1)
    for name, values in NEUTRAL_VALUES.items():
        for value in values:
            llm.invoke("x", **{name: value})
    llm.invoke("x", user="", logit_bias={}, functions=[], callbacks_of_another=(), top_k=None)
    llm.invoke("x")
    *others, plain = server.requests
    assert others == [plain] * len(others)


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 2}, "n=2 is not valid: Bedrock returns one answer to a request. Call batch"),
        ({"max_token": 5}, "max_token is not an argument of a call. Did you mean max_tokens?"),
        ({"top_k": 5}, r"top_k is not .*additional_model_request_fields=\{'top_k': 5\}"),
        ({"frequency_penalty": 0.5}, "frequency_penalty is not an argument"),
        ({"length_penalty": 2}, "length_penalty is not an argument"),
        ({"modalities": ["audio"]}, "modalities is not an argument"),
        ({"user": "Ann"}, "user is not an argument"),
        ({"n": object()}, "n=.* is not valid"),
    ],
)
async def test_call_refuses_unknown_arguments_by_name(server, kind, arguments, message):
    llm = kind(model=HAIKU, **server.arguments)
    for ask in (lambda: llm.invoke("x", **arguments), lambda: list(llm.stream("x", **arguments))):
        with pytest.raises(InvalidRequestError, match=message):
            ask()
    with pytest.raises(InvalidRequestError, match=message):
        await llm.ainvoke("x", **arguments)
    assert not server.requests


def test_call_accepts_arguments_by_converses_names(server):
    llm = ChatBedrockRouter(model=HAIKU, cache="off", **server.arguments)
    llm.invoke("x", maxTokens=5, topP=0.5, stopSequences=["a"], performanceConfig={"latency": "standard"})
    sent = server.requests[-1]
    assert sent["inferenceConfig"] == {"maxTokens": 5, "topP": 0.5, "stopSequences": ["a"]}
    assert sent["performanceConfig"] == {"latency": "standard"}


# --- constructors ---


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"regoin_name": "x"}, "no argument regoin_name. Did you mean region_name?"),
        ({"temprature": 0.5}, "no argument temprature. Did you mean temperature?"),
        ({"top_k": 5}, r"no argument top_k. .*additional_model_request_fields=\{'top_k': 5\}"),
    ],
)
def test_constructor_refuses_unknown_arguments_by_name(kind, arguments, message):
    with pytest.raises(InvalidRequestError, match=f"{kind.__name__} has {message}"):
        kind(model=HAIKU, **arguments)


@pytest.mark.parametrize("kind", CLASSES)
def test_constructor_drops_neutral_arguments(kind):
    made = kind(model=HAIKU, n=1, seed=None, presence_penalty=0, logprobs=None, response_format=None)
    assert "seed" not in str(made)
    with pytest.raises(InvalidRequestError, match="has no argument n"):
        kind(model=HAIKU, n=2)


def test_constructor_accepts_fields_aliases_and_model_kwargs():
    llm = ChatBedrockRouter(
        model_id=HAIKU, stop=["a"], guardrails={"guardrailIdentifier": "g"}, base_url="http://localhost:1",
        model_kwargs={"top_k": 5}, additional_model_request_fields={"x": 1}, base_model=HAIKU,
    )  # fmt: skip
    assert (llm.stop_sequences, llm.endpoint_url) == (["a"], "http://localhost:1")
    assert llm.additional_model_request_fields == {"top_k": 5, "x": 1}


# --- clients ---


class Fake:
    """A client of a test, whose stream is a list."""

    def converse(self, **request):
        return whole_of({"text": "fake"})

    def converse_stream(self, **request):
        return {"stream": [{name: body} for name, body in stream_of(text(0, "fake"))]}


async def test_client_assigned_later_is_used(bedrock):
    llm = ChatBedrockRouter(model=HAIKU)
    llm.client = boto3.client("bedrock-runtime")
    assert isinstance(llm.client, RoutedClient)
    assert llm.invoke(HELLO).response_metadata["routing"]["invoked_model"] == HAIKU
    assert "".join(chunk.text for chunk in llm.stream(HELLO))
    assert (await llm.ainvoke(HELLO)).text
    llm.client = routed = RoutedClient(boto3.client("bedrock-runtime"))
    assert llm.client is routed
    llm.client = None
    assert llm.invoke(HELLO).text


def test_client_of_a_copy_is_used(bedrock):
    llm = ChatBedrockRouter(model=HAIKU)
    other = llm.model_copy(update={"client": Fake()})
    assert other.invoke("x").text == "fake"
    assert llm.invoke(HELLO).text != "fake"


async def test_llm_client_is_the_chat_models():
    llm = BedrockRouterLLM(model=HAIKU)
    assert llm.client is llm.chat_model.client
    llm.client = Fake()
    assert llm.client is llm.chat_model.client
    assert (llm.invoke("x"), await llm.ainvoke("x"), "".join(llm.stream("x"))) == ("fake", "fake", "fake")


async def test_fake_client_may_stream_a_list():
    llm = ChatBedrockRouter(model=HAIKU)
    llm.client = Fake()
    for each in (llm, ChatBedrockRouter(model=HAIKU, client=Fake())):
        assert each.invoke("x").text == "fake"
        assert "".join(chunk.text for chunk in each.stream("x")) == "fake"
        assert "".join([chunk.text async for chunk in each.astream("x")]) == "fake"


# --- tokens ---


@tool
def weather(city: str) -> str:
    """Get the weather in a city."""
    return city


HISTORY = [
    SystemMessage("You are a bee."),
    HumanMessage("Weather in Rome?"),
    AIMessage("", tool_calls=[{"name": "weather", "args": {"city": "Rome"}, "id": "t1"}]),
    ToolMessage([{"type": "json", "json": {"sky_is": "blue"}}], tool_call_id="t1"),
]


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize(
    "model", [HAIKU, NOVA_LITE, "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a"]
)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_token_counts_need_no_tokenizer(bedrock, kind, model):
    llm = kind(model=model)
    short, long = llm.get_num_tokens("bees"), llm.get_num_tokens("bees and flowers " * 100)
    assert 0 < short < long / 20
    assert llm.get_num_tokens("") == llm.get_num_tokens_from_messages([]) == 0
    plain = llm.get_num_tokens_from_messages(HISTORY)
    assert plain > llm.get_num_tokens_from_messages(HISTORY[:2]) > 0
    assert llm.get_num_tokens_from_messages(HISTORY, [weather]) > plain
    kept = trim_messages(
        [HumanMessage("bees " * 2000), AIMessage("b"), HumanMessage("c")],
        max_tokens=500, token_counter=llm, strategy="last",
    )  # fmt: skip
    assert [message.text for message in kept] == ["b", "c"]


def test_token_counts_include_the_constructors_system_prompt():
    few = ChatBedrockRouter(model=NOVA_LITE, region_name="us-east-1")
    many = ChatBedrockRouter(model=NOVA_LITE, region_name="us-east-1", system=["You are a bee. " * 50])
    messages = [HumanMessage("x")]
    assert many.get_num_tokens_from_messages(messages) > few.get_num_tokens_from_messages(messages) + 100


# --- fallbacks ---

REFUSED = [("messageStart", {"role": "assistant"}), ("throttlingException", {"message": "slow down"}, "exception")]


async def test_stream_refused_after_its_start_falls_back():
    with (
        ScriptedBedrock(REFUSED) as first,
        ScriptedBedrock(stream_of(text(0, "second"))) as second,
    ):
        llm = ChatBedrockRouter(model=HAIKU, **first.arguments).with_fallbacks(
            [ChatBedrockRouter(model=NOVA_LITE, **second.arguments)]
        )
        assert "".join(chunk.text for chunk in llm.stream("x")) == "second"
        assert "".join([chunk.text async for chunk in llm.astream("x")]) == "second"


# --- tracers ---


class Langfuse(BaseCallbackHandler):
    """A handler that, like Langfuse's, starts a span of its own and makes it current."""

    run_inline = True

    def on_chat_model_start(self, serialized, messages, *, metadata=None, **kwargs):
        self.start(metadata)

    def on_llm_start(self, serialized, prompts, *, metadata=None, **kwargs):
        self.start(metadata)

    def start(self, metadata):
        self.span = TracerProvider().get_tracer("langfuse-sdk").start_span("call")
        self.span.set_attribute("langfuse.observation.type", "generation")
        self.span.set_attribute("langfuse.observation.model.name", metadata["ls_model_name"])
        self.token = context.attach(trace.set_span_in_context(self.span))

    def on_llm_end(self, response, **kwargs):
        if name := (response.llm_output or {}).get("model_name"):
            self.span.set_attribute("langfuse.observation.model.name", name)
        self.span.end()
        with contextlib.suppress(ValueError):
            context.detach(self.token)


Langfuse.__module__ = "langfuse.langchain"


@pytest.mark.parametrize("telemetry", ["auto", "off"])
@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("way", ["invoke", "stream", "ainvoke", "astream"])
async def test_langfuse_gets_invoked_model_and_cost(router, kind, way, telemetry):
    handler = Langfuse()
    llm, config = kind(model=router, telemetry=telemetry), {"callbacks": [handler]}
    if way == "invoke":
        llm.invoke(HELLO, config)
    elif way == "ainvoke":
        await llm.ainvoke(HELLO, config)
    elif way == "stream":
        # A span of the application's own is current while the stream is read on.
        stream = llm.stream(HELLO, config)
        next(stream)
        with TracerProvider().get_tracer("app").start_as_current_span("reading"):
            list(stream)
    else:
        async for _ in llm.astream(HELLO, config):
            pass
    attributes = handler.span.attributes
    assert attributes["langfuse.observation.model.name"] in (HAIKU, SONNET)
    if (kind, way) != (BedrockRouterLLM, "ainvoke"):  # langchain-core begins those runs in tasks of their own
        assert json.loads(attributes["langfuse.observation.cost_details"])["total"] > 0


class OfAnApplication(Langfuse):
    """As Langfuse's documentation has users make one."""


def test_langfuse_subclass_is_langfuse(router):
    handler = OfAnApplication()
    ChatBedrockRouter(model=router).invoke(HELLO, {"callbacks": [handler]})
    assert json.loads(handler.span.attributes["langfuse.observation.cost_details"])["total"] > 0


def test_langfuse_attributes_stay_off_other_spans(router):
    with TracerProvider().get_tracer("app").start_as_current_span("mine") as span:
        list(ChatBedrockRouter(model=router).stream(HELLO))
    assert not [name for name in span.attributes if name.startswith("langfuse")]


def test_errors_are_bedrock_routing_errors():
    assert issubclass(InvalidRequestError, BedrockRoutingError)
