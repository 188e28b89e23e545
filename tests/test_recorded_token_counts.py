"""Count the prompts of recorded conversations, and compare with what Bedrock counted.

No recorded conversation has more than three calls. Counting of Bedrock's own (CountTokens) is denied by the server that
replays them, so that all is estimated from the answers before.
"""

from __future__ import annotations

import time

from recorded_bedrock import (
    REPLAYED,
    recorded_answer,
    recorded_conversations,
    recorded_request,
)
from recorded_differences import Differences
from recorded_messages import (
    NotExpressibleError,
    langchain_messages,
    langchain_settings,
    langchain_tools,
    llama_index_messages,
    llama_index_settings,
    with_langchain_tools,
)

from bedrock_routing_integrations import RoutedClient
from bedrock_routing_integrations.langchain import ChatBedrockRouter
from bedrock_routing_integrations.llama_index import BedrockRouter
from bedrock_routing_integrations.runtime import Runtime

pytestmark = REPLAYED
ALLOWED = 0.05


def client_of(recorded):
    """Return a client that has learned nothing yet: its runtime is its own.

    It adds no cache points: recorded answers to requests without any have no cache counts.
    """
    clients = {"client": recorded.client(), "bedrock_client": recorded.client("bedrock")}
    return RoutedClient(**clients, runtime=Runtime(clock=time.perf_counter), cache="off")


def answer(client, recorded, call):
    recorded.play(call)
    if call.is_stream:
        list(client.converse_stream(**recorded_request(call))["stream"])
    else:
        client.converse(**recorded_request(call))


def check_count(differences, counted, call):
    expected = recorded_answer(call).tokens.prompt
    differences.compared += 1
    if abs(counted - expected) > ALLOWED * expected:
        differences.add("off by more than 5%", counted, expected)


def test_prompts_that_were_answered_are_counted_within_5_percent(recorded):
    with Differences() as differences:
        for conversation in recorded_conversations():
            client = client_of(recorded)
            for call in conversation.calls:
                with differences.of(call):
                    answer(client, recorded, call)
            for call in conversation.calls:
                with differences.of(call):
                    check_count(differences, client.count_prompt_tokens(**recorded_request(call)), call)


def test_chat_bedrock_router_counts_answered_prompts_within_5_percent(recorded):
    with Differences() as differences:
        for conversation in recorded_conversations():
            client = client_of(recorded)
            for call in conversation.calls:
                with differences.of(call):
                    recorded.play(call)
                    llm = ChatBedrockRouter(model=call.model_id, client=client, **langchain_settings(call.body))
                    with_langchain_tools(llm, call.body).invoke(langchain_messages(call.body))
            for call in conversation.calls:
                with differences.of(call):
                    messages, tools = langchain_messages(call.body), langchain_tools(call.body)
                    check_count(differences, llm.get_num_tokens_from_messages(messages, tools or None), call)


def test_bedrock_router_counts_answered_prompts_within_5_percent(recorded):
    with Differences() as differences:
        for conversation in recorded_conversations():
            client = client_of(recorded)
            try:
                prompts = [
                    (llama_index_messages(call.body), llama_index_settings(call.body)) for call in conversation.calls
                ]
            except NotExpressibleError:
                continue
            llm = BedrockRouter(model=conversation.model_id, client=client)
            for call, (messages, settings) in zip(conversation.calls, prompts, strict=True):
                with differences.of(call):
                    recorded.play(call)
                    llm.chat(messages, **settings)
            for call, (messages, settings) in zip(conversation.calls, prompts, strict=True):
                with differences.of(call):
                    check_count(differences, llm.count_tokens(messages, **settings), call)


def test_the_third_prompt_is_counted_within_5_percent_beforehand(recorded):
    with Differences() as differences:
        for conversation in recorded_conversations(minimum=3):
            client = client_of(recorded)
            *before, last = conversation.calls
            with differences.of(last):
                for call in before:
                    answer(client, recorded, call)
                check_count(differences, client.count_prompt_tokens(**recorded_request(last)), last)
