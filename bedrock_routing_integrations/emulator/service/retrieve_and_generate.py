"""RetrieveAndGenerate and RetrieveAndGenerateStream: from a question to an answer out of documents.

The model is played by a program that quotes the sentences of the passages which fit the question best. As with the
service, the answer tells neither which model gave it nor what it cost.
"""

from __future__ import annotations

import re
import uuid
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.emulator.canned_models.answers import standalone, statements
from bedrock_routing_integrations.emulator.canned_models.tokens import limited, text_tokens
from bedrock_routing_integrations.emulator.wire.service_model import ServiceError, validation

from .converse import check_latency, simulated_latency
from .documents import read_source
from .retrieve import RETRIEVAL_MS, parts_of, read_search, reference, refuse_blank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from .converse import Runtime
    from .documents import Chunk
    from .knowledge_bases import KnowledgeBases
    from .retrieve import Retriever
    from .targets import Backend, Place


# --- What RetrieveAndGenerate answers ---

SORRY = "Sorry, I am unable to assist you with this request."
"""What the service says where nothing that it retrieved answers, and where a guardrail intervenes."""

_WORDS_PER_EVENT = 3
_PIECE = re.compile(rf"\s*(?:\S+\s*){{1,{_WORDS_PER_EVENT}}}|\s+")


@dataclass(frozen=True, kw_only=True)
class Part:
    """A sentence of the answer.

    Attributes:
        text: The sentence.
        chunks: What it was found in.
    """

    text: str
    chunks: tuple[Chunk, ...] = ()


def limited_parts(parts: Sequence[Part], inference: Mapping[str, Any]) -> tuple[str, list[Part]]:
    """The answer's text as a `textInferenceConfig` limits it, and what is left of its sentences."""
    whole = " ".join(part.text for part in parts)
    blocks, _ = limited(
        [{"text": whole}],
        "end_turn",
        stops=inference.get("stopSequences", ()),
        most_tokens=inference.get("maxTokens"),
    )
    text = str(blocks[0]["text"]) if blocks else ""
    left: list[Part] = []
    start = 0
    for part in parts:
        rest = text[start : start + len(part.text)]
        if rest:
            left.append(Part(text=rest, chunks=part.chunks))
        start += len(part.text) + 1
    return text, left


@dataclass(frozen=True, kw_only=True)
class Generated:
    """An answer of RetrieveAndGenerate or RetrieveAndGenerateStream.

    Attributes:
        text: The whole text.
        parts: Its sentences, one space between them.
        cited: Whether there are citations, which a prompt template decides.
        guardrail_action: What the guardrail did; None without one.
        session_id: The session that it belongs to.
        model_id: The base model that answered, which the service does not tell.
        difficulty: The router's estimate; None without a router.
        served_latency: "standard" or "optimized".
        first_token_ms: Simulated milliseconds until the first token.
        latency_ms: Simulated milliseconds until the last.
    """

    text: str
    parts: Sequence[Part]
    cited: bool
    guardrail_action: str | None
    session_id: str
    model_id: str
    difficulty: float | None
    served_latency: str
    first_token_ms: float
    latency_ms: float

    @property
    def head(self) -> Mapping[str, Any]:
        """The members that travel in headers where the answer is streamed."""
        return {"sessionId": self.session_id}

    def answer(self) -> dict[str, Any]:
        """RetrieveAndGenerate's answer. The end of a span is inclusive."""
        return {
            "sessionId": self.session_id,
            "output": {"text": self.text},
            "citations": [_citation(part, start, end - 1) for part, start, end in self._placed()] if self.cited else [],
            "guardrailAction": self.guardrail_action,
        }

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """RetrieveAndGenerateStream's events, of which none is the last by its kind.

        A citation comes behind its sentence, holds everything twice, and its span counts a line break at the end
        that the text lacks.
        """
        if self.guardrail_action is not None:
            yield "guardrail", {"action": self.guardrail_action}
        done = 0
        for part, start, end in self._placed():
            yield from self._output(done, end)
            done = end
            if self.cited:
                citation = _citation(part, start, end)
                yield "citation", {"citation": citation, **citation}
        yield from self._output(done, len(self.text))

    def _output(self, start: int, end: int) -> Iterator[tuple[str, dict[str, Any]]]:
        for piece in _PIECE.findall(self.text[start:end]):
            yield "output", {"text": piece}

    def _placed(self) -> Iterator[tuple[Part, int, int]]:
        """The sentences with where they start and end, in code points, half-open."""
        start = 0
        for part in self.parts:
            yield part, start, start + len(part.text)
            start += len(part.text) + 1


