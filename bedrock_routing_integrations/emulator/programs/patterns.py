r"""A short text that matches a regular expression, for string schemas with a `pattern`.

Reads the everyday part of the syntax (literals, `.`, `\d \w \s`, classes, groups, alternatives,
quantifiers, anchors); for anything else it gives up, and the caller does without.
"""

from __future__ import annotations

import re

__all__ = ["matching_text"]

_LONGEST = 100_000  # characters that one quantifier may make
_CLASSES = {"d": "0", "w": "a", "s": " ", "D": "a", "W": "-", "S": "a", "n": "\n", "t": "\t"}
_CANDIDATES = "aA01bB2-_ .@:/xyzXYZ3456789"
_QUANTIFIER = re.compile(r"(\*|\+|\?|\{(\d*)(?:,(\d*))?\})\??")
_ANCHORS = ("^", "$", r"\b", r"\A", r"\Z")


def matching_text(pattern: str, *, least: int = 0) -> str | None:
    """A text that `pattern` finds, with about `least` characters where its quantifiers allow; None if it fails."""
    try:
        compiled = re.compile(pattern)
        for repeats in (0, least, 1):
            text, end = _alternatives(pattern, 0, repeats)
            if end == len(pattern) and len(text) >= least and compiled.search(text):
                return text
    except (re.error, ValueError, IndexError, RecursionError):
        return None
    return None


def _alternatives(pattern: str, at: int, repeats: int) -> tuple[str, int]:
    """The first branch of `a|b|c` from `at` to its end or closing bracket."""
    text, at = _sequence(pattern, at, repeats)
    while at < len(pattern) and pattern[at] == "|":
        _, at = _sequence(pattern, at + 1, repeats)
    return text, at


def _sequence(pattern: str, at: int, repeats: int) -> tuple[str, int]:
    """Atoms with their quantifiers, one after the other."""
    out: list[str] = []
    while at < len(pattern) and pattern[at] not in "|)":
        anchor = next((each for each in _ANCHORS if pattern.startswith(each, at)), None)
        if anchor is not None:
            at += len(anchor)
            continue
        atom, at = _atom(pattern, at, repeats)
        quantifier = _QUANTIFIER.match(pattern, at)
        if quantifier is not None:
            at = quantifier.end()
            times = _times(quantifier, repeats)
            if times * len(atom) > _LONGEST:
                raise ValueError("a text too long to make")
            atom *= times
        out.append(atom)
    return "".join(out), at


def _times(quantifier: re.Match[str], repeats: int) -> int:
    """How often an atom is repeated: as little as allowed, or `repeats` times where that is allowed."""
    kind = quantifier[1]
    if kind[0] == "{":
        low = int(quantifier[2] or 0)
        high = low if quantifier[3] is None else int(quantifier[3] or max(low, repeats))
    else:
        low, high = {"*": (0, repeats), "+": (1, max(1, repeats)), "?": (0, 1)}[kind]
    return max(low, min(high, repeats))


def _atom(pattern: str, at: int, repeats: int) -> tuple[str, int]:
    """One character, escape, class or group."""
    char = pattern[at]
    if char == "(":
        inside = re.compile(r"\((?:\?:|\?P<\w+>|(?!\?))").match(pattern, at)
        if inside is None:
            raise ValueError("a group that looks around or sets flags")
        text, end = _alternatives(pattern, inside.end(), repeats)
        if pattern[end] != ")":
            raise ValueError("a group without an end")
        return text, end + 1
    if char == "[":
        end = pattern.index("]", at + (3 if pattern.startswith("[^]", at) else 2))
        one = re.compile(pattern[at : end + 1])
        candidates = _CANDIDATES + pattern[at:end]
        return next(each for each in (*candidates, "") if each == "" or one.fullmatch(each)), end + 1
    if char == "\\":
        return _CLASSES.get(pattern[at + 1], pattern[at + 1]), at + 2
    return ("a" if char == "." else char), at + 1
