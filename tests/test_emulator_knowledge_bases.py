"""Test the emulator's knowledge bases and Retrieve through boto3."""

import pytest
from knowledge_base_calls import UNCHECKED, chunk, collection, refused, retrieve, texts

from bedrock_routing_integrations.emulator import BedrockEmulator
from bedrock_routing_integrations.emulator.wire.service_model import SERVICES, ShapeCompiler, service_models

PNG = b"\x89PNG\r\n\x1a\n-one"
DATA_URI = "data:image/png;base64,iVBORw0KGgotb25l"
RERANKER = "arn:aws:bedrock:us-east-1::foundation-model/cohere.rerank-v3-5:0"


@pytest.fixture(scope="module")
def shared():
    with BedrockEmulator() as emulator:
        yield emulator


@pytest.fixture(scope="module")
def client(shared):
    return shared.client("bedrock-agent-runtime", config=UNCHECKED)


@pytest.fixture
def whales(shared):
    texts = [f"Whale number {number} eats krill{' and squid' if number % 2 else ''}." for number in range(23)]
    return shared.add_knowledge_base(
        collection(*(chunk(text, number, n=number, odd=bool(number % 2)) for number, text in enumerate(texts)))
    )


# --- the knowledge bases themselves


@pytest.mark.parametrize(
    ("kind", "member"),
    [
        ("VECTOR", "vectorKnowledgeBaseConfiguration"),
        ("KENDRA", "kendraKnowledgeBaseConfiguration"),
        ("SQL", "sqlKnowledgeBaseConfiguration"),
        ("MANAGED", "managedKnowledgeBaseConfiguration"),
    ],
)
def test_knowledge_base_describes_its_type_as_the_service_does(shared, kind, member):
    knowledge_base_id = shared.add_knowledge_base(collection(), type=kind)
    description = shared.client("bedrock-agent").get_knowledge_base(knowledgeBaseId=knowledge_base_id)["knowledgeBase"]
    assert description["knowledgeBaseConfiguration"].keys() == {"type", member}
    assert (description["status"], description["knowledgeBaseArn"].rpartition("/")[2]) == ("ACTIVE", knowledge_base_id)
    # The service's own checks of patterns and lengths, which botocore does not make of answers.
    operation = service_models()["GetKnowledgeBase"]
    shape = operation._model.output_shape.members["knowledgeBase"]
    errors = []
    plain = {name: value for name, value in description.items() if not name.endswith("At")}
    ShapeCompiler().parser(shape)(plain, None, errors)
    assert [each for each in errors if "At'" not in each] == []


def test_knowledge_bases_are_listed_page_by_page():
    with BedrockEmulator() as bedrock:
        created = [bedrock.add_knowledge_base(collection(), name=f"base-{number}") for number in range(5)]
        agent = bedrock.client("bedrock-agent")
        pages = list(agent.get_paginator("list_knowledge_bases").paginate(PaginationConfig={"PageSize": 2}))
        listed = [each["knowledgeBaseId"] for page in pages for each in page["knowledgeBaseSummaries"]]
        elsewhere = bedrock.client("bedrock-agent", region_name="eu-west-1").list_knowledge_bases()
    assert (listed, len(pages)) == ([bedrock.default_knowledge_base(), *created], 3)
    assert elsewhere["knowledgeBaseSummaries"] == []


def test_knowledge_base_ids_are_reproducible_and_valid():
    def ids():
        bedrock = BedrockEmulator()
        return [bedrock.add_knowledge_base(collection()) for _ in range(3)]

    first = ids()
    assert first == ids()
    assert len(set(first)) == 3
    assert all(len(each) == 10 and each.isalnum() and each.isascii() for each in first)


def test_the_default_knowledge_base_holds_the_library_that_ships(shared, client):
    default = shared.default_knowledge_base()
    assert shared.default_knowledge_base() == default
    results = retrieve(client, default, "Who discovered Titan?", numberOfResults=100)["retrievalResults"]
    assert results[0]["location"]["s3Location"]["uri"].startswith("s3://")
    assert any("Huygens discovered Titan" in result["content"].get("text", "") for result in results)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"type": "GRAPH"}, "type is one of VECTOR"),
        ({"name": "with space"}, "name is up to 100"),
        ({"knowledge_base_id": "short"}, "10 letters and digits"),
        ({"documents": "/no/such/folder"}, "/no/such/folder"),
    ],
)
def test_invalid_knowledge_base_is_refused_when_added(shared, settings, message):
    with pytest.raises(ValueError, match=message):
        shared.add_knowledge_base(**{"documents": collection(), **settings})


