"""Bedrock's prompt caches by the published rules, behind a boto3-shaped client, on a clock that one sets.

The rules and prices are those of AWS's guide on prompt caching (autumn 2026): see `Rules`. What the guide leaves open
is decided against whoever relies on it: a look-back of exactly twenty boundaries with the point's own counted, no
renewal of what no point reached, and a refusal of points beyond Nova's maximum. Who pays what where there are several
points is from Anthropic's guide: all up to the deepest hit is read, what follows is written up to the last point of an
hour at that price, and then up to the last of five minutes.
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
    """What one model's cache does.

    Attributes:
        least: Tokens of the shortest prefix that is cached; below it a point does nothing.
        most: Tokens of the longest one that a point may end; None where any length will do.
        ttls: Which ttls there are.
        fields: Sections that may hold points.
        after_tool_result: Whether a point may follow the result of a tool.
        read: Price of a token that is read, in plain input tokens.
        write: The same of one that is written, by ttl.
        look_back: At how many boundaries an entry is looked for from each point, its own among them.
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
        """Why a point cannot be there; None where it can.

        Args:
            section: The section of its list.
            total: Tokens before it, of the whole request.
            before: The block before it in its list; None where there is none.
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
    """A cached prefix: how long it lives from its last use, and when that was (seconds)."""

    ttl: str
    used: float

    def alive(self, now):
        return now - self.used < SECONDS[self.ttl]


@dataclass(frozen=True)
class Served:
    """What one request cost, in plain input tokens, and of which tokens."""

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
        reader: Shared by worlds that are sent the same blocks, so that each block is read once.

    Attributes:
        now: The time, seconds.
        answers: The model that answers next; the target itself by default (where it is a model).
        served: What happened, request by request.
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
        """boto3's ``converse``.

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
        """A point makes an entry where none lives. Inside what was read it costs nothing, and lives no longer."""
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
