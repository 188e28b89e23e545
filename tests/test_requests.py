"""Test how `RoutedClient`, and so both frameworks, makes requests valid for their target."""

from __future__ import annotations

import copy
import json
import re

import boto3
import pytest
from botocore.config import Config
from hypothesis import given
from hypothesis import strategies as st
from scripted_bedrock import ScriptedBedrock, block_stop, call_delta, call_start, stream_of, whole_of

from bedrock_routing_integrations import BedrockRoutingError, RoutedClient
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.models.candidates import from_base_models
from bedrock_routing_integrations.requests import (
    LONGEST_DOCUMENT_NAME,
    NO_CALL,
    PLACEHOLDER,
    DocumentNames,
    legal_document_name,
    object_schema,
    prepare_request,
)
from bedrock_routing_integrations.requests.tools import translate_tools
from bedrock_routing_integrations.targets import parse_target

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA, NOVA_2, GPT_OSS, LLAMA = (
    "us.amazon.nova-lite-v1:0", "us.amazon.nova-2-lite-v1:0", "openai.gpt-oss-120b-1:0",
    "us.meta.llama3-3-70b-instruct-v1:0",
)  # fmt: skip
ROUTER = "arn:aws:bedrock:us-east-1:123456789012:prompt-router/abcdefgh"
SESSION = boto3.Session()  # one for all: a session reads the service models anew
HELLO = [{"role": "user", "content": [{"text": "Hello."}]}]


@pytest.fixture
def scripted():
    with ScriptedBedrock(whole_of({"text": "ok"})) as server:
        yield server


def client_of(server, **more):
    arguments = {name: value for name, value in server.arguments.items() if name != "max_retries"}
    config = Config(retries={"total_max_attempts": 1})
    return RoutedClient(SESSION.client("bedrock-runtime", config=config, **arguments), cache="off", **more)


def sent_by(server, model=CLAUDE, **request):
    """Send a request, which must stay unchanged. Return the body that Bedrock receives."""
    request_body = {"modelId": model, "messages": HELLO, **request}
    before = copy.deepcopy(request_body)
    client_of(server).converse(**request_body)
    assert request_body == before
    return server.requests[-1]


def document(name, text="Bees."):
    return {"document": {"format": "txt", "name": name, "source": {"text": text}}}


def names_in(body):
    names = []
    for message in body["messages"]:
        for block in message["content"]:
            parts = [block, *block.get("toolResult", {}).get("content", [])]
            names += [part["document"]["name"] for part in parts if "document" in part]
    return names


# --- documents ---


def test_document_names_are_legal_and_unique_also_in_tool_results(scripted):
    titles = ["report.pdf", "John's report #1", "a", "a", "company_policy"]
    messages = [
        {"role": "user", "content": [{"text": "Sum up."}, *(document(name) for name in titles)]},
        {"role": "assistant", "content": [{"toolUse": {"toolUseId": "t", "name": "get", "input": {}}}]},
        {"role": "user", "content": [{"toolResult": {"toolUseId": "t", "content": [document("a"), document("b.c")]}}]},
    ]
    tool = {"toolSpec": {"name": "get", "inputSchema": {"json": {"type": "object"}}}}
    names = names_in(sent_by(scripted, messages=messages, toolConfig={"tools": [tool]}))
    assert names == ["report-pdf", "John-s report -1", "a", "a (2)", "company_policy", "a (3)", "b-c"]


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Report (1) [final]-2", "Report (1) [final]-2"),  # accepted as it is
        ("sample_2", "sample_2"),  # recorded: underscores are taken
        ("résumé.pdf", "resume-pdf"),
        ("資料 2024.xlsx", "2024-xlsx"),
        ("two  spaces\tand a tab", "two spaces-and a tab"),
        ("", "document"),
        (None, "document"),
        ("a" * 201, "a" * 200),
    ],
)
def test_document_title_becomes_the_nearest_legal_name(title, name):
    assert legal_document_name(title) == name


