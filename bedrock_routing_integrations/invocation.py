"""What happened in one call: a Converse response → `Invocation` → the ``"routing"`` dictionary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bedrock_routing_integrations.models.candidates import ResolvedTarget

_MOST_TOKENS = 10**12
ROUTING = "routing"
"""The key under which a call's `Invocation` is added to a response."""


@dataclass(frozen=True)
class Usage:
    """Tokens, as Bedrock bills them. The arithmetic of all counts, here and in both frameworks, is this.

    - Bedrock's ``inputTokens`` (`input`) **excludes** what was read from a cache or written to one.
    - The prompt (`prompt`) is all of it: ``input + cache_read + cache_write_5m + cache_write_1h``. It is LangChain's
      ``input_tokens`` (with ``input_token_details`` a part of it) and LlamaIndex's ``prompt_tokens``.
    - The total (`total`), Bedrock's ``totalTokens`` and both frameworks', is ``prompt + output``.
    """

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0

    @property
    def prompt(self) -> int:
        """The whole prompt."""
        return self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h

    @property
    def total(self) -> int:
        """The prompt and the answer."""
        return self.prompt + self.output


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """What one call asked for and what was served. None means that it is not known, never a guess.

    Attributes:
        requested_model_id: The id or ARN that was called.
        target_kind: Its `TargetKind`, as text.
        invoked_model_id: The model or profile that answered, as the trace gave it; only routers have that trace.
        invoked_model: The base model that answered.
        is_fallback: Whether the router answered with its fallback model; False where nothing is routed.
        candidates: The base models that could have answered.
        latency_requested: ``performanceConfig.latency`` of the request.
        latency_served: The same of the response. Over quota Bedrock serves (and bills) ``optimized`` as ``standard``.
        service_tier_requested: ``serviceTier.type`` of the request.
        service_tier_served: The same of the response.
        usage: Tokens.
        cost_usd: Price of the call, in US dollars.
        fallback_cost_usd: What the same tokens would have cost on the router's fallback model.
        latency_ms: Milliseconds that Bedrock took, as it reports them.
        time_to_first_token_ms: Milliseconds from sending to the first content of a stream, measured here.
        attempts: How often the request was sent: by boto3's retries, and once more without what Bedrock refused.
        request_id: AWS's id of the request.
        cache_points: The cachePoint markers that were sent, the caller's own too: section (with `message` in messages),
            position in its list, ttl, reason.
        stop_reason: Converse's ``stopReason``.
        project: ``projectIdentifier`` of the request.
    """

    requested_model_id: str
    target_kind: str
    invoked_model_id: str | None = None
    invoked_model: str | None = None
    is_fallback: bool | None = None
    candidates: tuple[str, ...] = ()
    latency_requested: str | None = None
    latency_served: str | None = None
    service_tier_requested: str | None = None
    service_tier_served: str | None = None
    usage: Usage | None = None
    cost_usd: float | None = None
    fallback_cost_usd: float | None = None
    latency_ms: int | None = None
    time_to_first_token_ms: int | None = None
    attempts: int | None = None
    request_id: str | None = None
    cache_points: tuple[dict[str, Any], ...] = field(default=())
    stop_reason: str | None = None
    project: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The ``"routing"`` entry: JSON-safe, its keys never renamed."""
        usage = self.usage
        return {
            "requested_model_id": self.requested_model_id,
            "target_kind": self.target_kind,
            "invoked_model_id": self.invoked_model_id,
            "invoked_model": self.invoked_model,
            "is_fallback": self.is_fallback,
            "candidates": list(self.candidates),
            "latency": {"requested": self.latency_requested, "served": self.latency_served},
            "service_tier": {"requested": self.service_tier_requested, "served": self.service_tier_served},
            "usage": None if usage is None else dict(vars(usage)),
            "cost_usd": self.cost_usd,
            "fallback_cost_usd": self.fallback_cost_usd,
            "latency_ms": self.latency_ms,
            "time_to_first_token_ms": self.time_to_first_token_ms,
            "attempts": self.attempts,
            "request_id": self.request_id,
            "cache_points": [dict(point) for point in self.cache_points],
            "stop_reason": self.stop_reason,
            "project": self.project,
        }


def invoked_model_id(response: Mapping[str, Any]) -> str | None:
    """The id that a router's trace gives, in a Converse response or a stream's ``metadata`` event."""
    trace = response.get("trace") or {}
    model_id = (trace.get("promptRouter") or {}).get("invokedModelId")
    return model_id if isinstance(model_id, str) else None


def read_invocation(
    request: Mapping[str, Any],
    response: Mapping[str, Any],
    resolved: ResolvedTarget,
    *,
    http: Mapping[str, Any] | None = None,
    time_to_first_token_ms: int | None = None,
    cache_points: Sequence[dict[str, Any]] = (),
    stop_reason: str | None = None,
    earlier_attempts: int = 0,
) -> Invocation:
    """Read what happened.

    Args:
        request: The Converse request.
        response: The Converse response, or the ``metadata`` event of a stream.
        resolved: The target that was called.
        http: ``ResponseMetadata``, where it is not part of `response` (a stream's).
        time_to_first_token_ms: As measured, for a stream.
        cache_points: The points that were sent.
        stop_reason: As a stream's ``messageStop`` event says it; by default the response's own.
        earlier_attempts: How often the request was sent before the response's own attempts.
    """
    target = resolved.target
    http = http if http is not None else response.get("ResponseMetadata") or {}
    traced = invoked_model_id(response)
    invoked = resolved.base_model_of(traced) if traced else resolved.only_model
    return Invocation(
        requested_model_id=target.model_id,
        target_kind=target.kind.value,
        invoked_model_id=traced,
        invoked_model=invoked,
        is_fallback=_is_fallback(invoked, resolved),
        candidates=resolved.base_models,
        latency_requested=(request.get("performanceConfig") or {}).get("latency"),
        latency_served=(response.get("performanceConfig") or {}).get("latency"),
        service_tier_requested=(request.get("serviceTier") or {}).get("type"),
        service_tier_served=(response.get("serviceTier") or {}).get("type"),
        usage=_read_usage(response.get("usage")),
        latency_ms=(response.get("metrics") or {}).get("latencyMs"),
        time_to_first_token_ms=time_to_first_token_ms,
        attempts=earlier_attempts + http["RetryAttempts"] + 1 if "RetryAttempts" in http else None,
        request_id=http.get("RequestId"),
        cache_points=tuple(cache_points),
        stop_reason=stop_reason or response.get("stopReason"),
        project=request.get("projectIdentifier"),
    )


def without_cached_tokens(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Return a usage whose ``inputTokens`` includes the cached tokens with those taken out.

    OpenAI's models count so in streams, and not in whole answers (bifrost#6942, 2026-09: ``inputTokens`` 4,995 with
    ``cacheWriteInputTokens`` 4,993 in a stream, 2 in the answer to the same request). Where the input is less than
    what was cached it cannot be so, and the usage is returned as it is.
    """
    names = ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens")
    entered, read, written = (_count(usage.get(name)) or 0 for name in names)
    cached = read + written
    if not cached or entered < cached:
        return dict(usage)
    total = entered + (_count(usage.get("outputTokens")) or 0)
    return {**usage, "inputTokens": entered - cached, "totalTokens": total}


def _is_fallback(invoked: str | None, resolved: ResolvedTarget) -> bool | None:
    if resolved.fallback is not None:
        return None if invoked is None else invoked == resolved.fallback
    return None if resolved.target.kind.is_router or not resolved.complete else False


def _read_usage(usage: Any) -> Usage | None:
    # The answer has come, and must not be lost to a strange count in it; a count that is none is not known.
    if not isinstance(usage, Mapping) or _count(usage.get("inputTokens")) is None:
        return None
    by_ttl: Counter[Any] = Counter()
    details = usage.get("cacheDetails")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, Mapping):
            by_ttl[str(detail.get("ttl"))] += _count(detail.get("inputTokens")) or 0
    one_hour, written = by_ttl["1h"], max(_count(usage.get("cacheWriteInputTokens")) or 0, by_ttl.total())
    return Usage(
        input=_count(usage["inputTokens"]) or 0,
        output=_count(usage.get("outputTokens")) or 0,
        cache_read=_count(usage.get("cacheReadInputTokens")) or 0,
        # What no detail tells of has the default lifetime of five minutes.
        cache_write_5m=written - one_hour,
        cache_write_1h=one_hour,
    )


def _count(value: Any) -> int | None:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS
    return value if is_count else None
