"""Requests to fill workloads with: text of a given number of tokens, tools, turns, and when they are sent."""

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
        at: When it is sent: seconds from the start.
        conversation: What a router that stays with one model goes by.
        request: For Converse, without ``modelId``.
    """

    at: float
    conversation: str
    request: dict


class Writer:
    """Writes what differs from everything else that it or another wrote, and always the same from the same seed.

    Args:
        seed: Whatever tells writers apart.
    """

    def __init__(self, seed):
        self.rng = random.Random(str(seed))

    def text(self, tokens):
        """A text block of about so many tokens."""
        return {"text": self.words(tokens)}

    def words(self, tokens):
        start = f"{self.rng.getrandbits(40):010x} "
        return start + " ".join(self.rng.choices(_WORDS, k=max(1, round(tokens * 3.7 / 6.6))))

    def about(self, tokens, spread=0.5):
        """A number around `tokens`, by a part of it more or less."""
        return round(tokens * self.rng.uniform(1 - spread, 1 + spread))

    def gap(self, seconds):
        """A pause of that length on average, as between independent people."""
        return self.rng.expovariate(1 / seconds)

    def tools(self, count, tokens=150):
        """A ``toolConfig``."""
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
        """A turn of a model that calls tools, and what they gave back: two messages."""
        ids = [f"tooluse_{self.rng.getrandbits(60):x}" for _ in range(count)]
        said = [self.text(self.about(60))] if spoken else []
        called = [{"toolUse": {"toolUseId": i, "name": "tool_0", "input": {"query": self.words(15)}}} for i in ids]
        given = [{"toolResult": {"toolUseId": i, "content": [self.text(self.about(result, 0.8))]}} for i in ids]
        return [assistant(*said, *called), user(*given)]


def user(*blocks):
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks):
    return {"role": "assistant", "content": list(blocks)}


def event(at, conversation, messages, system=(), tools=None):
    """An `Event`; the messages are those up to now."""
    request = {"messages": list(messages)}
    if system:
        request["system"] = list(system)
    if tools:
        request["toolConfig"] = tools
    return Event(at, str(conversation), request)


def chat(writer, *, start, turns, pause, name, system=(), tools=None, question=60, answer=300, opening=()):
    """A conversation that grows.

    Args:
        writer: Who writes it.
        start: Seconds.
        turns: How many requests.
        pause: Seconds between them: a number for an average, or a function that gives one.
        name: Of the conversation.
        system: System blocks, or a function from the time that gives them.
        tools: A ``toolConfig``.
        question: Tokens on average.
        answer: Tokens on average.
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
    """A task that an agent works on, one request for each time that tools were called."""
    now, messages = start, [writer.question(200)]
    for _ in range(turns):
        yield event(now, name, messages, system, tools)
        messages += writer.calls(calls if isinstance(calls, int) else calls(), result, spoken=spoken)
        now += 2 + writer.gap(pause)


def in_order(*streams):
    """The events of all applications by time."""
    return sorted((each for stream in streams for each in stream), key=lambda each: each.at)


def one_offs(writer, *, count, tokens, spread, pause, start=0.0, name="one-off"):
    """Requests that have nothing in common."""
    now = start
    for n in range(count):
        yield event(now, f"{name} {n}", [user(writer.text(writer.about(tokens, spread)))])
        now += 1 + writer.gap(pause)
