"""Call the emulator through `RoutedClient`, both on a clock that a test sets, and read what the cache did."""

from __future__ import annotations

import itertools
import random
from contextlib import contextmanager

import boto3
from botocore.config import Config

from bedrock_routing_integrations import RoutedClient
from bedrock_routing_integrations.emulator import BedrockEmulator
from bedrock_routing_integrations.runtime import Runtime

SONNET_45 = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"  # five minutes and an hour
SONNET_37 = "us.anthropic.claude-3-7-sonnet-20250219-v1:0"  # five minutes
NOVA_PRO = "amazon.nova-pro-v1:0"
ONCE = Config(retries={"total_max_attempts": 1}, max_pool_connections=80)
WORDS = (
    "the", "bee", "hums", "over", "clover", "while", "rivers", "carry", "silver", "leaves", "toward", "quiet", "dawn",
)  # fmt: skip


class Clock:
    """A clock that a test sets, in seconds."""

    now = 1_000.0

    def __call__(self):
        return self.now


def words(tokens, seed=0):
    """Return a text of so many tokens (of four characters) that no other seed gives."""
    drawn = random.Random(f"words {seed}")
    made = f"[{seed}] " + " ".join(drawn.choices(WORDS, k=tokens))
    return made[: tokens * 4]


def text(tokens, seed=0):
    return {"text": words(tokens, seed)}


def user(*content):
    return {"role": "user", "content": list(content)}


def assistant(*content):
    return {"role": "assistant", "content": list(content)}


def tool(name, tokens=100):
    schema = {"json": {"type": "object", "properties": {"q": {"type": "string"}}}}
    return {"toolSpec": {"name": name, "description": words(tokens, name), "inputSchema": schema}}


def tool_use(number, name="search"):
    return {"toolUse": {"toolUseId": f"call-{number}", "name": name, "input": {"q": str(number)}}}


def tool_result(number, tokens=200):
    return {"toolResult": {"toolUseId": f"call-{number}", "content": [text(tokens, f"result {number}")]}}


class Call:
    """An answered call.

    Attributes:
        plain, read, written: Its input tokens: not cached, read and written.
        hour: Tokens written for an hour.
        points: ``cache_points`` of its ``"routing"``.
        routing: Its ``"routing"``.
    """

    def __init__(self, response):
        usage = response["usage"]
        self.plain, self.read = usage["inputTokens"], usage.get("cacheReadInputTokens", 0)
        self.written = usage.get("cacheWriteInputTokens", 0)
        self.hour = sum(d["inputTokens"] for d in usage.get("cacheDetails", ()) if d["ttl"] == "1h")
        self.routing = response["routing"]
        self.points = self.routing["cache_points"]
        self.answer = response.get("output", {}).get("message")

    @property
    def tokens(self):
        return self.plain + self.read + self.written

    @property
    def ttls(self):
        return [point["ttl"] for point in self.points]


class World:
    """An emulator and clients on one clock."""

    def __init__(self, emulator, clock):
        self.emulator, self.clock = emulator, clock
        self.boto = emulator.client("bedrock-runtime", config=ONCE)
        self.client = self.new_client()
        self._numbers = itertools.count()

    def new_client(self, boto=None, **arguments):
        """Return a client that has seen nothing."""
        return RoutedClient(boto or self.boto, **{"runtime": Runtime(clock=self.clock), **arguments})

    def call(self, *content, model=SONNET_45, messages=None, client=None, after=1.0, **members):
        """Send a request, so many seconds after the last one."""
        self.clock.now += after
        messages = messages or [user(*content)]
        return Call((client or self.client).converse(modelId=model, messages=messages, **members))

    def question(self, tokens=15):
        """Return a question that was not asked before."""
        return text(tokens, f"question {next(self._numbers)}")

    def fresh(self):
        """Empty the caches, and begin with a client that has seen nothing."""
        self.emulator.clear_caches()
        self.client = self.new_client()
        return self


@contextmanager
def a_world():
    clock = Clock()
    with BedrockEmulator(clock=clock) as emulator:
        yield World(emulator, clock)


@contextmanager
def before_sending(world, do):
    """Call `do` when a request has been planned and is about to be sent."""
    events = world.boto.meta.events

    def handler(**_):
        do()

    events.register("before-send.bedrock-runtime.Converse", handler)
    try:
        yield
    finally:
        events.unregister("before-send.bedrock-runtime.Converse", handler)


def scripted_client(server, clock, **arguments):
    """Return a client of a `ScriptedBedrock`."""
    keys = {"aws_access_key_id": "AKIA", "aws_secret_access_key": "secret"}
    boto = boto3.client("bedrock-runtime", endpoint_url=server.url, region_name="us-east-1", config=ONCE, **keys)
    return RoutedClient(boto, runtime=Runtime(clock=clock), **arguments)


def cost(calls, *, write=1.25, write_hour=2.0, read=0.1):
    """Return the cost of the calls' input, as a share of its cost without caching."""
    paid = sum(c.plain + c.read * read + (c.written - c.hour) * write + c.hour * write_hour for c in calls)
    return paid / sum(c.tokens for c in calls)
