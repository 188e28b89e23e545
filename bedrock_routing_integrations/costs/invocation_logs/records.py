"""A record of Bedrock's model-invocation log → what a report counts.

The shape is that of the user guide (``model-invocation-logging``) and of records that others have published (seen
2026-11): who called what at the top, token counts in ``input`` and ``output``, the request and the answer in
``inputBodyJson`` and ``outputBodyJson`` as long as they are short. ``inputTokenCount`` leaves out cached tokens, as
Converse's ``usage`` does. An answer that was streamed by Converse is logged like one that was not; one that was
streamed by InvokeModel is a list of its chunks. Whatever is not as it should be is taken for not told.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from .cloudwatch_exports import record_of
from .json_records import WRAPPERS, Malformed, OtherRecords, empty, parsed
from .unrecognized import is_query_row, name_of_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


# --- Find why an answer ended ---

GUARDRAIL = "guardrail_intervened"
_LONGEST = 100
_NAMES = ("stopReason", "stop_reason", "finish_reason", "finishReason", "completionReason")
# Where the reason stands: in the body itself, in a part of it, or in the first of a list.
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
    """Return why an answer ended, in Converse's words; None where the log does not have it.

    Args:
        chunks: The body of the answer; of a stream, all of its chunks in order.
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
"""What was asked for, where the log tells only that something was asked for, and what was served."""
_LONGEST_MODEL_ID = 2048  # characters: Converse's own limit
# What makes the body of a request interesting.
_IN_REQUEST = (b'"performanceConfig"', b'"serviceTier"', b'"service_tier"', b'"cachePoint"', b'"cache_control"')
_LONGEST_NAME = 256  # characters: the limit of requestMetadata's keys and values
_MOST_TOKENS = 10**12
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_FRACTION = re.compile(r"(?:\.\d+)?Z")
_DIGITS_OF_MS = 12  # milliseconds since 1973, and no year
_METRICS = "amazon-bedrock-invocationMetrics"
# Where a count stands: in Converse's usage, in Nova's, in Claude's, in Llama's answer, and in what InvokeModel's stream
# adds to its last chunk.
_COUNTS = {
    "inputTokens": ("inputTokens", "input_tokens", "prompt_tokens", "prompt_token_count", "inputTokenCount"),
    "outputTokens": ("outputTokens", "output_tokens", "completion_tokens", "generation_token_count",
                     "outputTokenCount"),
    "cacheReadInputTokens": ("cacheReadInputTokens", "cacheReadInputTokenCount", "cache_read_input_tokens"),
    "cacheWriteInputTokens": ("cacheWriteInputTokens", "cacheWriteInputTokenCount", "cache_creation_input_tokens"),
}  # fmt: skip
# What Claude and OpenAI's models call a tier, in the body of InvokeModel: Converse's name for it.
_TIERS = {"standard": "default", "standard_only": "default", "auto": None}


@dataclass(frozen=True)
class LoggedCall:
    """What a record says of one call.

    Attributes:
        model_id: What was called; None where a refused call names nothing.
        when: When, in UTC.
        request_id: AWS's id of the request.
        error: The error's code, where the call failed.
        request: The part of the request that `read_invocation` reads.
        response: The part of the answer that it reads.
        first_token_ms: Milliseconds until the first bytes of a stream, as InvokeModel reports them.
        metadata: ``requestMetadata``.
        facts: Of the record itself: ``identity``, ``region``, ``inference_region``, ``account``, ``operation``,
            ``day``.
        guessed_ttl: Whether tokens were written to a cache, and nothing tells for how long.
        without_bodies: Whether neither request nor answer is there, so that nothing tells of latency and tier.
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
    """The records in a JSON value, out of lists and of what CloudWatch wraps around them.

    Yields:
        A record (or what else is there, or a `Malformed`), and the milliseconds since 1970 that CloudWatch gives.
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
    """What is wrapped in a value; None where it is no wrapper."""
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
    """Read what a record says; an `OtherRecords` that names it where it is not one of an invocation.

    Args:
        record: Any JSON value; or a `Malformed` or an `OtherRecords`, which is given back.
        sent_ms: Milliseconds since 1970, for a record without a time of its own.
        body: Finds a request or an answer that is not in the record, by its URI in S3; see `read_body`.
    """
    if isinstance(record, (Malformed, OtherRecords)):
        return record
    if not isinstance(record, dict) or record.get("schemaType", SCHEMA) != SCHEMA:
        return name_of_record(record)
    if is_query_row(record):
        row, sent_ms = record_of(record), record.get("@timestamp", sent_ms)
        # A row without them cannot be counted: the query has to give them.
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
    """The request, as far as it is there."""
    request = _body(logged.get("inputBodyJson"))
    if request is None and isinstance(logged.get("inputBodyS3Path"), str):
        request = body(logged["inputBodyS3Path"], _IN_REQUEST)
    return _dict(request)


