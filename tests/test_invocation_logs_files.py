"""Test the forms of invocation logs: JSON lines, gzip, folders, exports of CloudWatch Logs, broken files."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from invocation_logs import HAIKU_PROFILE, ROUTER, SONNET_45, converse, lines, record

from bedrock_routing_integrations.costs.invocation_logs import files as log_lines
from bedrock_routing_integrations.costs.invocation_logs.formats import Table, header_of
from bedrock_routing_integrations.costs.invocation_logs.reading import read_history

NOTICE = "Permissions are correctly set for Amazon Bedrock logs."
CLOUD_TRAIL = {"eventVersion": "1.11", "eventSource": "bedrock.amazonaws.com", "eventName": "Converse"}


def event(message, number=1):
    """Return an event in the form of FilterLogEvents."""
    message = message if isinstance(message, str) else json.dumps(message)
    return {"logStreamName": "aws/bedrock/modelinvocations", "timestamp": 1794629557000 + number, "message": message,
            "ingestionTime": 1794629558000, "eventId": f"{number}"}  # fmt: skip


def subscription(*messages):
    """Return messages in the form of a CloudWatch Logs subscription."""
    return {"messageType": "DATA_MESSAGE", "owner": "123456789012", "logGroup": "bedrock", "logStream": "s",
            "subscriptionFilters": ["all"],
            "logEvents": [{"id": "1", "timestamp": 1794629557000, "message": json.dumps(m)} for m in messages],
    }  # fmt: skip


def insights_row(message):
    return [{"field": "@timestamp", "value": "2026-11-14 04:12:37.000"},
            {"field": "@message", "value": json.dumps(message)}, {"field": "@ptr", "value": "abc"}]  # fmt: skip


def csv_of(*rows, **form):
    """Return rows as Python writes CSV: by RFC 4180, lines end with CR and LF."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], **form)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def tailed(message, form="{} {}"):
    """Return a JSON message as `aws logs tail --format json` prints it (aws-cli 2, read 2026-12)."""
    return (
        form.format("2026-11-14T04:12:37+00:00", "aws/bedrock/modelinvocations")
        + f" \n{json.dumps(message, indent=4)}\n"
    )


@pytest.fixture
def read(tmp_path):
    """Return a function that reads a file with given content."""

    def read(content, name="log", **options):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_history([path], **options)

    return read


def counted(history):
    return history.calls, history.malformed, history.skipped


def three():
    return [converse(text='He said: "{[}" — 日本\n'), record(), record(requestMetadata={"a": "]}"})]


