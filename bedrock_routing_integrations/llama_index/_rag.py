"""One question that we retrieved for, and the answer of an LLM as it arrives."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import threading
import uuid
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
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
from llama_index.core.schema import QueryBundle
from llama_index_instrumentation.span import active_span_id
from pydantic import PrivateAttr

from bedrock_routing_integrations.caching import takes_system_point
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.invocation import ROUTING
from bedrock_routing_integrations.knowledge_base import (
    CONVERSE,
    GENERATE,
    ImageSelection,
    MarkedAnswer,
    Question,
    Sessions,
    compose,
    current_time,
    read_queries,
    reads_images,
    rewriting_prompt,
    select_images,
)
from bedrock_routing_integrations.transport.threads import iterate_in_thread, run_in_thread

from ._instrumentation import tell_failed, tell_routed
from ._nodes import Found, distinct_nodes, nodes_of, passage_of
from .llms import BedrockRouter
from .retrievers import KnowledgeBaseRetriever, search_options

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.base.llms.base import BaseLLM
    from llama_index.core.base.llms.types import ChatResponse, ChatResponseAsyncGen, ChatResponseGen
    from llama_index.core.schema import NodeWithScore

    from bedrock_routing_integrations.client import KnowledgeBaseClient
    from bedrock_routing_integrations.client.knowledge_bases import Generated
    from bedrock_routing_integrations.knowledge_base import (
        GenerationOptions,
        KnowledgeBaseId,
        Part,
        Passage,
        Prompt,
        SearchOptions,
        SourceDocument,
    )

INTERVENED, NONE = "INTERVENED", "NONE"


@dataclass(kw_only=True)
class Turn:
    """A question for which passages were found, and its answer as it arrives.

    Attributes:
        messages: What the LLM is asked.
        nodes: What was found.
        memory: The conversation before.
        metadata: Of the response; complete when the answer is.
    """

    question: str
    messages: list[ChatMessage]
    nodes: list[NodeWithScore]
    memory: BaseMemory
    answer: MarkedAnswer
    guarded: bool
    metadata: dict[str, Any]

    def finish(self, response: ChatResponse) -> Response:
        """The whole answer."""
        # Joined as a stream's pieces are; `content` has a line break between two blocks.
        self._read("".join(block.text for block in response.message.blocks if isinstance(block, TextBlock)))
        self._close(response)
        return Response(self.answer.text, self.nodes, self.metadata)

    def texts(self, chunks: ChatResponseGen) -> Generator[str, None, None]:
        """The answer in pieces; the conversation goes on from it when it is complete."""
        last = None
        with _closing(chunks):
            for last in chunks:
                if text := self._read(last.delta or ""):
                    yield text
        if text := self._close(last):
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
        if text := self._close(last):
            yield text
        await self.aremember()

    def remember(self) -> None:
        """Go on from this turn."""
        if messages := self._remembered():
            self.memory.put_messages(messages)

    async def aremember(self) -> None:
        """`remember`, asynchronously."""
        if messages := self._remembered():
            await self.memory.aput_messages(messages)

    def _remembered(self) -> list[ChatMessage]:
        """What the conversation goes on from: nothing where a guardrail intervened, as it would each time again."""
        if self.metadata["guardrail_action"] == INTERVENED or not self.answer.text:
            return []
        return [
            ChatMessage(role=MessageRole.USER, content=self.question),
            ChatMessage(role=MessageRole.ASSISTANT, content=self.answer.text),
        ]

    def _read(self, text: str) -> str:
        return self._take(self.answer.read(text))

    def _close(self, response: ChatResponse | None) -> str:
        if response is not None:
            self.metadata[ROUTING] = response.additional_kwargs.get(ROUTING)
            if intervened(response):
                self.metadata["guardrail_action"] = INTERVENED
        return self._take(self.answer.finish())

    def _take(self, part: Part) -> str:
        self.metadata["citations"].extend(part.citations)
        return part.text


def system_message(prompt: Prompt, llm: BaseLLM) -> ChatMessage:
    """The fixed instructions, marked for the cache where the models take it."""
    blocks: list[Any] = [TextBlock(text=prompt.system)]
    if isinstance(llm, BedrockRouter) and llm._connected().policy.marks("system"):  # noqa: SLF001 - of this door
        optimized = (llm.performance_config or {}).get("latency") == "optimized"
        resolved = llm._connected().resolve(llm.model)  # noqa: SLF001 - of this door
        if takes_system_point(resolved, optimized=optimized):
            blocks.append(CachePoint(cache_control=CacheControl(type="default")))
    return ChatMessage(role=MessageRole.SYSTEM, blocks=blocks)


def images_for(llm: BaseLLM, passages: Sequence[Passage], history: Sequence[ChatMessage]) -> ImageSelection:
    """Select the images that an LLM is shown. May look up the LLM's target, so it is not for an event loop.

    LlamaIndex has no way to say that an LLM reads images, so LLMs other than `BedrockRouter` get descriptions.
    """
    before = sum(isinstance(block, ImageBlock) for message in history for block in message.blocks)
    if not isinstance(llm, BedrockRouter):
        return select_images(passages, reads=False, model=type(llm).__name__, before=before)
    reads = False
    if any(passage.data_uri for passage in passages):  # a look-up, so only where there is something to show
        reads = reads_images(llm._connected().resolve(llm.model))  # noqa: SLF001 - of this package
    return select_images(passages, reads=reads, model=llm.model, before=before)


def user_message(prompt: Prompt, source: SourceDocument | None, images: ImageSelection) -> ChatMessage:
    """The passages and the question, with their images and the document that is not text before them."""
    blocks: list[Any] = []
    for label, image in images.labelled(prompt):  # before the text, as Claude's guide advises
        blocks += [TextBlock(text=label), ImageBlock(image=image.data, image_mimetype=image.media_type)]
    blocks.append(TextBlock(text=prompt.user))
    if source is not None and source.text is None:
        where = {"url": source.source} if source.data is None else {"data": source.data}
        blocks.insert(0, DocumentBlock(**where, title=source.name, document_mimetype=source.media_type))
    return ChatMessage(role=MessageRole.USER, blocks=blocks)


def intervened(response: ChatResponse) -> bool:
    """Whether a guardrail put something else in place of the answer."""
    raw = response.raw
    return isinstance(raw, Mapping) and raw.get("stopReason") == "guardrail_intervened"


def _closing(chunks: Any) -> contextlib.AbstractContextManager[Any]:
    return contextlib.closing(chunks) if isinstance(chunks, Generator) else contextlib.nullcontext()


# --- LlamaIndex's streaming responses ---


class Streamed(StreamingResponse):
    """A `StreamingResponse`; `source_nodes` and `metadata` are filled while it is read.

    Args:
        texts: The answer in pieces.
        source_nodes: A list that whoever makes the pieces fills.
        metadata: A dictionary of the same kind.
    """

    def __init__(
        self, texts: Generator[str, None, None], source_nodes: list[NodeWithScore], metadata: dict[str, Any]
    ) -> None:
        self._read = _Read()
        # No generator of this object's: the two would keep each other, and the connection, after all others forgot it.
        super().__init__(_kept(texts, self._read), source_nodes, metadata)

    def __str__(self) -> str:
        self._read_all()
        return super().__str__()

    def get_response(self) -> Response:
        """The whole answer."""
        self._read_all()
        return super().get_response()

    def print_response_stream(self) -> None:
        """Print what is still to come; where nothing is, the whole answer."""
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


class AsyncStreamed(AsyncStreamingResponse):
    """`Streamed`, asynchronously."""

    def __init__(
        self, texts: AsyncGenerator[str, None], source_nodes: list[NodeWithScore], metadata: dict[str, Any]
    ) -> None:
        self._read = _Read()
        super().__init__(_akept(texts, self._read), source_nodes, metadata)

    def __str__(self) -> str:
        if self.response_txt is None and self._read.finished:
            self.response_txt = self._read.whole()
        if self.response_txt is None:
            if _in_loop():  # LlamaIndex would wait here, in the loop, for what only the loop can bring
                raise InvalidRequestError(
                    "This answer is still arriving, and str() cannot wait for it in an event loop: use "
                    "`await response.get_response()`; and for a tool, an engine with streaming=False."
                )
            asyncio_run(self._read_all())
        return self.response_txt or "None"

    async def get_response(self) -> Response:
        """The whole answer."""
        await self._read_all()
        return Response(self.response_txt, self.source_nodes, self.metadata)

    async def async_response_gen(self) -> AsyncGenerator[str, None]:
        """What is still to come; where nothing is, the whole answer."""
        if self.response_txt is not None:
            yield self.response_txt
            return
        async for text in self.response_gen:
            yield text
        await self._read_all()

    async def print_response_stream(self) -> None:
        """Print what is still to come; where nothing is, the whole answer."""
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


class _Read:
    """What was read of an answer so far, and how it ended."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.finished = False
        self.error: BaseException | None = None

    def whole(self) -> str:
        """The whole answer, where it has been read.

        Raises:
            StreamInterruptedError: It broke off: what had arrived must not pass for the answer.
        """
        if self.error is not None:
            raise self.error
        return "".join(self.texts)


def _kept(texts: Generator[str, None, None], read: _Read) -> Generator[str, None, None]:
    with contextlib.closing(texts), _ending(read):
        for text in texts:
            read.texts.append(text)
            yield text


async def _akept(texts: AsyncGenerator[str, None], read: _Read) -> AsyncGenerator[str, None]:
    with _ending(read):
        try:
            async for text in texts:
                read.texts.append(text)
                yield text
        finally:
            await texts.aclose()


@contextlib.contextmanager
def _ending(read: _Read) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        read.error = error
        raise
    finally:
        read.finished = True


# --- A question that we retrieve for and an LLM answers, in LlamaIndex's types. ---

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


# --- A question that Bedrock answers: RetrieveAndGenerate in LlamaIndex's types. ---


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
