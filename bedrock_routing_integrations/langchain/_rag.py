"""One question to a knowledge base and what came of it, in LangChain's types."""

from __future__ import annotations

import base64
import os
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

from bedrock_routing_integrations.caching import policy_of, takes_system_point
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.invocation import ROUTING
from bedrock_routing_integrations.knowledge_base import (
    ImageSelection,
    MarkedAnswer,
    Part,
    Sessions,
    compose,
    current_time,
    reads_images,
    refuse_unknown,
    select_images,
)

from ._call_arguments import pop_target
from .chat_models import ChatBedrockRouter
from .retrievers import passage_of

if TYPE_CHECKING:
    from langchain_core.documents import Document
    from langchain_core.runnables import RunnableConfig

    from bedrock_routing_integrations.knowledge_base import Citation, Passage, Prompt, SourceDocument


# --- Retrieved images in LangChain's types: who can read them, and the message that holds them. ---

_IMAGE_BLOCKS = ("image", "image_url")


def images_for(model: Any, passages: Sequence[Passage], history: Sequence[BaseMessage]) -> ImageSelection:
    """Select the images that a model is shown. May look up the model's target, so it is not for an event loop."""
    contents = [message.content for message in history if isinstance(message.content, list)]
    before = sum(_is_image(block) for content in contents for block in content if isinstance(block, dict))
    named = _name_of(model)
    # A look-up, so only where there is something to show.
    reads = any(passage.data_uri for passage in passages) and _reads_images(model)
    return select_images(passages, reads=reads, model=named, before=before)


def image_blocks(images: ImageSelection, prompt: Prompt) -> list[str | dict[str, Any]]:
    """Return LangChain's standard blocks for the images, each behind a text that names its passage."""
    blocks: list[str | dict[str, Any]] = []
    for label, image in images.labelled(prompt):
        blocks.append({"type": "text", "text": label})
        blocks.append({"type": "image", "base64": image.base64, "mime_type": image.media_type})
    return blocks


def _is_image(block: dict[str, Any]) -> bool:
    return block.get("type") in _IMAGE_BLOCKS or "image" in block


def _reads_images(model: Any, called: str | None = None) -> bool:
    """Whether a model is known to read images; `called` is the target that a binding names instead of its own."""
    if isinstance(model, RunnableBindingBase):
        return _reads_images(model.bound, called or pop_target(model.kwargs)[0])
    if isinstance(model, RunnableWithFallbacks):
        return all(_reads_images(each, called) for each in (model.runnable, *model.fallbacks))
    if not isinstance(model, BaseChatModel):
        return False
    stated = bool((getattr(model, "profile", None) or {}).get("image_inputs"))
    if not isinstance(model, ChatBedrockRouter):
        return stated
    resolved = model.client.resolve(called or model.model_id)
    # Of a model that the catalog does not know, the user or langchain-aws may know it.
    return reads_images(resolved) or (resolved.facts.image_input is None and called is None and stated)


def _name_of(model: Any) -> str:
    while isinstance(model, RunnableBindingBase):
        model = model.bound
    return str(model.model_id) if isinstance(model, ChatBedrockRouter) else type(model).__name__


INTERVENED = "INTERVENED"
_KEYS = ("input", "session_id", "chat_history")
# One text block, whatever pieces it comes in; LangChain's own name for such an index.
_TEXT_INDEX = "lc_txt_0"
_PROVIDER = "bedrock_knowledge_base"


@dataclass(frozen=True)
class Asked:
    """What a chain was called with.

    Attributes:
        text: The question.
        session_id: The conversation to go on with.
        history: The conversation itself, where the caller keeps it.
        search: Options of the search for this call.
    """

    text: str
    session_id: str | None = None
    history: tuple[BaseMessage, ...] | None = None
    search: Mapping[str, Any] = field(default_factory=dict)


