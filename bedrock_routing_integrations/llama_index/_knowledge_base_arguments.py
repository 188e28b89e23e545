"""The arguments that the retriever and the query engine share: how a knowledge base is searched, how AWS is reached."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from pydantic import SecretStr

from bedrock_routing_integrations.client import KnowledgeBaseClient
from bedrock_routing_integrations.connections import DEFAULT_MAX_CONCURRENCY, Connection, read_config
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.knowledge_base import SearchOptions

from ._metadata_filters import convert_filter, is_metadata_filter

if TYPE_CHECKING:
    from llama_index.core.vector_stores import MetadataFilter, MetadataFilters

    from bedrock_routing_integrations.knowledge_base import Filter


class AccessArguments(TypedDict, total=False):
    """How AWS is reached; the names are those of `BedrockRouter`."""

    region_name: str | None
    profile_name: str | None
    aws_access_key_id: str | SecretStr | None
    aws_secret_access_key: str | SecretStr | None
    aws_session_token: str | SecretStr | None
    api_key: str | SecretStr | None
    endpoint_url: str | None
    timeout: float | None
    max_retries: int | None
    max_concurrency: int | None
    botocore_config: Any
    use_ssl: bool
    verify: bool | str | None
    client: Any
    botocore_session: Any


class SearchArguments(AccessArguments, total=False):
    """How a knowledge base is searched; as `SearchOptions`, but for names that LlamaIndex has others for."""

    k: int | None
    similarity_top_k: int | None
    search_type: str | None
    filter: Filter | Mapping[str, Any] | MetadataFilters | MetadataFilter | None
    implicit_filter: Mapping[str, Any] | None
    reranking: str | Mapping[str, Any] | None
    guardrail_config: Mapping[str, Any] | None
    user_context: str | Mapping[str, Any] | None
    score_threshold: float | None
    knowledge_base_type: str | None
    retrieval_config: Mapping[str, Any] | None


ACCESS = tuple(AccessArguments.__annotations__)
SEARCH = tuple(name for name in SearchArguments.__annotations__ if name not in ACCESS)
_SECRETS = {
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
    "api_key": "api_key",
}
_OPTIONS = {"guardrail_config": "guardrail", "similarity_top_k": "k"}
_AS_THEY_ARE = ("region_name", "profile_name", "endpoint_url", "timeout", "max_retries", "use_ssl", "verify")


def search_options(arguments: Mapping[str, Any], before: SearchOptions | None = None) -> SearchOptions:
    """The options of a search among some arguments, checked.

    Args:
        arguments: Of the constructor, or of a call.
        before: The options that those of a call change.

    Raises:
        InvalidRequestError: One has a value that Bedrock does not take, or there are two of one meaning.
    """
    given = {name: value for name, value in arguments.items() if name in SEARCH}
    if given.get("k") is not None and given.get("similarity_top_k") is not None:
        raise InvalidRequestError("k and similarity_top_k are the same: give one of them")
    changes: dict[str, Any] = {}
    for name, value in given.items():
        core = _OPTIONS.get(name, name)
        if name == "filter" and is_metadata_filter(value):
            value = convert_filter(value)  # noqa: PLW2901 - as the core takes it
        if name == "retrieval_config" and isinstance(value, Mapping):
            value = {section: _converted(inside) for section, inside in value.items()}  # noqa: PLW2901 - the same
        changes[core] = value if value is not None else changes.get(core)
    options = (before or SearchOptions()).changed(changes)
    options.check()
    return options


def _converted(section: Any) -> Any:
    """A section of a ``retrievalConfiguration``, with its filter as the core takes it."""
    if not isinstance(section, Mapping) or not is_metadata_filter(section.get("filter")):
        return section
    return {**section, "filter": convert_filter(section["filter"])}


def max_concurrency_of(arguments: Mapping[str, Any]) -> int:
    """How many asynchronous calls run at once."""
    given = arguments.get("max_concurrency")
    return DEFAULT_MAX_CONCURRENCY if given is None else int(given)


def client_of(arguments: Mapping[str, Any]) -> KnowledgeBaseClient:
    """What asks knowledge bases, as the arguments say. Nothing is sent, and no boto3 client is made.

    Raises:
        InvalidRequestError: Arguments that contradict each other, or a client for something else.
    """
    client = arguments.get("client")
    return KnowledgeBaseClient(_connection(arguments) if client is None else client)


def _connection(arguments: Mapping[str, Any]) -> Connection:
    fields = {name: arguments[name] for name in _AS_THEY_ARE if arguments.get(name) is not None}
    for theirs, ours in _SECRETS.items():
        fields[ours] = _plain(theirs, arguments.get(theirs))
    return Connection(
        **fields,
        config=read_config(arguments.get("botocore_config"), "botocore_config"),
        session=arguments.get("botocore_session"),
        max_concurrency=max_concurrency_of(arguments),
    )


def _plain(name: str, secret: Any) -> str | None:
    if isinstance(secret, SecretStr):
        return secret.get_secret_value()
    if secret is not None and not isinstance(secret, str):
        raise InvalidRequestError(f"{name} must be a string, and is a {type(secret).__name__}")
    return secret
