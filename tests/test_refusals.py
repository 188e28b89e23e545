"""Test refused parts of a request that are optional: sent once without them, remembered for a day, warned of once."""

from __future__ import annotations

import logging

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from cache_requests import Clock
from refusing_bedrock import RefusingBedrock
from scripted_bedrock import block_stop, call_delta, call_start, stream_of, text, whole_of

from bedrock_routing_integrations import RoutedClient
from bedrock_routing_integrations.errors import ContextOverflowError, InvalidAnswerError
from bedrock_routing_integrations.runtime import Runtime

PROFILE = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abcd1234efgh"
CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA = "us.amazon.nova-lite-v1:0"
GPT = "us.openai.gpt-5.6-luna"
HELLO = [{"role": "user", "content": [{"text": "Hello."}]}]
TOOL = {"toolSpec": {"name": "now", "description": "d", "inputSchema": {"json": {"type": "object"}}}}
SESSION = boto3.Session()

SIGNED = {"reasoningContent": {"reasoningText": {"text": "easy", "signature": "c2ln"}}}
BARE = {"reasoningContent": {"reasoningText": {"text": "easy"}}}
REDACTED = {"reasoningContent": {"redactedContent": b"hidden"}}
CALLED = [
    *HELLO,
    {"role": "assistant", "content": [{"toolUse": {"toolUseId": "t", "name": "now", "input": {}}}]},
    {"role": "user", "content": [{"toolResult": {"toolUseId": "t", "content": [{"text": "12"}], "status": "success"}}]},
]


def thought(*blocks):
    return [*HELLO, {"role": "assistant", "content": [*blocks, {"text": "4"}]}, *HELLO]


def reasoning_in(body):
    return [block for message in body["messages"] for block in message["content"] if "reasoningContent" in block]


def statuses_in(body):
    results = [b["toolResult"] for m in body["messages"] for b in m["content"] if "toolResult" in b]
    return [result["status"] for result in results if "status" in result]


# Request; what the model refuses of it, and in which words (as public reports have them); what must be left.
KINDS = {
    "temperature": (
        {"inferenceConfig": {"temperature": 0.1, "maxTokens": 9}},
        lambda body: "temperature" in body.get("inferenceConfig", {}),
        "The model returned the following errors: `temperature` is deprecated for this model.",
        lambda body: body["inferenceConfig"] == {"maxTokens": 9},
    ),
    "temperature and top_p": (
        {"inferenceConfig": {"temperature": 0.1, "topP": 0.5}, "additionalModelRequestFields": {"top_k": 5, "a": 1}},
        lambda body: {"temperature", "topP"} & body.get("inferenceConfig", {}).keys(),
        "`top_p` is deprecated for this model.",
        lambda body: "inferenceConfig" not in body and body["additionalModelRequestFields"] == {"a": 1},
    ),
    "temperature with top_p": (
        {"inferenceConfig": {"temperature": 0.1, "topP": 0.5, "maxTokens": 9}},
        lambda body: {"temperature", "topP"} <= body.get("inferenceConfig", {}).keys(),
        "`temperature` and `top_p` cannot both be specified for this model. Please use only one.",
        lambda body: body["inferenceConfig"] == {"temperature": 0.1, "maxTokens": 9},
    ),
    "forced tool, any": (
        {"toolConfig": {"tools": [TOOL], "toolChoice": {"any": {}}}},
        lambda body: "toolChoice" in body["toolConfig"],
        "This model doesn't support the toolConfig.toolChoice.any field. Remove it and try again.",
        lambda body: body["toolConfig"] == {"tools": [TOOL]},
    ),
    "forced tool, by name": (
        {"toolConfig": {"tools": [TOOL], "toolChoice": {"tool": {"name": "now"}}}},
        lambda body: "toolChoice" in body["toolConfig"],
        "The model returned the following errors: tool_choice forces tool use is not compatible with this model.",
        lambda body: body["toolConfig"] == {"tools": [TOOL]},
    ),
    "reasoning": (
        {"messages": thought(SIGNED, BARE, REDACTED)},
        reasoning_in,
        "User messages cannot contain reasoning content.",
        lambda body: body["messages"] == [*HELLO, {"role": "assistant", "content": [{"text": "4"}]}, *HELLO],
    ),
    "signature": (
        {"messages": thought(SIGNED)},
        lambda body: "signature" in str(reasoning_in(body)),
        "This model doesn't support the reasoningContent.reasoningText.signature field.",
        lambda body: reasoning_in(body) == [BARE],
    ),
    "unsigned reasoning": (
        {"messages": thought(SIGNED, BARE)},
        lambda body: BARE in reasoning_in(body),
        "The model returned the following errors: messages.1.content.1.thinking.signature: Field required",
        lambda body: reasoning_in(body) == [SIGNED],
    ),
    "status of a tool's result": (
        {"messages": CALLED, "toolConfig": {"tools": [TOOL]}},
        statuses_in,
        "This model doesn't support the status field. Remove status and try again.",
        lambda body: statuses_in(body) == [],
    ),
}


