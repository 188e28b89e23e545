"""Which of the candidates get points: the weighing of what a point costs now against what it may save.

In plain input tokens. A point makes Bedrock write the prefix that it ends (dearer than plain input, for Claude), and
lets the next request that begins with the same prefix read it. Not written now, a prefix that does come back would be
written then: so what writing it now can save is the price of that write less that of a read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bedrock_routing_integrations.catalog import CacheRules

    from .candidates import Candidate

LOOK_BACK = 16
"""Blocks before a point in which an entry is surely found. The service looks back "about 20"."""


class Choice:
    """Points for one request.

    Args:
        candidates: Where points may stand, shallowest first; those of the caller are among them.
        shares: How likely each model is to answer.
        rules: What the models allow, and their prices.
    """

    def __init__(self, candidates: Sequence[Candidate], shares: Sequence[float], rules: CacheRules) -> None:
        self._candidates = candidates
        self._shares = shares
        self._read = rules.read_multiplier
        self._write = dict(rules.write_multipliers)
        self._given = [number for number, candidate in enumerate(candidates) if candidate.given]
        self._offers_hour = "1h" in rules.ttls
        self._models = range(len(shares))
        self._live = [
            [number for number, candidate in enumerate(candidates) if candidate.live[model]] for model in self._models
        ]

    def choose(self, room: int, ttl: str, min_saving: float) -> tuple[list[int], list[str], float]:
        """The best choice.

        Args:
            room: How many points may be added to the caller's.
            ttl: ``"5m"``, ``"1h"``, or ``"auto"``.
            min_saving: Least saving that is wanted of ours, in tokens.

        Returns:
            The indices of all points (the caller's too), the ttl of each candidate, the saving of ours.
        """
        best: tuple[list[int], list[str], float] | None = None
        for ttls in self._lifetimes(ttl):
            chosen, saving = self._fill(room, ttls)
            if best is None or saving > best[2]:
                best = chosen, ttls, saving
        if best is None or best[2] < max(min_saving, 1.0):
            return self._given, self._adapted(["5m"] * len(self._candidates)), 0.0
        return best

    def _lifetimes(self, ttl: str) -> list[list[str]]:
        """The lifetimes to try, one for each candidate."""
        count = len(self._candidates)
        if ttl == "1h" and self._offers_hour:
            return [self._adapted(["1h"] * count)]
        short = self._adapted(["5m"] * count)
        if ttl != "auto" or not self._offers_hour or not any(map(self._is_slow, self._candidates)):
            return [short]
        mixed = ["5m" if candidate.place.section == "messages" else "1h" for candidate in self._candidates]
        return [short, self._adapted(["1h"] * count), self._adapted(mixed)]

    def _is_slow(self, candidate: Candidate) -> bool:
        """Whether an hour can be worth more than five minutes."""
        short, long = self._write["5m"], self._write["1h"]
        return any(
            later * (long - self._read) - (long - 1) > max(0.0, soon * (short - self._read) - (short - 1))
            for soon, later in zip(candidate.soon, candidate.later, strict=True)
        )

    def _adapted(self, ttls: list[str]) -> list[str]:
        """Lifetimes that never rise, with the caller's as they are."""
        hours = max((number for number in self._given if self._candidates[number].ttl == "1h"), default=-1)
        shorts = min((number for number in self._given if self._candidates[number].ttl == "5m"), default=len(ttls))
        return ["1h" if number <= hours else "5m" if number >= shorts else ttl for number, ttl in enumerate(ttls)]

    def _fill(self, room: int, ttls: list[str]) -> tuple[list[int], float]:
        """Add the candidate that saves most, again and again."""
        worth = self._worth(ttls)
        chosen = list(self._given)
        alone = best = worth(chosen)
        while room > 0:
            options = [sorted([*chosen, number]) for number in range(len(self._candidates)) if number not in chosen]
            if not options:
                break
            values = [worth(option) for option in options]
            value = max(values)
            if value <= best + 1e-6:
                break
            chosen, best, room = options[values.index(value)], value, room - 1
        return chosen, best - alone

    def _worth(self, ttls: list[str]) -> Callable[[list[int]], float]:
        """What points save: in this request, by what they read less what they write, and in the next one."""
        candidates, shares, read = self._candidates, self._shares, self._read
        gains = []
        for candidate, ttl in zip(candidates, ttls, strict=True):
            chances = candidate.soon if ttl == "5m" else candidate.later
            # What another request is writing just now will be there in any case.
            gain = 0.0 if candidate.flying else self._write[ttl] - read
            gains.append(sum(share * chance for share, chance in zip(shares, chances, strict=True)) * gain)
        premiums = [self._write[ttl] - 1.0 for ttl in ttls]

        def worth(chosen: list[int]) -> float:
            if not chosen:
                return 0.0
            saved = before = 0.0
            for number in chosen:
                saved += (candidates[number].tokens - before) * gains[number]
                before = candidates[number].tokens
            for model in self._models:
                found = self._hit(model, chosen)
                now = (1.0 - read) * found
                before = found
                for number in chosen:
                    if candidates[number].tokens > before:
                        now -= (candidates[number].tokens - before) * premiums[number]
                        before = candidates[number].tokens
                saved += shares[model] * now
            return saved

        return worth

    def _hit(self, model: int, chosen: list[int]) -> float:
        """Tokens that the model reads, given these points."""
        for number in reversed(self._live[model]):
            where = self._candidates[number].place.number
            if any(
                point >= number and self._candidates[point].place.number - where <= LOOK_BACK for point in chosen
            ):
                return self._candidates[number].tokens
        return 0.0

    def hits(self, chosen: list[int]) -> list[float]:
        """Tokens that each model is expected to read, given these points."""
        return [self._hit(model, chosen) for model in self._models]
