"""Test reports of Bedrock's invocation logs. Records (`invocation_logs`) and costs are worked out by hand."""

from __future__ import annotations

import json
import tracemalloc
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from invocation_logs import (
    APPLICATION,
    HAIKU_PROFILE,
    ROUTER,
    SONNET_45,
    claude_stream,
    converse,
    embedding,
    lines,
    record,
    refused,
    write_mixed,
)
from samples import HAIKU, SONNET

from bedrock_routing_integrations.costs.invocation_logs import reading as history_module
from bedrock_routing_integrations.costs.invocation_logs.reading import read_history, stated_only
from bedrock_routing_integrations.models.candidates import CandidateModel, ResolvedTarget
from bedrock_routing_integrations.targets import parse_target

# US dollars per million tokens, from AWS's price list: Claude Sonnet 4.5 through a `us.` profile.
SONNET_45_IN, SONNET_45_OUT, SONNET_45_READ, SONNET_45_5M, SONNET_45_1H = 3.3, 16.5, 0.33, 4.125, 6.6


@pytest.fixture
def read(tmp_path):
    """Return a function that writes a log of records and reads it."""

    def read(*records, **options):
        path = tmp_path / "log.json"
        path.write_bytes(lines(*records))
        return read_history([path], **options)

    return read


def totals(history):
    return history.report.to_dict()["totals"]


# --- the fields of a record


def test_converse_record_gives_tokens_cost_savings_and_latency(read):
    history = read(converse(read=2000, written=[("1h", 400), ("5m", 600)]))
    report_totals = totals(history)
    assert (history.calls, history.malformed, history.skipped) == (1, 0, 0)
    assert report_totals["tokens"] == {
        "input": 1000, "output": 100, "cache_read": 2000, "cache_write_5m": 600, "cache_write_1h": 400,
    }  # fmt: skip
    # 1000 x 3.30 + 100 x 16.50 + 2000 x 0.33 + 600 x 4.125 + 400 x 6.60 = 3300 + 1650 + 660 + 2475 + 2640
    assert report_totals["cost_usd"] == 0.010725
    # uncached: 4000 x 3.30 + 1650 = 14,850; saved 14,850 - 10,725
    assert report_totals["saved_by_caching_usd"] == 0.004125
    assert report_totals["latency_ms"]["p50"] == pytest.approx(3640, rel=0.01)


def test_record_without_bodies_is_counted_by_its_token_counts(read):
    report_totals = totals(read(record()))
    assert report_totals["cost_usd"] == (1000 * SONNET_45_IN + 100 * SONNET_45_OUT) / 1e6 == 0.00495
    assert report_totals["latency_ms"]["calls"] == 0


def test_invoke_model_stream_has_ttls_and_times_in_its_chunks(read):
    history = read(claude_stream(written={"5m": 1000, "1h": 2000}, read=500, texts=["word"] * 50))
    report_totals = totals(history)
    assert report_totals["tokens"] == {
        "input": 3, "output": 142, "cache_read": 500, "cache_write_5m": 1000, "cache_write_1h": 2000,
    }  # fmt: skip
    assert report_totals["latency_ms"]["p50"] == pytest.approx(2000, rel=0.01)
    assert report_totals["time_to_first_token_ms"]["p50"] == pytest.approx(500, rel=0.01)
    assert history.guessed_ttl == 0


def test_tokens_missing_in_the_record_come_from_its_body(read):
    body = {"usage": {"input_tokens": 50, "output_tokens": 200, "cache_read_input_tokens": 30_000}}
    report_totals = totals(read(record("InvokeModel", input={}, output={"outputBodyJson": body})))
    assert (report_totals["tokens"]["input"], report_totals["tokens"]["output"]) == (50, 200)
    assert report_totals["tokens"]["cache_read"] == 30_000


def test_body_logged_as_a_json_string_is_read(read):
    logged = converse()
    logged["output"]["outputBodyJson"] = json.dumps(logged["output"]["outputBodyJson"])
    assert totals(read(logged))["latency_ms"]["calls"] == 1


