"""Requests of RetrieveAndGenerate, checked before anything is sent.

Shapes and limits: botocore's bedrock-agent-runtime (1.43).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.targets import Target, TargetKind, parse_target

from .passages import external_source
from .retrieval import MANAGED, SearchOptions, guardrail_configuration, retrieval_configuration, user_context

if TYPE_CHECKING:
    from .retrieval import KnowledgeBaseId


# --- Prompt templates with Bedrock's placeholders ---

LONGEST_TEMPLATE = 4_000
"""Characters of a template that is sent to RetrieveAndGenerate."""
SEARCH_RESULTS, FORMAT, HISTORY = "search_results", "output_format_instructions", "conversation_history"
QUERY, TIME = "query", "current_time"
_GENERATION = {SEARCH_RESULTS: True, FORMAT: False, QUERY: False, TIME: False}
_ORCHESTRATION = {HISTORY: True, FORMAT: True, QUERY: False, TIME: False}
_SENTENCE_END = re.compile(r"\n|[.!?$]\s")
_PLACEHOLDER = re.compile(r"\$([a-z]+(?:_[a-z]+)*)\$")


def check_generation_template(template: str, *, name: str = "prompt_template", limited: bool = True) -> None:
    """Raise for a template of the answer that Bedrock would refuse.

    Args:
        template: The template. It needs ``$search_results$``; without ``$output_format_instructions$`` there are no
            citations.
        name: Name of the argument, for the message.
        limited: Whether Bedrock's limit of 4,000 characters holds.

    Raises:
        InvalidRequestError: The template lacks a placeholder, has an unknown one, or is too long.
    """
    _check(template, _GENERATION, name, limited=limited)


def check_orchestration_template(
    template: str, *, name: str = "orchestration_prompt_template", limited: bool = True
) -> None:
    """Raise for a template of the search's wording that Bedrock would refuse.

    Args:
        template: The template. It needs ``$conversation_history$`` and ``$output_format_instructions$``.
        name: Name of the argument, for the message.
        limited: Whether Bedrock's limit of 4,000 characters holds.

    Raises:
        InvalidRequestError: The template lacks a placeholder, has an unknown one, or is too long.
    """
    _check(template, _ORCHESTRATION, name, limited=limited)


def fill(template: str, values: Mapping[str, str]) -> str:
    """Return a template with its placeholders replaced, once: a placeholder inside a value stays.

    Args:
        template: The template.
        values: Placeholder → text. Other placeholders stay.
    """
    return _PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), template)


def split_at(template: str, placeholders: tuple[str, ...]) -> tuple[str, str]:
    """Split a template before the sentence that has the first of some placeholders.

    Args:
        template: The template.
        placeholders: Their names, without dollars.

    Returns:
        The text before the sentence, and the rest.
    """
    starts = [found.start() for found in _PLACEHOLDER.finditer(template) if found[1] in placeholders]
    first = min(starts, default=len(template))
    at = max((found.end() for found in _SENTENCE_END.finditer(template, 0, first)), default=0) if starts else first
    return template[:at], template[at:]


def has(template: str, placeholder: str) -> bool:
    """Return whether a template has a placeholder.

    Args:
        template: The template.
        placeholder: Its name, without dollars.
    """
    return f"${placeholder}$" in template


def _check(template: str, known: Mapping[str, bool], name: str, *, limited: bool) -> None:
    if not isinstance(template, str) or not template.strip():
        raise InvalidRequestError(f"{name}={template!r} is not valid. Give a text with placeholders.")
    if limited and len(template) > LONGEST_TEMPLATE:
        raise InvalidRequestError(
            f"{name} has {len(template):,} characters; RetrieveAndGenerate takes {LONGEST_TEMPLATE:,}. "
            "mode='retrieve_then_converse' takes more."
        )
    for placeholder in _PLACEHOLDER.findall(template):
        if placeholder not in known:
            near = difflib.get_close_matches(placeholder, known, n=1)
            listed = ", ".join(f"${one}$" for one in known)
            advice = f"did you mean ${near[0]}$?" if near else f"it takes {listed}."
            raise InvalidRequestError(f"{name} has the unknown placeholder ${placeholder}$: {advice}")
    missing = [placeholder for placeholder, needed in known.items() if needed and not has(template, placeholder)]
    if missing:
        raise InvalidRequestError(
            f"{name} lacks {' and '.join(f'${one}$' for one in missing)}, which Bedrock needs there."
        )


GENERATE, CONVERSE = "retrieve_and_generate", "retrieve_then_converse"
"""The modes: Bedrock retrieves and generates, or this package retrieves and a model answers through Converse."""
LONGEST_INPUT = 1_000
"""Characters of a question to RetrieveAndGenerate."""
_LATENCIES = ("standard", "optimized")
_INFERENCE = ("maxTokens", "temperature", "topP", "stopSequences")
_SNAKE = {"max_tokens": "maxTokens", "top_p": "topP", "stop_sequences": "stopSequences", "stop": "stopSequences"}
_KMS_KEY = re.compile(r"arn:aws(?:-cn|-us-gov)?:kms:[a-zA-Z0-9-]*:[0-9]{12}:key/[a-zA-Z0-9-]{36}")
_SESSION = re.compile(r"[0-9a-zA-Z._:-]{2,100}")
_MOST_STOPS, _LONGEST_STOP = 4, 1_000
_MOST_TOKENS = 65_536


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """How to generate an answer. Options that are None are not sent, and Bedrock's default holds.

    Attributes:
        performance_config: ``{"latency": "optimized"}``, for the answer and for wording the search.
        inference_config: ``{"maxTokens", "temperature", "topP", "stopSequences"}`` of the answer.
        prompt_template: Prompt for the answer, with Bedrock's placeholders.
        orchestration_prompt_template: Prompt for wording the search.
        query_decomposition: Whether a question may be split into several.
        guardrail: ``{"guardrailId": …, "guardrailVersion": …}``.
        kms_key_arn: ARN of the key that Bedrock encrypts a new session with.
        additional_model_request_fields: Model-specific fields, for the answer.
    """

    performance_config: Mapping[str, Any] | None = None
    inference_config: Mapping[str, Any] | None = None
    prompt_template: str | None = None
    orchestration_prompt_template: str | None = None
    query_decomposition: bool = False
    guardrail: Mapping[str, Any] | None = None
    kms_key_arn: str | None = None
    additional_model_request_fields: Mapping[str, Any] | None = None

    def check(self, *, limited: bool) -> None:
        """Raise for options that Bedrock would refuse.

        Args:
            limited: Whether RetrieveAndGenerate's limits hold.

        Raises:
            InvalidRequestError: Bedrock would refuse an option.
        """
        _performance(self.performance_config)
        _inference(self.inference_config, limited=limited)
        guardrail_configuration(self.guardrail)
        _kms_key(self.kms_key_arn)
        _model_fields(self.additional_model_request_fields)
        if self.prompt_template is not None:
            check_generation_template(self.prompt_template, limited=limited)
        if self.orchestration_prompt_template is not None:
            check_orchestration_template(self.orchestration_prompt_template, limited=limited)


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question to RetrieveAndGenerate, and where to find the answer.

    Attributes:
        text: The question, at most 1,000 characters.
        knowledge_base: The knowledge base to search; None with a `source`.
        source: The one document to answer from: ``s3://bucket/key``, or ``{"data": bytes, "contentType":
            "application/pdf", "identifier": "report.pdf"}``.
        session_id: The session to continue.
    """

    text: str
    knowledge_base: KnowledgeBaseId | None = None
    source: str | Mapping[str, Any] | None = None
    session_id: str | None = None

    @property
    def only_source(self) -> str | None:
        """The URI or identifier of the `source`; None for a knowledge base."""
        source = self.source
        return str(source["identifier"]) if isinstance(source, Mapping) else source