@pytest.fixture
def refusing(request):
    made, refuses, message, left = KINDS[request.param]
    with RefusingBedrock(whole_of({"text": "ok"}), refuse=lambda body: message if refuses(body) else None) as server:
        yield server, made, left


def client_of(server, **more):
    arguments = {name: value for name, value in server.arguments.items() if name != "max_retries"}
    config = Config(retries={"total_max_attempts": more.pop("attempts", 1)})
    return RoutedClient(SESSION.client("bedrock-runtime", config=config, **arguments), cache="off", **more)


def warnings(caplog):
    messages = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    return [message for message in messages if "sent again" in message]


def ask(client, *, stream=False, model=PROFILE, messages=HELLO, **request):
    """Send a request. Return the answer's text and its routing."""
    if not stream:
        response = client.converse(modelId=model, messages=messages, **request)
        return response["output"]["message"]["content"][0]["text"], response["routing"]
    with client.converse_stream(modelId=model, messages=messages, **request)["stream"] as opened:
        *_, last = opened
        return opened.received.content()[0]["text"], last["metadata"]["routing"]


@pytest.mark.sample(8)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("refusing", KINDS, indirect=True)
def test_refused_part_is_left_out_once_and_then_at_once(refusing, stream, caplog):
    server, made, left = refusing
    client = client_of(server)
    first, routing = ask(client, stream=stream, **made)
    assert (first, routing["attempts"], len(server.requests)) == ("ok", 2, 2)
    assert left(server.requests[-1])
    second, routing = ask(client, stream=stream, **made)
    assert (second, routing["attempts"], len(server.requests)) == ("ok", 1, 3)
    assert left(server.requests[-1])
    (warning,) = warnings(caplog)
    assert PROFILE in warning


@pytest.mark.parametrize("refusing", ["temperature"], indirect=True)
def test_refused_part_is_sent_again_after_a_day(refusing):
    server, made, _ = refusing
    clock = Clock()
    client = client_of(server, runtime=Runtime(clock=clock))
    ask(client, **made)
    clock.now += 86_399
    assert ask(client, **made)[1]["attempts"] == 1
    clock.now += 2
    assert ask(client, **made)[1]["attempts"] == 2


@pytest.mark.parametrize("refusing", ["temperature"], indirect=True)
def test_refused_part_is_remembered_per_target_across_clients(refusing):
    server, made, _ = refusing
    ask(client_of(server), **made)
    other = client_of(server)
    assert ask(other, **made)[1]["attempts"] in (1, 2)  # by credentials and endpoint: this is another boto3 client
    assert ask(other, model=PROFILE[:-1] + "x", **made)[1]["attempts"] == 2