def test_a_converse_stream_logged_as_events_is_read_too(read):
    events = [
        {"messageStart": {"role": "assistant"}},
        {"contentBlockDelta": {"delta": {"text": "Hi"}}},
        {"messageStop": {"stopReason": "end_turn"}},
        {"metadata": {"usage": {"inputTokens": 30, "outputTokens": 70}, "metrics": {"latencyMs": 900},
                      "trace": {"promptRouter": {"invokedModelId": HAIKU_PROFILE}}}},
    ]  # fmt: skip
    history = read(record("ConverseStream", ROUTER, input={}, output={"outputBodyJson": events}))
    assert totals(history)["tokens"]["output"] == 70
    assert history.report.to_dict()["models"][0]["invoked_model"] == HAIKU


def test_embedding_has_input_only_under_its_own_model(read):
    model = read(embedding()).report.to_dict()["models"][0]
    assert model["invoked_model"] == "amazon.titan-embed-text-v2:0"
    assert model["tokens"]["input"] == 3
    assert model["tokens"]["output"] == 0


def test_record_without_tokens_costs_none(read):
    report_totals = totals(read(record("InvokeModel", "amazon.titan-image-generator-v2:0", input={}, output={})))
    assert (report_totals["calls"], report_totals["calls_without_usage"], report_totals["cost_usd"]) == (1, 1, None)


@pytest.mark.parametrize("count", [True, -5, 1e300, float("nan"), "1000", [1]])
def test_invalid_token_counts_are_ignored(read, count):
    logged = record(input={"inputTokenCount": count}, output={"outputTokenCount": 100})
    assert totals(read(logged))["tokens"]["input"] == 0
    logged["requestId"], logged["output"] = "another", {"outputTokenCount": count}
    assert totals(read(logged))["calls_without_usage"] == 1


def test_a_call_costs_what_it_cost_on_its_day(read):
    model = "us.openai.gpt-5.6-sol"  # cheaper from 2026-08-21 on, by genai-prices
    before, after = (totals(read(record(model_id=model, timestamp=f"2026-08-{day}T12:00:00Z"))) for day in (20, 21))
    if before["cost_usd"] is None:
        pytest.skip("this genai-prices does not list it yet")
    # 1000 x 5.50 + 100 x 33, and 1000 x 4.40 + 100 x 22
    assert (before["cost_usd"], after["cost_usd"]) == (0.0088, 0.0066)


def test_a_failed_call_is_an_error_of_its_target(read):
    history = read(refused(), refused(), refused("ValidationException", modelId=None), record())
    report = history.report.to_dict()
    assert report["totals"]["errors"] == {"ThrottlingException": 2, "ValidationException": 1}
    assert report["totals"]["calls"] == 1
    assert report["targets"][0]["errors"] == {"ThrottlingException": 2}


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"asked": "optimized", "served": "optimized"}, {"optimized": {"optimized": 1}}),
        ({"asked": "optimized", "served": "standard"}, {"optimized": {"standard": 1}}),
        # As the launch showed it: at the top of the record, in capitals.
        ({"performanceConfig": {"latency": "OPTIMIZED"}}, {"optimized": {"optimized": 1}}),
        ({}, {}),
    ],
)
def test_asked_and_served_latency(read, members, expected):
    assert totals(read(converse(**members)))["latency"] == expected


def test_optimized_that_was_served_as_standard_costs_the_standard_price(read):
    report_totals = totals(read(converse(asked="optimized", served="standard"), converse(asked="optimized")))
    assert (report_totals["cost_usd"], report_totals["calls_without_price"]) == (0.00495, 1)


@pytest.mark.parametrize("tier", [{"type": "flex"}, "flex"])
def test_service_tier_of_a_record_is_the_served_one(read, tier):
    assert totals(read(record(serviceTier=tier)))["service_tier"] == {"flex": {"flex": 1}}


@pytest.mark.parametrize(
    ("request_body", "response_body", "tiers", "priced"),
    [
        ({"service_tier": "priority"}, {"service_tier": "priority"}, {"priority": {"priority": 1}}, False),
        ({"service_tier": "flex"}, {"service_tier": "default"}, {"flex": {"default": 1}}, True),
        ({"service_tier": "flex"}, {}, {"flex": {"none": 1}}, False),
        ({"service_tier": "auto"}, {"usage": {"service_tier": "standard"}}, {"none": {"default": 1}}, True),
        ({}, {"usage": {"service_tier": "priority"}}, {"priority": {"priority": 1}}, False),
        ({}, {"service_tier": ["?"]}, {}, True),
    ],
)
def test_a_tier_in_the_bodies_of_invoke_model_counts_too(read, request_body, response_body, tiers, priced):
    bodies = {"input": {"inputTokenCount": 1_000_000, "inputBodyJson": {"messages": [], **request_body}},
              "output": {"outputTokenCount": 0, "outputBodyJson": response_body}}  # fmt: skip
    report_totals = totals(read(record("InvokeModel", "openai.gpt-oss-120b-1:0", **bodies)))
    assert report_totals["service_tier"] == tiers
    assert report_totals["cost_usd"] == (0.15 if priced else None)