def read_input(given: Any, config: RunnableConfig, call: Mapping[str, Any]) -> Asked:
    """The input of a chain: the question, or a dictionary with it; and what was said beside it.

    Raises:
        InvalidRequestError: It is no question.
    """
    values = {"input": given} if isinstance(given, str) else given
    if not isinstance(values, Mapping) or not isinstance(values.get("input"), str):
        raise InvalidRequestError(
            f"the input is a question, or {{'input': question, 'session_id': …}}, and not {_shown(given)}"
        )
    refuse_unknown("the input", values, _KEYS)
    if not values["input"].strip():
        raise InvalidRequestError("the question is empty: say what to answer")
    configured = (config.get("configurable") or {}).get("session_id")
    given_ids = (call.get("session_id"), values.get("session_id"), configured)
    session_id = next((each for each in given_ids if each is not None), None)
    if session_id is not None and (not isinstance(session_id, str) or not session_id):
        raise InvalidRequestError(f"session_id={session_id!r} is no id: give that of the answer before, or none")
    search = {name: value for name, value in call.items() if name != "session_id"}
    return Asked(values["input"], session_id, _read_history(values.get("chat_history")), search)


def _read_history(given: Any) -> tuple[BaseMessage, ...] | None:
    if given is None:
        return None
    if isinstance(given, (str, Mapping, BaseMessage)):  # LangChain would make a message of each letter
        raise InvalidRequestError(f"chat_history must be a list of messages, and is a {type(given).__name__}")
    try:
        return tuple(convert_to_messages(given))
    except Exception as error:
        raise InvalidRequestError(
            f"chat_history must be LangChain's messages, or what they are made of: {error}"
        ) from error


def _shown(given: Any) -> str:
    return f"a dictionary with {sorted(map(str, given))}" if isinstance(given, Mapping) else f"a {type(given).__name__}"


def text_of(said: BaseMessage | str) -> str:
    """What a chat model, or one that completes texts, has said."""
    return said if isinstance(said, str) else str(_checked(said).text)


def _checked(said: Any) -> Any:
    if not isinstance(said, BaseMessage):
        raise InvalidRequestError(f"the model must answer with a message or a text, not with a {type(said).__name__}")
    return said


def turns_of(messages: Sequence[BaseMessage]) -> list[tuple[str, str]]:
    """A conversation as (role, text)."""
    # By class and not by `type`: what a stream adds up to, AIMessageChunk, has a type of its own.
    roles: dict[type[BaseMessage], str] = {HumanMessage: "user", AIMessage: "assistant"}
    return [
        (role, message.text)
        for message in messages
        for kind, role in roles.items()
        if isinstance(message, kind) and message.text
    ]


@dataclass
class Conversation:
    """A session that we keep: its id, what was said, and where it is kept (None where the caller keeps it)."""

    session_id: str | None
    messages: tuple[BaseMessage, ...]
    kept_in: MessageHistory | None


