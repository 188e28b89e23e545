"""Test inline citations: removed from the answer and verified, for any chunks of a stream."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock_routing_integrations.knowledge_base import InlineCitationReader, Passage, Prompt

# Written down a second time: what the instructions ask for, generously read.
JOINED = r"(\s{0,3}(,|;|&|and|[-\u2013])\s{0,3}\d{1,4}){0,30}"
WHOLE = rf"\[cite:\s{{0,3}}\d{{1,4}}{JOINED}\s{{0,3}}\]"
MARKER = re.compile(WHOLE, re.IGNORECASE)
# And one that is cut at the end of the answer.
ANY = re.compile(rf"{WHOLE}|\[cite:\s*\d[\s\d,;&and\u2013-]*\Z", re.IGNORECASE)
PASSAGES = [Passage(text=f"passage {n}", source=f"s3://b/{n}.md") for n in range(4)]


def prompt(numbers=(0, 1, 2), cites=True):
    return Prompt("system", "user", tuple(numbers), cites)


def read(*pieces, asked=None, passages=PASSAGES):
    """The answer that was read in these pieces; what its parts give must add up to it."""
    answer = InlineCitationReader(asked or prompt(), passages)
    shown = ""
    citations = []
    for part in [*map(answer.read, pieces), answer.finish()]:
        shown += part.text
        citations += part.citations
        for citation in part.citations:
            assert shown[citation.start : citation.end] == citation.text, "its text came before it, or with it"
    assert (shown, citations) == (answer.text, answer.citations)
    for citation in citations:
        assert answer.text[citation.start : citation.end] == citation.text
        assert citation.text == citation.text.strip() != ""
    return answer


def cited(answer):
    return [(citation.text, citation.passages) for citation in answer.citations]


@pytest.mark.parametrize(
    ("answer_text", "text", "citations"),
    [
        ("It is so [cite: 1].", "It is so.", [("It is so", (0,))]),
        ("It is so. [cite: 1, 3]", "It is so.", [("It is so.", (0, 2))]),
        ("It is so.[cite:1,3] And so. [CITE:  2 ]", "It is so. And so.", [("It is so.", (0, 2)), ("And so.", (1,))]),
        ("A [cite: 1][cite: 3] b.", "A b.", [("A", (0, 2))]),
        ("A [cite: 1] [cite: 1] b.", "A b.", [("A", (0,))]),
        (
            "One [cite: 1]. Two [cite: 2], three [cite: 3]!",
            "One. Two, three!",
            [("One", (0,)), ("Two", (1,)), ("three", (2,))],
        ),
        ("One [cite: 1].\n.5 is half [cite: 2].", "One.\n.5 is half.", [("One", (0,)), (".5 is half", (1,))]),
        ("一 [cite: 1]。二 [cite: 2]。", "一。二。", [("一", (0,)), ("二", (1,))]),
        ("One [cite: 1]. [cite: 2]", "One.", [("One", (0,))]),
        ("one [cite: 1]two", "one two", [("one", (0,))]),
        ("Heading\n\nFact. [cite: 2]\nMore. [cite: 3]", "Heading\n\nFact.\nMore.", [("Fact.", (1,)), ("More.", (2,))]),
        ("- a [cite: 1]\n- b [cite: 2]\n", "- a\n- b", [("- a", (0,)), ("- b", (1,))]),
        ("[cite: 1] Nothing stands before.", "Nothing stands before.", []),
        ("\n [cite: 1] \n", "", []),
        ("", "", []),
    ],
)
def test_marker_cites_the_statement_before_it(answer_text, text, citations):
    answer = read(answer_text)
    assert answer.text == text
    assert cited(answer) == citations


@pytest.mark.parametrize("number", ["0", "4", "9999", "0, 4", "7,8,9"])
def test_marker_of_an_unknown_passage_is_dropped(number):
    answer = read(f"Invented [cite: {number}]. Real [cite: 2].")
    assert answer.text == "Invented. Real."
    assert [citation.passages for citation in answer.citations] == [(1,)]
    assert "Invented" not in answer.citations[0].text, "what a false marker stood behind is nobody else's"


def test_marker_keeps_its_existing_passages():
    assert cited(read("A [cite: 9, 2, 0, 2].")) == [("A", (1,))]


def test_the_numbers_are_those_of_the_passages_that_were_shown():
    answer = read("A [cite: 1]. B [cite: 2, 3].", asked=prompt(numbers=(1, 3)))
    assert [citation.passages for citation in answer.citations] == [(1,), (3,)]
    assert [citation.sources for citation in answer.citations] == [("s3://b/1.md",), ("s3://b/3.md",)]


def test_answer_without_instructions_to_cite_has_no_citations():
    assert read("A [cite: 1].", asked=prompt(cites=False)).citations == []


def test_a_source_that_two_passages_share_is_named_once():
    passages = [Passage(text=t, source="s3://b/one.md") for t in "abc"]
    (citation,) = read("A [cite: 1, 2].", passages=passages).citations
    assert (citation.passages, citation.sources) == ((0, 1), ("s3://b/one.md",))


@pytest.mark.parametrize(
    "text",
    [
        "a[0][1] = [cite]", "[1] a footnote [^2]", "[cite:]", "[cite: ]", "[cite: one]", "[cite 1]", "[c",
        "[",
        "[cite: 1,]", "[cite: ,1]", "[cite: 12345]", "[[x], [y]]", "\\[cite\\]", "[ cite: 1]", "x\n\n\ny [see: 1]",
        "[[[[", "[cite:[cite:[cite:", "[cite: 1 2]",
    ],
)  # fmt: skip
def test_other_brackets_stay_unchanged(text):
    for pieces in ([text], list(text)):
        answer = read(*pieces)
        assert (answer.text, answer.citations) == (text, [])


@pytest.mark.parametrize(
    ("marker", "passages"),
    [
        ("[cite: 1-3]", (0, 1, 2)), ("[cite: 2\u20133]", (1, 2)), ("[cite: 1; 3]", (0, 2)), ("[cite: 1 and 2]", (0, 1)),
        ("[Cite: 1 & 3]", (0, 2)), ("[cite: 2-9999]", (1, 2)), ("[cite:3, 1-2]", (2, 0, 1)),
    ],
)  # fmt: skip
def test_markers_are_read_as_models_write_them_too(marker, passages):
    assert cited(read(f"A {marker}. B")) == [("A", passages)]


def test_truncated_marker_is_removed():
    for text in ("A fact. [cite: 1", "A fact. [Cite: 1, 2 and", "A fact. [cite: 1-"):
        for pieces in ([text], list(text)):
            assert read(*pieces).text == "A fact."


def test_text_that_cannot_be_a_marker_is_not_held_back():
    answer = InlineCitationReader(prompt(), PASSAGES)
    assert answer.read("The year [19").text == "The year [19"
    assert answer.read("79] was").text == "79] was"
    assert answer.read(" [cite: 1").text == ""
    part = answer.read("] and")
    assert part.text == " and"
    assert part.citations[0].text == "The year [1979] was"


@pytest.mark.parametrize(
    "answer_text",
    [
        "[ci[cite: 1]te: 2]", "[[cite: 1]cite: 2]", "[cite:[cite: 1] 2]", "[cite: 2[cite: 1]]", "[cite: 2 [cite: 9]]",
        "[cite: [cite: 1]2]", "[cite: 1[cite: 1], 2]", "x [cite[cite: 9][cite: 1]:2] y", "[cite: 1 [cite: 2] ]",
        "[cite: [cite: [cite: 1]2]3]", "[C\n[cite: 1]ite: 2]",
    ],
)  # fmt: skip
def test_taking_a_marker_out_does_not_make_another(answer_text):
    for pieces in ([answer_text], list(answer_text)):
        assert not MARKER.search(read(*pieces).text)


# --- any text in any pieces

numbers = st.lists(st.sampled_from(["1", "2", "3", "0", "4", "77", "9999", "٣"]), min_size=1, max_size=3)
markers = st.builds(
    lambda word, gap, found: f"[{word}:{gap}{f',{gap}'.join(found)}]", st.sampled_from(["cite", "CITE", "Cite",
    "cıte"]),
    st.sampled_from(["", " ", "\n", "   "]), numbers,
)  # fmt: skip
almost = st.sampled_from(
    ["[", "[c", "[cite", "[cite:", "[cite: 1", "[cite: 1, ", "]", "[1]", ":", "te: 2]", "[[", "cite: 1]"]
)
plain = st.one_of(st.sampled_from(["One.", " ", "\n", " two ", ".", ", ", "\n\n- "]), st.text(max_size=6))
said = st.lists(st.one_of(plain, plain, markers, almost), max_size=12).map("".join)


def cut(text, places):
    places = sorted(place % (len(text) + 1) for place in places)
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


@given(said, st.lists(st.integers(0, 200), max_size=10))
def test_the_pieces_in_which_an_answer_comes_make_no_difference(text, places):
    at_once = read(text)
    for pieces in (cut(text, places), list(text)):
        answer = read(*pieces)
        assert (answer.text, answer.citations) == (at_once.text, at_once.citations)


@given(said)
def test_any_answer_cites_existing_passages_only(text):
    answer = read(text)
    assert not MARKER.search(answer.text)
    for citation in answer.citations:
        assert citation.passages
        assert set(citation.passages) <= {0, 1, 2}
    starts = [(citation.start, citation.end) for citation in answer.citations]
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(starts))


@given(said)
def test_an_answer_loses_nothing_but_markers_and_white_space(text):
    assert "".join(read(text).text.split()) == "".join(ANY.sub("", text).split())


@given(st.lists(st.one_of(plain, almost), max_size=12).map("".join).filter(lambda text: not ANY.search(text)))
def test_answer_without_markers_is_only_stripped(text):
    answer = read(text)
    assert (answer.text, answer.citations) == (text.strip(), [])


def test_a_long_answer_takes_no_longer_for_its_brackets():
    text = "[" * 30_000 + "[cite: 1]" * 3_000
    assert read(text).text == "[" * 30_000
