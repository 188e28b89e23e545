"""What has arrived of a stream, at any moment of it, now or later: `StreamAccumulator`."""

from __future__ import annotations

import copy
import json
import threading
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from bedrock_routing_integrations.transport.stream_accumulator import StreamAccumulator

# --- streams as Bedrock sends them: each block of one kind, its start first, blocks interleaved ---


def delta(index, **value):
    return {"contentBlockDelta": {"contentBlockIndex": index, "delta": value}}


def start(index, **value):
    return {"contentBlockStart": {"contentBlockIndex": index, "start": value}}


def pieces(text):
    """Ways to cut a text."""
    cuts = st.lists(st.integers(0, len(text)), max_size=4).map(sorted)
    return cuts.map(lambda at: [text[a:b] for a, b in zip([0, *at], [*at, len(text)], strict=True)])


texts = st.lists(st.text(max_size=6), max_size=5)
json_texts = st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=5), max_size=3).map(json.dumps)
inputs = (json_texts | st.sampled_from(["", "no JSON", '{"cut": "of'])).flatmap(pieces)
citations = st.lists(st.builds(lambda title: {"title": title}, st.text(max_size=4)), max_size=3)
CALL = {"toolUseId": "t", "name": "f"}


@st.composite
def blocks(draw, kinds):
    """The events of one block, with 0 for its index."""
    kind = draw(st.sampled_from(kinds))
    if kind == "text":
        events = [delta(0, text=text) for text in draw(texts)]
    elif kind == "toolUse":
        events = [start(0, toolUse=CALL), *(delta(0, toolUse={"input": part}) for part in draw(inputs))]
    elif kind == "reasoning":
        events = [delta(0, reasoningContent={"text": text}) for text in draw(texts)]
        events += [delta(0, reasoningContent={"signature": part}) for part in draw(texts)]
    elif kind == "redacted":
        parts = draw(st.lists(st.binary(max_size=4), min_size=1, max_size=3))
        events = [delta(0, reasoningContent={"redactedContent": part}) for part in parts]
    elif kind == "toolResult":
        events = [start(0, toolResult={"toolUseId": "t", "status": "success"})]
        events += [delta(0, toolResult=[{"text": text}]) for text in draw(texts)]
    elif kind == "image":
        events = [start(0, image={"format": "png"}), delta(0, image={"source": {"bytes": draw(st.binary(max_size=4))}})]
    elif kind == "cited":
        events = [delta(0, text=text) for text in draw(texts)]
        events += [delta(0, citation=each) for each in draw(citations)]
    else:
        events = [delta(0, somethingNew={"number": 1})]
    return [*events, {"contentBlockStop": {"contentBlockIndex": 0}}]


def at(index, event):
    ((name, body),) = event.items()
    return {name: {**body, "contentBlockIndex": index}}


@st.composite
def streams(draw, kinds=("text", "toolUse", "reasoning", "redacted", "toolResult", "image", "unknown")):
    """The events of a stream, cut anywhere."""
    waiting = [[at(i, event) for event in block] for i, block in enumerate(draw(st.lists(blocks(kinds), max_size=4)))]
    events = [{"messageStart": {"role": "assistant"}}]
    while any(waiting):
        block = draw(st.sampled_from([block for block in waiting if block]))
        events.append(block.pop(0))
    events += [{"messageStop": {"stopReason": "end_turn"}}, {"metadata": {"usage": {"inputTokens": 1}}}]
    return events[: draw(st.integers(0, len(events)))]


def moments(events):
    """For each event a mark, and what `response` gave then."""
    received = StreamAccumulator()
    found = []
    for event in events:
        received.add(event)
        found.append((received.snapshot(), copy.deepcopy(received.response()["output"]["message"]["content"])))
    return received, found


@given(events=streams(), order=st.randoms(use_true_random=False))
def test_a_moment_can_be_gone_back_to_later_and_in_any_order(events, order):
    received, found = moments(events)
    order.shuffle(found)
    for mark, then in found:
        assert received.content(mark) == then


