"""One walk from a target down to foundation models, through the control plane's Get calls."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from bedrock_routing_integrations.errors import InvalidTargetError
from bedrock_routing_integrations.runtime import logger, warn_once
from bedrock_routing_integrations.targets import Target, TargetKind, parse_target

from .advice import warn_of_unknown_id
from .candidates import Candidate, ResolvedTarget, base_model_of_id, hinted, resolve_by_id

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

# A router of routers does not exist; a prompt that names a router whose targets are application profiles is four deep.
_DEEPEST = 6


class ControlPlane(Protocol):
    """What a resolver asks: boto3's clients, made when they are needed."""

    def client(self, service: str, target: Target | None = None) -> Any:
        """A boto3 client for ``"bedrock"`` or ``"bedrock-agent"``."""

    def identity(self, target: Target) -> Hashable:
        """Which control plane answers; results are shared between those that are equal."""


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

_PASSING = frozenset(["ThrottlingException", "TooManyRequestsException", "InternalServerException",
                      "ServiceUnavailableException"])  # fmt: skip
# The call to the target will fail for the same reason, with an error of its own.
_CALL_SAYS_IT_TOO = frozenset(["NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "MissingRegionError",
                               "ResourceNotFoundException", "ValidationException", "UnrecognizedClientException",
                               "ExpiredTokenException", "InvalidSignatureException"])  # fmt: skip


class LookUp:
    """One walk from a target down to foundation models."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self._control_plane = control_plane
        self._refused: str | None = None
        self.passing = False
        """Whether what failed may well succeed in a moment."""

    def resolve(self, target: Target, depth: int = 0) -> ResolvedTarget:
        """Ask, and follow what the answers point to; what cannot be asked is left out."""
        named = resolve_by_id(target)
        if named is not None:
            return named
        answer = self._ask(target) if depth < _DEEPEST else None
        if answer is None:
            return ResolvedTarget(target, hinted(target), complete=False, refused=self._refused)
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
        is_global = any(candidate.is_global for candidate in resolved.candidates)
        return replace(resolved, candidates=(Candidate(model_id, base_model, api, is_global),))

    def _ask(self, target: Target) -> dict[str, Any] | None:
        from botocore.exceptions import ClientError

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
        except Exception as error:  # noqa: BLE001 - whatever answers there, a look-up must not cost the user the call
            self._explain(target, operation, type(error).__name__, error)
        else:
            return answer
        return None

    def _explain(self, target: Target, operation: str, code: str, error: Exception) -> None:
        api = _api_name(operation)
        self._refused = f"{api}: {code}"
        self.passing = code in _PASSING | _CALL_SAYS_IT_TOO
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


# --- Which base models can answer for a target ---

KEEP_SECONDS = 3600.0
KEEP_REFUSED_SECONDS = 300.0
KEEP_FAILED_SECONDS = 30.0
_MOST_KEPT = 10_000


@dataclass
class _Kept:
    resolved: Future[ResolvedTarget]
    expires: float = 0.0
    complete: bool = False
    before: ResolvedTarget | None = None


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
        named = resolve_by_id(target)
        if named is not None:
            return named
        key = (control_plane.identity(target), target.model_id)
        kept = self._kept.get(key)
        if kept is not None and kept.resolved.done() and kept.expires > self._clock():
            return self._with_learned(kept.resolved.result(), key)
        return self._with_learned(ResolvedTarget(target, hinted(target), complete=False), key)

    def recall(self, target: Target, control_plane: ControlPlane) -> ResolvedTarget:
        """What was last found out, however long ago and even if it was nothing; looked up only where nobody ever did.

        For those who want facts and not the latest candidates, and must not wait for a look-up again and again.
        """
        key = (control_plane.identity(target), target.model_id)
        kept = self._kept.get(key)
        if kept is not None and kept.resolved.done():
            return self._with_learned(kept.resolved.result(), key)
        if kept is not None and kept.before is not None:
            return self._with_learned(kept.before, key)  # somebody is looking it up anew
        return self.resolve(target, control_plane)

    def resolve(self, target: Target, control_plane: ControlPlane) -> ResolvedTarget:
        """What is known of the target, after asking the control plane where its id does not say it.

        Never raises for what the control plane answers: what could not be looked up is left out. Warns once of an id
        that is not a known one.
        """
        named = resolve_by_id(target)
        if named is not None:
            warn_of_unknown_id(target)
            return named
        key = (control_plane.identity(target), target.model_id)
        kept = self._kept.get(key)
        if kept is not None and kept.complete and kept.expires > self._clock():
            return kept.resolved.result()
        with self._lock:
            kept = self._kept.get(key)
            before = kept
            mine = kept is None or (kept.resolved.done() and kept.expires <= self._clock())
            if mine or kept is None:
                kept = self._kept[key] = _Kept(Future(), before=before.resolved.result() if before else None)
                while len(self._kept) > _MOST_KEPT:
                    self._kept.popitem(last=False)
        if mine:
            self._fill(kept, target, control_plane)
        return self._with_learned(kept.resolved.result(), key)

    def _fill(self, kept: _Kept, target: Target, control_plane: ControlPlane) -> None:
        try:
            look_up = LookUp(control_plane)
            resolved, passing = look_up.resolve(target), look_up.passing
        except BaseException:
            # An interrupt, or a mistake of ours. Those who wait go on without; the next caller asks again.
            kept.resolved.set_result(ResolvedTarget(target, complete=False))
            raise
        if resolved.complete:
            lasts = KEEP_SECONDS
        else:
            # What was known once is still the best that is known.
            resolved = kept.before if kept.before is not None and kept.before.complete else resolved
            lasts = KEEP_FAILED_SECONDS if passing else KEEP_REFUSED_SECONDS
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


shared_resolver = Resolver()
"""The resolver of this process: what one object has looked up, the others know."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=shared_resolver.start_afresh)
