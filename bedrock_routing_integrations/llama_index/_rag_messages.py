"""A RAG turn in LlamaIndex's types: messages, responses whole and in pieces, memories of sessions.

What happens in a turn is in `bedrock_routing_integrations.knowledge_base.rag`.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any

from llama_index.core.async_utils import asyncio_run
from llama_index.core.base.llms.types import (
    CacheControl,
    CachePoint,
    ChatMessage,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
)
from llama_index.core.base.response.schema import AsyncStreamingResponse, Response, StreamingResponse
from llama_index.core.memory import BaseMemory, ChatMemoryBuffer
from pydantic import PrivateAttr

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.invocation import ROUTING
from bedrock_routing_integrations.knowledge_base import (
    CONVERSE,
    AnswerModel,
    Sessions,
    caches_instructions,
    reads_images,
)
from bedrock_routing_integrations.runtime import DEFAULT_RUNTIME

from .llms import BedrockRouter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence

    from llama_index.core.base.llms.base import BaseLLM
    from llama_index.core.base.llms.types import ChatResponse, ChatResponseAsyncGen, ChatResponseGen
    from llama_index.core.schema import NodeWithScore

    from bedrock_routing_integrations.knowledge_base import AnswerPart, RagTurn

_HISTORY_TOKENS = 16_000
_ROLES = {MessageRole.USER: "user", MessageRole.ASSISTANT: "assistant"}


# --- The messages of a turn ---


def answer_model(llm: BaseLLM) -> AnswerModel:
    """Return what a turn must know about the LLM that answers.

    LlamaIndex has no way to state that an LLM reads images, so LLMs other than `BedrockRouter` get descriptions.
    """
    if not isinstance(llm, BedrockRouter):
        return AnswerModel(type(llm).__name__)
    client = llm._connected()  # noqa: SLF001 - of this package

    def caches() -> bool:
        return caches_instructions(lambda: client.resolve(llm.model), [client.policy], llm.performance_config)

    return AnswerModel(llm.model, lambda: reads_images(client.resolve(llm.model)), caches)


def count_images(messages: Sequence[ChatMessage]) -> int:
    """Return the number of images in messages."""
    return sum(isinstance(block, ImageBlock) for message in messages for block in message.blocks)


def turn_messages(turn: RagTurn, history: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Return what the LLM is asked, once the turn is composed."""
    instructions: list[Any] = [TextBlock(text=turn.prompt.system)]
    if turn.marks_instructions:
        instructions.append(CachePoint(cache_control=CacheControl(type="default")))
    blocks: list[Any] = []
    source = turn.source
    if source is not None and source.text is None:
        location = {"url": source.source} if source.data is None else {"data": source.data}
        blocks.append(DocumentBlock(**location, title=source.name, document_mimetype=source.media_type))
    for label, image in turn.images.labelled(turn.prompt):  # before the text, as Claude's guide advises
        blocks += [TextBlock(text=label), ImageBlock(image=image.data, image_mimetype=image.media_type)]
    blocks.append(TextBlock(text=turn.prompt.user))
    system, user = MessageRole.SYSTEM, MessageRole.USER
    return [ChatMessage(role=system, blocks=instructions), *history, ChatMessage(role=user, blocks=blocks)]


def roles_and_texts(messages: Sequence[ChatMessage]) -> list[tuple[str, str]]:
    """Return a conversation as (role, text)."""
    return [(_ROLES[each.role], each.content) for each in messages if each.role in _ROLES and each.content]


def intervened(response: ChatResponse) -> bool:
    """Return whether a guardrail replaced the answer of an LLM."""
    raw = response.raw
    return isinstance(raw, Mapping) and raw.get("stopReason") == "guardrail_intervened"


# --- The response of a turn ---


