"""Test the counts of `RoutingCallbackHandler` as a callback; test_langchain_blocks.py has its `with` blocks."""

from __future__ import annotations

import asyncio
import copy
import itertools
import logging
import pickle

import pytest
from langchain.agents import create_agent
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler, CallbackManager
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.messages import HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableLambda
from langchain_ways import MODELS, WAYS, ask, errors_of
from samples import ALICE, HAIKU, HELLO, SONNET

from bedrock_routing_integrations import RoutingReport
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.langchain import ChatBedrockRouter, KnowledgeBaseChain, RoutingCallbackHandler

each_way = pytest.mark.parametrize("way", WAYS)
each_model = pytest.mark.parametrize("kind", MODELS)
GENERATE, CONVERSE = "retrieve_and_generate", "retrieve_then_converse"
TITAN = "Who discovered Titan?"


@pytest.fixture
def handler():
    return RoutingCallbackHandler()


def given(handler):
    return {"callbacks": [handler]}


def models_of(handler):
    return {model["invoked_model"]: model["calls"] for model in handler.report.to_dict()["models"]}


# --- a call counts once ---


@each_model
@each_way
async def test_a_call_counts_once_however_often_the_handler_is_given(router, handler, kind, way):
    model = MODELS[kind](model=router, callbacks=[handler])
    manager = CallbackManager([handler], inheritable_handlers=[handler])
    with handler, handler:
        for config in (given(handler), {"callbacks": [handler, handler]}, {"callbacks": manager.copy()}):
            await ask(model, way, HELLO, config)
    assert models_of(handler) == {HAIKU: 3}


@each_model
@each_way
async def test_report_has_the_numbers_of_the_answer(router, handler, kind, way):
    await ask(MODELS[kind](model=router), way, ALICE, given(handler))
    (target,) = handler.report.to_dict()["targets"]
    assert (target["requested_model_id"], target["calls"]) == (router, 1)
    assert target["models"][0]["invoked_model"] == SONNET
    assert target["cost_usd"] > 0
    assert target["tokens"]["output"] > 0


@each_model
async def test_each_call_of_a_batch_counts(router, handler, kind):
    model = MODELS[kind](model=router)
    model.batch([ALICE, HELLO, HELLO], given(handler))
    await model.abatch([ALICE, HELLO, HELLO], given(handler))
    model.generate(
        [ALICE, HELLO] if kind == "llm" else [[HumanMessage(ALICE)], [HumanMessage(HELLO)]], callbacks=[handler]
    )
    assert models_of(handler) == {HAIKU: 5, SONNET: 3}


async def test_calls_in_chains_and_agents_count(router, handler):
    llm = ChatBedrockRouter(model=router)
    chain = RunnableLambda(llm.invoke) | (lambda message: message.text) | llm
    chain.invoke(HELLO, given(handler))
    await chain.ainvoke(HELLO, given(handler))
    [event async for event in chain.astream_events(HELLO, given(handler), version="v2")]
    assert handler.report.calls == 6
    agent = create_agent(llm, [])
    for mode in ("values", "messages"):
        list(agent.stream({"messages": [("user", HELLO)]}, given(handler), stream_mode=mode))
    list(llm.stream_events(HELLO, given(handler), version="v3"))
    assert handler.report.calls == 9


def test_handlers_that_share_a_report_count_a_call_once(router):
    report = RoutingReport()
    one, other = RoutingCallbackHandler(report=report), RoutingCallbackHandler(report=report)
    llm = ChatBedrockRouter(model=router, callbacks=[one])
    llm.invoke(HELLO, given(other))
    with pytest.raises(Exception, match="model identifier is invalid"):
        llm.invoke(HELLO, given(other), model="anthropic.claude-0")
    assert report.calls == 1
    assert errors_of(report) == {"ValidationException": 1}
    with pytest.raises(InvalidRequestError, match="prices"):
        RoutingCallbackHandler(report=report, prices={})


# --- runs that are not calls ---


