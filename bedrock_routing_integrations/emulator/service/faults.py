"""Inject faults: errors, delays and broken connections of Bedrock or the network, on demand or at a rate."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.emulator.wire.service_model import ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["ANY_OPERATION", "KINDS", "Fault", "Faults", "Plan"]

ANY_OPERATION = "*"
_RUNTIME = frozenset({"Converse", "ConverseStream"})
_STREAMS = frozenset({"ConverseStream", "RetrieveAndGenerateStream"})

_ERRORS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "throttling": ("ThrottlingException", "Too many requests, please wait before trying again."),
        "internal": (
            "InternalServerException",
            "The system encountered an unexpected error during processing. Try your request again.",
        ),
        "unavailable": ("ServiceUnavailableException", "Bedrock is unable to process your request."),
        "model_timeout": (
            "ModelTimeoutException",
            "Model has timed out in processing the request. Try your request again.",
        ),
        "model_not_ready": (
            "ModelNotReadyException",
            "Model is not ready for inference. Wait and try your request again.",
        ),
        "access_denied": ("AccessDeniedException", ""),
        "validation": ("ValidationException", "The request is not valid."),
        "bad_gateway": ("BadGatewayException", "There was an issue with a dependency due to a server issue."),
        "dependency_failed": ("DependencyFailedException", "The request failed due to a dependency error."),
    }
)
_EVERYWHERE = frozenset({"model_id"})
_ALWAYS = ("operation", "times", "rate", "after")
# Each kind and its details, in addition to model_id.
KINDS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        **{kind: frozenset({"message"}) for kind in _ERRORS},
        "slow_first_byte": frozenset({"seconds", "in_flight"}),
        "slow_stream": frozenset({"seconds"}),
        "hang": frozenset(),
        "reset": frozenset(),
        "cut": frozenset({"frame", "byte", "abrupt"}),
        "bad_checksum": frozenset({"frame"}),
        "exception_event": frozenset({"name", "message", "frame"}),
    }
)
_STREAM_KINDS = frozenset({"slow_stream", "cut", "bad_checksum", "exception_event"})
_DELAYS = frozenset({"slow_first_byte", "slow_stream"})
_ACTIONS = {"Converse": "InvokeModel", "ConverseStream": "InvokeModelWithResponseStream"}


@dataclass(eq=False)
class Fault:
    """A registered fault.

    Attributes:
        kind: One of `KINDS`.
        operation: The operation to hit; None for Converse and ConverseStream, "*" for every operation.
        times: The number of requests to hit; None without limit.
        rate: The share of matching requests to hit, 0 to 1; None for all.
        after: The number of matching requests to leave alone first.
        details: The settings of the kind.
        hits: The number of requests hit so far.
    """

    kind: str
    operation: str | None
    times: int | None
    rate: float | None
    after: int
    details: Mapping[str, Any]
    hits: int = 0
    _seen: int = 0
    _cancelled: bool = False
    _random: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311 - repeatable, not secret

    def cancel(self) -> None:
        """Stop hitting requests."""
        self._cancelled = True

    @property
    def active(self) -> bool:
        """Whether the fault can still hit a request."""
        return not self._cancelled and (self.times is None or self.hits < self.times)

    def matches(self, operation: str, labels: Iterable[str]) -> bool:
        """Return whether the fault applies to a request.

        Args:
            operation: The operation's name.
            labels: The ids and ARNs of models and knowledge bases in the request.
        """
        if self.kind in _STREAM_KINDS and operation not in _STREAMS:
            return False
        if self.operation is None and operation not in _RUNTIME:
            return False
        if self.operation not in {None, ANY_OPERATION, operation}:
            return False
        wanted = self.details.get("model_id")
        return wanted is None or any(wanted in {label, label.rpartition("/")[2]} for label in labels)

    def due(self) -> bool:
        """Count a matching request and return whether to hit it."""
        self._seen += 1
        if self._seen <= self.after:
            return False
        return self.rate is None or self._random.random() < self.rate

    def error(self, operation: str, account: str, region: str, labels: Iterable[str]) -> ServiceError | None:
        """Return the error to answer with; None for a kind of fault that is not an error response.

        Args:
            operation: The operation's name.
            account: The account's number.
            region: The Region of the request.
            labels: The ids and ARNs of models and knowledge bases in the request. The first is the resource of
                access_denied.
        """
        if self.kind not in _ERRORS:
            return None
        name, text = _ERRORS[self.kind]
        if self.kind == "access_denied":
            action = _ACTIONS.get(operation, operation)
            resource = next(iter(labels), None) or f"arn:aws:bedrock:{region}:{account}:*"
            text = (
                f"User: arn:aws:iam::{account}:user/emulated is not authorized to perform: bedrock:{action} "
                f"on resource: {resource} because no identity-based policy allows the bedrock:{action} action"
            )
        return ServiceError(name, self.details.get("message") or text)


@dataclass(frozen=True)
class Plan:
    """The faults of one request.

    Attributes:
        delay: Real seconds before the response.
        in_flight: The number of concurrent requests that ends the delay early; None for no such limit.
        pause: Real seconds between the frames of a stream.
        fault: The fault that replaces the response or breaks the stream; None if the request succeeds.
    """

    delay: float = 0.0
    in_flight: int | None = None
    pause: float = 0.0
    fault: Fault | None = None


_NOTHING = Plan()


class Faults:
    """The registered faults, asked once for each request. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(
        self,
        kind: str,
        *,
        operation: str | None,
        times: int | None,
        rate: float | None,
        after: int,
        details: Mapping[str, Any],
    ) -> Fault:
        """Register a fault.

        Args:
            kind: One of `KINDS`.
            operation: The operation to hit; None for Converse and ConverseStream, "*" for every operation.
            times: The number of requests to hit; None for 1 without `rate`, and for no limit with `rate`.
            rate: The share of matching requests to hit, 0 to 1; None for all.
            after: The number of matching requests to leave alone first.
            details: The settings of the kind: those in `KINDS`, and `model_id`.

        Raises:
            ValueError: For an unknown kind, an unknown detail, a rate outside 0 to 1, or an operation that the kind
                cannot hit.
        """
        if kind not in KINDS:
            raise ValueError(f"Unknown fault {kind!r}; there are: {', '.join(KINDS)}")
        unknown = set(details) - KINDS[kind] - _EVERYWHERE
        if unknown:
            allowed = ", ".join((*sorted(KINDS[kind] | _EVERYWHERE), *_ALWAYS))
            raise ValueError(f"{kind} takes no {', '.join(sorted(unknown))}; it takes: {allowed}")
        if kind in _STREAM_KINDS and operation not in {None, ANY_OPERATION, *_STREAMS}:
            raise ValueError(f"{kind} breaks streams: it is for {' and '.join(sorted(_STREAMS))}, not for {operation}")
        if rate is not None and not 0 <= rate <= 1:
            raise ValueError(f"rate is a share from 0 to 1, not {rate}")
        if times is None and rate is None:
            times = 1
        with self._lock:
            seed = f"{len(self._faults)}/{kind}/{operation}"
            fault = Fault(kind, operation, times, rate, after, dict(details), _random=random.Random(seed))  # noqa: S311
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Remove every fault."""
        with self._lock:
            self._faults.clear()

    def plan(self, operation: str, labels: Iterable[str]) -> Plan:
        """Return the faults of a request: every delay that is due, and the first other fault that is due.

        Args:
            operation: The operation's name.
            labels: The ids and ARNs of models and knowledge bases in the request.
        """
        if not self._faults:
            return _NOTHING
        delay = pause = 0.0
        in_flight: int | None = None
        chosen: Fault | None = None
        with self._lock:
            for fault in self._faults:
                if not fault.active or not fault.matches(operation, labels) or not fault.due():
                    continue
                if fault.kind not in _DELAYS and chosen is not None:
                    continue
                fault.hits += 1
                seconds = float(fault.details.get("seconds", 1.0))
                if fault.kind == "slow_first_byte":
                    delay += seconds
                    in_flight = fault.details.get("in_flight", in_flight)
                elif fault.kind == "slow_stream":
                    pause += seconds
                else:
                    chosen = fault
        return Plan(delay, in_flight, pause, chosen)
