"""The arguments that are secret, and passwords in the URLs of endpoints and proxies. Neither may leave the process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from bedrock_routing_integrations.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

SECRETS = {
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
    "bedrock_api_key": "api_key",
    "api_key": "api_key",
}
"""Argument of LangChain's or LlamaIndex's users → field of `Connection`."""


def secrets_in(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that must not leave the process, as far as they have a value."""
    return {name: values[name] for name in SECRETS if values.get(name)}


def check_secrets(values: Mapping[str, Any]) -> None:
    """Raise if a secret is not a string. pydantic would raise too, and show the value.

    Raises:
        InvalidRequestError: A secret is neither a string nor a ``SecretStr``.
    """
    for name in SECRETS:
        value = values.get(name)
        if value is not None and not isinstance(value, str) and not hasattr(value, "get_secret_value"):
            raise InvalidRequestError(f"{name} is not valid: it must be a string, and is a {type(value).__name__}.")


def without_password(url: str | None) -> str | None:
    """Return a URL without user and password. It may lack its scheme, as a proxy's does."""
    if url is None or "@" not in url:
        return url
    if "//" not in url:
        return (without_password(f"//{url}") or "").removeprefix("//")
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def config_without_passwords(config: Any) -> Any:
    """Return a ``botocore.config.Config`` whose proxies have no passwords; the same object if they had none."""
    proxies = getattr(config, "proxies", None) or {}
    public = {scheme: without_password(url) for scheme, url in proxies.items()}
    if public == proxies:
        return config
    from botocore.config import Config

    return config.merge(Config(proxies=public))
