"""Which tool choice is sent: one that every model which may answer obeys. Needed by both frameworks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import InvalidRequestError
from .logs import warn_once

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .resolution import ResolvedTarget


def settle_tool_choice(
    kind: str, asked: Any, supported: Sequence[str], resolved: ResolvedTarget, *, preferred: bool, thinking: bool
) -> str | None:
    """The kind of choice to send.

    Args:
        kind: The kind asked for: ``"auto"``, ``"any"`` or ``"tool"``.
        asked: The choice as the caller wrote it, for messages.
        supported: The kinds that all models of the target take, thinking or not.
        resolved: The target.
        preferred: Whether the choice is a framework's wish, which may be given up, and not the caller's.
        thinking: Whether the request asks the model to think; then Claude refuses to be forced (Anthropic on extended
            thinking).

    Returns:
        A kind of `supported`; None to send no choice, which Bedrock takes as ``auto``.

    Raises:
        InvalidRequestError: The caller forces a tool, and not all models can be forced.
    """
    if thinking:
        supported = [each for each in supported if each == "auto"]
    if kind in supported:
        return kind
    if preferred:
        return "any" if "any" in supported else None
    if thinking and "auto" in supported:
        # As langchain-aws does for models that it knows; agents force tools without knowing of thinking.
        warn_once(
            ("thinking", resolved.target.model_id),
            f"tool_choice={asked!r} is not possible while {resolved.target} is thinking; sending 'auto'.",
        )
        return "auto"
    raise InvalidRequestError(
        f"tool_choice={asked!r} is not supported by all models of {resolved.target} "
        f"({', '.join(resolved.base_models) or 'models unknown'}); supported: {', '.join(supported) or 'none'}."
    )


def is_thinking(model_fields: dict[str, Any] | None) -> bool:
    """Whether ``additionalModelRequestFields`` ask for thinking, as Claude takes it."""
    thinking = (model_fields or {}).get("thinking") or {}
    return thinking.get("type") in ("enabled", "adaptive")
