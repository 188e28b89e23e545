"""The boto3 clients of this process, made when they are first needed and shared by equal connections."""

from __future__ import annotations

import functools
import itertools
import os
import threading
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable

    from .connection import Connection

# Places (a connection, a service, a Region) that are remembered. A server for many tenants has one for each.
_MOST_PLACES = 512
# Clients of one place. More than one, so that a call which still uses the old credentials of a rotation finds it.
_MOST_CLIENTS = 2
# (configuration key, environment variable, default, conversion): AWS_PROFILE can name what does not exist.
_NO_PROFILE = {"profile": (None, None, None, None)}
# Credentials that boto3 reads once, from where somebody may change them.
_READ_ONCE = frozenset(["env", "shared-credentials-file", "config-file"])


class _Place:
    """The clients for one connection, service and Region, by what the environment was when they were made."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.clients: OrderedDict[Hashable, Any] = OrderedDict()


_places: dict[Hashable, _Place] = {}
_making = threading.Lock()


def shared_client(connection: Connection, service: str, region: str) -> Any:
    """The client for a connection, as the environment is now; the same one for all who ask for an equal one."""
    at = (service, region, connection.fixed_key)
    place = _places.get(at)
    if place is None:
        place = _places.setdefault(at, _Place())
        if connection.session is not None:  # nobody can ask for its clients again once it is gone
            weakref.finalize(connection.session, _places.pop, at, None)
        while len(_places) > _MOST_PLACES:
            _places.pop(next(iter(_places)), None)
    key = connection.key()
    client = place.clients.get(key)
    if client is None:
        with place.lock:
            client = place.clients.get(key) or _make(connection, service, region, place, key)
    return client


_sessions: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
_next_session = itertools.count(1)


def number_of_session(session: Any) -> int:
    """A number that stands for a session in a key, without keeping it; 0 for none."""
    return 0 if session is None else _sessions.setdefault(session, next(_next_session))


def _make(connection: Connection, service: str, region: str, place: _Place, key: Hashable) -> Any:
    from botocore import UNSIGNED
    from botocore.config import Config

    session = _session(connection)
    # Found before the lock is taken: this can ask a metadata service or run a program, and others need not wait for it.
    credentials = session.get_credentials()
    config = connection.botocore_config(service)
    if connection.session is not None and getattr(credentials, "method", None) == "explicit":
        # botocore prefers an API key of the environment even to the credentials that a session was given.
        config = config.merge(Config(auth_scheme_preference="sigv4"))
    with _making:  # the loader that the sessions share is not safe under threads
        client = session.create_client(
            service,
            region_name=region,
            endpoint_url=connection.endpoint_for(service),
            use_ssl=connection.use_ssl,
            verify=connection.verify,
            config=config,
        )
    # botocore fixes a client's credentials when it is built. One that found none is not kept, so that credentials
    # which appear later (a login, an instance role) are found by the next call.
    anonymous = getattr(connection.config, "signature_version", None) is UNSIGNED
    bearer = connection.api_key or os.environ.get("AWS_BEARER_TOKEN_BEDROCK")
    if bearer or anonymous or credentials:
        place.clients[key] = client
        while len(place.clients) > _MOST_CLIENTS:
            place.clients.popitem(last=False)
    return client


def _session(connection: Connection) -> Any:
    """A botocore session whose credentials are the connection's."""
    if connection.session is not None:
        given = connection.session
        return given if hasattr(given, "create_client") else _AsBotocore(given)
    if connection.api_key:
        return session_with_token(connection.api_key)
    if connection.access_key_id:
        session = new_session()
        session.set_credentials(connection.access_key_id, connection.secret_access_key, connection.session_token)
        return session
    if connection.profile_name:
        return new_session(connection.profile_name)
    given = default_session()
    return new_session() if given is None else _session_like(given)


def _session_like(given: Any) -> Any:
    """The session that boto3's default one stands for: itself, unless what it has read once is not true any more."""
    held = given.get_credentials()
    if held is None or held.method in _READ_ONCE:
        fresh = new_session(given.profile_name if given.profile_name != "default" else None)
        found = fresh.get_credentials()
        if not (held and found and held.get_frozen_credentials() == found.get_frozen_credentials()):
            return fresh
    return _AsBotocore(given)


class _AsBotocore:
    """A boto3 session with the names that a botocore session has."""

    def __init__(self, session: Any) -> None:
        self.create_client = session.client
        self.get_credentials = session.get_credentials


def new_session(profile: str | None = None, *, alone: bool = False) -> Any:
    """A botocore session that shares the parsed service models with all others that we make.

    boto3 parses them anew for each session: 8 to 10 MB and 100 to 150 ms for each client, in place of 0.3 MB and 10 ms
    (seen 2026-11 with botocore 1.43).

    Args:
        profile: A profile of the AWS configuration files.
        alone: Whether no profile has a part in it, not even one that the environment names.
    """
    from botocore.session import Session

    session = Session(session_vars=_NO_PROFILE) if alone else Session(profile=profile)
    session.register_component("data_loader", _loader())
    return session


@functools.lru_cache(maxsize=1)
def _loader() -> Any:
    from botocore.session import Session

    return Session(session_vars=_NO_PROFILE).get_component("data_loader")


def session_with_token(api_key: str) -> Any:
    """A session that sends a Bedrock API key."""
    from botocore.tokens import FrozenAuthToken, TokenProviderChain

    session = new_session()
    session.register_component("token_provider", TokenProviderChain([GivenToken(FrozenAuthToken(api_key))]))
    return session


class GivenToken:
    """A botocore token provider that has its token already."""

    METHOD = "bedrock-routing-given-token"

    def __init__(self, token: Any) -> None:
        self._token = token

    def load_token(self, **_: Any) -> Any:
        """The token, whatever service it is for."""
        return self._token


def default_session() -> Any:
    """The session of ``boto3.setup_default_session``, or the one that ``boto3.client`` has made; None before that."""
    import boto3

    return boto3.DEFAULT_SESSION


def _start_afresh() -> None:
    """Forget the clients: a child process must not use the sockets of its parent."""
    global _making  # noqa: PLW0603 - may have been held by another thread when the process forked
    _making = threading.Lock()
    _places.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)
