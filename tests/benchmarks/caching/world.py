"""Simulate Bedrock's prompt caches by the published rules: a boto3-shaped client on a clock that is set.

The rules and prices are those of AWS's guide on prompt caching (autumn 2026): see `Rules`. Where the guide leaves
something open, the strictest reading holds: a look-back of exactly twenty boundaries, the point's own included; no
renewal of entries that no point reached; refusal of points beyond Nova's maximum. The prices of several points are from
Anthropic's guide: everything up to the longest hit is read, the rest is written up to the last 1h point at that price,
and then up to the last 5m point.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

from .prompts import Reader

SECONDS = {"5m": 300.0, "1h": 3600.0}
MOST_POINTS = 4


class RefusedError(AssertionError):
    """Bedrock would have refused the request."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The cache rules and prices of one model.

    Attributes:
        least: Tokens of the shortest prefix that is cached; below it a point does nothing.
        most: Tokens of the longest prefix that a point may end; None for no limit.
        ttls: The ttls that are offered.
        fields: Sections that may hold points.
        after_tool_result: Whether a point may follow a tool result.
        read: Price of a token read, in plain input tokens.
        write: ttl → price of a token written, in plain input tokens.
        look_back: Number of boundaries at which each point looks for an entry, its own included.
        weight: Price of the model's input token, where models are compared.
    """

    least: int
    most: int | None = None
    ttls: tuple[str, ...] = ("5m", "1h")
    fields: tuple[str, ...] = ("tools", "system", "messages")
    after_tool_result: bool = True
    read: float = 0.1
    write: dict[str, float] = field(default_factory=lambda: {"5m": 1.25, "1h": 2.0})
    look_back: int = 20
    weight: float = 1.0

    def refusal(self, section, total, before):
        """Return why a point is refused; None if it is accepted.

        Args:
            section: The section of its list.
            total: Tokens before it, of the whole request.
            before: The block before it in its list; None if there is none.
        """
        if before is None or "cachePoint" in before:
            return "There is nothing available to cache."
        if section not in self.fields:
            return f"no cachePoint in {section}"
        if "reasoningContent" in before:
            return "Cache point cannot be inserted after reasoning block"
        if "document" in before and before["document"]["format"] != "pdf":
            return "a cachePoint after a document that is no PDF"
        if "toolResult" in before and not self.after_tool_result:
            return "a cachePoint after the result of a tool"
        if self.most is not None and total > self.most:
            return f"a cachePoint after {total} tokens, of at most {self.most}"
        return None


@dataclass
class Entry:
    """A cached prefix: its ttl, and when it was last used (seconds)."""

    ttl: str
    used: float

    def alive(self, now):
        return now - self.used < SECONDS[self.ttl]


@dataclass(frozen=True)
class Served:
    """The cost of one request, in plain input tokens, and its tokens by kind."""

    model: str
    plain: int
    read: int
    written: dict[str, int]
    cost: float
    uncached: float


class World:
    """A ``bedrock-runtime`` client.

    Args:
        models: Model id → `Rules`.
        reader: Shared by worlds that get the same blocks, so that each block is read once.

    Attributes:
        now: The time, seconds.
        answers: The model that answers next; the target itself by default (where it is a model).
        served: A `Served` for each request.
    """

    def __init__(self, models, reader=None):
        self.meta = SimpleNamespace(region_name="us-east-1", endpoint_url="http://127.0.0.1:9", service_model=None)
        self.models = dict(models)
        self.now = 0.0
        self.answers = None
        self.served = []
        self._reader = reader or Reader()
        self._entries = {model: {} for model in models}

    def clock(self):
        return self.now

    def converse(self, **request):
        """Answer as boto3's ``converse``.

        Raises:
            RefusedError: Bedrock would have refused a cachePoint.
        """
        model = self.answers or request["modelId"]
        rules, prompt = self.models[model], self._reader.read(request)
        _check(request, prompt, rules)
        served = self._serve(model, rules, prompt)
        self.served.append(served)
        return _response(request, served)

    def _serve(self, model, rules, prompt):
        entries, totals = self._entries[model], prompt.totals
        points = [point for point in prompt.points if totals[point.end] >= rules.least]
        hits = [self._hit(entries, prompt, point, rules) for point in points]
        read = max((end for end in hits if end is not None), default=0)
        kept = entries[prompt.prefixes[read]].ttl if read else None
        for end in hits:
            if end is not None:
                entries[prompt.prefixes[end]].used = self.now
        for point in points:
            self._keep(entries, prompt.prefixes[point.end], point.ttl, kept if point.end <= read else None)
        written, done = {}, read
        for ttl in ("1h", "5m"):  # a long one comes before a short one
            end = max((point.end for point in points if point.ttl == ttl), default=0)
            if end > done:
                written[ttl] = totals[end] - totals[done]
                done = end
        plain = totals[-1] - totals[done]
        cost = plain + rules.read * totals[read] + sum(rules.write[ttl] * tokens for ttl, tokens in written.items())
        return Served(model, plain, totals[read], written, cost * rules.weight, totals[-1] * rules.weight)

    def _hit(self, entries, prompt, point, rules):
        for end in range(point.end, max(point.end - rules.look_back, 0), -1):
            entry = entries.get(prompt.prefixes[end])
            if entry is not None and entry.alive(self.now):
                return end
        return None

    def _keep(self, entries, prefix, ttl, within):
        """Make an entry if there is none. Inside of what was read it costs nothing, and has no longer ttl."""
        old = entries.get(prefix)
        if old is None or not old.alive(self.now):
            entries[prefix] = Entry(min((ttl, within or ttl), key=SECONDS.get), self.now)


def _check(request, prompt, rules):
    points = prompt.points
    if len(points) > MOST_POINTS:
        raise RefusedError(f"{len(points)} cachePoints")
    if points and (request.get("performanceConfig") or {}).get("latency") == "optimized":
        raise RefusedError("cache_control: Extra inputs are not permitted")
    for n, point in enumerate(points):
        if reason := rules.refusal(point.section, prompt.totals[point.end], point.before):
            raise RefusedError(reason)
        if point.ttl not in rules.ttls:
            raise RefusedError(f"no ttl {point.ttl!r}")
        if point.ttl == "1h" and any(earlier.ttl == "5m" for earlier in points[:n]):
            raise RefusedError("a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block")


def _response(request, served):
    written, output = sum(served.written.values()), 50
    usage = {
        "inputTokens": served.plain,
        "outputTokens": output,
        "totalTokens": served.plain + served.read + written + output,
        "cacheReadInputTokens": served.read,
        "cacheWriteInputTokens": written,
    }
    if written:
        usage["cacheDetails"] = [{"ttl": ttl, "inputTokens": tokens} for ttl, tokens in served.written.items()]
    response = {
        "output": {"message": {"role": "assistant", "content": [{"text": "Yes."}]}},
        "stopReason": "end_turn",
        "usage": usage,
        "metrics": {"latencyMs": 500},
        "ResponseMetadata": {"RequestId": "1", "HTTPStatusCode": 200, "RetryAttempts": 0, "HTTPHeaders": {}},
    }
    if "prompt-router/" in request["modelId"]:
        invoked = f"arn:aws:bedrock:us-east-1::foundation-model/{served.model}"
        response["trace"] = {"promptRouter": {"invokedModelId": invoked}}
    return response
