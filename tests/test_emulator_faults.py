"""Test the emulator's faults through boto3 and plain sockets."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing

import pytest
from botocore.config import Config
from botocore.eventstream import ChecksumMismatch
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    EventStreamError,
    ReadTimeoutError,
)
from urllib3.exceptions import ProtocolError

from bedrock_routing_integrations.emulator import BedrockEmulator

LITE = "amazon.nova-lite-v1:0"
HELLO = [{"role": "user", "content": [{"text": "Describe the purpose of a 'hello world' program."}]}]


@pytest.fixture
def bedrock():
    with BedrockEmulator() as emulator:
        yield emulator


@pytest.fixture
def runtime(bedrock):
    return bedrock.client(config=Config(retries={"total_max_attempts": 1}, read_timeout=5))


def converse(runtime):
    return runtime.converse(modelId=LITE, messages=HELLO)


def outcome(runtime):
    try:
        converse(runtime)
    except ClientError as error:
        return error.response["Error"]["Code"][:5]
    return "ok"


def stream(runtime, received=None):
    received = [] if received is None else received
    with closing(runtime.converse_stream(modelId=LITE, messages=HELLO)["stream"]) as events:
        for event in events:
            received.append(event)
    return received


@pytest.mark.parametrize(
    ("kind", "code", "status"),
    [
        ("throttling", "ThrottlingException", 429),
        ("internal", "InternalServerException", 500),
        ("unavailable", "ServiceUnavailableException", 503),
        ("model_timeout", "ModelTimeoutException", 408),
        ("model_not_ready", "ModelNotReadyException", 429),
        ("access_denied", "AccessDeniedException", 403),
        ("validation", "ValidationException", 400),
    ],
)
def test_an_error_is_answered_once_with_its_status(bedrock, runtime, kind, code, status):
    bedrock.fail(kind)
    with pytest.raises(ClientError) as caught:
        converse(runtime)
    assert caught.value.response["Error"]["Code"] == code
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert isinstance(caught.value, getattr(runtime.exceptions, code))
    converse(runtime)
    assert [(entry.status, entry.error) for entry in bedrock.journal] == [(status, code), (200, None)]


def test_boto3_retries_what_it_retries_at_bedrock(bedrock):
    client = bedrock.client(config=Config(retries={"mode": "standard", "total_max_attempts": 3}))
    bedrock.fail("throttling", times=2)
    assert converse(client)["ResponseMetadata"]["RetryAttempts"] == 2
    assert len(bedrock.requests("Converse")) == 3


def test_access_can_be_denied_on_the_control_plane_only(bedrock, runtime):
    bedrock.fail("access_denied", operation="GetPromptRouter")
    with pytest.raises(ClientError, match="not authorized to perform: bedrock:GetPromptRouter"):
        bedrock.client("bedrock").get_prompt_router(promptRouterArn=bedrock.default_router())
    converse(runtime)


def test_faults_without_operation_leave_the_control_plane_alone(bedrock):
    fault = bedrock.fail("throttling")
    bedrock.client("bedrock").list_prompt_routers()
    assert fault.hits == 0
    bedrock.fail("throttling", operation="*")
    with pytest.raises(ClientError, match="ThrottlingException"):
        bedrock.client("bedrock", config=Config(retries={"total_max_attempts": 1})).list_prompt_routers()


def test_a_fault_can_wait_end_and_be_cancelled(bedrock, runtime):
    def outcomes(count):
        return [outcome(runtime) for _ in range(count)]

    bedrock.fail("throttling", after=1, times=2)
    assert outcomes(4) == ["ok", "Throt", "Throt", "ok"]
    bedrock.fail("throttling")
    bedrock.fail("internal")
    assert outcomes(3) == ["Throt", "Inter", "ok"]
    bedrock.fail("internal", times=5).cancel()
    assert outcomes(1) == ["ok"]
    bedrock.fail("internal", times=5)
    bedrock.clear_faults()
    assert outcomes(1) == ["ok"]


def test_a_rate_is_the_same_in_every_run():
    def pattern():
        with BedrockEmulator() as bedrock:
            client = bedrock.client(config=Config(retries={"total_max_attempts": 1}))
            bedrock.fail("throttling", rate=0.3)
            return [outcome(client) for _ in range(40)]

    first = pattern()
    assert first == pattern()
    assert 4 <= first.count("Throt") <= 20


def test_a_fault_can_be_for_one_target(bedrock, runtime):
    bedrock.fail("unavailable", times=5, model_id="us.amazon.nova-pro-v1:0", message="Come back later")
    converse(runtime)
    with pytest.raises(ClientError, match="Come back later"):
        runtime.converse(modelId="us.amazon.nova-pro-v1:0", messages=HELLO)


def test_wrong_faults_are_refused(bedrock):
    with pytest.raises(ValueError, match="Unknown fault 'gremlins'; there are: throttling"):
        bedrock.fail("gremlins")
    with pytest.raises(ValueError, match="takes no frame"):
        bedrock.fail("throttling", frame=1)
    with pytest.raises(ValueError, match="breaks streams"):
        bedrock.fail("cut", operation="Converse")
    with pytest.raises(ValueError, match="no operation 'Convers'"):
        bedrock.fail("throttling", operation="Convers")
    with pytest.raises(ValueError, match="share from 0 to 1"):
        bedrock.fail("throttling", rate=30)


def test_a_slow_first_byte_still_answers(bedrock, runtime):
    bedrock.fail("slow_first_byte", seconds=0.3)
    started = time.monotonic()
    converse(runtime)
    assert time.monotonic() - started >= 0.3


def test_slow_first_byte_can_wait_for_requests_in_flight(bedrock):
    bedrock.fail("slow_first_byte", operation="Converse", times=2, seconds=30, in_flight=3)
    client = bedrock.client()
    with ThreadPoolExecutor(3) as threads:
        first = [threads.submit(converse, client) for _ in range(2)]
        assert wait(first, timeout=0.2).not_done == set(first), "two are not enough"
        threads.submit(converse, client).result()
        assert not wait(first, timeout=10).not_done, "three are"
    assert bedrock.peak_in_flight == 3


def test_a_slow_stream_pauses_between_frames(bedrock, runtime):
    bedrock.fail("slow_stream", seconds=0.02)
    events = runtime.converse_stream(modelId=LITE, messages=HELLO)["stream"]
    arrivals = [time.monotonic() for _ in events]
    assert arrivals[-1] - arrivals[0] >= 0.02 * (len(arrivals) - 2)


def test_a_hang_lasts_until_the_client_hangs_up(bedrock):
    bedrock.fail("hang")
    client = bedrock.client(config=Config(retries={"total_max_attempts": 1}, read_timeout=0.3))
    with pytest.raises(ReadTimeoutError):
        converse(client)
    client.close()
    entry = wait_for_end(bedrock)
    assert (entry.error, entry.status, entry.client_closed) == ("hang", None, True)


def wait_for_end(bedrock):
    entry = bedrock.journal[-1]
    deadline = time.monotonic() + 5
    while entry.ended is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert entry.ended is not None
    return entry


def test_a_hang_ends_when_the_emulator_stops():
    with BedrockEmulator() as bedrock:
        bedrock.fail("hang")
        client = bedrock.client(config=Config(retries={"total_max_attempts": 1}, read_timeout=10))
        caught = []

        def ask():
            try:
                converse(client)
            except Exception as error:
                caught.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        while not bedrock.in_flight:
            time.sleep(0.01)
    thread.join(5)
    assert isinstance(caught[0], ConnectionClosedError)
    assert bedrock.journal[0].client_closed is False


def test_a_reset_is_a_connection_error(bedrock, runtime):
    bedrock.fail("reset")
    with pytest.raises(ConnectionClosedError, match="Connection was closed"):
        converse(runtime)
    entry = wait_for_end(bedrock)
    assert (entry.error, entry.status, entry.client_closed) == ("reset", None, False)


def test_a_stream_cut_at_a_frame_ends_silently(bedrock, runtime):
    bedrock.fail("cut", frame=3)
    events = stream(runtime)
    assert [next(iter(event)) for event in events] == ["messageStart", "contentBlockDelta", "contentBlockDelta"]
    assert stream(runtime)[-1].keys() == {"metadata"}


def test_a_stream_can_be_cut_at_every_frame(bedrock, runtime):
    whole = len(stream(runtime))
    for frame in range(whole + 1):
        bedrock.fail("cut", frame=frame)
        assert len(stream(runtime)) == frame


def test_a_stream_can_be_cut_at_any_byte(bedrock, runtime):
    stream(runtime)
    size = bedrock.journal[-1].streamed_bytes
    for byte in (0, 5, 12, size // 2, size - 1):
        bedrock.fail("cut", byte=byte)
        events = stream(runtime)
        assert not any("metadata" in event for event in events)
        assert bedrock.journal[-1].streamed_bytes == byte


def test_a_dropped_connection_is_an_error(bedrock, runtime):
    bedrock.fail("cut", frame=3, abrupt=True)
    with pytest.raises(ProtocolError):
        stream(runtime)


def test_a_bad_checksum_is_noticed(bedrock, runtime):
    bedrock.fail("bad_checksum", frame=2)
    with pytest.raises(ChecksumMismatch):
        stream(runtime)
    bedrock.fail("bad_checksum", frame=0)
    with pytest.raises(ChecksumMismatch):
        stream(runtime)


def test_an_exception_event_ends_the_stream(bedrock, runtime):
    bedrock.fail("exception_event", name="modelStreamErrorException", message="Lost the thread", frame=2)
    received = []
    with pytest.raises(EventStreamError, match="Lost the thread") as caught:
        stream(runtime, received)
    assert len(received) == 2
    assert caught.value.response["Error"]["Code"] == "modelStreamErrorException"
