"""`bedrock-routing demo`: on the emulator and on an account, in a terminal and in a pipe."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from command_line import ANSI, EASY, HARD, NOVA_PRO, command, in_terminal, run
from samples import HAIKU, SONNET

from bedrock_routing_integrations.cli.demo_caching import document_blocks
from bedrock_routing_integrations.cli.demo_steps import isolated_client
from bedrock_routing_integrations.emulator import BedrockEmulator
from bedrock_routing_integrations.emulator.canned_models.documents import document_text

DRAWN = re.compile(r"[─-╿…⠀-⣿]")


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
    rows = table_under("Who answers, with LangChain", lines)
    assert [row["TARGET"] for row in rows] == [
        "default router", "default router", "custom router", "application profile", "default router", "system profile",
        "launch router", "launch router",
    ]  # fmt: skip
    assert [row["PROMPT"] for row in rows[:2]] == [HARD, EASY]
    assert [row["ANSWERED BY"] for row in rows[:2]] == ["amazon.nova-pro-v1:0", "amazon.nova-lite-v1:0"]
    assert [row["FALLBACK"] for row in rows[:2]] == ["yes", "no"]
    assert rows[4]["MODE"] == "stream"
    assert (rows[5]["ASKED"], rows[5]["SERVED"]) == ("optimized", "optimized")


def test_demo_repeats_the_launch_and_calls_it_so(piped_demo):
    """The launch's router goes to models that have ended or soon will, so no other step is on it."""
    lines = piped_demo.stdout.splitlines()
    *others, first, second = table_under("Who answers, with LangChain", lines)
    assert [row["PROMPT"] for row in (first, second)] == [HARD, EASY]
    assert [row["ANSWERED BY"] for row in (first, second)] == [SONNET, HAIKU]
    assert (first["IN"], first["OUT"]) == ("27", "160")
    assert {row["NAME"] for row in (first, second)} == {"anthropic.claude:1"}
    assert not {SONNET, HAIKU} & {row["ANSWERED BY"] for row in others}
    assert any(line.startswith("The launch router is the one of the launch") for line in lines)


def test_demo_mixes_no_measured_times_with_simulated_ones(piped_demo):
    """Every time in the demo is the emulator's, so that two runs print the same."""
    again = command("demo", env={name: value for name, value in os.environ.items() if not name.startswith("AWS_")})
    at = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d( to \d\d:\d\d)?")
    assert at.sub("", again.stdout) == at.sub("", piped_demo.stdout)
    assert "First token" not in piped_demo.stdout
    assert "with optimized latency Converse took 41% less time (simulated)" in piped_demo.stdout
    rows = [line.split() for line in piped_demo.stdout.splitlines() if line.startswith("retrieve_")]
    assert [row[0] for row in rows if row[1] == "standard"] == ["retrieve_and_generate", "retrieve_then_converse"]
    assert {tuple(row[4:6]) for row in rows if row[0] == "retrieve_and_generate"} == {("not", "reported")}


def test_demo_shows_the_same_through_llama_index(piped_demo):
    rows = table_under("Who answers, with LlamaIndex", piped_demo.stdout.splitlines())
    assert [row["MODE"] for row in rows] == ["invoke", "stream", "query"]
    assert [row["TARGET"] for row in rows] == ["default router", "custom router", "default router"]
    lite, pro = "amazon.nova-lite-v1:0", "amazon.nova-pro-v1:0"
    assert [row["ANSWERED BY"] for row in rows] == [pro, lite, lite]


def table_under(title, lines):
    start = lines.index(title) + 1
    head, *table = [re.split(r" {2,}", line) for line in lines[start : lines.index("", start)]]
    assert head[:4] == ["TARGET", "NAME", "ANSWERED BY", "FALLBACK"]
    assert {len(row) for row in table} == {11}
    return [dict(zip(head, row, strict=True)) for row in table]


def test_demo_repeats_the_published_case_of_caching(piped_demo):
    lines = piped_demo.stdout.splitlines()
    start = lines.index("What caching saves: three documents, three questions") + 1
    head, *calls = [re.split(r" {2,}", line) for line in lines[start : lines.index("", start)]]
    assert head == ["WRITTEN", "READ", "PLAIN", "INPUT COST", "MS", "MS WITHOUT", "QUESTION"]
    assert [call[:2] for call in calls] == [["29841", "0"], ["0", "29841"], ["0", "29841"]]  # as at the launch
    assert all(int(call[2]) < 20 for call in calls)
    assert [call[3] for call in calls] == ["125%", "10%", "10%"]  # what Claude's writes and reads cost
    assert calls[0][4] == calls[0][5]
    assert all(int(cached) < 0.55 * int(without) for *_, cached, without, _ in calls[1:])
    said = "input for 48% of what it costs without caching, and 50% less time (simulated) for the later answers."
    assert said in lines[start + 5]