def test_second_refusal_of_one_call_is_raised():
    messages = iter(["`temperature` is deprecated for this model.", "User messages cannot contain reasoning content."])
    with RefusingBedrock(whole_of({"text": "ok"}), refuse=lambda body: next(messages, None)) as server:
        with pytest.raises(ClientError, match="reasoning content"):
            ask(client_of(server), messages=thought(SIGNED), inferenceConfig={"temperature": 0.1})
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    "message",
    [
        "The provided model identifier is invalid.",
        "Malformed input request: #/temperature: 1.5 is not less or equal to 1.0, please reformat your input.",
        (
            "Expected `thinking` or `redacted_thinking`, but found `tool_use`. A final `assistant` message must start "
            "with a thinking block."
        ),
    ],
)
def test_other_refusals_are_raised_as_they_came(message):
    made = {"messages": thought(SIGNED), "inferenceConfig": {"temperature": 0.1, "topP": 0.2}}
    with RefusingBedrock(whole_of({"text": "ok"}), refuse=lambda body: message) as server:
        with pytest.raises(ClientError) as raised:
            ask(client_of(server), **made)
        assert len(server.requests) == 1
    assert raised.value.response["Error"]["Message"] == message


@pytest.mark.parametrize("where", ["status", "first event"])
def test_refused_tools_in_stream_are_sent_through_converse(where):
    message = "This model doesn't support tool use in streaming mode."
    call = {"toolUse": {"toolUseId": "t", "name": "now", "input": {}}}

    def answer(body, streamed):
        if streamed:
            return [("validationException", {"message": message})]
        return whole_of({"text": "Well."}, call, stop="tool_use")

    refuse = (lambda body, streamed: message if streamed else None) if where == "status" else None
    with RefusingBedrock(answer, refuse=refuse) as server:
        client = client_of(server)
        for attempts in (2, 1):
            text, routing = ask(client, stream=True, toolConfig={"tools": [TOOL]})
            assert (text, routing["stop_reason"], routing["attempts"]) == ("Well.", "tool_use", attempts)
        assert server.streamed == [True, False, False]


# --- exceptions inside of a stream, before there is content ---

FINE = stream_of(text(0, "fine"), block_stop(0))
BEGUN = ("messageStart", {"role": "assistant"})


@pytest.mark.sample(3)
@pytest.mark.parametrize("begun", [[], [BEGUN]])
@pytest.mark.parametrize("name", ["throttlingException", "serviceUnavailableException", "internalServerException"])
def test_stream_refused_before_any_content_is_tried_again(begun, name):
    with RefusingBedrock([*begun, (name, {"message": "slow down"})], FINE) as server:
        text, routing = ask(client_of(server, attempts=2), stream=True)
    assert (text, routing["attempts"]) == ("fine", 2)


def test_stream_is_tried_as_often_as_the_client_is_configured():
    with RefusingBedrock([("throttlingException", {"message": "slow down"})]) as server:
        with pytest.raises(ClientError, match="slow down"):
            ask(client_of(server, attempts=1), stream=True)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "content", [[text(0, "a")], [call_start(0, "t", "now")], [call_start(0, "t", "now"), call_delta(0, "{")]]
)
def test_stream_that_has_begun_is_not_sent_again(content):
    with RefusingBedrock([BEGUN, *content, ("throttlingException", {"message": "slow down"})], FINE) as server:
        with pytest.raises(ClientError, match="slow down"):
            ask(client_of(server, attempts=3), stream=True)
        assert len(server.requests) == 1


# --- malformed answers ---


@pytest.mark.parametrize("answer", [{}, {"output": {}}, {"output": {"message": {"role": "assistant"}}}, {"usage": {}}])
def test_answer_without_content_is_an_error(answer):
    with RefusingBedrock(answer) as server, pytest.raises(InvalidAnswerError, match="endpoint_url"):
        ask(client_of(server))


def test_answer_that_is_html_is_an_error():
    with RefusingBedrock(b"<html>Please log in.</html>") as server, pytest.raises(InvalidAnswerError, match="HTTP 200"):
        ask(client_of(server))


def test_answer_without_usage_is_an_answer_of_unknown_cost():
    with RefusingBedrock({"output": {"message": {"role": "assistant", "content": [{"text": "ok"}]}}}) as server:
        text, routing = ask(client_of(server))
    assert (text, routing["usage"], routing["cost_usd"]) == ("ok", None, None)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("reason", ["malformed_tool_use", "malformed_model_output"])
