"""What kind a knowledge base is, looked up once: managed ones are searched by other members of a request."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.logs import logger, warn_once

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from bedrock_routing_integrations.connections import Connection, GivenClient
    from bedrock_routing_integrations.knowledge_base import KnowledgeBaseId

_KEEP_SECONDS = 3600.0
_KEEP_REFUSED_SECONDS = 300.0
_MOST_KEPT = 10_000


class KnowledgeBaseTypes:
    """Types by knowledge base; each is asked for by one thread at a time. Safe under threads.

    Args:
        clock: Seconds, only ever rising.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.forget()

    def forget(self) -> None:
        """Forget what was looked up, also in a process that was just forked."""
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, _Entry] = OrderedDict()

    def find(self, knowledge_base: KnowledgeBaseId, source: Connection | GivenClient) -> str | None:
        """``"VECTOR"``, ``"KENDRA"``, ``"SQL"`` or ``"MANAGED"``; None where it could not be looked up."""
        entry = self._entry(knowledge_base, source)
        with entry.lock:
            if entry.expires is None or entry.expires <= self._clock():
                entry.type = _ask(knowledge_base, source)
                entry.expires = self._clock() + (_KEEP_SECONDS if entry.type else _KEEP_REFUSED_SECONDS)
            return entry.type

    def learn(self, knowledge_base: KnowledgeBaseId, source: Connection | GivenClient, kind: str) -> None:
        """Remember what an answer has shown."""
        entry = self._entry(knowledge_base, source)
        with entry.lock:
            entry.type, entry.expires = kind, self._clock() + _KEEP_SECONDS

    def _entry(self, knowledge_base: KnowledgeBaseId, source: Connection | GivenClient) -> _Entry:
        region = source.known_region(knowledge_base)
        key = (source.identity(knowledge_base), source.caller(), region, knowledge_base.id)
        with self._lock:
            entry = self._kept.setdefault(key, _Entry())
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
            return entry


class _Entry:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.expires: float | None = None
        self.type: str | None = None


def _ask(knowledge_base: KnowledgeBaseId, source: Connection | GivenClient) -> str | None:
    try:
        client = source.client("bedrock-agent", knowledge_base)
        answer: dict[str, Any] = client.get_knowledge_base(knowledgeBaseId=knowledge_base.id)
        found = answer["knowledgeBase"]["knowledgeBaseConfiguration"]["type"]
    except Exception as error:  # noqa: BLE001 - whatever answers there, a look-up must not cost the user the call
        code = ((getattr(error, "response", None) or {}).get("Error") or {}).get("Code") or type(error).__name__
        logger.debug("GetKnowledgeBase for %s failed: %s", knowledge_base, error)
        if code != "ResourceNotFoundException":  # which the call will say itself
            warn_once(
                ("knowledge base type", knowledge_base.id),
                f"GetKnowledgeBase failed for {knowledge_base} ({code}); it is searched as one with a vector store. "
                "Allow the IAM action bedrock:GetKnowledgeBase, or say knowledge_base_type='VECTOR' (or 'MANAGED').",
            )
        return None
    return str(found)


shared_types = KnowledgeBaseTypes()
"""The types that this process has looked up."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=shared_types.forget)
