"""Test `bedrock-routing plan`: the cache points for a request in a file, in a pipe, in a terminal and as JSON."""

from __future__ import annotations

import base64
import json
import re

import pytest
from command_line import ANSI, ROUTER, command, in_terminal, run

from bedrock_routing_integrations import RoutedClient, plan_cache_points
from bedrock_routing_integrations.cli.demo_sections import document_blocks
from bedrock_routing_integrations.emulator import BedrockEmulator
from bedrock_routing_integrations.runtime import DEFAULT_RUNTIME

CACHING = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
SONNET_37, SONNET_45 = "anthropic.claude-3-7-sonnet-20250219-v1:0", "anthropic.claude-sonnet-4-5-20250929-v1:0"
INSTRUCTIONS = {"text": "You answer questions about bees. " * 400}
# A tool's schema and input are JSON documents: a member "bytes" in them holds no base64.
TOOL = {"toolSpec": {"name": "look_up", "inputSchema": {"json": {"type": "object", "properties": {"bytes": {}}}}}}


def request(*content, model_id=CACHING, **others):
    messages = [{"role": "user", "content": list(content) or [{"text": "How many are there?"}]}]
    return {"modelId": model_id, "system": [INSTRUCTIONS], "messages": messages, **others}


@pytest.fixture
def plan(tmp_path):
    """Plans for a request; `text` is what stands in the file instead."""

    def run_plan(request_body=None, *arguments, text=None):
        path = tmp_path / "request.json"
        document = (
            json.dumps(request_body, default=lambda data: base64.b64encode(data).decode()) if text is None else text
        )
        path.write_bytes(document if isinstance(document, bytes) else document.encode())
        return run("plan", str(path), *arguments)

    return run_plan


def table(shown):
    """The rows, by where the points are."""
    lines = shown.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("State "))
    rows = [re.split(r" {2,}", line, maxsplit=3) for line in lines[start + 1 : lines.index("", start)]]
    return {where: (outcome, ttl, why) for outcome, where, ttl, why in rows}


# --- what is shown


def test_plan_shows_which_points_a_request_would_get_and_why(plan):
    result = plan(request(toolConfig={"tools": [TOOL]}))
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{CACHING}\n\ntokens           about 3,3")
    assert re.search(r"^expected saving  about \d,\d{3} plain input tokens, in this", result.stdout, re.MULTILINE)
    rows = table(result.stdout)
    assert rows["system[1]"][:2] == ("placed", "5m")
    assert "tokens, new;" in rows["system[1]"][2]
    assert rows["toolConfig.tools[1]"][0] == "not placed"
    assert "nothing is cached below 1,024" in rows["toolConfig.tools[1]"][2]
    assert result.stdout.splitlines()[-1].startswith("Nothing was sent.")


def test_plan_shows_what_happens_to_the_callers_cache_points(plan):
    given = request({"text": "x" * 9_000}, {"cachePoint": {"type": "default", "ttl": "1h"}})
    given["system"] = [{"cachePoint": {"type": "default"}}, *given["system"]]
    shown = plan(given).stdout
    assert f"A cachePoint in system of a request to {CACHING} was removed: Bedrock refuses a cachePoint" in shown
    DEFAULT_RUNTIME.reset()  # another process
    assert json.loads(plan(given, "--json").stdout)["warnings"] == [
        line for line in shown.splitlines() if "was removed" in line
    ]


def test_plan_shows_what_plan_cache_points_plans(plan):
    given = request({"text": "x" * 9_000}, {"text": "And now?"})
    printed, expected = json.loads(plan(given, "--json").stdout), plan_cache_points(given)
    assert printed == {**expected.as_dict(), "warnings": [], "request": expected.request}
    assert printed["points"]


def test_plan_shows_cache_points_at_their_positions_in_the_request(plan):
    point = {"cachePoint": {"type": "default"}}
    given = request({"text": "x" * 9_000}, point, {"text": "And now?"})
    rows = table(plan(given).stdout)
    sent = json.loads(plan(given, "--json").stdout)["request"]
    placed = {where for where, (outcome, _, _) in rows.items() if outcome in ("placed", "yours")}
    listed = {f"system[{n}]" for n, block in enumerate(sent["system"]) if block == point}
    content = sent["messages"][0]["content"]
    listed |= {f"messages[0].content[{n}]" for n, block in enumerate(content) if "cachePoint" in block}
    assert placed == listed
    assert rows["messages[0].content[1]"] == ("yours", "5m", "the caller's own")