class TurnResponse:
    """The response of a turn, from an LLM's answer: whole, or in pieces while `metadata` fills.

    Args:
        turn: The turn, composed.
        nodes: What was found; the turn's passages in LlamaIndex's type.
        session_id: The session, for the metadata.
        memory: The session's store, which the turn is added to once it is answered.
    """

    def __init__(self, turn: RagTurn, nodes: list[NodeWithScore], session_id: str, memory: BaseMemory) -> None:
        self._turn, self._memory, self.nodes = turn, memory, nodes
        self.metadata: dict[str, Any] = {
            "mode": CONVERSE,
            "session_id": session_id,
            "citations": [],
            "guardrail_action": turn.guardrail_action,
            ROUTING: None,
            **turn.omissions,
        }

    def finish(self, response: ChatResponse) -> Response:
        """Return the whole response; `remember` is to follow."""
        # Joined as a stream's pieces are; `content` has a line break between two blocks.
        self._read("".join(block.text for block in response.message.blocks if isinstance(block, TextBlock)))
        self._finish(response)
        return Response(self._turn.text, self.nodes, self.metadata)

    def texts(self, chunks: ChatResponseGen) -> Generator[str, None, None]:
        """Yield the answer in pieces, and remember it when it is complete."""
        last = None
        with contextlib.closing(chunks) if isinstance(chunks, Generator) else contextlib.nullcontext():
            for last in chunks:
                if text := self._read(last.delta or ""):
                    yield text
        if text := self._finish(last):
            yield text
        self.remember()

    async def atexts(self, chunks: ChatResponseAsyncGen) -> AsyncGenerator[str, None]:
        """`texts`, asynchronously."""
        last = None
        try:
            async for last in chunks:
                if text := self._read(last.delta or ""):
                    yield text
        finally:
            if inspect.isasyncgen(chunks):
                await chunks.aclose()
        if text := self._finish(last):
            yield text
        await self.aremember()

    def remember(self) -> None:
        """Add the turn to the session's store."""
        if messages := self._exchange():
            self._memory.put_messages(messages)

    async def aremember(self) -> None:
        """`remember`, asynchronously."""
        if messages := self._exchange():
            await self._memory.aput_messages(messages)

    def _exchange(self) -> list[ChatMessage]:
        exchange = self._turn.exchange()
        roles = (MessageRole.USER, MessageRole.ASSISTANT)
        return [ChatMessage(role=role, content=text) for role, text in zip(roles, exchange or (), strict=False)]

    def _read(self, text: str) -> str:
        return self._add(self._turn.read(text))

    def _finish(self, response: ChatResponse | None) -> str:
        if response is None:
            return self._add(self._turn.finish())
        routing = response.additional_kwargs.get(ROUTING)
        part = self._turn.finish(routing=routing, intervened=intervened(response))
        self.metadata.update({ROUTING: routing, "guardrail_action": self._turn.guardrail_action})
        return self._add(part)

    def _add(self, part: AnswerPart) -> str:
        self.metadata["citations"].extend(part.citations)
        return part.text


# --- Streaming responses ---


class StreamedResponse(StreamingResponse):
    """A `StreamingResponse` whose `source_nodes` and `metadata` fill while it is read.

    Args:
        texts: The answer in pieces. The generator fills the other two.
        source_nodes: The nodes so far.
        metadata: The metadata so far.
    """

    def __init__(
        self, texts: Generator[str, None, None], source_nodes: list[NodeWithScore], metadata: dict[str, Any]
    ) -> None:
        self._read = _ReadTexts()
        # Not a generator method: it and this object would keep each other, and the connection, alive.
        super().__init__(_recorded(texts, self._read), source_nodes, metadata)

    def __str__(self) -> str:
        self._read_all()
        return super().__str__()

    def get_response(self) -> Response:
        """Return the whole answer."""
        self._read_all()
        return super().get_response()

    def print_response_stream(self) -> None:
        """Print the rest of the answer; all of it if it has been read."""
        if self.response_txt is not None:
            print(self.response_txt)
            return
        for text in self.response_gen:
            print(text, end="", flush=True)
        self._read_all()

    def _read_all(self) -> None:
        for _ in self.response_gen:
            pass
        self.response_txt = self._read.whole()


