"""A RAG turn in LangChain's types: the chain's input, the messages of a turn, its result and its chunks, histories.

What happens in a turn is in `bedrock_routing_integrations.knowledge_base.rag`.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    BaseMessageChunk,
    HumanMessage,
    SystemMessage,
    convert_to_messages,
    message_chunk_to_message,
)
from langchain_core.runnables import RunnableWithFallbacks
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.utils import AddableDict

from bedrock_routing_integrations.caching import policy_of
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.invocation import ROUTING
from bedrock_routing_integrations.knowledge_base import (
    AnswerModel,
    Sessions,
    caches_instructions,
    checked_id,
    checked_question,
    reads_images,
    refuse_unknown,
)
from bedrock_routing_integrations.runtime import DEFAULT_RUNTIME

from ._call_arguments import pop_target
from .chat_models import ChatBedrockRouter

if TYPE_CHECKING:
    from langchain_core.documents import Document
    from langchain_core.runnables import RunnableConfig

    from bedrock_routing_integrations.knowledge_base import AnswerPart, Citation, RagTurn, SourceDocument

Result = dict[str, Any]
_KEYS = ("input", "session_id", "chat_history")
# One text block in however many chunks; LangChain's own name for such an index.
_TEXT_INDEX = "lc_txt_0"
_PROVIDER = "bedrock_knowledge_base"
_IMAGE_BLOCKS = ("image", "image_url")


# --- The input of a chain ---


@dataclass(frozen=True)
class ChainInput:
    """The input of one call of a chain.

    Attributes:
        text: The question.
        session_id: The session to continue.
        history: The conversation before the question, if the caller keeps it.
        search: Options of the search for this call.
    """

    text: str
    session_id: str | None = None
    history: tuple[BaseMessage, ...] | None = None
    search: Mapping[str, Any] = field(default_factory=dict)


def read_input(value: Any, config: RunnableConfig, call: Mapping[str, Any]) -> ChainInput:
    """Return the input of a call.

    Args:
        value: The question, or a dictionary with it.
        config: LangChain's config of the call; its ``configurable`` can have the ``session_id``.
        call: The other arguments of the call.

    Raises:
        InvalidRequestError: The question is missing, or a key does not exist.
    """
    values = {"input": value} if isinstance(value, str) else value
    if not isinstance(values, Mapping) or not isinstance(values.get("input"), str):
        kind = f"dictionary with {sorted(map(str, value))}" if isinstance(value, Mapping) else type(value).__name__
        raise InvalidRequestError(
            f"the input is a question, or {{'input': question, 'session_id': …}}, and not a {kind}."
        )
    refuse_unknown("the input", values, _KEYS)
    checked_question(values["input"])
    configured = (config.get("configurable") or {}).get("session_id")
    session_ids = (call.get("session_id"), values.get("session_id"), configured)
    session_id = checked_id(next((each for each in session_ids if each is not None), None))
    search = {name: value for name, value in call.items() if name != "session_id"}
    return ChainInput(values["input"], session_id, _read_history(values.get("chat_history")), search)


def _read_history(messages: Any) -> tuple[BaseMessage, ...] | None:
    if messages is None:
        return None
    if isinstance(messages, (str, Mapping, BaseMessage)):  # LangChain would make a message of each letter
        raise InvalidRequestError(f"chat_history must be a list of messages, and is a {type(messages).__name__}.")
    try:
        return tuple(convert_to_messages(messages))
    except Exception as error:
        raise InvalidRequestError(
            f"chat_history must be a list of messages, and LangChain cannot read it: {error}"
        ) from error


# --- The messages of a turn ---


def answer_model(model: Any) -> AnswerModel:
    """Return what a turn must know about the runnable that answers."""
    bound = model
    while isinstance(bound, RunnableBindingBase):
        bound = bound.bound
    if not isinstance(bound, ChatBedrockRouter):
        return AnswerModel(type(bound).__name__, lambda: _reads_images(model))

    def caches() -> bool:
        policies = policy_of(bound.cache_policy), bound.client.policy
        return caches_instructions(lambda: bound.client.resolve(bound.model_id), policies, bound.performance_config)

    return AnswerModel(str(bound.model_id), lambda: _reads_images(model), caches)


def _reads_images(model: Any, target: str | None = None) -> bool:
    """Return whether a model is known to read images; `target` is what a binding names instead of the model's own."""
    if isinstance(model, RunnableBindingBase):
        return _reads_images(model.bound, target or pop_target(model.kwargs)[0])
    if isinstance(model, RunnableWithFallbacks):
        return all(_reads_images(each, target) for each in (model.runnable, *model.fallbacks))
    if not isinstance(model, BaseChatModel):
        return False
    in_profile = bool((getattr(model, "profile", None) or {}).get("image_inputs"))
    if not isinstance(model, ChatBedrockRouter):
        return in_profile
    resolved = model.client.resolve(target or model.model_id)
    # The catalog may not know the model, and the user or langchain-aws may.
    return reads_images(resolved) or (resolved.facts.image_input is None and target is None and in_profile)


