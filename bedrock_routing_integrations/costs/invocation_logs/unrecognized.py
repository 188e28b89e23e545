"""Name the logs in a file that is not a log of model invocations.

A report of the wrong logs should name them. Records are recognized by their members and lines by their form, as AWS
documents them (read 2026-12).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .json_records import OtherRecords

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NEEDED_FIELDS", "STATISTICS", "is_query_row", "name_of_line", "name_of_record"]

NEEDED_FIELDS = (
    "@message; or modelId, @timestamp, operation, requestId, input.inputTokenCount, output.outputTokenCount and the "
    "keys of requestMetadata"
)
_NOTICES = OtherRecords("notices of the logging service")
_QUERY_ROWS = OtherRecords(
    "rows of a query that leave out the model or the time", f"give the query these fields: {NEEDED_FIELDS}"
)
STATISTICS = OtherRecords(
    "rows of a query that sums calls up (stats)", f"query the calls themselves, with the fields {NEEDED_FIELDS}"
)
_SHOWN_KEYS = 4
# The members of a log event in subscriptions, FilterLogEvents and GetLogEvents.
_EVENT = frozenset({"id", "eventId", "timestamp", "message", "logStreamName", "logGroup", "ingestionTime", "ptr"})

# Members → the kind of record that has all of them. The first match wins.
_BY_MEMBERS: tuple[tuple[frozenset[str], OtherRecords], ...] = tuple(
    (frozenset(members.split()), OtherRecords(kind, advice))
    for members, kind, advice in (
        ("eventVersion eventSource eventName", "CloudTrail records", "they name calls and callers, and no tokens"),
        ("EventId CloudTrailEvent", "CloudTrail records", "they name calls and callers, and no tokens"),
        ("digestS3Bucket digestS3Object", "CloudTrail digest files", ""),
        ("messageType logEvents", "notices of the logging service", ""),
        ("recordId modelInput", "records of a batch inference job", "its calls are in no invocation log"),
        ("recordId modelOutput", "records of a batch inference job", "its calls are in no invocation log"),
        ("totalRecordCount processedRecordCount", "manifests of a batch inference job", ""),
        ("requested_model_id target_kind", '"routing" entries', "RoutingReport().add(entry) counts them"),
        ("totals targets models", "reports of this command", ""),
        ("output stopReason usage", "answers of Converse", "they do not name the model that was called"),
        ("messages inferenceConfig", "requests of Converse", ""),
        ("event event_type event_version", "ingestion logs of a knowledge base", ""),
        ("detail-type detail", "EventBridge events", ""),
        ("webaclId httpRequest", "AWS WAF logs", ""),
        ("query_name srcaddr", "Route 53 Resolver query logs", ""),
        ("resourceSpans", "OpenTelemetry traces", ""),
        ("resourceLogs", "OpenTelemetry logs", ""),
        ("resourceMetrics", "OpenTelemetry metrics", ""),
        ("_aws", "CloudWatch metrics in embedded metric format", ""),
        ("queryId", "answers of start-query", "get-query-results gives the rows"),
        ("time type record", "Lambda function logs", ""),
    )
)  # fmt: skip
_BY_FORM = tuple(
    (re.compile(pattern), kind)
    for pattern, kind in (
        (rb"[2-9] (?:\d{12}|unknown|-) (?:eni-\w+|-) ", "VPC flow logs"),
        (rb"(?=.*\bsrcaddr\b)(?=.*\bdstaddr\b)[a-z -]+$", "VPC flow logs"),
        (rb"[0-9a-f]{64} \S+ \[\d\d/[A-Z][a-z]{2}/\d{4}:", "S3 access logs"),
        (rb"(?:https?|h2|grpcs|wss?|tls) \d{4}-\d\d-\d\dT\S+ (?:app|net)/", "load balancer access logs"),
        (rb"#(?:Version: 1\.0|Fields: )", "CloudFront access logs"),
        (rb"\S+ \S+ \S+ \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:", "access logs of a web server"),
        (rb"(?:INIT_START Runtime|(?:START|END|REPORT) RequestId:) ?", "Lambda function logs"),
        (rb"(?i)<(?:!doctype html|html)\b", "lines of HTML"),
        (rb"<\?xml ", "lines of XML"),
    )
)
_PREFIXES = (re.compile(rb"\d{4}-\d\d-\d\dT\S+ "), re.compile(rb"\d{4}-\d\d-\d\dT\S+ \S+ "))
# Written once, when logging is configured (seen 2026-09).
_NOTICE = re.compile(rb"Permissions are correctly set|.{0,80}Permissions are correctly set for Amazon Bedrock logs\.$")


def name_of_line(text: bytes) -> OtherRecords | None:
    """Return the name of the logs that a line of text comes from, such as VPC flow logs; None if it is not known."""
    if _NOTICE.match(text):
        return _NOTICES
    # `aws logs tail` prefixes the time, or the time and the stream's name.
    forms = (text, *(text[prefix.end() :] for pattern in _PREFIXES if (prefix := pattern.match(text))))
    kinds = (kind for form in forms for pattern, kind in _BY_FORM if pattern.match(form))
    return next((OtherRecords(kind) for kind in kinds), None)


def name_of_record(record: Any) -> OtherRecords:
    """Return the name of the records that a JSON value, which is not a record of an invocation, belongs to."""
    if not isinstance(record, dict):
        return OtherRecords("JSON values that are not objects")
    names = record.keys()
    known = next((other for members, other in _BY_MEMBERS if members <= names), None)
    if isinstance(record.get("schemaType"), str):
        known = OtherRecords(f"records of type {record['schemaType']:.60}")
    elif record.get("eventSource") == "aws:s3":
        known = OtherRecords("S3 event notifications")
    elif known is None and any("(" in str(name) for name in names):
        known = STATISTICS
    elif known is None and is_query_row(record):
        known = _of_message(record.get("@message")) or _QUERY_ROWS
    elif known is None and names <= _EVENT:
        known = _of_message(record.get("message"))
    if known is not None:
        return known
    shown = ", ".join(sorted(map(str, names))[:_SHOWN_KEYS])
    return OtherRecords(f"JSON objects of another kind ({shown:.80}{', …' if len(names) > _SHOWN_KEYS else ''})")


def _of_message(message: Any) -> OtherRecords | None:
    """Return the name of a CloudWatch Logs message that is not a JSON object; None if there is none."""
    if not isinstance(message, str):
        return None
    return name_of_line(message.strip().encode(errors="replace")) or OtherRecords("log events that hold no JSON object")


def is_query_row(record: Mapping[str, Any]) -> bool:
    """Return whether an object is a row of CloudWatch Logs Insights, with fields such as ``input.x``."""
    return any(name[:1] == "@" or "." in name for name in record if isinstance(name, str))
