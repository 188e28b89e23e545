"""Send recorded conversations through the frameworks' classes: the request that Bedrock accepted must come out.

Each test goes through all recorded requests that were answered (status 200), written as a user of the framework would,
and fails with a list of what was lost, added or changed. `recorded_messages` lists the differences that are ignored.
"""

from __future__ import annotations

import json
import re
import warnings

import pytest
from langchain_core.messages import HumanMessage, ToolMessage, messages_from_dict, messages_to_dict
from llama_index.core.base.llms.types import ChatMessage
from recorded_bedrock import (
    REPLAYED,
    answers,
    one_of_each_kind,
    recorded_answer,
    recorded_blocks,
    recorded_content,
)
from recorded_differences import Differences
from recorded_messages import (
    NotExpressibleError,
    differing_members,
    langchain_messages,
    langchain_settings,
    llama_index_messages,
    llama_index_settings,
    with_langchain_tools,
)

from bedrock_routing_integrations import RoutedClient
from bedrock_routing_integrations.langchain import ChatBedrockRouter
from bedrock_routing_integrations.llama_index import BedrockRouter

pytestmark = REPLAYED


def accepted():
    return [
        recording for recording in answers("Converse", "ConverseStream") if recording.body and not recording.is_doubtful
    ]


def check_request(differences, recorded, recording):
    for member, sent, expected in differing_members(recorded.requests[-1][1], recording.body):
        differences.add(member, sent, expected)
    differences.compared += 1


def test_chat_bedrock_router_sends_the_recorded_request(recorded):
    with Differences() as differences:
        for recording in accepted():
            with differences.of(recording), warnings.catch_warnings():
                # langchain-aws's own, where tools are in the history only.
                warnings.filterwarnings("ignore", "Tool messages were passed without toolConfig")
                recorded.play(recording)
                llm = ChatBedrockRouter(
                    model=recording.model_id, client=recorded.client(), bedrock_client=recorded.client("bedrock"),
                    cache="off", **langchain_settings(recording.body),
                )  # fmt: skip
                bound = with_langchain_tools(llm, recording.body)
                messages = langchain_messages(recording.body)
                if recording.is_stream:
                    list(bound.stream(messages))
                else:
                    bound.invoke(messages)
                check_request(differences, recorded, recording)


def test_bedrock_router_sends_the_recorded_request(recorded):
    with Differences() as differences:
        for recording in accepted():
            with differences.of(recording):
                try:
                    messages = llama_index_messages(recording.body)
                except NotExpressibleError:
                    continue
                recorded.play(recording)
                llm = BedrockRouter(
                    model=recording.model_id, client=recorded.client(), bedrock_client=recorded.client("bedrock"),
                    cache="off",
                )  # fmt: skip
                if recording.is_stream:
                    list(llm.stream_chat(messages, **llama_index_settings(recording.body)))
                else:
                    llm.chat(messages, **llama_index_settings(recording.body))
                check_request(differences, recorded, recording)


# --- answers sent back in the next turn ---


def said_in(blocks):
    """Return what matters of a turn: text without space, calls, and what Bedrock ran, thought and cited."""
    text, calls, server, signed, unsigned, cited = "", [], [], [], [], []
    for block in blocks:
        (kind, value), *_ = block.items()
        if kind == "text":
            text += value
        elif kind == "toolUse" and value.get("type") != "server_tool_use":
            calls.append((value["toolUseId"], value["name"], value["input"]))
        elif kind in ("toolUse", "toolResult"):
            server.append((kind, value["toolUseId"], value.get("type"), value.get("input") or value["content"]))
        elif kind == "reasoningContent":
            written = value.get("reasoningText", {})
            is_signed = "redactedContent" in value or written.get("signature")
            (signed if is_signed else unsigned).append(value.get("redactedContent") or written.get("text", ""))
        elif kind == "citationsContent":
            content = "".join(part["text"] for part in value.get("content", ()))
            text += content
            cited += [(content.strip(), each) for each in value["citations"] if content]
    # langchain-aws leaves out what Nova 1 thinks aloud.
    text = re.sub(r"<thinking>.*?</thinking>", "", text, flags=re.DOTALL)
    return {
        "text": re.sub(r"\s", "", text), "calls": calls, "server": server, "signed": signed, "unsigned": unsigned,
        "citations": cited,
    }  # fmt: skip


def check_sent_back(differences, recorded, recording):
    """Compare the assistant's turn in the last request with the recorded answer that it repeats.

    Reasoning without a signature and what Bedrock ran itself may be left out, but only as a whole.
    """
    turns = [message for message in recorded.requests[-1][1]["messages"] if message["role"] == "assistant"]
    differences.check("number of turns", len(turns), 1)
    if not turns:
        return
    sent, answer = said_in(turns[0]["content"]), said_in(recorded_blocks(recording))
    for name in ("calls", "signed", "citations"):
        differences.check(name, sent[name], answer[name])
    if answer["text"] or answer["calls"]:  # else a placeholder stands for the turn
        differences.check("text", sent["text"], answer["text"])
    for name in ("server", "unsigned"):
        if sent[name]:
            differences.check(name, sent[name], answer[name])
    blank = [block for block in turns[0]["content"] if not block.get("text", "some").strip()]
    differences.check("blank text", blank, [])