def count_images(messages: Sequence[BaseMessage]) -> int:
    """Return the number of images in messages."""
    contents = [message.content for message in messages if isinstance(message.content, list)]
    blocks = [block for content in contents for block in content if isinstance(block, dict)]
    return sum(block.get("type") in _IMAGE_BLOCKS or "image" in block for block in blocks)


def turn_messages(turn: RagTurn, history: Sequence[BaseMessage]) -> list[BaseMessage]:
    """Return what the chat model is asked, once the turn is composed."""
    content: Any = _with_document(turn.source, turn.prompt.user)
    blocks: list[Any] = []
    for label, image in turn.images.labelled(turn.prompt):  # before the text, as Claude's guide advises
        blocks.append({"type": "text", "text": label})
        blocks.append({"type": "image", "base64": image.base64, "mime_type": image.media_type})
    if blocks:
        content = [*blocks, {"type": "text", "text": turn.prompt.user}]
    instructions: Any = turn.prompt.system
    if turn.marks_instructions:
        instructions = [{"type": "text", "text": turn.prompt.system}, {"cachePoint": {"type": "default"}}]
    return [SystemMessage(instructions), *history, HumanMessage(content)]


def _with_document(source: SourceDocument | None, text: str) -> str | list[str | dict[str, Any]]:
    """Return the content of the user's message, with a document that is not text before the text."""
    if source is None or source.text is not None:
        return text
    text_block = {"type": "text", "text": text}
    if source.data is None:  # only Bedrock's own block can name an object in S3
        location = {"s3Location": {"uri": source.source}}
        document = {"format": source.format, "name": source.name, "source": location}
        return [{"type": "document", "document": document}, text_block]
    data = base64.b64encode(source.data).decode()
    # One provider reads `name`, another `filename`.
    file = {"type": "file", "base64": data, "mime_type": source.media_type, "name": source.name}
    return [{**file, "filename": source.name}, text_block]


def text_of(answer: BaseMessage | str) -> str:
    """Return the text that a chat model, or a model that completes texts, answered with."""
    return answer if isinstance(answer, str) else str(_checked_message(answer).text)


def _checked_message(answer: Any) -> Any:
    if not isinstance(answer, BaseMessage):
        raise InvalidRequestError(f"model must answer with a message or a text, not with a {type(answer).__name__}.")
    return answer


def roles_and_texts(messages: Sequence[BaseMessage]) -> list[tuple[str, str]]:
    """Return a conversation as (role, text)."""
    # By class and not by `type`: the sum of a stream, AIMessageChunk, has a type of its own.
    roles: dict[type[BaseMessage], str] = {HumanMessage: "user", AIMessage: "assistant"}
    return [
        (role, message.text)
        for message in messages
        for kind, role in roles.items()
        if isinstance(message, kind) and message.text
    ]


