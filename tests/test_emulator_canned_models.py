"""Test the emulator's canned models: answers, documents, limits and refusals."""

import json
import time
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock_routing_integrations.emulator.canned_models.engine import Reply, deltas, reply
from bedrock_routing_integrations.emulator.service.conversation_rules import ProgramRefusal
from bedrock_routing_integrations.emulator.service.models import MODELS

SONNET = MODELS["anthropic.claude-3-5-sonnet-20240620-v1:0"]
SONNET_3_7 = MODELS["anthropic.claude-3-7-sonnet-20250219-v1:0"]
HAIKU = MODELS["anthropic.claude-3-haiku-20240307-v1:0"]
LLAMA = MODELS["meta.llama3-1-70b-instruct-v1:0"]
TITAN = MODELS["amazon.titan-text-express-v1"]
ALICE = "Alice has {} brothers and she also has {} sisters. How many sisters does Alice's brothers have?"


def user(*blocks: Any) -> dict:
    return {"role": "user", "content": [{"text": b} if isinstance(b, str) else b for b in blocks]}


def assistant(*blocks: Any) -> dict:
    return {**user(*blocks), "role": "assistant"}


def ask(*messages: Any, model=SONNET, **members: Any) -> Reply:
    return reply({"messages": [user(m) if isinstance(m, str) else m for m in messages], **members}, model)


def text_of(answer: Reply) -> str:
    return "".join(block.get("text", "") for block in answer.content)


ADD = {"toolSpec": {"name": "add", "inputSchema": {"json": {"type": "object", "properties": {"a": {}, "b": {}}}}}}


# ---- models ---------------------------------------------------------------------------------------------------------


def test_models_have_the_properties_of_the_documentation():
    assert {m for m, model in MODELS.items() if model.latency_optimized} == {
        "amazon.nova-pro-v1:0",
        "anthropic.claude-3-5-haiku-20241022-v1:0",
        "meta.llama3-1-70b-instruct-v1:0",
        "meta.llama3-1-405b-instruct-v1:0",
    }
    assert [m for m, model in MODELS.items() if model.end_of_life] == ["anthropic.claude-3-sonnet-20240229-v1:0"]
    assert all(model.on_demand or model.profiles for model in MODELS.values()), "some way to invoke each"
    assert all(0 <= model.size <= 1 and model.max_output_tokens <= model.context_window for model in MODELS.values())


# ---- answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("brothers", "sisters", "right"), [("N", "M", "M + 1"), ("4", "2", "3"), ("four", "one", "2")])
def test_only_a_large_model_solves_the_riddle_of_alice(brothers, sisters, right):
    question = ALICE.format(brothers, sisters)
    assert text_of(ask(question)).endswith(f"Answer: {right}")
    assert text_of(ask(question, model=HAIKU)) == f"Alice's brothers have {sisters} sisters."


def test_the_riddle_costs_as_many_tokens_as_it_really_did():
    answer = ask(ALICE.format("N", "M"))
    assert (answer.input_tokens, answer.output_tokens) == (27, 160)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Hello", "Hello! How can I help you today?"),
        ("What is 12 * 7?", "12 * 7 = 84"),
        ("What's two plus two?", "2 + 2 = 4"),
        ("What is the capital of France?", "The capital of France is Paris."),
        ("What is the capital of Italy? Answer in one word.", "Rome"),
        ("Count to 5", "1, 2, 3, 4, 5"),
        ("Repeat after me: the cat sat", "the cat sat"),
        ("Reply with exactly the word OK", "OK"),
        ("Translate 'I love programming' to French", "J'aime programmer"),
        ("Is the sentiment positive or negative: I love it", "Positive"),
        ("Context: The tower is 330 metres tall. It is red.\n\nQuestion: How tall is the tower?", "330 metres"),
    ],
)
def test_a_prompt_is_answered(question, answer):
    assert answer in text_of(ask(question))


def test_a_hello_world_program_is_described_in_one_line():
    answer = text_of(ask("Describe the purpose of a 'hello world' program in one line."))
    assert "\n" not in answer
    assert "program" in answer


def test_unknown_topic_is_answered_with_words_of_the_question():
    assert "entanglement" in text_of(ask("Explain entanglement to a child"))


def test_a_long_multiplication_shows_the_difference_between_models():
    assert "7,006,652" in text_of(ask("What is 1234 * 5678?"))
    assert "7,006,652" not in text_of(ask("What is 1234 * 5678?", model=HAIKU))


def test_list_and_text_have_the_requested_length():
    assert len(text_of(ask("List three colors")).splitlines()) == 3
    assert len(text_of(ask("Write a story about a cat in 250 words")).split()) == 250


def test_the_conversation_is_remembered():
    assert text_of(ask("My name is Bob and I like tea", assistant("Hi"), "What is my name?")) == "Your name is Bob."


