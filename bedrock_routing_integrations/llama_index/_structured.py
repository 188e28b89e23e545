"""The methods of `BedrockRouter` that give objects of an output class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llama_index.core.instrumentation.events.llm import (
    LLMStructuredPredictEndEvent,
    LLMStructuredPredictStartEvent,
)
from llama_index.core.program.utils import get_program_for_llm
from llama_index_instrumentation import get_dispatcher

from ._arguments import Arguments
from ._structured_objects import (
    awhole_objects,
    output_class,
    whole_objects,
    with_object,
    with_properties,
    without_holder,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Sequence

    from llama_index.core.base.llms.types import ChatResponse, ChatResponseAsyncGen, ChatResponseGen
    from llama_index.core.prompts import PromptTemplate
    from llama_index.core.tools.types import BaseTool

structured_prediction = get_dispatcher("llama_index.core.llms.llm")  # where LlamaIndex tells of it


class StructuredOutput(Arguments):
    """Structured output of `BedrockRouter`.

    `structured_predict` and `astructured_predict` are LlamaIndex's, line by line but for the class that the program is
    made for; calling those would make a second span of each.
    """

    def structured_predict(
        self,
        output_cls: type[Any],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Any:
        """Return an object of `output_cls`, which may be a generic class or a `RootModel` too.

        Raises:
            ToolCallError: The model gave none. A ValueError of LlamaIndex: what it gave is none of that class.
        """
        told = LLMStructuredPredictStartEvent(output_cls=output_cls, template=prompt, template_args=prompt_args)
        structured_prediction.event(told)
        program = self._program(output_cls, prompt)
        found = program(llm_kwargs=dict(llm_kwargs or {}), **prompt_args)
        if program.output_cls is not output_cls:
            found = without_holder(found, output_cls)
        structured_prediction.event(LLMStructuredPredictEndEvent(output=found))
        return found

    async def astructured_predict(
        self,
        output_cls: type[Any],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Any:
        """`structured_predict`, asynchronously."""
        told = LLMStructuredPredictStartEvent(output_cls=output_cls, template=prompt, template_args=prompt_args)
        structured_prediction.event(told)
        program = self._program(output_cls, prompt)
        found = await program.acall(llm_kwargs=dict(llm_kwargs or {}), **prompt_args)
        if program.output_cls is not output_cls:
            found = without_holder(found, output_cls)
        structured_prediction.event(LLMStructuredPredictEndEvent(output=found))
        return found

    def _structured_stream_call(
        self,
        output_cls: type[Any],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Any, None, None]:
        program = self._program(output_cls, prompt)
        for found in program.stream_call(llm_kwargs=dict(llm_kwargs or {}), **prompt_args):
            yield found if program.output_cls is output_cls else without_holder(found, output_cls)

    async def _structured_astream_call(
        self,
        output_cls: type[Any],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Any, None]:
        program = self._program(output_cls, prompt)
        objects = await program.astream_call(llm_kwargs=dict(llm_kwargs or {}), **prompt_args)

        async def read() -> AsyncGenerator[Any, None]:
            async for found in objects:
                yield found if program.output_cls is output_cls else without_holder(found, output_cls)

        return read()

    def _program(self, output_cls: type[Any], prompt: PromptTemplate) -> Any:
        return get_program_for_llm(
            with_properties(output_cls), prompt, self, pydantic_program_mode=self.pydantic_program_mode
        )

    def stream_chat_with_tools(self, tools: Sequence[BaseTool], *args: Any, **kwargs: Any) -> ChatResponseGen:
        """`stream_chat` with tools."""
        chunks = super().stream_chat_with_tools(tools, *args, **kwargs)
        wanted = output_class(tools)
        return chunks if wanted is None else whole_objects(chunks, wanted)

    async def astream_chat_with_tools(
        self, tools: Sequence[BaseTool], *args: Any, **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """`stream_chat_with_tools`, asynchronously."""
        chunks = await super().astream_chat_with_tools(tools, *args, **kwargs)
        wanted = output_class(tools)
        return chunks if wanted is None else awhole_objects(chunks, wanted)

    def _validate_chat_with_tools_response(
        self,
        response: ChatResponse,
        tools: Sequence[BaseTool],
        allow_parallel_tool_calls: bool = False,  # noqa: FBT001, FBT002 - LlamaIndex's signature
        **kwargs: Any,
    ) -> ChatResponse:
        wanted = output_class(tools)
        return response if wanted is None else with_object(response, wanted)
