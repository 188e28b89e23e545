"""From a `modelId` of Converse to what runs the request: a model, a router, or a managed prompt."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.emulator.wire.service_model import ServiceError, not_found, validation

from .models import MODELS
from .store import (
    ApplicationProfile,
    Arn,
    CustomModel,
    Deployment,
    ImportedModel,
    ManagedPrompt,
    PromptRouter,
    ProvisionedModel,
    SageMakerEndpoint,
    Store,
    default_router,
    foundation_model_arn,
    read_arn,
    system_profile,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .models import EmulatedModel
    from .store import PromptVersion

_HOSTED = {
    "provisioned-model": ProvisionedModel,
    "custom-model-deployment": Deployment,
    "custom-model": CustomModel,
    "imported-model": ImportedModel,
}


@dataclass(frozen=True)
class Place:
    """Where a request came in: the Region of its signature, and the emulated account."""

    region: str
    account: str


@dataclass(frozen=True)
class Backend:
    """A model, reached in a certain way.

    Attributes:
        model: The model that answers.
        arn: The foundation-model or inference-profile ARN that a router's trace gives for it.
        profile: True when reached through an inference profile.
        on_demand: True when called by its own id or ARN, which newer models refuse.
        target: The id or ARN as the caller (or the router) gave it.
    """

    model: EmulatedModel
    arn: str
    profile: bool
    on_demand: bool
    target: str

    def check(self) -> None:
        """Refuse what the model does not serve.

        Raises:
            ServiceError: At its end of life, or on demand where it is offered through profiles only.
        """
        if self.model.end_of_life:
            raise not_found(
                "This model version has reached the end of its life. "
                "Please refer to the AWS documentation for more details."
            )
        if self.on_demand and not self.model.on_demand:
            raise validation(
                f"Invocation of model ID {self.target} with on-demand throughput isn't supported. "
                "Retry your request with the ID or ARN of an inference profile that contains this model."
            )


def _invalid() -> ServiceError:
    return validation("The provided model identifier is invalid.")


class Directory:
    """Looks targets up among what the service offers and what the account holds."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def router(self, target: str, place: Place) -> PromptRouter:
        """The default or custom router of that ARN.

        Raises:
            ServiceError: ResourceNotFoundException.
        """
        arn = read_arn(target)
        found: PromptRouter | None = None
        if arn is not None and arn.kind == "default-prompt-router":
            found = default_router(arn.resource, arn.region or place.region, arn.account or place.account)
        elif arn is not None and arn.kind == "prompt-router":
            found = self._store.get(PromptRouter, target)
        if found is None:
            raise not_found(f"Could not find the prompt router {target}.")
        return found

    def prompt(self, target: str) -> PromptVersion:
        """The version of a managed prompt that an ARN names; without version, the draft.

        Raises:
            ServiceError: ResourceNotFoundException.
        """
        arn = read_arn(target)
        _, _, version = (arn.resource if arn else target).partition(":")
        prompt = self._store.get(ManagedPrompt, target.removesuffix(f":{version}"))
        found = prompt.versions.get(version or "DRAFT") if prompt is not None else None
        if found is None:
            raise not_found(f"Could not find the prompt {target}.")
        return found

    def backend(self, target: str, place: Place) -> Backend:
        """The model behind anything but a router or a prompt.

        Raises:
            ServiceError: ValidationException for an id that the service does not know,
                ResourceNotFoundException for an ARN of something that does not exist.
        """
        arn = read_arn(target)
        if arn is None:
            return self._by_id(target, place)
        if arn.service == "sagemaker":
            return self._hosted(SageMakerEndpoint, target, place)
        if arn.kind == "foundation-model":
            return self._foundation(arn.resource, arn.region, target)
        if arn.kind == "inference-profile":
            return self._profile(arn, target, place)
        if arn.kind == "application-inference-profile":
            return self._application(target, place)
        if arn.kind in _HOSTED:
            return self._hosted(_HOSTED[arn.kind], target, place)
        raise _invalid()

    def _by_id(self, target: str, place: Place) -> Backend:
        if target in MODELS:
            return self._foundation(target, place.region, target)
        profile = system_profile(target, place.region, place.account)
        if profile is not None:
            return Backend(profile.model, profile.arn, profile=True, on_demand=False, target=target)
        if self._store.get(ApplicationProfile, target) is not None:
            return self._application(target, place)
        if self._store.get(ProvisionedModel, target) is not None:
            return self._hosted(ProvisionedModel, target, place)
        raise _invalid()

    def _foundation(self, model_id: str, region: str, target: str) -> Backend:
        model = MODELS.get(model_id)
        if model is None:
            raise _invalid()
        arn = foundation_model_arn(model_id, region)
        return Backend(model, arn, profile=False, on_demand=True, target=target)

    def _profile(self, arn: Arn, target: str, place: Place) -> Backend:
        profile = system_profile(arn.resource, arn.region or place.region, arn.account or place.account)
        if profile is None:
            raise _invalid()
        return Backend(profile.model, profile.arn, profile=True, on_demand=False, target=target)

    def _application(self, target: str, place: Place) -> Backend:
        profile = self._store.get(ApplicationProfile, target)
        if profile is None:
            raise not_found(f"Could not find the inference profile {target}.")
        return self.backend(profile.copy_from, place)

    def _hosted(
        self,
        kind: type[ProvisionedModel | Deployment | CustomModel | ImportedModel | SageMakerEndpoint],
        target: str,
        place: Place,
    ) -> Backend:
        found = self._store.get(kind, target)
        if found is None:
            raise not_found(f"Could not find {target}.")
        model = MODELS[found.base_model_id]
        arn = foundation_model_arn(found.base_model_id, found.region or place.region)
        return Backend(model, arn, profile=False, on_demand=False, target=target)


