"""Test the emulator's prompt caching through boto3: writes, reads, lifetimes, and the counts in `usage`."""

import itertools
import zlib
from types import SimpleNamespace

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st

from bedrock_routing_integrations.emulator import BedrockEmulator

SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
SONNET_V2 = "anthropic.claude-3-5-sonnet-20241022-v2:0"
HAIKU_35 = "anthropic.claude-3-5-haiku-20241022-v1:0"
HAIKU_45 = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
OPUS_5 = "us.anthropic.claude-opus-5"
LITE, PRO = "amazon.nova-lite-v1:0", "amazon.nova-pro-v1:0"
NO_CACHE = "anthropic.claude-3-haiku-20240307-v1:0"
POINT = {"cachePoint": {"type": "default"}}
FIVE, HOUR = ({"cachePoint": {"type": "default", "ttl": ttl}} for ttl in ("5m", "1h"))
MESSAGE = 3  # tokens that a message adds
COUNTERS = ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens")


class Clock:
    """A clock that a test advances, in seconds."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture(scope="module")
def running():
    clock = Clock()
    with BedrockEmulator(clock=clock) as bedrock:
        runtime = bedrock.client("bedrock-runtime", config=Config(retries={"total_max_attempts": 1}))
        yield SimpleNamespace(bedrock=bedrock, clock=clock, runtime=runtime)


@pytest.fixture
def emulator(running):
    running.bedrock.clear_caches()
    return running


@pytest.fixture
def ask(emulator):
    """Return a function that sends a request to a model and returns its (plain, read, written) tokens."""

    def ask(model, *content, **members):
        messages = members.pop("messages", None) or [user(*content)]
        usage = emulator.runtime.converse(modelId=model, messages=messages, **members)["usage"]
        assert usage["totalTokens"] == usage["outputTokens"] + sum(usage.get(name, 0) for name in COUNTERS)
        return tuple(usage.get(name) for name in COUNTERS)

    return ask


def text(tokens, letter="x"):
    return {"text": letter * 4 * tokens}


def user(*blocks):
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks):
    return {"role": "assistant", "content": list(blocks)}


def tool(name, description="", **properties):
    spec = {"name": name, "inputSchema": {"json": {"type": "object", "properties": properties}}}
    return {"toolSpec": {**spec, "description": description} if description else spec}


def pdf(words):
    content = zlib.compress(b"BT /F1 12 Tf 72 720 Td (" + words.encode() + b") Tj ET")
    head = b"%PDF-1.4\n1 0 obj\n<< /Length " + str(len(content)).encode() + b" /Filter /FlateDecode >>\nstream\n"
    return head + content + b"\nendstream\nendobj\ntrailer << >>\n%%EOF\n"


def paper(name):
    return " ".join(f"Item {number} of {name} has its uses." for number in range(1_150))


def test_cache_writes_and_reads_do_not_count_as_input(ask):
    assert ask(SONNET, text(2_000), POINT, text(10)) == (10, 0, 2_000 + MESSAGE)
    assert ask(SONNET, text(2_000), POINT, text(25, "q")) == (25, 2_000 + MESSAGE, 0)


@pytest.mark.parametrize("model", [SONNET, LITE])
def test_usage_has_exactly_the_members_of_the_service_model(emulator, model):
    def call(*blocks):
        return emulator.runtime.converse(modelId=model, messages=[user(*blocks)])["usage"]

    shape = emulator.runtime.meta.service_model.shape_for("TokenUsage")
    counters = {"inputTokens", "outputTokens", "totalTokens", "cacheReadInputTokens", "cacheWriteInputTokens"}
    wrote, read, without = call(text(2_000), POINT), call(text(2_000), POINT), call(text(2_000))
    assert set(wrote) == counters | {"cacheDetails"}
    assert wrote["cacheDetails"] == [{"ttl": "5m", "inputTokens": 2_000 + MESSAGE}]
    assert set(read) == set(without) == counters, "no details where nothing was written"
    assert not ParamValidator().validate(wrote, shape).has_errors()


def test_model_without_caching_has_no_cache_counts_in_usage(emulator):
    usage = emulator.runtime.converse(modelId=NO_CACHE, messages=[user(text(5_000))])["usage"]
    assert set(usage) == {"inputTokens", "outputTokens", "totalTokens"}


def test_stream_metadata_has_the_same_cache_counts(emulator, ask):
    def streamed():
        events = emulator.runtime.converse_stream(modelId=SONNET, messages=[user(text(2_000), HOUR, text(5))])
        return list(events["stream"])[-1]["metadata"]["usage"]

    first, second = streamed(), streamed()
    assert first["cacheDetails"] == [{"ttl": "1h", "inputTokens": 2_000 + MESSAGE}]
    assert (second["cacheReadInputTokens"], second["cacheWriteInputTokens"]) == (2_000 + MESSAGE, 0)
    assert second["totalTokens"] == first["totalTokens"] == 2_005 + MESSAGE + first["outputTokens"]
    assert ask(SONNET, text(2_000), POINT) == (0, 2_000 + MESSAGE, 0)


@pytest.mark.parametrize(
    ("model", "least"), [(OPUS_5, 512), (SONNET, 1_024), (HAIKU_35, 2_048), (HAIKU_45, 4_096), (LITE, 1_000)]
)
def test_below_the_models_minimum_the_call_succeeds_uncached(ask, model, least):
    for _ in range(2):
        assert ask(model, text(least - MESSAGE - 1), POINT) == (least - 1, 0, 0)
    assert ask(model, text(least - MESSAGE), POINT) == (0, 0, least)


def test_minimum_applies_to_the_whole_prefix_not_between_points(ask):
    system = [text(600, "s"), POINT]
    assert ask(SONNET, text(500), POINT, text(2), POINT, text(1), system=system) == (1, 0, 1_102 + MESSAGE)
    assert ask(SONNET, text(500), POINT, text(9, "z"), system=system) == (9, 1_100 + MESSAGE, 0)
    assert ask(SONNET, text(9, "z"), system=system) == (609 + MESSAGE, 0, 0), "the system prompt alone was too short"


def test_tools_come_before_system_and_system_before_messages(ask):
    tools, system = [tool("a", "d" * 4_200), POINT], [text(1_000, "s"), POINT]
    plain, read, written = ask(SONNET, text(1), POINT, system=system, toolConfig={"tools": tools})
    assert (plain, read) == (0, 0)
    other = ask(SONNET, text(7), system=system, toolConfig={"tools": tools})
    assert other == (7 + MESSAGE, written - 1 - MESSAGE, 0)
    tools_only = ask(SONNET, text(7), toolConfig={"tools": tools})
    assert tools_only == (7 + MESSAGE, other[1] - 1_000, 0)


A, B = {"a": {"type": "string"}}, {"b": {"type": "string"}}
ONE, TWO = tool("one", "d" * 5_000, **A, **B), tool("two")
CACHED = {"system": [text(500, "s"), POINT], "toolConfig": {"tools": [ONE, TWO], "toolChoice": {"auto": {}}}}


@pytest.mark.parametrize(
    ("change", "still_read"),
    [
        ({"inferenceConfig": {"temperature": 0.5, "maxTokens": 9, "topP": 0.1, "stopSequences": ["."]}}, "all"),
        ({"requestMetadata": {"a": "b"}, "serviceTier": {"type": "flex"}}, "all"),
        ({"additionalModelRequestFields": {"top_k": 5}}, "all"),
        ({"toolConfig": {"tools": [ONE, TWO]}}, "all"),
        ({"toolConfig": {"tools": [ONE, TWO], "toolChoice": {"any": {}}}}, "system"),
        ({"toolConfig": {"tools": [ONE, TWO], "toolChoice": {"tool": {"name": "two"}}}}, "system"),
        ({"toolConfig": {"tools": [TWO, ONE]}}, "nothing"),
        ({"toolConfig": {"tools": [ONE, TWO, tool("three")]}}, "nothing"),
        ({"toolConfig": {"tools": [tool("one", "d" * 5_000, **B, **A), TWO]}}, "nothing"),
        ({"system": [text(500, "t"), POINT]}, "nothing"),
        ({"additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 1_024}}}, "nothing"),
        ({"additionalModelRequestFields": {"output_config": {"effort": "low"}}}, "nothing"),
        ({"outputConfig": {"effort": "low"}}, "nothing"),
    ],
)  # fmt: skip
def test_changed_prefix_is_read_only_up_to_the_change(ask, change, still_read):
    _, _, everything = ask(SONNET, text(100), POINT, **CACHED)
    expected = {"all": everything, "system": everything - 100 - MESSAGE, "nothing": 0}
    assert ask(SONNET, text(100), POINT, **{**CACHED, **change})[1] == expected[still_read]


def test_the_order_of_members_counts_in_json_documents_only(ask):
    def call(reverse, arguments):
        use = {"toolUseId": "1", "name": "one", "input": arguments}
        result = {"toolUseId": "1", "content": [{"text": "r"}], "status": "success"}
        if reverse:
            use, result = dict(reversed(use.items())), dict(reversed(result.items()))
        messages = [user(text(2_000)), assistant({"toolUse": use}), user({"toolResult": result}, POINT)]
        return ask(SONNET, messages=messages, toolConfig={"tools": [ONE]})

    _, _, everything = call(False, {"a": "1", "b": "2"})
    assert call(True, {"a": "1", "b": "2"}) == (0, everything, 0)
    assert call(False, {"b": "2", "a": "1"}) == (0, 0, everything)


def test_prefix_depends_on_roles_and_message_boundaries(ask):
    parts = text(1_500), text(1_500, "y"), text(5, "z")
    ask(SONNET, *parts, POINT)
    for messages in (
        [user(parts[0]), assistant(parts[1]), user(parts[2], POINT)],
        [user(*parts[:2]), assistant(parts[2]), user(text(1), POINT)],
    ):
        assert ask(SONNET, messages=messages)[1] == 0
    assert ask(SONNET, *parts, text(1), POINT)[1] == 3_005 + MESSAGE


def test_a_request_that_is_refused_writes_nothing(emulator, ask):
    with pytest.raises(ClientError):
        ask(SONNET, text(2_000), POINT, inferenceConfig={"maxTokens": 1_000_000})
    assert ask(SONNET, text(2_000), POINT)[1:] == (0, 2_000 + MESSAGE)


# --- looking back, and lifetimes


@pytest.mark.parametrize(("new", "read_tokens"), [(1, True), (19, True), (20, False), (40, False)])
def test_from_a_point_the_service_looks_back_over_twenty_blocks(ask, new, read_tokens):
    ask(SONNET, text(2_000), POINT)
    more = [text(1, "n")] * new
    assert ask(SONNET, text(2_000), *more, POINT)[1:] == ((2_003, new) if read_tokens else (0, 2_003 + new))


def test_a_second_point_halfway_bridges_a_long_turn(ask):
    ask(SONNET, text(2_000), POINT)
    more = [text(1, "n")] * 15
    assert ask(SONNET, text(2_000), *more, POINT, *more, POINT, text(4)) == (4, 2_003, 30)


def test_each_section_is_written_with_its_points_ttl(emulator):
    def details(*blocks):
        usage = emulator.runtime.converse(modelId=SONNET, messages=[user(*blocks)], system=[text(1_100), HOUR])["usage"]
        return usage["cacheReadInputTokens"], usage.get("cacheDetails")

    first = [{"ttl": "1h", "inputTokens": 1_103 + 3}, {"ttl": "5m", "inputTokens": 7 + 8}]
    blocks = [text(3), HOUR, text(7), FIVE, text(8), POINT]
    assert details(*blocks, text(1)) == (0, first)
    assert details(*blocks, text(1)) == (1_121, None)
    assert details(text(3), HOUR, text(2, "o"), HOUR) == (1_106, [{"ttl": "1h", "inputTokens": 2}])


@pytest.mark.parametrize(("point", "seconds"), [(POINT, 300), (FIVE, 300), (HOUR, 3_600)])
def test_an_entry_lives_so_long_from_its_last_use(emulator, ask, point, seconds):
    def call(wait):
        emulator.clock.now += wait
        return ask(SONNET, text(2_000), point)[1:]

    assert call(0) == (0, 2_003)
    assert call(seconds - 1) == (2_003, 0)
    assert call(seconds - 1) == (2_003, 0), "the hit renewed it"
    assert call(seconds) == (0, 2_003)


def test_a_hit_renews_with_the_ttl_that_was_written(emulator, ask):
    ask(SONNET, text(2_000), HOUR)
    for wait in (3_000, 3_000):
        emulator.clock.now += wait
        assert ask(SONNET, text(2_000), FIVE)[1] == 2_003
    ask(SONNET, text(2_000, "o"), FIVE)
    assert ask(SONNET, text(2_000, "o"), HOUR)[1] == 2_003
    emulator.clock.now += 300
    assert ask(SONNET, text(2_000, "o"), HOUR)[1] == 0


def test_longer_hit_renews_only_entries_at_its_own_points(emulator, ask):
    system = [text(1_100, "s"), POINT]
    ask(SONNET, text(10), POINT, text(10), POINT, system=system)
    emulator.clock.now += 200
    assert ask(SONNET, text(10), text(10), POINT, system=system)[1] == 1_123
    emulator.clock.now += 200
    assert ask(SONNET, text(5, "o"), system=system)[1] == 1_100
    assert ask(SONNET, text(10), POINT, system=system)[1:] == (1_100, 13), "this point was not in the second request"


def test_cache_point_within_a_read_prefix_writes_no_entry(ask):
    ask(SONNET, text(10), POINT, system=[text(1_100, "s")])
    assert ask(SONNET, text(10), POINT, system=[text(1_100, "s"), POINT])[1:] == (1_113, 0)
    assert ask(SONNET, text(5, "o"), system=[text(1_100, "s"), POINT])[1:] == (0, 1_100)


# --- whose cache it is


def test_cache_is_shared_by_all_ids_of_a_model(emulator, ask):
    profile = emulator.bedrock.create_application_profile(name="costs", copy_from=SONNET_V2)
    assert ask(SONNET_V2, text(2_000), POINT)[1:] == (0, 2_003)
    assert ask(f"us.{SONNET_V2}", text(2_000), POINT)[1:] == (2_003, 0)
    assert ask(profile, text(2_000), POINT)[1:] == (2_003, 0)
    assert ask(HAIKU_45, text(5_000), POINT)[1:] == (0, 5_003)
    assert ask(SONNET, text(5_000), POINT)[1:] == (0, 5_003)


def test_models_of_a_router_have_separate_caches(emulator, ask):
    router = emulator.bedrock.default_router("amazon.nova:1")
    counts = []
    for model in (LITE, PRO, LITE, PRO):
        emulator.bedrock.choose(model)
        counts.append(ask(router, text(2_000), POINT)[1:])
    assert counts == [(0, 2_003), (0, 2_003), (2_003, 0), (2_003, 0)]


def test_a_managed_prompt_is_cached_with_the_messages_after_it(emulator, ask):
    arn = emulator.bedrock.add_prompt("caching", "x" * 8_000, SONNET)
    assert ask(arn, text(10), POINT, text(5)) == (5, 0, 2_010 + MESSAGE)
    assert ask(arn, text(10), POINT, text(6, "o")) == (6, 2_010 + MESSAGE, 0)


# --- time


def test_the_published_case_three_documents_three_questions(emulator):
    documents = [
        {"document": {"format": "pdf", "name": name, "source": {"bytes": pdf(paper(name))}}}
        for name in ("decisions", "services", "principles")
    ]
    answers = [
        emulator.runtime.converse(modelId=SONNET_V2, messages=[user(*documents, POINT, {"text": question})])
        for question in ("What is said of item 7?", "What is said of item 8?", "What is said of item 9?")
    ]
    usages = [answer["usage"] for answer in answers]
    written = usages[0]["cacheWriteInputTokens"]
    assert 25_000 < written < 35_000, "a PDF counts as the text that can be read in it"
    assert [usage["cacheReadInputTokens"] for usage in usages] == [0, written, written]
    assert [usage["cacheWriteInputTokens"] for usage in usages] == [written, 0, 0]
    assert all(usage["inputTokens"] < 20 for usage in usages)
    first, *later = (answer["metrics"]["latencyMs"] for answer in answers)
    assert all(0.3 < each / first < 0.6 for each in later), "at the launch it was 0.45"


def test_read_tokens_take_no_time_until_the_first_token(emulator):
    def latency(*blocks):
        return emulator.runtime.converse(modelId=SONNET, messages=[user(*blocks)])["metrics"]["latencyMs"]

    def stopped(tokens, *blocks):
        """Answers of one length."""
        return latency(text(tokens), *blocks, {"text": "[[emulator: chunks=3]]"})

    short = stopped(500)
    first, second = stopped(50_000, POINT), stopped(50_000, POINT)
    assert stopped(50_000) == first == stopped(50_000, POINT, text(1)) + first - second
    assert second == short
    assert first > short + 1_000


# --- any sequence of requests

TEXTS = st.integers(0, 3)
STEPS = st.lists(
    st.tuples(
        st.lists(TEXTS, max_size=1),
        st.lists(TEXTS, min_size=1, max_size=28),
        st.dictionaries(st.integers(0, 29), st.sampled_from(["5m", "1h"]), max_size=4),
        st.sampled_from([0, 100, 299, 300, 3_599, 3_600]),
    ),
    min_size=2,
    max_size=6,
)
SIZES = (7, 150, 340, 600)


def brute_force(entries, now, blocks, points):
    """The same rules on lists of contents: (read, written by ttl). `entries`: {content: [ttl, last use]}."""
    size = lambda end: sum(tokens for _, tokens in blocks[:end])  # noqa: E731
    alive = {
        content
        for content, (ttl, last) in entries.items()
        if now < last + {"5m": 300, "1h": 3_600}[ttl]
    }  # fmt: skip
    points = {end: ttl for end, ttl in points.items() if size(end) >= 1_024}
    ends = {end for point in points for end in range(1, point + 1) if point - end < 20}
    hit = max((end for end in ends if tuple(blocks[:end]) in alive), default=0)
    for end in {hit, *(end for end in points if end < hit)}:
        if tuple(blocks[:end]) in alive:
            entries[tuple(blocks[:end])][1] = now
    written = {}
    for start, end in itertools.pairwise([hit, *sorted(end for end in points if end > hit)]):
        entries[tuple(blocks[:end])] = [points[end], now]
        written[points[end]] = written.get(points[end], 0) + size(end) - size(start)
    return size(hit), written


@given(STEPS)
def test_any_sequence_of_requests_is_cached_by_the_rules(running, steps):
    running.bedrock.clear_caches()
    running.clock.now += 10_000
    entries = {}
    for system, content, ttls, wait in steps:
        running.clock.now += wait
        blocks, points, sent = [], {}, {"system": [], "content": []}
        for index, (field, kind) in enumerate([("system", k) for k in system] + [("content", k) for k in content]):
            first = field == "content" and index == len(system)
            blocks.append(((field, kind), SIZES[kind] + (MESSAGE if first else 0)))
            sent[field].append(text(SIZES[kind], "abcd"[kind]))
            if index in ttls:
                ttl = "5m" if "5m" in points.values() else ttls[index]
                points[len(blocks)] = ttl
                sent[field].append({"cachePoint": {"type": "default", "ttl": ttl}})
        members = {"system": sent["system"]} if system else {}
        answer = running.runtime.converse(modelId=SONNET, messages=[user(*sent["content"])], **members)
        read, written = brute_force(entries, running.clock.now, blocks, points)
        usage = answer["usage"]
        got = {entry["ttl"]: entry["inputTokens"] for entry in usage.get("cacheDetails", ())}
        total = sum(tokens for _, tokens in blocks)
        assert (usage["cacheReadInputTokens"], got) == (read, written)
        assert usage["cacheWriteInputTokens"] == sum(got.values())
        assert usage["inputTokens"] == total - read - sum(got.values())
        assert list(got) == sorted(got), "1h comes first"
