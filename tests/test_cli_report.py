"""Test `bedrock-routing report`: invocation logs in a pipe, in a terminal, as JSON; and the emulator's own log."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys

import pytest
from command_line import command, in_terminal, run
from invocation_logs import APPLICATION, HAIKU_PROFILE, ROUTER, SONNET_45, converse, lines, record, refused
from samples import ALICE, HAIKU, HELLO, SONNET
from test_cli_emulate import emulating

from bedrock_routing_integrations import RoutedClient, RoutingReport
from bedrock_routing_integrations.emulator import BedrockEmulator


@pytest.fixture
def log(tmp_path):
    """Return a function that writes a log of records and returns its path."""

    def write(*records, name="log.json", more=b""):
        path = tmp_path / name
        path.write_bytes(lines(*records) + more)
        return str(path)

    return write


def reported(*arguments, **settings):
    """Run the command with ``--json`` and return what it prints."""
    ran = run("report", *arguments, "--json", **settings)
    assert ran.exit_code == 0, ran.output
    return json.loads(ran.stdout)


# --- what is printed


def test_report_is_printed_before_the_notes_on_skipped_records(log):
    path = log(record(), record(requestId="x"), record(requestId="x"), {"eventVersion": "1"}, more=b"x\n" * 5)
    ran = run("report", path)
    assert ran.exit_code == 0, ran.output
    table, _, notes = ran.stdout.partition("5 malformed lines left out:")
    assert "$0.0099" in table  # twice 0.00495
    assert "claude-sonnet-4-5" in table
    assert f"{path}:5: it is no JSON: Expecting value at character 1\n" in notes
    assert f"{path}:8:" not in notes
    assert "… and 2 more" in notes
    assert "Left out as they are JSON objects of another kind (eventVersion): 1." in notes
    assert "Left out: 1 call logged twice (same requestId)." in notes
    assert ran.stderr == ""


def test_a_clean_log_has_no_notes(log):
    assert run("report", log(converse(SONNET_45))).stdout.rstrip().splitlines()[-1].startswith("Prices: genai-prices")


def test_json_has_report_and_history_with_notes_on_stderr(log):
    ran = run("report", log(record(), more=b"x\n"), "--json")
    printed = json.loads(ran.stdout)
    assert printed["totals"]["cost_usd"] == 0.00495
    assert printed["history"]["malformed"] == 1
    assert printed["history"]["examples"][0]["line"] == 2
    assert set(RoutingReport().to_dict()) | {"history"} == set(printed)
    assert "1 malformed line left out" in ran.stderr


def test_markdown(log):
    ran = run("report", log(record()), "--markdown")
    assert ran.stdout.startswith("**")
    assert "| " in ran.stdout


def test_folders_gzip_and_standard_input(log, tmp_path):
    log(record(), name="a.json")
    (tmp_path / "b.gz").write_bytes(gzip.compress(lines(record())))
    assert reported(str(tmp_path))["totals"]["calls"] == 2
    assert reported("-", stdin=gzip.compress(lines(record())))["totals"]["calls"] == 1


def test_a_pipe_into_the_command(log):
    ran = subprocess.run(
        [sys.executable, "-m", "bedrock_routing_integrations", "report", "-", "--json"],
        input=lines(converse(SONNET_45), converse(SONNET_45)), capture_output=True, timeout=120, check=True,
    )  # fmt: skip
    assert json.loads(ran.stdout)["totals"]["calls"] == 2
    assert ran.stderr == b""  # no bar


@pytest.mark.sweep
def test_a_terminal_shows_the_same_in_its_width(log):
    code, shown = in_terminal(80, "report", log(*[record() for _ in range(50)]))
    assert code == 0
    assert "claude-sonnet-4-5" in shown


def test_a_plot_is_drawn(log, tmp_path):
    pytest.importorskip("matplotlib")
    assert run("report", log(record()), "--plot", str(tmp_path / "report.png")).exit_code == 0
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
    ran = run("report", log(record()), "--plot", str(tmp_path / "savings"))
    assert (tmp_path / "savings.png").read_bytes().startswith(b"\x89PNG")
    assert f"Drawn: {tmp_path / 'savings.png'}" in ran.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [("none/report.png", "there is no folder"), ("report.docx", "these can: "), ("", "name a file in it")],
)
def test_invalid_plot_path_is_refused_before_reading_logs(tmp_path, name, message):
    pytest.importorskip("matplotlib")
    ran = run("report", str(tmp_path / "no-such-log"), "--plot", str(tmp_path / name))
    assert ran.exit_code == 1
    assert message in ran.stderr
    assert "no-such-log" not in ran.stderr


@pytest.mark.sweep
def test_plot_without_matplotlib_is_refused_before_reading_logs(tmp_path):
    code = """
