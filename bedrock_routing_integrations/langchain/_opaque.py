"""A value that langchain-aws hands on without looking into it.

langchain-aws renames the keys of all dictionaries that it finds in messages and call arguments (``snake_case`` to
``camelCase`` and back): those of Bedrock's members, as it should, and those of the user's data. It looks into
dictionaries and lists only, so a value wrapped in `Opaque` arrives unchanged. `_converse_client` unwraps it.
"""

from __future__ import annotations

from typing import Any


class Opaque:
    """A value that is handed on as it is."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __deepcopy__(self, memo: dict[int, Any]) -> Opaque:
        return self  # langchain-core copies messages that it merges; the value is only read

    def __repr__(self) -> str:
        return f"Opaque({self.value!r})"


def opaque(value: Any) -> Any:
    """Wrap a value that has keys which could be renamed; other values are returned as they are."""
    return Opaque(value) if isinstance(value, (dict, list)) else value


def unwrapped(value: Any) -> Any:
    """Return what `opaque` was given."""
    return value.value if type(value) is Opaque else value
