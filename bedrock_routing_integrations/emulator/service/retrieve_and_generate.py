"""RetrieveAndGenerate and RetrieveAndGenerateStream: answer questions from documents.

The model's answer is a deterministic program's: it quotes the sentences of the passages that match the question best.
As with the service, the response names neither the model that answered nor its token usage.
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


# --- Answers ---

SORRY = "Sorry, I am unable to assist you with this request."
"""The service's answer if the retrieved passages hold no answer, or if a guardrail intervenes."""

_WORDS_PER_EVENT = 3
_PIECE = re.compile(rf"\s*(?:\S+\s*){{1,{_WORDS_PER_EVENT}}}|\s+")


@dataclass(frozen=True, kw_only=True)
class Part:
    """A sentence of the answer.

    Attributes:
        text: The sentence.
        chunks: The chunks that contain it.
    """

    text: str
    chunks: tuple[Chunk, ...] = ()


def limited_parts(parts: Sequence[Part], inference: Mapping[str, Any]) -> tuple[str, list[Part]]:
    """Return the answer's text within the limits of a `textInferenceConfig`, and the sentences that remain.

    Args:
        parts: The sentences of the answer.
        inference: The `textInferenceConfig`; {} for no limits.
    """
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
        parts: The sentences of the text, separated by one space.
        cited: Whether there are citations. The prompt template decides.
        guardrail_action: The guardrail's action; None without a guardrail.
        session_id: The id of the session.
        model_id: The base model that answered. The service does not return it.
        difficulty: The router's estimate of the prompt's difficulty; None without a router.
        served_latency: "standard" or "optimized".
        first_token_ms: Simulated milliseconds until the first token.
        latency_ms: Simulated milliseconds until the last token.
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
        """The members that a streamed response carries in its HTTP headers."""
        return {"sessionId": self.session_id}

    def answer(self) -> dict[str, Any]:
        """Return the response of RetrieveAndGenerate. The end of a citation's span is inclusive."""
        return {
            "sessionId": self.session_id,
            "output": {"text": self.text},
            "citations": [_citation(part, start, end - 1) for part, start, end in self._placed()] if self.cited else [],
            "guardrailAction": self.guardrail_action,
        }

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Return the events of RetrieveAndGenerateStream. No event type marks the end of the stream.

        As with the service, a citation event follows its sentence and holds its members twice, and the end of its span
        is one higher than in RetrieveAndGenerate: it counts a line break that the text does not contain.
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
        """Return the output events for a range of the text, three words each."""
        for piece in _PIECE.findall(self.text[start:end]):
            yield "output", {"text": piece}

    def _placed(self) -> Iterator[tuple[Part, int, int]]:
        """Return each sentence with its start and end, in code points, half-open."""
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
_TEMPLATE_TOKENS = 400  # tokens of the service's own instructions: a guess
_KNOWLEDGE_BASE = "knowledgeBaseConfiguration"
_EXTERNAL = "externalSourcesConfiguration"
_MEMBERS = {"KNOWLEDGE_BASE": _KNOWLEDGE_BASE, "EXTERNAL_SOURCES": _EXTERNAL}
_RESULTS = "$search_results$"
_CITING = "$output_format_instructions$"
_HISTORY = "$conversation_history$"
_INTERVENED = "INTERVENED"


