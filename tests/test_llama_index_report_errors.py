"""Test the errors in a `RoutingEventHandler`'s report: each failed call counts once, an abandoned one does not."""

from __future__ import annotations

import asyncio
import threading

import pytest
from botocore.exceptions import ClientError
from llama_index.core import PromptTemplate
from llama_index_applications import errors_of
from llama_index_forms import FORMS, STREAMED, run, start, user
from llama_index_knowledge import CONVERSE, GENERATE, MODES, Says, ask, engine, facts
from llama_index_knowledge import FORMS as ASKING
from llama_index_knowledge import start as begin
from pydantic import BaseModel
from samples import HAIKU, HELLO
from scripted_bedrock import ScriptedBedrock, call_delta, call_start, stream_of, text, whole_of

from bedrock_routing_integrations import errors
from bedrock_routing_integrations.llama_index import BedrockRouter, RoutingEventHandler

each_form = pytest.mark.parametrize("form", FORMS)


class Song(BaseModel):
    """A song."""

    title: str


@each_form
async def test_refused_call_counts_as_error_of_its_target(bedrock, router, form):
    bedrock.fail(kind="throttling", times=10)
    with RoutingEventHandler() as handler, pytest.raises(ClientError):
        await run(BedrockRouter(model=router, max_retries=0), form, HELLO)
    assert errors_of(handler) == {router: {"ThrottlingException": 1}}
    assert handler.report.calls == 0


@pytest.mark.parametrize("form", STREAMED)
async def test_a_stream_that_breaks_off_is_an_error(bedrock, router, form):
    bedrock.fail(kind="cut", frame=4)
    with RoutingEventHandler() as handler, pytest.raises(errors.StreamInterruptedError):
        await run(BedrockRouter(model=router), form, HELLO)
    assert errors_of(handler) == {router: {"StreamInterruptedError": 1}}
    assert handler.report.calls == 0


@pytest.mark.parametrize("form", STREAMED)
async def test_closed_stream_is_not_an_error(router, form):
    with RoutingEventHandler() as handler:
        stream = await start(BedrockRouter(model=router), form, HELLO)
        if form.startswith("a"):
            await anext(stream)
            await stream.aclose()
        else:
            next(stream)
            stream.close()
    assert handler.report.to_dict()["targets"] == []


@pytest.mark.parametrize("form", ["achat", "acomplete", "astream_chat", "astream_complete"])
async def test_cancelled_task_is_not_an_error(form):
    asked, answer = threading.Event(), threading.Event()
    whole = stream_of(answer, text(0, "Hi")) if form in STREAMED else whole_of({"text": "Hi"})

    def reply(request):
        asked.set()
        return whole if form in STREAMED else (answer.wait(20) and whole)

    with ScriptedBedrock(reply) as server, RoutingEventHandler() as handler:
        task = asyncio.create_task(run(BedrockRouter(model=HAIKU, **server.arguments), form, "Hello"))
        await asyncio.to_thread(asked.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        answer.set()
    assert handler.report.to_dict()["targets"] == []


def test_answer_without_requested_object_counts_as_call():
    cut = stream_of(call_start(0, "t1", "Song"), call_delta(0, '{"tit'), stop="max_tokens")
    with ScriptedBedrock(cut) as server, RoutingEventHandler() as handler:
        llm = BedrockRouter(model=HAIKU, **server.arguments)
        with pytest.raises(errors.ToolCallError):
            list(llm.stream_structured_predict(Song, PromptTemplate("Invent a song.")))
    assert handler.report.calls == 1
    assert errors_of(handler) == {HAIKU: {}}


def test_errors_of_other_llms_are_not_ours(router):
    class Broken(Says):
        def chat(self, messages, **kwargs):
            raise KeyError("theirs")

    with RoutingEventHandler() as handler:
        with pytest.raises(KeyError):
            Broken(answers=[]).chat(user(HELLO))
        Says(answers=["Hi"]).chat(user(HELLO))
    assert handler.report.to_dict()["targets"] == []


def test_request_refused_before_sending_is_an_error(router):
    with RoutingEventHandler() as handler:
        with pytest.raises(errors.InvalidRequestError):
            BedrockRouter(model=router).complete(HELLO, temprature=1)
        with pytest.raises(errors.InvalidTargetError):
            BedrockRouter(model=router).complete(HELLO, model="no target at all")
    assert errors_of(handler) == {router: {"InvalidRequestError": 1}, "no target at all": {"InvalidTargetError": 1}}


# --- knowledge bases ---


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", ASKING)
async def test_refused_question_counts_as_error_of_its_model(bedrock, router, mode, form):
    base = facts(bedrock)
    operation = {GENERATE: "RetrieveAndGenerate", CONVERSE: "Converse"}[mode]
    bedrock.fail(kind="access_denied", operation=operation + "Stream" * ("stream" in form))
    with RoutingEventHandler() as handler, pytest.raises(ClientError):
        await ask(engine(base, form, model=router, mode=mode), form)
    assert errors_of(handler) == {router: {"AccessDeniedException": 1}}
    assert handler.report.calls == 0


@pytest.mark.parametrize("form", ["stream", "astream"])
async def test_interrupted_knowledge_base_answer_counts_as_error(bedrock, router, form):
    base = facts(bedrock)
    bedrock.fail(kind="cut", operation="RetrieveAndGenerateStream", frame=2, abrupt=True)
    with RoutingEventHandler() as handler, pytest.raises(errors.StreamInterruptedError):
        await ask(engine(base, form, model=router, mode=GENERATE), form)
    assert errors_of(handler) == {router: {"StreamInterruptedError": 1}}
    assert handler.report.calls == 0


async def test_abandoned_knowledge_base_answer_does_not_count(bedrock, router):
    base = facts(bedrock)
    with RoutingEventHandler() as handler:
        response = await begin(engine(base, "stream", model=router, mode=GENERATE), "stream")
        next(response.response_gen)
        response.response_gen.close()
    assert handler.report.to_dict()["targets"] == []