def test_a_stream_of_llama_is_counted_by_its_last_chunk(read):
    metrics = {"inputTokenCount": 20, "outputTokenCount": 7, "invocationLatency": 900, "firstByteLatency": 300}
    chunks = [{"generation": "Hi", "prompt_token_count": 20, "generation_token_count": 1},
              {"generation": "", "generation_token_count": 7, "amazon-bedrock-invocationMetrics": metrics}]  # fmt: skip
    for body in (chunks, {"generation": "Hi", "prompt_token_count": 20, "generation_token_count": 7}):
        tokens = totals(
            read(record("InvokeModel", "us.meta.llama3-1-8b-instruct-v1:0", input={}, output={"outputBodyJson": body}))
        )["tokens"]
        assert (tokens["input"], tokens["output"]) == (20, 7)


@pytest.mark.parametrize(("region", "cost"), [("us-gov-west-1", None), ("cn-north-1", None), ("eu-central-1", 3.0)])
def test_base_model_in_another_partitions_log_has_no_price(read, region, cost):
    counts = {"input": {"inputTokenCount": 1_000_000}, "output": {"outputTokenCount": 0}}
    assert totals(read(record(model_id=SONNET, region=region, **counts)))["cost_usd"] == cost


def test_cache_writes_of_unknown_ttl_count_as_5m_and_guessed(read):
    counts = {"inputTokenCount": 3, "cacheReadInputTokenCount": 0, "cacheWriteInputTokenCount": 28_857}
    history = read(record(input=counts))
    assert totals(history)["tokens"]["cache_write_5m"] == 28_857
    assert history.guessed_ttl == 1


