"""`KnowledgeBaseChain`: which arguments it takes in which mode, and that each reaches Bedrock."""

from __future__ import annotations

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.prompts import ChatPromptTemplate
from samples import HAIKU, NOVA_LITE

from bedrock_routing_integrations.errors import InvalidRequestError, InvalidTargetError
from bedrock_routing_integrations.knowledge_base import where
from bedrock_routing_integrations.langchain import ChatBedrockRouter, KnowledgeBaseChain, KnowledgeBaseRetriever

GENERATE, CONVERSE = "retrieve_and_generate", "retrieve_then_converse"
MODES = [GENERATE, CONVERSE]
TITAN = "Who discovered Titan?"
CACHES = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
FAST = "us.amazon.nova-pro-v1:0"
KEY = "arn:aws:kms:us-east-1:123456789012:key/00000000-0000-4000-8000-000000000000"
TEMPLATE = (
    "Answer like a pirate. $output_format_instructions$\n$search_results$\nIt is $current_time$.\nQuestion: $query$"
)
ORCHESTRATION = "Say it plainly. $output_format_instructions$\n$conversation_history$\nFollow-up question: $query$"
DOCUMENT = {"data": b"Krill live in the sea.", "contentType": "text/plain", "identifier": "krill.txt"}


@pytest.fixture
def library(bedrock):
    return bedrock.default_knowledge_base()


def chain_of(base, mode=CONVERSE, model=HAIKU, **arguments):
    return KnowledgeBaseChain(knowledge_base_id=base, model=model, mode=mode, **arguments)


def asked_generate(bedrock):
    request = bedrock.requests("RetrieveAndGenerate")[-1].request
    configuration = request["retrieveAndGenerateConfiguration"]
    return request, configuration.get("knowledgeBaseConfiguration") or configuration["externalSourcesConfiguration"]


def asked_converse(bedrock):
    return bedrock.requests("Converse")[-1].request


def user_text(request):
    return request["messages"][-1]["content"][0]["text"]


# --- what is refused ---