@each_model
async def test_answer_from_langchains_cache_is_not_a_call(bedrock, router, handler, kind):
    model = MODELS[kind](model=router)
    model = model.model_copy(update={"cache": InMemoryCache()})
    for _ in range(3):
        model.invoke(HELLO, given(handler))
        await model.ainvoke(HELLO, given(handler))
    assert len(bedrock.requests("Converse")) == 1
    assert handler.report.calls == 1


class Wrapping(BaseChatModel):
    """A user's chat model that wraps one of ours; each has a run."""

    inner: ChatBedrockRouter

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        return ChatResult(generations=[ChatGeneration(message=self.inner.invoke(messages, stop=stop))])

    @property
    def _llm_type(self):
        return "wrapping"


def test_answer_through_third_party_model_counts_once(router, handler):
    FakeListChatModel(responses=["yes"]).invoke(HELLO, given(handler))
    assert handler.report.calls == 0
    with handler:
        Wrapping(inner=ChatBedrockRouter(model=router)).invoke(HELLO)
    assert handler.report.calls == 1


class Broken(BaseChatModel):
    def _generate(self, *args, **kwargs):
        raise OSError("not Bedrock's")

    @property
    def _llm_type(self):
        return "broken"


def test_errors_of_other_models_do_not_count(handler):
    with pytest.raises(OSError, match="not Bedrock"):
        Broken().invoke(HELLO, given(handler))
    assert errors_of(handler.report) == {}


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_abandoned_stream_does_not_count(router, handler, asynchronous):
    llm = ChatBedrockRouter(model=router, callbacks=[handler])
    if asynchronous:
        stream = llm.astream(ALICE)
        await anext(stream)
        await stream.aclose()
    else:
        stream = llm.stream(ALICE)
        next(stream)
        stream.close()
    assert handler.report.calls == 0
    assert errors_of(handler.report) == {}


def test_a_stream_that_is_left_when_all_had_arrived_counts(router, handler):
    stream = ChatBedrockRouter(model=router, callbacks=[handler]).stream(HELLO)
    next(chunk for chunk in stream if "routing" in chunk.response_metadata)
    stream.close()
    assert models_of(handler) == {HAIKU: 1}


@pytest.mark.parametrize("way", ["ainvoke", "astream"])
async def test_cancelled_call_is_not_an_error(bedrock, router, handler, way):
    slow = bedrock.fail("slow_first_byte", seconds=0.3, rate=1.0)
    task = asyncio.create_task(ask(ChatBedrockRouter(model=router, callbacks=[handler]), way, HELLO))
    for _ in itertools.takewhile(lambda _: not slow.hits, range(1_000)):
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert handler.report.calls == 0
    assert errors_of(handler.report) == {}


# --- errors ---


@each_model
@each_way
async def test_failed_call_counts_as_error_of_its_target(bedrock, router, handler, kind, way):
    bedrock.fail("access_denied", rate=1.0)
    model = MODELS[kind](model=router, callbacks=[handler])
    with pytest.raises(Exception, match="AccessDenied"):
        await ask(model, way, HELLO, given(handler))
    with pytest.raises(Exception, match="AccessDenied"):
        await ask(model, way, HELLO, model=HAIKU)
    targets = {t["requested_model_id"]: t["errors"] for t in handler.report.to_dict()["targets"]}
    assert targets == {router: {"AccessDeniedException": 1}, HAIKU: {"AccessDeniedException": 1}}
    assert handler.report.calls == 0


def test_a_stream_that_breaks_off_counts_as_an_error(bedrock, router, handler):
    bedrock.fail("cut")
    with pytest.raises(ConnectionError):
        list(ChatBedrockRouter(model=router).stream(HELLO, given(handler)))
    bedrock.fail("exception_event", name="throttlingException", message="slow down")
    with pytest.raises(Exception, match="slow down"):
        list(ChatBedrockRouter(model=router).stream(HELLO, given(handler)))
    assert errors_of(handler.report) == {"StreamInterruptedError": 1, "ThrottlingException": 1}


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_failed_prompt_of_generate_leaves_others_counted(bedrock, router, handler, asynchronous):
    # LangChain passes the error, and none of the answers, to every run.
    bedrock.fail("validation", times=1, after=1)
    model = MODELS["llm"](model=router)
    with pytest.raises(Exception, match="ValidationException"):
        if asynchronous:
            await model.agenerate([HELLO] * 3, callbacks=[handler])
        else:
            model.generate([HELLO] * 3, callbacks=[handler])
    answered_calls = sum(entry.status == 200 for entry in bedrock.requests("Converse"))
    assert handler.report.calls == answered_calls
    assert errors_of(handler.report) == {"ValidationException": 1}


