"""Filters on the metadata of a knowledge base's documents: the helper `where`, and the check of plain dictionaries.

Operators, the types of their values and the limits of groups: ``RetrievalFilter`` of botocore's bedrock-agent-runtime
(1.43) and the Bedrock user guide on query configurations (2026-11).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bedrock_routing_integrations.errors import InvalidRequestError

_NUMBERS = ("greaterThan", "greaterThanOrEquals", "lessThan", "lessThanOrEquals")
_SCALARS = ("equals", "notEquals")
_LISTS = ("in", "notIn")
_TEXTS = ("startsWith", "stringContains")
_GROUPS = ("andAll", "orAll")
_OPERATORS = (*_SCALARS, *_NUMBERS, *_LISTS, *_TEXTS, "listContains", *_GROUPS)
_MOST_MEMBERS = 5
_LONGEST_KEY = 100  # characters
_JOINING = "Join filters by & and |, each comparison in parentheses; `and`, `or` and chained comparisons do not work."


@dataclass(frozen=True)
class Filter:
    """A filter made by `where`. Join filters by ``&`` and ``|``."""

    tree: Mapping[str, Any]

    def __and__(self, other: object) -> Filter:
        return self._joined("andAll", other) if isinstance(other, Filter) else NotImplemented

    def __or__(self, other: object) -> Filter:
        return self._joined("orAll", other) if isinstance(other, Filter) else NotImplemented

    def _joined(self, group: str, other: Filter) -> Filter:
        members = [*self.tree.get(group, [self.tree]), *other.tree.get(group, [other.tree])]
        return Filter({group: members})

    def __bool__(self) -> bool:
        # `a and b`, and `1 < where("x") < 5`, would silently keep one of the two.
        raise TypeError(_JOINING)

    def __invert__(self) -> Filter:
        raise TypeError("Bedrock has no `not`. Use !=, .is_not_in([…]), or the opposite comparison.")

    def as_dict(self) -> dict[str, Any]:
        """Return the filter as Bedrock takes it.

        Raises:
            InvalidRequestError: Bedrock would refuse it.
        """
        return checked_filter(self.tree)


class Attribute:
    """A metadata attribute, to compare with values. See `where`."""

    __hash__ = None  # type: ignore[assignment]  # `==` makes a filter

    def __init__(self, key: str) -> None:
        self._key = key

    def _is(self, operator: str, value: Any) -> Filter:
        return Filter(checked_filter({operator: {"key": self._key, "value": value}}))

    def __eq__(self, value: object) -> Filter:  # type: ignore[override]
        return self._is("equals", value)

    def __ne__(self, value: object) -> Filter:  # type: ignore[override]
        return self._is("notEquals", value)

    def __gt__(self, value: float) -> Filter:
        return self._is("greaterThan", value)

    def __ge__(self, value: float) -> Filter:
        return self._is("greaterThanOrEquals", value)

    def __lt__(self, value: float) -> Filter:
        return self._is("lessThan", value)

    def __le__(self, value: float) -> Filter:
        return self._is("lessThanOrEquals", value)

    def _misjoined(self, other: object = None) -> Any:
        # `where("a") == 1 & where("b") == 2` binds `&` first.
        raise TypeError(_JOINING)

    __and__ = __rand__ = __or__ = __ror__ = __bool__ = _misjoined

    def __contains__(self, value: object) -> bool:
        raise TypeError("`in` cannot make a filter. Use where(…).contains(…), .list_contains(…) or .is_in([…]).")

    def is_in(self, values: Sequence[str | float | bool]) -> Filter:
        """Match attributes that equal one of the values."""
        return self._is("in", values)

    def is_not_in(self, values: Sequence[str | float | bool]) -> Filter:
        """Match attributes that equal none of the values, and documents without the attribute."""
        return self._is("notIn", values)

    def starts_with(self, text: str) -> Filter:
        """Match strings that start with a text (OpenSearch Serverless only)."""
        return self._is("startsWith", text)

    def contains(self, text: str) -> Filter:
        """Match strings, and lists with a string, that contain a text."""
        return self._is("stringContains", text)

    def list_contains(self, member: str) -> Filter:
        """Match lists that have this member."""
        return self._is("listContains", member)


def where(key: str) -> Attribute:
    """Return a metadata attribute, to make a filter from.

    Args:
        key: The attribute's name, at most 100 characters.

    Returns:
        An attribute. Compare it with ``==``, ``!=``, ``<``, ``<=``, ``>``, ``>=``, or a method. Join comparisons by
        ``&`` and ``|``: two to five in a group, and groups in one group at most, as Bedrock takes them.

    Raises:
        InvalidRequestError: The comparison has a value that Bedrock does not take.

    Example:
        ```python
        from bedrock_routing_integrations.knowledge_base import where

        recent = (where("year") >= 2020) & where("topic").is_in(["routing", "caching"])
        recent.as_dict()["andAll"][0]  # {'greaterThanOrEquals': {'key': 'year', 'value': 2020}}
        ```
    """
    return Attribute(key)


def checked_filter(value: Filter | Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a filter as Bedrock takes it.

    Raises:
        InvalidRequestError: Bedrock would refuse it. The message names the member and the reason.
    """
    tree = value.tree if isinstance(value, Filter) else value
    return _checked(tree, "filter", groups_around=0)