def generate_request(
    question: Question, model: Target, search: SearchOptions, options: GenerationOptions, *, region: str
) -> dict[str, Any]:
    """Return a request of RetrieveAndGenerate or RetrieveAndGenerateStream.

    Args:
        question: The question, and the knowledge base or document.
        model: The target that answers.
        search: How to search.
        options: How to generate.
        region: Region of a reranking model that is named by its id.

    Raises:
        InvalidRequestError: Bedrock would refuse it.
    """
    _check_question(question.text)
    refuse_for_generate(search, options, question.source)
    _refuse_prompt(model)
    request: dict[str, Any] = {"input": {"text": question.text}}
    if question.source is None:
        request["retrieveAndGenerateConfiguration"] = _from_knowledge_base(question, model, search, options, region)
    else:
        request["retrieveAndGenerateConfiguration"] = _from_source(question.source, model, options)
    if question.session_id is not None:
        request["sessionId"] = checked_session_id(question.session_id)
    if options.kms_key_arn is not None:
        request["sessionConfiguration"] = {"kmsKeyArn": _kms_key(options.kms_key_arn)}
    user = user_context(search.user_context)
    return {**request, "userContext": user} if user else request


def checked_model(model: str) -> str:
    """Return the id of a target that can answer from passages.

    Raises:
        InvalidTargetError: It is not a valid target.
        InvalidRequestError: It is a managed prompt, which brings its own text.
    """
    target = parse_target(model)
    _refuse_prompt(target)
    return target.model_id


