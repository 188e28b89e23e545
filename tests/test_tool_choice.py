"""Test tool choices: read in any form and settled for the candidate models, equally in both frameworks."""

from __future__ import annotations

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableBinding
from langchain_core.tools import tool
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel, Field
from samples import HAIKU, LLAMA_8B, LLAMA_70B, NOVA_PRO, SONNET

from bedrock_routing_integrations import parse_target
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.langchain import ChatBedrockRouter
from bedrock_routing_integrations.llama_index import BedrockRouter
from bedrock_routing_integrations.models.candidates import ResolvedTarget, from_base_models
from bedrock_routing_integrations.requests.tools import converse_tool_choice, is_thinking, settle_tool_choice

SONNET_37 = "us.anthropic.claude-3-7-sonnet-20250219-v1:0"
MISTRAL = "mistral.mistral-large-2402-v1:0"
THINKING = {"type": "enabled", "budget_tokens": 1024}
KINDS = ("auto", "any", "tool")
ROUTER = "arn:aws:bedrock:us-east-1:123456789012:default-prompt-router/anthropic.claude:1"


@pytest.fixture
def claude():
    return from_base_models(parse_target(ROUTER), [HAIKU, SONNET])


def settle(kind, supported, resolved, *, preferred=False, thinking=False):
    return settle_tool_choice(kind, kind, supported, resolved, preferred=preferred, thinking=thinking)


# --- the rule ---


@pytest.mark.parametrize(("kind", "thinking"), [*((kind, False) for kind in KINDS), ("auto", True)])
@pytest.mark.parametrize("preferred", [True, False])
def test_supported_choice_is_sent_unchanged(claude, kind, preferred, thinking):
    assert settle(kind, KINDS, claude, preferred=preferred, thinking=thinking) == kind


@pytest.mark.parametrize(
    ("kind", "supported", "sent"),
    [("tool", ("auto", "any"), "any"), ("tool", ("auto",), None), ("any", ("auto",), None), ("auto", (), None)],
)
def test_preferred_choice_yields_to_supported_ones(claude, kind, supported, sent, caplog):
    assert settle(kind, supported, claude, preferred=True) == sent
    assert caplog.records == [], "the caller did not ask for it, so there is no warning"


@pytest.mark.parametrize("kind", ["any", "tool"])
def test_unsupported_choice_of_the_caller_is_refused(claude, kind):
    with pytest.raises(InvalidRequestError) as error:
        settle(kind, ("auto",), claude)
    for part in (f"tool_choice={kind!r}", str(claude.target), HAIKU, SONNET, "supported: auto"):
        assert part in str(error.value)


def test_refusal_of_a_choice_names_unknown_models():
    with pytest.raises(InvalidRequestError, match=r"models unknown.*supported: none"):
        settle("any", (), ResolvedTarget(parse_target(ROUTER), complete=False))


@pytest.mark.parametrize("kind", ["any", "tool"])
@pytest.mark.parametrize("supported", [KINDS, ("auto", "any"), ("auto",)])
def test_thinking_model_is_unforced_with_one_warning(claude, kind, supported, caplog):
    """The choices that the model accepts without thinking make no difference."""
    assert [settle(kind, supported, claude, thinking=True) for _ in range(3)] == ["auto"] * 3
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"tool_choice={kind!r}" in record.message
    assert str(claude.target) in record.message


@pytest.mark.parametrize("kind", ["any", "tool"])
@pytest.mark.parametrize("supported", [KINDS, ("auto",), ()])
def test_preferred_choice_is_dropped_for_thinking_models(claude, kind, supported, caplog):
    assert settle(kind, supported, claude, preferred=True, thinking=True) is None
    assert caplog.records == []


@pytest.mark.parametrize("supported", [(), ("any", "tool")])
def test_thinking_model_without_auto_gets_no_choice(claude, supported):
    with pytest.raises(InvalidRequestError, match="supported: none"):
        settle("any", supported, claude, thinking=True)


@given(
    kind=st.sampled_from(KINDS),
    supported=st.lists(st.sampled_from(KINDS), unique=True).map(tuple),
    preferred=st.booleans(),
    thinking=st.booleans(),
)
def test_settled_choice_is_always_supported(kind, supported, preferred, thinking):
    resolved = from_base_models(parse_target(ROUTER), [HAIKU, SONNET])
    try:
        settled = settle(kind, supported, resolved, preferred=preferred, thinking=thinking)
    except InvalidRequestError:
        assert not preferred, "a wish is never an error"
        assert kind not in supported or thinking
    else:
        assert settled in supported if settled is not None else preferred
        assert settled == kind or kind not in supported or thinking
        assert not thinking or settled in {"auto", None}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (None, False), ({}, False), ({"top_k": 5}, False), ({"thinking": None}, False), ({"thinking": {}}, False),
        ({"thinking": {"type": "disabled"}}, False), ({"thinking": THINKING}, True),
        ({"thinking": {"type": "adaptive"}}, True),
    ],
)  # fmt: skip
def test_thinking_is_found_in_model_fields(fields, expected):
    assert is_thinking(fields) is expected


