"""Test fields of a `BedrockRouter` set after construction: they apply to the next call, also of a copy."""

from __future__ import annotations

import pytest
import trustme
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError
from pydantic import SecretStr
from recording_server import MODEL, key_used, recording
from samples import HAIKU, HELLO, NOVA_LITE, SONNET

from bedrock_routing_integrations.emulator import BedrockEmulator
from bedrock_routing_integrations.errors import InvalidRequestError, InvalidTargetError
from bedrock_routing_integrations.llama_index import BedrockRouter

PROFILE = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abcdefghijkl"


def by_attributes(llm, **fields):
    for name, value in fields.items():
        setattr(llm, name, value)
    return llm


def by_a_copy(llm, **fields):
    return llm.model_copy(update=fields)


def by_a_deep_copy(llm, **fields):
    return llm.model_copy(update=fields, deep=True)


either_way = pytest.mark.parametrize("with_fields", [by_attributes, by_a_copy, by_a_deep_copy])


@pytest.fixture
def llm(bedrock):
    """Return a `BedrockRouter` that has made a call."""
    llm = BedrockRouter(model=HAIKU, max_retries=0)
    assert llm.complete(HELLO).text
    return llm


def last(bedrock):
    return bedrock.requests()[-1]


@either_way
def test_the_region(bedrock, llm, with_fields):
    with_fields(llm, region_name="eu-west-1").complete(HELLO)
    assert last(bedrock).region == "eu-west-1"


@either_way
def test_the_endpoint(bedrock, llm, with_fields):
    with BedrockEmulator() as other:
        changed = with_fields(llm, endpoint_url=other.endpoint_url)
        changed.complete(HELLO)
        assert len(other.requests("Converse")) == 1
        with_fields(changed, endpoint_url=None).complete(HELLO)
    assert len(bedrock.requests("Converse")) == 2


@pytest.mark.sample(2)
@either_way
def test_the_timeout_and_the_retries(bedrock, llm, with_fields):
    bedrock.fail("hang")
    with pytest.raises((ReadTimeoutError, ConnectTimeoutError)):
        with_fields(llm, timeout=0.3).complete(HELLO)
    bedrock.clear_journal()
    bedrock.fail("throttling", times=9)
    with pytest.raises(ClientError, match="Throttling"):
        with_fields(llm, timeout=None, max_retries=1).complete(HELLO)
    assert len(bedrock.requests()) == 2


@either_way
@pytest.mark.parametrize(
    "config", [Config(user_agent_extra="my-application"), {"user_agent_extra": "my-application"}], ids=["it", "a dict"]
)
def test_the_config(bedrock, llm, with_fields, config):
    changed = with_fields(llm, botocore_config=config)
    changed.complete(HELLO)
    assert "my-application" in last(bedrock).headers["user-agent"]
    assert BedrockRouter.from_dict(changed.to_dict()).botocore_config.user_agent_extra == "my-application"


@either_way
def test_the_headers(bedrock, llm, with_fields):
    with_fields(llm, default_headers={"x-team": "a"}).complete(HELLO)
    assert last(bedrock).headers["x-team"] == "a"


@either_way
def test_the_base_models(bedrock, with_fields):
    llm = BedrockRouter(model=PROFILE, base_models=[NOVA_LITE])
    assert llm.metadata.context_window == 300_000
    assert with_fields(llm, base_models=[HAIKU, SONNET]).metadata.context_window == 200_000
    assert bedrock.requests() == []


@either_way
def test_the_model(bedrock, llm, with_fields):
    with_fields(llm, model=NOVA_LITE).complete(HELLO)
    assert last(bedrock).invoked == NOVA_LITE
    with pytest.raises(InvalidTargetError):
        with_fields(llm, model="no such thing").complete(HELLO)


@either_way
@pytest.mark.parametrize("kind", [str, SecretStr])
def test_the_credentials(monkeypatch, tmp_path, with_fields, kind):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with recording(authority) as recorder:
        llm = BedrockRouter(
            model=MODEL, region_name="us-east-1", endpoint_url=recorder.url, verify=str(tmp_path / "ca.pem")
        )  # fmt: skip
        llm.complete(HELLO)
        assert key_used(recorder) == "AKIAENVIRONMENT"
        own = {"aws_access_key_id": kind("AKIAOWN"), "aws_secret_access_key": kind("own-secret")}
        changed = with_fields(llm, **own)
        changed.complete(HELLO)
        assert key_used(recorder) == "AKIAOWN"
        assert "own-secret" not in f"{changed!r}{changed.to_dict()}{changed.model_dump_json()}"
        changed = with_fields(changed, **dict.fromkeys(own), api_key=kind("bearer-own"))
        changed.complete(HELLO)
        assert key_used(recorder) == "Bearer bearer-own"
        assert "bearer-own" not in f"{changed!r}{changed.to_dict()}{changed.model_dump_json()}"


@either_way
def test_impossible_setting_is_refused_at_every_call_until_corrected(bedrock, llm, with_fields):
    changed = with_fields(llm, aws_access_key_id="AKIA")
    for _ in range(2):
        with pytest.raises(InvalidRequestError, match="aws_secret_access_key is missing"):
            changed.complete(HELLO)
    assert with_fields(changed, aws_secret_access_key="s").complete(HELLO).text


@pytest.mark.parametrize("with_fields", [by_a_copy, by_a_deep_copy])
def test_a_copys_are_not_those_of_the_original(bedrock, llm, with_fields):
    changed = with_fields(llm, endpoint_url="http://127.0.0.1:9")
    for _ in range(2):
        with pytest.raises(EndpointConnectionError):
            changed.complete(HELLO)
        assert llm.complete(HELLO).text


def test_field_outside_the_connection_keeps_the_client(bedrock, llm):
    before = llm._connected()
    llm.temperature, llm.max_tokens, llm.system_prompt = 0.5, 7, "Be brief."
    assert llm._connected() is before
    assert llm.model_copy(update={"temperature": 0.25})._connected() is before
