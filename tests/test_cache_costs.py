"""Check what README promises about costs, in a simulation by the published rules, on workloads that could break it."""

from __future__ import annotations

import pytest
from benchmarks.cache_cost import MORE, OURS, run

pytestmark = pytest.mark.sweep

WORKLOADS = [
    "60 long one-offs", "clock in the first system block", "document, many users", "one of four documents twice",
    "100 short conversations",
]  # fmt: skip


@pytest.fixture(scope="module")
def lines():
    return run(only=WORKLOADS)


def test_planner_costs_at_most_two_percent_more_than_no_caching(lines):
    assert {line.workload for line in lines} == set(WORKLOADS)
    for line in lines:
        assert line.costs.ratios[OURS] <= MORE, (line.workload, line.flavour)
        assert line.costs.first[OURS] <= MORE, (line.workload, line.flavour)


def test_planner_matches_oracle_for_document_of_many_users(lines):
    assert all(line.to_oracle <= MORE for line in lines if line.workload == "document, many users")
