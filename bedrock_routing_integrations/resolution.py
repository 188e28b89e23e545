"""Which base models can answer for a target: `Target` → `ResolvedTarget`.

What an id says by itself is used without asking. For opaque targets the control plane is asked, at the first use: once
per process and target however many threads ask at once, kept for an hour. Where the look-up is refused, everything
still works with what is known, and the first trace seen teaches the rest.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from .catalog import base_model_id, common_facts
from .errors import InvalidTargetError, MissingRegionError
from .logs import logger, warn_once
from .targets import PROVIDERS, Target, TargetKind, parse_target

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from .catalog import ModelFacts

KEEP_SECONDS = 3600.0
KEEP_REFUSED_SECONDS = 300.0
_MOST_KEPT = 10_000
# A router of routers does not exist; a prompt that names a router whose targets are application profiles is four deep.
_DEEPEST = 6


@dataclass(frozen=True)
class Candidate:
    """One model that can answer for a target.

    Attributes:
        model_id: The id or ARN as the target lists it: a model, or a profile in front of one.
        base_model: The foundation model behind it; None where it could not be found out.
        source: Where that was learned: ``"id"``, ``"base_models"``, an API such as ``"GetPromptRouter"``, or
            ``"trace"``.
    """

    model_id: str
    base_model: str | None
    source: str


@dataclass(frozen=True)
class ResolvedTarget:
    """What is known of a target.

    Attributes:
        target: The target.
        candidates: The models that can answer, in the order in which the target lists them.
        fallback: The router's fallback model, as a base model id; None where there is none or it is not known.
        complete: Whether all that the control plane could tell is here.
        refused: Why a look-up failed, where it did.
    """

    target: Target
    candidates: tuple[Candidate, ...] = ()
    fallback: str | None = None
    complete: bool = True
    refused: str | None = None

    @cached_property
    def base_models(self) -> tuple[str, ...]:
        """The distinct base models that can answer."""
        return tuple(dict.fromkeys(c.base_model for c in self.candidates if c.base_model))

    @property
    def only_model(self) -> str | None:
        """The base model that answers whatever is asked; None where Bedrock chooses or nothing is known."""
        models = self.base_models
        return models[0] if len(models) == 1 and self.complete and not self.target.kind.is_router else None

    @property
    def is_stated(self) -> bool:
        """Whether the id itself or the caller says which models can answer, so that nobody was asked."""
        return self.complete and all(candidate.source in ("id", "base_models") for candidate in self.candidates)

    @cached_property
    def facts(self) -> ModelFacts:
        """What every candidate allows; where none is known, what the provider that the id names allows."""
        models = self.base_models
        if models:
            return common_facts(models)
        provider = self.target.resource_id.partition(".")[0]
        return replace(common_facts(()), provider=provider if provider in PROVIDERS else "")

    def base_model_of(self, model_id: str) -> str | None:
        """The base model behind an id or ARN that a trace gave."""
        for candidate in self.candidates:
            if candidate.model_id == model_id:
                return candidate.base_model
        return base_model_of_id(model_id)


def base_model_of_id(model_id: str) -> str | None:
    """The foundation model that an id or ARN names by itself; None for opaque ones and for what is no target."""
    try:
        target = parse_target(model_id)
    except InvalidTargetError:
        return None
    return _base_model_named(target)


def _base_model_named(target: Target) -> str | None:
    if target.kind in (TargetKind.FOUNDATION_MODEL, TargetKind.SYSTEM_INFERENCE_PROFILE):
        return base_model_id(target.resource_id)
    return None


def _hinted(target: Target) -> tuple[Candidate, ...]:
    """What a custom model's ARN says of its base: custom-model/BASE/ID, often without the base's version."""
    base = base_model_id(target.resource_id.rpartition("/")[0]) if target.kind is TargetKind.CUSTOM_MODEL else None
    return (Candidate(target.model_id, base, "id"),) if base else ()


class ControlPlane(Protocol):
    """What a resolver asks: boto3's clients, made when they are needed."""

    def client(self, service: str, target: Target | None = None) -> Any:
        """A boto3 client for ``"bedrock"`` or ``"bedrock-agent"``."""

    def identity(self, target: Target) -> Hashable:
        """Which control plane answers; results are shared between those that are equal."""


@dataclass
class _Kept:
    resolved: Future[ResolvedTarget]
    expires: float = 0.0
    complete: bool = False


