"""RetrieveAndGenerate: its request, checked before anything is sent, and its answer, whole or as a stream.

Shapes and limits: botocore's bedrock-agent-runtime (1.43).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.targets import Target, TargetKind

from .citations import Citation, SpanFinder
from .passages import Passage, read_passage
from .search import MANAGED, SearchOptions, guardrail_configuration, retrieval_configuration, user_context
from .templates import check_generation_template, check_orchestration_template

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .ids import KnowledgeBaseId

LONGEST_INPUT = 1_000
"""Characters of a question to RetrieveAndGenerate."""
LARGEST_SOURCE = 10_485_760
"""Bytes of an external source."""
_LATENCIES = ("standard", "optimized")
_INFERENCE = ("maxTokens", "temperature", "topP", "stopSequences")
_SNAKE = {"max_tokens": "maxTokens", "top_p": "topP", "stop_sequences": "stopSequences", "stop": "stopSequences"}
_S3 = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/.{1,1024}", re.DOTALL)
_SESSION = re.compile(r"[0-9a-zA-Z._:-]{2,100}")
_MOST_STOPS = 4


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """How to generate an answer. What is None is not sent, and Bedrock's default holds.

    Attributes:
        performance_config: ``{"latency": "optimized"}``, for the answer and for what precedes it.
        inference_config: ``{"maxTokens", "temperature", "topP", "stopSequences"}`` of the answer.
        prompt_template: Of the answer, with Bedrock's placeholders.
        orchestration_prompt_template: Of what words the search.
        query_decomposition: Whether a question may be split into several.
        guardrail: ``{"guardrailId": …, "guardrailVersion": …}``.
        kms_key_arn: The key that a new session is encrypted with.
        additional_model_request_fields: What else the model itself takes, for the answer.
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
        """Refuse now what no call could send.

        Args:
            limited: Whether RetrieveAndGenerate's limits hold.

        Raises:
            InvalidRequestError: An option that Bedrock would refuse.
        """
        _performance(self.performance_config)
        _inference(self.inference_config)
        guardrail_configuration(self.guardrail)
        if self.prompt_template is not None:
            check_generation_template(self.prompt_template, limited=limited)
        if self.orchestration_prompt_template is not None:
            check_orchestration_template(self.orchestration_prompt_template, limited=limited)


@dataclass(frozen=True, kw_only=True)
class Question:
    """One call of RetrieveAndGenerate, but for how it searches and generates.

    Attributes:
        text: What is asked, at most 1,000 characters.
        knowledge_base: Where to look; or
        source: the one document to look in: ``s3://bucket/key``, or ``{"data": bytes, "contentType": "application/pdf",
            "identifier": "report.pdf"}``.
        session_id: The conversation to go on with.
    """

    text: str
    knowledge_base: KnowledgeBaseId | None = None
    source: str | Mapping[str, Any] | None = None
    session_id: str | None = None


def generate_request(
    question: Question, model: Target, search: SearchOptions, options: GenerationOptions, *, region: str
) -> dict[str, Any]:
    """A request of RetrieveAndGenerate or RetrieveAndGenerateStream.

    Raises:
        InvalidRequestError: Bedrock would refuse it.
    """
    _check_question(question.text)
    if model.kind is TargetKind.PROMPT:
        raise InvalidRequestError(
            f"RetrieveAndGenerate takes no managed prompt as its model, and {model} is one: name a model or a router, "
            "and give the prompt as prompt_template"
        )
    request: dict[str, Any] = {"input": {"text": question.text}}
    if question.source is None:
        request["retrieveAndGenerateConfiguration"] = _from_knowledge_base(question, model, search, options, region)
    else:
        request["retrieveAndGenerateConfiguration"] = _from_source(question.source, model, options)
    if question.session_id is not None:
        request["sessionId"] = checked_session_id(question.session_id)
    if options.kms_key_arn is not None:
        request["sessionConfiguration"] = {"kmsKeyArn": options.kms_key_arn}
    user = user_context(search.user_context)
    return {**request, "userContext": user} if user else request


def checked_session_id(session_id: str) -> str:
    """A session's id as Bedrock takes it.

    Raises:
        InvalidRequestError: It can be none.
    """
    if not isinstance(session_id, str) or not _SESSION.fullmatch(session_id):
        raise InvalidRequestError(
            f"session_id={session_id!r} is no session of Bedrock: give the 'session_id' of the answer before, or leave "
            "it out to begin one"
        )
    return session_id


