"""Replay recorded answers of the real Bedrock through `RoutedClient`, `ChatBedrockRouter` and `BedrockRouter`.

Each test goes through all recordings and fails with a list of those that came out wrong. What is expected is read from
the recorded JSON by `recorded_bedrock`. Recordings that seem to be edited by hand must not raise, and nothing more.
"""

from __future__ import annotations

import functools

import pytest
from botocore.exceptions import ClientError
from langchain_core.messages import HumanMessage
from llama_index.core.base.llms.types import ChatMessage
from recorded_bedrock import (
    REPLAYED,
    answers,
    blocks_of,
    in_json,
    one_of_each_kind,
    recorded_answer,
    recorded_blocks,
    recorded_events,
    recorded_refusal,
    recorded_request,
    recorded_response,
    recordings,
    refusals,
    same_request,
)
from recorded_checks import check_chunks, check_message, check_response, check_routing, sum_of
from recorded_differences import Differences

from bedrock_routing_integrations import RoutedClient
from bedrock_routing_integrations.errors import ContextOverflowError, InvalidTargetError
from bedrock_routing_integrations.langchain import ChatBedrockRouter
from bedrock_routing_integrations.llama_index import BedrockRouter

pytestmark = REPLAYED


def client_of(recorded):
    return RoutedClient(recorded.client(), bedrock_client=recorded.client("bedrock"), cache="off")


def whole():
    """Return the answers to ask for with Converse: those recorded so, and of each kind of stream what it adds up to."""
    return [*answers("Converse"), *one_of_each_kind(answers("ConverseStream"))]


def streamed():
    """Return the answers to ask for with ConverseStream: those recorded so, and one of each other kind in pieces.

    Without one that ``max_tokens`` cut inside a tool call: how far its arguments had come was not recorded.
    """
    others = [
        recording
        for recording in one_of_each_kind(answers("Converse"))
        if not recording.is_doubtful and not recorded_answer(recording).unclosed
    ]
    return [*answers("ConverseStream"), *others]


# --- RoutedClient ---


def check_sent(differences, recorded, recording):
    """A request that Bedrock accepted is sent unchanged."""
    path, body = recorded.requests[-1]
    differences.check("path", path, recording.path)
    if recording.body and not same_request(recording, body):
        differences.add("request", body, recording.body)


def test_routed_client_returns_the_recorded_response(recorded):
    client = client_of(recorded)
    with Differences() as differences:
        for recording in answers("Converse"):
            with differences.of(recording):
                recorded.play(recording)
                response = client.converse(**recorded_request(recording))
                if not recording.is_doubtful:
                    routing, _ = response.pop("routing"), response.pop("ResponseMetadata")
                    differences.check("response", response, recorded_response(recording))
                    check_sent(differences, recorded, recording)
                    check_routing(differences, routing, recorded_answer(recording))


def test_routed_client_yields_the_recorded_events(recorded):
    client = client_of(recorded)
    with Differences() as differences:
        for recording in answers("ConverseStream"):
            with differences.of(recording):
                recorded.play(recording)
                events = list(client.converse_stream(**recorded_request(recording))["stream"])
                if not recording.is_doubtful:
                    routing = events[-1]["metadata"].pop("routing")
                    differences.check("events", events, recorded_events(recording))
                    check_sent(differences, recorded, recording)
                    check_routing(differences, routing, recorded_answer(recording))


# A model that has no stream (`ModelFacts.streaming`).
WHOLE_ONLY = "cohere.command-text-v14"


def test_routed_client_streams_answers_of_models_without_streams(recorded):
    client = client_of(recorded)
    messages = [{"role": "user", "content": [{"text": "go on"}]}]
    with Differences() as differences:
        for recording in streamed():
            with differences.of(recording):
                recorded.play(recording)
                stream = client.converse_stream(modelId=WHOLE_ONLY, messages=messages)["stream"]
                events = [next(iter(event.items())) for event in stream]
                differences.check("operation", recorded.requests[-1][0], f"/model/{WHOLE_ONLY}/converse")
                differences.check("blocks", blocks_of(in_json(events)), recorded_blocks(recording))
                ends = [kind for kind, _ in events[:1] + events[-2:]]
                differences.check("first and last events", ends, ["messageStart", "messageStop", "metadata"])
                answer = recorded_answer(recording)
                differences.check("stop reason", events[-2][1]["stopReason"], answer.stop_reason)
                check_routing(differences, events[-1][1]["routing"], answer)


@pytest.mark.parametrize("version", ["v0", "v1"])
def test_chat_bedrock_router_streams_answers_of_models_without_streams(recorded, version):
    with Differences() as differences:
        for recording in one_of_each_kind(streamed()):
            with differences.of(recording):
                recorded.play(recording)
                llm = chat_of(recorded, recording, output_version=version)
                message = sum_of(llm.stream("go on", model=WHOLE_ONLY))
                differences.check("operation", recorded.requests[-1][0], f"/model/{WHOLE_ONLY}/converse")
                check_message(differences, message, recording)


def test_bedrock_router_streams_answers_of_models_without_streams(recorded):
    with Differences() as differences:
        for recording in one_of_each_kind(streamed()):
            with differences.of(recording):
                recorded.play(recording)
                llm = llama_of(recorded, recording)
                check_chunks(differences, llm, list(llm.stream_chat(QUESTION, model=WHOLE_ONLY)), recording)
                differences.check("operation", recorded.requests[-1][0], f"/model/{WHOLE_ONLY}/converse")


def without_cache_points(value):
    if isinstance(value, dict):
        return {name: without_cache_points(inner) for name, inner in value.items()}
    if isinstance(value, list):
        points = [item for item in value if isinstance(item, dict) and "cachePoint" in item]
        return [without_cache_points(item) for item in value if item not in points]
    return value


