"""`StreamAccumulator`: the response of a stream, cut anywhere."""

from __future__ import annotations

import copy
import json

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


def accumulate(events):
    accumulator = StreamAccumulator()
    for event in events:
        accumulator.add(event)
    return accumulator


@given(events=streams(), data=st.data())
def test_reading_between_events_does_not_change_what_follows(events, data):
    accumulator = StreamAccumulator()
    for event in events:
        accumulator.add(event)
        if data.draw(st.booleans()):
            accumulator.response()
    assert accumulator.response() == accumulate(events).response()


@given(events=streams(("text", "cited", "toolUse")))
def test_only_text_is_the_text_of_a_single_text_block(events):
    accumulator = accumulate(events)
    text = accumulator.only_text()
    if text is not None:
        assert accumulator.content() == ([{"text": text}] if text else [])


@given(events=streams())
def test_changing_content_changes_no_later_content(events):
    accumulator = accumulate(events)
    before = copy.deepcopy(accumulator.content())
    for block in accumulator.content():
        block.clear()
    assert accumulator.content() == before


@given(events=streams())
def test_events_of_the_caller_are_not_changed(events):
    before = copy.deepcopy(events)
    accumulate(events).response()
    assert events == before


# --- Compared with a plain reading of the deltas ---


def texts_of_deltas(events):
    """Return the texts, reasoning and arguments of the blocks, by joining the text of the deltas."""
    texts_by_block = {}
    for event in events:
        if "contentBlockDelta" in event:
            body = event["contentBlockDelta"]
            value = body["delta"]
            text = value.get("text") or value.get("toolUse", {}).get("input") or ""
            text = text or value.get("reasoningContent", {}).get("text", "")
            index = body["contentBlockIndex"]
            texts_by_block[index] = texts_by_block.get(index, "") + text
    return [text for _, text in sorted(texts_by_block.items())]


@given(events=streams(("text", "toolUse", "reasoning")))
def test_content_has_all_text_once_in_the_order_of_blocks(events):
    accumulator = accumulate(events)
    shown = []
    for block in accumulator.content():
        call = block.get("toolUse")
        if call is not None:
            shown.append(call["input"] if isinstance(call["input"], str) else json.dumps(call["input"]))
        else:
            shown.append(block["text"] if "text" in block else block["reasoningContent"]["reasoningText"]["text"])
    # Blocks without a text have no entry, or an empty call.
    assert [text for text in shown if text not in ("", "{}")] == [
        text for text in texts_of_deltas(events) if text not in ("", "{}")
    ]


def test_response_has_stop_reason_and_metadata():
    accumulator = StreamAccumulator()
    assert accumulator.response() == {"output": {"message": {"role": "assistant", "content": []}}}
    for event in ({"messageStop": {"stopReason": "end_turn"}}, {"metadata": {"usage": {"inputTokens": 1}}}):
        accumulator.add(event)
    assert accumulator.response() == {
        "output": {"message": {"role": "assistant", "content": []}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 1},
    }
