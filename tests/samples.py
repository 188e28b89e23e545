"""Prompts and models that many tests use."""

from __future__ import annotations

from decimal import Decimal

import boto3
import pytest

# The two prompts of AWS's launch post, which go to different models of the router.
ALICE = "Alice has 4 brothers and she also has 3 sisters. How many sisters does Alice's brothers have?"
HELLO = "Describe the purpose of a 'hello world' program in one line."

HAIKU = "anthropic.claude-3-haiku-20240307-v1:0"
SONNET = "anthropic.claude-3-5-sonnet-20240620-v1:0"
LLAMA_8B = "meta.llama3-1-8b-instruct-v1:0"
LLAMA_70B = "meta.llama3-1-70b-instruct-v1:0"
NOVA_LITE = "amazon.nova-lite-v1:0"
NOVA_PRO = "amazon.nova-pro-v1:0"


def knows_projects():
    model = boto3.client("bedrock-runtime", "us-east-1").meta.service_model
    return "projectIdentifier" in model.operation_model("Converse").input_shape.members


needs_newer_boto3 = pytest.mark.skipif(not knows_projects(), reason="this boto3 does not know projectIdentifier")


def usd(usage, per_input, per_output):
    """Return the US dollars of the tokens that Bedrock or LangChain counted, at prices per million."""
    counts = [
        usage.get(name) or usage.get(other)
        for name, other in (("inputTokens", "input_tokens"), ("outputTokens", "output_tokens"))
    ]
    return float(
        sum(Decimal(str(price)) * n for price, n in zip((per_input, per_output), counts, strict=True)) / 1_000_000
    )