import sys
sys.modules["matplotlib"] = sys.modules["matplotlib.figure"] = None  # as if it were not installed
from bedrock_routing_integrations.cli import main
sys.argv = ["bedrock-routing", "report", "no-such-log", "--plot", "x.png"]
main()
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 1
    assert ran.stderr == 'Error: A plot needs matplotlib: pip install "bedrock-routing-integrations[plot]"\n'


def test_report_is_printed_even_if_its_plot_cannot_be_written(log, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib.figure")
    (tmp_path / "report.png").symlink_to(tmp_path / "nowhere" / "report.png")
    ran = run("report", log(record()), "--plot", str(tmp_path / "report.png"))
    assert ran.exit_code == 1
    assert "1 call" in ran.stdout
    assert "cannot be written: No such file or directory" in ran.stderr


# --- what to count by, and when


def test_by(log):
    path = log(record(requestMetadata={"team": "search"}), record(requestMetadata={"team": "support", "env": "test"}))
    assert set(reported(path)["by"]) == {"team", "env"}
    assert set(reported(path, "--by", "team", "--by", "region")["by"]) == {"team", "region"}
    assert "By team" in run("report", path).stdout


@pytest.mark.sweep
def test_key_with_too_many_values_is_no_default_label(log):
    path = log(*(record(requestMetadata={"trace": str(n)}) for n in range(1100)))
    ran = run("report", path)
    assert "By trace" not in ran.stdout
    assert "Not counted by trace: over a thousand values. With --by it is." in ran.stdout
    assert "trace" in reported(path, "--by", "trace")["by"]


def test_since_and_until_take_days_and_moments(log):
    path = log(*(record(timestamp=f"2026-11-{day:02d}T12:00:00Z") for day in range(1, 11)))
    for arguments, calls in (
        (["--since", "2026-11-03"], 8),
        (["--until", "2026-11-03"], 3),  # that day too
        (["--since", "2026-11-03T12:00:00Z", "--until", "2026-11-03T12:00:01+00:00"], 1),
        (["--until", "2026-11-03T12:00"], 2),
        *([(["--until", "20261103"], 3)] if sys.version_info >= (3, 11) else []),
    ):
        assert reported(path, *arguments)["totals"]["calls"] == calls
    ran = run("report", path, "--since", "2027-01-01")
    assert ran.exit_code == 1
    assert "None of the 10 calls is in that time" in ran.stderr


# --- models that the log does not name


def test_router_has_a_hint_offline_and_savings_after_look_up(bedrock, log):
    path = log(converse(ROUTER, invoked=HAIKU_PROFILE))
    ran = run("report", path)
    assert "--look-up asks AWS (GetPromptRouter), once for each router" in ran.stdout
    assert bedrock.journal == []
    printed = reported(path, "--look-up")
    # Haiku 1000 x 0.25 + 100 x 1.25 = 375; Sonnet 1000 x 3 + 100 x 15 = 4500
    assert printed["totals"]["saved_by_routing_usd"] == 0.004125
    assert "look-up" not in run("report", path, "--look-up").output


def test_a_target_is_looked_up_once(bedrock, log):
    path = log(*(converse(ROUTER, invoked=HAIKU_PROFILE) for _ in range(20)))
    reported(path, "--look-up")
    assert len(bedrock.requests("GetPromptRouter")) == 1


def test_refused_look_ups_are_noted_in_one_line_each(bedrock, log):
    bedrock.fail("access_denied", operation="*", rate=1.0)
    names = [APPLICATION, ROUTER.replace("anthropic", "meta").replace("claude", "llama"), APPLICATION[:-1] + "7"]
    ran = run("report", log(*(record(model_id=name) for name in names)), "--look-up")
    assert ran.exit_code == 0
    notes = [line for line in ran.output.splitlines() if "Not looked up" in line]
    assert len(notes) == 2  # GetInferenceProfile of two, GetPromptRouter of one
    assert f"Not looked up (GetInferenceProfile: AccessDeniedException): {APPLICATION}, {names[2]}." in notes[0]
    assert "Warning" not in ran.output


def test_look_up_without_credentials_explains_how_to_get_them(log, monkeypatch):
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    ran = run("report", log(record(model_id=APPLICATION)), "--look-up")
    assert ran.exit_code == 0
    assert "Not looked up (GetInferenceProfile: NoCredentialsError)" in ran.stdout
    assert "AWS_ACCESS_KEY_ID" in ran.stdout


def test_application_profile_is_looked_up_or_stated(bedrock, log):
    profile = bedrock.create_application_profile(name="search", copy_from=SONNET_45)
    path = log(record(model_id=profile))
    offline = run("report", path)
    assert f"--base-models {profile}=MODEL" in offline.stdout
    assert "without a price" in offline.stdout
    for how in (["--base-models", f"{profile}={SONNET_45}"], ["--look-up"]):
        assert reported(path, *how)["totals"]["cost_usd"] == 0.00495


def test_target_with_an_own_price_has_no_model_note(log, tmp_path):
    (tmp_path / "prices.json").write_text(json.dumps({APPLICATION: {"input_mtok": 1, "output_mtok": 2}}))
    path = log(record(model_id=APPLICATION))
    assert "does not tell the model behind" in run("report", path).stdout
    assert "does not tell" not in run("report", path, "--prices", str(tmp_path / "prices.json")).stdout


def test_prices_of_your_own(log, tmp_path):
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps({APPLICATION: {"input_mtok": 1.0, "output_mtok": 2.0}}))
    assert reported(log(record(model_id=APPLICATION)), "--prices", str(prices))["totals"]["cost_usd"] == 0.0012


