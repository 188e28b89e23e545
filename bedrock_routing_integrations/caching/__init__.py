"""Prompt caching.

Text follows.
"""

from .explanation import CachePlan, PlannedPoint, explain
from .planner import PlannedRequest, Planner, plan_cache_points
from .policy import CachePolicy, policy_of
from .prefix_store import PrefixMemory, shared_memory
from .reuse_statistics import saved_tokens
from .rules import place_points, takes_system_point

__all__ = [
    "CachePlan", "CachePolicy", "PlannedPoint", "PlannedRequest", "Planner", "PrefixMemory", "explain", "place_points",
    "plan_cache_points", "policy_of", "saved_tokens", "shared_memory", "takes_system_point",
]  # fmt: skip
