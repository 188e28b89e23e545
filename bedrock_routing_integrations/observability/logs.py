"""Log one DEBUG line for each Converse call: ``answered``, ``failed`` or ``given up``.

Prompts and answers are not logged, nor are AWS's error messages, which may quote the prompt.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.errors import error_kind
from bedrock_routing_integrations.runtime import logger

from .call_events import AttemptMade, CallAnswered, CallFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .call_events import CallAbandoned, CallStarted


class LogObserver:
    """Log each call, if the package's logger is enabled for DEBUG when the call starts."""

    def is_active(self) -> bool:
        """Return whether DEBUG lines are logged."""
        return logger.isEnabledFor(logging.DEBUG)

    def observe(self, started: CallStarted) -> CallLog | None:
        """Return the listener for a call; None if it has no model.

        Args:
            started: The call.
        """
        return None if started.resolved is None else CallLog(started.resolved.target.model_id)


class CallLog:
    """Log how one call ends, as ``name=value`` pairs. The record's ``routing`` attribute has the same as a dictionary.

    Args:
        requested_model_id: The target's id or ARN.
    """

    def __init__(self, requested_model_id: str) -> None:
        self._requested_model_id = requested_model_id

    def before_send(self) -> None:
        """Do nothing."""

    def after_send(self) -> None:
        """Do nothing."""

    def handle(self, event: AttemptMade | CallAnswered | CallFailed | CallAbandoned) -> None:
        """Log the end of the call.

        Args:
            event: An event of the call.
        """
        if isinstance(event, CallAnswered):
            if event.routing is not None:
                _log_answer(event.routing)
        elif not isinstance(event, AttemptMade):
            kind = error_kind(event.error) if isinstance(event, CallFailed) else None
            names = {"error": kind, "request_id": event.request_id}
            pairs = _pairs({"requested": self._requested_model_id, **names})
            routing = {"requested_model_id": self._requested_model_id, **names}
            logger.debug("%s %s", "failed" if kind else "given up", pairs, extra={"routing": routing})


def _log_answer(routing: Mapping[str, Any]) -> None:
    latency, tier = routing["latency"], routing["service_tier"]
    values = {
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
    logger.debug("answered %s", _pairs(values), extra={"routing": routing})


def _pairs(values: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in values.items() if value is not None)
