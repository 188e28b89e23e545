"""The eight ways to ask an LLM of LlamaIndex, each as one call that returns every response."""

from __future__ import annotations

from llama_index.core.base.llms.types import ChatMessage, CompletionResponse

WHOLE = ("chat", "complete", "achat", "acomplete")
STREAMED = ("stream_chat", "stream_complete", "astream_chat", "astream_complete")
FORMS = (*WHOLE, *STREAMED)


def user(prompt):
    return [ChatMessage(role="user", content=prompt)]


async def start(llm, form, prompt, **call):
    """The response, or the generator of a streamed form."""
    asked = prompt if "complete" in form else user(prompt)
    answer = getattr(llm, form)(asked, **call)
    return await answer if form.startswith("a") else answer


async def read(stream):
    """Return the items of a generator, synchronous or asynchronous."""
    return [chunk async for chunk in stream] if hasattr(stream, "__aiter__") else list(stream)


async def run(llm, form, prompt, **call):
    """Every response, of which whole answers have one."""
    answer = await start(llm, form, prompt, **call)
    return await read(answer) if form in STREAMED else [answer]


def text_of(response):
    return response.text if isinstance(response, CompletionResponse) else response.message.content
