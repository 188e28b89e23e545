"""LangChain classes: chat model, LLM, retriever and chain on any Bedrock target, and a handler that counts cost.

Needs the extra: ``pip install "bedrock-routing-integrations[langchain]"``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .callbacks import RoutingCallbackHandler
    from .chains import KnowledgeBaseChain
    from .chat_models import ChatBedrockRouter
    from .llms import BedrockRouterLLM
    from .retrievers import KnowledgeBaseRetriever

__all__ = [
    "BedrockRouterLLM", "ChatBedrockRouter", "KnowledgeBaseChain", "KnowledgeBaseRetriever", "RoutingCallbackHandler",
]  # fmt: skip

_MODULES = {
    "BedrockRouterLLM": "llms",
    "ChatBedrockRouter": "chat_models",
    "KnowledgeBaseChain": "chains",
    "KnowledgeBaseRetriever": "retrievers",
    "RoutingCallbackHandler": "callbacks",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f".{_MODULES[name]}", __name__)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("langchain_aws", "langchain_core"):
            raise
        raise ImportError(
            f'{name} needs langchain-aws: pip install "bedrock-routing-integrations[langchain]"'
        ) from error
    value: object = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