class Resolver:
    """Resolves targets and remembers the answers. Safe under threads.

    Args:
        clock: Seconds, only ever rising.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._learned: OrderedDict[Hashable, tuple[Candidate, ...]] = OrderedDict()

    def forget(self) -> None:
        """Forget what was looked up and learned, so that the next call asks again (after an IAM policy was mended)."""
        with self._lock:
            self._kept.clear()
            self._learned.clear()

    def start_afresh(self) -> None:
        """Forget everything in a process that was just forked: the thread that was looking something up is not here."""
        self._lock = threading.Lock()
        self.forget()

    def peek(self, target: Target, control_plane: ControlPlane) -> ResolvedTarget:
        """What is known now, without asking anybody."""
        named = _resolve_by_id(target)
        if named is not None:
            return named
        key = (control_plane.identity(target), target.model_id)
        kept = self._kept.get(key)
        if kept is not None and kept.resolved.done() and kept.expires > self._clock():
            return self._with_learned(kept.resolved.result(), key)
        return self._with_learned(ResolvedTarget(target, _hinted(target), complete=False), key)

    def resolve(self, target: Target, control_plane: ControlPlane) -> ResolvedTarget:
        """What is known of the target, after asking the control plane where its id does not say it.

        Never raises for what the control plane answers: what could not be looked up is left out.
        """
        named = _resolve_by_id(target)
        if named is not None:
            return named
        key = (control_plane.identity(target), target.model_id)
        kept = self._kept.get(key)
        if kept is not None and kept.complete and kept.expires > self._clock():
            return kept.resolved.result()
        with self._lock:
            kept = self._kept.get(key)
            mine = kept is None or (kept.resolved.done() and kept.expires <= self._clock())
            if mine or kept is None:
                kept = self._kept[key] = _Kept(Future())
                while len(self._kept) > _MOST_KEPT:
                    self._kept.popitem(last=False)
        if mine:
            self._fill(kept, target, control_plane)
        return self._with_learned(kept.resolved.result(), key)

    def _fill(self, kept: _Kept, target: Target, control_plane: ControlPlane) -> None:
        try:
            resolved = _LookUp(control_plane).resolve(target)
        except BaseException:
            # An interrupt, or a mistake of ours. Those who wait go on without; the next caller asks again.
            kept.resolved.set_result(ResolvedTarget(target, complete=False))
            raise
        lasts = KEEP_SECONDS if resolved.complete else KEEP_REFUSED_SECONDS
        kept.expires = self._clock() + lasts
        kept.resolved.set_result(resolved)
        kept.complete = resolved.complete

    def learn(self, resolved: ResolvedTarget, invoked_model_id: str, control_plane: ControlPlane) -> None:
        """Remember a model that a trace has shown, where the control plane did not tell."""
        if resolved.complete or any(c.model_id == invoked_model_id for c in resolved.candidates):
            return
        seen = Candidate(invoked_model_id, base_model_of_id(invoked_model_id), "trace")
        key = (control_plane.identity(resolved.target), resolved.target.model_id)
        with self._lock:
            before = self._learned.get(key, ())
            if seen not in before:
                self._learned[key] = (*before, seen)
                while len(self._learned) > _MOST_KEPT:
                    self._learned.popitem(last=False)

    def _with_learned(self, resolved: ResolvedTarget, key: Hashable) -> ResolvedTarget:
        learned = () if resolved.complete else self._learned.get(key, ())
        known = {c.model_id for c in resolved.candidates}
        more = tuple(c for c in learned if c.model_id not in known)
        return replace(resolved, candidates=(*resolved.candidates, *more)) if more else resolved


@lru_cache(maxsize=4096)
def _resolve_by_id(target: Target) -> ResolvedTarget | None:
    """The answer where the id gives it, or where there is nobody to ask."""
    base = _base_model_named(target)
    if base is not None:
        return ResolvedTarget(target, (Candidate(target.model_id, base, "id"),))
    if target.kind in (TargetKind.FOUNDATION_MODEL, TargetKind.IMPORTED_MODEL, TargetKind.SAGEMAKER_ENDPOINT):
        # Imported models and endpoints are their own models; Bedrock knows no base model for them.
        return ResolvedTarget(target)
    return None


def from_base_models(target: Target, base_models: Iterable[str]) -> ResolvedTarget:
    """What the caller says, in place of a look-up. With a router the last one is not taken for the fallback."""
    candidates = [Candidate(model, base_model_of_id(model) or model, "base_models") for model in base_models]
    return ResolvedTarget(target, tuple(candidates))


# Kind → (service, operation). Shapes: botocore's service models, 1.43.
_LOOK_UPS = {
    TargetKind.DEFAULT_PROMPT_ROUTER: ("bedrock", "get_prompt_router"),
    TargetKind.CUSTOM_PROMPT_ROUTER: ("bedrock", "get_prompt_router"),
    TargetKind.SYSTEM_INFERENCE_PROFILE: ("bedrock", "get_inference_profile"),
    TargetKind.APPLICATION_INFERENCE_PROFILE: ("bedrock", "get_inference_profile"),
    TargetKind.PROVISIONED_THROUGHPUT: ("bedrock", "get_provisioned_model_throughput"),
    TargetKind.CUSTOM_MODEL_DEPLOYMENT: ("bedrock", "get_custom_model_deployment"),
    TargetKind.CUSTOM_MODEL: ("bedrock", "get_custom_model"),
    TargetKind.PROMPT: ("bedrock-agent", "get_prompt"),
}
_IDENTIFIERS = {
    "get_prompt_router": "promptRouterArn",
    "get_inference_profile": "inferenceProfileIdentifier",
    "get_provisioned_model_throughput": "provisionedModelId",
    "get_custom_model_deployment": "customModelDeploymentIdentifier",
    "get_custom_model": "modelIdentifier",
    "get_prompt": "promptIdentifier",
}
_REFUSALS = frozenset(["AccessDeniedException", "AccessDenied", "UnauthorizedOperation"])

# The call to the target will fail for the same reason, with an error of its own.
_CALL_SAYS_IT_TOO = frozenset(["NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "MissingRegionError",
                               "ResourceNotFoundException", "ValidationException", "UnrecognizedClientException",
                               "ExpiredTokenException", "InvalidSignatureException"])  # fmt: skip


class _LookUp:
    """One walk from a target down to foundation models."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self._control_plane = control_plane
        self._refused: str | None = None

    def resolve(self, target: Target, depth: int = 0) -> ResolvedTarget:
        named = _resolve_by_id(target)
        if named is not None:
            return named
        answer = self._ask(target) if depth < _DEEPEST else None
        if answer is None:
            return ResolvedTarget(target, _hinted(target), complete=False, refused=self._refused)
        operation = _LOOK_UPS[target.kind][1]
        api = _api_name(operation)
        below = [self._below(model_id, api, depth) for model_id in _models_named(target, answer)]
        found = ResolvedTarget(
            target,
            candidates=tuple(candidate for resolved in below for candidate in resolved.candidates),
            fallback=below[0].fallback if len(below) == 1 else None,
            complete=bool(below) and all(resolved.complete for resolved in below),
            refused=self._refused,
        )
        fallback = _fallback_id(answer)
        return replace(found, fallback=found.base_model_of(fallback)) if fallback else found

    def _below(self, model_id: str, api: str, depth: int) -> ResolvedTarget:
        try:
            target = parse_target(model_id)
        except InvalidTargetError:
            return ResolvedTarget(_unparsed(model_id), (Candidate(model_id, None, api),), complete=False)
        resolved = self.resolve(target, depth + 1)
        if target.kind.is_router or len(resolved.base_models) > 1:
            return resolved
        # A profile keeps its own name, because that is what a trace gives; several Regions of one model are one.
        base_model = resolved.base_models[0] if resolved.base_models else None
        return replace(resolved, candidates=(Candidate(model_id, base_model, api),))

    def _ask(self, target: Target) -> dict[str, Any] | None:
        from botocore.exceptions import BotoCoreError, ClientError

        service, operation = _LOOK_UPS[target.kind]
        arguments = {_IDENTIFIERS[operation]: target.model_id}
        if target.kind is TargetKind.PROMPT:
            arguments = {"promptIdentifier": target.model_id.removesuffix(f":{target.version}")}
            if target.version:
                arguments["promptVersion"] = target.version
        try:
            client = self._control_plane.client(service, target)
            answer: dict[str, Any] = getattr(client, operation)(**arguments)
        except ClientError as error:
            self._explain(target, operation, error.response.get("Error", {}).get("Code", ""), error)
        except (BotoCoreError, MissingRegionError) as error:
            self._explain(target, operation, type(error).__name__, error)
        else:
            return answer
        return None

    def _explain(self, target: Target, operation: str, code: str, error: Exception) -> None:
        api = _api_name(operation)
        self._refused = f"{api}: {code}"
        logger.debug("%s for %s failed: %s", api, target, error)
        if code in _CALL_SAYS_IT_TOO:
            return
        what = "was refused" if code in _REFUSALS else "failed"
        first = f"Allow the IAM action bedrock:{api}, or say" if code in _REFUSALS else "Say"
        warn_once(
            (what, target.model_id),
            f"{api} {what} for {target} ({code}). {first} which models it can use with base_models=[…], which skips "
            "the look-up. Until then its candidates are learned from the answers.",
        )


