"""Requests of Retrieve: valid for Bedrock, or refused with a reason before sending."""

from __future__ import annotations

import base64
import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from service_constraints import broken

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.knowledge_base import SearchOptions, parse_knowledge_base_id, retrieve_request, where
from bedrock_routing_integrations.knowledge_base.images import image_query, media_type_of

KB = parse_knowledge_base_id("ABCDEFGHIJ")
MODEL = "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0"
ATTRIBUTE = {"key": "year", "type": "NUMBER", "description": "The year of the discovery"}
RERANKER = "cohere.rerank-v3-5:0"
PNG = b"\x89PNG\r\n\x1a\n" + b"x"


def request(
    query="moons", *, managed=False, region="us-east-1", image=None, next_token=None, knowledge_base=KB, **options
):
    made = SearchOptions(**options)
    made.check()
    return retrieve_request(
        knowledge_base, query, made, managed=managed, region=region, image=image, next_token=next_token
    )


def sent(made, managed=False):
    section = "managedSearchConfiguration" if managed else "vectorSearchConfiguration"
    return made["retrievalConfiguration"][section]


# --- what is sent


def test_without_options_nothing_is_sent_but_the_question():
    assert request() == {"knowledgeBaseId": "ABCDEFGHIJ", "retrievalQuery": {"text": "moons"}}


def test_every_option_reaches_its_place():
    made = request(
        k=7, search_type="HYBRID", filter=where("year") > 1800, reranking=RERANKER, user_context="u1",
        implicit_filter={"modelArn": MODEL, "metadataAttributes": [ATTRIBUTE]}, next_token="t1",
        guardrail={"guardrailId": "gr1", "guardrailVersion": "DRAFT"},
    )  # fmt: skip
    model = {"modelArn": f"arn:aws:bedrock:us-east-1::foundation-model/{RERANKER}"}
    assert made == {
        "knowledgeBaseId": "ABCDEFGHIJ",
        "retrievalQuery": {"text": "moons"},
        "retrievalConfiguration": {
            "vectorSearchConfiguration": {
                "numberOfResults": 7,
                "overrideSearchType": "HYBRID",
                "filter": {"greaterThan": {"key": "year", "value": 1800}},
                "implicitFilterConfiguration": {"modelArn": MODEL, "metadataAttributes": [ATTRIBUTE]},
                "rerankingConfiguration": {
                    "type": "BEDROCK_RERANKING_MODEL",
                    "bedrockRerankingConfiguration": {"modelConfiguration": model},
                },
            }
        },
        "guardrailConfiguration": {"guardrailId": "gr1", "guardrailVersion": "DRAFT"},
        "userContext": {"userId": "u1"},
        "nextToken": "t1",
    }
    assert broken(made, "Retrieve") == []


def test_a_managed_knowledge_base_is_searched_by_its_own_members():
    made = request(
        managed=True,
        knowledge_base_type="MANAGED",
        k=3,
        filter={"equals": {"key": "a", "value": 1}},
        reranking="MANAGED",
    )
    assert sent(made, managed=True) == {
        "numberOfResults": 3, "filter": {"equals": {"key": "a", "value": 1}}, "rerankingModelType": "MANAGED",
    }  # fmt: skip
    made = request(managed=True, knowledge_base_type="MANAGED", reranking=RERANKER)
    assert sent(made, managed=True)["rerankingModelType"] == "CUSTOM"
    assert broken(made, "Retrieve") == []


@pytest.mark.parametrize(
    ("region", "partition"), [("us-east-1", "aws"), ("us-gov-west-1", "aws-us-gov"), ("cn-north-1", "aws-cn")]
)
def test_reranking_model_id_becomes_an_arn_of_the_region(region, partition):
    made = sent(request(region=region, reranking=RERANKER))["rerankingConfiguration"]["bedrockRerankingConfiguration"]
    arn = made["modelConfiguration"]["modelArn"]
    assert arn == f"arn:{partition}:bedrock:{region}::foundation-model/{RERANKER}"
    assert request(reranking=arn) == request(region=region, reranking=RERANKER)


def test_a_whole_reranking_configuration_is_sent_as_it_is():
    whole = {
        "type": "BEDROCK_RERANKING_MODEL",
        "bedrockRerankingConfiguration": {"modelConfiguration": {"modelArn": MODEL}, "numberOfRerankedResults": 3},
    }
    assert sent(request(reranking=whole))["rerankingConfiguration"] == whole