# --- Which of a router's two models answers: a stated, deterministic estimate in place of a learned one. ---

_SLOPE = 2.0
_BASE = 0.15
_LONG_PROMPT_WORDS = 400
_TURNS = 12
_READ_CHARS = 4_000  # enough to judge by; the patterns are not linear in the length

# What each sign adds to the difficulty; a sign counts once.
_SIGNALS: tuple[tuple[float, re.Pattern[str]], ...] = tuple(
    (weight, re.compile(pattern, re.IGNORECASE))
    for weight, pattern in (
        # Quantities: counting and working out.
        (0.35, r"\bhow (?:many|much|long|far|old|often)\b|\bcalculate\b|\bprobabilit|\bsolve\b"),
        (
            0.15,
            r"(?:(?<!\w)(?:\d[\d.,]*|(?-i:[NMXYK]))(?!\w)[\s\S]*){2}",
        ),  # two numbers, or letters standing for them
        # Reasoning: causes, comparisons, proofs, several steps.
        (
            0.35,
            r"\b(?:prove|derive|deduce|step[- ]by[- ]step|explain why|justify|trade-?offs?)\b",
        ),
        (
            0.25,
            r"\bwhy\b|\bcompare\b|\banaly[sz]e\b|\bevaluate\b|\boptimi[sz]e\b|\bdesign\b|\bstrategy\b|\bimplications?\b",
        ),
        # Relations between things that have to be kept apart.
        (
            0.20,
            r"\b(?:brothers?|sisters?|older|younger|taller|shorter|faster|slower|twice|than|respectively|also)\b",
        ),
        (0.10, r"\bif\b[\s\S]+\b(?:then|what|how|would|will)\b"),
        # Code to read or to write.
        (
            0.30,
            r"```|\bdef \w+\(|\bclass \w+[:({]|(?-i:\bSELECT\b.+\bFROM\b)|\b(?:implement|debug|refactor)\b",
        ),
        # Asking for little.
        (-0.20, r"\bin (?:one|a single|1) (?:line|word|sentence)\b|\bbriefly\b|\byes or no\b|\bin short\b"),
        (
            -0.10,
            r"^\s*(?:hi|hello|hey|thanks|thank you)\b|^\s*(?:what is|who is|define|translate|repeat|say)\b",
        ),
    )
)


def prompt_text(request: Mapping[str, Any]) -> str:
    """The text of the last user message."""
    for message in reversed(request.get("messages") or ()):
        if message["role"] == "user":
            return "\n".join(block["text"] for block in message["content"] if "text" in block)
    return ""


def difficulty(request: Mapping[str, Any]) -> float:
    """How hard a request is taken to be, from 0 to 1."""
    text = prompt_text(request)
    signs = sum(weight for weight, pattern in _SIGNALS if pattern.search(text[:_READ_CHARS]))
    length = 0.25 * min(1.0, text.count(" ") / _LONG_PROMPT_WORDS)
    turns = 0.15 * min(1.0, (len(request.get("messages") or ()) - 1) / _TURNS)
    return min(1.0, max(0.0, _BASE + signs + length + turns))


def predicted_quality(size: float, hard: float) -> float:
    """The quality, 0 to 1, that a model of a size is expected to reach on a prompt of a difficulty."""
    return 1.0 if hard <= size else max(0.0, 1.0 - _SLOPE * (hard - size))


def pick(hard: float, candidates: Sequence[Backend], fallback: Backend, difference: float) -> Backend:
    """The candidate that answers.

    Args:
        hard: The difficulty of the request.
        candidates: The router's targets.
        fallback: The one that the router falls back on.
        difference: `responseQualityDifference`: percent, or a fraction below 1 (as default routers have).
    """
    tolerance = difference / 100 if difference >= 1 else difference
    anchor = predicted_quality(fallback.model.size, hard)
    for other in candidates:
        gain = predicted_quality(other.model.size, hard) - anchor
        if other.model.size < fallback.model.size and gain >= -tolerance:
            return other
        if other.model.size > fallback.model.size and gain > tolerance:
            return other
    return fallback


@dataclass
class _Dictated:
    chosen: str | Callable[[str], str]
    times: int
    router: str | None


class Choices:
    """What a test has dictated about the next routings."""

    def __init__(self) -> None:
        self._dictated: deque[_Dictated] = deque()

    def dictate(self, chosen: str | Callable[[str], str], times: int, router: str | None) -> None:
        """Let the next `times` requests (to `router`, or to any) go to a model."""
        self._dictated.append(_Dictated(chosen, times, router))

    def take(self, router: str, candidates: Sequence[Backend], text: str) -> Backend | None:
        """The dictated candidate for a request, if there is one; it is used up."""
        for entry in list(self._dictated):
            if entry.router not in {None, router}:
                continue
            wanted = entry.chosen if isinstance(entry.chosen, str) else entry.chosen(text)
            found = next((one for one in candidates if wanted in _names(one)), None)
            if found is not None:
                entry.times -= 1
                if entry.times <= 0:
                    self._dictated.remove(entry)
                return found
        return None


def _names(backend: Backend) -> set[str]:
    """Everything that a candidate may be called by."""
    return {backend.model.model_id, backend.arn, backend.arn.rpartition("/")[2], backend.target}