def test_duplicate_id_and_guardrail_without_list_are_refused(shared):
    knowledge_base_id = shared.add_knowledge_base(collection())
    with pytest.raises(ValueError, match="already"):
        shared.add_knowledge_base(collection(), knowledge_base_id=knowledge_base_id)
    with pytest.raises(ValueError, match="words"):
        shared.add_guardrail("word")


def test_unknown_knowledge_base_is_not_found(shared, client, whales):
    agent = shared.client("bedrock-agent")
    not_found = "ResourceNotFoundException"
    assert "NOSUCHBASE" in refused(agent.get_knowledge_base, knowledgeBaseId="NOSUCHBASE", code=not_found)
    assert "NOSUCHBASE" in refused(retrieve, client, "NOSUCHBASE", code=not_found)
    arn = agent.get_knowledge_base(knowledgeBaseId=whales)["knowledgeBase"]["knowledgeBaseArn"]
    assert len(retrieve(client, arn)["retrievalResults"]) == 5
    refused(retrieve, client, arn.replace("123456789012", "999999999999"), code=not_found)


def test_no_operation_of_one_service_hides_another():
    models = service_models()
    hidden = set()
    for service in SERVICES:
        for operation in [each for found in models._by_start.values() for each in found if each.service == service]:
            path = operation.path
            for label in operation.labels:
                path = path.replace(f"{{{label}}}", "x").replace(f"{{{label}+}}", "x")
            found, _ = models.find(operation.method, path)
            if (found.service, found.name) != (service, operation.name):
                hidden.add((service, operation.name, found.service))
    # Both agent services have these paths; the emulator answers none of them.
    assert {name for service, name, _ in hidden if service == "bedrock-agent-runtime"} == {
        "ListTagsForResource", "TagResource", "UntagResource", "InvokeInlineAgent",
    }  # fmt: skip
    assert models["Retrieve"].service == "bedrock-agent-runtime"


# --- Retrieve


def test_results_have_content_location_metadata_score_and_document(client, whales):
    (result,) = retrieve(client, whales, "whale 7 squid", numberOfResults=1)["retrievalResults"]
    assert 0 < result.pop("score") < 1
    assert result == {
        "content": {"type": "TEXT", "text": "Whale number 7 eats krill and squid."},
        "location": {"type": "S3", "s3Location": {"uri": "s3://bucket/7.md"}},
        "metadata": {"x-amz-bedrock-kb-source-uri": "s3://bucket/7.md", "n": 7, "odd": True},
        "documentId": "document-7",
    }


def test_retrieve_returns_five_results_by_default(client, whales):
    assert len(retrieve(client, whales)["retrievalResults"]) == 5
    assert len(retrieve(client, whales, numberOfResults=9)["retrievalResults"]) == 9
    for number in (0, 101):
        assert "numberOfResults" in refused(retrieve, client, whales, numberOfResults=number)


def test_paging_brings_every_result_once_and_ends(client, whales):
    passages, token, pages = [], None, 0
    while pages == 0 or token:
        page = retrieve(client, whales, numberOfResults=4, token=token)
        passages += texts(page)
        token, pages = page.get("nextToken"), pages + 1
    assert (pages, len(passages), len(set(passages))) == (6, 23, 23)


def test_a_token_is_good_for_its_own_request_only(client, whales):
    token = retrieve(client, whales, numberOfResults=4)["nextToken"]
    for other in ({"text": "squid"}, {"numberOfResults": 5}, {"token": "anything"}, {"token": token[:-4] + "AAAA"}):
        asked = {"numberOfResults": 4, "token": token, **other}
        assert "nextToken" in refused(retrieve, client, whales, **asked)


def test_filters_reach_the_collection(client, whales):
    odd = retrieve(client, whales, numberOfResults=100, filter={"equals": {"key": "odd", "value": True}})
    assert len(odd["retrievalResults"]) == 11
    refused(retrieve, client, whales, filter={"andAll": [{"equals": {"key": "odd", "value": True}}]})


def test_each_type_of_knowledge_base_has_its_own_search_configuration(shared, client, whales):
    managed = shared.add_knowledge_base(collection(chunk("krill")), type="MANAGED")
    assert texts(retrieve(client, managed, managed=True, numberOfResults=1)) == ["krill"]
    assert texts(retrieve(client, managed)) == ["krill"]
    assert "managedSearchConfiguration" in refused(retrieve, client, managed, numberOfResults=1)
    assert "vectorSearchConfiguration" in refused(retrieve, client, whales, managed=True, numberOfResults=1)
    both = {"vectorSearchConfiguration": {}, "managedSearchConfiguration": {}}
    query = {"text": "krill"}
    refused(client.retrieve, knowledgeBaseId=whales, retrievalQuery=query, retrievalConfiguration=both)


