"""Run one turn of retrieve_then_converse: question → search → prompt → answer with citations.

RetrieveAndGenerate does all of it inside Bedrock and reports neither the invoked model nor tokens, and nothing of it
can be changed. Here the same turn is made of Retrieve and Converse, so that any model can answer and ``"routing"`` is
complete. The steps, and why each is as it is:

1. **Begin.** The session's history is read. A session belongs to the process (`Sessions`, 24 hours like Bedrock's own)
   or to a store of the caller's.
2. **Reword.** A follow-up ("And when?") finds nothing by itself. If there is a history, or the question may be split, a
   model is asked first for standalone queries. Without either, the question is searched for as it is: one call of a
   model less. If a guardrail replaced that model's answer, the question itself is searched for.
3. **Retrieve**, once for each query. A passage that several searches found is used once.
4. **Compose.** What stays the same from question to question goes into the system prompt and is marked for the cache if
   all candidate models take a cache point there. What changes (passages, time, question) goes into the user message,
   inside a fence that passages cannot close (`prompts`). Images go to models that read them; everything that was found
   and not given to the model is listed as an omission.
5. **Read.** The model was asked to write ``[cite: 1]`` after a statement. The markers are taken out as the answer
   arrives, and those that name a passage of the prompt become `Citation`s (`inline_citations`). A stream may cut a
   marker anywhere, so text that could still become one is held back.
6. **Remember.** The next turn sees the question and the answer, without passages and markers. An answer that a
   guardrail replaced is not kept: it would trigger the guardrail again in every later turn.

`RagTurn` is that state machine without input or output: it holds no framework's type and calls nothing that waits,
except that `compose` may look up the model's target and so does not belong on an event loop. LangChain's chain and
LlamaIndex's query engine call the models and retrievers between its steps, each in a synchronous and an asynchronous
way. Tried before: the same steps written in each framework's types; the two differed in what they refused and in what
they remembered.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from bedrock_routing_integrations.bounded_cache import ExpiringCache
from bedrock_routing_integrations.caching import takes_system_point
from bedrock_routing_integrations.errors import InvalidRequestError, SessionExpiredError

from .images import ImageSelection, select_images
from .inline_citations import InlineCitationReader
from .prompts import Prompt, compose, current_time, read_queries, rewriting_prompt

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from bedrock_routing_integrations.caching import CachePolicy
    from bedrock_routing_integrations.models.candidates import ResolvedTarget

    from .citations import AnswerPart, Citation
    from .generation import GenerationOptions
    from .passages import Passage, SourceDocument

INTERVENED, NONE = "INTERVENED", "NONE"
"""Values of ``guardrail_action``."""
Item = TypeVar("Item")


def _no() -> bool:
    return False


@dataclass(frozen=True)
class AnswerModel:
    """Properties of the model that answers, for composing its prompt. Both functions may look up the model's target.

    Attributes:
        name: The model's name, for warnings.
        reads_images: Whether the model is known to read images.
        caches_instructions: Whether the system prompt is to end in a cache point.
    """

    name: str
    reads_images: Callable[[], bool] = _no
    caches_instructions: Callable[[], bool] = _no


def caches_instructions(
    resolve: Callable[[], ResolvedTarget], policies: Iterable[CachePolicy], performance_config: Any
) -> bool:
    """Return whether the instructions for a target are to be marked for the cache.

    Args:
        resolve: Looks up the target; called only if the policies allow a cache point.
        policies: The cache policies that apply to the call. All must mark the system prompt.
        performance_config: As for Converse; latency-optimized calls of some models take no cache point.
    """
    if not all(policy.marks("system") for policy in policies):
        return False
    optimized = (performance_config or {}).get("latency") == "optimized"
    return takes_system_point(resolve(), optimized=optimized)


class RagTurn:
    """One question, from the search for passages to the exchange that the next turn remembers.

    Call `rewording_prompt`, `queries`, `compose`, `read` for each piece of the answer, `finish`, `exchange`, in this
    order. With a `source` nothing is searched, and the turn begins with `compose`.

    Args:
        question: The question as the user asked it.
        options: Templates and query decomposition.
        history: The conversation before it, as (role, text).
        source: The one document to answer from, instead of a search.

    Attributes:
        passages: What the answer can cite.
        prompt: What the model is asked, after `compose`.
        images: The images that the model is shown, and the omissions.
        marks_instructions: Whether the system prompt is to end in a cache point.
        citations: Those found so far, verified.
        guardrail_action: ``"INTERVENED"``, ``"NONE"``, or None without a guardrail.
        routing: The ``"routing"`` dictionary of the answer, after `finish`; None if the model gave none.
    """

    prompt: Prompt
    images: ImageSelection
    _answer: InlineCitationReader

    def __init__(
        self,
        question: str,
        options: GenerationOptions,
        *,
        history: Sequence[tuple[str, str]] = (),
        source: SourceDocument | None = None,
    ) -> None:
        self.question, self.source = question, source
        self._options, self._history = options, history
        self.passages: Sequence[Passage] = ()
        self.marks_instructions = False
        self.guardrail_action = NONE if options.guardrail else None
        self.routing: dict[str, Any] | None = None

    def rewording_prompt(self) -> str | None:
        """Return what to ask a model before searching; None if the question is searched for as it is."""
        return rewriting_prompt(
            self.question,
            self._history,
            template=self._options.orchestration_prompt_template,
            decompose=self._options.query_decomposition,
            now=current_time(),
        )

    def queries(self, reworded: str | None) -> list[str]:
        """Return what to search for: one query, or up to five with query decomposition.

        Args:
            reworded: The answer to `rewording_prompt`; None if there was none, or if a guardrail replaced it.
        """
        if reworded is None:
            return [self.question]
        return read_queries(reworded, self.question, decompose=self._options.query_decomposition)

    def compose(
        self,
        passages: Sequence[Passage],
        model: AnswerModel,
        *,
        guardrail_actions: Iterable[str | None] = (),
        images_before: int = 0,
    ) -> None:
        """Compose the prompt from what was found. May look up the model's target: not for an event loop.

        Args:
            passages: What was found, each once. With a `source`, its one passage.
            model: The model that answers.
            guardrail_actions: What a guardrail did in each search.
            images_before: Images in the conversation before, which count among those of the request.
        """
        if INTERVENED in guardrail_actions:
            self.guardrail_action = INTERVENED
        self.passages = passages
        reads = any(passage.data_uri for passage in passages) and model.reads_images()
        self.images = select_images(passages, reads=reads, model=model.name, before=images_before)
        self.prompt = compose(
            self.question,
            [passage.text for passage in passages] if self.source is None else [self.source.shown],
            template=self._options.prompt_template,
            now=current_time(),
            images=self.images.attached,
        )
        self.marks_instructions = model.caches_instructions()
        self._answer = InlineCitationReader(self.prompt, passages)

    @property
    def text(self) -> str:
        """The answer so far, without markers."""
        return self._answer.text

    @property
    def citations(self) -> list[Citation]:
        """The citations so far."""
        return self._answer.citations

    @property
    def omissions(self) -> dict[str, list[dict[str, Any]]]:
        """``{"omissions": [...]}`` for the result; empty if everything that was found was given to the model."""
        return self.images.dictionaries()

    def read(self, text: str) -> AnswerPart:
        """Return what is new now that `text` has arrived: text without markers, and citations."""
        return self._answer.read(text)

    def finish(self, *, routing: dict[str, Any] | None = None, intervened: bool = False) -> AnswerPart:
        """Return what is left when the model has answered.

        Args:
            routing: The ``"routing"`` dictionary of the answer, if the model gave one.
            intervened: Whether a guardrail replaced the answer.
        """
        self.routing = routing
        if intervened:
            self.guardrail_action = INTERVENED
        return self._answer.finish()

    def exchange(self) -> tuple[str, str] | None:
        """Return question and answer for the history; None without an answer, or if a guardrail intervened."""
        if self.guardrail_action == INTERVENED or not self.text:
            return None
        return self.question, self.text


def distinct(searches: Iterable[Iterable[Item]], key: Callable[[Item], Hashable]) -> list[Item]:
    """Return the results of several searches, each once, in the order in which they first come.

    Args:
        searches: The results of each search.
        key: Equal for the same passage.
    """
    kept: dict[Hashable, Item] = {}
    for item in (item for search in searches for item in search):
        kept.setdefault(key(item), item)
    return list(kept.values())


# --- Sessions, kept in this process as Bedrock keeps those of RetrieveAndGenerate ---

S = TypeVar("S")
LASTS_SECONDS = 24 * 3600.0
"""As long as one of Bedrock's lasts."""
_SESSIONS_KEPT = 10_000


