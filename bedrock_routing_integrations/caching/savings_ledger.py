"""What caching has cost and saved so far: guesses are paid for out of savings, or out of very little."""

from __future__ import annotations

from typing import NamedTuple

_SECONDS_AT_STAKE = 600.0


class Budget(NamedTuple):
    """What writing may cost in one request, in plain input tokens.

    Attributes:
        guesses: For what is only guessed to come back, if none of it does.
        outlay: For everything, as far as it is not expected to come back.
        outlay_of_hours: The same where entries of an hour are written, which are dearer and take longer to pay.
    """

    guesses: float
    outlay: float
    outlay_of_hours: float


class Account:
    """The account of one target, in plain input tokens.

    A prefix of which nothing is known is written on a guess. What that has cost more than caching saved, with what is
    at stake in requests under way, may be a few guesses' worth to begin with, and 1.5% of all input in the long run.
    What there is evidence for has a limit of its own: whatever the prompts are, caching hardly costs more than none.
    """

    __slots__ = ("_requests", "_saved", "_stakes", "_tokens")

    _GUESSES = 3.2  # requests written on a guess
    _OUTLAY, _OUTLAY_OF_HOURS = 1.0, 8.0  # requests
    _ALWAYS = 0.015  # of all input

    def __init__(self) -> None:
        self._requests = 0
        self._tokens = self._saved = 0.0
        self._stakes: dict[int, tuple[float, float]] = {}

    def budget(self, tokens: float, premium: float) -> Budget:
        """What may be paid in a request of so many tokens; `premium`: what a token written costs over plain."""
        total = self._tokens + tokens
        # A huge one among small ones does not vouch for itself.
        mean = min(total / (self._requests + 1), self._tokens / self._requests) if self._tokens else tokens
        always, left = self._ALWAYS * total, self._saved - sum(stake for _, stake in self._stakes.values())
        return Budget(
            max(self._GUESSES * premium * mean, always) + left,
            max(self._OUTLAY * mean, always) + self._saved,
            max(self._OUTLAY_OF_HOURS * mean, always) + self._saved,
        )

    def stake(self, request: object, tokens: float, now: float) -> None:
        """A request is on its way in which so much is at stake."""
        overdue = [key for key, (since, _) in self._stakes.items() if now - since > _SECONDS_AT_STAKE]
        for key in overdue:
            del self._stakes[key]
        if tokens > 0:
            self._stakes[id(request)] = now, tokens

    def settle(self, request: object) -> None:
        """It was answered, or failed."""
        self._stakes.pop(id(request), None)

    def pay(self, tokens: float, saved: float) -> None:
        """What a request had, and what caching saved in it."""
        self._requests += 1
        self._tokens += tokens
        self._saved += saved