BASE = {"knowledge_base_id": "EMULATEDKB"}
FAKE = FakeListChatModel(responses=["yes"])
OURS = KnowledgeBaseRetriever(**BASE)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({}, "needs model="),
        ({"model": HAIKU}, "external_source, retriever; it has none"),
        ({**BASE, "model": HAIKU, "mode": "retrieve"}, "there are 'retrieve_and_generate' and"),
        ({**BASE, "model": HAIKU, "top_k": 3}, "takes no 'top_k'"),
        ({**BASE, "model": HAIKU, "promt_template": "a"}, "did you mean 'prompt_template'"),
        ({**BASE, "model": HAIKU, "external_source": "s3://bucket/a"}, "it has knowledge_base_id and external_source"),
        ({"knowledge_base_id": "short", "model": HAIKU}, "is not a valid knowledge base id"),
        ({**BASE, "model": FAKE}, "Bedrock calls the model.*, which takes chat models"),
        ({**BASE, "model": 5, "mode": CONVERSE}, "it is a int.*a target, or one of LangChain's chat models"),
        ({**BASE, "model": FAKE, "mode": CONVERSE, "performance_config": {"latency": "optimized"}}, "Set it there"),
        ({**BASE, "model": FAKE, "mode": CONVERSE, "inference_config": {"maxTokens": 5}}, "Set it there"),
        ({**BASE, "model": FAKE, "mode": CONVERSE, "additional_model_request_fields": {"a": 1}}, "Set it there"),
        ({**BASE, "model": FAKE, "mode": CONVERSE, "base_models": [HAIKU]}, "Set it there"),
        ({**BASE, "model": FAKE, "mode": CONVERSE, "cache": "off"}, "Set it there"),
        ({**BASE, "model": HAIKU, "cache": "off"}, "cache is not valid with mode"),
        ({**BASE, "model": HAIKU, "get_session_history": dict}, "get_session_history is not valid with mode"),
        ({**BASE, "model": HAIKU, "score_threshold": 0.5}, "score_threshold is not valid: RetrieveAndGenerate"),
        ({"retriever": OURS, "model": HAIKU}, "retriever is not valid with mode"),
        ({"retriever": OURS, "model": HAIKU, "mode": CONVERSE, "k": 3}, "k is not valid here"),
        ({"retriever": OURS, "model": HAIKU, "mode": CONVERSE, "filter": where("a") == 1}, "belongs to the retriever"),
        ({"retriever": list, "model": HAIKU, "mode": CONVERSE}, "it is a type. Give one of LangChain's"),
        ({"external_source": "http://a/b", "model": HAIKU}, "s3://bucket/key"),
        ({"external_source": {"data": "text"}, "model": HAIKU}, "contentType"),
        ({"external_source": {**DOCUMENT, "data": "text"}, "model": HAIKU}, "is a str"),
        ({"external_source": DOCUMENT, "model": HAIKU, "k": 3}, "k is not valid with an external source"),
        ({"external_source": DOCUMENT, "model": HAIKU, "query_decomposition": True}, "query_decomposition is"),
        (
            {"external_source": DOCUMENT, "model": HAIKU, "orchestration_prompt_template": ORCHESTRATION},
            "orchestration_prompt_template is not valid",
        ),
        ({**BASE, "model": HAIKU, "mode": CONVERSE, "kms_key_arn": KEY}, "kms_key_arn is not valid with mode"),
        ({**BASE, "model": HAIKU, "prompt_template": "$query$"}, r"lacks \$search_results\$"),
        ({**BASE, "model": HAIKU, "prompt_template": "$search_result$"}, r"did you mean \$search_results\$"),
        ({**BASE, "model": HAIKU, "prompt_template": "$search_results$" + "x" * 4000}, "takes 4,000"),
        ({**BASE, "model": HAIKU, "orchestration_prompt_template": "$query$"}, r"lacks \$conversation_history\$ and"),
        ({**BASE, "model": HAIKU, "performance_config": {"latency": "fast"}}, "'latency': 'optimized'"),
        ({**BASE, "model": HAIKU, "performance_config": "optimized"}, "'latency': 'optimized'"),
        ({**BASE, "model": HAIKU, "inference_config": {"max_tokens": 5}}, "did you mean 'maxTokens'"),
        ({**BASE, "model": HAIKU, "inference_config": {"temperature": 2}}, "from 0 to 1"),
        ({**BASE, "model": HAIKU, "inference_config": {"stopSequences": "a"}}, "a list of"),
        ({**BASE, "model": HAIKU, "guardrails": {"guardrailId": "a"}}, "guardrailVersion"),
        ({**BASE, "model": HAIKU, "k": 0}, "k=0"),
    ],
)  # fmt: skip
def test_invalid_arguments_are_refused_with_advice(arguments, match):
    with pytest.raises(InvalidRequestError, match=match):
        KnowledgeBaseChain(**arguments)


def test_invalid_target_is_refused_at_construction():
    with pytest.raises(InvalidTargetError, match="did you mean 'prompt-router'"):
        KnowledgeBaseChain(**BASE, model="arn:aws:bedrock:us-east-1:123456789012:promptrouter/x")


def test_long_templates_are_for_the_second_mode(bedrock, library):
    template = f"{TEMPLATE}{' ' * 5000}"
    assert "Huygens" in chain_of(library, prompt_template=template).invoke(TITAN)["answer"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("given", "call", "match"),
    [
        ("", {}, "the question is empty"),
        ({"input": " \n", "chat_history": None}, {}, "the question is empty"),
        (5, {}, "not a int"),
        (None, {}, "not a NoneType"),
        ({}, {}, r"not a dictionary with \[\]"),
        ({"question": TITAN}, {}, r"not a dictionary with \['question'\]"),
        ({"input": 5}, {}, "the input is a question"),
        ({"input": TITAN, "sesion_id": "a"}, {}, "did you mean 'session_id'"),
        ({"input": TITAN, 5: "a"}, {}, "takes no 5"),
        ([TITAN], {}, "not a list"),
        (TITAN, {"top_k": 3}, "takes no 'top_k'"),
        (TITAN, {"k": 0}, "k=0"),
        (TITAN, {"guardrails": {"guardrailId": "a", "guardrailVersion": "1"}}, "for the whole KnowledgeBaseChain"),
        ({"input": TITAN, "session_id": 5}, {}, "session_id=5 is not valid"),
        (TITAN, {"session_id": ["a"]}, r"session_id=\['a'\] is not valid"),
        ({"input": TITAN, "chat_history": [5]}, {}, "chat_history (must|is)"),
    ],
)
def test_invalid_call_is_refused_before_sending(bedrock, library, mode, given, call, match):
    chain = chain_of(library, mode)
    with pytest.raises(InvalidRequestError, match=match):
        chain.invoke(given, **call)
    with pytest.raises(InvalidRequestError, match=match):
        list(chain.stream(given, **call))
    assert bedrock.requests() == []


