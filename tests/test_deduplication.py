"""Test `SeenCalls`: a report counts each call once."""

from __future__ import annotations

import gc
import weakref

import pytest

from bedrock_routing_integrations.costs.deduplication import SeenCalls
from bedrock_routing_integrations.errors import InvalidRequestError


def test_seen_calls_forget_the_oldest():
    seen = SeenCalls(3)
    assert [seen.add(number) for number in range(10)] == [True] * 10
    assert [seen.add(number) for number in (7, 8, 9)] == [False] * 3
    assert seen.add(0)


def test_seen_calls_add_an_exception_once():
    """LangChain reports one exception to the runs of all prompts."""
    seen, error = SeenCalls(), InvalidRequestError("no")
    assert seen.add_error(error, "run")
    assert not seen.add_error(error, "run")
    assert not seen.add_error(error, "another run")
    assert seen.add_error(InvalidRequestError("no"), "a third run")


def test_seen_calls_know_builtin_exceptions_by_their_run():
    seen, error = SeenCalls(), OSError("down")  # has no weak references
    assert seen.add_error(error, "run")
    assert not seen.add_error(error, "run")
    assert seen.add_error(error, "another run")


@pytest.mark.parametrize("kind", [InvalidRequestError, KeyError])
def test_seen_calls_keep_no_exception_alive(kind):
    class Error(kind):
        pass

    seen, error = SeenCalls(), Error("no")
    seen.add_error(error, "run")
    reference = weakref.ref(error)
    del error
    gc.collect()
    assert reference() is None