def test_single_options_win_over_retrieval_config():
    given_config = {
        "vectorSearchConfiguration": {"numberOfResults": 9, "overrideSearchType": "SEMANTIC", "filter": None}
    }
    before = copy.deepcopy(given_config)
    made = request(retrieval_config=given_config, k=3, filter=where("a") == 1)
    assert sent(made) == {
        "numberOfResults": 3, "overrideSearchType": "SEMANTIC", "filter": {"equals": {"key": "a", "value": 1}},
    }  # fmt: skip
    assert sent(request(retrieval_config=given_config)) == {"numberOfResults": 9, "overrideSearchType": "SEMANTIC"}
    assert given_config == before
    managed = {"managedSearchConfiguration": {"numberOfResults": 4}}
    assert request(managed=True, retrieval_config=managed)["retrievalConfiguration"] == managed


@pytest.mark.parametrize("guardrail", [
    {"guardrailId": "gr1", "guardrailVersion": "1"},
    {"guardrailIdentifier": "gr1", "guardrailVersion": "1"},
    {"guardrailIdentifier": "gr1", "guardrailVersion": "1", "trace": "enabled"},
    {"guardrailIdentifier": "arn:aws:bedrock:us-east-1:123456789012:guardrail/gr1", "guardrailVersion": 1},
])  # fmt: skip
def test_a_guardrail_may_be_given_as_converse_takes_it(guardrail):
    made = request(guardrail=guardrail)
    assert made["guardrailConfiguration"] == {"guardrailId": "gr1", "guardrailVersion": "1"}


@pytest.mark.parametrize("user", ["u1", {"userId": "u1"}])
def test_the_user_whose_rights_count_is_sent(user):
    assert request(user_context=user)["userContext"] == {"userId": "u1"}


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (PNG, "png"),
        (b"\xff\xd8\xff\xe0", "jpeg"),
        (b"GIF87a.", "gif"),
        (b"GIF89a.", "gif"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "webp"),
    ],
)
def test_an_image_is_sent_with_its_format(data, kind):
    uri = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    for image in (data, bytearray(data), uri):
        made = request("", image=image)
        assert made["retrievalQuery"] == {"type": "IMAGE", "image": {"format": kind, "inlineContent": data}}
        assert broken(made, "Retrieve") == []
    assert request("a moon", image=data)["retrievalQuery"]["text"] == "a moon"


def test_options_are_replaced_for_one_call():
    options = SearchOptions(k=3, search_type="HYBRID")
    assert options.changed({"k": 5}) == SearchOptions(k=5, search_type="HYBRID")
    assert options.changed({}) is options
    with pytest.raises(InvalidRequestError, match="takes no 'top_k': did you mean 'k'"):
        options.changed({"top_k": 5})


@pytest.mark.parametrize(
    ("options", "depends"),
    [
        ({}, False), ({"guardrail": {}, "user_context": "u"}, False), ({"k": 3}, True), ({"filter": where("a") == 1},
        True),
        ({"k": 3, "retrieval_config": {"vectorSearchConfiguration": {}}}, False), ({"reranking": RERANKER}, True),
    ],
)  # fmt: skip
def test_depends_on_type_only_with_typed_options(options, depends):
    assert SearchOptions(**options).depends_on_type is depends


# --- ids


@pytest.mark.parametrize("text", ["ABCDEFGHIJ", " ABCDEFGHIJ\n", "0123456789"])
def test_a_knowledge_base_is_named_by_its_id(text):
    parsed = parse_knowledge_base_id(text)
    assert (parsed.text, parsed.id, parsed.region) == (text.strip(), text.strip(), None)


@pytest.mark.parametrize("partition", ["aws", "aws-us-gov", "aws-cn", "aws-iso-b"])
def test_a_knowledge_base_is_named_by_its_arn(partition):
    text = f"arn:{partition}:bedrock:eu-west-1:123456789012:knowledge-base/ABCDEFGHIJ"
    parsed = parse_knowledge_base_id(text)
    assert (parsed.text, parsed.id, parsed.region) == (text, "ABCDEFGHIJ", "eu-west-1")
    assert broken(request(knowledge_base=parsed), "Retrieve") == []