def intervened(answer: Any) -> bool:
    """Return whether a guardrail replaced the answer of a chat model."""
    metadata = getattr(answer, "response_metadata", None) or {}
    return "guardrail_intervened" in (metadata.get("stopReason"), metadata.get("stop_reason"))


# --- The result of a turn, whole and in chunks ---


class TurnResult:
    """The result of a turn, from a chat model's answer: whole (`finish`), or in chunks that add up to the same.

    Args:
        turn: The turn, composed.
        documents: What was found; the turn's passages in LangChain's type.
        session_id: The session, for the result.
    """

    def __init__(self, turn: RagTurn, documents: list[Document], session_id: str | None) -> None:
        self._turn, self._documents, self._session_id = turn, documents, session_id
        self._sum: BaseMessageChunk | None = None

    def opening(self) -> AddableDict:
        """Return the chunk before the answer: what was found."""
        opening = {"context": self._documents, "answer": "", "citations": [], "session_id": self._session_id}
        return AddableDict(opening, **self._turn.omissions)

    def read_chunk(self, chunk: BaseMessageChunk | str) -> AddableDict | None:
        """Return what is new with a chunk of the model; None if nothing can be shown yet."""
        message = AIMessageChunk(content=chunk) if isinstance(chunk, str) else _checked_message(chunk)
        self._sum = message if self._sum is None else self._sum + message
        part = self._turn.read(message.text)
        reasoning = _reasoning_blocks(message)
        if not (part.text or part.citations or reasoning):
            return None
        return answer_chunk(part, self._documents, reasoning)

    def finish_stream(self) -> AddableDict:
        """Return the last chunk: what was held back, and which model answered."""
        whole = self._sum
        closing = closing_chunk(_own_metadata(whole.response_metadata if whole is not None else {}))
        closing.usage_metadata = getattr(whole, "usage_metadata", None)
        message = message_chunk_to_message(whole) if whole is not None else closing
        last = answer_chunk(self._finish(message), self._documents)
        last["message"] = last["message"] + closing
        return last + AddableDict(self._outcome())

    def finish(self, answer: AIMessage | str) -> Result:
        """Return the whole result."""
        message = AIMessage(content=answer) if isinstance(answer, str) else _checked_message(answer)
        turn = self._turn
        turn.read(message.text)
        self._finish(message)
        content = [*_reasoning_blocks(message), *text_blocks(turn.text, turn.citations, self._documents)]
        metadata = {**_own_metadata(message.response_metadata), "output_version": "v1"}
        return {
            "input": turn.question,
            "context": self._documents,
            "answer": turn.text,
            "citations": turn.citations,
            "session_id": self._session_id,
            "guardrail_action": turn.guardrail_action,
            "message": message.model_copy(update={"content": content, "response_metadata": metadata}),
            "routing": turn.routing,
            **turn.omissions,
        }

    def _finish(self, message: BaseMessage) -> AnswerPart:
        return self._turn.finish(routing=message.response_metadata.get(ROUTING), intervened=intervened(message))

    def _outcome(self) -> dict[str, Any]:
        return {"guardrail_action": self._turn.guardrail_action, "routing": self._turn.routing}


def _reasoning_blocks(message: BaseMessage) -> list[Any]:
    return [block for block in message.content_blocks if block.get("type") == "reasoning"]


def _own_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of a message that this package put together.

    A chat model that reads its own provider's name there would send our citations to that provider as its own, which
    refuses them (seen 2026-11 with langchain-aws 1.9.1), when the message is part of a conversation.
    """
    return {**metadata, "model_provider": _PROVIDER}


def answer_chunk(part: AnswerPart, documents: Sequence[Document], others: Sequence[Any] = ()) -> AddableDict:
    """Return a part of an answer as a partial result.

    Args:
        part: What is new of the answer.
        documents: The context so far.
        others: Content blocks that are not text.
    """
    blocks = [{**block, "index": _TEXT_INDEX} for block in text_blocks(part.text, part.citations, documents)]
    message = AIMessageChunk(content=[*others, *blocks], response_metadata={"output_version": "v1"})
    return AddableDict(answer=part.text, citations=list(part.citations), message=message)


def text_blocks(text: str, citations: Sequence[Citation], documents: Sequence[Document]) -> list[Any]:
    """Return the text block of an answer, with LangChain's standard annotations; none for an empty answer."""
    annotations = [_annotation(citation, documents[number]) for citation in citations for number in citation.passages]
    if not text and not annotations:
        return []
    return [{"type": "text", "text": text, **({"annotations": annotations} if annotations else {})}]


