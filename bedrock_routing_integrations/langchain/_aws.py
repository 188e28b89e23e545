"""How LangChain's users say where AWS is, for the objects that ask knowledge bases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, Field, PrivateAttr, SecretStr

from bedrock_routing_integrations.client import KnowledgeBaseClient
from bedrock_routing_integrations.connections import DEFAULT_MAX_CONCURRENCY, GivenClient, warn_of_pickle
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.knowledge_base import refuse_unknown

from ._own_client import SECRETS, connection_of

if TYPE_CHECKING:
    from typing_extensions import Self

# What makes the client. The names are those of langchain-aws's retriever and chat models.
CONNECTED_BY = (
    "region_name", "credentials_profile_name", *SECRETS, "endpoint_url", "config", "timeout", "max_retries",
    "max_concurrency", "client",
)  # fmt: skip


class AskingAws(BaseModel):
    """The arguments that say how AWS is reached, and the client made of them; made anew when one is set anew."""

    also_named: ClassVar[Mapping[str, str]] = {"api_key": "bedrock_api_key"}

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

    _asking: KnowledgeBaseClient | None = PrivateAttr(default=None)
    _made_of: tuple[Any, ...] | None = PrivateAttr(default=None)

    def connected(self) -> KnowledgeBaseClient:
        """The client, as the fields are now."""
        made_of = tuple([getattr(self, name) for name in CONNECTED_BY])
        if self._asking is None or self._made_of != made_of:
            self._asking = KnowledgeBaseClient(self.client if self.client is not None else connection_of(self))
            self._made_of = made_of
        return self._asking

    @classmethod
    def by_our_names(cls, values: Any) -> dict[str, Any]:
        """The arguments of a constructor by the names of the fields; those of langchain-aws are taken too.

        Raises:
            InvalidRequestError: There is no such argument.
        """
        if not isinstance(values, Mapping):
            raise InvalidRequestError(f"{cls.__name__} takes arguments by name, not {values!r}")
        named = {cls.also_named.get(name, name): value for name, value in values.items()}
        refuse_unknown(cls.__name__, named, cls.model_fields)
        for name in SECRETS:  # pydantic would refuse it too, and show it
            if not isinstance(named.get(name), (str, SecretStr, type(None))):
                raise InvalidRequestError(f"{name} must be a string, and is a {type(named[name]).__name__}")
        return named

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        # A boto3 client cannot be copied, and need not be.
        return super().__deepcopy__({**(memo or {}), id(self.client): self.client})

    def __getstate__(self) -> dict[Any, Any]:
        # Secrets stay in this process: a copy elsewhere looks for its own credentials.
        state = super().__getstate__()
        if self.client is not None:
            GivenClient(self.client).__reduce__()  # says that it cannot be, and what to do
        if any(getattr(self, name) for name in SECRETS):
            warn_of_pickle()
        hidden = dict.fromkeys(SECRETS)
        private = {**(state["__pydantic_private__"] or {}), "_asking": None, "_made_of": None}
        return {**state, "__dict__": {**state["__dict__"], **hidden}, "__pydantic_private__": private}
