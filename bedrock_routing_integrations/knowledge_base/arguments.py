"""Arguments that nobody would read, refused with the name of the one that was meant."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from bedrock_routing_integrations.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Iterable

# What users of other retrievers and chains write.
_ELSEWHERE = {
    "llm": "model",
    "model_id": "model",
    "chat_model": "model",
    "model_arn": "model",
    "top_k": "k",
    "n_results": "k",
    "number_of_results": "k",
    "numberOfResults": "k",
    "search_kwargs": "k, filter and the others by themselves",
    "filters": "filter",
    "metadata_filter": "filter",
    "temperature": "inference_config",
    "max_tokens": "inference_config",
    "guardrail": "guardrail_config",
    "override_search_type": "search_type",
    "kb_id": "knowledge_base_id",
    "memory": "get_session_history (LlamaIndex: get_memory)",
}


def refuse_unknown(what: str, given: Iterable[object], known: Iterable[str]) -> None:
    """Refuse an argument that nobody would read.

    Args:
        what: Whose arguments they are, for the message.
        given: Their names.
        known: Those that there are.

    Raises:
        InvalidRequestError: There is no such argument; the message says which was meant, or which there are.
    """
    names = list(known)
    for name in given:
        if name not in names:
            meant = _ELSEWHERE.get(str(name)) or next(iter(difflib.get_close_matches(str(name), names, n=1)), None)
            takes = meant is not None and (meant in names or " " in meant)
            shown = repr(meant) if meant in names else meant
            advice = f"did you mean {shown}?" if takes else f"it takes {', '.join(names)}."
            raise InvalidRequestError(f"{what} takes no {name!r}: {advice}")
