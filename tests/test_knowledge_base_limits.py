"""Test knowledge bases with odd streams, odd models, one session in two threads, and endless conversations."""

from __future__ import annotations

import threading
import weakref

import pytest
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessageChunk, HumanMessage, HumanMessageChunk
from langchain_core.runnables import RunnableLambda
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole, TextBlock
from llama_index_knowledge import CONVERSE, FORMS, GENERATE, MODES, Says, ask, engine, facts
from samples import HAIKU
from scripted_bedrock import ScriptedBedrock

from bedrock_routing_integrations.errors import InvalidRequestError, SessionExpiredError
from bedrock_routing_integrations.knowledge_base import AnswerReader, Sessions
from bedrock_routing_integrations.langchain import KnowledgeBaseChain
from bedrock_routing_integrations.langchain._rag_messages import SessionMessages
from bedrock_routing_integrations.llama_index._rag_messages import new_memory

KB = "ABCDEFGHIJ"
ANSWER = "Hi \N{GRINNING FACE} there. Second \N{GRINNING FACE} one.\n"
SHELF = RunnableLambda(lambda _query: [Document("Krill are small.", metadata={"source": 7})])


def total(chunks):
    whole = None
    for chunk in chunks:
        whole = chunk if whole is None else whole + chunk
    return whole


# --- streams as no emulator sends them ---


def claim(text, start, end, *references):
    found = [
        {"content": {"text": each}, "location": {"type": "S3", "s3Location": {"uri": each}}} for each in references
    ]
    place = {"text": text, "span": {"start": start, "end": end}}
    return {"generatedResponsePart": {"textResponsePart": place}, "retrievedReferences": found}


