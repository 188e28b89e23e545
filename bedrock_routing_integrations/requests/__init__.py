"""Converse requests that the models of a target take, and what was found out about what they refuse."""

from __future__ import annotations

from .documents import LONGEST_NAME as LONGEST_DOCUMENT_NAME
from .documents import DocumentNames, legal_document_name
from .preparation import PreparedRequest, prepare_request
from .reasoning import PLACEHOLDER
from .refusals import REASONING, RefusalMemory, Refused, Removal, is_forced, removable, shared_refusals
from .system_messages import PLACEMENTS, SystemPlacement, check_placement
from .tools import NO_CALL, ROOT, ToolTranslation, object_schema

__all__ = [
    "LONGEST_DOCUMENT_NAME", "NO_CALL", "PLACEHOLDER", "PLACEMENTS", "REASONING", "ROOT", "DocumentNames",
    "PreparedRequest", "RefusalMemory", "Refused", "Removal", "SystemPlacement", "ToolTranslation", "check_placement",
    "is_forced", "legal_document_name", "object_schema", "prepare_request", "removable", "shared_refusals",
]  # fmt: skip
