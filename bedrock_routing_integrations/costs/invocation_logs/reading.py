"""Read Bedrock's model-invocation logs into a report."""

from __future__ import annotations

import functools
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.costs.prices import Prices, priced
from bedrock_routing_integrations.costs.report import RoutingReport
from bedrock_routing_integrations.costs.totals import DAY
from bedrock_routing_integrations.errors import InvalidTargetError
from bedrock_routing_integrations.invocation import read_invocation
from bedrock_routing_integrations.models.candidates import (
    ResolvedTarget,
    candidates_in_arn,
    from_base_models,
    resolve_by_id,
)
from bedrock_routing_integrations.targets import Target, TargetKind, parse_target

from .files import log_files, read_body, read_values
from .formats import OtherRecords
from .records import LoggedCall, read_record, unwrapped

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from .formats import Malformed

APPLICATION_PROFILE = "application_profile"
FACTS = ("identity", "region", "inference_region", "account", "operation", DAY)
"""The facts of a record, besides its ``requestMetadata``, that calls can be counted by."""
OTHERS = "(others)"
NONE = "(none)"
"""The value of a requested label for calls without one."""

_MOST_KEYS, _MOST_FOUND = 5, 20
_MOST_VALUES = 1_000
_MOST_EXAMPLES = 3
_MOST_TARGETS = 4_096
_FEWEST_SLOTS, _MOST_SLOTS = 2**12, 2**22


@dataclass(frozen=True)
class Example:
    """A line that could not be read.

    Attributes:
        path: The path of its file.
        line: Its number.
        reason: The reason.
    """

    path: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.reason}"


