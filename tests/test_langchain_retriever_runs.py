"""`KnowledgeBaseRetriever` among LangChain's own: callbacks, events, chains, agents, many calls at once."""

from __future__ import annotations

import asyncio
import json
import pickle

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.load import dumpd
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField, RunnablePassthrough
from langchain_core.tools import create_retriever_tool

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.knowledge_base import where
from bedrock_routing_integrations.langchain import ChatBedrockRouter, KnowledgeBaseRetriever

OCEAN = "Which moon has an ocean under its ice?"


@pytest.fixture
def library(bedrock):
    return bedrock.default_knowledge_base()


class Recorder(BaseCallbackHandler):
    def __init__(self):
        self.seen = []

    def on_retriever_start(self, serialized, query, **more):
        self.seen.append(("start", query, more["name"], more["tags"], more["metadata"]))

    def on_retriever_end(self, documents, **more):
        self.seen.append(("end", len(documents)))

    def on_retriever_error(self, error, **more):
        self.seen.append(("error", type(error).__name__))


async def test_callbacks_tags_and_names_are_langchains(library):
    retriever = KnowledgeBaseRetriever(knowledge_base_id=library, k=2, tags=["own"], metadata={"team": "a"})
    for ask in (retriever.invoke, retriever.ainvoke):
        seen = Recorder()
        config = {"callbacks": [seen], "tags": ["call"], "run_name": "look", "metadata": {"user": "b"}}
        answer = ask(OCEAN, config)
        assert len(await answer if asyncio.iscoroutine(answer) else answer) == 2
        (kind, query, name, tags, metadata), end = seen.seen
        assert (kind, query, name, end) == ("start", OCEAN, "look", ("end", 2))
        assert sorted(tags) == ["call", "own"]
        assert metadata["team"] == "a"
        assert metadata["user"] == "b"
    seen = Recorder()
    with pytest.raises(InvalidRequestError):
        retriever.invoke("", {"callbacks": [seen]})
    assert seen.seen[-1] == ("error", "InvalidRequestError")


async def test_astream_events_has_the_retrieval(library):
    retriever = KnowledgeBaseRetriever(knowledge_base_id=library, k=2)
    events = [event async for event in retriever.astream_events(OCEAN, version="v2")]
    assert [event["event"] for event in events] == ["on_retriever_start", "on_retriever_end"]
    assert events[0]["name"] == "KnowledgeBaseRetriever"
    assert len(events[1]["data"]["output"]) == 2


def test_fields_can_be_made_configurable(bedrock, library):
    retriever = KnowledgeBaseRetriever(knowledge_base_id=library, k=4).configurable_fields(
        k=ConfigurableField(id="k"), filter=ConfigurableField(id="filter")
    )
    assert len(retriever.invoke(OCEAN)) == 4
    found = retriever.invoke(OCEAN, {"configurable": {"k": 2, "filter": where("planet") == "Saturn"}})
    assert {document.metadata["planet"] for document in found} == {"Saturn"}
    with pytest.raises(InvalidRequestError, match="k=0"):
        retriever.invoke(OCEAN, {"configurable": {"k": 0}})


def test_retriever_is_the_first_step_of_a_chain(bedrock, library, router):
    prompt = ChatPromptTemplate.from_template("{context}\n\nQuestion: {question}")
    both = {
        "context": KnowledgeBaseRetriever(knowledge_base_id=library, k=3)
        | (lambda found: "\n\n".join(document.page_content for document in found)),
        "question": RunnablePassthrough(),
    }
    chain = both | prompt | ChatBedrockRouter(model=router) | StrOutputParser()
    assert "Christiaan Huygens" in chain.invoke("Who discovered Titan?")
    asked = bedrock.requests("Converse")[-1].request["messages"][0]["content"][0]["text"]
    assert "Titan is the largest moon of Saturn" in asked


def test_an_agent_uses_it_as_a_tool(bedrock, library, router):
    tool = create_retriever_tool(
        KnowledgeBaseRetriever(knowledge_base_id=library, k=1), "search_moons", "Search facts about moons by a query."
    )
    agent = create_agent(ChatBedrockRouter(model=router), [tool])
    result = agent.invoke({"messages": [("user", "Use search_moons with the query 'ocean under the ice of Europa'.")]})
    tool_messages = [message for message in result["messages"] if message.type == "tool"]
    assert tool_messages, [message.pretty_repr() for message in result["messages"]]
    assert "Europa" in tool_messages[0].content
    assert len(bedrock.requests("Retrieve")) == 1


async def test_50_async_calls_run_at_once(bedrock, library):
    bedrock.fail("slow_first_byte", operation="Retrieve", times=31, seconds=5, in_flight=31)
    retriever = KnowledgeBaseRetriever(knowledge_base_id=library, max_concurrency=64)
    found = await asyncio.gather(*(retriever.ainvoke(f"{OCEAN} {number}") for number in range(50)))
    assert all(found)
    assert bedrock.peak_in_flight > 30, "asyncio's default pool would run six"


async def test_batches_answer_in_order(library):
    retriever = KnowledgeBaseRetriever(knowledge_base_id=library, k=1)
    moons = ["Titan lakes methane", "Phobos crater Stickney", "Triton Neptune Lassell"]
    for found in (retriever.batch(moons), await retriever.abatch(moons)):
        sources = [documents[0].metadata["source"].rpartition("/")[2] for documents in found]
        assert sources == ["titan.md", "phobos.md", "triton.md"]


def test_secrets_are_shown_nowhere(caplog):
    secrets = {
        "aws_access_key_id": "AKIASECRET", "aws_secret_access_key": "very-secret", "aws_session_token": "token-secret",
    }  # fmt: skip
    caplog.set_level("DEBUG")
    retriever = KnowledgeBaseRetriever(
        knowledge_base_id="EMULATEDKB", region_name="us-east-1", endpoint_url="http://127.0.0.1:9", max_retries=0,
        **secrets,
    )  # fmt: skip
    seen = Recorder()
    with pytest.raises(Exception, match="connect"):
        retriever.invoke(OCEAN, {"callbacks": [seen]})
    shown = [
        repr(retriever),
        str(retriever),
        json.dumps(dumpd(retriever)),
        repr(seen.seen),
        repr(retriever._knowledge_base_client),
    ]
    shown += [repr(retriever.model_dump()), str(pickle.dumps(retriever)), repr(vars(retriever))]
    shown += [record.getMessage() for record in caplog.records if record.name.startswith("bedrock_routing")]
    for each in shown:
        for secret in ("AKIASECRET", "very-secret", "token-secret"):
            assert secret not in each
