"""Retrieve: search a knowledge base, with filters on metadata, reranking and pages."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.emulator.canned_models.words import key_words
from bedrock_routing_integrations.emulator.wire.service_model import validation

if TYPE_CHECKING:
    from collections.abc import Callable

    from .documents import Chunk
    from .knowledge_bases import KnowledgeBase, KnowledgeBases
    from .targets import Directory, Place

    Hits = Sequence[tuple[Chunk, float]]


# --- Reranking ---

_MODELS = ("cohere.rerank-v3-5:0", "amazon.rerank-v1:0")


def check_reranking(settings: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Validate the reranking settings of a search and return its `bedrockRerankingConfiguration`.

    Args:
        settings: A vectorSearchConfiguration or managedSearchConfiguration.

    Returns:
        The configuration; {} for the service's own model; None without reranking.

    Raises:
        ServiceError: ValidationException for a model that cannot rerank, or a configuration without its required
            member.
    """
    wanted = settings.get("rerankingModelType")  # only in a managedSearchConfiguration
    reranking = settings.get("rerankingConfiguration")
    if wanted in {"MANAGED", "NONE"} and reranking is not None:
        raise validation(f"rerankingConfiguration is for rerankingModelType CUSTOM, not for {wanted}.")
    if wanted == "MANAGED":
        return {}
    if reranking is None:
        if wanted == "CUSTOM":
            raise validation("rerankingModelType CUSTOM needs a rerankingConfiguration.")
        return None
    configuration: Mapping[str, Any] | None = reranking.get("bedrockRerankingConfiguration")
    if configuration is None:
        raise validation(
            "A rerankingConfiguration of type BEDROCK_RERANKING_MODEL needs bedrockRerankingConfiguration."
        )
    arn = configuration["modelConfiguration"]["modelArn"]
    if arn.rpartition("/")[2] not in _MODELS:
        raise validation(f"The model {arn} does not support reranking; these do: {', '.join(_MODELS)}.")
    metadata = configuration.get("metadataConfiguration", {})
    if (metadata.get("selectionMode") == "SELECTIVE") != ("selectiveModeConfiguration" in metadata):
        raise validation("selectionMode SELECTIVE, and no other, needs selectiveModeConfiguration.")
    return configuration


def reranked(
    found: Sequence[tuple[Chunk, float]], query: str, configuration: Mapping[str, Any] | None
) -> Sequence[tuple[Chunk, float]]:
    """Return results in the order and with the scores of a rerank model.

    Results with equal scores keep their order.

    Args:
        found: Chunks with their scores, best first.
        query: The text of the query.
        configuration: A `bedrockRerankingConfiguration`; None to return the results unchanged.
    """
    if configuration is None:
        return found
    wanted = _words(query)
    metadata = configuration.get("metadataConfiguration", {})
    scored = [(chunk, _score(wanted, _text(chunk, metadata))) for chunk, _ in found]
    scored.sort(key=lambda hit: -hit[1])
    return scored[: configuration.get("numberOfRerankedResults", len(scored))]


def _words(text: str) -> frozenset[str]:
    return frozenset(word.casefold() for word in key_words(text))


def _score(wanted: frozenset[str], text: str) -> float:
    """Return a relevance score between 0 and 1, both exclusive."""
    return round(0.005 + 0.99 * len(wanted & _words(text)) / max(1, len(wanted)), 6)


def _text(chunk: Chunk, metadata: Mapping[str, Any]) -> str:
    """Return a chunk's text as the rerank model reads it: the text and the selected metadata."""
    if not metadata:
        return chunk.text
    selected = metadata.get("selectiveModeConfiguration", {})
    included = {field["fieldName"] for field in selected.get("fieldsToInclude", ())}
    excluded = {field["fieldName"] for field in selected.get("fieldsToExclude", ())}
    values = (
        str(value) for key, value in chunk.metadata.items() if key not in excluded and (key in included or not included)
    )
    return " ".join((chunk.text, *values))


# --- Implicit filters ---


def implied(
    found: Sequence[tuple[Chunk, float]], query: str, attributes: Sequence[Mapping[str, Any]]
) -> list[tuple[Chunk, float]]:
    """Return the chunks whose attributes match the values that a query names.

    An attribute that the query does not name filters nothing.

    Args:
        found: Chunks with their scores, best first.
        query: The text of the query.
        attributes: The `metadataAttributes` of an implicitFilterConfiguration.
    """
    kept = list(found)
    for attribute in attributes:
        if attribute["type"] == "BOOLEAN":  # a query does not name "true"
            continue
        key = attribute["key"]
        named = [hit for hit in kept if any(_occurs(value, query) for value in _values(hit[0].metadata.get(key)))]
        kept = named or kept
    return kept


