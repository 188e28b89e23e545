"""What each model family on Bedrock allows: context window, streaming, tools, latency, caching.

Pure: a table (`families`) and a look-up. Ids are matched by family, so that a model released tomorrow has the
rules of its family; an id that nothing matches has permissive defaults with `known=False`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from . import ids
from .facts import CacheRules, ModelFacts, combine, unknown_facts
from .families import FAMILIES, NEWEST
from .ids import base_model_id

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CacheRules", "ModelFacts", "base_model_id", "common_facts", "model_facts"]


@lru_cache(maxsize=1024)
def model_facts(base_model_id: str) -> ModelFacts:
    """What the model allows; the most specific family wins. A region prefix or context suffix does no harm.

    Never raises: a model that no family matches gets `known=False`, and its provider where the id has one.
    """
    model = ids.base_model_id(base_model_id)
    if model is None:
        return unknown_facts()
    provider = model.partition(".")[0]
    if not ids.is_chat(model):
        return unknown_facts(provider)
    listed = [facts for facts in FAMILIES if ids.covers(facts.family, model)]
    newer = [facts for facts in NEWEST if facts.provider == provider and model.startswith(facts.family)]
    return max(listed or newer, key=lambda facts: len(facts.family), default=unknown_facts(provider))


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
