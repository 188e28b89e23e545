"""Both modes of LangChain's chain: the same answer, sources and kind of result."""

from __future__ import annotations

import json

import pytest
from langchain_core.documents import Document
from langchain_core.messages import AIMessage
from samples import HAIKU, SONNET

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.knowledge_base import Citation
from bedrock_routing_integrations.langchain import KnowledgeBaseChain

GENERATE, CONVERSE = "retrieve_and_generate", "retrieve_then_converse"
MODES = [GENERATE, CONVERSE]
KEYS = ["input", "context", "answer", "citations", "session_id", "guardrail_action", "message", "routing"]
# A question, the file that answers it, a part of the answer.
QUESTIONS = [
    ("Who discovered Titan?", "titan.md", "Christiaan Huygens"),
    ("Which moon is the most volcanically active body in the Solar System?", "io.md", "Io is the most"),
    ("What is the largest impact structure on Callisto?", "callisto.md", "Valhalla"),
    ("What are the lakes of Titan made of?", "titan.md", "liquid methane and ethane"),
    ("What did Cassini discover at the south pole of Enceladus?", "enceladus.md", "plumes of water vapour"),
    ("When was Charon discovered?", "charon.md", "June 1978"),
    ("Which moon has a magnetic field of its own?", "ganymede.md", "Ganymede is the only moon"),
    ("Who was the first person to walk on the Moon?", "moon.md", "Neil Armstrong"),
    ("What is the largest crater of Phobos called?", "phobos.md", "Stickney"),
    ("How long does Triton need for one turn around Neptune?", "triton.md", "almost six days"),
]


@pytest.fixture
def library(bedrock):
    return bedrock.default_knowledge_base()


def both(library, model, **arguments):
    return [KnowledgeBaseChain(knowledge_base_id=library, model=model, mode=mode, **arguments) for mode in MODES]


def cited(result):
    return [(citation.start, citation.end, citation.text, citation.sources) for citation in result["citations"]]


def check_spans(result):
    for citation in result["citations"]:
        assert isinstance(citation, Citation)
        assert result["answer"][citation.start : citation.end] == citation.text != ""
        sources = [result["context"][number].metadata["source"] for number in citation.passages]
        assert tuple(dict.fromkeys(sources)) == citation.sources != ()
        assert any(citation.text in result["context"][number].page_content for number in citation.passages)


def text_block(message):
    (block,) = [block for block in message.content_blocks if block["type"] == "text"]
    return block


def check_annotations(result):
    block = text_block(result["message"])
    assert block["text"] == result["answer"] == result["message"].text
    expected = [
        (citation.start, citation.end, result["context"][number])
        for citation in result["citations"]
        for number in citation.passages
    ]
    assert len(block["annotations"]) == len(expected) > 0
    for annotation, (start, end, document) in zip(block["annotations"], expected, strict=True):
        assert annotation["type"] == "citation"
        assert (annotation["start_index"], annotation["end_index"]) == (start, end)
        assert annotation["cited_text"] == document.page_content
        assert annotation["url"] == document.metadata["source"]
        assert annotation["title"] == document.metadata["source"].rpartition("/")[2]
        json.dumps(annotation)


@pytest.mark.sample(8)
@pytest.mark.parametrize("model", ["router", HAIKU, SONNET])
@pytest.mark.parametrize(("question", "file", "phrase"), QUESTIONS)
async def test_one_question_has_one_answer_and_the_same_sources(bedrock, library, question, file, phrase, model):
    target = bedrock.default_router() if model == "router" else model
    results = []
    for chain in both(library, target):
        results += [chain.invoke(question), await chain.ainvoke({"input": question})]
    first = results[0]
    assert phrase in first["answer"]
    assert any(source.endswith(f"/{file}") for source in first["citations"][0].sources)
    for result in results:
        assert list(result) == KEYS
        assert result["answer"] == first["answer"]
        assert cited(result) == cited(first)
        check_spans(result)
        check_annotations(result)


@pytest.mark.parametrize("mode", MODES)
def test_result_has_the_documented_types(bedrock, library, mode):
    result = KnowledgeBaseChain(knowledge_base_id=library, model=HAIKU, mode=mode).invoke("Who discovered Titan?")
    assert list(result) == KEYS
    assert result["input"] == "Who discovered Titan?"
    assert result["context"]
    assert all(type(document) is Document for document in result["context"])
    assert type(result["answer"]) is str
    assert type(result["citations"]) is list
    assert type(result["session_id"]) is str
    assert result["guardrail_action"] is None
    assert type(result["message"]) is AIMessage
    assert result["message"].response_metadata["model_name"] == HAIKU
    assert result["message"].response_metadata["routing"] == result["routing"]
    json.dumps([result["routing"], [citation.as_dict() for citation in result["citations"]]])


@pytest.mark.parametrize("mode", MODES)
def test_statement_outside_the_documents_is_not_cited(bedrock, library, mode):
    chain = KnowledgeBaseChain(knowledge_base_id=library, model=HAIKU, mode=mode)
    result = chain.invoke("Which xylophone qualifies zebras?")
    assert result["citations"] == []
    assert result["answer"]
    assert not text_block(result["message"]).get("annotations")


# --- who answered ---


