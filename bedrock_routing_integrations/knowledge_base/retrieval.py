"""Requests of Retrieve: ids of knowledge bases and options of a search, checked before anything is sent.

Shapes and limits: botocore's bedrock-agent-runtime (1.43).
"""

from __future__ import annotations

import difflib
import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.errors import InvalidRequestError

from .filters import Filter, checked_filter
from .images import image_query

if TYPE_CHECKING:
    from collections.abc import Iterable


# --- Unknown arguments ---

# Names that other retrievers and chains use → the name here.
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


def refuse_unknown(owner: str, given: Iterable[object], known: Iterable[str]) -> None:
    """Raise for an argument that does not exist.

    Args:
        owner: What takes the arguments, for the message.
        given: Names of the arguments.
        known: Names of those that exist.

    Raises:
        InvalidRequestError: An argument does not exist. The message names the nearest, or lists all.
    """
    names = list(known)
    for name in given:
        if name not in names:
            meant = _ELSEWHERE.get(str(name)) or next(iter(difflib.get_close_matches(str(name), names, n=1)), None)
            takes = meant is not None and (meant in names or " " in meant)
            shown = repr(meant) if meant in names else meant
            advice = f"did you mean {shown}?" if takes else f"it takes {', '.join(names)}."
            raise InvalidRequestError(f"{owner} takes no {name!r}: {advice}")


# --- Options of a search ---

MOST_RESULTS = 100
"""Results of one request, and of one page."""
LONGEST_QUERY = 20_000
"""Characters of a query of Retrieve."""
MANAGED = "MANAGED"
TYPES = ("VECTOR", "KENDRA", "SQL", MANAGED)
_SEARCH_TYPES = ("HYBRID", "SEMANTIC")
_ATTRIBUTE_TYPES = ("STRING", "NUMBER", "BOOLEAN", "STRING_LIST")
_MOST_ATTRIBUTES = 25
_LONGEST = {"key": 256, "description": 1_024}  # characters, of a metadata attribute
_RERANKING_MODEL = re.compile(r"arn:aws(?:-[^:]+)?:bedrock:[a-z0-9-]{1,20}::foundation-model/.+")
_UNBROKEN = re.compile(r"\S{1,2048}")
_GUARDRAIL = re.compile(r"[a-z0-9]{1,64}")
_GUARDRAIL_VERSION = re.compile(r"[1-9][0-9]{0,4}|DRAFT")
_SECTIONS = {False: "vectorSearchConfiguration", True: "managedSearchConfiguration"}


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """How to search a knowledge base. Options that are None are not sent, and Bedrock's default holds.

    Attributes:
        k: Results to return, 1 to 100 (Bedrock's default: 5).
        search_type: ``"HYBRID"`` or ``"SEMANTIC"``; not for managed knowledge bases.
        filter: On metadata: a `Filter` made by `where`, or a dictionary as Bedrock takes it.
        implicit_filter: Lets a model make a filter from the query: ``{"modelArn": …, "metadataAttributes": [{"key",
            "type", "description"}, …]}``; not for managed knowledge bases.
        reranking: The id or ARN of a reranking model; or ``"MANAGED"`` or ``"NONE"`` (managed knowledge bases); or the
            whole ``rerankingConfiguration``.
        guardrail: ``{"guardrailId": …, "guardrailVersion": …}``.
        user_context: The id of the user whose access rights count, or ``{"userId": …}``.
        score_threshold: Leave out results that score less, or have no score. Applied here; Bedrock has no such option.
        knowledge_base_type: ``"VECTOR"``, ``"KENDRA"``, ``"SQL"`` or ``"MANAGED"``; None to look it up if the request
            depends on it (IAM action ``bedrock:GetKnowledgeBase``).
        retrieval_config: A ``retrievalConfiguration`` as Bedrock takes it, to which the options above are added.
    """

    k: int | None = None
    search_type: str | None = None
    filter: Filter | Mapping[str, Any] | None = None
    implicit_filter: Mapping[str, Any] | None = None
    reranking: str | Mapping[str, Any] | None = None
    guardrail: Mapping[str, Any] | None = None
    user_context: str | Mapping[str, Any] | None = None
    score_threshold: float | None = None
    knowledge_base_type: str | None = None
    retrieval_config: Mapping[str, Any] | None = None

    def changed(self, options: Mapping[str, Any]) -> SearchOptions:
        """Return these options with some of them replaced for one call.

        Raises:
            InvalidRequestError: An option does not exist.
        """
        refuse_unknown("a search", options, self.__dataclass_fields__)
        return replace(self, **options) if options else self

    def check(self) -> None:
        """Raise for options that Bedrock would refuse.

        Raises:
            InvalidRequestError: Bedrock would refuse an option, or it contradicts another.
        """
        if self.knowledge_base_type is not None and self.knowledge_base_type not in TYPES:
            raise InvalidRequestError(
                f"knowledge_base_type={self.knowledge_base_type!r} is not valid. Give one of {', '.join(TYPES)}, or "
                "None to look it up."
            )
        threshold = self.score_threshold
        number = isinstance(threshold, (int, float)) and not isinstance(threshold, bool)
        if threshold is not None and not (number and math.isfinite(threshold)):
            raise InvalidRequestError(f"score_threshold must be a number, and is {threshold!r}.")
        managed = self.knowledge_base_type == MANAGED or "managedSearchConfiguration" in (self.retrieval_config or {})
        retrieval_configuration(self, managed=managed, region="us-east-1")
        guardrail_configuration(self.guardrail)
        user_context(self.user_context)

    @property
    def depends_on_type(self) -> bool:
        """Whether the request depends on the type of the knowledge base."""
        config = self.retrieval_config or {}
        options = (self.k, self.search_type, self.filter, self.implicit_filter, self.reranking)
        return any(option is not None for option in options) and not set(config).intersection(_SECTIONS.values())


