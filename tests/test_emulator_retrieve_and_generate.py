"""Test the emulator's RetrieveAndGenerate through boto3: answers, citations, refusals, external sources."""

import json

import pytest
from knowledge_base_calls import (
    FACTS,
    HAIKU,
    OPTIMIZED,
    SONNET,
    SORRY,
    UNCHECKED,
    ask,
    chunk,
    collection,
    external,
    generation,
    in_bytes,
    refused,
    request,
    retrieve,
    spans,
    stream,
    streamed_text,
    template,
)

from bedrock_routing_integrations.emulator import BedrockEmulator


@pytest.fixture(scope="module")
def shared():
    with BedrockEmulator() as emulator:
        yield emulator


@pytest.fixture(scope="module")
def client(shared):
    return shared.client("bedrock-agent-runtime", config=UNCHECKED)


@pytest.fixture
def bedrock(shared):
    shared.clear_faults()
    shared.clear_journal()
    return shared


@pytest.fixture(scope="module")
def base(shared):
    return shared.add_knowledge_base(collection(*(chunk(text, number) for number, text in enumerate(FACTS))))


# --- the answer


def test_answer_quotes_passages_and_does_not_name_the_model(client, base, bedrock):
    answer = ask(client, base)
    assert answer.keys() == {"ResponseMetadata", "sessionId", "output", "citations"}
    assert answer["output"]["text"] == "Ann \N{GRINNING FACE} Huygens found Titan in 1655."
    (citation,) = answer["citations"]
    assert citation["retrievedReferences"] == [
        {
            "content": {"type": "TEXT", "text": FACTS[0]},
            "location": {"type": "S3", "s3Location": {"uri": "s3://bucket/0.md"}},
            "metadata": {"x-amz-bedrock-kb-source-uri": "s3://bucket/0.md"},
        }
    ]
    (entry,) = bedrock.requests("RetrieveAndGenerate")
    assert (entry.invoked, entry.served_latency, entry.status) == (HAIKU, "standard", 200)


@pytest.mark.parametrize("model", [HAIKU, SONNET])
def test_spans_count_code_points_and_their_end_is_inclusive(client, base, model):
    answer = ask(client, base, "Who found Titan and Triton?", model)
    text = answer["output"]["text"]
    cited = spans(answer["citations"])
    assert len(cited) == (2 if model == SONNET else 1)
    assert cited == [(part, text.index(part), text.index(part) + len(part) - 1) for part, _, _ in cited]
    assert text == " ".join(part for part, _, _ in cited)


def test_sentence_in_several_passages_cites_all_of_them(client, base):
    answer = ask(client, base, "How many volcanoes has Io?")
    (citation,) = answer["citations"]
    uris = {reference["location"]["s3Location"]["uri"] for reference in citation["retrievedReferences"]}
    assert uris == {"s3://bucket/1.md", "s3://bucket/3.md"}


def test_question_without_passage_is_declined_with_an_empty_citation(client, base):
    answer = ask(client, base, "Which pasta is best?")
    assert answer["output"]["text"] == SORRY
    assert spans(answer["citations"]) == [(SORRY, 0, len(SORRY) - 1)]
    assert answer["citations"][0]["retrievedReferences"] == []


def test_only_what_is_retrieved_is_answered_from(client, base):
    search = {
        "vectorSearchConfiguration": {
            "filter": {"equals": {"key": "x-amz-bedrock-kb-source-uri", "value": "s3://bucket/2.md"}}
        }
    }
    assert ask(client, base, "Who was found?", retrievalConfiguration=search)["output"]["text"] == FACTS[2]
    one = {"vectorSearchConfiguration": {"numberOfResults": 1}}
    answer = ask(client, base, "How many volcanoes has Io?", retrievalConfiguration=one)
    assert len(answer["citations"][0]["retrievedReferences"]) == 1


@pytest.mark.parametrize("limits", [{"maxTokens": 4}, {"stopSequences": ["found"]}, {"maxTokens": 0}])
def test_limits_cut_text_and_citations_alike(client, base, limits):
    settings = generation(inferenceConfig={"textInferenceConfig": limits})
    answer = ask(client, base, **settings)
    text = answer["output"]["text"]
    whole = "Ann \N{GRINNING FACE} Huygens found Titan in 1655."
    assert whole.startswith(text)
    assert text != whole
    assert [text[start : end + 1] for _, start, end in spans(answer["citations"])] == ([text] if text else [])
    _, events = stream(client, request(base, **settings))
    assert streamed_text(events) == text


def test_a_router_chooses_among_its_models_and_can_be_dictated(client, base, bedrock):
    router = bedrock.default_router()
    bedrock.choose(SONNET)
    ask(client, base, "Which moon has volcanoes?", router)
    ask(client, base, "Who found Titan?", router)
    assert [entry.invoked for entry in bedrock.requests("RetrieveAndGenerate")] == [SONNET, HAIKU]
    assert bedrock.journal[0].difficulty is not None


def test_profiles_and_arns_are_models_too_and_prompts_are_not(client, base, bedrock):
    for model in (
        f"us.{HAIKU}",
        f"arn:aws:bedrock:us-east-1::foundation-model/{HAIKU}",
        bedrock.create_application_profile(name="mine", copy_from=HAIKU),
    ):
        ask(client, base, model=model)
    assert {entry.invoked for entry in bedrock.journal} == {HAIKU}
    prompt = bedrock.add_prompt("p", "Say {{x}}", HAIKU)
    refused(ask, client, base, model=prompt)
    refused(ask, client, base, model="no.such-model-v1:0")


# --- templates, guardrails, refusals