@pytest.mark.parametrize(
    "text",
    [
        "", "short", "ABCDEFGHIJK", "ABCDE-GHIJ", "arn:aws:bedrock:us-east-1:123456789012:agent/ABCDEFGHIJ", None, 7,
        "arn:awsome:bedrock:us-east-1:123456789012:knowledge-base/ABCDEFGHIJ", "ÄBCDEFGHIJ", "١٢٣٤٥٦٧٨٩٠",
        "arn:aws:bedrock::123456789012:knowledge-base/ABCDEFGHIJ",
    ],
)  # fmt: skip
def test_invalid_knowledge_base_id_is_refused(text):
    with pytest.raises(InvalidRequestError, match="knowledge_base_id"):
        parse_knowledge_base_id(text)


# --- what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *[({"k": k}, "1 to 100") for k in (0, 101, -1, True, "5", 2.0)],
        ({"search_type": "hybrid"}, "HYBRID or SEMANTIC"),
        ({"knowledge_base_type": "vector"}, "VECTOR"),
        ({"score_threshold": "0.5"}, "score_threshold"),
        ({"filter": {"equal": {"key": "a", "value": 1}}}, "did you mean 'equals'"),
        ({"retrieval_config": {"vectorSearchConfiguration": {"filter": {"equal": 1}}}}, "did you mean 'equals'"),
        ({"retrieval_config": {"vectorSearchConfiguration": {"numberOfResults": 500}}}, "1 to 100"),
        ({"retrieval_config": {"nextToken": "t"}}, "The token of a page belongs to the request"),
        ({"retrieval_config": "x"}, "retrieval_config takes"),
        ({"retrieval_config": {"vectorSearchConfiguration": "x"}}, "must be a dictionary"),
        ({"score_threshold": float("nan")}, "score_threshold must be a number"),
        ({"guardrail": "gr1"}, "guardrail_config=.gr1. is not valid"),
        ({"implicit_filter": {"modelArn": MODEL}}, "metadataAttributes"),
        ({"implicit_filter": {"modelArn": MODEL, "metadataAttributes": []}}, "1 to 25"),
        ({"implicit_filter": {"modelArn": MODEL, "metadataAttributes": [{"key": "a"}]}}, "key, type and description"),
        ({"implicit_filter": {"modelArn": MODEL, "metadataAttributes": [{**ATTRIBUTE, "type": "INT"}]}}, "STRING"),
        ({"implicit_filter": {"modelArn": "", "metadataAttributes": [ATTRIBUTE]}}, "modelArn"),
        ({"implicit_filter": {"modelArn": MODEL, "metadataAttributes": [{**ATTRIBUTE, "key": ""}]}}, "key"),
        ({"implicit_filter": {"modelArn": MODEL, "metadataAttributes": [{**ATTRIBUTE, "description": "d" * 1025}]}},
        "description"),
        ({"reranking": "MANAGED"}, "managed knowledge bases"),
        ({"reranking": ""}, "reranking"),
        ({"reranking": "arn:aws:bedrock:us-east-1:123456789012:inference-profile/x"}, "foundation model"),
        ({"guardrail": {"guardrailId": "gr1"}}, "guardrailVersion"),
        ({"guardrail": {"guardrailId": "GR-1", "guardrailVersion": "1"}}, "guardrailId"),
        ({"guardrail": {"guardrailId": "gr1", "guardrailVersion": "latest"}}, "DRAFT"),
        ({"guardrail": {"guardrailId": "gr1", "guardrailVersion": "0"}}, "DRAFT"),
        ({"user_context": ""}, "user_context"),
        ({"user_context": {}}, "user_context"),
        ({"user_context": {"id": "u"}}, "user_context"),
        ({"user_context": 7}, "user_context"),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_invalid_options_are_refused_at_once(options, message):
    with pytest.raises(InvalidRequestError, match=message):
        SearchOptions(**options).check()


@pytest.mark.parametrize("name", ["search_type", "implicit_filter"])
def test_argument_unknown_to_managed_knowledge_bases_is_refused(name):
    value = {"search_type": "HYBRID", "implicit_filter": {"modelArn": MODEL, "metadataAttributes": [ATTRIBUTE]}}[name]
    with pytest.raises(InvalidRequestError, match=f"{name}.*managed"):
        SearchOptions(knowledge_base_type="MANAGED", **{name: value}).check()


@pytest.mark.parametrize("managed", [True, False])
def test_the_configuration_of_the_other_kind_is_refused(managed):
    other = "vectorSearchConfiguration" if managed else "managedSearchConfiguration"
    with pytest.raises(InvalidRequestError, match=other):
        retrieve_request(
            KB,
            "x",
            SearchOptions(retrieval_config={other: {"numberOfResults": 3}}),
            managed=managed,
            region="us-east-1",
        )


