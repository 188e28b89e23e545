"""`CachePolicy`: what may be done about prompt caching without asking."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from bedrock_routing_integrations.errors import InvalidRequestError

from .prefix_store import PrefixMemory
from .rules import MOST_POINTS, SECTIONS

_TTLS = ("auto", "5m", "1h")
_MEMORIES = ("shared", "own", "none")


@dataclass(frozen=True, kw_only=True)
class CachePolicy:
    """Where cachePoints may be placed, for how long, and what they must be expected to save.

    `cache="auto"` is ``CachePolicy()``; `cache="off"` places none.

    Attributes:
        sections: The sections that may get points, of ``"tools"``, ``"system"``, ``"messages"``.
        ttl: How long an entry lasts from its last use: ``"5m"``, ``"1h"``, or ``"auto"``, which chooses by the gaps
            that were seen between uses. Where the models offer five minutes only, it is five minutes.
        min_saving: The least saving, in plain input tokens per request, that is expected of what is placed.
        max_points: The most points in a request, the caller's own counted; 0 to 4. The caller's are never taken out.
        memory: Where prefixes seen are remembered: ``"shared"`` by all that reach Bedrock by equal connections,
            ``"own"`` of the one client, or a `PrefixMemory` (of ``bedrock_routing_integrations.caching``) to share
            between some. With ``"none"`` each request is planned as the first of its kind: points stand wherever
            something may come back, as by a fixed rule, and prompts that never do cost more.

    Raises:
        InvalidRequestError: For a value that cannot be.
    """

    sections: tuple[str, ...] = SECTIONS
    ttl: str = "auto"
    min_saving: float = 0.0
    max_points: int = MOST_POINTS
    memory: str | PrefixMemory = "shared"

    def __post_init__(self) -> None:
        given: object = self.sections
        sections = given if isinstance(given, Collection) and not isinstance(given, str) else (given,)
        unknown = [name for name in sections if name not in SECTIONS]
        if unknown:
            raise InvalidRequestError(f"CachePolicy(sections=…) has {unknown[0]!r}; there are {', '.join(SECTIONS)}.")
        object.__setattr__(self, "sections", tuple(name for name in SECTIONS if name in sections))
        if self.ttl not in _TTLS:
            raise InvalidRequestError(f"CachePolicy(ttl={self.ttl!r}): it is one of {', '.join(map(repr, _TTLS))}.")
        if self.max_points not in range(MOST_POINTS + 1):
            raise InvalidRequestError(f"CachePolicy(max_points={self.max_points!r}): Bedrock takes 0 to {MOST_POINTS}.")
        if not isinstance(self.min_saving, (int, float)) or not self.min_saving >= 0:
            raise InvalidRequestError(f"CachePolicy(min_saving={self.min_saving!r}): it is a number of tokens, from 0.")
        if not isinstance(self.memory, PrefixMemory) and self.memory not in _MEMORIES:
            known = ", ".join(map(repr, _MEMORIES))
            raise InvalidRequestError(f"CachePolicy(memory={self.memory!r}): it is a PrefixMemory or one of {known}.")

    def marks(self, section: str) -> bool:
        """Whether a section may get a point."""
        return self.max_points > 0 and section in self.sections

    def as_dict(self) -> dict[str, Any]:
        """JSON-safe, and taken wherever a policy is; a `PrefixMemory` of one's own is ``"shared"`` in it."""
        memory = self.memory if isinstance(self.memory, str) else "shared"
        return {
            "sections": list(self.sections), "ttl": self.ttl, "min_saving": self.min_saving,
            "max_points": self.max_points, "memory": memory,
        }  # fmt: skip


AUTO = CachePolicy()
OFF = CachePolicy(max_points=0)


def policy_of(cache: Any) -> CachePolicy:
    """The policy that a `cache` argument means.

    Raises:
        InvalidRequestError: It is neither ``"auto"``, ``"off"``, a `CachePolicy`, nor what its `as_dict` gives.
    """
    if isinstance(cache, CachePolicy):
        return cache
    if isinstance(cache, dict):
        unknown = [name for name in cache if name not in CachePolicy.__dataclass_fields__]
        if unknown:
            known = ", ".join(CachePolicy.__dataclass_fields__)
            raise InvalidRequestError(f"A CachePolicy has no {unknown[0]!r}; it has {known}.")
        return CachePolicy(**cache)
    if cache == "auto":
        return AUTO
    if cache == "off":
        return OFF
    raise InvalidRequestError(f"cache must be 'auto', 'off' or a CachePolicy, and is {cache!r}.")
