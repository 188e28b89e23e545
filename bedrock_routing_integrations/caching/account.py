"""What caching has cost and saved so far: guesses are paid for out of savings, or out of very little."""

from __future__ import annotations

_SECONDS_AT_STAKE = 600.0


class Account:
    """The account of one target, in plain input tokens.

    A prefix of which nothing is known is written on a guess. What that has cost more than caching saved, with what is
    at stake in requests under way, may be a few guesses' worth to begin with, and 1.5% of all input in the long run:
    guesses never make caching noticeably dearer than none.
    """

    __slots__ = ("_requests", "_saved", "_stakes", "_tokens")

    _FIRST = 0.8  # of a request: three guesses at 25% each
    _ALWAYS = 0.015

    def __init__(self) -> None:
        self._requests = 0
        self._tokens = self._saved = 0.0
        self._stakes: dict[int, tuple[float, float]] = {}

    def budget(self, tokens: float) -> float:
        """What guesses may cost in a request of so many tokens."""
        total = self._tokens + tokens
        allowed = max(self._FIRST * total / (self._requests + 1), self._ALWAYS * total)
        return allowed + self._saved - sum(stake for _, stake in self._stakes.values())

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
