"""The knowledge bases and guardrails of the emulated account, and the operations that describe knowledge bases."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.emulator.wire.service_model import not_found, validation

from .control_plane import paginate
from .documents import Collection, shipped
from .store import Resource, bedrock_arn, foundation_model_arn, partition_of

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping

    from .control_plane import Answer, Handler
    from .store import Store
    from .targets import Place

__all__ = ["DEFAULT_ID", "TYPES", "Guardrail", "KnowledgeBase", "KnowledgeBases"]

DEFAULT_ID = "EMULATEDKB"
"""The id of the knowledge base that `default_knowledge_base` creates."""

TYPES = ("VECTOR", "KENDRA", "SQL", "MANAGED")
_ID = re.compile(r"[0-9a-zA-Z]{10}")
_NAME = re.compile(r"([0-9a-zA-Z][_-]?){1,100}")
_UUID = "00000000-0000-4000-8000-000000000000"
_GUARDRAIL_VERSION = "1"
_DRAFT = "DRAFT"


@dataclass(frozen=True, kw_only=True)
class KnowledgeBase(Resource):
    """A knowledge base.

    Attributes:
        type: One of `TYPES`.
        multimodal: Whether it supports image queries.
        load: Returns its documents.
    """

    type: str
    multimodal: bool
    load: Callable[[], Collection]

    @property
    def collection(self) -> Collection:
        """The knowledge base's documents. The library that ships with the package is read on first access."""
        return self.load()


@dataclass(frozen=True, kw_only=True)
class Guardrail(Resource):
    """A guardrail with a list of blocked words."""

    words: tuple[str, ...]

    def action(self, *texts: str) -> str:
        """Return "INTERVENED" if any of the texts contains a blocked word, else "NONE"."""
        found = (
            re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) for word in self.words for text in texts
        )
        return "INTERVENED" if any(found) else "NONE"


