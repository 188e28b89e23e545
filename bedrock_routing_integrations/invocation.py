"""Read a Converse response into an `Invocation`, and write it as the ``"routing"`` dictionary."""

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
"""The key of a response under which its `Invocation` is added."""


@dataclass(frozen=True)
class Usage:
    """The tokens of a call, as Bedrock bills them.

    All counts, here and in both frameworks, follow these rules:

    - Bedrock's ``inputTokens`` (`input`) **excludes** tokens read from the cache or written to it.
    - The prompt (`prompt`) includes them: ``input + cache_read + cache_write_5m + cache_write_1h``. It is LangChain's
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
        """The tokens of the whole prompt."""
        return self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h

    @property
    def total(self) -> int:
        """The tokens of the prompt and the answer."""
        return self.prompt + self.output


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """The facts of one call: requested, invoked and served. None means that a fact is not known; none is guessed.

    Attributes:
        requested_model_id: The id or ARN of the target.
        target_kind: The kind of the target, a value of `TargetKind`.
        invoked_model_id: The id or ARN of the model or profile that answered, from the trace; only routers send one.
        invoked_model: The base model that answered.
        is_fallback: Whether the router answered with its fallback model; False where nothing is routed.
        candidates: The base models that could have answered.
        latency_requested: ``performanceConfig.latency`` of the request.
        latency_served: ``performanceConfig.latency`` of the response. Over quota Bedrock serves (and bills)
            ``optimized`` as ``standard``.
        service_tier_requested: ``serviceTier.type`` of the request.
        service_tier_served: ``serviceTier.type`` of the response.
        usage: The tokens of the call.
        cost_usd: Price of the call, in US dollars.
        fallback_cost_usd: Price of the same tokens on the router's fallback model, in US dollars.
        latency_ms: ``metrics.latencyMs`` of the response, in milliseconds.
        time_to_first_token_ms: Milliseconds from sending to the first content of a stream, measured in this process.
        attempts: Number of HTTP requests: boto3's retries, and the one without a refused part.
        request_id: AWS's id of the request.
        cache_points: The cachePoint markers that were sent, including the caller's own. Each has section (and `message`
            in messages), position in its list, ttl and reason.
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
        """Return the ``"routing"`` entry. It is JSON-safe, and its keys are never renamed."""
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
    """Return the invoked model of a router's trace, from a Converse response or a stream's ``metadata`` event."""
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
    """Return the `Invocation` of a call.

    Args:
        request: The Converse request that was sent.
        response: The Converse response, or the ``metadata`` event of a stream.
        resolved: The target with its candidate models.
        http: ``ResponseMetadata``, if it is not part of `response` (for a stream).
        time_to_first_token_ms: The measured time of a stream, in milliseconds.
        cache_points: The cache points that were sent.
        stop_reason: The stop reason of a stream's ``messageStop`` event; by default that of `response`.
        earlier_attempts: Number of HTTP requests before those that `http` counts.
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
    """Return a usage with the cached tokens subtracted from ``inputTokens``.

    OpenAI's models include cached tokens in ``inputTokens`` in streams, but not in whole responses (bifrost#6942,
    2026-09: ``inputTokens`` 4,995 with ``cacheWriteInputTokens`` 4,993 in a stream, 2 in the response to the same
    request). If ``inputTokens`` is less than the cached tokens, it cannot include them, and the usage is unchanged.
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
    # A malformed count must not lose an answer that has arrived: it is treated as not known.
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
        # Writes without a detail have the default lifetime of five minutes.
        cache_write_5m=written - one_hour,
        cache_write_1h=one_hour,
    )


def _count(value: Any) -> int | None:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS
    return value if is_count else None