# --- both frameworks ---


def get_weather(city: str) -> str:
    """Get the weather in a city."""
    return f"Sunny in {city}, 25 degrees."


def through_langchain(model, choice, thinking):
    fields = {"additional_model_request_fields": {"thinking": THINKING}} if thinking else {}
    llm = ChatBedrockRouter(model=model, **fields)
    # Not bind_tools, where langchain-aws itself refuses for models that it knows.
    llm.invoke([HumanMessage("Hello")], tools=[tool(get_weather)], **({"tool_choice": choice} if choice else {}))


def through_llama_index(model, choice, thinking):
    llm = BedrockRouter(model=model, **({"thinking": THINKING} if thinking else {}))
    history = [ChatMessage(role="user", content="Hello")]
    llm.chat_with_tools([FunctionTool.from_defaults(get_weather)], chat_history=history, tool_choice=choice)


REFUSED = "refused"
NAMED = {"tool": {"name": "get_weather"}}


@pytest.mark.sample(16)
@pytest.mark.parametrize("through", [through_langchain, through_llama_index])
@pytest.mark.parametrize(
    ("model", "choice", "thinking", "expected"),
    [
        (HAIKU, None, False, None),
        (HAIKU, "auto", False, {"auto": {}}),
        (HAIKU, "any", False, {"any": {}}),
        (HAIKU, "get_weather", False, NAMED),
        (SONNET_37, "any", True, {"auto": {}}),
        (SONNET_37, "get_weather", True, {"auto": {}}),
        (f"us.{NOVA_PRO}", "any", False, {"any": {}}),
        (f"us.{NOVA_PRO}", "get_weather", False, NAMED),
        (MISTRAL, "any", False, {"any": {}}),
        (MISTRAL, "get_weather", False, REFUSED),
        (f"us.{LLAMA_70B}", None, False, None),
        (f"us.{LLAMA_70B}", "auto", False, {"auto": {}}),
        (f"us.{LLAMA_70B}", "any", False, REFUSED),
        (f"us.{LLAMA_70B}", "get_weather", False, REFUSED),
        ("llamas", "any", False, REFUSED),
        ("llamas", "auto", False, {"auto": {}}),
    ],
)
def test_choice_is_sent_equally_by_both_frameworks(bedrock, through, model, choice, thinking, expected):
    if model == "llamas":
        model = bedrock.create_prompt_router(name="llamas", models=[LLAMA_8B, LLAMA_70B], fallback=LLAMA_70B)
    if expected == REFUSED:
        with pytest.raises(InvalidRequestError, match=r"tool_choice=.* is not supported by all models"):
            through(model, choice, thinking)
        assert bedrock.requests("Converse") == []
        return
    through(model, choice, thinking)
    assert bedrock.requests("Converse")[-1].request["toolConfig"].get("toolChoice") == expected


ALL_FORMS = [
    *((form, {"auto": {}}) for form in ("auto", {"auto": {}}, {"type": "auto"}, {"type": "auto", "x": True})),
    *((form, {"any": {}}) for form in ("any", "required", {"any": {}}, {"required": {}}, {"type": "any"}, True)),
    *((form, None) for form in (None, "", {})),
    *(
        (form, NAMED)
        for form in (
            "get_weather", {"tool": {"name": "get_weather"}}, {"type": "tool", "name": "get_weather"},
            {"type": "tool", "tool": {"name": "get_weather"}}, {"function": {"name": "get_weather"}},
            {"type": "function", "function": {"name": "get_weather"}}, {"type": "function", "name": "get_weather"},
        )
    ),
]  # fmt: skip
NOT_VALID = [
    {"type": "some"}, {"some": {}}, {"tool": {}}, {"tool": {"name": ""}}, {"type": "tool"}, {"function": "x"},
    {"auto": {}, "any": {}}, {"type": ["auto"]}, {"name": "get_weather"}, 5, ["auto"],
]  # fmt: skip


@pytest.mark.sample(16)
@pytest.mark.parametrize("through", [through_langchain, through_llama_index])
@pytest.mark.parametrize(("choice", "expected"), ALL_FORMS)
def test_choice_of_any_form_is_sent_in_converses(bedrock, through, choice, expected):
    through(HAIKU, choice, thinking=False)
    assert bedrock.requests("Converse")[-1].request["toolConfig"].get("toolChoice") == expected


@pytest.mark.parametrize("through", [through_langchain, through_llama_index])
@pytest.mark.parametrize("choice", ["none", {"none": {}}, {"type": "none"}])
def test_choice_none_is_sent_as_an_instruction(bedrock, through, choice):
    through(HAIKU, choice, thinking=False)
    sent = bedrock.requests("Converse")[-1].request
    assert "toolChoice" not in sent["toolConfig"]
    assert "without calling any tool" in sent["messages"][-1]["content"][-1]["text"]


