"""What each model family on Bedrock allows: context window, streaming, tools, latency, caching.

Pure: a table (`families`) and a look-up. An id falls into one of four groups:

- A family of the table covers it: the family's facts, `known=True`.
- No family covers it, but its brand is known (`anthropic.claude-opus-6`): a model released after the table was written.
  It must work, so it gets what the brand's models share, with the smallest limits of any of them; `known=False`.
- The same, but the id is a slip for a listed one (`anthropic.claude-3-hiaku`, see `model_ids`): as before, without
  prompt caching. Nothing is placed unasked into a request that Bedrock is likely to refuse.
- Nothing matches: permissive defaults, `known=False`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from bedrock_routing_integrations.model_ids import is_misspelled, is_unlisted_version

from . import ids
from .facts import CacheRules, ModelFacts, combine, unknown_facts
from .families import FAMILIES, NEWEST
from .ids import base_model_id

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CacheRules", "ModelFacts", "base_model_id", "common_facts", "model_facts"]


@lru_cache(maxsize=1024)
def model_facts(base_model_id: str) -> ModelFacts:
    """Return what the model allows; the most specific family wins. A geography or context suffix does no harm.

    Never raises. A model that no family covers has `known=False`; see this module for what it gets.
    """
    model = ids.base_model_id(base_model_id)
    if model is None:
        return unknown_facts()
    provider = model.partition(".")[0]
    if not ids.is_chat(model):
        return unknown_facts(provider)
    listed = [facts for facts in FAMILIES if ids.covers(facts.family, model) and not is_unlisted_version(model)]
    brands = [facts for facts in NEWEST if facts.provider == provider and model.startswith(facts.family)]
    found = max(listed or brands, key=lambda facts: len(facts.family), default=unknown_facts(provider))
    return replace(found, cache=None) if found.cache and not listed and is_misspelled(model) else found


def common_facts(base_model_ids: Iterable[str]) -> ModelFacts:
    """What all of the candidates allow, whatever their order; of no candidates at all, the unknown defaults.

    Flags are and-ed, lists intersected; of sizes the smallest known one holds, of cache minimum and prices
    the largest. `cache` is None as soon as one candidate has none or is unknown: a router may send the
    request there, and a model that does not cache may refuse a `cachePoint`.
    """
    return _common(frozenset(base_model_ids))


@lru_cache(maxsize=1024)
def _common(base_model_ids: frozenset[str]) -> ModelFacts:
    members = [model_facts(text) for text in base_model_ids]
    return combine(members) if members else unknown_facts()
