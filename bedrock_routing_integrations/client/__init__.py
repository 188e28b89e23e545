"""Send requests: `RoutedClient` to models, `KnowledgeBaseClient` to knowledge bases. No other package sends."""

from __future__ import annotations

from .exchange import CallOptions
from .knowledge_bases import KnowledgeBaseClient
from .routed_client import ClientForCall, RoutedClient

__all__ = ["CallOptions", "ClientForCall", "KnowledgeBaseClient", "RoutedClient"]
