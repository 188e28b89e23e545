"""Properties of other packages that knowledge bases rely on in both frameworks.

The message of a failure after an upgrade names the file that relies on the property.
"""

from __future__ import annotations

import functools
import inspect
from typing import get_type_hints

import botocore.model
import botocore.session
import pytest
from langchain_aws import AmazonKnowledgeBasesRetriever
from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    Citation,
    HumanMessage,
    convert_to_messages,
    message_chunk_to_message,
)
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnableSerializable
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.config import patch_config
from langchain_core.runnables.utils import AddableDict
from relying import relies

from bedrock_routing_integrations.langchain import KnowledgeBaseRetriever
from bedrock_routing_integrations.langchain._rag_messages import MessageHistory, SessionMessages

RETRIEVERS = "bedrock_routing_integrations/langchain/retrievers.py"
CHAINS = "bedrock_routing_integrations/langchain/chains.py"
MESSAGES = "bedrock_routing_integrations/langchain/_rag_messages.py"
CORE = "bedrock_routing_integrations/knowledge_base/"


# langchain-core: retrievers


class Found(list[Document]):
    said = "what a list cannot say"


class Shelf(BaseRetriever):
    def _get_relevant_documents(self, query, *, run_manager, **options):
        self.metadata = {"options": options, "query": query}
        return Found([Document("krill")])

    async def _aget_relevant_documents(self, query, *, run_manager, **options):
        relies(hasattr(run_manager, "get_sync"), "an asynchronous run manager's get_sync", RETRIEVERS, "See its API.")
        return self._get_relevant_documents(query, run_manager=run_manager.get_sync(), **options)


async def test_retriever_gets_call_options_and_returns_its_list():
    shelf = Shelf()
    for shape in (shelf.invoke("q", k=2), await shelf.ainvoke("q", k=2)):
        relies(shelf.metadata["options"] == {"k": 2}, "passing a call's options on", RETRIEVERS, "See BaseRetriever.")
        relies(getattr(shape, "said", None), "returning the very list", RETRIEVERS, "guardrail_action would be lost.")


# langchain-core: runnables


class Counting(RunnableSerializable):
    def invoke(self, given, config=None, **kwargs):
        return self._call_with_config(self._whole, given, config, **kwargs)

    async def ainvoke(self, given, config=None, **kwargs):
        return await self._acall_with_config(self._awhole, given, config, **kwargs)

    def stream(self, given, config=None, **kwargs):
        yield from self._transform_stream_with_config(iter([given]), self._parts, config, **kwargs)

    async def astream(self, given, config=None, **kwargs):
        async def one():
            yield given

        async for part in self._atransform_stream_with_config(one(), self._aparts, config, **kwargs):
            yield part

    def _whole(self, given, run_manager, config, **call):
        return AddableDict(given=given, child=config["callbacks"].parent_run_id == run_manager.run_id, call=call)

    async def _awhole(self, given, run_manager, config, **call):
        return self._whole(given, run_manager, config, **call)

    def _parts(self, inputs, run_manager, config, **call):
        yield self._whole(next(inputs), run_manager, config, **call)

    async def _aparts(self, inputs, run_manager, config, **call):
        yield self._whole(await inputs.__anext__(), run_manager, config, **call)


async def test_runnable_gets_run_manager_config_and_options():
    one = Counting()
    results = [one.invoke("q", k=2), await one.ainvoke("q", k=2), *one.stream("q", k=2)]
    results += [part async for part in one.astream("q", k=2)]
    for result in results:
        relies(
            result == {"given": "q", "child": True, "call": {"k": 2}}, "the _with_config helpers of Runnable", CHAINS,
            "See how langchain-core's own Runnables trace their runs now.",
        )  # fmt: skip
    assert len(results) == 4


def test_patch_config_names_a_run_below():
    relies(patch_config({}, run_name="a")["run_name"] == "a", "patch_config(run_name=)", CHAINS, "See its signature.")


def test_addable_dicts_add_up_and_none_is_nothing_yet():
    total = AddableDict(a=None, b=[1], c="x") + AddableDict(a={"y": 1}, b=[2], c="z", d=1) + AddableDict(d=None)
    relies(
        total == {"a": {"y": 1}, "b": [1, 2], "c": "xz", "d": 1}, "how AddableDict adds", CHAINS,
        "Streamed dictionaries have to add up to the result: yield what does.",
    )  # fmt: skip


