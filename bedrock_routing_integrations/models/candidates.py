"""The candidate models of a target, as far as its id names them."""

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
    """A base model that a target can route to.

    Attributes:
        model_id: The id or ARN as the target lists it: a model, or a profile in front of one.
        base_model: The id of the foundation model; None if it is not known.
        source: Its source: ``"id"``, ``"base_models"``, an operation such as ``"GetPromptRouter"``, or ``"trace"``.
        is_global: Whether it is called in any Region, which has its own prices, though its id lacks ``global``: a model
            ARN without a Region, which only global profiles list, or an application profile of such a profile.
    """

    model_id: str
    base_model: str | None
    source: str
    is_global: bool = False


@dataclass(frozen=True)
class ResolvedTarget:
    """A target with its candidate models.

    Attributes:
        target: The target.
        candidates: The candidate models, in the target's order.
        fallback: The base model id of the router's fallback model; None if there is none or it is not known.
        complete: Whether all candidate models are known.
        refused: Why a look-up failed, such as ``"GetPromptRouter: AccessDeniedException"``; None if none failed.
    """

    target: Target
    candidates: tuple[CandidateModel, ...] = ()
    fallback: str | None = None
    complete: bool = True
    refused: str | None = None

    @cached_property
    def base_models(self) -> tuple[str, ...]:
        """The distinct base models of the candidates."""
        return tuple(dict.fromkeys(c.base_model for c in self.candidates if c.base_model))

    @property
    def only_model(self) -> str | None:
        """The base model that answers every call; None if Bedrock chooses or the model is not known."""
        models = self.base_models
        return models[0] if len(models) == 1 and self.complete and not self.target.kind.is_router else None

    @property
    def is_stated(self) -> bool:
        """Whether the candidates come from the id or the caller's `base_models`, without a look-up."""
        return self.complete and all(candidate.source in ("id", "base_models") for candidate in self.candidates)

    @cached_property
    def facts(self) -> ModelFacts:
        """The limits that all candidates share; without candidates, cautious defaults of the provider in the id."""
        models = self.base_models
        if models:
            return common_facts(models)
        provider = self.target.resource_id.partition(".")[0]
        return replace(common_facts(()), provider=provider if provider in PROVIDERS else "")

    def base_model_of(self, model_id: str) -> str | None:
        """Return the base model of an id or ARN in a trace; None if it is not known."""
        for candidate in self.candidates:
            if candidate.model_id == model_id:
                return candidate.base_model
        return base_model_of_id(model_id)


def base_model_of_id(model_id: str) -> str | None:
    """Return the foundation model that an id or ARN names; None if it is opaque or not a valid target."""
    try:
        target = parse_target(model_id)
    except InvalidTargetError:
        return None
    return base_model_named(target)


def base_model_named(target: Target) -> str | None:
    """Return the foundation model that a target's id names; None if it names none."""
    if target.kind in (TargetKind.FOUNDATION_MODEL, TargetKind.SYSTEM_INFERENCE_PROFILE):
        return base_model_id(target.resource_id)
    return None


def candidates_in_arn(target: Target) -> tuple[CandidateModel, ...]:
    """Return the base model in a custom model's ARN: custom-model/BASE/ID, often without the base's version."""
    base = base_model_id(target.resource_id.rpartition("/")[0]) if target.kind is TargetKind.CUSTOM_MODEL else None
    return (CandidateModel(target.model_id, base, "id"),) if base else ()


@lru_cache(maxsize=4096)
def resolve_by_id(target: Target) -> ResolvedTarget | None:
    """Return a target with the model that its id names, or without one if no look-up exists; else None."""
    base = base_model_named(target)
    if base is not None:
        is_global = target.kind is TargetKind.FOUNDATION_MODEL and target.partition is not None and not target.region
        return ResolvedTarget(target, (CandidateModel(target.model_id, base, "id", is_global),))
    if target.kind in (TargetKind.FOUNDATION_MODEL, TargetKind.IMPORTED_MODEL, TargetKind.SAGEMAKER_ENDPOINT):
        # Imported models and endpoints have no base model.
        return ResolvedTarget(target)
    return None


def from_base_models(target: Target, base_models: Iterable[str]) -> ResolvedTarget:
    """Return a target with the candidates that the caller passed, instead of a look-up. Names no fallback.

    Args:
        target: The target.
        base_models: Ids of foundation models or system inference profiles.

    Raises:
        InvalidTargetError: An id does not name a foundation model.
    """
    candidates = []
    for model in base_models:
        named = parse_target(model)
        base = base_model_named(named)
        warn_about_unknown_id(named)
        if base is None:
            raise InvalidTargetError(
                f"base_models=[{model!r}] is not valid: it names no foundation model. Pass ids of foundation models "
                "or system inference profiles."
            )
        candidates.append(CandidateModel(model, base, "base_models"))
    return ResolvedTarget(target, tuple(candidates))