def test_the_second_mode_says_what_happened(bedrock, library):
    router = bedrock.default_router()
    bedrock.choose(HAIKU)
    result = KnowledgeBaseChain(knowledge_base_id=library, model=router, mode=CONVERSE).invoke("Who discovered Titan?")
    routing = result["routing"]
    assert (routing["requested_model_id"], routing["invoked_model"], routing["is_fallback"]) == (router, HAIKU, False)
    assert routing["usage"]["input"] > 100
    assert routing["latency_ms"] > 0
    assert result["message"].response_metadata["model_name"] == HAIKU
    assert result["message"].usage_metadata["input_tokens"] == routing["usage"]["input"]


@pytest.mark.parametrize("target", ["router", HAIKU])
@pytest.mark.parametrize("streamed", [False, True])
def test_the_first_mode_never_guesses(bedrock, library, target, streamed):
    model = bedrock.default_router() if target == "router" else target
    chain = KnowledgeBaseChain(
        knowledge_base_id=library, model=model, performance_config={"latency": "standard"}, region_name="us-east-1"
    )
    result = whole(chain.stream("Who discovered Titan?")) if streamed else chain.invoke("Who discovered Titan?")
    routing = result["routing"]
    unknown = ("usage", "cost_usd", "fallback_cost_usd", "latency_ms", "time_to_first_token_ms")
    assert {name: routing[name] for name in unknown} == dict.fromkeys(unknown)
    assert routing["latency"] == {"requested": "standard", "served": None}
    assert routing["service_tier"] == {"requested": None, "served": None}
    assert routing["requested_model_id"] == model
    assert routing["invoked_model_id"] is None
    assert routing["request_id"] == bedrock.journal[-1].request_id
    if target == "router":
        assert routing["invoked_model"] is None
        assert routing["is_fallback"] is None
        assert set(routing["candidates"]) == {HAIKU, SONNET}
        assert result["message"].response_metadata["model_name"] == model
    assert result["message"].usage_metadata is None


def whole(chunks):
    total = None
    for chunk in chunks:
        total = chunk if total is None else total + chunk
    return total


# --- odd documents and odd questions ---

FACTS = {
    "emoji.md": "Zoë \N{GRINNING FACE}\N{GRINNING FACE} Ünal discovered the comet Ø in 1999.",
    "marks.md": "The cafe\u0301 of Nai\u0308ve was founded by Ame\u0301lie in 1901.",
    "cjk.md": "The word for krill in Japan is \u30aa\u30ad\u30a2\u30df.",
    "plain.md": "Brackets [1] and [cite] and <tags> stand in the manual of Bert.",
}


@pytest.fixture
def folder(bedrock, tmp_path):
    for name, text in FACTS.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return bedrock.add_knowledge_base(tmp_path)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("Who discovered the comet Ø?", "Zoë \N{GRINNING FACE}\N{GRINNING FACE} Ünal discovered"),
        ("Who founded the cafe\u0301 of Nai\u0308ve?", "Ame\u0301lie"),
        ("What is the word for krill in Japan?", "\u30aa\u30ad\u30a2\u30df"),
        ("What stands in the manual of Bert?", "[1] and [cite] and <tags>"),
    ],
)
def test_spans_hold_with_any_unicode(bedrock, folder, mode, question, words):
    chain = KnowledgeBaseChain(knowledge_base_id=folder, model=SONNET, mode=mode)
    result = chain.invoke(question)
    assert words in result["answer"]
    assert result["citations"]
    check_spans(result)
    check_annotations(result)
    streamed = whole(chain.stream(question))
    assert streamed["answer"] == result["answer"]
    assert streamed["citations"] == result["citations"]
    check_annotations(streamed)


@pytest.mark.parametrize("mode", MODES)
def test_a_document_of_one_long_line_is_quoted_whole(bedrock, tmp_path, mode):
    sentence = "The answer of krill is " + "very " * 400 + "long."
    (tmp_path / "long.md").write_text(sentence, encoding="utf-8")
    base = bedrock.add_knowledge_base(tmp_path)
    result = KnowledgeBaseChain(knowledge_base_id=base, model=HAIKU, mode=mode).invoke("What is the answer of krill?")
    check_spans(result)


def test_only_the_second_mode_takes_a_long_question(bedrock, library):
    question = "Who discovered Titan? " + "Please think about it. " * 100
    first, second = both(library, HAIKU)
    with pytest.raises(InvalidRequestError, match=r"takes 1,000.*retrieve_then_converse"):
        first.invoke(question)
    assert "Huygens" in second.invoke(question)["answer"]


def test_only_the_second_mode_takes_a_managed_knowledge_base(bedrock):
    base = bedrock.add_knowledge_base(type="MANAGED")
    first, second = both(base, HAIKU, k=3)
    with pytest.raises(InvalidRequestError, match=r"cannot use a managed knowledge base.*retrieve_then_converse"):
        first.invoke("Who discovered Titan?")
    with pytest.raises(InvalidRequestError, match=r"cannot use a managed knowledge base.*retrieve_then_converse"):
        list(first.stream("Who discovered Titan?"))
    assert "Huygens" in second.invoke("Who discovered Titan?")["answer"]
    with pytest.raises(InvalidRequestError, match="retrieve_then_converse"):
        KnowledgeBaseChain(knowledge_base_id=base, model=HAIKU, knowledge_base_type="MANAGED")
