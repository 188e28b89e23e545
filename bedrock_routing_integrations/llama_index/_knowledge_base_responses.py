"""LlamaIndex's streaming responses, whose text is the whole answer however much of it was read before.

LlamaIndex's own make it of what is read then: after half of ``response_gen`` was read, ``str`` is the other half, and
no span of a citation fits it.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from llama_index.core.async_utils import asyncio_run
from llama_index.core.base.response.schema import AsyncStreamingResponse, Response, StreamingResponse

from bedrock_routing_integrations.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterator

    from llama_index.core.schema import NodeWithScore


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