# --- mistakes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello\n", "There is no call in 1 file: 1 malformed line ("),
        (lines({"a": "1"}), "There is no call in 1 file: these are JSON objects of another kind (a), not model invo"),
        (
            json.dumps({"Records": [{"eventVersion": "1", "eventSource": "x", "eventName": "y"}] * 2}).encode(),
            "these are CloudTrail records, not model invocation logs: they name calls and callers, and no tokens (2).",
        ),
        (json.dumps({"results": [], "status": "Running"}, indent=4).encode(), "Insights without results, not model"),
        (b"2 123456789010 eni-1 172.31.16.139 172.31.16.21 20641 22 6 20 4249 1 2 ACCEPT OK\n", "are VPC flow logs, "),
        (b"@timestamp,input.inputTokenCount\n2026-11-20 08:00:00.000,10\n", "columns are needed: @message; or modelId"),
        (b"", "There is no call in 1 file"),
    ],
)
def test_file_without_calls_fails_with_an_example_of_a_log(tmp_path, content, message):
    (tmp_path / "log").write_bytes(content)
    ran = run("report", str(tmp_path / "log"))
    assert ran.exit_code == 1
    assert message in ran.stderr
    assert '"schemaType": "ModelInvocationLog"' in ran.stderr
    assert "put-model-invocation-logging-configuration" in ran.stderr
    assert ran.stdout == ""