def test_the_system_prompt_gives_form_and_facts():
    assert text_of(ask("Hello", system=[{"text": "You are a pirate."}])).startswith("Arr!")
    in_json = text_of(ask("What is the capital of Italy?", system=[{"text": "Always reply in JSON."}]))
    assert json.loads(in_json) == {"answer": "The capital of Italy is Rome."}
    shop = [{"text": "You work for a bakery. We open at 7. On Sunday we close at noon."}]
    assert text_of(ask("When do you close on Sunday?", system=shop)) == "On Sunday we close at noon."


# ---- documents and media --------------------------------------------------------------------------------------------


def a_document(kind: str, data: bytes, name: str = "report") -> dict:
    return {"document": {"name": name, "format": kind, "source": {"bytes": data}}}


def a_pdf(content: bytes, *, compressed: bool) -> bytes:
    data = zlib.compress(content) if compressed else content
    filtered = b"/Filter /FlateDecode " if compressed else b""
    return b"%PDF-1.4\n4 0 obj <<" + filtered + b"/Length 9>>\nstream\n" + data + b"\nendstream endobj\n%%EOF"


PAGE = rb"BT /F1 12 Tf 72 720 Td (Sales rose by 4%.) Tj 0 -14 Td [(The CEO is J) 20 (ane \(Jo\) Doe.)] TJ ET"


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("txt", b"Sales rose by 4%. The CEO is Jane (Jo) Doe."),
        ("md", b"# Report\n\nSales rose by 4%.\n\nThe CEO is Jane (Jo) Doe.\n"),
        ("csv", b"item,person\nThe CEO is,Jane (Jo) Doe.\nSales,4%"),
        ("html", b"<style>p{}</style><p>Sales rose.</p><p>The <b>CEO</b> is Jane (Jo) Doe.</p>"),
        ("pdf", a_pdf(PAGE, compressed=False)),
        ("pdf", a_pdf(PAGE, compressed=True)),
    ],
)
def test_a_question_is_answered_from_a_document(kind, data):
    answer = text_of(ask(user("Who is the CEO?", a_document(kind, data))))
    assert "Jane (Jo) Doe." in answer
    assert "Sales" not in answer


@given(st.binary(max_size=300), st.sampled_from(["pdf", "docx", "xlsx", "doc", "html", "csv"]))
def test_damaged_document_is_accepted(data, kind):
    for content in (data, b"%PDF-1.4 1 0 obj <<>>\nstream\nBT " + data + b" Tj ET\nendstream"):
        assert ask(user("What does it say?", a_document(kind, content))).content


def test_an_image_is_described_by_its_format_and_size():
    image = {"image": {"format": "png", "source": {"bytes": b"x" * 3014}}}
    assert "an image (png, 3,014 bytes)" in text_of(ask(user("What is this?", image)))


# ---- form and limits ------------------------------------------------------------------------------------------------


def test_an_answer_stops_before_a_stop_sequence():
    answer = ask("hi", inferenceConfig={"stopSequences": ["nowhere", "you"]})
    assert (text_of(answer), answer.stop_reason) == ("Hello! How can I help ", "stop_sequence")


def test_an_answer_stops_when_its_tokens_are_used_up():
    answer = ask("Count to 100", inferenceConfig={"maxTokens": 5})
    assert (text_of(answer), answer.stop_reason, answer.output_tokens) == ("1, 2, 3, 4, 5, 6, 7,", "max_tokens", 5)


def test_a_prefilled_answer_is_continued():
    answer = ask("What is the capital of France?", assistant("The capital of France"))
    assert text_of(answer) == " is Paris."
    in_json = ask("What is the capital of France? Answer in JSON.", assistant("{"))
    assert json.loads("{" + text_of(in_json)) == {"answer": "The capital of France is Paris."}


def test_thinking_comes_first_and_is_signed():
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    answer = ask("Hello", model=SONNET_3_7, additionalModelRequestFields=thinking)
    first, last = answer.content
    assert first["reasoningContent"]["reasoningText"]["signature"]
    assert last == {"text": "Hello! How can I help you today?"}
    pieces = list(deltas(first))
    assert "signature" in pieces[-1]["reasoningContent"]
    assert (
        "".join(p["reasoningContent"].get("text", "") for p in pieces)
        == (first["reasoningContent"]["reasoningText"]["text"])
    )


@pytest.mark.parametrize("count", [1, 2, 1999, 20_000])
def test_the_marker_gives_exactly_so_many_deltas(count):
    answer = ask(f"Benchmark [[emulator: chunks={count}]] please")
    assert len(list(deltas(answer.content[0]))) == count


@given(question=st.text(min_size=1, max_size=300).filter(str.strip), large=st.booleans())
def test_any_prompt_is_answered_and_always_in_the_same_way(question, large):
    model = SONNET if large else HAIKU
    answer = ask(question, model=model, toolConfig={"tools": [ADD]})
    assert answer == ask(question, model=model, toolConfig={"tools": [ADD]})
    assert min(answer.input_tokens, answer.output_tokens) >= 1
    for block in answer.content:
        if "text" in block:
            assert "".join(delta["text"] for delta in deltas(block)) == block["text"]


