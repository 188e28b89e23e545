"""Retrieve: from a query to chunks of a knowledge base, page by page."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import validation
from .implicit_filters import implied
from .reranking import check_reranking, reranked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .backends import Directory, Place
    from .collection import Chunk
    from .knowledge_bases import KnowledgeBase, KnowledgeBases

    Hits = Sequence[tuple[Chunk, float]]

__all__ = ["RETRIEVAL_MS", "Retriever", "Search", "read_search", "reference", "refuse_blank"]

RETRIEVAL_MS = 180.0
"""Simulated milliseconds of a retrieval: the emulator's own invention."""

_DEFAULT_RESULTS = 5
_MANAGED = "managedSearchConfiguration"
_VECTOR = "vectorSearchConfiguration"
_ALLOWED = "allowed_users"


@dataclass(frozen=True, kw_only=True)
class Search:
    """A `retrievalConfiguration`, whichever of its members was given.

    Attributes:
        most: How many results one page has.
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
    """The search that a request wants of a knowledge base.

    Raises:
        ServiceError: ValidationException for the member that is for the other kind of knowledge base.
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
    """Refuse a query that says nothing.

    Raises:
        ServiceError: ValidationException.
    """
    if not text.strip():
        raise validation("The text of the query must not be blank.")


def reference(chunk: Chunk) -> dict[str, Any]:
    """A chunk as a `RetrievedReference`; members without a value are left out."""
    members = {"content": chunk.content, "location": chunk.location, "metadata": chunk.metadata}
    return {name: value for name, value in members.items() if value}


class Retriever:
    """Answers Retrieve, and finds the passages for RetrieveAndGenerate.

    Args:
        bases: The knowledge bases.
        directory: Finds what a `modelArn` means.
    """

    def __init__(self, bases: KnowledgeBases, directory: Directory) -> None:
        self._bases = bases
        self._directory = directory

    def retrieve(self, request: Mapping[str, Any], place: Place) -> dict[str, Any]:
        """Answer Retrieve.

        Raises:
            ServiceError: As the service refuses it.
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
        """The chunks that RetrieveAndGenerate answers a question from: the first page of what is found."""
        found = self.found(base, text, search, place, user)[: search.most]
        return [chunk for chunk, _ in reranked(found, text, search.reranking)]

    def found(self, base: KnowledgeBase, text: str, search: Search, place: Place, user: str | None) -> Hits:
        """Everything that a query finds for a user, best first, before reranking.

        Raises:
            ServiceError: For a filter that is none, or a model that does not exist.
        """
        found: Hits = base.collection.search(text, filter=search.filter, exact_words=search.exact_words)
        if search.implicit is not None:
            self._directory.backend(search.implicit["modelArn"], place).check()
            found = implied(found, text, search.implicit["metadataAttributes"])
        return [(chunk, score) for chunk, score in found if _may_read(user, chunk)]

    @staticmethod
    def found_by_image(base: KnowledgeBase, image: bytes, user: str | None) -> Hits:
        """The images of a knowledge base: those with the same bytes first, the others far behind."""
        wanted = base64.b64encode(image).decode()
        readable = (chunk for chunk in base.collection.chunks() if _may_read(user, chunk))
        images = [chunk for chunk in readable if chunk.content.get("type") == "IMAGE"]
        scored = [(chunk, 0.99 if chunk.content["byteContent"].endswith(f",{wanted}") else 0.3) for chunk in images]
        return sorted(scored, key=lambda hit: -hit[1])


def _read_query(base: KnowledgeBase, query: Mapping[str, Any]) -> tuple[str, bytes]:
    """The text and the image of a query, one of which can be empty.

    Whether an image may come with a text is not documented; here it may.
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
    """Whether a chunk is for everyone, or for this user."""
    allowed = chunk.metadata.get(_ALLOWED)
    return allowed is None or (user is not None and user in ([allowed] if isinstance(allowed, str) else allowed))


# --- pages


def _digest(request: Mapping[str, Any], start: int) -> str:
    """What ties a token to its request and its page."""
    asked = {name: value for name, value in request.items() if name != "nextToken"}
    text = json.dumps([start, asked], sort_keys=True, default=lambda blob: hashlib.sha256(blob).hexdigest())
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _token(request: Mapping[str, Any], start: int) -> str:
    return base64.urlsafe_b64encode(f"{start}/{_digest(request, start)}".encode()).decode()


def _read_token(request: Mapping[str, Any]) -> int:
    """Where the page that a request wants starts.

    Raises:
        ServiceError: ValidationException for a token that no answer to the same request gave.
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
