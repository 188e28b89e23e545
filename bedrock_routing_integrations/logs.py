"""The package's logger, and warnings that are given once.

Nothing of a prompt, an answer or a secret is logged above DEBUG, and secrets are logged nowhere.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

logger = logging.getLogger("bedrock_routing_integrations")

_MOST_REMEMBERED = 10_000
_given: OrderedDict[Hashable, None] = OrderedDict()
_lock = threading.Lock()


def warn_once(subject: Hashable, message: str) -> None:
    """Log a WARNING that the user can act on; the second one on the same subject is not given.

    Args:
        subject: What the warning is about, such as ``("denied", target)``.
        message: What is wrong and what to do about it.
    """
    with _lock:
        if subject in _given:
            return
        _given[subject] = None
        while len(_given) > _MOST_REMEMBERED:
            _given.popitem(last=False)
    logger.warning("%s", message)


def forget_warnings() -> None:
    """Give every warning again; for tests."""
    with _lock:
        _given.clear()
