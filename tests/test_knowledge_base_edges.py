"""Edge cases of knowledge bases, in both frameworks."""

from __future__ import annotations

import logging
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from samples import HAIKU

from bedrock_routing_integrations.errors import BedrockRoutingError, InvalidRequestError
from bedrock_routing_integrations.knowledge_base import where
from bedrock_routing_integrations.langchain import KnowledgeBaseChain, KnowledgeBaseRetriever
from bedrock_routing_integrations.llama_index import KnowledgeBaseQueryEngine
from bedrock_routing_integrations.llama_index import KnowledgeBaseRetriever as LlamaRetriever

WHO = "Who discovered Titan?"
MODES = ("retrieve_and_generate", "retrieve_then_converse")
KB = "EMULATEDKB"


def chain_answer(question, session_id=None, **arguments):
    result = KnowledgeBaseChain(**arguments).invoke({"input": question, "session_id": session_id})
    return result["answer"], result["session_id"], result["citations"]


def engine_answer(question, session_id=None, **arguments):
    response = KnowledgeBaseQueryEngine(**arguments).query(question, session_id=session_id)
    return str(response), response.metadata["session_id"], response.metadata["citations"]


each_framework = pytest.mark.parametrize("answer_of", [chain_answer, engine_answer])


@pytest.mark.usefixtures("bedrock")
@pytest.mark.parametrize("mode", MODES)
@each_framework
def test_a_follow_up_is_answered_from_what_was_asked_before(answer_of, mode):
    asked = {"knowledge_base_id": KB, "model": HAIKU, "mode": mode}
    _, session_id, _ = answer_of(WHO, **asked)
    answer, again, citations = answer_of("And when?", session_id, **asked)
    assert "25 March 1655" in answer
    assert again == session_id
    assert citations[0].sources == ("s3://emulated-knowledge-base/moons/titan.md",)


@pytest.mark.usefixtures("bedrock")
@pytest.mark.parametrize("mode", MODES)
@each_framework
def test_s3_object_is_a_source_in_both_modes(answer_of, mode):
    uri = "s3://emulated-knowledge-base/moons/titan.md"
    answer, _, citations = answer_of(WHO, external_source=uri, model="us.amazon.nova-pro-v1:0", mode=mode)
    assert "Christiaan Huygens discovered Titan" in answer
    assert {source for citation in citations for source in citation.sources} == {uri}


@pytest.mark.usefixtures("bedrock")
@pytest.mark.parametrize("mode", MODES)
@each_framework
def test_managed_prompt_as_model_is_refused(answer_of, mode):
    prompt = "arn:aws:bedrock:us-east-1:123456789012:prompt/PROMPT1234:1"
    with pytest.raises(InvalidRequestError, match="as prompt_template"):
        answer_of(WHO, knowledge_base_id=KB, model=prompt, mode=mode)


@each_framework
def test_empty_knowledge_base_answers_without_quoting_the_prompt(bedrock, tmp_path, answer_of):
    (tmp_path / "bees.md").write_text("Caspar keeps twelve bees.", encoding="utf-8")
    base = bedrock.add_knowledge_base(tmp_path)
    answer, _, citations = answer_of("Quantum chromodynamics?", knowledge_base_id=base, model=HAIKU, mode=MODES[1])
    assert answer == "The passages do not hold the answer to that."
    assert citations == []


@pytest.mark.parametrize("ask", [KnowledgeBaseRetriever.invoke, LlamaRetriever.retrieve])
def test_managed_type_is_learned_from_a_refusal(bedrock, ask, caplog):
    base = bedrock.add_knowledge_base(type="MANAGED")
    bedrock.fail("access_denied", operation="GetKnowledgeBase", times=10)
    door = KnowledgeBaseRetriever if ask is KnowledgeBaseRetriever.invoke else LlamaRetriever
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert len(ask(door(knowledge_base_id=base, k=2), WHO)) == 2
    assert len(bedrock.requests("Retrieve")) == 3, "refused once, then known"
    assert caplog.text.count("bedrock:GetKnowledgeBase") == 1


def test_request_refused_for_another_reason_is_not_resent(bedrock):
    bedrock.fail("access_denied", operation="GetKnowledgeBase", times=10)
    bedrock.fail("validation", operation="Retrieve", message="The filter is not supported by this vector store.")
    with pytest.raises(Exception, match="not supported by this vector store"):
        KnowledgeBaseRetriever(knowledge_base_id=KB, k=2).invoke(WHO)
    assert len(bedrock.requests("Retrieve")) == 1


def test_region_of_the_model_is_the_last_resort(bedrock, monkeypatch):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    router = bedrock.default_router().replace("us-east-1", "eu-west-1")
    KnowledgeBaseChain(knowledge_base_id=KB, model=router).invoke(WHO)
    assert [entry.region for entry in bedrock.requests("RetrieveAndGenerate")] == ["eu-west-1"]


class NoBedrock(BaseHTTPRequestHandler):
    """The response of a captive portal."""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", "13")
        self.end_headers()
        self.wfile.write(b"<html></html>")

    def log_message(self, *_):
        pass


@each_framework
def test_invalid_responses_are_not_empty_answers(bedrock, answer_of):
    server = ThreadingHTTPServer(("127.0.0.1", 0), NoBedrock)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(BedrockRoutingError, match="endpoint_url"):
            answer_of(WHO, knowledge_base_id=KB, model=HAIKU, endpoint_url=f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.usefixtures("bedrock")
@pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning")
def test_a_chain_is_a_tool_with_a_question():
    tool = KnowledgeBaseChain(knowledge_base_id=KB, model=HAIKU).as_tool(name="moons", description="Knows the moons.")
    assert sorted(tool.args) == ["input", "session_id"]
    assert "Huygens" in tool.invoke({"input": WHO})["answer"]


@pytest.mark.parametrize(
    "join",
    [
        lambda: where("a") == 1 & where("b"),
        lambda: where("a") == where("c") | where("b"),
        lambda: "x" in where("a"),
        lambda: ~(where("a") == 1),
        lambda: where("a") and where("b"),
    ],
)
def test_filter_refuses_python_operators(join):
    with pytest.raises(TypeError, match=r"parentheses|contains|no `not`"):
        join()


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ({"kind": "black"}, r"where\('kind'\) == "),
        ({"kind": {"$eq": "black"}}, r"where\('kind'\) == "),
        ({"equal": {"key": "a", "value": 1}}, "did you mean 'equals'"),
        (where("kind"), "compare it"),
    ],
)
def test_filter_of_another_store_gets_advice(given, advice):
    with pytest.raises(InvalidRequestError, match=advice):
        KnowledgeBaseRetriever(knowledge_base_id=KB, filter=given)
    with pytest.raises(InvalidRequestError, match=advice):
        LlamaRetriever(KB, filter=given)


@pytest.mark.parametrize(
    ("named", "meant"),
    [("llm", "model"), ("model_id", "model"), ("top_k", "k"), ("temperature", "inference_config"), ("memory", "get_m")],
)
def test_names_of_other_libraries_are_known(named, meant):
    given = {"knowledge_base_id": KB, "model": HAIKU, named: 1}
    for door in (KnowledgeBaseChain, KnowledgeBaseQueryEngine):
        with pytest.raises(InvalidRequestError, match=rf"did you mean .*{meant}"):
            door(**given)