def called_in(recording):
    return [(call_id, name) for call_id, name, _ in recorded_answer(recording).calls]


def continuing():
    """Return a recording of each kind of answer that can be followed by a next turn."""
    return [recording for recording in one_of_each_kind(accepted()) if not recorded_answer(recording).unclosed]


@pytest.mark.parametrize("version", ["v0", "v1"])
def test_chat_bedrock_router_sends_recorded_answers_back(recorded, version):
    with Differences() as differences:
        for recording in continuing():
            with differences.of(recording):
                recorded.play(recording)
                llm = ChatBedrockRouter(
                    model=recording.model_id, client=recorded.client(), bedrock_client=recorded.client("bedrock"),
                    cache="off", output_version=version,
                )  # fmt: skip
                bound = with_langchain_tools(llm, recording.body)
                if recording.is_stream:
                    answer = None
                    for chunk in bound.stream("go on"):
                        answer = chunk if answer is None else answer + chunk
                else:
                    answer = bound.invoke("go on")
                # As a history kept in a file or a database has it.
                [answer] = messages_from_dict(json.loads(json.dumps(messages_to_dict([answer]))))
                results = [ToolMessage("done", tool_call_id=call_id) for call_id, _ in called_in(recording)]
                bound.invoke([HumanMessage("go on"), answer, *(results or [HumanMessage("and then?")])])
                check_sent_back(differences, recorded, recording)


def test_bedrock_router_sends_recorded_answers_back(recorded):
    question = ChatMessage(role="user", content="go on")
    with Differences() as differences:
        for recording in continuing():
            with differences.of(recording):
                recorded.play(recording)
                llm = BedrockRouter(
                    model=recording.model_id, client=recorded.client(), bedrock_client=recorded.client("bedrock"),
                    cache="off",
                )  # fmt: skip
                tools = {"toolConfig": recording.body["toolConfig"]} if recording.body.get("toolConfig") else {}
                if recording.is_stream:
                    *_, answer = llm.stream_chat([question], **tools)
                else:
                    answer = llm.chat([question], **tools)
                results = [
                    ChatMessage(role="tool", content="done", additional_kwargs={"tool_call_id": call_id})
                    for call_id, _ in called_in(recording)
                ]
                message = ChatMessage.model_validate_json(answer.message.model_dump_json())
                llm.chat([question, message, *(results or [question])], **tools)
                check_sent_back(differences, recorded, recording)


# --- answers continued by another model ---

# What each takes of the reasoning in earlier turns (issue reports of langchain-aws, pydantic-ai and others, 2025-26).
TAKES = {
    "us.anthropic.claude-sonnet-4-5-20250929-v1:0": "signed",
    "openai.gpt-oss-120b-1:0": "text",
    "amazon.nova-lite-v1:0": "none",
    "us.meta.llama3-3-70b-instruct-v1:0": "none",
    "anthropic.claude-3-haiku-20240307-v1:0": "none",
}


def is_taken(block, takes):
    reasoning = block.get("reasoningContent")
    if reasoning is None:
        return True
    written = reasoning.get("reasoningText", {})
    if takes == "signed":
        return "redactedContent" in reasoning or bool(written.get("signature"))
    return takes == "text" and bool(written) and "signature" not in written


@pytest.mark.parametrize("model_id", TAKES)
def test_routed_client_sends_recorded_answers_to_another_model(recorded, model_id):
    client = RoutedClient(recorded.client(), bedrock_client=recorded.client("bedrock"), cache="off")
    with Differences() as differences:
        for recording in continuing():
            with differences.of(recording):
                recorded.play(recording)
                blocks = recorded_blocks(recording)
                results = [
                    {"toolResult": {"toolUseId": call_id, "content": [{"text": "done"}]}}
                    for call_id, _ in called_in(recording)
                ]
                messages = [
                    {"role": "user", "content": [{"text": "go on"}]},
                    {"role": "assistant", "content": recorded_content(recording)},
                    {"role": "user", "content": results or [{"text": "and then?"}]},
                ]
                client.converse(modelId=model_id, messages=messages)
                sent = recorded.requests[-1][1]["messages"]
                refused = [block for block in sent[1]["content"] if not is_taken(block, TAKES[model_id])]
                differences.check("reasoning", refused, [])
                differences.check("other blocks", without_reasoning(sent[1]["content"]), without_reasoning(blocks))
                differences.check("content", bool(sent[1]["content"]), True)
                differences.check("other turns", [sent[0], sent[2]], [messages[0], messages[2]])


def without_reasoning(blocks):
    """Return the blocks without reasoning. For a turn of reasoning alone, ignore the placeholder."""
    rest = [block for block in blocks if "reasoningContent" not in block]
    return [] if len(rest) == 1 and rest[0].get("text", "").startswith("(no answer") else rest
