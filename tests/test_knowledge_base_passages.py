"""Whatever a knowledge base returns becomes a passage: its text, its one source, and never an error."""

from __future__ import annotations

import copy
import json

import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock_routing_integrations.knowledge_base import AnswerReader, Passage, read_passage

MODEL = botocore.session.Session().get_service_model("bedrock-agent-runtime")
LOCATION, CONTENT = MODEL.shape_for("RetrievalResultLocation"), MODEL.shape_for("RetrievalResultContent")
DATA_URI = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUg=="


def result(content, **more):
    return {"content": content, "location": {"type": "S3", "s3Location": {"uri": "s3://b/key.md"}}, **more}


# --- content


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"type": "TEXT", "text": "Io is hot."}, {"text": "Io is hot."}),
        ({"text": "Io is hot."}, {"text": "Io is hot."}),
        (
            {"type": "IMAGE", "byteContent": DATA_URI},
            {"text": "", "content_type": "IMAGE", "media_type": "image/png", "data_uri": DATA_URI},
        ),
        (
            {"type": "AUDIO", "audio": {"s3Uri": "s3://b/talk.mp3", "transcription": "Hello."}},
            {"text": "Hello.", "content_type": "AUDIO", "media_type": "audio/mpeg", "media_uri": "s3://b/talk.mp3"},
        ),
        (
            {"type": "AUDIO", "audio": {"s3Uri": "s3://b/talk.mp3"}},
            {"text": "", "content_type": "AUDIO", "media_type": "audio/mpeg", "media_uri": "s3://b/talk.mp3"},
        ),
        (
            {"type": "VIDEO", "video": {"s3Uri": "s3://b/film.mp4", "summary": "A launch."}},
            {"text": "A launch.", "content_type": "VIDEO", "media_type": "video/mp4", "media_uri": "s3://b/film.mp4"},
        ),
        ({"byteContent": DATA_URI}, {"text": "", "content_type": "IMAGE", "media_type": "image/png",
        "data_uri": DATA_URI}),
        ({"type": "HOLOGRAM", "text": "New."}, {"text": "New.", "content_type": "HOLOGRAM",
        "media_type": "text/markdown"}),
    ],
)  # fmt: skip
def test_every_type_of_content_is_read(content, expected):
    passage = read_passage(result(content))
    standard = {"content_type": "TEXT", "source": "s3://b/key.md", "location": result({})["location"]}
    assert passage == Passage(**{**standard, **expected})


def test_every_content_type_is_tested():
    assert set(CONTENT.members["type"].enum) == {"TEXT", "IMAGE", "ROW", "AUDIO", "VIDEO"}
    assert set(CONTENT.members) == {"type", "text", "byteContent", "row", "audio", "video"}


@pytest.mark.parametrize(
    ("kind", "kind_given", "value"),
    [
        ("LONG", "42", 42), ("LONG", "-7", -7), ("DOUBLE", "1.5", 1.5), ("DOUBLE", "1e3", 1000.0), ("BOOLEAN", "true",
        True),
        ("BOOLEAN", "FALSE", False), ("NULL", "", None), ("NULL", "null", None), ("STRING", "42", "42"), ("STRING",
        "", ""),
        ("BLOB", "AAEC", "AAEC"), ("LONG", "many", "many"), ("DOUBLE", "NaN", "NaN"), ("DOUBLE", "inf", "inf"),
        ("BOOLEAN", "maybe", "maybe"), ("LONG", None, None), ("NEW_TYPE", "x", "x"), (None, "x", "x"),
    ],
)  # fmt: skip
def test_a_row_is_json_whose_values_have_their_types(kind, kind_given, value):
    row = [
        {"columnName": "Größe", "columnValue": kind_given, "type": kind},
        {"columnName": "b", "columnValue": "x", "type": "STRING"},
    ]
    passage = read_passage(result({"type": "ROW", "row": row}))
    assert passage.text == json.dumps({"Größe": value, "b": "x"}, ensure_ascii=False)
    assert passage.content_type == "ROW"


