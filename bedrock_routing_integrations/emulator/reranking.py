"""Reranking: results in a new order, by a rule that stands for a rerank model.

The rule: the share of the query's words that a passage has exactly as they are written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import validation
from .programs.words import key_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .collection import Chunk

__all__ = ["check_reranking", "reranked"]

_MODELS = ("cohere.rerank-v3-5:0", "amazon.rerank-v1:0")


def check_reranking(settings: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The `bedrockRerankingConfiguration` of a search; {} for the service's own model, None without reranking.

    Args:
        settings: A vectorSearchConfiguration or managedSearchConfiguration.

    Raises:
        ServiceError: ValidationException for a model that cannot rerank, or a configuration that lacks its part.
    """
    wanted = settings.get("rerankingModelType")  # of managed search
    reranking = settings.get("rerankingConfiguration")
    if wanted in {"MANAGED", "NONE"} and reranking is not None:
        raise validation(f"rerankingConfiguration is for rerankingModelType CUSTOM, not for {wanted}.")
    if wanted == "MANAGED":
        return {}
    if reranking is None:
        if wanted == "CUSTOM":
            raise validation("rerankingModelType CUSTOM needs a rerankingConfiguration.")
        return None
    configuration: Mapping[str, Any] | None = reranking.get("bedrockRerankingConfiguration")
    if configuration is None:
        raise validation(
            "A rerankingConfiguration of type BEDROCK_RERANKING_MODEL needs bedrockRerankingConfiguration."
        )
    arn = configuration["modelConfiguration"]["modelArn"]
    if arn.rpartition("/")[2] not in _MODELS:
        raise validation(f"The model {arn} does not support reranking; these do: {', '.join(_MODELS)}.")
    metadata = configuration.get("metadataConfiguration", {})
    if (metadata.get("selectionMode") == "SELECTIVE") != ("selectiveModeConfiguration" in metadata):
        raise validation("selectionMode SELECTIVE, and no other, needs selectiveModeConfiguration.")
    return configuration


def reranked(
    found: Sequence[tuple[Chunk, float]], query: str, configuration: Mapping[str, Any] | None
) -> Sequence[tuple[Chunk, float]]:
    """Results in the order of a rerank model, with its scores; as they are without a configuration.

    What is as good as another stays before or behind it.
    """
    if configuration is None:
        return found
    wanted = _words(query)
    metadata = configuration.get("metadataConfiguration", {})
    scored = [(chunk, _score(wanted, _text(chunk, metadata))) for chunk, _ in found]
    scored.sort(key=lambda hit: -hit[1])
    return scored[: configuration.get("numberOfRerankedResults", len(scored))]


def _words(text: str) -> frozenset[str]:
    return frozenset(word.casefold() for word in key_words(text))


def _score(wanted: frozenset[str], text: str) -> float:
    """Between 0 and 1, neither included."""
    return round(0.005 + 0.99 * len(wanted & _words(text)) / max(1, len(wanted)), 6)


def _text(chunk: Chunk, metadata: Mapping[str, Any]) -> str:
    """What the model reads of a chunk: its text, and the metadata that is asked for."""
    if not metadata:
        return chunk.text
    selected = metadata.get("selectiveModeConfiguration", {})
    included = {field["fieldName"] for field in selected.get("fieldsToInclude", ())}
    excluded = {field["fieldName"] for field in selected.get("fieldsToExclude", ())}
    values = (
        str(value) for key, value in chunk.metadata.items() if key not in excluded and (key in included or not included)
    )
    return " ".join((chunk.text, *values))
