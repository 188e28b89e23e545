"""The arguments of a query engine → what answers, checked: what a mode could not heed is refused, not dropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.llms.base import BaseLLM

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.knowledge_base import (
    CONVERSE,
    GENERATE,
    Question,
    checked_model,
    generate_request,
    parse_knowledge_base_id,
    read_source,
    refuse_for_source,
)
from bedrock_routing_integrations.targets import parse_target

from ._knowledge_base_arguments import ACCESS, SEARCH, client_of, max_concurrency_of, search_options
from ._knowledge_base_conversing import Conversing, Histories
from ._knowledge_base_generating import Generating
from .llms import BedrockRouter
from .retrievers import KnowledgeBaseRetriever

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.memory import BaseMemory

    from bedrock_routing_integrations.knowledge_base import GenerationOptions

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
