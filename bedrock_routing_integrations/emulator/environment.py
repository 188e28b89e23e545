"""The environment variables that point AWS SDKs at an emulator, whatever the user's environment says besides."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

__all__ = ["CONFLICTING", "variables"]

CONFLICTING = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK", "AWS_DEFAULT_PROFILE")
"""Variables to unset: with them boto3 looks for a profile that may not exist, or signs in another way."""

_SERVICES = ("BEDROCK", "BEDROCK_RUNTIME", "BEDROCK_AGENT", "BEDROCK_AGENT_RUNTIME")


def variables(endpoint_url: str, region: str) -> dict[str, str]:
    """The variables to set, with credentials that mean nothing.

    Args:
        endpoint_url: Where the emulator is.
        region: The Region to call.

    Returns:
        Name → value. NO_PROXY and no_proxy continue what they are in this process.
    """
    host = urlsplit(endpoint_url).hostname or ""
    past_proxies = _with_host(f"[{host}]" if ":" in host else host)
    return {
        **{f"AWS_ENDPOINT_URL_{name}": endpoint_url for name in _SERVICES},
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "false",
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_ACCESS_KEY_ID": "emulated",
        "AWS_SECRET_ACCESS_KEY": "emulated",
        "NO_PROXY": past_proxies,
        "no_proxy": past_proxies,
    }


def _with_host(host: str) -> str:
    """The hosts that are reached without a proxy, and `host`. Of the two variables SDKs read `no_proxy` first."""
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = [each.strip() for each in known.split(",") if each.strip()]
    # "*" stands for every host only while it is alone.
    return known if hosts == ["*"] or host in hosts else ",".join([*hosts, host])