@pytest.mark.sweep
@pytest.mark.parametrize(
    "question", ["\n" * 99_999 + "?", "Paris and " * 9_999, '{"type": ' * 5_000, "0" * 99_999, "1-" * 5_000]
)
def test_an_odd_prompt_takes_no_time_to_speak_of(question):
    started = time.perf_counter()
    ask(question, model=SONNET, toolConfig={"tools": [ADD], "toolChoice": {"any": {}}})
    assert time.perf_counter() - started < 5


def test_the_request_is_not_changed():
    request = {
        "messages": [user("What is the weather in Paris?")],
        "system": [{"text": "Be kind."}],
        "toolConfig": {"tools": [ADD]},
    }
    before = json.dumps(request)
    reply(request, SONNET)
    assert json.dumps(request) == before


def test_documents_tools_and_images_cost_tokens():
    plain = ask("Who is the CEO?").input_tokens
    text = b"The CEO is Jane Doe. " * 100
    assert ask(user("Who is the CEO?", a_document("txt", text))).input_tokens == plain + len(text) // 4 + 2
    assert ask("Who is the CEO?", toolConfig={"tools": [ADD]}).input_tokens > plain + 10
    image = {"image": {"format": "png", "source": {"bytes": b"x"}}}
    assert ask(user("Who is the CEO?", image)).input_tokens == plain + 1_600


# ---- refusals -------------------------------------------------------------------------------------------------------

USE = {"toolUse": {"toolUseId": "t1", "name": "add", "input": {"a": 1, "b": 2}}}
RESULT = {"toolResult": {"toolUseId": "t1", "content": [{"text": "3"}]}}
TOOLS = {"toolConfig": {"tools": [ADD]}}
IMAGE = {"image": {"format": "png", "source": {"bytes": b"x"}}}
FILE = a_document("txt", b"x", "one")


@pytest.mark.parametrize(
    ("messages", "members", "model", "message"),
    [
        ([assistant("hi")], {}, SONNET, "must start with a user message"),
        (["hi", "there"], {}, SONNET, 'but found multiple "user" roles in a row'),
        (["hi", "there"], {}, LLAMA, "A conversation must alternate between user and assistant roles."),
        ([" \n"], {}, SONNET, "The text field in the ContentBlock object at messages.0.content.0 is blank."),
        (["hi"], {"system": [{"text": " "}]}, SONNET, "SystemContentBlock object at system.0 is blank"),
        ([user()], {}, SONNET, "The content field in the Message object at messages.0 is empty."),
        (["hi", assistant(USE), "and?"], TOOLS, SONNET, "Expected toolResult blocks at messages.2.content"),
        (["hi", assistant(USE)], TOOLS, SONNET, "Expected toolResult blocks at messages.2.content"),
        ([user("hi", RESULT)], TOOLS, SONNET, "exceeds the number of toolUse blocks of previous turn"),
        (["hi", assistant(USE), user(RESULT)], {}, SONNET, "The toolConfig field must be defined"),
        ([user("hi", *[IMAGE] * 21)], {}, SONNET, "(21) exceeds the limit of 20"),
        ([user("hi", IMAGE)], {}, LLAMA, "This model doesn't support the image field."),
        ([user(FILE)], {}, SONNET, "needs a text block beside it"),
        ([user("hi", FILE, FILE)], {}, SONNET, "Found duplicate document names: one."),
        (["hi", assistant("yes", FILE), "and?"], {}, SONNET, "only in messages of the user role"),
        (["hi"], TOOLS, TITAN, "This model doesn't support tool use."),
        (["hi"], {"system": [{"text": "Be kind."}]}, TITAN, "This model doesn't support system messages."),
        (
            ["hi"],
            {"toolConfig": {"tools": [ADD], "toolChoice": {"any": {}}}},
            LLAMA,
            "This model doesn't support the toolConfig.toolChoice.any field. Remove toolConfig.toolChoice.any",
        ),
        (["hi"], {"inferenceConfig": {"maxTokens": 5_000}}, HAIKU, "exceeds the model limit of 4096"),
        (["x" * 40_000], {}, TITAN, "Input is too long for requested model."),
        (["hi"], {"additionalModelRequestFields": {"thinking": {"type": "enabled"}}}, SONNET, "Extra inputs"),
        (["hi"], {"additionalModelRequestFields": {"thinking": {"type": "enabled"}}}, SONNET_3_7, "greater than"),
    ],
)
def test_invalid_request_is_refused_with_bedrocks_message(messages, members, model, message):
    with pytest.raises(ProgramRefusal) as refused:
        ask(*messages, model=model, **members)
    assert message in str(refused.value)
