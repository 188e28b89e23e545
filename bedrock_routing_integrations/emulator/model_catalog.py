"""The control plane's read-only part: foundation models, hosted models, managed prompts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .arns import bedrock_arn, read_arn
from .errors import not_found
from .geography import foundation_model_arn
from .models import MODELS
from .store import CustomModel, Deployment, ImportedModel, ManagedPrompt, ProvisionedModel, Store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .backends import Directory, Place
    from .control_plane import Answer, Handler
    from .models import EmulatedModel
    from .store import Resource

__all__ = ["ModelCatalog"]

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
    """The operations that describe models and prompts."""

    def __init__(self, store: Store, directory: Directory) -> None:
        self._store = store
        self._directory = directory

    def handlers(self) -> dict[str, Handler]:
        """Operation name → what answers it."""
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
        """The foundation models, filtered."""
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
        """One foundation model by id or ARN."""
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
        """Provisioned throughput by id, name or ARN."""
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
        """A deployment of a custom model."""
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
        """A custom model."""
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
        """An imported model."""
        found: ImportedModel = self._get(ImportedModel, request["modelIdentifier"])
        return {
            "modelArn": found.arn,
            "modelName": found.name,
            "creationTime": found.created,
            "modelArchitecture": found.architecture,
            "instructSupported": True,
        }

    def get_prompt(self, request: Mapping[str, Any], place: Place) -> Answer:
        """One version of a managed prompt."""
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