def grouped(group: str, members: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a filter that joins others, laid out as Bedrock takes groups: 2 to 5 members, groups in one group at most.

    A single member is returned alone. Members that are groups of the same kind are merged into this group. More than
    five comparisons are spread over inner groups of the same kind, which match the same documents.

    Args:
        group: ``"andAll"`` or ``"orAll"``.
        members: At least one filter. Groups among them are laid out already.

    Raises:
        InvalidRequestError: There are more filters than Bedrock takes in any arrangement.
    """
    flat = _flattened(group, members)
    if len(flat) == 1:
        return dict(flat[0])
    comparisons = [member for member in flat if next(iter(member)) not in _GROUPS]
    others = [member for member in flat if next(iter(member)) in _GROUPS]
    if len(flat) <= _MOST_MEMBERS:
        return {group: [dict(member) for member in flat]}
    rows = -(-len(comparisons) // _MOST_MEMBERS)
    if len(others) + rows > _MOST_MEMBERS:
        raise InvalidRequestError(
            f"{group} joins {len(flat)} filters: Bedrock takes 2 to {_MOST_MEMBERS} in a group, and groups "
            "in one group only"
        )
    # Even rows, so that none has a single member, which would not be a group.
    spread = [comparisons[row::rows] for row in range(rows)]
    return {group: [*others, *({group: row} if len(row) > 1 else row[0] for row in spread)]}


def _flattened(group: str, members: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    flat: list[Mapping[str, Any]] = []
    for member in members:
        flat += _flattened(group, member[group]) if group in member else [member]
    return flat


def _checked(tree: Any, at: str, *, groups_around: int) -> dict[str, Any]:
    if isinstance(tree, Attribute):
        raise InvalidRequestError(f"{at} is an attribute alone: compare it, as in where('year') >= 2020")
    if not isinstance(tree, Mapping):
        raise InvalidRequestError(
            f"{at} must be a dictionary with one operator, or made by `where`, and is a {type(tree).__name__}"
        )
    if len(tree) != 1:
        raise InvalidRequestError(
            f"{at} has {len(tree)} operators ({', '.join(map(str, tree)) or 'none'}): it takes one; join several by "
            "andAll"
        )
    operator, operand = next(iter(tree.items()))
    if operator not in _OPERATORS:
        raise InvalidRequestError(f"{at} has no operator {operator!r}: {_operator_advice(operator, operand)}")
    here = f"{at}.{operator}"
    if operator in _GROUPS:
        return {operator: _checked_group(operand, here, groups_around=groups_around)}
    return {operator: _checked_comparison(operator, operand, here)}


def _operator_advice(operator: Any, operand: Any) -> str:
    near = difflib.get_close_matches(str(operator), _OPERATORS, n=1, cutoff=0.75)
    if near:
        return f"did you mean {near[0]!r}"
    if isinstance(operand, Mapping) and "key" in operand:
        return f"there are {', '.join(_OPERATORS)}"
    # Other stores take {attribute: value}.
    key = str(operator)
    return f"to compare an attribute, write {{'equals': {{'key': {key!r}, 'value': …}}}}, or where({key!r}) == …"


def _checked_group(members: Any, at: str, *, groups_around: int) -> list[dict[str, Any]]:
    if isinstance(members, str) or not isinstance(members, Sequence):
        raise InvalidRequestError(f"{at} must be a list of filters, and is a {type(members).__name__}")
    if not 2 <= len(members) <= _MOST_MEMBERS:
        raise InvalidRequestError(f"{at} has {len(members)} filters: Bedrock takes 2 to {_MOST_MEMBERS} in a group")
    if groups_around > 1:
        raise InvalidRequestError(f"{at} is a group in a group in a group: Bedrock takes one level of embedding")
    return [_checked(m, f"{at}[{i}]", groups_around=groups_around + 1) for i, m in enumerate(members)]


def _checked_comparison(operator: str, operand: Any, at: str) -> dict[str, Any]:
    if not isinstance(operand, Mapping) or set(operand) != {"key", "value"}:
        shown = sorted(map(str, operand)) if isinstance(operand, Mapping) else operand
        raise InvalidRequestError(f"{at} must be {{'key': …, 'value': …}}, and is {shown!r}")
    key, value = operand["key"], operand["value"]
    if not isinstance(key, str) or not 1 <= len(key) <= _LONGEST_KEY:
        raise InvalidRequestError(f"{at}.key must be a string of 1 to {_LONGEST_KEY} characters, and is {key!r}")
    if operator in _LISTS:
        if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, (Sequence, set, frozenset)) or not value:
            raise InvalidRequestError(f"{at}.value must be a list that is not empty, and is {value!r}")
        values = sorted(value, key=str) if isinstance(value, (set, frozenset)) else list(value)
        return {"key": key, "value": [_scalar(one, f"{at}.value") for one in values]}
    if operator in _NUMBERS and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise InvalidRequestError(f"{at}.value must be a number, and is {value!r}")
    if operator in _TEXTS and not isinstance(value, str):
        raise InvalidRequestError(f"{at}.value must be a string, and is {value!r}")
    return {"key": key, "value": _scalar(value, f"{at}.value")}


def _scalar(value: Any, at: str) -> Any:
    if not isinstance(value, (str, bool, int, float)):
        raise InvalidRequestError(f"{at} must be a string, a number or a boolean, and is a {type(value).__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidRequestError(f"{at} is {value!r}, which JSON cannot express")
    return value
