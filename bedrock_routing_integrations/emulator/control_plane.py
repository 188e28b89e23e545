"""The control plane's routers and inference profiles: list, get, create, delete."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

from .arns import bedrock_arn, read_arn
from .errors import conflict, not_found, validation
from .geography import SystemProfile, profiles_of_region, system_profile
from .store import ApplicationProfile, PromptRouter, Store, default_routers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .backends import Directory, Place

    Answer = dict[str, Any]
    Handler = Callable[[Mapping[str, Any], Place], Answer]

__all__ = ["ControlPlane", "paginate"]


def paginate(items: Sequence[Any], request: Mapping[str, Any]) -> tuple[Sequence[Any], str | None]:
    """One page of a list and the token of the next.

    Raises:
        ServiceError: ValidationException for a token that no page gave.
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
    """The operations on routers and inference profiles. Every method named like an operation answers it."""

    def __init__(self, store: Store, directory: Directory) -> None:
        self._store = store
        self._directory = directory
        self._made_by_token: dict[tuple[str, str], str] = {}

    def handlers(self) -> dict[str, Handler]:
        """Operation name → what answers it."""
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

    # --- prompt routers

    def list_prompt_routers(self, request: Mapping[str, Any], place: Place) -> Answer:
        """The default routers and the custom ones of the Region."""
        custom = [router for router in self._store.all(PromptRouter) if router.region == place.region]
        found = [*default_routers(place.region, place.account), *custom]
        wanted = request.get("type")
        page, token = paginate([one for one in found if wanted in {None, one.type}], request)
        return {"promptRouterSummaries": [_router_details(router) for router in page], "nextToken": token}

    def create_prompt_router(self, request: Mapping[str, Any], place: Place) -> Answer:
        """A custom router over two models of one family.

        Raises:
            ServiceError: For a difference that is no multiple of 5, a fallback that is none of the models,
                models that do not go together, or a name that is taken.
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
        """Delete a custom router; a default one cannot be deleted."""
        router = self._directory.router(request["promptRouterArn"], place)
        if router.type == "default":
            raise validation("A default prompt router cannot be deleted.")
        self._store.remove(router)
        return {}

    # --- inference profiles

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
        """The system profiles of the Region and the account's application profiles in it."""
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
        """An application profile that copies a foundation model or a system profile.

        Raises:
            ServiceError: For a source that does not exist, or a name that is taken.
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
        """Delete an application profile; a system profile cannot be deleted."""
        profile = self._profile(request["inferenceProfileIdentifier"], place)
        if isinstance(profile, SystemProfile):
            raise validation("A system-defined inference profile cannot be deleted.")
        self._store.remove(profile)
        return {}

    # --- idempotency

    def _again(self, kind: str, request: Mapping[str, Any]) -> str | None:
        """What an earlier request with the same clientRequestToken made."""
        return self._made_by_token.get((kind, request.get("clientRequestToken", "")))

    def _remember(self, kind: str, request: Mapping[str, Any], arn: str) -> str:
        if "clientRequestToken" in request:
            self._made_by_token[kind, request["clientRequestToken"]] = arn
        return arn