class AsyncStreamedResponse(AsyncStreamingResponse):
    """`StreamedResponse`, asynchronously."""

    def __init__(
        self, texts: AsyncGenerator[str, None], source_nodes: list[NodeWithScore], metadata: dict[str, Any]
    ) -> None:
        self._read = _ReadTexts()
        super().__init__(_arecorded(texts, self._read), source_nodes, metadata)

    def __str__(self) -> str:
        if self.response_txt is None and self._read.finished:
            self.response_txt = self._read.whole()
        if self.response_txt is None:
            if _in_loop():  # LlamaIndex would block the loop that has to read the answer
                raise InvalidRequestError(
                    "This answer is still arriving, and str() cannot wait for it in an event loop. Use "
                    "`await response.get_response()`, or for a tool an engine with streaming=False."
                )
            asyncio_run(self._read_all())
        return self.response_txt or "None"

    async def get_response(self) -> Response:
        """Return the whole answer."""
        await self._read_all()
        return Response(self.response_txt, self.source_nodes, self.metadata)

    async def async_response_gen(self) -> AsyncGenerator[str, None]:
        """Yield the rest of the answer; all of it if it has been read."""
        if self.response_txt is not None:
            yield self.response_txt
            return
        async for text in self.response_gen:
            yield text
        await self._read_all()

    async def print_response_stream(self) -> None:
        """Print the rest of the answer; all of it if it has been read."""
        async for text in self.async_response_gen():
            print(text, end="", flush=True)
        print()

    async def _read_all(self) -> None:
        async for _ in self.response_gen:
            pass
        self.response_txt = self._read.whole()


def _in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class _ReadTexts:
    """The pieces of an answer that were read so far, and how it ended."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.finished = False
        self.error: BaseException | None = None

    def whole(self) -> str:
        """Return the whole answer, once it has been read.

        Raises:
            StreamInterruptedError: The answer broke off; what had arrived must not pass for the answer.
        """
        if self.error is not None:
            raise self.error
        return "".join(self.texts)


def _recorded(texts: Generator[str, None, None], read: _ReadTexts) -> Generator[str, None, None]:
    with contextlib.closing(texts), _ending(read):
        for text in texts:
            read.texts.append(text)
            yield text


async def _arecorded(texts: AsyncGenerator[str, None], read: _ReadTexts) -> AsyncGenerator[str, None]:
    with _ending(read):
        try:
            async for text in texts:
                read.texts.append(text)
                yield text
        finally:
            await texts.aclose()


@contextlib.contextmanager
def _ending(read: _ReadTexts) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        read.error = error
        raise
    finally:
        read.finished = True


# --- Memories of sessions ---


class _RecentMessages(ChatMemoryBuffer):
    """A memory that drops what does not fit its token limit.

    LlamaIndex's own keeps everything, and counts the tokens of all of it again for each message that does not fit: with
    200 long answers that takes seconds for each question (seen 2026-11 with llama-index-core 0.14).
    """

    _lock: Any = PrivateAttr(default_factory=threading.Lock)

    def put_messages(self, messages: list[ChatMessage]) -> None:
        """Add messages, and keep what fits of those before."""
        with self._lock:
            super().put_messages(messages)
            recent = self.get()
            # An answer longer than all that fits comes without its question, which no model takes.
            self.set(recent if recent and recent[0].role == MessageRole.USER else [])


def new_memory(_session_id: str) -> BaseMemory:
    """Return the memory of a new session, of at most 16,000 tokens."""
    return _RecentMessages.from_defaults(token_limit=_HISTORY_TOKENS)


def checked_memory(memory: Any) -> BaseMemory:
    """Return a memory that `get_memory` returned.

    Raises:
        InvalidRequestError: It is not a memory.
    """
    if not isinstance(memory, BaseMemory):
        raise InvalidRequestError(
            f"get_memory returned a {type(memory).__name__}. It must return one of LlamaIndex's memories."
        )
    return memory


def shared_sessions() -> Sessions[BaseMemory]:
    """Return the sessions of this process: as with Bedrock's own, any object continues a session by its id."""
    return DEFAULT_RUNTIME.shared(Sessions, new_memory, DEFAULT_RUNTIME.clock)
