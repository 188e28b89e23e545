"""Test `sizes`: estimates without a tokenizer, corrected by the usage of answers, within limits."""

from __future__ import annotations

import itertools
import random
import zlib

import pytest
from cached_calls import NOVA_PRO, SONNET_45, Clock, scripted_client, text, user
from scripted_bedrock import ScriptedBedrock, whole_of

LEAST = 1_024


def written_in(alphabet, characters, seed):
    drawn = random.Random(seed)
    return {"text": "".join(drawn.choices(alphabet, k=characters))}


RUSSIAN = "абвгдежзиклмнопрстуфхцчшщыэюя "
CHINESE = "的一是不了人我在有他这为之大来以个中上们到说国和地也子时道出而要于就下得可你年生"
GERMAN = "abcdefghijklmnopqrstuvwxyzäöüß "


def estimated(client, *content, model=SONNET_45):
    return client.plan_cache_points(modelId=model, messages=[user(*content)]).tokens


@pytest.mark.sample(4)
@pytest.mark.parametrize("alphabet", [RUSSIAN, CHINESE, GERMAN, "abc "])
@pytest.mark.parametrize("per_character", [0.22, 0.45, 0.9])
def test_calibration_corrects_estimates_for_any_language_and_tokenizer(alphabet, per_character):
    """After eight answers an estimate is within 5%, whatever the tokenizer."""

    def answer(sent):
        count = round(per_character * sum(len(b.get("text", "")) for b in sent["messages"][0]["content"]))
        return whole_of({"text": "."}, usage={"inputTokens": count, "outputTokens": 1, "totalTokens": count + 1})

    clock = Clock()
    with ScriptedBedrock(answer) as server:
        client = scripted_client(server, clock)
        first = estimated(client, written_in(alphabet, 4_000, "x"))
        possible = 0.5 <= 4_000 * per_character / first <= 2.5
        for number in range(16):
            clock.now += 1
            client.converse(modelId=SONNET_45, messages=[user(written_in(alphabet, 4_000, number))])
        now = estimated(client, written_in(alphabet, 4_000, "x"))
        if possible:
            assert now == pytest.approx(4_000 * per_character, rel=0.05)
        else:
            assert 0.49 * first <= now <= 2.51 * first, "impossible ratios are limited"


@pytest.mark.sample(3)
@pytest.mark.parametrize(("tokens", "cached"), [(LEAST - 60, False), (LEAST + 60, True)])
@pytest.mark.parametrize("alphabet", [RUSSIAN, CHINESE, "abcdefgh "])
def test_calibration_decides_correctly_near_the_minimum(world, alphabet, tokens, cached):
    """A prefix that is too short gets no point; one that is long enough is read."""
    per_character = len(alphabet.encode()) / len(alphabet) / 4  # as the emulator counts
    document = written_in(alphabet, round(tokens / per_character), "doc")
    for number in range(8):
        world.call(written_in(alphabet, 3_000, number))
    calls = [world.call(document, world.question(8)) for _ in range(4)]
    assert (calls[-1].read > 0) == cached
    assert bool(calls[-1].points) == cached


def test_calibration_is_separate_for_each_family(world):
    before = estimated(world.client, written_in(RUSSIAN, 2_000, "x"), model=NOVA_PRO)
    for number in range(8):
        world.call(written_in(RUSSIAN, 2_000, number))
    assert estimated(world.client, written_in(RUSSIAN, 2_000, "x")) < 0.9 * before
    assert estimated(world.client, written_in(RUSSIAN, 2_000, "x"), model=NOVA_PRO) == before


# --- PDFs ---


def pdf(lines, *, pages=1):
    objects = b"".join(b"%d 0 obj\n<< /Type /Page >>\nendobj\n" % number for number in range(pages))
    words = b" ".join(b"Line %d of the report" % number for number in range(lines))
    shown = b"BT (" + words + b") Tj ET"
    if not pages:  # as newer files, which are compressed with all that is in them
        shown = zlib.compress(shown)
    about = b"<< /Length %d%s >>" % (len(shown), b"" if pages else b" /Filter /FlateDecode")
    content = b"1 0 obj\n" + about + b"\nstream\n" + shown + b"\nendstream\nendobj\n"
    return b"%PDF-1.4\n" + objects + content + b"trailer\n%%EOF\n"


