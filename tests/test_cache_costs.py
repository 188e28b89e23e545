"""What is said of costs holds: simulated by the published rules, on workloads that could make it untrue."""

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


def test_whatever_the_prompts_are_caching_hardly_costs_more_than_none(lines):
    assert {line.workload for line in lines} == set(WORKLOADS)
    for line in lines:
        assert line.costs.ratios[OURS] <= MORE, (line.workload, line.flavour)
        assert line.costs.first[OURS] <= MORE, (line.workload, line.flavour)


def test_a_document_of_many_users_costs_what_it_would_if_the_future_were_known(lines):
    assert all(line.to_oracle <= MORE for line in lines if line.workload == "document, many users")