def _annotation(citation: Citation, document: Document) -> dict[str, Any]:
    metadata = document.metadata
    source, title = metadata.get("source"), metadata.get("title")
    members = {
        "type": "citation",
        "start_index": citation.start,
        "end_index": citation.end,
        "cited_text": document.page_content,
        "url": str(source) if source else None,
        "title": title if isinstance(title, str) else (str(source).rstrip("/").rpartition("/")[2] if source else None),
    }
    extras = {name: metadata[name] for name in ("score", "document_id", "location") if metadata.get(name) is not None}
    return {
        **{name: value for name, value in members.items() if value},
        "start_index": citation.start,
        "extras": extras,
    }


def generated_message(
    text: str, citations: Sequence[Citation], documents: Sequence[Document], metadata: Mapping[str, Any]
) -> AIMessage:
    """Return an answer of RetrieveAndGenerate as a message."""
    content = text_blocks(text, citations, documents) or [{"type": "text", "text": ""}]
    return AIMessage(content=content, response_metadata={**metadata, "output_version": "v1"})


def generated_metadata(routing: Mapping[str, Any]) -> dict[str, Any]:
    """Return `response_metadata` of an answer of RetrieveAndGenerate: the requested model if no other is known."""
    name = routing["invoked_model"] or routing["requested_model_id"]
    return {"model_name": name, "model_provider": _PROVIDER, ROUTING: dict(routing)}


def closing_chunk(metadata: Mapping[str, Any]) -> AIMessageChunk:
    """Return the last chunk of a message, with its metadata."""
    return AIMessageChunk(content=[], response_metadata=dict(metadata), chunk_position="last")


# --- Histories of sessions ---

_MOST_MESSAGES = 100


class MessageHistory(Protocol):
    """The messages of a session: any of LangChain's ``BaseChatMessageHistory``."""

    @property
    def messages(self) -> Sequence[BaseMessage]:
        """The messages, oldest first."""

    async def aget_messages(self) -> Sequence[BaseMessage]:
        """`messages`, asynchronously."""

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Add messages."""

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """`add_messages`, asynchronously."""


class SessionMessages:
    """A history in memory, of the last 100 messages."""

    def __init__(self) -> None:
        self.messages: tuple[BaseMessage, ...] = ()
        self._lock = threading.Lock()

    async def aget_messages(self) -> Sequence[BaseMessage]:
        """Return the messages, oldest first."""
        return self.messages

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Add messages; the oldest go first."""
        with self._lock:
            self.messages = (*self.messages, *messages)[-_MOST_MESSAGES:]

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """`add_messages`, asynchronously."""
        self.add_messages(messages)


def checked_history(history: Any) -> MessageHistory:
    """Return a history that `get_session_history` returned.

    Raises:
        InvalidRequestError: It is not a history.
    """
    if not (hasattr(history, "messages") and hasattr(history, "add_messages")):
        raise InvalidRequestError(
            f"get_session_history returned a {type(history).__name__}. It must return one of LangChain's chat message "
            "histories, which have `messages` and `add_messages`."
        )
    return history  # type: ignore[no-any-return]


def _new_history(_session_id: str) -> MessageHistory:
    return SessionMessages()


def shared_sessions() -> Sessions[MessageHistory]:
    """Return the sessions of this process: as with Bedrock's own, any object continues a session by its id."""
    return DEFAULT_RUNTIME.shared(Sessions, _new_history, DEFAULT_RUNTIME.clock)
