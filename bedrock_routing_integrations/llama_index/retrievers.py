"""`KnowledgeBaseRetriever`: LlamaIndex's retriever for Amazon Bedrock knowledge bases.

To migrate from ``llama_index.retrievers.bedrock.AmazonKnowledgeBasesRetriever`` (0.7), change the import: its arguments
are taken. The differences:

- **Every content type becomes a node**: text, rows, images, audio, video. There a chunk without text is a KeyError.
- **Options have names** (`k`, `filter`, `search_type` …), are checked before anything is sent, and can be given to a
  call. `retrieval_config` is optional. There its absence is sent as None, and refused.
- **More of the response is kept**: the guardrail's action, further pages (`iterate`), the source of every location.
- **Asynchronous calls** do not block the event loop, and need no further package.
- **Secrets** are in no ``repr`` and no pickle. Objects with equal connections share one boto3 client.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from llama_index.core.base.base_retriever import BaseRetriever

from bedrock_routing_integrations.client import KnowledgeBaseClient
from bedrock_routing_integrations.connections import DEFAULT_MAX_CONCURRENCY, connection_of
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.knowledge_base import (
    RetrievedPassages,
    SearchOptions,
    parse_knowledge_base_id,
    refuse_unknown,
)
from bedrock_routing_integrations.transport.threads import run_in_thread

from ._instrumentation import external_span_of_call
from ._nodes import convert_filter, is_metadata_filter, nodes_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.prompts.mixin import PromptMixinType
    from llama_index.core.schema import NodeWithScore, QueryBundle, QueryType
    from llama_index.core.vector_stores import MetadataFilter, MetadataFilters
    from pydantic import SecretStr
    from typing_extensions import Unpack

    from bedrock_routing_integrations.knowledge_base import Filter, Passage


# --- The arguments that the retriever and the query engine share ---


class AwsArguments(TypedDict, total=False):
    """The arguments that select the boto3 client, by the names of `BedrockRouter`."""

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


class SearchArguments(AwsArguments, total=False):
    """How a knowledge base is searched: `SearchOptions` by LlamaIndex's names, and the arguments for AWS."""

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


AWS_ARGUMENTS = tuple(AwsArguments.__annotations__)
SEARCH = tuple(name for name in SearchArguments.__annotations__ if name not in AWS_ARGUMENTS)
_OPTIONS = {"guardrail_config": "guardrail", "similarity_top_k": "k"}


def search_options(arguments: Mapping[str, Any], before: SearchOptions | None = None) -> SearchOptions:
    """Return the options of a search among some arguments, checked.

    Args:
        arguments: Those of the constructor, or of a call.
        before: The options that a call changes.

    Raises:
        InvalidRequestError: An option has a value that Bedrock does not take, or two options mean the same.
    """
    options_given = {name: value for name, value in arguments.items() if name in SEARCH}
    if options_given.get("k") is not None and options_given.get("similarity_top_k") is not None:
        raise InvalidRequestError("k and similarity_top_k are the same. Give one of them.")
    changes: dict[str, Any] = {}
    for name, value in options_given.items():
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
    """Return a section of a ``retrievalConfiguration`` with its filter as the core takes it."""
    if not isinstance(section, Mapping) or not is_metadata_filter(section.get("filter")):
        return section
    return {**section, "filter": convert_filter(section["filter"])}


def max_concurrency_of(arguments: Mapping[str, Any]) -> int:
    """Return how many asynchronous calls run at once."""
    value = arguments.get("max_concurrency")
    return DEFAULT_MAX_CONCURRENCY if value is None else int(value)


def client_of(arguments: Mapping[str, Any]) -> KnowledgeBaseClient:
    """Return the client that the arguments select. Nothing is sent, and no boto3 client is made.

    Raises:
        InvalidRequestError: Arguments contradict each other, or `client` is a client for another service.
    """
    client = arguments.get("client")
    return KnowledgeBaseClient(connection_of(arguments) if client is None else client)


@dataclass
class _Search:
    """How one call searches, and what a guardrail did in it."""

    options: SearchOptions
    image: bytes | str | None = None
    guardrail_action: str | None = None


