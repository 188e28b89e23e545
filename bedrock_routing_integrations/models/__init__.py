"""Which base models can answer for a target: `Target` → `ResolvedTarget`.

`candidates` knows what an id says by itself, `look_up` asks the control plane, `resolver` asks once and remembers.
`advice` is for ids that cannot be called as they are.
"""

from __future__ import annotations

from .advice import on_demand_advice, unknown_id_advice
from .candidates import CandidateModel, ResolvedTarget, base_model_of_id, from_base_models, resolve_by_id
from .look_ups import KEEP_FAILED_SECONDS, KEEP_REFUSED_SECONDS, KEEP_SECONDS, ControlPlane, Resolver

__all__ = [
    "KEEP_FAILED_SECONDS",
    "KEEP_REFUSED_SECONDS",
    "KEEP_SECONDS",
    "CandidateModel",
    "ControlPlane",
    "ResolvedTarget",
    "Resolver",
    "base_model_of_id",
    "from_base_models",
    "on_demand_advice",
    "resolve_by_id",
    "unknown_id_advice",
]
