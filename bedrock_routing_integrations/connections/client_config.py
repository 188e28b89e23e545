"""Read a ``botocore.config.Config`` however it was given.

Configurations come out of JSON files, and JSON has no tuples. botocore takes a client certificate with its key as a
tuple and ignores a list without a word, so a client would connect without its certificate (botocore 1.44,
``httpsession``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bedrock_routing_integrations.errors import InvalidRequestError

_PAIR = 2


def read_config(given: Any, name: str = "config") -> Any:
    """Return a ``Config`` with which botocore uses all that was given; None for None.

    Args:
        given: A ``Config``, or its arguments as a mapping. It is not changed.
        name: The argument that it was given as, for messages.

    Raises:
        InvalidRequestError: botocore knows no such option, or would ignore it.
    """
    if given is None:
        return None
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    if isinstance(given, Mapping):
        options = dict(given)
        if "client_cert" in options:
            options["client_cert"] = _client_certificate(options["client_cert"], name)
        try:
            return Config(**options)
        except (TypeError, BotoCoreError) as error:
            raise InvalidRequestError(f"{name} is not valid: {error}. Give arguments of botocore's Config.") from error
    if not hasattr(given, "merge"):
        kind = type(given).__name__
        raise InvalidRequestError(f"{name} must be a botocore Config, or its arguments, and is a {kind}")
    certificate = getattr(given, "client_cert", None)
    if certificate is None or _client_certificate(certificate, name) == certificate:
        return given
    return given.merge(Config(client_cert=_client_certificate(certificate, name)))


def _client_certificate(given: Any, name: str) -> Any:
    if given is None or isinstance(given, str):
        return given
    parts = tuple(given) if isinstance(given, (list, tuple)) else ()
    if len(parts) != _PAIR or not all(isinstance(part, str) for part in parts):
        raise InvalidRequestError(
            f"{name}: client_cert={given!r} is not valid: botocore takes a path, or two: the certificate's and its "
            'key\'s. Give "client_cert": ["/path/certificate.pem", "/path/key.pem"].'
        )
    return parts
