"""`CachePolicy`: what may be done about prompt caching without asking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bedrock_routing_integrations.errors import InvalidRequestError

from .memory import PrefixMemory

SECTIONS = ("tools", "system", "messages")
"""The parts of a request that hold cachePoints, in the order of the prefix."""
_TTLS = ("auto", "5m", "1h")
_MEMORIES = ("shared", "own", "none")
_MOST = 4


@dataclass(frozen=True, kw_only=True)
class CachePolicy:
    """Where cachePoints may be placed, for how long, and what they must be expected to save.

    `cache="auto"` is ``CachePolicy()``; `cache="off"` places none.

    Attributes:
        sections: The sections that may get points, of ``"tools"``, ``"system"``, ``"messages"``.
        ttl: How long an entry lasts from its last use: ``"5m"``, ``"1h"``, or ``"auto"``, which chooses by the gaps that
            were seen between uses. Where the models offer five minutes only, it is five minutes.
        min_saving: The least saving, in plain input tokens per request, that is expected of what is placed.
        max_points: The most points in a request, the caller's own counted; 0 to 4. The caller's are never taken out.
        memory: Where prefixes seen are remembered: ``"shared"`` by all that reach Bedrock by equal connections,
            ``"own"`` of the one client, ``"none"``, or a `PrefixMemory` to share between some.

    Raises:
        InvalidRequestError: For a value that cannot be.
    """

    sections: tuple[str, ...] = SECTIONS
    ttl: str = "auto"
    min_saving: float = 0.0
    max_points: int = _MOST
    memory: str | PrefixMemory = "shared"

    def __post_init__(self) -> None:
        sections = (self.sections,) if isinstance(self.sections, str) else tuple(self.sections)
        unknown = [name for name in sections if name not in SECTIONS]
        if unknown:
            raise InvalidRequestError(f"CachePolicy(sections=…) has {unknown[0]!r}; there are {', '.join(SECTIONS)}.")
        object.__setattr__(self, "sections", tuple(name for name in SECTIONS if name in sections))
        if self.ttl not in _TTLS:
            raise InvalidRequestError(f"CachePolicy(ttl={self.ttl!r}): it is one of {', '.join(map(repr, _TTLS))}.")
        if isinstance(self.max_points, bool) or not isinstance(self.max_points, int) or not 0 <= self.max_points <= _MOST:
            raise InvalidRequestError(f"CachePolicy(max_points={self.max_points!r}): Bedrock takes 0 to {_MOST}.")
        if isinstance(self.min_saving, bool) or not isinstance(self.min_saving, (int, float)) or not self.min_saving >= 0:
            raise InvalidRequestError(f"CachePolicy(min_saving={self.min_saving!r}): it is a number of tokens, 0 or more.")
        if not isinstance(self.memory, PrefixMemory) and self.memory not in _MEMORIES:
            raise InvalidRequestError(
                f"CachePolicy(memory={self.memory!r}): it is a PrefixMemory or one of {', '.join(map(repr, _MEMORIES))}."
            )


AUTO = CachePolicy()
OFF = CachePolicy(max_points=0)


def policy_of(cache: Any) -> CachePolicy:
    """The policy that a `cache` argument means.

    Raises:
        InvalidRequestError: It is neither ``"auto"``, ``"off"`` nor a `CachePolicy`.
    """
    if isinstance(cache, CachePolicy):
        return cache
    if cache == "auto":
        return AUTO
    if cache == "off":
        return OFF
    raise InvalidRequestError(f"cache must be 'auto', 'off' or a CachePolicy, and is {cache!r}.")
