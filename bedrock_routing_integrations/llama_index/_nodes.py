"""Passages as LlamaIndex's nodes and back, and LlamaIndex's metadata filters as Bedrock's."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from llama_index.core.schema import ImageNode, MetadataMode, NodeWithScore, TextNode
from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.knowledge_base import DESCRIBED, Passage, checked_filter, grouped

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_CHUNK_ID = "x-amz-bedrock-kb-chunk-id"
# Long, or of no use for an answer. The source and the document's own attributes are shown.
_HIDDEN = (
    "score", "type", "location", "document_id", "media_type", "media_uri", "guardrail_action", "_source_uri",
    "sourceMetadata",
)  # fmt: skip
_HIDDEN_PREFIX = "x-amz-"
# Where LlamaIndex's readers write a document's name.
_SOURCES = ("source", "url", "file_path", "file_name")


def nodes_of(
    passages: Iterable[Passage], guardrail_action: str | None = None, known: Iterable[NodeWithScore] = ()
) -> list[NodeWithScore]:
    """Return passages as nodes, one for each.

    Args:
        passages: What was found.
        guardrail_action: What a guardrail did in the search, for the metadata.
        known: Nodes whose ids are taken.
    """
    # LlamaIndex drops a second node with the same id.
    keys: dict[str, Any] = {each.node.node_id: None for each in known}
    nodes = []
    for passage in passages:
        node_id = str(passage.metadata.get(_CHUNK_ID) or "")
        if not node_id or keys.setdefault(node_id, passage.key) != passage.key:
            node_id = _hash(passage)
        nodes.append(NodeWithScore(node=_node(passage, node_id, guardrail_action), score=passage.score))
    return nodes


def passage_of(node_with_score: NodeWithScore) -> Passage:
    """Return a node, of whatever retriever, as a passage to answer from."""
    node, metadata = node_with_score.node, node_with_score.node.metadata
    source = next((metadata[name] for name in _SOURCES if metadata.get(name)), None)
    is_image = isinstance(node, ImageNode)
    kind = "IMAGE" if is_image else metadata.get("type")
    return Passage(
        text=node.get_content(MetadataMode.NONE),
        content_type=kind if kind in DESCRIBED else "TEXT",
        source=None if source is None else str(source),
        metadata=metadata,
        data_uri=_data_uri(node) if isinstance(node, ImageNode) else None,
    )


def _data_uri(node: ImageNode) -> str | None:
    """Return the image that a node holds itself. A path is not read, and a URL never fetched."""
    if node.image:
        return f"data:{node.image_mimetype or ''};base64,{node.image}"
    return node.image_url if node.image_url and node.image_url.startswith("data:") else None


def _hash(passage: Passage) -> str:
    return hashlib.sha256(repr(passage.key).encode("utf-8", "surrogatepass")).hexdigest()


def _node(passage: Passage, node_id: str, guardrail_action: str | None) -> TextNode:
    metadata = _metadata(passage, guardrail_action)
    hidden = [name for name in metadata if name in _HIDDEN or name.startswith(_HIDDEN_PREFIX)]
    common: dict[str, Any] = {
        "id_": node_id,
        "text": passage.text,
        "metadata": metadata,
        "excluded_llm_metadata_keys": hidden,
        "excluded_embed_metadata_keys": list(hidden),
    }
    if passage.data_uri is None:
        return TextNode(**common)
    head, _, data = passage.data_uri.partition(",")
    image = {"image": data} if head.endswith(";base64") else {"image_url": passage.data_uri}
    return ImageNode(**common, **image, image_mimetype=passage.media_type)


def _metadata(passage: Passage, guardrail_action: str | None) -> dict[str, Any]:
    reported = {
        "source": passage.source,
        "score": passage.score,
        "type": passage.content_type,
        "location": dict(passage.location) if passage.location else None,
        "document_id": passage.document_id,
        "media_type": passage.media_type,
        "media_uri": passage.media_uri,
        "guardrail_action": guardrail_action,
        "sourceMetadata": dict(passage.metadata) or None,
    }
    # An attribute of the document must not pass for what the service reports; `sourceMetadata` has all attributes.
    attributes = {name: value for name, value in passage.metadata.items() if name not in reported}
    return {**attributes, **{name: value for name, value in reported.items() if value is not None}}


# --- Metadata filters ---

_OPERATORS = {
    FilterOperator.EQ: "equals",
    FilterOperator.NE: "notEquals",
    FilterOperator.GT: "greaterThan",
    FilterOperator.GTE: "greaterThanOrEquals",
    FilterOperator.LT: "lessThan",
    FilterOperator.LTE: "lessThanOrEquals",
    FilterOperator.IN: "in",
    FilterOperator.NIN: "notIn",
    FilterOperator.TEXT_MATCH: "stringContains",
    FilterOperator.CONTAINS: "listContains",
}
_OPPOSITES = {"equals": "notEquals", "notEquals": "equals", "in": "notIn", "notIn": "in"}
# Operators on several values: a `listContains` for each.
_OF_SEVERAL = {FilterOperator.ANY: "orAll", FilterOperator.ALL: "andAll"}
_OTHER_GROUP = {"andAll": "orAll", "orAll": "andAll"}
_ADVICE = (
    "Make the filter with `where` of bedrock_routing_integrations.knowledge_base, which has what Bedrock can express: "
    'filter=(where("year") >= 2020) & where("topic").is_in(["routing", "caching"]).'
)


def is_metadata_filter(value: object) -> bool:
    """Return whether a filter is one of LlamaIndex's."""
    return isinstance(value, (MetadataFilter, MetadataFilters))


