"""`project_identifier` in every class: sent as Converse's projectIdentifier, in "routing", reports and telemetry."""

from __future__ import annotations

import pytest
from samples import needs_newer_boto3
from scripted_bedrock import ScriptedBedrock, whole_of
from telemetry_spans import TelemetryRecorder

from bedrock_routing_integrations.costs.report import RoutingReport
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.langchain import (
    BedrockRouterLLM,
    ChatBedrockRouter,
    KnowledgeBaseChain,
    RoutingCallbackHandler,
)
from bedrock_routing_integrations.llama_index import BedrockRouter, KnowledgeBaseQueryEngine

NOVA, PROJECT = "us.amazon.nova-lite-v1:0", "proj_abc"
CONVERSE = "retrieve_then_converse"


WAYS = {
    "chat model": lambda a: ChatBedrockRouter(model=NOVA, project_identifier=PROJECT, **a).invoke("x"),
    "chat model, per call": lambda a: ChatBedrockRouter(model=NOVA, **a).invoke("x", project_identifier=PROJECT),
    "LLM": lambda a: BedrockRouterLLM(model=NOVA, project_identifier=PROJECT, **a).invoke("x"),
    "LLM, per call": lambda a: BedrockRouterLLM(model=NOVA, **a).invoke("x", project_identifier=PROJECT),
    "llama_index": lambda a: BedrockRouter(NOVA, project_identifier=PROJECT, **a).complete("x"),
    "llama_index, per call": lambda a: BedrockRouter(NOVA, **a).complete("x", project_identifier=PROJECT),
}


@needs_newer_boto3
@pytest.mark.parametrize("way", WAYS)
def test_project_is_sent_outside_additional_model_request_fields(way):
    with ScriptedBedrock(whole_of({"text": "ok"})) as server:
        WAYS[way](server.arguments)
    assert server.requests[-1]["projectIdentifier"] == PROJECT
    assert "additionalModelRequestFields" not in server.requests[-1]


@needs_newer_boto3
def test_project_of_a_chain_and_an_engine_reaches_the_model(bedrock):
    options = {"model": NOVA, "mode": CONVERSE, "project_identifier": PROJECT}
    chain = KnowledgeBaseChain(knowledge_base_id="EMULATEDKB", **options)
    assert chain.invoke("Who discovered Titan?")["routing"]["project"] == PROJECT
    engine = KnowledgeBaseQueryEngine("EMULATEDKB", **options)
    assert engine.query("Who discovered Titan?").metadata["routing"]["project"] == PROJECT


def test_project_has_no_meaning_where_bedrock_calls_the_model():
    with pytest.raises(InvalidRequestError, match="project_identifier"):
        KnowledgeBaseChain(knowledge_base_id="EMULATEDKB", model=NOVA, project_identifier=PROJECT)
    with pytest.raises(InvalidRequestError, match="project_identifier"):
        KnowledgeBaseQueryEngine("EMULATEDKB", model=NOVA, project_identifier=PROJECT)


@needs_newer_boto3
def test_project_is_counted_in_reports_and_named_in_telemetry():
    recorder = TelemetryRecorder()
    with ScriptedBedrock(whole_of({"text": "ok"})) as server, RoutingCallbackHandler() as handler:
        llm = ChatBedrockRouter(model=NOVA, telemetry=recorder.options(spans="always"), **server.arguments)
        llm.invoke("x", project_identifier=PROJECT)
        llm.invoke("x")
    assert handler.report.to_dict()["by"]["project"][PROJECT]["calls"] == 1
    assert [span.attributes.get("aws.bedrock.project") for span in recorder.spans] == [PROJECT, None]


def test_project_of_a_routing_entry_is_a_report_label():
    report = RoutingReport()
    report.add({"requested_model_id": NOVA, "project": PROJECT})
    report.add({"requested_model_id": NOVA, "project": None})
    assert list(report.to_dict()["by"]["project"]) == [PROJECT]
