"""`KnowledgeBaseRetriever`: LangChain's retriever for Amazon Bedrock knowledge bases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import BaseModel, Field, PrivateAttr, SecretStr, model_validator

from bedrock_routing_integrations.client import KnowledgeBaseClient
from bedrock_routing_integrations.connections import (
    DEFAULT_MAX_CONCURRENCY,
    UserClient,
    check_secrets,
    connection_of,
    secrets_in,
    warn_about_pickle,
)
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.knowledge_base import (
    DESCRIBED,
    Passage,
    RetrievedPassages,
    SearchOptions,
    description_of,
    parse_knowledge_base_id,
    refuse_unknown,
)
from bedrock_routing_integrations.observability.external_spans import ExternalSpan, find_external_span
from bedrock_routing_integrations.transport.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
    from typing_extensions import Self


# --- The arguments that the retriever and the chain share ---


class AwsArguments(BaseModel):
    """The arguments that select the boto3 client, and a `KnowledgeBaseClient` made from them, again after a change."""

    aliases: ClassVar[Mapping[str, str]] = {"api_key": "bedrock_api_key"}

    region_name: str | None = None
    credentials_profile_name: str | None = None
    aws_access_key_id: SecretStr | None = Field(default=None, exclude=True, repr=False)
    aws_secret_access_key: SecretStr | None = Field(default=None, exclude=True, repr=False)
    aws_session_token: SecretStr | None = Field(default=None, exclude=True, repr=False)
    bedrock_api_key: SecretStr | None = Field(default=None, exclude=True, repr=False)
    endpoint_url: str | None = Field(default=None, repr=False)
    config: Any = Field(default=None, repr=False)
    timeout: float | None = None
    max_retries: int | None = None
    max_concurrency: int = DEFAULT_MAX_CONCURRENCY
    client: Any = Field(default=None, exclude=True, repr=False)

    _knowledge_base_client: KnowledgeBaseClient | None = PrivateAttr(default=None)
    _made_of: tuple[Any, ...] | None = PrivateAttr(default=None)

    def _connected(self) -> KnowledgeBaseClient:
        """Return the client for the current values of the fields."""
        made_of = tuple([getattr(self, name) for name in AWS_ARGUMENTS])
        if self._knowledge_base_client is None or self._made_of != made_of:
            self._knowledge_base_client = KnowledgeBaseClient(
                self.client if self.client is not None else connection_of(vars(self))
            )
            self._made_of = made_of
        return self._knowledge_base_client

    @classmethod
    def normalize_arguments(cls, values: Any) -> dict[str, Any]:
        """Return a constructor's arguments by the names of the fields; langchain-aws's names are taken too.

        Raises:
            InvalidRequestError: An argument does not exist.
        """
        if not isinstance(values, Mapping):
            raise InvalidRequestError(f"{cls.__name__} takes arguments by name, not {values!r}.")
        named = {cls.aliases.get(name, name): value for name, value in values.items()}
        refuse_unknown(cls.__name__, named, cls.model_fields)
        check_secrets(named)
        return named

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        # A boto3 client cannot be copied, and need not be.
        return super().__deepcopy__({**(memo or {}), id(self.client): self.client})

    def __getstate__(self) -> dict[Any, Any]:
        # Secrets stay in this process: a copy elsewhere looks for its own credentials.
        state = super().__getstate__()
        if self.client is not None:
            UserClient(self.client).__reduce__()  # raises, with advice
        secrets = secrets_in(vars(self))
        if secrets:
            warn_about_pickle()
        hidden = dict.fromkeys(secrets)
        private = {**(state["__pydantic_private__"] or {}), "_knowledge_base_client": None, "_made_of": None}
        return {**state, "__dict__": {**state["__dict__"], **hidden}, "__pydantic_private__": private}


AWS_ARGUMENTS = tuple(AwsArguments.model_fields)
# The argument's name → the core's, where they differ.
_OPTIONS = {"guardrail_config": "guardrail"}


class SearchArguments(AwsArguments):
    """How a knowledge base is searched, and the arguments for AWS."""

    aliases: ClassVar[Mapping[str, str]] = {
        **AwsArguments.aliases,
        "guardrails": "guardrail_config",
        "min_score_confidence": "score_threshold",
    }

    knowledge_base_id: str | None = None
    k: int | None = None
    search_type: str | None = None
    filter: Any = None
    implicit_filter: Any = None
    reranking: Any = None
    guardrail_config: Any = None
    user_context: Any = None
    score_threshold: Any = None
    knowledge_base_type: str | None = None
    retrieval_config: Any = None

    def search_options(self, call: Mapping[str, Any] | None = None) -> SearchOptions:
        """Return the options for a search: the current values of the fields, changed by those of a call.

        Raises:
            InvalidRequestError: An option does not exist, or has a value that Bedrock does not take.
        """
        known = SearchOptions.__dataclass_fields__
        names = {name: core for name in type(self).model_fields if (core := _OPTIONS.get(name, name)) in known}
        options = SearchOptions(**{core: getattr(self, name) for name, core in names.items()})
        options_of_call = {self.aliases.get(name, name): value for name, value in (call or {}).items()}
        refuse_unknown("a search", options_of_call, names)  # also the core's own names
        options = options.changed({_OPTIONS.get(name, name): value for name, value in options_of_call.items()})
        config: Any = options.retrieval_config
        if hasattr(config, "model_dump"):  # langchain-aws's RetrievalConfig
            options = replace(options, retrieval_config=config.model_dump(exclude_none=True, by_alias=True))
        options.check()
        return options


class KnowledgeBaseRetriever(SearchArguments, BaseRetriever):
    """Find passages in a knowledge base with Bedrock's Retrieve.

    The constructor sends nothing and makes no boto3 client. Objects with equal arguments for AWS share one client. The
    arguments of langchain-aws's ``AmazonKnowledgeBasesRetriever`` are taken too.

    Each document's metadata has:

    - ``source``: one URI, whatever the type of the location.
    - ``score``, ``type``, ``location``, ``document_id``: as the service gives them.
    - ``media_type``, ``media_uri``, ``data_uri``: of images, audio and video.
    - The attributes of the document, its chunk and page by their own names, and all of them in ``source_metadata``.

    The `page_content` of an image is its description.

    Args:
        knowledge_base_id: Id (ten characters) or ARN of the knowledge base.
        k: Results to return, 1 to 100; None for Bedrock's default, 5. For more see `iterate`.
        search_type: ``"HYBRID"`` or ``"SEMANTIC"``; None lets Bedrock choose.
        filter: On metadata: made by `where`, or a dictionary as Bedrock takes it.
        implicit_filter: Lets a model make a filter from the query: ``{"modelArn": …, "metadataAttributes": […]}``.
        reranking: The id or ARN of a reranking model; or ``"MANAGED"`` or ``"NONE"`` (managed knowledge bases).
        guardrail_config: ``{"guardrailId": …, "guardrailVersion": …}``.
        user_context: The id of the user whose access rights count.
        score_threshold: Leave out documents that score less, or have no score.
        knowledge_base_type: ``"VECTOR"``, ``"KENDRA"``, ``"SQL"`` or ``"MANAGED"``; None to look it up once, if the
            request depends on it (IAM action ``bedrock:GetKnowledgeBase``).
        retrieval_config: A whole ``retrievalConfiguration``, to which the options above are added.
        region_name: The Region; None for the ARN's, else the one that boto3 finds.
        credentials_profile_name: A profile of the AWS configuration files.
        aws_access_key_id: Explicit credentials, with `aws_secret_access_key` and, for temporary ones,
            `aws_session_token`.
        bedrock_api_key: A Bedrock API key instead of credentials.
        endpoint_url: An endpoint other than AWS's own.
        config: A ``botocore.config.Config``.
        timeout: Seconds to wait for a connection and for each read.
        max_retries: Retries by boto3 after the first attempt.
        max_concurrency: Asynchronous calls that run at once; also the size of the connection pool.
        client: A boto3 ``bedrock-agent-runtime`` client, instead of the other arguments for AWS.

    A call takes the options of the search too: ``retriever.invoke("…", k=3)``. It also takes ``image`` (bytes or a data
    URI), for knowledge bases with a multimodal embedding model.

    Raises:
        InvalidRequestError: An argument does not exist, or Bedrock would refuse it; also raised by calls.

    Example:
        ```python
        from bedrock_routing_integrations.knowledge_base import where
        from bedrock_routing_integrations.langchain import KnowledgeBaseRetriever

        retriever = KnowledgeBaseRetriever(knowledge_base_id="EMULATEDKB", k=3)
        documents = retriever.invoke("Which moon has an ocean?", filter=where("planet") == "Jupiter")
        documents[0].metadata["source"]
        ```
    """

    knowledge_base_id: str = ""

    @model_validator(mode="before")
    @classmethod
    def _check_arguments(cls, values: Any) -> dict[str, Any]:
        named = cls.normalize_arguments(values)
        if not named.get("knowledge_base_id"):
            raise InvalidRequestError(
                "KnowledgeBaseRetriever needs knowledge_base_id=, the id or ARN of a knowledge base."
            )
        parse_knowledge_base_id(named["knowledge_base_id"])
        return named

    @model_validator(mode="after")
    def _check_options(self) -> Self:
        self.search_options()
        self._connected()
        return self

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, image: Any = None, **options: Any
    ) -> list[Document]:
        page = self._connected().retrieve(
            parse_knowledge_base_id(self.knowledge_base_id),
            query,
            self.search_options(options),
            image=image,
            external_span=_external_span_of(run_manager),
        )
        documents = [document_of(passage, page.guardrail_action) for passage in page.passages]
        return RetrievedPassages(documents, page.guardrail_action)

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        manager = run_manager.get_sync()
        return await run_in_thread(
            self.max_concurrency, self._get_relevant_documents, query, run_manager=manager, **options
        )

    def iterate(
        self, query: str, *, limit: int | None = None, image: bytes | str | None = None, **options: Any
    ) -> Iterator[Document]:
        """Iterate over all results, page by page (`k` on each). A page is requested when it is needed.

        Args:
            query: What to search for.
            limit: The most documents to return; None for all.
            image: An image that the results should resemble, as bytes or a data URI.
            **options: Options of the search for this call.

        Raises:
            InvalidRequestError: Bedrock would refuse an option.
        """
        passages = self._connected().iterate(
            parse_knowledge_base_id(self.knowledge_base_id),
            query,
            self.search_options(options),
            limit=limit,
            image=image,
        )
        return map(document_of, passages)

    async def aiterate(self, query: str, *, limit: int | None = None, **options: Any) -> AsyncIterator[Document]:
        """Iterate over all results, asynchronously.

        Args:
            query: What to search for.
            limit: The most documents to return; None for all.
            **options: Options of the search for this call, and `image`.
        """
        documents = self.iterate(query, limit=limit, **options)
        # Document by document: `iterate_in_thread` would request pages ahead of the reader.
        while (document := await run_in_thread(self.max_concurrency, next, documents, None)) is not None:
            yield document


def _external_span_of(run_manager: CallbackManagerForRetrieverRun | None) -> ExternalSpan | None:
    """Return the OpenTelemetry span that a handler has made for a retriever's run; None if no handler traces it."""
    not_overridden = BaseCallbackHandler.on_retriever_start
    handlers = [
        handler
        for handler in getattr(run_manager, "handlers", ())
        if getattr(type(handler), "on_retriever_start", not_overridden) is not not_overridden
    ]
    return find_external_span(handlers, run_id=getattr(run_manager, "run_id", None))


