"""cachePoints in a Converse request: which pay, where Bedrock takes them, and what became of those before."""

from .explanation import CachePlan, explain, plan_cache_points, shared_memory
from .planner import Draft, PlannedPoint, Planner
from .policy import CachePolicy, policy_of
from .prefix_store import PrefixMemory
from .reuse_statistics import saved_tokens
from .rules import place_points, takes_system_point

__all__ = [
    "CachePlan", "CachePolicy", "Draft", "PlannedPoint", "Planner", "PrefixMemory", "explain", "place_points",
    "plan_cache_points", "policy_of", "saved_tokens", "shared_memory", "takes_system_point",
]  # fmt: skip
