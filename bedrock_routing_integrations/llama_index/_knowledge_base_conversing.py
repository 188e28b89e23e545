"""A question that we retrieve for and an LLM answers, in LlamaIndex's types."""

from __future__ import annotations

import asyncio
import os
import threading
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.memory import BaseMemory, ChatMemoryBuffer
from llama_index.core.schema import QueryBundle
from pydantic import PrivateAttr

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.invocation import ROUTING
from bedrock_routing_integrations.knowledge_base import (
    CONVERSE,
    MarkedAnswer,
    Sessions,
    compose,
    current_time,
    read_queries,
    rewriting_prompt,
)
from bedrock_routing_integrations.threads import run_in_thread

from ._knowledge_base_nodes import Found, distinct_nodes, nodes_of, passage_of
from ._knowledge_base_responses import AsyncStreamed, Streamed
from ._knowledge_base_turns import INTERVENED, NONE, Turn, images_for, intervened, system_message, user_message
from .retrievers import KnowledgeBaseRetriever

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.base.llms.base import BaseLLM
    from llama_index.core.base.llms.types import ChatResponse
    from llama_index.core.base.response.schema import Response
    from llama_index.core.schema import NodeWithScore

    from bedrock_routing_integrations.knowledge_base import GenerationOptions, SourceDocument

    from ._knowledge_base_generating import Asked

_HISTORY_TOKENS = 16_000
_ROLES = {MessageRole.USER: "user", MessageRole.ASSISTANT: "assistant"}


class Histories:
    """The conversations by session id: ours for 24 hours, or the user's."""

    def __init__(self, get_memory: Callable[[str], BaseMemory] | None) -> None:
        self._get_memory = get_memory

    def open(self, session_id: str | None) -> tuple[str, BaseMemory]:
        """The id and the history of a session; of a new one without an id.

        Raises:
            SessionExpiredError: The session is over.
        """
        if session_id is not None and (not isinstance(session_id, str) or not session_id):
            raise InvalidRequestError(f"session_id={session_id!r} is no id: give that of the answer before, or none")
        if self._get_memory is not None:
            session_id = session_id or str(uuid.uuid4())
            memory = self._get_memory(session_id)
            if not isinstance(memory, BaseMemory):
                raise InvalidRequestError(
                    f"get_memory gave a {type(memory).__name__}: it must give one of LlamaIndex's memories"
                )
            return session_id, memory
        return shared_sessions.begin() if session_id is None else (session_id, shared_sessions.find(session_id))


class _Recent(ChatMemoryBuffer):
    """A history that forgets what is too old to be told.

    LlamaIndex's own keeps everything, and counts the tokens of all of it again for each message that is too old: with
    200 long answers that takes seconds for each question (seen 2026-11 with llama-index-core 0.14).
    """

    _lock: Any = PrivateAttr(default_factory=threading.Lock)

    def put_messages(self, messages: list[ChatMessage]) -> None:
        """Keep what was said now, and of what was said before what fits."""
        with self._lock:
            super().put_messages(messages)
            recent = self.get()
            # An answer longer than all that fits comes without its question, which no model takes.
            self.set(recent if recent and recent[0].role == MessageRole.USER else [])


def _new_memory(_session_id: str) -> BaseMemory:
    return _Recent.from_defaults(token_limit=_HISTORY_TOKENS)


