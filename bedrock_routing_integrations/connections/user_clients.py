"""Clients that the user made: used as they are. And headers for the calls of one object through a shared client."""

from __future__ import annotations

import contextlib
import contextvars
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.runtime import DEFAULT_RUNTIME, Runtime

from .clients import ClientStore, StaticToken
from .connection import (
    CONTROL_PLANE_OPTIONS,
    RUNTIMES,
    Connection,
    control_plane_endpoint,
    control_plane_identity,
    endpoint_of,
    is_aws,
    read_config,
    runtime_endpoint,
    warn_region_conflict,
    weak_key,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping

    from .connection import HasRegion

# Members of a botocore ``Config`` that say how AWS is reached, and nothing of one service.
_REACHED_BY = (
    "connect_timeout", "read_timeout", "max_pool_connections", "retries", "proxies", "proxies_config", "client_cert",
    "tcp_keepalive", "user_agent_extra",
)  # fmt: skip


class UserClient:
    """A boto3 client of a runtime that the user made: used as it is, wherever the target may be.

    Args:
        client: The client.
        service: What it is a client of.
        runtime: Holds what sessions share.
    """

    def __init__(self, client: Any, service: str = "bedrock-runtime", *, runtime: Runtime = DEFAULT_RUNTIME) -> None:
        self._client, self._service = client, service
        self.runtime = runtime
        self._others: dict[str, Any] = {}
        self._lock = threading.Lock()

    def client(self, service: str, target: HasRegion | None = None) -> Any:
        """The client itself, or one for another service with its Region, endpoint and credentials."""
        if service != self._service:
            with self._lock:
                if service not in self._others:
                    self._others[service] = self._make(service)
                return self._others[service]
        region = self.known_region()
        if target and target.region and region and target.region != region:
            warn_region_conflict(target, f"the client that was passed in is for {region!r}")
        return self._client

    def known_region(self, target: HasRegion | None = None) -> str | None:
        """The client's Region."""
        region: str | None = getattr(getattr(self._client, "meta", None), "region_name", None)
        return region

    def identity(self, target: HasRegion) -> Hashable:
        """Which control plane answers."""
        return control_plane_identity(endpoint_of(self._client))

    def caller(self) -> Hashable:
        """Who calls: what Bedrock caches for the client is there for all that use it."""
        return weak_key(self._client)

    def _make(self, service: str) -> Any:
        from botocore.config import Config
        from botocore.credentials import CredentialResolver
        from botocore.tokens import TokenProviderChain

        # boto3 offers no public way from a client to its credentials. Where this one closes, the look-up uses the
        # default credentials instead, and a refusal is survived like any other (tests/test_upstream.py names it).
        signer = getattr(self._client, "_request_signer", None)
        credentials, token = getattr(signer, "_credentials", None), getattr(signer, "_auth_token", None)
        generates, endpoint = service in RUNTIMES, endpoint_of(self._client)
        # With credentials of its own it must not fail for want of a profile that the environment names, nor send an API
        # key of the environment, which botocore prefers.
        store = self.runtime.shared(ClientStore)
        session, config = store.new_session(without_profile=credentials is not None), read_config(self._options())
        if not generates:
            config = config.merge(Config(**CONTROL_PLANE_OPTIONS))
        if config.retries:  # botocore writes into this dictionary when it makes a client
            config = config.merge(Config(retries=dict(config.retries)))
        if credentials is not None:
            session.register_component("credential_provider", CredentialResolver([_same_credentials(credentials)]))
            config = Config(auth_scheme_preference="sigv4").merge(config)
        if token is not None and not _signs(self._client):
            session.register_component("token_provider", TokenProviderChain([StaticToken(token)]))
            config = config.merge(Config(auth_scheme_preference="httpBearerAuth"))
        return store.create_client(
            session,
            service,
            region_name=self.known_region(),
            endpoint_url=runtime_endpoint(service, endpoint)
            if generates
            else control_plane_endpoint(service, endpoint),
            # Not to be had publicly either; without it a private CA of the client's would not be trusted.
            verify=getattr(getattr(getattr(self._client, "_endpoint", None), "http_session", None), "_verify", None),
            config=config,
        )

    def _options(self) -> dict[str, Any]:
        """How the client was told to reach AWS, which holds for the others too."""
        config = getattr(getattr(self._client, "meta", None), "config", None)
        return {name: value for name in _REACHED_BY if (value := getattr(config, name, None)) is not None}

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(
            "A boto3 client cannot be pickled. Leave client= out, so that each process makes its own from "
            "region_name, endpoint_url and the credentials that it finds."
        )


def client_source(client: Any, service: str, runtime: Runtime | None = None) -> Connection | UserClient:
    """Return what makes the clients of an object: a `Connection`, or a boto3 client that the user made.

    Args:
        client: A `Connection`, or a boto3 client.
        service: What a boto3 client is a client of.
        runtime: Holds what clients share. None: the connection's, or the default one.
    """
    if not isinstance(client, Connection):
        return UserClient(client, service, runtime=runtime or DEFAULT_RUNTIME)
    return client if runtime is None or client.runtime is runtime else replace(client, runtime=runtime)


def _signs(client: Any) -> bool:
    """Whether a client was told to sign its requests, whatever API key it holds besides."""
    preferred = getattr(getattr(getattr(client, "meta", None), "config", None), "auth_scheme_preference", None)
    return isinstance(preferred, str) and preferred.split(",")[0].strip() == "sigv4"


def _same_credentials(credentials: Any) -> Any:
    from botocore.credentials import CredentialProvider

    class SameCredentials(CredentialProvider):  # type: ignore[misc]  # botocore has no types
        METHOD = "bedrock-routing-given-client"

        def load(self) -> Any:
            return credentials

    return SameCredentials()


@dataclass(frozen=True)
class UserControlPlane:
    """A boto3 ``bedrock`` client that the user made, for look-ups; what else is asked goes to the other source."""

    bedrock_client: Any
    source: Connection | UserClient

    def client(self, service: str, target: HasRegion | None = None) -> Any:
        """The user's client for ``"bedrock"``."""
        return self.bedrock_client if service == "bedrock" else self.source.client(service, target)

    def identity(self, target: HasRegion) -> Hashable:
        """Which control plane answers."""
        endpoint = endpoint_of(self.bedrock_client)
        return None if endpoint is None or is_aws(endpoint) else endpoint


_headers: contextvars.ContextVar[Mapping[str, str] | None] = contextvars.ContextVar("headers", default=None)


@contextlib.contextmanager
def extra_headers(client: Any, headers: Mapping[str, str] | None) -> Iterator[None]:
    """Send `headers` with the calls made inside, and with no others, through a client that others share."""
    if not headers:
        yield
        return
    # Idempotent by its id. The handler adds nothing to calls that are made outside. The event comes after signing, so
    # that a gateway's own Authorization header can take the place of the signature.
    client.meta.events.register("before-send.bedrock-runtime", _add_headers, unique_id="bedrock-routing-headers")
    token = _headers.set(headers)
    try:
        yield
    finally:
        _headers.reset(token)


def _add_headers(request: Any, **_: Any) -> None:
    for name, value in (_headers.get() or {}).items():
        request.headers[name] = value
