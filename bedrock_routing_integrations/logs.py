"""The package's logger, and warnings that are given once.

Nothing of a prompt, an answer or a secret is logged above DEBUG, and secrets are logged nowhere.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from .errors import aws_error, error_kind

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

logger = logging.getLogger("bedrock_routing_integrations")

_MOST_REMEMBERED = 10_000
_given: dict[Hashable, object] = {}


def log_call(routing: Mapping[str, Any]) -> None:
    """One DEBUG line for a call that was answered: ``name=value`` pairs, and all of it as the record's ``routing``.

    Args:
        routing: The call's ``"routing"`` entry.
    """
    if not logger.isEnabledFor(logging.DEBUG):
        return
    latency, tier = routing["latency"], routing["service_tier"]
    said = {
        "requested": routing["requested_model_id"],
        "invoked": routing["invoked_model_id"] or routing["invoked_model"],
        "fallback": routing["is_fallback"],
        "latency_requested": latency["requested"],
        "latency_served": latency["served"],
        "tier_requested": tier["requested"],
        "tier_served": tier["served"],
        **(routing["usage"] or {}),
        "cache_points": len(routing["cache_points"]),
        **{name: routing[name] for name in ("cost_usd", "latency_ms", "time_to_first_token_ms", "attempts")},
        "request_id": routing["request_id"],
    }
    logger.debug("answered %s", _pairs(said), extra={"routing": routing})


def log_unanswered(requested_model_id: str, error: BaseException | None, request_id: str | None = None) -> None:
    """The same for a call that failed, or whose stream was given up: what was called, the error's kind, AWS's id.

    No message of AWS's, as it may quote the prompt. A stream that nobody reads and nobody closes logs nothing.

    Args:
        requested_model_id: What was called.
        error: Why there is no answer; what is no `Exception`, or None, means that it was given up.
        request_id: AWS's id of the request, where the error does not say it.
    """
    if not logger.isEnabledFor(logging.DEBUG):
        return
    said = {
        "requested_model_id": requested_model_id,
        "error": error_kind(error) if isinstance(error, Exception) else None,
        "request_id": aws_error(error).metadata.get("RequestId") or request_id,
    }
    pairs = _pairs({"requested": requested_model_id, "error": said["error"], "request_id": said["request_id"]})
    logger.debug("%s %s", "failed" if said["error"] else "given up", pairs, extra={"routing": said})


def _pairs(said: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in said.items() if value is not None)


def warn_once(subject: Hashable, message: str) -> None:
    """Log a WARNING that the user can act on; the second one on the same subject is not given.

    Args:
        subject: What the warning is about, such as ``("denied", target)``.
        message: What is wrong and what to do about it.
    """
    if len(_given) > _MOST_REMEMBERED:
        _given.clear()
    mine = object()
    if _given.setdefault(subject, mine) is mine:  # one step, so that of many threads one warns
        logger.warning("%s", message)


def forget_warnings() -> None:
    """Give every warning again; for tests."""
    _given.clear()
