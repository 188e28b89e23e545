"""Arguments of other providers' models, and the values with which they ask for nothing.

Libraries pass such arguments to every model (ragas: ``n=1, stop=None``). A value that asks for nothing which Bedrock
does not do anyway is left out. Any other value is refused by name, by the framework that got it.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

NEUTRAL_VALUES: Mapping[str, tuple[Any, ...]] = MappingProxyType({
    "best_of": (1,), "echo": (False,), "frequency_penalty": (0,), "length_penalty": (1,), "logprobs": (False, 0),
    "modalities": (["text"],), "n": (1,), "parallel_tool_calls": (True,), "presence_penalty": (0,),
    "repetition_penalty": (1,), "response_format": ({"type": "text"},), "store": (False,), "stream": (False,),
    "stream_usage": (True, False), "top_logprobs": (0,), "verbose": (False,),
})  # fmt: skip
"""Argument → values that ask for nothing. Empty values do so for every argument: see `asks_for_nothing`."""
_EMPTY: tuple[Any, ...] = (None, "", [], (), {})
_PLAIN = (bool, int, float, str, list, tuple, dict, type(None))


def without_neutral(given: Mapping[str, Any], known: Container[str]) -> dict[str, Any]:
    """Return the arguments without those that Bedrock does not have and that ask for nothing.

    Args:
        given: Argument → value.
        known: The arguments that Bedrock has. These are kept, whatever their value.
    """
    return {name: value for name, value in given.items() if name in known or not asks_for_nothing(name, value)}


def asks_for_nothing(name: str, value: Any) -> bool:
    """Return whether an argument that Bedrock does not have may be left out, because its value asks for nothing."""
    if not isinstance(value, _PLAIN):  # what an object of another package says to == is not known
        return False
    return value in _EMPTY or value in NEUTRAL_VALUES.get(name, ())