def test_document_title_without_ascii_letters_gets_a_stable_unique_name():
    first, second = legal_document_name("분기보고서"), legal_document_name("四半期報告書")
    assert first != second
    assert first == legal_document_name("분기보고서")
    for title in (
        "分기보고서",
        "Отчёт.pdf",
        "日本語 (1).pdf",
        "テスト　資料 2024.xlsx",
    ):  # of some more than the ending is left
        assert re.fullmatch(r"document-[0-9a-f]{8}", legal_document_name(title))


@given(st.lists(st.text(max_size=210), max_size=12))
def test_document_names_are_legal_and_unique_for_any_titles(titles):
    names, again = DocumentNames(), DocumentNames()
    given_names = [names.name(title) for title in titles]
    assert given_names == [again.name(title) for title in titles]
    assert len(set(given_names)) == len(titles)
    for name in given_names:
        assert 1 <= len(name) <= LONGEST_DOCUMENT_NAME
        assert re.fullmatch(r"[A-Za-z0-9()\[\]_ -]+", name)
        assert "  " not in name
        assert name == name.strip()


# --- reasoning ---

SIGNED = {"reasoningContent": {"reasoningText": {"text": "easy", "signature": "c2ln"}}}
BARE = {"reasoningContent": {"reasoningText": {"text": "easy"}}}
REDACTED = {"reasoningContent": {"redactedContent": b"\x00hidden"}}
ANSWER = {"text": "4"}


def kept(models, *content, target=None):
    """Return the content kept of an assistant's turn for a target of these models."""
    resolved = from_base_models(parse_target(target or ROUTER), models)
    messages = [*HELLO, {"role": "assistant", "content": list(content)}, *HELLO]
    prepared = prepare_request({"modelId": target or ROUTER, "messages": messages}, resolved)
    return prepared.request["messages"][1]["content"]


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        ([CLAUDE], [SIGNED, REDACTED, ANSWER]),
        (["anthropic.claude-3-haiku-20240307-v1:0"], [ANSWER]),
        ([GPT_OSS], [BARE, BARE, ANSWER]),
        ([LLAMA], [ANSWER]),
        ([NOVA], [ANSWER]),
        ([NOVA_2], [BARE, BARE, ANSWER]),
        ([NOVA_2, NOVA], [ANSWER]),
        ([NOVA, NOVA_2], [ANSWER]),
        ([CLAUDE, GPT_OSS], [ANSWER]),
    ],
)
def test_reasoning_is_kept_as_far_as_all_models_take_it(models, expected):
    assert kept(models, SIGNED, BARE, REDACTED, ANSWER) == expected


def test_reasoning_is_kept_as_given_where_models_are_not_known():
    resolved = from_base_models(parse_target(ROUTER), ["somebody.new-model-1"])
    messages = [*HELLO, {"role": "assistant", "content": [SIGNED, BARE, ANSWER]}, *HELLO]
    assert prepare_request({"messages": messages}, resolved).request["messages"] == messages


@pytest.mark.parametrize("model", [CLAUDE, NOVA, GPT_OSS])
def test_turn_of_reasoning_alone_gets_text(model):
    assert kept([model], SIGNED)[-1] == {"text": PLACEHOLDER}
    assert kept([model], REDACTED)[-1] == {"text": PLACEHOLDER}


# --- system messages amid a conversation ---


def turns(*pairs):
    return [{"role": role, "content": [{"text": text}]} for role, text in pairs]


AMID = turns(("user", "a"), ("assistant", "b"), ("system", "Answer in French."), ("user", "c"))


def placed(scripted, placement=None, messages=AMID, model=CLAUDE, **more):
    client_of(scripted, mid_conversation_system=placement).converse(modelId=model, messages=messages, **more)
    return scripted.requests[-1]


