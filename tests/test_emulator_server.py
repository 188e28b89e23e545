"""Test the emulator's server: starting and stopping, concurrent requests, the journal, the fixtures."""

import asyncio
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time

import aiohttp
import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from bedrock_routing_integrations.emulator import BedrockEmulator

LITE = "amazon.nova-lite-v1:0"
HELLO = [{"role": "user", "content": [{"text": "hello"}]}]
SIGNED = {"Authorization": "Bearer token"}


def ask(bedrock):
    return bedrock.client().converse(modelId=LITE, messages=HELLO)


def test_server_is_ready_when_entered_and_gone_when_left():
    before = threading.active_count()
    with BedrockEmulator() as bedrock:
        ask(bedrock)
        port = int(bedrock.endpoint_url.rpartition(":")[2])
    assert threading.active_count() == before
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    with pytest.raises(RuntimeError, match="not running"):
        _ = bedrock.endpoint_url


def test_server_can_be_restarted_with_its_resources():
    bedrock = BedrockEmulator()
    arn = bedrock.create_application_profile(name="kept", copy_from=LITE)
    for _ in range(2):
        bedrock.start()
        bedrock.start()
        bedrock.client().converse(modelId=arn, messages=HELLO)
        bedrock.stop()
        bedrock.stop()
    assert len(bedrock.requests("Converse")) == 2


def test_a_taken_port_is_an_error_where_it_is_started():
    with BedrockEmulator() as bedrock:
        port = int(bedrock.endpoint_url.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"):
            BedrockEmulator(port=port).start()


def test_the_port_is_the_one_that_is_listened_on():
    bedrock = BedrockEmulator()
    assert bedrock.port == 0
    with bedrock:
        assert bedrock.endpoint_url == f"http://127.0.0.1:{bedrock.port}"
        assert bedrock.port > 0
    assert bedrock.port == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"region": ""}, "such as us-east-1, not ''"),
        ({"region": "us"}, "such as us-east-1"),
        ({"account_id": "12"}, "12 digits, such as '123456789012', not '12'"),
        ({"account_id": 123456789012}, "string of 12 digits"),
        ({"time_scale": -1}, "time_scale is 0 .* not -1"),
        ({"time_scale": float("nan")}, "time_scale is 0"),
        ({"optimized_quota": -1}, "from 0, not -1"),
    ],
)
def test_invalid_argument_is_refused_with_the_valid_ones(arguments, message):
    with pytest.raises(ValueError, match=message):
        BedrockEmulator(**arguments)


@pytest.mark.parametrize("region", ["us-east-1", "us-gov-west-1", "cn-north-1", "us-isob-east-1", "eusc-de-east-1"])
def test_every_partitions_regions_are_taken(region):
    assert BedrockEmulator(region=region).default_router().split(":")[3] == region


def test_unknown_default_router_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"anthropic\.claude:1, meta\.llama:1, amazon\.nova:1"):
        BedrockEmulator().default_router("anthropic.claude")


def test_invalid_faults_and_choices_list_the_valid_ones():
    bedrock = BedrockEmulator()
    with pytest.raises(ValueError, match="it takes: message, model_id, operation, times, rate, after"):
        bedrock.fail("throttling", time=1)
    with pytest.raises(ValueError, match=r"such as anthropic\.claude-3-haiku-20240307-v1:0"):
        bedrock.choose("claude-3-haiku")


@pytest.mark.sweep
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_nothing_listens_after_the_end_though_a_forked_child_lives():
    code = (
        "import os, socket, time\n"
        "from bedrock_routing_integrations.emulator import BedrockEmulator\n"
        "bedrock = BedrockEmulator()\n"
        "bedrock.start()\n"
        "port = int(bedrock.endpoint_url.rpartition(':')[2])\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    time.sleep(30)\n"
        "    os._exit(0)\n"
        "bedrock.stop()\n"
        "try:\n"
        "    socket.create_connection(('127.0.0.1', port), timeout=5)\n"
        "except ConnectionRefusedError:\n"
        "    print('refused')\n"
        "finally:\n"
        "    os.kill(child, 9)\n"
        "    os.waitpid(child, 0)\n"
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code], capture_output=True, text=True, check=False
    )
    assert result.stdout == "refused\n", result.stderr


def test_stop_does_not_wait_forever_for_a_busy_request(bedrock_emulator, monkeypatch, caplog):
    begun, go_on = threading.Event(), threading.Event()

    def busy(*_arguments, **_keywords):
        begun.set()
        go_on.wait(30)
        raise RuntimeError("at last")

    monkeypatch.setattr("bedrock_routing_integrations.emulator.service.converse.programs.reply", busy)
    monkeypatch.setattr("bedrock_routing_integrations.emulator.wire.http_server._JOIN_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", bedrock_emulator.port)) as connection:
        body = json.dumps({"messages": HELLO}).encode()
        head = f"POST /model/{LITE}/converse HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer t\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert begun.wait(10)
        thread = bedrock_emulator._running._thread
        bedrock_emulator.stop()
    assert "did not end" in caplog.text
    go_on.set()
    thread.join(10)
    assert not thread.is_alive()