def _citation(part: Part, start: int, last: int) -> dict[str, Any]:
    return {
        "generatedResponsePart": {"textResponsePart": {"text": part.text, "span": {"start": start, "end": last}}},
        "retrievedReferences": [reference(chunk) for chunk in part.chunks],
    }


_THOROUGH_SIZE = 0.55
_TEMPLATE_TOKENS = 400  # of the service's own instructions, by guess
_KNOWLEDGE_BASE = "knowledgeBaseConfiguration"
_EXTERNAL = "externalSourcesConfiguration"
_MEMBERS = {"KNOWLEDGE_BASE": _KNOWLEDGE_BASE, "EXTERNAL_SOURCES": _EXTERNAL}
_RESULTS = "$search_results$"
_CITING = "$output_format_instructions$"
_HISTORY = "$conversation_history$"
_INTERVENED = "INTERVENED"


@dataclass(frozen=True, kw_only=True)
class _Task:
    """What a request wants.

    Attributes:
        question: Its input.
        settings: Its knowledgeBaseConfiguration or externalSourcesConfiguration.
        user: The id in its userContext.
        external: Whether it brings a document of its own.
    """

    question: str
    settings: Mapping[str, Any]
    user: str | None
    external: bool

    @property
    def generation(self) -> Mapping[str, Any]:
        """The generationConfiguration."""
        found: Mapping[str, Any] = self.settings.get("generationConfiguration", {})
        return found

    @property
    def orchestration(self) -> Mapping[str, Any]:
        """The orchestrationConfiguration."""
        found: Mapping[str, Any] = self.settings.get("orchestrationConfiguration", {})
        return found

    @property
    def cites(self) -> bool:
        """Whether the answer has citations: it has none where a template does not ask for the format."""
        template = _template(self.generation)
        return template is None or _CITING in template


def _template(configuration: Mapping[str, Any]) -> str | None:
    text: str | None = configuration.get("promptTemplate", {}).get("textPromptTemplate")
    return text


def _read_task(request: Mapping[str, Any]) -> _Task:
    """What a request wants.

    Raises:
        ServiceError: ValidationException for what is missing, or stands where it does not belong.
    """
    refuse_blank(request["input"]["text"])
    configuration = request.get("retrieveAndGenerateConfiguration")
    if configuration is None:
        raise validation("retrieveAndGenerateConfiguration must be given.")
    member = _MEMBERS[configuration["type"]]
    if member not in configuration or len(configuration) != 2:  # beside the type
        raise validation(f"A configuration of type {configuration['type']} must have {member}, and no other.")
    task = _Task(
        question=request["input"]["text"],
        settings=configuration[member],
        user=request.get("userContext", {}).get("userId"),
        external=member == _EXTERNAL,
    )
    _check_template("generation", _template(task.generation), (_RESULTS,))
    _check_template("orchestration", _template(task.orchestration), (_HISTORY, _CITING))
    return task


def _check_template(kind: str, template: str | None, needed: Iterable[str]) -> None:
    missing = [name for name in needed if template is not None and name not in template]
    if missing:
        raise validation(f"The {kind} prompt template is missing the required placeholder {' and '.join(missing)}.")


