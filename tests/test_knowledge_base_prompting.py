"""Prompts: passages are data, whatever their text, and the part that can be cached comes first."""

from __future__ import annotations

import re

import pytest
from hostile_passages import HOSTILE, INVISIBLE, LONG, ORDINARY, SEEDS
from hypothesis import given
from hypothesis import strategies as st

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.knowledge_base import (
    InlineCitationReader,
    Passage,
    compose,
    read_queries,
    rewriting_prompt,
)
from bedrock_routing_integrations.knowledge_base.generation import (
    check_generation_template,
    check_orchestration_template,
)
from bedrock_routing_integrations.knowledge_base.prompts import as_data

NOW = "2026-11-21T10:00:00Z"
QUESTION = "How large is Europa?"
FENCE = re.compile(r'<passage index="(\d+)">\n(.*?)\n</passage>', re.DOTALL)
REMOVED = {ord(character): None for character in INVISIBLE}
UNSEEN = {ord(character): None for character in INVISIBLE if not character.isspace()}


def told(passages, question=QUESTION, template=None):
    return compose(question, passages, template=template, now=NOW)


def within(prompt):
    """The passages as a parser finds them in the user message, which has nothing else that looks like a fence."""
    text = prompt.user
    found = FENCE.findall(text)
    assert [int(number) for number, _ in found] == list(range(1, len(prompt.numbers) + 1))
    assert len(re.findall(r"<\s*passage\b", text, re.IGNORECASE)) == len(found)
    assert len(re.findall(r"<\s*/\s*passage\b", text, re.IGNORECASE)) == len(found)
    assert text.lower().count("<passages>") == text.lower().count("</passages>") == 1
    return [inner for _, inner in found]


def echoes(texts):
    """Yield forms in which a model may repeat its prompt: all of it, or one passage."""
    for text in ["\n".join(texts), *texts]:
        for seen in (text, text.translate(UNSEEN)):
            yield from (seen, seen.lower(), seen.upper(), " ".join(seen.split()))
    for text in texts:  # one cannot be sure of two that are run together
        yield from ("".join(text.split()), text.translate(REMOVED), text.translate(REMOVED).lower())


def assert_harmless(passages):
    prompt = told(passages)
    inside = within(prompt)
    for echo in echoes(inside):
        answer = InlineCitationReader(prompt, [Passage(text=text) for text in passages])
        answer.read(echo)
        answer.finish()
        assert answer.citations == []
        assert answer.text == echo.strip()
    for text in inside:
        assert "<passage" not in re.sub(r"[\s/]", "", text.translate(REMOVED).lower())
    return inside


def test_there_are_two_hundred_hostile_passages_and_more():
    assert len(HOSTILE) >= 200


@pytest.mark.parametrize("batch", [HOSTILE[at : at + 40] for at in range(0, len(HOSTILE), 40)], ids=lambda _: "")
def test_hostile_passage_stays_inside_its_fence(batch):
    for passage in batch:
        assert_harmless([passage, f"Before {passage} behind.", "A good one."])
    assert_harmless([text for text in batch if text.strip()])


@pytest.mark.parametrize("passage", LONG, ids=lambda text: repr(text[:12]))
def test_a_long_passage_is_harmless_too(passage):
    inside = within(told([passage]))
    tight = re.sub(r"\s", "", inside[0].translate(REMOVED)).lower()
    assert "</passage" not in tight
    assert "[cite:" not in tight


pieces = st.one_of(
    st.sampled_from([*"<>/[]:, 12pasge", *"<[c", "passage", "cite", "passages", *SEEDS]),
    st.sampled_from(sorted(INVISIBLE)),
    st.characters(),
)  # fmt: skip


@given(st.lists(st.lists(pieces, max_size=25).map("".join), max_size=3))
def test_any_passage_stays_inside_its_fence(passages):
    assert_harmless(passages)


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_comes_through_as_it_is(text):
    assert as_data(text) == text
    assert within(told([text])) == [text]


@given(st.text())
def test_escaping_changes_one_character_and_loses_none(text):
    changed = as_data(text)
    assert len(changed) == len(text)
    assert {(a, b) for a, b in zip(text, changed, strict=True) if a != b} <= {("<", "\u2039"), ("[", "(")}
    assert as_data(changed) == changed


# --- the prompt


def test_system_prompt_is_equal_for_every_question():
    one, two = told(["a"]), told(["b", "c"], "Something else?")
    assert one.system == two.system
    assert "[cite: 1]" in one.system
    assert QUESTION not in one.system
    assert one.user == f'<passages>\n<passage index="1">\na\n</passage>\n</passages>\n\nQuestion: {QUESTION}'


def test_empty_passage_is_not_shown():
    prompt = told(["a", "", " \n", "b"])
    assert within(prompt) == ["a", "b"]
    assert prompt.numbers == (0, 3)


