"""Test logs made to hang a report or to exhaust memory, as a few kilobytes of gzip can."""

from __future__ import annotations

import json
import os
import tracemalloc

import pytest
from invocation_logs import converse

from bedrock_routing_integrations.costs.invocation_logs.formats import Document
from bedrock_routing_integrations.costs.invocation_logs.reading import read_history

WELL = json.dumps(converse()).encode() + b"\n"


def test_string_of_escapes_takes_bounded_memory(tmp_path):
    log = tmp_path / "log.json"
    log.write_bytes(WELL)
    read_history([log])  # the table of prices is loaded, which takes more than the log
    log.write_bytes(WELL + b'{"a":"' + b'\\"' * 2**18 + b"\n")
    tracemalloc.start()
    try:
        history, peak = read_history([log]), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (history.calls, history.malformed) == (1, 1)
    assert peak < 8 * log.stat().st_size


@pytest.mark.parametrize("line", [b"[", b'{"a":'])
def test_brackets_that_are_never_closed_are_not_all_kept(line):
    document = Document(2**30)
    given_up = [found for number in range(50_000) for found in document.more(number, line)]
    assert document.depth <= 10_000
    assert given_up


def test_many_short_lines_are_not_kept_beyond_the_longest_record():
    document = Document(1_000_000)
    lines = [b'{"a":[1,', *([b"1,"] * 50_000)]
    given_up = [found for number, line in enumerate(lines, 1) for found in document.more(number, line)]
    assert len(given_up) == 1


def test_escaped_quotes_do_not_end_a_string_across_lines(tmp_path):
    log = tmp_path / "log.json"
    log.write_text(json.dumps([converse(text='\\" {["\\\\'), converse(text="a\\")], indent=1))
    history = read_history([log])
    assert (history.calls, history.malformed) == (2, 0)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are none on this system")
def test_named_pipe_in_a_folder_is_not_read(tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "log.json").write_bytes(WELL)
    os.mkfifo(folder / "pipe")
    (folder / "zero").symlink_to("/dev/zero")
    (folder / "gone").symlink_to(folder / "nothing")
    history = read_history([folder])
    assert (history.files, history.calls) == (1, 1)
    assert [path for path, _ in history.unreadable] == [str(folder / "gone")]
