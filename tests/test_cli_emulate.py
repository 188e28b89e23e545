"""Test `bedrock-routing emulate`: its output and how it ends."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys

import boto3
import pytest
from botocore.config import Config
from command_line import ROUTER, command


@contextlib.contextmanager
def emulating(*arguments, **environment):
    """Run the command in a process of its own until it is ready. Kill it if the test does not end it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bedrock_routing_integrations", "emulate", "--port", "0", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment},
    )  # fmt: skip
    with process:
        try:
            output = ""
            while "Ready" not in output:
                line = process.stderr.readline()
                assert line, output
                output += line
            process.told = output.splitlines()
            yield process
        finally:
            process.kill()


def printed_by(process, number):
    """End the process with a signal. Return its standard output and standard error."""
    process.send_signal(number)
    return process.communicate(timeout=30)


@pytest.mark.sample(1)
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_emulate_runs_until_a_signal_ends_it(end):
    with emulating() as process:
        _, more = printed_by(process, end)
    assert process.returncode == 0
    assert more == "Stopped.\n"


HOSTILE = {
    "AWS_PROFILE": "no-such-profile",
    "AWS_SESSION_TOKEN": "of-other-credentials",
    "AWS_BEARER_TOKEN_BEDROCK": "the-users-own-key",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "http_proxy": "http://127.0.0.1:9",
}


def test_emulate_prints_shell_settings_for_applications(tmp_path):
    settings = tmp_path / "settings"
    with emulating("--region", "eu-west-1", NO_PROXY="intranet.example") as process:
        printed = os.read(process.stdout.fileno(), 65_536).decode()  # all of it stands there when it is ready
        settings.write_text(printed, encoding="utf-8")
        ask = f'{shlex.quote(sys.executable)} -m bedrock_routing_integrations ask "$0" "What is 3 + 4?" && env'
        asking = subprocess.run(
            ["sh", "-euc", f". {shlex.quote(str(settings))} && {ask}", ROUTER.replace("us-east-1", "eu-west-1")],
            env={**os.environ, **HOSTILE}, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        rest, _ = printed_by(process, signal.SIGTERM)
    assert asking.returncode == 0, asking.stderr
    assert "7" in asking.stdout.splitlines()[0]
    assert "NO_PROXY=intranet.example,127.0.0.1" in asking.stdout.splitlines()
    lines = printed.splitlines()
    assert lines[0].startswith("unset AWS_PROFILE AWS_SESSION_TOKEN AWS_BEARER_TOKEN_BEDROCK")
    assert all(line.startswith("export ") for line in lines[1:])
    assert rest == ""


@pytest.mark.sweep
def test_emulate_prints_the_ids_of_its_knowledge_bases(tmp_path):
    for name in ("whales", "bees"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "all.md").write_text(f"All about {name}.", encoding="utf-8")
    folders = [str(tmp_path / "whales"), str(tmp_path / "bees")]
    with emulating("--knowledge-base", folders[0], "--knowledge-base", folders[1]) as process:
        printed = os.read(process.stdout.fileno(), 65_536).decode()
        exports = [shlex.split(line)[1] for line in printed.splitlines() if line.startswith("export")]
        settings = dict(line.split("=", 1) for line in exports)
        client = boto3.client(
            "bedrock-agent-runtime", endpoint_url=settings["AWS_ENDPOINT_URL_BEDROCK_AGENT_RUNTIME"],
            region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x", config=Config(proxies={}),
        )  # fmt: skip
        listed = dict(line.split(maxsplit=1) for line in process.told if line.startswith("  "))
        ids = {told_of.removesuffix(" (1 passage)"): knowledge_base_id for knowledge_base_id, told_of in listed.items()}
        results = {
            folder: client.retrieve(knowledgeBaseId=ids[folder], retrievalQuery={"text": "all"})["retrievalResults"]
            for folder in folders
        }
        client.close()
    assert [results[folder][0]["content"]["text"] for folder in folders] == ["All about whales.", "All about bees."]
    assert "EMULATEDKB" in listed


@pytest.mark.sweep
def test_second_signal_ends_emulate_at_once():
    number = signal.SIGTERM
    program = (
        "import os, signal, time\n"
        "from bedrock_routing_integrations.cli import emulate\n"
        "def stop(self):\n"
        "    print('stopping', flush=True)\n"
        "    time.sleep(60)\n"
        "emulate.BedrockEmulator.stop = stop\n"
        "emulate.run_emulator(host='127.0.0.1', port=0, time_scale=0, region='us-east-1', account_id='123456789012')\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            while "Ready" not in process.stderr.readline():
                assert process.poll() is None
            process.send_signal(number)
            while "stopping" not in process.stdout.readline():
                assert process.poll() is None
            process.send_signal(number)
            assert process.wait(timeout=10) == -number
        finally:
            process.kill()


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--account-id", "12"], "12 digits"),
        (["--region", "Frankfurt"], "us-east-1"),
        (["--time-scale", "inf"], "time_scale is 0"),
        (["--knowledge-base", "/no/such/folder"], "/no/such/folder is no folder"),
    ],
)
def test_emulate_refuses_invalid_arguments(arguments, message):
    result = command("emulate", "--port", "0", *arguments, timeout=30)  # apart: what is not refused would run on
    assert result.returncode == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.sweep
def test_emulate_on_a_port_in_use_names_it():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = command("emulate", "--port", port)
    assert result.returncode == 1
    assert result.stderr == (
        f"Error: Port {port} of 127.0.0.1 is in use. Take another with --port, or any free one with --port 0.\n"
    )


@pytest.mark.sweep
def test_emulate_on_a_foreign_host_fails_with_advice():
    result = command("emulate", "--host", "203.0.113.9", "--port", "0")
    assert result.returncode == 1
    assert result.stderr.startswith("Error: Cannot listen on port 0 of 203.0.113.9: ")
    assert "Traceback" not in result.stderr