def test_uncountable_answer_does_not_fail_the_call(router, handler, caplog):
    class Wrong(RoutingReport):
        def add(self, routing, **more):
            raise ZeroDivisionError

    handler = RoutingCallbackHandler(report=Wrong())
    handler.raise_error = True
    with caplog.at_level(logging.WARNING):
        assert ChatBedrockRouter(model=router).invoke(HELLO, given(handler)).text
    assert caplog.records == []


# --- knowledge bases ---


async def run_chain(chain, way, config):
    if way == "invoke":
        return chain.invoke(TITAN, config)
    if way == "ainvoke":
        return await chain.ainvoke(TITAN, config)
    if way == "stream":
        return list(chain.stream(TITAN, config))
    return [part async for part in chain.astream(TITAN, config)]


@each_way
@pytest.mark.parametrize("mode", [GENERATE, CONVERSE])
@pytest.mark.parametrize("outer", [False, True])
async def test_an_answer_from_a_knowledge_base_counts_once(bedrock, router, handler, mode, way, outer):
    chain = KnowledgeBaseChain(knowledge_base_id=bedrock.default_knowledge_base(), model=router, mode=mode)
    whole = RunnableLambda(lambda question: question) | chain if outer else chain
    with handler:
        await run_chain(whole, way, given(handler))
    totals = handler.report.to_dict()["totals"]
    assert (totals["calls"], totals["calls_without_usage"]) == (1, int(mode == GENERATE))


@each_way
@pytest.mark.parametrize("mode", [GENERATE, CONVERSE])
async def test_failed_knowledge_base_answer_counts_as_error(bedrock, router, handler, mode, way):
    chain = KnowledgeBaseChain(knowledge_base_id=bedrock.default_knowledge_base(), model=router, mode=mode)
    bedrock.fail("access_denied", rate=1.0)
    for operation in ("RetrieveAndGenerate", "RetrieveAndGenerateStream"):
        bedrock.fail("access_denied", rate=1.0, operation=operation)
    with pytest.raises(Exception, match="AccessDenied"):
        await run_chain(chain, way, given(handler))
    (target,) = handler.report.to_dict()["targets"]
    assert (target["requested_model_id"], target["errors"]) == (router, {"AccessDeniedException": 1})


async def test_chain_emits_event_for_knowledge_base_answer(bedrock, router):
    chain = KnowledgeBaseChain(knowledge_base_id=bedrock.default_knowledge_base(), model=router)
    events = [event async for event in chain.astream_events(TITAN, version="v2")]
    (custom_event,) = [event for event in events if event["event"] == "on_custom_event"]
    assert (custom_event["name"], custom_event["data"]["requested_model_id"]) == ("bedrock_routing", router)


# --- the object itself ---


def test_copies_are_itself_and_a_pickle_takes_the_report_along(router, handler):
    llm = ChatBedrockRouter(model=router, callbacks=[handler])
    copy.deepcopy(llm).invoke(HELLO)
    copy.copy(handler).report.add({"requested_model_id": HAIKU, **dict.fromkeys(("target_kind", "usage"))})
    with handler:
        sent = pickle.loads(pickle.dumps(handler))
    assert handler.report.calls == sent.report.calls == 2
    llm.invoke(HELLO, given(sent))
    assert sent.report.calls == 3
    assert not sent.is_open
    assert repr(sent) == "RoutingCallbackHandler(<RoutingReport of 3 calls>)"


class Own(BaseCallbackHandler):
    def __init__(self):
        self.told = []

    def on_llm_end(self, response, **kwargs):
        self.told.append(response)


def test_other_handlers_hear_what_they_did(router, handler):
    own = Own()
    with handler:
        ChatBedrockRouter(model=router, callbacks=[own]).invoke(HELLO)
    assert len(own.told) == 1
