"""Test `bedrock-routing demo`: on the emulator and on an account, in a terminal and in a pipe."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from command_line import ANSI, EASY, HARD, NOVA_PRO, command, in_terminal, run

from bedrock_routing_integrations.cli.demo_sections import document_blocks
from bedrock_routing_integrations.cli.demo_steps import isolated_client
from bedrock_routing_integrations.emulator import BedrockEmulator
from bedrock_routing_integrations.emulator.canned_models.documents import document_text

DRAWN = re.compile(r"[─-╿⠀-⣿]")


def hostile_environment():
    """An environment whose every AWS setting is wrong: the demo must use none of it."""
    hostile = {
        "AWS_PROFILE": "no-such-profile",
        "AWS_BEARER_TOKEN_BEDROCK": "the-users-own-key",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
    }
    others = ("AWS_", "LANGSMITH_", "LANGCHAIN_")  # set before the tests' own environment is
    return {**{name: value for name, value in os.environ.items() if not name.startswith(others)}, **hostile}


@pytest.fixture(scope="module")
def demo():
    """The demo in a pipe."""
    return command("demo", env=hostile_environment())


@pytest.fixture(scope="module")
def whole_demo():
    """The demo with ``--all``, in a pipe."""
    return command("demo", "--all", env=hostile_environment())


def table_under(title, lines):
    start = lines.index(title) + 1
    head, *rows = lines[start : next(n for n in range(start, len(lines)) if not lines[n] or ": " in lines[n][:60])]
    starts = [match.start() for match in re.finditer(r"(?:^|(?<=  ))\S", head)]
    spans = list(zip(starts, [*starts[1:], None], strict=True))
    names = [head[a:b].strip() for a, b in spans]
    return [dict(zip(names, (row[a:b].strip() for a, b in spans), strict=True)) for row in rows]


def test_demo_needs_no_account_and_ignores_the_environment(demo):
    assert demo.returncode == 0, demo.stderr
    assert demo.stderr == ""


def test_demo_fits_one_screen(demo):
    """100 columns and 40 lines, without drawing characters or colours in a pipe."""
    lines = demo.stdout.splitlines()
    assert len(lines) < 40
    assert max(map(len, lines)) <= 100
    assert not ANSI.search(demo.stdout)
    assert not re.search(r"[─-╿⠀-⣿]", demo.stdout)
    assert "not known" not in demo.stdout


def test_demo_shows_the_invoked_models_with_both_frameworks(demo):
    lines = demo.stdout.splitlines()
    rows = table_under("Who answered: 8 prompts with LangChain, 3 prompts with LlamaIndex", lines)
    assert [(row["Target"], row["Answered by"]) for row in rows] == [
        ("default router", "nova-pro (fallback)"), ("default router", "nova-lite"),
        ("custom router", "nova-pro (fallback)"), ("application profile", "claude-haiku-4-5"),
        ("default router", "nova-lite"), ("system profile", "nova-pro"),
        ("launch router", "claude-3-5-sonnet (fallback)"), ("launch router", "claude-3-haiku"),
        ("default router", "nova-pro (fallback)"), ("custom router", "nova-lite"), ("default router", "nova-lite"),
    ]  # fmt: skip
    assert all(HARD.startswith(rows[number]["Prompt"].rstrip("…")) for number in (0, 6))
    assert rows[4]["Answer"] == "Bonjour"


def test_demo_sums_up_costs_and_savings_in_one_line(demo):
    total = " ".join(demo.stdout.partition("Total: ")[2].split())
    assert re.match(r"13 of 15 calls have a listed price and cost \$0\.\d+; routing saved .*; caching saved ", total)
    assert "Source:   s3://emulated-knowledge-base/moons/europa.md; answered by llama3-1-70b-instruct" in demo.stdout


def test_demo_ends_with_the_next_steps(demo):
    last = demo.stdout.splitlines()[-1]
    assert last.startswith("Next: ")
    assert "demo --all" in last
    assert "demo --aws" in last


@pytest.mark.sweep
def test_whole_demo_shows_tokens_latency_and_mode(whole_demo):
    assert (whole_demo.returncode, whole_demo.stderr) == (0, "")
    lines = whole_demo.stdout.splitlines()
    rows = table_under("Who answered, with LangChain", lines)
    assert [row["Prompt"] for row in rows[:2]] == [HARD, EASY]
    assert rows[4]["Mode"] == "stream"
    assert (rows[5]["Requested"], rows[5]["Served"]) == ("optimized", "optimized")
    launch = rows[6:]
    assert [row["Prompt"] for row in launch] == [HARD, EASY]
    assert (launch[0]["Tokens in"], launch[0]["Tokens out"]) == ("27", "160")
    assert {row["Name"] for row in launch} == {"anthropic.claude:1"}
    rows = table_under("Who answered, with LlamaIndex", lines)
    assert [row["Mode"] for row in rows] == ["", "stream", "query engine"]


@pytest.mark.sweep
def test_whole_demo_prints_the_report_and_only_simulated_times(whole_demo):
    """Every time is the emulator's, so that two runs print the same."""
    again = command("demo", "--all", env=hostile_environment())
    at = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d( to \d\d:\d\d)?")
    assert at.sub("", again.stdout) == at.sub("", whole_demo.stdout)
    assert "First token" not in whole_demo.stdout
    text = " ".join(whole_demo.stdout.split())
    assert "With optimized latency Converse took 41% less time." in text
    assert "Target and invoked model" in text
    rows = [line for line in whole_demo.stdout.splitlines() if line.startswith("retrieve_")]
    assert len(rows) == 4
    assert all("(not reported)" in row for row in rows if row.startswith("retrieve_and_generate"))


