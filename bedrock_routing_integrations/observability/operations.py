"""List AWS's operations that OpenTelemetry records, with their metrics and attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from . import attributes
from . import message_content as content

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .call_events import CallStarted

# The bucket boundaries that the conventions advise.
_SECONDS = tuple(0.01 * 2**power for power in range(14))
_TOKENS = tuple(4**power for power in range(14))


class Histogram(NamedTuple):
    """A metric, as the semantic conventions define it."""

    name: str
    unit: str
    description: str
    bounds: tuple[float, ...]


CALL_DURATION = Histogram("gen_ai.client.operation.duration", "s", "GenAI operation duration.", _SECONDS)
RETRIEVAL_DURATION = Histogram("gen_ai.retrieval.duration", "s", "GenAI retrieval duration.", _SECONDS)
TOKENS = Histogram("gen_ai.client.token.usage", "{token}", "Number of input and output tokens used.", _TOKENS)


class Operation(NamedTuple):
    """An operation, as OpenTelemetry records it.

    Attributes:
        recognized_by: Attributes and values of spans that users and instrumentations make for such a call: by the
            conventions, by OpenInference and by Langfuse.
        mark: The attribute that claims such a span for one call.
        name_attribute: The attribute in a span's name, after the operation.
        duration: The metric of the call's duration.
        attributes_of: Return the attributes that are known when a call starts.
        content_of_request: Return the attributes with the content of a request.
        content_of_response: Return the attributes with the content of a response.
        is_measured_by_others: Whether the instrumentations that record metrics record them for such calls.
    """

    recognized_by: tuple[tuple[str, tuple[str, ...]], ...]
    mark: str
    name_attribute: str
    duration: Histogram
    attributes_of: Callable[[CallStarted], dict[str, Any]]
    content_of_request: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    content_of_response: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    is_measured_by_others: bool

    def span_name(self, known: Mapping[str, Any]) -> str:
        """Return the name of a span with these attributes."""
        return " ".join(str(known[name]) for name in (attributes.OPERATION, self.name_attribute) if name in known)


_CHAT = Operation(
    recognized_by=(
        (attributes.OPERATION, ("chat", "text_completion", "generate_content")),
        ("openinference.span.kind", ("LLM",)),
        ("langfuse.observation.type", ("generation",)),
    ),
    mark=attributes.TARGET_KIND,
    name_attribute=attributes.REQUEST_MODEL,
    duration=CALL_DURATION,
    attributes_of=attributes.of_converse,
    content_of_request=content.of_request,
    content_of_response=content.of_answer,
    is_measured_by_others=True,
)
# The conventions have no operation for RetrieveAndGenerate: a model's answer is a chat.
_GENERATION = _CHAT._replace(
    attributes_of=attributes.of_generation,
    content_of_request=content.of_question,
    content_of_response=content.of_generated,
    is_measured_by_others=False,
)
_RETRIEVAL = Operation(
    recognized_by=(
        (attributes.OPERATION, ("retrieval", "vector_db_retrieve")),
        ("openinference.span.kind", ("RETRIEVER",)),
        ("langfuse.observation.type", ("retriever",)),
    ),
    mark="aws.bedrock.operation",
    name_attribute=attributes.DATA_SOURCE,
    duration=RETRIEVAL_DURATION,
    attributes_of=attributes.of_retrieval,
    content_of_request=content.of_query,
    content_of_response=content.of_results,
    is_measured_by_others=False,
)

OPERATIONS = {
    "Converse": _CHAT,
    "ConverseStream": _CHAT,
    "Retrieve": _RETRIEVAL,
    "RetrieveAndGenerate": _GENERATION,
    "RetrieveAndGenerateStream": _GENERATION,
}
"""Operation of AWS's API → how it is recorded."""
