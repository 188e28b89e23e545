"""How much work one request may cause, so that no schema keeps the event loop from the requests beside it.

A schema of a hundred bytes can ask for a list of ten million items, a text of a gigabyte, or two to the power of forty
comparisons. Everything that works through schemas reports what it does; beyond the limit the model has "run out of
tokens", as a real one would have.
"""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["VALUE", "OutOfEffortError", "bounded", "spend"]

VALUE = 20
"""What one generated value costs; a comparison costs 1, and so does a token's worth of text."""

_MOST = 10_000 * VALUE
_CHARS = 100  # of a prompt that is searched again for each field: another unit for every so many

_left: ContextVar[list[int] | None] = ContextVar("effort_left", default=None)


class OutOfEffortError(Exception):
    """The request asks for more than one answer may hold."""


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Bound what is spent inside, over all schemas together."""
    token = _left.set([_MOST])
    try:
        yield
    finally:
        _left.reset(token)


def spend(units: int = 1, *, searched: int = 0) -> None:
    """Report work before doing it.

    Args:
        units: How much, see `VALUE`.
        searched: Characters of text that are searched for it.

    Raises:
        OutOfEffortError: When the limit is passed. Outside of `bounded` there is none.
    """
    left = _left.get()
    if left is None:
        return
    left[0] -= units + searched // _CHARS
    if left[0] < 0:
        raise OutOfEffortError
