"""Properties of llama-index-core and pydantic that this package relies on; see test_upstream.py."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import pickle
import typing

import filetype
import pytest
from llama_index.core.base.llms import types
from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.base.llms.generic_utils import chat_response_to_completion_response, prompt_to_messages
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse, MessageRole, TextBlock
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
from llama_index.core.callbacks.token_counting import get_tokens_from_response
from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW, DEFAULT_NUM_OUTPUTS
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.instrumentation.events import llm as llm_events
from llama_index.core.instrumentation.events.exception import ExceptionEvent
from llama_index.core.llms import LLM, callbacks
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.program.function_program import FunctionCallingProgram, get_function_tool
from llama_index.core.program.utils import FlexibleModel, get_program_for_llm, process_streaming_objects
from llama_index.core.prompts import PromptTemplate
from llama_index.core.schema import BaseComponent
from llama_index.core.tools import FunctionTool
from llama_index.core.utils import resolve_binary
from llama_index_instrumentation import get_dispatcher as get_dispatcher_of_its_own_package
from llama_index_instrumentation.dispatcher import DISPATCHER_SPAN_DECORATED_ATTR
from llama_index_instrumentation.event_handlers import NullEventHandler
from llama_index_instrumentation.span import active_span_id
from pydantic import BaseModel
from pydantic_core import from_json
from relying import LLAMA_INDEX
from relying import relies as relies_on
from samples import HAIKU

from bedrock_routing_integrations.llama_index import BedrockRouter

relies = functools.partial(relies_on, packages=LLAMA_INDEX)

FOLDER = "bedrock_routing_integrations/llama_index/"
LLMS, EMITTING, RESPONSES = f"{FOLDER}llms.py", f"{FOLDER}_instrumentation.py", f"{FOLDER}_responses.py"
STRUCTURED = f"{FOLDER}_structured_output.py"
MESSAGES, MEDIA = f"{FOLDER}messages.py", f"{FOLDER}_media.py"
REQUESTS = f"{FOLDER}_requests.py"


class Ordinary(BaseModel):
    number: int = 0


class Demanding(BaseModel):
    number: int


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (ChatResponse, {"message", "raw", "delta", "logprobs", "additional_kwargs"}),
        (CompletionResponse, {"text", "raw", "delta", "logprobs", "additional_kwargs"}),
    ],
)
def test_a_response_has_these_fields_and_no_other(kind, fields):
    relies(
        set(kind.model_fields) == fields, f"the fields of {kind.__name__} (differ: {set(kind.model_fields) ^ fields})",
        RESPONSES, "A chunk is made without validation: give the new field its default there.",
    )  # fmt: skip


def test_partial_json_of_tool_arguments_can_be_read():
    relies(
        from_json('{"city": "Par', allow_partial="trailing-strings") == {"city": "Par"},
        "from_json(…, allow_partial='trailing-strings')", RESPONSES,
        "Streamed tool calls have no arguments until they end.",
    )  # fmt: skip
    with pytest.raises(ValueError):  # noqa: PT011 - the type is what matters
        from_json("no JSON", allow_partial="trailing-strings")


# llama-index-core: the class


def test_an_llm_has_these_abstract_methods():
    expected = {
        "metadata", "chat", "complete", "stream_chat", "stream_complete", "achat", "acomplete", "astream_chat",
        "astream_complete", "_prepare_chat_with_tools",
    }  # fmt: skip
    actual = FunctionCallingLLM.__abstractmethods__
    relies(
        actual == expected, f"FunctionCallingLLM's abstract methods (differ: {actual ^ expected})", LLMS,
        "Implement what is new; see whether what is gone is still called.",
    )  # fmt: skip
    assert BedrockRouter.__abstractmethods__ == frozenset()


@pytest.mark.parametrize(
    "name",
    ["chat", "complete", "stream_chat", "stream_complete", "achat", "acomplete", "astream_chat", "astream_complete"],
)
def test_each_of_the_eight_gets_a_span_of_its_own(name):
    relies(
        hasattr(getattr(BedrockRouter, name), DISPATCHER_SPAN_DECORATED_ATTR),
        f"DispatcherSpanMixin decorating {name} when the class is made", LLMS,
        "Events have no span: decorate the methods with dispatcher.span ourselves.",
    )  # fmt: skip
    actual = list(inspect.signature(getattr(BaseLLM, name)).parameters)
    known = ["self", "prompt", "formatted", "kwargs"] if "complete" in name else ["self", "messages", "kwargs"]
    relies(actual == known, f"{name}({', '.join(known)}), now {actual}", LLMS, "Take what LlamaIndex passes.")


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        (
            "_prepare_chat_with_tools",
            ["tools", "user_msg", "chat_history", "verbose", "allow_parallel_tool_calls", "tool_required", "kwargs"],
        ),
        ("get_tool_calls_from_response", ["response", "error_on_no_tool_call", "kwargs"]),
        ("_validate_chat_with_tools_response", ["response", "tools", "allow_parallel_tool_calls", "kwargs"]),
        ("structured_predict", ["output_cls", "prompt", "llm_kwargs", "prompt_args"]),
        ("astructured_predict", ["output_cls", "prompt", "llm_kwargs", "prompt_args"]),
        ("_structured_stream_call", ["output_cls", "prompt", "llm_kwargs", "prompt_args"]),
        ("_structured_astream_call", ["output_cls", "prompt", "llm_kwargs", "prompt_args"]),
    ],
)
def test_overridden_method_has_this_signature(name, parameters):
    upstream = list(inspect.signature(getattr(FunctionCallingLLM, name)).parameters)[1:]
    relies(upstream == parameters, f"{name}({', '.join(parameters)}), now {upstream}", LLMS, "Take the new argument.")
    ours = inspect.signature(getattr(BedrockRouter, name)).parameters
    relies(set(parameters) <= set(ours), f"our {name} taking them", LLMS, "Take the new argument.")


def test_programs_declare_output_class_by_get_function_tool():
    tool = get_function_tool(Ordinary)
    relies(
        tool.fn.__module__ == FunctionCallingProgram.__module__ and tool.metadata.fn_schema is Ordinary,
        "get_function_tool making a tool whose function is its own, and whose schema is the class", STRUCTURED,
        "See how a program's tool can be told from a user's (output_class).",
    )  # fmt: skip
    program = get_program_for_llm(Ordinary, PromptTemplate("a"), BedrockRouter(model=HAIKU))
    relies(
        isinstance(program, FunctionCallingProgram) and program.output_cls is Ordinary,
        "get_program_for_llm making a FunctionCallingProgram of the class", STRUCTURED, "See what it makes now.",
    )  # fmt: skip
    chunk = ChatResponse(message=ChatMessage(role="assistant", content=""))
    relies(
        isinstance(process_streaming_objects(chunk, Demanding), FlexibleModel),
        "process_streaming_objects giving a FlexibleModel while an object grows", STRUCTURED, "See what grows now.",
    )  # fmt: skip


def weather(city: str) -> str:
    """The weather."""
    return city


def test_tool_required_is_passed_on_because_our_signature_names_it():
    prepared = BedrockRouter(model=HAIKU)._prepare_chat_with_tools_compat(
        [FunctionTool.from_defaults(weather)], user_msg="hello", tool_required=True
    )
    relies(
        prepared.get("tool_required") is True, "tool_required reaching _prepare_chat_with_tools", LLMS,
        "LlamaIndex looked for it in our signature (_supports_tool_required); see how it decides now.",
    )  # fmt: skip


def test_the_fields_and_classes_that_we_stand_on():
    for name in ("callback_manager", "rate_limiter"):
        field = BaseLLM.model_fields.get(name)
        relies(
            field is not None and field.exclude, f"BaseLLM.{name}, left out of dumps", LLMS,
            "Streams ask the rate limiter and tell the callbacks themselves.",
        )  # fmt: skip
    relies("system_prompt" in LLM.model_fields, "LLM.system_prompt", LLMS, "See where the system prompt went.")
    relies(
        set(ToolSelection.model_fields) == {"tool_id", "tool_name", "tool_kwargs"}, "ToolSelection's fields", RESPONSES,
        "Fill in the new one.",
    )  # fmt: skip
    actual = set(types.LLMMetadata.model_fields)
    known = {
        "context_window", "num_output", "is_chat_model", "is_function_calling_model", "model_name", "system_role",
    }  # fmt: skip
    relies(actual == known, f"LLMMetadata's fields (differ: {actual ^ known})", LLMS, "Say what is known of it.")
    relies(
        DEFAULT_CONTEXT_WINDOW > DEFAULT_NUM_OUTPUTS > 0, "DEFAULT_CONTEXT_WINDOW and DEFAULT_NUM_OUTPUTS", LLMS,
        "Of unknown models a window of our own choice must be stated.",
    )  # fmt: skip


class Component(BaseComponent):
    """Shows how LlamaIndex pickles."""

    number: int = 0
    other: typing.Any = None

    def __init__(self, **data):
        made.append(data)
        super().__init__(**data)


made = []


def test_a_component_is_unpickled_by_its_constructor():
    component = Component(number=7)
    made.clear()
    loaded = pickle.loads(pickle.dumps(component))
    relies(
        loaded.number == 7 and made == [{"number": 7, "other": None}],
        "BaseComponent.__setstate__ calling __init__ with the state's __dict__", LLMS,
        "A BedrockRouter that is unpickled has no client: make it in __setstate__.",
    )  # fmt: skip


def test_component_state_drops_values_that_cannot_be_pickled(caplog):
    state = Component(number=7, other=lambda: None).__getstate__()
    relies(
        "other" not in state["__dict__"] and {"__dict__", "__pydantic_private__"} <= state.keys(),
        "BaseComponent.__getstate__ dropping what cannot be pickled, private attributes too", LLMS,
        "Our __getstate__ raises for a client that was passed in, and hides secrets in state['__dict__'].",
    )  # fmt: skip


def test_a_component_is_written_and_read_by_its_fields():
    written = Component(number=7).to_dict()
    relies(
        written["class_name"] == "base_component" and Component.from_dict(written).number == 7,
        "to_dict adding class_name, and from_dict taking it out", LLMS, "Take what else it adds.",
    )  # fmt: skip


# llama-index-core: tools and structured streaming


def test_a_tool_describes_itself_so():
    metadata = FunctionTool.from_defaults(weather).metadata
    schema = metadata.get_parameters_dict()
    relies(
        metadata.name == "weather" and "The weather." in metadata.description and schema["type"] == "object"
        and list(schema["properties"]) == ["city"], "tool.metadata.name, description and get_parameters_dict()",
        REQUESTS, "Find where a tool keeps its schema.",
    )  # fmt: skip


class City(BaseModel):
    name: str


def called(**additional_kwargs):
    block = types.ToolCallBlock(tool_call_id="1", tool_name="City", tool_kwargs={"name": "Paris"})
    message = ChatMessage(role=MessageRole.ASSISTANT, blocks=[block], additional_kwargs=additional_kwargs)
    return ChatResponse(message=message)


def test_structured_streaming_looks_for_tool_calls_here():
    llm = BedrockRouter(model=HAIKU)
    seen = process_streaming_objects(called(tool_calls=[{"name": "City"}]), City, llm=llm)
    relies(
        getattr(seen, "name", None) == "Paris",
        "process_streaming_objects asking the LLM for calls where additional_kwargs['tool_calls'] is a list", RESPONSES,
        "stream_structured_predict yields nothing until the end: see where it looks.",
    )  # fmt: skip
    blank = process_streaming_objects(called(), City, llm=llm)
    relies(
        getattr(blank, "name", None) is None, "no calls being seen without additional_kwargs['tool_calls']", RESPONSES,
        "Good news: LlamaIndex looks into the blocks now, and tool_call_entry can go.",
    )  # fmt: skip


# llama-index-core: messages, blocks, responses

BLOCKS = {
    "TextBlock": {"text"},
    "ImageBlock": {"image", "path", "url", "image_mimetype", "detail"},
    "AudioBlock": {"audio", "path", "url", "format"},
    "VideoBlock": {"video", "path", "url", "video_mimetype", "detail", "fps"},
    "DocumentBlock": {"data", "path", "url", "title", "document_mimetype"},
    "CachePoint": {"cache_control"},
    "CitableBlock": {"title", "source", "content"},
    "CitationBlock": {"cited_content", "source", "title", "additional_location_info"},
    "ThinkingBlock": {"content", "num_tokens", "additional_information"},
    "ToolCallBlock": {"tool_call_id", "tool_name", "tool_kwargs"},
}


def test_a_message_can_hold_these_blocks_and_no_others():
    union = typing.get_args(typing.get_args(ChatMessage.model_fields["blocks"].annotation)[0])
    kinds = union if all(inspect.isclass(kind) for kind in union) else typing.get_args(union[0])
    actual = {kind.__name__ for kind in kinds}
    relies(
        actual == set(BLOCKS), f"these blocks (differ: {actual ^ set(BLOCKS)})", MESSAGES,
        "Teach _blocks.py what Converse has for it; until then it raises.",
    )  # fmt: skip


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_has_these_fields(name):
    actual = set(getattr(types, name).model_fields) - {"block_type"}
    relies(
        actual == BLOCKS[name], f"the fields of {name} (differ: {actual ^ BLOCKS[name]})", MESSAGES,
        "Does the new one change what is sent?",
    )  # fmt: skip


def test_cache_point_has_a_ttl():
    control = types.CacheControl(type="default")
    relies(
        set(types.CacheControl.model_fields) == {"type", "ttl"} and control.ttl == "5m", "CacheControl's fields",
        MESSAGES, "Pass the new one on.",
    )  # fmt: skip


def test_a_message_has_these_roles_and_no_others():
    actual = {role.name for role in MessageRole}
    known = {"SYSTEM", "DEVELOPER", "USER", "ASSISTANT", "FUNCTION", "TOOL", "CHATBOT", "MODEL"}
    relies(actual == known, f"these roles (differ: {actual ^ known})", MESSAGES, "A role that is unknown is a user's.")


def test_a_messages_content_is_its_texts_joined_by_line_breaks():
    message = ChatMessage(role="assistant", blocks=[TextBlock(text="a"), TextBlock(text="b")])
    relies(
        message.content == "a\nb" and ChatMessage(role="assistant", blocks=[]).content is None,
        "content joining the texts with a line break", RESPONSES,
        "Pieces of a cited answer are one block because of it; with no break between they may stay apart.",
    )  # fmt: skip


def test_prompts_become_a_users_message():
    (message,) = prompt_to_messages("hello")
    relies((message.role, message.content) == (MessageRole.USER, "hello"), "prompt_to_messages", LLMS, "See it.")


@pytest.mark.parametrize("block", [types.ImageBlock, types.AudioBlock, types.VideoBlock, types.DocumentBlock])
def test_block_keeps_bytes_as_base64_and_its_path_and_url(block, tmp_path):
    (member,) = {"image", "audio", "video", "data"} & set(block.model_fields)
    kept = getattr(block(**{member: b"the bytes"}), member)
    relies(
        resolve_binary(raw_bytes=kept).read() == b"the bytes", f"{block.__name__}.{member} read by resolve_binary",
        MEDIA, "See how it holds its bytes now.",
    )  # fmt: skip
    file = tmp_path / "file.bin"
    file.write_bytes(b"the bytes")
    relies(str(block(path=file).path) == str(file), f"{block.__name__}.path", MEDIA, "See how it names a file now.")
    url = str(block(url="s3://bucket/key.png").url)
    relies(url == "s3://bucket/key.png", f"{block.__name__}.url keeping an s3:// URL", MEDIA, f"It is {url} now.")


def test_types_of_files_are_guessed_from_their_bytes():
    relies(filetype.guess_mime(b"\x89PNG\r\n\x1a\n" + bytes(8)) == "image/png", "filetype.guess_mime", MEDIA, "See it.")
    relies(filetype.guess_mime(b"%PDF-1.4") == "application/pdf", "filetype.guess_mime", MEDIA, "See it.")
    relies(filetype.guess_mime(b"") is None, "filetype.guess_mime of nothing being None", MEDIA, "See it.")


def test_a_chat_becomes_a_completion_with_all_that_it_has():
    message = ChatMessage(role="assistant", content="hi", additional_kwargs={"tool_calls": []})
    response = ChatResponse(message=message, raw={"a": 1}, additional_kwargs={"routing": {"b": 2}})
    completion = chat_response_to_completion_response(response)
    relies(
        (completion.text, completion.raw) == ("hi", {"a": 1})
        and completion.additional_kwargs == {"tool_calls": [], "routing": {"b": 2}},
        "chat_response_to_completion_response keeping raw and additional_kwargs", LLMS,
        "complete() has lost its routing: put it in ourselves.",
    )  # fmt: skip


def test_token_counters_look_into_the_raw_usage():
    message = ChatMessage(role="assistant", content="hi")
    usage = {"inputTokens": 1, "prompt_tokens": 30, "completion_tokens": 20}
    relies(
        get_tokens_from_response(ChatResponse(message=message, raw={"usage": usage})) == (30, 20),
        "get_tokens_from_response reading raw['usage']", RESPONSES,
        "TokenCountingHandler counts nothing: see where it looks.",
    )  # fmt: skip


# llama-index-core: instrumentation and callbacks


def test_decorators_use_the_dispatcher_of_this_name():
    name = "llama_index.core.llms.callbacks"
    relies(
        callbacks.dispatcher.name == name and get_dispatcher_of_its_own_package(name) is callbacks.dispatcher,
        f"the dispatcher {name!r}", EMITTING, "Events of streams go elsewhere than those of other calls.",
    )  # fmt: skip


def test_dispatcher_parents_lead_to_the_root():
    root = get_dispatcher("root")
    relies(
        callbacks.dispatcher.propagate and not root.propagate, "Dispatcher.propagate, False for the root", EMITTING,
        "has_listeners walks until a dispatcher that does not propagate.",
    )  # fmt: skip
    dispatcher, steps = callbacks.dispatcher, 0
    while dispatcher.propagate and steps < 20:
        dispatcher, steps = dispatcher.parent, steps + 1
    relies(dispatcher is root, "Dispatcher.parent leading to the root", EMITTING, "See how events propagate.")
    relies(
        any(isinstance(handler, NullEventHandler) for handler in root.event_handlers),
        "the root's NullEventHandler, which is nobody", EMITTING,
        "has_listeners takes it for a listener if it has another name.",
    )  # fmt: skip


def test_dispatcher_passes_events_to_root_handlers_despite_their_errors(monkeypatch):
    events = []

    class Listener(BaseEventHandler):
        def handle(self, event, **kwargs):
            events.append(event)
            raise RuntimeError("a listener's own mistake")

    root = get_dispatcher("root")
    monkeypatch.setattr(root, "event_handlers", [*root.event_handlers, Listener()])
    callbacks.dispatcher.event(BaseEvent())
    relies(len(events) == 1, "Dispatcher.event telling the root's handlers, whatever they raise", EMITTING, "See it.")


EVENTS = {
    "LLMChatStartEvent": {"messages", "additional_kwargs", "model_dict"},
    "LLMChatInProgressEvent": {"messages", "response"},
    "LLMChatEndEvent": {"messages", "response"},
    "LLMCompletionStartEvent": {"prompt", "additional_kwargs", "model_dict"},
    "LLMCompletionInProgressEvent": {"prompt", "response"},
    "LLMCompletionEndEvent": {"prompt", "response"},
}


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_has_these_fields(name):
    actual = set(getattr(llm_events, name).model_fields) - set(BaseEvent.model_fields)
    relies(
        actual == EVENTS[name], f"the fields of {name} (differ: {actual ^ EVENTS[name]})", EMITTING,
        "Streams make these events themselves: fill in the new one.",
    )  # fmt: skip


def test_every_event_has_the_span_that_is_active():
    relies(
        {"timestamp", "id_", "span_id", "tags"} <= set(BaseEvent.model_fields), "the fields of BaseEvent", EMITTING,
        "See the new fields.",
    )  # fmt: skip
    token = active_span_id.set("span")
    try:
        relies(BaseEvent().span_id == "span", "active_span_id", EMITTING, "Events have no span.")
    finally:
        active_span_id.reset(token)
    relies("exception" in ExceptionEvent.model_fields, "ExceptionEvent.exception", EMITTING, "See it.")


class Limiter:
    def __init__(self, log):
        self.log = log

    def acquire(self):
        self.log.append("limited")

    async def async_acquire(self):
        self.log.append("limited")


class Callbacks(CallbackManager):
    """A callback manager that records its events."""

    def __init__(self, log):
        super().__init__([])
        self.log = log

    def on_event_start(self, event_type, payload=None, **more):
        self.log.append((event_type, sorted(payload)))
        return super().on_event_start(event_type, payload, **more)

    def on_event_end(self, event_type, payload=None, **more):
        self.log.append((event_type, sorted(payload)))
        super().on_event_end(event_type, payload, **more)


class Decorated:
    """An LLM with LlamaIndex's decorators around its methods."""

    def __init__(self, log):
        self.log, self.callback_manager, self.rate_limiter = log, Callbacks(log), Limiter(log)

    def to_payload(self):
        return {"by": "to_payload"}

    def to_dict(self):
        return {"by": "to_dict"}

    def answer(self, *_, **__):
        self.log.append("answered")
        return ChatResponse(message=ChatMessage(role="assistant", content="hi"))

    @llm_chat_callback()
    def chat(self, messages, **kwargs):
        return self.answer()

    @llm_chat_callback()
    async def achat(self, messages, **kwargs):
        return self.answer()

    @llm_chat_callback()
    def stream_chat(self, messages, **kwargs):
        self.log.append("answered")
        return (self.answer() for _ in range(1))

    @llm_completion_callback()
    def complete(self, prompt, formatted=False, **kwargs):
        return chat_response_to_completion_response(self.answer())


