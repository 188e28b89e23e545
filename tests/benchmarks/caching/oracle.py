"""Place cache points with knowledge of the future: which prefixes return, when, and which model answers.

Each stretch between two boundaries is first decided on its own: at each visit it is read, written for one ttl or
another, or neither, so that all visits together cost least (`_decide`). That is the optimum with any number of points,
without the look-back and the order of ttls: `bound`, which no contender can beat. Then points that bring it about are
placed, at most four per request: `place`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .world import MOST_POINTS, SECONDS


@dataclass
class Stretch:
    """The blocks between two boundaries that may hold a point.

    Attributes:
        end: Number of blocks before its end.
        total: Tokens up to its end.
        tokens: Tokens of the stretch itself.
        visits: The requests that begin with it, in order.
        reads: The visits that should read it.
        writes: The visits that should write it.
        ttl: Visit → the ttl of the entry that exists afterwards.
    """

    end: int
    total: int
    tokens: int
    visits: list[int] = field(default_factory=list)
    reads: set[int] = field(default_factory=set)
    writes: set[int] = field(default_factory=set)
    ttl: dict[int, str] = field(default_factory=dict)


class Oracle:
    """Plans a run, knowing all of its requests.

    Args:
        prompts: The requests, read by `Reader`, in order.
        times: When they are sent, in seconds.
        models: The models that answer them.
        rules: Model → `Rules`.
        ttls: The ttls to consider.
    """

    def __init__(self, prompts, times, models, rules, ttls=("5m", "1h")):
        self._prompts, self._times, self._models, self._rules = prompts, times, models, rules
        self._ttls = ttls
        self._stretches = {}
        self._chains = [self._chain(n) for n in range(len(prompts))]
        for (model, _), stretch in self._stretches.items():
            if len(stretch.visits) > 1:
                self._decide(stretch, rules[model])
        self._useful = self._useful_points()

    def bound(self):
        """Return the least cost of the requests, in plain input tokens."""
        cost = sum(
            prompt.totals[-1] * self._rules[model].weight
            for prompt, model in zip(self._prompts, self._models, strict=True)
        )
        for (model, _), stretch in self._stretches.items():
            rules = self._rules[model]
            saved = (1 - rules.read) * len(stretch.reads)
            spent = sum(rules.write[stretch.ttl[visit]] - 1 for visit in stretch.writes)
            cost -= (saved - spent) * stretch.tokens * rules.weight
        return cost

    def _chain(self, n):
        """Return the stretches of a request, up to its last boundary that may hold a point."""
        prompt, model = self._prompts[n], self._models[n]
        rules, done, chain = self._rules[model], 0, []
        for end, kind in enumerate(prompt.kinds, 1):
            total = prompt.totals[end]
            if total >= rules.least and _may_hold(kind, total, rules):
                key = (model, prompt.prefixes[end])
                if key not in self._stretches:
                    self._stretches[key] = Stretch(end, total, total - done)
                self._stretches[key].visits.append(n)
                chain.append(self._stretches[key])
                done = total
        return chain

    def _decide(self, stretch, rules):
        """Find the cheapest way through all visits: the state after each is the ttl of the existing entry, or None."""
        ttls = [ttl for ttl in self._ttls if ttl in rules.ttls]
        best, came = {None: 0.0}, []
        for n, visit in enumerate(stretch.visits):
            gap = self._times[visit] - self._times[stretch.visits[n - 1]] if n else 0.0
            after, how = {}, {}
            for state, cost in best.items():
                options = [(None, 1.0), *((ttl, rules.write[ttl]) for ttl in ttls)]
                if state is not None and gap < SECONDS[state]:
                    options = [(state, rules.read)]
                for ttl, price in options:
                    if ttl not in after or cost + price < after[ttl] - 1e-9:
                        after[ttl], how[ttl] = cost + price, (state, price == rules.read)
            best = after
            came.append(how)
        state = min(best, key=lambda ttl: (round(best[ttl], 9), ttl is not None))
        for visit, how in zip(reversed(stretch.visits), reversed(came), strict=True):
            before, read = how[state]
            if state is not None:
                (stretch.reads if read else stretch.writes).add(visit)
                stretch.ttl[visit] = state
            state = before

    def _useful_points(self):
        """Return for each request: boundary → the stretch that a point there lets it or a later request read."""
        useful = [{} for _ in self._chains]
        for n, chain in enumerate(self._chains):
            deepest = next((stretch for stretch in reversed(chain) if n in stretch.reads), None)
            if deepest is not None:
                before = deepest.visits[deepest.visits.index(n) - 1]
                for request in (before, n):
                    useful[request][deepest.end] = deepest
        return useful

    def place(self, n):
        """Return the points of a request: number of blocks before each → ttl, in order."""
        useful = sorted(self._useful[n].values(), key=lambda stretch: stretch.end)
        look_back = self._rules[self._models[n]].look_back
        reached = [stretch for stretch in useful if n in stretch.reads]
        if reached and self._only_read(reached[-1], n):
            deepest = reached[-1]
            if any(deepest.end < other.end < deepest.end + look_back for other in useful):
                useful.remove(deepest)  # the look-back from the later point finds it
        while len(useful) > MOST_POINTS:
            # What is lost by going without: the way back to the point before it.
            lost = [stretch.total - before for stretch, before in _with_previous(useful)]
            useful.pop(lost.index(min(lost[:-1])))
        points = {stretch.end: stretch.ttl.get(n, self._ttls[0]) for stretch in useful}
        last_long = max((end for end, ttl in points.items() if ttl == "1h"), default=0)
        return {end: "1h" if end <= last_long else ttl for end, ttl in points.items()}

    def _only_read(self, stretch, n):
        """Return whether no later request reads the entry that the request renewed."""
        following = next((visit for visit in stretch.visits if visit > n), None)
        return following is None or self._useful[following].get(stretch.end) is not stretch


def _with_previous(stretches):
    before = 0
    for stretch in stretches:
        yield stretch, before
        before = stretch.total


def _may_hold(kind, total, rules):
    section, kind_of_block = kind
    if (
        section not in rules.fields
        or kind_of_block == "reasoningContent"
        or (rules.most is not None and total > rules.most)
    ):
        return False
    if kind_of_block.startswith("document.") and kind_of_block != "document.pdf":
        return False
    return kind_of_block != "toolResult" or rules.after_tool_result


def with_points(request, points):
    """Return the request with a cachePoint after each number of blocks in `points`."""
    seen = 0

    def marked(blocks):
        nonlocal seen
        placed = []
        for block in blocks:
            placed.append(block)
            seen += 1
            if seen in points:
                placed.append({"cachePoint": {"type": "default", "ttl": points[seen]}})
        return placed

    changed = dict(request)
    if request.get("toolConfig"):
        changed["toolConfig"] = {**request["toolConfig"], "tools": marked(request["toolConfig"]["tools"])}
    if request.get("system"):
        changed["system"] = marked(request["system"])
    changed["messages"] = [{**message, "content": marked(message["content"])} for message in request["messages"]]
    return changed
