"""The arguments of `KnowledgeBaseChain`, which documents them: how they go together, and what is made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.runnables import Runnable
from pydantic import BaseModel, Field, PrivateAttr, model_validator

from bedrock_routing_integrations.caching import policy_of
from bedrock_routing_integrations.client.knowledge_bases import SERVICE
from bedrock_routing_integrations.connections import GivenClient
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.knowledge_base import (
    CONVERSE,
    GENERATE,
    GenerationOptions,
    checked_model,
    external_source,
    parse_knowledge_base_id,
    read_source,
    refuse_for_generate,
    refuse_for_source,
)

from ._aws import CONNECTED_BY, AskingAws
from .chat_models import ChatBedrockRouter
from .retrievers import KnowledgeBaseRetriever, Searching

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_core.runnables import RunnableConfig

    from ._turns import Asked

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
