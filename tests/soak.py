"""Call a faulty Bedrock in every way for a while: answers stay right, and neither threads nor memory grow.

Usage: python -m tests.soak [--seconds 90]

Every call must give the text that plain boto3 gets for the same prompt, or an error of this package or of botocore.
Threads, open files and objects are counted after a quarter of the time and at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import random
import sys
import threading
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from bedrock_routing_integrations import BedrockRoutingError, RoutedClient
from bedrock_routing_integrations.emulator import BedrockEmulator
from bedrock_routing_integrations.langchain import ChatBedrockRouter, RoutingCallbackHandler
from bedrock_routing_integrations.llama_index import BedrockRouter

PROMPTS = [f"Say the number {number}." for number in range(40)]
AT_ONCE = 16
FAULTS = {
    "throttling": {"rate": 0.02}, "internal": {"rate": 0.02}, "validation": {"rate": 0.01},
    "bad_gateway": {"rate": 0.01}, "reset": {"rate": 0.01}, "cut": {"rate": 0.02}, "bad_checksum": {"rate": 0.01},
    "exception_event": {"rate": 0.02}, "slow_stream": {"rate": 0.02, "seconds": 0.1},
}  # fmt: skip


def text_of_events(events):
    return "".join(event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event)


class Ways:
    """Return every way to call: each takes a prompt and returns the text, or None if it abandons a stream."""

    def __init__(self, bedrock):
        router = bedrock.default_router("amazon.nova:1")
        config = Config(retries={"max_attempts": 2, "mode": "standard"}, max_pool_connections=2 * AT_ONCE)
        client = RoutedClient(
            bedrock.client("bedrock-runtime", config=config), bedrock_client=bedrock.client("bedrock")
        )
        chat, llm = ChatBedrockRouter(model=router, client=client), BedrockRouter(model=router, client=client)
        self.plain, self.router = bedrock.client("bedrock-runtime"), router

        def request(prompt):
            return {"modelId": router, "messages": [{"role": "user", "content": [{"text": prompt}]}]}

        def give_up(prompt):
            stream = chat.stream(prompt)
            next(stream)
            stream.close()

        async def agive_up(prompt):
            stream = await llm.astream_complete(prompt)
            await anext(stream)
            await stream.aclose()

        async def astream(prompt):
            return "".join([chunk.text async for chunk in chat.astream(prompt)])

        async def astream_complete(prompt):
            return "".join([chunk.delta async for chunk in await llm.astream_complete(prompt)])

        async def ainvoke(prompt):
            return (await chat.ainvoke(prompt)).text

        async def acomplete(prompt):
            return (await llm.acomplete(prompt)).text

        self.sync = {
            "converse": lambda prompt: client.converse(**request(prompt))["output"]["message"]["content"][0]["text"],
            "converse_stream": lambda prompt: text_of_events(client.converse_stream(**request(prompt))["stream"]),
            "invoke": lambda prompt: chat.invoke(prompt).text,
            "stream": lambda prompt: "".join(chunk.text for chunk in chat.stream(prompt)),
            "complete": lambda prompt: llm.complete(prompt).text,
            "stream_complete": lambda prompt: "".join(chunk.delta for chunk in llm.stream_complete(prompt)),
            "stream given up": give_up,
        }
        self.awaited = {
            "ainvoke": ainvoke, "astream": astream, "acomplete": acomplete, "astream_complete": astream_complete,
            "astream_complete given up": agive_up,
        }  # fmt: skip

    def expected(self):
        """Return the answer to each prompt, as plain boto3 gets it."""
        answers = {}
        for prompt in PROMPTS:
            message = {"role": "user", "content": [{"text": prompt}]}
            answer = self.plain.converse(modelId=self.router, messages=[message])
            answers[prompt] = answer["output"]["message"]["content"][0]["text"]
        return answers


class Soak:
    """Rounds of calls at once, from threads and tasks, each checked."""

    def __init__(self, ways, answers):
        self.ways, self.answers = ways, answers
        self.chance, self.outcomes, self.wrong = random.Random(0), Counter(), []

    def note(self, way, prompt, outcome):
        if isinstance(outcome, (BedrockRoutingError, BotoCoreError, ClientError)):
            self.outcomes[f"{way}: {type(outcome).__name__}"] += 1
        elif outcome is None and "given up" in way:
            self.outcomes[f"{way}: closed"] += 1
        elif outcome == self.answers[prompt]:
            self.outcomes[f"{way}: answered"] += 1
        else:
            self.wrong.append((way, prompt, repr(outcome)[:300]))

    def round(self, threads):
        jobs = [(way, self.chance.choice(PROMPTS)) for way in self.ways.sync for _ in range(4)]
        futures = [threads.submit(self.ways.sync[way], prompt) for way, prompt in jobs]
        for (way, prompt), future in zip(jobs, futures, strict=True):
            self.note(way, prompt, future.exception() or future.result())
        jobs = [(way, self.chance.choice(PROMPTS)) for way in self.ways.awaited for _ in range(4)]
        for (way, prompt), outcome in zip(jobs, asyncio.run(self.at_once(jobs)), strict=True):
            self.note(way, prompt, outcome)

    async def at_once(self, jobs):
        return await asyncio.gather(*(self.ways.awaited[way](prompt) for way, prompt in jobs), return_exceptions=True)


def held():
    """Return what a process that leaks has more and more of."""
    gc.collect()
    files = Path("/proc/self/fd")
    return {
        "threads": threading.active_count(),
        "objects": len(gc.get_objects()),
        "files": len(list(files.iterdir())) if files.exists() else 0,
    }


def soak(seconds):
    warnings.simplefilter("error")
    started = time.monotonic()
    with BedrockEmulator() as bedrock:
        os.environ.update(bedrock.environment())
        ways = Ways(bedrock)
        run = Soak(ways, ways.expected())
        for kind, how in FAULTS.items():
            bedrock.fail(kind, **how)
        before, rounds = None, 0
        with RoutingCallbackHandler() as handler, ThreadPoolExecutor(AT_ONCE) as threads:
            while time.monotonic() < started + seconds:
                run.round(threads)
                rounds += 1
                bedrock.clear_journal()
                if before is None and time.monotonic() > started + seconds / 4:
                    before = held()
            after = held()
        counted = handler.report.to_dict()["totals"]["calls"]
    for outcome, number in sorted(run.outcomes.items()):
        print(f"{number:7,} {outcome}")
    print(
        f"{rounds} rounds, {sum(run.outcomes.values()):,} calls, {counted:,} in LangChain's report; {before} -> {after}"
    )
    faults = [f"{way} of {prompt!r} gave {outcome}" for way, prompt, outcome in run.wrong[:5]]
    answered = sum(run.outcomes[f"{way}: answered"] for way in ("invoke", "ainvoke", "stream", "astream"))
    if not answered <= counted <= answered + run.outcomes["stream given up: closed"]:
        faults.append(f"LangChain answered {answered} calls, and the report counts {counted}")
    if after["threads"] > before["threads"] + AT_ONCE or after["files"] > before["files"] + 4 * AT_ONCE:
        faults.append("threads or open files grow")
    if after["objects"] > 1.05 * before["objects"] + 5_000:
        faults.append("objects grow")
    return faults


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=90, help="how long to call (default: 90)")
    faults = soak(parser.parse_args().seconds)
    print(*faults, sep="\n")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
