"""The chat models of LangChain that are compared."""

from __future__ import annotations

from botocore.config import Config
from langchain_aws import ChatBedrockConverse

from bedrock_routing_integrations.langchain import ChatBedrockRouter

from .contenders import CREDENTIALS, HAIKU, REGION, ROUTER

PEER = "ChatBedrockConverse"


def peer(url, target=HAIKU, *, connections=10):
    """Return langchain-aws's model. For a router it needs the provider, and that it streams."""
    told = {"provider": "anthropic", "disable_streaming": False} if target == ROUTER else {}
    config = Config(max_pool_connections=connections)
    return ChatBedrockConverse(model=target, region_name=REGION, endpoint_url=url, config=config, **CREDENTIALS, **told)


def ours(url, target=HAIKU):
    """This package's model, as its users construct it."""
    return ChatBedrockRouter(model=target, region_name=REGION, endpoint_url=url, **CREDENTIALS)
