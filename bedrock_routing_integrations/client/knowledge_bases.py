"""`KnowledgeBaseClient`: send Retrieve, RetrieveAndGenerate and RetrieveAndGenerateStream, for both frameworks."""

from __future__ import annotations

import contextlib
import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.bounded_cache import ExpiringCache
from bedrock_routing_integrations.connections import Connection, UserClient, client_source
from bedrock_routing_integrations.errors import (
    InvalidRequestError,
    SessionExpiredError,
    StreamInterruptedError,
    aws_error,
    error_kind,
)
from bedrock_routing_integrations.invocation import read_invocation
from bedrock_routing_integrations.knowledge_base import (
    MANAGED,
    AnswerPart,
    AnswerReader,
    Passage,
    generate_request,
    read_passage,
    retrieve_request,
)
from bedrock_routing_integrations.models.candidates import from_base_models
from bedrock_routing_integrations.models.look_ups import Resolver
from bedrock_routing_integrations.observability import (
    CallStarted,
    OpenTelemetryObserver,
    Telemetry,
    observe_call,
    telemetry_of,
)
from bedrock_routing_integrations.observability.call_events import emit_end_of_stream
from bedrock_routing_integrations.runtime import Runtime, logger, warn_once
from bedrock_routing_integrations.targets import parse_target
from bedrock_routing_integrations.transport.answer_validation import (
    checked_generation,
    empty_stream,
    is_event_stream,
    parse_errors_explained,
    retrieval_results,
    session_id,
)
from bedrock_routing_integrations.transport.streams import broken_connection, close_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from bedrock_routing_integrations.knowledge_base import GenerationOptions, KnowledgeBaseId, Question, SearchOptions
    from bedrock_routing_integrations.models.candidates import ResolvedTarget
    from bedrock_routing_integrations.observability import ExternalSpan


# --- Types of knowledge bases ---

_KEEP_SECONDS = 3600.0
_KEEP_REFUSED_SECONDS = 300.0
_TYPES_KEPT = 10_000


