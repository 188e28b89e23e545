"""A question that Bedrock answers: RetrieveAndGenerate in LlamaIndex's types."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llama_index.core.base.response.schema import Response
from llama_index_instrumentation.span import active_span_id

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.knowledge_base import CONVERSE, GENERATE, Question
from bedrock_routing_integrations.threads import iterate_in_thread, run_in_thread

from ._instrumentation import tell_failed, tell_routed
from ._knowledge_base_arguments import search_options
from ._knowledge_base_nodes import nodes_of
from ._knowledge_base_responses import AsyncStreamed, Streamed

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from llama_index.core.schema import NodeWithScore, QueryBundle

    from bedrock_routing_integrations.client import KnowledgeBaseClient
    from bedrock_routing_integrations.client.knowledge_bases import Generated
    from bedrock_routing_integrations.knowledge_base import GenerationOptions, KnowledgeBaseId, SearchOptions


@dataclass(frozen=True)
class Asked:
    """One call of a query engine.

    Attributes:
        bundle: The question.
        session_id: The conversation to go on with.
        options: Options of the search for this call, and `image`.
    """

    bundle: QueryBundle
    session_id: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Generating:
    """Asks by RetrieveAndGenerate, or by its stream."""

    client: KnowledgeBaseClient
    knowledge_base: KnowledgeBaseId | None
    source: str | Mapping[str, Any] | None
    model: str
    base_models: Sequence[str] | None
    search: SearchOptions
    options: GenerationOptions
    max_concurrency: int

    def answer(self, asked: Asked) -> Response:
        """The whole answer."""
        with self._telling() as span_id:
            generated = self.client.generate(*self._call(asked))
        return _whole(generated, span_id)

    async def aanswer(self, asked: Asked) -> Response:
        """`answer`, asynchronously."""
        with self._telling() as span_id:
            generated = await run_in_thread(self.max_concurrency, self.client.generate, *self._call(asked))
        return _whole(generated, span_id)

    def stream(self, asked: Asked) -> Streamed:
        """The answer as it arrives."""
        with self._telling() as span_id:
            generated = self.client.generate_stream(*self._call(asked))
        metadata = _metadata(generated)
        nodes: list[NodeWithScore] = []
        return Streamed(self._texts(generated, metadata, nodes, span_id), nodes, metadata)

    async def astream(self, asked: Asked) -> AsyncStreamed:
        """`stream`, asynchronously."""
        with self._telling() as span_id:
            generated = await run_in_thread(self.max_concurrency, self.client.generate_stream, *self._call(asked))
        metadata = _metadata(generated)
        nodes: list[NodeWithScore] = []
        texts = iterate_in_thread(self.max_concurrency, lambda: self._texts(generated, metadata, nodes, span_id))
        return AsyncStreamed(texts, nodes, metadata)

    # It runs in a thread where the reader is asynchronous; what it fills, only it writes.
    def _texts(
        self, generated: Generated, metadata: dict[str, Any], nodes: list[NodeWithScore], span_id: str | None
    ) -> Generator[str, None, None]:
        # Who is told of an error, or that it was given up, may keep its frames, and with them the connection.
        with self._telling(span_id), contextlib.closing(generated.parts):  # type: ignore[type-var]  # a generator
            for part in generated.parts:
                nodes.extend(nodes_of(part.passages, generated.reader.guardrail_action, known=nodes))
                metadata["citations"].extend(part.citations)
                metadata["guardrail_action"] = generated.reader.guardrail_action
                if part.text:
                    yield part.text
        tell_routed(generated.routing, span_id)

    @contextlib.contextmanager
    def _telling(self, span_id: str | None = None) -> Iterator[str | None]:
        """Tell LlamaIndex's instrumentation of what fails, in that span or in the one that this is."""
        span_id = span_id or active_span_id.get()
        try:
            yield span_id
        except BaseException as error:
            tell_failed(self.model, error, span_id)
            raise

    def _call(self, asked: Asked) -> tuple[Any, ...]:
        if asked.bundle.image_path is not None or "image" in asked.options:
            raise InvalidRequestError(f"RetrieveAndGenerate takes no image with a question: mode={CONVERSE!r} does")
        search = search_options(asked.options, self.search)
        question = Question(
            text=asked.bundle.query_str,
            knowledge_base=self.knowledge_base,
            source=self.source,
            session_id=asked.session_id,
        )
        return question, self.model, search, self.options, self.base_models


def _metadata(generated: Generated) -> dict[str, Any]:
    return {
        "mode": GENERATE,
        "session_id": generated.session_id,
        "citations": list(generated.reader.citations),
        "guardrail_action": generated.reader.guardrail_action,
        "routing": generated.routing,
    }


def _whole(generated: Generated, span_id: str | None) -> Response:
    tell_routed(generated.routing, span_id)
    reader = generated.reader
    return Response(reader.text, nodes_of(reader.passages, reader.guardrail_action), _metadata(generated))
