"""What a test can make in the emulated account without HTTP, with the same checks as over it."""

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
        region: The Region of what is created through this object.
        account_id: The account's number.

    Raises:
        ValueError: For what is no Region, or no account's number.
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
        """The ARN of a default router: anthropic.claude:1, meta.llama:1 or amazon.nova:1.

        Raises:
            ValueError: For any other id.
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
        """Make a custom router, as CreatePromptRouter does; returns its ARN.

        Args:
            name: Its name.
            models: Its two targets: ids or ARNs of models, system profiles or application profiles.
            fallback: The one of them to fall back on.
            response_quality_difference: Percent, a multiple of 5.
            description: Its description.

        Raises:
            ServiceError: What the service would refuse.
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
        """Make an application inference profile, as CreateInferenceProfile does; returns its ARN."""
        request = {
            "inferenceProfileName": name,
            "modelSource": {"copyFrom": self._arn(copy_from)},
            "tags": [{"key": key, "value": value} for key, value in (tags or {}).items()],
        }
        arn: str = self._call("CreateInferenceProfile", request)["inferenceProfileArn"]
        return arn

    def _call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Run a control-plane operation in-process, with the checks of the one over HTTP."""
        parsed = service_models()[operation].parse({}, "", json.dumps(request).encode())
        return self._control.handlers()[operation](parsed, self._place)

    def _arn(self, target: str) -> str:
        """The ARN of a model or system profile given by id."""
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
        """Buy provisioned throughput for a foundation model; returns its ARN."""
        base = self._known_model(model_id)
        model = ProvisionedModel(
            arn=self._new_arn("provisioned-model", name),
            name=name,
            model_arn=foundation_model_arn(base, self.region),
            base_model_id=base,
        )
        return self._store.add(model)

    def add_custom_model(self, base_model_id: str, *, name: str = "custom") -> str:
        """Customize a foundation model; returns its ARN."""
        base = self._known_model(base_model_id)
        kind = f"custom-model/{base.partition(':')[0]}"
        return self._store.add(CustomModel(arn=self._new_arn(kind, name), name=name, base_model_id=base))

    def add_custom_model_deployment(self, base_model_id: str, *, name: str = "deployment") -> str:
        """Customize a foundation model and deploy it on demand; returns the deployment's ARN."""
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
        """Import a model; returns its ARN. The program of `base_model_id` plays it."""
        model = ImportedModel(
            arn=self._new_arn("imported-model", name),
            name=name,
            architecture=architecture,
            base_model_id=self._known_model(base_model_id),
        )
        return self._store.add(model)

    def add_sagemaker_endpoint(self, name: str, *, base_model_id: str = "meta.llama3-1-8b-instruct-v1:0") -> str:
        """Register a SageMaker endpoint; returns its ARN. The program of `base_model_id` plays its model."""
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
        """Keep a prompt in Prompt management; returns its ARN (of the version, where one is given).

        Args:
            name: Its name.
            text: Its text, with variables as `{{name}}`.
            model_id: What it runs on: any target of Converse but another prompt.
            version: A version number, e.g. "1", besides the draft.
            inference: Its maxTokens, temperature, topP, stopSequences.
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
        type: str = "VECTOR",  # noqa: A002 - as the service calls it
        knowledge_base_id: str | None = None,
        multimodal: bool = False,
    ) -> str:
        """Make a knowledge base; returns its id.

        Args:
            documents: A folder (text, Markdown, HTML, CSV, PDF, images, audio, video, with Bedrock's sidecars
                `NAME.metadata.json`), a collection, or None for the library that ships with the emulator.
            name: Its name; by default one that no other has.
            type: "VECTOR", "KENDRA", "SQL" or "MANAGED". Retrieve reaches a managed one by
                `managedSearchConfiguration`; RetrieveAndGenerate does not take it.
            knowledge_base_id: Its id, 10 letters and digits; by default one that is the same in every run.
            multimodal: Whether it can be asked with an image.

        Raises:
            ValueError: For a folder that cannot be read, and for what the service would not take.
        """
        return self._knowledge.add(
            documents, self._place, name=name, type=type, knowledge_base_id=knowledge_base_id, multimodal=multimodal
        )

    def default_knowledge_base(self) -> str:
        """The id of the knowledge base that every account has, of the library that ships with the emulator."""
        return DEFAULT_ID

    def add_guardrail(self, words: Iterable[str]) -> tuple[str, str]:
        """Make a guardrail of the knowledge base operations; returns its id and its version.

        It intervenes where a query holds one of the words, and where a generated answer does.
        """
        return self._knowledge.add_guardrail(words, self._place)
