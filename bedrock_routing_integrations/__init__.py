"""Amazon Bedrock's routing, working and visible in LangChain, LlamaIndex and plain boto3.

The names below are loaded when they are first used: importing this package loads neither boto3 nor a framework.
The framework classes live in ``bedrock_routing_integrations.langchain`` and the local Bedrock for tests in
``bedrock_routing_integrations.emulator``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bedrock_routing_integrations.caching import CachePolicy, plan_cache_points
    from bedrock_routing_integrations.client import RoutedClient
    from bedrock_routing_integrations.costs.report import RoutingReport
    from bedrock_routing_integrations.errors import BedrockRoutingError
    from bedrock_routing_integrations.invocation import Invocation
    from bedrock_routing_integrations.targets import Target, TargetKind, parse_target

__all__ = [
    "BedrockRoutingError", "CachePolicy", "Invocation", "RoutedClient", "RoutingReport", "Target", "TargetKind",
    "parse_target", "plan_cache_points",
]  # fmt: skip

_MODULES = {
    "BedrockRoutingError": "errors",
    "CachePolicy": "caching",
    "Invocation": "invocation",
    "RoutedClient": "client",
    "RoutingReport": "costs.report",
    "Target": "targets",
    "TargetKind": "targets",
    "parse_target": "targets",
    "plan_cache_points": "caching",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