def test_every_column_type_is_tested():
    kinds = MODEL.shape_for("RetrievalResultContentColumn").members["type"].enum
    assert set(kinds) == {"BLOB", "BOOLEAN", "DOUBLE", "NULL", "LONG", "STRING"}


def test_columns_of_one_name_are_both_kept():
    row = [
        {"columnName": "id", "columnValue": "1", "type": "LONG"},
        {"columnName": "id", "columnValue": "2", "type": "LONG"},
    ]
    text = read_passage(result({"type": "ROW", "row": row})).text
    assert json.loads(text) == [{"columnName": "id", "columnValue": 1}, {"columnName": "id", "columnValue": 2}]


# --- location, score, metadata


@pytest.mark.parametrize("member", [name for name in LOCATION.members if name != "type"])
def test_every_location_of_the_service_gives_its_one_source(member):
    (name,) = LOCATION.members[member].members
    location = {"type": "S3", member: {name: f"it-is-{member}"}}
    assert read_passage({"content": {"text": "x"}, "location": location}).source == f"it-is-{member}"


@pytest.mark.parametrize(
    ("location", "metadata", "source"),
    [
        (None, {"x-amz-bedrock-kb-source-uri": "s3://b/meta.md"}, "s3://b/meta.md"),
        (None, {"_source_uri": "https://x.y"}, "https://x.y"),
        ({"type": "S3"}, {"x-amz-bedrock-kb-source-uri": "s3://b/meta.md"}, "s3://b/meta.md"),
        ({"type": "S3", "s3Location": {}}, {"x-amz-bedrock-kb-source-uri": "s3://b/meta.md"}, "s3://b/meta.md"),
        ({"type": "NEW", "newLocation": {"uri": "new://x"}}, {"x-amz-bedrock-kb-source-uri": "s3://b/meta.md"},
        "new://x"),
        (None, {}, None), (None, None, None),
    ],
)  # fmt: skip
def test_metadata_is_the_fallback_for_the_source(location, metadata, source):
    assert read_passage({"content": {"text": "x"}, "location": location, "metadata": metadata}).source == source


def test_audio_without_location_has_its_media_uri():
    content = {"type": "AUDIO", "audio": {"s3Uri": "s3://b/talk.mp3"}}
    assert read_passage({"content": content}).source == "s3://b/talk.mp3"


def test_score_metadata_and_id_are_as_the_service_gave_them():
    metadata = {"year": 1610, "tags": ["moon"], "x-amz-bedrock-kb-document-page-number": 3.0}
    given_result = result({"text": "x"}, score=0.5, metadata=metadata, documentId="d1")
    passage = read_passage(given_result)
    assert (passage.score, passage.metadata, passage.document_id) == (0.5, metadata, "d1")
    passage.metadata["year"] = 1
    assert given_result["metadata"]["year"] == 1610


@pytest.mark.parametrize("score", [None, "0.5", True, float("nan")])
def test_a_score_that_is_none_is_none(score):
    assert read_passage(result({"text": "x"}, score=score)).score is None


def test_key_is_equal_for_the_same_piece():
    one, two = (read_passage(result({"text": "x"}, score=score)) for score in (0.5, 0.7))
    other = read_passage(result({"text": "y"}))
    chunk = read_passage(result({"text": "x"}, metadata={"x-amz-bedrock-kb-chunk-id": "c2"}))
    assert one.key == two.key
    assert list(dict.fromkeys(each.key for each in (one, other, two, chunk, other))) == [one.key, other.key, chunk.key]


def test_an_image_is_not_in_a_repr():
    assert "iVBOR" not in repr(read_passage(result({"type": "IMAGE", "byteContent": DATA_URI})))


# --- anything

anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.binary(max_size=3),
              st.sampled_from(["https://[", "s3://b/a.png", DATA_URI, "data:", "TEXT", "1" * 5000, float("inf")])),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=3), inner, max_size=2)),
    max_leaves=4,
)  # fmt: skip