FORMS = {
    "lines": lambda records: lines(*records),
    "lines of Windows": lambda records: lines(*records).replace(b"\n", b"\r\n"),
    "no newline at the end": lambda records: lines(*records).rstrip(),
    "empty lines": lambda records: b"\n\n" + lines(*records).replace(b"\n", b"\n\n"),
    "byte order mark": lambda records: b"\xef\xbb\xbf" + lines(*records),
    "byte order mark before many lines": lambda records: b"\xef\xbb\xbf" + json.dumps(records, indent=1).encode(),
    "UTF-16": lambda records: lines(*records).decode().encode("utf-16"),
    "gzip": lambda records: gzip.compress(lines(*records)),
    "gzip of gzip": lambda records: gzip.compress(gzip.compress(lines(*records))),
    "several gzips": lambda records: b"".join(gzip.compress(lines(each)) for each in records),
    "array": json.dumps,
    "array on many lines": lambda records: json.dumps(records, indent=4),
    "array with a record on each line": lambda records: "[\n" + ",\n".join(map(json.dumps, records)) + "\n]\n",
    "array with brackets at the records": lambda records: "[" + ",\n".join(map(json.dumps, records)) + "]",
    "objects on many lines": lambda records: "\n".join(json.dumps(each, indent=2) for each in records),
    "objects without anything between": lambda records: "".join(map(json.dumps, records)),
    "subscription": lambda records: json.dumps(subscription(*records)),
    "subscriptions without anything between": lambda records: "".join(json.dumps(subscription(r)) for r in records),
    "FilterLogEvents": lambda records: json.dumps({"events": [*map(event, records)], "searchedLogStreams": []}),
    "FilterLogEvents on many lines": lambda records: json.dumps(
        {"searchedLogStreams": [{"a": [1]}], "events": [*map(event, records)], "more": [{"x": 1}]}, indent=4
    ),
    "events as lines": lambda records: lines(*map(event, records)),
    "tail": lambda records: "".join(
        f"2026-11-14T04:12:37.000000+00:00 aws/bedrock/modelinvocations {json.dumps(each)}\n" for each in records
    ),
    "export": lambda records: "".join(f"2026-11-14T04:12:37.000Z {json.dumps(each)}\n" for each in records),
    "Insights": lambda records: json.dumps({"results": [*map(insights_row, records)], "status": "Complete"}),
    "Insights on many lines": lambda records: json.dumps({"results": [*map(insights_row, records)]}, indent=4),
    "Insights from the console": lambda records: json.dumps([{"@timestamp": "x", "@message": r} for r in records]),
    "CSV of Insights": lambda records: csv_of(*({"@timestamp": "x", "@message": json.dumps(r)} for r in records)),
    "CSV with a byte order mark": lambda records: b"\xef\xbb\xbf"
    + csv_of(*({"@message": json.dumps(r), "@ptr": ""} for r in records)),
    "CSV with messages of many lines": lambda records: csv_of(
        *({"@timestamp": "x", "@message": json.dumps(r, indent=2)} for r in records)
    ),
    "CSV of unquoted messages": lambda records: b"@message\n" + lines(*records),
    "CSV of the events' view": lambda records: csv_of(
        *({"timestamp": "1794629557000", "message": json.dumps(r)} for r in records), quoting=csv.QUOTE_ALL
    ),
    "CSV with semicolons": lambda records: csv_of(
        *({"@timestamp": "x", "@message": json.dumps(r)} for r in records), delimiter=";"
    ),
    "CSV in gzip": lambda records: gzip.compress(csv_of(*({"@ptr": "x", "@message": json.dumps(r)} for r in records))),
    "CSV in UTF-16": lambda records: csv_of(*({"@ptr": "x", "@message": json.dumps(r)} for r in records))
    .decode()
    .encode("utf-16"),
    "CSV files put together": lambda records: b"".join(csv_of({"@ptr": "", "@message": json.dumps(r)}) for r in records
    ),
    "tail --format json": lambda records: "".join(map(tailed, records)),
    "tail --format json on Windows": lambda records: "".join(map(tailed, records)).replace("\n", "\r\n"),
    "tail --format json --color on": lambda records: "".join(
        tailed(each, "\x1b[32m{}\x1b[0m \x1b[36m{}\x1b[0m") for each in records
    ),
    "tail --format short": lambda records: "".join(f"2026-11-14T04:12:37 {json.dumps(each)}\n" for each in records),
    "time and many lines": lambda records: "".join(
        f"2026-11-14T04:12:37+00:00 {json.dumps(each, indent=4)}\n" for each in records
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_report(read, form):
    records = three()
    history = read(FORMS[form](records))
    assert counted(history) == (3, 0, 0), history.examples
    assert history.report.to_dict() == read(lines(*records), "lines").report.to_dict()


@pytest.mark.parametrize("form", ["subscription", "FilterLogEvents on many lines", "events as lines"])
def test_a_record_without_a_time_has_that_of_cloudwatch(read, form):
    history = read(FORMS[form]([record(timestamp=None)]))
    assert history.report.to_dict()["since"].startswith("2026-11-14T")


@pytest.mark.parametrize("form", ["lines", "subscription", "FilterLogEvents", "FilterLogEvents on many lines", "array"])
def test_records_of_other_kinds_are_skipped(read, form):
    assert counted(read(FORMS[form]([record(), CLOUD_TRAIL, record()]))) == (2, 0, 1)


def test_the_notices_of_the_services_are_skipped(read):
    control = {"messageType": "CONTROL_MESSAGE", "logEvents": [{"message": "CWL CONTROL MESSAGE: Checking health"}]}
    content = f"{NOTICE}\n2026-11-14T04:12:37.000Z {NOTICE}\n".encode() + lines(event(NOTICE), control, record())
    assert counted(read(content)) == (1, 0, 4)


BROKEN = {
    "no JSON": b"hello",
    "cut in a text": lines(record())[:-40],
    "cut between members": b'{"schemaType": "ModelInvocationLog", "input": {',
    "wrong inside": b'{"schemaType": tru}',
    "a bracket too many": b'{"a": 1}}',
    "other brackets": b'{"a": [1}',
    "only closed": b"]",
    "a number": b"12",
    "too deep": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a long number": b'{"a": ' + b"1" * 5000 + b"}",
    "binary": bytes(range(128, 256)).replace(b"\x0a", b""),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_broken_line_is_reported_and_costs_no_other(read, broken):
    history = read(lines(record()) + BROKEN[broken] + b"\n" + lines(record(), record()))
    if broken == "a long number" and sys.version_info < (3, 11):
        return  # without a limit it is read, and is another kind of record
    assert (history.calls, history.malformed) == (3, 1)
    assert history.examples[0].line == 2
    assert history.examples[0].reason


@pytest.mark.parametrize("broken", ["cut in a text", "cut between members"])
@pytest.mark.parametrize("form", ["lines", "events as lines", "subscriptions without anything between"])
def test_records_after_a_broken_line_are_read(read, broken, form):
    content = FORMS[form]([record(), record()])
    after = content if isinstance(content, bytes) else content.encode()
    assert counted(read(BROKEN[broken] + b"\n" + after)) == (2, 1, 0)


def test_line_cut_within_a_string_ends_at_its_newline(read):
    assert counted(read(BROKEN["cut in a text"] + b"\n" + lines(CLOUD_TRAIL, CLOUD_TRAIL))) == (0, 1, 2)


def test_broken_characters_in_an_answer_do_not_cost_the_record(read):
    assert counted(read(lines(converse(text="XYZ")).replace(b"XYZ", b"\xff\xfe"))) == (1, 0, 0)


def test_broken_record_in_a_multi_line_array_costs_no_other(read):
    content = json.dumps(three(), indent=1).replace('"outputTokenCount": 100', '"outputTokenCount": 1oo', 1)
    assert counted(read(content)) == (2, 1, 0)


def test_a_broken_message_of_cloudwatch_is_malformed(read):
    assert counted(read(lines(event('{"schemaType": "ModelInv'), event(record())))) == (1, 1, 0)


def test_only_the_first_examples_are_kept(read):
    history = read(b"x\n" * 100)
    assert (history.malformed, len(history.examples)) == (100, 3)
    assert str(history.examples[2]).endswith("log:3: it is no JSON: Expecting value at character 1")


@pytest.mark.parametrize("end", ["line", "object"])
def test_too_long_line_is_skipped_without_buffering_it(read, monkeypatch, end):
    monkeypatch.setattr(log_lines, "LONGEST_LINE", 100_000)
    long = lines(converse(text="x" * 300_000)) if end == "line" else b'{"a": [\n' + b'"xxxx",\n' * 40_000 + b"1]}\n"
    history = read(lines(record()) + long + lines(record()))
    assert history.calls == 2
    assert history.malformed == 1
    assert "100,000 bytes" in history.examples[0].reason


ON_ONE_LINE = {
    "nothing between": lambda records: "".join(map(json.dumps, records)),
    "an array": json.dumps,
    "CloudWatch's events": lambda records: json.dumps({"events": list(map(event, records)), "nextToken": "x"}),
    "batches of a subscription": lambda records: "".join(json.dumps(subscription(each)) for each in records),
}


@pytest.mark.sample(1)
@pytest.mark.parametrize("form", ON_ONE_LINE)
@given(
    st.lists(st.text(st.sampled_from('"\\{}[],: aü€\u2028'), max_size=60), min_size=9, max_size=12),
    st.integers(60, 200),
)
def test_a_line_of_any_length_may_hold_everything(form, texts, piece):
    records = [converse(text=text) for text in texts]
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_lines, "LONGEST_LINE", 5_000)
        patch.setattr(log_lines, "_PIECE", piece)
        log = Path(folder, "log")
        log.write_text(ON_ONE_LINE[form](records), encoding="utf-8")
        history = read_history([log])
    assert (history.calls, history.malformed) == (len(records), 0)


@pytest.mark.parametrize("form", ON_ONE_LINE)
@pytest.mark.parametrize("text", ['\\"' * 3_000, "{" * 9_000, "\\" * 9_001])
@pytest.mark.parametrize("piece", [65, 1_000, 3_001])
def test_too_long_record_costs_no_other_on_its_line(read, monkeypatch, form, text, piece):
    monkeypatch.setattr(log_lines, "LONGEST_LINE", 5_000)
    monkeypatch.setattr(log_lines, "_PIECE", piece)
    records = [converse(), converse(text=text), converse(), converse()]
    history = read(ON_ONE_LINE[form](records).encode())
    assert (history.calls, history.malformed) == (3, 1)
    assert history.examples[0].reason == "the object has more than 5,000 bytes"


# --- gzip


def test_a_gzip_that_is_cut_keeps_what_came_before(read):
    content = gzip.compress(lines(*(record() for _ in range(2000))))
    whole, cut = read(content), read(content[: len(content) // 2])
    assert whole.calls == 2000
    assert 500 < cut.calls < 1500
    assert (cut.malformed, cut.files) == (1, 1)
    assert "breaks off" in cut.examples[0].reason


@pytest.mark.sweep
def test_a_damaged_gzip_keeps_what_came_before(read):
    content = bytearray(gzip.compress(lines(*(record() for _ in range(2000)))))
    content[-8] ^= 0xFF  # the check sum
    assert (read(bytes(content)).calls, read(bytes(content)).malformed) == (2000, 1)
    content[len(content) // 2] ^= 0xFF
    history = read(bytes(content))
    assert history.calls > 0
    assert history.malformed >= 1
    assert counted(read(b"\x1f\x8b")) == (0, 1, 0)


# --- files and folders


def test_folders_are_read_however_deep_and_in_order(tmp_path):
    for number, name in enumerate(["b/02/log.json", "a/1.json.gz", "b/01/log.json", "c.json"]):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(lines(record())) if name.endswith("gz") else lines(record()) + b"x\n" * number)
    (tmp_path / ".hidden").write_bytes(b"x")
    (tmp_path / "amazon-bedrock-logs-permission-check").write_bytes(b"")
    names = [Path(each).relative_to(tmp_path).as_posix() for each in log_lines.log_files([tmp_path])]
    assert names == ["amazon-bedrock-logs-permission-check", "c.json", "a/1.json.gz", "b/01/log.json", "b/02/log.json"]
    history = read_history([tmp_path])
    assert (history.calls, history.files, history.malformed) == (4, 5, 5)


def test_file_named_together_with_its_folder_counts_once(tmp_path):
    path = tmp_path / "log.json"
    path.write_bytes(lines(record(), record()))
    history = read_history([tmp_path, path])
    assert (history.calls, history.duplicates) == (2, 2)


def test_file_that_cannot_be_opened_is_reported(tmp_path):
    (tmp_path / "log").write_bytes(lines(record()))
    history = read_history([tmp_path / "log", tmp_path / "none"])
    assert (history.calls, history.files, history.unreadable_files) == (1, 1, 1)
    assert history.unreadable == [(str(tmp_path / "none"), "No such file or directory")]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_file_without_permission_is_reported(tmp_path):
    (tmp_path / "log").write_bytes(lines(record()))
    (tmp_path / "log").chmod(0)
    assert read_history([tmp_path]).unreadable_files == 1


def test_standard_input(monkeypatch):
    class Stdin:
        buffer = io.BytesIO(gzip.compress(lines(record(), record())))

    monkeypatch.setattr(sys, "stdin", Stdin)
    assert read_history(["-"]).calls == 2


@pytest.mark.parametrize("form", ["lines", "gzip"])
def test_progress_adds_up_to_the_bytes_of_the_files(tmp_path, form):
    path = tmp_path / "log"
    path.write_bytes(FORMS[form]([record() for _ in range(1000)]))
    steps = []
    read_history([path, path], progress=steps.append)
    assert sum(steps) == 2 * path.stat().st_size


# --- bodies that are too long for the log


def in_s3(tmp_path, logged, which=("input", "output")):
    """Write a record whose bodies are too long for the log, with the bodies downloaded into the log's folder."""
    folder = tmp_path / "2026" / "11" / "14" / "04"
    (folder / "data").mkdir(parents=True)
    for part in which:
        body = logged[part].pop(f"{part}BodyJson")
        name = f"{logged['requestId']}_{part}.json.gz"
        (folder / "data" / name).write_bytes(gzip.compress(json.dumps(body).encode()))
        logged[part][f"{part}BodyS3Path"] = f"s3://bucket/AWSLogs/1/BedrockModelInvocationLogs/us-east-1/{name}"
    (folder / "20261114T041237Z_0.json.gz").write_bytes(gzip.compress(lines(logged)))
    return folder


def test_downloaded_bodies_are_read_but_not_as_logs(tmp_path):
    in_s3(tmp_path, converse(ROUTER, invoked=HAIKU_PROFILE, asked="optimized", served="standard"))
    history = read_history([tmp_path])
    assert (*counted(history), history.files) == (1, 0, 0, 1)
    target = history.report.to_dict()["targets"][0]
    assert target["cost_usd"] == 0.000375
    assert target["latency"] == {"optimized": {"standard": 1}}


def test_default_ttl_in_a_downloaded_request_is_not_a_guess(tmp_path):
    logged = converse(written=[("5m", 10)])
    logged["input"]["inputBodyJson"]["system"] = [{"text": "x"}, {"cachePoint": {"type": "default"}}]
    del logged["output"]["outputBodyJson"]["usage"]["cacheDetails"]
    in_s3(tmp_path, logged)
    history = read_history([tmp_path])
    assert (history.calls, history.guessed_ttl) == (1, 0)


def test_call_with_missing_or_broken_bodies_is_counted(tmp_path):
    folder = in_s3(tmp_path, converse(written=[("1h", 10)]))
    for each in (folder / "data").iterdir():
        each.write_bytes(b"\x1f\x8bbroken")
    assert counted(read_history([tmp_path])) == (1, 0, 0)
    for each in (folder / "data").iterdir():
        each.unlink()
    assert counted(read_history([tmp_path])) == (1, 0, 0)


def test_bodies_outside_the_log_folder_are_not_read(tmp_path):
    folder = in_s3(tmp_path, record(), which=())
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps({"metrics": {"latencyMs": 5}}))
    for name in ("s3://b/../../../../../secret.json", f"s3://b/{secret}", "s3://b/..\\..\\secret.json", "s3://", ".."):
        logged = record(output={"outputTokenCount": 5, "outputBodyS3Path": name})
        (folder / "log").write_bytes(lines(logged))
        assert read_history([folder / "log"]).report.to_dict()["totals"]["latency_ms"]["calls"] == 0


@pytest.mark.parametrize("form", ["zip", "tar", "gztar"])
def test_archive_is_unreadable_with_advice_to_unpack_it(tmp_path, form):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "log.json").write_bytes(lines(record(), record(requestId="other")))
    path = shutil.make_archive(str(tmp_path / "logs"), form, tmp_path / "logs")
    history = read_history([path])
    assert (history.calls, history.unreadable_files) == (0, 1)
    assert "unpack it first" in history.unreadable[0][1]


# --- rows of queries


PICKED = {
    "@timestamp": "2026-11-20 08:00:00.000",
    "modelId": SONNET_45,
    "operation": "ConverseStream",
    "requestId": "00000000-0000-4000-8000-000000000001",
    "input.inputTokenCount": "1000",
    "output.outputTokenCount": "100",
    "output.outputBodyJson.stopReason": "max_tokens",
    "output.outputBodyJson.metrics.latencyMs": "1234",
    "output.outputBodyJson.usage.inputTokens": "1000",
    "output.outputBodyJson.usage.outputTokens": "100",
    "output.outputBodyJson.usage.cacheReadInputTokens": "2000",
    "output.outputBodyJson.usage.cacheDetails.0.ttl": "1h",
    "requestMetadata.team": "7",
    "requestMetadata.cost.center": "a.b",
    "identity.arn": "arn:aws:iam::123456789012:user/Ada",
}
PICKED_FORMS = {
    "get-query-results": lambda row: json.dumps(
        {"results": [[{"field": f, "value": v} for f, v in row.items()]], "status": "Complete"}
    ),
    "get-query-results on many lines": lambda row: json.dumps(
        {"results": [[{"field": f, "value": v} for f, v in row.items()]], "status": "Complete"}, indent=4
    ),
    "JSON of the console": lambda row: json.dumps([row], indent=2),
    "JSON lines": json.dumps,
    "CSV": csv_of,
    "CSV with names in backticks": lambda row: csv_of({f"`{name}`": value for name, value in row.items()}),
}


@pytest.mark.parametrize("form", PICKED_FORMS)
def test_rows_of_picked_fields_are_read_by_their_fields(read, form):
    history = read(PICKED_FORMS[form](PICKED), labels=["team", "cost.center", "identity", "operation"])
    assert counted(history) == (1, 0, 0), history.examples
    report = history.report.to_dict()
    assert report["totals"]["tokens"] == {
        "input": 1000, "output": 100, "cache_read": 2000, "cache_write_5m": 0, "cache_write_1h": 0,
    }  # fmt: skip
    assert report["totals"]["stop_reasons"] == {"max_tokens": 1}
    assert report["totals"]["latency_ms"]["p50"] == 1234
    assert report["since"] == "2026-11-20T08:00:00+00:00"
    assert {name: list(rows) for name, rows in report["by"].items()} == {
        "team": ["7"], "cost.center": ["a.b"], "identity": [PICKED["identity.arn"]], "operation": ["ConverseStream"],
    }  # fmt: skip


@pytest.mark.parametrize("form", PICKED_FORMS)
@pytest.mark.parametrize("without", ["modelId", "@timestamp", "input.inputTokenCount", "requestId", "operation"])
def test_rows_without_a_field_are_counted_or_give_advice(read, form, without):
    row = {name: value for name, value in PICKED.items() if name != without}
    history = read(PICKED_FORMS[form](row))
    if without not in ("modelId", "@timestamp"):
        assert counted(history) == (1, 0, 0)
        return
    assert counted(history) == (0, 0, 1)
    ((kind, _),) = history.others.items()
    assert "@message" in history.advice[kind]


def test_a_row_with_its_message_is_read_by_the_message(read):
    history = read(json.dumps([{**PICKED, "@message": json.dumps(record())}]))
    assert history.report.to_dict()["since"].startswith("2026-11-14")
    failed = {name: PICKED[name] for name in ("@timestamp", "operation")}
    assert read(csv_of({**failed, "errorCode": "ThrottlingException"})).calls == 1


def test_a_cell_longer_than_what_pythons_csv_takes_is_read(read):
    limit = csv.field_size_limit()
    assert counted(read(csv_of({"@message": json.dumps(converse(text='"' * 300_000)), "@ptr": "x"}))) == (1, 0, 0)
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        (b'"@message","@ptr"\n"{""schemaType"": ""Model', (0, 1, 0)),
        (b'@message,@ptr\n"{""a"": tru}",x\n', (0, 1, 0)),
        (b"@message,@ptr\n1,2,3\n", (0, 1, 0)),
        (b"@message,@ptr\nSTART RequestId: x,y\n", (0, 0, 1)),
        (b"@timestamp,@message\n\n", (0, 0, 0)),
        (b'@message\n"Permissions are correctly set for Amazon Bedrock logs."\n', (0, 0, 1)),
        (b"a, b\n" + lines(record()), (1, 1, 0)),
        (b"timestamp,message\n" + lines(record()), (1, 0, 0)),
    ],
)
def test_broken_tables_are_reported(read, broken, expected):
    assert counted(read(broken)) == expected