@pytest.mark.parametrize("placement", [None, "inline"])
def test_system_message_amid_turns_becomes_an_instruction_there(scripted, placement):
    body = placed(scripted, placement, system=[{"text": "Be brief."}])
    assert body["system"] == [{"text": "Be brief."}]
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    instruction, question = body["messages"][2]["content"]
    assert "Answer in French." in instruction["text"]
    assert instruction["text"] != "Answer in French."
    assert question == {"text": "c"}


def test_system_message_amid_turns_is_sent_unchanged_with_native_placement(scripted):
    assert placed(scripted, "native")["messages"] == AMID


def test_system_message_amid_turns_can_be_hoisted(scripted):
    body = placed(scripted, "hoist", system=[{"text": "Be brief."}])
    assert body["system"] == [{"text": "Be brief."}, {"text": "Answer in French."}]
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]


@pytest.mark.parametrize("placement", [None, "native", "inline", "hoist"])
def test_leading_system_messages_are_the_system_prompt(scripted, placement):
    body = placed(scripted, placement, turns(("system", "x"), ("system", "y"), ("user", "a")))
    assert body["system"] == [{"text": "x"}, {"text": "y"}]
    assert body["messages"] == turns(("user", "a"))


def test_system_message_between_call_and_result_follows_the_result(scripted):
    call = {"toolUse": {"toolUseId": "t", "name": "now", "input": {}}}
    result = {"toolResult": {"toolUseId": "t", "content": [{"text": "12:00"}]}}
    messages = [
        *HELLO, {"role": "assistant", "content": [call]}, *turns(("system", "Hurry.")),
        {"role": "user", "content": [result, {"text": "Well?"}]},
    ]  # fmt: skip
    tool = {"toolSpec": {"name": "now", "inputSchema": {"json": {"type": "object"}}}}
    body = placed(scripted, messages=messages, toolConfig={"tools": [tool]})
    first, second, third = body["messages"][2]["content"]
    assert "toolResult" in first
    assert "Hurry." in second["text"]
    assert third == {"text": "Well?"}


def test_system_message_between_two_of_the_user_joins_them(scripted):
    body = placed(scripted, messages=turns(("user", "a"), ("system", "s"), ("user", "b")))
    assert [message["role"] for message in body["messages"]] == ["user"]
    first, instruction, second = [block["text"] for block in body["messages"][0]["content"]]
    assert (first, second) == ("a", "b")
    assert "\ns\n" in instruction


def test_system_message_that_changes_tools_stays_native(scripted):
    change = [{"role": "system", "content": [{"toolRemoval": {"toolName": "now"}}]}]
    prepared = prepare_request({"messages": [*HELLO, *change]}, from_base_models(parse_target(CLAUDE), [CLAUDE]))
    assert prepared.request["messages"][-1] == change[0]


def test_system_placement_that_does_not_exist_is_refused(scripted):
    with pytest.raises(InvalidRequestError, match=r"'top'.*'native', 'inline', 'hoist'"):
        client_of(scripted, mid_conversation_system="top")


# --- tools ---


def spec(name, schema=None):
    return {"toolSpec": {"name": name, "description": "d", "inputSchema": {"json": schema or {"type": "object"}}}}


def asked(server, stream, **request):
    """Return the answer's tool calls, whole or streamed."""
    client = client_of(server)
    if not stream:
        return [b["toolUse"] for b in client.converse(**request)["output"]["message"]["content"] if "toolUse" in b]
    with client.converse_stream(**request)["stream"] as opened:
        for _ in opened:
            pass
        return [b["toolUse"] for b in opened.received.content() if "toolUse" in b]


def answering_with(arguments):
    """Return an answer function that calls the first tool, whatever its name."""

    def answer(request):
        name = request["toolConfig"]["tools"][0]["toolSpec"]["name"]
        return whole_of({"toolUse": {"toolUseId": "t", "name": name, "input": arguments}}, stop="tool_use")

    return answer


