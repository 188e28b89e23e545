"""Test the log of a call: one line at DEBUG, however it ends, without the text of prompts and answers."""

from __future__ import annotations

import logging

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError

from bedrock_routing_integrations import RoutedClient
from bedrock_routing_integrations.errors import StreamInterruptedError

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
SECRET = "the password is swordfish"
BROKEN = {
    "exception_event": ({"name": "throttlingException", "message": SECRET}, EventStreamError, "ThrottlingException"),
    "cut": ({"frame": 2}, StreamInterruptedError, "StreamInterruptedError"),
}


@pytest.fixture
def lines(caplog):
    """The lines of calls."""
    caplog.set_level(logging.DEBUG, logger="bedrock_routing_integrations")

    def read():
        return [line for line in caplog.messages if line.startswith(("answered ", "failed ", "given up "))]

    return read


@pytest.fixture
def client(bedrock):
    return RoutedClient(bedrock.client("bedrock-runtime", config=Config(retries={"total_max_attempts": 1})))


def ask(client, model_id, *, stream=False, **more):
    request = {"modelId": model_id, "messages": [{"role": "user", "content": [{"text": SECRET}]}], **more}
    if not stream:
        return client.converse(**request)["routing"]
    *_, last = client.converse_stream(**request)["stream"]
    return last["metadata"]["routing"]


@pytest.mark.parametrize("stream", [False, True])
def test_answered_call_logs_one_line_without_the_prompt(client, router, lines, caplog, stream):
    ask(client, router, stream=stream)
    (line,) = lines()
    assert line.startswith(f"answered requested={router} invoked=arn:")
    assert all(f" {name}=" in line for name in ("fallback", "input", "output", "cost_usd", "request_id"))
    assert "None" not in line
    (record,) = [record for record in caplog.records if record.getMessage() == line]
    assert record.routing["requested_model_id"] == router
    assert SECRET not in caplog.text


@pytest.mark.parametrize("stream", [False, True])
def test_refused_call_logs_one_line_with_its_code(bedrock, client, lines, caplog, stream):
    bedrock.fail("throttling", message=SECRET)
    with pytest.raises(ClientError):
        ask(client, CLAUDE, stream=stream)
    (line,) = lines()
    assert line.startswith(f"failed requested={CLAUDE} error=ThrottlingException request_id=")
    (record,) = [record for record in caplog.records if record.getMessage() == line]
    assert record.routing["requested_model_id"] == CLAUDE, "as that of a call that is answered"
    assert SECRET not in caplog.text


@pytest.mark.parametrize("fault", BROKEN)
def test_a_stream_that_breaks_logs_that_it_failed(bedrock, client, lines, caplog, fault):
    details, raised, kind = BROKEN[fault]
    bedrock.fail(fault, **details)
    with pytest.raises(raised):
        ask(client, CLAUDE, stream=True)
    (line,) = lines()
    assert line.startswith(f"failed requested={CLAUDE} error={kind} request_id={request_id_of(bedrock)}")
    assert SECRET not in caplog.text


@pytest.mark.sample(4)
@pytest.mark.parametrize("read", [0, 1, 3])
def test_abandoned_stream_logs_one_line(bedrock, client, router, lines, caplog, read):
    stream = client.converse_stream(modelId=router, messages=[{"role": "user", "content": [{"text": SECRET}]}])[
        "stream"
    ]
    for _, _ in zip(range(read), stream, strict=False):
        pass
    stream.close()
    stream.close()
    assert lines() == [f"given up requested={router} request_id={request_id_of(bedrock)}"]
    assert SECRET not in caplog.text


def request_id_of(bedrock):
    return bedrock.requests("ConverseStream")[-1].request_id


def test_resend_without_cache_points_is_one_call(bedrock, client, lines):
    system = [{"text": "The quick brown fox jumps over the lazy dog. " * 800}]
    bedrock.fail("validation", message="system: cache_control is not permitted")
    assert ask(client, CLAUDE, system=system)["cache_points"] == []
    (line,) = lines()
    assert line.startswith("answered ")


def test_second_error_of_a_retried_call_is_logged(bedrock, client, lines):
    system = [{"text": "The quick brown fox jumps over the lazy dog. " * 800}]
    bedrock.fail("validation", message="system: cache_control is not permitted")
    bedrock.fail("throttling", after=1)
    with pytest.raises(ClientError, match="Throttling"):
        ask(client, CLAUDE, system=system)
    (line,) = lines()
    assert "error=ThrottlingException" in line


def test_nothing_is_logged_of_a_call_above_debug(client, router, caplog):
    caplog.set_level(logging.INFO, logger="bedrock_routing_integrations")
    ask(client, router)
    ask(client, router, stream=True)
    assert caplog.messages == []