def test_two_emulators_know_nothing_of_each_other():
    with BedrockEmulator() as one, BedrockEmulator() as other:
        arn = one.create_application_profile(name="mine", copy_from=LITE)
        ask(one)
        assert other.journal == []
        with pytest.raises(Exception, match="Could not find"):
            other.client().converse(modelId=arn, messages=HELLO)


def test_the_environment_points_plain_boto3_at_it(bedrock_emulator_env):
    answer = boto3.client("bedrock-runtime").converse(modelId=LITE, messages=HELLO)
    assert answer["output"]
    assert boto3.client("bedrock").list_prompt_routers()["promptRouterSummaries"]
    assert len(bedrock_emulator_env.journal) == 2


def test_the_environment_leads_past_a_proxy(bedrock_emulator, monkeypatch):
    expected = {"": "127.0.0.1", "a.example": "a.example,127.0.0.1", "*": "*", "127.0.0.1": "127.0.0.1"}
    for before, after in expected.items():
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.setenv("NO_PROXY", before)
        variables = bedrock_emulator.environment()
        assert (variables["NO_PROXY"], variables["no_proxy"]) == (after, after)
    monkeypatch.setenv("no_proxy", "b.example")
    assert bedrock_emulator.environment()["NO_PROXY"] == "b.example,127.0.0.1"


