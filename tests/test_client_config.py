"""Test botocore configurations that come from JSON, in every class that takes one."""

from __future__ import annotations

import botocore.httpsession
import pytest
from botocore.config import Config
from scripted_bedrock import ScriptedBedrock, whole_of

from bedrock_routing_integrations.connections import Connection, read_config
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.langchain import BedrockRouterLLM, ChatBedrockRouter, KnowledgeBaseChain
from bedrock_routing_integrations.langchain import KnowledgeBaseRetriever as LangChainRetriever
from bedrock_routing_integrations.llama_index import BedrockRouter, KnowledgeBaseQueryEngine, KnowledgeBaseRetriever
from bedrock_routing_integrations.runtime import DEFAULT_RUNTIME

BASE, MODEL = "ABCDEFGHIJ", "us.amazon.nova-pro-v1:0"
PAIR = ["/certificate.pem", "/key.pem"]

# Each asks Bedrock once, with a configuration in the form in which its class documents it.
ASKING = {
    "llama_index retriever": lambda config, a: KnowledgeBaseRetriever(BASE, botocore_config=config, **a).retrieve("x"),
    "llama_index engine": lambda config, a: KnowledgeBaseQueryEngine(
        BASE, model=MODEL, mode="retrieve_then_converse", botocore_config=config, **a
    ).query("x"),
    "llama_index LLM": lambda config, a: BedrockRouter(MODEL, botocore_config=config, **a).complete("x"),
    "langchain retriever": lambda config, a: LangChainRetriever(knowledge_base_id=BASE, config=config, **a).invoke("x"),
    "langchain chain": lambda config, a: KnowledgeBaseChain(
        knowledge_base_id=BASE, model=MODEL, mode="retrieve_then_converse", config=config, **a
    ).invoke("x"),
    "langchain chat model": lambda config, a: ChatBedrockRouter(model=MODEL, config=config, **a).invoke("x"),
    "langchain LLM": lambda config, a: BedrockRouterLLM(model=MODEL, config=config, **a).invoke("x"),
}


def answered(request):
    return {"retrievalResults": []} if "retrievalQuery" in request else whole_of({"text": "ok"})


@pytest.fixture
def certificates(monkeypatch):
    """The client certificates with which botocore makes its HTTP sessions."""
    DEFAULT_RUNTIME.reset()  # the clients too: tests share them
    certificates, original = [], botocore.httpsession.URLLib3Session.__init__

    def spy(self, *args, **kwargs):
        certificates.append(kwargs.get("client_cert"))
        original(self, *args, **kwargs)

    monkeypatch.setattr(botocore.httpsession.URLLib3Session, "__init__", spy)
    return certificates


@pytest.mark.sample(6)
@pytest.mark.parametrize("form", ["options", "Config"])
@pytest.mark.parametrize("asking", ASKING)
def test_client_cert_list_is_used_as_certificate_and_key(certificates, asking, form):
    """botocore ignores a list."""
    options = {"client_cert": list(PAIR)}
    config = options if form == "options" else Config(**options)
    with ScriptedBedrock(answered) as bedrock:
        ASKING[asking](config, bedrock.arguments)
    assert certificates
    assert set(certificates) == {tuple(PAIR)}
    assert (config if form == "options" else vars(config))["client_cert"] == PAIR, "the caller's is as it was"


@pytest.mark.parametrize("asking", ASKING)
@pytest.mark.parametrize("wrong", [{"client_cert": ["/a.pem"]}, {"client_cert": [1, 2]}, {"conect_timeout": 1}, "text"])
def test_config_that_botocore_would_ignore_is_refused(asking, wrong):
    arguments = {"region_name": "us-east-1", "endpoint_url": "http://127.0.0.1:9"}
    with pytest.raises(InvalidRequestError, match="config"):
        ASKING[asking](wrong, arguments)


def test_read_config_leaves_alone_what_is_right():
    config = Config(client_cert=("/a.pem", "/b.pem"), read_timeout=7)
    assert read_config(config) is config
    assert read_config(None) is None
    one = read_config({"client_cert": "/both.pem", "retries": {"max_attempts": 2}})
    assert (one.client_cert, one.retries) == ("/both.pem", {"max_attempts": 2})
    assert read_config(Config(client_cert=PAIR, read_timeout=7)).read_timeout == 7


def test_read_config_reads_the_certificate_for_a_proxy():
    """botocore reads a tuple there too."""
    proxies = {"proxy_client_cert": PAIR, "proxy_ca_bundle": "/ca.pem"}
    for options in ({"proxies_config": proxies}, Config(proxies_config=proxies)):
        assert read_config(options).proxies_config == {"proxy_client_cert": tuple(PAIR), "proxy_ca_bundle": "/ca.pem"}
    assert proxies["proxy_client_cert"] is PAIR
    with pytest.raises(InvalidRequestError, match="proxy_client_cert"):
        read_config({"proxies_config": {"proxy_client_cert": []}})


def test_connections_with_equal_certificates_share_a_client():
    one, other = (Connection(config=Config(client_cert=pair)) for pair in (tuple(PAIR), PAIR))
    assert one.fixed_key == other.fixed_key