FIRST = claim("Hi \N{GRINNING FACE} there.\n", 0, 11, "a")
SECOND = claim("Second \N{GRINNING FACE} one.", 12, 26, "b")
SAID = ("output", {"text": ANSWER})
TEXTS = [("output", {"text": piece}) for piece in (ANSWER[:4], "", ANSWER[4:15], ANSWER[15:])]
NEWS = ("somethingNew", {"x": 1})
STREAMS = {
    "citations first": [("citation", FIRST), ("citation", SECOND), *TEXTS],
    "inner ones only": [SAID, ("citation", {"citation": FIRST}), ("citation", {"citation": SECOND})],
    "the place outside, what it rests on inside": [
        SAID,
        ("citation", {**FIRST, "retrievedReferences": None, "citation": FIRST}),
        ("citation", {"generatedResponsePart": SECOND["generatedResponsePart"], "citation": SECOND}),
    ],
    "counted in UTF-16": [
        *TEXTS,
        ("citation", claim("Hi \N{GRINNING FACE} there.", 0, 12, "a")),
        ("citation", claim("Second \N{GRINNING FACE} one.", 13, 28, "b")),
    ],
    "events and members of tomorrow": [
        NEWS, TEXTS[0], NEWS, ("citation", FIRST | {"new": {"x": [1]}}), *TEXTS[1:], ("citation", SECOND), NEWS,
    ],
    "events of nothing": [
        ("output", {}), ("citation", {}), ("citation", {"citation": {}}), ("output", {"text": None}), ("guardrail", {}),
        SAID, ("citation", FIRST), ("citation", SECOND), ("guardrail", {"action": None}),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMS)
async def test_both_frameworks_read_any_events_alike(name):
    with ScriptedBedrock([*STREAMS[name], ("guardrail", {"action": "NONE"})]) as server:
        reached = {"model": HAIKU, "base_models": [HAIKU], **server.arguments}
        chain = KnowledgeBaseChain(knowledge_base_id=KB, **reached)
        results = [total(chain.stream("?")), total([chunk async for chunk in chain.astream("?")])]
        responses = [await ask(engine(KB, form, **reached), form, "?") for form in ("stream", "astream")]
    answers = [(r["answer"], r["citations"], r["guardrail_action"], r["session_id"]) for r in results]
    said = [
        (r.response, *(r.metadata[key] for key in ("citations", "guardrail_action", "session_id"))) for r in responses
    ]
    for text, citations, action, session_id in answers + said:
        assert text == ANSWER
        assert [(c.text, c.sources) for c in citations] == [
            ("Hi \N{GRINNING FACE} there.", ("a",)), ("Second \N{GRINNING FACE} one.", ("b",)),
        ]  # fmt: skip
        assert all(text[c.start : c.end] == c.text for c in citations)
        assert (action, session_id) == ("NONE", None), "the header was not there"


def test_null_citation_keeps_the_answer():
    reader = AnswerReader()
    reader.read_response({"output": {"text": ANSWER}, "citations": [None, FIRST, None, SECOND]})
    assert [citation.text for citation in reader.citations] == [ANSWER[:11], ANSWER[12:25]]


@pytest.mark.parametrize("mode", MODES)
async def test_a_stream_that_does_not_begin_falls_back(bedrock, mode):
    nothing_there = KnowledgeBaseChain(knowledge_base_id="UNKNOWN123", model=HAIKU, mode=mode)
    library = KnowledgeBaseChain(knowledge_base_id=bedrock.default_knowledge_base(), model=HAIKU, mode=mode)
    chain = nothing_there.with_fallbacks([library])
    asked = "Who discovered Titan?"
    for result in (total(chain.stream(asked)), total([chunk async for chunk in chain.astream(asked)])):
        assert "Huygens" in result["answer"]


# --- sessions ---


def test_a_session_can_be_used_by_two_threads_at_once():
    """The clock is read in the middle of `find`; there another thread comes in between."""
    errors, others = [], []

    def find():
        try:
            sessions.find(session_id)
        except SessionExpiredError as error:
            errors.append(error)

    def clock():
        if session_id and not others:
            others.append(threading.Thread(target=find))
            others[0].start()
            others[0].join(0.2)  # it may have to wait for us
        return 0.0

    session_id = None
    sessions = Sessions(lambda _: [], clock)
    session_id, _ = sessions.begin()
    find()
    others[0].join()
    assert errors == []


def test_sessions_drop_expired_entries():
    class History:
        pass

    now = [0.0]
    sessions = Sessions(lambda _: History(), lambda: now[0])
    old, used = sessions.begin(), sessions.begin()
    now[0] = 20 * 3600.0
    sessions.find(used[0])
    gone, kept = weakref.ref(old[1]), weakref.ref(used[1])
    del old
    used = used[0]
    now[0] = 24 * 3600.0 + 1
    sessions.begin()
    assert gone() is None
    assert sessions.find(used) is kept()


def test_history_keeps_turns_that_end_at_once():
    history = SessionMessages()
    other = threading.Thread(target=history.add_messages, args=([HumanMessage("theirs")],))

    class Slow(list):
        def __iter__(self):
            other.start()
            other.join(0.2)  # it may have to wait for us
            return super().__iter__()

    history.add_messages(Slow([HumanMessage("ours")]))
    other.join()
    assert sorted(message.text for message in history.messages) == ["ours", "theirs"]


def test_histories_stay_within_their_limits():
    memory = new_memory("id")
    for number in range(40):
        memory.put_messages([said("user", f"q{number}"), said("assistant", "word " * 900)])
    answers = memory.get()
    assert memory.get_all() == answers
    assert answers[0].role == MessageRole.USER
    assert answers[-2].content == "q39"
    assert len(answers) < 40


@pytest.mark.parametrize("form", FORMS)
async def test_memory_drops_an_answer_longer_than_its_limit(bedrock, form):
    llm = Says(answers=["word " * 17_000, "Short."])
    asked = engine(facts(bedrock), form, model=llm, mode=CONVERSE)
    session_id = (await ask(asked, form)).metadata["session_id"]
    assert (await ask(asked, form, session_id=session_id)).response == "Short."
    assert [message.role for message in llm.asked[-1]] == [MessageRole.SYSTEM, MessageRole.USER]


def said(role, text):
    return ChatMessage(role=role, content=text)


# --- what the caller gives ---


def test_history_takes_summed_stream_chunks():
    seen = []
    model = RunnableLambda(lambda messages: seen.append(messages) or "Small [cite: 1].")
    chain = KnowledgeBaseChain(retriever=SHELF, model=model, mode=CONVERSE)
    message = total(chain.stream("Krill?"))["message"]
    assert isinstance(message, AIMessageChunk)
    seen.clear()
    chain.invoke({"input": "And whales?", "chat_history": [HumanMessageChunk("Krill?"), message]})
    assert "User: Krill?\nAssistant: Small.\n" in seen[0][0].text


@pytest.mark.parametrize("given", ["Human: hi", HumanMessage("hi"), {"role": "user", "content": "hi"}])
def test_chat_history_must_be_a_list(given):
    chain = KnowledgeBaseChain(retriever=SHELF, model=FakeListChatModel(responses=["a"]), mode=CONVERSE)
    with pytest.raises(InvalidRequestError, match="chat_history must be a list of messages, and is a"):
        chain.invoke({"input": "?", "chat_history": given})


def test_annotation_source_is_text():
    chain = KnowledgeBaseChain(retriever=SHELF, model=FakeListChatModel(responses=["Small [cite: 1]."]), mode=CONVERSE)
    (annotation,) = chain.invoke("Krill?")["message"].content_blocks[0]["annotations"]
    assert annotation["url"] == annotation["title"] == "7"


# --- odd models ---


class InPieces(Says):
    """An LLM whose answer is of several blocks."""

    def chat(self, messages, **kwargs):
        blocks = [TextBlock(text=text) for text in self.answers]
        return ChatResponse(message=ChatMessage(role="assistant", blocks=blocks))

    def stream_chat(self, messages, **kwargs):
        message = ChatMessage(role="assistant", content="")
        return (ChatResponse(message=message, delta=text) for text in self.answers)


@pytest.mark.parametrize("form", FORMS)
async def test_answer_of_several_blocks_is_equal_streamed_and_whole(bedrock, form):
    llm = InPieces(answers=["Huygens [ci", "te: 1]", " did."])
    response = await ask(engine(facts(bedrock), form, model=llm, mode=CONVERSE), form)
    assert response.response == "Huygens did."
    assert [citation.text for citation in response.metadata["citations"]] == ["Huygens"]


@pytest.mark.parametrize("mode", MODES)
def test_halves_of_characters_and_the_like_reach_bedrock(bedrock, mode):
    chain = KnowledgeBaseChain(knowledge_base_id=facts(bedrock), model=HAIKU, mode=mode)
    for odd in ("\ud83d", "\x00", "\u202e", "e\u0301", "\U0010ffff"):
        result = chain.invoke(f"Who found Titan {odd}?")
        assert all(result["answer"][c.start : c.end] == c.text for c in result["citations"])
        name = {GENERATE: "RetrieveAndGenerate", CONVERSE: "Retrieve"}[mode]
        sent = bedrock.requests(name)[-1].request
        assert odd in (sent["input"] if mode == GENERATE else sent["retrievalQuery"])["text"]