def test_a_template_that_asks_for_no_format_gets_no_citations(client, base):
    plain = ask(client, base, **generation(**template("Answer from $search_results$")))
    citing = ask(client, base, **generation(**template("$search_results$ $output_format_instructions$")))
    assert (plain["citations"], len(citing["citations"])) == ([], 1)
    assert plain["output"] == citing["output"]
    _, events = stream(client, request(base, **generation(**template("Answer from $search_results$"))))
    assert {name for event in events for name in event} == {"output"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (generation(**template("No placeholder")), "$search_results$"),
        (generation(**template("$search_results$" + "x" * 4_000)), "4000"),
        ({"orchestrationConfiguration": template("$conversation_history$")}, "$output_format_instructions$"),
        ({"orchestrationConfiguration": template("$output_format_instructions$")}, "$conversation_history$"),
        ({"retrievalConfiguration": {"managedSearchConfiguration": {}}}, "managedSearchConfiguration"),
        (generation(guardrailConfiguration={"guardrailId": "nosuch", "guardrailVersion": "1"}), "guardrail"),
        (generation(**OPTIMIZED), f"not supported for {HAIKU} in us-east-1"),
        ({"orchestrationConfiguration": OPTIMIZED}, f"not supported for {HAIKU} in us-east-1"),
    ],
)
def test_invalid_settings_are_refused_with_a_reason(client, base, settings, message):
    assert message in refused(ask, client, base, **settings)


def test_inputs_and_configurations_have_their_form(client, base, bedrock):
    assert ask(client, base, "k" * 1_000)["output"]["text"] == SORRY
    refused(ask, client, base, "k" * 1_001)
    refused(ask, client, base, " ")
    refused(ask, client, "NOSUCHBASE", code="ResourceNotFoundException")
    managed = bedrock.add_knowledge_base(collection(chunk("Titan")), type="MANAGED")
    assert "MANAGED" in refused(ask, client, managed)
    mixed = request(base)
    mixed["retrieveAndGenerateConfiguration"]["type"] = "EXTERNAL_SOURCES"
    assert "externalSourcesConfiguration" in refused(client.retrieve_and_generate, **mixed)
    refused(client.retrieve_and_generate, input={"text": "Who?"})


@pytest.mark.parametrize(("word", "action"), [("titan", "INTERVENED"), ("Huygens", "INTERVENED"), ("Mercury", "NONE")])
def test_guardrail_checks_question_and_answer_but_not_passages(client, base, bedrock, word, action):
    guardrail, version = bedrock.add_guardrail([word])
    settings = generation(guardrailConfiguration={"guardrailId": guardrail, "guardrailVersion": version})
    answer = ask(client, base, **settings)
    _, events = stream(client, request(base, **settings))
    assert answer["guardrailAction"] == action
    assert [event["guardrail"] for event in events if "guardrail" in event] == [{"action": action}]
    assert streamed_text(events) == answer["output"]["text"]
    if action == "INTERVENED":
        assert (answer["output"]["text"], answer["citations"]) == (SORRY, [])


# --- external sources

PDF = b"%PDF-1.4\n1 0 obj <</Length 60>>\nstream\nBT (Huygens found Titan in 1655.) Tj ET\nendstream\nendobj"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"Huygens found Titan in 1655.", "text/plain"),
        (b"# Titan\n\nHuygens found Titan in 1655.", "text/markdown"),
        (b"<p>Huygens found Titan in 1655.</p>", "text/html"),
        (b"moon,story\nTitan,Huygens found Titan in 1655.", "text/csv"),
        (PDF, "application/pdf"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_document_in_the_request_is_answered_from(client, data, kind):
    answer = client.retrieve_and_generate(**external(in_bytes(data, kind)))
    assert "Huygens found Titan in 1655." in answer["output"]["text"]
    ((reference,),) = [citation["retrievedReferences"] for citation in answer["citations"]]
    assert reference["content"]["type"] == "TEXT"
    assert answer["sessionId"]


def test_external_s3_source_is_a_knowledge_base_document(client, base):
    def source(uri):
        return {"sourceType": "S3", "s3Location": {"uri": uri}}

    answer = client.retrieve_and_generate(**external(source("s3://bucket/2.md"), "Who found it?"))
    assert answer["output"]["text"] == FACTS[2]
    assert "s3://bucket/99.md" in refused(client.retrieve_and_generate, **external(source("s3://bucket/99.md")))


def test_external_sources_that_cannot_be_read_are_refused(client):
    call = client.retrieve_and_generate
    assert "image/png" in refused(call, **external(in_bytes(b"x", "image/png")))
    assert "No text" in refused(call, **external(in_bytes(b"%PDF-1.4", "application/pdf")))
    refused(call, **external({"sourceType": "S3", "byteContent": in_bytes(b"x")["byteContent"]}))
    refused(call, **external(in_bytes(b"x" * (10 * 1024 * 1024 + 1))))


def test_answers_have_only_members_of_the_service_model(bedrock, client, base):
    """botocore drops what it does not know: what it gives is compared with the bodies."""
    bodies = []
    keep = lambda response_dict, **_: bodies.append(json.loads(response_dict["body"]))  # noqa: E731
    guardrail, version = bedrock.add_guardrail(["nothing"])
    guarded = {"guardrailConfiguration": {"guardrailId": guardrail, "guardrailVersion": version}}
    client.meta.events.register("before-parse.bedrock-agent-runtime", keep)
    try:
        answers = [ask(client, base, **generation(**guarded)), retrieve(client, base, "moon", numberOfResults=1)]
        answers += [
            ask(client, base, "Which pasta is best?"),
            retrieve(client, bedrock.default_knowledge_base(), "moon"),
        ]
    finally:
        client.meta.events.unregister("before-parse.bedrock-agent-runtime", keep)
    assert [answer.pop("ResponseMetadata")["HTTPStatusCode"] for answer in answers] == [200] * 4
    assert bodies == answers