def test_call_options_without_effect_are_refused(bedrock, library):
    with pytest.raises(InvalidRequestError, match="k is not valid with an external source"):
        KnowledgeBaseChain(external_source=DOCUMENT, model=HAIKU).invoke(TITAN, k=3)
    with pytest.raises(InvalidRequestError, match="score_threshold is not valid: RetrieveAndGenerate"):
        chain_of(library, GENERATE).invoke(TITAN, score_threshold=0.5)
    with pytest.raises(InvalidRequestError, match=r"chat_history is not valid with mode.*session_id"):
        chain_of(library, GENERATE).invoke({"input": TITAN, "chat_history": []})


# --- retrieve_and_generate: what is sent ---


def test_without_options_only_what_is_needed_is_sent(bedrock, library, router):
    chain_of(library, GENERATE, router).invoke(TITAN)
    request, configuration = asked_generate(bedrock)
    assert configuration == {"knowledgeBaseId": library, "modelArn": router}
    assert set(request) == {"input", "retrieveAndGenerateConfiguration"}


def test_each_option_reaches_retrieve_and_generate(bedrock, library):
    guardrail, version = bedrock.add_guardrail(["bomb"])
    chain = chain_of(
        library, GENERATE, FAST, k=3, search_type="HYBRID", filter=where("planet") == "Saturn", user_context="ann",
        performance_config={"latency": "optimized"}, inference_config={"maxTokens": 50, "temperature": 0.5},
        prompt_template=TEMPLATE, orchestration_prompt_template=ORCHESTRATION, query_decomposition=True,
        guardrails={"guardrailIdentifier": guardrail, "guardrailVersion": version}, kms_key_arn=KEY,
        additional_model_request_fields={"inferenceConfig": {"topK": 5}},
    )  # fmt: skip
    assert chain.invoke(TITAN)["guardrail_action"] == "NONE"
    request, configuration = asked_generate(bedrock)
    assert configuration["retrievalConfiguration"]["vectorSearchConfiguration"] == {
        "numberOfResults": 3, "overrideSearchType": "HYBRID",
        "filter": {"equals": {"key": "planet", "value": "Saturn"}},
    }  # fmt: skip
    assert configuration["generationConfiguration"] == {
        "performanceConfig": {"latency": "optimized"},
        "inferenceConfig": {"textInferenceConfig": {"maxTokens": 50, "temperature": 0.5}},
        "guardrailConfiguration": {"guardrailId": guardrail, "guardrailVersion": version},
        "promptTemplate": {"textPromptTemplate": TEMPLATE},
        "additionalModelRequestFields": {"inferenceConfig": {"topK": 5}},
    }
    assert configuration["orchestrationConfiguration"] == {
        "performanceConfig": {"latency": "optimized"},
        "promptTemplate": {"textPromptTemplate": ORCHESTRATION},
        "queryTransformationConfiguration": {"type": "QUERY_DECOMPOSITION"},
    }
    assert request["userContext"] == {"userId": "ann"}
    assert request["sessionConfiguration"] == {"kmsKeyArn": KEY}


def test_an_option_of_the_call_wins_in_the_first_mode(bedrock, library):
    chain_of(library, GENERATE, k=5).invoke(TITAN, k=2, filter=where("planet") == "Saturn")
    search = asked_generate(bedrock)[1]["retrievalConfiguration"]["vectorSearchConfiguration"]
    assert search == {"numberOfResults": 2, "filter": {"equals": {"key": "planet", "value": "Saturn"}}}


def test_a_document_of_ones_own_is_a_source(bedrock):
    result = KnowledgeBaseChain(external_source=DOCUMENT, model=HAIKU).invoke("Where do krill live?")
    assert result["answer"] == "Krill live in the sea."
    assert [citation.text for citation in result["citations"]] == ["Krill live in the sea."]
    (source,) = asked_generate(bedrock)[1]["sources"]
    assert source["byteContent"]["identifier"] == "krill.txt"
    assert source["byteContent"]["contentType"] == "text/plain"


