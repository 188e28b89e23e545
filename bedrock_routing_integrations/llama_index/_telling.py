"""Telling LlamaIndex's instrumentation who answered: one `ModelRoutedEvent` for each answered call."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from llama_index_instrumentation import get_dispatcher

from bedrock_routing_integrations.invocation import ROUTING

from .events import ModelRoutedEvent

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterator

    from llama_index.core.base.llms.types import ChatResponse

T = TypeVar("T")

_dispatcher = get_dispatcher(__name__)


def told(response: ChatResponse, span_id: str | None) -> ChatResponse:
    """The response, after telling LlamaIndex's instrumentation who gave it."""
    routing = response.additional_kwargs.get(ROUTING)
    if routing is not None:
        _dispatcher.event(ModelRoutedEvent(routing=routing, span_id=span_id))
    return response


def telling(
    chunks: Iterator[ChatResponse], span_id: str | None, convert: Callable[[ChatResponse], T]
) -> Generator[T, None, None]:
    for chunk in chunks:
        yield convert(told(chunk, span_id))


async def atelling(
    first: ChatResponse,
    rest: AsyncGenerator[ChatResponse, None],
    span_id: str | None,
    convert: Callable[[ChatResponse], T],
) -> AsyncGenerator[T, None]:
    try:
        yield convert(told(first, span_id))
        async for chunk in rest:
            yield convert(told(chunk, span_id))
    finally:
        await rest.aclose()


def as_it_is(chunk: ChatResponse) -> ChatResponse:
    return chunk