def test_plan_reads_and_prints_bytes_as_base64(plan):
    documents = document_blocks()
    printed = json.loads(plan(request(*documents, {"text": "What is it?"}), "--json").stdout)
    expected = plan_cache_points(request(*documents, {"text": "What is it?"}))
    assert printed["tokens"] == expected.tokens
    sent = [block["document"] for block in printed["request"]["messages"][0]["content"] if "document" in block]
    assert [base64.b64decode(each["source"]["bytes"]) for each in sent] == [
        each["document"]["source"]["bytes"] for each in documents
    ]


def test_plan_accepts_its_own_output_as_a_request(plan):
    given = request(*document_blocks(), {"text": "What is it?"}, toolConfig={"tools": [TOOL]})
    first = json.loads(plan(given, "--json").stdout)
    again = json.loads(plan(first["request"], "--json").stdout)
    assert again["request"] == first["request"]
    assert {point["reason"] for point in again["points"]} == {"the caller's own"}
    assert first["request"]["toolConfig"]["tools"][0] == TOOL


def test_plan_reads_standard_input_in_any_encoding_of_json():
    text = json.dumps(request())
    for data in (text.encode(), text.encode("utf-8-sig"), text.encode("utf-16")):  # PowerShell writes the last two
        result = run("plan", "-", stdin=data)
        assert result.exit_code == 0, result.output
        assert "system[1]" in result.stdout


def test_plan_with_caching_off_places_no_cache_points(plan):
    shown = plan(request(), "--cache", "off").stdout
    assert "No cache point is placed: caching is off." in shown
    assert "expected saving  none" in shown
    assert "State " not in shown


def test_plan_places_cache_points_with_the_requested_ttl(plan):
    for ttl in ("5m", "1h"):
        assert table(plan(request(), "--ttl", ttl).stdout)["system[1]"][:2] == ("placed", ttl)


def test_plan_for_a_short_prompt_names_the_minimum(plan):
    shown = plan({"modelId": CACHING, "messages": [{"role": "user", "content": [{"text": "Hello"}]}]}).stdout
    assert re.search(r"No cache point is placed: about \d tokens, and nothing is cached below 1,024\.", shown)


@pytest.mark.sweep
def test_plan_in_a_pipe_is_plain(tmp_path):
    path = tmp_path / "request.json"
    path.write_text(json.dumps(request()))
    done = command("plan", str(path))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert not ANSI.search(done.stdout)
    assert table(done.stdout)["system[1]"][0] == "placed"


@pytest.mark.sample(1)
@pytest.mark.parametrize("columns", [60, 80, 120])
def test_plan_fits_the_terminal(tmp_path, columns):
    path = tmp_path / "request.json"
    path.write_text(json.dumps(request(toolConfig={"tools": [TOOL]})))
    code, shown = in_terminal(columns, "plan", str(path))
    assert code == 0
    assert ANSI.search(shown)
    text = ANSI.sub("", shown)
    drawn = text[text.index("State") : text.index("Nothing was sent")]
    assert max(len(line) for line in drawn.splitlines()) <= columns
    assert "…" not in text
    assert "not placed" in text


# --- targets


def test_plan_sends_nothing_but_a_look_up_of_a_router(bedrock, plan):
    router = bedrock.create_prompt_router(name="bees", models=[SONNET_37, SONNET_45], fallback=SONNET_45)
    result = plan(request(model_id=router))
    assert result.exit_code == 0, result.output
    assert table(result.stdout)["system[1]"][0] == "placed"
    assert {entry.operation for entry in bedrock.journal} == {"GetPromptRouter"}


def test_plan_with_base_models_sends_no_look_up(bedrock, plan):
    result = plan(request(model_id=ROUTER), "--base-model", SONNET_37, "--base-model", SONNET_45)
    assert table(result.stdout)["system[1]"][0] == "placed"
    assert len(bedrock.journal) == 0


def test_plan_uses_the_given_endpoint_url(plan, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "emulated")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "emulated")
    with BedrockEmulator() as bedrock:
        router = bedrock.create_prompt_router(name="bees", models=[SONNET_37, SONNET_45], fallback=SONNET_45)
        result = plan(request(model_id=router), "--endpoint-url", bedrock.endpoint_url)
        assert result.exit_code == 0, result.output
        assert [entry.operation for entry in bedrock.journal] == ["GetPromptRouter"]


