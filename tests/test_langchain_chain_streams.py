"""Streams of `KnowledgeBaseChain`: they add up to the whole, begin early, end cleanly, and break audibly."""

from __future__ import annotations

import asyncio
import gc
import threading
import time

import pytest
from botocore.exceptions import EventStreamError
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from samples import HAIKU, SONNET
from scripted_bedrock import ScriptedBedrock, block_stop, stream_of, text

from bedrock_routing_integrations.errors import StreamInterruptedError
from bedrock_routing_integrations.langchain import ChatBedrockRouter, KnowledgeBaseChain

GENERATE, CONVERSE = "retrieve_and_generate", "retrieve_then_converse"
MODES = [GENERATE, CONVERSE]
OPERATION = {GENERATE: "RetrieveAndGenerateStream", CONVERSE: "ConverseStream"}
TITAN = "Who discovered Titan?"
LAKES = "What are the lakes of Titan made of?"  # two sentences


@pytest.fixture
def library(bedrock):
    return bedrock.default_knowledge_base()


def chain_of(base, mode, model=SONNET, **arguments):
    return KnowledgeBaseChain(knowledge_base_id=base, model=model, mode=mode, **arguments)


def whole(chunks):
    total = chunks[0]
    for chunk in chunks[1:]:
        total = total + chunk
    return total


def text_block(message):
    (block,) = [block for block in message.content_blocks if block["type"] == "text"]
    return block


def kept(routing):
    """Return the part that two results have in common."""
    own = ("request_id", "latency_ms", "time_to_first_token_ms", "attempts")
    return {name: value for name, value in routing.items() if name not in own}


