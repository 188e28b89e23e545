"""Write the requests of workloads: text of a given number of tokens, tools, turns, and when they are sent."""

from __future__ import annotations

import random
from dataclasses import dataclass

_TEXT = (
    "the of and to in is that for on with as are be this by from or an at not which it have can was will we their "
    "report account service region policy budget request answer system user question document section table figure "
    "customer delivery invoice quarter revenue contract liability measure sample method result analysis evidence "
    "temperature pressure capacity network storage latency failure recovery replica partition message queue worker "
    "therefore however although because between during without against further another several 12 37 2024 0.5 1,250"
)
_WORDS = _TEXT.split()


@dataclass(frozen=True)
class Event:
    """A request of an application.

    Attributes:
        at: When it is sent, in seconds from the start.
        conversation: Identifies the conversation for a router that stays with one model.
        request: The Converse request, without ``modelId``.
    """

    at: float
    conversation: str
    request: dict


class Writer:
    """Write text that differs from all other text, and is the same for the same seed.

    Args:
        seed: Identifies the writer.
    """

    def __init__(self, seed):
        self.rng = random.Random(str(seed))

    def text(self, tokens):
        """Return a text block of about so many tokens."""
        return {"text": self.words(tokens)}

    def words(self, tokens):
        start = f"{self.rng.getrandbits(40):010x} "
        return start + " ".join(self.rng.choices(_WORDS, k=max(1, round(tokens * 3.7 / 6.6))))

    def about(self, tokens, spread=0.5):
        """Return a number that differs from `tokens` by at most a share of it."""
        return round(tokens * self.rng.uniform(1 - spread, 1 + spread))

    def gap(self, seconds):
        """Return a random pause of this average length, as between independent users."""
        return self.rng.expovariate(1 / seconds)

    def tools(self, count, tokens=150):
        """Return a ``toolConfig``."""
        names = [f"tool_{n}_{self.rng.getrandbits(20):x}" for n in range(count)]
        return {"tools": [self._tool(name, tokens) for name in names]}

    def _tool(self, name, tokens):
        schema = {"type": "object", "properties": {"query": {"type": "string"}, "limit": {"type": "integer"}}}
        description = self.words(tokens - 35)
        return {"toolSpec": {"name": name, "description": description, "inputSchema": {"json": schema}}}

    def question(self, tokens=60):
        return user(self.text(self.about(tokens)))

    def answer(self, tokens=300):
        return assistant(self.text(self.about(tokens)))

    def calls(self, count=1, result=800, *, spoken=True):
        """Return two messages: a turn of the model that calls tools, and the tool results."""
        ids = [f"tooluse_{self.rng.getrandbits(60):x}" for _ in range(count)]
        text = [self.text(self.about(60))] if spoken else []
        calls = [{"toolUse": {"toolUseId": i, "name": "tool_0", "input": {"query": self.words(15)}}} for i in ids]
        results = [{"toolResult": {"toolUseId": i, "content": [self.text(self.about(result, 0.8))]}} for i in ids]
        return [assistant(*text, *calls), user(*results)]


def user(*blocks):
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks):
    return {"role": "assistant", "content": list(blocks)}


def event(at, conversation, messages, system=(), tools=None):
    """Return an `Event` with a copy of the messages up to now."""
    request = {"messages": list(messages)}
    if system:
        request["system"] = list(system)
    if tools:
        request["toolConfig"] = tools
    return Event(at, str(conversation), request)


def chat(writer, *, start, turns, pause, name, system=(), tools=None, question=60, answer=300, opening=()):
    """Yield the requests of a conversation that grows.

    Args:
        writer: Writes the text.
        start: When it begins, in seconds.
        turns: Number of requests.
        pause: Seconds between them: an average, or a function that returns them.
        name: Identifies the conversation.
        system: System blocks, or a function of the time that returns them.
        tools: A ``toolConfig``.
        question: Average tokens of a question.
        answer: Average tokens of an answer.
        opening: Blocks before the first question, in its message.
    """
    now, messages = start, []
    for turn in range(turns):
        asked = writer.question(question)
        messages.append(user(*opening, *asked["content"]) if turn == 0 else asked)
        yield event(now, name, messages, system(now) if callable(system) else system, tools)
        messages.append(writer.answer(answer))
        now += pause() if callable(pause) else 3 + writer.gap(pause)


def agent(writer, *, start, turns, name, system=(), tools=None, calls=1, result=800, pause=12, spoken=True):
    """Yield the requests of an agent's task, one after each round of tool calls."""
    now, messages = start, [writer.question(200)]
    for _ in range(turns):
        yield event(now, name, messages, system, tools)
        messages += writer.calls(calls if isinstance(calls, int) else calls(), result, spoken=spoken)
        now += 2 + writer.gap(pause)


def in_order(*streams):
    """Return the events of all applications in order of time."""
    return sorted((each for stream in streams for each in stream), key=lambda each: each.at)


def one_offs(writer, *, count, tokens, spread, pause, start=0.0, name="one-off"):
    """Yield requests that have nothing in common."""
    now = start
    for n in range(count):
        yield event(now, f"{name} {n}", [user(writer.text(writer.about(tokens, spread)))])
        now += 1 + writer.gap(pause)