@pytest.mark.parametrize(
    ("query", "image", "message"),
    [
        ("", None, "empty"), (" \n", None, "empty"), (None, None, "string"), ("x" * 20_001, None, "20,001"),
        ("x", b"no image", "PNG"), ("x", b"", "PNG"), ("x", "photo.png", "data URI"), ("x", 7, "data URI"),
        ("x", "data:image/png;base64,@@", "base64"), ("x", PNG + bytes(5_242_880), "5,242,8"),
    ],
)  # fmt: skip
def test_a_query_that_bedrock_would_refuse_is_not_sent(query, image, message):
    with pytest.raises(InvalidRequestError, match=message) as refused:
        request(query, image=image)
    assert len(str(refused.value)) < 500, "the image is not in the message"


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("s3://b/a.png", "image/png"), ("s3://b/a%20b.mp3", "audio/mpeg"), ("https://x.y/a.mp4?sig=1", "video/mp4"),
        ("data:image/webp;base64,AA==", "image/webp"), ("s3://b/a", None), ("", None), (None, None), ("https://[",
        None),
    ],
)  # fmt: skip
def test_media_type_of_a_uri(uri, kind):
    assert media_type_of(uri) == kind


def test_an_image_query_does_not_hold_the_callers_buffer():
    data = bytearray(PNG)
    made = image_query(data)
    data.clear()
    assert made["inlineContent"] == PNG


# --- any options

ids = st.sampled_from(["ABCDEFGHIJ", "arn:aws:bedrock:us-east-1:123456789012:knowledge-base/ABCDEFGHIJ"])
short = st.text(max_size=4)
attributes = st.fixed_dictionaries({
    "key": st.one_of(st.text(max_size=3), st.just("k" * 257)), "type": st.sampled_from(["STRING", "NUMBER", "BOOLEAN",
    "STRING_LIST"]),
    "description": st.one_of(st.text(max_size=3), st.just("d" * 1024)),
})  # fmt: skip
options = st.fixed_dictionaries({}, optional={
    "k": st.one_of(st.none(), st.integers(-1, 102)),
    "search_type": st.sampled_from([None, "HYBRID", "SEMANTIC", ""]),
    "filter": st.sampled_from([None, where("a") == 1, {"in": {"key": "a", "value": ("x", 1)}},
    (where("a") > 1) & (where("b") < 2)]),
    "implicit_filter": st.one_of(st.none(), st.fixed_dictionaries({
        "modelArn": st.sampled_from([MODEL, "", "amazon.nova-lite-v1:0", "not an arn"]),
        "metadataAttributes": st.lists(attributes, max_size=26),
    })),
    "reranking": st.sampled_from([None, RERANKER, MODEL, "MANAGED", "NONE", "", "arn:aws:bedrock:us-east-1:1:x"]),
    "guardrail": st.one_of(st.none(), st.fixed_dictionaries({
        "guardrailId": st.one_of(short, st.sampled_from(["gr1", "g" * 65])),
        "guardrailVersion": st.one_of(short, st.integers(-1, 10**6), st.sampled_from(["DRAFT", "1"])),
    })),
    "user_context": st.one_of(st.none(), short, st.fixed_dictionaries({"userId": short})),
    "retrieval_config": st.sampled_from([
        None, {}, {"vectorSearchConfiguration": {"numberOfResults": 5, "filter": None}},
        {"managedSearchConfiguration": {}},
        {"vectorSearchConfiguration": None}, {"managedSearchConfiguration": {"numberOfResults": None}},
    ]),
    "knowledge_base_type": st.sampled_from([None, "VECTOR", "MANAGED"]),
})  # fmt: skip


@given(
    options, st.booleans(), ids, st.one_of(st.text(max_size=5), st.just("x" * 20_000)),
    st.sampled_from([None, PNG]), st.sampled_from([None, "", "token", "a token", "t" * 2049]),
)  # fmt: skip
def test_any_request_sent_is_accepted_by_bedrock(chosen, managed, knowledge_base, query, image, token):
    before = copy.deepcopy(chosen)
    managed = chosen.get("knowledge_base_type") == "MANAGED" if chosen.get("knowledge_base_type") else managed
    try:
        made = request(
            query, managed=managed, image=image, next_token=token,
            knowledge_base=parse_knowledge_base_id(knowledge_base),
            **chosen,
        )  # fmt: skip
    except InvalidRequestError:
        made = None  # refused before it was sent
    if made is not None:
        assert broken(made, "Retrieve") == []
    assert chosen == before