class Generation:
    """Answers RetrieveAndGenerate and RetrieveAndGenerateStream.

    Args:
        bases: The knowledge bases and guardrails.
        retriever: Finds passages.
        runtime: Finds the model, and what latency it serves.
        sessions: The conversations.
    """

    def __init__(self, bases: KnowledgeBases, retriever: Retriever, runtime: Runtime, sessions: Sessions) -> None:
        self._bases = bases
        self._retriever = retriever
        self._runtime = runtime
        self._sessions = sessions

    def generate(self, request: Mapping[str, Any], place: Place, *, streaming: bool) -> Generated:
        """Answer a request.

        Raises:
            ServiceError: As the service refuses it.
        """
        task = _read_task(request)
        key = request.get("sessionConfiguration", {}).get("kmsKeyArn")
        session = self._sessions.open(request.get("sessionId"), key)
        understood = _understood(task, session)
        decomposed = "queryTransformationConfiguration" in task.orchestration
        questions = parts_of(understood) if decomposed else [understood]
        found = [(question, self._passages(task, question, place)) for question in questions]
        prompt = _prompt(task.question, (chunk for _, chunks in found for chunk in chunks))
        messages = [*_history(session), {"role": "user", "content": [{"text": prompt}]}]
        target = task.settings["modelArn"]
        backend, _, hard = self._runtime.choose(target, {"messages": messages}, place, streaming=streaming)
        if understood != task.question and not decomposed:
            found = [(task.question, chunks) for _, chunks in found]
            before = session.turns[-1][0]
        else:
            before = ""
        told = list(_parts(found, before=before, thorough=backend.model.size >= _THOROUGH_SIZE))
        text, parts, action = self._allowed(task, told or [Part(text=SORRY)])
        tokens = _TEMPLATE_TOKENS + text_tokens(prompt), text_tokens(text)
        served, latency = self._timed(task, backend, place, tokens=tokens, routed=hard is not None)
        worded = self._orchestrated(task, session, backend, place, routed=hard is not None)
        self._sessions.remember(session, task.question, text)
        return Generated(
            text=text,
            parts=parts,
            cited=task.cites and action != _INTERVENED,
            guardrail_action=action,
            session_id=session.session_id,
            model_id=backend.model.model_id,
            difficulty=hard,
            served_latency=served,
            first_token_ms=worded + latency[0],
            latency_ms=worded + latency[1],
        )

    def _passages(self, task: _Task, question: str, place: Place) -> list[Chunk]:
        """What the model gets to read for a question."""
        if task.external:
            return read_source(task.settings["sources"][0], self._bases)
        base = self._bases.find(task.settings["knowledgeBaseId"])
        if base.type == "MANAGED":
            raise validation(f"RetrieveAndGenerate does not support knowledge base {base.resource_id} of type MANAGED.")
        search = read_search(base, task.settings.get("retrievalConfiguration", {}))
        return self._retriever.passages(base, question, search, place, task.user)

    def _allowed(self, task: _Task, told: Sequence[Part]) -> tuple[str, Sequence[Part], str | None]:
        """The text and its sentences, within the limits of the request, and what its guardrail does about it."""
        guardrail = self._bases.guardrail(task.generation.get("guardrailConfiguration"))
        inference = task.generation.get("inferenceConfig", {}).get("textInferenceConfig", {})
        text, parts = limited_parts(told, inference)
        if guardrail is None:
            return text, parts, None
        action = guardrail.action(task.question, text)
        return (SORRY, (), action) if action == _INTERVENED else (text, parts, action)

    def _timed(
        self, task: _Task, backend: Backend, place: Place, *, tokens: tuple[int, int], routed: bool
    ) -> tuple[str, tuple[float, float]]:
        """The latency of the generation that is served, and its milliseconds until the first and the last token."""
        check_latency(task.orchestration.get("performanceConfig", {}), backend, place)
        served = self._runtime.serve_latency(task.generation.get("performanceConfig", {}), backend, place)
        return served, simulated_latency(backend.model, *tokens, optimized=served == "optimized", routed=routed)

    def _orchestrated(self, task: _Task, session: Session, backend: Backend, place: Place, *, routed: bool) -> float:
        """The simulated milliseconds before the generation: a retrieval, and a model's call where it rewrites.

        A model is asked to rewrite the question where there is a conversation, or a decomposition is wanted.
        """
        if task.external:
            return 0.0
        if not session.turns and "queryTransformationConfiguration" not in task.orchestration:
            return RETRIEVAL_MS
        served = self._runtime.serve_latency(task.orchestration.get("performanceConfig", {}), backend, place)
        tokens = text_tokens(task.question)
        unread = _TEMPLATE_TOKENS + tokens
        optimized = served == "optimized"
        return RETRIEVAL_MS + simulated_latency(backend.model, unread, tokens, optimized=optimized, routed=routed)[1]


