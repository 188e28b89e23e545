"""The facts about a model family, and the combination of several: the limits that all share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Reasoning = Literal["none", "text", "signed"]
"""The reasoning blocks of earlier assistant turns that a family accepts; see `ModelFacts.reasoning`."""

# One order for each list, so that a combination never depends on the order of its candidates.
TOOL_CHOICES = ("auto", "any", "tool")
TTLS = ("5m", "1h")


@dataclass(frozen=True, kw_only=True)
class CacheRules:
    """The rules and prices of a family for cache points.

    Attributes:
        min_tokens: tokens that a prefix must reach to be cached; below it the call succeeds, uncached.
        max_tokens: tokens that are cached at most; None where no limit is published.
        ttls: lifetimes that may be asked for, shortest first.
        fields: request fields that may hold a point, of `system`, `messages` and `tools`.
        max_points: points that one request may hold.
        after_tool_result: whether a point may follow a `toolResult` block.
        after_media: whether a point may follow an image, a document or other media directly; else only text and calls
            of tools.
        with_optimized_latency: whether a request may hold a point and ask for `latency=optimized`.
        read_multiplier: price of a token read from the cache, plain input tokens being 1.
        write_multipliers: (ttl, price of a token written) for each of `ttls`, plain input tokens being 1.
    """

    min_tokens: int
    max_tokens: int | None
    ttls: tuple[str, ...]
    fields: frozenset[str]
    max_points: int
    after_tool_result: bool
    after_media: bool
    with_optimized_latency: bool
    read_multiplier: float
    # Pairs and not a dict: a dict would make the record unhashable, a mapping proxy would not pickle.
    write_multipliers: tuple[tuple[str, float], ...]

    def write_multiplier(self, ttl: str) -> float:
        """Return the price of a token written for `ttl`, in plain input tokens. KeyError if it is not offered."""
        return dict(self.write_multipliers)[ttl]


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """The limits and features of a model family.

    Attributes:
        family: the id's stable part, `anthropic.claude-3-haiku`; for a model that no family covers its brand,
            `anthropic.claude`; empty where unknown, or families differ.
        provider: the id's first part, `anthropic`; empty where unknown, or they differ.
        context_window: input tokens; None where unknown.
        max_output_tokens: output tokens; None where unknown.
        streaming: whether ConverseStream serves it.
        streaming_with_tools: whether ConverseStream serves it when the request has tools.
        tools: whether it takes `toolConfig`.
        tool_choice: the kinds of `toolChoice` that it obeys, in the order auto, any, tool.
        latency_optimized: whether `performanceConfig.latency=optimized` exists for it (in some Regions).
        image_input: whether it reads images; None where unknown.
        cache: rules of prompt caching; None where it has none.
        reasoning: what reasoning blocks of earlier assistant turns the family takes. ``"none"``: no such block.
            ``"text"``: `reasoningText` without a signature, and nothing else. ``"signed"``: `reasoningText` with its
            signature and `redactedContent`, but no unsigned text. None where unknown.
        text_format: whether Converse's `outputConfig.textFormat` (a JSON schema) is taken; None where unknown.
        system_in_messages: whether a message of the role `system` is taken inside `messages`.
        count_tokens: whether CountTokens serves the foundation model's plain id; None where unknown. Ids of inference
            profiles are refused for every model.
        source: where this was read.
        checked: ISO date on which it was read.
        known: False where no family covers the model: these are cautious facts of its brand, or only defaults.
    """

    family: str
    provider: str
    context_window: int | None
    max_output_tokens: int | None
    streaming: bool
    streaming_with_tools: bool
    tools: bool
    tool_choice: tuple[str, ...]
    latency_optimized: bool
    image_input: bool | None
    cache: CacheRules | None
    reasoning: Reasoning | None
    text_format: bool | None
    system_in_messages: bool
    count_tokens: bool | None
    source: str
    checked: str
    known: bool


def unknown_facts(provider: str = "") -> ModelFacts:
    """Return defaults for a model that no family covers.

    They forbid nothing that Bedrock would refuse with a clear message. They allow nothing that this package adds by
    itself and that could be refused: no caching, no optimized latency.
    """
    return ModelFacts(
        family="",
        provider=provider,
        context_window=None,
        max_output_tokens=None,
        streaming=True,
        streaming_with_tools=True,
        tools=True,
        tool_choice=TOOL_CHOICES,
        latency_optimized=False,
        image_input=None,
        cache=None,
        reasoning=None,
        text_format=None,
        system_in_messages=False,
        count_tokens=None,
        source="defaults: no family matched",
        checked="",
        known=False,
    )


def combine(members: Sequence[ModelFacts]) -> ModelFacts:
    """Return the limits that all of `members` (at least one) share, in any order."""
    return ModelFacts(
        family=_same([facts.family for facts in members]),
        provider=_same([facts.provider for facts in members]),
        context_window=_smallest([facts.context_window for facts in members]),
        max_output_tokens=_smallest([facts.max_output_tokens for facts in members]),
        streaming=all(facts.streaming for facts in members),
        streaming_with_tools=all(facts.streaming_with_tools for facts in members),
        tools=all(facts.tools for facts in members),
        tool_choice=_shared(TOOL_CHOICES, [facts.tool_choice for facts in members]),
        latency_optimized=all(facts.latency_optimized for facts in members),
        image_input=_every([facts.image_input for facts in members]),
        cache=_combine_rules([facts.cache for facts in members]),
        reasoning=_shared_reasoning({facts.reasoning for facts in members}),
        text_format=_every([facts.text_format for facts in members]),
        system_in_messages=all(facts.system_in_messages for facts in members),
        count_tokens=_every([facts.count_tokens for facts in members]),
        source="; ".join(sorted({facts.source for facts in members})),
        checked=min((facts.checked for facts in members if facts.checked), default=""),
        known=all(facts.known for facts in members),
    )


def _combine_rules(rules: Sequence[CacheRules | None]) -> CacheRules | None:
    """Return rules that suit every member; None if one has no cache or no cache point suits all."""
    present = [rule for rule in rules if rule is not None]
    if len(present) < len(rules):
        return None
    ttls = _shared(TTLS, [rule.ttls for rule in present])
    fields = frozenset.intersection(*(rule.fields for rule in present))
    if not ttls or not fields:
        return None
    return CacheRules(
        min_tokens=max(rule.min_tokens for rule in present),
        max_tokens=_smallest([rule.max_tokens for rule in present]),
        ttls=ttls,
        fields=fields,
        max_points=min(rule.max_points for rule in present),
        after_tool_result=all(rule.after_tool_result for rule in present),
        after_media=all(rule.after_media for rule in present),
        with_optimized_latency=all(rule.with_optimized_latency for rule in present),
        read_multiplier=max(rule.read_multiplier for rule in present),
        write_multipliers=tuple((ttl, max(rule.write_multiplier(ttl) for rule in present)) for ttl in ttls),
    )


def _shared_reasoning(kinds: set[Reasoning | None]) -> Reasoning | None:
    """Return the reasoning blocks that every member accepts, as far as it is known.

    Text without a signature and signed text exclude each other, so a router over both kinds takes none. An unknown
    member changes nothing: leaving reasoning out is always possible, and what is known of the others still holds.
    """
    known = kinds - {None}
    if len(known) > 1:
        return "none"
    return next(iter(known), None)


def _every(values: Sequence[bool | None]) -> bool | None:
    """Return False if any value is False, else None if any is unknown, else True."""
    return False if False in values else None if None in values else True


def _same(values: Sequence[str]) -> str:
    return values[0] if len(set(values)) == 1 else ""


def _smallest(values: Sequence[int | None]) -> int | None:
    return min((value for value in values if value is not None), default=None)


def _shared(order: tuple[str, ...], lists: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(value for value in order if all(value in members for members in lists))
