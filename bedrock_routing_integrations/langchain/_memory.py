"""What was said in a session, as long as nobody else keeps it.

LangChain has deprecated its ``InMemoryChatMessageHistory`` (seen 2026-11 with langchain-core 1.7), so that one of our
own stands for it. Whatever has these methods, such as the histories of LangChain's integrations, can be given instead.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Protocol

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.knowledge_base import Sessions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.messages import BaseMessage

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
