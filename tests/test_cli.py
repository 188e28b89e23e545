"""The command, as a user meets it: in a terminal, in a pipe, with and without credentials, extras and a network."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from bedrock_routing_integrations.cli.app import app
from bedrock_routing_integrations.cli.demo_places import _client_of
from bedrock_routing_integrations.cli.output import aligned, short_model
from bedrock_routing_integrations.emulator import BedrockEmulator

HAIKU = "anthropic.claude-3-haiku-20240307-v1:0"
SONNET = "anthropic.claude-3-5-sonnet-20240620-v1:0"
NOVA_PRO = "us.amazon.nova-pro-v1:0"
EASY = "Describe the purpose of a 'hello world' program in one line."
HARD = "Alice has N brothers and she also has M sisters. How many sisters does Alice's brothers have?"
ROUTER = "arn:aws:bedrock:us-east-1:123456789012:default-prompt-router/anthropic.claude:1"
ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
DRAWN = re.compile(r"[─-╿…⠀-⣿]")


def run(*arguments, stdin=None):
    """In this process."""
    return CliRunner().invoke(app, list(arguments), input=stdin)


def command(*arguments, **settings):
    """In a process of its own, piped."""
    given = {"capture_output": True, "text": True, "timeout": 120, "encoding": "utf-8", **settings}
    return subprocess.run([sys.executable, "-m", "bedrock_routing_integrations", *arguments], check=False, **given)


def in_terminal(columns, *arguments):
    """What a terminal of so many columns shows at the end, without its colours."""
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, (50).to_bytes(2, "little") + columns.to_bytes(2, "little") + bytes(4))
    process = subprocess.Popen(
        [sys.executable, "-m", "bedrock_routing_integrations", *arguments],
        stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm-256color", "COLUMNS": ""},
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
    except OSError:  # Linux says so when the other end is closed
        pass
    os.close(ours)
    return process.wait(timeout=60), shown.decode().replace("\r\n", "\n")


# --- demo


@pytest.fixture(scope="module")
def piped_demo():
    hostile = {
        "AWS_PROFILE": "no-such-profile",
        "AWS_BEARER_TOKEN_BEDROCK": "the-users-own-key",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
    }
    others = ("AWS_", "LANGSMITH_", "LANGCHAIN_")  # set up before the tests' own environment is
    environment = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    return command("demo", env={**environment, **hostile})


def test_demo_needs_no_account_and_nothing_of_the_environment_disturbs_it(piped_demo):
    assert piped_demo.returncode == 0, piped_demo.stderr
    assert piped_demo.stderr == ""


def test_demo_in_a_pipe_is_plain_and_complete(piped_demo):
    lines = piped_demo.stdout.splitlines()
    assert not ANSI.search(piped_demo.stdout)
    assert not DRAWN.search(piped_demo.stdout)
    table = [re.split(r" {2,}", line) for line in lines[lines.index("") + 1 :]]
    table = table[: table.index([""])]
    assert table[0][:4] == ["TARGET", "NAME", "ANSWERED BY", "FALLBACK"]
    assert {len(row) for row in table} == {11}
    rows = [dict(zip(table[0], row, strict=True)) for row in table[1:]]
    assert [row["TARGET"] for row in rows] == [
        "default router", "default router", "custom router", "application profile", "default router", "system profile",
    ]  # fmt: skip
    assert [row["PROMPT"] for row in rows[:2]] == [HARD, EASY]
    assert [row["ANSWERED BY"] for row in rows[:2]] == [SONNET, HAIKU]
    assert [row["FALLBACK"] for row in rows[:2]] == ["yes", "no"]
    assert (rows[0]["IN"], rows[0]["OUT"]) == ("27", "160")
    assert rows[4]["MODE"] == "stream"
    assert (rows[5]["ASKED"], rows[5]["SERVED"]) == ("optimized", "optimized")


def test_demo_ends_with_what_was_seen_and_how_to_go_on(piped_demo):
    seen, *_, go_on = piped_demo.stdout.splitlines()[-3:]
    assert seen.startswith("2 models answered for the router anthropic.claude:1: claude-3-5-sonnet (1 prompt) and ")
    assert "demo --aws" in go_on


@pytest.mark.parametrize("columns", [80, 120])
def test_demo_fits_the_terminal(columns):
    code, shown = in_terminal(columns, "demo")
    assert code == 0
    assert ANSI.search(shown)
    text = ANSI.sub("", shown.rpartition("\x1b[2K")[2])
    assert max(len(line) for line in text.splitlines()) <= columns
    assert "…" not in text
    for part in (
        "claude-3-5-sonnet",
        "claude-3-haiku",
        "the fallback",
        "demo-router",
        "27 / 160",
        "4589 ms",
        "streamed",
    ):
        assert part in text
    squeezed = re.sub(r"[^a-z]", "", text.lower())
    assert "optimized" in squeezed


def test_demo_never_sends_a_key_of_the_users(monkeypatch):
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "the-users-own-key")
    with BedrockEmulator() as bedrock:
        client = _client_of(bedrock, "bedrock")
        client.list_prompt_routers()
        client.close()
        assert bedrock.journal[-1].authorization == "sigv4"


def test_demo_on_an_account_takes_what_is_there_and_makes_nothing(bedrock):
    made = bedrock.create_prompt_router(
        name="support", models=["amazon.nova-lite-v1:0", "amazon.nova-pro-v1:0"], fallback="amazon.nova-pro-v1:0"
    )
    result = run("demo", "--aws")
    assert result.exit_code == 0, result.output
    assert "amazon.nova:1" in result.stdout  # the guide lists no Claude router any more
    assert re.search(r"custom router +support ", result.stdout)
    assert "Skipped, no application profile: there is none in us-east-1, and the demo makes none." in result.stdout
    asked = [entry.operation for entry in bedrock.journal]
    assert not [operation for operation in asked if operation.startswith(("Create", "Delete"))]
    assert made in [entry.request.get("modelId") for entry in bedrock.journal]


def test_demo_on_an_account_names_the_iam_action_that_is_missing_and_goes_on(bedrock):
    bedrock.fail("access_denied", operation="ListPromptRouters", rate=1.0)
    result = run("demo", "--aws")
    assert result.exit_code == 0
    assert "Skipped, no default router: ListPromptRouters was refused (AccessDeniedException" in result.stdout
    assert "Allow the IAM action bedrock:ListPromptRouters." in result.stdout
    assert NOVA_PRO in result.stdout


def test_demo_on_an_account_where_nothing_is_allowed_fails(bedrock):
    bedrock.fail("access_denied", operation="*", rate=1.0)
    result = run("demo", "--aws")
    assert result.exit_code == 1
    assert "Nothing could run." in result.stdout
    assert "bedrock:ListInferenceProfiles" in result.stdout


def test_demo_on_an_account_without_optimized_latency_says_so(bedrock):
    bedrock.fail(
        "validation", model_id=NOVA_PRO, rate=1.0, message="Latency performance configuration is not supported"
    )
    result = run("demo", "--aws")
    assert result.exit_code == 0
    assert (
        f"Refused with optimized latency, system profile {NOVA_PRO}: Converse failed (ValidationException"
        in result.stdout
    )


def test_demo_without_credentials_says_so_in_a_line():
    result = run("demo", "--aws", "--region", "us-east-1")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: No usable AWS credentials: Unable to locate credentials.")
    assert result.stderr.count("\n") == 1


def test_demo_without_a_region_says_so_in_a_line():
    result = run("demo", "--aws")
    assert result.exit_code == 1
    assert (
        result.stderr
        == "Error: No AWS Region is known. Pass --region, use a target ARN that names one, or set AWS_REGION.\n"
    )


def test_demo_with_credentials_that_are_refused_stops_at_once(bedrock, monkeypatch):
    bedrock.fail("access_denied", operation="ListPromptRouters", rate=1.0)
    monkeypatch.setenv("AWS_PROFILE", "gone")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    result = run("demo", "--aws")
    assert result.exit_code == 1
    assert "The config profile (gone) could not be found" in result.stderr


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


def test_resolve_shows_the_caching_rules_of_a_model_without_asking_anybody():
    result = run("resolve", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "--region", "us-west-2")
    assert result.exit_code == 0
    assert "us-west-2 (from --region)" in result.stdout
    assert "from 1,024 tokens; ttl 5m, 1h; in messages, system, tools; up to 4 points" in result.stdout
    assert "its id" in result.stdout


def test_resolve_gives_json(router):
    found = json.loads(run("resolve", router, "--json").stdout)
    assert found["kind"] == "default_prompt_router"
    assert [candidate["base_model"] for candidate in found["candidates"]] == [HAIKU, SONNET]
    assert found["fallback"] == SONNET
    assert found["complete"] is True
    assert found["facts"]["context_window"] == 200_000


def test_resolve_gives_json_of_caching_rules():
    found = json.loads(run("resolve", NOVA_PRO, "--json").stdout)
    assert found["region"] is None
    assert found["facts"]["cache"]["fields"] == ["messages", "system"]
    assert found["facts"]["cache"]["write_multipliers"] == {"5m": 1.0}


def test_resolve_of_no_target_lists_what_is_accepted():
    result = run("resolve", ROUTER.replace("default-prompt-router", "promptrouter"))
    assert result.exit_code == 2
    assert "did you mean 'prompt-router'" in result.stderr
    assert "Traceback" not in result.stderr


def test_resolve_without_permission_says_what_to_allow(bedrock):
    # An account of its own: what one test has looked up is known to the next.
    target = ROUTER.replace("123456789012", "210987654321")
    bedrock.fail("access_denied", operation="GetPromptRouter", rate=1.0)
    result = run("resolve", target)
    assert result.exit_code == 0
    assert "Not all is known. GetPromptRouter: AccessDeniedException" in result.stdout
    assert "Allow the IAM action bedrock:GetPromptRouter" in result.stdout
    assert "base_models=" in result.stdout
    assert result.stderr == ""


def test_resolve_of_what_does_not_exist_says_so(bedrock):
    result = run("resolve", "arn:aws:bedrock:us-east-1:123456789012:prompt-router/gone")
    assert "There is no such target in this account and Region" in result.stdout


def test_resolve_without_credentials_says_how_to_get_some():
    result = run("resolve", ROUTER.replace("123456789012", "310987654321"))
    assert "Not all is known. GetPromptRouter: NoCredentialsError" in result.stdout
    assert "AWS_ACCESS_KEY_ID" in result.stdout


# --- ask


def test_ask_prints_the_answer_and_apart_from_it_who_gave_it(router):
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
    found = json.loads(result.stdout)
    assert set(found) == {"text", "stop_reason", "routing"}
    assert found["text"]
    assert found["stop_reason"] == "end_turn"
    assert found["routing"]["latency"] == {"requested": "optimized", "served": "optimized"}
    assert result.stderr == ""


def test_ask_says_which_latency_was_served(monkeypatch):
    with BedrockEmulator(optimized_quota=0) as bedrock:
        for name, value in bedrock.environment().items():
            monkeypatch.setenv(name, value)
        result = run("ask", NOVA_PRO, "hello", "--latency", "optimized")
    assert result.stderr.rstrip().endswith("latency standard served, optimized asked")


def test_ask_limits_the_answer(router):
    found = json.loads(run("ask", router, HARD, "--max-tokens", "5", "--json").stdout)
    assert found["stop_reason"] == "max_tokens"
    assert found["routing"]["usage"]["output"] == 5


def test_ask_goes_to_the_endpoint_that_is_named(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "emulated")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "emulated")
    with BedrockEmulator() as bedrock:
        result = run("ask", bedrock.default_router(), EASY, "--endpoint-url", bedrock.endpoint_url)
        assert result.exit_code == 0, result.output
        assert {entry.operation for entry in bedrock.journal} >= {"Converse"}


def test_ask_without_credentials_says_so_in_one_line():
    result = run("ask", ROUTER.replace("123456789012", "410987654321"), "hello")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: No usable AWS credentials: ")
    assert result.stderr.count("\n") == 1


def test_ask_without_a_region_says_so_in_one_line():
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


def test_ask_of_a_model_that_does_not_exist_gives_bedrocks_own_words(bedrock):
    result = run("ask", "anthropic.claude-0-v1:0", "hello")
    assert result.exit_code == 1
    assert "Error: Converse failed (" in result.stderr
    assert "Traceback" not in result.stderr


def test_ask_where_nobody_answers_says_where(monkeypatch):
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


# --- emulate


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_emulate_prints_what_to_export_and_runs_until_it_is_told_to_end(end, monkeypatch):
    arguments = [
        sys.executable,
        "-m",
        "bedrock_routing_integrations",
        "emulate",
        "--port",
        "0",
        "--region",
        "eu-west-1",
    ]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        said = ""
        while "Ready" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        exports = [process.stdout.readline().rstrip("\n") for _ in range(8)]
        assert all(re.fullmatch(r"export AWS_[A-Z_]+=\S+", line) for line in exports)
        for line in exports:
            name, _, value = line.removeprefix("export ").partition("=")
            monkeypatch.setenv(name, value)
        answered = run("ask", ROUTER.replace("us-east-1", "eu-west-1"), "What is 3 + 4?")
        process.send_signal(end)
        rest, more = process.communicate(timeout=30)
    assert "7" in answered.stdout
    assert process.returncode == 0
    assert rest == ""
    assert more == "Stopped.\n"


def test_emulate_on_a_port_in_use_says_which():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = command("emulate", "--port", port)
    assert result.returncode == 1
    assert result.stderr == (
        f"Error: Port {port} of 127.0.0.1 is in use. Take another with --port, or any free one with --port 0.\n"
    )


def test_emulate_on_a_host_that_is_not_here_says_so():
    result = command("emulate", "--host", "203.0.113.9", "--port", "0")
    assert result.returncode == 1
    assert result.stderr.startswith("Error: Cannot listen on port 0 of 203.0.113.9: ")
    assert "Traceback" not in result.stderr


# --- the command itself


def test_version_is_the_packages():
    from importlib.metadata import version

    assert run("--version").stdout == f"bedrock-routing {version('bedrock-routing-integrations')}\n"


@pytest.mark.parametrize(
    ("without", "arguments", "extras"),
    [
        (["typer"], ["--version"], "cli"),
        (["rich"], ["demo"], "cli"),
        (["langchain_aws"], ["demo"], "langchain"),
        (["aiohttp"], ["demo"], "emulator"),
        (["aiohttp"], ["emulate"], "emulator"),
        (["typer", "langchain_aws", "aiohttp"], ["demo"], "cli,langchain,emulator"),
    ],
)
def test_without_an_extra_one_line_says_what_to_install(without, arguments, extras):
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


def test_importing_the_command_loads_none_of_its_extras():
    program = (
        "import sys; from bedrock_routing_integrations.cli import main\n"
        "print({'typer', 'rich', 'boto3', 'langchain_aws', 'aiohttp'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout == "set()\n"


def test_characters_that_the_output_cannot_show_do_no_harm(bedrock):
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
