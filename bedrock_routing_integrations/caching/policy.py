"""Let the user limit automatic prompt caching: `CachePolicy`, and what a `cache` argument accepts."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from bedrock_routing_integrations.errors import InvalidRequestError

from .prefix_store import PrefixMemory
from .rules import MAX_POINTS, SECTIONS

_TTLS = ("auto", "5m", "1h")
_MEMORIES = ("shared", "own", "none")


def _ordered_sections(sections: object) -> tuple[str, ...]:
    names = sections if isinstance(sections, Collection) and not isinstance(sections, str) else (sections,)
    for name in names:
        if name not in SECTIONS:
            raise _invalid("sections", sections, f"{name!r} is not a section; the sections are {', '.join(SECTIONS)}")
    return tuple(name for name in SECTIONS if name in names)


def _invalid(argument: str, value: object, why: str) -> InvalidRequestError:
    return InvalidRequestError(f"CachePolicy({argument}={value!r}) is not valid: {why}.")


@dataclass(frozen=True, kw_only=True)
class CachePolicy:
    """Where cache points may be added, for how long, and how much they must be expected to save.

    `cache="auto"` means ``CachePolicy()``; `cache="off"` adds no cache points.

    Attributes:
        sections: The request sections that may get cache points: any of ``"tools"``, ``"system"``, ``"messages"``.
        ttl: Lifetime of a cache entry, counted from its last use: ``"5m"``, ``"1h"``, or ``"auto"``, which chooses by
            the time that passed between earlier uses. Models that offer only five minutes always get ``"5m"``.
        min_saving: Minimum expected saving of the added cache points, in plain input tokens per request.
        max_points: Maximum number of cache points in a request, 0 to 4, the user's own included. The user's own cache
            points are never removed.
        memory: Where prefixes are remembered: ``"shared"`` between all clients with equal connections, ``"own"`` for
            one client, or a `PrefixMemory` (from ``bedrock_routing_integrations.caching``) shared between the clients
            that get it. With ``"none"`` each request is planned as the first of its kind: cache points go wherever
            reuse is possible, as by a fixed rule, and prompts that never repeat cost more.

    Raises:
        InvalidRequestError: A value is not valid.
    """

    sections: tuple[str, ...] = SECTIONS
    ttl: str = "auto"
    min_saving: float = 0.0
    max_points: int = MAX_POINTS
    memory: str | PrefixMemory = "shared"

    def __post_init__(self) -> None:
        super().__setattr__("sections", _ordered_sections(self.sections))  # frozen, but a list is accepted
        if self.ttl not in _TTLS:
            raise _invalid("ttl", self.ttl, f"a ttl is one of {', '.join(map(repr, _TTLS))}")
        if self.max_points not in range(MAX_POINTS + 1):
            raise _invalid("max_points", self.max_points, f"Bedrock accepts 0 to {MAX_POINTS} cache points")
        if not isinstance(self.min_saving, (int, float)) or not self.min_saving >= 0:
            raise _invalid("min_saving", self.min_saving, "it is a number of tokens, from 0")
        if not isinstance(self.memory, PrefixMemory) and self.memory not in _MEMORIES:
            known = ", ".join(map(repr, _MEMORIES))
            raise _invalid("memory", self.memory, f"it is a PrefixMemory or one of {known}")

    def marks(self, section: str) -> bool:
        """Return whether a section may get cache points."""
        return self.max_points > 0 and section in self.sections

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-safe dict, accepted wherever a policy is; a `PrefixMemory` becomes ``"shared"``."""
        memory = self.memory if isinstance(self.memory, str) else "shared"
        return {
            "sections": list(self.sections), "ttl": self.ttl, "min_saving": self.min_saving,
            "max_points": self.max_points, "memory": memory,
        }  # fmt: skip


AUTO = CachePolicy()
OFF = CachePolicy(max_points=0)


def policy_of(cache: Any) -> CachePolicy:
    """Return the policy that a `cache` argument means.

    Raises:
        InvalidRequestError: `cache` is neither ``"auto"``, ``"off"``, a `CachePolicy`, nor a dict of
            `CachePolicy.as_dict`.
    """
    if isinstance(cache, CachePolicy):
        return cache
    if isinstance(cache, dict):
        unknown = [name for name in cache if name not in CachePolicy.__dataclass_fields__]
        if unknown:
            known = ", ".join(CachePolicy.__dataclass_fields__)
            raise InvalidRequestError(f"cache={cache!r} is not valid: CachePolicy has no {unknown[0]!r}. Use {known}.")
        return CachePolicy(**cache)
    if cache == "auto":
        return AUTO
    if cache == "off":
        return OFF
    raise InvalidRequestError(f"cache={cache!r} is not valid. Use 'auto', 'off' or a CachePolicy.")