def convert_filter(metadata_filter: MetadataFilter | MetadataFilters) -> dict[str, Any] | None:
    """Return a filter as Bedrock takes it; None for a filter without conditions, which matches everything.

    Raises:
        InvalidRequestError: Bedrock cannot express it. The message names `where`, which makes filters that it can.
    """
    try:
        tree = _convert(metadata_filter, negated=False)
        return None if tree is None else checked_filter(tree)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"filter is not valid for Bedrock: {error}. {_ADVICE}") from error


def _convert(metadata_filter: MetadataFilter | MetadataFilters, *, negated: bool) -> dict[str, Any] | None:
    if isinstance(metadata_filter, MetadataFilters):
        condition = metadata_filter.condition or FilterCondition.AND
        if condition is FilterCondition.NOT:  # no member holds
            group, negated_inside = "orAll", not negated
        else:
            group, negated_inside = ("orAll" if condition is FilterCondition.OR else "andAll"), negated
        members = [_convert(member, negated=negated_inside) for member in metadata_filter.filters]
        return _joined(group, [member for member in members if member is not None], negated=negated_inside)
    if metadata_filter.operator in _OF_SEVERAL:
        return _several(metadata_filter, negated=negated)
    return _comparison(metadata_filter, negated=negated)


def _joined(group: str, members: Sequence[dict[str, Any]], *, negated: bool) -> dict[str, Any] | None:
    return grouped(_OTHER_GROUP[group] if negated else group, members) if members else None


def _several(metadata_filter: MetadataFilter, *, negated: bool) -> dict[str, Any] | None:
    named, values = f"the operator {metadata_filter.operator.value!r} on {metadata_filter.key!r}", metadata_filter.value
    if negated:
        raise InvalidRequestError(f"{named} cannot be negated")
    if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
        raise InvalidRequestError(f"{named} takes a list of strings that is not empty, and has {values!r}")
    members = [{"listContains": {"key": metadata_filter.key, "value": value}} for value in dict.fromkeys(values)]
    return grouped(_OF_SEVERAL[metadata_filter.operator], members)


def _comparison(metadata_filter: MetadataFilter, *, negated: bool) -> dict[str, Any]:
    named = f"the operator {metadata_filter.operator.value!r} on {metadata_filter.key!r}"
    operator = _OPERATORS.get(metadata_filter.operator)
    if operator is None:
        raise InvalidRequestError(f"{named} has no counterpart there")
    if negated and operator not in _OPPOSITES:
        raise InvalidRequestError(f"{named} cannot be negated")
    if operator == "listContains" and not isinstance(metadata_filter.value, str):
        raise InvalidRequestError(f"{named} takes a string, and has {metadata_filter.value!r}")
    return {_OPPOSITES[operator] if negated else operator: {"key": metadata_filter.key, "value": metadata_filter.value}}
