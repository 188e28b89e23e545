"""What a process shares, and the package's logger.

Nothing of a prompt, an answer or a secret is logged above DEBUG, and secrets are logged nowhere.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

logger = logging.getLogger("bedrock_routing_integrations")

_MOST_REMEMBERED = 10_000
_given: dict[Hashable, object] = {}


def warn_once(subject: Hashable, message: str) -> None:
    """Log a WARNING that the user can act on; the second one on the same subject is not given.

    Args:
        subject: What the warning is about, such as ``("denied", target)``.
        message: What is wrong and what to do about it.
    """
    if len(_given) > _MOST_REMEMBERED:
        _given.clear()
    mine = object()
    if _given.setdefault(subject, mine) is mine:  # one step, so that of many threads one warns
        logger.warning("%s", message)


def forget_warnings() -> None:
    """Give every warning again; for tests."""
    _given.clear()
