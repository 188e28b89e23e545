"""`RoutingEventHandler`: each call counts once, in whatever it is made and however it is listened to."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import CompletionResponse
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.query_engine import RouterQueryEngine, SubQuestionQueryEngine
from llama_index.core.question_gen import LLMQuestionGenerator
from llama_index.core.selectors import LLMSingleSelector
from llama_index.core.tools import FunctionTool, QueryEngineTool
from llama_index.core.types import Thread
from llama_index_applications import ALL, answered_by, errors_of, vector_index
from llama_index_forms import FORMS, run, user
from llama_index_knowledge import FORMS as ASKING
from llama_index_knowledge import GENERATE, MODES, WHO, Says, ask, engine, facts
from pydantic import BaseModel
from samples import ALICE, HAIKU, HELLO, SONNET
from scripted_bedrock import ScriptedBedrock, whole_of

from bedrock_routing_integrations import errors
from bedrock_routing_integrations.costs.report import RoutingReport
from bedrock_routing_integrations.llama_index import BedrockRouter, KnowledgeBaseQueryEngine, RoutingEventHandler
from bedrock_routing_integrations.llama_index import _instrumentation as instrumentation

OURS = "bedrock_routing_integrations.llama_index"
each_form = pytest.mark.parametrize("form", FORMS)


class Song(BaseModel):
    """A song."""

    title: str


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@pytest.fixture
def listen():
    """Adds a handler to dispatchers by their names, until the test is over."""
    added = []

    def listen(handler, *names):
        for name in names or ["root"]:
            get_dispatcher(name).add_event_handler(handler)
            added.append((get_dispatcher(name), handler))
        return handler

    yield listen
    for dispatcher, handler in added:
        dispatcher.event_handlers = [other for other in dispatcher.event_handlers if other is not handler]


@pytest.fixture(autouse=True)
def _nobody_listens_any_more():
    yield
    assert get_dispatcher(OURS).event_handlers == []


# --- each call once ---


@each_form
async def test_call_counts_once_with_its_answers_numbers(router, form):
    with RoutingEventHandler() as handler:
        *_, last = await run(BedrockRouter(model=router), form, ALICE)
    routing, report = last.additional_kwargs["routing"], handler.report.to_dict()
    assert report["totals"]["calls"] == 1
    assert report["totals"]["cost_usd"] == routing["cost_usd"] > 0
    assert report["totals"]["tokens"] == routing["usage"]
    assert report["totals"]["errors"] == {}
    assert [target["requested_model_id"] for target in report["targets"]] == [router]
    assert [model["invoked_model"] for model in report["models"]] == [SONNET]


@each_form
async def test_call_counts_once_for_any_number_of_dispatchers(router, listen, form):
    handler = listen(RoutingEventHandler(), "root", "root", OURS)
    with handler, handler:
        await run(BedrockRouter(model=router), form, HELLO)
    assert handler.report.calls == 1


def test_handlers_sharing_a_report_count_a_call_once(bedrock, router, listen):
    shared, own = RoutingReport(), RoutingEventHandler()
    listen(RoutingEventHandler(report=shared)), listen(own)
    with RoutingEventHandler(report=shared) as handler:
        BedrockRouter(model=router).complete(HELLO)
        bedrock.fail(kind="validation")
        with pytest.raises(ClientError):
            BedrockRouter(model=router).complete(HELLO)
    assert handler.report is shared
    assert shared.calls == own.report.calls == 1
    assert errors_of(handler) == errors_of(own) == {router: {"ValidationException": 1}}


def test_handler_on_dispatcher_counts_calls_of_all_threads(router, listen):
    llm, before = BedrockRouter(model=router), ThreadPoolExecutor(4)
    with before:
        list(before.map(int, range(4)))
        handler = listen(RoutingEventHandler())
        list(before.map(llm.complete, [HELLO] * 8))
    assert handler.report.calls == 8


def test_own_prices_give_caching_savings():
    prices = {HAIKU: {"input_mtok": 1, "output_mtok": 2, "cache_read_mtok": 0.5}}
    usage = {"inputTokens": 0, "outputTokens": 0, "cacheReadInputTokens": 1_000_000, "totalTokens": 1_000_000}
    with (
        ScriptedBedrock(whole_of({"text": "Hi"}, usage=usage)) as server,
        RoutingEventHandler(prices=prices) as handler,
    ):
        BedrockRouter(model=HAIKU, prices=prices, **server.arguments).complete("Hello")
    totals = handler.report.to_dict()["totals"]
    assert (totals["cost_usd"], totals["saved_by_caching_usd"]) == (0.5, 0.5)


def test_error_while_counting_does_not_lose_the_answer(router, listen):
    class Broken(RoutingEventHandler):
        def handle(self, event, **kwargs):
            raise ZeroDivisionError

    listen(Broken())
    with RoutingEventHandler() as outer, Broken(), RoutingEventHandler() as inner:
        assert BedrockRouter(model=router).complete(HELLO).text
    assert outer.report.calls == inner.report.calls == 1


# --- knowledge bases ---


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", ASKING)
async def test_an_answer_of_a_knowledge_base_counts_once(bedrock, router, mode, form):
    base = facts(bedrock)
    with RoutingEventHandler() as handler:
        await ask(engine(base, form, model=router, mode=mode), form)
    totals = handler.report.to_dict()["totals"]
    assert totals["calls"] == 1
    # AWS does not report the cost of RetrieveAndGenerate.
    assert totals["calls_without_usage"] == totals["calls_without_price"] == (mode == GENERATE)
    assert [target["requested_model_id"] for target in handler.report.to_dict()["targets"]] == [router]


class Plans(Says):
    """Another LLM, for selectors and planners."""

    def complete(self, prompt, formatted=False, **kwargs):
        return CompletionResponse(text=self._next(user(prompt)))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", ["query", "aquery"])
async def test_engines_in_engines_count_each_call_once(bedrock, router, form, mode):
    llm = BedrockRouter(model=router)
    base = KnowledgeBaseQueryEngine(facts(bedrock), model=router, mode=mode)
    tool = QueryEngineTool.from_defaults(base, name="moons", description="Answers questions about moons.")
    plan = {"items": [{"sub_question": f"Who found {moon}?", "tool_name": "moons"} for moon in ("Titan", "Triton")]}
    split = SubQuestionQueryEngine.from_defaults(
        query_engine_tools=[tool],
        question_gen=LLMQuestionGenerator.from_defaults(llm=Plans(answers=[json.dumps(plan)])),
        llm=llm,
        verbose=False,
        use_async=form.startswith("a"),
    )
    chosen = RouterQueryEngine(
        selector=LLMSingleSelector.from_defaults(llm=Plans(answers=['[{"choice": 1, "reason": "moons"}]'])),
        query_engine_tools=[QueryEngineTool.from_defaults(split, name="all", description="Everything.")],
        llm=llm,
    )
    with RoutingEventHandler() as handler:
        assert await ask(chosen, form)
    asked = [entry for entry in bedrock.journal if entry.operation in ("Converse", "RetrieveAndGenerate")]
    assert handler.report.calls == len(asked) == 3  # two questions, and what they come to
    assert handler.report.to_dict()["totals"]["calls_without_usage"] == (2 if mode == GENERATE else 0)


# --- in LlamaIndex ---


@pytest.mark.parametrize("streaming", [True, False], ids=["streamed", "whole"])
async def test_each_step_of_an_agent_counts(bedrock, router, streaming):
    agent = FunctionAgent(llm=BedrockRouter(model=router), tools=[FunctionTool.from_defaults(add)], streaming=streaming)
    async with RoutingEventHandler() as handler:
        await agent.run("Add 3 and 4.")
    models = {model["invoked_model"]: model["calls"] for model in handler.report.to_dict()["models"]}
    assert models == {name: answered_by(bedrock).count(name) for name in answered_by(bedrock)}
    assert handler.report.calls == 2


async def test_an_index_asked_with_many_calls_counts_each(bedrock, router):
    asked = vector_index().as_query_engine(
        llm=BedrockRouter(model=router), response_mode="tree_summarize", use_async=True, similarity_top_k=ALL
    )
    with RoutingEventHandler() as handler:
        asked.query(WHO)  # in an event loop: LlamaIndex starts a thread
        await asked.aquery(WHO)
    assert handler.report.calls == len(answered_by(bedrock)) >= 2


# --- blocks ---


def test_threads_count_for_the_block_that_they_are_started_in(router):
    llm = BedrockRouter(model=router)
    with RoutingEventHandler() as outer, RoutingEventHandler() as handler:
        threads = [kind(target=llm.complete, args=(HELLO,)) for kind in (Thread, threading.Thread)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(llm.complete, [HELLO] * 3))
    assert handler.report.calls == outer.report.calls == 5
    llm.complete(HELLO)
    assert handler.report.calls == 5, "what comes after the block does not count"


@each_form
async def test_of_tasks_side_by_side_each_counts_its_own(router, form):
    llm = BedrockRouter(model=router)
    llm.resolved()

    async def work(times):
        async with RoutingEventHandler() as handler:
            for _ in range(times):
                await run(llm, form, HELLO)
        return handler.report.calls

    with RoutingEventHandler() as outer:
        assert await asyncio.gather(*(work(times) for times in (1, 2, 3))) == [1, 2, 3]
    assert outer.report.calls == 6


def test_stream_counts_for_the_block_that_reads_it(router):
    llm = BedrockRouter(model=router)
    with RoutingEventHandler() as opened:
        stream = llm.stream_complete(HELLO)
    with RoutingEventHandler() as reading:
        list(stream)
    assert (opened.report.calls, reading.report.calls) == (0, 1)


async def test_many_calls_at_once_add_up_exactly(router):
    """Threads and tasks together, at the same time, in two handlers."""
    llm, number = BedrockRouter(model=router, max_concurrency=64), 16
    llm.resolved()
    with RoutingEventHandler() as outer, RoutingEventHandler() as handler:

        def threads():
            with ThreadPoolExecutor(number) as pool:
                return list(pool.map(llm.complete, [ALICE, HELLO] * number))

        in_threads = asyncio.create_task(asyncio.to_thread(threads))
        in_tasks = await asyncio.gather(*(llm.acomplete(prompt) for prompt in [ALICE, HELLO] * number))
        answers = [answer.additional_kwargs["routing"] for answer in [*in_tasks, *await in_threads]]
    assert len(answers) == 4 * number
    for report in (handler.report.to_dict(), outer.report.to_dict()):
        assert report["totals"]["calls"] == len(answers)
        for name, total in report["totals"]["tokens"].items():
            assert total == sum(routing["usage"][name] for routing in answers)
        by_model = {model["invoked_model"]: model["calls"] for model in report["models"]}
        assert by_model == {HAIKU: 2 * number, SONNET: 2 * number}


def test_our_handler_causes_no_event_per_chunk(router, listen):
    """LlamaIndex's event for each chunk takes as long as all that we do."""
    emitted = []

    class Curious(RoutingEventHandler):
        def handle(self, event, **kwargs):
            emitted.append(event.class_name())

    listen(RoutingEventHandler())
    with RoutingEventHandler():
        assert not instrumentation.has_listeners(instrumentation._llm_dispatcher, to_llm_events=True)
    listen(Curious())
    chunks = list(BedrockRouter(model=router).stream_complete(HELLO))
    assert emitted.count("LLMCompletionInProgressEvent") == len(chunks)
    assert emitted.count("ModelRoutedEvent") == 1


# --- the object ---


def test_a_handler_is_a_small_model_of_pydantics(router):
    with RoutingEventHandler() as handler:
        BedrockRouter(model=router).complete(HELLO)
    assert repr(handler) == "RoutingEventHandler(calls=1)"
    assert handler.class_name() == "RoutingEventHandler"
    assert handler.model_dump() == {}
    assert handler.model_dump_json() == "{}"
    with pytest.raises(errors.InvalidRequestError, match="a report has its own prices"):
        RoutingEventHandler(prices={}, report=RoutingReport())


def test_copies_are_the_handler_and_pickles_take_the_report_along(router):
    with RoutingEventHandler() as handler:
        BedrockRouter(model=router).complete(HELLO)
        assert copy.copy(handler) is copy.deepcopy(handler) is handler.model_copy(deep=True) is handler
        other = pickle.loads(pickle.dumps(handler))
        with other:
            BedrockRouter(model=router).complete(HELLO)
    assert (handler.report.calls, other.report.calls) == (2, 2)
    assert other.report is not handler.report
