"""The LLMs of LlamaIndex that are compared. Tests do not need the peer, so it may be missing."""

from __future__ import annotations

import importlib.util

from llama_index.core.llms import ChatMessage

from bedrock_routing_integrations.llama_index import BedrockRouter

from .contenders import CREDENTIALS, HAIKU, PROMPT, REGION

PEER = "BedrockConverse"
CHAT = [ChatMessage(role="user", content=PROMPT)]
# What BedrockConverse sends whether or not it was asked to. The others are asked to, so that all send one request.
ASKED = {"temperature": 0.1, "max_tokens": 512}
INFERENCE = {"temperature": 0.1, "maxTokens": 512}


def peer(url):
    """LlamaIndex's own model. It takes no router: its `metadata` raises, and so does every call."""
    from llama_index.llms.bedrock_converse import BedrockConverse

    return BedrockConverse(model=HAIKU, region_name=REGION, endpoint_url=url, **CREDENTIALS, **ASKED)


def peer_threads():
    """Return how the peer makes asynchronous calls: natively only with aioboto3, which needs an older boto3."""
    return "natively" if importlib.util.find_spec("aioboto3") else "in threads"


def ours(url, target=HAIKU, **asked):
    """This package's model."""
    return BedrockRouter(model=target, region_name=REGION, endpoint_url=url, **CREDENTIALS, **asked)