def _check_question(text: str) -> None:
    if not isinstance(text, str) or not text.strip():
        raise InvalidRequestError(f"the question must be a text that is not empty, and is {text!r}")
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
        raise InvalidRequestError("knowledge_base_id= or an external source is needed")
    if search.knowledge_base_type == MANAGED:
        raise InvalidRequestError(
            f"RetrieveAndGenerate cannot use a managed knowledge base, and {knowledge_base} is one: "
            "mode='retrieve_then_converse' can"
        )
    found: dict[str, Any] = {"knowledgeBaseId": knowledge_base.id, "modelArn": model.model_id}
    optional = {
        "retrievalConfiguration": retrieval_configuration(search, managed=False, region=region),
        "generationConfiguration": _generation(options),
        "orchestrationConfiguration": _orchestration(options),
    }
    found |= {name: value for name, value in optional.items() if value}
    return {"type": "KNOWLEDGE_BASE", "knowledgeBaseConfiguration": found}


def _from_source(source: str | Mapping[str, Any], model: Target, options: GenerationOptions) -> dict[str, Any]:
    found: dict[str, Any] = {"modelArn": model.model_id, "sources": [external_source(source)]}
    generation = _generation(options)
    found |= {"generationConfiguration": generation} if generation else {}
    return {"type": "EXTERNAL_SOURCES", "externalSourcesConfiguration": found}


def external_source(source: str | Mapping[str, Any]) -> dict[str, Any]:
    """An external source as Bedrock takes it.

    Raises:
        InvalidRequestError: It is neither an S3 URI nor a document with its type and name.
    """
    if isinstance(source, str):
        if not _S3.fullmatch(source):
            raise InvalidRequestError(f"the external source {source!r} must have the form s3://bucket/key")
        return {"sourceType": "S3", "s3Location": {"uri": source}}
    if not isinstance(source, Mapping) or set(source) != {"data", "contentType", "identifier"}:
        raise InvalidRequestError(
            "an external source is 's3://bucket/key', or {'data': bytes, 'contentType': 'application/pdf', "
            "'identifier': 'report.pdf'}"
        )
    data = source["data"]
    if not isinstance(data, (bytes, bytearray)) or not 1 <= len(data) <= LARGEST_SOURCE:
        size = f"has {len(data):,}" if isinstance(data, (bytes, bytearray)) else f"is a {type(data).__name__}"
        raise InvalidRequestError(f"the data of an external source are 1 to {LARGEST_SOURCE:,} bytes, and it {size}")
    return {"sourceType": "BYTE_CONTENT", "byteContent": dict(source)}


def _generation(options: GenerationOptions) -> dict[str, Any]:
    if options.prompt_template is not None:
        check_generation_template(options.prompt_template)
    found = {
        "performanceConfig": _performance(options.performance_config),
        "inferenceConfig": _inference(options.inference_config),
        "guardrailConfiguration": guardrail_configuration(options.guardrail),
        "promptTemplate": {"textPromptTemplate": options.prompt_template} if options.prompt_template else None,
        "additionalModelRequestFields": dict(options.additional_model_request_fields or {}),
    }
    return {name: value for name, value in found.items() if value}


def _orchestration(options: GenerationOptions) -> dict[str, Any]:
    template = options.orchestration_prompt_template
    if template is not None:
        check_orchestration_template(template)
    found = {
        # The user's wait is for both: orchestration with standard latency would eat what generation saves.
        "performanceConfig": _performance(options.performance_config),
        "promptTemplate": {"textPromptTemplate": template} if template else None,
        "queryTransformationConfiguration": {"type": "QUERY_DECOMPOSITION"} if options.query_decomposition else None,
    }
    return {name: value for name, value in found.items() if value}


def _performance(given: Mapping[str, Any] | None) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping) or set(given) != {"latency"} or given["latency"] not in _LATENCIES:
        raise InvalidRequestError(
            f"performance_config must be {{'latency': 'standard'}} or {{'latency': 'optimized'}}, and is {given!r}"
        )
    return dict(given)