def _values(value: Any) -> Sequence[Any]:
    """Return the values of an attribute that a query can name."""
    if isinstance(value, (list, tuple)):
        return value
    return () if value is None or isinstance(value, bool) else (value,)


def _occurs(value: Any, query: str) -> bool:
    """Return whether a query contains a value as a whole word or words."""
    text = f"{value:.15g}" if isinstance(value, float) else str(value)
    return bool(text) and re.search(rf"(?<!\w){re.escape(text)}(?!\w)", query, re.IGNORECASE) is not None


RETRIEVAL_MS = 180.0
"""Simulated milliseconds of a retrieval. The number is invented."""

_DEFAULT_RESULTS = 5
_MANAGED = "managedSearchConfiguration"
_VECTOR = "vectorSearchConfiguration"
_ALLOWED = "allowed_users"


@dataclass(frozen=True, kw_only=True)
class Search:
    """A `retrievalConfiguration` for either type of knowledge base.

    Attributes:
        most: The number of results on one page.
        filter: The filter on metadata.
        exact_words: Whether words as they are written count for more (hybrid search).
        implicit: The `implicitFilterConfiguration`.
        reranking: The `bedrockRerankingConfiguration`; {} for the service's own model; None without reranking.
    """

    most: int
    filter: Mapping[str, Any] | None
    exact_words: bool
    implicit: Mapping[str, Any] | None
    reranking: Mapping[str, Any] | None


def read_search(base: KnowledgeBase, configuration: Mapping[str, Any]) -> Search:
    """Return the search settings of a request for a knowledge base.

    Args:
        base: The knowledge base to search.
        configuration: The request's `retrievalConfiguration`.

    Raises:
        ServiceError: ValidationException if the configuration is for the other type of knowledge base.
    """
    wanted, other = (_MANAGED, _VECTOR) if base.type == "MANAGED" else (_VECTOR, _MANAGED)
    if other in configuration:
        raise validation(
            f"{other} is not supported for knowledge base {base.resource_id} of type {base.type}: use {wanted}."
        )
    settings = configuration.get(wanted, {})
    return Search(
        most=settings.get("numberOfResults", _DEFAULT_RESULTS),
        filter=settings.get("filter"),
        exact_words=settings.get("overrideSearchType") == "HYBRID",
        implicit=settings.get("implicitFilterConfiguration"),
        reranking=check_reranking(settings),
    )


def refuse_blank(text: str) -> None:
    """Raise for a blank query.

    Raises:
        ServiceError: ValidationException.
    """
    if not text.strip():
        raise validation("The text of the query must not be blank.")


def reference(chunk: Chunk) -> dict[str, Any]:
    """Return a chunk as a `RetrievedReference`, without members that have no value."""
    members = {"content": chunk.content, "location": chunk.location, "metadata": chunk.metadata}
    return {name: value for name, value in members.items() if value}


class Retriever:
    """Answers Retrieve and finds the passages for RetrieveAndGenerate.

    Args:
        bases: The knowledge bases.
        directory: Resolves a `modelArn`.
    """

    def __init__(self, bases: KnowledgeBases, directory: Directory) -> None:
        self._bases = bases
        self._directory = directory

    def retrieve(self, request: Mapping[str, Any], place: Place) -> dict[str, Any]:
        """Return the response to a Retrieve request.

        Args:
            request: The request's members.
            place: The Region and account of the request.

        Raises:
            ServiceError: The service's error for a request that it refuses.
        """
        base = self._bases.find(request["knowledgeBaseId"])
        search = read_search(base, request.get("retrievalConfiguration", {}))
        guardrail = self._bases.guardrail(request.get("guardrailConfiguration"))
        text, image = _read_query(base, request["retrievalQuery"])
        start = _read_token(request)
        action = guardrail.action(text) if guardrail is not None else None
        if action == "INTERVENED":
            return {"retrievalResults": [], "guardrailAction": action}
        user = request.get("userContext", {}).get("userId")
        found = self.found_by_image(base, image, user) if image else ()
        if text:
            seen = {id(chunk) for chunk, _ in found}
            words = self.found(base, text, search, place, user)
            found = [*found, *((chunk, score) for chunk, score in words if id(chunk) not in seen)]
        end = start + search.most
        page = reranked(found[start:end], text, search.reranking)
        return {
            "retrievalResults": [
                {**reference(chunk), "score": score, "documentId": chunk.document_id or None} for chunk, score in page
            ],
            "guardrailAction": action,
            "nextToken": _token(request, end) if end < len(found) else None,
        }

    def passages(self, base: KnowledgeBase, text: str, search: Search, place: Place, user: str | None) -> list[Chunk]:
        """Return the chunks that RetrieveAndGenerate answers a question from: the first page of results.

        Args:
            base: The knowledge base to search.
            text: The question.
            search: The search settings.
            place: The Region and account of the request.
            user: The `userId` of the request's userContext; None without one.
        """
        found = self.found(base, text, search, place, user)[: search.most]
        return [chunk for chunk, _ in reranked(found, text, search.reranking)]

    def found(self, base: KnowledgeBase, text: str, search: Search, place: Place, user: str | None) -> Hits:
        """Return all results of a query that a user may read, best first, before reranking.

        Args:
            base: The knowledge base to search.
            text: The text of the query.
            search: The search settings.
            place: The Region and account of the request.
            user: The `userId` of the request's userContext; None without one.

        Raises:
            ServiceError: The filter is not valid, or a model does not exist.
        """
        found: Hits = base.collection.search(text, filter=search.filter, exact_words=search.exact_words)
        if search.implicit is not None:
            self._directory.backend(search.implicit["modelArn"], place).check()
            found = implied(found, text, search.implicit["metadataAttributes"])
        return [(chunk, score) for chunk, score in found if _may_read(user, chunk)]

    @staticmethod
    def found_by_image(base: KnowledgeBase, image: bytes, user: str | None) -> Hits:
        """Return the images of a knowledge base that a user may read: identical images score 0.99, others 0.3.

        Args:
            base: The knowledge base to search.
            image: The bytes of the query's image.
            user: The `userId` of the request's userContext; None without one.
        """
        wanted = base64.b64encode(image).decode()
        readable = (chunk for chunk in base.collection.chunks() if _may_read(user, chunk))
        images = [chunk for chunk in readable if chunk.content.get("type") == "IMAGE"]
        scored = [(chunk, 0.99 if chunk.content["byteContent"].endswith(f",{wanted}") else 0.3) for chunk in images]
        return sorted(scored, key=lambda hit: -hit[1])


