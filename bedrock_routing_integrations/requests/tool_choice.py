"""Read a tool choice in any form, and settle which one to send: one that every model which may answer obeys.

Used by both frameworks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.runtime import warn_once

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bedrock_routing_integrations.models.candidates import ResolvedTarget

_KINDS = {"auto": "auto", "any": "any", "required": "any", "none": "none"}


def converse_tool_choice(choice: Any, names: Sequence[str] | None = None) -> dict[str, Any] | None:
    """Return a tool choice in Converse's form, with ``{"none": {}}`` for no call at all; None for no choice.

    Args:
        choice: One of

            - ``"auto"``, ``"any"``, ``"required"`` (any), ``"none"``, True (any), or the name of a tool,
            - Converse's ``{"auto": {}}``, ``{"any": {}}``, ``{"tool": {"name": …}}``, and ``{"none": {}}``,
            - Anthropic's ``{"type": "auto"}``, ``{"type": "any"}``, ``{"type": "none"}``,
              ``{"type": "tool", "name": …}``,
            - OpenAI's ``{"type": "function", "function": {"name": …}}``, also without its type, and
              ``{"type": "function", "name": …}``.
        names: The names that a choice may have; None for any name.

    Raises:
        InvalidRequestError: `choice` has none of these forms, or names a tool that is not among `names`.
    """
    if not choice:
        return None
    found: dict[str, Any] | None = None
    if choice is True:
        found = {"any": {}}
    elif isinstance(choice, str):
        found = {_KINDS[choice]: {}} if choice in _KINDS else {"tool": {"name": choice}}
    elif isinstance(choice, Mapping):
        found = _choice_of_mapping(choice)
    if found is None or (names is not None and "tool" in found and found["tool"]["name"] not in names):
        known = f" ({', '.join(names)})" if names else ""
        raise InvalidRequestError(
            f"tool_choice={choice!r} is not valid: it must be 'auto', 'any', 'none' or the name of a tool{known}."
        )
    return found


def _choice_of_mapping(choice: Mapping[str, Any]) -> dict[str, Any] | None:
    kind = choice.get("type")
    if kind is None and len(choice) == 1:
        (kind,) = choice
        if kind in _KINDS:
            return {_KINDS[kind]: {}}
    member = choice.get(kind) if kind in ("function", "tool") else None
    name = member.get("name") if isinstance(member, Mapping) else choice.get("name")
    if kind in ("function", "tool"):
        return {"tool": {"name": name}} if isinstance(name, str) and name else None
    return {_KINDS[kind]: {}} if isinstance(kind, str) and kind in _KINDS else None


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