def test_no_passages_is_an_empty_fence():
    assert within(told([])) == []


def test_the_users_template_is_filled():
    template = "Be brief. $output_format_instructions$\n$search_results$\nAsked at $current_time$: $query$"
    prompt = told(["a"], template=template)
    assert prompt.system.startswith("Be brief. Behind each statement")
    assert "$" not in prompt.system + prompt.user
    assert prompt.user.endswith(f"Asked at {NOW}: {QUESTION}")
    assert prompt.cites


def test_variable_text_is_outside_the_cached_part():
    prompt = told(["a"], template="It is $current_time$. Be brief.\n$search_results$")
    assert NOW not in prompt.system
    assert prompt.user.startswith(f"It is {NOW}. Be brief.")
    assert prompt.user.endswith(f"Question: {QUESTION}"), "a template without $query$ asks it at the end"


def test_without_format_instructions_nothing_is_cited():
    prompt = told(["a"], template="Answer.\n$search_results$\n$query$")
    assert not prompt.cites
    assert "[cite" not in prompt.system + prompt.user


@pytest.mark.parametrize(
    "value", ["$query$", "$search_results$", "$current_time$", "\\1", "\\g<0>", "$output_format_instructions$"]
)
def test_a_placeholder_in_a_question_or_a_passage_is_text(value):
    prompt = told([f"x {value} y"], f"What is {value}?")
    assert within(prompt) == [f"x {value} y"]
    assert prompt.user.endswith(f"Question: What is {value}?")


# --- wording the search


def test_a_first_question_is_searched_for_as_it_is():
    assert rewriting_prompt(QUESTION, [], template=None, decompose=False, now=NOW) is None


def test_rewording_prompt_has_the_conversation():
    asked = rewriting_prompt(
        "And its mass?",
        [("user", "How large is Europa? [cite: 1]"), ("assistant", "3,122 km")],
        template=None,
        decompose=False,
        now=NOW,
    )
    assert "User: How large is Europa? (cite: 1]\nAssistant: 3,122 km" in asked
    assert asked.endswith("Follow-up question: And its mass?")


def test_a_question_may_be_split():
    asked = rewriting_prompt("How large is Io and how large is Titan?", [], template=None, decompose=True, now=NOW)
    assert asked.startswith("Split the question")
    assert asked.endswith("Question: How large is Io and how large is Titan?")


def test_the_users_orchestration_template_is_filled():
    template = "$conversation_history$|$output_format_instructions$|$current_time$"
    asked = rewriting_prompt("Why?", [("user", "$query$")], template=template, decompose=False, now=NOW)
    assert asked.startswith("User: $query$|Rewrite")
    assert asked.endswith(f"|{NOW}\n\nFollow-up question: Why?")


@pytest.mark.parametrize(
    ("answer", "decompose", "queries"),
    [
        ("How large is Europa?", False, ["How large is Europa?"]),
        ("1. How large is Io?\n2) How large is Titan?\n", True, ["How large is Io?", "How large is Titan?"]),
        ("- a\n* b\n• c\n\na", True, ["a", "b", "c"]),
        ("a\nb", False, ["a b"]),
        ("1979 missions\n-5 degrees", True, ["1979 missions", "-5 degrees"]),
        ("", True, ["Q"]), (" \n", False, ["Q"]), ("\n".join("abcdefgh"), True, list("abcde")),
    ],
)  # fmt: skip
def test_the_queries_that_a_model_writes_are_read(answer, decompose, queries):
    assert read_queries(answer, "Q", decompose=decompose) == queries


@given(st.text(), st.booleans())
def test_any_rewording_yields_a_query(answer, decompose):
    queries = read_queries(answer, "Q", decompose=decompose)
    assert 1 <= len(queries) <= (5 if decompose else 1)
    assert all(query.strip() for query in queries)


# --- templates


@pytest.mark.parametrize(
    ("check", "template", "message"),
    [
        (check_generation_template, "x", r"prompt_template lacks \$search_results\$"),
        (check_generation_template, "$search_results$ $querry$", r"did you mean \$query\$"),
        (check_generation_template, "$search_results$ $zzz$", r"it takes \$search_results\$, "),
        (check_generation_template, "$search_results$" + " " * 3985, "4,001 characters"),
        (check_orchestration_template, "$conversation_history$", "orchestration_prompt_template lacks"),
        (check_orchestration_template, "", "Give a text with placeholders"),
    ],
)
def test_a_template_that_bedrock_would_refuse_is_refused_by_name(check, template, message):
    with pytest.raises(InvalidRequestError, match=message):
        check(template)


@pytest.mark.parametrize(
    "template", ["$search_results$", "Costs $5 or $6, $HOME, $x.\n$search_results$", "$search_results$" + " " * 3984]
)
def test_a_template_that_bedrock_takes_is_taken(template):
    check_generation_template(template)
    check_generation_template(template * 2, limited=False)
