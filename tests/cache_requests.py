"""Make random conversations of applications from a seed, and a boto3-shaped client that knows Bedrock's cache rules."""

from __future__ import annotations

import itertools

from samples import LLAMA_70B, NOVA_PRO

from bedrock_routing_integrations.emulator.canned_models.tokens import input_tokens
from bedrock_routing_integrations.emulator.service.conversation_rules import check as check_conversation
from bedrock_routing_integrations.emulator.service.models import MODELS
from bedrock_routing_integrations.emulator.service.prompt_caching import PromptCaches, check_points
from bedrock_routing_integrations.emulator.wire.service_model import ServiceError

SONNET_45 = "anthropic.claude-sonnet-4-5-20250929-v1:0"  # five minutes and an hour
SONNET_37 = "anthropic.claude-3-7-sonnet-20250219-v1:0"  # five minutes
ROUTER = "arn:aws:bedrock:us-east-1:123456789012:prompt-router/two-sonnets"
POINT = {"cachePoint": {"type": "default"}}
HOUR = {"cachePoint": {"type": "default", "ttl": "1h"}}
ANY_POINT = (POINT, POINT, {"cachePoint": {"type": "default", "ttl": "5m"}}, HOUR)

FAMILIES = {
    "claude": (f"us.{SONNET_45}", [SONNET_45]),
    "claude, five minutes": (f"us.{SONNET_37}", [SONNET_37]),
    "nova": (f"us.{NOVA_PRO}", [NOVA_PRO]),
    "router": (ROUTER, [SONNET_45, SONNET_37]),
    "llama": (f"us.{LLAMA_70B}", [LLAMA_70B]),
}
"""Name → the target and its candidate models."""

_BOOK = " ".join(f"Line {number} of the book tells of {number * 7 % 101} bees." for number in range(2_000))
_RUSSIAN = " ".join(f"Строка {number} рассказывает о пчёлах." for number in range(300))
_SIZES = (12, 200, 4_500, 6_000)
_THINKING = {"thinking": {"type": "enabled", "budget_tokens": 2_000}}
_OTHER_FORMATS = ("txt", "md", "csv", "html")
_MOST_MESSAGES = 7  # of a conversation, before another begins


class Clock:
    """A clock that a test sets, in seconds."""

    def __init__(self):
        self.now = 1_000.0

    def __call__(self):
        return self.now


class BedrockWithoutAWire:
    """A boto3-shaped client that refuses and caches as the emulator does, with the emulator's code and without HTTP.

    A refusal is not a `ClientError`, so that it reaches the test whatever the client makes of refusals.
    """

    def __init__(self, models, clock, chance):
        self.models = [MODELS[name] for name in models]
        self.caches, self.chance, self.sent = PromptCaches(clock), chance, None

    def check(self, request):
        """Refuse what one of the models would refuse, as a router may choose any."""
        for model in self.models:
            check_points(request, model)

    def converse(self, **request):
        self.sent = request
        self.check(request)
        model = self.chance.choice(self.models)
        check_conversation(request, model)
        use = self.caches.use(request, model, input_tokens(request))
        usage = {"inputTokens": use.plain if use else input_tokens(request), "outputTokens": 9, "totalTokens": 9}
        if use is not None:
            usage.update(cacheReadInputTokens=use.read, cacheWriteInputTokens=sum(use.written.values()))
            usage["cacheDetails"] = [{"ttl": ttl, "inputTokens": count} for ttl, count in use.written.items()]
        trace = {"promptRouter": {"invokedModelId": model.model_id}}
        output = {"message": {"role": "assistant", "content": [{"text": "ok"}]}}
        return {"output": output, "usage": usage, **({"trace": trace} if len(self.models) > 1 else {})}


