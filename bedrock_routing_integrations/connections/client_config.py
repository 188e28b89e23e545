"""Read a ``botocore.config.Config`` however it was given.

Configurations come out of JSON files, and JSON has no tuples. botocore takes a client certificate with its key as a
tuple and ignores a list without a word, so a client would connect without its certificate (botocore 1.44,
``httpsession``). The same holds for the certificate that is shown to a proxy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bedrock_routing_integrations.errors import InvalidRequestError

_PAIR = 2
_PROXY_CERTIFICATE = "proxy_client_cert"


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
        options = {**given, **_with_tuples(given, name)}
        try:
            return Config(**options)
        except (TypeError, BotoCoreError) as error:
            raise InvalidRequestError(f"{name} is not valid: {error}. Give arguments of botocore's Config.") from error
    if not hasattr(given, "merge"):
        kind = type(given).__name__
        raise InvalidRequestError(f"{name} must be a botocore Config, or its arguments, and is a {kind}")
    changed = _with_tuples({option: getattr(given, option, None) for option in ("client_cert", "proxies_config")}, name)
    return given.merge(Config(**changed)) if changed else given


def _with_tuples(options: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the options that hold a list where botocore reads a tuple, with the tuple."""
    changed: dict[str, Any] = {}
    certificate, proxies = options.get("client_cert"), options.get("proxies_config")
    if (pair := _certificate(certificate, f"{name}: client_cert")) != certificate:
        changed["client_cert"] = pair
    if isinstance(proxies, Mapping):
        shown = proxies.get(_PROXY_CERTIFICATE)
        if (pair := _certificate(shown, f"{name}: proxies_config.{_PROXY_CERTIFICATE}")) != shown:
            changed["proxies_config"] = {**proxies, _PROXY_CERTIFICATE: pair}
    return changed


def _certificate(given: Any, name: str) -> Any:
    if given is None or isinstance(given, str):
        return given
    parts = tuple(given) if isinstance(given, (list, tuple)) else ()
    if len(parts) != _PAIR or not all(isinstance(part, str) for part in parts):
        raise InvalidRequestError(
            f"{name}={given!r} is not valid: botocore takes a path, or two: the certificate's and its key's. "
            'Give ["/path/certificate.pem", "/path/key.pem"].'
        )
    return parts
