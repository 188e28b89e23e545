"""The contenders, which place cache points: none, langchain-aws, a fixed rule, and this package."""

from __future__ import annotations

import inspect

from bedrock_routing_integrations import RoutedClient
from bedrock_routing_integrations.runtime import Runtime

from .prompts import Reader

POINT = {"cachePoint": {"type": "default"}}


def none(request, flavour):
    return request


def langchain_aws(request, flavour):
    """Return the request with the points that langchain-aws 1.9.1 adds for ``cache_control={"type": "ephemeral"}``.

    A restatement of its `_apply_cache_points`. Points, while there are fewer than four: after the system prompt; after
    the last message, but for Nova not if it holds a tool call or a tool result; for others than Nova after the tools;
    for Claude after the last message but one, unless that ends with reasoning.
    """
    *earlier, last = request["messages"]
    marked = _point_after(request, "system")
    if flavour.claude or not any("toolResult" in block or "toolUse" in block for block in last["content"]):
        last = _marked(last)
    if flavour.claude:
        marked = {**marked, **_point_after({name: marked[name] for name in ("toolConfig",) if name in marked}, "tools")}
        if earlier and "reasoningContent" not in earlier[-1]["content"][-1]:
            earlier[-1] = _marked(earlier[-1])
    return {**marked, "messages": [*earlier, last]}


def fixed(request, flavour):
    """Return the request with points after the system prompt and the user's last message, always."""
    messages = list(request["messages"])
    at = max(n for n, message in enumerate(messages) if message["role"] == "user")
    messages[at] = _marked(messages[at])
    return {**_point_after(request, "system"), "messages": messages}


def _point_after(request, section):
    if section == "system" and request.get("system"):
        return {**request, "system": [*request["system"], POINT]}
    if section == "tools" and request.get("toolConfig"):
        return {**request, "toolConfig": {**request["toolConfig"], "tools": [*request["toolConfig"]["tools"], POINT]}}
    return request


def _marked(message):
    return {**message, "content": [*message["content"], POINT]}


class Ruled:
    """A contender that follows a rule. Points that Bedrock would refuse are removed, in its favour.

    Args:
        rule: Request and `Flavour` → request.
        flavour: The target.
        world: The simulated service.
    """

    def __init__(self, rule, flavour, world, reader=None):
        self._rule, self._flavour, self._world = rule, flavour, world
        self._reader = reader or Reader()

    def converse(self, **request):
        return self._world.converse(**self._allowed(self._rule(request, self._flavour)))

    def _allowed(self, request):
        prompt = self._reader.read(request)
        rules = [self._world.models[model] for model in self._flavour.models]
        refused = [
            any(rule.refusal(point.section, prompt.totals[point.end], point.before) for rule in rules)
            for point in prompt.points
        ]
        return without_points(request, refused) if any(refused) else request


def without_points(request, refused):
    """Return the request without the points for which `refused`, in their order, is true."""
    left_out = iter(refused)

    def kept(blocks):
        return [block for block in blocks if "cachePoint" not in block or not next(left_out)]

    changed = dict(request)
    if request.get("toolConfig"):
        changed["toolConfig"] = {**request["toolConfig"], "tools": kept(request["toolConfig"]["tools"])}
    if request.get("system"):
        changed["system"] = kept(request["system"])
    changed["messages"] = [{**message, "content": kept(message["content"])} for message in request["messages"]]
    return changed


def ours(flavour, world):
    """Return a `RoutedClient` of the world; None if this version of the package plans nothing yet."""
    if "cache" not in inspect.signature(RoutedClient).parameters:
        return None
    stated = {flavour.target: flavour.models} if len(flavour.models) > 1 else None
    return RoutedClient(world, cache="auto", runtime=Runtime(clock=world.clock), base_models=stated)


RULES = {"none": none, "langchain-aws": langchain_aws, "fixed": fixed}
