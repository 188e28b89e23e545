"""Prompt templates with Bedrock's placeholders.

Placeholders: the Bedrock user guide on knowledge base prompt templates (2026-11). The limit: ``TextPromptTemplate`` of
botocore's bedrock-agent-runtime (1.43).
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from bedrock_routing_integrations.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_TEMPLATE = 4_000
"""Characters of a template that is sent to RetrieveAndGenerate."""
SEARCH_RESULTS, FORMAT, HISTORY = "search_results", "output_format_instructions", "conversation_history"
QUERY, TIME = "query", "current_time"
_GENERATION = {SEARCH_RESULTS: True, FORMAT: False, QUERY: False, TIME: False}
_ORCHESTRATION = {HISTORY: True, FORMAT: True, QUERY: False, TIME: False}
_SENTENCE_END = re.compile(r"\n|[.!?$]\s")
_PLACEHOLDER = re.compile(r"\$([a-z]+(?:_[a-z]+)*)\$")


def check_generation_template(template: str, *, name: str = "prompt_template", limited: bool = True) -> None:
    """Refuse a template of generation that Bedrock would refuse.

    Args:
        template: It needs ``$search_results$``; without ``$output_format_instructions$`` there are no citations.
        name: The argument, for the message.
        limited: Whether Bedrock's limit of 4,000 characters holds.

    Raises:
        InvalidRequestError: It lacks a placeholder, has one that does not exist, or is too long.
    """
    _check(template, _GENERATION, name, limited=limited)


def check_orchestration_template(
    template: str, *, name: str = "orchestration_prompt_template", limited: bool = True
) -> None:
    """The same for orchestration, which needs ``$conversation_history$`` and ``$output_format_instructions$``.

    Raises:
        InvalidRequestError: As above.
    """
    _check(template, _ORCHESTRATION, name, limited=limited)


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with its placeholders replaced, once: what stands in a value is text."""
    return _PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), template)


def split_at(template: str, placeholders: tuple[str, ...]) -> tuple[str, str]:
    """The template before the sentence that has the first of some placeholders, and from there on."""
    starts = [found.start() for found in _PLACEHOLDER.finditer(template) if found[1] in placeholders]
    first = min(starts, default=len(template))
    at = max((found.end() for found in _SENTENCE_END.finditer(template, 0, first)), default=0) if starts else first
    return template[:at], template[at:]


def has(template: str, placeholder: str) -> bool:
    """Whether a template has a placeholder."""
    return f"${placeholder}$" in template


def _check(template: str, known: Mapping[str, bool], name: str, *, limited: bool) -> None:
    if not isinstance(template, str) or not template.strip():
        raise InvalidRequestError(f"{name} must be a text with placeholders, and is {template!r}")
    if limited and len(template) > LONGEST_TEMPLATE:
        raise InvalidRequestError(
            f"{name} has {len(template):,} characters; RetrieveAndGenerate takes {LONGEST_TEMPLATE:,}. "
            "mode='retrieve_then_converse' takes more."
        )
    for found in _PLACEHOLDER.findall(template):
        if found not in known:
            near = difflib.get_close_matches(found, known, n=1)
            listed = ", ".join(f"${one}$" for one in known)
            advice = f"did you mean ${near[0]}$" if near else f"it takes {listed}"
            raise InvalidRequestError(f"{name} has the unknown placeholder ${found}$: {advice}")
    missing = [placeholder for placeholder, needed in known.items() if needed and not has(template, placeholder)]
    if missing:
        raise InvalidRequestError(
            f"{name} lacks {' and '.join(f'${one}$' for one in missing)}, which Bedrock needs there"
        )