class _RetrieveWithOptions:
    """`retrieve` and `aretrieve` with options for one call.

    Not methods of the retriever itself: LlamaIndex's base class would wrap each in a span, around that of the inherited
    method (`DispatcherSpanMixin`, llama-index-instrumentation 0.4).
    """

    def retrieve(self, str_or_query_bundle: QueryType, **options: Any) -> RetrievedPassages[NodeWithScore]:
        """Find passages.

        Args:
            str_or_query_bundle: What to search for, at most 20,000 characters. A bundle's `image_path` is read.
            **options: Options of the search for this call, and `image`: an image that the results should resemble, as
                bytes or a data URI, for knowledge bases with a multimodal embedding model.

        Returns:
            The nodes, best first, in a list whose `guardrail_action` is what a guardrail did.

        Raises:
            InvalidRequestError: Bedrock would refuse an option; nothing was sent.
            botocore.exceptions.ClientError: Bedrock refused (IAM action ``bedrock:Retrieve``).
        """
        twin, search = self._for_call(options)  # type: ignore[attr-defined]
        nodes = super(_RetrieveWithOptions, twin).retrieve(str_or_query_bundle)  # type: ignore[misc]
        return RetrievedPassages(nodes, search.guardrail_action)

    async def aretrieve(self, str_or_query_bundle: QueryType, **options: Any) -> RetrievedPassages[NodeWithScore]:
        """`retrieve`, asynchronously."""
        twin, search = self._for_call(options)  # type: ignore[attr-defined]
        nodes = await super(_RetrieveWithOptions, twin).aretrieve(str_or_query_bundle)  # type: ignore[misc]
        return RetrievedPassages(nodes, search.guardrail_action)