def test_bound_and_retried_models_name_what_is_inside():
    model = FakeListChatModel(responses=["a"])
    for wrapped in (model.bind(stop=["a"]), model.with_retry(), model.with_config(tags=["a"])):
        relies(
            isinstance(wrapped, RunnableBindingBase) and wrapped.bound is model, "RunnableBindingBase.bound", MESSAGES,
            "Find the model inside in another way: only then are its instructions marked for the cache.",
        )  # fmt: skip
    relies(hasattr(RunnableLambda(len), "stream"), "Runnable.stream", CHAINS, "See how models stream.")


# langchain-core: messages

CITATION = {"type", "id", "url", "title", "start_index", "end_index", "cited_text", "extras"}


def test_a_citation_has_these_members():
    relies(
        set(get_type_hints(Citation)) >= CITATION, "the members of Citation", MESSAGES, "See what they are called now."
    )


def chunk_of(text, *annotations, index="lc_txt_0"):
    block = {"type": "text", "text": text, "index": index, **({"annotations": [*annotations]} if annotations else {})}
    return AIMessageChunk(content=[block], response_metadata={"output_version": "v1"})


def test_chunks_of_one_block_add_up_with_their_annotations():
    notes = [{"type": "citation", "start_index": n, "end_index": n + 1, "extras": {"score": 0.5}} for n in (0, 1)]
    total = chunk_of("a", notes[0]) + chunk_of("b", notes[1]) + AIMessageChunk(content=[], chunk_position="last")
    (block,) = total.content_blocks
    relies(block["text"] == "ab", "text blocks of one index becoming one", MESSAGES, "Give chunks what merges now.")
    relies(
        block["annotations"] == notes, "annotations of one block adding up", MESSAGES, "Give chunks what merges now."
    )
    relies(
        total.response_metadata["output_version"] == "v1", "output_version not being doubled", MESSAGES, "Say it once."
    )
    relies(type(message_chunk_to_message(total)) is AIMessage, "message_chunk_to_message", MESSAGES, "See its module.")


def test_blocks_of_version_1_come_back_as_they_are():
    block = {"type": "text", "text": "a", "annotations": [{"type": "citation", "start_index": 0, "end_index": 1}]}
    message = AIMessage(content=[block], response_metadata={"output_version": "v1"})
    relies(
        message.content_blocks == [block], "content_blocks of output_version v1", MESSAGES, "See what marks them now."
    )
    relies(message.text == "a", "message.text being a str", MESSAGES, "See how a message's text is read.")


def test_messages_are_made_of_what_people_write():
    messages = convert_to_messages([("human", "a"), {"role": "assistant", "content": "b"}, HumanMessage("c")])
    relies(
        [message.type for message in messages] == ["human", "ai", "human"], "convert_to_messages", MESSAGES, "See it."
    )
    relies([message.text for message in messages] == ["a", "b", "c"], "convert_to_messages", MESSAGES, "See it.")


@pytest.mark.parametrize("name", ["messages", "aget_messages", "add_messages", "aadd_messages"])
def test_langchains_histories_have_what_ours_have(name):
    for history in (BaseChatMessageHistory, SessionMessages(), MessageHistory):
        listed = name in getattr(history, "__annotations__", {})
        relies(listed or hasattr(history, name), f"{name} of a history", MESSAGES, "Call it by its new name.")


# langchain-aws: the arguments of its retriever

THEIRS = {
    "knowledge_base_id", "region_name", "credentials_profile_name", "aws_access_key_id", "aws_secret_access_key",
    "aws_session_token", "endpoint_url", "config", "client", "guardrail_config", "retrieval_config",
    "min_score_confidence",
}  # fmt: skip


def test_every_argument_of_langchain_awss_retriever_is_one_of_ours():
    fields = set(AmazonKnowledgeBasesRetriever.model_fields) - set(BaseRetriever.model_fields)
    relies(fields == THEIRS, f"these fields (differ: {fields ^ THEIRS})", RETRIEVERS, "Take the new one too.")
    alias = AmazonKnowledgeBasesRetriever.model_fields["guardrail_config"].alias
    relies(alias == "guardrails", "the alias guardrails", RETRIEVERS, "Take the new one too.")
    ours = {*KnowledgeBaseRetriever.model_fields, *KnowledgeBaseRetriever.aliases}
    assert THEIRS | {"guardrails"} <= ours


# pydantic


def test_pydantic_state_has_fields_and_private_attributes():
    state = KnowledgeBaseRetriever(knowledge_base_id="EMULATEDKB").__getstate__()
    relies(
        state["__dict__"]["knowledge_base_id"] == "EMULATEDKB"
        and "_knowledge_base_client" in state["__pydantic_private__"],
        "pydantic's __getstate__", RETRIEVERS, "Secrets must stay out of pickles: see where they are now.",
    )  # fmt: skip


