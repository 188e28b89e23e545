"""Which knowledge base, and which documents: ids, ARNs and external sources as the user writes them."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from bedrock_routing_integrations.errors import InvalidRequestError

# `KnowledgeBaseIdentifier` of botocore's bedrock-agent-runtime (1.43).
_ID = re.compile(r"[0-9a-zA-Z]{10}")
_ARN = re.compile(
    r"arn:aws(?:-[^:]+)?:bedrock:(?P<region>[a-z0-9-]{1,20}):[0-9]{12}:knowledge-base/(?P<id>[0-9a-zA-Z]{10})"
)


@dataclass(frozen=True)
class KnowledgeBaseId:
    """A parsed `knowledge_base_id`.

    Attributes:
        text: As it was given: Retrieve takes an ARN too, so one of another account can be named.
        id: The ten characters, which is all that RetrieveAndGenerate and GetKnowledgeBase take.
        region: The ARN's Region; None for a bare id.
    """

    text: str
    id: str
    region: str | None

    def __str__(self) -> str:
        return self.text


def parse_knowledge_base_id(text: str) -> KnowledgeBaseId:
    """Say which knowledge base is meant.

    Raises:
        InvalidRequestError: It is neither an id nor the ARN of one.
    """
    if not isinstance(text, str):
        raise InvalidRequestError(f"knowledge_base_id must be a string, and is a {type(text).__name__}: {text!r}")
    return _parse(text.strip())


@functools.lru_cache(maxsize=1024)
def _parse(text: str) -> KnowledgeBaseId:
    if _ID.fullmatch(text):
        return KnowledgeBaseId(text, text, None)
    found = _ARN.fullmatch(text)
    if found is None:
        raise InvalidRequestError(
            f"knowledge_base_id={text!r} is no knowledge base: give its id, ten letters and digits, or its ARN, "
            "arn:aws:bedrock:REGION:ACCOUNT:knowledge-base/ID. Both are in the console, and in ListKnowledgeBases."
        )
    return KnowledgeBaseId(text, found["id"], found["region"])
