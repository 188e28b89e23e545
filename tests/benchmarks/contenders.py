"""Who is compared, all set up alike: explicit dummy credentials, Region and endpoint."""

from __future__ import annotations

import boto3
from botocore.config import Config
from langchain_aws import ChatBedrockConverse

from bedrock_routing_integrations.langchain import ChatBedrockRouter
from tests.independent_server import HAIKU, ROUTER

__all__ = ["HAIKU", "MESSAGES", "PROMPT", "ROUTER", "ours", "peer", "raw"]

PROMPT = "Describe the purpose of a 'hello world' program in one line."
MESSAGES = [{"role": "user", "content": [{"text": PROMPT}]}]
_CREDENTIALS = {"aws_access_key_id": "benchmark", "aws_secret_access_key": "benchmark"}
_REGION = "us-east-1"


def raw(url, *, connections=10):
    """A boto3 client."""
    config = Config(max_pool_connections=connections)
    return boto3.Session(**_CREDENTIALS, region_name=_REGION).client("bedrock-runtime", endpoint_url=url, config=config)


def peer(url, target=HAIKU, *, connections=10):
    """langchain-aws's model. A router needs to be told its provider, and that it streams."""
    told = {"provider": "anthropic", "disable_streaming": False} if target == ROUTER else {}
    config = Config(max_pool_connections=connections)
    return ChatBedrockConverse(
        model=target, region_name=_REGION, endpoint_url=url, config=config, **_CREDENTIALS, **told
    )


def ours(url, target=HAIKU):
    """This package's model, as its users construct it."""
    return ChatBedrockRouter(model=target, region_name=_REGION, endpoint_url=url, **_CREDENTIALS)
