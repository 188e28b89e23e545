"""A value that langchain-aws hands on without looking into it.

langchain-aws renames the keys of whatever dictionaries and lists it finds in messages and call arguments (``snake_case``
to ``camelCase`` and back): of Bedrock's own members, as it should, and of the user's data too. A value wrapped in
`Opaque` is neither a dictionary nor a list, so that it arrives as it was. `_converse_client` unwraps it.
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
