"""The candidate models of a target, as far as its id names them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from bedrock_routing_integrations.errors import InvalidTargetError
from bedrock_routing_integrations.model_ids import CHECKED, GEOGRAPHIES, MODEL_IDS, did_you_mean, is_misspelled
from bedrock_routing_integrations.runtime import warn_once
from bedrock_routing_integrations.targets import PROVIDERS, Target, TargetKind, parse_target, split_geography

from .families import base_model_id, common_facts, is_chat, model_facts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .facts import ModelFacts


# --- Advice about model ids that cannot be called: misspelled, unlisted, or without on-demand throughput ---

# Start of a Region → the geographies whose profiles can be called there, the most particular first. AWS's list of
# inference profiles, 2026-11.
_SERVED_BY: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("us-", ("us",)),
    ("eu-", ("eu",)),
    ("ap-northeast-1", ("jp", "apac")),
    ("ap-northeast-3", ("jp", "apac")),
    ("ap-southeast-2", ("au", "apac")),
    ("ap-southeast-4", ("au", "apac")),
    ("ap-southeast-6", ("au", "apac")),
    ("ap-south-", ("in", "apac")),
    ("ap-", ("apac",)),
    ("ca-", ("ca", "us")),
    ("sa-", ("sa", "us")),
)
# Every Region of the standard partition can call "global" profiles besides. What these can call is not known.
_OTHER_PARTITIONS = ("cn-", "us-iso", "eu-iso", "eusc-")
_NEW_COUNTRY = re.compile(r"[a-z]{2}(-[a-z]+)?")


@lru_cache(maxsize=4096)
def unknown_id_advice(target: Target) -> str | None:
    """Return a warning for a target whose model id is not a listed one; None if it is, or if it may be right.

    Ids that no family of the catalog covers get a warning with the nearest id that can be called. So do misspelled ids.
    An id of an unknown brand that resembles no listed id gets none.
    """
    if target.kind not in (TargetKind.FOUNDATION_MODEL, TargetKind.SYSTEM_INFERENCE_PROFILE):
        return None
    text = target.resource_id
    model = base_model_id(text)
    if not is_chat(text.lower()):
        return None
    if model is None:
        meant = did_you_mean(text)
        return f"{text} is not a known model id; {meant}?" if meant else None
    facts = model_facts(model)
    slip = is_misspelled(model) or _is_misspelled_geography(split_geography(text)[0])
    if facts.known and not slip:
        return None
    meant = did_you_mean(text)
    if facts.known or not facts.family:
        return f"{text} is not a known model id; {meant}?" if meant else None
    return (
        f"{text} is not a known model id (list of {CHECKED}){f'; {meant}?' if meant else '.'} If it is a new model, it "
        f"can be used; a context window of {facts.context_window:,} tokens is assumed, the smallest of its brand."
    )


def warn_about_unknown_id(target: Target) -> None:
    """Warn once about a target whose model id is not a known one."""
    advice = unknown_id_advice(target)
    if advice is not None:
        warn_once(("unknown id", target.resource_id), advice)


def _is_misspelled_geography(geography: str | None) -> bool:
    return geography is not None and geography not in GEOGRAPHIES and not _NEW_COUNTRY.fullmatch(geography)


def on_demand_advice(model_id: str, region: str | None) -> str | None:
    """Return which inference profile to call in place of a model that is not offered with on-demand throughput.

    For Bedrock's refusal "Invocation of model ID … with on-demand throughput isn't supported".

    Args:
        model_id: The id or ARN that was called.
        region: The Region of the client; None if it is not known.

    Returns:
        Advice that names the profile's id, or None if `model_id` does not name a foundation model.
    """
    try:
        target = parse_target(model_id)
    except InvalidTargetError:
        return None
    model = base_model_id(target.resource_id) if target.kind is TargetKind.FOUNDATION_MODEL else None
    if model is None:
        return None
    served = _geographies_of(target.region or region)
    offer = MODEL_IDS.get(model)
    listed = offer.geographies if offer else ()
    usable = [f"'{geography}.{model}'" for geography in served if geography in listed or not listed]
    if usable:
        article = "the inference profile" if listed else "an inference profile such as"
        return f"Use {article} {' or '.join(usable)}; its geography must be the client's."
    profiles = ", ".join(f"'{geography}.{model}'" for geography in listed or ("us", "eu", "apac", "global"))
    if served and listed:
        return f"No inference profile of {model} is listed for {target.region or region}; elsewhere: {profiles}."
    return f"Use an inference profile of the client's geography, of {profiles}."


def _geographies_of(region: str | None) -> tuple[str, ...]:
    """Return the geographies whose profiles can be called in a Region; none if that is not known."""
    if not region:
        return ()
    if region.startswith("us-gov-"):
        return ("us-gov",)
    if region.startswith(_OTHER_PARTITIONS):
        return ()
    return (*next((names for start, names in _SERVED_BY if region.startswith(start)), ()), "global")


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
