"""Build the attributes of spans and metrics, by the names of the semantic conventions.

Token counts: Bedrock's ``inputTokens`` excludes tokens that were read from or written to the cache. The conventions'
``gen_ai.usage.input_tokens`` includes both ("SHOULD include all types of input tokens, including cached tokens").

Values that are not known have no attribute.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bedrock_routing_integrations.errors import aws_error, error_kind

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from .call_events import CallStarted

OPERATION = "gen_ai.operation.name"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
FINISH_REASONS = "gen_ai.response.finish_reasons"
DATA_SOURCE = "gen_ai.data_source.id"
PROJECT = "aws.bedrock.project"
TARGET_KIND = "aws.bedrock.target.kind"
REQUEST_ID = "aws.request_id"
ERROR_TYPE = "error.type"
TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105 - no secret
# The attributes of metrics.
METRIC_ATTRIBUTES = (
    OPERATION, "gen_ai.provider.name", REQUEST_MODEL, RESPONSE_MODEL, DATA_SOURCE, "server.address", "server.port",
)  # fmt: skip


def of_converse(started: CallStarted) -> dict[str, Any]:
    """Return the attributes of Converse or ConverseStream that are known before the request is sent."""
    request = started.request
    inference = request.get("inferenceConfig") or {}
    return _without_none(
        {
            **_of_client(started.client, "chat"),
            **_of_target(started),
            "gen_ai.request.max_tokens": _count(inference.get("maxTokens")),
            "gen_ai.request.temperature": _double(inference.get("temperature")),
            "gen_ai.request.top_p": _double(inference.get("topP")),
            "gen_ai.request.stop_sequences": tuple(inference.get("stopSequences") or ()) or None,
            "aws.bedrock.guardrail.id": (request.get("guardrailConfig") or {}).get("guardrailIdentifier"),
            PROJECT: request.get("projectIdentifier"),
            "aws.bedrock.latency.requested": (request.get("performanceConfig") or {}).get("latency"),
            "aws.bedrock.service_tier.requested": (request.get("serviceTier") or {}).get("type"),
        }
    )


def of_retrieval(started: CallStarted) -> dict[str, Any]:
    """Return the attributes of Retrieve that are known before the request is sent."""
    request = started.request
    search = [each for each in (request.get("retrievalConfiguration") or {}).values() if isinstance(each, dict)]
    return _without_none(
        {
            **_of_client(started.client, "retrieval"),
            DATA_SOURCE: request.get("knowledgeBaseId"),
            "gen_ai.retrieval.top_k": next((_count(each.get("numberOfResults")) for each in search), None),
            "aws.bedrock.operation": started.operation,
        }
    )


def of_generation(started: CallStarted) -> dict[str, Any]:
    """Return the attributes of RetrieveAndGenerate or its stream that are known before the request is sent.

    The conventions have no operation for it: a model's answer in a conversation is a ``chat``, and the knowledge base
    its data source.
    """
    configuration = started.request.get("retrieveAndGenerateConfiguration") or {}
    inner = next((each for each in configuration.values() if isinstance(each, dict)), {})
    generation = inner.get("generationConfiguration") or {}
    return _without_none(
        {
            **_of_client(started.client, "chat"),
            **_of_target(started),
            DATA_SOURCE: inner.get("knowledgeBaseId"),
            "gen_ai.conversation.id": started.request.get("sessionId"),
            "aws.bedrock.guardrail.id": (generation.get("guardrailConfiguration") or {}).get("guardrailId"),
            "aws.bedrock.operation": started.operation,
            "aws.bedrock.latency.requested": (generation.get("performanceConfig") or {}).get("latency"),
        }
    )


def _of_target(started: CallStarted) -> dict[str, Any]:
    target = started.resolved.target if started.resolved is not None else None
    return {
        REQUEST_MODEL: target and target.model_id,
        TARGET_KIND: target and target.kind.value,
        "gen_ai.request.stream": started.operation.endswith("Stream") or None,  # "if and only if … is streaming"
    }


def _of_client(client: Any, operation: str) -> dict[str, Any]:
    meta = getattr(client, "meta", None)
    return {
        OPERATION: operation,
        "gen_ai.provider.name": "aws.bedrock",
        **_server(getattr(meta, "endpoint_url", None)),
        "cloud.region": getattr(meta, "region_name", None),
    }


def of_answer(routing: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of an answered call.

    Args:
        routing: The call's ``"routing"`` entry.
    """
    first_token_ms = routing["time_to_first_token_ms"]
    return _without_none(
        {
            "gen_ai.response.time_to_first_chunk": None if first_token_ms is None else first_token_ms / 1000,
            **of_external_span(routing, ()),
        }
    )


def of_external_span(routing: Mapping[str, Any], present: Collection[str]) -> dict[str, Any]:
    """Return the attributes that the span of another instrumentation may be missing.

    Args:
        routing: The call's ``"routing"`` entry.
        present: The names of the attributes that the span has. A span without names of the conventions counts tokens by
            other names: it only gets the counts of caches.
    """
    usage = _usage(routing["usage"])
    counts_by_other_names = present and not any(name.startswith("gen_ai.") for name in present)
    return _without_none(
        {
            RESPONSE_MODEL: routing["invoked_model"],
            **{name: value for name, value in usage.items() if ".cache_" in name or not counts_by_other_names},
            TARGET_KIND: routing["target_kind"],
            PROJECT: routing.get("project"),
            "aws.bedrock.is_fallback": routing["is_fallback"],
            **{f"aws.bedrock.latency.{when}": value for when, value in routing["latency"].items()},
            **{f"aws.bedrock.service_tier.{when}": value for when, value in routing["service_tier"].items()},
            "aws.bedrock.cost_usd": routing["cost_usd"],
            "aws.bedrock.fallback_cost_usd": routing["fallback_cost_usd"],
            REQUEST_ID: routing["request_id"],
        }
    )


def of_error(error: BaseException) -> dict[str, Any]:
    """Return the attributes of an error: its kind. Its message can quote the prompt, or a URL with a password."""
    return _without_none({ERROR_TYPE: error_kind(error), REQUEST_ID: aws_error(error).request_id})


def _usage(usage: Mapping[str, int] | None) -> dict[str, int]:
    if usage is None:
        return {}
    read, written = usage["cache_read"], usage["cache_write_5m"] + usage["cache_write_1h"]
    return {
        "gen_ai.usage.input_tokens": usage["input"] + read + written,
        "gen_ai.usage.output_tokens": usage["output"],
        "gen_ai.usage.cache_read.input_tokens": read,
        "gen_ai.usage.cache_creation.input_tokens": written,
    }


@functools.lru_cache(maxsize=64)
def _server(endpoint_url: str | None) -> dict[str, Any]:
    try:
        parts = urlsplit(endpoint_url or "")
        host, port = parts.hostname, parts.port
    except ValueError:  # not a URL; boto3 raises
        return {}
    # "Conditionally required if server.address is set": the default port too.
    return {"server.address": host, "server.port": port or (80 if parts.scheme == "http" else 443)} if host else {}


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None  # another type may be text of the prompt by mistake


def _double(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _without_none(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}
