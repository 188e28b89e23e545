"""Test token counts in forms that Bedrock does not send today but another version or a gateway may."""

from __future__ import annotations

import pytest
from samples import HAIKU

from bedrock_routing_integrations.invocation import Usage, read_invocation
from bedrock_routing_integrations.models.candidates import resolve_by_id
from bedrock_routing_integrations.targets import parse_target

RESOLVED = resolve_by_id(parse_target(HAIKU))


def usage_of(usage):
    return read_invocation({}, {"usage": usage}, RESOLVED).usage


@pytest.mark.parametrize("usage", [{}, {"totalTokens": 5}, {"inputTokens": None, "outputTokens": None}])
def test_usage_without_counts_is_none(usage):
    assert usage_of(usage) is None


def written(total, *details):
    usage = {"inputTokens": 1, "outputTokens": 2, "cacheWriteInputTokens": total}
    return usage_of({**usage, "cacheDetails": [{"ttl": ttl, "inputTokens": tokens} for ttl, tokens in details]})


@pytest.mark.parametrize(
    ("details", "five_minutes", "one_hour"),
    [
        ([("30m", 600), ("5m", 400)], 1_000, 0),  # a lifetime that is new
        ([("5m", 400)], 1_000, 0),  # details of only some tokens
        ([("5m", 300), ("5m", 700)], 1_000, 0),
        ([("1h", 300), ("1h", 700)], 0, 1_000),
        ([("1h", 300), ("30m", 700)], 700, 300),
    ],
)
def test_every_token_written_to_the_cache_is_counted(details, five_minutes, one_hour):
    assert written(1_000, *details) == Usage(input=1, output=2, cache_write_5m=five_minutes, cache_write_1h=one_hour)