def test_missing_file_fails_alone_and_is_noted_among_others(log, tmp_path):
    nowhere = str(tmp_path / "none")
    alone = run("report", nowhere)
    assert alone.exit_code == 1
    assert f"{nowhere!r} cannot be read: No such file or directory" in alone.stderr
    among_others = run("report", nowhere, log(record()))
    assert among_others.exit_code == 0
    assert f"1 file could not be read:\n  {nowhere}: No such file or directory" in among_others.stdout
    (tmp_path / "empty").mkdir()
    assert run("report", str(tmp_path / "empty")).exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--since", "yesterday"], "'yesterday' is no time"),
        (["--since", "20261399"], "'20261399' is no time"),
        (["--by", ""], "an empty name"),
        (["--base-models", ROUTER], "should be TARGET=MODEL"),
        (["--base-models", f"nonsense={SONNET_45}"], "not a Bedrock model target"),
        (["--base-models", f"{APPLICATION}={ROUTER}"], "names no foundation model"),
    ],
)
def test_mistakes_in_arguments(log, arguments, message):
    ran = run("report", log(record()), *arguments)
    assert ran.exit_code == 2, ran.output
    assert message in " ".join(ran.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "holds no prices"),
        ("{", "holds no prices"),
        ('{"a.b": {"input_mtok": "x"}}', "input_mtok and output_mtok"),
    ],
)
def test_mistakes_in_prices(log, tmp_path, content, message):
    (tmp_path / "prices").write_text(content)
    ran = run("report", log(record()), "--prices", str(tmp_path / "prices"))
    assert ran.exit_code == 1
    assert message in ran.stderr
    assert "cannot be read" in run("report", log(record()), "--prices", str(tmp_path / "none")).stderr


def test_failed_calls_alone_are_a_report(log):
    assert reported(log(refused()))["totals"]["errors"] == {"ThrottlingException": 1}


# --- full circle


def test_report_of_the_emulators_log_equals_the_calls_report(tmp_path, monkeypatch):
    path, direct = tmp_path / "log.json", RoutingReport()
    with BedrockEmulator(invocation_log=path) as bedrock:
        client = RoutedClient(bedrock.client(), bedrock_client=bedrock.client("bedrock"))
        router = bedrock.default_router("anthropic.claude:1")
        for prompt in (HELLO, ALICE):
            request = {"modelId": router, "messages": [{"role": "user", "content": [{"text": prompt}]}]}
            direct.add(client.converse(**request, requestMetadata={"team": "search"})["routing"])
            for event in client.converse_stream(**request)["stream"]:
                if "metadata" in event:
                    direct.add({**event["metadata"]["routing"], "time_to_first_token_ms": None})
        system = [{"text": "Be kind. " * 1500}, {"cachePoint": {"type": "default"}}]
        cached = {**request, "modelId": SONNET_45, "system": system}
        for _ in range(2):
            direct.add(client.converse(**cached)["routing"])
        bedrock.fail("validation", times=1)
        with pytest.raises(client.exceptions.ValidationException) as raised:
            client.converse(**request)
        direct.add_error(raised.value, requested_model_id=router)
        for name, value in bedrock.environment().items():
            monkeypatch.setenv(name, value)
        printed, expected = reported(str(path), "--look-up"), direct.to_dict()
    assert printed["history"]["malformed"] == printed["history"]["skipped"] == 0
    assert printed["by"]["team"]["search"]["calls"] == 2
    for name in ("totals", "models", "targets"):
        assert printed[name] == expected[name]
    assert printed["totals"]["calls"] == 6
    assert printed["totals"]["errors"] == {"ValidationException": 1}
    assert printed["totals"]["saved_by_routing_usd"] > 0
    assert printed["totals"]["saved_by_caching_usd"] != 0
    assert {model["invoked_model"] for model in printed["models"]} >= {HAIKU, SONNET}


