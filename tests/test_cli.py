"""Test the command `bedrock-routing`: resolve, ask, and errors without credentials, extras or a network."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from botocore.exceptions import InvalidEndpointConfigurationError
from command_line import EASY, HARD, NOVA_PRO, ROUTER, command, in_terminal, run
from samples import HAIKU, SONNET

from bedrock_routing_integrations.cli.errors import explain
from bedrock_routing_integrations.cli.output import aligned, short_model
from bedrock_routing_integrations.emulator import BedrockEmulator

# --- resolve


def test_resolve_shows_candidates_and_where_they_were_learned(router):
    result = run("resolve", router)
    assert result.exit_code == 0, result.output
    assert re.search(rf"^{re.escape(SONNET)} +fallback +GetPromptRouter +arn:", result.stdout, re.MULTILINE)
    assert re.search(rf"^{re.escape(HAIKU)} +GetPromptRouter +arn:", result.stdout, re.MULTILINE)
    for part in (
        "default prompt router",
        "us-east-1 (from the ARN)",
        "123456789012",
        "200,000 tokens",
        "prompt caching  no",
    ):
        assert part in result.stdout


def test_resolve_shows_a_models_caching_rules_without_any_request():
    result = run("resolve", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "--region", "us-west-2")
    assert result.exit_code == 0
    assert "us-west-2 (from --region)" in result.stdout
    assert "from 1,024 tokens; ttl 5m, 1h; in messages, system, tools; up to 4 points" in result.stdout
    assert "the id" in result.stdout


def test_resolve_gives_json(router):
    printed = json.loads(run("resolve", router, "--json").stdout)
    assert printed["kind"] == "default_prompt_router"
    assert [candidate["base_model"] for candidate in printed["candidates"]] == [HAIKU, SONNET]
    assert printed["fallback"] == SONNET
    assert printed["complete"] is True
    assert printed["facts"]["context_window"] == 200_000


def test_resolve_gives_json_of_caching_rules():
    printed = json.loads(run("resolve", NOVA_PRO, "--json").stdout)
    assert printed["region"] is None
    assert printed["facts"]["cache"]["fields"] == ["messages", "system"]
    assert printed["facts"]["cache"]["write_multipliers"] == {"5m": 1.0}


def test_resolve_of_no_target_lists_what_is_accepted():
    result = run("resolve", ROUTER.replace("default-prompt-router", "promptrouter"))
    assert result.exit_code == 2
    assert "did you mean 'prompt-router'" in result.stderr
    assert "Traceback" not in result.stderr


def test_resolve_without_permission_names_the_iam_action(bedrock):
    # An account of its own: what one test has looked up is known to the next.
    target = ROUTER.replace("123456789012", "210987654321")
    bedrock.fail("access_denied", operation="GetPromptRouter", rate=1.0)
    result = run("resolve", target)
    assert result.exit_code == 1
    assert "The candidate models are not all known. GetPromptRouter: AccessDeniedException" in result.stdout
    assert "Allow the IAM action bedrock:GetPromptRouter" in result.stdout
    assert "base_models=" in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_resolve_of_a_nonexistent_target_fails(bedrock, form):
    result = run("resolve", "arn:aws:bedrock:us-east-1:123456789012:prompt-router/gone", *form)
    assert result.exit_code == 1
    assert form or "This account and Region do not have this target" in result.stdout


def test_resolve_shows_no_abilities_for_unknown_models(bedrock):
    result = run("resolve", "arn:aws:bedrock:us-east-1:123456789012:prompt-router/gone")
    assert "Limits: not known." in result.stdout
    assert "prompt caching" not in result.stdout
    imported = run("resolve", bedrock.add_imported_model("mine"))
    assert imported.exit_code == 0  # it needs no look-up
    assert "Limits: not known." in imported.stdout


def test_resolve_without_credentials_explains_how_to_get_them():
    result = run("resolve", ROUTER.replace("123456789012", "310987654321"))
    assert result.exit_code == 1
    assert "The candidate models are not all known. GetPromptRouter: NoCredentialsError" in result.stdout
    assert "AWS_ACCESS_KEY_ID" in result.stdout


def test_resolve_with_a_missing_aws_profile_suggests_to_log_in(monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nope")
    shown = run("resolve", ROUTER).output
    assert "There is no such target" not in shown
    assert "Log in" in shown


def test_resolve_without_connection_fails_with_advice(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "emulated")
    result = run("resolve", ROUTER, "--endpoint-url", "http://127.0.0.1:9")
    assert result.exit_code == 1
    assert "The endpoint did not answer" in result.stdout


@pytest.mark.parametrize("url", ["localhost:8080", "127.0.0.1:8080", "ftp://host", "http://", "http://host:port", ""])
@pytest.mark.parametrize("arguments", [["resolve", ROUTER], ["ask", ROUTER, "hello"]])
def test_invalid_endpoint_url_is_a_usage_error(arguments, url):
    result = run(*arguments, "--endpoint-url", url)
    assert result.exit_code == 2
    assert "http:// or https://" in " ".join(result.stderr.replace("│", " ").split())


# --- ask


def test_ask_prints_answer_to_stdout_and_model_to_stderr(router):
    result = run("ask", router, EASY)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip()
    assert result.stderr.startswith(f"{HAIKU} | not the fallback | 18 tokens in, ")
    hard = run("ask", router, HARD)
    assert hard.stderr.startswith(f"{SONNET} | the fallback | 27 tokens in, 160 out | 4,589 ms")


def test_ask_streams_the_same_answer(router):
    assert run("ask", router, EASY, "--stream").stdout == run("ask", router, EASY, "--no-stream").stdout


def test_ask_streams_in_a_terminal(bedrock, router):
    code, shown = in_terminal(80, "ask", router, EASY)
    assert code == 0
    assert HAIKU in shown
    assert bedrock.journal[-1].operation == "ConverseStream"


def test_ask_reads_the_prompt_from_standard_input(router):
    assert run("ask", router, "-", stdin="What is 3 + 4?").stdout == run("ask", router, "What is 3 + 4?").stdout


def test_ask_for_nothing_is_a_mistake(router):
    result = run("ask", router, "-", stdin=" \n")
    assert result.exit_code == 2
    assert "prompt is empty" in result.stderr


@pytest.mark.parametrize("way", ["--stream", "--no-stream"])
def test_ask_gives_json(bedrock, way):
    result = run("ask", NOVA_PRO, "hello", "--json", "--latency", "optimized", way)
    printed = json.loads(result.stdout)
    assert set(printed) == {"text", "stop_reason", "routing"}
    assert printed["text"]
    assert printed["stop_reason"] == "end_turn"
    assert printed["routing"]["latency"] == {"requested": "optimized", "served": "optimized"}
    assert result.stderr == ""


def test_ask_shows_the_served_latency(monkeypatch):
    with BedrockEmulator(optimized_quota=0) as bedrock:
        for name, value in bedrock.environment().items():
            monkeypatch.setenv(name, value)
        result = run("ask", NOVA_PRO, "hello", "--latency", "optimized")
    assert result.stderr.rstrip().endswith("latency standard served, optimized asked")


def test_ask_limits_the_answer(router):
    printed = json.loads(run("ask", router, HARD, "--max-tokens", "5", "--json").stdout)
    assert printed["stop_reason"] == "max_tokens"
    assert printed["routing"]["usage"]["output"] == 5


def test_ask_uses_the_given_endpoint_url(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "emulated")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "emulated")
    with BedrockEmulator() as bedrock:
        result = run("ask", bedrock.default_router(), EASY, "--endpoint-url", bedrock.endpoint_url)
        assert result.exit_code == 0, result.output
        assert {entry.operation for entry in bedrock.journal} >= {"Converse"}


def test_ask_without_credentials_fails_in_one_line():
    result = run("ask", ROUTER.replace("123456789012", "410987654321"), "hello")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: No usable AWS credentials: ")
    assert result.stderr.count("\n") == 1


def test_ask_without_a_region_fails_in_one_line():
    result = run("ask", NOVA_PRO, "hello")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "No AWS Region is known. Pass --region" in result.stderr


def test_ask_without_permission_names_the_iam_action(bedrock, router):
    bedrock.fail("access_denied", operation="Converse")
    result = run("ask", router, "hello")
    assert result.exit_code == 1
    assert "Converse was refused (AccessDeniedException: " in result.stderr
    assert "Allow the IAM action bedrock:InvokeModel." in result.stderr
    bedrock.fail("access_denied", operation="ConverseStream")
    assert "bedrock:InvokeModelWithResponseStream." in run("ask", router, "hello", "--stream").stderr


def test_ask_of_a_nonexistent_model_shows_bedrocks_error(bedrock):
    result = run("ask", "anthropic.claude-0-v1:0", "hello")
    assert result.exit_code == 1
    assert "Error: Converse failed (" in result.stderr
    assert "Traceback" not in result.stderr


def test_ask_of_an_unknown_model_points_to_the_ids(bedrock, router):
    result = run("ask", "anthropic.claude-0-v1:0", "hello")
    assert "list-foundation-models` and `aws bedrock list-inference-profiles" in result.stderr.splitlines()[-1]
    bedrock.fail("validation", message="Something else.")
    assert "Hint" not in run("ask", router, "hello").stderr


def test_ask_with_an_invalid_latency_lists_the_valid_ones():
    result = run("ask", NOVA_PRO, "hello", "--latency", "fast")
    assert result.exit_code == 2
    assert "standard" in result.stderr
    assert "optimized" in result.stderr


def test_api_key_without_https_is_explained_in_one_line():
    # botocore raises it from 1.44 on; the lowest versions send the key.
    error = InvalidEndpointConfigurationError(msg="Bearer authorization requires an HTTPS endpoint.")
    assert explain(error).startswith("A Bedrock API key is only sent over https://: unset AWS_BEARER_TOKEN_BEDROCK")


def test_ask_without_connection_names_the_endpoint(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "emulated")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "emulated")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    result = run("ask", NOVA_PRO, "hello", "--region", "us-east-1", "--endpoint-url", "http://127.0.0.1:9")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: Nobody answers at http://127.0.0.1:9.")


def test_ask_shows_what_had_arrived_when_a_stream_breaks_off(bedrock, router):
    bedrock.fail("cut", operation="ConverseStream", frame=6)
    result = run("ask", router, HARD, "--stream")
    assert result.exit_code == 1
    assert result.stdout.strip()
    assert "Error: The response stream broke off" in result.stderr


def test_ask_warns_of_a_region_that_conflicts_with_the_target(router):
    result = run("ask", router, "hello", "--region", "eu-west-1")
    assert "Warning: The target" in result.stderr


# --- the command itself


def test_version_is_the_packages():
    from importlib.metadata import version

    assert run("--version").stdout == f"bedrock-routing {version('bedrock-routing-integrations')}\n"


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("without", "arguments", "extras"),
    [
        (["typer"], ["--version"], "cli"),
        (["rich"], ["demo"], "cli"),
        (["aiohttp"], ["demo"], "emulator"),
        (["aiohttp"], ["emulate"], "emulator"),
        (["typer", "langchain_aws", "aiohttp"], ["demo"], "cli,emulator"),
    ],
)
def test_missing_extra_is_named_in_one_line(without, arguments, extras):
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({without!r}))\n"
        "from bedrock_routing_integrations.cli import main; main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 1
    assert result.stderr == (
        f'Error: {without[0]} is not installed: pip install "bedrock-routing-integrations[{extras}]"\n'
    )
    assert result.stdout == ""


def test_importing_the_command_loads_no_extras():
    program = (
        "import sys; from bedrock_routing_integrations.cli import main\n"
        "print({'typer', 'rich', 'boto3', 'langchain_aws', 'aiohttp'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout == "set()\n"


@pytest.mark.sweep
def test_characters_outside_the_output_encoding_are_replaced(bedrock):
    result = command("ask", NOVA_PRO, "Repeat after me: \N{SNOWMAN}", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("model", "short"),
    [
        (SONNET, "claude-3-5-sonnet"),
        ("anthropic.claude-3-5-sonnet-20241022-v2:0", "claude-3-5-sonnet-20241022-v2"),
        ("amazon.nova-pro-v1:0", "nova-pro"),
        ("deepseek.v3.2", "v3.2"),
        ("mine", "mine"),
    ],
)
def test_short_names_stay_distinct(model, short):
    assert short_model(model) == short


def test_columns_are_aligned_and_empty_ones_left_out():
    assert aligned([("a", "", "b"), ("long", "", "c")]) == ["a     b", "long  c"]


def test_refused_model_error_names_an_id_that_works(bedrock):
    """The id in the advice can be called, and the advice is printed once."""
    alone, near = "anthropic.claude-haiku-4-5-20251001-v1:0", "amazon.nova-lit-v1:0"
    on_demand, misspelled = run("ask", alone, "Hi"), run("ask", near, "Hi")
    assert (on_demand.exit_code, misspelled.exit_code) == (1, 1)
    assert f"Use the inference profile 'us.{alone}'" in on_demand.stderr
    assert misspelled.stderr.count("did you mean 'amazon.nova-lite-v1:0'") == 1
    assert run("ask", f"us.{alone}", "Hi").exit_code == run("ask", "amazon.nova-lite-v1:0", "Hi").exit_code == 0
