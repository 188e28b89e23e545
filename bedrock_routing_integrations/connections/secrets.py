"""Remove passwords from the URLs of endpoints and proxies before they leave the process."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit, urlunsplit


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