def retrieve_request(
    knowledge_base: KnowledgeBaseId,
    query: str,
    options: SearchOptions,
    *,
    managed: bool,
    region: str,
    image: bytes | str | None = None,
    next_token: str | None = None,
) -> dict[str, Any]:
    """Return a request of Retrieve.

    Args:
        knowledge_base: The knowledge base to search.
        query: What to search for, at most 20,000 characters; may be empty with an image.
        options: How to search.
        managed: Whether it is a managed knowledge base.
        region: Region of a reranking model that is named by its id.
        image: An image that the results should resemble, as bytes or a data URI, for knowledge bases with a multimodal
            embedding model.
        next_token: The token of the page before.

    Raises:
        InvalidRequestError: Bedrock would refuse it.
    """
    if not isinstance(query, str):
        raise InvalidRequestError(f"the query must be a string, and is a {type(query).__name__}.")
    if len(query) > LONGEST_QUERY:
        raise InvalidRequestError(f"the query has {len(query):,} characters. Bedrock takes {LONGEST_QUERY:,}.")
    if image is None and not query.strip():
        raise InvalidRequestError("the query is empty. Give a text to search for, or an image.")
    if next_token and not _UNBROKEN.fullmatch(next_token):
        raise InvalidRequestError(f"next_token={next_token!r} is not valid. Give the token of the page before.")
    retrieval_query: dict[str, Any] = {"text": query} if query.strip() else {}
    if image is not None:
        retrieval_query |= {"type": "IMAGE", "image": image_query(image)}
    request: dict[str, Any] = {"knowledgeBaseId": knowledge_base.text, "retrievalQuery": retrieval_query}
    optional = {
        "retrievalConfiguration": retrieval_configuration(options, managed=managed, region=region),
        "guardrailConfiguration": guardrail_configuration(options.guardrail),
        "userContext": user_context(options.user_context),
        "nextToken": next_token,
    }
    return {**request, **{name: value for name, value in optional.items() if value}}


def retrieval_configuration(options: SearchOptions, *, managed: bool, region: str) -> dict[str, Any]:
    """Return ``retrievalConfiguration``; empty without options.

    Args:
        options: How to search.
        managed: Whether it is a managed knowledge base.
        region: Region of a reranking model that is named by its id.

    Raises:
        InvalidRequestError: Bedrock would refuse it.
    """
    section, other = _SECTIONS[managed], _SECTIONS[not managed]
    config = _given(options.retrieval_config)
    if other in config:
        kind = "managed" if managed else "not managed"
        raise InvalidRequestError(f"retrieval_config has {other}, and the knowledge base is {kind}. Use {section}.")
    members: dict[str, Any] = dict(config.get(section) or {})
    if "filter" in members and members["filter"] is not None:
        members["filter"] = checked_filter(members["filter"])
    if options.k is not None:
        members["numberOfResults"] = options.k
    _check_count(members.get("numberOfResults"))
    if options.filter is not None:
        members["filter"] = checked_filter(options.filter)
    if options.search_type is not None:
        members["overrideSearchType"] = _search_type(options.search_type, managed=managed)
    if options.implicit_filter is not None:
        members["implicitFilterConfiguration"] = _implicit_filter(options.implicit_filter, managed=managed)
    if options.reranking is not None:
        members |= _reranking(options.reranking, managed=managed, region=region)
    members = {name: value for name, value in members.items() if value is not None}
    return {section: members} if members else {}


