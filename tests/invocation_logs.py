"""Records of model invocation logs, by hand, in Bedrock's shape, without using the package.

Source: the user guide, and records that others have published (2026-11).
"""

from __future__ import annotations

import gzip
import itertools
import json
import random

ACCOUNT = "123456789012"
SONNET_45 = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
HAIKU_PROFILE = f"arn:aws:bedrock:us-east-1:{ACCOUNT}:inference-profile/us.anthropic.claude-3-haiku-20240307-v1:0"
ROUTER = f"arn:aws:bedrock:us-east-1:{ACCOUNT}:default-prompt-router/anthropic.claude:1"
APPLICATION = f"arn:aws:bedrock:us-east-1:{ACCOUNT}:application-inference-profile/a1b2c3d4e5f6"
_numbers = itertools.count(1)


def record(operation="Converse", model_id=SONNET_45, **given):
    """Return a record without bodies. `given` replaces members; a member that is None is left out."""
    number = next(_numbers)
    made = {
        "timestamp": "2026-11-14T04:12:37Z",
        "accountId": ACCOUNT,
        "identity": {"arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/Application/session"},
        "region": "us-east-1",
        "requestId": f"00000000-0000-4000-8000-{number:012d}",
        "operation": operation,
        "modelId": model_id,
        "input": {"inputContentType": "application/json", "inputTokenCount": 1000},
        "output": {"outputContentType": "application/json", "outputTokenCount": 100},
        "schemaType": "ModelInvocationLog",
        "schemaVersion": "1.0",
        **given,
    }
    return {name: value for name, value in made.items() if value is not None}


def converse(
    model_id=SONNET_45,
    *,
    read=0,
    written=(),
    plain=1000,
    output=100,
    latency_ms=3640,
    asked=None,
    served=None,
    invoked=None,
    text="Good morning.",
    **given,
):
    """Return a Converse or ConverseStream record with both bodies. `written` are (ttl, tokens)."""
    total_written = sum(tokens for _, tokens in written)
    usage = {
        "inputTokens": plain,
        "outputTokens": output,
        "totalTokens": plain + read + total_written + output,
        "cacheReadInputTokens": read,
        "cacheWriteInputTokens": total_written,
    }
    if written:
        usage["cacheDetails"] = [{"ttl": ttl, "inputTokens": tokens} for ttl, tokens in written]
    request = {"messages": [{"role": "user", "content": [{"text": "Say good morning."}]}]}
    answer = {
        "output": {"message": {"role": "assistant", "content": [{"text": text}]}},
        "stopReason": "end_turn",
        "metrics": {"latencyMs": latency_ms},
        "usage": usage,
    }
    if asked:
        request["performanceConfig"] = {"latency": asked}
    if served:
        answer["performanceConfig"] = {"latency": served}
    if invoked:
        answer["trace"] = {"promptRouter": {"invokedModelId": invoked}}
    return record(
        model_id=model_id,
        input={"inputContentType": "application/json", "inputBodyJson": request, "inputTokenCount": plain},
        output={"outputContentType": "application/json", "outputBodyJson": answer, "outputTokenCount": output},
        **given,
    )


def claude_stream(model_id=SONNET_45, *, written=None, read=0, texts=("Good", " morning."), **given):
    """Return an InvokeModelWithResponseStream record of Claude, whose output is a list of chunks."""
    written = written or {}
    counts = {
        "inputTokenCount": 3,
        "cacheReadInputTokenCount": read,
        "cacheWriteInputTokenCount": sum(written.values()),
    }
    start = {
        "type": "message_start",
        "message": {
            "model": "claude-sonnet-4-5-20250929",
            "usage": {
                "input_tokens": 3,
                "cache_creation_input_tokens": sum(written.values()),
                "cache_read_input_tokens": read,
                "cache_creation": {f"ephemeral_{ttl}_input_tokens": count for ttl, count in written.items()},
                "output_tokens": 1,
            },
        },
    }
    deltas = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}} for text in texts
    ]
    end = [
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 142}},
        {
            "type": "message_stop",
            "amazon-bedrock-invocationMetrics": {
                **counts, "outputTokenCount": 142, "invocationLatency": 2000, "firstByteLatency": 500,
            },
        },
    ]  # fmt: skip
    return record(
        "InvokeModelWithResponseStream",
        model_id,
        input={
            "inputContentType": "application/json",
            "inputBodyJson": {"anthropic_version": "bedrock-2023-05-31", "messages": [], "max_tokens": 500},
            **counts,
        },
        output={
            "outputContentType": "application/json",
            "outputBodyJson": [start, {"type": "content_block_start", "index": 0}, *deltas, *end],
            "outputTokenCount": 142,
        },
        inferenceRegion="us-east-2",
        **given,
    )


def refused(code="ThrottlingException", **given):
    """Return the record of a failed call, which has no output."""
    return record(errorCode=code, output=None, **given)


def embedding(**given):
    """Return the record of an embedding, which has no output tokens."""
    return record(
        "InvokeModel",
        "amazon.titan-embed-text-v2:0",
        input={"inputContentType": "application/json", "inputBodyJson": {"inputText": "Hello"}, "inputTokenCount": 3},
        output={"outputContentType": "application/json"},
        **given,
    )


def lines(*records):
    """Return the records as JSON lines, in bytes."""
    return b"".join(json.dumps(each, separators=(",", ":")).encode() + b"\n" for each in records)


def write_mixed(path, size, *, seed=1, zipped=False, lengths=(200, 2_000, 10_000, 60_000)):
    """Write a log of about so many bytes before gzip: long and short answers, streams, errors, embeddings.

    Args:
        path: The file to write.
        size: Bytes.
        seed: Of what is drawn; part of every request id.
        zipped: Whether to compress it.
        lengths: Characters of an answer.

    Returns:
        The number of records.
    """
    rng, written, number = random.Random(seed), 0, 0
    words = ("the", "moon", "io", "europa", "ganymede", "callisto", "titan", "triton", "über", "日本", "\n", '"', "of")
    text = " ".join(rng.choice(words) for _ in range(20_000))
    with gzip.open(path, "wb", compresslevel=1) if zipped else path.open("wb") as file:
        while written < size:
            line = lines(_mixed(rng, text, number, seed, lengths))
            written, number = written + len(line), number + 1
            file.write(line)
    return number


def _mixed(rng, text, number, seed, lengths):
    start, length, kind = rng.randrange(1000), rng.choice(lengths), rng.randrange(5)
    piece = text[start : start + length]
    if kind == 0:
        made = converse(ROUTER, invoked=HAIKU_PROFILE, text=piece)
    elif kind == 1:
        made = converse(read=2000, text=piece, asked="optimized", served="standard")
    elif kind == 2:
        made = claude_stream(APPLICATION, texts=[piece[at : at + 12] for at in range(0, length, 12)])
    else:
        made = refused() if kind == 3 else embedding()
    seconds = number % 86_400
    time = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    metadata = {"team": rng.choice(("search", "support", "research")), "traceId": f"{number:x}"}
    return {**made, "requestId": f"{seed}-{number}", "timestamp": f"2026-11-14T{time}Z", "requestMetadata": metadata}
