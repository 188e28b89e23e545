"""Compare our retriever with langchain-aws's, row by row of the feature table, on the same service.

A row of langchain-aws fails when it improves: then correct the table.
"""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from botocore.session import Session
from knowledge_base_calls import chunk, collection
from langchain_aws import AmazonKnowledgeBasesRetriever
from langchain_core.retrievers import BaseRetriever
from pydantic import SecretStr
from scripted_bedrock import ScriptedBedrock

from bedrock_routing_integrations.langchain import KnowledgeBaseRetriever

if TYPE_CHECKING:
    from collections.abc import Callable

VECTOR = "vectorSearchConfiguration"
PNG = "data:image/png;base64,iVBORw0KGgo="
LOCATIONS = {
    "s3://b/a.md": {"type": "S3", "s3Location": {"uri": "s3://b/a.md"}},
    "https://w.org/": {"type": "WEB", "webLocation": {"url": "https://w.org/"}},
    "https://c.org/": {"type": "CONFLUENCE", "confluenceLocation": {"url": "https://c.org/"}},
    "https://sf.org/": {"type": "SALESFORCE", "salesforceLocation": {"url": "https://sf.org/"}},
    "https://sp.org/": {"type": "SHAREPOINT", "sharePointLocation": {"url": "https://sp.org/"}},
    "https://k.org/": {"type": "KENDRA", "kendraDocumentLocation": {"uri": "https://k.org/"}},
    "my-id": {"type": "CUSTOM", "customDocumentLocation": {"id": "my-id"}},
    "SELECT 1": {"type": "SQL", "sqlLocation": {"query": "SELECT 1"}},
}


@dataclass
class Table:
    """The emulator, and the retriever of a column."""

    bedrock: Any
    make: Callable[..., Any]
    monkeypatch: Any

    def numbered(self, count: int = 12, **settings: Any) -> str:
        chunks = [chunk(f"krill number {number}", number) for number in range(count)]
        return self.bedrock.add_knowledge_base(collection(*chunks), **settings)

    def found(self, *results: dict[str, Any], **arguments: Any) -> list[Any]:
        """Return the documents that the retriever makes of these results."""
        with ScriptedBedrock({"retrievalResults": list(results)}) as service:
            reached = {"endpoint_url": service.url, "region_name": "us-east-1"}
            return self.make(knowledge_base_id="EMULATEDKB", **reached, **arguments).invoke("krill")

    def is_ours(self) -> bool:
        return self.make is KnowledgeBaseRetriever


def text(value: str, **more: Any) -> dict[str, Any]:
    return {"content": {"type": "TEXT", "text": value}, **more}


def k_in_the_constructor(table):
    return len(table.make(knowledge_base_id=table.numbered(), k=2).invoke("krill"))


def k_in_a_call(table):
    return len(table.make(knowledge_base_id=table.numbered()).invoke("krill", k=2))


def filter_in_a_call(table):
    found = table.make(knowledge_base_id=table.bedrock.default_knowledge_base()).invoke(
        "ocean under the ice", filter={"equals": {"key": "planet", "value": "Saturn"}}
    )
    return {document.metadata["source_metadata"]["planet"] for document in found} == {"Saturn"}


def results_of_all_pages(table):
    retriever = table.make(knowledge_base_id=table.numbered(12))
    if hasattr(retriever, "iterate"):
        return len(list(retriever.iterate("krill")))
    client = table.bedrock.client("bedrock-agent-runtime")
    token = client.retrieve(knowledgeBaseId=retriever.knowledge_base_id, retrievalQuery={"text": "krill"})["nextToken"]
    config = {VECTOR: {"numberOfResults": 5}, "nextToken": token}
    return len(table.make(knowledge_base_id=retriever.knowledge_base_id, retrieval_config=config).invoke("krill"))


def guardrail_action(table):
    guardrail, version = table.bedrock.add_guardrail(["bomb"])
    given = {"guardrails": {"guardrailId": guardrail, "guardrailVersion": version}}
    found = table.make(knowledge_base_id=table.numbered(), **given).invoke("krill bomb")
    return getattr(found, "guardrail_action", None)


def one_odd_result_among_three(table):
    return len(table.found(text("before"), {}, text("after")))


def has_async_of_its_own(table):
    return table.make._aget_relevant_documents is not BaseRetriever._aget_relevant_documents