@pytest.mark.sample(10)
@pytest.mark.parametrize("through", [through_langchain, through_llama_index])
@pytest.mark.parametrize("choice", NOT_VALID)
def test_choice_of_unknown_form_is_refused(bedrock, through, choice):
    with pytest.raises(InvalidRequestError, match=r"tool_choice=.* is not valid: it must be 'auto'"):
        through(HAIKU, choice, thinking=False)
    assert bedrock.requests("Converse") == []


def test_choice_must_name_a_given_tool():
    assert converse_tool_choice({"type": "tool", "name": "a"}, ["a", "b"]) == {"tool": {"name": "a"}}
    with pytest.raises(InvalidRequestError, match=r"name of a tool \(a, b\)"):
        converse_tool_choice("c", ["a", "b"])


def test_thinking_requested_by_the_call_is_found(bedrock):
    history = [ChatMessage(role="user", content="Hello")]
    tools = [FunctionTool.from_defaults(get_weather)]
    fields = {"thinking": THINKING}
    arguments = {"tools": [tool(get_weather)], "tool_choice": "any", "additional_model_request_fields": fields}
    ChatBedrockRouter(model=SONNET_37).invoke("Hello", **arguments)
    llm = BedrockRouter(model=SONNET_37)
    llm.chat_with_tools(tools, chat_history=history, tool_choice="any", thinking=THINKING)
    llm.chat_with_tools(tools, chat_history=history, tool_choice="any", additional_model_request_fields=fields)
    sent = [entry.request["toolConfig"].get("toolChoice") for entry in bedrock.requests("Converse")]
    assert sent == [{"auto": {}}] * 3


class Joke(BaseModel):
    """A joke to tell the user."""

    setup: str = Field(description="question to set up the joke")
    punchline: str = Field(description="answer to resolve the joke")


def joke_of_langchain(model):
    return ChatBedrockRouter(model=model).with_structured_output(Joke).invoke("Tell me a joke.")


def joke_of_llama_index(model):
    return BedrockRouter(model=model).structured_predict(Joke, PromptTemplate("Tell me a joke."))


def streamed_joke_of_llama_index(model):
    return list(BedrockRouter(model=model).stream_structured_predict(Joke, PromptTemplate("Tell me a joke.")))[-1]


@pytest.mark.parametrize("joke_of", [joke_of_langchain, joke_of_llama_index, streamed_joke_of_llama_index])
@pytest.mark.parametrize("model", [HAIKU, MISTRAL, f"us.{LLAMA_70B}"])
def test_structured_output_forces_the_tool_where_supported(bedrock, joke_of, model):
    assert isinstance(joke_of(model), Joke)
    choice = bedrock.requests()[-1].request["toolConfig"].get("toolChoice")
    # LlamaIndex asks for any tool, LangChain for the one: there is one only.
    forced = choice is not None and set(choice) & {"any", "tool"}
    assert bool(forced) == (model != f"us.{LLAMA_70B}"), json.dumps(choice)


@pytest.mark.parametrize(
    ("model", "choice", "expected"),
    [
        (HAIKU, "get_weather", {"tool": {"name": "get_weather"}}),
        (HAIKU, "none", None),
        (MISTRAL, {"tool": {"name": "get_weather"}}, {"any": {}}),
        (f"us.{LLAMA_70B}", "any", None),
    ],
)
def test_preferred_choice_is_sent_as_far_as_models_accept_it(bedrock, model, choice, expected):
    """Also of a binding that was written down and read again."""
    bound = ChatBedrockRouter(model=model).bind_tools([get_weather], tool_choice={"preferred": choice})
    again = RunnableBinding(bound=bound.bound, kwargs=json.loads(json.dumps(bound.kwargs)))
    for llm in (bound, again.bind(stop=["x"])):
        llm.invoke("What is the weather in Paris?")
        assert bedrock.requests("Converse")[-1].request["toolConfig"].get("toolChoice") == expected


def test_preferred_choice_must_be_valid(bedrock):
    with pytest.raises(InvalidRequestError, match="tool_choice=5 is not valid"):
        ChatBedrockRouter(model=HAIKU).bind_tools([get_weather], tool_choice={"preferred": 5})
    with pytest.raises(InvalidRequestError, match="tool_choice=5 is not valid"):
        ChatBedrockRouter(model=HAIKU).invoke("x", tools=[get_weather], tool_choice={"preferred": 5})


def test_preferred_choice_is_possible_with_system_tools(bedrock):
    llm = ChatBedrockRouter(model="us.amazon.nova-2-lite-v1:0")
    bound = llm.bind_tools(["nova_grounding", get_weather], tool_choice={"preferred": "any"})
    bound.invoke("What is the weather in Paris?")
    assert bedrock.requests("Converse")[-1].request["toolConfig"]["toolChoice"] == {"any": {}}