@given(events=streams())
def test_a_moment_looks_the_same_while_the_stream_goes_on(events):
    received, marks = StreamAccumulator(), []
    _, found = moments(events)
    for event in events:
        received.add(event)
        marks.append(received.snapshot())
        for mark, (_, then) in zip(marks, found, strict=False):
            assert received.content(mark) == then


@given(events=streams())
def test_a_moment_looks_the_same_in_other_threads(events):
    received, found = moments(events)
    with ThreadPoolExecutor(4) as threads:
        seen = list(threads.map(received.content, [mark for mark, _ in found]))
    assert seen == [then for _, then in found]


@given(events=streams(("text", "cited")))
def test_a_moment_before_a_citation_has_none_later_either(events):
    received, found = moments(events)
    for mark, then in found:
        assert received.content(mark) == then


@given(events=streams(), later=streams())
def test_what_was_read_is_the_readers_own(events, later):
    """Whoever changes what he got changes nothing of what others get."""
    received, _ = moments(events)
    mark, before = received.snapshot(), copy.deepcopy(received.content())
    for block in received.content(mark):
        block.clear()
    received.response()["output"]["message"]["content"].clear()
    assert received.content(mark) == received.content() == before


@given(events=streams())
def test_the_callers_events_are_not_changed(events):
    before = copy.deepcopy(events)
    received, _ = moments(events)
    received.response()
    assert events == before


# --- against a reading that is as simple as can be ---


def plain_reading(events):
    """The texts, reasoning and arguments of the blocks, by joining what the deltas hold."""
    found = {}
    for event in events:
        if "contentBlockDelta" in event:
            body = event["contentBlockDelta"]
            value = body["delta"]
            text = value.get("text") or value.get("toolUse", {}).get("input") or ""
            text = text or value.get("reasoningContent", {}).get("text", "")
            found[body["contentBlockIndex"]] = found.get(body["contentBlockIndex"], "") + text
    return [text for _, text in sorted(found.items())]


@given(events=streams(("text", "toolUse", "reasoning")))
def test_nothing_of_a_text_is_lost_or_doubled_and_blocks_are_in_order(events):
    received, _ = moments(events)
    shown = []
    for block in received.content():
        call = block.get("toolUse")
        if call is not None:
            shown.append(call["input"] if isinstance(call["input"], str) else json.dumps(call["input"]))
        else:
            shown.append(block["text"] if "text" in block else block["reasoningContent"]["reasoningText"]["text"])
    # Blocks without a text show nothing, or an empty call.
    assert [text for text in shown if text not in ("", "{}")] == [
        text for text in plain_reading(events) if text not in ("", "{}")
    ]


def test_the_rest_of_the_response_is_what_the_last_events_said():
    received = StreamAccumulator()
    assert received.response() == {"output": {"message": {"role": "assistant", "content": []}}}
    for event in ({"messageStop": {"stopReason": "end_turn"}}, {"metadata": {"usage": {"inputTokens": 1}}}):
        received.add(event)
    assert received.response() == {
        "output": {"message": {"role": "assistant", "content": []}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 1},
    }


# --- readers beside the one who adds ---


def test_readers_see_whole_moments_while_another_thread_adds():
    parts = [f"{number} " for number in range(3000)]
    ends = [0]
    for part in parts:
        ends.append(ends[-1] + len(part))
    whole = "".join(parts)
    received, marks, wrong = StreamAccumulator(), [], []
    done = threading.Event()

    def read():
        position = 0
        while not (done.is_set() and position == len(marks)):
            if position < len(marks):
                for i in (position, position // 2):  # the newest, and one that was read before
                    if received.content(marks[i]) != [{"text": whole[: ends[i + 1]]}]:
                        wrong.append(i)
                position += 1

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for part in parts:
            received.add(delta(0, text=part))
            marks.append(received.snapshot())
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert wrong == []
