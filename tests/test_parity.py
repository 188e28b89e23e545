"""Send one request through LangChain, LlamaIndex, `RoutedClient` and boto3: equal on the wire and in return.

The table is in parity_cases.py. `body` in it was written by hand from Converse's API reference, so that a mistake that
both frameworks make is found too.
"""

from __future__ import annotations

import copy
import functools
import itertools
import operator
from dataclasses import dataclass

import pytest
from parity_cases import CASES, EMPTY
from parity_writing import ABSENT

from bedrock_routing_integrations import RoutedClient
from bedrock_routing_integrations.connections import Connection
from bedrock_routing_integrations.emulator import BedrockEmulator
from bedrock_routing_integrations.langchain import ChatBedrockRouter
from bedrock_routing_integrations.llama_index import BedrockRouter

MEASURED = ("request_id", "latency_ms", "time_to_first_token_ms")


@dataclass
class Answer:
    """A result: the text, the tool calls, and the invoked model."""

    text: str
    calls: list
    routing: dict


# --- the ways ---


async def through_langchain(target, written, *, streamed, awaited):
    llm = ChatBedrockRouter(**{"model": target, **written.llm})
    if written.tools:
        llm = llm.bind_tools(written.tools)
    if streamed and awaited:
        message = functools.reduce(operator.add, [c async for c in llm.astream(written.messages, **written.call)])
    elif streamed:
        message = functools.reduce(operator.add, llm.stream(written.messages, **written.call))
    elif awaited:
        message = await llm.ainvoke(written.messages, **written.call)
    else:
        message = llm.invoke(written.messages, **written.call)
    calls = [(call["name"], call["args"]) for call in message.tool_calls]
    return Answer(str(message.text), calls, message.response_metadata["routing"])


async def through_llama_index(target, written, *, streamed, awaited):
    llm = BedrockRouter(**{"model": target, **written.llm})
    name = f"{'a' if awaited else ''}{'stream_' if streamed else ''}chat{'_with_tools' if written.tools else ''}"
    arguments = (
        {"tools": written.tools, "chat_history": written.messages} if written.tools else {"messages": written.messages}
    )
    response = getattr(llm, name)(**arguments, **written.call)
    if awaited:
        response = await response
    if streamed:
        response = ([chunk async for chunk in response] if awaited else list(response))[-1]
    calls = [(b.tool_name, b.tool_kwargs) for b in response.message.blocks if b.block_type == "tool_call"]
    return Answer(response.message.content or "", calls, response.additional_kwargs["routing"])


FRAMEWORKS = {"langchain": through_langchain, "llama_index": through_llama_index}
WAYS = list(itertools.product(FRAMEWORKS, ("sync", "async"), ("whole", "streamed")))


# --- what is compared ---


@pytest.fixture(scope="module")
def _emulator():
    with BedrockEmulator() as emulator:
        yield emulator, {}


@pytest.fixture
def bedrock(_emulator, monkeypatch):
    emulator, _ = _emulator
    emulator.clear_journal()
    for name, value in emulator.environment().items():
        monkeypatch.setenv(name, value)
    return emulator


@pytest.fixture
def target_of(_emulator, bedrock):
    """A case's target, made once."""
    made = _emulator[1]

    def target_of(name):
        if name not in made:
            made[name] = CASES[name].target(bedrock)
        return made[name]

    return target_of


def sent(bedrock, *, streamed):
    """The one request for an answer that was sent, and that it was of the right kind."""
    entries = bedrock.requests("Converse") + bedrock.requests("ConverseStream")
    assert [entry.operation for entry in entries] == ["ConverseStream" if streamed else "Converse"]
    assert entries[0].status == 200
    return entries[0]


def step(where, part):
    if isinstance(where, list):
        return where[int(part)] if int(part) < len(where) else ABSENT
    return where.get(part, ABSENT) if isinstance(where, dict) else ABSENT


def expected_of(case, framework):
    """The body that a framework must send: the case's, with what is rightly different put in its place."""
    body = copy.deepcopy(case.body)
    if framework != "langchain":
        return body
    empty = [each for each in EMPTY if each.path not in body]
    for differs in (*empty, *case.differs):
        *way, last = differs.path.split(".")
        inner = functools.reduce(step, way, body)
        assert isinstance(inner, dict), f"there is no {differs.path}: correct the table"
        assert inner.get(last, ABSENT) != differs.langchain, f"{differs.path} does not differ: correct the table"
        if differs.langchain == ABSENT:
            del inner[last]
        else:
            inner[last] = differs.langchain
    return body


