"""Test the events and callbacks of a call: LlamaIndex's own, and those with the invoked model."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from botocore.exceptions import ClientError
from llama_index.core.base.llms.generic_utils import chat_response_to_completion_response
from llama_index.core.base.llms.types import LLMMetadata
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import CustomLLM
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.rate_limiter import BaseRateLimiter
from llama_index_forms import FORMS, STREAMED, WHOLE, run, start, text_of, user
from pydantic import Field
from samples import ALICE, HELLO, SONNET

from bedrock_routing_integrations.llama_index import BedrockRouter, ModelCallFailedEvent, ModelRoutedEvent
from bedrock_routing_integrations.llama_index._responses import as_chat, as_completion

SCENARIOS = {"success": {}, "refused": {"kind": "validation"}, "cut": {"kind": "cut", "frame": 4}, "closed": {}}
# Only streams can be cut, or closed, before they are whole.
PLAYED = [(form, name) for form in FORMS for name in SCENARIOS if form in STREAMED or name in {"success", "refused"}]


class Listener(BaseEventHandler):
    events: list[Any] = Field(default_factory=list)

    def handle(self, event, **kwargs):
        self.events.append(event)


@pytest.fixture
def emitted():
    """Every event of LlamaIndex's instrumentation."""
    listener = Listener()
    get_dispatcher().add_event_handler(listener)
    yield listener.events
    get_dispatcher().event_handlers.remove(listener)


class Callbacks(BaseCallbackHandler):
    """A callback handler that records its calls."""

    def __init__(self):
        super().__init__([], [])
        self.calls, self.ids = [], {}

    def on_event_start(self, event_type, payload=None, event_id="", parent_id="", **kwargs):
        self.ids[event_id] = len(self.ids)
        self.calls.append(("start", event_type, payload, self.ids[event_id]))
        return event_id

    def on_event_end(self, event_type, payload=None, event_id="", **kwargs):
        self.calls.append(("end", event_type, payload, self.ids.get(event_id)))

    def start_trace(self, trace_id=None):
        self.calls.append(("start_trace", trace_id))

    def end_trace(self, trace_id=None, trace_map=None):
        self.calls.append(("end_trace", trace_id))


class Upstreams(CustomLLM):
    """An LLM that makes the same calls with LlamaIndex's own decorators."""

    ours: Any

    @property
    def metadata(self):
        return LLMMetadata()

    def to_payload(self):
        return self.ours.to_payload()

    @llm_chat_callback()
    def chat(self, messages, **kwargs):
        return self.ours._converse(messages, kwargs)

    @llm_completion_callback()
    def complete(self, prompt, formatted=False, **kwargs):
        return chat_response_to_completion_response(self.ours._converse(user(prompt), kwargs))

    @llm_chat_callback()
    async def achat(self, messages, **kwargs):
        return self.ours._converse(messages, kwargs)

    @llm_completion_callback()
    async def acomplete(self, prompt, formatted=False, **kwargs):
        return chat_response_to_completion_response(self.ours._converse(user(prompt), kwargs))

    @llm_chat_callback()
    def stream_chat(self, messages, **kwargs):
        return (as_chat(chunk) for chunk in self.ours._converse_stream(messages, kwargs))

    @llm_completion_callback()
    def stream_complete(self, prompt, formatted=False, **kwargs):
        return (as_completion(chunk) for chunk in self.ours._converse_stream(user(prompt), kwargs))

    @llm_chat_callback()
    async def astream_chat(self, messages, **kwargs):
        chunks = self.ours._converse_stream(messages, kwargs)

        async def relay():
            for chunk in chunks:
                yield as_chat(chunk)

        return relay()

    @llm_completion_callback()
    async def astream_complete(self, prompt, formatted=False, **kwargs):
        chunks = self.ours._converse_stream(user(prompt), kwargs)

        async def relay():
            for chunk in chunks:
                yield as_completion(chunk)

        return relay()


def comparable(value):
    """Return the part of an event that is equal in two equal calls."""
    if isinstance(value, BaseException):
        return type(value).__name__, str(value)
    if hasattr(value, "delta"):
        return text_of(value), value.delta, sorted(value.additional_kwargs), value.raw.keys()
    if isinstance(value, dict):
        return {name: comparable(each) for name, each in value.items()}
    return value


def event_rows(events):
    """The events in their order, with the spans numbered as they come."""
    spans: dict[str, int] = {}
    rows = []
    for event in events:
        if isinstance(event, (ModelRoutedEvent, ModelCallFailedEvent)):
            continue
        fields = {name: getattr(event, name) for name in type(event).model_fields if name not in {"id_", "timestamp"}}
        span = fields.pop("span_id")
        rows.append((type(event).__name__, comparable(fields), span and spans.setdefault(span, len(spans))))
    return rows