@dataclass
class Turn:
    """A question that we retrieve for, and the answer of a chat model as it arrives.

    Attributes:
        documents: What was found.
        messages: What the chat model is asked.
        omissions: What was found and not given to the model, as the result's ``"omissions"``; else empty.
    """

    asked: Asked
    documents: list[Document]
    messages: list[BaseMessage]
    answer: MarkedAnswer
    guardrail_action: str | None
    guarded: bool
    omissions: Mapping[str, Any] = field(default_factory=dict)
    whole: BaseMessageChunk | None = None

    @classmethod
    def begin(
        cls,
        asked: Asked,
        documents: list[Document],
        history: Sequence[BaseMessage],
        *,
        model: Any,
        template: str | None,
        source: SourceDocument | None = None,
        guarded: bool = False,
        actions: Sequence[str | None] = (),
    ) -> Turn:
        """Compose what to ask. May look up the model's target, so that it is not for an event loop."""
        passages = [passage_of(document) for document in documents]
        texts = [passage.text for passage in passages] if source is None else [source.shown]
        images = images_for(model, passages, history)
        prompt = compose(asked.text, texts, template=template, now=current_time(), images=images.attached)
        content = _with_document(source, prompt.user)
        if shown := image_blocks(images, prompt):  # before the text, as Claude's guide advises
            content = [*shown, {"type": "text", "text": prompt.user}]
        messages = [_system_message(prompt, model), *history, HumanMessage(content)]
        action = INTERVENED if INTERVENED in actions else None
        answer = MarkedAnswer(prompt, passages)
        return cls(asked, documents, messages, answer, action, guarded, images.dictionaries())

    def chunk(self, part: Part, others: Sequence[Any] = ()) -> AddableDict:
        """What is new of the answer; `others` are blocks that are no text."""
        return answer_chunk(part, self.documents, others)

    def read_chunk(self, said: BaseMessageChunk | str) -> AddableDict | None:
        """What is new with a chunk of the model; None where nothing can be said yet."""
        message = AIMessageChunk(content=said) if isinstance(said, str) else _checked(said)
        self.whole = message if self.whole is None else self.whole + message
        part = self.answer.read(message.text)
        others = [block for block in message.content_blocks if block.get("type") == "reasoning"]
        return self.chunk(part, others) if part.text or part.citations or others else None

    def finish_stream(self) -> AddableDict:
        """What is left when the chat model has said everything: also who answered."""
        last = self.chunk(self.answer.finish())
        whole = self.whole
        said = closing_chunk(_as_ours(whole.response_metadata if whole is not None else {}))
        said.usage_metadata = getattr(whole, "usage_metadata", None)
        last["message"] = last["message"] + said
        return last + AddableDict(self._closing(message_chunk_to_message(whole) if whole is not None else said))

    def finish(self, said: AIMessage | str) -> dict[str, Any]:
        """The result, where the model has answered at once."""
        message = AIMessage(content=said) if isinstance(said, str) else _checked(said)
        self.answer.read(message.text)
        self.answer.finish()
        others = [block for block in message.content_blocks if block.get("type") == "reasoning"]
        content = [*others, *text_blocks(self.answer.text, self.answer.citations, self.documents)]
        return {
            "input": self.asked.text,
            "context": self.documents,
            "answer": self.answer.text,
            "citations": self.answer.citations,
            **self.omissions,
            "message": message.model_copy(
                update={
                    "content": content,
                    "response_metadata": {**_as_ours(message.response_metadata), "output_version": "v1"},
                }
            ),
            **self._closing(message),
        }

    def _closing(self, message: BaseMessage) -> dict[str, Any]:
        metadata = message.response_metadata
        if intervened(message):
            self.guardrail_action = INTERVENED
        return {
            "guardrail_action": self.guardrail_action or ("NONE" if self.guarded else None),
            "routing": metadata.get(ROUTING),
        }

    def exchange(self) -> list[BaseMessage]:
        """What a conversation goes on from: the question and the answer, not the passages.

        Nothing where a guardrail put something else in place of the answer: it would each time again.
        """
        if self.guardrail_action == INTERVENED or not self.answer.text:
            return []
        return [HumanMessage(self.asked.text), AIMessage(self.answer.text)]


def intervened(said: Any) -> bool:
    """Whether a guardrail put something else in place of what a chat model said."""
    metadata = getattr(said, "response_metadata", None) or {}
    return "guardrail_intervened" in (metadata.get("stopReason"), metadata.get("stop_reason"))


def _system_message(prompt: Prompt, model: Any) -> SystemMessage:
    """The fixed instructions, marked for the cache where the models take it."""
    while isinstance(model, RunnableBindingBase):
        model = model.bound
    if not isinstance(model, ChatBedrockRouter):
        return SystemMessage(prompt.system)
    policies = policy_of(model.cache_policy), model.client.policy
    if not all(policy.marks("system") for policy in policies):
        return SystemMessage(prompt.system)
    optimized = (model.performance_config or {}).get("latency") == "optimized"
    if not takes_system_point(model.client.resolve(model.model_id), optimized=optimized):
        return SystemMessage(prompt.system)
    return SystemMessage([{"type": "text", "text": prompt.system}, {"cachePoint": {"type": "default"}}])


def _with_document(source: SourceDocument | None, text: str) -> str | list[str | dict[str, Any]]:
    """What the user says, with the document that is not text before it."""
    if source is None or source.text is not None:
        return text
    said = {"type": "text", "text": text}
    if source.data is None:  # only Bedrock's own block can name an object in S3
        where = {"s3Location": {"uri": source.source}}
        return [
            {"type": "document", "document": {"format": source.format, "name": source.name, "source": where}},
            said,
        ]
    data = base64.b64encode(source.data).decode()
    # One provider reads `name`, another `filename`.
    file = {"type": "file", "base64": data, "mime_type": source.media_type, "name": source.name}
    return [{**file, "filename": source.name}, said]