def test_malformed_answer_is_an_error_that_keeps_what_arrived(stream, reason):
    answer = (
        stream_of(text(0, "I will"), block_stop(0), stop=reason)
        if stream
        else whole_of({"text": "I will"}, stop=reason)
    )
    with RefusingBedrock(answer) as server, pytest.raises(InvalidAnswerError) as raised:
        ask(client_of(server), stream=stream)
    assert raised.value.stop_reason == reason
    assert raised.value.partial["output"]["message"]["content"] == [{"text": "I will"}]
    assert raised.value.partial["usage"]["inputTokens"] == 3
    assert reason in str(raised.value)


# --- the prompt is too long ---


@pytest.mark.sample(5)
@pytest.mark.parametrize(
    ("message", "tokens", "maximum"),
    [
        ("Input is too long for requested model.", None, None),
        ("prompt is too long: 215,000 tokens > 200000 maximum", 215_000, 200_000),
        (
            (
                "The model returned the following errors: Input Tokens Exceeded: Number of input tokens exceeds "
                "maximum length. Please update the input to try again."
            ),
            None,
            None,
        ),
        (
            "This model's maximum context length is 8192 tokens. However, your prompt contains 9000 input tokens",
            9_000,
            8_192,
        ),
        ("input length and `max_tokens` exceed context limit: 199000 + 8000 > 200000", 207_000, 200_000),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_context_overflow_is_an_error_of_its_own(message, tokens, maximum, stream):
    with RefusingBedrock(whole_of({"text": "ok"}), refuse=lambda body: message) as server:
        client = client_of(server)
        with pytest.raises(ContextOverflowError) as raised:
            ask(client, stream=stream)
        assert isinstance(raised.value, client.exceptions.ValidationException)
    assert isinstance(raised.value, ClientError)
    assert (raised.value.tokens, raised.value.maximum) == (tokens, maximum)
    assert raised.value.response["Error"]["Message"] == message


def test_context_overflow_as_an_event_is_the_same_error():
    with RefusingBedrock([("validationException", {"message": "Input is too long for requested model."})]) as server:
        with pytest.raises(ContextOverflowError):
            ask(client_of(server), stream=True)
        assert len(server.requests) == 1


# --- two things that one kind of model refuses ---


def test_forced_tool_in_llama_stream_needs_only_one_resend(caplog):
    def refuse(body):
        if len(server.requests) == 1:
            return "This model doesn't support tool use in streaming mode."
        if "toolChoice" in body["toolConfig"]:
            return "This model doesn't support the toolConfig.toolChoice.any field. Remove it and try again."
        return None

    made = {"toolConfig": {"tools": [TOOL], "toolChoice": {"any": {}}}}
    with RefusingBedrock(whole_of({"text": "ok"}), refuse=refuse) as server:
        client = client_of(server)
        text, routing = ask(client, stream=True, **made)
        assert (text, routing["attempts"], len(server.requests)) == ("ok", 2, 2)
        streaming, force = sorted(warnings(caplog), key=lambda each: "forced tool choice" in each)
        assert "streaming together with tools" in streaming
        assert "sent again without its forced tool choice too" in force
        text, routing = ask(client, stream=True, **made)  # whether it can be forced in Converse is tried now
        assert (text, routing["attempts"], len(server.requests)) == ("ok", 2, 4)
        text, routing = ask(client, stream=True, **made)
        assert (text, routing["attempts"], len(server.requests)) == ("ok", 1, 5)


def test_temperature_refused_while_thinking_is_kept_at_other_times():
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 1_024}}
    made = {"inferenceConfig": {"temperature": 0.2, "maxTokens": 4_000}}

    def refuse(body):
        if "temperature" in body.get("inferenceConfig", {}) and "additionalModelRequestFields" in body:
            return "`temperature` may only be set to 1 when thinking is enabled."
        return None

    with RefusingBedrock(whole_of({"text": "ok"}), refuse=refuse) as server:
        client = client_of(server)
        assert ask(client, messages=thought(SIGNED), additionalModelRequestFields=thinking, **made)[0] == "ok"
        assert reasoning_in(server.requests[-1])
        assert ask(client, **made)[0] == "ok"
        assert server.requests[-1]["inferenceConfig"]["temperature"] == 0.2


# --- ids that cannot be called as they are ---