class Writer:
    """Write the requests of one application, one after the other; the same for the same seed.

    Args:
        family: One of `FAMILIES`.
        chance: The source of random numbers.
    """

    def __init__(self, family, chance):
        self.target, self.models = FAMILIES[family]
        self.chance, self._numbers = chance, itertools.count()
        self._plain = family == "llama"
        # Nova refuses long prefixes, and their sizes cannot be estimated well if languages are mixed.
        self._foreign = 0 if family == "nova" else 0.03
        self._tools = [self._tool() for _ in range(chance.choice([0, 0, 1, 2, 4]))]
        self._system = [self._system_block() for _ in range(chance.choice([0, 1, 1, 1, 3]))]
        self._fields = {} if self._plain else chance.choice([{}, {}, _THINKING])
        self._conversations = []

    def request(self):
        """Return the next request: a new conversation, a continuation, or another question after the same beginning."""
        chance = self.chance
        if self._conversations and chance.random() < 0.75:
            number = chance.randrange(len(self._conversations))
            messages = self._conversations[number]
            if chance.random() < 0.3:
                messages = [*messages[:-1], self._asked_again(messages[-1])]
            else:
                messages = self._continued(messages)
            if len(messages) > _MOST_MESSAGES:
                del self._conversations[number]
        else:
            messages = [{"role": "user", "content": self._question()}]
            self._conversations.append(messages)
            number = len(self._conversations) - 1
        if number < len(self._conversations):
            self._conversations[number] = messages
        return self._whole(messages)

    def with_points(self, request):
        """Return the request with the user's points anywhere, also where Bedrock refuses them."""
        rate = self.chance.choice([0.03, 0.1, 0.4])

        def marked(blocks):
            mixed = [POINT] if self.chance.random() < rate / 4 else []
            for block in blocks:
                mixed.append(block)
                while self.chance.random() < rate:
                    mixed.append(self.chance.choice(ANY_POINT))
            return mixed

        messages = [{**message, "content": marked(message["content"])} for message in request["messages"]]
        made = {**request, "messages": messages}
        if "system" in made:
            made["system"] = marked(made["system"])
        if "toolConfig" in made:
            made["toolConfig"] = {**made["toolConfig"], "tools": marked(made["toolConfig"]["tools"])}
        return made

    def _whole(self, messages):
        chance, made = self.chance, {"modelId": self.target, "messages": messages}
        if self._system:
            made["system"] = self._system
        if self._tools:
            made["toolConfig"] = {"tools": self._tools}
            if chance.random() < 0.1:
                made["toolConfig"]["toolChoice"] = {"auto": {}}
        if self._fields and chance.random() < 0.9:
            made["additionalModelRequestFields"] = self._fields
        if chance.random() < 0.05:
            made["performanceConfig"] = {"latency": chance.choice(["optimized", "standard"])}
        if chance.random() < 0.2:
            made["inferenceConfig"] = {"temperature": chance.random()}
        return made

    def _text(self, sizes=_SIZES):
        size, start = self.chance.choice(sizes), self.chance.randrange(60_000)
        text = _RUSSIAN[start % 3_000 :] if self.chance.random() < self._foreign else _BOOK[start : start + size]
        return {"text": f"{next(self._numbers)}: {text}"}

    def _tool(self):
        name = f"tool_{next(self._numbers)}"
        schema = {"type": "object", "properties": {"query": {"type": "string"}}}
        description = self._text((60, 60, 2_000))["text"]
        return {"toolSpec": {"name": name, "description": description, "inputSchema": {"json": schema}}}

    def _system_block(self):
        if self.chance.random() < 0.1:
            return {"guardContent": {"text": self._text()}}
        return self._text()

    def _extra(self):
        """Return a block of a question other than text."""
        kind = self.chance.choice(["pdf", "document", "guard", *([] if self._plain else ["image"])])
        if kind == "guard":
            return {"guardContent": {"text": self._text()}}
        if kind == "image":
            return {"image": {"format": "png", "source": {"bytes": b"%d" % next(self._numbers)}}}
        text = self._text()["text"].encode()
        name = f"paper {next(self._numbers)}"
        if kind == "document":
            return {"document": {"format": self.chance.choice(_OTHER_FORMATS), "name": name, "source": {"bytes": text}}}
        pdf = b"stream\nBT (" + text + b") Tj ET\nendstream\n"
        return {"document": {"format": "pdf", "name": name, "source": {"bytes": pdf}}}

    def _question(self):
        blocks = [self._text() for _ in range(self.chance.choice([1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 3, 30]))]
        blocks = [self._text((12, 200)) for _ in blocks] if len(blocks) == 30 else blocks
        for _ in range(self.chance.choice([0, 0, 0, 1, 2])):
            blocks.insert(self.chance.randrange(len(blocks) + 1), self._extra())
        return blocks

    def _asked_again(self, message):
        """Return the last message with another question and the same tool results."""
        results = [block for block in message["content"] if "toolResult" in block]
        return {"role": "user", "content": [*results, *(self._question() if not results else [])]}

    def _continued(self, messages):
        chance, calls = self.chance, []
        answer = []
        if self._fields and chance.random() < 0.5:
            answer.append({"reasoningContent": {"reasoningText": {"text": "Hm, " * 20, "signature": "c2ln"}}})
        if chance.random() < 0.7:
            answer.append(self._text((40, 400)))
        if self._tools and chance.random() < 0.7:
            calls = [f"call-{next(self._numbers)}" for _ in range(chance.choice([1, 2]))]
            name = self._tools[0]["toolSpec"]["name"]
            answer += [{"toolUse": {"toolUseId": call, "name": name, "input": {"query": "bees"}}} for call in calls]
        if not answer:
            answer = [self._text((40,))]
        results = [
            {"toolResult": {"toolUseId": call, "content": [self._text()], "status": "success"}} for call in calls
        ]
        asked = [*results, *(self._question() if not calls or chance.random() < 0.2 else [])]
        return [*messages, {"role": "assistant", "content": answer}, {"role": "user", "content": asked}]


def lists_of(request):
    """Yield (section, message index, blocks) for each list that can hold points, in the order of the prefix."""
    yield "tools", None, request.get("toolConfig", {}).get("tools", [])
    yield "system", None, request.get("system", [])
    for number, message in enumerate(request["messages"]):
        yield "messages", number, message["content"]


def points_of(request):
    """Return (section, message index, number of other blocks before it in its list, ttl) of each point."""
    points = []
    for section, message, blocks in lists_of(request):
        before = 0
        for block in blocks:
            if "cachePoint" in block:
                points.append((section, message, before, block["cachePoint"].get("ttl", "5m")))
            else:
                before += 1
    return points


def taken(request, models):
    """Return whether the emulator's rules accept the points of a request for all of the models."""
    try:
        for name in models:
            check_points(request, MODELS[name])
    except ServiceError:
        return False
    return True