# botocore's service models: what we ask and read

RETRIEVE = (
    "knowledgeBaseId retrievalQuery.text retrievalQuery.type retrievalQuery.image.format nextToken userContext.userId"
)
VECTOR = "numberOfResults overrideSearchType filter implicitFilterConfiguration.modelArn rerankingConfiguration.type"
FOUND = (
    "content.type content.text content.row.[].columnName content.byteContent content.audio.transcription "
    "content.audio.s3Uri content.video.summary content.video.s3Uri location.s3Location.uri location.webLocation.url "
    "location.customDocumentLocation.id location.sqlLocation.query location.kendraDocumentLocation.uri metadata"
)
ASKED = (
    "modelArn generationConfiguration.performanceConfig.latency orchestrationConfiguration.performanceConfig.latency "
    "generationConfiguration.inferenceConfig.textInferenceConfig.maxTokens "
    "generationConfiguration.promptTemplate.textPromptTemplate generationConfiguration.additionalModelRequestFields "
    "generationConfiguration.guardrailConfiguration.guardrailId orchestrationConfiguration.promptTemplate "
    "orchestrationConfiguration.queryTransformationConfiguration.type retrievalConfiguration.vectorSearchConfiguration"
)
GENERATE = "retrieveAndGenerateConfiguration.knowledgeBaseConfiguration."
EXTERNAL = "retrieveAndGenerateConfiguration.externalSourcesConfiguration.sources.[]."
CITED = (
    "generatedResponsePart.textResponsePart.span.start generatedResponsePart.textResponsePart.text retrievedReferences"
)
MEMBERS = [
    *(("Retrieve", f"in:{name}") for name in RETRIEVE.split()),
    *(("Retrieve", f"in:retrievalConfiguration.vectorSearchConfiguration.{name}") for name in VECTOR.split()),
    ("Retrieve", "in:retrievalConfiguration.managedSearchConfiguration.rerankingModelType"),
    ("Retrieve", "in:guardrailConfiguration.guardrailVersion"),
    *(("Retrieve", f"out:retrievalResults.[].{name}") for name in (*FOUND.split(), "score", "documentId")),
    ("Retrieve", "out:nextToken"),
    ("Retrieve", "out:guardrailAction"),
    *(("RetrieveAndGenerate", f"in:{GENERATE}{name}") for name in ASKED.split()),
    ("RetrieveAndGenerate", f"in:{EXTERNAL}s3Location.uri"),
    ("RetrieveAndGenerate", f"in:{EXTERNAL}byteContent.contentType"),
    ("RetrieveAndGenerate", "in:sessionConfiguration.kmsKeyArn"),
    ("RetrieveAndGenerate", "out:sessionId"),
    ("RetrieveAndGenerate", "out:guardrailAction"),
    *(("RetrieveAndGenerate", f"out:citations.[].{name}") for name in CITED.split()),
    ("RetrieveAndGenerateStream", "out:sessionId"),
    ("RetrieveAndGenerateStream", "out:stream.output.text"),
    ("RetrieveAndGenerateStream", "out:stream.citation.citation.retrievedReferences"),
    *(("RetrieveAndGenerateStream", f"out:stream.citation.{name}") for name in CITED.split()),
    ("RetrieveAndGenerateStream", "out:stream.guardrail.action"),
]


@functools.cache
def operation_model(operation):
    return botocore.session.Session().get_service_model("bedrock-agent-runtime").operation_model(operation)


@pytest.mark.parametrize(("operation", "member"), MEMBERS)
def test_the_service_model_has_this_member(operation, member):
    model = operation_model(operation)
    kind, _, path = member.partition(":")
    shape = {"in": model.input_shape, "out": model.output_shape}[kind]
    for part in path.split("."):
        shape = getattr(shape, "member", None) if part == "[]" else getattr(shape, "members", {}).get(part)
        relies(shape is not None, f"{operation} {member}", CORE, "Read the new service model.")


def test_a_stream_has_no_event_that_we_do_not_know():
    events = set(operation_model("RetrieveAndGenerateStream").output_shape.members["stream"].members)
    known = {"output", "citation", "guardrail"}
    new = {name for name in events - known if not name.endswith("Exception")}
    relies(known <= events and not new, f"these events (new: {new})", CORE, "Teach AnswerReader what it means.")


def test_the_shapes_are_looked_at_and_not_guessed():
    assert not inspect.isabstract(botocore.model.Shape)
    with pytest.raises(AssertionError, match="nosuch"):
        test_the_service_model_has_this_member("Retrieve", "in:nosuch")
