"""From a user's settings to a boto3 client.

`arguments` reads the arguments of both frameworks. `connection` holds the settings as a value, with endpoints and
botocore's options. `clients` makes the boto3 clients that equal connections share. `user_clients` wraps a client that
the user made. `secrets` lists the secret arguments and removes passwords from URLs.
"""

from __future__ import annotations

from .arguments import connection_of
from .connection import DEFAULT_MAX_CONCURRENCY, Connection, control_plane_endpoint, read_config, warn_about_pickle
from .secrets import check_secrets, config_without_passwords, secrets_in, without_password
from .user_clients import UserClient, UserControlPlane, client_source, extra_headers

__all__ = [
    "DEFAULT_MAX_CONCURRENCY",
    "Connection",
    "UserClient",
    "UserControlPlane",
    "check_secrets",
    "client_source",
    "config_without_passwords",
    "connection_of",
    "control_plane_endpoint",
    "extra_headers",
    "read_config",
    "secrets_in",
    "warn_about_pickle",
    "without_password",
]
