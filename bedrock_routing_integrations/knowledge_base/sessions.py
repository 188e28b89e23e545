"""Keep sessions of retrieve_then_converse in this process, as Bedrock keeps those of RetrieveAndGenerate."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from bedrock_routing_integrations.bounded_cache import ExpiringCache
from bedrock_routing_integrations.errors import InvalidRequestError, SessionExpiredError

if TYPE_CHECKING:
    from collections.abc import Callable

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