def _given(config: Any) -> Mapping[str, Any]:
    """Return `retrieval_config` as a dictionary; langchain-aws's classes are taken too."""
    if hasattr(config, "model_dump"):
        config = config.model_dump(exclude_none=True, by_alias=True)
    if config is None:
        return {}
    unknown = [name for name in config if name not in _SECTIONS.values()] if isinstance(config, Mapping) else ["…"]
    if unknown:
        advice = " The token of a page belongs to the request, not here." if "nextToken" in unknown else ""
        raise InvalidRequestError(
            f"retrieval_config takes {' or '.join(_SECTIONS.values())}, not {unknown[0]!r}.{advice}"
        )
    for name, section in config.items():
        if not isinstance(section, (Mapping, type(None))):
            raise InvalidRequestError(f"retrieval_config: {name} must be a dictionary, and is {section!r}.")
    return config  # type: ignore[no-any-return]


def _check_count(k: Any) -> None:
    if k is not None and (isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= MOST_RESULTS):
        raise InvalidRequestError(
            f"k={k!r} is not valid: Bedrock returns 1 to {MOST_RESULTS} results at once. For more, use `iterate`."
        )


def _search_type(search_type: str, *, managed: bool) -> str:
    if managed:
        raise InvalidRequestError(
            f"search_type={search_type!r} is not valid: a managed knowledge base has none. Leave it out."
        )
    if search_type not in _SEARCH_TYPES:
        raise InvalidRequestError(f"search_type={search_type!r} is not valid. Give {' or '.join(_SEARCH_TYPES)}.")
    return search_type


def _implicit_filter(implicit_filter: Mapping[str, Any], *, managed: bool) -> dict[str, Any]:
    if managed:
        raise InvalidRequestError("implicit_filter is not valid: a managed knowledge base has none. Leave it out.")
    if not isinstance(implicit_filter, Mapping) or set(implicit_filter) != {"modelArn", "metadataAttributes"}:
        raise InvalidRequestError(
            "implicit_filter is not valid. Give 'modelArn' and 'metadataAttributes', and nothing else."
        )
    attributes = implicit_filter["metadataAttributes"]
    if not isinstance(attributes, (list, tuple)) or not 1 <= len(attributes) <= _MOST_ATTRIBUTES:
        raise InvalidRequestError(f"implicit_filter: metadataAttributes must be a list of 1 to {_MOST_ATTRIBUTES}.")
    if not isinstance(implicit_filter["modelArn"], str) or not _UNBROKEN.fullmatch(implicit_filter["modelArn"]):
        raise InvalidRequestError(
            f"implicit_filter: modelArn must name a model, and is {implicit_filter['modelArn']!r}."
        )
    return {
        "modelArn": implicit_filter["modelArn"],
        "metadataAttributes": [_attribute(attribute) for attribute in attributes],
    }


def _attribute(attribute: Any) -> dict[str, Any]:
    if not isinstance(attribute, Mapping) or set(attribute) != {"key", "type", "description"}:
        raise InvalidRequestError(f"implicit_filter: an attribute needs key, type and description, not {attribute!r}.")
    for name, most in _LONGEST.items():
        if not isinstance(attribute[name], str) or not 1 <= len(attribute[name]) <= most:
            raise InvalidRequestError(
                f"implicit_filter: an attribute's {name} has 1 to {most:,} characters, not {attribute[name]!r}."
            )
    if attribute["type"] not in _ATTRIBUTE_TYPES:
        raise InvalidRequestError(
            f"implicit_filter: the type of {attribute['key']!r} is one of {', '.join(_ATTRIBUTE_TYPES)}, not "
            f"{attribute['type']!r}."
        )
    return dict(attribute)


def _reranking(reranking: str | Mapping[str, Any], *, managed: bool, region: str) -> dict[str, Any]:
    if isinstance(reranking, Mapping):
        whole = dict(reranking)
    elif reranking in (MANAGED, "NONE"):
        if not managed:
            raise InvalidRequestError(
                f"reranking={reranking!r} is for managed knowledge bases. Name a reranking model."
            )
        return {"rerankingModelType": reranking}
    else:
        model = {"modelConfiguration": {"modelArn": _model_arn(reranking, region)}}
        whole = {"type": "BEDROCK_RERANKING_MODEL", "bedrockRerankingConfiguration": model}
    return {"rerankingConfiguration": whole, **({"rerankingModelType": "CUSTOM"} if managed else {})}


