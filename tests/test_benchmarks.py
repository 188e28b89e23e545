"""Run the benchmarks with streams too short to measure, and check that they print their rows.

LlamaIndex's run without the peer, which tests do not install. `concurrency` and `second_object` take too long.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.__main__ import LLAMA_INDEX, LLAMA_PEER

pytestmark = pytest.mark.sweep

# What the environment of a user without the peer looks like, also where it is installed.
WITHOUT_PEER = """
import importlib.metadata, runpy, sys

sys.modules["llama_index.llms.bedrock_converse"] = None
version = importlib.metadata.version

def without_peer(package):
    if package == {peer!r}:
        raise importlib.metadata.PackageNotFoundError(package)
    return version(package)

importlib.metadata.version = without_peer
sys.argv = ["benchmarks", *{arguments!r}]
runpy.run_module("tests.benchmarks", run_name="__main__")
"""


def bench(*arguments):
    code = WITHOUT_PEER.format(peer=LLAMA_PEER, arguments=arguments)
    command = [sys.executable, "-W", "error", "-c", code]
    root = Path(__file__).parents[1]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300, encoding="utf-8", check=False)


@pytest.fixture(scope="module")
def alone():
    ran = bench(*LLAMA_INDEX, "--alone", "--rounds", "2", "--chunks", "20")
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


ROWS = [
    ("llama_chat", "raw boto3 converse, on a model"),
    ("llama_chat", "BedrockRouter.chat, on a model"),
    ("llama_chat", "BedrockRouter.chat, on a router"),
    ("llama_stream", "BedrockRouter.stream_chat, delta read"),
    ("llama_stream", "BedrockRouter.stream_chat, message.content read for each chunk"),
    ("llama_stream", "BedrockRouter.astream_chat, delta read"),
    ("llama_growth", "BedrockRouter.stream_chat, delta read: 200 chunks"),
    ("llama_growth", "BedrockRouter.stream_chat, delta read: growth"),
    ("llama_memory", "BedrockRouter, 20 chunks, message.content of each read"),
    ("llama_memory", "BedrockRouter, 200 chunks, unread"),
]


@pytest.mark.parametrize(("name", "row"), ROWS)
def test_llama_index_benchmark_shows_its_rows_without_the_peer(alone, name, row):
    table = alone.partition(f"\n{name}: ")[2].partition("\n\nllama_")[0]
    assert any(line.startswith(f"{row}  ") for line in table.splitlines()), alone


def test_every_benchmark_of_llama_index_is_run_here():
    assert {name for name, _ in ROWS} == set(LLAMA_INDEX)


def test_benchmark_without_its_peer_is_skipped_with_advice():
    ran = bench("llama_chat", "--rounds", "2")
    assert ran.returncode == 0, ran.stderr
    assert f"Skipped, for want of the peer: llama_chat. To run: pip install {LLAMA_PEER}" in ran.stdout
    assert "BedrockRouter" not in ran.stdout


def test_the_benchmarks_of_langchain_run():
    ran = bench("invoke", "stream", "retrieve", "--rounds", "2", "--chunks", "20")
    assert ran.returncode == 0, ran.stderr
    assert "ChatBedrockRouter.invoke, on a router" in ran.stdout
    assert "ChatBedrockRouter astream on a model" in ran.stdout
    assert "KnowledgeBaseRetriever.invoke  " in ran.stdout


def test_the_benchmark_of_planning_runs():
    ran = bench("cache_planning", "--rounds", "2")
    assert ran.returncode == 0, ran.stderr
    assert "200,000 tokens in 40 messages, all new  " in ran.stdout
    assert "state with 10,000 conversations live" in ran.stdout


def test_the_benchmark_of_reading_logs_runs():
    ran = bench("history", "--rounds", "2")
    assert ran.returncode == 0, ran.stderr
    assert "read_history: answers of 200 characters" in ran.stdout
    assert "peak memory of the process, 100 MB" in ran.stdout