def _understood(task: _Task, session: Session) -> str:
    """The question, with the one before it where it points back to that."""
    if not session.turns:
        return task.question
    before, asked = (" ".join(text.split()) for text in (session.turns[-1][0], task.question))
    prompt = f"Rewrite the follow-up question as a standalone question.\nUser: {before}\nFollow-up question: {asked}"
    rewritten = standalone(prompt)
    return task.question if rewritten in {None, asked} else str(rewritten)


def _prompt(question: str, chunks: Iterable[Chunk]) -> str:
    """What the model gets to read, in the form in which applications send it themselves: a router judges by it."""
    passages = "\n\n".join(chunk.text for chunk in chunks)
    return f"{passages}\n\nQuestion: {question}"


def _history(session: Session) -> Iterator[dict[str, Any]]:
    for question, answer in session.turns:
        yield {"role": "user", "content": [{"text": question}]}
        yield {"role": "assistant", "content": [{"text": answer}]}


def _parts(found: Sequence[tuple[str, Sequence[Chunk]]], *, before: str, thorough: bool) -> Iterator[Part]:
    """The sentences that answer the questions, each once; `before` is what they point back to."""
    seen: set[str] = set()
    for question, chunks in found:
        texts = [chunk.text for chunk in chunks]
        for statement in statements(question, texts, thorough=thorough, before=before):
            if statement.text not in seen:
                seen.add(statement.text)
                yield Part(text=statement.text, chunks=tuple(chunks[index] for index in statement.passages))


# --- The sessions of RetrieveAndGenerate: made by the service, good for a day. ---

LIFETIME_SECONDS = 24 * 3600.0
"""How long a session can be continued after it was made."""

# An emulator can run for days under load; the oldest sessions go first.
_MOST_SESSIONS = 100_000
_MOST_TURNS = 20


@dataclass
class Session:
    """A conversation.

    Attributes:
        session_id: Its id.
        key: The ARN of its KMS key; None without.
        started: When it was made, by the emulator's clock.
        turns: Questions with their answers, oldest first.
    """

    session_id: str
    key: str | None
    started: float
    turns: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=_MOST_TURNS))


class Sessions:
    """The sessions that are open. The server's thread alone uses them.

    Args:
        clock: Seconds, only rising.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._open: OrderedDict[str, Session] = OrderedDict()

    def open(self, session_id: str | None, key: str | None) -> Session:
        """The session of a request: a new one where it names none. It is kept once something is remembered of it.

        Args:
            session_id: The id in the request.
            key: The ARN of the KMS key in the request.

        Raises:
            ServiceError: ValidationException for a session that does not exist (any more), ConflictException for
                another key than the session's.
        """
        self._forget_expired()
        if session_id is None:
            return Session(str(uuid.uuid4()), key, self._clock())
        known = self._open.get(session_id)
        if known is None:
            raise validation(f"Session with Id {session_id} is not valid. Please check and try again.")
        if key is not None and key != known.key:
            raise ServiceError(
                "ConflictException",
                f"The KMS key of session {session_id} cannot change: continue it with the key it was made with.",
                status=409,
            )
        return known

    def remember(self, session: Session, question: str, answer: str) -> None:
        """Add a turn to a session."""
        session.turns.append((question, answer))
        self._open.setdefault(session.session_id, session)
        while len(self._open) > _MOST_SESSIONS:
            self._open.popitem(last=False)

    def _forget_expired(self) -> None:
        oldest = self._clock() - LIFETIME_SECONDS
        while self._open and next(iter(self._open.values())).started <= oldest:
            self._open.popitem(last=False)