def lasting(routing):
    return {name: value for name, value in routing.items() if name not in MEASURED}


def routed(case, target):
    """Return a `RoutedClient` for the case's target, with the base models that the case states."""
    models = case.langchain.llm.get("base_models")
    return RoutedClient(Connection(), base_models={target: models} if models else None)


@pytest.fixture(scope="module")
def references():
    return {}


def text_of(content):
    return "".join(block.get("text", "") for block in content)


def calls_of(content):
    return [(block["toolUse"]["name"], block["toolUse"]["input"]) for block in content if "toolUse" in block]


def each_way(name, way):
    return pytest.param(name, way, id=f"{name}-{'-'.join(way)}")


@pytest.mark.sample(80)
@pytest.mark.parametrize(("name", "way"), [each_way(name, way) for name in CASES for way in WAYS])
async def test_one_request_is_the_same_whichever_way_it_goes(bedrock, target_of, references, name, way):
    framework, awaited, streamed = way[0], way[1] == "async", way[2] == "streamed"
    case, target = CASES[name], target_of(name)
    body = {"modelId": target, **expected_of(case, framework)}
    if (name, framework) not in references:
        references[name, framework] = routed(case, target).converse(**body)
        bedrock.clear_journal()
    reference = references[name, framework]

    answer = await FRAMEWORKS[framework](target, getattr(case, framework), streamed=streamed, awaited=awaited)

    streamed = streamed and case.streams
    entry = sent(bedrock, streamed=streamed)
    assert entry.request == body
    assert lasting(answer.routing) == lasting(reference["routing"])
    assert answer.routing["request_id"] == entry.request_id
    assert answer.routing["latency_ms"] > 0
    assert (answer.routing["time_to_first_token_ms"] is not None) == streamed
    content = reference["output"]["message"]["content"]
    assert (answer.text, answer.calls) == (text_of(content), calls_of(content))


def without_call(response):
    """A response without what is of this one call: HTTP's headers, and our own entry."""
    return {name: value for name, value in response.items() if name not in ("ResponseMetadata", "routing")}


@pytest.mark.sample(20)
@pytest.mark.parametrize("name", CASES)
def test_the_same_body_gets_the_same_answer_from_boto3(bedrock, target_of, name):
    case, target = CASES[name], target_of(name)
    body = {"modelId": target, **case.body}
    plain, ours = bedrock.client().converse(**body), routed(case, target).converse(**body)
    assert without_call(ours) == without_call(plain)
    assert ours.keys() - plain.keys() == {"routing"}
    first, second = bedrock.requests("Converse")
    assert first.request == second.request == body


@pytest.mark.sample(20)
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.streams])
def test_the_same_body_gets_the_same_stream_from_boto3(bedrock, target_of, name):
    case, target = CASES[name], target_of(name)
    body = {"modelId": target, **case.body}
    plain = list(bedrock.client().converse_stream(**body)["stream"])
    ours = list(routed(case, target).converse_stream(**body)["stream"])
    routing = ours[-1]["metadata"].pop("routing")
    assert ours == plain
    whole = routed(case, target).converse(**body)["routing"]
    assert lasting(routing) == lasting(whole)
    first, second = bedrock.requests("ConverseStream")
    assert first.request == second.request == body


def test_the_table_has_all_that_was_promised():
    """So that a case which is taken out is missed."""
    members = {member for case in CASES.values() for member in case.body}
    assert members >= {
        "messages", "system", "inferenceConfig", "toolConfig", "performanceConfig", "serviceTier", "guardrailConfig",
        "additionalModelRequestFields", "requestMetadata", "additionalModelResponseFieldPaths",
    }  # fmt: skip
    kinds = {kind for case in CASES.values() for m in case.body["messages"] for block in m["content"] for kind in block}
    assert kinds == {"text", "image", "document", "cachePoint", "toolUse", "toolResult", "reasoningContent"}
    assert len(WAYS) == 8
