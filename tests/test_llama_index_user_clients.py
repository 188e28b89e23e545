"""Test clients that are assigned after construction, and fakes of boto3's client."""

from __future__ import annotations

import boto3
import pytest
from llama_index_forms import FORMS, run, text_of
from samples import HAIKU, HELLO
from scripted_bedrock import ScriptedBedrock, stream_of, text, whole_of

from bedrock_routing_integrations import RoutedClient
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.llama_index import BedrockRouter


class FakeClient:
    """A fake of boto3's client without ``meta``, whose stream is a list."""

    def __init__(self, *, metadata=True):
        self.requests = []
        self.events = [{name: body} for name, body in stream_of(text(0, "fa"), text(0, "ke"))][
            : None if metadata else -1
        ]

    def converse(self, **request):
        self.requests.append(request)
        return whole_of({"text": "fake"})

    def converse_stream(self, **request):
        self.requests.append(request)
        return {"stream": self.events}


@pytest.mark.parametrize("form", FORMS)
async def test_client_assigned_after_construction_is_used(form):
    llm = BedrockRouter(HAIKU, base_models=[HAIKU], region_name="us-east-1")
    llm.client = fake = FakeClient()
    assert isinstance(llm.client, RoutedClient)
    responses = await run(llm, form, HELLO)
    assert text_of(responses[-1]) == "fake"
    assert [request["modelId"] for request in fake.requests] == [HAIKU]
    assert responses[-1].additional_kwargs["routing"]["invoked_model"] == HAIKU


def test_client_assigned_may_be_boto3s_or_routed(bedrock):
    llm = BedrockRouter(HAIKU, region_name="eu-west-1")
    with ScriptedBedrock(whole_of({"text": "other"})) as server:
        session = boto3.Session(aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1")
        boto = session.client("bedrock-runtime", endpoint_url=server.url)
        for client in (boto, RoutedClient(boto)):
            llm.client = client
            assert llm.complete(HELLO).text == "other"
            assert llm.model_copy().complete(HELLO).text == "other"
    llm.client = None
    assert llm.complete(HELLO).text not in {"", "other"}, "a client of our own again"


def test_invalid_client_is_refused_and_old_client_stays(bedrock):
    llm = BedrockRouter(HAIKU)
    for wrong in ("bedrock-runtime", boto3.client("bedrock", "us-east-1")):
        with pytest.raises(InvalidRequestError, match=r"client is not valid: it is .*Pass boto3\.client"):
            llm.client = wrong
    assert llm.complete(HELLO).text


@pytest.mark.parametrize("form", [form for form in FORMS if "stream" in form])
async def test_stream_without_metadata_is_whole_answer(form, caplog):
    llm = BedrockRouter(HAIKU, base_models=[HAIKU], client=FakeClient(metadata=False))
    last = (await run(llm, form, HELLO))[-1]
    assert text_of(last) == "fake"
    assert "prompt_tokens" not in last.additional_kwargs
    assert last.additional_kwargs["routing"]["cost_usd"] is None
