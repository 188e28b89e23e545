"""What tells the operations apart of which OpenTelemetry is told: a model's call and a retrieval."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from . import attributes, content
from .instruments import CALL_DURATION, RETRIEVAL_DURATION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .instruments import Histogram


class Operation(NamedTuple):
    """A kind of call.

    Attributes:
        said_by: How a span of somebody else says that it is of such a call: attributes and their values, by the
            conventions, by OpenInference and by Langfuse.
        mark: An attribute of ours that such a span gets: it is of one call, and the next call in it has another span.
        name_of: The attribute that stands in a span's name.
        duration: The metric of how long it took.
        content_of_request: The attributes that hold what a request says.
        content_of_answer: The attributes that hold what was answered.
        measured_by_others: Whether the instrumentations that record metrics record those of such calls.
    """

    said_by: tuple[tuple[str, tuple[str, ...]], ...]
    mark: str
    name_of: str
    duration: Histogram
    content_of_request: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    content_of_answer: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    measured_by_others: bool

    def span_name(self, known: Mapping[str, Any]) -> str:
        """Return the name of a span with these attributes."""
        return " ".join(str(known[name]) for name in (attributes.OPERATION, self.name_of) if name in known)


CHAT = Operation(
    said_by=(
        (attributes.OPERATION, ("chat", "text_completion", "generate_content")),
        ("openinference.span.kind", ("LLM",)),
        ("langfuse.observation.type", ("generation",)),
    ),
    mark=attributes.TARGET_KIND,
    name_of=attributes.REQUEST_MODEL,
    duration=CALL_DURATION,
    content_of_request=content.of_request,
    content_of_answer=content.of_answer,
    measured_by_others=True,
)
"""Converse and ConverseStream."""
GENERATION = CHAT._replace(
    content_of_request=content.of_question, content_of_answer=content.of_generated, measured_by_others=False
)
"""RetrieveAndGenerate and its stream. The conventions have no operation for them: a model's answer is a chat."""
RETRIEVAL = Operation(
    said_by=(
        (attributes.OPERATION, ("retrieval", "vector_db_retrieve")),
        ("openinference.span.kind", ("RETRIEVER",)),
        ("langfuse.observation.type", ("retriever",)),
    ),
    mark="aws.bedrock.operation",
    name_of=attributes.DATA_SOURCE,
    duration=RETRIEVAL_DURATION,
    content_of_request=content.of_query,
    content_of_answer=content.of_results,
    measured_by_others=False,
)
"""Retrieve."""
