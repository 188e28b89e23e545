"""Test the runs sent to LangSmith: invoked model, tokens and cost. LangSmith's own client sends to a local server."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from langchain.agents import create_agent
from langchain_core.caches import InMemoryCache
from langchain_core.tracers.langchain import LangChainTracer
from langchain_ways import MODELS, WAYS, ask
from langsmith import Client, tracing_context
from samples import ALICE, HELLO, SONNET

from bedrock_routing_integrations.langchain import ChatBedrockRouter


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_POST(self):
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        run = self.server.runs.setdefault(sent.get("id") or self.path.rpartition("/")[2], {})
        run.update({name: value for name, value in sent.items() if value is not None})
        self.send_response(202)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_PATCH(self):
        self.do_POST()

    def do_GET(self):
        self.send_error(404)


class LangSmith:
    """Keeps the runs that it is sent, as they are in the end."""

    def __enter__(self):
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.runs = self.runs = {}
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.client = Client(api_url=url, api_key="none", auto_batch_tracing=False, info={})
        return self

    def __exit__(self, *error):
        self.client.session.close()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def tracer(self):
        return LangChainTracer(client=self.client)

    def models(self):
        """The metadata of the runs of models."""
        return [run["extra"]["metadata"] for run in self.runs.values() if run.get("run_type") == "llm"]


@pytest.fixture
def langsmith():
    with LangSmith() as server:
        yield server


def check(metadata, routing):
    usage = metadata["usage_metadata"]
    assert metadata["ls_model_name"] == routing["invoked_model"] == SONNET
    assert metadata["ls_provider"] == "amazon_bedrock"
    assert usage["total_cost"] == routing["cost_usd"] > 0
    assert (usage["input_tokens"], usage["output_tokens"]) == (routing["usage"]["input"], routing["usage"]["output"])


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("given", ["call", "constructor"])
async def test_langsmith_gets_invoked_model_tokens_and_cost(router, langsmith, kind, way, given):
    tracer = langsmith.tracer()
    model = MODELS[kind](model=router, callbacks=[tracer] if given == "constructor" else None)
    await ask(model, way, ALICE, {"callbacks": [tracer]} if given == "call" else None)
    (metadata,) = langsmith.models()
    (run,) = langsmith.runs.values()
    (generation,) = run["outputs"]["generations"][0]
    said = generation["message"]["kwargs"]["response_metadata"] if kind == "chat" else generation["generation_info"]
    check(metadata, said["routing"])
    assert tracer.run_map == {}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("way", ["batch", "abatch"])
async def test_it_gets_them_of_each_prompt_of_a_batch(router, langsmith, kind, way):
    model, config = MODELS[kind](model=router), {"callbacks": [langsmith.tracer()]}
    if way == "batch":
        model.batch([ALICE] * 3, config)
    else:
        await model.abatch([ALICE] * 3, config)
    traced_models = langsmith.models()
    assert [metadata["ls_model_name"] for metadata in traced_models] == [SONNET] * 3
    assert all(metadata["usage_metadata"]["total_cost"] > 0 for metadata in traced_models)


@pytest.mark.parametrize("way", [*WAYS, "astream_events", "stream_events"])
async def test_it_does_in_a_chain_too(router, langsmith, way):
    llm = ChatBedrockRouter(model=router)
    routings = []
    chain = llm | (lambda message: routings.append(message.response_metadata["routing"]))
    config = {"callbacks": [langsmith.tracer()]}
    if way == "astream_events":
        [event async for event in chain.astream_events(ALICE, config, version="v2")]
    elif way == "stream_events":
        message = llm.stream_events(ALICE, config, version="v3").output
        routings.append(message.response_metadata["routing"])
    elif "stream" in way:
        if way == "stream":
            list(chain.stream(ALICE, config))
        else:
            [part async for part in chain.astream(ALICE, config)]
    else:
        await ask(chain, way, ALICE, config)
    (metadata,) = langsmith.models()
    check(metadata, routings[0])


def test_it_does_for_each_turn_of_an_agent(router, langsmith):
    agent = create_agent(ChatBedrockRouter(model=router), [])
    for mode in ("values", "messages"):
        list(agent.stream({"messages": [("user", ALICE)]}, {"callbacks": [langsmith.tracer()]}, stream_mode=mode))
    assert len(langsmith.models()) == 2
    assert all(m["ls_model_name"] == SONNET and m["usage_metadata"]["total_cost"] > 0 for m in langsmith.models())


def test_a_tracer_that_langchain_makes_does_too(router, langsmith, monkeypatch):
    monkeypatch.setattr("langsmith.run_trees._CLIENT", langsmith.client)
    with tracing_context(enabled=True):  # as LANGSMITH_TRACING does for the process, which remembers it
        message = ChatBedrockRouter(model=router).invoke(ALICE)
        list(ChatBedrockRouter(model=router).stream(ALICE))
    for metadata in langsmith.models():
        check(metadata, message.response_metadata["routing"])
    assert len(langsmith.models()) == 2


def test_answer_from_langchains_cache_has_no_cost(router, langsmith):
    llm = ChatBedrockRouter(model=router, cache=InMemoryCache(), callbacks=[langsmith.tracer()])
    llm.invoke(ALICE)
    llm.invoke(ALICE)
    assert sorted(m["usage_metadata"]["total_cost"] > 0 for m in langsmith.models()) == [False, True]


def test_a_cost_that_is_not_known_is_not_sent(bedrock, langsmith):
    llm = ChatBedrockRouter(model="us.amazon.nova-pro-v1:0", service_tier="flex", callbacks=[langsmith.tracer()])
    assert llm.invoke(HELLO).response_metadata["routing"]["cost_usd"] is None
    (metadata,) = langsmith.models()
    assert "total_cost" not in metadata["usage_metadata"]
    assert metadata["ls_model_name"] == "amazon.nova-pro-v1:0"


def test_the_messages_usage_stays_what_langchain_can_add_up(router, langsmith):
    message = ChatBedrockRouter(model=router).invoke(ALICE, {"callbacks": [langsmith.tracer()]})
    assert "total_cost" not in message.usage_metadata


def test_a_tracer_that_is_not_as_expected_does_no_harm(router, langsmith):
    tracer = langsmith.tracer()
    tracer.run_map = {}
    tracer._start_trace = lambda run: None  # so there is not a run to write to
    llm = ChatBedrockRouter(model=router)
    assert llm.invoke(ALICE, {"callbacks": [tracer]}).text
    assert list(llm.stream(ALICE, {"callbacks": [tracer]}))
