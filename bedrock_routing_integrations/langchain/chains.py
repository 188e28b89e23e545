"""`KnowledgeBaseChain`: LangChain's chain that answers questions from an Amazon Bedrock knowledge base."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSerializable
from langchain_core.runnables.config import patch_config
from langchain_core.runnables.utils import AddableDict
from pydantic import BaseModel, Field, PrivateAttr, model_validator

from bedrock_routing_integrations.client.knowledge_bases import SERVICE
from bedrock_routing_integrations.connections import UserClient
from bedrock_routing_integrations.knowledge_base import (
    GENERATE,
    GenerationOptions,
    Question,
    RagArguments,
    RagTurn,
    Spelling,
    checked_model,
    distinct,
    parse_knowledge_base_id,
    read_source,
)
from bedrock_routing_integrations.transport.threads import iterate_in_thread, run_in_thread

from ._rag_messages import (
    ChainInput,
    MessageHistory,
    Result,
    TurnResult,
    answer_chunk,
    answer_model,
    checked_history,
    closing_chunk,
    count_images,
    generated_message,
    generated_metadata,
    intervened,
    read_input,
    roles_and_texts,
    shared_sessions,
    text_of,
    turn_messages,
)
from ._traces import aemitting, aemitting_stream, emitting, emitting_stream
from .chat_models import ChatBedrockRouter
from .retrievers import AWS_ARGUMENTS, KnowledgeBaseRetriever, SearchArguments, document_of, passage_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
    from langchain_core.documents import Document
    from langchain_core.messages import BaseMessage
    from typing_extensions import Self

    from bedrock_routing_integrations.client.knowledge_bases import GeneratedAnswer

_SPELLING = Spelling(
    framework="LangChain", owner="KnowledgeBaseChain", model="chat model", session_store="get_session_history"
)
# Names of the runs below the chain's own; the first is that of LangChain's create_retrieval_chain.
_RETRIEVE, _REWORD = "retrieve_documents", "word_the_search"
# The models of a target are made from these arguments, and made again when one changes.
_MODEL_ARGUMENTS = (
    "model", "cache", "guardrail_config", "performance_config", "inference_config", "additional_model_request_fields",
    "base_models", "project_identifier", *AWS_ARGUMENTS,
)  # fmt: skip


class KnowledgeBaseInput(BaseModel):
    """The input of a `KnowledgeBaseChain`, as `as_tool` describes it to a model."""

    input: str = Field(description="The question.")
    session_id: str | None = Field(default=None, description="The session of an earlier answer, to continue it.")


class KnowledgeBaseChain(SearchArguments, RunnableSerializable[Any, Result]):
    """Answer questions from a knowledge base, in one of two modes with the same result.

    ``mode="retrieve_and_generate"``: Bedrock retrieves and generates (RetrieveAndGenerate). That API does not report
    which model of a router answered, tokens, cost and served latency, so these are None in ``"routing"``.

    ``mode="retrieve_then_converse"``: Retrieve, then a chat model. The result has the invoked model, the instructions
    are cached, and long questions, managed knowledge bases and any chat model of LangChain are possible.

    The input is a question, or ``{"input": question, "session_id": …}``. The id can also be ``session_id=…`` of the
    call, or in its config's ``configurable``. In the second mode ``"chat_history"``, a list of messages, can replace a
    session. A call takes options of the search too (``chain.invoke("…", k=3)``).

    The result: ``{"input", "context": list[Document], "answer", "citations", "session_id", "guardrail_action",
    "message", "routing"}``. A stream yields partial dictionaries that add up to it. ``"context"`` has the passages that
    the answer refers to; in the second mode all that were found.

    In the second mode, images that were found are shown to models that read images; other models get their
    descriptions. What was left out of the prompt is listed under ``"omissions"``, a key that is only there where
    something was: ``{"passage": position in "context", "type", "source", "reason", "given": "description" or None}``.

    Each of ``"citations"`` is a `Citation`: ``answer[c.start:c.end]`` is the cited text, ``c.passages`` are positions
    in ``"context"``, ``c.sources`` their URIs. ``"message"`` has them as LangChain's standard annotations.

    Args:
        knowledge_base_id: Id or ARN of the knowledge base.
        external_source: A document instead of a knowledge base: ``"s3://bucket/key"``, or ``{"data": bytes,
            "contentType": "application/pdf", "identifier": "report.pdf"}``.
        model: Any target, see `parse_target`. In the second mode also a chat model.
        mode: ``"retrieve_and_generate"`` or ``"retrieve_then_converse"``.
        performance_config: ``{"latency": "optimized"}``, for the answer and for wording the search.
        inference_config: ``{"maxTokens", "temperature", "topP", "stopSequences"}`` of the answer.
        prompt_template: Prompt for the answer, with Bedrock's placeholders: ``$search_results$`` (required),
            ``$query$``, ``$current_time$``, ``$output_format_instructions$`` (without it there are no citations).
        orchestration_prompt_template: Prompt for wording the search: ``$conversation_history$`` and
            ``$output_format_instructions$`` (required), ``$query$``, ``$current_time$``.
        query_decomposition: Whether a question may be split into several, each searched for.
        kms_key_arn: In the first mode, ARN of the key that Bedrock encrypts a new session with.
        additional_model_request_fields: Model-specific fields, for the answer.
        base_models: The base models that `model` can use; given, the target is not looked up.
        cache: In the second mode, the cache policy, as for `ChatBedrockRouter`.
        project_identifier: In the second mode, the project that the model's calls are counted for.
        get_session_history: In the second mode, a function from a session id to a chat message history. By default
            histories are kept in memory for 24 hours, as Bedrock keeps its own.
        retriever: In the second mode, a retriever to use instead of a `KnowledgeBaseRetriever`.

    The options of the search and the arguments for AWS are those of `KnowledgeBaseRetriever`. `guardrail_config` holds
    for the search and the answer; with a chat model of your own for the search alone.

    Raises:
        InvalidRequestError: An argument does not exist, Bedrock would refuse it, or the mode does not use it.
        InvalidTargetError: `model` is not a valid target.
        SessionExpiredError: The session is over; raised by calls.
        StreamInterruptedError: The connection broke; raised while streaming. ``.partial`` has what had arrived.

    Example:
        ```python
        from bedrock_routing_integrations.langchain import KnowledgeBaseChain

        chain = KnowledgeBaseChain(
            knowledge_base_id="EMULATEDKB",
            model="arn:aws:bedrock:us-east-1:123456789012:default-prompt-router/amazon.nova:1",
            mode="retrieve_then_converse",
        )
        result = chain.invoke("Which moon has an ocean under its ice?")
        result["routing"]["invoked_model"]  # which model of the router answered
        for citation in result["citations"]:
            print(citation.text, citation.sources)
        ```
    """

    name: str | None = "retrieval_chain"
    external_source: Any = Field(default=None, repr=False)
    model: Any = None
    mode: str = GENERATE
    performance_config: Any = None
    inference_config: Any = None
    prompt_template: Any = None
    orchestration_prompt_template: Any = None
    query_decomposition: bool = False
    kms_key_arn: str | None = None
    additional_model_request_fields: Any = None
    base_models: list[str] | None = None
    cache: Any = "auto"
    project_identifier: str | None = None
    get_session_history: Any = None
    retriever: Any = None

    _models: tuple[ChatBedrockRouter, ChatBedrockRouter] | None = PrivateAttr(default=None)
    _models_made_of: tuple[Any, ...] | None = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _normalize_arguments(cls, values: Any) -> dict[str, Any]:
        named = cls.normalize_arguments(values)
        if isinstance(named.get("model"), str):
            named["model"] = checked_model(named["model"])
        if named.get("knowledge_base_id"):  # before pydantic refuses what is not a string
            parse_knowledge_base_id(named["knowledge_base_id"])
        return named

    @model_validator(mode="after")
    def _check_arguments(self) -> Self:
        self._arguments()
        self._connected()
        return self

    def __getstate__(self) -> dict[Any, Any]:
        # The models hold the secrets.
        state = super().__getstate__()
        private = {**(state["__pydantic_private__"] or {}), "_models": None, "_models_made_of": None}
        return {**state, "__pydantic_private__": private}

    def _arguments(self) -> RagArguments:
        """Return the arguments, checked; fields can have been set since the last call."""
        arguments = RagArguments(
            spelling=_SPELLING,
            mode=self.mode,
            knowledge_base_id=self.knowledge_base_id,
            external_source=self.external_source,
            retriever=self.retriever,
            model=self.model,
            base_models=self.base_models,
            cache=None if self.cache == "auto" else self.cache,
            project_identifier=self.project_identifier,
            session_store=self.get_session_history,
            search=self.search_options(),
            generation=GenerationOptions(
                performance_config=self.performance_config,
                inference_config=self.inference_config,
                prompt_template=self.prompt_template,
                orchestration_prompt_template=self.orchestration_prompt_template,
                query_decomposition=self.query_decomposition,
                guardrail=self.guardrail_config,
                kms_key_arn=self.kms_key_arn,
                additional_model_request_fields=self.additional_model_request_fields,
            ),
            is_model=isinstance(self.model, Runnable),
            is_retriever=isinstance(self.retriever, Runnable),
        )
        arguments.check()
        return arguments

    # --- LangChain's methods ---

    def get_input_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:
        """Return the schema of the input, for `as_tool`."""
        return KnowledgeBaseInput

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Result:  # noqa: A002 - its name
        """Answer a question.

        Args:
            input: The question, or ``{"input": question, "session_id": …}``.
            config: LangChain's config.
            **kwargs: Options of the search for this call, and ``session_id``.

        Returns:
            The result that the class describes.

        Raises:
            InvalidRequestError: Bedrock would refuse the call, or an option would have no effect. Nothing was sent.
            SessionExpiredError: The session is over.
            botocore.exceptions.ClientError: Bedrock refused.
        """
        return self._call_with_config(self._answer, input, config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Result:  # noqa: A002
        """Answer a question, asynchronously.

        Args:
            input: The question, or ``{"input": question, "session_id": …}``.
            config: LangChain's config.
            **kwargs: Options of the search for this call, and ``session_id``.
        """
        return await self._acall_with_config(self._aanswer, input, config, **kwargs)

    def stream(
        self,
        input: Any,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Iterator[Result]:
        """Answer a question in partial dictionaries that add up to the result of `invoke`.

        Args:
            input: The question, or ``{"input": question, "session_id": …}``.
            config: LangChain's config.
            **kwargs: Options of the search for this call, and ``session_id``.

        Raises:
            StreamInterruptedError: The connection broke. ``.partial`` has what had arrived.
        """
        yield from self._transform_stream_with_config(iter([input]), self._stream_answer, config, **kwargs)

    async def astream(
        self,
        input: Any,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Result]:
        """Answer a question in partial dictionaries, asynchronously.

        Args:
            input: The question, or ``{"input": question, "session_id": …}``.
            config: LangChain's config.
            **kwargs: Options of the search for this call, and ``session_id``.
        """

        async def inputs() -> AsyncIterator[Any]:
            yield input

        chunks = self._atransform_stream_with_config(inputs(), self._astream_answer, config, **kwargs)
        async with contextlib.aclosing(chunks):  # type: ignore[type-var]  # a generator
            async for chunk in chunks:
                yield chunk

    # --- One call, in either mode ---

    def _read(self, value: Any, config: RunnableConfig, call: Mapping[str, Any]) -> tuple[RagArguments, ChainInput]:
        """Return the arguments and the input of a call, checked together."""
        chain_input = read_input(value, config, call)
        arguments = self._arguments()
        options = {self.aliases.get(name, name): value for name, value in chain_input.search.items()}
        takes_options = isinstance(self.retriever, KnowledgeBaseRetriever)
        search = arguments.search
        if self.retriever is None:
            search = self.search_options({name: value for name, value in options.items() if name != "image"})
        has_history = chain_input.history is not None
        arguments.check_call(options, search, takes_options=takes_options, has_history=has_history)
        return arguments, chain_input

    def _answer(
        self, value: Any, run_manager: CallbackManagerForChainRun, config: RunnableConfig, **call: Any
    ) -> Result:
        arguments, chain_input = self._read(value, config, call)
        if not arguments.generates:
            return self._converse(arguments, chain_input, config)
        return emitting(run_manager, self.model, lambda: self._generate(arguments, chain_input))

    async def _aanswer(
        self, value: Any, run_manager: AsyncCallbackManagerForChainRun, config: RunnableConfig, **call: Any
    ) -> Result:
        arguments, chain_input = self._read(value, config, call)
        if not arguments.generates:
            return await self._aconverse(arguments, chain_input, config)
        answer = run_in_thread(self.max_concurrency, self._generate, arguments, chain_input)
        return await aemitting(run_manager, self.model, answer)

    def _stream_answer(
        self, inputs: Iterator[Any], run_manager: CallbackManagerForChainRun, config: RunnableConfig, **call: Any
    ) -> Iterator[Result]:
        arguments, chain_input = self._read(next(inputs), config, call)
        chunks: Iterator[Result]
        if arguments.generates:
            chunks = emitting_stream(run_manager, self.model, self._stream_generated(arguments, chain_input))
        else:
            chunks = self._stream_conversed(arguments, chain_input, config)
        with contextlib.closing(chunks):  # type: ignore[type-var]  # they are generators
            yield from chunks

    async def _astream_answer(
        self,
        inputs: AsyncIterator[Any],
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        **call: Any,
    ) -> AsyncIterator[Result]:
        arguments, chain_input = self._read(await inputs.__anext__(), config, call)
        chunks: Any
        if arguments.generates:
            generated = iterate_in_thread(self.max_concurrency, lambda: self._stream_generated(arguments, chain_input))
            chunks = aemitting_stream(run_manager, self.model, generated)
        else:
            chunks = self._astream_conversed(arguments, chain_input, config)
        async with contextlib.aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    # --- retrieve_and_generate ---

    def _send_question(self, arguments: RagArguments, chain_input: ChainInput, method: str) -> GeneratedAnswer:
        question = Question(
            text=chain_input.text,
            knowledge_base=arguments.knowledge_base,
            source=self.external_source,
            session_id=chain_input.session_id,
        )
        search, generation = self.search_options(chain_input.search), arguments.generation
        answer: GeneratedAnswer = getattr(self._connected(), method)(
            question, self.model, search, generation, self.base_models
        )
        return answer

    def _generate(self, arguments: RagArguments, chain_input: ChainInput) -> Result:
        answer = self._send_question(arguments, chain_input, "generate")
        reader = answer.reader
        documents = [document_of(passage) for passage in reader.passages]
        metadata = generated_metadata(answer.routing)
        return {
            "input": chain_input.text,
            "context": documents,
            "answer": reader.text,
            "citations": list(reader.citations),
            "session_id": answer.session_id,
            "guardrail_action": reader.guardrail_action,
            "message": generated_message(reader.text, reader.citations, documents, metadata),
            "routing": answer.routing,
        }

    def _stream_generated(self, arguments: RagArguments, chain_input: ChainInput) -> Iterator[Result]:
        # Sent before any chunk: after the first chunk `with_fallbacks` cannot fall back.
        answer = self._send_question(arguments, chain_input, "generate_stream")
        yield AddableDict(input=chain_input.text)
        yield AddableDict(context=[], answer="", citations=[], session_id=answer.session_id)
        documents: list[Document] = []
        with contextlib.closing(answer.parts):  # type: ignore[type-var]  # a generator
            for part in answer.parts:
                new = [document_of(passage) for passage in part.passages]
                documents += new
                chunk = answer_chunk(part, documents)
                yield chunk + AddableDict(context=new) if new else chunk
        last = AddableDict(guardrail_action=answer.reader.guardrail_action, routing=answer.routing)
        yield last + AddableDict(message=closing_chunk(generated_metadata(answer.routing)))

    # --- retrieve_then_converse: each step of a `RagTurn`, with LangChain's models and retrievers between ---

    def _converse(self, arguments: RagArguments, chain_input: ChainInput, config: RunnableConfig) -> Result:
        session_id, store = self._open_session(chain_input)
        history = _history(chain_input, store.messages if store else ())
        turn, documents = self._begin(arguments, chain_input, history, config)
        answer = self._chat_models()[0].invoke(turn_messages(turn, history), config)
        result = TurnResult(turn, documents, session_id).finish(answer)
        if store is not None and (exchange := _exchange(turn)):
            store.add_messages(exchange)
        return result

    async def _aconverse(self, arguments: RagArguments, chain_input: ChainInput, config: RunnableConfig) -> Result:
        session_id, store = self._open_session(chain_input)
        history = _history(chain_input, await store.aget_messages() if store else ())
        turn, documents = await self._abegin(arguments, chain_input, history, config)
        answer = await self._chat_models()[0].ainvoke(turn_messages(turn, history), config)
        result = TurnResult(turn, documents, session_id).finish(answer)
        if store is not None and (exchange := _exchange(turn)):
            await store.aadd_messages(exchange)
        return result

    def _stream_conversed(
        self, arguments: RagArguments, chain_input: ChainInput, config: RunnableConfig
    ) -> Iterator[Result]:
        session_id, store = self._open_session(chain_input)
        history = _history(chain_input, store.messages if store else ())
        turn, documents = self._begin(arguments, chain_input, history, config)
        result = TurnResult(turn, documents, session_id)
        yield AddableDict(input=chain_input.text)
        yield result.opening()
        for message in self._chat_models()[0].stream(turn_messages(turn, history), config):
            if (chunk := result.read_chunk(message)) is not None:
                yield chunk
        last = result.finish_stream()
        # Before the last chunk: its reader may read no further.
        if store is not None and (exchange := _exchange(turn)):
            store.add_messages(exchange)
        yield last

    async def _astream_conversed(
        self, arguments: RagArguments, chain_input: ChainInput, config: RunnableConfig
    ) -> AsyncIterator[Result]:
        session_id, store = self._open_session(chain_input)
        history = _history(chain_input, await store.aget_messages() if store else ())
        turn, documents = await self._abegin(arguments, chain_input, history, config)
        result = TurnResult(turn, documents, session_id)
        yield AddableDict(input=chain_input.text)
        yield result.opening()
        async for message in self._chat_models()[0].astream(turn_messages(turn, history), config):
            if (chunk := result.read_chunk(message)) is not None:
                yield chunk
        last = result.finish_stream()
        if store is not None and (exchange := _exchange(turn)):
            await store.aadd_messages(exchange)
        yield last

    def _begin(
        self,
        arguments: RagArguments,
        chain_input: ChainInput,
        history: Sequence[BaseMessage],
        config: RunnableConfig,
    ) -> tuple[RagTurn, list[Document]]:
        turn = self._turn(arguments, chain_input, history)
        found: list[list[Document]] = []
        if turn.source is None:
            prompt, answer = turn.rewording_prompt(), None
            if prompt is not None:
                answer = self._chat_models()[1].invoke([HumanMessage(prompt)], patch_config(config, run_name=_REWORD))
            retriever, named = self._search_retriever(), patch_config(config, run_name=_RETRIEVE)
            found = [retriever.invoke(query, named, **chain_input.search) for query in _queries(turn, answer)]
        return turn, self._compose(turn, found, history)

    async def _abegin(
        self,
        arguments: RagArguments,
        chain_input: ChainInput,
        history: Sequence[BaseMessage],
        config: RunnableConfig,
    ) -> tuple[RagTurn, list[Document]]:
        turn = self._turn(arguments, chain_input, history)
        found: list[list[Document]] = []
        if turn.source is None:
            prompt, answer = turn.rewording_prompt(), None
            if prompt is not None:
                named = patch_config(config, run_name=_REWORD)
                answer = await self._chat_models()[1].ainvoke([HumanMessage(prompt)], named)
            retriever, named = self._search_retriever(), patch_config(config, run_name=_RETRIEVE)
            searches = [retriever.ainvoke(query, named, **chain_input.search) for query in _queries(turn, answer)]
            found = await asyncio.gather(*searches)
        return turn, await run_in_thread(self.max_concurrency, self._compose, turn, found, history)

    def _turn(self, arguments: RagArguments, chain_input: ChainInput, history: Sequence[BaseMessage]) -> RagTurn:
        source = None if self.external_source is None else read_source(self.external_source)
        return RagTurn(chain_input.text, arguments.generation, history=roles_and_texts(history), source=source)

    def _compose(
        self, turn: RagTurn, found: Sequence[list[Document]], history: Sequence[BaseMessage]
    ) -> list[Document]:
        """Compose the prompt of a turn and return its documents. May look up the model's target."""
        if turn.source is None:
            documents = distinct(found, lambda document: passage_of(document).key)
        else:
            documents = [document_of(turn.source.passage)]
        turn.compose(
            [passage_of(document) for document in documents],
            answer_model(self._chat_models()[0]),
            guardrail_actions=[getattr(each, "guardrail_action", None) for each in found],
            images_before=count_images(history),
        )
        return documents

    def _open_session(self, chain_input: ChainInput) -> tuple[str | None, MessageHistory | None]:
        """Return the id and the store of the session; None as the store if the caller keeps the conversation."""
        if chain_input.history is not None:
            return chain_input.session_id, None
        session_id, store = shared_sessions().open(chain_input.session_id, self.get_session_history)
        return session_id, checked_history(store)

    # --- The models and the retriever of a turn ---

    def _chat_models(self) -> tuple[Any, Any]:
        """Return the model that answers, and the model that words the search, without settings of the answer."""
        if not isinstance(self.model, str):
            return self.model, self.model
        made_of = tuple([getattr(self, name) for name in _MODEL_ARGUMENTS])
        if self._models is None or self._models_made_of != made_of:
            arguments = self._arguments()
            access = {name: getattr(self, name) for name in AWS_ARGUMENTS}
            if self.client is not None:
                access["client"] = UserClient(self.client, SERVICE).client("bedrock-runtime")
            shared = {name: value for name, value in access.items() if value is not None}
            shared.update(arguments.shared_model_arguments())
            answers = arguments.answer_model_arguments()
            guardrail = arguments.converse_guardrail()
            if guardrail:
                answers["guardrail_config"] = guardrail
            self._models = ChatBedrockRouter(**shared, **answers), ChatBedrockRouter(**shared)
            self._models_made_of = made_of
        return self._models

    def _search_retriever(self) -> Any:
        """Return the caller's retriever, else one with the chain's own options."""
        if self.retriever is not None:
            return self.retriever
        values = {name: getattr(self, name) for name in SearchArguments.model_fields}
        return KnowledgeBaseRetriever(**{name: value for name, value in values.items() if value is not None})


def _history(chain_input: ChainInput, messages: Sequence[BaseMessage]) -> tuple[BaseMessage, ...]:
    return tuple(messages) if chain_input.history is None else chain_input.history


def _queries(turn: RagTurn, answer: BaseMessage | str | None) -> list[str]:
    return turn.queries(None if answer is None or intervened(answer) else text_of(answer))


def _exchange(turn: RagTurn) -> list[BaseMessage]:
    """Return the messages that the next turn sees."""
    exchange = turn.exchange()
    return [] if exchange is None else [HumanMessage(exchange[0]), AIMessage(exchange[1])]
