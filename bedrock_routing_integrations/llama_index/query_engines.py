"""`KnowledgeBaseQueryEngine`: LlamaIndex's query engine for Amazon Bedrock knowledge bases."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.callbacks.schema import CBEventType, EventPayload

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.knowledge_base import (
    CONVERSE,
    GENERATE,
    GenerationOptions,
    Question,
    checked_model,
    generate_request,
    parse_knowledge_base_id,
    read_source,
    refuse_for_source,
    refuse_unknown,
)
from bedrock_routing_integrations.targets import parse_target

from ._rag import Asked, Conversing, Generating, Histories
from .llms import BedrockRouter
from .retrievers import (
    ACCESS,
    SEARCH,
    KnowledgeBaseRetriever,
    SearchArguments,
    client_of,
    max_concurrency_of,
    search_options,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from llama_index.core.base.response.schema import RESPONSE_TYPE
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.memory import BaseMemory
    from llama_index.core.prompts.mixin import PromptMixinType
    from llama_index.core.schema import QueryBundle, QueryType
    from typing_extensions import Unpack


# --- The arguments of a query engine → what answers ---

# The members of `inference_config` → BedrockRouter's arguments.
_INFERENCE = {
    "maxTokens": "max_tokens", "temperature": "temperature", "topP": "top_p", "stopSequences": "stop_sequences",
}  # fmt: skip
_GUARDRAIL_IDS = ("guardrailId", "guardrailIdentifier")


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a query engine was given."""

    knowledge_base_id: str | None
    source: str | Mapping[str, Any] | None
    model: str | BaseLLM
    base_models: Sequence[str] | None
    options: GenerationOptions
    arguments: Mapping[str, Any]
    get_memory: Callable[[str], BaseMemory] | None
    retriever: Any
    cache: Any
    project: str | None
    callback_manager: CallbackManager

    def generating(self) -> Generating:
        """What asks Bedrock to do it all."""
        theirs = {
            "get_memory": self.get_memory, "retriever": self.retriever, "cache": self.cache,
            "project_identifier": self.project,
        }  # fmt: skip
        for name, value in theirs.items():
            if value is not None:
                raise InvalidRequestError(f"{name} is for mode={CONVERSE!r}; in mode={GENERATE!r} Bedrock does it all")
        if not isinstance(self.model, str):
            raise InvalidRequestError(
                f"mode={GENERATE!r} needs model=, the id or ARN of what Bedrock is to ask, and it is a "
                f"{type(self.model).__name__}; mode={CONVERSE!r} takes LLMs"
            )
        if (self.knowledge_base_id is None) == (self.source is None):
            raise InvalidRequestError("give either knowledge_base_id= or external_source=")
        named = None if self.knowledge_base_id is None else parse_knowledge_base_id(self.knowledge_base_id)
        search, target = search_options(self.arguments), parse_target(self.model)
        # A request as it would be, so that what cannot be sent is refused now.
        generate_request(
            Question(text="?", knowledge_base=named, source=self.source),
            target,
            search,
            self.options,
            region="us-east-1",
        )
        return Generating(
            client=client_of(self.arguments),
            knowledge_base=named,
            source=self.source,
            model=target.model_id,
            base_models=self.base_models,
            search=search,
            options=self.options,
            max_concurrency=max_concurrency_of(self.arguments),
        )

    def conversing(self) -> Conversing:
        """What retrieves, and asks an LLM."""
        if self.options.kms_key_arn is not None:
            raise InvalidRequestError(
                f"kms_key_arn is for sessions that Bedrock keeps (mode={GENERATE!r}); here they are kept by get_memory"
            )
        sources = {
            "knowledge_base_id": self.knowledge_base_id, "external_source": self.source, "retriever": self.retriever,
        }  # fmt: skip
        given = [name for name, value in sources.items() if value is not None]
        if len(given) != 1:
            raise InvalidRequestError(
                f"give one of {', '.join(sources)}; there {'is none' if not given else 'are ' + ' and '.join(given)}"
            )
        if self.source is not None:
            refuse_for_source(search_options(self.arguments), self.options, mode=CONVERSE)
        llm, rewriter = self._llms()
        return Conversing(
            llm=llm,
            rewriter=rewriter,
            retriever=None if self.source is not None else self._retriever(),
            source=None if self.source is None else read_source(self.source),
            histories=Histories(self.get_memory),
            options=self.options,
            guarded=bool(self.options.guardrail),
            max_concurrency=max_concurrency_of(self.arguments),
        )

    def _retriever(self) -> BaseRetriever:
        searched = {name: value for name, value in self.arguments.items() if name in SEARCH and value is not None}
        if self.retriever is None:
            reached = {name: value for name, value in self.arguments.items() if name in ACCESS}
            return KnowledgeBaseRetriever(
                self.knowledge_base_id or "", callback_manager=self.callback_manager, **searched, **reached
            )
        if not isinstance(self.retriever, BaseRetriever):
            kind = type(self.retriever).__name__
            raise InvalidRequestError(f"retriever must be one of LlamaIndex's retrievers, and is a {kind}")
        if isinstance(self.model, str):  # which the guardrail is for, too
            searched.pop("guardrail_config", None)
        for name in searched:
            raise InvalidRequestError(f"set {name} on the retriever")
        return self.retriever

    def _llms(self) -> tuple[BaseLLM, BaseLLM]:
        """What answers, and what words the search: without what is meant for answers, and for users."""
        reached = {name: value for name, value in self.arguments.items() if name in ACCESS and value is not None}
        said = {
            "inference_config": self.options.inference_config,
            "performance_config": self.options.performance_config,
            "additional_model_request_fields": self.options.additional_model_request_fields,
            "base_models": self.base_models,
            "cache": self.cache,
            "project_identifier": self.project,
        }
        if isinstance(self.model, BaseLLM):
            if self.source is not None:  # which is not searched: of one's own retriever `_retriever` says it
                said["guardrail_config"] = self.options.guardrail
            for name in (name for name, value in said.items() if value is not None):
                raise InvalidRequestError(f"set {name} on the LLM")
            return self.model, self.model
        if not isinstance(self.model, str):
            raise InvalidRequestError(f"model= is a target or a LlamaIndex LLM, and not a {type(self.model).__name__}")
        if reached.get("client") is not None:
            reached["client"] = client_of(self.arguments).source.client("bedrock-runtime")
        given = {
            "model": checked_model(self.model),
            "callback_manager": self.callback_manager,
            **reached,
            **self._of_both(),
        }
        return BedrockRouter(**given, **self._of_answers()), BedrockRouter(**given)

    def _of_both(self) -> dict[str, Any]:
        performance = self.options.performance_config
        return {
            "base_models": list(self.base_models) if self.base_models else None,
            "performance_config": dict(performance) if performance else None,
            "cache": self.cache,
            "project_identifier": self.project,
        }

    def _of_answers(self) -> dict[str, Any]:
        options = self.options
        inference = {_INFERENCE[name]: value for name, value in (options.inference_config or {}).items()}
        fields = options.additional_model_request_fields
        found: dict[str, Any] = {**inference, "additional_model_request_fields": dict(fields) if fields else None}
        guardrail = options.guardrail
        if guardrail:
            found["guardrail_identifier"] = next(guardrail[name] for name in _GUARDRAIL_IDS if guardrail.get(name))
            found["guardrail_version"] = str(guardrail["guardrailVersion"])
        return found