def test_the_documents_of_the_demo_are_pdf_files_with_text():
    blocks = [block["document"] for block in document_blocks()]
    assert [block["name"] for block in blocks] == ["beekeeping", "gardening", "carpentry"]
    for block in blocks:
        data = block["source"]["bytes"]
        text = document_text(data, "pdf")
        assert f"Rule 17 of {block['name']}: " in text
        assert len(text) > 39_000
        table = int(re.search(rb"startxref\n(\d+)\n%%EOF\n$", data)[1])
        entries = re.findall(rb"(\d{10}) 00000 n \n", data[table:])
        assert data[table:].startswith(b"xref\n0 %d\n" % (len(entries) + 1))
        for number, offset in enumerate(entries, 1):
            assert data[int(offset) :].startswith(b"%d 0 obj\n" % number)
        streams = re.findall(rb"/Length (\d+) >>\nstream\n(.*?)\nendstream", data, re.DOTALL)
        assert len(streams) == len(re.findall(rb"/Type /Page ", data)) > 10
        assert all(int(length) == len(content) for length, content in streams)


@pytest.mark.sweep
@pytest.mark.parametrize(("hidden", "named"), [("langchain_aws", "LangChain"), ("llama_index", "LlamaIndex")])
def test_demo_without_a_framework_says_how_to_install_it_and_shows_the_other(hidden, named):
    code = f"""
import sys
sys.modules["{hidden}"] = None  # as if it were not installed
from bedrock_routing_integrations.cli import main
sys.argv = ["bedrock-routing", "demo"]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert f"Who answers, with {named}" not in done.stdout
    assert done.stdout.count("Who answers, with ") == 1
    assert re.search(rf'Skipped {named}: .* pip install "bedrock-routing-integrations\[', done.stdout)


def test_demo_without_any_framework_says_so_and_fails():
    hidden = {"langchain_aws": None, "llama_index": None}
    code = f"import sys; sys.modules.update({hidden}); from bedrock_routing_integrations.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "demo"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Skipped LangChain: " in done.stdout
    assert "Skipped LlamaIndex: " in done.stdout
    assert "Nothing could run." in done.stdout


def test_demo_ends_with_what_was_seen_and_how_to_go_on(piped_demo):
    seen, *_, go_on = piped_demo.stdout.splitlines()[-4:]
    assert seen == "2 models answered for the router amazon.nova:1: nova-pro (2 prompts) and nova-lite (3 prompts)."
    assert "demo --aws" in go_on


def without_spinner(shown):
    """What stays on the screen."""
    return re.sub(r"[⠀-⣿] \d+ of \d+[^\r\n]*", "", ANSI.sub("", shown))


@pytest.mark.sweep
@pytest.mark.parametrize("columns", [80, 120])
def test_demo_fits_the_terminal(columns):
    code, shown = in_terminal(columns, "demo")
    assert code == 0
    assert ANSI.search(shown)
    text = without_spinner(shown)
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
        "What caching saves",
        "29,841",
        "125%",
    ):
        assert part in text
    squeezed = re.sub(r"[^a-z]", "", text.lower())
    assert "optimized" in squeezed


def test_demo_never_sends_a_key_of_the_users(monkeypatch):
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "the-users-own-key")
    with BedrockEmulator() as bedrock:
        client = isolated_client(bedrock, "bedrock")
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
    # What would cost real money is only named.
    assert "29841" not in result.stdout
    assert "what_caching_saves.ipynb with BEDROCK_ON_AWS=1" in result.stdout
    assert max(len(str(entry.request)) for entry in bedrock.journal) < 10_000
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


@pytest.mark.sweep
def test_demo_in_a_very_narrow_terminal_is_plain_lines():
    code, shown = in_terminal(50, "demo")
    assert code == 0
    assert not DRAWN.search(without_spinner(shown))
    assert "ANSWERED BY" in shown
    assert SONNET in shown


def test_demo_in_a_region_that_is_none_is_a_mistake_in_the_arguments():
    result = run("demo", "--region", "Frankfurt")
    assert result.exit_code == 2
    assert "us-east-1" in result.stderr