class Sessions(Generic[S]):
    """The stores of sessions by id, in memory: each for 24 hours from its last use. Safe under threads.

    Args:
        make: Makes the store of a new session of this id.
        clock: Seconds, monotonic.
    """

    def __init__(self, make: Callable[[str], S], clock: Callable[[], float] = time.monotonic) -> None:
        self._make = make
        self._sessions: ExpiringCache[str, S] = ExpiringCache(_SESSIONS_KEPT, clock)

    def reset(self) -> None:
        """Forget all sessions."""
        self._sessions.reset()

    def open(self, session_id: str | None, elsewhere: Callable[[str], S] | None = None) -> tuple[str, S]:
        """Return the id and the store of a session; of a new one without an id.

        Args:
            session_id: The id of the answer before, or None.
            elsewhere: The caller's function from an id to a store. Any id is valid for it.

        Raises:
            InvalidRequestError: The id is not a text, or empty.
            SessionExpiredError: The session is over, or was begun elsewhere.
        """
        session_id = checked_id(session_id)
        if elsewhere is not None:
            session_id = session_id or str(uuid.uuid4())
            return session_id, elsewhere(session_id)
        return self.begin() if session_id is None else (session_id, self.find(session_id))

    def begin(self) -> tuple[str, S]:
        """Return the id and the store of a new session."""
        session_id = str(uuid.uuid4())
        store = self._make(session_id)
        self._keep(session_id, store)
        return session_id, store

    def find(self, session_id: str) -> S:
        """Return the store of a session.

        Raises:
            SessionExpiredError: The session is over, or was begun elsewhere.
        """
        store = self._sessions.peek(session_id)
        if store is not None:
            self._keep(session_id, store)
            return store
        raise SessionExpiredError(
            f"The session {session_id!r} is over, or never was. With mode='retrieve_then_converse' the process that "
            f"began a session keeps it for 24 hours, the last {_SESSIONS_KEPT:,} of them; Bedrock keeps those of the "
            "other mode. Leave session_id out to begin another; to keep sessions elsewhere, give get_session_history "
            "(LlamaIndex: get_memory).",
            session_id=session_id,
        )

    def _keep(self, session_id: str, store: S) -> None:
        self._sessions.put(session_id, store, LASTS_SECONDS)
        self._sessions.drop_expired()


def checked_id(session_id: Any) -> str | None:
    """Return a session id as it is; None for a new session.

    Raises:
        InvalidRequestError: The id is not a text, or empty.
    """
    if session_id is not None and (not isinstance(session_id, str) or not session_id):
        raise InvalidRequestError(
            f"session_id={session_id!r} is not valid. Give the session_id of the answer before, or none to begin a "
            "session."
        )
    return session_id
