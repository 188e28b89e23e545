"""Filters on metadata attributes: what Bedrock's RetrievalFilter lets through, and which filters it refuses.

The operators' meaning is that of the doc strings of RetrievalFilter in botocore's service model of
bedrock-agent-runtime; the types of their values and the limits on `andAll` and `orAll` are those of the user
guide ("Query configurations", metadata and filtering).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .errors import validation

__all__ = ["check_filter", "matches"]

_LEAST, _MOST = 2, 5  # filters in one andAll or orAll
_LONGEST_KEY = 100
_GROUPS: Mapping[str, Callable[[Any], bool]] = {"andAll": all, "orAll": any}


def check_filter(given: Any) -> None:
    """Refuse what is no filter.

    Raises:
        ServiceError: ValidationException, which says what is wrong and where.
    """
    _check(given, "filter", groups_above=0)


def matches(given: Mapping[str, Any], metadata: Mapping[str, Any]) -> bool:
    """Whether metadata attributes fulfil a filter that has passed `check_filter`."""
    ((operator, operand),) = given.items()
    if operator in _GROUPS:
        return _GROUPS[operator](matches(part, metadata) for part in operand)
    key, value = operand["key"], operand["value"]
    if key not in metadata:
        return operator in ("notEquals", "notIn")
    return _COMPARISONS[operator](metadata[key], value)


def _check(given: Any, place: str, *, groups_above: int) -> None:
    """One filter and those inside it."""
    if not isinstance(given, Mapping) or len(given) != 1:
        raise validation(f"{place} must set exactly one of the following keys: {', '.join((*_COMPARISONS, *_GROUPS))}")
    ((operator, operand),) = given.items()
    if operator in _GROUPS:
        _check_group(operand, f"{place}.{operator}", groups_above=groups_above)
    elif operator in _COMPARISONS:
        _check_comparison(operator, operand, f"{place}.{operator}")
    else:
        raise validation(f"{place} has the unknown operator {operator}")


def _check_group(parts: Any, place: str, *, groups_above: int) -> None:
    """An andAll or orAll: 2 to 5 filters, and no more than one group around it."""
    if not isinstance(parts, Sequence) or isinstance(parts, str) or not _LEAST <= len(parts) <= _MOST:
        raise validation(f"{place} must be a list of {_LEAST} to {_MOST} filters")
    if groups_above > 1:
        raise validation(f"{place} is nested too deeply: filters can be embedded one level deep")
    for index, part in enumerate(parts):
        _check(part, f"{place}[{index}]", groups_above=groups_above + 1)


def _check_comparison(operator: str, operand: Any, place: str) -> None:
    """A key and a value of the type that the operator compares."""
    if not isinstance(operand, Mapping) or set(operand) != {"key", "value"}:
        raise validation(f"{place} must have a key and a value")
    key = operand["key"]
    if not isinstance(key, str) or not 1 <= len(key) <= _LONGEST_KEY:
        raise validation(f"{place}.key must be a string of 1 to {_LONGEST_KEY} characters")
    fits, wanted = _VALUES[operator]
    if not fits(operand["value"]):
        raise validation(f"{place}.value must be {wanted}")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (str, int, float))


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_scalar, value))


def _same(attribute: Any, value: Any) -> bool:
    """Equality among attributes: `true` is no number."""
    return isinstance(attribute, bool) == isinstance(value, bool) and bool(attribute == value)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda attribute, value: _is_number(attribute) and compare(attribute, value)


def _in(attribute: Any, values: Sequence[Any]) -> bool:
    return any(_same(attribute, value) for value in values)


def _contains_text(attribute: Any, value: str) -> bool:
    members = attribute if isinstance(attribute, list) else [attribute]
    return any(isinstance(member, str) and value in member for member in members)


_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "equals": _same,
    "notEquals": lambda attribute, value: not _same(attribute, value),
    "greaterThan": _ordered(lambda attribute, value: attribute > value),
    "greaterThanOrEquals": _ordered(lambda attribute, value: attribute >= value),
    "lessThan": _ordered(lambda attribute, value: attribute < value),
    "lessThanOrEquals": _ordered(lambda attribute, value: attribute <= value),
    "in": _in,
    "notIn": lambda attribute, values: not _in(attribute, values),
    "startsWith": lambda attribute, value: _is_text(attribute) and attribute.startswith(value),
    "stringContains": _contains_text,
    "listContains": lambda attribute, value: isinstance(attribute, list) and _in(value, attribute),
}

_SCALAR = (_is_scalar, "a string, a number or a boolean")
_NUMBER = (_is_number, "a number")
_TEXT = (_is_text, "a string")
_LIST = (_is_list, "a list, not empty, of strings, numbers or booleans")
_VALUES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("equals", "notEquals"), _SCALAR),
    **dict.fromkeys(("greaterThan", "greaterThanOrEquals", "lessThan", "lessThanOrEquals"), _NUMBER),
    **dict.fromkeys(("in", "notIn"), _LIST),
    **dict.fromkeys(("startsWith", "stringContains", "listContains"), _TEXT),
}
