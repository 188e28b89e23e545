"""boto3 clients that the user made, and HTTP headers for the calls of one object through a shared client."""

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

# Options of a botocore ``Config`` that are not about one service.
_SHARED_OPTIONS = (
    "connect_timeout", "read_timeout", "max_pool_connections", "retries", "proxies", "proxies_config", "client_cert",
    "tcp_keepalive", "user_agent_extra",
)  # fmt: skip


class UserClient:
    """A boto3 client of a runtime that the user made. Used as it is, in any Region.

    Args:
        client: The client.
        service: The client's service.
        runtime: Holds the state that clients share.
    """

    def __init__(self, client: Any, service: str = "bedrock-runtime", *, runtime: Runtime = DEFAULT_RUNTIME) -> None:
        self._client, self._service = client, service
        self.runtime = runtime
        self.reset()
        runtime.attach(self)

    def reset(self) -> None:
        """Drop the clients for other services: a child process must not use the sockets of its parent."""
        self._others: dict[str, Any] = {}
        self._lock = threading.Lock()

    def client(self, service: str, target: HasRegion | None = None) -> Any:
        """Return the client, or one for another service with the same Region, endpoint and credentials.

        Args:
            service: Such as ``"bedrock"``.
            target: The target of the call. Warns once if its ARN names another Region.
        """
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
        """Return the client's Region."""
        region: str | None = getattr(getattr(self._client, "meta", None), "region_name", None)
        return region

    def identity(self, target: HasRegion) -> Hashable:
        """Return an id of the control plane."""
        return control_plane_identity(endpoint_of(self._client))

    def caller(self) -> Hashable:
        """Return an id of the caller: all users of the client share Bedrock's prompt caches."""
        return weak_key(self._client)

    def _make(self, service: str) -> Any:
        from botocore.config import Config
        from botocore.credentials import CredentialResolver
        from botocore.tokens import TokenProviderChain

        # A hack: boto3 has no public way from a client to its credentials. If these attributes go, look-ups use the
        # default credentials, and survive a refusal like any other (tests/test_upstream.py checks them).
        signer = getattr(self._client, "_request_signer", None)
        credentials, token = getattr(signer, "_credentials", None), getattr(signer, "_auth_token", None)
        generates, endpoint = service in RUNTIMES, endpoint_of(self._client)
        # A client with credentials must not fail because a profile of the environment does not exist, nor send an API
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
            # Not public either. Without it a private CA of the client's would not be trusted.
            verify=getattr(getattr(getattr(self._client, "_endpoint", None), "http_session", None), "_verify", None),
            config=config,
        )

    def _options(self) -> dict[str, Any]:
        """Return the client's options that apply to other services, too."""
        config = getattr(getattr(self._client, "meta", None), "config", None)
        return {name: value for name in _SHARED_OPTIONS if (value := getattr(config, name, None)) is not None}

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(
            "A boto3 client cannot be pickled. Leave client= out, so that each process makes its own from "
            "region_name, endpoint_url and the credentials that it finds."
        )


def client_source(client: Any, service: str, runtime: Runtime | None = None) -> Connection | UserClient:
    """Return the source of an object's boto3 clients.

    Args:
        client: A `Connection`, or a boto3 client that the user made.
        service: The service of a boto3 client.
        runtime: Holds the state that clients share. None: the connection's, or the default one.
    """
    if not isinstance(client, Connection):
        return UserClient(client, service, runtime=runtime or DEFAULT_RUNTIME)
    return client if runtime is None or client.runtime is runtime else replace(client, runtime=runtime)


def _signs(client: Any) -> bool:
    """Return whether a client prefers to sign its requests, even if it has an API key."""
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
    """A boto3 ``bedrock`` client that the user made, for look-ups, with the source of the other clients."""

    bedrock_client: Any
    source: Connection | UserClient

    def client(self, service: str, target: HasRegion | None = None) -> Any:
        """Return the user's client for ``"bedrock"``, else one of the other source.

        Args:
            service: Such as ``"bedrock"``.
            target: The target of the call.
        """
        return self.bedrock_client if service == "bedrock" else self.source.client(service, target)

    def identity(self, target: HasRegion) -> Hashable:
        """Return an id of the control plane."""
        endpoint = endpoint_of(self.bedrock_client)
        return None if endpoint is None or is_aws(endpoint) else endpoint


_headers: contextvars.ContextVar[Mapping[str, str] | None] = contextvars.ContextVar("headers", default=None)


@contextlib.contextmanager
def extra_headers(client: Any, headers: Mapping[str, str] | None) -> Iterator[None]:
    """Send HTTP headers with the calls inside the block only, through a client that others share.

    Args:
        client: A boto3 client.
        headers: Name → value.
    """
    if not headers:
        yield
        return
    # Registered once, because of its id. The handler adds nothing to calls outside the block. The event comes after
    # signing, so that a gateway's Authorization header can replace the signature.
    client.meta.events.register("before-send.bedrock-runtime", _add_headers, unique_id="bedrock-routing-headers")
    token = _headers.set(headers)
    try:
        yield
    finally:
        _headers.reset(token)


def _add_headers(request: Any, **_: Any) -> None:
    for name, value in (_headers.get() or {}).items():
        request.headers[name] = value
