"""The sessions of RetrieveAndGenerate: made by the service, good for a day."""

from __future__ import annotations

import uuid
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .errors import ServiceError, validation

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LIFETIME_SECONDS", "Session", "Sessions"]

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
