"""Conversations with a knowledge base that are kept here, as Bedrock keeps those of RetrieveAndGenerate."""

from __future__ import annotations

import threading
import time
import uuid
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

from bedrock_routing_integrations.errors import SessionExpiredError

if TYPE_CHECKING:
    from collections.abc import Callable

H = TypeVar("H")
LASTS_SECONDS = 24 * 3600.0
"""As long as one of Bedrock's lasts."""
_MOST_KEPT = 10_000


class Sessions(Generic[H]):
    """The histories of sessions by id, in memory: each for 24 hours from its last use. Safe under threads.

    Args:
        make: Makes the history of a new session of this id.
        clock: Seconds, only ever rising.
    """

    def __init__(self, make: Callable[[str], H], clock: Callable[[], float] = time.monotonic) -> None:
        self._make, self._clock = make, clock
        self.forget()

    def forget(self) -> None:
        """Forget every session; also in a process that was just forked, where another thread may have held the lock."""
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[float, H]] = OrderedDict()

    def begin(self) -> tuple[str, H]:
        """A new session: its id and its history."""
        session_id = str(uuid.uuid4())
        history = self._make(session_id)
        with self._lock:
            self._keep(session_id, history)
        return session_id, history

    def find(self, session_id: str) -> H:
        """The history of a session.

        Raises:
            SessionExpiredError: It is over, or was begun elsewhere.
        """
        with self._lock:
            kept = self._kept.get(session_id)
            if kept is not None and kept[0] > self._clock():
                self._keep(session_id, kept[1])
                return kept[1]
        raise SessionExpiredError(
            f"The session {session_id!r} is over, or never was: where we retrieve, the last {_MOST_KEPT:,} are kept "
            "for 24 hours, in the process that began them; those of the other mode are Bedrock's. Leave session_id out "
            "to begin another; to keep sessions elsewhere, give get_session_history (LlamaIndex: get_memory).",
            session_id=session_id,
        )

    def _keep(self, session_id: str, history: H) -> None:
        now = self._clock()
        self._kept[session_id] = (now + LASTS_SECONDS, history)
        self._kept.move_to_end(session_id)
        while len(self._kept) > _MOST_KEPT or next(iter(self._kept.values()))[0] <= now:
            self._kept.popitem(last=False)
