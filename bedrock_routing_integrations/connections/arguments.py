"""The arguments with which users of both frameworks select a connection, and which of them are secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.errors import InvalidRequestError

from .connection import Connection, read_config

if TYPE_CHECKING:
    from collections.abc import Mapping

# Argument → field of `Connection`. The names are those of langchain-aws and llama-index-llms-bedrock-converse.
_SECRETS = {
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
    "bedrock_api_key": "api_key",
    "api_key": "api_key",
}
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
        fields[_SECRETS[name]] = value if isinstance(value, str) else value.get_secret_value()
    for name in _CONFIGS:
        if arguments.get(name) is not None:
            fields["config"] = read_config(arguments[name], name)
    return Connection(**fields)


def secrets_in(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that must not leave the process, as far as they have a value."""
    return {name: values[name] for name in _SECRETS if values.get(name)}


def check_secrets(values: Mapping[str, Any]) -> None:
    """Raise if a secret is not a string. pydantic would raise too, and show the value.

    Raises:
        InvalidRequestError: A secret is neither a string nor a ``SecretStr``.
    """
    for name in _SECRETS:
        value = values.get(name)
        if value is not None and not isinstance(value, str) and not hasattr(value, "get_secret_value"):
            raise InvalidRequestError(f"{name} is not valid: it must be a string, and is a {type(value).__name__}.")