def _read_query(base: KnowledgeBase, query: Mapping[str, Any]) -> tuple[str, bytes]:
    """Return the text and the image of a query. Either can be empty.

    AWS does not document whether an image query may include a text. The emulator allows it.
    """
    kind = query.get("type", "TEXT")
    if kind.lower() not in query or (kind == "TEXT" and "image" in query):
        raise validation(f"A retrievalQuery of type {kind} must have {kind.lower()}, and no image beside a text.")
    if kind == "TEXT":
        refuse_blank(query["text"])
        return query["text"], b""
    if not base.multimodal:
        raise validation(f"Knowledge base {base.resource_id} does not support image queries.")
    return query.get("text", ""), query["image"]["inlineContent"]


def _may_read(user: str | None, chunk: Chunk) -> bool:
    """Return whether a chunk is readable by everyone or by this user."""
    allowed = chunk.metadata.get(_ALLOWED)
    return allowed is None or (user is not None and user in ([allowed] if isinstance(allowed, str) else allowed))


# --- Pages ---


def _digest(request: Mapping[str, Any], start: int) -> str:
    """Return a digest that ties a page token to its request and its page."""
    asked = {name: value for name, value in request.items() if name != "nextToken"}
    text = json.dumps([start, asked], sort_keys=True, default=lambda blob: hashlib.sha256(blob).hexdigest())
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _token(request: Mapping[str, Any], start: int) -> str:
    """Return the nextToken of a page."""
    return base64.urlsafe_b64encode(f"{start}/{_digest(request, start)}".encode()).decode()


def _read_token(request: Mapping[str, Any]) -> int:
    """Return the index of the first result of the requested page.

    Raises:
        ServiceError: ValidationException for a token that was not returned for the same request.
    """
    token = request.get("nextToken")
    if token is None:
        return 0
    try:
        start, _, digest = base64.urlsafe_b64decode(token.encode()).decode().partition("/")
        if digest == _digest(request, int(start)):
            return int(start)
    except (binascii.Error, ValueError):
        pass
    raise validation("The nextToken is not valid: send it with the request that it answered.")


# --- Filters on metadata attributes ---

_LEAST, _MOST = 2, 5  # filters in an andAll or orAll
_LONGEST_KEY = 100
_GROUPS: Mapping[str, Callable[[Any], bool]] = {"andAll": all, "orAll": any}


def check_filter(given: Any) -> None:
    """Validate a filter on metadata attributes.

    Raises:
        ServiceError: ValidationException that names the invalid member and its problem.
    """
    _check(given, "filter", groups_above=0)


def matches(given: Mapping[str, Any], metadata: Mapping[str, Any]) -> bool:
    """Return whether metadata attributes match a filter.

    Args:
        given: A filter that has passed `check_filter`.
        metadata: The metadata attributes of a chunk.
    """
    ((operator, operand),) = given.items()
    if operator in _GROUPS:
        return _GROUPS[operator](matches(part, metadata) for part in operand)
    key, value = operand["key"], operand["value"]
    if key not in metadata:
        return operator in ("notEquals", "notIn")
    return _COMPARISONS[operator](metadata[key], value)


