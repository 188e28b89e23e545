"""The environment variables that point AWS SDKs at an emulator, whatever the user's environment says besides."""

from __future__ import annotations

import math
import os
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

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


# --- What the emulator's own arguments may be. ---

_REGION = re.compile(r"[a-z]{2,8}(?:-[a-z]+)+-\d{1,2}")
_ACCOUNT = re.compile(r"\d{12}", re.ASCII)


def check_region(region: str) -> str:
    """A Region's name, in the form that AWS gives them; new ones are taken."""
    if not _REGION.fullmatch(region):
        raise ValueError(f"region is the name of an AWS Region, such as us-east-1, not {region!r}")
    return region


def check_account_id(account_id: str) -> str:
    """An account's number."""
    if not (isinstance(account_id, str) and _ACCOUNT.fullmatch(account_id)):
        raise ValueError(f"account_id is a string of 12 digits, such as '123456789012', not {account_id!r}")
    return account_id


def check_time_scale(time_scale: float) -> float:
    """Real seconds for each simulated one."""
    if not (time_scale >= 0 and math.isfinite(time_scale)):
        raise ValueError(f"time_scale is 0 (never wait) or a number of seconds above it, not {time_scale!r}")
    return time_scale


def check_quota(optimized_quota: int | None) -> int | None:
    """A number of requests, or None."""
    if optimized_quota is not None and optimized_quota < 0:
        raise ValueError(f"optimized_quota is None (no limit) or a number of requests from 0, not {optimized_quota!r}")
    return optimized_quota


def check_clock(clock: Callable[[], float]) -> Callable[[], float]:
    """A function from nothing to seconds."""
    if not callable(clock):
        raise ValueError(f"clock is a function that returns seconds, such as time.monotonic, not {clock!r}")  # noqa: TRY004 - as the others
    return clock