def test_endless_row_is_not_buffered(read, monkeypatch):
    monkeypatch.setattr(log_lines, "LONGEST_LINE", 10_000)
    content = b'@message\n"' + b"x\n" * 20_000
    history = read(content + csv_of({"@message": json.dumps(record())}).partition(b"\n")[2])
    assert history.malformed >= 1
    assert "10,000 bytes" in history.examples[0].reason


NOT_WRITTEN = "" if sys.version_info >= (3, 11) else "\0"  # by Python's csv
LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters=NOT_WRITTEN)


@given(st.lists(st.lists(st.text(LETTERS), min_size=2, max_size=2), min_size=1))
def test_any_cells_are_read_as_pythons_csv_writes_them(rows):
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows(rows)
    numbered = enumerate(text.getvalue().encode().splitlines(keepends=True), 1)
    rows_read = Table(header_of(b"@message,@ptr"), 10**6).rows(numbered)
    expected = [{name: cell for name, cell in zip(("@message", "@ptr"), row, strict=True) if cell} for row in rows]
    assert [row for _, row in rows_read] == expected


# --- logs of something else

OTHER_LOGS = {
    "CloudTrail records": [
        json.dumps({"Records": [CLOUD_TRAIL, CLOUD_TRAIL]}),
        json.dumps({"Records": [CLOUD_TRAIL, CLOUD_TRAIL]}, indent=2),
        gzip.compress(json.dumps({"Records": [CLOUD_TRAIL, CLOUD_TRAIL]}).encode()),
        json.dumps({"events": [event(CLOUD_TRAIL), event(CLOUD_TRAIL, 2)]}),
        csv_of(*[{"@timestamp": "x", "@message": json.dumps(CLOUD_TRAIL)}] * 2),
        json.dumps({"Events": [{"EventId": "1", "CloudTrailEvent": "{}"}] * 2}),
    ],
    "VPC flow logs": [
        "2 123456789010 eni-1235b8ca123456789 172.31.16.139 172.31.16.21 20641 22 6 20 4249 1 2 ACCEPT OK\n" * 2,
        "version account-id interface-id srcaddr dstaddr srcport\n2 unknown eni-1235b8ca - - - - - - - 1 2 - NODATA\n",
        json.dumps({"events": [event("2 123456789010 eni-1235b8ca1234 1.2.3.4 1.2.3.5 1 2 3 4 5 6 7 REJECT OK", n)
                               for n in range(2)]}),
        "2026-11-14T04:12:37.000000+00:00 eni-1-all 2 123456789010 eni-1235b8ca 1.2.3.4 1.2.3.5 1 2 3 4 5 6 OK\n" * 2,
    ],
    "S3 access logs": [
        f"{'79a59df9' * 8} bucket [06/Feb/2026:00:00:38 +0000] 192.0.2.3 - 3E57427F3 REST.GET.OBJECT - - 200\n" * 2,
    ],
    "load balancer access logs": ["https 2026-07-02T22:23:00.186641Z app/a/50dc6c495c0c9188 1.2.3.4\n" * 2],
    "records of a batch inference job": [json.dumps({"recordId": "1", "modelInput": {}, "modelOutput": {}}) * 2],
    "rows of a query that sums calls up (stats)": [
        json.dumps([{"modelId": "a.b", "sum(input.inputTokenCount)": "3"}] * 2),
        csv_of(*[{"bin(1d)": "2026-11-20", "count(*)": "4"}] * 2),
    ],
    "rows of a Cost and Usage Report": [csv_of(*[{"identity/LineItemId": "1", "lineItem/UsageAmount": "2"}] * 2)],
    "records of type AgentLog": [lines(*[{"schemaType": "AgentLog", "modelId": "x"}] * 2)],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "content"), [(kind, each) for kind, all_of in OTHER_LOGS.items() for each in all_of])
def test_logs_of_something_else_are_named(read, kind, content):
    history = read(content)
    assert (counted(history), dict(history.others)) == ((0, 0, 2), {kind: 2})


@pytest.mark.parametrize("indent", [None, 4])
def test_a_query_without_results_is_named(read, indent):
    for members in ({"results": [], "status": "Running"}, {"status": "Complete", "results": []}):
        history = read(json.dumps(members, indent=indent))
        assert dict(history.others) == {"queries of CloudWatch Logs Insights without results": 1}
    assert counted(read(json.dumps({"events": [], "searchedLogStreams": []}, indent=indent))) == (0, 0, 1)


def test_kinds_of_other_records_are_bounded(read):
    history = read(lines(*({f"key {number}": 1} for number in range(100))))
    assert (history.skipped, len(history.others)) == (100, 20)


def test_a_parquet_file_is_named(tmp_path):
    (tmp_path / "log.parquet").write_bytes(b"PAR1" + bytes(100))
    history = read_history([tmp_path / "log.parquet"])
    assert "Parquet" in history.unreadable[0][1]
