"""Sums of many calls: what they cost, what routing and caching saved, what was served, and how that is shown."""

from .report import RoutingReport
from .timeline import DAY

__all__ = ["DAY", "RoutingReport"]
