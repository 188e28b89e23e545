"""Limit what speculative cache writes may cost.

Writing a prefix to Bedrock's cache costs more than plain input (1.25 times for Claude's 5-minute entries) and pays only
if the prefix is read later. The planner predicts whether it will be. This ledger bounds the loss when it is wrong.

Two budgets apply to each request, both in plain input tokens:

- ``speculative``: prefixes without evidence of reuse. At first about three requests' write premium; in the long run
  1.5% of all input, plus what caching has saved so far.
- ``total``: all writes. One average request's tokens, or eight for 1-hour entries, which take longer to pay back.

Writes in flight count as lost until their answer arrives.
"""

from __future__ import annotations

from typing import NamedTuple

_RESERVED_SECONDS = 600.0  # after that the answer is taken as lost, and its reservation dropped


class WriteBudget(NamedTuple):
    """What cache writes may cost in one request beyond plain input, in plain input tokens.

    Attributes:
        speculative: For prefixes without evidence of reuse, if none of them is read.
        total: For all writes, weighted by the probability that they are not read.
        total_1h: The same if the request writes 1-hour entries, which cost more and take longer to pay back.
    """

    speculative: float
    total: float
    total_1h: float


class SavingsLedger:
    """Track what caching cost and saved for one target, in plain input tokens."""

    __slots__ = ("_requests", "_reserved", "_saved", "_tokens")

    _SPECULATIVE_REQUESTS = 3.2  # average requests written without evidence of reuse
    _TOTAL_REQUESTS, _TOTAL_REQUESTS_1H = 1.0, 8.0
    _SHARE_OF_INPUT = 0.015

    def __init__(self) -> None:
        self._requests = 0
        self._tokens = self._saved = 0.0
        self._reserved: dict[int, tuple[float, float]] = {}

    def budget(self, request_tokens: float, write_premium: float) -> WriteBudget:
        """Return what one request may spend on cache writes.

        Args:
            request_tokens: Estimated input tokens of the request.
            write_premium: Extra cost of writing one token, as a share of a plain input token (0.25 for Claude, 5m).

        Returns:
            The budgets, in plain input tokens. Negative once earlier speculation has used them up.
        """
        input_tokens = self._tokens + request_tokens
        # The smaller mean: a huge request among small ones must not raise its own budget.
        mean = (
            min(input_tokens / (self._requests + 1), self._tokens / self._requests) if self._tokens else request_tokens
        )
        long_run, reserved = self._SHARE_OF_INPUT * input_tokens, sum(lost for _, lost in self._reserved.values())
        return WriteBudget(
            max(self._SPECULATIVE_REQUESTS * write_premium * mean, long_run) + (self._saved - reserved),
            max(self._TOTAL_REQUESTS * mean, long_run) + self._saved,
            max(self._TOTAL_REQUESTS_1H * mean, long_run) + self._saved,
        )

    def reserve(self, request_id: int, tokens_at_risk: float, now: float) -> None:
        """Count a request's speculative writes as lost until `release`.

        Args:
            request_id: Identifies the request in `release`.
            tokens_at_risk: Cost of its speculative writes beyond plain input, in plain input tokens.
            now: The time, in seconds.
        """
        overdue = [key for key, (since, _) in self._reserved.items() if now - since > _RESERVED_SECONDS]
        for key in overdue:
            del self._reserved[key]
        if tokens_at_risk > 0:
            self._reserved[request_id] = now, tokens_at_risk

    def release(self, request_id: int) -> None:
        """Stop counting a request's writes as lost: it was answered or it failed."""
        self._reserved.pop(request_id, None)

    def record(self, input_tokens: float, tokens_saved: float) -> None:
        """Add an answered request.

        Args:
            input_tokens: Its input tokens, cached tokens included.
            tokens_saved: What caching saved in it, in plain input tokens; negative if caching cost more.
        """
        self._requests += 1
        self._tokens += input_tokens
        self._saved += tokens_saved
