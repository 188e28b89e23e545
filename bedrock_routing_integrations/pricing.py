"""Import `Prices` from here or from ``costs``: this path stays for code written before the move."""

from __future__ import annotations

from bedrock_routing_integrations.costs import Prices

__all__ = ["Prices"]
