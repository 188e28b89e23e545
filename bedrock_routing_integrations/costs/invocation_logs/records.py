"""Read one record of Bedrock's model-invocation log.

The shape is that of the user guide (``model-invocation-logging``) and of published records (seen 2026-11): caller and
model at the top, token counts in ``input`` and ``output``, request and response in ``inputBodyJson`` and
``outputBodyJson`` if they are short. ``inputTokenCount`` excludes cached tokens, as Converse's ``usage`` does. A
response of ConverseStream is logged like one of Converse; a response of InvokeModelWithResponseStream is a list of its
chunks. A member with an unexpected type is treated as missing.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from .formats import WRAPPERS, Malformed, OtherRecords, empty, is_query_row, name_of_record, parsed, record_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


GUARDRAIL = "guardrail_intervened"
_LONGEST = 100
_NAMES = ("stopReason", "stop_reason", "finish_reason", "finishReason", "completionReason")
# The position of the reason: in the body itself, in a part of it, or in the first item of a list.
_PARTS = ("delta", "messageStop", "message")
_LISTS = ("choices", "outputs", "results", "generations", "completions")
# Llama, Mistral, OpenAI, Titan, Cohere and AI21 → Converse.
_CONVERSE = {
    "stop": "end_turn",
    "finish": "end_turn",
    "finished": "end_turn",
    "complete": "end_turn",
    "endoftext": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "tool_call": "tool_use",
    "content_filter": "content_filtered",
    "refusal": "content_filtered",
    "error_toxic": "content_filtered",
    "stop_criteria_met": "stop_sequence",
    "model_context_window_exceeded": "model_context_window_exceeded",
}


def stop_reason_of(chunks: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the stop reason, with Converse's name; None if the log does not have it.

    Args:
        chunks: The body of the response; for a stream all of its chunks in order.
    """
    if any(chunk.get("amazon-bedrock-guardrailAction") == "INTERVENED" for chunk in chunks):
        return GUARDRAIL  # InvokeModel's own reason is then the model's, or none
    return next((reason for chunk in reversed(chunks) if (reason := _reason_in(chunk))), None)


def _reason_in(chunk: Mapping[str, Any]) -> str | None:
    parts: list[Any] = [chunk, *(chunk.get(name) for name in _PARTS)]
    parts += [items[0] for name in _LISTS if isinstance(items := chunk.get(name), list) and items]
    for part in parts:
        for name in _NAMES if isinstance(part, dict) else ():
            reason = part.get(name)
            reason = reason.get("reason") if isinstance(reason, dict) else reason  # AI21's completions
            if isinstance(reason, str) and 0 < len(reason) <= _LONGEST:
                return _CONVERSE.get(reason.lower(), reason.lower())
    return None


SCHEMA = "ModelInvocationLog"
UNKNOWN = "unknown"
"""The requested value, if the log only shows the served one and that there was a request."""
_LONGEST_MODEL_ID = 2048  # characters: Converse's own limit
# Members of a request that are read.
_IN_REQUEST = (b'"performanceConfig"', b'"serviceTier"', b'"service_tier"', b'"cachePoint"', b'"cache_control"')
_LONGEST_NAME = 256  # characters: the limit of requestMetadata's keys and values
_MOST_TOKENS = 10**12
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_FRACTION = re.compile(r"(?:\.\d+)?Z")
_DIGITS_OF_MS = 12  # milliseconds since 1973, and no year
_METRICS = "amazon-bedrock-invocationMetrics"
# The names of counts: in the usage of Converse, Nova and Claude, in Llama's response, and in the metrics that
# InvokeModel's stream adds to its last chunk.
_COUNTS = {
    "inputTokens": ("inputTokens", "input_tokens", "prompt_tokens", "prompt_token_count", "inputTokenCount"),
    "outputTokens": ("outputTokens", "output_tokens", "completion_tokens", "generation_token_count",
                     "outputTokenCount"),
    "cacheReadInputTokens": ("cacheReadInputTokens", "cacheReadInputTokenCount", "cache_read_input_tokens"),
    "cacheWriteInputTokens": ("cacheWriteInputTokens", "cacheWriteInputTokenCount", "cache_creation_input_tokens"),
}  # fmt: skip
# The names of tiers in InvokeModel's bodies of Claude and OpenAI models → Converse's names.
_TIERS = {"standard": "default", "standard_only": "default", "auto": None}


