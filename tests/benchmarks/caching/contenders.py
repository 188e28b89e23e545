"""Who places points: nobody, langchain-aws, a fixed rule, and ours."""

from __future__ import annotations

import inspect

from bedrock_routing_integrations import RoutedClient
from bedrock_routing_integrations.runtime import Runtime

from .prompts import Reader

POINT = {"cachePoint": {"type": "default"}}


def none(request, flavour):
    return request


def langchain_aws(request, flavour):
    """What langchain-aws 1.9.1 makes of ``cache_control={"type": "ephemeral"}`` (`_apply_cache_points`), restated.

    Points, while there are fewer than four: behind the system prompt; behind the last message, but with Nova not where
    it holds a call or a result of a tool; for others than Nova behind the tools; for Claude behind the last message
    but one, where that does not end with thinking.
    """
    *earlier, last = request["messages"]
    marked = _behind(request, "system")
    if flavour.claude or not any("toolResult" in block or "toolUse" in block for block in last["content"]):
        last = _marked(last)
    if flavour.claude:
        marked = {**marked, **_behind({name: marked[name] for name in ("toolConfig",) if name in marked}, "tools")}
        if earlier and "reasoningContent" not in earlier[-1]["content"][-1]:
            earlier[-1] = _marked(earlier[-1])
    return {**marked, "messages": [*earlier, last]}


def fixed(request, flavour):
    """A point behind the system prompt and one behind the last message of the user, always."""
    messages = list(request["messages"])
    at = max(n for n, message in enumerate(messages) if message["role"] == "user")
    messages[at] = _marked(messages[at])
    return {**_behind(request, "system"), "messages": messages}


def _behind(request, section):
    if section == "system" and request.get("system"):
        return {**request, "system": [*request["system"], POINT]}
    if section == "tools" and request.get("toolConfig"):
        return {**request, "toolConfig": {**request["toolConfig"], "tools": [*request["toolConfig"]["tools"], POINT]}}
    return request


def _marked(message):
    return {**message, "content": [*message["content"], POINT]}


class Ruled:
    """A contender that is a rule. Points that Bedrock would refuse are taken out for it, which flatters it.

    Args:
        rule: Request and `Flavour` → request.
        flavour: Where they are sent.
        world: What they are sent to.
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
    """The request without those of its points, in their order, for which `refused` holds."""
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
    """A `RoutedClient` in front of the world; None where this version of the package plans nothing yet."""
    if "cache" not in inspect.signature(RoutedClient).parameters:
        return None
    stated = {flavour.target: flavour.models} if len(flavour.models) > 1 else None
    return RoutedClient(world, cache="auto", runtime=Runtime(clock=world.clock), base_models=stated)


RULES = {"none": none, "langchain-aws": langchain_aws, "fixed": fixed}