def _as_ours(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of a message that we have put together.

    A chat model that reads its own provider's name there would send our citations to that provider as its own, which
    refuses them (seen 2026-11 with langchain-aws 1.9.1), when the message is part of a conversation.
    """
    return {**metadata, "model_provider": _PROVIDER}


def answer_chunk(part: Part, documents: Sequence[Document], others: Sequence[Any] = ()) -> AddableDict:
    """A part of an answer as a partial dictionary; `documents` are those of the context so far."""
    blocks = [{**block, "index": _TEXT_INDEX} for block in text_blocks(part.text, part.citations, documents)]
    message = AIMessageChunk(content=[*others, *blocks], response_metadata={"output_version": "v1"})
    return AddableDict(answer=part.text, citations=list(part.citations), message=message)


def text_blocks(text: str, citations: Sequence[Citation], documents: Sequence[Document]) -> list[Any]:
    """The text block of an answer, with LangChain's standard annotations; none where there is nothing."""
    annotations = [_annotation(citation, documents[number]) for citation in citations for number in citation.passages]
    if not text and not annotations:
        return []
    return [{"type": "text", "text": text, **({"annotations": annotations} if annotations else {})}]


def _annotation(citation: Citation, document: Document) -> dict[str, Any]:
    metadata = document.metadata
    source, title = metadata.get("source"), metadata.get("title")
    found = {
        "type": "citation",
        "start_index": citation.start,
        "end_index": citation.end,
        "cited_text": document.page_content,
        "url": str(source) if source else None,
        "title": title if isinstance(title, str) else (str(source).rstrip("/").rpartition("/")[2] if source else None),
    }
    extras = {name: metadata[name] for name in ("score", "document_id", "location") if metadata.get(name) is not None}
    return {**{name: value for name, value in found.items() if value}, "start_index": citation.start, "extras": extras}


def generated_message(
    text: str, citations: Sequence[Citation], documents: Sequence[Document], metadata: Mapping[str, Any]
) -> AIMessage:
    """An answer of RetrieveAndGenerate as a message."""
    content = text_blocks(text, citations, documents) or [{"type": "text", "text": ""}]
    return AIMessage(content=content, response_metadata={**metadata, "output_version": "v1"})


def metadata_of(routing: Mapping[str, Any]) -> dict[str, Any]:
    """`response_metadata` of an answer of RetrieveAndGenerate: the model is the one asked where no other is known."""
    name = routing["invoked_model"] or routing["requested_model_id"]
    return {"model_name": name, "model_provider": _PROVIDER, ROUTING: dict(routing)}


def closing_chunk(metadata: Mapping[str, Any]) -> AIMessageChunk:
    """The last chunk of a message, with its metadata."""
    return AIMessageChunk(content=[], response_metadata=dict(metadata), chunk_position="last")


# --- What was said in a session, as long as nobody else keeps it. ---

_MOST_MESSAGES = 100


class MessageHistory(Protocol):
    """Where the messages of a session are: any of LangChain's ``BaseChatMessageHistory``."""

    @property
    def messages(self) -> Sequence[BaseMessage]:
        """What was said, oldest first."""

    async def aget_messages(self) -> Sequence[BaseMessage]:
        """The same, asynchronously."""

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Keep what was said now."""

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """The same, asynchronously."""


class SessionMessages:
    """A history in memory, of the last 100 messages."""

    def __init__(self) -> None:
        self.messages: tuple[BaseMessage, ...] = ()
        self._lock = threading.Lock()

    async def aget_messages(self) -> Sequence[BaseMessage]:
        """What was said, oldest first."""
        return self.messages

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Keep what was said now; the oldest go first."""
        with self._lock:
            self.messages = (*self.messages, *messages)[-_MOST_MESSAGES:]

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """The same, asynchronously."""
        self.add_messages(messages)


def checked_history(given: Any) -> MessageHistory:
    """What a `get_session_history` has given.

    Raises:
        InvalidRequestError: It is no history.
    """
    if not (hasattr(given, "messages") and hasattr(given, "add_messages")):
        raise InvalidRequestError(
            f"get_session_history gave a {type(given).__name__}: a history has `messages` and `add_messages`"
        )
    return given  # type: ignore[no-any-return]


shared_sessions: Sessions[MessageHistory] = Sessions(lambda _: SessionMessages())
"""The conversations of this process\'s chains: as with Bedrock\'s own, whichever object is given the id goes on."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=shared_sessions.forget)