shared_sessions: Sessions[BaseMemory] = Sessions(_new_memory)
"""The conversations of this process\'s engines: as with Bedrock\'s own, whichever object is given the id goes on."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=shared_sessions.forget)


@dataclass(frozen=True, kw_only=True)
class Conversing:
    """Rewords the question, retrieves, and asks an LLM.

    Attributes:
        llm: Answers.
        rewriter: Words the search.
        retriever: Finds the passages; None where all that is asked about is one document,
        source: which is this one.
        histories: The conversations.
        options: What of it is ours to do: templates and decomposition.
        guarded: Whether there is a guardrail.
        max_concurrency: Look-ups of targets that run at once.
    """

    llm: BaseLLM
    rewriter: BaseLLM
    retriever: BaseRetriever | None
    source: SourceDocument | None
    histories: Histories
    options: GenerationOptions
    guarded: bool
    max_concurrency: int

    def answer(self, asked: Asked) -> Response:
        """The whole answer."""
        turn = self._begin(asked)
        response = turn.finish(self.llm.chat(turn.messages))
        turn.remember()
        return response

    async def aanswer(self, asked: Asked) -> Response:
        """`answer`, asynchronously."""
        turn = await self._abegin(asked)
        response = turn.finish(await self.llm.achat(turn.messages))
        await turn.aremember()
        return response

    def stream(self, asked: Asked) -> Streamed:
        """The answer as it arrives."""
        turn = self._begin(asked)
        return Streamed(turn.texts(self.llm.stream_chat(turn.messages)), turn.nodes, turn.metadata)

    async def astream(self, asked: Asked) -> AsyncStreamed:
        """`stream`, asynchronously."""
        turn = await self._abegin(asked)
        return AsyncStreamed(turn.atexts(await self.llm.astream_chat(turn.messages)), turn.nodes, turn.metadata)

    def _begin(self, asked: Asked) -> Turn:
        self._check(asked)
        session_id, memory = self.histories.open(asked.session_id)
        history = memory.get(input=asked.bundle.query_str)
        found = [] if self.retriever is None else self._found(self.retriever, asked, history)
        return self._turn(asked, session_id, memory, history, found)

    async def _abegin(self, asked: Asked) -> Turn:
        self._check(asked)
        session_id, memory = self.histories.open(asked.session_id)
        history = await memory.aget(input=asked.bundle.query_str)
        found = [] if self.retriever is None else await self._afound(self.retriever, asked, history)
        # It may look up the target.
        return await run_in_thread(self.max_concurrency, self._turn, asked, session_id, memory, history, found)

    def _found(
        self, retriever: BaseRetriever, asked: Asked, history: Sequence[ChatMessage]
    ) -> list[list[NodeWithScore]]:
        wanted = self._rewriting(asked, history)
        reworded = None if wanted is None else self.rewriter.chat(wanted)
        return [retriever.retrieve(query, **asked.options) for query in self._queries(asked, reworded)]

    async def _afound(
        self, retriever: BaseRetriever, asked: Asked, history: Sequence[ChatMessage]
    ) -> list[list[NodeWithScore]]:
        wanted = self._rewriting(asked, history)
        reworded = None if wanted is None else await self.rewriter.achat(wanted)
        queries = self._queries(asked, reworded)
        return await asyncio.gather(*(retriever.aretrieve(query, **asked.options) for query in queries))

    def _check(self, asked: Asked) -> None:
        question = asked.bundle.query_str
        if not isinstance(question, str) or not question.strip():
            raise InvalidRequestError(f"the question must be a text that is not empty, and is {question!r}")
        if asked.options and not isinstance(self.retriever, KnowledgeBaseRetriever):
            has = "an external source" if self.retriever is None else f"a {type(self.retriever).__name__}"
            raise InvalidRequestError(
                f"{next(iter(asked.options))} is for a KnowledgeBaseRetriever; this engine has {has}"
            )

    def _rewriting(self, asked: Asked, history: Sequence[ChatMessage]) -> list[ChatMessage] | None:
        prompt = rewriting_prompt(
            asked.bundle.query_str,
            [(_ROLES[each.role], each.content) for each in history if each.role in _ROLES and each.content],
            template=self.options.orchestration_prompt_template,
            decompose=self.options.query_decomposition,
            now=current_time(),
        )
        return None if prompt is None else [ChatMessage(role=MessageRole.USER, content=prompt)]

    def _queries(self, asked: Asked, reworded: ChatResponse | None) -> list[QueryBundle]:
        # What a guardrail says in place of an answer is nothing to search for.
        if reworded is None or intervened(reworded):
            return [asked.bundle]
        answer, question = reworded.message.content or "", asked.bundle.query_str
        queries = read_queries(answer, question, decompose=self.options.query_decomposition)
        image = asked.bundle.image_path
        return [asked.bundle if q == question else QueryBundle(q, image_path=image) for q in queries]

    def _turn(
        self,
        asked: Asked,
        session_id: str,
        memory: BaseMemory,
        history: Sequence[ChatMessage],
        found: Sequence[Sequence[NodeWithScore]],
    ) -> Turn:
        nodes = distinct_nodes(found) if self.source is None else nodes_of([self.source.passage])
        passages = [passage_of(node) for node in nodes]
        texts = [passage.text for passage in passages] if self.source is None else [self.source.shown]
        question = asked.bundle.query_str
        images = images_for(self.llm, passages, history)
        prompt = compose(
            question,
            texts,
            template=self.options.prompt_template,
            now=current_time(),
            images=images.attached,
        )
        actions = [each.guardrail_action for each in found if isinstance(each, Found)]
        return Turn(
            question=question,
            messages=[system_message(prompt, self.llm), *history, user_message(prompt, self.source, images)],
            nodes=nodes,
            memory=memory,
            answer=MarkedAnswer(prompt, passages),
            guarded=self.guarded,
            metadata={
                "mode": CONVERSE,
                "session_id": session_id,
                "citations": [],
                "guardrail_action": INTERVENED if INTERVENED in actions else NONE if self.guarded else None,
                ROUTING: None,
                **images.dictionaries(),
            },
        )
