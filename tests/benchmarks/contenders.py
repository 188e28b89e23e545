"""The settings that all contenders share: a prompt, dummy credentials, a Region, an endpoint; and raw boto3."""

from __future__ import annotations

import boto3
from botocore.config import Config

from tests.independent_server import HAIKU, ROUTER

__all__ = ["CREDENTIALS", "HAIKU", "MESSAGES", "PROMPT", "REGION", "ROUTER", "raw"]

PROMPT = "Describe the purpose of a 'hello world' program in one line."
MESSAGES = [{"role": "user", "content": [{"text": PROMPT}]}]
CREDENTIALS = {"aws_access_key_id": "benchmark", "aws_secret_access_key": "benchmark"}
REGION = "us-east-1"


def raw(url, *, connections=10):
    """A boto3 client."""
    config = Config(max_pool_connections=connections)
    return boto3.Session(**CREDENTIALS, region_name=REGION).client("bedrock-runtime", endpoint_url=url, config=config)