@dataclass(frozen=True, kw_only=True)
class _Task:
    """The parameters of a request.

    Attributes:
        question: The text of the request's input.
        settings: The knowledgeBaseConfiguration or externalSourcesConfiguration.
        user: The `userId` of the userContext; None without one.
        external: Whether the request names its own document instead of a knowledge base.
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
        """Whether the answer has citations. It has none if the template omits the output format placeholder."""
        template = _template(self.generation)
        return template is None or _CITING in template


def _template(configuration: Mapping[str, Any]) -> str | None:
    """Return the prompt template of a configuration; None for the default template."""
    text: str | None = configuration.get("promptTemplate", {}).get("textPromptTemplate")
    return text


def _read_task(request: Mapping[str, Any]) -> _Task:
    """Validate a request and return its parameters.

    Raises:
        ServiceError: ValidationException for a member that is missing or does not belong to the configuration's type.
    """
    refuse_blank(request["input"]["text"])
    configuration = request.get("retrieveAndGenerateConfiguration")
    if configuration is None:
        raise validation("retrieveAndGenerateConfiguration must be given.")
    member = _MEMBERS[configuration["type"]]
    if member not in configuration or len(configuration) != 2:  # the type and its member
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
    """Raise a ValidationException if a prompt template lacks a required placeholder."""
    missing = [name for name in needed if template is not None and name not in template]
    if missing:
        raise validation(f"The {kind} prompt template is missing the required placeholder {' and '.join(missing)}.")


class Generation:
    """Answers RetrieveAndGenerate and RetrieveAndGenerateStream.

    Args:
        bases: The knowledge bases and guardrails.
        retriever: Finds passages.
        runtime: Chooses the model and the latency to serve.
        sessions: The conversations.
    """

    def __init__(self, bases: KnowledgeBases, retriever: Retriever, runtime: Runtime, sessions: Sessions) -> None:
        self._bases = bases
        self._retriever = retriever
        self._runtime = runtime
        self._sessions = sessions

    def generate(self, request: Mapping[str, Any], place: Place, *, streaming: bool) -> Generated:
        """Return the answer to a request.

        Args:
            request: The request's members.
            place: The Region and account of the request.
            streaming: Whether the operation is RetrieveAndGenerateStream.

        Raises:
            ServiceError: The service's error for a request that it refuses.
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
        """Return the chunks that the model reads to answer a question."""
        if task.external:
            return read_source(task.settings["sources"][0], self._bases)
        base = self._bases.find(task.settings["knowledgeBaseId"])
        if base.type == "MANAGED":
            raise validation(f"RetrieveAndGenerate does not support knowledge base {base.resource_id} of type MANAGED.")
        search = read_search(base, task.settings.get("retrievalConfiguration", {}))
        return self._retriever.passages(base, question, search, place, task.user)

    def _allowed(self, task: _Task, told: Sequence[Part]) -> tuple[str, Sequence[Part], str | None]:
        """Return the text and its sentences within the request's limits, and the guardrail's action."""
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
        """Return the latency served for the generation, and the milliseconds until the first and last token."""
        check_latency(task.orchestration.get("performanceConfig", {}), backend, place)
        served = self._runtime.serve_latency(task.generation.get("performanceConfig", {}), backend, place)
        return served, simulated_latency(backend.model, *tokens, optimized=served == "optimized", routed=routed)

    def _orchestrated(self, task: _Task, session: Session, backend: Backend, place: Place, *, routed: bool) -> float:
        """Return the simulated milliseconds before the generation: a retrieval and, for a rewrite, a model call.

        The model rewrites the question if the session has earlier turns or the request configures query decomposition.
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
    """Return the question, combined with the previous question if it refers to that question."""
    if not session.turns:
        return task.question
    before, asked = (" ".join(text.split()) for text in (session.turns[-1][0], task.question))
    prompt = f"Rewrite the follow-up question as a standalone question.\nUser: {before}\nFollow-up question: {asked}"
    rewritten = standalone(prompt)
    return task.question if rewritten in {None, asked} else str(rewritten)


def _prompt(question: str, chunks: Iterable[Chunk]) -> str:
    """Return the prompt that the model reads. A router judges it, so it has the form that applications send."""
    passages = "\n\n".join(chunk.text for chunk in chunks)
    return f"{passages}\n\nQuestion: {question}"


def _history(session: Session) -> Iterator[dict[str, Any]]:
    """Return the turns of a session as Converse messages."""
    for question, answer in session.turns:
        yield {"role": "user", "content": [{"text": question}]}
        yield {"role": "assistant", "content": [{"text": answer}]}


def _parts(found: Sequence[tuple[str, Sequence[Chunk]]], *, before: str, thorough: bool) -> Iterator[Part]:
    """Return the sentences that answer the questions, without duplicates. `before` is the previous question."""
    seen: set[str] = set()
    for question, chunks in found:
        texts = [chunk.text for chunk in chunks]
        for statement in statements(question, texts, thorough=thorough, before=before):
            if statement.text not in seen:
                seen.add(statement.text)
                yield Part(text=statement.text, chunks=tuple(chunks[index] for index in statement.passages))


# --- Sessions ---

LIFETIME_SECONDS = 24 * 3600.0
"""Lifetime of a session after its creation: one day."""

# An emulator can run for days under load. The oldest sessions are removed first.
_MOST_SESSIONS = 100_000
_MOST_TURNS = 20


@dataclass
class Session:
    """A conversation.

    Attributes:
        session_id: The session's id.
        key: The ARN of the session's KMS key; None without a key.
        started: The time of creation, in seconds of the emulator's clock.
        turns: Questions with their answers, oldest first.
    """

    session_id: str
    key: str | None
    started: float
    turns: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=_MOST_TURNS))


class Sessions:
    """The open sessions. Not thread-safe: only the server's thread uses them.

    Args:
        clock: Returns monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._open: OrderedDict[str, Session] = OrderedDict()

    def open(self, session_id: str | None, key: str | None) -> Session:
        """Return the session of a request, or a new session if the request names none.

        A new session is kept once `remember` adds a turn to it.

        Args:
            session_id: The id in the request; None for a new session.
            key: The ARN of the KMS key in the request.

        Raises:
            ServiceError: ValidationException for a session that does not exist or has expired, ConflictException for
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
        """Add a turn to a session and keep the session.

        Args:
            session: A session from `open`.
            question: The user's question.
            answer: The text of the answer.
        """
        session.turns.append((question, answer))
        self._open.setdefault(session.session_id, session)
        while len(self._open) > _MOST_SESSIONS:
            self._open.popitem(last=False)

    def _forget_expired(self) -> None:
        """Remove the sessions that are older than `LIFETIME_SECONDS`."""
        oldest = self._clock() - LIFETIME_SECONDS
        while self._open and next(iter(self._open.values())).started <= oldest:
            self._open.popitem(last=False)