@pytest.mark.parametrize(
    ("request_body", "one_hour", "guessed"),
    [
        ({"system": [{"text": "x"}, {"cachePoint": {"type": "default", "ttl": "1h"}}]}, 500, 0),
        ({"messages": [{"content": [{"type": "text", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}]}, 500, 0),
        ({"toolConfig": {"tools": [{"cachePoint": {"type": "default"}}]}}, 0, 0),
        ({"tools": [{"cache_control": {"ttl": "1h"}}], "system": [{"cache_control": {}}]}, 0, 1),
        ({"system": "a text", "messages": "none", "tools": {"a": 1}}, 0, 1),
    ],
)
def test_ttl_of_cache_writes_is_read_from_the_request(read, request_body, one_hour, guessed):
    history = read(
        record(input={"inputTokenCount": 3, "cacheWriteInputTokenCount": 500, "inputBodyJson": request_body})
    )
    assert totals(history)["tokens"]["cache_write_1h"] == one_hour
    assert history.guessed_ttl == guessed


# --- who was called


def test_router_with_trace_has_cost_but_no_savings_offline(read):
    history = read(converse(ROUTER, invoked=HAIKU_PROFILE))
    target = history.report.to_dict()["targets"][0]
    assert (target["requested_model_id"], target["target_kind"]) == (ROUTER, "default_prompt_router")
    # Claude 3 Haiku: 1000 x 0.25 + 100 x 1.25
    assert target["cost_usd"] == 0.000375
    assert target["models"][0]["invoked_model"] == HAIKU
    assert target["saved_by_routing_usd"] is None
    assert history.incomplete == {ROUTER: (1, None)}


def test_router_without_trace_has_neither_model_nor_price(read):
    target = read(converse(ROUTER)).report.to_dict()["targets"][0]
    assert target["models"][0]["invoked_model"] is None
    assert (target["cost_usd"], target["calls_without_price"]) == (None, 1)


def test_looked_up_router_has_savings_after_one_look_up(read):
    looked_up = []

    def resolve(model_id):
        looked_up.append(model_id)
        candidates = (
            CandidateModel(HAIKU_PROFILE, HAIKU, "GetPromptRouter"),
            CandidateModel(SONNET, SONNET, "GetPromptRouter"),
        )
        return ResolvedTarget(parse_target(model_id), candidates, fallback=SONNET)

    history = read(
        *[converse(ROUTER, invoked=HAIKU_PROFILE)] * 1, converse(ROUTER, invoked=HAIKU_PROFILE), resolve=resolve
    )
    # Claude 3.5 Sonnet: 1000 x 3 + 100 x 15 = 4500, Haiku 375; of two calls
    assert totals(history)["saved_by_routing_usd"] == 0.00825
    assert looked_up == [ROUTER]
    assert history.incomplete == {}


def test_model_of_an_application_profile_can_be_stated(read):
    assert totals(read(record(model_id=APPLICATION)))["cost_usd"] is None
    assert (
        totals(read(record(model_id=APPLICATION), resolve=stated_only({APPLICATION: [SONNET_45]})))["cost_usd"]
        == 0.00495
    )


def test_prices_of_your_own(read):
    prices = {APPLICATION: {"input_mtok": 1.0, "output_mtok": 2.0}}
    assert totals(read(record(model_id=APPLICATION), prices=prices))["cost_usd"] == 0.0012


def test_unknown_model_id_is_counted_under_its_name(read):
    history = read(record(model_id="something new!"))
    assert history.report.to_dict()["targets"][0]["requested_model_id"] == "something new!"
    assert totals(history)["cost_usd"] is None


# --- what to count by


def test_application_profiles_and_metadata_are_labels_by_default(read):
    by = read(
        record(model_id=APPLICATION, requestMetadata={"team": "search"}), record(requestMetadata={"team": "support"})
    ).report.to_dict()["by"]
    assert {name: {value: tally["calls"] for value, tally in rows.items()} for name, rows in by.items()} == {
        "team": {"search": 1, "support": 1},
        "application_profile": {APPLICATION: 1},
    }


def test_failed_calls_are_counted_by_label_too(read):
    by = read(refused(requestMetadata={"team": "search"})).report.to_dict()["by"]
    assert by["team"]["search"]["errors"] == {"ThrottlingException": 1}


def test_requested_labels_replace_the_default_ones(read):
    logged = record(requestMetadata={"team": "search", "region": "mine"}, inferenceRegion="us-west-2")
    by = read(logged, labels=["identity", "region", "metadata.region", "inference_region"]).report.to_dict()["by"]
    assert {name: list(rows) for name, rows in by.items()} == {
        "identity": ["arn:aws:sts::123456789012:assumed-role/Application/session"],
        "region": ["us-east-1"],
        "metadata.region": ["mine"],
        "inference_region": ["us-west-2"],
    }


@pytest.mark.sweep
def test_labels_are_bounded(read):
    metadata = [{"trace": f"{n}", **{f"key{k}": "x" for k in range(9)}} for n in range(1200)]
    history = read(*(record(requestMetadata=each) for each in metadata))
    by = history.report.to_dict()["by"]
    assert sorted(by) == ["key0", "key1", "key2", "key3", "trace"]
    assert by["trace"]["(others)"]["calls"] >= 200
    assert len(by["trace"]) <= 1001
    assert history.too_many_values == {"trace"}
    assert history.left_out_keys == {"key4", "key5", "key6", "key7", "key8"}


# --- when


def test_since_is_in_and_until_is_out(read):
    start = datetime(2026, 11, 14, tzinfo=timezone.utc)
    times = ["2026-11-13T23:59:59Z", "2026-11-14T00:00:00Z", "2026-11-14T23:59:59.999Z", "2026-11-15T01:00:00+02:00",
             "2026-11-15T00:00:00Z"]  # fmt: skip
    history = read(*(record(timestamp=each) for each in times), since=start, until=start + timedelta(days=1))
    assert (history.calls, history.outside) == (3, 2)


@pytest.mark.parametrize("time", ["2026-11-14T04:12:37.1Z", "2026-11-14T04:12:37.123456789Z", "2026-11-14T04:12:37"])
def test_forms_of_timestamps(read, time):
    assert read(record(timestamp=time)).report.to_dict()["since"].startswith("2026-11-14T04:12:37")


def test_a_record_without_a_readable_time_is_malformed(read):
    history = read(record(timestamp="2025-04-99T23:00:17Z"), record(timestamp=None), record(timestamp=True))
    assert (history.calls, history.malformed) == (0, 3)
    assert "timestamp" in history.examples[0].reason


# --- twice


def test_call_logged_twice_counts_once(read):
    history = read(record(requestId="a"), record(requestId="b"), record(requestId="a"))
    assert (history.calls, history.duplicates) == (2, 1)


def test_records_without_an_id_are_all_counted(read):
    assert read(*[record(requestId=None)] * 3).calls == 3


def test_request_ids_are_remembered_until_the_table_is_full(monkeypatch):
    request_ids = history_module._Seen()
    assert all(request_ids.is_new(f"id {n}") for n in range(50_000))
    assert not any(request_ids.is_new(f"id {n}") for n in range(50_000))
    monkeypatch.setattr(history_module, "_MOST_SLOTS", len(request_ids._slots))
    assert all(request_ids.is_new(f"more {n}") for n in range(100_000))
    assert request_ids.full
    assert not any(request_ids.is_new(f"id {n}") for n in range(50_000))


# --- invalid input never raises

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)
MEMBERS = ["timestamp", "identity", "region", "requestId", "modelId", "input", "output", "errorCode", "serviceTier",
           "performanceConfig", "requestMetadata", "inferenceRegion", "operation", "schemaType"]  # fmt: skip
INNER = ["usage", "metrics", "trace", "performanceConfig", "serviceTier", "message", "metadata",
         "amazon-bedrock-invocationMetrics"]  # fmt: skip


UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@UNTIMED
@given(data=st.data())
def test_any_value_in_any_member_is_survived(data, tmp_path_factory):
    logged = converse(written=[("1h", 5)])
    for name in data.draw(st.lists(st.sampled_from(MEMBERS), max_size=3)):
        logged[name] = data.draw(json_values)
    answer = {name: data.draw(json_values) for name in data.draw(st.lists(st.sampled_from(INNER), max_size=3))}
    if isinstance(logged["output"], dict):
        logged["output"]["outputBodyJson"] = data.draw(st.sampled_from([answer, [answer, answer], {"usage": answer}]))
    path = tmp_path_factory.mktemp("any") / "log.json"
    path.write_bytes(lines(logged))
    history = read_history([path], labels=data.draw(st.sampled_from([None, ["team", "identity"]])))
    assert history.calls + history.malformed + history.skipped == 1
    str(history.report)
    json.dumps(history.report.to_dict(), allow_nan=False)


@UNTIMED
@given(st.binary(max_size=300))
def test_any_bytes_are_survived(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("bytes") / "log"
    path.write_bytes(data + b"\n" + lines(record()))
    history = read_history([path])
    assert history.unreadable_files == data.startswith(b"PK\x03\x04"), "an archive is no log"
    json.dumps(history.as_dict())


# --- memory


def peak(path):
    tracemalloc.start()
    try:
        assert read_history([path]).malformed == 0
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.sweep
def test_memory_does_not_grow_with_the_log(tmp_path):
    # Each log has more values of a label than the thousand that are counted separately.
    for name, size in (("small", 2e6), ("large", 16e6)):
        write_mixed(tmp_path / name, size, lengths=(200, 2_000))
    peak(tmp_path / "small")  # fills what is remembered for all
    small, large = (min(peak(tmp_path / name) for _ in range(2)) for name in ("small", "large"))
    assert large < 1.2 * small + 600_000  # the table of request ids


# --- latency that was served, and why answers ended


@pytest.mark.parametrize("where", ["with bodies", "without bodies", "in the answer"])
def test_logged_latency_standard_is_a_served_value(read, where):
    """The log has performanceConfig only where it was asked for; STANDARD is also what optimized gets over quota."""
    logged = {
        "with bodies": converse(performanceConfig={"latency": "STANDARD"}),
        "without bodies": record(performanceConfig={"latency": "STANDARD"}),
        "in the answer": converse(served="standard"),
    }[where]
    history = read(logged)
    assert totals(history)["latency"] == {"unknown": {"standard": 1}}
    assert totals(history)["cost_usd"] == 0.00495


def test_latency_in_the_logged_request_is_the_requested_one(read):
    history = read(
        converse(asked="standard", performanceConfig={"latency": "STANDARD"}),
        converse(asked="optimized", performanceConfig={"latency": "STANDARD"}),
        record(serviceTier={"type": "default"}),
    )
    assert totals(history)["latency"] == {"optimized": {"standard": 1}, "standard": {"standard": 1}}
    assert totals(history)["service_tier"] == {"unknown": {"default": 1}}


ENDS = {
    "Converse": ({"stopReason": "max_tokens", "output": {}}, "max_tokens"),
    "Converse, blocked": ({"stopReason": "guardrail_intervened"}, "guardrail_intervened"),
    "ConverseStream": (
        [{"messageStart": {"role": "assistant"}}, {"messageStop": {"stopReason": "tool_use"}}, {"metadata": {}}],
        "tool_use",
    ),
    "Claude": ({"type": "message", "stop_reason": "end_turn", "content": []}, "end_turn"),
    "Claude, streamed": (
        [
            {"type": "message_start", "message": {"stop_reason": None, "usage": {}}},
            *[{"type": "content_block_delta", "delta": {"type": "text_delta", "text": "x"}}] * 20,
            {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 9}},
            *[{"type": "message_stop"}] * 8,
        ],
        "max_tokens",
    ),
    "Nova": ({"output": {"message": {}}, "stopReason": "end_turn", "usage": {}}, "end_turn"),
    "Llama": ({"generation": "x", "stop_reason": "length"}, "max_tokens"),
    "Mistral": ({"outputs": [{"text": "x", "stop_reason": "stop"}]}, "end_turn"),
    "OpenAI": ({"choices": [{"finish_reason": "tool_calls", "message": {}}]}, "tool_use"),
    "OpenAI, streamed": ([{"choices": [{"delta": {}, "finish_reason": "stop"}]}, {"choices": []}], "end_turn"),
    "Titan": ({"results": [{"completionReason": "FINISH"}]}, "end_turn"),
    "AI21": ({"completions": [{"finishReason": {"reason": "length"}}]}, "max_tokens"),
    "InvokeModel, blocked": (
        {"type": "message", "stop_reason": "end_turn", "amazon-bedrock-guardrailAction": "INTERVENED"},
        "guardrail_intervened",
    ),
    "InvokeModel, passed": ({"stop_reason": "end_turn", "amazon-bedrock-guardrailAction": "NONE"}, "end_turn"),
    "stream, blocked": (
        [{"delta": {"stop_reason": "end_turn"}}, {"amazon-bedrock-guardrailAction": "INTERVENED"}],
        "guardrail_intervened",
    ),
    "nothing": ({"stop_reason": ["end_turn"], "choices": ["x"], "delta": 3}, None),
}  # fmt: skip


@pytest.mark.parametrize("form", ENDS)
def test_stop_reasons_are_counted_in_the_words_of_converse(read, form):
    body, reason = ENDS[form]
    logged = record(output={"outputTokenCount": 20, "outputBodyJson": body})
    as_text = record(output={"outputTokenCount": 20, "outputBodyJson": json.dumps(body)})
    history = read(logged, as_text, refused())
    assert totals(history)["stop_reasons"] == ({reason: 2} if reason else {})
    assert totals(history)["guardrail_interventions"] == (2 if reason == "guardrail_intervened" else 0)


# --- by day


def test_label_day_counts_utc_days_and_combines_with_keys(read):
    times = {"2026-11-14T23:59:59Z": "search", "2026-11-15T00:30:00+01:00": "search", "2026-11-15T00:00:00Z": "ads"}
    history = read(
        *(record(timestamp=time, requestMetadata={"team": team}) for time, team in times.items()),
        record(timestamp="2026-11-20T08:00:00Z", requestMetadata={"day": "Monday"}),
        labels=["day", "day,team", "metadata.day"],
    )
    by = history.report.to_dict()["by"]
    assert {day: tally["calls"] for day, tally in by["day"].items()} == {
        "2026-11-14": 2, "2026-11-15": 1, "2026-11-20": 1,
    }  # fmt: skip
    assert {both: tally["calls"] for both, tally in by["day,team"].items()} == {
        "2026-11-14, search": 2, "2026-11-15, ads": 1, "2026-11-20, (none)": 1,
    }  # fmt: skip
    assert set(by["metadata.day"]) == {"Monday", "(none)"}