@dataclass
class History:
    """The result of reading logs.

    Attributes:
        report: The report.
        files: The number of files read.
        lines: The number of their lines.
        calls: The number of calls in the report, including those that failed.
        malformed: The number of lines, or records in them, that could not be read.
        examples: The first of them.
        skipped: The number of records or lines that are not of an invocation.
        others: Their kinds, such as "CloudTrail records", with numbers; the first twenty kinds.
        advice: Advice for these kinds, if there is any.
        duplicates: The number of repeated calls: Bedrock writes to both S3 and CloudWatch Logs if both are configured.
        outside: The number of calls before `since`, or not before `until`.
        unreadable: The first files that could not be read, with the reason.
        unreadable_files: The number of such files.
        incomplete: Targets whose models are not all known → their calls, and the error of the look-up, if there was
            one.
        guessed_ttl: The number of calls with cache writes of unknown lifetime; counted as five minutes.
        without_bodies: The number of calls without request and response; counted as standard latency and default tier.
        too_many_values: The labels with more than a thousand values, so that the rest are "(others)".
        left_out_keys: The keys of ``requestMetadata`` that are not labels, because there are five already.
        found_keys: If labels were requested: the keys of ``requestMetadata`` in the logs, at most some twenty.
        duplicates_found_all: Whether every call could be compared with all calls before it.
    """

    report: RoutingReport
    files: int = 0
    lines: int = 0
    calls: int = 0
    malformed: int = 0
    examples: list[Example] = field(default_factory=list)
    skipped: int = 0
    others: Counter[str] = field(default_factory=Counter)
    advice: dict[str, str] = field(default_factory=dict)
    duplicates: int = 0
    outside: int = 0
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    unreadable_files: int = 0
    incomplete: dict[str, tuple[int, str | None]] = field(default_factory=dict)
    guessed_ttl: int = 0
    without_bodies: int = 0
    too_many_values: set[str] = field(default_factory=set)
    left_out_keys: set[str] = field(default_factory=set)
    found_keys: set[str] = field(default_factory=set)
    duplicates_found_all: bool = True

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the report, as a JSON-safe dictionary."""
        return {
            "files": self.files,
            "lines": self.lines,
            "calls": self.calls,
            "malformed": self.malformed,
            "examples": [vars(example) for example in self.examples],
            "skipped": self.skipped,
            "others": dict(self.others),
            "duplicates": self.duplicates,
            "outside": self.outside,
            "unreadable_files": self.unreadable_files,
            "incomplete": {name: {"calls": n, "refused": why} for name, (n, why) in self.incomplete.items()},
            "guessed_ttl": self.guessed_ttl,
            "without_bodies": self.without_bodies,
        }


def read_history(
    paths: Iterable[str | os.PathLike[str]],
    *,
    resolve: Callable[[str], ResolvedTarget] | None = None,
    prices: Mapping[str, Mapping[str, Any]] | None = None,
    labels: Sequence[str] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    progress: Callable[[int], None] | None = None,
) -> History:
    """Read Bedrock's model-invocation logs, in bounded memory.

    A call that is logged twice (with the same ``requestId``) is counted once. The ids of about three million calls are
    remembered; later calls are compared with those. A call that failed is counted as an error, without tokens.

    Args:
        paths: Files, folders, ``"-"`` for standard input; plain or gzip, whatever their names.
        resolve: Return the candidate models of a target, such as `RoutedClient.resolve`, which asks AWS; called once
            for each target. By default only the ids themselves are used.
        prices: The user's own prices, as in `Prices`.
        labels: The labels to count by: keys of ``requestMetadata``, ``"application_profile"``, and `FACTS` (a key with
            such a name is ``"metadata.region"``). ``"day"`` is the day in UTC; ``"day,team"`` counts by day and key at
            once. By default application profiles and the first five keys in the logs.
        since: The first moment to count, timezone-aware.
        until: The first moment not to count, timezone-aware.
        progress: Called with the number of bytes read since the last call, compressed as in the files.

    Raises:
        InvalidRequestError: A price is not valid.
    """
    reader = _Reader(resolve or stated_only(), prices, _Labels(labels), since, until)
    for path in log_files(paths):
        reader.read(path, progress)
    return reader.history


def stated_only(base_models: Mapping[str, Sequence[str]] | None = None) -> Callable[[str], ResolvedTarget]:
    """Return a function that resolves targets from their ids and the stated base models, without any request.

    Args:
        base_models: Target → the base models that it can use.

    Raises:
        InvalidTargetError: A target or a base model is not valid.
    """
    stated = {
        parse_target(name).model_id: from_base_models(parse_target(name), m) for name, m in (base_models or {}).items()
    }

    def resolve(model_id: str) -> ResolvedTarget:
        target = parse_target(model_id)
        known = stated.get(target.model_id) or resolve_by_id(target)
        return known or ResolvedTarget(target, candidates_in_arn(target), complete=False)

    return resolve


class _Reader:
    """A reader of file after file into one `History`."""

    def __init__(
        self,
        resolve: Callable[[str], ResolvedTarget],
        prices: Mapping[str, Mapping[str, Any]] | None,
        labels: _Labels,
        since: datetime | None,
        until: datetime | None,
    ) -> None:
        self.history = History(RoutingReport(prices=prices))
        self._prices = Prices(prices)
        self._resolve = functools.lru_cache(maxsize=_MOST_TARGETS)(functools.partial(_resolved, resolve))
        self._labels = labels
        self._since = since
        self._until = until
        self._seen = _Seen()

    def read(self, path: str, progress: Callable[[int], None] | None) -> None:
        """Read a file, and note if it cannot be read.

        Args:
            path: The file.
            progress: Called with the number of bytes read since the last call.
        """
        history = self.history
        body = functools.partial(read_body, path)
        number = 0
        try:
            for number, value in read_values(path, progress):
                for record, sent_ms in unwrapped(value):
                    call = read_record(record, sent_ms, body)
                    if isinstance(call, LoggedCall):
                        self._count(call)
                    elif isinstance(call, OtherRecords):
                        self._skip(call)
                    else:
                        self._note(path, number, call)
        except OSError as error:
            history.unreadable_files += 1
            if len(history.unreadable) < _MOST_EXAMPLES:
                history.unreadable.append((path, error.strerror or str(error)))
        else:
            history.files += 1
            history.lines += number

    def _skip(self, other: OtherRecords) -> None:
        history = self.history
        history.skipped += 1
        if other.kind in history.others or len(history.others) < _MOST_FOUND:
            history.others[other.kind] += 1
            history.advice[other.kind] = other.advice

    def _note(self, path: str, number: int, malformed: Malformed) -> None:
        self.history.malformed += 1
        if len(self.history.examples) < _MOST_EXAMPLES:
            self.history.examples.append(Example(path, number, malformed.reason))

    def _count(self, call: LoggedCall) -> None:
        history = self.history
        if (self._since and call.when < self._since) or (self._until and call.when >= self._until):
            history.outside += 1
            return
        if call.request_id is not None and not self._seen.is_new(call.request_id):
            history.duplicates += 1
            return
        history.duplicates_found_all = not self._seen.full
        history.calls += 1
        labels = self._labels.of(call, history)
        if call.error is not None or call.model_id is None:
            history.report.add_error(
                call.error or "unknown", requested_model_id=call.model_id, when=call.when, labels=labels
            )
            return
        resolved = self._resolve(call.model_id)
        if not resolved.complete and (call.model_id in history.incomplete or len(history.incomplete) < _MOST_TARGETS):
            calls, _ = history.incomplete.get(call.model_id, (0, None))
            history.incomplete[call.model_id] = calls + 1, resolved.refused
        history.guessed_ttl += call.guessed_ttl
        history.without_bodies += call.without_bodies
        invocation = read_invocation(
            call.request,
            call.response,
            resolved,
            http={"RequestId": call.request_id},
            time_to_first_token_ms=call.first_token_ms,
        )
        paid = priced(invocation, resolved, self._prices, when=call.when, region=call.facts.get("region"))
        history.report.add(paid.as_dict(), when=call.when, labels=labels)


def _resolved(resolve: Callable[[str], ResolvedTarget], model_id: str) -> ResolvedTarget:
    try:
        return resolve(model_id)
    except InvalidTargetError:
        # A log can hold an id that the parser does not accept yet: it is counted by its name.
        return ResolvedTarget(Target(TargetKind.FOUNDATION_MODEL, None, None, None, model_id, model_id), complete=False)


class _Labels:
    """The labels of calls.

    Args:
        wanted: The names; None for the keys in the logs.
    """

    def __init__(self, wanted: Sequence[str] | None) -> None:
        self._wanted = None if wanted is None else tuple(wanted)
        self._keys: set[str] = set()
        self._values: dict[str, set[str]] = {}

    def of(self, call: LoggedCall, history: History) -> dict[str, str]:
        """Return the labels of a call; "(others)" replaces the values of a label with too many of them.

        Args:
            call: The call.
            history: The history, which records such labels.
        """
        found = {
            f"metadata.{name}" if name in FACTS or name == APPLICATION_PROFILE else name: value
            for name, value in call.metadata.items()
        }
        if self._wanted is None:
            found = {name: value for name, value in found.items() if self._is_known(name, history)}
        if call.model_id is not None and ":application-inference-profile/" in call.model_id:
            found[APPLICATION_PROFILE] = call.model_id
        if self._wanted is not None:
            if len(history.found_keys) < _MOST_FOUND:
                history.found_keys.update(call.metadata)
            found.update(call.facts)
            found = {name: _value_of(name, found) for name in self._wanted}
        return {name: self._bounded(name, value, history) for name, value in found.items()}

    def _is_known(self, name: str, history: History) -> bool:
        if name in self._keys:
            return True
        if len(self._keys) < _MOST_KEYS:
            self._keys.add(name)
            return True
        if len(history.left_out_keys) < _MOST_VALUES:
            history.left_out_keys.add(name)
        return False

    def _bounded(self, name: str, value: str, history: History) -> str:
        values = self._values.setdefault(name, set())
        if value in values:
            return value
        if len(values) < _MOST_VALUES:
            values.add(value)
            return value
        history.too_many_values.add(name)
        return OTHERS


def _value_of(name: str, found: Mapping[str, str]) -> str:
    """Return the value of a label; for ``"day,KEY"`` the day and the value of the key."""
    day, comma, key = name.partition(",")
    if day == DAY and comma and name not in found:
        return f"{found[DAY]}, {found.get(key.strip(), NONE)}"
    return found.get(name, NONE)


class _Seen:
    """The request ids that were seen: a hash of eight bytes for each, in a table of at most 32 MiB.

    (A set of a million strings takes a hundred. Two of three million ids have the same hash once in four million
    times.)
    """

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * _FEWEST_SLOTS))
        self._used = 0
        self.full = False

    def is_new(self, request_id: str) -> bool:
        """Return whether an id was not seen before, and remember it if there is space."""
        mark = (hash(request_id) & 0xFFFF_FFFF_FFFF_FFFF) or 1
        at = self._place(mark)
        if self._slots[at]:
            return False
        if self._used * 4 >= len(self._slots) * 3:
            if len(self._slots) >= _MOST_SLOTS:
                self.full = True
                return True
            self._grow()
            at = self._place(mark)
        self._slots[at] = mark
        self._used += 1
        return True

    def _place(self, mark: int) -> int:
        slots, last = self._slots, len(self._slots) - 1
        at = mark & last
        while slots[at] and slots[at] != mark:
            at = (at + 1) & last
        return at

    def _grow(self) -> None:
        before, self._slots = self._slots, array("Q", bytes(8 * 2 * len(self._slots)))
        for mark in before:
            if mark:
                self._slots[self._place(mark)] = mark