def a_document(lines, name="report", **more):
    return {"document": {"format": "pdf", "name": name, "source": {"bytes": pdf(lines, **more)}}}


@pytest.mark.parametrize("pages", [0, 1, 8])
def test_pdf_size_is_learned_and_pdf_is_read(world, pages):
    """Also if the page objects are compressed, so that the number of pages is not known."""
    document = a_document(1_600, pages=pages)
    calls = [world.call(document, world.question()) for _ in range(8)]
    assert all(call.read > 7_000 for call in calls[1:])
    assert estimated(world.client, document) == pytest.approx(calls[-1].tokens, rel=0.1)


def test_pdf_estimates_do_not_change_text_estimates(world):
    for number in range(6):
        world.call(text(3_000, number))
    before = estimated(world.client, text(3_000, "x"))
    for number in range(8):
        world.call(a_document(1_600 + number), world.question())
    assert estimated(world.client, text(3_000, "x")) == pytest.approx(before, rel=0.02)


def test_pdf_with_another_name_or_pages_is_another_prefix(world):
    world.call(a_document(2_500), world.question())
    assert world.call(a_document(2_500, name="another"), world.question()).read == 0
    assert world.call(a_document(2_501), world.question()).read == 0
    assert world.call(a_document(2_500), world.question()).read > 7_000


# --- impossible usage ---

PLAIN = {"inputTokens": 4_000, "outputTokens": 1, "totalTokens": 4_001}
NONSENSE = {
    "nothing": {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0},
    "canned": {"inputTokens": 3, "outputTokens": 5, "totalTokens": 8},
    "negative": {**PLAIN, "inputTokens": -5, "cacheReadInputTokens": -3, "cacheWriteInputTokens": -1},
    "far too much": {**PLAIN, "inputTokens": 10**12},
    "too much read": {**PLAIN, "cacheReadInputTokens": 10**9},
    "too much written": {**PLAIN, "cacheWriteInputTokens": 10**9},
    "fractions": {**PLAIN, "cacheReadInputTokens": 0.5},
    "unknown lifetimes": {**PLAIN, "cacheDetails": [{"ttl": "9h", "inputTokens": 5}, {}, {"ttl": "1h"}]},
    "null": {**PLAIN, "cacheReadInputTokens": None, "cacheWriteInputTokens": None, "cacheDetails": None},
    "without cache members": PLAIN,
}  # fmt: skip


@pytest.mark.sample(4)
@pytest.mark.parametrize("name", NONSENSE)
def test_impossible_usage_does_no_harm(name):
    """The user gets the answer, estimates stay within limits, and correct answers correct them."""
    clock, numbers = Clock(), itertools.count()

    def answer(sent):
        right = {**PLAIN, "cacheReadInputTokens": 0, "cacheWriteInputTokens": 0}
        return whole_of({"text": "."}, usage=NONSENSE[name] if next(numbers) < 8 else right)

    with ScriptedBedrock(answer) as server:
        client = scripted_client(server, clock)
        for number in range(30):
            clock.now += 1
            response = client.converse(modelId=SONNET_45, messages=[user(text(4_000, number))])
            assert response["output"]["message"]["content"] == [{"text": "."}]
            assert 1_900 <= estimated(client, text(4_000, "x")) <= 10_100
        assert estimated(client, text(4_000, "x")) == pytest.approx(4_000, rel=0.05)


def test_usage_without_cache_counters_keeps_points():
    """Older gateways leave out the cache counters: a written prefix is assumed to be cached."""
    clock = Clock()
    with ScriptedBedrock(whole_of({"text": "."}, usage=PLAIN)) as server:
        client = scripted_client(server, clock)
        for number in range(6):
            clock.now += 1
            messages = [user(text(3_900, "doc"), text(50, number))]
            points = client.converse(modelId=SONNET_45, messages=messages)["routing"]["cache_points"]
            assert (0, 1) in [(point["message"], point["position"]) for point in points]
        assert "cached" in points[0]["reason"]
