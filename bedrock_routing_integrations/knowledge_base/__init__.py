"""Knowledge bases, neutral: requests of Retrieve and RetrieveAndGenerate, and what their answers say.

Nothing here waits for the network (`client` does) or knows a framework. `where` makes filters:

    from bedrock_routing_integrations.knowledge_base import where

Everything is a value or is computed from values: `search` and `generation` make requests, `passages`, `citations` and
`markers` read answers, `templates` and `prompting` word what a model is told when we retrieve and it answers.
"""

from __future__ import annotations

from .citations import Citation
from .filters import Filter, checked_filter, where
from .generation import (
    AnswerReader,
    GenerationOptions,
    Part,
    Question,
    checked_session_id,
    cite,
    external_source,
    generate_request,
)
from .ids import KnowledgeBaseId, parse_knowledge_base_id
from .marked import MarkedAnswer
from .passages import Passage, distinct, read_passage
from .prompting import Prompt, compose, read_queries, rewriting_prompt
from .search import MANAGED, SearchOptions, retrieve_request
from .sessions import Sessions

__all__ = [
    "MANAGED",
    "AnswerReader",
    "Citation",
    "Filter",
    "GenerationOptions",
    "KnowledgeBaseId",
    "MarkedAnswer",
    "Part",
    "Passage",
    "Prompt",
    "Question",
    "SearchOptions",
    "Sessions",
    "checked_filter",
    "checked_session_id",
    "cite",
    "compose",
    "distinct",
    "external_source",
    "generate_request",
    "parse_knowledge_base_id",
    "read_passage",
    "read_queries",
    "retrieve_request",
    "rewriting_prompt",
    "where",
]
