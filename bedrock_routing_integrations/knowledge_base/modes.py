"""Check which arguments of a chain or a query engine go together, and with which mode.

`KnowledgeBaseChain` (LangChain) and `KnowledgeBaseQueryEngine` (LlamaIndex) take the same arguments and answer in one
of two modes:

- ``retrieve_and_generate``: Bedrock retrieves, words the prompt and calls the model (RetrieveAndGenerate). The model is
  a target. Bedrock keeps the session.
- ``retrieve_then_converse``: this package retrieves and composes the prompt, and the framework's model answers. The
  model is a target or the framework's own model object. The session is kept here, or by the caller.

An argument that the mode, the model or the retriever would ignore is refused, because silence would look like success:
a guardrail that guards nothing, a filter that filters nothing. `RagArguments` holds the rules once. A framework hands
in its values and its `Spelling`, so that users of both read the same messages.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.caching import policy_of
from bedrock_routing_integrations.errors import InvalidRequestError

from .generation import CONVERSE, GENERATE, GenerationOptions, checked_model, refuse_for_generate, refuse_for_source
from .passages import external_source, read_source
from .retrieval import SearchOptions, parse_knowledge_base_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .retrieval import KnowledgeBaseId

# Arguments that only one mode uses.
_MODE_OF = {
    "session_store": CONVERSE, "retriever": CONVERSE, "cache": CONVERSE, "project_identifier": CONVERSE,
    "kms_key_arn": GENERATE,
}  # fmt: skip
# Arguments that configure the model of a target. A model object has its own.
_OF_THE_MODEL = (
    "performance_config", "inference_config", "additional_model_request_fields", "base_models", "cache",
    "project_identifier",
)  # fmt: skip
_SOURCES = ("knowledge_base_id", "external_source", "retriever")
_SEARCH = tuple(each.name for each in fields(SearchOptions) if each.name != "guardrail")
# `inference_config` of RetrieveAndGenerate → the arguments of both frameworks' chat models.
_INFERENCE = {
    "maxTokens": "max_tokens", "temperature": "temperature", "topP": "top_p", "stopSequences": "stop_sequences",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Spelling:
    """A framework's words, for error messages.

    Attributes:
        framework: ``"LangChain"`` or ``"LlamaIndex"``.
        owner: The class that takes the arguments.
        model: The framework's word for a model object, such as ``"chat model"``.
        session_store: The argument that maps a session id to a store.
    """

    framework: str
    owner: str
    model: str
    session_store: str


@dataclass(frozen=True, kw_only=True)
class RagArguments:
    """The arguments of a chain or a query engine. None stands for "not given", also for `cache`.

    Attributes:
        spelling: The framework's words.
        mode: ``"retrieve_and_generate"`` or ``"retrieve_then_converse"``.
        knowledge_base_id: Id or ARN of the knowledge base.
        external_source: The one document to answer from instead.
        retriever: The caller's retriever.
        model: A target, or the framework's model object.
        base_models: Base models of the target, so that nothing is looked up.
        cache: The cache policy, as in `policy_of`.
        project_identifier: The project that the model's calls are counted for.
        session_store: The caller's function from a session id to a store.
        search: How to search.
        generation: How to generate. Its guardrail holds for the answer, that of `search` for the search.
        is_model: Whether `model` is one of the framework's model objects.
        is_retriever: Whether `retriever` is one of the framework's retrievers.
    """

    spelling: Spelling
    mode: str = GENERATE
    knowledge_base_id: str | None = None
    external_source: str | Mapping[str, Any] | None = None
    retriever: Any = None
    model: Any = None
    base_models: Sequence[str] | None = None
    cache: Any = None
    project_identifier: str | None = None
    session_store: Any = None
    search: SearchOptions
    generation: GenerationOptions
    is_model: bool = False
    is_retriever: bool = False

    @property
    def generates(self) -> bool:
        """Whether Bedrock generates the answer."""
        return self.mode == GENERATE

    @property
    def knowledge_base(self) -> KnowledgeBaseId | None:
        """The parsed `knowledge_base_id`; None without one."""
        return None if self.knowledge_base_id is None else parse_knowledge_base_id(self.knowledge_base_id)

    def check(self) -> None:
        """Refuse arguments that contradict each other or the mode.

        Raises:
            InvalidRequestError: Some do.
            InvalidTargetError: `model` is not a valid target.
        """
        if self.mode not in (GENERATE, CONVERSE):
            raise InvalidRequestError(
                f"mode={self.mode!r} is not valid: there are {GENERATE!r} and {CONVERSE!r}. Give one of them."
            )
        if self.model is None:
            raise InvalidRequestError(f"{self.spelling.owner} needs model=. {self._model_advice()}")
        for name, mode in _MODE_OF.items():
            if mode != self.mode and self._value(name) is not None:
                raise self._not_in_this_mode(self._spelled(name), f"Leave it out, or use mode={mode!r}.")
        given = [name for name in _SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            has = f"it has {' and '.join(given)}" if given else "it has none"
            raise InvalidRequestError(f"{self.spelling.owner} needs exactly one of {', '.join(_SOURCES)}; {has}.")
        _ = self.knowledge_base
        self._check_model()
        if self.cache is not None:
            policy_of(self.cache)
        if self.session_store is not None and not callable(self.session_store):
            raise InvalidRequestError(
                f"{self.spelling.session_store}={self.session_store!r} is not valid: it is not a function. Give a "
                "function from a session id to its history."
            )
        self._check_retriever()
        if self.external_source is not None:
            (external_source if self.generates else read_source)(self.external_source)
        self.generation.check(limited=self.generates)
        self.check_search(self.search)

    def check_call(
        self, options: Mapping[str, Any], search: SearchOptions, *, takes_options: bool, has_history: bool = False
    ) -> None:
        """Refuse what one call asks for and nothing would act on.

        Args:
            options: Options of the search for this call, by the framework's names; and ``image``.
            search: How this call searches.
            takes_options: Whether the retriever is one of this package, which takes options of a call.
            has_history: Whether the call brings its own conversation.

        Raises:
            InvalidRequestError: It asks for something of that kind.
        """
        if self.generates and has_history:
            raise self._not_in_this_mode("chat_history", "Bedrock keeps the conversation: pass session_id.")
        if "guardrail_config" in options and (options["guardrail_config"] or self.generation.guardrail):
            raise InvalidRequestError(
                "guardrail_config is not valid for one call: it would guard the search and not the answer. Set it for "
                f"the whole {self.spelling.owner}."
            )
        if options.get("image") is not None and (self.generates or self.external_source is not None):
            raise self._not_in_this_mode("image", f"mode={CONVERSE!r} can search a knowledge base with one.")
        if self.retriever is not None and options and not takes_options:
            raise InvalidRequestError(
                f"{', '.join(options)}: a {type(self.retriever).__name__} has no such options of a call. Set them on "
                "the retriever."
            )
        if self.retriever is None:
            self.check_search(search)

    def check_search(self, search: SearchOptions) -> None:
        """Refuse options of the search that the mode cannot act on.

        Raises:
            InvalidRequestError: There are some.
        """
        if self.generates:
            refuse_for_generate(search, self.generation, self.external_source)
        elif self.external_source is not None:
            refuse_for_source(search, self.generation, mode=CONVERSE)

    def shared_model_arguments(self) -> dict[str, Any]:
        """Return the arguments of the model that answers and of the model that words the search."""
        performance = self.generation.performance_config
        arguments = {
            "base_models": list(self.base_models) if self.base_models else None,
            "performance_config": dict(performance) if performance else None,
            "cache": self.cache,
            "project_identifier": self.project_identifier,
        }
        return {"model": self.model, **{name: value for name, value in arguments.items() if value is not None}}

    def answer_model_arguments(self) -> dict[str, Any]:
        """Return what the model that answers takes besides; its guardrail is ``"guardrail"``, as Converse has it."""
        inference = self.generation.inference_config or {}
        arguments: dict[str, Any] = {_INFERENCE[name]: value for name, value in inference.items()}
        if self.generation.additional_model_request_fields:
            arguments["additional_model_request_fields"] = dict(self.generation.additional_model_request_fields)
        return arguments

    def converse_guardrail(self) -> dict[str, str]:
        """Return ``guardrailConfig`` of Converse for the answer; empty without a guardrail."""
        guardrail = self.generation.guardrail
        if not guardrail:
            return {}
        identifier = guardrail.get("guardrailId") or guardrail.get("guardrailIdentifier")
        return {"guardrailIdentifier": str(identifier), "guardrailVersion": str(guardrail["guardrailVersion"])}

    def _check_model(self) -> None:
        if isinstance(self.model, str):
            checked_model(self.model)
            return
        kind = type(self.model).__name__
        if self.generates:
            raise InvalidRequestError(
                f"model is not valid: with mode={GENERATE!r} Bedrock calls the model, and it is a {kind}. Give the id "
                f"or ARN of a target, or use mode={CONVERSE!r}, which takes {self.spelling.model}s."
            )
        if not self.is_model:
            raise InvalidRequestError(f"model is not valid: it is a {kind}. {self._model_advice()}")
        for name in _OF_THE_MODEL:
            if self._value(name) is not None:
                raise self._set_on_model(name)
        # The guardrail guards the search of a knowledge base, which is made here.
        if self.generation.guardrail and self.knowledge_base_id is None:
            raise self._set_on_model("guardrail_config")

    def _check_retriever(self) -> None:
        if self.retriever is None:
            return
        if not self.is_retriever:
            raise InvalidRequestError(
                f"retriever is not valid: it is a {type(self.retriever).__name__}. Give one of "
                f"{self.spelling.framework}'s retrievers."
            )
        for name in self._given_search():
            raise InvalidRequestError(
                f"{name} is not valid here: it belongs to the retriever that is given. Set it there."
            )

    def _given_search(self) -> Iterator[str]:
        return (name for name in _SEARCH if getattr(self.search, name) is not None)

    def _value(self, name: str) -> Any:
        return getattr(self if hasattr(self, name) else self.generation, name)

    def _spelled(self, name: str) -> str:
        return self.spelling.session_store if name == "session_store" else name

    def _not_in_this_mode(self, name: str, advice: str) -> InvalidRequestError:
        return InvalidRequestError(f"{name} is not valid with mode={self.mode!r}, which does not use it. {advice}")

    def _set_on_model(self, name: str) -> InvalidRequestError:
        return InvalidRequestError(
            f"{name} is not valid here: it belongs to the {self.spelling.model} that is given as model. Set it there."
        )

    def _model_advice(self) -> str:
        return f"Give the id or ARN of a target, or one of {self.spelling.framework}'s {self.spelling.model}s."