def _refuse_prompt(model: Target) -> None:
    if model.kind is TargetKind.PROMPT:
        raise InvalidRequestError(
            f"model={str(model)!r} is not valid: a managed prompt cannot answer from passages. Name a model or a "
            "router, and give the prompt's text as prompt_template."
        )


def checked_session_id(session_id: str) -> str:
    """Return a session id that Bedrock takes.

    Raises:
        InvalidRequestError: Bedrock would refuse it.
    """
    if not isinstance(session_id, str) or not _SESSION.fullmatch(session_id):
        raise InvalidRequestError(
            f"session_id={session_id!r} is not valid: Bedrock's have 2 to 100 letters, digits and . _ : -. Give the "
            "session_id of the answer before, or leave it out to begin a session."
        )
    return session_id


def checked_question(text: Any) -> str:
    """Return the text of a question.

    Raises:
        InvalidRequestError: It is not a text, or empty.
    """
    if not isinstance(text, str) or not text.strip():
        raise InvalidRequestError(f"the question is empty or not a text: {text!r}. Give the text to answer.")
    return text


def _check_question(text: str) -> None:
    checked_question(text)
    if len(text) > LONGEST_INPUT:
        raise InvalidRequestError(
            f"the question has {len(text):,} characters; RetrieveAndGenerate takes {LONGEST_INPUT:,}. "
            "mode='retrieve_then_converse' takes more."
        )


def _from_knowledge_base(
    question: Question, model: Target, search: SearchOptions, options: GenerationOptions, region: str
) -> dict[str, Any]:
    knowledge_base = question.knowledge_base
    if knowledge_base is None:
        raise InvalidRequestError("knowledge_base_id is missing. Give it, or an external source.")
    configuration: dict[str, Any] = {"knowledgeBaseId": knowledge_base.id, "modelArn": model.model_id}
    optional = {
        "retrievalConfiguration": retrieval_configuration(search, managed=False, region=region),
        "generationConfiguration": _generation(options),
        "orchestrationConfiguration": _orchestration(options),
    }
    configuration |= {name: value for name, value in optional.items() if value}
    return {"type": "KNOWLEDGE_BASE", "knowledgeBaseConfiguration": configuration}


def _from_source(source: str | Mapping[str, Any], model: Target, options: GenerationOptions) -> dict[str, Any]:
    configuration: dict[str, Any] = {"modelArn": model.model_id, "sources": [external_source(source)]}
    generation = _generation(options)
    configuration |= {"generationConfiguration": generation} if generation else {}
    return {"type": "EXTERNAL_SOURCES", "externalSourcesConfiguration": configuration}


def _generation(options: GenerationOptions) -> dict[str, Any]:
    if options.prompt_template is not None:
        check_generation_template(options.prompt_template)
    members = {
        "performanceConfig": _performance(options.performance_config),
        "inferenceConfig": _inference(options.inference_config),
        "guardrailConfiguration": guardrail_configuration(options.guardrail),
        "promptTemplate": {"textPromptTemplate": options.prompt_template} if options.prompt_template else None,
        "additionalModelRequestFields": _model_fields(options.additional_model_request_fields),
    }
    return {name: value for name, value in members.items() if value}


def _orchestration(options: GenerationOptions) -> dict[str, Any]:
    template = options.orchestration_prompt_template
    if template is not None:
        check_orchestration_template(template)
    members = {
        # The user waits for both: orchestration with standard latency would use up what generation saves.
        "performanceConfig": _performance(options.performance_config),
        "promptTemplate": {"textPromptTemplate": template} if template else None,
        "queryTransformationConfiguration": {"type": "QUERY_DECOMPOSITION"} if options.query_decomposition else None,
    }
    return {name: value for name, value in members.items() if value}


def _kms_key(arn: str | None) -> str | None:
    if arn is not None and (not isinstance(arn, str) or not _KMS_KEY.fullmatch(arn)):
        raise InvalidRequestError(f"kms_key_arn={arn!r} is not valid. Give the ARN of a key, arn:aws:kms:…:key/…")
    return arn


