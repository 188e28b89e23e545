"""What must not leave a process: passwords in the URLs of endpoints and proxies."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit, urlunsplit


def without_password(url: str | None) -> str | None:
    """The URL without the user and the password before its host; it may lack its scheme, as a proxy's does."""
    if url is None or "@" not in url:
        return url
    if "//" not in url:
        return (without_password(f"//{url}") or "").removeprefix("//")
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def config_without_passwords(config: Any) -> Any:
    """A ``botocore.config.Config`` whose proxies are named without their passwords; the same one where it has none."""
    proxies = getattr(config, "proxies", None) or {}
    public = {scheme: without_password(url) for scheme, url in proxies.items()}
    if public == proxies:
        return config
    from botocore.config import Config

    return config.merge(Config(proxies=public))
