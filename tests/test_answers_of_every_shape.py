"""Test answers of shapes that no recording has, made of recorded blocks, whole and streamed."""

from __future__ import annotations

import pytest
from llama_index.core.base.llms.types import ChatMessage
from recorded_bedrock import RecordedBedrock, Recording
from recorded_checks import check_chunks, check_message, check_response, sum_of
from recorded_differences import Differences

from bedrock_routing_integrations.langchain import ChatBedrockRouter
from bedrock_routing_integrations.llama_index import BedrockRouter

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA_2 = "us.amazon.nova-2-lite-v1:0"
TEXT = {"text": "Hello there, how are you?"}
REDACTED = {"reasoningContent": {"redactedContent": "RXVRRkNrZ0lCeEFC"}}
PLACES = {
    "documentChar": {"documentIndex": 0, "start": 3, "end": 9},
    "documentPage": {"documentIndex": 1, "start": 1, "end": 2},
    "documentChunk": {"documentIndex": 0, "start": 0, "end": 1},
    "searchResultLocation": {"searchResultIndex": 0, "start": 0, "end": 1},
    "web": {"url": "https://moons.example/titan", "domain": "moons.example"},
}


def call(number, arguments, **more):
    return {"toolUse": {"toolUseId": f"tooluse_{number}", "name": "get", "input": arguments, **more}}


def thought(text, signature=None):
    return {"reasoningContent": {"reasoningText": {"text": text, **({"signature": signature} if signature else {})}}}


def cited(text, *kinds, title="moons"):
    titled = {"title": title} if title else {}
    citations = [{"location": {kind: PLACES[kind]}, "sourceContent": [{"text": "quoted"}], **titled} for kind in kinds]
    return {"citationsContent": {"content": [{"text": text}], "citations": citations}}


def served(number, *content, name="nova_code_interpreter", status="success"):
    """Return a call of a tool that Bedrock ran, and its result."""
    result = {"toolUseId": f"tooluse_{number}", "content": list(content), "status": status, "type": f"{name}_result"}
    use = {"toolUseId": f"tooluse_{number}", "name": name, "input": {"snippet": "1/0"}, "type": "server_tool_use"}
    return [{"toolUse": use}, {"toolResult": result}]


GROUNDED = {"citationsContent": {"citations": [{"location": {"web": PLACES["web"]}}]}}
CONTENTS = {
    "nothing": [],
    "an empty text": [{"text": ""}],
    "blank text": [{"text": "\n\n"}],
    "blank text and a call": [{"text": "\n"}, call(1, {"x": 1})],
    "a call without arguments": [call(1, {})],
    "a call of today's Claude without arguments": [call(1, {}, type="tool_use")],
    "a call of an unknown type": [call(1, {"x": 1}, type="mcp_tool_use")],
    "nested arguments": [call(1, {"customer_id": {"a_b": [1, {"c_d": None}]}, "f": 1.5, "u": "é \N{GRINNING FACE}"})],
    "interleaved thinking": [thought("a", "s1"), TEXT, call(1, {"x": 1}), thought("b", "s2"), call(2, {})],
    "two thoughts": [thought("a", "s1"), thought("b", "s2"), TEXT],
    "an empty thought": [thought("", "s1"), TEXT],
    "unsigned thinking": [thought("a"), TEXT],
    "thinking alone": [thought("a", "s1")],
    "redacted thinking between": [thought("a", "s1"), REDACTED, thought("b", "s2"), TEXT, call(1, {"x": 1})],
    "redacted thinking alone": [REDACTED],
    "redacted thinking twice": [REDACTED, REDACTED, TEXT],
    **{
        f"cited by {kind}": [{"text": "See "}, cited("this", kind), {"text": " and "}, cited("that", kind, kind)]
        for kind in PLACES
        if kind != "web"
    },
    "cited without a title": [cited("this", "documentChar", title=None), TEXT],
    "cited, then a call": [cited("this", "documentChar"), call(1, {"x": 1})],
    "thinking, then cited": [thought("a", "s1"), cited("this", "documentPage")],
    "grounded": [TEXT, GROUNDED, {"text": "Bye."}],
}
SERVED = {
    "a tool of Bedrock's": [*served(9, {"json": {"stdOut": "1", "exitCode": 0}}), TEXT],
    "a tool of Bedrock's that failed": [*served(9, {"json": {"isError": True}}, status="error"), TEXT],
    "tools of Bedrock's and the caller's": [*served(9, {"text": "[HIDDEN]"}), call(1, {"x": 1}, type="tool_use")],
}
STOPS = ("stop_sequence", "guardrail_intervened", "content_filtered", "something_new")
TTLS = [{"ttl": "1h", "inputTokens": 30}, {"ttl": "5m", "inputTokens": 20}]
PLAIN = {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15, "serverToolUsage": {}}
CACHED = {
    "inputTokens": 0, "outputTokens": 5, "cacheReadInputTokens": 100, "cacheWriteInputTokens": 50, "totalTokens": 155,
    "cacheDetails": TTLS,
}  # fmt: skip


def recorded_as(name, content, model_id=CLAUDE, stop=None, usage=None, **more):
    """Return an answer as if it had been recorded."""
    body = {
        "output": {"message": {"role": "assistant", "content": content}}, "usage": usage or PLAIN,
        "stopReason": stop or ("tool_use" if any("toolUse" in block for block in content) else "end_turn"),
        "metrics": {"latencyMs": 5}, **more,
    }  # fmt: skip
    return Recording(
        name=name, service="bedrock-runtime", operation="Converse", path=f"/model/{model_id}/converse", body=None,
        response={"status": 200, "headers": {}, "body": body}, notes=(),
    )  # fmt: skip


ANSWERS = [
    *(recorded_as(name, content) for name, content in CONTENTS.items()),
    *(recorded_as(name, content, NOVA_2) for name, content in SERVED.items()),
    *(recorded_as(f"ends with {stop}", [TEXT], stop=stop) for stop in STOPS),
    recorded_as("read from and written to the cache", [TEXT], usage=CACHED),
    *(
        recorded_as(f"response fields {fields!r}", [TEXT], additionalModelResponseFields=fields)
        for fields in ("test", [1], {"stop_sequence": None})
    ),
]


@pytest.fixture(scope="module")
def recorded():
    with RecordedBedrock() as server:
        yield server


def clients(recorded):
    return {"client": recorded.client(), "bedrock_client": recorded.client("bedrock"), "cache": "off"}


@pytest.mark.parametrize("version", ["v0", "v1"])
def test_chat_bedrock_router_gives_answers_of_every_shape(recorded, version):
    with Differences() as differences:
        for recording in ANSWERS:
            with differences.of(recording):
                recorded.play(recording)
                llm = ChatBedrockRouter(model=recording.model_id, output_version=version, **clients(recorded))
                check_message(differences, llm.invoke("go on"), recording)
                check_message(differences, sum_of(llm.stream("go on")), recording)


def test_bedrock_router_gives_answers_of_every_shape(recorded):
    question = [ChatMessage(role="user", content="go on")]
    with Differences() as differences:
        for recording in ANSWERS:
            with differences.of(recording):
                recorded.play(recording)
                llm = BedrockRouter(model=recording.model_id, **clients(recorded))
                check_response(differences, llm, llm.chat(question), recording)
                check_chunks(differences, llm, list(llm.stream_chat(question)), recording)