@pytest.mark.parametrize("form", ["stream", "astream"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("target", ["router", SONNET])
async def test_partial_dictionaries_add_up_to_the_result(bedrock, library, mode, form, target):
    chain = chain_of(library, mode, bedrock.default_router() if target == "router" else target)
    result = chain.invoke(LAKES)
    chunks = [chunk async for chunk in as_async(chain, form, LAKES)]
    total = whole(chunks)
    assert set(total) == set(result)
    for key in ("input", "context", "answer", "citations", "guardrail_action"):
        assert total[key] == result[key], key
    assert isinstance(total["session_id"], str)
    assert kept(total["routing"]) == kept(result["routing"])
    ours, theirs = total["message"], result["message"]
    assert ours.text == theirs.text == result["answer"]
    assert text_block(ours).get("annotations") == text_block(theirs).get("annotations")
    assert ours.usage_metadata == theirs.usage_metadata
    assert set(ours.response_metadata) >= {"model_name", "routing"}
    assert ours.response_metadata["routing"] == total["routing"]
    assert ours.response_metadata["model_name"] == theirs.response_metadata["model_name"]
    assert list(chunks[0]) == ["input"]
    assert sum(bool(chunk.get("answer")) for chunk in chunks) > 1
    for key in ("input", "session_id", "routing"):
        assert sum(chunk.get(key) is not None for chunk in chunks) == 1, "said once"


@pytest.mark.parametrize("mode", MODES)
def test_streamed_text_is_never_revised(library, mode):
    answer, found = "", []
    for chunk in chain_of(library, mode).stream(LAKES):
        answer += chunk.get("answer", "")
        found += chunk.get("context", [])
        for citation in chunk.get("citations", ()):
            assert answer[citation.start : citation.end] == citation.text, "of text that has arrived"
            assert max(citation.passages) < len(found), "of documents that have arrived"


@pytest.mark.sample(2)
@pytest.mark.parametrize("form", ["stream", "astream"])
@pytest.mark.parametrize("mode", MODES)
async def test_the_first_words_come_before_the_last_are_sent(bedrock, library, mode, form):
    bedrock.fail("slow_stream", operation=OPERATION[mode], seconds=0.05)
    ended = []
    async for chunk in as_async(chain_of(library, mode), form, LAKES):
        if chunk.get("answer"):
            ended.append(bedrock.requests(OPERATION[mode])[-1].ended)
    assert ended[0] is None, "it was still being sent"


async def as_async(chain, form, question, *callbacks):
    config = {"callbacks": list(callbacks)}
    if form == "astream":
        async for chunk in chain.astream(question, config):
            yield chunk
    else:
        for chunk in chain.stream(question, config):
            yield chunk


@pytest.mark.parametrize("mode", MODES)
def test_an_abandoned_stream_closes_its_connection(bedrock, library, mode):
    bedrock.fail("slow_stream", operation=OPERATION[mode], seconds=0.3)
    stream = chain_of(library, mode).stream(LAKES)
    next(chunk for chunk in stream if chunk.get("answer"))
    stream.close()
    assert hung_up(bedrock, OPERATION[mode])


@pytest.mark.parametrize("mode", MODES)
async def test_an_abandoned_async_stream_closes_its_connection(bedrock, library, mode):
    bedrock.fail("slow_stream", operation=OPERATION[mode], seconds=0.3)
    stream = chain_of(library, mode).astream(LAKES)
    async for chunk in stream:
        if chunk.get("answer"):
            break
    gc.disable()  # the garbage collector must not do it
    try:
        await stream.aclose()
        assert await asyncio.to_thread(hung_up, bedrock, OPERATION[mode])
    finally:
        gc.enable()


def hung_up(bedrock, operation):
    for _ in range(300):
        if bedrock.requests(operation)[-1].client_closed:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("form", ["stream", "astream"])
@pytest.mark.parametrize("fault", [{"kind": "cut", "abrupt": True}, {"kind": "bad_checksum"}])
@pytest.mark.parametrize("mode", MODES)
async def test_broken_stream_raises_with_partial_answer(bedrock, library, mode, fault, form):
    seen = Errors()
    bedrock.fail(operation=OPERATION[mode], **fault)
    arrived = ""
    with pytest.raises(StreamInterruptedError) as caught:
        async for chunk in as_async(chain_of(library, mode, max_retries=0), form, LAKES, seen):
            arrived += chunk.get("answer", "")
    assert arrived
    (block,) = caught.value.partial["output"]["message"]["content"]
    assert block["text"].startswith(arrived.strip())
    assert "retrieval_chain" in seen.errors
    assert seen.errors["retrieval_chain"] == "StreamInterruptedError"
    assert "retrieval_chain" not in seen.ended


@pytest.mark.parametrize("form", ["stream", "astream"])
@pytest.mark.parametrize("mode", MODES)
async def test_error_event_is_raised_as_boto3s(bedrock, library, mode, form):
    seen = Errors()
    bedrock.fail("exception_event", operation=OPERATION[mode], name="throttlingException", message="slow down")
    with pytest.raises(EventStreamError, match="slow down"):
        async for _ in as_async(chain_of(library, mode), form, LAKES, seen):
            pass
    assert seen.errors["retrieval_chain"] == "EventStreamError"


class Errors(BaseCallbackHandler):
    def __init__(self):
        self.names, self.errors, self.ended = {}, {}, []

    def on_chain_start(self, serialized, inputs, *, run_id, **more):
        self.names[run_id] = more["name"]

    def on_chain_error(self, error, *, run_id, **more):
        self.errors[self.names[run_id]] = type(error).__name__

    def on_chain_end(self, outputs, *, run_id, **more):
        self.ended.append(self.names[run_id])


def test_converse_stream_cut_between_events_raises(bedrock, library):
    bedrock.fail("cut", operation="ConverseStream", frame=5)
    with pytest.raises(StreamInterruptedError):
        list(chain_of(library, CONVERSE, max_retries=0).stream(TITAN))


async def test_astream_events_has_the_chunks(library):
    events = [event async for event in chain_of(library, CONVERSE).astream_events(TITAN, version="v2")]
    of_chain = [event for event in events if event["name"] == "retrieval_chain"]
    assert [of_chain[0]["event"], of_chain[-1]["event"]] == ["on_chain_start", "on_chain_end"]
    assert whole([event["data"]["chunk"] for event in of_chain if event["event"] == "on_chain_stream"])["answer"]
    retrieved = [event for event in events if event["event"] == "on_retriever_end"]
    assert [event["name"] for event in retrieved] == ["retrieve_documents"]
    assert retrieved[0]["parent_ids"] == [of_chain[0]["run_id"]]
    models = [event for event in events if event["event"] == "on_chat_model_end"]
    assert [event["parent_ids"] for event in models] == [[of_chain[0]["run_id"]]]


def test_streams_of_many_threads_do_not_mix(bedrock, library):
    questions = ["Who discovered Titan?", "What is the largest crater of Phobos called?"] * 8
    chain, answers = chain_of(library, CONVERSE, HAIKU), {}

    def ask(number, question):
        answers[number] = whole(list(chain.stream(question)))["answer"]

    threads = [threading.Thread(target=ask, args=each) for each in enumerate(questions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(answers.values())) == 2
    assert all("Huygens" in answers[number] for number in range(0, 16, 2))


# --- markers in pieces, and other blocks ---


def marked(*answers):
    return GenericFakeChatModel(messages=iter([AIMessage(answer) for answer in answers]))


def test_markers_never_show_however_they_are_cut(library):
    answer_text = "Titan was found [cite: 1]. It is \N{GRINNING FACE} far [cite: 2, 1] away [cite: 99] [1]."
    chain = chain_of(library, CONVERSE, marked(answer_text, answer_text))
    result = chain.invoke(TITAN)
    chunks = list(chain.stream(TITAN))
    assert result["answer"] == "Titan was found. It is \N{GRINNING FACE} far away [1]."
    assert whole(chunks)["answer"] == result["answer"]
    assert whole(chunks)["citations"] == result["citations"]
    assert [citation.passages for citation in result["citations"]] == [(0,), (1, 0)]
    assert not any("cite" in chunk.get("answer", "") for chunk in chunks)


def reasoning(index, value):
    return "contentBlockDelta", {"contentBlockIndex": index, "delta": {"reasoningContent": {"text": value}}}


def test_reasoning_blocks_are_kept():
    thought = [reasoning(0, "let me "), reasoning(0, "think"), block_stop(0)]
    events = stream_of(*thought, text(1, "Titan [ci"), text(1, "te: 1] is"), text(1, " far."), block_stop(1))
    found = {"retrievalResults": [{"content": {"text": "Titan is far."}}]}
    with ScriptedBedrock(found, events) as service:
        chain = KnowledgeBaseChain(
            knowledge_base_id="EMULATEDKB", model=HAIKU, mode=CONVERSE, base_models=[HAIKU], **service.arguments
        )
        total = whole(list(chain.stream(TITAN)))
    assert total["answer"] == "Titan is far."
    blocks = total["message"].content_blocks
    assert [block["type"] for block in blocks] == ["reasoning", "text"]
    assert blocks[0]["reasoning"] == "let me think"
    assert blocks[1]["text"] == "Titan is far."
    assert total["citations"][0].text == "Titan"


def test_a_chat_model_that_does_not_stream_streams_one_piece(bedrock, library):
    model = ChatBedrockRouter(model=HAIKU, disable_streaming=True)
    total = whole(list(chain_of(library, CONVERSE, model).stream(TITAN)))
    assert "Huygens" in total["answer"]
    assert total["routing"]["invoked_model"] == HAIKU
    assert total["message"].usage_metadata["output_tokens"] > 0


def test_an_answer_of_many_pieces_arrives_whole():
    words = [f"word{number} " for number in range(20_000)]
    events = stream_of(*(text(0, "".join(words[at : at + 20])) for at in range(0, 20_000, 20)), block_stop(0))
    found = {"retrievalResults": [{"content": {"text": "Titan is far."}}]}
    with ScriptedBedrock(found, events) as service:
        chain = KnowledgeBaseChain(
            knowledge_base_id="EMULATEDKB", model=HAIKU, mode=CONVERSE, base_models=[HAIKU], **service.arguments
        )
        started = time.monotonic()
        answer = "".join(chunk.get("answer", "") for chunk in chain.stream(TITAN))
        assert answer == "".join(words).strip()
        assert time.monotonic() - started < 10, "not quadratic"
