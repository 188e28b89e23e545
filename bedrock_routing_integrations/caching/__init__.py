"""cachePoints in a Converse request: which pay, where Bedrock takes them, and what became of those before."""

from .draft import Draft, PlannedPoint
from .learning import saved_tokens
from .memory import PrefixMemory
from .plan import CachePlan, explain, plan_cache_points, shared_memory
from .planner import Planner
from .points import place_points
from .policy import CachePolicy, policy_of
from .rules import takes_system_point

__all__ = [
    "CachePlan", "CachePolicy", "Draft", "PlannedPoint", "Planner", "PrefixMemory", "explain", "place_points",
    "plan_cache_points", "policy_of", "saved_tokens", "shared_memory", "takes_system_point",
]  # fmt: skip