P = EventPayload
START = (CBEventType.LLM, sorted([P.MESSAGES, P.ADDITIONAL_KWARGS, P.SERIALIZED]))
PROMPT_START = (CBEventType.LLM, sorted([P.PROMPT, P.ADDITIONAL_KWARGS, P.SERIALIZED]))
END = (CBEventType.LLM, sorted([P.MESSAGES, P.RESPONSE]))
PROMPT_END = (CBEventType.LLM, sorted([P.PROMPT, P.COMPLETION]))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("chat", ["LLMChatStartEvent", START, "limited", "answered", END, "LLMChatEndEvent"]),
        ("achat", ["LLMChatStartEvent", START, "limited", "answered", END, "LLMChatEndEvent"]),
        (
            "stream_chat",
            ["LLMChatStartEvent", START, "limited", "answered", "answered", "LLMChatInProgressEvent", END,
             "LLMChatEndEvent"],
        ),
        ("complete", ["LLMCompletionStartEvent", PROMPT_START, "limited", "answered", PROMPT_END,
                      "LLMCompletionEndEvent"]),
    ],
)  # fmt: skip
def test_the_decorators_do_this_around_a_call_in_this_order(name, expected, monkeypatch):
    log = []

    class Listener(BaseEventHandler):
        def handle(self, event, **kwargs):
            if type(event).__name__.startswith("LLM"):
                log.append(type(event).__name__)

    root = get_dispatcher("root")
    monkeypatch.setattr(root, "event_handlers", [*root.event_handlers, Listener()])
    prompt = "hello" if name == "complete" else [ChatMessage(role="user", content="hello")]
    answer = getattr(Decorated(log), name)(prompt)
    if inspect.isawaitable(answer):
        asyncio.run(answer)
    elif inspect.isgenerator(answer):
        list(answer)
    relies(log == expected, f"what surrounds a call ({log})", EMITTING, "Do for streams what the decorators do now.")