def document_of(passage: Passage, guardrail_action: str | None = None) -> Document:
    """Return a passage as LangChain's document.

    Args:
        passage: The passage.
        guardrail_action: What a guardrail did in the search, for the metadata.
    """
    reported = {
        "type": passage.content_type,
        "location": dict(passage.location) if passage.location else None,
        "document_id": passage.document_id,
        "media_type": passage.media_type,
        "media_uri": passage.media_uri,
        "data_uri": passage.data_uri,
        "source_metadata": dict(passage.metadata) if passage.metadata else None,
        "guardrail_action": guardrail_action,
    }
    known = {name: value for name, value in reported.items() if value is not None}
    # An attribute of the document must not pass for what the service reports; `source_metadata` has all attributes.
    attributes = {name: value for name, value in passage.metadata.items() if name not in reported}
    metadata = {**attributes, "source": passage.source, "score": passage.score, **known}
    return Document(page_content=passage.text, metadata=metadata)


def passage_of(document: Document) -> Passage:
    """Return a document, of whatever retriever, as a passage to answer from."""
    metadata = document.metadata
    # Without the URIs of media all pictures of one document would be one passage.
    source, media, data = (
        str(uri) if (uri := metadata.get(name)) else None for name in ("source", "media_uri", "data_uri")
    )
    text, kind = document.page_content, metadata.get("type")
    if text.startswith("data:image/"):  # as AmazonKnowledgeBasesRetriever of langchain-aws has images
        attributes = metadata.get("source_metadata")
        text, data, kind = description_of(attributes if isinstance(attributes, dict) else {}), text, "IMAGE"
    return Passage(
        text=text,
        content_type=kind if kind in DESCRIBED else "TEXT",
        source=source,
        metadata=metadata,
        media_uri=media,
        data_uri=data,
    )