def streaming(arguments, pieces=4):
    def answer(request):
        name = request["toolConfig"]["tools"][0]["toolSpec"]["name"]
        size = max(1, len(arguments) // pieces)
        parts = [arguments[start : start + size] for start in range(0, len(arguments), size)]
        return stream_of(call_start(0, "t", name), *(call_delta(0, p) for p in parts), block_stop(0), stop="tool_use")

    return answer


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["clock/now.v2", "Page[str]", "é" * 70, "a" * 65, "x y"])
def test_tool_name_that_bedrock_refuses_is_replaced_and_restored(stream, name):
    history = [
        *HELLO,
        {"role": "assistant", "content": [{"toolUse": {"toolUseId": "o", "name": name, "input": {}}}]},
        {"role": "user", "content": [{"toolResult": {"toolUseId": "o", "content": [{"text": "12:00"}]}}]},
    ]
    with ScriptedBedrock(streaming("{}") if stream else answering_with({})) as server:
        request = {
            "modelId": CLAUDE, "messages": history,
            "toolConfig": {"tools": [spec(name), spec("clock_now_v2")], "toolChoice": {"tool": {"name": name}}},
        }  # fmt: skip
        (call,) = asked(server, stream, **request)
    assert call == {"toolUseId": "t", "name": name, "input": {}}
    body = server.requests[-1]
    sent = [tool["toolSpec"]["name"] for tool in body["toolConfig"]["tools"]]
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", each) for each in sent)
    assert len(set(sent)) == 2
    assert body["toolConfig"]["toolChoice"]["tool"]["name"] == sent[0]
    assert body["messages"][1]["content"][0]["toolUse"]["name"] == sent[0]


@given(st.lists(st.text(min_size=1, max_size=80), min_size=1, max_size=8, unique=True))
def test_tool_names_are_made_legal_and_restored_for_any_names(names):
    request = {"toolConfig": {"tools": [spec(name) for name in names]}}
    sent, translation = translate_tools(request)
    legal = [tool["toolSpec"]["name"] for tool in sent["toolConfig"]["tools"]]
    assert len(set(legal)) == len(names)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in legal)
    content = [{"toolUse": {"toolUseId": "t", "name": name, "input": {}}} for name in legal]
    assert [block["toolUse"]["name"] for block in translation.restore_content(content)] == names


def test_legal_tools_are_sent_as_they_are():
    request = {"toolConfig": {"tools": [spec("now"), {"systemTool": {"name": "nova_grounding"}}]}, "messages": HELLO}
    sent, translation = translate_tools(request)
    assert sent is request
    assert not translation


NAMES = {"type": "array", "items": {"$ref": "#/$defs/Name"}, "$defs": {"Name": {"type": "string"}}}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("schema", "value", "written"),
    [
        (NAMES, ["a"], '{"root": ["a"]}'),
        ({"type": "integer"}, 3, '{"root": 3}'),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, None, '{"root": null}'),
    ],
)
def test_tool_schema_without_root_object_is_wrapped_and_input_unwrapped(stream, schema, value, written):
    answer = streaming(written) if stream else answering_with({"root": value})
    with ScriptedBedrock(answer) as server:
        (call,) = asked(server, stream, modelId=CLAUDE, messages=HELLO, toolConfig={"tools": [spec("list", schema)]})
    assert call["input"] == value
    sent = server.requests[-1]["toolConfig"]["tools"][0]["toolSpec"]["inputSchema"]["json"]
    assert sent["type"] == "object"
    assert list(sent["properties"]) == ["root"]
    assert sent.get("$defs") == schema.get("$defs")


def test_tool_schema_with_root_reference_to_object_is_not_wrapped():
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}
    schema, wrapped = object_schema({"$ref": "#/$defs/Node", "$defs": {"Node": node}})
    assert schema == {**node, "$defs": {"Node": node}}
    assert not wrapped


@pytest.mark.parametrize("schema", [{}, {"title": "x"}, {"properties": {"a": {}}}, {"type": ["object", "null"]}])
def test_tool_schema_that_admits_objects_gets_type_object(schema):
    sent, wrapped = object_schema(schema)
    assert sent["type"] == "object"
    assert not wrapped


