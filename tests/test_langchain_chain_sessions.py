"""Conversations with `KnowledgeBaseChain`: continued, expired, kept elsewhere."""

from __future__ import annotations

import contextlib
import re
import warnings

import pytest
from knowledge_base_calls import DAY, Clock
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import ConfigurableField
from samples import HAIKU

from bedrock_routing_integrations.emulator import BedrockEmulator
from bedrock_routing_integrations.errors import InvalidRequestError, SessionExpiredError, StreamInterruptedError
from bedrock_routing_integrations.langchain import KnowledgeBaseChain
from bedrock_routing_integrations.langchain._rag_messages import shared_sessions

GENERATE, CONVERSE = "retrieve_and_generate", "retrieve_then_converse"
MODES = [GENERATE, CONVERSE]
TITAN, FOLLOW_UP = "Who discovered Titan?", "And what are its lakes made of?"


@pytest.fixture
def library(bedrock):
    return bedrock.default_knowledge_base()


def chain_of(base, mode=CONVERSE, **arguments):
    return KnowledgeBaseChain(knowledge_base_id=base, model=HAIKU, mode=mode, **arguments)


def whole(chunks):
    total = None
    for chunk in chunks:
        total = chunk if total is None else total + chunk
    return total


async def told(chain, form, given, config=None, **more):
    """The result, however it is asked for."""
    if form == "invoke":
        return chain.invoke(given, config, **more)
    if form == "ainvoke":
        return await chain.ainvoke(given, config, **more)
    if form == "stream":
        return whole(chain.stream(given, config, **more))
    return whole([chunk async for chunk in chain.astream(given, config, **more)])