def _inference(given: Mapping[str, Any] | None) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise InvalidRequestError(f"inference_config must be a dictionary, and is a {type(given).__name__}")
    for name in given:
        if name not in _INFERENCE:
            advice = f"did you mean {_SNAKE[name]!r}" if name in _SNAKE else f"it takes {', '.join(_INFERENCE)}"
            raise InvalidRequestError(f"inference_config has no {name!r}: {advice}")
    for name in ("temperature", "topP"):
        value = given.get(name)
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1
        ):
            raise InvalidRequestError(f"inference_config: {name} is a number from 0 to 1, not {value!r}")
    most = given.get("maxTokens")
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
        raise InvalidRequestError(f"inference_config: maxTokens is a whole number above 0, not {most!r}")
    stops = given.get("stopSequences")
    if stops is not None and (isinstance(stops, str) or len(stops) > _MOST_STOPS):
        raise InvalidRequestError(f"inference_config: stopSequences is a list of at most {_MOST_STOPS}, not {stops!r}")
    found = {name: value for name, value in given.items() if value is not None}
    return {"textInferenceConfig": {**found, **({"stopSequences": list(stops)} if stops else {})}} if found else {}


@dataclass(frozen=True)
class Part:
    """What has newly arrived of an answer: text, passages that are new, citations of text and passages so far."""

    text: str = ""
    passages: tuple[Passage, ...] = ()
    citations: tuple[Citation, ...] = ()
    guardrail_action: str | None = None


@dataclass
class AnswerReader:
    """Puts an answer of RetrieveAndGenerate together, from its stream's events or from a whole response.

    Attributes:
        passages: Those that were referred to so far, each once.
        citations: Those found so far.
        guardrail_action: ``"INTERVENED"`` or ``"NONE"`` as the service said; None where it said nothing.
    """

    passages: list[Passage] = field(default_factory=list)
    citations: list[Citation] = field(default_factory=list)
    guardrail_action: str | None = None
    _spans: SpanFinder = field(default_factory=SpanFinder)
    _places: dict[tuple[Any, ...], int] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The answer so far."""
        return self._spans.text

    def read_event(self, event: Mapping[str, Any]) -> Part:
        """What is new with an event of the stream."""
        if "output" in event:
            return self._part(text=event["output"].get("text") or "")
        if "citation" in event:
            claim = event["citation"]
            # The event has it twice; the inner one is deprecated, and alone in what older services send.
            return self._part(claims=[claim if "generatedResponsePart" in claim else claim.get("citation") or {}])
        if "guardrail" in event:
            return self._part(action=event["guardrail"].get("action"))
        return Part()

    def finish(self) -> Part:
        """What can only be told when the stream has ended."""
        return self._part(finished=True)

    def read_response(self, response: Mapping[str, Any]) -> Part:
        """A whole answer."""
        text = (response.get("output") or {}).get("text") or ""
        return self._part(
            text=text, claims=response.get("citations") or (), action=response.get("guardrailAction"), finished=True
        )

    def _part(
        self,
        text: str = "",
        claims: Iterable[Mapping[str, Any]] = (),
        action: str | None = None,
        *,
        finished: bool = False,
    ) -> Part:
        known = len(self.passages)
        self._spans.add_text(text)
        for claim in claims:
            passages = self._referred(claim.get("retrievedReferences") or ())
            if passages:  # a part that rests on nothing is no citation
                part = claim.get("generatedResponsePart")
                self._spans.add_span(part.get("textResponsePart") if isinstance(part, dict) else None, passages)
        citations = tuple(self._cited(finished=finished))
        self.citations += citations
        if action is not None:
            self.guardrail_action = action
        return Part(text, tuple(self.passages[known:]), citations, action)

    def _referred(self, references: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
        found = []
        for passage in map(read_passage, references):
            if passage.key not in self._places:
                self._places[passage.key] = len(self.passages)
                self.passages.append(passage)
            found.append(self._places[passage.key])
        return tuple(dict.fromkeys(found))

    def _cited(self, *, finished: bool) -> Iterator[Citation]:
        for start, end, passages in self._spans.found(finished=finished):
            yield cite(self.text, start, end, passages, self.passages)


def cite(text: str, start: int, end: int, numbers: Sequence[int], passages: Sequence[Passage]) -> Citation:
    """A citation of `passages` by their `numbers`."""
    sources = dict.fromkeys(source for number in numbers if (source := passages[number].source))
    return Citation(start, end, text[start:end], tuple(numbers), tuple(sources))
