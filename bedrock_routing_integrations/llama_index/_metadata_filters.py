"""Convert LlamaIndex's `MetadataFilters` into the filters that Bedrock takes.

Bedrock has no "not". So a negation moves inwards to the comparisons that have an opposite: ``==`` and ``in``, whose
opposites also hold where an attribute is missing, as the negation does. The opposite of ``<`` does not, so its negation
is refused rather than answered slightly wrong. Groups are laid out within Bedrock's limits by `grouped`.

Meanings: the comments of `FilterOperator` and `build_metadata_filter_fn` of llama-index-core 0.14; ``RetrievalFilter``
of botocore 1.44.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.knowledge_base import checked_filter, grouped

if TYPE_CHECKING:
    from collections.abc import Sequence

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
# Operators on several values, each a `listContains` of its own.
_OF_SEVERAL = {FilterOperator.ANY: "orAll", FilterOperator.ALL: "andAll"}
_OTHER_GROUP = {"andAll": "orAll", "orAll": "andAll"}
_ADVICE = (
    "Make the filter with `where` of bedrock_routing_integrations.knowledge_base, which has what Bedrock can express: "
    'filter=(where("year") >= 2020) & where("topic").is_in(["routing", "caching"]).'
)


def is_metadata_filter(given: object) -> bool:
    """Return whether a filter is one of LlamaIndex's."""
    return isinstance(given, (MetadataFilter, MetadataFilters))


def convert_filter(given: MetadataFilter | MetadataFilters) -> dict[str, Any] | None:
    """Return a filter as Bedrock takes it; None for one without conditions, which lets everything through.

    Raises:
        InvalidRequestError: Bedrock cannot express it. The message names `where`, which makes filters that it can.
    """
    try:
        tree = _convert(given, negated=False)
        return None if tree is None else checked_filter(tree)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"filter is not valid for Bedrock: {error}. {_ADVICE}") from error


def _convert(given: MetadataFilter | MetadataFilters, *, negated: bool) -> dict[str, Any] | None:
    if isinstance(given, MetadataFilters):
        condition = given.condition or FilterCondition.AND
        if condition is FilterCondition.NOT:  # none of them holds
            group, negated_inside = "orAll", not negated
        else:
            group, negated_inside = ("orAll" if condition is FilterCondition.OR else "andAll"), negated
        members = [_convert(member, negated=negated_inside) for member in given.filters]
        return _joined(group, [member for member in members if member is not None], negated=negated_inside)
    if given.operator in _OF_SEVERAL:
        return _several(given, negated=negated)
    return _comparison(given, negated=negated)


def _joined(group: str, members: Sequence[dict[str, Any]], *, negated: bool) -> dict[str, Any] | None:
    return grouped(_OTHER_GROUP[group] if negated else group, members) if members else None


def _several(given: MetadataFilter, *, negated: bool) -> dict[str, Any] | None:
    named, values = f"the operator {given.operator.value!r} on {given.key!r}", given.value
    if negated:
        raise InvalidRequestError(f"{named} cannot be negated")
    if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
        raise InvalidRequestError(f"{named} takes a list of strings that is not empty, and has {values!r}")
    members = [{"listContains": {"key": given.key, "value": value}} for value in dict.fromkeys(values)]
    return grouped(_OF_SEVERAL[given.operator], members)


def _comparison(given: MetadataFilter, *, negated: bool) -> dict[str, Any]:
    named = f"the operator {given.operator.value!r} on {given.key!r}"
    operator = _OPERATORS.get(given.operator)
    if operator is None:
        raise InvalidRequestError(f"{named} has no counterpart there")
    if negated and operator not in _OPPOSITES:
        raise InvalidRequestError(f"{named} cannot be negated")
    if operator == "listContains" and not isinstance(given.value, str):
        raise InvalidRequestError(f"{named} takes a string, and has {given.value!r}")
    return {_OPPOSITES[operator] if negated else operator: {"key": given.key, "value": given.value}}