FORMS = ["invoke", "ainvoke", "stream", "astream"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mode", MODES)
async def test_the_session_id_of_an_answer_continues_the_conversation(bedrock, library, mode, form):
    chain = chain_of(library, mode)
    first = await told(chain, form, TITAN)
    again = await told(chain, form, {"input": FOLLOW_UP, "session_id": first["session_id"]})
    assert "methane" in again["answer"], "it is about Titan only with the question before"
    assert again["input"] == FOLLOW_UP
    assert again["session_id"] == first["session_id"]
    other = await told(chain, form, TITAN)
    assert other["session_id"] != first["session_id"]


@pytest.mark.parametrize("mode", MODES)
def test_the_session_id_can_be_given_in_each_usual_place(bedrock, library, mode):
    chain = chain_of(library, mode)
    for ask in (
        lambda session_id: chain.invoke({"input": FOLLOW_UP, "session_id": session_id}),
        lambda session_id: chain.invoke(FOLLOW_UP, session_id=session_id),
        lambda session_id: chain.invoke(FOLLOW_UP, {"configurable": {"session_id": session_id}}),
        lambda session_id: chain.with_config(configurable={"session_id": session_id}).invoke(FOLLOW_UP),
    ):
        session_id = chain.invoke(TITAN)["session_id"]
        result = ask(session_id)
        assert result["session_id"] == session_id
        assert "methane" in result["answer"]


def test_a_follow_up_is_searched_for_as_a_whole_question(bedrock, library):
    chain = chain_of(library)
    session_id = chain.invoke(TITAN)["session_id"]
    bedrock.clear_journal()
    chain.invoke(FOLLOW_UP, session_id=session_id)
    wording, answer = (entry.request for entry in bedrock.requests("Converse"))
    assert "User: Who discovered Titan?\nAssistant: Christiaan Huygens" in wording["messages"][0]["content"][0]["text"]
    (search,) = bedrock.requests("Retrieve")
    assert "Titan" in search.request["retrievalQuery"]["text"]
    sent_messages = [(message["role"], message["content"][0]["text"]) for message in answer["messages"]]
    assert sent_messages[0] == ("user", TITAN), "the question, without the passages"
    assert sent_messages[1][0] == "assistant"
    assert "cite:" not in sent_messages[1][1], "without markers, which would be of other passages"
    assert sent_messages[2][1].endswith(f"Question: {FOLLOW_UP}")


async def test_session_keeps_a_stream_left_at_its_last_chunk(bedrock, library):
    def before(session_id):
        chain.invoke(FOLLOW_UP, session_id=session_id)
        return bedrock.requests("Converse")[-1].request["messages"][0]["content"][0]["text"]

    chain = chain_of(library)
    session_id = None
    for part in chain.stream(TITAN):
        session_id = part.get("session_id") or session_id
        if "routing" in part:
            break
    assert before(session_id) == TITAN
    async with contextlib.aclosing(chain.astream(TITAN)) as parts:
        async for part in parts:
            session_id = part.get("session_id") or session_id
            if "routing" in part:
                break
    assert before(session_id) == TITAN


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mode", MODES)
async def test_unknown_session_raises(bedrock, library, mode, form):
    with pytest.raises(SessionExpiredError, match=r"is over, or never was.*24 hours") as caught:
        await told(chain_of(library, mode), form, {"input": TITAN, "session_id": "0b1f-unknown"})
    assert caught.value.session_id == "0b1f-unknown"
    assert bedrock.requests("Converse") == []


def test_a_session_of_bedrock_expires(monkeypatch):
    clock = Clock()
    with BedrockEmulator(clock=clock) as bedrock:
        for name, value in bedrock.environment().items():
            monkeypatch.setenv(name, value)
        chain = chain_of(bedrock.default_knowledge_base(), GENERATE)
        session_id = chain.invoke(TITAN)["session_id"]
        clock.now = DAY - 1
        assert chain.invoke(FOLLOW_UP, session_id=session_id)["session_id"] == session_id
        clock.now = 3 * DAY
        with pytest.raises(SessionExpiredError, match=re.escape(session_id)):
            chain.invoke(FOLLOW_UP, session_id=session_id)
        with pytest.raises(SessionExpiredError, match=re.escape(session_id)):
            list(chain.stream(FOLLOW_UP, session_id=session_id))


def test_a_session_of_ours_expires_too(bedrock, library, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(shared_sessions()._sessions, "_clock", clock)
    chain = chain_of(library)
    session_id = chain.invoke(TITAN)["session_id"]
    clock.now = DAY - 1
    assert chain.invoke(FOLLOW_UP, session_id=session_id)["session_id"] == session_id
    clock.now = 2 * DAY - 2
    assert "methane" in chain.invoke(FOLLOW_UP, session_id=session_id)["answer"], "a day from its last use"
    clock.now = 4 * DAY
    with pytest.raises(SessionExpiredError):
        chain.invoke(FOLLOW_UP, session_id=session_id)


def test_session_continues_in_another_chain(bedrock, library):
    """As in a server that makes a chain for each request."""
    session_id = chain_of(library).invoke(TITAN)["session_id"]
    assert chain_of(library).invoke(FOLLOW_UP, session_id=session_id)["session_id"] == session_id
    configured = chain_of(library).configurable_fields(k=ConfigurableField("k"))
    again = configured.invoke(FOLLOW_UP, {"configurable": {"k": 3, "session_id": session_id}})
    assert (again["session_id"], len(again["context"])) == (session_id, 3)


@pytest.mark.parametrize("session_id", ["", 5])
def test_invalid_session_id_is_refused(bedrock, library, session_id):
    with pytest.raises(InvalidRequestError, match=r"session_id=.* is not valid"):
        chain_of(library).invoke({"input": TITAN, "session_id": session_id})


def test_another_key_in_a_session_is_refused_as_bedrock_does(bedrock, library):
    keys = [f"arn:aws:kms:us-east-1:123456789012:key/{digit * 8}-0000-4000-8000-000000000000" for digit in "01"]
    one, other = (chain_of(library, GENERATE, kms_key_arn=key) for key in keys)
    session_id = one.invoke(TITAN)["session_id"]
    assert one.invoke(FOLLOW_UP, session_id=session_id)
    with pytest.raises(Exception, match="ConflictException"):
        other.invoke(FOLLOW_UP, session_id=session_id)


def test_invalid_bedrock_session_id_is_not_sent(bedrock, library):
    with pytest.raises(InvalidRequestError, match="session_id='with spaces' is not valid"):
        chain_of(library, GENERATE).invoke(TITAN, session_id="with spaces")
    assert bedrock.requests() == []


# --- the conversation is kept by the user ---


@pytest.fixture
def kept():
    """LangChain's own histories by session id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LangChain has deprecated it; every other needs a further package
        from langchain_core.chat_history import InMemoryChatMessageHistory

        class Kept(dict):
            def __missing__(self, session_id):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    self[session_id] = InMemoryChatMessageHistory()
                return self[session_id]

        yield Kept()


@pytest.mark.parametrize("form", FORMS)
async def test_the_conversation_can_be_kept_in_langchains_histories(bedrock, library, kept, form):
    chain = chain_of(library, get_session_history=kept.__getitem__)
    config = {"configurable": {"session_id": "ann's"}}
    result = await told(chain, form, TITAN, config)
    assert result["session_id"] == "ann's"
    assert [message.type for message in kept["ann's"].messages] == ["human", "ai"]
    again = await told(chain, form, FOLLOW_UP, config)
    assert "methane" in again["answer"]
    texts = [message.text for message in kept["ann's"].messages]
    assert texts == [TITAN, result["answer"], FOLLOW_UP, again["answer"]]
    new = await told(chain, form, TITAN)
    assert new["session_id"] in kept
    assert len(kept[new["session_id"]].messages) == 2


@pytest.mark.parametrize(
    "history",
    [
        [HumanMessage(TITAN), AIMessage("Christiaan Huygens did.")],
        [("human", TITAN), ("ai", "Christiaan Huygens did.")],
        [{"role": "user", "content": TITAN}, {"role": "assistant", "content": "Christiaan Huygens did."}],
        (HumanMessage([{"type": "text", "text": TITAN}]), AIMessage("Christiaan Huygens did.")),
    ],
)
async def test_the_conversation_can_be_given_with_the_question(bedrock, library, history):
    chain = chain_of(library)
    for form in FORMS:
        result = await told(chain, form, {"input": FOLLOW_UP, "chat_history": history})
        assert "methane" in result["answer"]
        assert result["session_id"] is None, "nothing is kept"
    first = await told(chain, "invoke", {"input": TITAN, "chat_history": []})
    assert "Huygens" in first["answer"]


# --- what is remembered ---


@pytest.mark.parametrize("form", ["stream", "astream"])
async def test_a_broken_turn_is_not_remembered(bedrock, library, kept, form):
    chain = chain_of(library, get_session_history=kept.__getitem__, max_retries=0)
    bedrock.fail("cut", operation="ConverseStream", frame=5, abrupt=True)
    with pytest.raises(StreamInterruptedError):
        await told(chain, form, TITAN, session_id="a")
    assert kept["a"].messages == []
    await told(chain, form, TITAN, session_id="a")
    assert len(kept["a"].messages) == 2


@pytest.mark.parametrize("form", ["invoke", "ainvoke"])
async def test_a_refused_turn_is_not_remembered(bedrock, library, kept, form):
    chain = chain_of(library, get_session_history=kept.__getitem__, max_retries=0)
    bedrock.fail("throttling", operation="Converse")
    with pytest.raises(Exception, match="Throttling"):
        await told(chain, form, TITAN, session_id="a")
    assert kept["a"].messages == []


def test_an_abandoned_turn_is_not_remembered(bedrock, library, kept):
    stream = chain_of(library, get_session_history=kept.__getitem__).stream(TITAN, session_id="a")
    next(chunk for chunk in stream if chunk.get("answer"))
    stream.close()
    assert kept["a"].messages == []


def test_a_long_conversation_goes_on(bedrock, library):
    chain = chain_of(library)
    session_id = chain.invoke(TITAN)["session_id"]
    for _ in range(60):
        chain.invoke(TITAN, session_id=session_id)
    assert len(bedrock.requests("Converse")[-1].request["messages"]) <= 101


def test_sessions_do_not_mix(bedrock, library):
    chain = chain_of(library)
    titan, phobos = (
        chain.invoke(question)["session_id"] for question in (TITAN, "What is the largest crater of Phobos called?")
    )
    chain.invoke("And how large is it?", session_id=phobos)
    asked = str(bedrock.requests("Converse")[-1].request["messages"][0])
    assert "Phobos" in asked
    assert "Titan" not in asked
    assert titan != phobos
