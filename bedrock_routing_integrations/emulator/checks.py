"""What the emulator's own arguments may be."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["check_account_id", "check_clock", "check_quota", "check_region", "check_time_scale"]

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
