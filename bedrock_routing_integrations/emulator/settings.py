"""Define the environment variables that point AWS SDKs at an emulator, and check the emulator's arguments."""

from __future__ import annotations

import math
import os
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

CONFLICTING = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK", "AWS_DEFAULT_PROFILE")
"""Variables to unset: boto3 would look for a profile that may not exist, or use other credentials."""

_SERVICES = ("BEDROCK", "BEDROCK_RUNTIME", "BEDROCK_AGENT", "BEDROCK_AGENT_RUNTIME")


def variables(endpoint_url: str, region: str) -> dict[str, str]:
    """Return the environment variables to set, with placeholder credentials.

    Args:
        endpoint_url: The URL of the emulator.
        region: The Region to call.

    Returns:
        Variable name → value. NO_PROXY and no_proxy extend the values of this process.
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
    """Return this process's list of hosts reached without a proxy, extended by `host`.

    SDKs read `no_proxy` before `NO_PROXY`.
    """
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = [each.strip() for each in known.split(",") if each.strip()]
    # "*" means every host only as the sole entry.
    return known if hosts == ["*"] or host in hosts else ",".join([*hosts, host])


# --- Checks of the emulator's arguments ---

_REGION = re.compile(r"[a-z]{2,8}(?:-[a-z]+)+-\d{1,2}")
_ACCOUNT = re.compile(r"\d{12}", re.ASCII)


def check_region(region: str) -> str:
    """Return `region`, checked for the form of an AWS Region's name. Unknown Regions are accepted.

    Raises:
        ValueError: `region` has another form.
    """
    if not _REGION.fullmatch(region):
        raise ValueError(f"region is the name of an AWS Region, such as us-east-1, not {region!r}")
    return region


def check_account_id(account_id: str) -> str:
    """Return `account_id`, checked for the form of an AWS account number.

    Raises:
        ValueError: `account_id` is not a string of 12 digits.
    """
    if not (isinstance(account_id, str) and _ACCOUNT.fullmatch(account_id)):
        raise ValueError(f"account_id is a string of 12 digits, such as '123456789012', not {account_id!r}")
    return account_id


def check_time_scale(time_scale: float) -> float:
    """Return `time_scale` (real seconds for each simulated second), checked.

    Raises:
        ValueError: `time_scale` is negative or not finite.
    """
    if not (time_scale >= 0 and math.isfinite(time_scale)):
        raise ValueError(f"time_scale is 0 (never wait) or a number of seconds above it, not {time_scale!r}")
    return time_scale


def check_quota(optimized_quota: int | None) -> int | None:
    """Return `optimized_quota` (a number of requests, or None for no limit), checked.

    Raises:
        ValueError: `optimized_quota` is negative.
    """
    if optimized_quota is not None and optimized_quota < 0:
        raise ValueError(f"optimized_quota is None (no limit) or a number of requests from 0, not {optimized_quota!r}")
    return optimized_quota


def check_clock(clock: Callable[[], float]) -> Callable[[], float]:
    """Return `clock` (a function without parameters that returns seconds), checked.

    Raises:
        ValueError: `clock` is not callable.
    """
    if not callable(clock):
        raise ValueError(f"clock is a function that returns seconds, such as time.monotonic, not {clock!r}")  # noqa: TRY004 - as the others
    return clock
