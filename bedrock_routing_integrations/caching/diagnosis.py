"""Is the cache working? What is said, once for each target, where points are sent and do not help."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bedrock_routing_integrations.logs import warn_once

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from .prefix import Place, Prefix

_TIMES = 5
"""Requests in a row after which something is a pattern."""
_JUST_UNDER = 0.75

Named = tuple[str, int]
"""Of a block before the messages: its name, and what tells its content apart."""


class Diagnosis:
    """Watches one target.

    Args:
        target: Its name, for the warnings.
    """

    __slots__ = ("_blocks", "_changed", "_changes", "_short", "_unread", "target")

    def __init__(self, target: Hashable) -> None:
        self.target = target
        self._unread = 0
        self._changes = 0
        self._changed: str | None = None
        self._blocks: tuple[Named, ...] = ()
        self._short: dict[int, int] = {}

    def read(self, *, expected: bool, tokens: int) -> None:
        """An answer to a request with points: whether something should have been read, and how much was."""
        if tokens:
            self._unread = 0
        elif expected:
            self._unread += 1
        if self._unread == _TIMES:
            warn_once(
                ("cache never read", self.target),
                f"{_TIMES} requests to {self.target} in a row had cachePoints behind what had been cached shortly "
                "before, and nothing was read from the cache. Is there a gateway, a profile that spreads calls over "
                "many Regions, or something that rewrites the requests in between? cache='off' places none.",
            )

    def see(self, prefix: Prefix, *, known: bool, cacheable: bool) -> None:
        """What is before the messages: whether it was seen before, and is long enough to be cached.

        Where it is new again and again, the first block that changes is named. Applications that take turns do not
        look like that: each of theirs is known after the first time.
        """
        blocks = tuple(_named(prefix.places))
        before, self._blocks = self._blocks, blocks
        if known or not cacheable or not before:
            self._changes = 0
            return
        changed = _first_change(before, blocks)
        if changed is None:
            return
        self._changes = self._changes + 1 if changed == self._changed or self._changes == 0 else 1
        self._changed = changed
        if self._changes == _TIMES:
            warn_once(
                ("prefix changes", self.target),
                f"What comes before the messages of requests to {self.target} cannot be cached: it was new in each of "
                f"{_TIMES} requests in a row. The first that changes is {changed}. What changes (a clock, a request's "
                "own facts) belongs behind what does not: into the last message, or into a system block at the end.",
            )

    def see_short(self, application: int, tokens: float, least: int) -> None:
        """Tools and system that come again and again, and are a little too short to be cached."""
        if not _JUST_UNDER * least <= tokens < least:
            return
        if len(self._short) > 64:
            self._short.clear()
        self._short[application] = self._short.get(application, 0) + 1
        if self._short[application] == _TIMES:
            warn_once(
                ("prefix too short", self.target),
                f"Tools and system prompt of requests to {self.target} come again and again, and are just too short to "
                f"be cached: about {tokens:,.0f} tokens, where the least is {least:,}. Some more examples there could "
                "cost less than none.",
            )


def _named(places: Sequence[Place]) -> list[Named]:
    """The blocks before the messages."""
    found = []
    for place in places:
        if place.section == "messages":
            break
        name = f"toolConfig.tools[{place.index}]" if place.section == "tools" else f"system[{place.index}]"
        found.append((name, hash(place.data)))
    return found


def _first_change(before: Sequence[Named], now: Sequence[Named]) -> str | None:
    """The name of the first block that is another one; None where nothing before the end is."""
    tools = [{data for name, data in blocks if name.startswith("tool")} for blocks in (before, now)]
    for (_, old), (name, new) in zip(before, now, strict=False):
        if old != new:
            same_tools = name.startswith("tool") and tools[0] == tools[1]
            return f"{name}: the tools come in another order" if same_tools else name
    return None if len(now) <= len(before) else now[len(before)][0]