@dataclass(frozen=True)
class LoggedCall:
    """The facts of one call that a record holds.

    Attributes:
        model_id: The id or ARN of the target; None if a refused call names none.
        when: The time, in UTC.
        request_id: AWS's id of the request.
        error: The error code of a call that failed.
        request: The part of the request that `read_invocation` reads.
        response: The part of the response that it reads.
        first_token_ms: Milliseconds to the first bytes of a stream, as InvokeModel reports them.
        metadata: ``requestMetadata``.
        facts: Facts of the record: ``identity``, ``region``, ``inference_region``, ``account``, ``operation``, ``day``.
        guessed_ttl: Whether tokens were written to the cache with an unknown lifetime.
        without_bodies: Whether request and response are missing, so that latency and tier are not known.
    """

    model_id: str | None
    when: datetime
    request_id: str | None = None
    error: str | None = None
    request: dict[str, Any] = field(default_factory=dict)
    response: dict[str, Any] = field(default_factory=dict)
    first_token_ms: int | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    guessed_ttl: bool = False
    without_bodies: bool = False


def unwrapped(value: Any, sent_ms: Any = None, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    """Yield the records in a JSON value, out of lists and CloudWatch's wrappers.

    Args:
        value: The JSON value.
        sent_ms: Milliseconds since 1970 of an outer wrapper.
        depth: The number of outer wrappers.

    Yields:
        A record (or another value, or a `Malformed`), and the milliseconds since 1970 that CloudWatch states.
    """
    inside = _inside(value) if depth < 5 else None
    if inside is None:
        yield value, sent_ms
        return
    if isinstance(value, dict):
        sent_ms = value.get("timestamp", value.get("@timestamp", sent_ms))
    for each in inside:
        yield from unwrapped(each, sent_ms, depth + 1)


def _inside(value: Any) -> list[Any] | None:
    """Return the content of a wrapper; None if the value is not one."""
    if isinstance(value, list):
        fields = [cell for cell in value if isinstance(cell, dict) and "field" in cell and "value" in cell]
        if fields:  # a row of CloudWatch Logs Insights
            return [{str(cell["field"]): cell["value"] for cell in fields}]
        return value
    if not isinstance(value, dict):
        return None
    message = value.get("@message")
    if message is None and "modelId" not in value and "schemaType" not in value:
        for name in WRAPPERS:
            if isinstance(value.get(name), list):
                return value[name] or [empty(name)]
        message = value.get("message")
    if isinstance(message, str) and message.lstrip()[:1] == "{":
        return [parsed(message)]
    return [message] if isinstance(message, dict) else None


def read_record(record: Any, sent_ms: Any, body: Callable[..., Any]) -> LoggedCall | Malformed | OtherRecords:
    """Return the call of a record, or an `OtherRecords` that names a record of another kind.

    Args:
        record: Any JSON value; a `Malformed` or an `OtherRecords` is returned unchanged.
        sent_ms: Milliseconds since 1970, for a record without a time.
        body: Return a request or a response that is not in the record, by its S3 URI; see `read_body`.
    """
    if isinstance(record, (Malformed, OtherRecords)):
        return record
    if not isinstance(record, dict) or record.get("schemaType", SCHEMA) != SCHEMA:
        return name_of_record(record)
    if is_query_row(record):
        row, sent_ms = record_of(record), record.get("@timestamp", sent_ms)
        # A row without them cannot be counted: the query must select them.
        has_time = (_time(row.get("timestamp")) or _time(sent_ms)) is not None
        is_call = has_time and ("modelId" in row or "errorCode" in row)
    else:
        row, is_call = record, "schemaType" in record or {"modelId", "operation"} <= record.keys()
    return _call(row, sent_ms, body) if is_call else name_of_record(record)


def _call(record: Mapping[str, Any], sent_ms: Any, body: Callable[..., Any]) -> LoggedCall | Malformed:
    error = _text(record.get("errorCode"))
    model_id = record.get("modelId")
    if not isinstance(model_id, str) or not 0 < len(model_id) <= _LONGEST_MODEL_ID:
        if error is None:
            return Malformed("the record has no modelId")
        model_id = None
    when = _time(record.get("timestamp")) or _time(sent_ms)
    if when is None:
        return Malformed("the record has no timestamp that can be read")
    request = _request(_dict(record.get("input")), body)
    answer, stop_reason = _answer(_dict(record.get("output")), body)
    usage, guessed = _usage(record, answer, request)
    asked, served = _modes(record, request, answer)
    streamed = _dict(answer.get(_METRICS))
    latency_ms = _count(_dict(answer.get("metrics")).get("latencyMs"))
    return LoggedCall(
        model_id=model_id,
        when=when,
        request_id=_text(record.get("requestId")),
        error=error,
        request=asked,
        response={
            **served,
            "usage": usage,
            "metrics": {
                "latencyMs": latency_ms if latency_ms is not None else _count(streamed.get("invocationLatency"))
            },
            "trace": {"promptRouter": {"invokedModelId": _invoked(answer)}},
            "stopReason": stop_reason,
        },
        first_token_ms=_count(streamed.get("firstByteLatency")),
        metadata=_metadata(record.get("requestMetadata")),
        facts={**_facts(record), "day": when.date().isoformat()},
        guessed_ttl=guessed,
        without_bodies=not request and not answer and "performanceConfig" not in record,
    )


def _request(logged: Mapping[str, Any], body: Callable[..., Any]) -> dict[str, Any]:
    """Return the request, as far as it is logged."""
    request = _body(logged.get("inputBodyJson"))
    if request is None and isinstance(logged.get("inputBodyS3Path"), str):
        request = body(logged["inputBodyS3Path"], _IN_REQUEST)
    return _dict(request)


def _answer(logged: Mapping[str, Any], body: Callable[..., Any]) -> tuple[dict[str, Any], str | None]:
    """Return the response and its stop reason.

    For a response in chunks, the first and the last ones are merged: they hold everything that is needed here.
    """
    answer = _body(logged.get("outputBodyJson"))
    if answer is None and isinstance(logged.get("outputBodyS3Path"), str):
        answer = body(logged["outputBodyS3Path"])
    chunks = [chunk for chunk in (answer if isinstance(answer, list) else [answer]) if isinstance(chunk, dict)]
    return _merged(answer) if isinstance(answer, list) else _dict(answer), stop_reason_of(chunks)


def _merged(answer: list[Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for chunk in answer if len(answer) <= 8 else (*answer[:2], *answer[-6:]):
        if isinstance(chunk, dict):
            for part in (_dict(chunk.get("message")), chunk, _dict(chunk.get("metadata"))):
                usage = {**_dict(merged.get("usage")), **_dict(part.get("usage"))}
                merged.update(part)
                merged["usage"] = usage
    return merged


def _body(value: Any) -> Any:
    """Return a body; some tools write it as a string of JSON."""
    return parsed(value) if isinstance(value, str) and value[:1] in ("{", "[") else value


def _usage(
    record: Mapping[str, Any], answer: Mapping[str, Any], request: Mapping[str, Any]
) -> tuple[dict[str, Any] | None, bool]:
    """Return the tokens in Converse's form (None if there are none), and whether a lifetime had to be guessed.

    Converse's own usage is taken whole. For InvokeModel the record's counts come first, because its responses differ
    from model to model.
    """
    counted_in, counted_out = _dict(record.get("input")), _dict(record.get("output"))
    usage = _dict(answer.get("usage"))
    everywhere = {**answer, **_dict(answer.get(_METRICS)), **usage}
    told = {name: _first(everywhere, names) for name, names in _COUNTS.items()}
    if _count(usage.get("inputTokens")) is None or told["outputTokens"] is None:
        counts = {
            "inputTokens": _count(counted_in.get("inputTokenCount")),
            "outputTokens": _count(counted_out.get("outputTokenCount")),
            "cacheReadInputTokens": _count(counted_in.get("cacheReadInputTokenCount")),
            "cacheWriteInputTokens": _count(counted_in.get("cacheWriteInputTokenCount")),
        }
        told.update({name: count for name, count in counts.items() if count is not None})
    if told["inputTokens"] is None and told["outputTokens"] is None:
        return None, False
    written = told["cacheWriteInputTokens"]
    if not written:
        return told, False
    details = _details(usage)
    ttls = _ttls(request) if not details else set()
    if ttls == {"1h"}:
        details = [{"ttl": "1h", "inputTokens": written}]
    return {**told, "cacheDetails": details}, not details and ttls != {"5m"}


def _details(usage: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the tokens written to the cache by lifetime, in Converse's form, also from Claude's ``cache_creation``."""
    given = usage.get("cacheDetails")
    by_ttl = {f"ephemeral_{_text(each.get('ttl'))}_input_tokens": each.get("inputTokens")
              for each in (given if isinstance(given, list) else ()) if isinstance(each, dict)}  # fmt: skip
    by_ttl = by_ttl or _dict(usage.get("cache_creation"))
    counts = {ttl: _count(by_ttl.get(f"ephemeral_{ttl}_input_tokens")) or 0 for ttl in ("1h", "5m")}
    return [{"ttl": ttl, "inputTokens": count} for ttl, count in counts.items()] if any(counts.values()) else []


def _ttls(request: Mapping[str, Any]) -> set[str]:
    """Return the lifetimes that the cache points of a request ask for, in Converse's form or Claude's."""
    found = set()
    lists = [request.get("system"), request.get("tools"), _dict(request.get("toolConfig")).get("tools")]
    messages = request.get("messages")
    lists += [_dict(message).get("content") for message in (messages if isinstance(messages, list) else ())]
    for blocks in lists:
        for block in blocks if isinstance(blocks, list) else ():
            point = _dict(block).get("cachePoint", _dict(block).get("cache_control"))
            if isinstance(point, dict):
                found.add(_text(point.get("ttl")) or "5m")
    return found


def _modes(
    record: Mapping[str, Any], request: Mapping[str, Any], answer: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the requested and served latency and tier.

    The value at the top of a record (in capitals: ``OPTIMIZED``) is the served one, and it is only present if the
    request had one (published records of 2024). A served value other than the standard one was requested. The standard
    one is served on request, and also to requests over quota: if the request is missing, the requested value is
    `UNKNOWN`. InvokeModel's bodies state a tier even without a request for one.
    """
    asked: dict[str, Any] = {}
    served: dict[str, Any] = {}
    for name, key, standard in (("performanceConfig", "latency", "standard"), ("serviceTier", "type", "default")):
        mode = _mode(answer.get(name), key) or _mode(record.get(name), key)
        wanted = _mode(request.get(name), key) or (mode and (mode if mode != standard else UNKNOWN))
        if name == "serviceTier":
            mode = mode or _tier(answer) or _tier(_dict(answer.get("usage")))
            asked_tier = _tier(request)
            wanted = asked_tier if asked_tier and wanted in (None, UNKNOWN) else wanted
        served[name] = {key: mode}
        asked[name] = {key: wanted or (mode if mode != standard else None)}
    return asked, served


def _tier(body: Mapping[str, Any]) -> str | None:
    """Return the tier in a body of InvokeModel."""
    tier = _mode(body.get("service_tier"), "type")
    return _TIERS.get(tier, tier) if tier else None


def _mode(value: Any, key: str) -> str | None:
    text = _text(value.get(key) if isinstance(value, dict) else value)
    return text.lower() if text else None


def _invoked(answer: Mapping[str, Any]) -> str | None:
    return _text(_dict(_dict(answer.get("trace")).get("promptRouter")).get("invokedModelId"), _LONGEST_MODEL_ID)


def _metadata(value: Any) -> dict[str, str]:
    pairs = ((_text(name), _text(each)) for name, each in _dict(value).items())
    return {name: each for name, each in pairs if name and each}


def _facts(record: Mapping[str, Any]) -> dict[str, str]:
    identity = _text(_dict(record.get("identity")).get("arn"), _LONGEST_MODEL_ID)
    region = _text(record.get("region"))
    facts = {
        "identity": identity,
        "region": region,
        # Only logged if it is another Region (user guide, cross-Region inference).
        "inference_region": _text(record.get("inferenceRegion")) or region,
        "account": _text(record.get("accountId")),
        "operation": _text(record.get("operation")),
    }
    return {name: value for name, value in facts.items() if value}


# Values of any type


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any, longest: int = _LONGEST_NAME) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= longest else None


def _count(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _MOST_TOKENS:
        return None
    return int(value)


def _first(usage: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    return next((count for name in names if (count := _count(usage.get(name))) is not None), None)


def _time(value: Any) -> datetime | None:
    """Return a time of ISO 8601 (UTC by default), or of milliseconds since 1970."""
    try:
        if isinstance(value, str):
            # Python 3.10 does not parse Z, and fractions only as milliseconds or microseconds.
            if value.isascii() and value.isdigit() and len(value) >= _DIGITS_OF_MS:
                return _time(int(value))  # CSV has no numbers
            when = datetime.fromisoformat(_FRACTION.sub("", value) if value[-1:] == "Z" else value)
            return when.replace(tzinfo=timezone.utc) if when.tzinfo is None else when.astimezone(timezone.utc)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            return _EPOCH + timedelta(milliseconds=value)
    except (ValueError, OverflowError):
        pass
    return None