def test_plan_for_a_router_without_look_up_gives_advice(plan):
    result = plan(request(model_id=ROUTER.replace("123456789012", "510987654321")))
    assert result.exit_code == 1
    assert "No cache point is placed" in result.stdout
    assert "The candidate models are not all known. GetPromptRouter: NoCredentialsError" in result.stdout
    assert "--base-model ID" in result.stdout
    assert result.stderr == ""


def test_plan_for_an_unknown_model_suggests_to_check_its_spelling(plan):
    result = plan(request(model_id="anthropic.nothing-v1:0"))
    assert result.exit_code == 0
    assert "The catalog does not know anthropic.nothing-v1:0" in result.stdout
    assert "aws bedrock list-foundation-models" in result.stdout


def test_plan_for_a_model_without_caching_explains_it(plan):
    shown = plan(request(model_id="meta.llama3-1-8b-instruct-v1:0")).stdout
    assert "No cache point is placed: meta.llama3-1-8b-instruct-v1:0 does not support prompt caching." in shown


def test_plan_for_a_managed_prompt_points_to_its_text(bedrock, plan):
    arn = bedrock.add_prompt("bees", "How many bees has {{name}}?", SONNET_37)
    result = plan({"modelId": arn, "promptVariables": {"name": {"text": "Ada"}}})
    assert result.exit_code == 0
    assert "The text of a managed prompt is not in the request" in result.stdout


# --- mistakes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty. A Converse request looks like this: {"),
        ("{'modelId': 'x'}", "is no JSON: Expecting property name enclosed in double quotes in line 1"),
        ('{"modelId":\n oops}', "in line 2"),
        (b"%PDF-1.4 \xff\xfe\x00", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "holds no JSON object. A Converse request looks like this: {"),
        ('"hello"', "holds no JSON object"),
        ('{"messages": []}', 'has no modelId. Add one, as in {"modelId": "'),
        ('{"modelId": 7, "messages": []}', "has no modelId"),
        ('{"anthropic_version": "bedrock-2023-05-31", "messages": []}', "looks like a body of InvokeModel"),
        ('{"prompt": "Hello", "max_gen_len": 5}', "(it has 'prompt'); plan takes a Converse request"),
        (json.dumps({"modelId": CACHING}), "has no messages. A Converse request"),
        (
            json.dumps({"modelId": CACHING, "messages": [{"role": "user", "content": "Hello " * 99}]}),
            "is no Converse request. Invalid type for parameter messages[0].content",
        ),
        (
            json.dumps({"modelId": CACHING, "messages": [{"role": "user", "content": []}], "max_tokens": 5}),
            'Unknown parameter in input: "max_tokens", must be one of: modelId, messages',
        ),
        (
            json.dumps(request({"image": {"format": "png", "source": {"bytes": "@@@"}}})),
            "messages[0].content[0].image.source.bytes is no base64",
        ),
    ],
)
def test_invalid_request_is_explained_in_one_line(plan, text, message):
    result = plan(text=text)
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert len(result.stderr) < 700
    assert result.stdout == ""


def test_invalid_target_lists_the_accepted_kinds(plan):
    for wrong in ({"model_id": "claude"}, {"model_id": ROUTER.replace("default-prompt-router", "promptrouter")}):
        result = plan(request(**wrong))
        assert result.exit_code == 2
        assert result.stderr.startswith("Error: ")
        assert "Traceback" not in result.stderr


def test_invalid_base_model_is_reported(plan):
    result = plan(request(model_id=ROUTER), "--base-model", ROUTER)
    assert result.exit_code == 2
    assert "names no foundation model" in result.stderr


def test_missing_or_unreadable_request_file_is_reported(tmp_path):
    missing, directory = run("plan", str(tmp_path / "none.json")), run("plan", str(tmp_path))
    assert missing.exit_code == directory.exit_code == 1
    assert "There is no file '" in missing.stderr
    assert "cannot be read: " in directory.stderr


def test_plan_predicts_the_cache_points_that_a_client_places(bedrock, plan):
    given = request({"text": "x" * 9_000}, {"text": "And now?"})
    promised = json.loads(plan(given, "--json").stdout)
    routing = RoutedClient(bedrock.client()).converse(**given)["routing"]
    assert routing["cache_points"] == promised["points"]
    assert bedrock.journal[-1].request["system"] == promised["request"]["system"]