_OWN = (
    "model", "mode", "external_source", "performance_config", "inference_config", "prompt_template",
    "orchestration_prompt_template", "query_decomposition", "kms_key_arn", "additional_model_request_fields",
    "base_models", "streaming", "get_memory", "retriever", "cache", "callback_manager",
    "project_identifier",
)  # fmt: skip


class _PerCall:
    """`query` and `aquery` with what one call says besides its question.

    Not a LlamaIndex class: its mixin would make a span of each of these methods, around that of the method inside.
    """

    def query(self, str_or_query_bundle: QueryType, *, session_id: str | None = None, **options: Any) -> RESPONSE_TYPE:
        """Ask.

        Args:
            str_or_query_bundle: The question; at most 1,000 characters where Bedrock answers. Where we retrieve, a
                bundle's `image_path` is read and searched for too.
            session_id: ``metadata["session_id"]`` of the response before, to go on with that conversation.
            **options: Options of the search for this call, as ``k=3`` or ``filter=…``; where we retrieve, also `image`.

        Returns:
            A `Response`; with ``streaming=True`` a `StreamingResponse`, of `aquery` an `AsyncStreamingResponse`.

        Raises:
            InvalidRequestError: Bedrock would refuse it; nothing was sent.
            SessionExpiredError: The session is over.
            StreamInterruptedError: While a stream is read, where it breaks off.
            botocore.exceptions.ClientError: Bedrock refused.
        """
        return super(_PerCall, self._for_call(session_id, options)).query(str_or_query_bundle)  # type: ignore[attr-defined,no-any-return,misc]

    async def aquery(
        self, str_or_query_bundle: QueryType, *, session_id: str | None = None, **options: Any
    ) -> RESPONSE_TYPE:
        """`query`, asynchronously."""
        twin = self._for_call(session_id, options)  # type: ignore[attr-defined]
        return await super(_PerCall, twin).aquery(str_or_query_bundle)  # type: ignore[misc,no-any-return]


