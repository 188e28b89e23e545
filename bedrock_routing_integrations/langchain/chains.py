"""`KnowledgeBaseChain`: a question, an answer from a knowledge base, and what it rests on."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from typing import TYPE_CHECKING, Any

from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSerializable
from langchain_core.runnables.config import patch_config
from langchain_core.runnables.utils import AddableDict
from pydantic import BaseModel, Field, PrivateAttr, model_validator

from bedrock_routing_integrations.caching import policy_of
from bedrock_routing_integrations.client.knowledge_bases import SERVICE
from bedrock_routing_integrations.connections import GivenClient
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.knowledge_base import (
    CONVERSE,
    GENERATE,
    GenerationOptions,
    Question,
    checked_model,
    current_time,
    external_source,
    parse_knowledge_base_id,
    read_queries,
    read_source,
    refuse_for_generate,
    refuse_for_source,
    rewriting_prompt,
)
from bedrock_routing_integrations.transport.threads import iterate_in_thread, run_in_thread

from ._rag import (
    Asked,
    Conversation,
    MessageHistory,
    Turn,
    answer_chunk,
    checked_history,
    closing_chunk,
    generated_message,
    intervened,
    metadata_of,
    read_input,
    shared_sessions,
    text_of,
    turns_of,
)
from ._traces import atold, atold_stream, told, told_stream
from .chat_models import ChatBedrockRouter
from .retrievers import CONNECTED_BY, AskingAws, KnowledgeBaseRetriever, Searching, distinct_documents, document_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
    from langchain_core.documents import Document
    from typing_extensions import Self

    from bedrock_routing_integrations.client.knowledge_bases import Generated


# --- The arguments of `KnowledgeBaseChain` ---

# What only one of the modes can heed.
_ONLY_CONVERSE = {"get_session_history": None, "retriever": None, "cache": "auto", "project_identifier": None}
_ONLY_GENERATE = {"kms_key_arn": None}
# How to search. A guardrail is for the answer too.
_SEARCH = tuple(
    name
    for name in Searching.model_fields
    if name not in (*AskingAws.model_fields, "knowledge_base_id", "guardrail_config")
)
# What belongs to a chat model that is given.
_OF_THE_MODEL = (
    "performance_config", "inference_config", "additional_model_request_fields", "base_models", "project_identifier",
)  # fmt: skip
_OF_BOTH_MODELS = ("base_models", "performance_config", "project_identifier")
_INFERENCE = {"maxTokens": "max_tokens", "temperature": "temperature", "topP": "top_p", "stopSequences": "stop"}
_MODEL_MADE_OF = ("model", "cache", "guardrail_config", *_OF_THE_MODEL, *CONNECTED_BY)


class KnowledgeBaseInput(BaseModel):
    """What a `KnowledgeBaseChain` is called with, where it is not the question alone."""

    input: str = Field(description="The question.")
    session_id: str | None = Field(default=None, description="The session of an earlier answer, to go on with it.")


class ChainArguments(Searching):
    """The arguments of `KnowledgeBaseChain`."""

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

    _models: tuple[Any, Any] | None = PrivateAttr(default=None)
    _models_made_of: tuple[Any, ...] | None = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _check_arguments(cls, values: Any) -> dict[str, Any]:
        named = cls.by_our_names(values)
        if named.get("model") is None:
            raise InvalidRequestError(f"{cls.__name__} needs model=, a Bedrock model id or ARN, or a chat model")
        if isinstance(named["model"], str):
            named["model"] = checked_model(named["model"])
        if named.get("knowledge_base_id"):
            parse_knowledge_base_id(named["knowledge_base_id"])
        return named

    def get_input_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:
        """What `as_tool` tells a model to give."""
        return KnowledgeBaseInput

    def check_together(self) -> None:
        """Refuse arguments that contradict each other or the mode.

        Raises:
            InvalidRequestError: Some do.
        """
        if self.mode not in (GENERATE, CONVERSE):
            raise InvalidRequestError(f"mode={self.mode!r}: there are {GENERATE!r} and {CONVERSE!r}")
        sources = ("knowledge_base_id", "external_source", "retriever")
        given = [name for name in sources if getattr(self, name) is not None]
        if len(given) != 1:
            has = f"it has {' and '.join(given)}" if given else "it has none"
            raise InvalidRequestError(f"a chain needs one of knowledge_base_id, external_source and retriever; {has}")
        other, why = (_ONLY_CONVERSE, CONVERSE) if self.mode == GENERATE else (_ONLY_GENERATE, GENERATE)
        for name, default in other.items():
            if getattr(self, name) != default:
                raise self.not_in_this_mode(name, f"mode={why!r} can heed it")
        self._check_model()
        policy_of(self.cache)
        if self.get_session_history is not None and not callable(self.get_session_history):
            raise InvalidRequestError("get_session_history must be a function from a session id to a history")
        self._check_retriever()
        if self.external_source is not None:
            (external_source if self.mode == GENERATE else read_source)(self.external_source)
        self.generation_options().check(limited=self.mode == GENERATE)
        self._check_search({})
        self.connected()

    def not_in_this_mode(self, what: str, advice: str) -> InvalidRequestError:
        """The error for what the mode cannot heed."""
        return InvalidRequestError(f"{what} has no meaning with mode={self.mode!r}: {advice}")

    def _check_search(self, call: Mapping[str, Any]) -> None:
        """Refuse options of the search that Bedrock, or the mode, does not take."""
        search, generation = self.search_options(call), self.generation_options()
        if self.mode == GENERATE:
            refuse_for_generate(search, generation, self.external_source)
        elif self.external_source is not None:
            refuse_for_source(search, generation, mode=CONVERSE)

    def _check_retriever(self) -> None:
        if self.retriever is None:
            return
        if not isinstance(self.retriever, Runnable):
            kind = type(self.retriever).__name__
            raise InvalidRequestError(f"retriever must be one of LangChain's retrievers, and is a {kind}")
        for name in _SEARCH:
            if getattr(self, name) is not None:
                raise InvalidRequestError(f"{name} belongs to the retriever that is given: set it there")

    def check_call(self, asked: Asked) -> None:
        """Refuse what a call says and nothing would heed.

        Raises:
            InvalidRequestError: It says something of that kind.
        """
        if self.mode == GENERATE and asked.history is not None:
            raise self.not_in_this_mode("chat_history", "Bedrock keeps the conversation: pass session_id")
        if "guardrail_config" in [self.also_named.get(name, name) for name in asked.search]:
            # Of the search alone it would leave the answer unguarded.
            raise InvalidRequestError("guardrail_config is for the whole chain: set it there, not for a call")
        if "image" in asked.search and (self.mode == GENERATE or self.external_source is not None):
            raise self.not_in_this_mode("image", f"mode={CONVERSE!r} can search a knowledge base with one")
        if self.retriever is None:
            self._check_search({name: value for name, value in asked.search.items() if name != "image"})

    def _check_model(self) -> None:
        if isinstance(self.model, str):
            return
        if self.mode == GENERATE:
            raise InvalidRequestError(
                f"with mode={GENERATE!r} Bedrock calls the model: give its id or ARN as model, not a "
                f"{type(self.model).__name__}. mode={CONVERSE!r} takes chat models."
            )
        if not isinstance(self.model, Runnable):
            raise InvalidRequestError(f"model must be a target or a chat model, and is a {type(self.model).__name__}")
        for name in _OF_THE_MODEL:
            if getattr(self, name) is not None:
                raise InvalidRequestError(f"{name} belongs to the chat model that is given as model: set it there")
        if self.cache != "auto":
            raise InvalidRequestError("cache belongs to the chat model that is given as model: set it there")
        if self.guardrail_config is not None and self.knowledge_base_id is None:  # no search of ours to guard
            raise InvalidRequestError("guardrail_config belongs to the chat model that is given as model: set it there")

    def generation_options(self) -> GenerationOptions:
        """How to generate, as the fields are now."""
        return GenerationOptions(
            performance_config=self.performance_config,
            inference_config=self.inference_config,
            prompt_template=self.prompt_template,
            orchestration_prompt_template=self.orchestration_prompt_template,
            query_decomposition=self.query_decomposition,
            guardrail=self.guardrail_config,
            kms_key_arn=self.kms_key_arn,
            additional_model_request_fields=self.additional_model_request_fields,
        )

    def __getstate__(self) -> dict[Any, Any]:
        # What the models are made of has the secrets among it.
        state = super().__getstate__()
        private = {**(state["__pydantic_private__"] or {}), "_models": None, "_models_made_of": None}
        return {**state, "__pydantic_private__": private}

    # --- what retrieve_then_converse works with ---

    def chat_model(self) -> Any:
        """What answers."""
        return self._both_models()[0]

    def rewording_model(self) -> Any:
        """What words the search: the same target, without what is meant for the answer."""
        return self._both_models()[1]

    def _both_models(self) -> tuple[Any, Any]:
        if not isinstance(self.model, str):
            return self.model, self.model
        made_of = tuple([getattr(self, name) for name in _MODEL_MADE_OF])
        if self._models is None or self._models_made_of != made_of:
            fields = self._shared_fields()
            self._models = ChatBedrockRouter(**fields, **self._answer_fields()), ChatBedrockRouter(**fields)
            self._models_made_of = made_of
        return self._models

    def _shared_fields(self) -> dict[str, Any]:
        given = {name: getattr(self, name) for name in (*CONNECTED_BY, *_OF_BOTH_MODELS)}
        fields = {name: value for name, value in given.items() if value is not None}
        if self.client is not None:
            fields["client"] = GivenClient(self.client, SERVICE).client("bedrock-runtime")
        return {**fields, "model": self.model, "cache": self.cache}

    def _answer_fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = {_INFERENCE[name]: value for name, value in (self.inference_config or {}).items()}
        guardrail = self.guardrail_config
        if guardrail is not None:
            identifier = guardrail.get("guardrailId") or guardrail.get("guardrailIdentifier")
            fields["guardrail_config"] = {
                "guardrailIdentifier": identifier,
                "guardrailVersion": str(guardrail.get("guardrailVersion")),
            }
        if self.additional_model_request_fields is not None:
            fields["additional_model_request_fields"] = dict(self.additional_model_request_fields)
        return fields

    def retriever_for(self, asked: Asked) -> Any:
        """What retrieves: the retriever that was given, else one with the chain's own options.

        Raises:
            InvalidRequestError: A call has options of the search, and the retriever is not ours.
        """
        if self.retriever is not None:
            if asked.search and not isinstance(self.retriever, KnowledgeBaseRetriever):
                named = ", ".join(asked.search)
                raise InvalidRequestError(f"{named}: a {type(self.retriever).__name__} has no such options of a call")
            return self.retriever
        names = [name for name in Searching.model_fields if getattr(self, name) is not None]
        return KnowledgeBaseRetriever(**{name: getattr(self, name) for name in names})


Result = dict[str, Any]
# Names of the runs below the chain's own; the first is that of LangChain's create_retrieval_chain.
_RETRIEVE, _WORD = "retrieve_documents", "word_the_search"


class KnowledgeBaseChain(ChainArguments, RunnableSerializable[Any, Result]):
    """Answers questions from a knowledge base, in one of two ways with one kind of result.

    ``mode="retrieve_and_generate"``: Bedrock retrieves and generates (RetrieveAndGenerate). What that API does not
    report is None in ``"routing"``: which model of a router answered, tokens, cost, served latency.

    ``mode="retrieve_then_converse"``: Retrieve, then a chat model, which is asked by Converse. It says which model
    answered, caches the instructions, takes long questions, managed knowledge bases and any chat model of LangChain.

    The input is a question, or ``{"input": question, "session_id": …}``; the id can also come as ``session_id=…`` of
    the call, or in its config's ``configurable``. In the second mode ``"chat_history"``, a list of messages, can stand
    for a session. Options of the search can be given to a call (``chain.invoke("…", k=3)``).

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
        external_source: Instead of one, a document: ``"s3://bucket/key"``, or ``{"data": bytes, "contentType":
            "application/pdf", "identifier": "report.pdf"}``.
        model: Any target; see `parse_target`. In the second mode also a chat model.
        mode: ``"retrieve_and_generate"`` or ``"retrieve_then_converse"``.
        performance_config: ``{"latency": "optimized"}``, for the answer and for what words the search.
        inference_config: ``{"maxTokens", "temperature", "topP", "stopSequences"}`` of the answer.
        prompt_template: Of the answer, with Bedrock's placeholders: ``$search_results$`` (needed), ``$query$``,
            ``$current_time$``, ``$output_format_instructions$`` (without it there are no citations).
        orchestration_prompt_template: Of what words the search: ``$conversation_history$`` and
            ``$output_format_instructions$`` (needed), ``$query$``, ``$current_time$``.
        query_decomposition: Whether a question may be split into several, each searched for.
        kms_key_arn: The key that Bedrock encrypts a new session with (retrieve_and_generate).
        additional_model_request_fields: What else the model itself takes, for the answer.
        base_models: The base models that `model` can use; given, it is not looked up.
        cache: In the second mode, as of `ChatBedrockRouter`.
        project_identifier: In the second mode, the project that the calls of the model are counted for.
        get_session_history: In the second mode, where the conversation of a session id is kept. By default in memory,
            for 24 hours as Bedrock keeps its own.
        retriever: In the second mode, a retriever to use instead of a `KnowledgeBaseRetriever`.

    The options of the search and the arguments for AWS are those of `KnowledgeBaseRetriever`; `guardrail_config` holds
    for the search and the answer, with a chat model of yours for the search alone.

    Raises:
        InvalidRequestError: An argument that does not exist, that Bedrock would refuse, or that the mode cannot heed.
        InvalidTargetError: `model` is no target.
        SessionExpiredError: At a call: the session is over.
        StreamInterruptedError: While streaming: the connection broke. What had arrived is in ``.partial``.

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

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.check_together()
        return self

    # --- LangChain's methods ---

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Result:  # noqa: A002 - its name
        """Answer a question."""
        return self._call_with_config(self._answer, input, config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Result:  # noqa: A002
        """Answer a question, asynchronously."""
        return await self._acall_with_config(self._aanswer, input, config, **kwargs)

    def stream(
        self,
        input: Any,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Iterator[Result]:
        """Answer a question, in partial dictionaries that add up to the result of `invoke`."""
        yield from self._transform_stream_with_config(iter([input]), self._stream_answer, config, **kwargs)

    async def astream(
        self,
        input: Any,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Result]:
        """`stream`, asynchronously."""

        async def one() -> AsyncIterator[Any]:
            yield input

        chunks = self._atransform_stream_with_config(one(), self._astream_answer, config, **kwargs)
        async with contextlib.aclosing(chunks):  # type: ignore[type-var]  # it is a generator
            async for chunk in chunks:
                yield chunk

    # --- the four ways to answer ---

    def _asked(self, given: Any, config: RunnableConfig, call: Mapping[str, Any]) -> Asked:
        asked = read_input(given, config, call)
        self.check_together()  # fields can have been set since
        self.check_call(asked)
        return asked

    def _answer(
        self, given: Any, run_manager: CallbackManagerForChainRun, config: RunnableConfig, **call: Any
    ) -> Result:
        asked = self._asked(given, config, call)
        if self.mode != GENERATE:
            return self._converse(asked, config)
        return told(run_manager, self.model, lambda: self._generate(asked))

    async def _aanswer(
        self, given: Any, run_manager: AsyncCallbackManagerForChainRun, config: RunnableConfig, **call: Any
    ) -> Result:
        asked = self._asked(given, config, call)
        if self.mode != GENERATE:
            return await self._aconverse(asked, config)
        return await atold(run_manager, self.model, run_in_thread(self.max_concurrency, self._generate, asked))

    def _stream_answer(
        self, inputs: Iterator[Any], run_manager: CallbackManagerForChainRun, config: RunnableConfig, **call: Any
    ) -> Iterator[Result]:
        asked = self._asked(next(inputs), config, call)
        chunks: Iterator[Result]
        if self.mode == GENERATE:
            chunks = told_stream(run_manager, self.model, self._stream_generated(asked))
        else:
            chunks = self._stream_conversed(asked, config)
        with contextlib.closing(chunks):  # type: ignore[type-var]  # they are generators
            yield from chunks

    async def _astream_answer(
        self,
        inputs: AsyncIterator[Any],
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        **call: Any,
    ) -> AsyncIterator[Result]:
        asked = self._asked(await inputs.__anext__(), config, call)
        chunks: Any
        if self.mode == GENERATE:
            parts = iterate_in_thread(self.max_concurrency, lambda: self._stream_generated(asked))
            chunks = atold_stream(run_manager, self.model, parts)
        else:
            chunks = self._astream_conversed(asked, config)
        async with contextlib.aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    # --- retrieve_and_generate ---

    def _ask_bedrock(self, asked: Asked, how: str) -> Generated:
        knowledge_base = parse_knowledge_base_id(self.knowledge_base_id) if self.knowledge_base_id else None
        question = Question(
            text=asked.text, knowledge_base=knowledge_base, source=self.external_source, session_id=asked.session_id
        )
        ask = getattr(self.connected(), how)
        answer: Generated = ask(
            question, self.model, self.search_options(asked.search), self.generation_options(), self.base_models
        )
        return answer

    def _generate(self, asked: Asked) -> Result:
        answer = self._ask_bedrock(asked, "generate")
        reader = answer.reader
        documents = [document_of(passage) for passage in reader.passages]
        return {
            "input": asked.text,
            "context": documents,
            "answer": reader.text,
            "citations": list(reader.citations),
            "session_id": answer.session_id,
            "guardrail_action": reader.guardrail_action,
            "message": generated_message(reader.text, reader.citations, documents, metadata_of(answer.routing)),
            "routing": answer.routing,
        }

    def _stream_generated(self, asked: Asked) -> Iterator[Result]:
        answer = self._ask_bedrock(asked, "generate_stream")  # before any chunk, after which `with_fallbacks` has none
        yield AddableDict(input=asked.text)
        yield AddableDict(context=[], answer="", citations=[], session_id=answer.session_id)
        documents: list[Document] = []
        with contextlib.closing(answer.parts):  # type: ignore[type-var]  # a generator
            for part in answer.parts:
                new = [document_of(passage) for passage in part.passages]
                documents += new
                chunk = answer_chunk(part, documents)
                yield chunk + AddableDict(context=new) if new else chunk
        last = AddableDict(guardrail_action=answer.reader.guardrail_action, routing=answer.routing)
        yield last + AddableDict(message=closing_chunk(metadata_of(answer.routing)))

    # --- retrieve_then_converse ---

    def _converse(self, asked: Asked, config: RunnableConfig) -> Result:
        said = self._conversation(asked)
        turn = self._begin(asked, said, config)
        result = turn.finish(self.chat_model().invoke(turn.messages, _child(config)))
        self._remember(said, turn)
        return _ordered({**result, "session_id": said.session_id})

    async def _aconverse(self, asked: Asked, config: RunnableConfig) -> Result:
        said = await self._aconversation(asked)
        turn = await self._abegin(asked, said, config)
        result = turn.finish(await self.chat_model().ainvoke(turn.messages, _child(config)))
        await self._aremember(said, turn)
        return _ordered({**result, "session_id": said.session_id})

    def _stream_conversed(self, asked: Asked, config: RunnableConfig) -> Iterator[Result]:
        said = self._conversation(asked)
        turn = self._begin(asked, said, config)
        yield AddableDict(input=asked.text)
        yield _opening(turn, said)
        for message in self.chat_model().stream(turn.messages, _child(config)):
            if (chunk := turn.read_chunk(message)) is not None:
                yield chunk
        last = turn.finish_stream()
        self._remember(said, turn)  # before it is given out: who has it may read no further
        yield last

    async def _astream_conversed(self, asked: Asked, config: RunnableConfig) -> AsyncIterator[Result]:
        said = await self._aconversation(asked)
        turn = await self._abegin(asked, said, config)
        yield AddableDict(input=asked.text)
        yield _opening(turn, said)
        async for message in self.chat_model().astream(turn.messages, _child(config)):
            if (chunk := turn.read_chunk(message)) is not None:
                yield chunk
        last = turn.finish_stream()
        await self._aremember(said, turn)
        yield last

    def _begin(self, asked: Asked, said: Conversation, config: RunnableConfig) -> Turn:
        if self.external_source is not None:
            return self._turn(asked, said, [])
        prompt = self._rewriting(asked, said)
        answer = (
            None if prompt is None else self.rewording_model().invoke([HumanMessage(prompt)], _child(config, _WORD))
        )
        found = [
            self.retriever_for(asked).invoke(query, _child(config, _RETRIEVE), **asked.search)
            for query in self._queries(asked, answer)
        ]
        return self._turn(asked, said, found)

    async def _abegin(self, asked: Asked, said: Conversation, config: RunnableConfig) -> Turn:
        if self.external_source is not None:
            return await run_in_thread(self.max_concurrency, self._turn, asked, said, [])
        prompt = self._rewriting(asked, said)
        answer = None
        if prompt is not None:
            answer = await self.rewording_model().ainvoke([HumanMessage(prompt)], _child(config, _WORD))
        retriever, queries, named = self.retriever_for(asked), self._queries(asked, answer), _child(config, _RETRIEVE)
        found = await asyncio.gather(*(retriever.ainvoke(query, named, **asked.search) for query in queries))
        return await run_in_thread(self.max_concurrency, self._turn, asked, said, found)

    def _rewriting(self, asked: Asked, said: Conversation) -> str | None:
        return rewriting_prompt(
            asked.text,
            turns_of(said.messages),
            template=self.orchestration_prompt_template,
            decompose=self.query_decomposition,
            now=current_time(),
        )

    def _queries(self, asked: Asked, answer: BaseMessage | str | None) -> list[str]:
        # What a guardrail says in place of an answer is nothing to search for.
        if answer is None or intervened(answer):
            return [asked.text]
        return read_queries(text_of(answer), asked.text, decompose=self.query_decomposition)

    def _turn(self, asked: Asked, said: Conversation, found: Sequence[list[Document]]) -> Turn:
        source = None if self.external_source is None else read_source(self.external_source)
        return Turn.begin(
            asked,
            distinct_documents(found) if source is None else [document_of(source.passage)],
            said.messages,
            model=self.chat_model(),
            template=self.prompt_template,
            source=source,
            guarded=self.guardrail_config is not None,
            actions=[getattr(documents, "guardrail_action", None) for documents in found],
        )

    # --- sessions of retrieve_then_converse ---

    def _history(self, asked: Asked) -> tuple[str | None, MessageHistory | None]:
        if asked.history is not None:
            return asked.session_id, None
        if self.get_session_history is not None:
            session_id = asked.session_id or str(uuid.uuid4())
            return session_id, checked_history(self.get_session_history(session_id))
        if asked.session_id is not None:
            return asked.session_id, shared_sessions.find(asked.session_id)
        return shared_sessions.begin()

    def _conversation(self, asked: Asked) -> Conversation:
        session_id, history = self._history(asked)
        return Conversation(session_id, tuple(asked.history or (history.messages if history else ())), history)

    async def _aconversation(self, asked: Asked) -> Conversation:
        session_id, history = self._history(asked)
        messages = await history.aget_messages() if history else asked.history or ()
        return Conversation(session_id, tuple(messages), history)

    def _remember(self, said: Conversation, turn: Turn) -> None:
        if said.kept_in is not None and (exchange := turn.exchange()):
            said.kept_in.add_messages(exchange)

    async def _aremember(self, said: Conversation, turn: Turn) -> None:
        if said.kept_in is not None and (exchange := turn.exchange()):
            await said.kept_in.aadd_messages(exchange)


def _opening(turn: Turn, said: Conversation) -> AddableDict:
    return AddableDict(context=turn.documents, answer="", citations=[], session_id=said.session_id, **turn.omissions)


def _child(config: RunnableConfig, run_name: str | None = None) -> RunnableConfig:
    return patch_config(config, run_name=run_name) if run_name else config


def _ordered(result: Result) -> Result:
    keys = ("input", "context", "answer", "citations", "session_id", "guardrail_action", "message", "routing")
    return {**{key: result[key] for key in keys}, **result}