@pytest.mark.parametrize("apostrophe", ["'", "\u2019"])
def test_model_without_on_demand_throughput_names_the_profile_to_use(apostrophe):
    model = CLAUDE.removeprefix("us.")
    message = (
        f"Invocation of model ID {model} with on-demand throughput isn{apostrophe}t supported. Retry your request with "
        "the ID or ARN of an inference profile that contains this model."
    )
    with RefusingBedrock(whole_of({"text": "ok"}), refuse=lambda body: message) as server:
        client = client_of(server)
        with pytest.raises(client.exceptions.ValidationException) as raised:
            ask(client, model=model)
    text = raised.value.response["Error"]["Message"]
    assert text.startswith(message)
    assert f"'{CLAUDE}'" in text


def test_invalid_model_id_error_suggests_the_nearest_id():
    message = "The provided model identifier is invalid."
    with RefusingBedrock(whole_of({"text": "ok"}), refuse=lambda body: message) as server:
        client = client_of(server)
        with pytest.raises(ClientError, match=r"anthropic\.claude-3-haiku-20240307-v1:0"):
            ask(client, model="anthropic.claude-3-hiaku-20240307-v1:0")


# --- usage ---


def test_openai_stream_counts_cached_tokens_once():
    usage = {
        "inputTokens": 4995,
        "outputTokens": 20,
        "totalTokens": 5015,
        "cacheWriteInputTokens": 4993,
        "cacheReadInputTokens": 0,
    }
    for model, counted in ((GPT, 2), (CLAUDE, 4995)):
        with RefusingBedrock(stream_of(text(0, "ok"), block_stop(0), usage=usage)) as server:
            routing = ask(client_of(server), stream=True, model=model)[1]
        assert routing["usage"]["input"] == counted


# --- foreign clients and streams ---


def test_client_passes_for_boto3s_own():
    from botocore.client import BaseClient

    client = RoutedClient(SESSION.client("bedrock-runtime", "us-east-1"))
    assert isinstance(client, BaseClient)
    assert isinstance(client, RoutedClient)
    assert type(client) is RoutedClient


def test_stream_that_is_a_list_is_read():
    events = [
        {"messageStart": {"role": "assistant"}},
        {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "ok"}}},
        {"messageStop": {"stopReason": "end_turn"}},
        {"metadata": {"usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}, "metrics": {"latencyMs": 1}}},
    ]  # fmt: skip

    class Fake:
        def converse(self, **request):
            raise NotImplementedError

        def converse_stream(self, **request):
            return {"stream": events}

    assert ask(RoutedClient(Fake()), stream=True, model=CLAUDE)[0] == "ok"


# --- what is remembered of a refusal ---

PROVEN_CLAUDE = CLAUDE  # its facts are known: it takes its own signed reasoning


def test_two_refused_things_are_both_known_after_one_failed_call():
    def refuse(body):
        if "temperature" in body.get("inferenceConfig", {}):
            return "`temperature` is deprecated for this model."
        if "toolChoice" in body.get("toolConfig", {}):
            return "This model doesn't support the toolConfig.toolChoice.any field."
        return None

    made = {"inferenceConfig": {"temperature": 0.1}, "toolConfig": {"tools": [TOOL], "toolChoice": {"any": {}}}}
    with RefusingBedrock(whole_of({"text": "ok"}), refuse=refuse) as server:
        client = client_of(server)
        with pytest.raises(ClientError, match=r"toolChoice\.any"):
            ask(client, **made)
        assert ask(client, **made)[1]["attempts"] == 1
        assert len(server.requests) == 3


def test_signature_of_one_history_costs_no_other_its_reasoning():
    other = {"reasoningContent": {"reasoningText": {"text": "easy", "signature": "b3RoZXI="}}}

    def refuse(body):
        return "messages.1.content.0: Invalid `signature` in `thinking` block" if other in reasoning_in(body) else None

    with RefusingBedrock(whole_of({"text": "ok"}), refuse=refuse) as server:
        client = client_of(server)
        assert ask(client, model=PROVEN_CLAUDE, messages=thought(other))[1]["attempts"] == 2
        assert ask(client, model=PROVEN_CLAUDE, messages=thought(SIGNED))[1]["attempts"] == 1
    assert reasoning_in(server.requests[-1]) == [SIGNED]


def test_tool_choice_refused_while_thinking_is_kept_at_other_times():
    def refuse(body):
        thinks = "thinking" in body.get("additionalModelRequestFields", {})
        return "Thinking may not be enabled when tool_choice forces tool use." if thinks and forced(body) else None

    def forced(body):
        return "toolChoice" in body["toolConfig"]

    made = {"toolConfig": {"tools": [TOOL], "toolChoice": {"any": {}}}}
    with RefusingBedrock(whole_of({"text": "ok"}), refuse=refuse) as server:
        client = client_of(server)
        thinking = {"additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 1024}}}
        assert ask(client, **made, **thinking)[1]["attempts"] == 2
        assert ask(client, **made)[1]["attempts"] == 1
    assert forced(server.requests[-1])


@pytest.mark.parametrize(
    "message",
    [
        "The value at toolConfig.toolChoice.tool.name 'now' does not match any tool.",
        "`max_tokens` must be greater than `thinking.budget_tokens`.",
        "system: text content blocks must be non-empty",
    ],
)
def test_mistakes_of_the_caller_are_raised_as_they_came(message):
    made = {"messages": thought(SIGNED), "toolConfig": {"tools": [TOOL], "toolChoice": {"tool": {"name": "now"}}}}
    with RefusingBedrock(whole_of({"text": "ok"}), refuse=lambda body: message) as server:
        with pytest.raises(ClientError):
            ask(client_of(server), **made)
        assert len(server.requests) == 1


EMPTY_BEGINNINGS = [
    [text(0, "")],
    [text(0, ""), text(0, "")],
    [text(0, ""), block_stop(0)],
    [("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": ""}}})],
]


