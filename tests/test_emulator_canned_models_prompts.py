"""Test the canned models with the prompt templates of the frameworks."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock_routing_integrations.emulator.canned_models.engine import reply
from bedrock_routing_integrations.emulator.service.models import MODELS

HAIKU = MODELS["anthropic.claude-3-haiku-20240307-v1:0"]
BUILT = "The lighthouse was built in 1874 by Ingrid."
FERRY = "The ferry leaves at nine."


def ask(*texts, system="", **members):
    """The content of the answer; texts are the user's and the assistant's by turns."""
    messages = [
        {"role": "assistant" if index % 2 else "user", "content": [{"text": text}]} for index, text in enumerate(texts)
    ]
    request = {"messages": messages, **({"system": [{"text": system}]} if system else {}), **members}
    return reply(request, HAIKU).content


def text_of(*texts, **members):
    return ask(*texts, **members)[0]["text"]


def test_of_several_labelled_questions_the_last_is_meant():
    shown = "Context:\nWater is wet.\nQuery: What is water?\nAnswer: Water is wet.\n"
    assert text_of(f"{shown}Context:\n{BUILT} {FERRY}\nQuery: Who built the lighthouse?\nAnswer: ") == BUILT


@pytest.mark.parametrize(
    ("context", "answer", "refined"),
    [(BUILT, "I do not know.", BUILT), (FERRY, BUILT, BUILT), ("Sheep are kept.", "I do not know.", "I do not know.")],
)
def test_answer_is_refined_if_the_new_context_adds_facts(context, answer, refined):
    prompt = f"Refine. When in doubt, just repeat the original answer.\nNew Context: {context}\n"
    assert text_of(f"{prompt}Query: Who built the lighthouse?\nOriginal Answer: {answer}\nNew Answer: ") == refined


@pytest.mark.parametrize(
    ("follow_up", "question"),
    [("And when did she build it?", "Who built it? And when did she build it?"), ("Is Paris far?", "Is Paris far?")],
)
def test_follow_up_that_refers_back_includes_the_earlier_question(follow_up, question):
    prompt = "Rewrite the message to be a standalone question.\n<Chat History>\nuser: Who built it?\nassistant: Ada.\n"
    assert text_of(f"{prompt}<Follow Up Message>\n{follow_up}\n\n<Standalone question>\n") == question
    assert text_of(f"{prompt}Follow Up Input: {follow_up}\nStandalone question:") == question


def test_a_source_is_cited_where_the_prompt_wants_it():
    sources = f"Source 1:\n{FERRY}\nSource 2:\n{BUILT}\nQuery: Who built the lighthouse?\nAnswer: "
    assert text_of(f"Cite the appropriate sources by their numbers.\n{sources}") == f"{BUILT} [2]"
    assert text_of(f"Answer from these.\n{sources}") == BUILT


CHOICES = (
    "Some choices:\n(1) Tells of the lighthouse\n\n(2) Tells of the ferry\n\nWhich suits: 'When does the ferry go?'\n"
)


@pytest.mark.parametrize("name", ["choice", "index", "selected_option"])
def test_a_tool_gets_the_number_of_the_choice_that_suits(name):
    schema = {"type": "object", "properties": {name: {"type": "integer"}}, "required": [name]}
    tool = {"toolSpec": {"name": "Selection", "inputSchema": {"json": schema}}}
    content = ask(CHOICES, toolConfig={"tools": [tool], "toolChoice": {"any": {}}})
    assert content[-1]["toolUse"]["input"] == {name: 2}


def test_an_answer_takes_the_shape_of_the_example():
    example = "ONLY JSON, please. Here is an example:\n[\n    {{\n        choice: 1,\n"
    example += '        reason: "<why>"\n    }},\n    ...\n]\n'
    (chosen,) = json.loads(text_of(CHOICES + example))
    assert chosen["choice"] == 2
    assert set(chosen) == {"choice", "reason"}
    flat = json.loads(text_of('Answer in JSON about "Ada", who is 36. For example:\n{"name": "Bob", "age": 1}'))
    assert flat == {"name": "Ada", "age": 36}


def test_json_example_keys_are_filled_from_the_question():
    shown = '<Tools>\n```json\n{"a": "x"}\n```\n<User Question>\nWhat is x?\n\n<Output>\n```json\n'
    shown += '{"items": [{"sub_question": "What is x?", "tool_name": "a"}]}\n```\n'
    question_prompt = '<Tools>\n```json\n{"tower": "the tower", "ferry": "boats"}\n```\n<User Question>\n'
    question_prompt += "How old is the tower and how fast is the ferry?\n\n<Output>\n"
    assert json.loads(text_of(f"Output a list of sub-questions in json markdown.\n{shown}{question_prompt}")) == {
        "items": [
            {"sub_question": "How old is the tower?", "tool_name": "tower"},
            {"sub_question": "how fast is the ferry?", "tool_name": "ferry"},
        ]
    }


def test_without_an_example_json_has_the_one_key_answer():
    assert json.loads(text_of("Answer in JSON: what is the capital of France?")) == {
        "answer": "The capital of France is Paris."
    }


REACT = """You have access to the following tools:
> Tool Name: get_weather
Tool Description: Get the weather in a city.
Tool Args: {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}

Use this format:
Action: tool name
Action Input: the input
"""
ASKED = "What is the weather in Paris and in Rome?"


def action(city):
    return f'Thought: I need to use get_weather.\nAction: get_weather\nAction Input: {{"city": "{city}"}}'


def test_react_agent_acts_until_it_has_observed_enough():
    assert text_of(ASKED, system=REACT) == action("Paris")
    rest = (ASKED, action("Paris"), "Observation: Sunny.")
    assert text_of(*rest, system=REACT) == action("Rome")
    answer = text_of(*rest, action("Rome"), "Observation: Rain.", system=REACT)
    thought, _, final_answer = answer.partition("\nAnswer: ")
    assert thought == "Thought: I can answer without using any more tools."
    assert "Sunny." in final_answer
    assert "Rain." in final_answer


def test_react_agent_remembers_earlier_questions_and_answers_without_tools():
    earlier = (ASKED, action("Paris"), "Observation: Sunny.", "Thought: Enough.\nAnswer: Sunny.")
    assert text_of(*earlier, "Hello!", system=REACT).endswith("\nAnswer: Hello! How can I help you today?")
    assert text_of(*earlier, "What is the weather in Oslo?", system=REACT) == action("Oslo")


@given(st.text(alphabet='[]{}",:.\n a1', max_size=300))
def test_no_example_is_too_strange(text):
    assert isinstance(
        json.loads(text_of(f"Answer in JSON. Example:\n{text}\nQuestion: Who is Ada?")), (dict, list, str)
    )


def test_unclosed_brackets_are_not_an_example():
    for text in ("[" * 10_000, "[\n" * 5_000, '{"a":\n' * 3_000):
        assert text_of(f"Answer in JSON. Example:\n{text}").startswith("{")
