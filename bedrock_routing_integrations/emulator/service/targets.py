"""Resolve a `modelId` of Converse to a model, a router or a managed prompt, and choose a router's model.

The emulator replaces Bedrock's learned routing by a deterministic estimate. The difficulty of a prompt (0 to 1) is the
sum of signals in its text, of its length, and of the length of the conversation. A model's predicted quality is 1 up to
a difficulty equal to the model's size, and falls linearly above. `pick` compares the predicted qualities by the
router's `responseQualityDifference`.
"""

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
    """The Region of a request's signature, and the emulated account."""

    region: str
    account: str


@dataclass(frozen=True)
class Backend:
    """A model, and the way in which a target reaches the model.

    Attributes:
        model: The model that answers.
        arn: The foundation-model or inference-profile ARN of the model in a router's trace.
        profile: Whether the target reaches the model through an inference profile.
        on_demand: Whether the target is the model's own id or ARN, which newer models refuse.
        target: The id or ARN from the caller or the router.
    """

    model: EmulatedModel
    arn: str
    profile: bool
    on_demand: bool
    target: str

    def check(self) -> None:
        """Raise if the model does not serve the target.

        Raises:
            ServiceError: The model is at its end of life, or is offered only through profiles and was called on demand.
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
    """Resolve targets among the service's models and the account's resources."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def router(self, target: str, place: Place) -> PromptRouter:
        """Return the default or custom router of an ARN.

        Args:
            target: The router's ARN.
            place: The Region and account of the request, for parts that the ARN leaves empty.

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
        """Return the version of a managed prompt. A target without a version means the draft.

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
        """Return the model of a target that is neither a router nor a prompt.

        Args:
            target: The id or ARN of a model, profile, provisioned model, deployment or endpoint.
            place: The Region and account of the request.

        Raises:
            ServiceError: ValidationException for an unknown id, ResourceNotFoundException for an ARN of a resource that
                does not exist.
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


# --- Routing: the difficulty of a prompt, and the model that answers ---

_SLOPE = 2.0
_BASE = 0.15
_LONG_PROMPT_WORDS = 400
_TURNS = 12
_READ_CHARS = 4_000  # enough for an estimate; the patterns take more than linear time

# Weight and pattern of each signal of difficulty. A signal counts once.
_SIGNALS: tuple[tuple[float, re.Pattern[str]], ...] = tuple(
    (weight, re.compile(pattern, re.IGNORECASE))
    for weight, pattern in (
        # Quantities and calculations.
        (0.35, r"\bhow (?:many|much|long|far|old|often)\b|\bcalculate\b|\bprobabilit|\bsolve\b"),
        (
            0.15,
            r"(?:(?<!\w)(?:\d[\d.,]*|(?-i:[NMXYK]))(?!\w)[\s\S]*){2}",
        ),  # two numbers, or letters in place of numbers
        # Reasoning: causes, comparisons, proofs, several steps.
        (
            0.35,
            r"\b(?:prove|derive|deduce|step[- ]by[- ]step|explain why|justify|trade-?offs?)\b",
        ),
        (
            0.25,
            r"\bwhy\b|\bcompare\b|\banaly[sz]e\b|\bevaluate\b|\boptimi[sz]e\b|\bdesign\b|\bstrategy\b|\bimplications?\b",
        ),
        # Relations between several entities.
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
        # Requests for a short or simple response.
        (-0.20, r"\bin (?:one|a single|1) (?:line|word|sentence)\b|\bbriefly\b|\byes or no\b|\bin short\b"),
        (
            -0.10,
            r"^\s*(?:hi|hello|hey|thanks|thank you)\b|^\s*(?:what is|who is|define|translate|repeat|say)\b",
        ),
    )
)


def prompt_text(request: Mapping[str, Any]) -> str:
    """Return the text of the last user message."""
    for message in reversed(request.get("messages") or ()):
        if message["role"] == "user":
            return "\n".join(block["text"] for block in message["content"] if "text" in block)
    return ""


def difficulty(request: Mapping[str, Any]) -> float:
    """Return the estimated difficulty of a request, 0 to 1."""
    text = prompt_text(request)
    signs = sum(weight for weight, pattern in _SIGNALS if pattern.search(text[:_READ_CHARS]))
    length = 0.25 * min(1.0, text.count(" ") / _LONG_PROMPT_WORDS)
    turns = 0.15 * min(1.0, (len(request.get("messages") or ()) - 1) / _TURNS)
    return min(1.0, max(0.0, _BASE + signs + length + turns))


def predicted_quality(size: float, hard: float) -> float:
    """Return the expected quality of a model's response, 0 to 1.

    Args:
        size: The model's size, 0 to 1.
        hard: The difficulty of the prompt, 0 to 1.
    """
    return 1.0 if hard <= size else max(0.0, 1.0 - _SLOPE * (hard - size))


def pick(hard: float, candidates: Sequence[Backend], fallback: Backend, difference: float) -> Backend:
    """Return the candidate model that answers.

    The first candidate that meets one of these conditions answers, else the fallback model:

    - The candidate is smaller than the fallback model, and its predicted quality is lower by at most the tolerance.
    - The candidate is larger than the fallback model, and its predicted quality is higher by more than the tolerance.

    Args:
        hard: The difficulty of the request, 0 to 1.
        candidates: The router's candidate models.
        fallback: The router's fallback model.
        difference: The tolerance, `responseQualityDifference`: percent, or a fraction below 1 (as default routers
            report).
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
    """Hold the routing choices that a test has dictated for the next requests."""

    def __init__(self) -> None:
        self._dictated: deque[_Dictated] = deque()

    def dictate(self, chosen: str | Callable[[str], str], times: int, router: str | None) -> None:
        """Dictate the model of the next requests.

        Args:
            chosen: The model's id or ARN, or a function that returns such an id for a prompt.
            times: The number of requests.
            router: The router's ARN, or None for any router.
        """
        self._dictated.append(_Dictated(chosen, times, router))

    def take(self, router: str, candidates: Sequence[Backend], text: str) -> Backend | None:
        """Return the dictated candidate model for a request and count the request, or return None.

        Args:
            router: The ARN of the router.
            candidates: The router's candidate models.
            text: The prompt.
        """
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
    """Return the ids and ARNs that mean a candidate model."""
    return {backend.model.model_id, backend.arn, backend.arn.rpartition("/")[2], backend.target}