@pytest.mark.sweep
def test_emulate_writes_a_log_on_request(tmp_path):
    path = tmp_path / "log.json"
    with emulating("--invocation-log", str(path)) as process:
        url = next(line for line in process.told if "Ready" in line).split(" at ")[1].split(". ")[0]
        keys = {"AWS_ACCESS_KEY_ID": "emulated", "AWS_SECRET_ACCESS_KEY": "emulated", "AWS_REGION": "us-east-1"}
        answer = command("ask", ROUTER, HELLO, "--endpoint-url", url, env={**os.environ, **keys})
        assert answer.returncode == 0, answer.stderr
    logged = json.loads(path.read_text())
    assert (logged["operation"], logged["modelId"]) == ("Converse", ROUTER)
    assert reported(str(path))["models"][0]["invoked_model"] == HAIKU


@pytest.mark.sweep
def test_emulate_refuses_an_unwritable_log_path(tmp_path):
    ran = command("emulate", "--port", "0", "--invocation-log", str(tmp_path / "none" / "log.json"))
    assert ran.returncode == 1
    assert "cannot be written: No such file or directory." in ran.stderr


def test_unknown_label_lists_the_keys_found(log):
    shown = run(
        "report", log(converse(SONNET_45, requestMetadata={"team": "search"}), converse(SONNET_45)), "--by", "squad"
    )
    assert "No call has squad (--by). Keys of requestMetadata that were found: team." in shown.stdout
    profile = run("report", log(record(model_id=APPLICATION)), "--by", "squad")
    assert "were found: none." in profile.stdout, "an application profile is no key"
    by_team = run(
        "report", log(converse(SONNET_45, requestMetadata={"team": "search"}), converse(SONNET_45)), "--by", "team"
    )
    assert re.search(r"^\(none\) +1 ", by_team.stdout, re.MULTILINE), "those without one are not lost"


def test_json_and_markdown_at_once_are_refused(log):
    assert run("report", log(converse(SONNET_45)), "--json", "--markdown").exit_code == 2


def test_calls_without_bodies_are_noted_as_assumed_standard(log):
    bare = record("Converse", SONNET_45, input={"inputTokenCount": 9}, output={"outputTokenCount": 3})
    assert "1 call logged without request and answer" in run("report", log(bare, converse(SONNET_45))).stdout


def test_by_day_has_a_table_and_a_plot(log, tmp_path):
    pytest.importorskip("matplotlib")
    path = log(
        *(converse(timestamp=f"2026-11-{day}T12:00:00Z", requestMetadata={"team": "search"}) for day in (20, 22))
    )
    arguments = ["report", path, "--by", "day", "--by", "day,team", "--plot", str(tmp_path / "days.svg")]
    ran = run(*arguments)
    assert ran.exit_code == 0, ran.output
    assert re.search(r"By day\n.*\n.*\n-+\n2026-11-20 +1 .*\n2026-11-22 +1 ", ran.stdout)
    assert "2026-11-22, search" in ran.stdout
    assert "No call has" not in ran.stdout
    drawn = (tmp_path / "days.svg").read_text()
    assert "Cost by day (UTC) and team" in drawn
    squad = run("report", path, "--by", "day,squad").stdout
    assert "No call has day,squad (--by). Keys of requestMetadata that were found: team." in squad


@pytest.mark.sweep
def test_a_plot_shows_what_the_report_counts_by(log, tmp_path):
    pytest.importorskip("matplotlib")
    path = log(*(record(requestMetadata={"team": "search", "trace": str(n)}) for n in range(1100)))
    for arguments, shown in ((["--by", "team"], ["By team"]), ([], ["By team"]), (["--by", "trace"], ["By trace"])):
        run("report", path, *arguments, "--plot", str(tmp_path / "report.svg"))
        drawn = re.findall(r"<!-- (By \w+): share", (tmp_path / "report.svg").read_text())
        assert drawn == shown