def test_queries_are_limited_and_never_blank(client, whales):
    assert retrieve(client, whales, "krill " * 3_333)["retrievalResults"]
    refused(retrieve, client, whales, "k" * 20_001)
    assert "blank" in refused(retrieve, client, whales, " \n")


def test_hybrid_search_prefers_words_as_they_are_written(shared, client):
    base = shared.add_knowledge_base(collection(chunk("He swims far.", 1), chunk("Swimming far.", 2)))
    scores = {}
    for kind in ("SEMANTIC", "HYBRID"):
        for result in retrieve(client, base, "swimming", overrideSearchType=kind)["retrievalResults"]:
            scores[kind, result["documentId"]] = result["score"]
    assert scores["HYBRID", "document-2"] > scores["SEMANTIC", "document-2"]
    assert scores["HYBRID", "document-1"] == scores["SEMANTIC", "document-1"]


ROW = [{"columnName": "moon", "columnValue": "Io", "type": "STRING"}]


@pytest.mark.parametrize(
    "content",
    [
        {"type": "TEXT", "text": "a krill \N{GRINNING FACE} text"},
        {"type": "ROW", "row": ROW},
        {"type": "IMAGE", "byteContent": DATA_URI},
        {"type": "AUDIO", "audio": {"s3Uri": "s3://bucket/a.mp3", "transcription": "krill"}},
        {"type": "VIDEO", "video": {"s3Uri": "s3://bucket/v.mp4", "summary": "krill"}},
    ],
    ids=lambda content: content["type"],
)
def test_every_type_of_content_comes_as_it_is(shared, client, content):
    base = shared.add_knowledge_base(collection(chunk("krill", content=content)))
    assert [result["content"] for result in retrieve(client, base)["retrievalResults"]] == [content]


def test_chunks_restricted_to_users_are_returned_to_them_only(shared, client):
    chunks = (chunk("krill for all", 1), chunk("krill for ann", 2, allowed_users=["ann"]))
    base = shared.add_knowledge_base(collection(*chunks))
    assert set(texts(retrieve(client, base, user="ann"))) == {"krill for all", "krill for ann"}
    assert texts(retrieve(client, base, user="bob")) == texts(retrieve(client, base)) == ["krill for all"]


IMPLICIT = {
    "metadataAttributes": [
        {"key": "ocean", "type": "STRING", "description": "where"},
        {"key": "tags", "type": "STRING_LIST", "description": "what"},
        {"key": "year", "type": "NUMBER", "description": "when"},
    ],
    "modelArn": "anthropic.claude-3-5-sonnet-20240620-v1:0",
}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("krill", {"1", "2", "3"}),
        ("krill of the arctic", {"1", "2"}),
        ("krill of the Arctic in 1999", {"2"}),
        ("krill, the small", {"3"}),
        ("krill in 19991", {"1", "2", "3"}),
    ],
)
def test_an_implicit_filter_keeps_what_the_query_names(shared, client, query, expected):
    chunks = (
        chunk("krill 1", 1, ocean="Arctic", year=1998),
        chunk("krill 2", 2, ocean="Arctic", year=1999),
        chunk("krill 3", 3, ocean="Indian Ocean", tags=["small", "red"]),
    )
    base = shared.add_knowledge_base(collection(*chunks))
    answer = retrieve(client, base, query, implicitFilterConfiguration=IMPLICIT)
    assert {text[-1] for text in texts(answer)} == expected


def test_an_implicit_filter_needs_a_model_that_exists(client, whales):
    refused(retrieve, client, whales, implicitFilterConfiguration={**IMPLICIT, "modelArn": "no.such-model-v1:0"})


def reranking(arn=RERANKER, **more):
    configuration = {"modelConfiguration": {"modelArn": arn}, **more}
    return {"type": "BEDROCK_RERANKING_MODEL", "bedrockRerankingConfiguration": configuration}


def test_reranking_gives_a_new_order_new_scores_and_fewer_results(shared, client):
    chunks = (chunk("whales whales whales whales", 1), chunk("The whale swims.", 2), chunk("A whale", 3))
    base = shared.add_knowledge_base(collection(*chunks))
    plain = retrieve(client, base, "whale swims", numberOfResults=3)
    again = retrieve(client, base, "whale swims", rerankingConfiguration=reranking(numberOfRerankedResults=2))
    assert len(plain["retrievalResults"]) == 3
    assert texts(again) == ["The whale swims.", "A whale"]
    scores = [result["score"] for result in again["retrievalResults"]]
    assert 1 > scores[0] > scores[1] > 0
    assert set(scores).isdisjoint(result["score"] for result in plain["retrievalResults"])


