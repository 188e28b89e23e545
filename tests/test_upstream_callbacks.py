"""Properties of langchain-core that `RoutingCallbackHandler` and the traces for LangSmith rely on."""

from __future__ import annotations

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackHandler, CallbackManager
from langchain_core.language_models import FakeListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.messages.ai import add_usage
from langchain_core.tracers import context as hooks
from langchain_core.tracers.langchain import LangChainTracer
from langsmith import Client
from relying import LANGCHAIN, relies

CALLBACKS = "bedrock_routing_integrations/langchain/callbacks.py"
TRACES = "bedrock_routing_integrations/langchain/_traces.py"
CHAT_MODELS = "bedrock_routing_integrations/langchain/chat_models.py"
PACKAGES = (*LANGCHAIN, "langsmith")


class Recorder(BaseCallbackHandler):
    run_inline = True

    def __init__(self):
        self.seen = []

    def on_chat_model_start(self, serialized, messages, **kwargs):
        self.seen.append(("start", serialized, kwargs))

    def on_llm_end(self, response, **kwargs):
        self.seen.append(("end", response.generations[0][0].message, kwargs))

    def on_llm_error(self, error, **kwargs):
        self.seen.append(("error", error, kwargs))

    def on_custom_event(self, name, data, **kwargs):
        self.seen.append((name, data, kwargs))


def test_hooks_are_asked_with_get_and_need_no_context_variable(monkeypatch):
    monkeypatch.setattr(hooks, "_configure_hooks", list(hooks._configure_hooks))
    recorder = Recorder()

    class Hook:
        def get(self):
            return recorder

    hooks.register_configure_hook(Hook(), inheritable=True, handle_class=type("Nobody", (BaseCallbackHandler,), {}))
    FakeListChatModel(responses=["yes"]).invoke("?")
    relies(
        [kind for kind, *_ in recorder.seen] == ["start", "end"],
        "register_configure_hook, which takes whatever has a get()", CALLBACKS, "Without it `with` counts nothing.",
    )  # fmt: skip


def test_handlers_are_added_once_by_equality():
    class Equal(BaseCallbackHandler):
        def __eq__(self, other):
            return isinstance(other, Equal)

        def __hash__(self):
            return 1

    manager = CallbackManager([Equal()])
    manager.add_handler(Equal())
    relies(len(manager.handlers) == 1, "add_handler's `in`", CALLBACKS, "Runs below one would be told of twice.")


def test_run_names_the_model_when_it_begins():
    recorder = Recorder()
    FakeListChatModel(responses=["yes"]).invoke("?", {"callbacks": [recorder]})
    _, serialized, arguments = recorder.seen[0]
    relies(
        "_type" in arguments["invocation_params"] and "id" in serialized and "ls_model_type" in arguments["metadata"],
        "on_chat_model_start's invocation_params, metadata and serialized", CALLBACKS,
        "Errors lose the target that was called.",
    )  # fmt: skip


def test_a_stream_that_is_closed_ends_in_on_llm_error():
    recorder = Recorder()
    stream = GenericFakeChatModel(messages=iter([AIMessage("one two three")])).stream("?", {"callbacks": [recorder]})
    next(stream)
    stream.close()
    kind, error, arguments = recorder.seen[-1]
    relies(
        kind == "error" and isinstance(error, GeneratorExit) and arguments["response"].generations[0][0].text == "one",
        "on_llm_error(GeneratorExit(), response=what had arrived) of a closed stream", CALLBACKS,
        "A stream that is closed at its end must count, and one that is given up is no error.",
    )  # fmt: skip


def test_response_from_the_cache_is_marked():
    recorder = Recorder()
    model = GenericFakeChatModel(messages=iter([AIMessage("yes")]), cache=InMemoryCache())
    for _ in range(2):
        model.invoke("?", {"callbacks": [recorder]})
    fresh, cached = (message for kind, message, _ in recorder.seen if kind == "end")
    relies(
        "total_cost" not in (fresh.usage_metadata or {}) and cached.usage_metadata["total_cost"] == 0,
        "usage_metadata['total_cost'] of a cached answer", CALLBACKS, "Cached answers would be counted as calls.",
    )  # fmt: skip


async def test_custom_events_reach_the_handlers_of_a_manager():
    recorder = Recorder()
    run_id = hooks.UUID(int=1)
    CallbackManager([recorder]).on_custom_event("name", {"a": 1}, run_id=run_id)
    await AsyncCallbackManager([recorder]).on_custom_event("name", {"a": 1}, run_id=run_id)
    relies(
        [(name, data, more["run_id"]) for name, data, more in recorder.seen] == [("name", {"a": 1}, run_id)] * 2,
        "CallbackManager.on_custom_event", TRACES, "Answers of RetrieveAndGenerate would not be counted.",
    )  # fmt: skip


# --- LangSmith ---


@pytest.mark.parametrize("ask", ["generate", "agenerate", "stream", "astream"])
async def test_an_inline_handler_gets_a_run_before_its_call(ask):
    class Recording(BaseCallbackHandler):
        run_inline = True

        def on_chat_model_start(self, *args, run_id, **kwargs):
            runs.append(run_id)

    class Model(GenericFakeChatModel):
        def _generate(self, *args, **kwargs):
            seen.extend(runs)
            return super()._generate(*args, **kwargs)

    runs, seen, callbacks = [], [], CallbackManager([Recording()])
    model, question = Model(messages=iter([AIMessage("yes")])), [HumanMessage("?")]
    if ask == "generate":
        model.generate([question], None, callbacks)
    elif ask == "agenerate":
        await model.agenerate([question], None, callbacks)
    elif ask == "stream":
        list(model.stream(question, {"callbacks": callbacks}))
    else:
        [chunk async for chunk in model.astream(question, {"callbacks": callbacks})]
    relies(
        len(seen) == 1, f"BaseChatModel.{ask} starting inline handlers before the call", CHAT_MODELS,
        "In streams LangSmith gets neither the model that answered nor the cost.",
    )  # fmt: skip


def test_costs_cannot_stand_in_the_usage_of_a_message():
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2, "total_cost": 0.5}
    with pytest.raises(ValueError, match="Only dict and int"):
        add_usage(usage, usage)  # if it no longer raises, `_traces` can go: the message itself can carry it


def test_tracer_writes_usage_into_metadata_of_its_run():
    sent = []

    class Deaf(Client):
        def create_run(self, *args, **kwargs):
            pass

        def update_run(self, *args, **kwargs):
            sent.append(kwargs)

    class Kept(dict):
        def __setitem__(self, name, value):
            super().__setitem__(name, {"seen": value})

    class Naming(BaseCallbackHandler):
        def on_llm_end(self, response, *, run_id, **kwargs):
            tracer.run_map[str(run_id)].extra["metadata"] = Kept()

    tracer = LangChainTracer(client=Deaf(api_url="http://127.0.0.1:1", api_key="none", auto_batch_tracing=False))
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    model = GenericFakeChatModel(messages=iter([AIMessage("yes", usage_metadata=usage)]))
    model.invoke("?", {"callbacks": [Naming(), tracer]})
    relies(
        sent[-1]["extra"]["metadata"] == {"usage_metadata": {"seen": usage}},
        "LangChainTracer.run_map, and its item assignment of usage_metadata", TRACES, "LangSmith gets no cost.",
        PACKAGES,
    )  # fmt: skip
