"""The server itself: its life, many requests at once, the journal, the fixtures."""

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time

import aiohttp
import boto3
import pytest
from botocore.config import Config

from bedrock_routing_integrations.emulator import BedrockEmulator

LITE = "amazon.nova-lite-v1:0"
HELLO = [{"role": "user", "content": [{"text": "hello"}]}]
SIGNED = {"Authorization": "Bearer token"}


def ask(bedrock):
    return bedrock.client().converse(modelId=LITE, messages=HELLO)


def test_it_is_ready_when_entered_and_gone_when_left():
    before = threading.active_count()
    with BedrockEmulator() as bedrock:
        ask(bedrock)
        port = int(bedrock.endpoint_url.rpartition(":")[2])
    assert threading.active_count() == before
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    with pytest.raises(RuntimeError, match="not running"):
        _ = bedrock.endpoint_url


def test_it_can_be_started_again_and_keeps_what_it_has():
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


def test_the_journal_tells_what_was_asked(bedrock_emulator):
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
    bedrock_emulator.fail("slow_first_byte", seconds=0.5, rate=1.0)
    started = time.monotonic()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        answers = await asyncio.gather(*(post(session, bedrock_emulator) for _ in range(200)))
    assert {status for status, _ in answers} == {200}
    assert time.monotonic() - started < 2.0
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


def test_a_mistake_of_the_emulator_is_an_answer_not_a_hang(bedrock_emulator, monkeypatch, caplog):
    def broken(*_arguments, **_keywords):
        raise RuntimeError("a bug")

    monkeypatch.setattr("bedrock_routing_integrations.emulator.runtime.programs.reply", broken)
    client = bedrock_emulator.client(config=Config(retries={"total_max_attempts": 1}))
    with pytest.raises(client.exceptions.InternalServerException, match="a bug"):
        client.converse(modelId=LITE, messages=HELLO)
    assert "a bug" in caplog.text