def test_a_document_in_s3_is_a_source(bedrock, library):
    uri = "s3://emulated-knowledge-base/moons/titan.md"
    result = KnowledgeBaseChain(external_source=uri, model=HAIKU, region_name="us-east-1").invoke(TITAN)
    assert "Huygens" in result["answer"]
    assert asked_generate(bedrock)[1]["sources"] == [{"sourceType": "S3", "s3Location": {"uri": uri}}]


def test_the_region_of_the_arn_is_called(bedrock, library):
    arn = f"arn:aws:bedrock:eu-central-1:123456789012:knowledge-base/{library}"
    for mode in MODES:
        chain_of(arn, mode).invoke(TITAN)
    assert {entry.region for entry in bedrock.journal if entry.operation.startswith("Retrieve")} == {"eu-central-1"}
    assert asked_generate(bedrock)[1]["knowledgeBaseId"] == library


# --- retrieve_then_converse: what is sent ---


def test_each_option_reaches_retrieve_and_converse(bedrock, library):
    guardrail, version = bedrock.add_guardrail(["bomb"])
    chain = chain_of(
        library, CONVERSE, FAST, k=3, search_type="HYBRID", filter=where("planet") == "Saturn", user_context="ann",
        performance_config={"latency": "optimized"}, prompt_template=TEMPLATE,
        inference_config={"maxTokens": 50, "temperature": 0.5, "topP": 0.9, "stopSequences": ["STOP"]},
        guardrail_config={"guardrailId": guardrail, "guardrailVersion": version},
        additional_model_request_fields={"inferenceConfig": {"topK": 5}},
    )  # fmt: skip
    result = chain.invoke(TITAN)
    assert result["guardrail_action"] == "NONE"
    assert result["routing"]["latency"] == {"requested": "optimized", "served": "optimized"}
    (found,) = bedrock.requests("Retrieve")
    assert found.request["retrievalConfiguration"]["vectorSearchConfiguration"] == {
        "numberOfResults": 3, "overrideSearchType": "HYBRID",
        "filter": {"equals": {"key": "planet", "value": "Saturn"}},
    }  # fmt: skip
    assert found.request["guardrailConfiguration"] == {"guardrailId": guardrail, "guardrailVersion": version}
    assert found.request["userContext"] == {"userId": "ann"}
    request = asked_converse(bedrock)
    assert request["modelId"] == FAST
    assert request["performanceConfig"] == {"latency": "optimized"}
    assert request["inferenceConfig"] == {
        "maxTokens": 50, "temperature": 0.5, "topP": 0.9, "stopSequences": ["STOP"],
    }  # fmt: skip
    assert request["guardrailConfig"] == {"guardrailIdentifier": guardrail, "guardrailVersion": version}
    assert request["additionalModelRequestFields"] == {"inferenceConfig": {"topK": 5}}


def test_a_template_of_ones_own_is_filled_in(bedrock, library):
    result = chain_of(library, prompt_template=TEMPLATE).invoke("Who discovered $search_results$ Titan?")
    request = asked_converse(bedrock)
    assert request["system"][0]["text"].startswith("Answer like a pirate. ")
    assert "[cite: 1]" in request["system"][0]["text"]
    text = user_text(request)
    assert text.startswith('<passages>\n<passage index="1">\n')
    assert " UTC." in text
    assert text.endswith("Question: Who discovered $search_results$ Titan?"), "what stands in a question is text"
    assert "$current_time$" not in text
    assert result["context"]


def test_without_format_instructions_nothing_is_cited(bedrock, library):
    template = "Answer briefly. $search_results$\n\nQuestion: $query$"
    for mode in MODES:
        result = chain_of(library, mode, prompt_template=template).invoke(TITAN)
        assert "Huygens" in result["answer"]
        assert result["citations"] == []
    assert "cite" not in asked_converse(bedrock)["system"][0]["text"]