def _check(given: Any, place: str, *, groups_above: int) -> None:
    """Validate a filter and the filters nested in it."""
    if not isinstance(given, Mapping) or len(given) != 1:
        raise validation(f"{place} must set exactly one of the following keys: {', '.join((*_COMPARISONS, *_GROUPS))}")
    ((operator, operand),) = given.items()
    if operator in _GROUPS:
        _check_group(operand, f"{place}.{operator}", groups_above=groups_above)
    elif operator in _COMPARISONS:
        _check_comparison(operator, operand, f"{place}.{operator}")
    else:
        raise validation(f"{place} has the unknown operator {operator}")


def _check_group(parts: Any, place: str, *, groups_above: int) -> None:
    """Validate an andAll or orAll: 2 to 5 filters, at most one level inside another group."""
    if not isinstance(parts, Sequence) or isinstance(parts, str) or not _LEAST <= len(parts) <= _MOST:
        raise validation(f"{place} must be a list of {_LEAST} to {_MOST} filters")
    if groups_above > 1:
        raise validation(f"{place} is nested too deeply: filters can be embedded one level deep")
    for index, part in enumerate(parts):
        _check(part, f"{place}[{index}]", groups_above=groups_above + 1)


def _check_comparison(operator: str, operand: Any, place: str) -> None:
    """Validate a comparison: a key, and a value of the type that the operator compares."""
    if not isinstance(operand, Mapping) or set(operand) != {"key", "value"}:
        raise validation(f"{place} must have a key and a value")
    key = operand["key"]
    if not isinstance(key, str) or not 1 <= len(key) <= _LONGEST_KEY:
        raise validation(f"{place}.key must be a string of 1 to {_LONGEST_KEY} characters")
    fits, wanted = _VALUES[operator]
    if not fits(operand["value"]):
        raise validation(f"{place}.value must be {wanted}")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (str, int, float))


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_scalar, value))


def _same(attribute: Any, value: Any) -> bool:
    """Return whether two attribute values are equal. `true` does not equal 1."""
    return isinstance(attribute, bool) == isinstance(value, bool) and bool(attribute == value)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda attribute, value: _is_number(attribute) and compare(attribute, value)


def _in(attribute: Any, values: Sequence[Any]) -> bool:
    return any(_same(attribute, value) for value in values)


def _contains_text(attribute: Any, value: str) -> bool:
    members = attribute if isinstance(attribute, list) else [attribute]
    return any(isinstance(member, str) and value in member for member in members)


_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "equals": _same,
    "notEquals": lambda attribute, value: not _same(attribute, value),
    "greaterThan": _ordered(lambda attribute, value: attribute > value),
    "greaterThanOrEquals": _ordered(lambda attribute, value: attribute >= value),
    "lessThan": _ordered(lambda attribute, value: attribute < value),
    "lessThanOrEquals": _ordered(lambda attribute, value: attribute <= value),
    "in": _in,
    "notIn": lambda attribute, values: not _in(attribute, values),
    "startsWith": lambda attribute, value: _is_text(attribute) and attribute.startswith(value),
    "stringContains": _contains_text,
    "listContains": lambda attribute, value: isinstance(attribute, list) and _in(value, attribute),
}

_SCALAR = (_is_scalar, "a string, a number or a boolean")
_NUMBER = (_is_number, "a number")
_TEXT = (_is_text, "a string")
_LIST = (_is_list, "a list, not empty, of strings, numbers or booleans")
_VALUES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("equals", "notEquals"), _SCALAR),
    **dict.fromkeys(("greaterThan", "greaterThanOrEquals", "lessThan", "lessThanOrEquals"), _NUMBER),
    **dict.fromkeys(("in", "notIn"), _LIST),
    **dict.fromkeys(("startsWith", "stringContains", "listContains"), _TEXT),
}


# --- Query decomposition ---

_ASKS = (
    r"(?:who|whom|whose|what|which|when|where|why|how|is|are|was|were|do|does|did|has|have|had|can|could|will|would)\b"
)
_BETWEEN = re.compile(rf"(?:[?;]\s*|,?\s+)(?:and\s+(?:also\s+)?)(?={_ASKS})|[?;]\s*(?={_ASKS})", re.IGNORECASE)


def parts_of(question: str) -> list[str]:
    """Return the questions in a text: split at "?", ";" and "and" where another question follows.

    A text with one question is returned unchanged.
    """
    pieces = [piece.strip(" ?;") for piece in _BETWEEN.split(question)]
    found = [f"{piece}?" for piece in pieces if piece]
    return found if len(found) > 1 else [question]
