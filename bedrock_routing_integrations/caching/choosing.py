"""Which of the candidates get points: the weighing of what a point costs now against what it may save.

In plain input tokens. A point makes Bedrock write the prefix that it ends (dearer than plain input, for Claude), and
lets the next request that begins with the same prefix read it. Not written now, a prefix that does come back would be
written then: so what writing it now can save is the price of that write less that of a read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bedrock_routing_integrations.catalog import CacheRules

    from .account import Budget
    from .candidates import Candidate

_CLEARLY_SLOW = 0.25
LOOK_BACK = 16
"""Blocks before a point in which an entry is surely found. The service looks back "about 20"."""


class Chosen(NamedTuple):
    """A choice.

    Attributes:
        points: The indices of the candidates that have points, the caller's too.
        ttls: The ttl of each candidate.
        saving: What our points are expected to save, in tokens.
        stake: What is paid, more than plain input costs, for writing what is only guessed to come back.
        outlay: What is paid so for everything, as far as it is not expected to come back.
    """

    points: list[int]
    ttls: list[str]
    saving: float
    stake: float
    outlay: float

    @property
    def has_hours(self) -> bool:
        """Whether an entry of an hour is asked for."""
        return any(self.ttls[number] == "1h" for number in self.points)


class Choice:
    """Points for one request.

    Args:
        candidates: Where points may stand, shallowest first; those of the caller are among them.
        shares: How likely each model is to answer.
        rules: What the models allow, and their prices.
        given: The points that are there in any case, and their ttl; the caller's where it is not said.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        shares: Sequence[float],
        rules: CacheRules,
        given: Mapping[int, str] | None = None,
    ) -> None:
        self._candidates = candidates
        self._shares = shares
        self._rules = rules
        self._read = rules.read_multiplier
        self._write = dict(rules.write_multipliers)
        if given is None:
            given = {number: candidate.ttl for number, candidate in enumerate(candidates) if candidate.given}
        self._given = given
        self._offers_hour = "1h" in rules.ttls
        self._models = range(len(shares))
        self._live = [
            [number for number, candidate in enumerate(candidates) if candidate.live[model]] for model in self._models
        ]

    def choose(self, room: int, ttl: str, min_saving: float, budget: Budget) -> Chosen:
        """The best choice.

        Args:
            room: How many points may be added to the caller's.
            ttl: ``"5m"``, ``"1h"``, or ``"auto"``.
            min_saving: Least saving that is wanted of ours, in tokens.
            budget: What may be paid for writing.
        """
        chosen = self._choose(room, ttl, min_saving, budget)
        more = len(chosen.points) - len(self._given)
        if more in {0, room}:
            return chosen
        # What was chosen as a whole can leave something to be added, of another lifetime: until nothing is, so that to
        # plan what was planned changes nothing.
        fixed = Choice(self._candidates, self._shares, self._rules, {n: chosen.ttls[n] for n in chosen.points})
        added = fixed.choose(room - more, ttl, min_saving, budget)
        return added._replace(
            saving=chosen.saving + added.saving,
            stake=chosen.stake + added.stake,
            outlay=chosen.outlay + added.outlay,
        )

    def _choose(self, room: int, ttl: str, min_saving: float, budget: Budget) -> Chosen:
        everywhere = [number for number, candidate in enumerate(self._candidates) if candidate.open]
        best = self._best(room, ttl, everywhere)
        if best.stake > budget.guesses:
            everywhere = [number for number in everywhere if not self._candidates[number].is_guess]
            best = self._best(room, ttl, everywhere)
        if best.has_hours and best.outlay > budget.outlay_of_hours:
            best = self._best(room, "5m", everywhere)
        if not best.has_hours and best.outlay > budget.outlay:
            best = self._best(room, "5m", [n for n in everywhere if any(self._candidates[n].live)])
        if best.saving < max(min_saving, 1.0):
            return Chosen(sorted(self._given), self._adapted(["5m"] * len(self._candidates)), 0.0, 0.0, 0.0)
        return best

    def _best(self, room: int, ttl: str, among: list[int]) -> Chosen:
        shortest, *longer = [self._fill(room, ttls, among) for ttls in self._lifetimes(ttl)]
        best = max(longer, key=lambda choice: choice.saving, default=shortest)
        return best if best.saving > shortest.saving else shortest

    def _lifetimes(self, ttl: str) -> list[list[str]]:
        """The lifetimes to try, one for each candidate."""
        count = len(self._candidates)
        if ttl == "1h" and self._offers_hour:
            return [self._adapted(["1h"] * count)]
        # What is there for an hour is renewed as such.
        hours = max((n for n, candidate in enumerate(self._candidates) if "1h" in candidate.live), default=-1)
        if ttl == "5m" or not self._offers_hour:
            hours = -1
        short = self._adapted(["1h" if number <= hours else "5m" for number in range(count)])
        if ttl != "auto" or not self._offers_hour or not any(map(self._is_slow, self._candidates)):
            return [short]
        mixed = ["5m" if candidate.place.section == "messages" else "1h" for candidate in self._candidates]
        return [short, self._adapted(["1h"] * count), self._adapted(mixed)]

    def _is_slow(self, candidate: Candidate) -> bool:
        """Whether an hour can be worth more than five minutes.

        Not where nearly all come back within five minutes: how many of those come late after all, and how many never
        again, cannot be told apart before an hour has passed.
        """
        short, long = self._write["5m"], self._write["1h"]
        return any(
            later > (1.0 + _CLEARLY_SLOW) * soon
            and later * (long - self._read) - (long - 1) > max(0.0, soon * (short - self._read) - (short - 1))
            for soon, later in zip(candidate.soon, candidate.later, strict=True)
        )

    def _adapted(self, ttls: list[str]) -> list[str]:
        """Lifetimes that never rise, with the caller's as they are."""
        hours = max((number for number, ttl in self._given.items() if ttl == "1h"), default=-1)
        shorts = min((number for number, ttl in self._given.items() if ttl == "5m"), default=len(ttls))
        return ["1h" if number <= hours else "5m" if number >= shorts else ttl for number, ttl in enumerate(ttls)]

    def _fill(self, room: int, ttls: list[str], among: list[int]) -> Chosen:
        """Add the candidate that saves most, again and again."""
        worth = self._worth(ttls)
        chosen = sorted(self._given)
        alone = best = worth(chosen)
        while room > 0:
            options = [sorted([*chosen, number]) for number in among if number not in chosen]
            if not options:
                break
            values = [worth(option) for option in options]
            value = max(values)
            if value <= best + 1e-6:
                break
            chosen, best, room = options[values.index(value)], value, room - 1
        return Chosen(chosen, ttls, best - alone, *self._paid(chosen, ttls))

    def _paid(self, chosen: list[int], ttls: list[str]) -> tuple[float, float]:
        """A choice's `stake` and `outlay`."""
        stake = outlay = 0.0
        for model in self._models:
            before = self._hit(model, chosen)
            for number in chosen:
                candidate = self._candidates[number]
                written = max(0.0, candidate.tokens - before)
                before += written
                if number in self._given:
                    continue
                premium = self._shares[model] * written * (self._write[ttls[number]] - 1.0)
                stake += premium if candidate.is_guess else 0.0
                outlay += premium * (1.0 - (candidate.soon if ttls[number] == "5m" else candidate.later)[model])
        return stake, outlay

    def _worth(self, ttls: list[str]) -> Callable[[list[int]], float]:
        """What points save: in this request, by what they read less what they write, and in the next one."""
        candidates, read, write = self._candidates, self._read, self._write
        tokens = [candidate.tokens for candidate in candidates]
        premiums = [write[ttl] - 1.0 for ttl in ttls]

        def gain(candidate: Candidate, model: int, ttl: str) -> float:
            chance = candidate.soon[model] if ttl == "5m" else candidate.later[model]
            return chance * (write[ttl] - read)

        # For each model: what a token gains if it is written, and if it is cached already, whatever is written now.
        gains = []
        for model in self._models:
            lasting = {number: candidates[number].live[model] or "5m" for number in self._live[model]}
            lasts = [next((lasting[n] for n in lasting if n >= at), "5m") for at in range(len(candidates))]
            kept = [gain(c, model, ttl) for c, ttl in zip(candidates, lasts, strict=True)]
            new = [gain(c, model, ttl) for c, ttl in zip(candidates, ttls, strict=True)]
            gains.append((kept, new))
        # What another request is writing just now will be there in any case, also where a longer prefix begins with it.
        soon_there = max((candidate.tokens for candidate in candidates if candidate.flying), default=0.0)

        def worth(chosen: list[int]) -> float:
            saved = 0.0
            for model in self._models if chosen else ():
                kept, new = gains[model]
                found = self._hit(model, chosen)
                value, before = (1.0 - read) * found, 0.0
                for number in chosen:
                    there = min(tokens[number], found) - min(before, found)
                    written = tokens[number] - before - there
                    flying = max(0.0, min(tokens[number], soon_there) - max(before, found))
                    value += there * kept[number] + (written - flying) * new[number] - written * premiums[number]
                    before = tokens[number]
                saved += self._shares[model] * value
            return saved

        return worth

    def _hit(self, model: int, chosen: list[int]) -> float:
        """Tokens that the model reads, given these points."""
        for number in reversed(self._live[model]):
            where = self._candidates[number].place.number
            if any(point >= number and self._candidates[point].place.number - where <= LOOK_BACK for point in chosen):
                return self._candidates[number].tokens
        return 0.0

    def hits(self, chosen: list[int]) -> list[float]:
        """Tokens that each model is expected to read, given these points."""
        return [self._hit(model, chosen) for model in self._models]