def throttled_once(table):
    base = table.numbered()
    table.bedrock.fail("throttling", operation="Retrieve", times=1)
    return len(table.make(knowledge_base_id=base).invoke("krill"))


def managed_with_options(table):
    base = table.numbered(type="MANAGED")
    options = {"k": 2} if table.is_ours() else {"retrieval_config": {VECTOR: {"numberOfResults": 2}}}
    return len(table.make(knowledge_base_id=base, **options).invoke("krill"))


def managed_stated(table):
    config = {"managedSearchConfiguration": {"numberOfResults": 2}}
    return len(table.make(knowledge_base_id=table.numbered(type="MANAGED"), retrieval_config=config).invoke("krill"))


def sources_told(table):
    found = table.found(*(text("krill", location=location) for location in LOCATIONS.values()))
    return sum(document.metadata.get("source") == uri for document, uri in zip(found, LOCATIONS, strict=True))


def base64_as_text(table):
    (document,) = table.found({"content": {"type": "IMAGE", "byteContent": PNG}})
    return "base64" in document.page_content


def text_of_audio(table):
    (document,) = table.found(
        {"content": {"type": "AUDIO", "audio": {"s3Uri": "s3://b/a.mp3", "transcription": "it sings"}}}
    )
    return document.page_content


def text_of_video(table):
    (document,) = table.found({"content": {"type": "VIDEO", "video": {"s3Uri": "s3://b/a.mp4", "summary": "it jumps"}}})
    return document.page_content


def row_as_json(table):
    (document,) = table.found(
        {"content": {"type": "ROW", "row": [{"columnName": "year", "columnValue": "1610", "type": "LONG"}]}}
    )
    return json.loads(document.page_content)


def requests_until_a_wrong_filter_is_told(table):
    one = {"equals": {"key": "planet", "value": "Mars"}}
    nested = {"andAll": [one, {"orAll": [one, {"andAll": [one, one]}]}]}  # Bedrock takes one level of embedding
    with pytest.raises(Exception, match=r"andAll|orAll|level|nest"):
        table.make(knowledge_base_id=table.numbered(), retrieval_config={VECTOR: {"filter": nested}}).invoke("krill")
    return len(table.bedrock.requests("Retrieve"))


def region_of_an_arn(table):
    arn = f"arn:aws:bedrock:eu-central-1:123456789012:knowledge-base/{table.numbered()}"
    table.make(knowledge_base_id=arn).invoke("krill")
    return table.bedrock.requests("Retrieve")[-1].region


def a_score_that_is_not_told(table):
    (document,) = table.found(text("krill"))
    return document.metadata["score"]


def a_misspelt_argument_is_told(table):
    try:
        table.make(knowledge_base_id="EMULATEDKB", min_score_confidense=0.5)
    except Exception:
        return True
    return False


SECRETS = {"aws_access_key_id": SecretStr("AKIASECRET"), "aws_secret_access_key": SecretStr("very-secret")}


def credentials_as_strings(table):
    given = {name: secret.get_secret_value() for name, secret in SECRETS.items()}
    return table.make(knowledge_base_id="EMULATEDKB", **given) is not None


def a_pickle(table):
    return b"very-secret" in pickle.dumps(table.make(knowledge_base_id="EMULATEDKB", **SECRETS))


def a_deep_copy_answers(table):
    return len(copy.deepcopy(table.make(knowledge_base_id=table.numbered())).invoke("krill"))


def secrets_in_repr(table):
    return "very-secret" in repr(table.make(knowledge_base_id="EMULATEDKB", **SECRETS))


def clients_of_three_retrievers(table):
    made, create = [], Session.create_client

    def create_client(*arguments, **options):
        made.append(arguments)
        return create(*arguments, **options)

    table.monkeypatch.setattr(Session, "create_client", create_client)
    table.monkeypatch.setenv("AWS_ACCESS_KEY_ID", "whose-clients-are-made-here")
    base = table.numbered()
    for _ in range(3):
        table.make(knowledge_base_id=base).invoke("krill")
    return len(made)


def can_be_constructed_without_a_region(table):
    table.monkeypatch.delenv("AWS_REGION", raising=False)
    table.monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    return table.make(knowledge_base_id="EMULATEDKB") is not None