class KnowledgeBaseRetriever(_RetrieveWithOptions, BaseRetriever):
    """Find passages in a knowledge base with Bedrock's Retrieve.

    The constructor sends nothing and makes no boto3 client.

    Each passage is a `TextNode`, or an `ImageNode` for an image whose bytes were returned; its id is that of its chunk.
    The text of an image is its description. The metadata has:

    - ``source``: one URI, whatever the type of the location.
    - ``score``, ``type``, ``location``, ``document_id``: as the service gives them.
    - ``media_type`` and ``media_uri``: of images, audio and video.
    - ``guardrail_action``: with a guardrail.
    - The attributes of the document, its chunk and page by their own names, and all of them in ``sourceMetadata``.

    LLMs and embeddings see ``source`` and the document's own attributes.

    Args:
        knowledge_base_id: Id (ten characters) or ARN of the knowledge base.
        k: Results to return, 1 to 100; None for Bedrock's default, 5. Also `similarity_top_k`. For more see `iterate`.
        search_type: ``"HYBRID"`` or ``"SEMANTIC"``; None lets Bedrock choose.
        filter: On metadata: made by `where`, LlamaIndex's `MetadataFilters` as far as Bedrock can express them, or a
            dictionary as Bedrock takes it.
        implicit_filter: Lets a model make a filter from the query: ``{"modelArn": …, "metadataAttributes": […]}``.
        reranking: The id or ARN of a reranking model; or ``"MANAGED"`` or ``"NONE"`` (managed knowledge bases).
        guardrail_config: ``{"guardrailId": …, "guardrailVersion": …}``.
        user_context: The id of the user whose access rights count.
        score_threshold: Leave out nodes that score less, or have no score.
        knowledge_base_type: ``"VECTOR"``, ``"KENDRA"``, ``"SQL"`` or ``"MANAGED"``; None to look it up once, if the
            request depends on it (IAM action ``bedrock:GetKnowledgeBase``).
        retrieval_config: A whole ``retrievalConfiguration``, to which the options above are added.
        region_name: The Region; None for the ARN's, else the one that boto3 finds.
        profile_name: A profile of the AWS configuration files.
        aws_access_key_id: Explicit credentials, with `aws_secret_access_key` and, for temporary ones,
            `aws_session_token`. Without them boto3 looks for credentials when a call is made.
        api_key: A Bedrock API key instead of credentials.
        endpoint_url: An endpoint other than AWS's own.
        timeout: Seconds to wait for a connection and for each read.
        max_retries: Retries by boto3 after the first attempt.
        max_concurrency: Asynchronous calls that run at once; also the size of the connection pool.
        botocore_config: A ``botocore.config.Config``, or its arguments as a dictionary.
        use_ssl: As boto3's.
        verify: As boto3's.
        client: A boto3 ``bedrock-agent-runtime`` client, instead of the other arguments for AWS.
        botocore_session: A botocore or boto3 session to make clients from.
        callback_manager: LlamaIndex's.

    Raises:
        InvalidRequestError: An argument does not exist, or Bedrock would refuse it.

    Example:
        ```python
        from bedrock_routing_integrations.knowledge_base import where
        from bedrock_routing_integrations.llama_index import KnowledgeBaseRetriever

        retriever = KnowledgeBaseRetriever("EMULATEDKB", k=3)
        nodes = retriever.retrieve("Which moon has an ocean?", filter=where("planet") == "Jupiter")
        nodes[0].node.metadata["source"]
        ```
    """

    def __init__(
        self,
        knowledge_base_id: str,
        *,
        callback_manager: CallbackManager | None = None,
        **arguments: Unpack[SearchArguments],
    ) -> None:
        refuse_unknown(type(self).__name__, arguments, [*SEARCH, *AWS_ARGUMENTS, "callback_manager"])
        self._knowledge_base = parse_knowledge_base_id(knowledge_base_id)
        self._search = _Search(search_options(arguments))
        self._max_concurrency = max_concurrency_of(arguments)
        self._client = client_of(arguments)
        super().__init__(callback_manager=callback_manager)

    @property
    def client(self) -> Any:
        """The boto3 ``bedrock-agent-runtime`` client; another can be assigned."""
        return self._client.source.client("bedrock-agent-runtime", self._knowledge_base)

    @client.setter
    def client(self, client: Any) -> None:
        """Use another client from now on.

        Raises:
            InvalidRequestError: It is a client for another service.
        """
        self._client = KnowledgeBaseClient(client)

    @property
    def knowledge_base_id(self) -> str:
        """The id or ARN, as it was given."""
        return self._knowledge_base.text

    @property
    def options(self) -> SearchOptions:
        """The options of every search; a call can change them."""
        return self._search.options

    def iterate(self, query: str, limit: int | None = None, **options: Any) -> Iterator[NodeWithScore]:
        """Iterate over all results, page by page (`k` on each). A page is requested when it is needed.

        LlamaIndex's callbacks and events are not informed: the reader decides how many results there are.

        Args:
            query: What to search for.
            limit: The most nodes to return; None for all.
            **options: As in `retrieve`.

        Raises:
            InvalidRequestError: Bedrock would refuse an option.
        """
        twin, search = self._for_call(options)
        passages = twin._client.iterate(  # noqa: SLF001 - a copy of this object
            self._knowledge_base, query, search.options, limit=limit, image=search.image
        )
        return _as_nodes(passages)

    def aiterate(self, query: str, limit: int | None = None, **options: Any) -> AsyncIterator[NodeWithScore]:
        """Iterate over all results, asynchronously.

        Args:
            query: What to search for.
            limit: The most nodes to return; None for all.
            **options: As in `retrieve`.
        """
        return self._steps(self.iterate(query, limit, **options))

    async def _steps(self, nodes: Iterator[NodeWithScore]) -> AsyncIterator[NodeWithScore]:
        # `iterate_in_thread` would request pages ahead of the reader.
        while (node := await run_in_thread(self._max_concurrency, next, nodes, None)) is not None:
            yield node

    def _for_call(self, options: dict[str, Any]) -> tuple[KnowledgeBaseRetriever, _Search]:
        """Return a copy for one call, with a search of its own."""
        refuse_unknown("a search", options, [*SEARCH, "image"])
        twin, search = copy.copy(self), _Search(search_options(options, self.options), options.get("image"))
        twin._search = search  # noqa: SLF001 - as above
        return twin, search

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        search = self._search
        image = search.image if search.image is not None else _read_image(query_bundle.image_path)
        page = self._client.retrieve(
            self._knowledge_base,
            query_bundle.query_str,
            search.options,
            image=image,
            external_span=external_span_of_call(self),
        )
        search.guardrail_action = page.guardrail_action
        return nodes_of(page.passages, page.guardrail_action)

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await run_in_thread(self._max_concurrency, self._retrieve, query_bundle)

    def _get_prompt_modules(self) -> PromptMixinType:
        return {}


def _as_nodes(passages: Iterator[Passage]) -> Iterator[NodeWithScore]:
    for passage in passages:
        yield from nodes_of([passage])


def _read_image(path: str | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidRequestError(f"image_path={path!r} of the query cannot be read: {error}") from error
