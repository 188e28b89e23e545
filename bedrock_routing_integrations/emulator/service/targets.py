"""From a `modelId` of Converse to what runs the request: a model, a router, or a managed prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    from .models import EmulatedModel
    from .store import PromptVersion

__all__ = ["Backend", "Directory", "Place"]

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