class KnowledgeBases:
    """The knowledge bases and guardrails of the account."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def handlers(self) -> dict[str, Handler]:
        """Return the handlers of the operations by operation name."""
        return {
            "GetKnowledgeBase": lambda request, _: {"knowledgeBase": _details(self.find(request["knowledgeBaseId"]))},
            "ListKnowledgeBases": self.list_knowledge_bases,
        }

    def list_knowledge_bases(self, request: Mapping[str, Any], place: Place) -> Answer:
        """Return the response of ListKnowledgeBases: the knowledge bases of the Region.

        Args:
            request: The request's members.
            place: The Region and account of the request.
        """
        found = [base for base in self._store.all(KnowledgeBase) if base.region == place.region]
        page, token = paginate(found, request)
        members = ("knowledgeBaseId", "name", "description", "status", "updatedAt")
        summaries = [{name: _details(base)[name] for name in members} for base in page]
        return {"knowledgeBaseSummaries": summaries, "nextToken": token}

    def find(self, identifier: str) -> KnowledgeBase:
        """Return the knowledge base with an id or ARN.

        Raises:
            ServiceError: ResourceNotFoundException.
        """
        found = self._store.get(KnowledgeBase, identifier)
        if found is None or found.resource_id != identifier.rpartition("/")[2]:
            raise not_found(f"Knowledge Base with id {identifier} does not exist")
        return found

    def has(self, knowledge_base_id: str) -> bool:
        """Return whether a knowledge base with this id exists."""
        return any(base.resource_id == knowledge_base_id for base in self.all())

    def all(self) -> list[KnowledgeBase]:
        """Return every knowledge base, oldest first."""
        return self._store.all(KnowledgeBase)

    def add(
        self,
        documents: str | os.PathLike[str] | Collection | None,
        place: Place,
        *,
        name: str | None,
        type: str,  # noqa: A002 - the service's name
        knowledge_base_id: str | None,
        multimodal: bool,
    ) -> str:
        """Create a knowledge base and return its id.

        Args:
            documents: A folder or a collection; None for the library that ships with the package.
            place: The Region and account to create it in.
            name: Up to 100 letters and digits, with - or _ between them; None for `knowledge-base-NUMBER`.
            type: One of `TYPES`.
            knowledge_base_id: 10 letters and digits; None for a generated id.
            multimodal: Whether the knowledge base supports image queries.

        Raises:
            ValueError: The folder cannot be read, or an argument is not valid for the service.
        """
        name = f"knowledge-base-{len(self.all()) + 1}" if name is None else name
        if type not in TYPES:
            raise ValueError(f"type is one of {', '.join(TYPES)}, not {type!r}")
        if not _NAME.fullmatch(name):
            raise ValueError(f"name is up to 100 letters and digits, with - or _ between them, not {name!r}")
        new_id = self._store.new_id(name, 10).upper() if knowledge_base_id is None else knowledge_base_id
        if not _ID.fullmatch(new_id):
            raise ValueError(f"knowledge_base_id is 10 letters and digits, such as {DEFAULT_ID}, not {new_id!r}")
        if self.has(new_id):
            raise ValueError(f"There is a knowledge base {new_id} already")
        base = KnowledgeBase(
            arn=bedrock_arn(place.region, place.account, "knowledge-base", new_id),
            name=name,
            type=type,
            multimodal=multimodal,
            load=_loader(documents),
        )
        self._store.add(base)
        return new_id

    # --- Guardrails ---

    def add_guardrail(self, words: Iterable[str], place: Place) -> tuple[str, str]:
        """Create a guardrail and return its id and version.

        Args:
            words: The blocked words.
            place: The Region and account to create it in.

        Raises:
            ValueError: `words` holds no word.
        """
        kept = () if isinstance(words, str) else tuple(word for word in words if word.strip())
        if not kept:
            raise ValueError(f"words is a list of one word or more, not {words!r}")
        arn = bedrock_arn(place.region, place.account, "guardrail", self._store.new_id("guardrail"))
        guardrail = Guardrail(arn=arn, name="guardrail", words=kept)
        self._store.add(guardrail)
        return guardrail.resource_id, _GUARDRAIL_VERSION

    def guardrail(self, configuration: Mapping[str, str] | None) -> Guardrail | None:
        """Return the guardrail of a `guardrailConfiguration`; None without a configuration.

        Raises:
            ServiceError: ValidationException for a guardrail or version that does not exist.
        """
        if configuration is None:
            return None
        found = self._store.get(Guardrail, configuration["guardrailId"])
        if found is None or configuration["guardrailVersion"] not in {_GUARDRAIL_VERSION, _DRAFT}:
            raise validation("The guardrail identifier or version provided in the request does not exist.")
        return found


def _loader(documents: str | os.PathLike[str] | Collection | None) -> Callable[[], Collection]:
    """Return a function that returns the documents. A folder is read now, the shipped library on first use."""
    if documents is None:
        return functools.lru_cache(maxsize=1)(shipped)
    collection = documents if isinstance(documents, Collection) else Collection.from_folder(documents)
    return lambda: collection


def _details(base: KnowledgeBase) -> Answer:
    """Return a knowledge base as in the response of GetKnowledgeBase."""
    return {
        "knowledgeBaseId": base.resource_id,
        "name": base.name,
        "description": "Emulated",
        "knowledgeBaseArn": base.arn,
        "roleArn": f"arn:{partition_of(base.region)}:iam::{base.account}:role/emulated",
        "knowledgeBaseConfiguration": {"type": base.type, **_configuration(base)},
        "status": "ACTIVE",
        "createdAt": base.created,
        "updatedAt": base.created,
    }


def _configuration(base: KnowledgeBase) -> Answer:
    """Return the member of a `knowledgeBaseConfiguration` for the knowledge base's type."""
    partition = partition_of(base.region)
    if base.type == "VECTOR":
        model = "amazon.nova-2-multimodal-embeddings-v1:0" if base.multimodal else "amazon.titan-embed-text-v2:0"
        return {"vectorKnowledgeBaseConfiguration": {"embeddingModelArn": foundation_model_arn(model, base.region)}}
    if base.type == "MANAGED":
        return {"managedKnowledgeBaseConfiguration": {"embeddingModelType": "MANAGED"}}
    if base.type == "KENDRA":
        index = f"arn:{partition}:kendra:{base.region}:{base.account}:index/{_UUID}"
        return {"kendraKnowledgeBaseConfiguration": {"kendraIndexArn": index}}
    workgroup = f"arn:{partition}:redshift-serverless:{base.region}:{base.account}:workgroup/{_UUID}"
    engine = {"workgroupArn": workgroup, "authConfiguration": {"type": "IAM"}}
    redshift = {
        "storageConfigurations": [{"type": "REDSHIFT", "redshiftConfiguration": {"databaseName": "emulated"}}],
        "queryEngineConfiguration": {"type": "SERVERLESS", "serverlessConfiguration": engine},
    }
    return {"sqlKnowledgeBaseConfiguration": {"type": "REDSHIFT", "redshiftConfiguration": redshift}}
