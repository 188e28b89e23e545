"""Citations of RetrieveAndGenerate: the span of each is the cited text, however Bedrock counted and however it came."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock_routing_integrations.knowledge_base import AnswerReader


def reference(number):
    uri = f"s3://b/{number}.md"
    return {
        "content": {"type": "TEXT", "text": f"passage {number}"},
        "location": {"type": "S3", "s3Location": {"uri": uri}},
        "metadata": {"x-amz-bedrock-kb-source-uri": uri},
    }


def claim(text=None, start=None, end=None, references=(0,)):
    """A citation as Bedrock writes it: its `end` is inclusive."""
    part = {} if text is None else {"text": text}
    if start is not None:
        part["span"] = {"start": start, "end": end}
    return {
        "generatedResponsePart": {"textResponsePart": part},
        "retrievedReferences": [reference(number) for number in references],
    }


def whole(text, claims):
    reader = AnswerReader()
    part = reader.read_response({"output": {"text": text}, "citations": claims})
    assert list(part.citations) == reader.citations
    assert list(part.passages) == reader.passages
    return reader


def doubled(one):
    return {"citation": {"citation": one, **one}}


def streamed(events):
    """The reader after the events; its parts must add up to it."""
    reader = AnswerReader()
    parts = [*map(reader.read_event, events), reader.finish()]
    assert "".join(part.text for part in parts) == reader.text
    assert [passage for part in parts for passage in part.passages] == reader.passages
    seen, shown = 0, ""
    for part in parts:
        seen, shown = seen + len(part.passages), shown + part.text
        for citation in part.citations:
            assert all(number < seen for number in citation.passages), "its passages came before it, or with it"
            assert shown[citation.start : citation.end] == citation.text, "its text came before it, or with it"
    assert [citation for part in parts for citation in part.citations] == reader.citations
    return reader


def assert_slices(reader):
    for citation in reader.citations:
        assert reader.text[citation.start : citation.end] == citation.text
        assert 0 <= citation.start < citation.end <= len(reader.text)
        assert citation.sources == tuple(dict.fromkeys(reader.passages[n].source for n in citation.passages))


def spans(reader):
    return [(citation.start, citation.end) for citation in reader.citations]


# --- what Bedrock is known to send


def test_inclusive_end_is_corrected():
    text = "x" * 320
    assert spans(whole(text, [claim(text, 0, 319)])) == [(0, 320)]


def test_streamed_span_excludes_its_line_break():
    events = [{"output": {"text": "One is one.\n"}}, doubled(claim("One is one.", 0, 11)), {"output": {"text": "Two."}}]
    reader = streamed(events)
    assert spans(reader) == [(0, 11)]
    assert reader.citations[0].text == "One is one."


@pytest.mark.parametrize("text", ["Yes. Yes.\nNo.", "Yes. Yes."])
def test_line_break_after_the_cited_text_is_not_cited(text):
    for reader in (
        whole(text, [claim("Yes.\n", 5, 9)]),
        streamed([{"output": {"text": text}}, doubled(claim("Yes.\n", 5, 9))]),
    ):
        assert spans(reader) == [(5, 9)]


def test_a_citation_that_comes_twice_in_one_event_is_one():
    reader = streamed([{"output": {"text": "One."}}, doubled(claim("One.", 0, 4))])
    assert len(reader.citations) == len(reader.passages) == 1


def test_inner_citation_of_older_services_is_read():
    reader = streamed([{"output": {"text": "One."}}, {"citation": {"citation": claim("One.", 0, 3)}}])
    assert spans(reader) == [(0, 4)]


def test_part_without_references_is_not_a_citation():
    assert whole("Sorry.", [claim("Sorry.", 0, 5, references=())]).citations == []


def test_a_passage_that_is_cited_twice_is_listed_once():
    reader = whole("A. B.", [claim("A.", 0, 1, references=(4, 2)), claim("B.", 3, 4, references=(2, 4, 2))])
    assert [passage.source for passage in reader.passages] == ["s3://b/4.md", "s3://b/2.md"]
    assert [citation.passages for citation in reader.citations] == [(0, 1), (1, 0)]
    assert reader.citations[1].sources == ("s3://b/2.md", "s3://b/4.md")


def test_a_citation_is_json():
    (citation,) = whole("A.", [claim("A.", 0, 1)]).citations
    assert citation.as_dict() == {"start": 0, "end": 2, "text": "A.", "passages": [0], "sources": ["s3://b/0.md"]}


def test_a_repeated_sentence_is_cited_where_it_is_meant():
    text = "Yes. No. Yes. No. Yes."
    assert spans(whole(text, [claim("Yes.", 18, 21), claim("Yes.", 9, 12), claim("No.", 14, 16)])) == [
        (18, 22), (9, 13), (14, 17),
    ]  # fmt: skip


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-8"])
def test_offsets_in_other_units_find_the_right_repetition(encoding):
    width = 2 if encoding == "utf-16-le" else 1
    text = "🜲🜳 Ünïcode 🙂. Same here. 🙂🙂🙂🙂 Same here. 🙂 Same here."
    start = text.rindex("Same here.")
    offset = len(text[:start].encode(encoding)) // width
    assert spans(whole(text, [claim("Same here.", offset, offset + 9)])) == [(start, start + 10)]


def test_span_without_text_uses_its_offsets():
    reader = streamed([{"output": {"text": "One.\nTwo."}}, doubled(claim(None, 0, 4)), doubled(claim(None, 5, 8))])
    assert [citation.text for citation in reader.citations] == ["One.", "Two."]


def test_text_without_span_is_searched_for():
    reader = whole("Yes. No. Yes.", [claim("Yes."), claim("Yes."), claim("No.")])
    assert spans(reader) == [(0, 4), (9, 13), (5, 8)]


@pytest.mark.parametrize("first", ["citation", "text"])
def test_a_citation_may_come_before_its_text(first):
    events = [{"output": {"text": "Yes. No. Yes."}}, doubled(claim("Yes.", 9, 12))]
    assert spans(streamed(events if first == "text" else events[::-1])) == [(9, 13)]


def test_citation_arrives_as_early_as_possible():
    reader = AnswerReader()
    reader.read_event({"output": {"text": "One. "}})
    assert reader.read_event(doubled(claim("One.", 0, 4))).citations
    assert not reader.read_event(doubled(claim("Two.", 5, 8))).citations
    assert not reader.read_event({"output": {"text": "Tw"}}).citations
    assert reader.read_event({"output": {"text": "o."}}).citations


@pytest.mark.parametrize(
    "odd",
    [
        {}, {"generatedResponsePart": None, "retrievedReferences": None},
        {"generatedResponsePart": {"textResponsePart": {"text": None, "span": None}}},
        {"generatedResponsePart": {"textResponsePart": {"text": "One.", "span": {"start": "0", "end": "3"}}}},
        {"generatedResponsePart": {"textResponsePart": {"text": "One.", "span": {"start": 10**12, "end": -7}}}},
        {"generatedResponsePart": {"textResponsePart": {"text": 7, "span": [0, 3]}}},
        {"generatedResponsePart": {"textResponsePart": "One."}}, {"generatedResponsePart": "One."},
    ],
)  # fmt: skip
def test_malformed_citation_keeps_the_others(odd):
    odd = {"retrievedReferences": [reference(0)], **odd}
    good = claim("Two.", 5, 8)
    one, two = (
        whole("One. Two.", [odd, good]),
        streamed([{"output": {"text": "One. Two."}}, {"citation": odd}, doubled(good)]),
    )
    for reader in (one, two):
        assert_slices(reader)
        assert spans(reader)[-1] == (5, 9)


@pytest.mark.parametrize("event", [{}, {"output": {}}, {"guardrail": {}}, {"somethingNew": {"a": 1}}, {"citation": {}}])
def test_empty_event_changes_nothing(event):
    reader = streamed([event, {"output": {"text": "One."}}, doubled(claim("One.", 0, 3)), event])
    assert (reader.text, spans(reader), reader.guardrail_action) == ("One.", [(0, 4)], None)


def test_the_action_of_a_guardrail_is_kept_in_both_forms():
    events = [{"output": {"text": "Sorry."}}, {"guardrail": {"action": "INTERVENED"}}]
    assert streamed(events).guardrail_action == "INTERVENED"
    reader = AnswerReader()
    assert reader.read_response({"output": {"text": "x"}, "guardrailAction": "NONE"}).guardrail_action == "NONE"


# --- any text, any parts, any order

characters = st.sampled_from("aaabb .. \n\n\néü漢\u0301🙂👩\u200d🚀\u05d0\u200f\ufeff\u2028\U0010ffff\x00")
sentences = st.lists(st.text(characters, min_size=1, max_size=12), min_size=1, max_size=6)


def offsets(text, start, end, unit):
    """Of text[start:end], with an inclusive end."""
    if unit == "characters":
        return start, end - 1
    encoding, width = {"utf-16": ("utf-16-le", 2), "bytes": ("utf-8", 1)}[unit]
    count = [len(text[:at].encode(encoding)) // width for at in (start, end)]
    return count[0], count[1] - 1


@st.composite
def answers(draw):
    """Draw a text, spans in it as Bedrock gives them, and for each span its true position if its offsets are exact."""
    pieces = draw(sentences)
    pieces += draw(st.lists(st.sampled_from(pieces), max_size=3))  # repeated sentences
    text = "".join(pieces)
    claims, meant = [], []
    for start, last in draw(st.lists(st.tuples(*[st.integers(0, len(text) - 1)] * 2).map(sorted), max_size=6)):
        end = last + 1
        quoted = text[start:end]
        kind = draw(st.sampled_from(["exact", "exact", "exact", "exact", "newline", "newline", "utf-16", "bytes",
        "shifted", "foreign", "no text",
                                     "no span", "neither"]))  # fmt: skip
        first, last_one = offsets(text, start, end, kind if kind in ("utf-16", "bytes") else "characters")
        shift = draw(st.integers(-5, 40)) if kind == "shifted" else 0
        one = claim(
            None if kind in ("no text", "neither") else draw(st.text(characters)) if kind == "foreign" else quoted,
            None if kind in ("no span", "neither") else first + shift,
            last_one + shift + (kind == "newline"),
            draw(st.lists(st.integers(0, 4), max_size=3)),
        )
        claims.append(one)
        exact = kind in ("exact", "newline") and one["retrievedReferences"]
        meant.append((start, start + len(quoted.rstrip("\n") or quoted)) if exact else None)
    return text, claims, meant


@st.composite
def orders(draw, text, claims):
    """The events of a stream: the text in some pieces, the citations in their order somewhere between them."""
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    events = [{"output": {"text": text[a:b]}} for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    at = 0
    for one in claims:
        at = draw(st.integers(at, len(events)))
        events.insert(
            at, doubled(one) if draw(st.booleans()) else {"citation": draw(st.sampled_from([one, {"citation": one}]))}
        )
        at += 1
    return events


@given(st.data())
def test_any_citation_is_a_slice_of_the_answer(data):
    text, claims, _ = data.draw(answers())
    at_once = whole(text, claims)
    assert at_once.text == text
    assert_slices(at_once)
    for events in (data.draw(orders(text, claims)), data.draw(orders(text, claims))):
        reader = streamed(events)
        assert (reader.text, reader.citations, reader.passages) == (text, at_once.citations, at_once.passages)


@given(st.data())
def test_exact_offsets_find_their_repetition(data):
    text, claims, meant = data.draw(answers())
    exact = [(one, place) for one, place in zip(claims, meant, strict=True) if place is not None]
    reader = whole(text, [one for one, _ in exact])
    assert spans(reader) == [place for _, place in exact]
    reader = streamed(data.draw(orders(text, [one for one, _ in exact])))
    assert spans(reader) == [place for _, place in exact]


@given(sentences, st.sampled_from(["characters", "utf-16", "bytes"]), st.booleans())
def test_citations_of_consecutive_sentences_do_not_overlap(pieces, unit, newline):
    text, claims, at = "".join(pieces), [], 0
    for piece in pieces:
        first, last = offsets(text, at, at + len(piece), unit)
        claims.append(claim(piece, first, last + newline))
        at += len(piece)
    found = spans(whole(text, claims))
    assert len(found) == len(pieces)
    if unit == "characters":
        assert found == sorted(found)
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(found))
