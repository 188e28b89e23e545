"""Implement Bedrock's control plane: prompt routers, inference profiles, models and managed prompts."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.emulator.wire.service_model import conflict, not_found, validation

from .models import MODELS
from .store import (
    ApplicationProfile,
    CustomModel,
    Deployment,
    ImportedModel,
    ManagedPrompt,
    PromptRouter,
    ProvisionedModel,
    Store,
    SystemProfile,
    bedrock_arn,
    default_routers,
    foundation_model_arn,
    profiles_of_region,
    read_arn,
    system_profile,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .models import EmulatedModel
    from .store import Resource
    from .targets import Directory, Place

    Answer = dict[str, Any]
    Handler = Callable[[Mapping[str, Any], Place], Answer]


def paginate(items: Sequence[Any], request: Mapping[str, Any]) -> tuple[Sequence[Any], str | None]:
    """Return a page of a list, and the token of the next page or None.

    Args:
        items: The whole list.
        request: The members of the request. `maxResults` is 100 by default.

    Raises:
        ServiceError: ValidationException for a token that no page returned.
    """
    start = 0
    token = request.get("nextToken")
    if token is not None:
        try:
            start = int(base64.urlsafe_b64decode(token.encode()).decode().removeprefix("page-"))
        except (binascii.Error, ValueError) as error:
            raise validation("The pagination token is not valid.") from error
    end = start + request.get("maxResults", 100)
    following = base64.urlsafe_b64encode(f"page-{end}".encode()).decode() if end < len(items) else None
    return items[start:end], following


def _router_details(router: PromptRouter) -> Answer:
    return {
        "promptRouterName": router.name,
        "routingCriteria": {"responseQualityDifference": router.difference},
        "description": router.description,
        "createdAt": router.created,
        "updatedAt": router.created,
        "promptRouterArn": router.arn,
        "models": [{"modelArn": arn} for arn in router.models],
        "fallbackModel": {"modelArn": router.fallback},
        "status": "AVAILABLE",
        "type": router.type,
    }


def _profile_details(profile: SystemProfile | ApplicationProfile) -> Answer:
    if isinstance(profile, SystemProfile):
        description = f"Routes requests to {profile.name.split(' ', 1)[1]} across Regions"
        model_arns: Sequence[str] = profile.model_arns
        identity = {
            "inferenceProfileId": profile.profile_id,
            "type": "SYSTEM_DEFINED",
            "description": description,
        }
    else:
        model_arns = profile.models
        identity = {"inferenceProfileId": profile.resource_id, "type": "APPLICATION"}
        identity |= {"description": profile.description} if profile.description else {}
    created = None if isinstance(profile, SystemProfile) else profile.created
    return {
        **identity,
        "inferenceProfileName": profile.name,
        "inferenceProfileArn": profile.arn,
        "models": [{"modelArn": arn} for arn in model_arns],
        "createdAt": created,
        "updatedAt": created,
        "status": "ACTIVE",
    }


class ControlPlane:
    """Answer the operations on routers and inference profiles. A method has the name of its operation.

    Args:
        store: The account's resources.
        directory: Resolves targets.
    """

    def __init__(self, store: Store, directory: Directory) -> None:
        self._store = store
        self._directory = directory
        self._made_by_token: dict[tuple[str, str], str] = {}

    def handlers(self) -> dict[str, Handler]:
        """Return the handlers by operation name."""
        return {
            "ListPromptRouters": self.list_prompt_routers,
            "GetPromptRouter": lambda request, place: _router_details(
                self._directory.router(request["promptRouterArn"], place)
            ),
            "CreatePromptRouter": self.create_prompt_router,
            "DeletePromptRouter": self.delete_prompt_router,
            "ListInferenceProfiles": self.list_inference_profiles,
            "GetInferenceProfile": lambda request, place: _profile_details(
                self._profile(request["inferenceProfileIdentifier"], place)
            ),
            "CreateInferenceProfile": self.create_inference_profile,
            "DeleteInferenceProfile": self.delete_inference_profile,
        }

    # --- Prompt routers ---

    def list_prompt_routers(self, request: Mapping[str, Any], place: Place) -> Answer:
        """Return a page of the default routers and the Region's custom routers.

        Args:
            request: The members of the request.
            place: The Region and account of the request.
        """
        custom = [router for router in self._store.all(PromptRouter) if router.region == place.region]
        found = [*default_routers(place.region, place.account), *custom]
        wanted = request.get("type")
        page, token = paginate([one for one in found if wanted in {None, one.type}], request)
        return {"promptRouterSummaries": [_router_details(router) for router in page], "nextToken": token}

    def create_prompt_router(self, request: Mapping[str, Any], place: Place) -> Answer:
        """Create a custom router with two models of one family, and return its ARN.

        A repeated `clientRequestToken` returns the ARN of the first request's router.

        Args:
            request: The members of the request.
            place: The Region and account of the request.

        Raises:
            ServiceError: The difference is not a multiple of 5, the fallback model is not among the models, the models
                are not of one family, or the name is taken.
        """
        models = tuple(model["modelArn"] for model in request["models"])
        fallback = request["fallbackModel"]["modelArn"]
        difference = float(request["routingCriteria"]["responseQualityDifference"])
        if difference % 5:
            raise validation("Response quality difference must be a value multiple of 5")
        self._check_targets(models, fallback, place)
        known = self._again("router", request)
        if known is not None:
            return {"promptRouterArn": known}
        name = request["promptRouterName"]
        if any(router.name == name for router in self._store.all(PromptRouter) if router.region == place.region):
            raise conflict(f"A prompt router with the name {name} already exists.")
        router = PromptRouter(
            arn=bedrock_arn(place.region, place.account, "prompt-router", self._store.new_id(name)),
            name=name,
            tags=tuple(request.get("tags", ())),
            models=models,
            fallback=fallback,
            difference=difference,
            type="custom",
            description=request.get("description"),
        )
        self._store.add(router)
        return {"promptRouterArn": self._remember("router", request, router.arn)}

    def _check_targets(self, models: Sequence[str], fallback: str, place: Place) -> None:
        if len(set(models)) != 2 or len(models) != 2:
            raise validation("A prompt router needs exactly two different models.")
        if fallback not in models:
            raise validation("The fallback model must be one of the models of the prompt router.")
        providers = {self._directory.backend(target, place).model.provider for target in models}
        if len(providers) != 1:
            raise validation("The models of a prompt router must belong to the same model family.")

    def delete_prompt_router(self, request: Mapping[str, Any], place: Place) -> Answer:
        """Delete a custom router.

        Args:
            request: The members of the request.
            place: The Region and account of the request.

        Raises:
            ServiceError: The router does not exist, or is a default router.
        """
        router = self._directory.router(request["promptRouterArn"], place)
        if router.type == "default":
            raise validation("A default prompt router cannot be deleted.")
        self._store.remove(router)
        return {}

    # --- Inference profiles ---

    def _profile(self, identifier: str, place: Place) -> SystemProfile | ApplicationProfile:
        arn = read_arn(identifier)
        if arn is not None and arn.kind == "inference-profile":
            found = system_profile(arn.resource, arn.region or place.region, arn.account or place.account)
        else:
            found = system_profile(identifier, place.region, place.account)
        known = found or self._store.get(ApplicationProfile, identifier)
        if known is None:
            raise not_found(f"Could not find the inference profile {identifier}.")
        return known

    def list_inference_profiles(self, request: Mapping[str, Any], place: Place) -> Answer:
        """Return a page of the Region's system profiles and application profiles.

        Args:
            request: The members of the request.
            place: The Region and account of the request.
        """
        wanted = request.get("typeEquals")
        found: list[SystemProfile | ApplicationProfile] = []
        if wanted != "APPLICATION":
            found.extend(profiles_of_region(place.region, place.account))
        if wanted != "SYSTEM_DEFINED":
            found.extend(one for one in self._store.all(ApplicationProfile) if one.region == place.region)
        page, token = paginate(found, request)
        return {
            "inferenceProfileSummaries": [_profile_details(profile) for profile in page],
            "nextToken": token,
        }

    def create_inference_profile(self, request: Mapping[str, Any], place: Place) -> Answer:
        """Create an application profile that copies a foundation model or a system profile, and return its ARN.

        A repeated `clientRequestToken` returns the ARN of the first request's profile.

        Args:
            request: The members of the request.
            place: The Region and account of the request.

        Raises:
            ServiceError: The source does not exist, or the name is taken.
        """
        source = request["modelSource"]["copyFrom"]
        self._directory.backend(source, place)
        arn = read_arn(source)
        system = self._profile(source, place) if arn is not None and arn.kind == "inference-profile" else None
        known = self._again("profile", request)
        if known is None:
            name = request["inferenceProfileName"]
            if any(one.name == name for one in self._store.all(ApplicationProfile) if one.region == place.region):
                raise conflict(f"An inference profile with the name {name} already exists.")
            profile = ApplicationProfile(
                arn=bedrock_arn(place.region, place.account, "application-inference-profile", self._store.new_id(name)),
                name=name,
                tags=tuple(request.get("tags", ())),
                copy_from=source,
                models=system.model_arns if isinstance(system, SystemProfile) else (source,),
                description=request.get("description"),
            )
            known = self._remember("profile", request, self._store.add(profile))
        return {"inferenceProfileArn": known, "status": "ACTIVE"}

    def delete_inference_profile(self, request: Mapping[str, Any], place: Place) -> Answer:
        """Delete an application profile.

        Args:
            request: The members of the request.
            place: The Region and account of the request.

        Raises:
            ServiceError: The profile does not exist, or is a system profile.
        """
        profile = self._profile(request["inferenceProfileIdentifier"], place)
        if isinstance(profile, SystemProfile):
            raise validation("A system-defined inference profile cannot be deleted.")
        self._store.remove(profile)
        return {}

    # --- Idempotency ---

    def _again(self, kind: str, request: Mapping[str, Any]) -> str | None:
        """Return the ARN that an earlier request with the same clientRequestToken created, or None."""
        return self._made_by_token.get((kind, request.get("clientRequestToken", "")))

    def _remember(self, kind: str, request: Mapping[str, Any], arn: str) -> str:
        if "clientRequestToken" in request:
            self._made_by_token[kind, request["clientRequestToken"]] = arn
        return arn


# --- Read-only operations: foundation models, hosted models, managed prompts ---

_VARIABLE = re.compile(r"\{\{\s*([0-9a-zA-Z_-]+)\s*\}\}")


def _model_details(model: EmulatedModel, region: str) -> Answer:
    return {
        "modelArn": foundation_model_arn(model.model_id, region),
        "modelId": model.model_id,
        "modelName": model.name,
        "providerName": model.provider,
        "inputModalities": list(model.input_modalities),
        "outputModalities": list(model.output_modalities),
        "responseStreamingSupported": model.streaming,
        "customizationsSupported": [],
        "inferenceTypesSupported": ["ON_DEMAND"] if model.on_demand else [],
        "modelLifecycle": {"status": "LEGACY" if model.end_of_life else "ACTIVE"},
    }


class ModelCatalog:
    """Answer the read-only operations on models and managed prompts.

    Args:
        store: The account's resources.
        directory: Resolves targets.
    """

    def __init__(self, store: Store, directory: Directory) -> None:
        self._store = store
        self._directory = directory

    def handlers(self) -> dict[str, Handler]:
        """Return the handlers by operation name."""
        return {
            "ListFoundationModels": self.list_foundation_models,
            "GetFoundationModel": self.get_foundation_model,
            "GetProvisionedModelThroughput": self.get_provisioned_model_throughput,
            "GetCustomModelDeployment": self.get_custom_model_deployment,
            "GetCustomModel": self.get_custom_model,
            "GetImportedModel": self.get_imported_model,
            "GetPrompt": self.get_prompt,
        }

    def list_foundation_models(self, request: Mapping[str, Any], place: Place) -> Answer:
        """Return the foundation models that pass the request's filters.

        Args:
            request: The members of the request.
            place: The Region and account of the request.
        """
        wanted = {
            "providerName": request.get("byProvider", "").lower(),
            "outputModalities": request.get("byOutputModality"),
            "inferenceTypesSupported": request.get("byInferenceType"),
            "customizationsSupported": request.get("byCustomizationType"),
        }

        def fits(details: Answer) -> bool:
            if wanted["providerName"] not in {"", details["providerName"].lower()}:
                return False
            lists = ("outputModalities", "inferenceTypesSupported", "customizationsSupported")
            return all(wanted[name] is None or wanted[name] in details[name] for name in lists)

        every = (_model_details(model, place.region) for model in MODELS.values())
        return {"modelSummaries": [details for details in every if fits(details)]}

    def get_foundation_model(self, request: Mapping[str, Any], place: Place) -> Answer:
        """Return a foundation model, by id or ARN.

        Args:
            request: The members of the request.
            place: The Region and account of the request.

        Raises:
            ServiceError: ResourceNotFoundException.
        """
        arn = read_arn(request["modelIdentifier"])
        model = MODELS.get(arn.resource if arn else request["modelIdentifier"])
        if model is None:
            raise not_found("Could not find the model. Please check the model identifier.")
        return {"modelDetails": _model_details(model, arn.region if arn else place.region)}

    def _get(self, kind: type[Any], identifier: str) -> Any:
        found: Resource | None = self._store.get(kind, identifier)
        if found is None:
            raise not_found(f"Could not find {identifier}.")
        return found

    def get_provisioned_model_throughput(self, request: Mapping[str, Any], _place: Place) -> Answer:
        """Return provisioned throughput, by id, name or ARN.

        Args:
            request: The members of the request.

        Raises:
            ServiceError: ResourceNotFoundException.
        """
        found: ProvisionedModel = self._get(ProvisionedModel, request["provisionedModelId"])
        return {
            "modelUnits": 1,
            "desiredModelUnits": 1,
            "provisionedModelName": found.name,
            "provisionedModelArn": found.arn,
            "modelArn": found.model_arn,
            "desiredModelArn": found.model_arn,
            "foundationModelArn": foundation_model_arn(found.base_model_id, found.region),
            "status": "InService",
            "creationTime": found.created,
            "lastModifiedTime": found.created,
        }

    def get_custom_model_deployment(self, request: Mapping[str, Any], _place: Place) -> Answer:
        """Return a deployment of a custom model, by id, name or ARN.

        Args:
            request: The members of the request.

        Raises:
            ServiceError: ResourceNotFoundException.
        """
        found: Deployment = self._get(Deployment, request["customModelDeploymentIdentifier"])
        return {
            "customModelDeploymentArn": found.arn,
            "modelDeploymentName": found.name,
            "modelArn": found.model_arn,
            "createdAt": found.created,
            "status": "Active",
            "lastUpdatedAt": found.created,
        }

    def get_custom_model(self, request: Mapping[str, Any], _place: Place) -> Answer:
        """Return a custom model, by id, name or ARN.

        Args:
            request: The members of the request.

        Raises:
            ServiceError: ResourceNotFoundException.
        """
        found: CustomModel = self._get(CustomModel, request["modelIdentifier"])
        return {
            "modelArn": found.arn,
            "modelName": found.name,
            "baseModelArn": foundation_model_arn(found.base_model_id, found.region),
            "customizationType": "FINE_TUNING",
            "creationTime": found.created,
            "modelStatus": "Active",
        }

    def get_imported_model(self, request: Mapping[str, Any], _place: Place) -> Answer:
        """Return an imported model, by id, name or ARN.

        Args:
            request: The members of the request.

        Raises:
            ServiceError: ResourceNotFoundException.
        """
        found: ImportedModel = self._get(ImportedModel, request["modelIdentifier"])
        return {
            "modelArn": found.arn,
            "modelName": found.name,
            "creationTime": found.created,
            "modelArchitecture": found.architecture,
            "instructSupported": True,
        }

    def get_prompt(self, request: Mapping[str, Any], place: Place) -> Answer:
        """Return a version of a managed prompt. A request without a version returns the draft.

        Args:
            request: The members of the request.
            place: The Region and account of the request.

        Raises:
            ServiceError: ResourceNotFoundException.
        """
        identifier = request["promptIdentifier"]
        wanted = request.get("promptVersion")
        version = self._directory.prompt(f"{identifier}:{wanted}" if wanted else identifier)
        arn = read_arn(identifier)
        prompt: ManagedPrompt = self._get(ManagedPrompt, (arn.resource if arn else identifier).partition(":")[0])
        names = list(dict.fromkeys(_VARIABLE.findall(version.text)))
        template = {"text": version.text, "inputVariables": [{"name": name} for name in names]}
        variant = {
            "name": "default",
            "templateType": "TEXT",
            "templateConfiguration": {"text": template},
            "modelId": version.model_id,
            "inferenceConfiguration": {"text": dict(version.inference)},
        }
        suffix = "" if version.version == "DRAFT" else f":{version.version}"
        return {
            "name": prompt.name,
            "description": prompt.description,
            "defaultVariant": "default",
            "variants": [variant] if request.get("includedData") != "METADATA_ONLY" else None,
            "id": prompt.resource_id,
            "arn": bedrock_arn(prompt.region or place.region, prompt.arn.split(":")[4], "prompt", prompt.resource_id)
            + suffix,
            "version": version.version,
            "createdAt": prompt.created,
            "updatedAt": prompt.created,
        }
