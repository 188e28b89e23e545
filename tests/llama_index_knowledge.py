"""Helpers for the tests of LlamaIndex's retriever and query engine for knowledge bases."""

from __future__ import annotations

import contextlib
from typing import Any

from knowledge_base_calls import chunk, collection
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, LLMMetadata
from llama_index.core.base.response.schema import AsyncStreamingResponse, StreamingResponse
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.llms import CustomLLM
from pydantic import Field

from bedrock_routing_integrations.llama_index import KnowledgeBaseQueryEngine

MODES = ("retrieve_and_generate", "retrieve_then_converse")
GENERATE, CONVERSE = MODES
FORMS = ("query", "aquery", "stream", "astream")
FACTS = (
    "Io has 400 volcanoes \N{VOLCANO}.",
    "Titan \N{GRINNING FACE} was found by Huygens in 1655.",
    "Triton was found by William Lassell in 1846.",
)
WHO = "Who found Titan?"


def facts(bedrock, *texts, **how):
    """The id of a knowledge base of a few sentences, each a document of its own."""
    made = [chunk(text, number, moon=text.partition(" ")[0]) for number, text in enumerate(texts or FACTS)]
    return bedrock.add_knowledge_base(collection(*made), **how)


def engine(knowledge_base, form="query", **arguments):
    return KnowledgeBaseQueryEngine(knowledge_base, streaming="stream" in form, **arguments)


async def start(asked, form, question=WHO, **call):
    """The response, unread where it is a stream."""
    return await asked.aquery(question, **call) if form.startswith("a") else asked.query(question, **call)


async def whole(response):
    if isinstance(response, AsyncStreamingResponse):
        return await response.get_response()
    return response.get_response() if isinstance(response, StreamingResponse) else response


async def ask(asked, form, question=WHO, **call):
    """The whole response."""
    return await whole(await start(asked, form, question, **call))


def check_citations(response):
    """The rule of the spans, and positions that exist; returns the cited texts."""
    for citation in response.metadata["citations"]:
        assert str(response)[citation.start : citation.end] == citation.text
        assert citation.passages
        sources = [response.source_nodes[number].node.metadata["source"] for number in citation.passages]
        assert citation.sources == tuple(dict.fromkeys(sources))
    return [citation.text for citation in response.metadata["citations"]]


class Says(CustomLLM):
    """An LLM of another package, with scripted answers, four characters at a time."""

    answers: list[str]
    asked: list[list[ChatMessage]] = Field(default_factory=list)

    @property
    def metadata(self):
        return LLMMetadata()

    def _next(self, messages):
        self.asked.append(list(messages))
        return self.answers[min(len(self.asked), len(self.answers)) - 1]

    def chat(self, messages, **kwargs):
        return ChatResponse(message=ChatMessage(role="assistant", content=self._next(messages)))

    def stream_chat(self, messages, **kwargs):
        answer = self._next(messages)

        def chunks():
            for end in range(4, len(answer) + 4, 4):
                message = ChatMessage(role="assistant", content=answer[:end])
                yield ChatResponse(message=message, delta=answer[end - 4 : end])

        return chunks()

    async def achat(self, messages, **kwargs):
        return self.chat(messages)

    async def astream_chat(self, messages, **kwargs):
        async def chunks():
            for each in self.stream_chat(messages):
                yield each

        return chunks()

    def complete(self, prompt, formatted=False, **kwargs):
        raise NotImplementedError

    def stream_complete(self, prompt, formatted=False, **kwargs):
        raise NotImplementedError


class _Listener(BaseEventHandler):
    events: list[Any] = Field(default_factory=list)

    def handle(self, event, **kwargs):
        self.events.append(event)


@contextlib.contextmanager
def emitted():
    """The names of the events and of the spans (in the order of their end) of LlamaIndex's instrumentation."""
    dispatcher, listener, spans = get_dispatcher(), _Listener(), SimpleSpanHandler()
    handlers = list(dispatcher.span_handlers)
    dispatcher.add_event_handler(listener)
    dispatcher.add_span_handler(spans)
    try:
        yield listener.events, spans
    finally:
        dispatcher.event_handlers.remove(listener)
        dispatcher.span_handlers = handlers


def names(events):
    return [event.class_name() for event in events]


def span_names(spans):
    return [span.id_.partition("-")[0] for span in spans.completed_spans]