def test_routed_client_adds_nothing_but_cache_points(recorded):
    client = RoutedClient(recorded.client(), bedrock_client=recorded.client("bedrock"))
    added = 0
    with Differences() as differences:
        for recording in answers("Converse"):
            with differences.of(recording):
                recorded.play(recording)
                client.converse(**recorded_request(recording))
                sent, expected = recorded.requests[-1][1], recording.body or {}
                added += str(sent).count("cachePoint") - str(expected).count("cachePoint")
                differences.check("request", without_cache_points(sent), without_cache_points(expected))
    assert added > 0


def test_routed_client_counts_tokens_as_recorded(recorded):
    client = client_of(recorded)
    with Differences() as differences:
        for recording in recordings("CountTokens"):
            with differences.of(recording):
                recorded.play(recording)
                count = functools.partial(client.count_tokens, **recorded_request(recording))
                if recording.status == 200:
                    differences.check("tokens", count()["inputTokens"], recording.response["body"]["inputTokens"])
                else:
                    check_refusal(differences, recording, count)


# --- ChatBedrockRouter ---


def chat_of(recorded, recording, **settings):
    return ChatBedrockRouter(
        model=recording.model_id, client=recorded.client(), bedrock_client=recorded.client("bedrock"), cache="off",
        **settings,
    )  # fmt: skip


@pytest.mark.parametrize("version", ["v0", "v1"])
def test_chat_bedrock_router_invoke_gives_the_recorded_answer(recorded, version):
    with Differences() as differences:
        for recording in whole():
            with differences.of(recording):
                recorded.play(recording)
                message = chat_of(recorded, recording, output_version=version).invoke("go on")
                if not recording.is_doubtful:
                    check_message(differences, message, recording)


@pytest.mark.parametrize("version", ["v0", "v1"])
def test_chat_bedrock_router_stream_gives_the_recorded_answer(recorded, version):
    with Differences() as differences:
        for recording in streamed():
            with differences.of(recording):
                recorded.play(recording)
                message = sum_of(chat_of(recorded, recording, output_version=version).stream("go on"))
                check_message(differences, message, recording)


async def test_chat_bedrock_router_gives_recorded_answers_asynchronously(recorded):
    with Differences() as differences:
        for recording in one_of_each_kind(streamed()):
            with differences.of(recording):
                recorded.play(recording)
                llm = chat_of(recorded, recording)
                check_message(differences, await llm.ainvoke("go on"), recording)
                check_message(differences, sum_of([chunk async for chunk in llm.astream("go on")]), recording)


# --- BedrockRouter ---


def llama_of(recorded, recording):
    return BedrockRouter(
        model=recording.model_id, client=recorded.client(), bedrock_client=recorded.client("bedrock"), cache="off"
    )


QUESTION = [ChatMessage(role="user", content="go on")]


def test_bedrock_router_chat_gives_the_recorded_answer(recorded):
    with Differences() as differences:
        for recording in whole():
            with differences.of(recording):
                recorded.play(recording)
                llm = llama_of(recorded, recording)
                response = llm.chat(QUESTION)
                if not recording.is_doubtful:
                    check_response(differences, llm, response, recording)


def test_bedrock_router_stream_chat_gives_the_recorded_answer(recorded):
    with Differences() as differences:
        for recording in streamed():
            with differences.of(recording):
                recorded.play(recording)
                llm = llama_of(recorded, recording)
                check_chunks(differences, llm, list(llm.stream_chat(QUESTION)), recording)


async def test_bedrock_router_gives_recorded_answers_asynchronously(recorded):
    with Differences() as differences:
        for recording in one_of_each_kind(streamed()):
            with differences.of(recording):
                recorded.play(recording)
                llm = llama_of(recorded, recording)
                check_response(differences, llm, await llm.achat(QUESTION), recording)
                chunks = [chunk async for chunk in await llm.astream_chat(QUESTION)]
                check_chunks(differences, llm, chunks, recording)


# --- errors ---


def check_refusal(differences, recording, call):
    code, message = recorded_refusal(recording)
    try:
        call()
    except InvalidTargetError as error:
        # Refused before sending: an id without a provider, which Bedrock refused too.
        differences.check("refused before sending", "." in recording.model_id and str(error), False)
    except ClientError as error:
        got = error.response["Error"]
        differences.check("code", got["Code"], code)
        # Advice may follow Bedrock's message.
        differences.check("message", got["Message"][: len(message)], message)
        too_long = "Input Tokens Exceeded" in message
        differences.check("context overflow", isinstance(error, ContextOverflowError), too_long)
    else:
        differences.add("error", "no exception", f"{code}: {message}")


WAYS = {
    "RoutedClient": lambda recorded, recording: client_of(recorded).converse(**recorded_request(recording)),
    "RoutedClient stream": lambda recorded, recording: list(
        client_of(recorded).converse_stream(**recorded_request(recording))["stream"]
    ),
    "ChatBedrockRouter": lambda recorded, recording: chat_of(recorded, recording).invoke([HumanMessage("go on")]),
    "ChatBedrockRouter stream": lambda recorded, recording: list(chat_of(recorded, recording).stream("go on")),
    "BedrockRouter": lambda recorded, recording: llama_of(recorded, recording).chat(QUESTION),
    "BedrockRouter stream": lambda recorded, recording: list(llama_of(recorded, recording).stream_chat(QUESTION)),
}


@pytest.mark.parametrize("way", WAYS)
def test_recorded_errors_come_out_with_code_and_message(recorded, way):
    with Differences() as differences:
        for recording in refusals("ConverseStream" if "stream" in way else "Converse"):
            with differences.of(recording):
                recorded.play(recording)
                check_refusal(differences, recording, functools.partial(WAYS[way], recorded, recording))