class KnowledgeBaseQueryEngine(_PerCall, BaseQueryEngine):
    """Answers questions from a knowledge base, and says what each part of an answer rests on.

    In the mode ``"retrieve_and_generate"`` Bedrock does all of it. In ``"retrieve_then_converse"`` the same is done by
    Retrieve and an LLM: then it is known which model of a router answered, with which tokens and at what cost; the
    instructions are cached where the models can; questions can be long, the knowledge base a managed one, the LLM any.

    A response has `source_nodes` (the passages that the answer refers to; where we retrieve, all that were found), and
    `metadata`:

    - ``"citations"``: each a `Citation`: ``str(response)[c.start:c.end] == c.text``, and ``c.passages`` are positions
      in `source_nodes`.
    - ``"session_id"``: continues the conversation, 24 hours from its last use.
    - ``"guardrail_action"``: ``"INTERVENED"`` or ``"NONE"``; None without a guardrail.
    - ``"routing"``: see `Invocation`; None of an LLM that says nothing of the kind. Where Bedrock does it all it does
      not say who answered, and what it does not say is None there.
    - ``"mode"``: the mode.
    - ``"omissions"``: where we retrieve, and only where something was left out: what was found and not given to the
      LLM, each ``{"passage": position in source_nodes, "type", "source", "reason", "given": "description" or None}``.
      Images are shown to a `BedrockRouter` whose models read images; any other LLM gets their descriptions.

    With ``streaming=True`` `source_nodes` and `metadata` are filled while ``response_gen`` is read, and complete when
    it has ended; ``"session_id"`` is there from the start. A conversation goes on from an answer that was read to its
    end and that no guardrail replaced.

    Args:
        knowledge_base_id: Its id (ten characters) or ARN.
        model: What answers: any target, see `parse_target`; where we retrieve also a LlamaIndex LLM.
        mode: ``"retrieve_and_generate"`` or ``"retrieve_then_converse"``.
        external_source: A document to answer from instead: ``"s3://bucket/key"``, or
            ``{"data": bytes, "contentType": "application/pdf", "identifier": "report.pdf"}``.
        performance_config: ``{"latency": "optimized"}``, for the answer and for what words the search.
        inference_config: ``{"maxTokens", "temperature", "topP", "stopSequences"}`` of the answer.
        prompt_template: Of the answer, with Bedrock's placeholders: ``$search_results$`` is needed, without
            ``$output_format_instructions$`` there are no citations.
        orchestration_prompt_template: Of what words the search: ``$conversation_history$`` and
            ``$output_format_instructions$`` are needed.
        query_decomposition: Whether a question may be split into several.
        kms_key_arn: The key that Bedrock encrypts a new session with, where Bedrock does it all.
        additional_model_request_fields: What else the model itself takes, for the answer.
        base_models: The base models that `model` can use. Given, the target is not looked up.
        streaming: Whether responses arrive in pieces.
        get_memory: Session id → its history, to keep conversations elsewhere, where we retrieve; any id is taken then.
            By default they are kept in this process.
        retriever: Finds the passages, where we retrieve: any retriever of LlamaIndex, instead of a knowledge base.
        cache: As of `BedrockRouter`, where we retrieve.
        project_identifier: The project that the calls of the model are counted for, where we retrieve.
        callback_manager: LlamaIndex's.
        guardrail_config: ``{"guardrailId": …, "guardrailVersion": …}``, of the search and of the answer; with an LLM of
            yours of the search alone.
        **arguments: How the knowledge base is searched and how AWS is reached: see `KnowledgeBaseRetriever`. One
            `client` (``bedrock-agent-runtime``) serves both: the model is called with its credentials.

    Raises:
        InvalidTargetError: `model` is no target.
        InvalidRequestError: An argument that is unknown, that Bedrock would refuse, or that the mode cannot heed.

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
        refuse_unknown(type(self).__name__, arguments, [*SEARCH, *ACCESS, *_OWN])
        if mode not in (GENERATE, CONVERSE):
            raise InvalidRequestError(f"mode={mode!r}: it is {GENERATE!r} or {CONVERSE!r}")
        super().__init__(callback_manager=callback_manager)
        options = GenerationOptions(
            performance_config=performance_config,
            inference_config=inference_config,
            prompt_template=prompt_template,
            orchestration_prompt_template=orchestration_prompt_template,
            query_decomposition=query_decomposition,
            guardrail=arguments.get("guardrail_config"),
            kms_key_arn=kms_key_arn,
            additional_model_request_fields=additional_model_request_fields,
        )
        options.check(limited=mode == GENERATE)
        given = Given(
            knowledge_base_id=knowledge_base_id,
            source=external_source,
            model=model,
            base_models=base_models,
            options=options,
            arguments=arguments,
            get_memory=get_memory,
            retriever=retriever,
            cache=cache,
            project=project_identifier,
            callback_manager=self.callback_manager,
        )
        self._mode = given.generating() if mode == GENERATE else given.conversing()
        self._streaming = streaming
        self._call: tuple[str | None, dict[str, Any]] = (None, {})

    def _for_call(self, session_id: str | None, options: dict[str, Any]) -> KnowledgeBaseQueryEngine:
        refuse_unknown("a query", options, [*SEARCH, "image", "session_id"])
        if options.get("guardrail_config") is not None:  # of the search alone it would leave the answer unguarded
            raise InvalidRequestError("guardrail_config is for the whole engine: set it there, not for a call")
        twin = copy.copy(self)
        twin._call = (session_id, options)  # noqa: SLF001 - a copy of this object
        return twin

    def _query(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        with self.callback_manager.event(
            CBEventType.QUERY, payload={EventPayload.QUERY_STR: query_bundle.query_str}
        ) as event:
            asked = Asked(query_bundle, *self._call)
            response = self._mode.stream(asked) if self._streaming else self._mode.answer(asked)
            event.on_end(payload={EventPayload.RESPONSE: response})
        return response

    async def _aquery(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        with self.callback_manager.event(
            CBEventType.QUERY, payload={EventPayload.QUERY_STR: query_bundle.query_str}
        ) as event:
            asked = Asked(query_bundle, *self._call)
            response = await (self._mode.astream(asked) if self._streaming else self._mode.aanswer(asked))
            event.on_end(payload={EventPayload.RESPONSE: response})
        return response

    def _get_prompt_modules(self) -> PromptMixinType:
        return {}