@pytest.mark.parametrize("name", ["chat", "complete"])
def test_llm_payload_of_a_callback(name, monkeypatch):
    described = []

    class Listener(BaseEventHandler):
        def handle(self, event, **kwargs):
            described.append(getattr(event, "model_dict", None))

    root = get_dispatcher("root")
    monkeypatch.setattr(root, "event_handlers", [*root.event_handlers, Listener()])
    getattr(Decorated([]), name)("hello" if name == "complete" else [ChatMessage(role="user", content="hello")])
    relies(
        described[0] == {"by": "to_payload"}, "to_payload() describing an LLM (since llama-index-core 0.14.23)", LLMS,
        "Before, it was to_dict(): endpoint and settings in every event. Streams call to_payload themselves.",
    )  # fmt: skip


def test_callback_payload_has_these_keys():
    parameters = inspect.signature(CallbackManager.on_event_end).parameters
    relies("event_id" in parameters, "CallbackManager.on_event_end(event_id=)", EMITTING, "See it.")
    relies(hasattr(CallbackManager, "as_trace"), "CallbackManager.as_trace", EMITTING, "See it.")
    relies(hasattr(EventPayload, "EXCEPTION"), "EventPayload.EXCEPTION", EMITTING, "See it.")


def test_a_router_that_is_dumped_by_llama_index_is_json():
    """`to_json` is json.dumps of `to_dict`: LlamaIndex has no encoder of its own to help."""
    assert json.loads(BedrockRouter(model=HAIKU).to_json())["model"] == HAIKU
