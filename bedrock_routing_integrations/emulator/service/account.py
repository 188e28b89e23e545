"""Create resources in the emulated account without HTTP.

Custom routers and application profiles are created by the control plane's own operations, with the same checks as over
HTTP.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.emulator.settings import check_account_id, check_region
from bedrock_routing_integrations.emulator.wire.service_model import service_models

from .control_plane import ControlPlane, ModelCatalog
from .knowledge_bases import DEFAULT_ID, KnowledgeBases
from .models import MODELS
from .store import (
    DEFAULT_ROUTER_IDS,
    CustomModel,
    Deployment,
    ImportedModel,
    ManagedPrompt,
    PromptVersion,
    ProvisionedModel,
    SageMakerEndpoint,
    Store,
    bedrock_arn,
    best_prefix,
    foundation_model_arn,
    partition_of,
    system_profile,
)
from .targets import Directory, Place

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from .documents import Collection

__all__ = ["Account"]


class Account:
    """The emulated account: its resources and its control plane.

    Args:
        region: The Region of resources created through this object.
        account_id: The account's number, 12 digits.

    Raises:
        ValueError: `region` is not a valid Region name, or `account_id` not a valid account number.
    """

    def __init__(self, *, region: str, account_id: str) -> None:
        self.region = check_region(region)
        self.account_id = check_account_id(account_id)
        self._place = Place(region, account_id)
        self._store = Store()
        self._directory = Directory(self._store)
        self._control = ControlPlane(self._store, self._directory)
        self._catalog = ModelCatalog(self._store, self._directory)
        self._knowledge = KnowledgeBases(self._store)
        self.add_knowledge_base(name="emulated-library", knowledge_base_id=DEFAULT_ID, multimodal=True)

    def default_router(self, router_id: str = "anthropic.claude:1") -> str:
        """Return the ARN of a default router.

        Args:
            router_id: "anthropic.claude:1" (the default), "meta.llama:1" or "amazon.nova:1".

        Raises:
            ValueError: `router_id` is another id.
        """
        if router_id not in DEFAULT_ROUTER_IDS:
            raise ValueError(f"There is no default router {router_id!r}; there are: {', '.join(DEFAULT_ROUTER_IDS)}")
        return bedrock_arn(self.region, self.account_id, "default-prompt-router", router_id)

    def create_prompt_router(
        self,
        *,
        name: str,
        models: Iterable[str],
        fallback: str,
        response_quality_difference: float = 25,
        description: str | None = None,
    ) -> str:
        """Create a custom router, as CreatePromptRouter does, and return its ARN.

        Args:
            name: The router's name.
            models: The router's two candidate models: ids or ARNs of models, system profiles or application profiles.
            fallback: The fallback model, an element of `models`.
            response_quality_difference: `responseQualityDifference` in percent, a multiple of 5. The default is 25.
            description: The router's description.

        Raises:
            ServiceError: Bedrock would refuse the request.
            ValueError: The emulator does not have a model or system profile of a given id.
        """
        request = {
            "promptRouterName": name,
            "models": [{"modelArn": self._arn(model)} for model in models],
            "fallbackModel": {"modelArn": self._arn(fallback)},
            "routingCriteria": {"responseQualityDifference": response_quality_difference},
            "description": description,
        }
        arn: str = self._call("CreatePromptRouter", request)["promptRouterArn"]
        return arn

    def create_application_profile(self, *, name: str, copy_from: str, tags: Mapping[str, str] | None = None) -> str:
        """Create an application inference profile, as CreateInferenceProfile does, and return its ARN.

        Args:
            name: The profile's name.
            copy_from: The id or ARN of the model or system profile to copy.
            tags: The profile's tags by key. The default is no tags.

        Raises:
            ServiceError: Bedrock would refuse the request.
            ValueError: The emulator does not have a model or system profile of the id `copy_from`.
        """
        request = {
            "inferenceProfileName": name,
            "modelSource": {"copyFrom": self._arn(copy_from)},
            "tags": [{"key": key, "value": value} for key, value in (tags or {}).items()],
        }
        arn: str = self._call("CreateInferenceProfile", request)["inferenceProfileArn"]
        return arn

    def _call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Run a control-plane operation in-process, with the same checks as over HTTP."""
        parsed = service_models()[operation].parse({}, "", json.dumps(request).encode())
        return self._control.handlers()[operation](parsed, self._place)

    def _arn(self, target: str) -> str:
        """Return `target` if it is an ARN, else the ARN of the model or system profile with the id `target`.

        A model that cannot be invoked on demand has the ARN of the system profile that callers in this Region use.
        """
        if target.startswith("arn:"):
            return target
        model = MODELS.get(target)
        if model is not None and model.on_demand:
            return foundation_model_arn(target, self.region)
        profile_id = target if model is None else f"{best_prefix(model, self.region)}.{target}"
        profile = system_profile(profile_id, self.region, self.account_id)
        if profile is None:
            raise ValueError(f"The emulator knows no model and no system profile {target!r}")
        return profile.arn

    def _new_arn(self, kind: str, name: str) -> str:
        return bedrock_arn(self.region, self.account_id, kind, self._store.new_id(name))

    def _known_model(self, model_id: str) -> str:
        if model_id not in MODELS:
            raise ValueError(f"The emulator knows no model {model_id!r}; it knows: {', '.join(MODELS)}")
        return model_id

    def add_provisioned_model(self, model_id: str, *, name: str = "provisioned") -> str:
        """Create provisioned throughput for a foundation model, and return its ARN.

        Args:
            model_id: The foundation model's id.
            name: The name of the provisioned throughput.

        Raises:
            ValueError: The emulator does not have the model.
        """
        base = self._known_model(model_id)
        model = ProvisionedModel(
            arn=self._new_arn("provisioned-model", name),
            name=name,
            model_arn=foundation_model_arn(base, self.region),
            base_model_id=base,
        )
        return self._store.add(model)

    def add_custom_model(self, base_model_id: str, *, name: str = "custom") -> str:
        """Create a custom model, and return its ARN.

        Args:
            base_model_id: The id of the customized foundation model.
            name: The custom model's name.

        Raises:
            ValueError: The emulator does not have the foundation model.
        """
        base = self._known_model(base_model_id)
        kind = f"custom-model/{base.partition(':')[0]}"
        return self._store.add(CustomModel(arn=self._new_arn(kind, name), name=name, base_model_id=base))

    def add_custom_model_deployment(self, base_model_id: str, *, name: str = "deployment") -> str:
        """Create a custom model and an on-demand deployment of the model, and return the deployment's ARN.

        Args:
            base_model_id: The id of the customized foundation model.
            name: The deployment's name. The custom model's name adds "-model".

        Raises:
            ValueError: The emulator does not have the foundation model.
        """
        deployment = Deployment(
            arn=self._new_arn("custom-model-deployment", name),
            name=name,
            model_arn=self.add_custom_model(base_model_id, name=f"{name}-model"),
            base_model_id=base_model_id,
        )
        return self._store.add(deployment)

    def add_imported_model(
        self,
        name: str,
        *,
        architecture: str = "llama3",
        base_model_id: str = "meta.llama3-1-8b-instruct-v1:0",
    ) -> str:
        """Create an imported model, and return its ARN.

        Args:
            name: The imported model's name.
            architecture: The value of `modelArchitecture`.
            base_model_id: The foundation model whose canned model answers for the imported model.

        Raises:
            ValueError: The emulator does not have the foundation model.
        """
        model = ImportedModel(
            arn=self._new_arn("imported-model", name),
            name=name,
            architecture=architecture,
            base_model_id=self._known_model(base_model_id),
        )
        return self._store.add(model)

    def add_sagemaker_endpoint(self, name: str, *, base_model_id: str = "meta.llama3-1-8b-instruct-v1:0") -> str:
        """Create a SageMaker endpoint with a marketplace model, and return the endpoint's ARN.

        Args:
            name: The endpoint's name.
            base_model_id: The foundation model whose canned model answers for the endpoint's model.

        Raises:
            ValueError: The emulator does not have the foundation model.
        """
        arn = f"arn:{partition_of(self.region)}:sagemaker:{self.region}:{self.account_id}:endpoint/{name}"
        endpoint = SageMakerEndpoint(arn=arn, name=name, base_model_id=self._known_model(base_model_id))
        return self._store.add(endpoint)

    def add_prompt(
        self,
        name: str,
        text: str,
        model_id: str,
        *,
        version: str | None = None,
        inference: Mapping[str, Any] | None = None,
    ) -> str:
        """Store a prompt in Prompt management, and return the ARN of the prompt, or of its version if `version` is set.

        A prompt of the same name keeps its id and gets a new draft.

        Args:
            name: The prompt's name.
            text: The prompt's text, with variables as `{{name}}`.
            model_id: The prompt's target: any target of Converse but another prompt.
            version: The number of a version to store in addition to the draft, e.g. "1".
            inference: The prompt's maxTokens, temperature, topP and stopSequences.
        """
        known = next((prompt for prompt in self._store.all(ManagedPrompt) if prompt.name == name), None)
        resource_id = known.resource_id if known else self._store.new_id(name, 10).upper()
        arn = bedrock_arn(self.region, self.account_id, "prompt", resource_id)
        made = {
            key: PromptVersion(version=key, text=text, model_id=model_id, inference=dict(inference or {}))
            for key in {"DRAFT", version or "DRAFT"}
        }
        versions = {**(known.versions if known else {}), **made}
        self._store.add(ManagedPrompt(arn=arn, name=name, versions=versions))
        return f"{arn}:{version}" if version else arn

    def add_knowledge_base(
        self,
        documents: str | os.PathLike[str] | Collection | None = None,
        *,
        name: str | None = None,
        type: str = "VECTOR",  # noqa: A002 - the name in the API
        knowledge_base_id: str | None = None,
        multimodal: bool = False,
    ) -> str:
        """Create a knowledge base, and return its id.

        Args:
            documents: A folder (text, Markdown, HTML, CSV, PDF, images, audio, video, with Bedrock's sidecars
                `NAME.metadata.json`), a collection, or None (the default) for the library that ships with the emulator.
            name: The knowledge base's name. The default is a unique name.
            type: "VECTOR" (the default), "KENDRA", "SQL" or "MANAGED". Retrieve searches a managed knowledge base with
                `managedSearchConfiguration`. RetrieveAndGenerate refuses a managed knowledge base.
            knowledge_base_id: The knowledge base's id, 10 letters and digits. The default is the same in every run.
            multimodal: Whether queries may contain an image. False by default.

        Raises:
            ValueError: The folder cannot be read, or Bedrock would refuse an argument.
        """
        return self._knowledge.add(
            documents, self._place, name=name, type=type, knowledge_base_id=knowledge_base_id, multimodal=multimodal
        )

    def default_knowledge_base(self) -> str:
        """Return the id of the knowledge base that every account has, with the library that ships with the emulator."""
        return DEFAULT_ID

    def add_guardrail(self, words: Iterable[str]) -> tuple[str, str]:
        """Create a guardrail for the knowledge base operations, and return its id and version.

        The guardrail intervenes if a query or a generated response contains a word of `words`.
        """
        return self._knowledge.add_guardrail(words, self._place)