def test_a_reranker_reads_the_metadata_that_it_is_given(shared, client):
    base = shared.add_knowledge_base(collection(chunk("krill", 1), chunk("krill here", 2, place="Arctic")))

    def first(**more):
        return texts(retrieve(client, base, "krill arctic", rerankingConfiguration=reranking(**more)))[0]

    selected = {"fieldsToExclude": [{"fieldName": "place"}]}
    assert first() == "krill"
    assert first(metadataConfiguration={"selectionMode": "ALL"}) == "krill here"
    excluding = {"selectionMode": "SELECTIVE", "selectiveModeConfiguration": selected}
    assert first(metadataConfiguration=excluding) == "krill"
    refused(first, metadataConfiguration={"selectionMode": "SELECTIVE"})


def test_only_rerankers_rerank(client, whales):
    arn = RERANKER.replace("cohere.rerank-v3-5:0", "amazon.nova-pro-v1:0")
    assert "rerank" in refused(retrieve, client, whales, rerankingConfiguration=reranking(arn))
    refused(retrieve, client, whales, rerankingConfiguration={"type": "BEDROCK_RERANKING_MODEL"})


def test_managed_knowledge_base_reranks_with_managed_or_custom_model(shared, client):
    chunks = (chunk("whale whale whale", 1), chunk("the whale swims to eat krill", 2))
    base = shared.add_knowledge_base(collection(*chunks), type="MANAGED")

    def order(**search):
        return [text[:5] for text in texts(retrieve(client, base, "whale swims", managed=True, **search))]

    assert order(rerankingModelType="MANAGED") == ["the w", "whale"]
    assert order(rerankingModelType="CUSTOM", rerankingConfiguration=reranking()) == ["the w", "whale"]
    refused(order, rerankingModelType="CUSTOM")
    refused(order, rerankingModelType="NONE", rerankingConfiguration=reranking())


def test_image_query_finds_only_images_the_same_first(shared, client):
    other = {"type": "IMAGE", "byteContent": "data:image/png;base64,AAAA"}
    chunks = (chunk("krill", 1), chunk("", 2, other), chunk("", 3, {"type": "IMAGE", "byteContent": DATA_URI}))
    query = {"type": "IMAGE", "image": {"format": "png", "inlineContent": PNG}}
    seeing = shared.add_knowledge_base(collection(*chunks), multimodal=True)
    results = client.retrieve(knowledgeBaseId=seeing, retrievalQuery=query)["retrievalResults"]
    assert [result["documentId"] for result in results] == ["document-3", "document-2"]
    blind = shared.add_knowledge_base(collection(*chunks))
    assert "image" in refused(client.retrieve, knowledgeBaseId=blind, retrievalQuery=query)
    for wrong in ({"type": "IMAGE"}, {"type": "IMAGE", "text": "x"}, {}, {**query, "type": "TEXT"}):
        refused(client.retrieve, knowledgeBaseId=seeing, retrievalQuery=wrong)


def test_a_guardrail_intervenes_on_its_words_in_the_query(shared, client, whales):
    guardrail, version = shared.add_guardrail(["harpoon"])

    def asked(text, **other):
        configuration = {"guardrailId": guardrail, "guardrailVersion": version, **other}
        query = {"text": text}
        return client.retrieve(knowledgeBaseId=whales, retrievalQuery=query, guardrailConfiguration=configuration)

    stopped, passed = asked("krill and a HARPOON?"), asked("krill harpooned")
    assert (stopped["guardrailAction"], stopped["retrievalResults"]) == ("INTERVENED", [])
    assert (passed["guardrailAction"], len(passed["retrievalResults"])) == ("NONE", 5)
    assert "guardrailAction" not in retrieve(client, whales, "harpoon krill")
    refused(asked, "krill", guardrailId="nosuch")
    refused(asked, "krill", guardrailVersion="7")


def test_retrieve_fails_only_for_faults_of_its_own_operation(client, whales, shared):
    shared.fail("throttling")
    assert retrieve(client, whales)["retrievalResults"]
    shared.clear_faults()
    shared.fail("dependency_failed", operation="Retrieve", model_id=whales)
    refused(retrieve, client, whales, code="DependencyFailedException")
    assert shared.requests("Retrieve")[-1].error == "DependencyFailedException"
    assert retrieve(client, whales)["retrievalResults"]
    assert shared.requests("Retrieve")[-1].latency_ms > 0