def test_a_question_is_split_where_it_is_asked_for(bedrock, library):
    question = "Who discovered Titan and what is the largest crater of Phobos called?"
    chain = chain_of(library, query_decomposition=True, k=2)
    result = chain.invoke(question)
    assert [entry.operation for entry in bedrock.journal if entry.operation in ("Retrieve", "Converse")] == [
        "Converse", "Retrieve", "Retrieve", "Converse",
    ]  # fmt: skip
    queries = [entry.request["retrievalQuery"]["text"] for entry in bedrock.requests("Retrieve")]
    assert queries == ["Who discovered Titan?", "What is the largest crater of Phobos called?"] or len(queries) == 2
    files = {document.metadata["source"].rpartition("/")[2] for document in result["context"]}
    assert files >= {"titan.md", "phobos.md"}
    sources = [document.page_content for document in result["context"]]
    assert len(sources) == len(set(sources)), "each once"


def test_rewording_model_has_no_answer_settings(bedrock, library):
    chain = chain_of(
        library, CONVERSE, NOVA_LITE, query_decomposition=True, inference_config={"maxTokens": 50},
        additional_model_request_fields={"inferenceConfig": {"topK": 5}}, orchestration_prompt_template=ORCHESTRATION,
    )  # fmt: skip
    chain.invoke(TITAN)
    wording, answer = (entry.request for entry in bedrock.requests("Converse"))
    assert not wording.get("inferenceConfig")
    assert "additionalModelRequestFields" not in wording
    assert user_text(wording).startswith("Say it plainly. ")
    assert answer["inferenceConfig"] == {"maxTokens": 50}


# --- the fixed part, and its cache point ---


def system_of(bedrock, base, **arguments):
    arguments = {"model": CACHES, **arguments}
    chain = chain_of(base, **arguments)
    chain.invoke(TITAN)
    chain.invoke("What is the largest crater of Phobos called?", k=1)
    one, two = (entry.request["system"] for entry in bedrock.requests("Converse")[-2:])
    assert one == two, "the same for every question"
    return one


@pytest.mark.parametrize("model", [CACHES, "us.amazon.nova-lite-v1:0"])
def test_instructions_are_marked_where_the_model_caches(bedrock, library, model):
    text, point = system_of(bedrock, library, model=model)
    assert set(text) == {"text"}
    assert point == {"cachePoint": {"type": "default"}}


@pytest.mark.parametrize("arguments", [{"model": HAIKU}, {"cache": "off"}])
def test_instructions_are_not_marked_without_effect(bedrock, library, arguments):
    (text,) = system_of(bedrock, library, **arguments)
    assert set(text) == {"text"}


@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: m.bind(stop=["x"]), lambda m: m.with_retry()])
def test_own_chat_bedrock_router_gets_the_cache_point(bedrock, library, wrap):
    assert len(system_of(bedrock, library, model=wrap(ChatBedrockRouter(model=CACHES)))) == 2
    assert len(system_of(bedrock, library, model=wrap(ChatBedrockRouter(model=CACHES, cache="off")))) == 1


def test_a_client_that_is_given_is_used_for_both(bedrock, library):
    given = bedrock.client("bedrock-agent-runtime", region_name="ap-southeast-2")
    chain_of(library, client=given).invoke(TITAN)
    assert {entry.region for entry in bedrock.requests("Retrieve") + bedrock.requests("Converse")} == {"ap-southeast-2"}


def test_setting_a_field_takes_effect(bedrock, library):
    chain = chain_of(library, k=2)
    chain.invoke(TITAN)
    chain.k, chain.model, chain.inference_config = 3, NOVA_LITE, {"maxTokens": 7}
    result = chain.invoke(TITAN)
    assert len(result["context"]) == 3
    assert result["routing"]["invoked_model"] == NOVA_LITE
    assert asked_converse(bedrock)["inferenceConfig"]["maxTokens"] == 7


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("mode", "retrieve", "there are 'retrieve_and_generate' and"),
        ("external_source", DOCUMENT, "it has knowledge_base_id and external_source"),
        ("k", 1000, "k=1000"),
        ("knowledge_base_id", "short", "is not a valid knowledge base id"),
        ("model", FAKE, "Bedrock calls the model"),
    ],
)
def test_invalid_field_is_refused_at_the_call(bedrock, library, name, value, match):
    chain = chain_of(library, GENERATE)
    setattr(chain, name, value)
    with pytest.raises(InvalidRequestError, match=match):
        chain.invoke(TITAN)
    assert bedrock.requests() == []


def test_prompt_template_as_model_is_refused():
    with pytest.raises(InvalidRequestError, match="a target, or one of LangChain's chat models"):
        chain_of("EMULATEDKB", model=["a", ChatPromptTemplate.from_template("a")])