def test_demo_repeats_the_published_example_of_caching(demo):
    rows = table_under("Prompt caching: three questions about the same three documents", demo.stdout.splitlines())
    written, read = ([row[f"Tokens {name}"] for row in rows] for name in ("written", "read"))
    assert (written, read) == (["29,841", "0", "0"], ["0", "29,841", "29,841"])  # the numbers of AWS's example
    assert [row["Input cost"] for row in rows] == ["125%", "10%", "10%"]  # Claude's prices of writes and reads
    times = [[int(row[name].replace(",", "")) for name in ("ms", "ms uncached")] for row in rows]
    assert times[0][0] == times[0][1]
    assert all(cached < 0.55 * uncached for cached, uncached in times[1:])
    assert "52% off the input, and 50% less time for the later answers." in " ".join(demo.stdout.split())


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
def test_demo_without_one_framework_names_its_extra_and_goes_on(hidden, named):
    code = f"""
import sys
sys.modules["{hidden}"] = None  # as if it were not installed
from bedrock_routing_integrations.cli import main
sys.argv = ["bedrock-routing", "demo"]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert not re.search(f"Who answered.* with {named}", done.stdout)
    assert done.stdout.count("Who answered") == 1
    assert re.search(rf'Skipped {named}: .* pip install "bedrock-routing-integrations\[', done.stdout)


@pytest.mark.sweep
def test_demo_without_any_framework_fails_with_advice():
    hidden = {"langchain_aws": None, "llama_index": None}
    code = f"import sys; sys.modules.update({hidden}); from bedrock_routing_integrations.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "demo"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Skipped LangChain: " in done.stdout
    assert "Skipped LlamaIndex: " in done.stdout
    assert "Nothing could run." in done.stdout


def without_spinner(shown):
    """Return the screen's text without the spinner."""
    return re.sub(r"[⠀-⣿][^\r\n]*", "", ANSI.sub("", shown))


@pytest.mark.sweep
@pytest.mark.parametrize("columns", [80, 120])
def test_demo_fits_the_terminal(columns):
    code, shown = in_terminal(columns, "demo")
    assert code == 0
    assert ANSI.search(shown)
    lines = [line for line in without_spinner(shown).splitlines() if line.strip()]
    assert max(map(len, lines)) <= columns
    assert len(lines) <= (40 if columns > 100 else 50)
    text = "\n".join(lines)
    for part in ("claude-3-5-sonnet (fallback)", "claude-3-haiku", "Prompt caching", "29,841", "125%", "Total: "):
        assert part in text


def test_demo_never_sends_a_key_of_the_users(monkeypatch):
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "the-users-own-key")
    with BedrockEmulator() as bedrock:
        client = isolated_client(bedrock, "bedrock")
        client.list_prompt_routers()
        client.close()
        assert bedrock.journal[-1].authorization == "sigv4"


def test_demo_on_an_account_creates_no_resources(bedrock):
    router_arn = bedrock.create_prompt_router(
        name="support", models=["amazon.nova-lite-v1:0", "amazon.nova-pro-v1:0"], fallback="amazon.nova-pro-v1:0"
    )
    result = run("demo", "--aws")
    assert result.exit_code == 0, result.output
    assert "custom router" in result.stdout
    assert "Skipped, no application profile: there is none in us-east-1, and the demo creates none." in result.stdout
    operations = [entry.operation for entry in bedrock.journal]
    assert not [operation for operation in operations if operation.startswith(("Create", "Delete"))]
    # What would cost real money is only named.
    assert "29841" not in result.stdout
    assert "what_caching_saves.ipynb with BEDROCK_ON_AWS=1" in result.stdout
    assert max(len(str(entry.request)) for entry in bedrock.journal) < 10_000
    assert router_arn in [entry.request.get("modelId") for entry in bedrock.journal]


def test_demo_on_an_account_names_missing_iam_actions(bedrock):
    bedrock.fail("access_denied", operation="ListPromptRouters", rate=1.0)
    result = run("demo", "--aws")
    assert result.exit_code == 0
    assert "Skipped, no default router: ListPromptRouters was refused (AccessDeniedException" in result.stdout
    assert "Allow the IAM action bedrock:ListPromptRouters." in result.stdout
    assert "system profile" in result.stdout


def test_demo_on_an_account_where_nothing_is_allowed_fails(bedrock):
    bedrock.fail("access_denied", operation="*", rate=1.0)
    result = run("demo", "--aws")
    assert result.exit_code == 1
    assert "Nothing could run." in result.stdout
    assert "bedrock:ListInferenceProfiles" in result.stdout


def test_demo_on_an_account_reports_missing_optimized_latency(bedrock):
    bedrock.fail(
        "validation", model_id=NOVA_PRO, rate=1.0, message="Latency performance configuration is not supported"
    )
    result = run("demo", "--aws")
    assert result.exit_code == 0
    assert (
        f"Failed with optimized latency, system profile {NOVA_PRO}: Converse failed (ValidationException"
        in result.stdout
    )


def test_demo_without_credentials_fails_in_one_line():
    result = run("demo", "--aws", "--region", "us-east-1")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: No usable AWS credentials: Unable to locate credentials.")
    assert result.stderr.count("\n") == 1


def test_demo_without_a_region_fails_in_one_line():
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
    assert "Answered by" in shown
    assert "claude-3-5-sonnet" in shown


def test_demo_with_an_invalid_region_is_a_usage_error():
    result = run("demo", "--region", "Frankfurt")
    assert result.exit_code == 2
    assert "us-east-1" in result.stderr