async def play(llm, form, scenario):
    """Make a call and return its result or error."""
    try:
        stream = await start(llm, form, HELLO, temperature=0)
        if form in WHOLE:
            return text_of(stream)
        count = 0
        if form.startswith("a"):
            async for _ in stream:
                count += 1
                if scenario == "closed" and count == 3:
                    await stream.aclose()
        else:
            for _ in stream:
                count += 1
                if scenario == "closed" and count == 3:
                    stream.close()
    except Exception as error:
        return type(error).__name__
    return count


@pytest.mark.sample(10)
@pytest.mark.parametrize(("form", "scenario"), PLAYED)
async def test_events_equal_those_of_llama_indexs_decorators(bedrock, router, emitted, form, scenario):
    ours = BedrockRouter(model=router)
    ours.metadata  # noqa: B018 - both then know the router
    seen = {}
    for name in ("ours", "theirs"):
        callbacks = Callbacks()
        manager = CallbackManager([callbacks])
        ours.callback_manager = manager
        llm = ours if name == "ours" else Upstreams(ours=ours, callback_manager=manager)
        if SCENARIOS[scenario]:
            bedrock.fail(**SCENARIOS[scenario])
        emitted.clear()
        ended = await play(llm, form, scenario)
        seen[name] = (ended, event_rows(emitted), [comparable(dict(enumerate(call))) for call in callbacks.calls])
    assert seen["ours"][0] == seen["theirs"][0]
    assert seen["ours"][1] == seen["theirs"][1]
    assert seen["ours"][2] == seen["theirs"][2]
    names = [name for name, *_ in seen["ours"][1]]
    kind = "Chat" if "chat" in form else "Completion"
    assert names[0] == f"LLM{kind}StartEvent"
    assert (names[-1] == f"LLM{kind}EndEvent") is (scenario == "success")
    chunks = 0 if form in WHOLE else {"refused": 0, "cut": 3}.get(scenario, seen["ours"][0])
    assert names.count(f"LLM{kind}InProgressEvent") == chunks
    ends = [call for call in seen["ours"][2] if call[0] == "end"]
    assert len(ends) == 1
    assert (EventPayload.EXCEPTION in ends[0][2]) is (scenario != "success")


@pytest.mark.parametrize("form", FORMS)
async def test_callbacks_run_without_event_listeners(router, form):
    callbacks = Callbacks()
    *_, last = await run(BedrockRouter(model=router, callback_manager=CallbackManager([callbacks])), form, HELLO)
    (begun, ended) = [call for call in callbacks.calls if call[0] in {"start", "end"}]
    assert begun[1] == ended[1] == CBEventType.LLM
    assert begun[3] == ended[3]
    name = EventPayload.RESPONSE if "chat" in form else EventPayload.COMPLETION
    assert ended[2][name] is last


# Between the dispatcher of LlamaIndex's calls and the root one.
DISPATCHERS = ("llama_index.core.llms.callbacks", "llama_index.core.llms", "llama_index.core", "root")


@pytest.mark.parametrize("form", ["chat", "acomplete", "stream_chat", "astream_complete"])
@pytest.mark.parametrize("name", DISPATCHERS)
async def test_handler_of_one_module_gets_events_of_other_llms(router, name, form):
    """`has_listeners` has to look at every dispatcher that propagates, and at no other."""
    ours = BedrockRouter(model=router)
    ours.metadata  # noqa: B018 - both then know the router
    emitted = []
    for llm in (ours, Upstreams(ours=ours)):
        listener = Listener()
        dispatcher = get_dispatcher(name)
        dispatcher.add_event_handler(listener)
        try:
            assert await play(llm, form, "success")
        finally:
            dispatcher.event_handlers.remove(listener)
        emitted.append(event_rows(listener.events))
    assert emitted[0] == emitted[1]
    assert len(emitted[0]) >= 2 or name not in (DISPATCHERS[0], "root")


class Limiter(BaseRateLimiter):
    asked = 0

    def acquire(self, num_tokens=0):
        self.asked += 1

    async def async_acquire(self, num_tokens=0):
        self.asked += 1


@pytest.mark.parametrize("form", FORMS)
async def test_a_rate_limiter_is_asked_once_for_each_call(router, form):
    limiter = Limiter()
    await run(BedrockRouter(model=router, rate_limiter=limiter), form, HELLO)
    assert limiter.asked == 1


# --- who answered ---


def span_of(events, ending):
    return [event.span_id for event in events if type(event).__name__.endswith(ending)]


