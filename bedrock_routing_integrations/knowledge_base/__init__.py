"""Knowledge bases, framework-free: requests of Retrieve and RetrieveAndGenerate, their answers, and turns of our own.

Nothing here waits for the network (`client` does) or knows a framework. `where` makes filters:

    from bedrock_routing_integrations.knowledge_base import where

`retrieval` and `generation` make requests. `passages`, `citations` and `inline_citations` read answers. `modes` checks
which arguments go together. `rag` runs a turn of retrieve_then_converse, with `prompts`, `images` and `sessions`.
"""

from __future__ import annotations

from .citations import AnswerPart, AnswerReader, Citation, cite
from .filters import Filter, checked_filter, grouped, where
from .generation import (
    CONVERSE,
    GENERATE,
    GenerationOptions,
    Question,
    checked_model,
    checked_question,
    checked_session_id,
    generate_request,
)
from .images import ImageSelection, reads_images, select_images
from .inline_citations import InlineCitationReader
from .modes import RagArguments, Spelling
from .passages import (
    DESCRIBED,
    Passage,
    RetrievedPassages,
    SourceDocument,
    description_of,
    external_source,
    read_passage,
    read_source,
)
from .prompts import Prompt, compose, read_queries, rewriting_prompt
from .rag import INTERVENED, AnswerModel, RagTurn, Sessions, caches_instructions, checked_id, distinct
from .retrieval import (
    MANAGED,
    KnowledgeBaseId,
    SearchOptions,
    parse_knowledge_base_id,
    refuse_unknown,
    retrieve_request,
)

__all__ = [
    "CONVERSE",
    "DESCRIBED",
    "GENERATE",
    "INTERVENED",
    "MANAGED",
    "AnswerModel",
    "AnswerPart",
    "AnswerReader",
    "Citation",
    "Filter",
    "GenerationOptions",
    "ImageSelection",
    "InlineCitationReader",
    "KnowledgeBaseId",
    "Passage",
    "Prompt",
    "Question",
    "RagArguments",
    "RagTurn",
    "RetrievedPassages",
    "SearchOptions",
    "Sessions",
    "SourceDocument",
    "Spelling",
    "caches_instructions",
    "checked_filter",
    "checked_id",
    "checked_model",
    "checked_question",
    "checked_session_id",
    "cite",
    "compose",
    "description_of",
    "distinct",
    "external_source",
    "generate_request",
    "grouped",
    "parse_knowledge_base_id",
    "read_passage",
    "read_queries",
    "read_source",
    "reads_images",
    "refuse_unknown",
    "retrieve_request",
    "rewriting_prompt",
    "select_images",
    "where",
]
