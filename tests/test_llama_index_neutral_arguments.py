"""Arguments of other LLMs: those that ask for nothing are dropped, others are refused by name."""

from __future__ import annotations

import pytest
from llama_index_forms import FORMS, run
from samples import HAIKU, HELLO

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.llama_index import BedrockRouter
from bedrock_routing_integrations.requests.preparation import NEUTRAL_VALUES

NEUTRAL = {
    "n": 1, "stop": None, "best_of": 1, "stream": False, "logprobs": None, "top_logprobs": None, "echo": False,
    "frequency_penalty": 0, "presence_penalty": 0.0, "user": None, "timeout": None, "logit_bias": {}, "tools": None,
    "tool_choice": None, "functions": None, "function_call": None, "seed": None, "top_k": None, "top_p": None,
    "response_format": None, "max_tokens": None, "callbacks": [], "extra_headers": None, "parallel_tool_calls": True,
    "suffix": "", "max_retries": None, "region_name": None, "repetition_penalty": 1.0,
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
async def test_call_drops_neutral_arguments(bedrock, form):
    await run(BedrockRouter(HAIKU), form, HELLO, temperature=0.01, **NEUTRAL)
    await run(BedrockRouter(HAIKU, additional_kwargs={**NEUTRAL, "temperature": 0.01}), form, HELLO)
    plain, other = (entry.request for entry in bedrock.requests()[-2:])
    expected = {"inferenceConfig": {"temperature": 0.01}, "messages": [{"role": "user", "content": [{"text": HELLO}]}]}
    assert plain == other == {"modelId": HAIKU, **expected}


@pytest.mark.parametrize("form", FORMS)
async def test_call_takes_stream_argument_that_agrees_with_it(bedrock, form):
    if "stream" in form:
        await run(BedrockRouter(HAIKU), form, HELLO, stream=True)
    else:
        with pytest.raises(InvalidRequestError, match="has no argument 'stream'"):
            await run(BedrockRouter(HAIKU), form, HELLO, stream=True)


@pytest.mark.parametrize("name", [name for name in NEUTRAL_VALUES if name != "stream"])
def test_call_drops_each_neutral_value(bedrock, name):
    for value in NEUTRAL_VALUES[name]:
        BedrockRouter(HAIKU).complete(HELLO, **{name: value})
        assert bedrock.requests()[-1].request.keys() == {"modelId", "messages"}


def test_stop_none_leaves_stop_sequences_of_constructor(bedrock):
    llm = BedrockRouter(HAIKU, stop_sequences=["A"])
    for stop in (None, [], ""):
        llm.complete(HELLO, stop=stop)
        assert bedrock.requests()[-1].request["inferenceConfig"] == {"stopSequences": ["A"]}
    llm.complete(HELLO, stop=None, stop_sequences="B")
    assert bedrock.requests()[-1].request["inferenceConfig"] == {"stopSequences": ["B"]}
    llm.complete(HELLO, stop=["C"])
    assert bedrock.requests()[-1].request["inferenceConfig"] == {"stopSequences": ["C"]}
    llm.complete(HELLO, stop_sequences=None)
    assert "inferenceConfig" not in bedrock.requests()[-1].request, "our own name takes it back"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("n", 2, "'n'"), ("logprobs", True, "'logprobs'"), ("user", "Ann", "'user'"), ("echo", True, "'echo'"),
        ("frequency_penalty", 0.5, "additional_model_request_fields"), ("seed", 7, "additional_model_request_fields"),
        ("logit_bias", {"50256": -100}, "'logit_bias'"), ("temprature", 0.5, "did you mean 'temperature'"),
        ("response_format", {"type": "json_object"}, "'response_format'"), ("n", object(), "'n'"),
        ("parallel_tool_calls", False, "'parallel_tool_calls'"),
    ],
)  # fmt: skip
def test_call_and_constructor_refuse_other_arguments_by_name(bedrock, name, value, message):
    with pytest.raises(InvalidRequestError, match=message):
        BedrockRouter(HAIKU).complete(HELLO, **{name: value})
    with pytest.raises(InvalidRequestError, match=message):
        BedrockRouter(HAIKU, additional_kwargs={name: value})
    assert bedrock.requests() == []


@pytest.mark.parametrize(
    ("name", "value"), [("timeout", 5), ("region_name", "eu-west-1"), ("cache", "off"), ("allow_local_files", False)]
)
def test_call_refuses_arguments_of_constructor_with_advice(bedrock, name, value):
    with pytest.raises(
        InvalidRequestError, match=f"{name!r} is not an argument of a call. Set it where the LLM is made"
    ):
        BedrockRouter(HAIKU).complete(HELLO, **{name: value})
    assert bedrock.requests() == []


def test_constructor_refuses_unknown_argument_with_nearest_name():
    with pytest.raises(InvalidRequestError, match="did you mean 'project_identifier'"):
        BedrockRouter(HAIKU, project_identifer="p")
    with pytest.raises(InvalidRequestError, match="did you mean 'allow_local_files'"):
        BedrockRouter(HAIKU, allow_local_file=False)


def test_neutral_arguments_of_constructor_are_left_out():
    BedrockRouter(HAIKU, n=1, seed=None, presence_penalty=0, logprobs=None, response_format=None)
    with pytest.raises(InvalidRequestError, match="no argument 'n'"):
        BedrockRouter(HAIKU, n=2)
