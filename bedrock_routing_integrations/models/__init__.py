"""Find the candidate models of a target, and what all of them allow: `Target` → `ResolvedTarget` → `ModelFacts`.

A request must be valid for every model that may answer it. This folder finds these models and intersects their limits:

- `families`: the dated table of model families, and the lookup of a model id in it.
- `facts`: the record of one family, and the combination of several.
- `candidates`: the candidate models of a target, as far as its id names them.
- `look_ups`: the control plane's Get calls for routers, profiles and prompts, made once and remembered (`Resolver`).
- `advice`: warnings about model ids that cannot be called as they are.

The ids themselves, as Bedrock lists them, are in `model_ids` above this folder: `targets` needs them, too.
"""

from __future__ import annotations

from .candidates import (
    CandidateModel,
    ResolvedTarget,
    base_model_of_id,
    from_base_models,
    on_demand_advice,
    resolve_by_id,
    unknown_id_advice,
)
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
