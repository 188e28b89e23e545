"""Where the control plane is, for a runtime at some endpoint."""

from __future__ import annotations

import functools
import os
from typing import Any, Protocol
from urllib.parse import urlsplit


class Located(Protocol):
    """What an ARN may say the Region of: a target, a knowledge base."""

    @property
    def region(self) -> str | None:
        """The Region; None where it does not say."""


RUNTIMES = ("bedrock-runtime", "bedrock-agent-runtime")
"""The services that generate and retrieve; the others are control planes."""
_AWS_DOMAINS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws", ".api.amazonwebservices.com.cn", ".aws.dev")

# Look-ups precede a user's request: where the control plane cannot be reached (a VPC with a runtime endpoint only) they
# must give up long before botocore's minute, and the request goes on without them.
CONTROL_PLANE_OPTIONS = {"connect_timeout": 2, "read_timeout": 3, "retries": {"total_max_attempts": 2}}


def runtime_endpoint(service: str, endpoint: str | None) -> str | None:
    """Where a runtime is, for the `endpoint_url` that was given; None lets boto3 find it.

    One of AWS's own hosts is of one service, and its name says of which (``vpce-1.bedrock-agent-runtime.REGION…``,
    ``bedrock-runtime-fips.REGION…``); anything else is taken to serve all.
    """
    if endpoint is None or not is_aws(endpoint):
        return endpoint
    labels = {label.removesuffix("-fips") for label in (urlsplit(endpoint).hostname or "").split(".")}
    return None if labels.intersection(RUNTIMES) - {service} else endpoint


def control_plane_endpoint(service: str, runtime_endpoint: str | None) -> str | None:
    """Where the control plane is, for a runtime at `runtime_endpoint`; None lets boto3 find it.

    On AWS the two planes are different hosts, so a runtime endpoint says nothing about the other. Anything else (a
    proxy, a gateway, an emulator) is taken to serve both; but where the environment made it the runtime's endpoint, the
    environment says where the control plane is too.
    """
    if runtime_endpoint is None or is_aws(runtime_endpoint):
        return None
    named = {(endpoint_in_environment(runtime) or "").rstrip("/") for runtime in RUNTIMES}
    from_environment = runtime_endpoint.rstrip("/") in named
    return None if from_environment and endpoint_in_environment(service) else runtime_endpoint


def endpoint_in_environment(service: str) -> str | None:
    """The endpoint that boto3's environment variables name for a service."""
    name = "AWS_ENDPOINT_URL_" + service.replace("-", "_").upper()
    return os.environ.get(name) or os.environ.get("AWS_ENDPOINT_URL")


def control_plane_identity(runtime_endpoint: str | None) -> str | None:
    """The control plane's endpoint wherever it is stated; None for AWS's own."""
    return control_plane_endpoint("bedrock", runtime_endpoint) or endpoint_in_environment("bedrock")


def endpoint_of(client: Any) -> str | None:
    """The endpoint of a boto3 client."""
    endpoint = getattr(getattr(client, "meta", None), "endpoint_url", None)
    return endpoint if isinstance(endpoint, str) else None


@functools.lru_cache(maxsize=64)
def is_aws(endpoint: str) -> bool:
    """Whether an endpoint is AWS's own, where each service has a host for itself."""
    return (urlsplit(endpoint).hostname or "").endswith(_AWS_DOMAINS)
