"""`KnowledgeBaseQueryEngine`: LlamaIndex's query engine for Amazon Bedrock knowledge bases."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from typing import TYPE_CHECKING, Any

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.base.response.schema import Response
from llama_index.core.callbacks.schema import CBEventType, EventPayload
from llama_index.core.schema import QueryBundle
from llama_index_instrumentation.span import active_span_id

from bedrock_routing_integrations.knowledge_base import (
    GENERATE,
    GenerationOptions,
    Question,
    RagArguments,
    RagTurn,
    RetrievedPassages,
    Spelling,
    checked_model,
    checked_question,
    distinct,
    read_source,
    refuse_unknown,
)
from bedrock_routing_integrations.transport.threads import iterate_in_thread, run_in_thread

from ._instrumentation import emit_failed, emit_routed
from ._nodes import nodes_of, passage_of
from ._rag_messages import (
    AsyncStreamedResponse,
    StreamedResponse,
    TurnResponse,
    answer_model,
    checked_memory,
    count_images,
    intervened,
    roles_and_texts,
    shared_sessions,
    turn_messages,
)
from .llms import BedrockRouter
from .retrievers import (
    AWS_ARGUMENTS,
    SEARCH,
    KnowledgeBaseRetriever,
    SearchArguments,
    client_of,
    max_concurrency_of,
    search_options,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    from llama_index.core.base.llms.types import ChatResponse
    from llama_index.core.base.response.schema import RESPONSE_TYPE
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.memory import BaseMemory
    from llama_index.core.prompts.mixin import PromptMixinType
    from llama_index.core.schema import NodeWithScore, QueryType
    from typing_extensions import Unpack

    from bedrock_routing_integrations.client.knowledge_bases import GeneratedAnswer

_SPELLING = Spelling(framework="LlamaIndex", owner="KnowledgeBaseQueryEngine", model="LLM", session_store="get_memory")
_OWN = (
    "model", "mode", "external_source", "performance_config", "inference_config", "prompt_template",
    "orchestration_prompt_template", "query_decomposition", "kms_key_arn", "additional_model_request_fields",
    "base_models", "streaming", "get_memory", "retriever", "cache", "callback_manager", "project_identifier",
)  # fmt: skip


class _QueryWithOptions:
    """`query` and `aquery` with a session and options of the search for one call.

    Not methods of the engine itself: LlamaIndex's base class would wrap each in a span, around that of the inherited
    method (`DispatcherSpanMixin`, llama-index-instrumentation 0.4).
    """

    def query(self, str_or_query_bundle: QueryType, *, session_id: str | None = None, **options: Any) -> RESPONSE_TYPE:
        """Answer a question.

        Args:
            str_or_query_bundle: The question; at most 1,000 characters with ``mode="retrieve_and_generate"``. In the
                other mode the image at a bundle's `image_path` is read and searched for too.
            session_id: ``metadata["session_id"]`` of the response before, to continue that session.
            **options: Options of the search for this call, such as ``k=3`` or ``filter=…``; with
                ``mode="retrieve_then_converse"`` also `image`.

        Returns:
            A `Response`; with ``streaming=True`` a `StreamingResponse`, from `aquery` an `AsyncStreamingResponse`.

        Raises:
            InvalidRequestError: Bedrock would refuse the call, or an option would have no effect. Nothing was sent.
            SessionExpiredError: The session is over.
            StreamInterruptedError: The stream broke off; raised while it is read.
            botocore.exceptions.ClientError: Bedrock refused.
        """
        twin = self._for_call(session_id, options)  # type: ignore[attr-defined]
        return super(_QueryWithOptions, twin).query(str_or_query_bundle)  # type: ignore[misc,no-any-return]

    async def aquery(
        self, str_or_query_bundle: QueryType, *, session_id: str | None = None, **options: Any
    ) -> RESPONSE_TYPE:
        """`query`, asynchronously."""
        twin = self._for_call(session_id, options)  # type: ignore[attr-defined]
        return await super(_QueryWithOptions, twin).aquery(str_or_query_bundle)  # type: ignore[misc,no-any-return]


class KnowledgeBaseQueryEngine(_QueryWithOptions, BaseQueryEngine):
    """Answer questions from a knowledge base, with citations, in one of two modes with the same response.

    ``mode="retrieve_and_generate"``: Bedrock retrieves and generates (RetrieveAndGenerate). That API does not report
    which model of a router answered, tokens, cost and served latency, so these are None in ``"routing"``.

    ``mode="retrieve_then_converse"``: Retrieve, then an LLM. The response has the invoked model, the instructions are
    cached, and long questions, managed knowledge bases and any LLM of LlamaIndex are possible.

    A response has `source_nodes` (the passages that the answer refers to; in the second mode all that were found), and
    `metadata`:

    - ``"citations"``: each a `Citation`: ``str(response)[c.start:c.end] == c.text``, and ``c.passages`` are positions
      in `source_nodes`.
    - ``"session_id"``: continues the session, for 24 hours from its last use.
    - ``"guardrail_action"``: ``"INTERVENED"`` or ``"NONE"``; None without a guardrail.
    - ``"routing"``: see `Invocation`; None with an LLM that reports no routing.
    - ``"mode"``: the mode.
    - ``"omissions"``: in the second mode, and only if something was left out: what was found and not given to the LLM,
      each ``{"passage": position in source_nodes, "type", "source", "reason", "given": "description" or None}``.
      A `BedrockRouter` whose models read images is shown images; any other LLM gets their descriptions.

    With ``streaming=True`` `source_nodes` and `metadata` fill while ``response_gen`` is read, and are complete at its
    end; ``"session_id"`` is there from the start. A session remembers an answer that was read to its end and that no
    guardrail replaced.

    Args:
        knowledge_base_id: Id (ten characters) or ARN of the knowledge base.
        model: Any target, see `parse_target`. In the second mode also a LlamaIndex LLM.
        mode: ``"retrieve_and_generate"`` or ``"retrieve_then_converse"``.
        external_source: A document instead of a knowledge base: ``"s3://bucket/key"``, or ``{"data": bytes,
            "contentType": "application/pdf", "identifier": "report.pdf"}``.
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
        streaming: Whether responses arrive in pieces.
        get_memory: In the second mode, a function from a session id to one of LlamaIndex's memories; any id is valid
            then. By default memories are kept in this process for 24 hours.
        retriever: In the second mode, a retriever to use instead of a `KnowledgeBaseRetriever`.
        cache: In the second mode, the cache policy, as for `BedrockRouter`.
        project_identifier: In the second mode, the project that the model's calls are counted for.
        callback_manager: LlamaIndex's.
        guardrail_config: ``{"guardrailId": …, "guardrailVersion": …}``, for the search and the answer; with an LLM of
            your own for the search alone.
        **arguments: The options of the search and the arguments for AWS, as for `KnowledgeBaseRetriever`. One `client`
            (``bedrock-agent-runtime``) serves both: the model is called with its credentials.

    Raises:
        InvalidTargetError: `model` is not a valid target.
        InvalidRequestError: An argument does not exist, Bedrock would refuse it, or the mode does not use it.

    Example:
        ```python
        from bedrock_routing_integrations.llama_index import KnowledgeBaseQueryEngine

        engine = KnowledgeBaseQueryEngine(
            "EMULATEDKB",
            model="arn:aws:bedrock:us-east-1:123456789012:default-prompt-router/amazon.nova:1",
            mode="retrieve_then_converse",
        )
        response = engine.query("Who discovered Europa?")
        for citation in response.metadata["citations"]:
            print(citation.text, citation.sources)
        response.metadata["routing"]["invoked_model"]  # "amazon.nova-pro-v1:0"
        engine.query("And when?", session_id=response.metadata["session_id"])
        ```
    """

    def __init__(
        self,
        knowledge_base_id: str | None = None,
        *,
        model: str | BaseLLM,
        mode: str = GENERATE,
        external_source: str | Mapping[str, Any] | None = None,
        performance_config: Mapping[str, Any] | None = None,
        inference_config: Mapping[str, Any] | None = None,
        prompt_template: str | None = None,
        orchestration_prompt_template: str | None = None,
        query_decomposition: bool = False,
        kms_key_arn: str | None = None,
        additional_model_request_fields: Mapping[str, Any] | None = None,
        base_models: Sequence[str] | None = None,
        streaming: bool = False,
        get_memory: Callable[[str], BaseMemory] | None = None,
        retriever: BaseRetriever | None = None,
        cache: Any = None,
        project_identifier: str | None = None,
        callback_manager: CallbackManager | None = None,
        **arguments: Unpack[SearchArguments],
    ) -> None:
        refuse_unknown(type(self).__name__, arguments, [*SEARCH, *AWS_ARGUMENTS, *_OWN])
        super().__init__(callback_manager=callback_manager)
        self._arguments = RagArguments(
            spelling=_SPELLING,
            mode=mode,
            knowledge_base_id=knowledge_base_id,
            external_source=external_source,
            retriever=retriever,
            model=checked_model(model) if isinstance(model, str) else model,
            base_models=base_models,
            cache=cache,
            project_identifier=project_identifier,
            session_store=get_memory,
            search=search_options(arguments),
            generation=GenerationOptions(
                performance_config=performance_config,
                inference_config=inference_config,
                prompt_template=prompt_template,
                orchestration_prompt_template=orchestration_prompt_template,
                query_decomposition=query_decomposition,
                guardrail=arguments.get("guardrail_config"),
                kms_key_arn=kms_key_arn,
                additional_model_request_fields=additional_model_request_fields,
            ),
            is_model=isinstance(model, BaseLLM),
            is_retriever=isinstance(retriever, BaseRetriever),
        )
        self._arguments.check()
        self._streaming = streaming
        self._max_concurrency = max_concurrency_of(arguments)
        self._client = client_of(arguments)
        self._source = None if external_source is None or mode == GENERATE else read_source(external_source)
        self._llm, self._rewriter, self._retriever = self._conversing_parts(arguments)
        # The session and the options of one call; set on a copy, see `_for_call`.
        self._call: tuple[str | None, dict[str, Any]] = (None, {})

    def _conversing_parts(self, arguments: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        """Return the LLM that answers, the LLM that words the search, and the retriever; None for what Bedrock does."""
        rag = self._arguments
        if rag.generates:
            return None, None, None
        access = {name: value for name, value in arguments.items() if name in AWS_ARGUMENTS and value is not None}
        retriever = rag.retriever
        if rag.knowledge_base_id is not None:
            search = {name: value for name, value in arguments.items() if name in SEARCH and value is not None}
            retriever = KnowledgeBaseRetriever(
                rag.knowledge_base_id, callback_manager=self.callback_manager, **search, **access
            )
        if not isinstance(rag.model, str):
            return rag.model, rag.model, retriever
        if access.get("client") is not None:
            access["client"] = self._client.source.client("bedrock-runtime")
        shared = {"callback_manager": self.callback_manager, **access, **rag.shared_model_arguments()}
        answers, guardrail = rag.answer_model_arguments(), rag.converse_guardrail()
        if guardrail:
            answers["guardrail_identifier"] = guardrail["guardrailIdentifier"]
            answers["guardrail_version"] = guardrail["guardrailVersion"]
        # Words of the search are not for users: no guardrail and no settings of the answer.
        return BedrockRouter(**shared, **answers), BedrockRouter(**shared), retriever

    def _for_call(self, session_id: str | None, options: dict[str, Any]) -> KnowledgeBaseQueryEngine:
        """Return a copy for one call, with a session and options of its own."""
        refuse_unknown("a query", options, [*SEARCH, "image", "session_id"])
        twin = copy.copy(self)
        twin._call = (session_id, options)  # noqa: SLF001 - a copy of this object
        return twin

    def _query(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        with self.callback_manager.event(
            CBEventType.QUERY, payload={EventPayload.QUERY_STR: query_bundle.query_str}
        ) as event:
            self._check_call(query_bundle)
            answer = self._generate if self._arguments.generates else self._converse
            response = answer(query_bundle)
            event.on_end(payload={EventPayload.RESPONSE: response})
        return response

    async def _aquery(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        with self.callback_manager.event(
            CBEventType.QUERY, payload={EventPayload.QUERY_STR: query_bundle.query_str}
        ) as event:
            self._check_call(query_bundle)
            answer = self._agenerate if self._arguments.generates else self._aconverse
            response = await answer(query_bundle)
            event.on_end(payload={EventPayload.RESPONSE: response})
        return response

    def _check_call(self, query_bundle: QueryBundle) -> None:
        checked_question(query_bundle.query_str)
        options = self._call[1]
        has_path = self._arguments.generates and query_bundle.image_path is not None
        self._arguments.check_call(
            {**options, **({"image": query_bundle.image_path} if has_path else {})},
            search_options(options, self._arguments.search),
            takes_options=isinstance(self._retriever, KnowledgeBaseRetriever),
        )

    # --- retrieve_and_generate ---

    def _generate(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        with self._telling() as span_id:
            answer = self._send_question(query_bundle)
        return self._generated_response(answer, span_id)

    async def _agenerate(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        with self._telling() as span_id:
            answer = await run_in_thread(self._max_concurrency, self._send_question, query_bundle)
        if not self._streaming:
            return self._generated_response(answer, span_id)
        metadata = _generated_metadata(answer)
        nodes: list[NodeWithScore] = []
        texts = iterate_in_thread(
            self._max_concurrency, lambda: self._generated_texts(answer, metadata, nodes, span_id)
        )
        return AsyncStreamedResponse(texts, nodes, metadata)

    def _send_question(self, query_bundle: QueryBundle) -> GeneratedAnswer:
        rag, (session_id, options) = self._arguments, self._call
        question = Question(
            text=query_bundle.query_str,
            knowledge_base=rag.knowledge_base,
            source=rag.external_source,
            session_id=session_id,
        )
        send = self._client.generate_stream if self._streaming else self._client.generate
        return send(question, rag.model, search_options(options, rag.search), rag.generation, rag.base_models)

    def _generated_response(self, answer: GeneratedAnswer, span_id: str | None) -> RESPONSE_TYPE:
        metadata = _generated_metadata(answer)
        if self._streaming:
            nodes: list[NodeWithScore] = []
            return StreamedResponse(self._generated_texts(answer, metadata, nodes, span_id), nodes, metadata)
        emit_routed(answer.routing, span_id)
        reader = answer.reader
        return Response(reader.text, nodes_of(reader.passages, reader.guardrail_action), metadata)

    # With an asynchronous reader this runs in a thread. No other thread writes `metadata` and `nodes`.
    def _generated_texts(
        self, answer: GeneratedAnswer, metadata: dict[str, Any], nodes: list[NodeWithScore], span_id: str | None
    ) -> Generator[str, None, None]:
        # A handler of the error may keep this frame: close the connection, which the frame would keep open.
        with self._telling(span_id), contextlib.closing(answer.parts):  # type: ignore[type-var]  # a generator
            for part in answer.parts:
                nodes.extend(nodes_of(part.passages, answer.reader.guardrail_action, known=nodes))
                metadata["citations"].extend(part.citations)
                metadata["guardrail_action"] = answer.reader.guardrail_action
                if part.text:
                    yield part.text
        emit_routed(answer.routing, span_id)

    @contextlib.contextmanager
    def _telling(self, span_id: str | None = None) -> Iterator[str | None]:
        """Report a failure to LlamaIndex's instrumentation, in the given span or the current one."""
        span_id = span_id or active_span_id.get()
        try:
            yield span_id
        except BaseException as error:
            emit_failed(self._arguments.model, error, span_id)
            raise

    # --- retrieve_then_converse: each step of a `RagTurn`, with LlamaIndex's LLMs and retrievers between ---

    def _converse(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        session_id, memory = self._open_session()
        history = memory.get(input=query_bundle.query_str)
        turn = self._turn(query_bundle, history)
        found: list[Sequence[NodeWithScore]] = []
        if turn.source is None:
            prompt = _rewording_messages(turn)
            answer = None if prompt is None else self._rewriter.chat(prompt)
            queries = _queries(turn, answer, query_bundle)
            found = [self._retriever.retrieve(query, **self._call[1]) for query in queries]
        response = TurnResponse(turn, self._compose(turn, found, history), session_id, memory)
        messages = turn_messages(turn, history)
        if self._streaming:
            texts = response.texts(self._llm.stream_chat(messages))
            return StreamedResponse(texts, response.nodes, response.metadata)
        whole = response.finish(self._llm.chat(messages))
        response.remember()
        return whole

    async def _aconverse(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        session_id, memory = self._open_session()
        history = await memory.aget(input=query_bundle.query_str)
        turn = self._turn(query_bundle, history)
        found: Sequence[Sequence[NodeWithScore]] = []
        if turn.source is None:
            prompt = _rewording_messages(turn)
            answer = None if prompt is None else await self._rewriter.achat(prompt)
            queries = _queries(turn, answer, query_bundle)
            found = await asyncio.gather(*[self._retriever.aretrieve(query, **self._call[1]) for query in queries])
        nodes = await run_in_thread(self._max_concurrency, self._compose, turn, found, history)
        response, messages = TurnResponse(turn, nodes, session_id, memory), turn_messages(turn, history)
        if self._streaming:
            texts = response.atexts(await self._llm.astream_chat(messages))
            return AsyncStreamedResponse(texts, response.nodes, response.metadata)
        whole = response.finish(await self._llm.achat(messages))
        await response.aremember()
        return whole

    def _open_session(self) -> tuple[str, BaseMemory]:
        session_id, memory = shared_sessions().open(self._call[0], self._arguments.session_store)
        return session_id, checked_memory(memory)

    def _turn(self, query_bundle: QueryBundle, history: Sequence[ChatMessage]) -> RagTurn:
        return RagTurn(
            query_bundle.query_str,
            self._arguments.generation,
            history=roles_and_texts(history),
            source=self._source,
        )

    def _compose(
        self, turn: RagTurn, found: Sequence[Sequence[NodeWithScore]], history: Sequence[ChatMessage]
    ) -> list[NodeWithScore]:
        """Compose the prompt of a turn and return its nodes. May look up the LLM's target."""
        if turn.source is None:
            nodes = distinct(found, lambda node: node.node.node_id)
        else:
            nodes = nodes_of([turn.source.passage])
        turn.compose(
            [passage_of(node) for node in nodes],
            answer_model(self._llm),
            guardrail_actions=[each.guardrail_action for each in found if isinstance(each, RetrievedPassages)],
            images_before=count_images(history),
        )
        return nodes

    def _get_prompt_modules(self) -> PromptMixinType:
        return {}


def _generated_metadata(answer: GeneratedAnswer) -> dict[str, Any]:
    return {
        "mode": GENERATE,
        "session_id": answer.session_id,
        "citations": list(answer.reader.citations),
        "guardrail_action": answer.reader.guardrail_action,
        "routing": answer.routing,
    }


def _rewording_messages(turn: RagTurn) -> list[ChatMessage] | None:
    prompt = turn.rewording_prompt()
    return None if prompt is None else [ChatMessage(role=MessageRole.USER, content=prompt)]


def _queries(turn: RagTurn, answer: ChatResponse | None, query_bundle: QueryBundle) -> list[QueryBundle]:
    """Return what to search for, with the image of the question."""
    reworded = None if answer is None or intervened(answer) else answer.message.content or ""
    question, image = query_bundle.query_str, query_bundle.image_path
    queries = turn.queries(reworded)
    return [query_bundle if query == question else QueryBundle(query, image_path=image) for query in queries]
