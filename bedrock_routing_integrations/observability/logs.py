"""One DEBUG line for each call.

Nothing of a prompt, an answer or a secret is logged above DEBUG, and secrets are logged nowhere.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.errors import aws_error, error_kind
from bedrock_routing_integrations.runtime import logger

if TYPE_CHECKING:
    from collections.abc import Mapping


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
