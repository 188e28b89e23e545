"""Look up the candidate models of a target with the control plane's Get calls, and remember the answers."""

from __future__ import annotations

import functools
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from bedrock_routing_integrations.bounded_cache import BoundedCache, ExpiringCache
from bedrock_routing_integrations.errors import InvalidTargetError, error_kind
from bedrock_routing_integrations.runtime import logger, warn_once
from bedrock_routing_integrations.targets import Target, TargetKind, parse_target

from .candidates import (
    CandidateModel,
    ResolvedTarget,
    base_model_of_id,
    candidates_in_arn,
    resolve_by_id,
    warn_about_unknown_id,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

# A router of routers does not exist. A prompt that names a router of application profiles is four levels deep.
_MAX_DEPTH = 6


class ControlPlane(Protocol):
    """The source of a look-up's boto3 clients."""

    def client(self, service: str, target: Target | None = None) -> Any:
        """Return a boto3 client.

        Args:
            service: ``"bedrock"`` or ``"bedrock-agent"``.
            target: The target of the look-up.
        """

    def identity(self, target: Target) -> Hashable:
        """Return an id of the control plane. Answers are shared by sources with equal ids."""


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

_TRANSIENT = frozenset(["ThrottlingException", "TooManyRequestsException", "InternalServerException",
                      "ServiceUnavailableException"])  # fmt: skip
# The call to the target will fail for the same reason, and explain it.
_REPEATED_BY_CALL = frozenset(["NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "MissingRegionError",
                               "ResourceNotFoundException", "ValidationException", "UnrecognizedClientException",
                               "ExpiredTokenException", "InvalidSignatureException"])  # fmt: skip


class ControlPlaneLookUp:
    """One walk from a target down to foundation models.

    Args:
        control_plane: Makes the clients.

    Attributes:
        transient: Whether a failed look-up may succeed in a moment.
    """

    def __init__(self, control_plane: ControlPlane) -> None:
        self._control_plane = control_plane
        self._refused: str | None = None
        self.transient = False

    def resolve(self, target: Target, depth: int = 0) -> ResolvedTarget:
        """Return a target with its candidate models. Models that cannot be looked up are left out.

        Args:
            target: The target.
            depth: Look-ups that led to it.
        """
        named = resolve_by_id(target)
        if named is not None:
            return named
        answer = self._ask(target) if depth < _MAX_DEPTH else None
        if answer is None:
            return ResolvedTarget(target, candidates_in_arn(target), complete=False, refused=self._refused)
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
            return ResolvedTarget(_unparsed(model_id), (CandidateModel(model_id, None, api),), complete=False)
        resolved = self.resolve(target, depth + 1)
        if target.kind.is_router or len(resolved.base_models) > 1:
            return resolved
        # A profile keeps its id, which is in traces. Its Regions have one model.
        base_model = resolved.base_models[0] if resolved.base_models else None
        is_global = any(candidate.is_global for candidate in resolved.candidates)
        return replace(resolved, candidates=(CandidateModel(model_id, base_model, api, is_global),))

    def _ask(self, target: Target) -> dict[str, Any] | None:
        service, operation = _LOOK_UPS[target.kind]
        arguments = {_IDENTIFIERS[operation]: target.model_id}
        if target.kind is TargetKind.PROMPT:
            arguments = {"promptIdentifier": target.model_id.removesuffix(f":{target.version}")}
            if target.version:
                arguments["promptVersion"] = target.version
        try:
            client = self._control_plane.client(service, target)
            answer: dict[str, Any] = getattr(client, operation)(**arguments)
        except Exception as error:  # noqa: BLE001 - a failed look-up must not stop the call
            self._explain(target, operation, error)
        else:
            return answer
        return None

    def _explain(self, target: Target, operation: str, error: Exception) -> None:
        code = error_kind(error)
        api = _api_name(operation)
        self._refused = f"{api}: {code}"
        self.transient = code in _TRANSIENT | _REPEATED_BY_CALL
        logger.debug("%s for %s failed: %s", api, target, error)
        if code in _REPEATED_BY_CALL:
            return
        what = "was refused" if code in _REFUSALS else "failed"
        first = f"Allow the IAM action bedrock:{api}, or name" if code in _REFUSALS else "Name"
        warn_once(
            (what, target.model_id),
            f"{api} {what} for {target} ({code}). {first} its models with base_models=[…], which skips the "
            "look-up. Until then its candidate models are learned from the answers.",
        )


def _unparsed(model_id: str) -> Target:
    """Return a target for an id in a form that `parse_target` does not know."""
    return Target(TargetKind.FOUNDATION_MODEL, None, None, None, model_id, model_id)


def _api_name(operation: str) -> str:
    return "".join(part.capitalize() for part in operation.split("_"))


def _models_named(target: Target, answer: dict[str, Any]) -> list[str]:
    """Return the ids or ARNs to which a Get call's answer points."""
    if "models" in answer:  # GetPromptRouter, GetInferenceProfile
        return [model["modelArn"] for model in answer["models"] if model.get("modelArn")]
    if target.kind is TargetKind.PROMPT:
        variants = answer.get("variants") or []
        chosen = [v for v in variants if v.get("name") == answer.get("defaultVariant")] or variants
        return [v["modelId"] for v in chosen[:1] if v.get("modelId")]
    # GetProvisionedModelThroughput, GetCustomModelDeployment, GetCustomModel. `foundationModelArn` first: the ARN of a
    # provisioned custom model is opaque.
    for member in ("foundationModelArn", "baseModelArn", "modelArn"):
        if answer.get(member) and answer[member] != target.model_id:
            return [answer[member]]
    return []


def _fallback_id(answer: dict[str, Any]) -> str | None:
    fallback = answer.get("fallbackModel") or {}
    model_id: str | None = fallback.get("modelArn")
    return model_id


# --- Remembered look-ups ---

KEEP_SECONDS = 3600.0
KEEP_REFUSED_SECONDS = 300.0
KEEP_FAILED_SECONDS = 30.0
_TARGETS_KEPT = 10_000


class Resolver:
    """Resolve targets and remember the answers. Safe under threads.

    Args:
        clock: Returns seconds that never decrease.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._resolved: ExpiringCache[Hashable, ResolvedTarget] = ExpiringCache(_TARGETS_KEPT, clock)
        self._learned: BoundedCache[Hashable, tuple[CandidateModel, ...]] = BoundedCache(_TARGETS_KEPT)

    def reset(self) -> None:
        """Forget all answers, so that the next call looks up again (after an IAM policy was mended)."""
        self._resolved.reset()
        self._learned.reset()

    def resolve(
        self,
        target: Target,
        control_plane: ControlPlane,
        *,
        look_up: Literal["expired", "missing", "never"] = "expired",
    ) -> ResolvedTarget:
        """Return a target with its candidate models, looked up if its id does not name one.

        Never raises for what the control plane answers: what could not be looked up is left out.

        Args:
            target: The target.
            control_plane: Makes the clients for the look-up.
            look_up: When to ask the control plane. ``"expired"``: without an answer, or if it is older than an hour
                (five minutes for a refusal, 30 seconds for a failure). ``"missing"``: if there never was an answer;
                an expired one is returned, also while another thread is asking. ``"never"``: an expired answer counts
                as none.
        """
        named = resolve_by_id(target)
        if named is not None:
            if look_up != "never":
                warn_about_unknown_id(target)
            return named
        key = (control_plane.identity(target), target.model_id)
        known = None if look_up == "expired" else self._resolved.peek(key, expired=look_up == "missing")
        if known is None and look_up == "never":
            known = ResolvedTarget(target, candidates_in_arn(target), complete=False)
        elif known is None:
            known = self._resolved.get(key, functools.partial(_look_up, target, control_plane))
        return self._with_learned(known, key)

    def learn(self, resolved: ResolvedTarget, invoked_model_id: str, control_plane: ControlPlane) -> None:
        """Remember a model that a trace has shown, unless the control plane has named all models.

        Args:
            resolved: The target.
            invoked_model_id: The id or ARN in the trace.
            control_plane: As for `resolve`.
        """
        if resolved.complete or any(c.model_id == invoked_model_id for c in resolved.candidates):
            return
        seen = CandidateModel(invoked_model_id, base_model_of_id(invoked_model_id), "trace")
        key = (control_plane.identity(resolved.target), resolved.target.model_id)
        before = self._learned.get(key, ())
        if seen not in before:  # of two threads one may overwrite the other; the next answer mends it
            self._learned.put(key, (*before, seen))

    def _with_learned(self, resolved: ResolvedTarget, key: Hashable) -> ResolvedTarget:
        learned = () if resolved.complete else self._learned.get(key, ())
        known = {c.model_id for c in resolved.candidates}
        more = tuple(c for c in learned if c.model_id not in known)
        return replace(resolved, candidates=(*resolved.candidates, *more)) if more else resolved


def _look_up(
    target: Target, control_plane: ControlPlane, before: ResolvedTarget | None
) -> tuple[ResolvedTarget, float]:
    look_up = ControlPlaneLookUp(control_plane)
    resolved = look_up.resolve(target)
    if resolved.complete:
        return resolved, KEEP_SECONDS
    # An earlier complete answer is better than none.
    best = before if before is not None and before.complete else resolved
    return best, KEEP_FAILED_SECONDS if look_up.transient else KEEP_REFUSED_SECONDS