def _unparsed(model_id: str) -> Target:
    """Stands for an id of a form that is not known yet: the service may name what our parser does not take."""
    return Target(TargetKind.FOUNDATION_MODEL, None, None, None, model_id, model_id)


def _api_name(operation: str) -> str:
    return "".join(part.capitalize() for part in operation.split("_"))


def _models_named(target: Target, answer: dict[str, Any]) -> list[str]:
    """The ids or ARNs that a Get call's answer points on to."""
    if "models" in answer:  # GetPromptRouter, GetInferenceProfile
        return [model["modelArn"] for model in answer["models"] if model.get("modelArn")]
    if target.kind is TargetKind.PROMPT:
        variants = answer.get("variants") or []
        chosen = [v for v in variants if v.get("name") == answer.get("defaultVariant")] or variants
        return [v["modelId"] for v in chosen[:1] if v.get("modelId")]
    # GetProvisionedModelThroughput; GetCustomModelDeployment; GetCustomModel. `foundationModelArn` comes first: a
    # provisioned custom model's own ARN is opaque.
    for member in ("foundationModelArn", "baseModelArn", "modelArn"):
        if answer.get(member) and answer[member] != target.model_id:
            return [answer[member]]
    return []


def _fallback_id(answer: dict[str, Any]) -> str | None:
    fallback = answer.get("fallbackModel") or {}
    model_id: str | None = fallback.get("modelArn")
    return model_id


shared_resolver = Resolver()
"""The resolver of this process: what one object has looked up, the others know."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=shared_resolver.start_afresh)