@pytest.mark.sample(2)
@pytest.mark.parametrize("beginning", EMPTY_BEGINNINGS)
def test_stream_without_content_yet_is_tried_again(beginning):
    with RefusingBedrock([BEGUN, *beginning, ("throttlingException", {"message": "slow down"})], FINE) as server:
        text, routing = ask(client_of(server, attempts=2), stream=True)
    assert (text, routing["attempts"]) == ("fine", 2)


def test_empty_deltas_are_delivered_with_the_first_content():
    with RefusingBedrock(stream_of(text(0, ""), text(0, "ok"), block_stop(0))) as server:
        events = list(client_of(server).converse_stream(modelId=NOVA, messages=HELLO)["stream"])
    texts = [event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event]
    assert texts == ["", "ok"]


def test_stream_closed_during_its_resend_leaves_no_connection():
    closed = []

    class Stream(list):
        def close(self):
            closed.append(self)

    class Client:
        def converse(self, **request):
            raise NotImplementedError

        def converse_stream(self, **request):
            if not opened:
                opened.append(Stream())
                error = {
                    "Error": {"Code": "validationException", "Message": "`temperature` is deprecated for this model"}
                }
                return {"stream": Failing(ClientError(error, "ConverseStream"))}
            streams[0].close()  # by another thread, meanwhile
            opened.append(
                Stream([{"messageStart": {"role": "assistant"}}, {"messageStop": {"stopReason": "end_turn"}}])
            )
            return {"stream": opened[-1]}

    class Failing(Stream):
        def __init__(self, error):
            self.error = error

        def __iter__(self):
            raise self.error

    opened, streams = [], []
    client = RoutedClient(Client(), cache="off")
    request = {"modelId": NOVA, "messages": HELLO, "inferenceConfig": {"temperature": 0.5}}
    streams.append(client.converse_stream(**request)["stream"])
    with pytest.raises((ClientError, ConnectionError)):
        list(streams[0])
    assert any(stream is opened[-1] for stream in closed)


def test_foreign_error_with_response_attribute_is_raised_unchanged():
    class Client:
        def converse(self, **request):
            error = RuntimeError("of a wrapped client")
            error.response = object()
            raise error

        converse_stream = converse

    with pytest.raises(RuntimeError, match="of a wrapped client"):
        RoutedClient(Client()).converse(modelId=NOVA, messages=HELLO)
