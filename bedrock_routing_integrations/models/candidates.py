"""What is known of a target, and what its id says of it by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from bedrock_routing_integrations.errors import InvalidTargetError
from bedrock_routing_integrations.targets import PROVIDERS, Target, TargetKind, parse_target

from .advice import warn_about_unknown_id
from .families import base_model_id, common_facts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .facts import ModelFacts


@dataclass(frozen=True)
class CandidateModel:
    """One model that can answer for a target.

    Attributes:
        model_id: The id or ARN as the target lists it: a model, or a profile in front of one.
        base_model: The foundation model behind it; None where it could not be found out.
        source: Where that was learned: ``"id"``, ``"base_models"``, an API such as ``"GetPromptRouter"``, or
            ``"trace"``.
        is_global: Whether it stands for any Region of the world, which has prices of its own, and its id does not say
            so: a model ARN without a Region, which only global profiles list, or an application profile of such.
    """

    model_id: str
    base_model: str | None
    source: str
    is_global: bool = False


@dataclass(frozen=True)
class ResolvedTarget:
    """What is known of a target.

    Attributes:
        target: The target.
        candidates: The models that can answer, in the order in which the target lists them.
        fallback: The router's fallback model, as a base model id; None where there is none or it is not known.
        complete: Whether all that the control plane could tell is here.
        refused: Why a look-up failed, where it did.
    """

    target: Target
    candidates: tuple[CandidateModel, ...] = ()
    fallback: str | None = None
    complete: bool = True
    refused: str | None = None

    @cached_property
    def base_models(self) -> tuple[str, ...]:
        """The distinct base models that can answer."""
        return tuple(dict.fromkeys(c.base_model for c in self.candidates if c.base_model))

    @property
    def only_model(self) -> str | None:
        """The base model that answers whatever is asked; None where Bedrock chooses or nothing is known."""
        models = self.base_models
        return models[0] if len(models) == 1 and self.complete and not self.target.kind.is_router else None

    @property
    def is_stated(self) -> bool:
        """Whether the id itself or the caller says which models can answer, so that nobody was asked."""
        return self.complete and all(candidate.source in ("id", "base_models") for candidate in self.candidates)

    @cached_property
    def facts(self) -> ModelFacts:
        """What every candidate allows; where none is known, what the provider that the id names allows."""
        models = self.base_models
        if models:
            return common_facts(models)
        provider = self.target.resource_id.partition(".")[0]
        return replace(common_facts(()), provider=provider if provider in PROVIDERS else "")

    def base_model_of(self, model_id: str) -> str | None:
        """The base model behind an id or ARN that a trace gave."""
        for candidate in self.candidates:
            if candidate.model_id == model_id:
                return candidate.base_model
        return base_model_of_id(model_id)


def base_model_of_id(model_id: str) -> str | None:
    """The foundation model that an id or ARN names by itself; None for opaque ones and for what is no target."""
    try:
        target = parse_target(model_id)
    except InvalidTargetError:
        return None
    return base_model_named(target)


def base_model_named(target: Target) -> str | None:
    """The foundation model that a target names by itself."""
    if target.kind in (TargetKind.FOUNDATION_MODEL, TargetKind.SYSTEM_INFERENCE_PROFILE):
        return base_model_id(target.resource_id)
    return None


def candidates_in_arn(target: Target) -> tuple[CandidateModel, ...]:
    """What a custom model's ARN says of its base: custom-model/BASE/ID, often without the base's version."""
    base = base_model_id(target.resource_id.rpartition("/")[0]) if target.kind is TargetKind.CUSTOM_MODEL else None
    return (CandidateModel(target.model_id, base, "id"),) if base else ()


@lru_cache(maxsize=4096)
def resolve_by_id(target: Target) -> ResolvedTarget | None:
    """The answer where the id gives it, or where there is nobody to ask."""
    base = base_model_named(target)
    if base is not None:
        is_global = target.kind is TargetKind.FOUNDATION_MODEL and target.partition is not None and not target.region
        return ResolvedTarget(target, (CandidateModel(target.model_id, base, "id", is_global),))
    if target.kind in (TargetKind.FOUNDATION_MODEL, TargetKind.IMPORTED_MODEL, TargetKind.SAGEMAKER_ENDPOINT):
        # Imported models and endpoints are their own models; Bedrock knows no base model for them.
        return ResolvedTarget(target)
    return None


def from_base_models(target: Target, base_models: Iterable[str]) -> ResolvedTarget:
    """What the caller says, in place of a look-up. With a router the last one is not taken for the fallback."""
    candidates = []
    for model in base_models:
        named = parse_target(model)
        base = base_model_named(named)
        warn_about_unknown_id(named)
        if base is None:
            raise InvalidTargetError(f"base_models must name foundation models, and {model!r} is none.")
        candidates.append(CandidateModel(model, base, "base_models"))
    return ResolvedTarget(target, tuple(candidates))
