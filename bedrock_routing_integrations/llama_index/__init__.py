"""LlamaIndex classes: an LLM for any Bedrock target, a retriever and query engine for knowledge bases, and events.

Needs the extra: ``pip install "bedrock-routing-integrations[llama-index]"``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .callbacks import RoutingEventHandler
    from .events import ModelCallFailedEvent, ModelRoutedEvent
    from .llms import BedrockRouter
    from .query_engines import KnowledgeBaseQueryEngine
    from .retrievers import KnowledgeBaseRetriever

__all__ = [
    "BedrockRouter", "KnowledgeBaseQueryEngine", "KnowledgeBaseRetriever", "ModelCallFailedEvent", "ModelRoutedEvent",
    "RoutingEventHandler",
]  # fmt: skip

_MODULES = {
    "BedrockRouter": "llms",
    "KnowledgeBaseQueryEngine": "query_engines",
    "KnowledgeBaseRetriever": "retrievers",
    "ModelCallFailedEvent": "events",
    "ModelRoutedEvent": "events",
    "RoutingEventHandler": "callbacks",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f".{_MODULES[name]}", __name__)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "llama_index":
            raise
        raise ImportError(
            f'{name} needs llama-index-core: pip install "bedrock-routing-integrations[llama-index]"'
        ) from error
    value: object = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