def odd(**members):
    return st.one_of(
        anything,
        st.fixed_dictionaries({}, optional={name: st.one_of(anything, kind) for name, kind in members.items()}),
    )


cells = odd(
    columnName=st.text(max_size=2),
    columnValue=st.text(max_size=3),
    type=st.sampled_from(["LONG", "DOUBLE", "BOOLEAN", "NULL"]),
)
contents = odd(
    type=st.sampled_from(["TEXT", "IMAGE", "ROW", "AUDIO", "VIDEO"]), text=st.text(max_size=3),
    byteContent=st.just(DATA_URI),
    row=st.lists(cells, max_size=3), audio=odd(s3Uri=st.just("s3://b/a.mp3"), transcription=st.text(max_size=3)),
    video=odd(s3Uri=st.just("s3://b/a.mp4"), summary=st.text(max_size=3)),
)  # fmt: skip
results = odd(
    content=contents, location=odd(type=st.just("S3"), s3Location=odd(uri=st.just("s3://b/x"))),
    metadata=odd(**{"x-amz-bedrock-kb-chunk-id": st.text(max_size=2), "_source_uri": st.text(max_size=2)}),
    score=st.floats(), documentId=st.text(max_size=2),
)  # fmt: skip


@pytest.mark.parametrize(
    "given_result",
    [
        None, [], "text", {}, {"content": None}, {"content": []}, {"content": {"type": ["TEXT"], "text": 7}},
        result({"text": "x"}, metadata={"x-amz-bedrock-kb-chunk-id": ["c"]}),
        result({"text": "x"}, metadata={"x-amz-bedrock-kb-chunk-id": {}}), result({"text": "x"}, documentId=7),
        result({"type": "ROW", "row": [{"columnName": "a", "columnValue": float("inf"), "type": "LONG"}]}),
        result({"type": "ROW", "row": [{"columnName": ["a"], "columnValue": b"x", "type": {}}, None]}),
        result({"type": "ROW", "row": None}), result({"type": "ROW", "row": "a,b"}), result({"type": "AUDIO",
        "audio": "x"}),
        {"content": {"type": "VIDEO", "video": {"s3Uri": "https://["}}}, result({"type": "IMAGE", "byteContent": b"x"}),
        {"content": {"type": "IMAGE"}, "location": {"webLocation": {"url": "https://["}}}, result({"text": None}),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_missing_members_are_left_out(given_result):
    passage = read_passage(given_result)
    assert {passage.key: passage}[passage.key] is passage, "it can be told from others"
    assert passage.content_type
    assert isinstance(passage.text, str)
    assert passage.document_id is None


@given(st.lists(results, max_size=3))
def test_malformed_result_never_raises(given_results):
    before = copy.deepcopy(given_results)
    good = result({"text": "good"})
    passages = [read_passage(one) for one in [*given_results, good]]
    for passage in passages:
        assert isinstance(passage.text, str)
        assert isinstance(passage.content_type, str)
        for text in (passage.source, passage.media_type, passage.media_uri, passage.data_uri, passage.document_id):
            assert text is None or isinstance(text, str)
        assert passage.score is None or passage.score == passage.score
        assert isinstance(passage.metadata, dict)
    assert passages[-1].text == "good"
    reader = AnswerReader()
    reader.read_response({"output": {"text": "good"}, "citations": [{"retrievedReferences": [*given_results, good]}]})
    assert reader.passages[-1].key == passages[-1].key or passages[-1] in reader.passages
    assert repr(given_results) == repr(before)


@given(st.lists(cells, max_size=4))
def test_any_row_is_json(row):
    json.loads(read_passage(result({"type": "ROW", "row": row})).text)


@given(contents)
def test_base64_is_never_text(content):
    passage = read_passage(result(content))
    if passage.content_type != "ROW" and not (
        isinstance(content, dict) and "base64" in repr({**content, "byteContent": ""})
    ):
        assert "base64" not in passage.text