def test_tool_call_of_a_wrapped_tool_goes_back_wrapped(scripted):
    call = {"toolUse": {"toolUseId": "t", "name": "list", "input": {}}}
    history = [
        *HELLO, {"role": "assistant", "content": [call]},
        {"role": "user", "content": [{"toolResult": {"toolUseId": "t", "content": [{"text": "ok"}]}}]},
    ]  # fmt: skip
    body = sent_by(scripted, messages=history, toolConfig={"tools": [spec("list", NAMES)]})
    assert body["messages"][1]["content"][0]["toolUse"]["input"] == {"root": {}}


def test_wrapped_arguments_that_were_cut_off_are_not_lost():
    cut = streaming('{"root": ["a", "b"]}')

    def answer(request):
        return [
            event for event in cut(request) if event[0] in ("messageStart", "contentBlockStart", "contentBlockDelta")
        ]

    with ScriptedBedrock(answer) as server:
        client = client_of(server)
        stream = client.converse_stream(modelId=CLAUDE, messages=HELLO, toolConfig={"tools": [spec("list", NAMES)]})
        with pytest.raises(BedrockRoutingError) as raised:
            list(stream["stream"])
    (block,) = raised.value.partial["output"]["message"]["content"]
    assert block["toolUse"]["input"] == '{"root": ["a", "b"]}'


@pytest.mark.parametrize("last", ["user", "assistant"])
def test_tool_choice_none_keeps_tools_and_instructs_against_calls(scripted, last):
    messages = HELLO if last == "user" else [*HELLO, {"role": "assistant", "content": [{"text": "It is"}]}]
    body = sent_by(scripted, messages=messages, toolConfig={"tools": [spec("now")], "toolChoice": {"none": {}}})
    assert body["toolConfig"] == {"tools": [spec("now")]}
    where = body["messages"][-1]["content"] if last == "user" else body["system"]
    assert where[-1] == {"text": NO_CALL}


def test_tool_choice_none_is_refused_for_a_managed_prompt(scripted):
    prompt = "arn:aws:bedrock:us-east-1:123456789012:prompt/ABCDEFGHIJ:1"
    with pytest.raises(InvalidRequestError, match="managed prompt"):
        client_of(scripted, base_models={prompt: [NOVA]}).converse(
            modelId=prompt, toolConfig={"tools": [spec("now")], "toolChoice": {"none": {}}}
        )
    assert scripted.requests == []


# --- settings ---


def test_stream_processing_mode_reaches_streams_only():
    guardrail = {"guardrailIdentifier": "gr1", "guardrailVersion": "1", "streamProcessingMode": "async"}
    with ScriptedBedrock(whole_of({"text": "ok"}), stream_of(("contentBlockStop", {"contentBlockIndex": 0}))) as server:
        client = client_of(server)
        client.converse(modelId=CLAUDE, messages=HELLO, guardrailConfig=guardrail)
        list(client.converse_stream(modelId=CLAUDE, messages=HELLO, guardrailConfig=guardrail)["stream"])
        whole, streamed = server.requests
    assert "streamProcessingMode" not in whole["guardrailConfig"]
    assert streamed["guardrailConfig"] == guardrail


def test_request_metadata_without_entries_is_not_sent(scripted):
    assert "requestMetadata" not in sent_by(scripted, requestMetadata={})
    assert sent_by(scripted, requestMetadata={"cost_center": "a"})["requestMetadata"] == {"cost_center": "a"}


def test_project_is_sent_and_reported_if_boto3_supports_it(scripted):
    members = (
        boto3.client("bedrock-runtime", "us-east-1").meta.service_model.operation_model("Converse").input_shape.members
    )
    if "projectIdentifier" not in members:
        with pytest.raises(InvalidRequestError, match=r"boto3>=1\.44\.8"):
            sent_by(scripted, projectIdentifier="proj_abc")
        assert scripted.requests == []
        return
    response = client_of(scripted).converse(modelId=CLAUDE, messages=HELLO, projectIdentifier="proj_abc")
    assert scripted.requests[-1]["projectIdentifier"] == "proj_abc"
    assert response["routing"]["project"] == "proj_abc"


