"""Convert a tool choice of any form to Converse's, and choose one that every candidate model supports."""

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
    """Return a tool choice in Converse's form, or ``{"none": {}}`` to forbid calls; None if there is no choice.

    Args:
        choice: Any of these:

            - ``"auto"``, ``"any"``, ``"required"`` (any), ``"none"``, True (any), or the name of a tool,
            - Converse's ``{"auto": {}}``, ``{"any": {}}``, ``{"tool": {"name": …}}``, and ``{"none": {}}``,
            - Anthropic's ``{"type": "auto"}``, ``{"type": "any"}``, ``{"type": "none"}``,
              ``{"type": "tool", "name": …}``,
            - OpenAI's ``{"type": "function", "function": {"name": …}}``, with or without its type, and
              ``{"type": "function", "name": …}``.
        names: The names of the tools; None to accept any name.

    Raises:
        InvalidRequestError: `choice` has none of these forms, or names a tool that is not among `names`.
    """
    if not choice:
        return None
    converted: dict[str, Any] | None = None
    if choice is True:
        converted = {"any": {}}
    elif isinstance(choice, str):
        converted = {_KINDS[choice]: {}} if choice in _KINDS else {"tool": {"name": choice}}
    elif isinstance(choice, Mapping):
        converted = _choice_of_mapping(choice)
    if converted is None or (names is not None and "tool" in converted and converted["tool"]["name"] not in names):
        known = f" ({', '.join(names)})" if names else ""
        raise InvalidRequestError(
            f"tool_choice={choice!r} is not valid: it must be 'auto', 'any', 'none' or the name of a tool{known}."
        )
    return converted


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
    kind: str, choice: Any, supported: Sequence[str], resolved: ResolvedTarget, *, preferred: bool, thinking: bool
) -> str | None:
    """Return the kind of tool choice to send.

    Args:
        kind: The requested kind: ``"auto"``, ``"any"`` or ``"tool"``.
        choice: The choice as the caller wrote it, for messages.
        supported: The kinds that all candidate models support without extended thinking.
        resolved: The target with its candidate models.
        preferred: Whether a framework made the choice, so that it may be weakened; False if the caller made it.
        thinking: Whether the request asks for extended thinking. Claude then refuses a forced tool choice (Anthropic's
            guide on extended thinking).

    Returns:
        One of `supported`; None to send no choice, which Bedrock treats as ``auto``.

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
        # langchain-aws does the same for models that it knows: agents force tools whether the model thinks or not.
        warn_once(
            ("thinking", resolved.target.model_id),
            f"tool_choice={choice!r} is not valid while {resolved.target} is thinking; sending 'auto' instead.",
        )
        return "auto"
    raise InvalidRequestError(
        f"tool_choice={choice!r} is not supported by all models of {resolved.target} "
        f"({', '.join(resolved.base_models) or 'models unknown'}); supported: {', '.join(supported) or 'none'}."
    )


def is_thinking(model_fields: dict[str, Any] | None) -> bool:
    """Return whether ``additionalModelRequestFields`` turn on Claude's extended thinking."""
    thinking = (model_fields or {}).get("thinking") or {}
    return thinking.get("type") in ("enabled", "adaptive")
