"""The arguments with which users of both frameworks select a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .connection import Connection, read_config
from .secrets import SECRETS, check_secrets, secrets_in

if TYPE_CHECKING:
    from collections.abc import Mapping

# Argument → field of `Connection`. The names are those of langchain-aws and llama-index-llms-bedrock-converse.
_CONFIGS = ("config", "botocore_config")
_FIELDS = {
    "region_name": "region_name",
    "profile_name": "profile_name",
    "credentials_profile_name": "profile_name",
    "endpoint_url": "endpoint_url",
    "botocore_session": "session",
    "verify": "verify",
    "use_ssl": "use_ssl",
    "timeout": "timeout",
    "max_retries": "max_retries",
    "max_concurrency": "max_concurrency",
}


def connection_of(arguments: Mapping[str, Any]) -> Connection:
    """Return the connection that a framework's arguments select.

    Args:
        arguments: Argument → value, such as the fields of a chat model. Secrets may be strings or pydantic's
            ``SecretStr``. None means that an argument was not passed; other names are ignored.

    Raises:
        InvalidRequestError: An argument is not valid, or two contradict each other.
    """
    check_secrets(arguments)
    fields = {field: arguments[name] for name, field in _FIELDS.items() if arguments.get(name) is not None}
    for name, value in secrets_in(arguments).items():
        fields[SECRETS[name]] = value if isinstance(value, str) else value.get_secret_value()
    for name in _CONFIGS:
        if arguments.get(name) is not None:
            fields["config"] = read_config(arguments[name], name)
    return Connection(**fields)