@pytest.fixture
def _hostile_environment(monkeypatch):
    for name, value in {
        "AWS_PROFILE": "no-such-profile",
        "AWS_SESSION_TOKEN": "of-other-credentials",
        "AWS_BEARER_TOKEN_BEDROCK": "the-users-own-key",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("_hostile_environment")
def test_the_fixture_stands_up_to_the_users_environment(request):
    bedrock = request.getfixturevalue("bedrock_emulator_env")
    assert boto3.client("bedrock-runtime").converse(modelId=LITE, messages=HELLO)["output"]
    assert bedrock.journal[-1].authorization == "sigv4"


def test_the_fixture_gives_a_fresh_emulator(bedrock_emulator):
    assert bedrock_emulator.journal == []
    ask(bedrock_emulator)


def test_the_plugin_and_the_package_load_nothing_heavy():
    code = (
        "import sys, pytest; before = set(sys.modules); "
        "import bedrock_routing_integrations.emulator.pytest_plugin; "
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        "print(sorted(new & {'aiohttp', 'boto3', 'botocore', 'asyncio', 'langchain_core'}))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_without_aiohttp_the_extra_is_named():
    code = (
        "import sys; sys.modules['aiohttp'] = None\nfrom bedrock_routing_integrations.emulator import BedrockEmulator"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'pip install "bedrock-routing-integrations[emulator]"' in result.stderr
    assert result.stderr.count("Traceback") == 1


def test_journal_records_the_requests(bedrock_emulator):
    runtime = bedrock_emulator.client()
    runtime.converse(modelId=LITE, messages=HELLO, inferenceConfig={"maxTokens": 9})
    list(runtime.converse_stream(modelId=LITE, messages=HELLO)["stream"])
    first, second = bedrock_emulator.journal
    assert (first.service, first.operation, first.method) == ("bedrock-runtime", "Converse", "POST")
    assert first.path == "/model/amazon.nova-lite-v1%3A0/converse"
    assert first.request == {"modelId": LITE, "messages": HELLO, "inferenceConfig": {"maxTokens": 9}}
    assert first.headers["user-agent"].startswith("Boto3")
    assert "authorization" not in first.headers
    assert (first.status, first.error, first.invoked, first.client_closed) == (200, None, LITE, False)
    assert first.started <= first.ended <= second.started
    assert (first.streamed_bytes, second.streamed_bytes > 100) == (0, True)
    assert bedrock_emulator.requests("ConverseStream") == [second]
    bedrock_emulator.clear_journal()
    assert bedrock_emulator.journal == []


def test_blobs_arrive_as_bytes(bedrock_emulator):
    content = [{"text": "What is this?"}, {"image": {"format": "png", "source": {"bytes": b"\x89PNG\x00"}}}]
    bedrock_emulator.client().converse(modelId=LITE, messages=[{"role": "user", "content": content}])
    assert bedrock_emulator.journal[0].request["messages"][0]["content"] == content


async def post(session, bedrock, operation="converse", text="hello"):
    body = json.dumps({"messages": [{"role": "user", "content": [{"text": text}]}]})
    url = f"{bedrock.endpoint_url}/model/{LITE}/{operation}"
    async with session.post(url, data=body, headers=SIGNED) as answer:
        return answer.status, await answer.read()


async def test_many_slow_requests_run_at_once(bedrock_emulator):
    bedrock_emulator.fail("slow_first_byte", times=200, seconds=20, in_flight=200)
    started = time.monotonic()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        answers = await asyncio.gather(*(post(session, bedrock_emulator) for _ in range(200)))
    assert {status for status, _ in answers} == {200}
    assert time.monotonic() - started < 20  # no request waited for the others
    assert bedrock_emulator.peak_in_flight == 200
    assert bedrock_emulator.in_flight == 0


async def test_simulated_time_can_really_pass():
    with BedrockEmulator(time_scale=0.5) as bedrock:
        async with aiohttp.ClientSession() as session:
            started = time.monotonic()
            _, body = await post(session, bedrock)
            took = time.monotonic() - started
            simulated = json.loads(body)["metrics"]["latencyMs"] / 1000
            assert simulated * 0.5 <= took < simulated * 0.5 + 0.5
            started = time.monotonic()
            await post(session, bedrock, "converse-stream")
            assert time.monotonic() - started >= simulated * 0.5 * 0.9


async def test_a_client_that_hangs_up_is_noticed(bedrock_emulator):
    bedrock_emulator.fail("slow_stream", seconds=0.05)
    async with aiohttp.ClientSession() as session:
        url = f"{bedrock_emulator.endpoint_url}/model/{LITE}/converse-stream"
        body = json.dumps({"messages": [{"role": "user", "content": [{"text": "[[emulator: chunks=500]]"}]}]})
        answer = await session.post(url, data=body, headers=SIGNED)
        await answer.content.readany()
        answer.close()
    for _ in range(200):
        if bedrock_emulator.in_flight == 0:
            break
        await asyncio.sleep(0.01)
    entry = bedrock_emulator.journal[0]
    assert entry.client_closed
    assert entry.ended - entry.started < 3


def test_bug_in_the_emulator_gives_an_internal_server_error(bedrock_emulator, monkeypatch, caplog):
    def broken(*_arguments, **_keywords):
        raise RuntimeError("a bug")

    monkeypatch.setattr("bedrock_routing_integrations.emulator.service.converse.programs.reply", broken)
    client = bedrock_emulator.client(config=Config(retries={"total_max_attempts": 1}))
    with pytest.raises(client.exceptions.InternalServerException, match="a bug"):
        client.converse(modelId=LITE, messages=HELLO)
    assert "a bug" in caplog.text


def test_bytes_that_are_not_http_are_logged_in_one_line(bedrock_emulator, caplog):
    with socket.create_connection(("127.0.0.1", bedrock_emulator.port), timeout=10) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n")
        assert b" 400 " in connection.recv(1_000)
    lines = [logging.Formatter().format(record) for record in caplog.records]
    assert [line.count("\n") for line in lines] == [0]
    assert "Content-Length" in lines[0]


def test_one_request_cannot_keep_the_others_waiting(bedrock_emulator):
    schema = {"type": "object", "properties": {"x": {"type": "array", "minItems": 10_000_000, "items": {}}}}
    schema["required"] = ["x"]
    started = time.monotonic()
    answer = bedrock_emulator.client().converse(
        modelId=LITE,
        messages=HELLO,
        toolConfig={
            "tools": [{"toolSpec": {"name": "fill", "inputSchema": {"json": schema}}}],
            "toolChoice": {"any": {}},
        },
    )
    assert answer["stopReason"] == "max_tokens"
    assert time.monotonic() - started < 10


@pytest.mark.sample(2)
@pytest.mark.parametrize("kind", ["application", "custom", "deployment", "imported", "prompt", "provisioned", "router"])
def test_resources_of_one_account_are_not_found_in_another(bedrock_emulator, kind):
    made = {
        "application": lambda: bedrock_emulator.create_application_profile(name="p", copy_from=LITE),
        "custom": lambda: bedrock_emulator.add_custom_model(LITE),
        "deployment": lambda: bedrock_emulator.add_custom_model_deployment(LITE),
        "imported": lambda: bedrock_emulator.add_imported_model("m"),
        "prompt": lambda: bedrock_emulator.add_prompt("p", "Say hello.", LITE, version="1"),
        "provisioned": lambda: bedrock_emulator.add_provisioned_model(LITE),
        "router": lambda: bedrock_emulator.create_prompt_router(
            name="r", models=[LITE, "amazon.nova-pro-v1:0"], fallback=LITE
        ),
    }[kind]()
    client = bedrock_emulator.client()
    ask = {} if kind == "prompt" else {"messages": HELLO}
    assert client.converse(modelId=made, **ask)["output"]
    assert client.converse(modelId=made.replace("us-east-1", "eu-west-1"), **ask)["output"]
    with pytest.raises(ClientError, match="Could not find"):
        client.converse(modelId=made.replace("123456789012", "999999999999"), **ask)
