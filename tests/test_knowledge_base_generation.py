"""Requests of RetrieveAndGenerate: valid for Bedrock, or refused with a reason before sending."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from service_constraints import broken

from bedrock_routing_integrations import parse_target
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.knowledge_base import (
    GenerationOptions,
    Question,
    SearchOptions,
    external_source,
    generate_request,
    parse_knowledge_base_id,
    read_source,
    where,
)

ROUTER = "arn:aws:bedrock:us-east-1:123456789012:default-prompt-router/anthropic.claude:1"
ARN = "arn:aws:bedrock:eu-west-1:123456789012:knowledge-base/ABCDEFGHIJ"
KEY = "arn:aws:kms:us-east-1:123456789012:key/12345678-1234-1234-1234-123456789012"
KB = parse_knowledge_base_id("ABCDEFGHIJ")
TEMPLATE = "Answer.\n$search_results$\n$output_format_instructions$\n$query$ $current_time$"
ORCHESTRATION = "$conversation_history$ $output_format_instructions$ $query$"
PDF = {"data": b"%PDF", "contentType": "application/pdf", "identifier": "report.pdf"}
TARGETS = [
    ROUTER, "anthropic.claude-3-haiku-20240307-v1:0", "us.amazon.nova-lite-v1:0",
    "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-3-haiku-20240307-v1:0",
    "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-3-haiku-20240307-v1:0",
    "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abcdef123456",
    "arn:aws:bedrock:us-east-1:123456789012:prompt-router/abcdef123456",
    "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abcdef123456",
    "arn:aws:bedrock:us-east-1:123456789012:imported-model/abcdef123456",
    "arn:aws:sagemaker:us-east-1:123456789012:endpoint/my-endpoint",
]  # fmt: skip


def request(text="How large is Europa?", *, model=ROUTER, search=None, kb=KB, source=None, session_id=None, **options):
    question = Question(text=text, knowledge_base=kb, source=source, session_id=session_id)
    made = GenerationOptions(**options)
    made.check(limited=True)
    return generate_request(question, parse_target(model), search or SearchOptions(), made, region="us-east-1")


def configuration(made):
    whole = made["retrieveAndGenerateConfiguration"]
    return whole.get("knowledgeBaseConfiguration") or whole["externalSourcesConfiguration"]


# --- what is sent


def test_without_options_nothing_is_sent_but_the_question():
    assert request() == {
        "input": {"text": "How large is Europa?"},
        "retrieveAndGenerateConfiguration": {
            "type": "KNOWLEDGE_BASE",
            "knowledgeBaseConfiguration": {"knowledgeBaseId": "ABCDEFGHIJ", "modelArn": ROUTER},
        },
    }


def test_every_option_reaches_its_place():
    made = request(
        search=SearchOptions(k=3, filter=where("a") == 1, user_context="u1"), session_id="s-1", kms_key_arn=KEY,
        performance_config={"latency": "optimized"}, query_decomposition=True, prompt_template=TEMPLATE,
        inference_config={"maxTokens": 100, "temperature": 0, "topP": 1.0, "stopSequences": ("END",)},
        orchestration_prompt_template=ORCHESTRATION, additional_model_request_fields={"top_k": 50},
        guardrail={"guardrailIdentifier": "gr1", "guardrailVersion": 2},
    )  # fmt: skip
    assert broken(made, "RetrieveAndGenerate") == broken(made, "RetrieveAndGenerateStream") == []
    assert (made["sessionId"], made["sessionConfiguration"]) == ("s-1", {"kmsKeyArn": KEY})
    assert made["userContext"] == {"userId": "u1"}
    found = configuration(made)
    assert found["retrievalConfiguration"] == {
        "vectorSearchConfiguration": {"numberOfResults": 3, "filter": {"equals": {"key": "a", "value": 1}}}
    }
    assert found["generationConfiguration"] == {
        "performanceConfig": {"latency": "optimized"},
        "promptTemplate": {"textPromptTemplate": TEMPLATE},
        "guardrailConfiguration": {"guardrailId": "gr1", "guardrailVersion": "2"},
        "additionalModelRequestFields": {"top_k": 50},
        "inferenceConfig": {
            "textInferenceConfig": {"maxTokens": 100, "temperature": 0, "topP": 1.0, "stopSequences": ["END"]}
        },
    }
    assert found["orchestrationConfiguration"] == {
        "performanceConfig": {"latency": "optimized"},
        "promptTemplate": {"textPromptTemplate": ORCHESTRATION},
        "queryTransformationConfiguration": {"type": "QUERY_DECOMPOSITION"},
    }


@pytest.mark.parametrize("latency", ["standard", "optimized"])
def test_latency_holds_for_orchestration_and_answer(latency):
    found = configuration(request(performance_config={"latency": latency}))
    for part in ("generationConfiguration", "orchestrationConfiguration"):
        assert found[part]["performanceConfig"] == {"latency": latency}


def test_knowledge_base_arn_is_sent_as_id():
    made = request(kb=parse_knowledge_base_id(ARN))
    assert configuration(made)["knowledgeBaseId"] == "ABCDEFGHIJ"
    assert broken(made, "RetrieveAndGenerate") == []


@pytest.mark.parametrize("model", TARGETS)
def test_every_target_is_sent_as_it_is(model):
    for source in (None, "s3://bucket/key.md"):
        made = request(model=f" {model}\n", source=source)
        assert configuration(made)["modelArn"] == model
        assert broken(made, "RetrieveAndGenerate") == []


@pytest.mark.parametrize(
    ("source", "sent"),
    [
        ("s3://bucket/a b/c.pdf", {"sourceType": "S3", "s3Location": {"uri": "s3://bucket/a b/c.pdf"}}),
        (PDF, {"sourceType": "BYTE_CONTENT", "byteContent": PDF}),
        ({**PDF, "data": bytearray(b"%PDF")}, {"sourceType": "BYTE_CONTENT", "byteContent": PDF}),
    ],
)
def test_a_document_is_an_alternative_to_a_knowledge_base(source, sent):
    made = request(source=source, kb=None, performance_config={"latency": "optimized"}, session_id="s-1")
    assert made["retrieveAndGenerateConfiguration"]["type"] == "EXTERNAL_SOURCES"
    assert configuration(made)["sources"] == [sent]
    assert configuration(made)["generationConfiguration"] == {"performanceConfig": {"latency": "optimized"}}
    assert broken(made, "RetrieveAndGenerate") == []


def test_options_of_none_are_not_sent():
    made = request(inference_config={"maxTokens": None, "temperature": 0.0, "stopSequences": None}, guardrail={})
    assert configuration(made)["generationConfiguration"] == {
        "inferenceConfig": {"textInferenceConfig": {"temperature": 0.0}}
    }
    assert request(inference_config={"maxTokens": None}) == request(inference_config={}) == request()


# --- what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *[({"performance_config": given}, "latency") for given in ({"latency": "fast"}, {}, "optimized",
        {"latency": "optimized", "x": 1})],
        ({"inference_config": {"max_tokens": 5}}, "did you mean 'maxTokens'"),
        ({"inference_config": {"stop": ["x"]}}, "did you mean 'stopSequences'"),
        ({"inference_config": {"topK": 5}}, "it takes maxTokens"),
        ({"inference_config": 7}, "dictionary"),
        *[({"inference_config": {"temperature": t}}, "from 0 to 1") for t in (-0.1, 1.1, "0", True, float("nan"))],
        *[({"inference_config": {"maxTokens": n}}, "maxTokens") for n in (0, -1, 1.5, "5", True, 65_537)],
        *[({"inference_config": {"stopSequences": s}}, "stopSequences") for s in ("END", list("abcde"), [""],
        ["x" * 1001], [3], 7)],
        ({"prompt_template": "Answer $query$"}, "lacks \\$search_results\\$"),
        ({"prompt_template": "$search_results$ $search_result$"}, "did you mean \\$search_results\\$"),
        ({"prompt_template": "$search_results$ $conversation_history$"}, "unknown placeholder"),
        ({"prompt_template": "$search_results$" + "x" * 4000}, "4,000"),
        ({"prompt_template": ""}, "prompt_template"),
        ({"prompt_template": 7}, "prompt_template"),
        ({"orchestration_prompt_template": "$conversation_history$"}, "lacks \\$output_format_instructions\\$"),
        ({"orchestration_prompt_template": ORCHESTRATION + "$search_results$"}, "unknown placeholder"),
        ({"guardrail": {"guardrailId": "gr1"}}, "guardrailVersion"),
        ({"kms_key_arn": "my-key"}, "kms_key_arn"),
        ({"kms_key_arn": ""}, "kms_key_arn"),
        ({"kms_key_arn": "arn:aws:kms:us-east-1:123456789012:alias/mine"}, "kms_key_arn"),
        ({"additional_model_request_fields": "top_k"}, "additional_model_request_fields"),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_invalid_options_are_refused_at_once(options, message):
    with pytest.raises(InvalidRequestError, match=message):
        GenerationOptions(**options).check(limited=True)


def test_long_template_is_valid_for_converse():
    GenerationOptions(prompt_template="$search_results$" + "x" * 5000).check(limited=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": ""}, "not a text"), ({"text": " \n"}, "not a text"), ({"text": None}, "not a text"),
        ({"text": "x" * 1001}, "1,001 characters.*retrieve_then_converse"), ({"kb": None}, "external source"),
        ({"session_id": ""}, "session_id"), ({"session_id": "a b"}, "session_id"), ({"session_id": "x" * 101},
        "session_id"),
        ({"session_id": 7}, "session_id"), ({"search": SearchOptions(k=0)}, "1 to 100"),
        ({"search": SearchOptions(knowledge_base_type="MANAGED")}, "managed.*retrieve_then_converse"),
        ({"search": SearchOptions(retrieval_config={"managedSearchConfiguration": {}})}, "managedSearchConfiguration"),
        ({"search": SearchOptions(user_context="")}, "user_context"),
        ({"model": "arn:aws:bedrock:us-east-1:123456789012:prompt/ABCDEFGHIJ:1"}, "managed prompt"),
    ],
)  # fmt: skip
def test_a_question_that_bedrock_would_refuse_is_not_sent(arguments, message):
    with pytest.raises(InvalidRequestError, match=message):
        request(**arguments)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("https://x.y/z", "s3://bucket/key"), ("s3://bucket", "s3://bucket/key"), ("s3://B/key", "s3://bucket/key"),
        ("s3://bucket/" + "k" * 1024, "s3://bucket/key"), ("s3://bucket/a\nb", "s3://bucket/key"), ("",
        "s3://bucket/key"),
        (b"%PDF", "'data'"), ({"data": b"x"}, "'contentType'"), ([PDF], "'data'"),
        ({**PDF, "data": b""}, "1 to 10,485,760"), ({**PDF, "data": bytes(10_485_761)}, "10,485,761"),
        ({**PDF, "data": "text"}, "str"), ({**PDF, "contentType": "pdf"}, "contentType"), ({**PDF,
        "contentType": None}, "contentType"),
        ({**PDF, "identifier": ""}, "identifier"), ({**PDF, "identifier": "x" * 1025}, "identifier"), ({**PDF,
        "identifier": 3}, "identifier"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_a_document_that_bedrock_would_refuse_is_not_sent(source, message):
    with pytest.raises(InvalidRequestError, match=message) as refused:
        external_source(source)
    assert len(str(refused.value)) < 2000, "the document is not in the message"


# --- any options

odd = st.one_of(st.none(), st.text(max_size=3), st.integers(-2, 70_000), st.floats(-1, 2), st.booleans())
options = st.fixed_dictionaries({}, optional={
    "performance_config": st.sampled_from([None, {"latency": "standard"}, {"latency": "optimized"}, {"latency": "x"}]),
    "inference_config": st.one_of(st.none(), st.dictionaries(
        st.sampled_from(["maxTokens", "temperature", "topP"]), odd), st.fixed_dictionaries({
        "stopSequences": st.one_of(odd, st.lists(st.text(max_size=2), max_size=5))})),
    "prompt_template": st.sampled_from([None, TEMPLATE, "$search_results$", "", "no placeholder"]),
    "orchestration_prompt_template": st.sampled_from([None, ORCHESTRATION, "x"]),
    "query_decomposition": st.booleans(),
    "guardrail": st.sampled_from([None, {}, {"guardrailId": "gr1", "guardrailVersion": "DRAFT"}, {"guardrailId": "x"}]),
    "kms_key_arn": st.sampled_from([None, KEY, "", "key"]),
    "additional_model_request_fields": st.one_of(st.none(), st.dictionaries(st.text(min_size=1, max_size=3), odd)),
})  # fmt: skip
searches = st.fixed_dictionaries({}, optional={
    "k": st.one_of(st.none(), st.integers(0, 101)), "search_type": st.sampled_from([None, "HYBRID", "x"]),
    "filter": st.sampled_from([None, where("a") == 1, {"bad": 1}]), "user_context": st.sampled_from([None, "u", ""]),
    "reranking": st.sampled_from([None, "cohere.rerank-v3-5:0", "MANAGED"]),
    "knowledge_base_type": st.sampled_from([None, "VECTOR", "SQL", "MANAGED"]),
})  # fmt: skip
sources = st.sampled_from([None, None, "s3://bucket/key", "s3://x", PDF, {**PDF, "contentType": "x"}])


def holds_none(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return value is None or any(map(holds_none, inner))


@given(
    options, searches, sources, st.sampled_from(TARGETS), st.sampled_from([None, "s-1", "a.b:c_d", "", "ä", "x" * 101]),
    st.one_of(st.text(max_size=5), st.just("x" * 1000)), st.sampled_from(["ABCDEFGHIJ", ARN]),
)  # fmt: skip
def test_any_request_sent_is_accepted_by_bedrock(chosen, search, source, model, session_id, text, kb):
    before = copy.deepcopy((chosen, search, source))
    try:
        made = request(
            text, model=model, search=SearchOptions(**search), source=source, session_id=session_id,
            kb=parse_knowledge_base_id(kb), **chosen,
        )  # fmt: skip
    except InvalidRequestError:
        made = None  # refused before it was sent
    if made is not None:
        found = broken(made, "RetrieveAndGenerate") + broken(made, "RetrieveAndGenerateStream")
        assert found == []
        extra = configuration(made).get("generationConfiguration", {}).pop("additionalModelRequestFields", {})
        assert extra == (chosen.get("additional_model_request_fields") or {}), "which are the model's own"
        assert not holds_none(made)
        asked = chosen.get("performance_config")
        if asked and source is None:
            for part in ("generationConfiguration", "orchestrationConfiguration"):
                assert configuration(made)[part]["performanceConfig"] == asked
    assert (chosen, search, source) == before


@pytest.mark.parametrize(
    ("encoding", "content_type", "read"),
    [
        ("utf-8", "text/plain", True),
        ("utf-8-sig", "text/plain", True),
        ("utf-8-sig", "text/plain; charset=UTF-8", True),
        ("latin-1", 'text/plain; charset="iso-8859-1"', True),
        ("latin-1", "text/plain", False),
        ("utf-8", "text/plain; charset=hex", False),
        ("utf-8", "text/plain; charset=no-such", False),
    ],
)
def test_source_text_is_decoded_or_attached(encoding, content_type, read):
    data = "Größe".encode(encoding)
    source = read_source({"data": data, "contentType": content_type, "identifier": "a.txt"})
    assert (source.text, source.format, source.data) == ("Größe" if read else None, "txt", data)