def _answer(logged: Mapping[str, Any], body: Callable[..., Any]) -> tuple[dict[str, Any], str | None]:
    """Return the answer, and why it ended.

    Of an answer in chunks, the first and the last ones are merged: they have all that is read here.
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
    """A body; some tools write it as a text of JSON."""
    return parsed(value) if isinstance(value, str) and value[:1] in ("{", "[") else value


def _usage(
    record: Mapping[str, Any], answer: Mapping[str, Any], request: Mapping[str, Any]
) -> tuple[dict[str, Any] | None, bool]:
    """The tokens as Converse reports them, None where none are told; and whether a ttl had to be guessed.

    Converse's own usage is taken as a whole. Elsewhere the record's counts come first: what InvokeModel answers
    differs from model to model.
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
    """The tokens written to the cache by ttl, in Converse's form, also from Claude's own ``cache_creation``."""
    given = usage.get("cacheDetails")
    by_ttl = {f"ephemeral_{_text(each.get('ttl'))}_input_tokens": each.get("inputTokens")
              for each in (given if isinstance(given, list) else ()) if isinstance(each, dict)}  # fmt: skip
    by_ttl = by_ttl or _dict(usage.get("cache_creation"))
    counts = {ttl: _count(by_ttl.get(f"ephemeral_{ttl}_input_tokens")) or 0 for ttl in ("1h", "5m")}
    return [{"ttl": ttl, "inputTokens": count} for ttl, count in counts.items()] if any(counts.values()) else []


def _ttls(request: Mapping[str, Any]) -> set[str]:
    """The lifetimes that a request asks for with its cache points, Converse's or Claude's."""
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
    """The latency and tier that were asked for and served.

    What stands at the top of a record (in capitals: ``OPTIMIZED``) is what was served, and it is there only where
    something was asked for (records of 2024 that others have published). What is served and is not the standard was
    asked for. Standard is served to who asks for it, and to who asks for more than the quota allows: where the request
    is not there, what was asked for is `UNKNOWN`. The bodies of InvokeModel tell a tier unasked.
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
    """The tier that a body of InvokeModel names."""
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
        # Only told where it is another one (user guide, cross-Region inference).
        "inference_region": _text(record.get("inferenceRegion")) or region,
        "account": _text(record.get("accountId")),
        "operation": _text(record.get("operation")),
    }
    return {name: value for name, value in facts.items() if value}


# --- values that may be anything


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
    """ISO 8601, in UTC where it does not say otherwise; or milliseconds since 1970."""
    try:
        if isinstance(value, str):
            # Python 3.10 knows no Z, and of fractions only milliseconds and microseconds.
            if value.isascii() and value.isdigit() and len(value) >= _DIGITS_OF_MS:
                return _time(int(value))  # CSV has no numbers
            when = datetime.fromisoformat(_FRACTION.sub("", value) if value[-1:] == "Z" else value)
            return when.replace(tzinfo=timezone.utc) if when.tzinfo is None else when.astimezone(timezone.utc)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            return _EPOCH + timedelta(milliseconds=value)
    except (ValueError, OverflowError):
        pass
    return None
