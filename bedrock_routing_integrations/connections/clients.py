"""boto3 clients, made when they are first needed and shared by equal connections."""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.bounded_cache import BoundedCache

if TYPE_CHECKING:
    from collections.abc import Hashable

    from .connection import Connection

# A slot is one connection, service and Region. A server for many tenants has one slot for each tenant.
_SLOTS_KEPT = 512
# More than one client in a slot: a call that still uses the credentials before a rotation finds its client.
_CLIENTS_IN_SLOT = 2
# (configuration key, environment variable, default, conversion): AWS_PROFILE can name what does not exist.
_NO_PROFILE = {"profile": (None, None, None, None)}
# Methods of botocore credentials that boto3 reads once, from a place that can change.
_READ_ONCE = frozenset(["env", "shared-credentials-file", "config-file"])


class _ClientSlot:
    """The clients for one connection, service and Region, keyed by the environment in which each was made."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.clients: BoundedCache[Hashable, Any] = BoundedCache(_CLIENTS_IN_SLOT)


class ClientStore:
    """The boto3 clients of a `Runtime`. Safe under threads."""

    def __init__(self) -> None:
        self._loader: Any = None
        self.reset()

    def reset(self) -> None:
        """Drop the clients: a child process must not use the sockets of its parent."""
        self._slots: BoundedCache[Hashable, _ClientSlot] = BoundedCache(_SLOTS_KEPT)
        self._making = threading.Lock()

    def client(self, connection: Connection, service: str, region: str) -> Any:
        """Return the client for a connection in the current environment.

        Args:
            connection: How AWS is reached.
            service: Such as ``"bedrock-runtime"``.
            region: Such as ``"us-east-1"``.
        """
        at = (service, region, connection.fixed_key)
        slot = self._slots.get(at)
        if slot is None:
            slot = self._slots.setdefault(at, _ClientSlot())
            if connection.session is not None:  # nobody can ask for its clients again once it is gone
                weakref.finalize(connection.session, self._slots.pop, at, None)
        key = connection.key()
        client = slot.clients.get(key)
        if client is None:
            with slot.lock:
                client = slot.clients.get(key) or self._make(connection, service, region, slot, key)
        return client

    def _make(self, connection: Connection, service: str, region: str, slot: _ClientSlot, key: Hashable) -> Any:
        from botocore import UNSIGNED
        from botocore.config import Config

        session = self._session(connection)
        # Before the lock is taken: this can ask a metadata service or run a program, and others need not wait for it.
        credentials = session.get_credentials()
        config = connection.botocore_config(service)
        if connection.session is not None and getattr(credentials, "method", None) == "explicit":
            # botocore prefers an API key of the environment even to the credentials that a session was given.
            config = config.merge(Config(auth_scheme_preference="sigv4"))
        client = self.create_client(
            session,
            service,
            region_name=region,
            endpoint_url=connection.endpoint_for(service),
            use_ssl=connection.use_ssl,
            verify=connection.verify,
            config=config,
        )
        # botocore fixes a client's credentials when it is built. A client without any is not kept, so that credentials
        # that appear later (a login, an instance role) are found by the next call.
        anonymous = getattr(connection.client_config, "signature_version", None) is UNSIGNED
        bearer = connection.api_key or os.environ.get("AWS_BEARER_TOKEN_BEDROCK")
        if bearer or anonymous or credentials:
            slot.clients.put(key, client)
        return client

    def create_client(self, session: Any, service: str, **arguments: Any) -> Any:
        """Return ``session.create_client(service, **arguments)``, one at a time: the sessions share a loader.

        Args:
            session: A session of `new_session`, or a user's.
            service: Such as ``"bedrock"``.
            **arguments: botocore's.
        """
        with self._making:
            return session.create_client(service, **arguments)

    def _session(self, connection: Connection) -> Any:
        """Return a botocore session with the credentials of a connection."""
        if connection.session is not None:
            session = connection.session
            return session if hasattr(session, "create_client") else _BotocoreSession(session)
        if connection.api_key:
            return self._session_with_token(connection.api_key)
        if connection.access_key_id:
            session = self.new_session()
            session.set_credentials(connection.access_key_id, connection.secret_access_key, connection.session_token)
            return session
        if connection.profile_name:
            return self.new_session(connection.profile_name)
        session = default_session()
        return self.new_session() if session is None else self._current(session)

    def _current(self, session: Any) -> Any:
        """Return boto3's default session, or a fresh one if its cached credentials are stale."""
        held = session.get_credentials()
        if held is None or held.method in _READ_ONCE:
            fresh = self.new_session(session.profile_name if session.profile_name != "default" else None)
            found = fresh.get_credentials()
            if not (held and found and held.get_frozen_credentials() == found.get_frozen_credentials()):
                return fresh
        return _BotocoreSession(session)

    def new_session(self, profile: str | None = None, *, without_profile: bool = False) -> Any:
        """Return a botocore session that shares the parsed service models with the others of this store.

        boto3 parses them for each session: 8 to 10 MB and 100 to 150 ms for each client, instead of 0.3 MB and 10 ms
        (seen 2026-11 with botocore 1.43).

        Args:
            profile: A profile of the AWS configuration files.
            without_profile: Whether to ignore profiles, also one that the environment names.
        """
        from botocore.session import Session

        if self._loader is None:
            self._loader = Session(session_vars=_NO_PROFILE).get_component("data_loader")
        session = Session(session_vars=_NO_PROFILE) if without_profile else Session(profile=profile)
        session.register_component("data_loader", self._loader)
        return session

    def _session_with_token(self, api_key: str) -> Any:
        """Return a session that sends a Bedrock API key."""
        from botocore.tokens import FrozenAuthToken, TokenProviderChain

        session = self.new_session()
        session.register_component("token_provider", TokenProviderChain([StaticToken(FrozenAuthToken(api_key))]))
        return session


class _BotocoreSession:
    """A boto3 session with the method names of a botocore session."""

    def __init__(self, session: Any) -> None:
        self.create_client = session.client
        self.get_credentials = session.get_credentials


class StaticToken:
    """A botocore token provider that always returns one token."""

    METHOD = "bedrock-routing-given-token"

    def __init__(self, token: Any) -> None:
        self._token = token

    def load_token(self, **_: Any) -> Any:
        """Return the token, for any service."""
        return self._token


def default_session() -> Any:
    """Return the session of ``boto3.setup_default_session`` or the first ``boto3.client``; None before that."""
    import boto3

    return boto3.DEFAULT_SESSION
