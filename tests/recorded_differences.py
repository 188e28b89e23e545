"""Compare results with recordings, and name every recording that differs."""

from __future__ import annotations

import collections
import contextlib
import reprlib

import pytest

_LONGEST = 300
_MOST_PER_KIND = 6


class Differences:
    """Differences of a whole sweep. Leaving its ``with`` block fails the test if there are any.

    A sweep of several hundred recordings is one test: the failure lists each kind of difference once, with how many
    recordings have it, their names, and what was got and expected in the first of them.
    """

    def __init__(self):
        self._found = collections.defaultdict(list)
        self._current = None
        self.compared = 0

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if error is None:
            if self._found:
                pytest.fail(str(self), pytrace=False)
            assert self.compared, "no recording was compared"

    @contextlib.contextmanager
    def of(self, recording):
        """Compare one recording. An exception is one more difference, and the sweep goes on."""
        self._current = recording
        try:
            yield
        except Exception as error:
            self.add(f"raised {type(error).__name__}", str(error), "no exception")

    def add(self, what, got, expected):
        """Note a difference."""
        self._found[what].append((self._current.name, got, expected))

    def check(self, what, got, expected):
        """Note a difference unless the two are equal."""
        self.compared += 1
        if got != expected:
            self.add(what, got, expected)

    def __str__(self):
        lines = []
        for what, found in sorted(self._found.items(), key=lambda item: -len(item[1])):
            names = {name for name, _, _ in found}
            lines.append(f"{what}: {len(names)} recording(s)")
            for name, got, expected in found[:_MOST_PER_KIND]:
                texts = _from_first_difference(got, expected)
                lines += [f"  {name}", f"    got      {texts[0]}", f"    expected {texts[1]}"]
            rest = dict.fromkeys(name for name, _, _ in found[_MOST_PER_KIND:])
            lines += [f"  and {name}" for name in rest]
        return "\n".join(lines)


def _from_first_difference(got, expected):
    """Return both as text, cut to where they begin to differ."""
    texts = [value if isinstance(value, str) else _repr(value) for value in (got, expected)]
    same = next((index for index, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), 0)
    start = max(0, same - 60)
    return ["…" * bool(start) + text[start : start + _LONGEST] for text in texts]


def _repr(value):
    shortener = reprlib.Repr()
    shortener.maxstring = shortener.maxother = 2000
    shortener.maxdict = shortener.maxlist = shortener.maxtuple = shortener.maxlevel = 50
    return shortener.repr(value)