def test_project_that_boto3_does_not_know_is_refused_before_sending(scripted):
    class Older:
        """A boto3 client whose service model lacks the member."""

        def __init__(self, client):
            members = {"modelId": None}
            shape = type("Shape", (), {"members": members})
            operation = type("Operation", (), {"input_shape": shape})
            model = type("Model", (), {"operation_model": staticmethod(lambda name: operation)})
            self.meta = type("Meta", (), {"service_model": model, "region_name": "us-east-1", "config": None})
            self.converse = client.converse

    client = RoutedClient(Older(client_of(scripted)), base_models={CLAUDE: [CLAUDE]})
    with pytest.raises(InvalidRequestError, match=r"project_identifier=.*Install a newer one"):
        client.converse(modelId=CLAUDE, messages=HELLO, projectIdentifier="proj_abc")
    assert scripted.requests == []


@pytest.mark.parametrize("stream", [False, True])
def test_stream_unsupported_by_the_target_replays_the_converse_response(stream):
    call = {"toolUse": {"toolUseId": "t", "name": "now", "input": {"zone": "UTC"}}}
    answer = whole_of({"text": "Let me see."}, call, stop="tool_use")
    with ScriptedBedrock(answer) as server:
        request = {"modelId": LLAMA, "messages": HELLO, "toolConfig": {"tools": [spec("now")]}}
        if not stream:
            assert client_of(server).converse(**request)["output"]["message"]["content"][1] == call
            return
        events = list(client_of(server).converse_stream(**request)["stream"])
    assert [next(iter(event)) for event in events] == [
        "messageStart", "contentBlockDelta", "contentBlockStop", "contentBlockStart", "contentBlockDelta",
        "contentBlockStop", "messageStop", "metadata",
    ]  # fmt: skip
    routing = events[-1]["metadata"]["routing"]
    assert routing["stop_reason"] == "tool_use"
    assert routing["time_to_first_token_ms"] is None, "the whole answer came at once"
    assert events[-1]["metadata"]["usage"]["inputTokens"] == 3


def test_tool_removal_uses_the_name_that_is_sent(scripted):
    removal = {"toolRemoval": {"tool": {"name": "clock/now.v2"}}}
    request = {
        "messages": [*HELLO, {"role": "system", "content": [removal]}],
        "toolConfig": {"tools": [spec("clock/now.v2")]},
    }
    sent = prepare_request(request, from_base_models(parse_target(CLAUDE), [CLAUDE])).request
    assert sent["messages"][-1]["content"] == [{"toolRemoval": {"tool": {"name": "clock_now_v2"}}}]


def test_tool_name_sent_does_not_depend_on_the_history():
    history = [*HELLO, {"role": "assistant", "content": [{"toolUse": {"toolUseId": "t", "name": "a_b", "input": {}}}]}]
    config = {"tools": [spec("a.b")]}
    first, _ = translate_tools({"messages": HELLO, "toolConfig": config})
    later, _ = translate_tools({"messages": history, "toolConfig": config})
    assert first["toolConfig"] == later["toolConfig"]


def test_output_format_gets_legal_name_and_root_object(scripted):
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}
    schema = json.dumps({"$ref": "#/$defs/Node", "$defs": {"Node": node}})
    structure = {"jsonSchema": {"name": "Page[str]", "schema": schema}}
    config = {"textFormat": {"type": "json_schema", "structure": structure}}
    sent = sent_by(scripted, outputConfig=config)["outputConfig"]["textFormat"]["structure"]["jsonSchema"]
    assert sent["name"] == "Page_str_"
    assert json.loads(sent["schema"])["type"] == "object"


def test_hoisting_warns_that_the_cache_is_lost(scripted, caplog):
    placed(scripted, "hoist")
    placed(scripted, "inline")
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "cache" in warning
