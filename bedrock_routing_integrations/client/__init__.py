"""The only place that sends: `RoutedClient` to models, `KnowledgeBaseClient` to knowledge bases."""

from __future__ import annotations

from .knowledge_bases import KnowledgeBaseClient
from .routed import RoutedClient

__all__ = ["KnowledgeBaseClient", "RoutedClient"]
