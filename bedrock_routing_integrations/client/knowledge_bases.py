"""`KnowledgeBaseClient`: Retrieve, RetrieveAndGenerate and its stream, for both frameworks."""

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
    ObservedCall,
    OpenTelemetryObserver,
    Telemetry,
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


# --- What kind a knowledge base is ---

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
        """Return ``"VECTOR"``, ``"KENDRA"``, ``"SQL"`` or ``"MANAGED"``; None where it could not be looked up.

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
        found = answer["knowledgeBase"]["knowledgeBaseConfiguration"]["type"]
    except Exception as error:  # noqa: BLE001 - whatever answers there, a look-up must not cost the user the call
        code = error_kind(error)
        logger.debug("GetKnowledgeBase for %s failed: %s", knowledge_base, error)
        if code != "ResourceNotFoundException":  # which the call will say itself
            warn_once(
                ("knowledge base type", knowledge_base.id),
                f"GetKnowledgeBase failed for {knowledge_base} ({code}); it is searched as one with a vector store. "
                "Allow the IAM action bedrock:GetKnowledgeBase, or say knowledge_base_type='VECTOR' (or 'MANAGED').",
            )
        return None
    return str(found)


SERVICE = "bedrock-agent-runtime"


@dataclass(frozen=True)
class RetrievedPage:
    """A page of results.

    Attributes:
        passages: Best first.
        next_token: For the page after it; None where there is none.
        guardrail_action: ``"INTERVENED"`` or ``"NONE"``; None without a guardrail.
    """

    passages: tuple[Passage, ...]
    next_token: str | None
    guardrail_action: str | None


class KnowledgeBaseClient:
    """Asks knowledge bases. Safe under threads; nothing is sent before a call.

    Args:
        client: A boto3 ``bedrock-agent-runtime`` client, used as it is; or a `Connection`, from which shared clients
            are made at the first call, in the Region of the knowledge base's ARN.
        telemetry: What OpenTelemetry is told, as of `RoutedClient`.
        runtime: Holds what clients share, as of `RoutedClient`.

    Raises:
        InvalidRequestError: `client` is a client for something else.
    """

    def __init__(self, client: Any, *, telemetry: str | Telemetry = "auto", runtime: Runtime | None = None) -> None:
        asks = hasattr(client, "retrieve") or hasattr(client, "retrieve_and_generate")  # a stand-in may have one only
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
        """The type of a knowledge base as it was stated, else as GetKnowledgeBase says; None where it does not."""
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
        """One page of results, with those left out that score below ``options.score_threshold``.

        `external_span` is the OpenTelemetry span that an instrumentation has made for the retrieval, if known.

        Raises:
            InvalidRequestError: Bedrock would refuse it; nothing was sent.
            MissingRegionError: No Region is known.
            InvalidAnswerError: The answer is empty, cut, or not Bedrock's.
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
        """Results of all pages, each page asked for when it is needed, until there are `limit`.

        Raises:
            InvalidRequestError: `limit` is no count.
        """
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise InvalidRequestError(f"limit={limit!r}: give the most results that are wanted, or None for all")
        return self._iterate(knowledge_base, query, options, limit, image)

    def _iterate(
        self,
        knowledge_base: KnowledgeBaseId,
        query: str,
        options: SearchOptions,
        limit: int | None,
        image: bytes | str | None,
    ) -> Iterator[Passage]:
        given, token, seen = 0, None, set()
        while True:
            page = self.retrieve(knowledge_base, query, options, image=image, next_token=token)
            for passage in page.passages:
                yield passage
                given += 1
                if given == limit:
                    return
            token = page.next_token
            if not token or token in seen:  # a token that comes again would go round for ever
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
        """RetrieveAndGenerate.

        Raises:
            InvalidRequestError: Bedrock would refuse it; nothing was sent.
            SessionExpiredError: The session is over.
            InvalidAnswerError: The answer is empty, cut, or not Bedrock's.
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
        """Call RetrieveAndGenerateStream: the same, its parts as they arrive.

        It returns when the first event has arrived, so that what fails at once fails here and not while iterating.

        Raises:
            InvalidAnswerError: Nothing that arrived is an answer; also while iterating, where no text came.
            StreamInterruptedError: While iterating, where the connection breaks. Nothing in this stream marks its end,
                so one that is cut between two events cannot be told from one that is complete.
        """
        call = self._prepare(question, model, search, options, base_models)
        observed = ObservedCall(call.started("RetrieveAndGenerateStream"), self._observers)
        with _explained(self, question, search), observed:
            with observed.sending():
                response = call.client.retrieve_and_generate_stream(**call.request)
            observed.attempted(response)
        reader = AnswerReader(question.only_source)
        session = response.get("sessionId")
        parts = emit_end_of_stream(observed, _parts(response, reader, session))
        observed.watch(parts)
        next(parts)  # reads the first event; and a generator that was never begun closes nothing when it is given up
        return GeneratedAnswer(reader, session_id(response, "RetrieveAndGenerateStream"), call.routing(response), parts)

    def _send(self, started: CallStarted, send: Callable[..., Any]) -> dict[str, Any]:
        """Send a request, and emit the events of the call."""
        with ObservedCall(started, self._observers) as call:
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
        # A bare id says no Region; the model's ARN may.
        base = question.knowledge_base
        client = self.source.client(SERVICE, base if base and self.source.known_region(base) else target)
        request = generate_request(question, target, search, options, region=_region_of(client))
        resolver = self.source.runtime.shared(Resolver, self.source.runtime.clock)
        stated = from_base_models(target, base_models) if base_models else None
        resolved = stated or resolver.resolve(target, self.source)
        return _Call(client, request, resolved)

    def _as_its_type(self, base: KnowledgeBaseId, options: SearchOptions, send: Callable[..., Any]) -> dict[str, Any]:
        """Send as to a knowledge base of its type; where that is not known, as the refusal says."""
        from botocore.exceptions import ClientError

        managed = self._is_managed(base, options)
        try:
            response: dict[str, Any] = send(managed=managed)
        except ClientError as error:
            code, message, _ = aws_error(error)
            # The wording is not documented; the member's name is what any wording of it must have.
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
        return self  # nothing in it changes


@dataclass(frozen=True)
class _Call:
    client: Any
    request: dict[str, Any]
    resolved: ResolvedTarget

    def started(self, operation: str) -> CallStarted:
        """Return the first event of the call."""
        return CallStarted(operation=operation, client=self.client, request=self.request, resolved=self.resolved)

    def routing(self, response: dict[str, Any]) -> dict[str, Any]:
        """The ``"routing"`` entry: of what was served the API says nothing, so most of it is None."""
        config = self.request["retrieveAndGenerateConfiguration"]
        generation = next(v for v in config.values() if isinstance(v, dict)).get("generationConfiguration") or {}
        asked = {"performanceConfig": generation.get("performanceConfig")}
        return read_invocation(asked, {}, self.resolved, http=response.get("ResponseMetadata") or {}).as_dict()


@dataclass(frozen=True)
class GeneratedAnswer:
    """An answer: complete in `reader`, or arriving in `parts`.

    Attributes:
        reader: What has arrived: text, passages, citations, guardrail action.
        session_id: Continues the conversation.
        routing: The call's ``"routing"`` entry.
        parts: What is still to come; reading it fills `reader`.
    """

    reader: AnswerReader
    session_id: str | None
    routing: dict[str, Any]
    parts: Iterator[AnswerPart]


def _region_of(client: Any) -> str:
    """The Region in the ARN of a model that is named by its id; a stand-in of somebody's own may be in none."""
    region: str | None = getattr(getattr(client, "meta", None), "region_name", None)
    return region or "us-east-1"


# A function of its own, so that forgetting the iterator closes the connection at once.
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
    """What Bedrock refuses for a reason that only we can name."""
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as error:
        code, message, _ = aws_error(error)
        if code not in ("ValidationException", "ResourceNotFoundException", "ConflictException"):
            raise
        if question.session_id is not None and _is_about_session(message):
            raise SessionExpiredError(
                f"The session {question.session_id!r} is over, or never was: Bedrock keeps one for 24 hours. Leave "
                f"session_id out to begin another. ({message})",
                session_id=question.session_id,
            ) from error
        known = question.knowledge_base
        if code == "ValidationException" and known is not None and client.type_of(known, search) == MANAGED:
            raise InvalidRequestError(
                f"RetrieveAndGenerate cannot use a managed knowledge base, and {known} is one: "
                f"mode='retrieve_then_converse' can. ({message})"
            ) from error
        raise


def _is_about_session(message: str) -> bool:
    # seen in reports 2026-11: "Session with Id … is not valid. Please check and try again."
    lower = message.lower()
    return "session" in lower and any(
        word in lower for word in ("not valid", "invalid", "expired", "not found", "exist")
    )
