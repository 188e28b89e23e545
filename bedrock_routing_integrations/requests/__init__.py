"""Make Converse requests valid for the models of a target, and remember which parts of a request they refuse.

`prepare_request` applies the rules in order. Each rule has a module: `documents`, `reasoning`, `system_messages`,
`tools`. `tool_choice` reads the tool choices of both frameworks. `refusals` recognizes Bedrock's refusals, so that
`client.exchange` can send a request again without the refused part.
"""

from __future__ import annotations

from .documents import LONGEST_NAME as LONGEST_DOCUMENT_NAME
from .documents import DocumentNames, legal_document_name
from .messages import PLACEHOLDER, PLACEMENTS, SystemPlacement, check_placement
from .preparation import PreparedRequest, prepare_request
from .refusals import REASONING, RefusalMemory, Refused, Removal, find_removal, is_forced
from .tools import NO_CALL, ROOT, ToolTranslation, object_schema

__all__ = [
    "LONGEST_DOCUMENT_NAME",
    "NO_CALL",
    "PLACEHOLDER",
    "PLACEMENTS",
    "REASONING",
    "ROOT",
    "DocumentNames",
    "PreparedRequest",
    "RefusalMemory",
    "Refused",
    "Removal",
    "SystemPlacement",
    "ToolTranslation",
    "check_placement",
    "find_removal",
    "is_forced",
    "legal_document_name",
    "object_schema",
    "prepare_request",
]  # fmt: skip