class KnowledgeBaseTypes:
    """Types by knowledge base; each is looked up by one thread at a time. Safe under threads.

    Args:
        clock: Returns seconds that never decrease.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._types: ExpiringCache[Hashable, str | None] = ExpiringCache(_TYPES_KEPT, clock)

    def reset(self) -> None:
        """Forget all types."""
        self._types.reset()

    def find(self, knowledge_base: KnowledgeBaseId, source: Connection | UserClient) -> str | None:
        """Return ``"VECTOR"``, ``"KENDRA"``, ``"SQL"`` or ``"MANAGED"``; None if the look-up failed.

        Args:
            knowledge_base: The knowledge base.
            source: Makes the client for the look-up.
        """

        def look_up(_: str | None) -> tuple[str | None, float]:
            kind = _ask(knowledge_base, source)
            return kind, _KEEP_SECONDS if kind else _KEEP_REFUSED_SECONDS

        return self._types.get(_type_key(knowledge_base, source), look_up)

    def learn(self, knowledge_base: KnowledgeBaseId, source: Connection | UserClient, kind: str) -> None:
        """Remember the type that an answer has shown.

        Args:
            knowledge_base: The knowledge base.
            source: As for `find`.
            kind: The type.
        """
        self._types.put(_type_key(knowledge_base, source), kind, _KEEP_SECONDS)


def _type_key(knowledge_base: KnowledgeBaseId, source: Connection | UserClient) -> Hashable:
    region = source.known_region(knowledge_base)
    return source.identity(knowledge_base), source.caller(), region, knowledge_base.id


def _ask(knowledge_base: KnowledgeBaseId, source: Connection | UserClient) -> str | None:
    try:
        client = source.client("bedrock-agent", knowledge_base)
        answer: dict[str, Any] = client.get_knowledge_base(knowledgeBaseId=knowledge_base.id)
        kind = answer["knowledgeBase"]["knowledgeBaseConfiguration"]["type"]
    except Exception as error:  # noqa: BLE001 - a failed look-up, whatever the reason, must not fail the call
        code = error_kind(error)
        logger.debug("GetKnowledgeBase for %s failed: %s", knowledge_base, error)
        if code != "ResourceNotFoundException":  # which the call itself will raise
            warn_once(
                ("knowledge base type", knowledge_base.id),
                f"GetKnowledgeBase failed for {knowledge_base} ({code}); it is searched like one with a vector store. "
                "Allow the IAM action bedrock:GetKnowledgeBase, or set knowledge_base_type='VECTOR' (or 'MANAGED').",
            )
        return None
    return str(kind)


SERVICE = "bedrock-agent-runtime"


@dataclass(frozen=True)
class RetrievedPage:
    """A page of results.

    Attributes:
        passages: The passages, best first.
        next_token: The token of the next page; None on the last.
        guardrail_action: ``"INTERVENED"`` or ``"NONE"``; None without a guardrail.
    """

    passages: tuple[Passage, ...]
    next_token: str | None
    guardrail_action: str | None


class KnowledgeBaseClient:
    """Send requests to knowledge bases. Safe under threads; the constructor sends nothing.

    Args:
        client: A boto3 ``bedrock-agent-runtime`` client, used as it is; or a `Connection`, from which shared clients
            are made at the first call, in the Region of the knowledge base's ARN.
        telemetry: What is recorded with OpenTelemetry, as for `RoutedClient`.
        runtime: The state that clients share, as for `RoutedClient`.

    Raises:
        InvalidRequestError: `client` is a client for another service.
    """

    def __init__(self, client: Any, *, telemetry: str | Telemetry = "auto", runtime: Runtime | None = None) -> None:
        asks = hasattr(client, "retrieve") or hasattr(
            client, "retrieve_and_generate"
        )  # a test double may have only one of them
        if not isinstance(client, Connection) and not asks:
            what = getattr(getattr(client, "meta", None), "service_model", None)
            is_a = f"a client for {what.service_name!r}" if what else f"a {type(client).__name__}"
            raise InvalidRequestError(f"client must be a client for {SERVICE!r} (boto3), and is {is_a}.")
        self._observers = (OpenTelemetryObserver(telemetry_of(telemetry)),)
        self.source = client_source(client, SERVICE, runtime)

    @property
    def _types(self) -> KnowledgeBaseTypes:
        return self.source.runtime.shared(KnowledgeBaseTypes, self.source.runtime.clock)

    def type_of(self, knowledge_base: KnowledgeBaseId, options: SearchOptions) -> str | None:
        """Return the type of a knowledge base: the stated one, else from GetKnowledgeBase; None if it is not known.

        Args:
            knowledge_base: The knowledge base.
            options: The options of a search, which can state the type.
        """
        return options.knowledge_base_type or self._types.find(knowledge_base, self.source)

    def retrieve(
        self,
        knowledge_base: KnowledgeBaseId,
        query: str,
        options: SearchOptions,
        *,
        image: bytes | str | None = None,
        next_token: str | None = None,
        external_span: ExternalSpan | None = None,
    ) -> RetrievedPage:
        """Return one page of results, without those that score below ``options.score_threshold``.

        Args:
            knowledge_base: The knowledge base to search.
            query: What to search for, at most 20,000 characters; may be empty with an image.
            options: How to search.
            image: An image that the results should resemble, as bytes or a data URI.
            next_token: The token of the page before.
            external_span: The OpenTelemetry span that an instrumentation has made for the retrieval, if known.

        Raises:
            InvalidRequestError: Bedrock would refuse it; nothing was sent.
            MissingRegionError: No Region is known.
            InvalidAnswerError: The response is empty, truncated, or not Bedrock's.
            botocore.exceptions.ClientError: Bedrock refused (IAM action ``bedrock:Retrieve``).
        """
        client = self.source.client(SERVICE, knowledge_base)

        def send(*, managed: bool) -> dict[str, Any]:
            request = retrieve_request(
                knowledge_base,
                query,
                options,
                managed=managed,
                region=_region_of(client),
                image=image,
                next_token=next_token,
            )
            with parse_errors_explained("Retrieve"):
                started = CallStarted(operation="Retrieve", client=client, request=request, external_span=external_span)
                return self._send(started, client.retrieve)

        response = self._as_its_type(knowledge_base, options, send)
        passages = [read_passage(result) for result in retrieval_results(response)]
        least = options.score_threshold
        if least is not None:
            passages = [passage for passage in passages if passage.score is not None and passage.score >= least]
        return RetrievedPage(tuple(passages), response.get("nextToken"), response.get("guardrailAction"))

    def iterate(
        self,
        knowledge_base: KnowledgeBaseId,
        query: str,
        options: SearchOptions,
        *,
        limit: int | None = None,
        image: bytes | str | None = None,
    ) -> Iterator[Passage]:
        """Iterate over the results of all pages. A page is requested when it is needed.

        Args:
            knowledge_base: The knowledge base to search.
            query: What to search for, at most 20,000 characters; may be empty with an image.
            options: How to search; `k` is the size of a page.
            limit: The most results; None for all.
            image: An image that the results should resemble, as bytes or a data URI.

        Raises:
            InvalidRequestError: `limit` is not a number above 0.
        """
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise InvalidRequestError(
                f"limit={limit!r} is not valid. Give the most results that are wanted, or None for all."
            )
        return self._iterate(knowledge_base, query, options, limit, image)

    def _iterate(
        self,
        knowledge_base: KnowledgeBaseId,
        query: str,
        options: SearchOptions,
        limit: int | None,
        image: bytes | str | None,
    ) -> Iterator[Passage]:
        count, token, seen = 0, None, set()
        while True:
            page = self.retrieve(knowledge_base, query, options, image=image, next_token=token)
            for passage in page.passages:
                yield passage
                count += 1
                if count == limit:
                    return
            token = page.next_token
            if not token or token in seen:  # a repeated token would never end
                return
            seen.add(token)

    def generate(
        self,
        question: Question,
        model: str,
        search: SearchOptions,
        options: GenerationOptions,
        base_models: Sequence[str] | None = None,
    ) -> GeneratedAnswer:
        """Call RetrieveAndGenerate.

        Args:
            question: The question, and where to find the answer.
            model: The target that answers.
            search: How to search.
            options: How to generate.
            base_models: The base models of the target; given, the target is not looked up.

        Returns:
            The answer, complete in its `reader`.

        Raises:
            InvalidRequestError: Bedrock would refuse it; nothing was sent.
            SessionExpiredError: The session is over.
            InvalidAnswerError: The response is empty, truncated, or not Bedrock's.
            botocore.exceptions.ClientError: Bedrock refused (IAM actions ``bedrock:RetrieveAndGenerate``,
                ``bedrock:Retrieve``, ``bedrock:InvokeModel``).
        """
        call = self._prepare(question, model, search, options, base_models)
        with _explained(self, question, search), parse_errors_explained("RetrieveAndGenerate"):
            answer = self._send(call.started("RetrieveAndGenerate"), call.client.retrieve_and_generate)
        response = checked_generation(answer)
        reader = AnswerReader(question.only_source)
        reader.read_response(response)
        session = session_id(response, "RetrieveAndGenerate")
        return GeneratedAnswer(reader, session, call.routing(response), iter(()))

    def generate_stream(
        self,
        question: Question,
        model: str,
        search: SearchOptions,
        options: GenerationOptions,
        base_models: Sequence[str] | None = None,
    ) -> GeneratedAnswer:
        """Call RetrieveAndGenerateStream. Takes the arguments of `generate`.

        It returns when the first event has arrived, so that an immediate failure is raised here and not while
        iterating.

        Args:
            question: The question, and where to find the answer.
            model: The target that answers.
            search: How to search.
            options: How to generate.
            base_models: The base models of the target; given, the target is not looked up.

        Returns:
            The answer, which arrives in its `parts`.

        Raises:
            InvalidAnswerError: The stream has no answer; raised while iterating if no text came.
            StreamInterruptedError: The connection broke; raised while iterating. The stream has no end marker, so a
                stream that is cut between two events looks like a complete one.
        """
        call = self._prepare(question, model, search, options, base_models)
        observed = observe_call(self._observers, lambda: call.started("RetrieveAndGenerateStream"))
        with _explained(self, question, search), observed:
            with observed.sending():
                response = call.client.retrieve_and_generate_stream(**call.request)
            observed.attempted(response)
        reader = AnswerReader(question.only_source)
        session = response.get("sessionId")
        parts = emit_end_of_stream(observed, _parts(response, reader, session))
        observed.watch(parts)
        next(parts)  # read the first event; also, a generator that has not begun closes nothing when it is closed
        return GeneratedAnswer(reader, session_id(response, "RetrieveAndGenerateStream"), call.routing(response), parts)

    def _send(self, started: CallStarted, send: Callable[..., Any]) -> dict[str, Any]:
        """Send a request, and emit the events of the call."""
        with observe_call(self._observers, lambda: started) as call:
            with call.sending():
                response: dict[str, Any] = send(**started.request)
            call.attempted(response)
            call.answered(lambda: response)
        return response

    def _prepare(
        self,
        question: Question,
        model: str,
        search: SearchOptions,
        options: GenerationOptions,
        base_models: Sequence[str] | None,
    ) -> _Call:
        target = parse_target(model)
        # A bare id has no Region; the model's ARN may have one.
        base = question.knowledge_base
        client = self.source.client(SERVICE, base if base and self.source.known_region(base) else target)
        request = generate_request(question, target, search, options, region=_region_of(client))
        resolver = self.source.runtime.shared(Resolver, self.source.runtime.clock)
        stated = from_base_models(target, base_models) if base_models else None
        resolved = stated or resolver.resolve(target, self.source)
        return _Call(client, request, resolved)

    def _as_its_type(self, base: KnowledgeBaseId, options: SearchOptions, send: Callable[..., Any]) -> dict[str, Any]:
        """Send a request for the type of the knowledge base; if the type is unknown, learn it from the refusal."""
        from botocore.exceptions import ClientError

        managed = self._is_managed(base, options)
        try:
            response: dict[str, Any] = send(managed=managed)
        except ClientError as error:
            code, message, _ = aws_error(error)
            # The wording is not documented, but any wording must name the member.
            names_member = code == "ValidationException" and "managedsearch" in message.lower().replace(" ", "")
            guessed = options.depends_on_type and self.type_of(base, options) is None
            if not names_member or managed or not guessed:
                raise
            response = send(managed=True)
            self._types.learn(base, self.source, MANAGED)
        return response

    def _is_managed(self, knowledge_base: KnowledgeBaseId, options: SearchOptions) -> bool:
        if options.depends_on_type or options.knowledge_base_type:
            return self.type_of(knowledge_base, options) == MANAGED
        return "managedSearchConfiguration" in (options.retrieval_config or {})

    def __deepcopy__(self, memo: dict[int, Any]) -> KnowledgeBaseClient:
        return self  # it is immutable


@dataclass(frozen=True)
class _Call:
    client: Any
    request: dict[str, Any]
    resolved: ResolvedTarget

    def started(self, operation: str) -> CallStarted:
        """Return the first event of the call."""
        return CallStarted(operation=operation, client=self.client, request=self.request, resolved=self.resolved)

    def routing(self, response: dict[str, Any]) -> dict[str, Any]:
        """Return the ``"routing"`` dictionary. The API reports little of what was served, so most of it is None."""
        config = self.request["retrieveAndGenerateConfiguration"]
        generation = next(v for v in config.values() if isinstance(v, dict)).get("generationConfiguration") or {}
        requested = {"performanceConfig": generation.get("performanceConfig")}
        return read_invocation(requested, {}, self.resolved, http=response.get("ResponseMetadata") or {}).as_dict()


@dataclass(frozen=True)
class GeneratedAnswer:
    """An answer of RetrieveAndGenerate: complete in `reader`, or arriving in `parts`.

    Attributes:
        reader: The answer so far: text, passages, citations, guardrail action.
        session_id: The session, to continue it.
        routing: The call's ``"routing"`` dictionary.
        parts: The rest of the answer; reading it fills `reader`.
    """

    reader: AnswerReader
    session_id: str | None
    routing: dict[str, Any]
    parts: Iterator[AnswerPart]


def _region_of(client: Any) -> str:
    """Return the Region of a client, for the ARN of a model that is named by its id; a test double may have none."""
    region: str | None = getattr(getattr(client, "meta", None), "region_name", None)
    return region or "us-east-1"


# Not a method or closure, so that dropping the iterator closes the connection at once.
def _parts(response: dict[str, Any], reader: AnswerReader, session: str | None) -> Iterator[AnswerPart]:
    """Yield an empty part when the first event has arrived, then a part for each event and one for the end."""
    stream, arrived = response["stream"], False
    try:
        try:
            events = iter(stream)
            first = next(events, None)
            if first is None:
                raise empty_stream(response, "the stream had no event")
            arrived = True
            yield AnswerPart()
            for event in itertools.chain([first], events):
                yield reader.read_event(event)
            last = reader.finish()
            if not reader.has_text and reader.guardrail_action != "INTERVENED":
                raise empty_stream(response, "the stream ended", _partial(reader, session))
            yield last
        finally:
            close_stream(stream)
    except broken_connection() as error:
        why = f"{type(error).__name__}: {error}"
        if not arrived and not is_event_stream(response):
            raise empty_stream(response, why) from error
        reader.finish()
        raise StreamInterruptedError(
            f"The answer's stream broke off ({why}). What had arrived is in .partial.",
            partial=_partial(reader, session),
        ) from error


def _partial(reader: AnswerReader, session: str | None) -> dict[str, Any]:
    return {
        "output": {"message": {"role": "assistant", "content": [{"text": reader.text}]}},
        "citations": [citation.as_dict() for citation in reader.citations],
        "sessionId": session,
    }


@contextlib.contextmanager
def _explained(client: KnowledgeBaseClient, question: Question, search: SearchOptions) -> Iterator[None]:
    """Raise a better error for a refusal whose reason Bedrock does not name."""
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as error:
        code, message, _ = aws_error(error)
        if code not in ("ValidationException", "ResourceNotFoundException", "ConflictException"):
            raise
        if question.session_id is not None and _is_about_session(message):
            raise SessionExpiredError(
                f"The session {question.session_id!r} is over, or never was: Bedrock keeps a session for 24 hours. "
                f"Leave session_id out to begin another. ({message})",
                session_id=question.session_id,
            ) from error
        known = question.knowledge_base
        if code == "ValidationException" and known is not None and client.type_of(known, search) == MANAGED:
            raise InvalidRequestError(
                f"RetrieveAndGenerate cannot use a managed knowledge base, and {known} is one. Use "
                f"mode='retrieve_then_converse'. ({message})"
            ) from error
        raise


def _is_about_session(message: str) -> bool:
    # seen in reports 2026-11: "Session with Id … is not valid. Please check and try again."
    lower = message.lower()
    return "session" in lower and any(
        word in lower for word in ("not valid", "invalid", "expired", "not found", "exist")
    )