def _model_fields(model_fields: Mapping[str, Any] | None) -> dict[str, Any]:
    if model_fields is not None and not isinstance(model_fields, Mapping):
        raise InvalidRequestError(f"additional_model_request_fields={model_fields!r} is not valid. Give a dictionary.")
    return dict(model_fields or {})


def _performance(config: Mapping[str, Any] | None) -> dict[str, Any]:
    if config is None:
        return {}
    if not isinstance(config, Mapping) or set(config) != {"latency"} or config["latency"] not in _LATENCIES:
        raise InvalidRequestError(
            f"performance_config={config!r} is not valid. Give {{'latency': 'standard'}} or {{'latency': 'optimized'}}."
        )
    return dict(config)


def _inference(config: Mapping[str, Any] | None, *, limited: bool = True) -> dict[str, Any]:
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        raise InvalidRequestError(f"inference_config must be a dictionary, and is a {type(config).__name__}.")
    for name in config:
        if name not in _INFERENCE:
            advice = f"did you mean {_SNAKE[name]!r}?" if name in _SNAKE else f"it takes {', '.join(_INFERENCE)}."
            raise InvalidRequestError(f"inference_config has no {name!r}: {advice}")
    for name in ("temperature", "topP"):
        value = config.get(name)
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1
        ):
            raise InvalidRequestError(f"inference_config: {name}={value!r} is not valid. Give a number from 0 to 1.")
    most = config.get("maxTokens")
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
        raise InvalidRequestError(f"inference_config: maxTokens={most!r} is not valid. Give a whole number above 0.")
    if limited and most is not None and most > _MOST_TOKENS:
        raise InvalidRequestError(
            f"inference_config: maxTokens is {most:,}. RetrieveAndGenerate takes at most {_MOST_TOKENS:,}."
        )
    stops = config.get("stopSequences")
    _check_stops(stops, limited=limited)
    members = {name: value for name, value in config.items() if value is not None}
    return {"textInferenceConfig": {**members, **({"stopSequences": list(stops)} if stops else {})}} if members else {}


def _check_stops(stops: Any, *, limited: bool) -> None:
    if stops is None:
        return
    if isinstance(stops, (str, bytes)) or not isinstance(stops, Sequence):
        raise InvalidRequestError(f"inference_config: stopSequences={stops!r} is not valid. Give a list of strings.")
    if limited and len(stops) > _MOST_STOPS:
        raise InvalidRequestError(
            f"inference_config: stopSequences={stops!r} is not valid. Give a list of at most {_MOST_STOPS}."
        )
    for stop in stops:
        if not isinstance(stop, str) or not 1 <= len(stop) <= _LONGEST_STOP:
            raise InvalidRequestError(
                f"inference_config: {stop!r} among stopSequences is not valid. Give 1 to {_LONGEST_STOP:,} characters."
            )


def refuse_for_generate(search: SearchOptions, options: GenerationOptions, source: Any) -> None:
    """Raise for options that RetrieveAndGenerate cannot act on.

    Args:
        search: How to search.
        options: How to generate.
        source: The external source; None for a knowledge base.

    Raises:
        InvalidRequestError: There are some.
    """
    if search.knowledge_base_type == MANAGED:
        raise InvalidRequestError(
            f"knowledge_base_type={MANAGED!r} is not valid: RetrieveAndGenerate cannot use a managed knowledge base. "
            f"Use mode={CONVERSE!r}."
        )
    if search.score_threshold is not None:
        raise InvalidRequestError(
            f"score_threshold is not valid: RetrieveAndGenerate reports no scores. Use mode={CONVERSE!r}."
        )
    if source is not None:
        refuse_for_source(search, options, mode=GENERATE)


def refuse_for_source(search: SearchOptions, options: GenerationOptions, *, mode: str) -> None:
    """Raise for options of the search if there is an external source, which is not searched.

    Args:
        search: How to search.
        options: How to generate.
        mode: With ``"retrieve_and_generate"`` a `user_context` is valid all the same; Converse has no such member.

    Raises:
        InvalidRequestError: There are some.
    """
    searched: tuple[str, ...] = (
        "k", "search_type", "filter", "implicit_filter", "reranking", "score_threshold", "knowledge_base_type",
        "retrieval_config",
    )  # fmt: skip
    if mode != GENERATE:
        searched = (*searched, "user_context")
    given = [name for name in searched if getattr(search, name) is not None]
    given += [name for name in ("query_decomposition", "orchestration_prompt_template") if getattr(options, name)]
    for name in given:
        raise InvalidRequestError(f"{name} is not valid with an external source, which is not searched. Leave it out.")
