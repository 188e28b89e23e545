"""Is the cache working? What is said, once for each target, where points are sent and do not help."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bedrock_routing_integrations.runtime import warn_once

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from .candidates import Place, Prefix

_TIMES = 5
"""Requests in a row after which something is a pattern."""
_MANY_TIMES = 20
"""The same, where it may as well be many users or applications, each with a prompt of its own, who will be back."""
_CONVERSATIONS = 64  # that are remembered for each target
_JUST_UNDER = 0.75
_OF_CLOCKS_AND_IDS = b"0123456789abcdefABCDEF-"


class Named(NamedTuple):
    """A block before the messages.

    Attributes:
        name: Where it is in the request.
        content: Tells its content apart.
        frame: The same, of what is left of it without digits: that of another time of day, or id, is the same.
    """

    name: str
    content: int
    frame: int


class Conversation(NamedTuple):
    """The last request of a conversation: digests of its tools, tokens cached, number of messages."""

    tools: frozenset[int]
    cached: int
    messages: int


class Diagnosis:
    """Watches one target.

    Args:
        target: Its name, for the warnings.
    """

    __slots__ = (
        "_blocks", "_changed", "_changes", "_clear", "_conversations", "_short", "_unread", "_writes", "_written",
        "target",
    )  # fmt: skip

    def __init__(self, target: Hashable) -> None:
        self.target = target
        self._unread = self._writes = self._written = 0
        self._changes = self._clear = 0
        self._changed: str | None = None
        self._blocks: tuple[Named, ...] = ()
        self._short: dict[int, int] = {}
        self._conversations: dict[int, Conversation] = {}

    def read(self, *, expected: bool, tokens: int) -> None:
        """An answer to a request with points: whether something should have been read or written, and what was read."""
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

    def write(self, *, given: bool, read: int, written: int) -> None:
        """An answer to a request with points: whether one was the caller's, and what became of them."""
        if read or not given:
            self._writes = self._written = 0
            return
        self._writes += bool(written)
        self._written += written
        if self._writes == _MANY_TIMES:
            warn_once(
                ("cache only written", self.target),
                f"{_MANY_TIMES} requests to {self.target} in a row wrote {self._written:,} tokens behind cachePoints "
                "of your own, and read none: where writing costs more than plain input, that is dearer than no "
                "caching. What comes before the points is another one each time. Leave them out: cache='auto' finds "
                "what repeats.",
            )

    def see(self, prefix: Prefix, *, known: bool, alone: bool) -> None:
        """What is before the messages: whether it was seen before, and is long enough to be cached by itself.

        Where it is new again and again, the first block that changes is named: soon, where it is the same but for
        digits or the order of tools, else later. Applications and users that take turns do not look like that: each of
        theirs is known after the first time.
        """
        if known:
            self._blocks, self._changes, self._clear = (), 0, 0
            return
        blocks = tuple(_named(prefix.places))
        before, self._blocks = self._blocks, blocks
        if not before:
            return
        changed, clear = _first_change(before, blocks)
        if changed is None:
            return
        same = changed == self._changed or self._changes == 0
        self._changes = self._changes + 1 if same else 1
        self._clear = (self._clear if same else 0) + clear
        self._changed = changed
        if self._clear == _TIMES or (alone and self._changes == _MANY_TIMES):
            warn_once(
                ("prefix changes", self.target),
                f"What comes before the messages of requests to {self.target} cannot be cached: it was new in each of "
                f"{self._changes} requests in a row. The first that changes is {changed}. What changes (a clock, a "
                "request's own facts) belongs behind what does not: into the last message, or the last system block.",
            )

    def see_tools(self, prefix: Prefix, *, cached: int, reading: float, writing: float) -> None:
        """Warn where tools are added or removed amid a conversation: everything behind them must be cached again.

        Args:
            prefix: The request.
            cached: Tokens that were read from the cache or written to it.
            reading: Price of a token read, plain input tokens being 1.
            writing: Price of a token written, likewise.
        """
        # With the system prompt: agents that hand a question on to one another have the first message in common.
        begun = [place for place in prefix.places if place.section == "system" or place.message == 0]
        if not begun or begun[-1].section == "system":
            return
        tools = frozenset(hash(place.data) for place in prefix.places if place.section == "tools")
        key = hash(tuple([place.data for place in begun]))
        before = self._conversations.pop(key, None)
        if before is not None and before.tools != tools and before.cached and len(prefix.roles) > before.messages:
            change = "added" if before.tools < tools else "removed" if before.tools > tools else "changed"
            warn_once(
                ("tools change", self.target),
                f"Tools were {change} amid a conversation with {self.target}. Tools stand before all messages, so "
                f"{before.cached:,} tokens that were cached cost {writing:g} times plain input again instead of "
                f"{reading:g} times. Declare all tools from the beginning and keep their order, and say in a message "
                "which of them may be used.",
            )
        while len(self._conversations) >= _CONVERSATIONS:
            del self._conversations[next(iter(self._conversations))]
        self._conversations[key] = Conversation(tools, cached, len(prefix.roles))

    def see_short(self, application: int, tokens: float, least: int) -> None:
        """Tools and system that come again and again, and are a little too short to be cached without more."""
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
        found.append(Named(name, hash(place.data), hash(place.data.translate(None, _OF_CLOCKS_AND_IDS))))
    return found


def _first_change(before: Sequence[Named], now: Sequence[Named]) -> tuple[str | None, bool]:
    """The first block that is another one, None where nothing before the end is; and whether that is a plain case."""
    tools = [{block.content for block in blocks if block.name.startswith("tool")} for blocks in (before, now)]
    for old, new in zip(before, now, strict=False):
        if old.content != new.content:
            if new.name.startswith("tool") and tools[0] == tools[1]:
                return "toolConfig.tools: the same tools come in another order", True
            return new.name, old.name == new.name and old.frame == new.frame
    return (None if len(now) <= len(before) else now[len(before)].name), False
