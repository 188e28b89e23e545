"""Define `BedrockRouterLLM`, LangChain's text-completion model for any Bedrock target, for chains of strings."""

from __future__ import annotations

from concurrent.futures import FIRST_EXCEPTION, wait
from typing import TYPE_CHECKING, Any

from langchain_core.language_models.llms import LLM, BaseLLM
from langchain_core.messages import HumanMessage
from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from langchain_core.runnables.config import ContextThreadPoolExecutor
from pydantic import model_validator

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.invocation import ROUTING
from bedrock_routing_integrations.transport.threads import iterate_in_thread, run_in_thread

from ._call_arguments import check_constructor_arguments, constructor_arguments, is_cache_policy, limit_concurrency
from ._converse_client import sum_token_usage
from ._traces import Run, complete_trace, emit, failure
from .chat_models import ChatBedrockRouter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from concurrent.futures import Future

    from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
    from langchain_core.language_models import LanguageModelInput
    from langchain_core.language_models.base import LangSmithParams
    from langchain_core.messages import BaseMessage
    from langchain_core.runnables import RunnableConfig


class BedrockRouterLLM(LLM):
    """Text-completion model on any Bedrock target: a string in, a string out.

    It takes all arguments of `ChatBedrockRouter`, and sends each prompt as one user message through such a chat model.
    ``generation_info["routing"]`` of each generation describes the call.

    Args:
        chat_model: The chat model to call. By default it is made from the other arguments.

    Raises:
        InvalidTargetError: `model` is not a valid target.
        InvalidRequestError: An argument does not exist, or is given together with `chat_model`.

    Example:
        ```python
        from bedrock_routing_integrations.langchain import BedrockRouterLLM

        llm = BedrockRouterLLM(model="us.amazon.nova-lite-v1:0")
        llm.invoke("Say good morning.")
        ```
    """

    chat_model: ChatBedrockRouter

    if TYPE_CHECKING:

        def __init__(self, *, model: str = ..., chat_model: ChatBedrockRouter = ..., **kwargs: Any) -> None:
            """Declare the arguments for type checkers, to which pydantic shows only the fields."""

    @model_validator(mode="before")
    @classmethod
    def _make_chat_model(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        points = (
            {"cache"} if is_cache_policy(values.get("cache")) else set()
        )  # what else `cache` can be is LangChain's own
        engine = {name: value for name, value in values.items() if name not in cls.model_fields or name in points}
        own = {name: value for name, value in values.items() if name not in engine}
        if "chat_model" not in own:
            engine = check_constructor_arguments(cls.__name__, engine, constructor_arguments(ChatBedrockRouter))
            own["chat_model"] = ChatBedrockRouter(**engine)
        elif engine:
            raise InvalidRequestError(f"chat_model= is given, so set {', '.join(engine)} on that chat model.")
        return own

    @property
    def model(self) -> str:
        """The target."""
        return self.chat_model.model_id

    @property
    def client(self) -> Any:
        """The client of the chat model. It can be set to a boto3 client or a `RoutedClient`."""
        return self.chat_model.client

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "client":
            self.chat_model.client = value
            return
        super().__setattr__(name, value)

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        """Answer several prompts, each in a call and a run of its own.

        LangChain's ``batch`` answers all prompts in one run: a call that fails loses the answers of the others, and
        tracers get the invoked model of the first prompt only. ``generate`` still does so.

        Args:
            inputs: The prompts.
            config: One config for all calls, or a list with one for each. At most `max_concurrency` calls of the chat
                model run at once unless it sets another number.
            return_exceptions: Whether to return the exception of a failed call in place of its text.
            **kwargs: Arguments of each call.

        Returns:
            The texts, in the order of `inputs`.
        """
        config = limit_concurrency(config, self.chat_model.max_concurrency)
        return super(BaseLLM, self).batch(inputs, config, return_exceptions=return_exceptions, **kwargs)

    async def abatch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        """Answer several prompts as `batch` does, asynchronously.

        Args:
            inputs: The prompts.
            config: One config for all calls, or a list with one for each.
            return_exceptions: Whether to return the exception of a failed call in place of its text.
            **kwargs: Arguments of each call.

        Returns:
            The texts, in the order of `inputs`.
        """
        return await super(BaseLLM, self).abatch(inputs, config, return_exceptions=return_exceptions, **kwargs)

    def _call(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> str:
        return self._answer(prompt, stop, Run.of(run_manager), kwargs).text

    def _answer(self, prompt: str, stop: list[str] | None, run: Run | None, call: dict[str, Any]) -> Generation:
        result = self.chat_model._generate_in_run([HumanMessage(prompt)], stop, run, call)  # noqa: SLF001 - our own class
        message = result.generations[0].message
        return Generation(text=str(message.text), generation_info=_info(message))

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        run = Run.of(run_manager, is_only_call=len(prompts) == 1)
        if len(prompts) == 1:
            generations = [self._answer(prompts[0], stop, run, kwargs)]
        else:
            # Not the thread pool of asynchronous calls: this function may run in one of its threads.
            with ContextThreadPoolExecutor(min(len(prompts), self.chat_model.max_concurrency)) as threads:
                started = [threads.submit(self._answer, prompt, stop, run, kwargs) for prompt in prompts]
                for waiting in wait(started, return_when=FIRST_EXCEPTION).not_done:
                    waiting.cancel()
            generations = self._all_or_none(started, run_manager, kwargs)
        complete_trace(Run.of(run_manager), generations[0].generation_info)
        return _result(generations)

    def _all_or_none(
        self, done: list[Future[Generation]], run: CallbackManagerForLLMRun | None, call: dict[str, Any]
    ) -> list[Generation]:
        """Return the answers to several prompts, or raise the first error: LangChain takes all answers or none."""
        sent = [each for each in done if not each.cancelled()]
        errors = [error for each in sent if (error := each.exception()) is not None]
        if not errors:
            return [each.result() for each in done]
        # LangChain reports only the first error, for all prompts. The answered prompts were paid for.
        if run is not None:
            infos = [each.result().generation_info for each in sent if each.exception() is None]
            model_id, _ = self.chat_model._pop_target(call)  # noqa: SLF001 - our own class
            others = [failure(error, model_id) for error in errors[1:] if isinstance(error, Exception)]
            for data in (*(info[ROUTING] for info in infos if info and ROUTING in info), *others):
                emit(run, data)
        raise errors[0]

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        manager = run_manager.get_sync() if run_manager else None
        return await run_in_thread(self.chat_model.max_concurrency, self._generate, prompts, stop, manager, **kwargs)

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        return self._stream_in_run(prompt, stop, Run.of(run_manager), kwargs, run_manager)

    def _stream_in_run(
        self,
        prompt: str,
        stop: list[str] | None,
        run: Run | None,
        call: dict[str, Any],
        run_manager: CallbackManagerForLLMRun | None = None,
    ) -> Iterator[GenerationChunk]:
        for part in self.chat_model._stream_in_run([HumanMessage(prompt)], stop, run, call):  # noqa: SLF001 - our own class
            text, info = str(part.text), _info(part.message)
            if not text and not info:
                continue
            chunk = GenerationChunk(text=text, generation_info=info)
            complete_trace(run, info)
            if run_manager:
                run_manager.on_llm_new_token(text, chunk=chunk)
            yield chunk

    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        run = Run.of(run_manager)
        chunks = iterate_in_thread(
            self.chat_model.max_concurrency, lambda: self._stream_in_run(prompt, stop, run, kwargs)
        )
        try:
            async for chunk in chunks:
                if run_manager:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk
        finally:
            await chunks.aclose()

    def get_num_tokens(self, text: str) -> int:
        """Return the number of tokens of a text: see `ChatBedrockRouter.get_num_tokens`."""
        return self.chat_model.get_num_tokens(text)

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """Return the number of input tokens of a call: see `ChatBedrockRouter.get_num_tokens_from_messages`.

        Args:
            messages: The messages. Without messages and tools the result is 0.
            tools: Tools in any form that `ChatBedrockRouter.bind_tools` takes.
        """
        return self.chat_model.get_num_tokens_from_messages(messages, tools)

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = self.chat_model._get_ls_params(stop=stop, **kwargs)  # noqa: SLF001 - our own class
        return {**params, "ls_model_type": "llm"}

    @property
    def _identifying_params(self) -> dict[str, Any]:
        # LangChain's caches key on these.
        return {"model_name": self.model, "chat_model": self.chat_model._get_llm_string()}  # noqa: SLF001 - our own class

    @property
    def _llm_type(self) -> str:
        return "amazon_bedrock_router"

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Return True: the chat model inside serializes itself without its secrets."""
        return True

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Return the path by which ``langchain_core.load.load`` finds this class."""
        return ["bedrock_routing_integrations", "langchain"]


def _info(message: BaseMessage) -> dict[str, Any] | None:
    """Return the ``generation_info`` of an answer or of a chunk; None if there is none."""
    metadata = message.response_metadata
    info = {name: metadata[name] for name in (ROUTING, "model_name", "stopReason") if name in metadata}
    usage = getattr(message, "usage_metadata", None)
    if usage:
        info["usage_metadata"] = usage
    return info or None


def _result(generations: list[Generation]) -> LLMResult:
    infos = [generation.generation_info or {} for generation in generations]
    names = {info.get("model_name") for info in infos}
    usages = [info.get("usage_metadata") or {} for info in infos]
    output = {
        ROUTING: infos[0].get(ROUTING) if len(infos) == 1 else [info.get(ROUTING) for info in infos],
        **({"model_name": names.pop()} if len(names) == 1 else {}),
        "token_usage": sum_token_usage(usages),
    }
    return LLMResult(generations=[[generation] for generation in generations], llm_output=output)