@pytest.mark.parametrize("form", FORMS)
async def test_model_routed_event_precedes_the_end_of_the_call(router, emitted, form):
    *_, last = await run(BedrockRouter(model=router), form, ALICE)
    names = [type(event).__name__ for event in emitted]
    (routed,) = [event for event in emitted if isinstance(event, ModelRoutedEvent)]
    kind = "Chat" if "chat" in form else "Completion"
    end = names.index(f"LLM{kind}EndEvent")
    assert names.index("ModelRoutedEvent") < end
    assert routed.routing == last.additional_kwargs["routing"]
    assert routed.invoked_model == SONNET
    assert routed.requested_model_id == router
    assert routed.class_name() == "ModelRoutedEvent"
    assert routed.span_id
    assert span_of(emitted, f"LLM{kind}StartEvent") == span_of(emitted, f"LLM{kind}EndEvent") == [routed.span_id]
    assert emitted[end].response.additional_kwargs["routing"]["invoked_model"] == SONNET


@pytest.mark.sample(8)
@pytest.mark.parametrize(("form", "scenario"), [each for each in PLAYED if each[1] != "success"])
async def test_no_model_routed_event_without_a_whole_answer(bedrock, router, emitted, form, scenario):
    if SCENARIOS[scenario]:
        bedrock.fail(**SCENARIOS[scenario])
    ended = await play(BedrockRouter(model=router), form, scenario)
    assert ended == {"refused": "ValidationException", "cut": "StreamInterruptedError", "closed": 3}[scenario]
    assert emitted
    assert not any(isinstance(event, ModelRoutedEvent) for event in emitted)
    failed = [event for event in emitted if isinstance(event, ModelCallFailedEvent)]
    # Who closes a stream gives it up; it did not fail.
    assert [type(event.exception).__name__ for event in failed] == ([] if scenario == "closed" else [ended])
    assert [event.requested_model_id for event in failed] == [router] * len(failed)
    assert all(event.span_id in span_of(emitted, "StartEvent") for event in failed)


def test_failed_event_serializes_without_the_prompt(bedrock, router, emitted):
    bedrock.fail(kind="validation")
    with pytest.raises(ClientError):
        BedrockRouter(model=router).complete(HELLO)
    (failed,) = [event for event in emitted if isinstance(event, ModelCallFailedEvent)]
    assert failed.class_name() == "ModelCallFailedEvent"
    assert json.loads(failed.model_dump_json())["requested_model_id"] == router
    assert "exception" not in failed.model_dump()
    assert "not valid" not in repr(failed)
    assert isinstance(failed.exception, ClientError)


@pytest.mark.parametrize("form", FORMS)
async def test_failed_event_names_the_model_of_the_call(router, emitted, form):
    other = "arn:aws:bedrock:us-east-1:123456789012:prompt-router/nothere12345"
    with pytest.raises(ClientError):
        await run(BedrockRouter(model=router), form, HELLO, model=other)
    failed = [event for event in emitted if isinstance(event, ModelCallFailedEvent)]
    assert [event.requested_model_id for event in failed] == [other]


@pytest.mark.sample(2)
@pytest.mark.parametrize("form", ["achat", "acomplete", "astream_chat", "astream_complete"])
async def test_of_calls_at_once_each_has_its_own_event(router, emitted, form):
    llm = BedrockRouter(model=router)
    prompts = [ALICE, HELLO] * 5
    answers = await asyncio.gather(*(run(llm, form, prompt) for prompt in prompts))
    routed = {event.span_id: event.routing for event in emitted if isinstance(event, ModelRoutedEvent)}
    ended = {
        event.span_id: event.response.additional_kwargs["routing"]
        for event in emitted
        if type(event).__name__.endswith("EndEvent") and type(event).__name__.startswith("LLM")
    }
    assert len(routed) == 10
    assert routed == ended
    assert {routing["request_id"] for routing in routed.values()} == {
        answer[-1].additional_kwargs["routing"]["request_id"] for answer in answers
    }


async def test_events_can_be_serialized(router, emitted):
    llm = BedrockRouter(model=router)
    for form in FORMS:
        await run(llm, form, HELLO)
    for event in emitted:
        assert event.model_dump_json(), type(event)


async def test_model_without_streams_emits_one_routed_event(router, emitted):
    chunks = await run(BedrockRouter(model=router, base_models=["ai21.j2-ultra-v1"]), "stream_chat", HELLO)
    *progress, routed, last, end = [type(event).__name__ for event in emitted]
    assert progress == ["LLMChatStartEvent", *["LLMChatInProgressEvent"] * (len(chunks) - 1)]
    assert (routed, last, end) == ("ModelRoutedEvent", "LLMChatInProgressEvent", "LLMChatEndEvent")
