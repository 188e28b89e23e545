"""What a call's attributes are called, and where their values come from. Pure.

Tokens: Bedrock's ``inputTokens`` excludes what was read from and written to the cache; the conventions'
``gen_ai.usage.input_tokens`` includes both ("SHOULD include all types of input tokens, including cached tokens").
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bedrock_routing_integrations.errors import error_kind

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from bedrock_routing_integrations.models.candidates import ResolvedTarget

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
# What tells one series of a metric from another.
OF_METRICS = (
    OPERATION, "gen_ai.provider.name", REQUEST_MODEL, RESPONSE_MODEL, DATA_SOURCE, "server.address", "server.port",
)  # fmt: skip


def of_request(client: Any, request: Mapping[str, Any], resolved: ResolvedTarget, *, stream: bool) -> dict[str, Any]:
    """The attributes that are known before the request is sent.

    Args:
        client: The boto3 client.
        request: The Converse request.
        resolved: Its target.
        stream: Whether it is ConverseStream.
    """
    said = request.get("inferenceConfig") or {}
    return _known(
        {
            **_of_client(client, "chat"),
            REQUEST_MODEL: resolved.target.model_id,
            "gen_ai.request.stream": stream or None,  # "if and only if the request is streaming"
            "gen_ai.request.max_tokens": _count(said.get("maxTokens")),
            "gen_ai.request.temperature": _double(said.get("temperature")),
            "gen_ai.request.top_p": _double(said.get("topP")),
            "gen_ai.request.stop_sequences": tuple(said.get("stopSequences") or ()) or None,
            "aws.bedrock.guardrail.id": (request.get("guardrailConfig") or {}).get("guardrailIdentifier"),
            TARGET_KIND: resolved.target.kind.value,
            PROJECT: request.get("projectIdentifier"),
            "aws.bedrock.latency.requested": (request.get("performanceConfig") or {}).get("latency"),
            "aws.bedrock.service_tier.requested": (request.get("serviceTier") or {}).get("type"),
        }
    )


def of_retrieval(client: Any, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a Retrieve that are known before it is sent.

    Args:
        client: The boto3 client.
        request: The request.
    """
    search = [each for each in (request.get("retrievalConfiguration") or {}).values() if isinstance(each, dict)]
    return _known(
        {
            **_of_client(client, "retrieval"),
            DATA_SOURCE: request.get("knowledgeBaseId"),
            "gen_ai.retrieval.top_k": next((_count(each.get("numberOfResults")) for each in search), None),
            "aws.bedrock.operation": "Retrieve",
        }
    )


def of_generation(client: Any, request: Mapping[str, Any], resolved: ResolvedTarget, *, stream: bool) -> dict[str, Any]:
    """Return the attributes of a RetrieveAndGenerate that are known before it is sent; see `of_request`.

    The conventions have no operation for it: a model's answer in a conversation is a ``chat``, and the knowledge base
    its data source.
    """
    configuration = request.get("retrieveAndGenerateConfiguration") or {}
    inner = next((each for each in configuration.values() if isinstance(each, dict)), {})
    generation = inner.get("generationConfiguration") or {}
    return _known(
        {
            **_of_client(client, "chat"),
            REQUEST_MODEL: resolved.target.model_id,
            DATA_SOURCE: inner.get("knowledgeBaseId"),
            "gen_ai.conversation.id": request.get("sessionId"),
            "gen_ai.request.stream": stream or None,
            "aws.bedrock.guardrail.id": (generation.get("guardrailConfiguration") or {}).get("guardrailId"),
            "aws.bedrock.operation": "RetrieveAndGenerateStream" if stream else "RetrieveAndGenerate",
            TARGET_KIND: resolved.target.kind.value,
            "aws.bedrock.latency.requested": (generation.get("performanceConfig") or {}).get("latency"),
        }
    )


def _of_client(client: Any, operation: str) -> dict[str, Any]:
    meta = getattr(client, "meta", None)
    return {
        OPERATION: operation,
        "gen_ai.provider.name": "aws.bedrock",
        **_server(getattr(meta, "endpoint_url", None)),
        "cloud.region": getattr(meta, "region_name", None),
    }


def of_answer(routing: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes that a call's ``"routing"`` entry tells; what is not known is not there."""
    first_token_ms = routing["time_to_first_token_ms"]
    return _known(
        {
            "gen_ai.response.time_to_first_chunk": None if first_token_ms is None else first_token_ms / 1000,
            **of_outer(routing, ()),
        }
    )


def of_outer(routing: Mapping[str, Any], said: Collection[str]) -> dict[str, Any]:
    """What somebody else's span of a call may lack.

    Args:
        routing: The call's ``"routing"`` entry.
        said: The names of the attributes that their span has. One that does not count tokens by the conventions' names
            counts them by its own: it gets those of caches only.
    """
    usage = _usage(routing["usage"])
    counts_otherwise = said and not any(name.startswith("gen_ai.") for name in said)
    return _known(
        {
            RESPONSE_MODEL: routing["invoked_model"],
            **{name: value for name, value in usage.items() if ".cache_" in name or not counts_otherwise},
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
    """What is told of an error: its kind. Messages can quote the prompt, or a URL with a password."""
    response = getattr(error, "response", None)
    http = (response.get("ResponseMetadata") or {}) if isinstance(response, dict) else {}
    return _known({ERROR_TYPE: error_kind(error), REQUEST_ID: http.get("RequestId")})


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
    except ValueError:  # no URL; boto3 will say so
        return {}
    # "Conditionally required if server.address is set": the default port too.
    return {"server.address": host, "server.port": port or (80 if parts.scheme == "http" else 443)} if host else {}


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None  # anything else may be text of the prompt, in the wrong place


def _double(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _known(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}
