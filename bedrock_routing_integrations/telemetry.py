"""Import `Telemetry` from here or from ``observability``: this path stays for code written before the move."""

from __future__ import annotations

from bedrock_routing_integrations.observability import Telemetry

__all__ = ["Telemetry"]