def what_only_a_user_may_see(table):
    base = table.bedrock.add_knowledge_base(
        collection(chunk("krill is secret", allowed_users=["ann"]), chunk("krill", 1))
    )
    return len(table.make(knowledge_base_id=base, user_context="ann").invoke("krill"))


def asks_with_a_picture(table):
    base = table.bedrock.default_knowledge_base()
    every = KnowledgeBaseRetriever(knowledge_base_id=base, k=100).invoke("diagram orbits moons planet")
    picture = next(document for document in every if document.metadata["type"] == "IMAGE")
    query = "" if table.is_ours() else "orbit"
    table.make(knowledge_base_id=base).invoke(query, image=picture.metadata["data_uri"])
    return "image" in table.bedrock.requests("Retrieve")[-1].request["retrievalQuery"]


RAISES = "raises {}".format
# Question; result of this package; result of langchain-aws 1.9.
ROWS = [
    (k_in_the_constructor, 2, 5),
    (k_in_a_call, 2, 5),
    (filter_in_a_call, True, False),
    (results_of_all_pages, 12, RAISES("ParamValidationError")),
    (guardrail_action, "INTERVENED", None),
    (one_odd_result_among_three, 3, RAISES("ValueError")),
    (has_async_of_its_own, True, False),
    (throttled_once, 5, RAISES("ThrottlingException")),
    (managed_with_options, 2, RAISES("ValidationException")),
    (managed_stated, 2, 2),
    (sources_told, len(LOCATIONS), 0),
    (base64_as_text, False, True),
    (text_of_audio, "it sings", ""),
    (text_of_video, "it jumps", ""),
    (row_as_json, {"year": 1610}, [{"columnName": "year", "columnValue": "1610", "type": "LONG"}]),
    (requests_until_a_wrong_filter_is_told, 0, 1),
    (region_of_an_arn, "eu-central-1", "us-east-1"),
    (a_score_that_is_not_told, None, 0),
    (a_misspelt_argument_is_told, True, False),
    (credentials_as_strings, True, RAISES("ValidationError")),
    (a_pickle, False, RAISES("PicklingError")),
    (a_deep_copy_answers, 5, RAISES("TypeError")),
    (secrets_in_repr, False, False),
    (clients_of_three_retrievers, 1, 3),
    (can_be_constructed_without_a_region, True, RAISES("ValidationError")),
    (what_only_a_user_may_see, 2, 1),
    (asks_with_a_picture, True, False),
]


def outcome(row, table):
    try:
        return row(table)
    except ClientError as error:
        return RAISES(error.response["Error"]["Code"])
    except Exception as error:
        return RAISES(type(error).__name__)


@pytest.mark.sample(14)
@pytest.mark.parametrize("who", ["ours", "langchain-aws"])
@pytest.mark.parametrize(("row", "ours", "theirs"), ROWS, ids=[row.__name__ for row, _, _ in ROWS])
def test_row(bedrock, monkeypatch, row, ours, theirs, who):
    table = Table(bedrock, KnowledgeBaseRetriever if who == "ours" else AmazonKnowledgeBasesRetriever, monkeypatch)
    assert outcome(row, table) == (ours if who == "ours" else theirs)


def test_langchain_aws_arguments_are_taken_as_they_are(bedrock):
    """The retriever finds the same with the arguments of langchain-aws's."""
    from langchain_aws.retrievers.bedrock import RetrievalConfig

    base = bedrock.default_knowledge_base()
    guardrail, version = bedrock.add_guardrail(["bomb"])
    arguments = {
        "knowledge_base_id": base, "region_name": "us-east-1", "min_score_confidence": 0.2,
        "guardrails": {"guardrailId": guardrail, "guardrailVersion": version},
        "retrieval_config": RetrievalConfig(
            vectorSearchConfiguration={"numberOfResults": 3, "filter": {"equals": {"key": "planet", "value": "Saturn"}}}
        ),
    }  # fmt: skip
    theirs = AmazonKnowledgeBasesRetriever(**arguments).invoke("ocean under the ice")
    ours = KnowledgeBaseRetriever(**arguments).invoke("ocean under the ice")
    sent = [entry.request for entry in bedrock.requests("Retrieve")]
    assert sent[0] == sent[1]
    assert [document.page_content for document in ours] == [document.page_content for document in theirs] != []
    for one, other in zip(ours, theirs, strict=True):
        for name in ("location", "score", "type", "source_metadata"):
            assert one.metadata[name] == other.metadata[name]
