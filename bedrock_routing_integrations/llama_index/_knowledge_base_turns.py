"""One question that we retrieved for, and the answer of an LLM as it arrives."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import (
    CacheControl,
    CachePoint,
    ChatMessage,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
)
from llama_index.core.base.response.schema import Response

from bedrock_routing_integrations.caching import takes_system_point
from bedrock_routing_integrations.invocation import ROUTING
from bedrock_routing_integrations.knowledge_base import ImageSelection, reads_images, select_images

from .llms import BedrockRouter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from llama_index.core.base.llms.base import BaseLLM
    from llama_index.core.base.llms.types import ChatResponse, ChatResponseAsyncGen, ChatResponseGen
    from llama_index.core.memory import BaseMemory
    from llama_index.core.schema import NodeWithScore

    from bedrock_routing_integrations.knowledge_base import MarkedAnswer, Part, Passage, Prompt, SourceDocument

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