def _model_arn(model: str, region: str) -> str:
    """Return the ARN of a foundation model: ``BedrockRerankingModelArn`` takes no other."""
    if not isinstance(model, str) or not model:
        raise InvalidRequestError(f"reranking={model!r} is not valid. Give the id or ARN of a reranking model.")
    if model.startswith("arn:"):
        if not _RERANKING_MODEL.fullmatch(model):
            raise InvalidRequestError(
                f"reranking={model!r} is not valid: only a foundation model can rerank. Give its id or ARN."
            )
        return model
    partition = "aws-us-gov" if region.startswith("us-gov-") else "aws-cn" if region.startswith("cn-") else "aws"
    return f"arn:{partition}:bedrock:{region}::foundation-model/{model}"


def guardrail_configuration(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return ``guardrailConfiguration`` for a guardrail by Retrieve's names or Converse's; empty without one.

    Raises:
        InvalidRequestError: A member is missing or not valid.
    """
    if not config:
        return {}
    if not isinstance(config, Mapping):
        raise InvalidRequestError(
            f"guardrail_config={config!r} is not valid. Give {{'guardrailId': …, 'guardrailVersion': …}}."
        )
    guardrail = config.get("guardrailId") or config.get("guardrailIdentifier")
    version = config.get("guardrailVersion")
    if not guardrail or not version:
        raise InvalidRequestError(
            "guardrail_config is not valid. Give 'guardrailId' and 'guardrailVersion'; DRAFT is a version."
        )
    short, version = str(guardrail).rpartition(":guardrail/")[2], str(version)  # Converse takes an ARN, Retrieve none
    if not _GUARDRAIL.fullmatch(short):
        raise InvalidRequestError(f"guardrailId={guardrail!r} is not valid. Give the id or ARN of a guardrail.")
    if not _GUARDRAIL_VERSION.fullmatch(version):
        raise InvalidRequestError(f"guardrailVersion={version!r} is not valid. Give a number or DRAFT.")
    return {"guardrailId": short, "guardrailVersion": version}


def user_context(user: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """Return ``userContext``; empty without one.

    Raises:
        InvalidRequestError: It does not name a user.
    """
    if user is None:
        return {}
    user = user if isinstance(user, str) else user.get("userId") if isinstance(user, Mapping) else None
    if not isinstance(user, str) or not user:  # an empty id must not show documents of restricted access
        raise InvalidRequestError("user_context is not valid. Give the id of a user, or {'userId': …}.")
    return {"userId": user}


# --- Ids of knowledge bases ---

# `KnowledgeBaseIdentifier` of botocore's bedrock-agent-runtime (1.43).
_ID = re.compile(r"[0-9a-zA-Z]{10}")
_ARN = re.compile(
    r"arn:aws(?:-[^:]+)?:bedrock:(?P<region>[a-z0-9-]{1,20}):[0-9]{12}:knowledge-base/(?P<id>[0-9a-zA-Z]{10})"
)


@dataclass(frozen=True)
class KnowledgeBaseId:
    """A parsed `knowledge_base_id`.

    Attributes:
        text: The id or ARN as it was given. Retrieve takes both; an ARN can name a knowledge base of another account.
        id: The ten characters. RetrieveAndGenerate and GetKnowledgeBase take no ARN.
        region: The ARN's Region; None for a bare id.
    """

    text: str
    id: str
    region: str | None

    def __str__(self) -> str:
        return self.text


def parse_knowledge_base_id(text: str) -> KnowledgeBaseId:
    """Parse the id or ARN of a knowledge base.

    Raises:
        InvalidRequestError: It is neither.
    """
    if not isinstance(text, str):
        raise InvalidRequestError(f"knowledge_base_id must be a string, and is a {type(text).__name__}: {text!r}.")
    return _parse(text.strip())


@functools.lru_cache(maxsize=1024)
def _parse(text: str) -> KnowledgeBaseId:
    if _ID.fullmatch(text):
        return KnowledgeBaseId(text, text, None)
    found = _ARN.fullmatch(text)
    if found is None:
        raise InvalidRequestError(
            f"knowledge_base_id={text!r} is not a valid knowledge base id. Use the ten-character id or the ARN, "
            "arn:aws:bedrock:REGION:ACCOUNT:knowledge-base/ID. Both are in the console and in ListKnowledgeBases."
        )
    return KnowledgeBaseId(text, found["id"], found["region"])
