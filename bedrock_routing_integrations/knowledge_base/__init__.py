"""Knowledge bases, neutral: requests of Retrieve and RetrieveAndGenerate, and what their answers say.

Nothing here waits for the network (`client` does) or knows a framework. `where` makes filters:

    from bedrock_routing_integrations.knowledge_base import where

Everything is a value or is computed from values: `search` and `generation` make requests, `passages`, `citations` and
`markers` read answers, `templates` and `prompting` word what a model is told when we retrieve and it answers.
"""

from __future__ import annotations

from .citations import AnswerReader, Citation, Part, cite
from .filters import Filter, checked_filter, grouped, where
from .generation import (
    CONVERSE,
    GENERATE,
    GenerationOptions,
    Question,
    checked_model,
    checked_session_id,
    external_source,
    generate_request,
    refuse_for_generate,
    refuse_for_source,
)
from .images import ImageSelection, reads_images, select_images
from .inline_citations import MarkedAnswer
from .passages import DESCRIBED, Passage, SourceDocument, description_of, read_passage, read_source
from .prompts import Prompt, compose, current_time, read_queries, rewriting_prompt
from .retrieval import (
    MANAGED,
    KnowledgeBaseId,
    SearchOptions,
    parse_knowledge_base_id,
    refuse_unknown,
    retrieve_request,
)
from .sessions import Sessions

__all__ = [
    "CONVERSE",
    "DESCRIBED",
    "GENERATE",
    "MANAGED",
    "AnswerReader",
    "Citation",
    "Filter",
    "GenerationOptions",
    "ImageSelection",
    "KnowledgeBaseId",
    "MarkedAnswer",
    "Part",
    "Passage",
    "Prompt",
    "Question",
    "SearchOptions",
    "Sessions",
    "SourceDocument",
    "checked_filter",
    "checked_model",
    "checked_session_id",
    "cite",
    "compose",
    "current_time",
    "description_of",
    "external_source",
    "generate_request",
    "grouped",
    "parse_knowledge_base_id",
    "read_passage",
    "read_queries",
    "read_source",
    "reads_images",
    "refuse_for_generate",
    "refuse_for_source",
    "refuse_unknown",
    "retrieve_request",
    "rewriting_prompt",
    "select_images",
    "where",
]
