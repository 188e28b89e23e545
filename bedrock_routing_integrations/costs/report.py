"""Add up many calls in a `RoutingReport`: their cost, and the savings of routing and caching."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.errors import InvalidRequestError, InvalidTargetError, error_kind
from bedrock_routing_integrations.targets import parse_target

from .deduplication import SeenCalls
from .prices import Prices
from .totals import OTHERS, Tally, Timeline, is_by_day, read_call, text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .totals import Call

MOST_ROWS = 1_000
"""The greatest number of targets, and of values of a label. Further ones are summed as "(others)"."""
MOST_MODELS = 20
"""The greatest number of models of one target."""
MOST_LABELS = 20
"""The greatest number of labels."""
_Models = dict[tuple["str | None", "bool | None"], Tally]
"""The invoked model and whether it was the fallback → the totals, for one target."""


class RoutingReport:
    """The totals of many calls: invoked models, tokens, cost, savings, latency and errors.

    Calls can be added from any number of threads. Memory does not grow with the number of calls. Sums are exact and do
    not depend on the order of the calls. ``print`` shows a table.

    Args:
        prices: Your own prices, the same as `RoutedClient`'s `prices`. A ``"routing"`` entry does not hold the savings
            of caching, so the report calculates them from these prices.

    Example:
        ```python
        from bedrock_routing_integrations import RoutedClient, RoutingReport
        import boto3

        client, report = RoutedClient(boto3.client("bedrock-runtime")), RoutingReport()
        for question in ("Say good morning.", "Say good night."):
            response = client.converse(
                modelId="arn:aws:bedrock:us-east-1:123456789012:default-prompt-router/amazon.nova:1",
                messages=[{"role": "user", "content": [{"text": question}]}],
            )
            report.add(response["routing"])
        print(report)
        ```
    """

    def __init__(self, *, prices: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self._prices = Prices(prices)
        self._lock = threading.Lock()
        self._kinds: dict[str, str] = {}
        self._targets: dict[str, _Models] = {}
        self._failed: dict[str | None, Tally] = {}
        self._labels: dict[str, dict[str, Tally]] = {}
        self._timeline = Timeline()
        self.seen_calls = SeenCalls()

    # Adding

    def add(
        self,
        routing: Mapping[str, Any],
        *,
        when: datetime | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Add a call that was answered.

        Args:
            routing: The call's ``"routing"`` entry.
            when: The time of the call, with a time zone; by default now.
            labels: Names and values to group calls by, such as ``{"team": "search"}``; at most 20 labels are kept.
                Values of the label ``"day"`` are shown in chronological order. Calls of a project also get the label
                ``"project"``.

        Raises:
            InvalidRequestError: `routing` is not a ``"routing"`` entry, or `when` has no time zone.
        """
        if not isinstance(routing, Mapping) or not isinstance(routing.get("requested_model_id"), str):
            kind = "mapping without requested_model_id" if isinstance(routing, Mapping) else type(routing).__name__
            raise InvalidRequestError(
                f'routing is not valid: it is a {kind}. Pass a "routing" entry, such as '
                'message.response_metadata["routing"].'
            )
        when, labels = _aware(when), _checked_labels(labels)
        if isinstance(routing.get("project"), str):
            labels = {"project": text(routing["project"]), **labels}
        call = read_call(routing, self._prices, when)
        with self._lock:
            model = call.invoked_model, call.is_fallback
            self._answered(call.requested_model_id, call.target_kind, model).add(call)
            self._timeline.add(call, when)
            self._add_labels(labels, call=call)

    def add_error(
        self,
        error: BaseException | str,
        *,
        requested_model_id: str | None = None,
        when: datetime | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Add a call that failed. It counts as an error, not as a call.

        Args:
            error: The exception, whose kind is AWS's error code or else its class name; or the kind itself.
            requested_model_id: The id or ARN of the target.
            when: The time of the call, with a time zone; by default now. (``timeline`` has no errors.)
            labels: As in `add`.
        """
        when, labels = _aware(when), _checked_labels(labels)
        kind = text(error if isinstance(error, str) else error_kind(error))
        target = None if requested_model_id is None else text(requested_model_id)
        with self._lock:
            _bounded(self._failed, target, OTHERS).add_error(kind)
            self._timeline.extend(when, when)
            self._add_labels(labels, error=kind)

    def _answered(self, target: str, kind: str, model: tuple[str | None, bool | None]) -> Tally:
        if target not in self._targets and len(self._targets) >= MOST_ROWS:
            target = kind = OTHERS
        self._kinds.setdefault(target, kind)
        return _bounded(self._targets.setdefault(target, {}), model, (OTHERS, None), MOST_MODELS)

    def _add_labels(self, labels: Mapping[str, str], *, call: Call | None = None, error: str = "") -> None:
        for name, value in labels.items():
            tally = self._labelled(name, value)
            if tally is not None and call is not None:
                tally.add(call)
            elif tally is not None:
                tally.add_error(error)

    def _labelled(self, name: str, value: str) -> Tally | None:
        if name not in self._labels and len(self._labels) >= MOST_LABELS:
            return None
        return _bounded(self._labels.setdefault(name, {}), value, OTHERS)

    def merge(self, other: RoutingReport) -> None:
        """Add all calls of another report, such as one of another process (reports can be pickled).

        Args:
            other: The other report. It is not changed.
        """
        other = other._copy()  # a copy, so that two locks are never held at once
        with self._lock:
            self._merge(other)

    def _merge(self, other: RoutingReport) -> None:
        for target, models in other._targets.items():
            for model, tally in models.items():
                self._answered(target, other._kinds[target], model).merge(tally)
        for failed, tally in other._failed.items():
            _bounded(self._failed, failed, OTHERS).merge(tally)
        for name, values in other._labels.items():
            for value, tally in values.items():
                mine = self._labelled(name, value)
                if mine is not None:
                    mine.merge(tally)
        self._timeline.merge(other._timeline)

    # Reading

    @property
    def calls(self) -> int:
        """The number of answered calls."""
        with self._lock:
            return sum(tally.calls for models in self._targets.values() for tally in models.values())

    @property
    def cost_usd(self) -> float | None:
        """The cost of the calls with a known price, in US dollars; None if no call has one."""
        return self._total().cost.usd

    @property
    def saved_by_routing_usd(self) -> float | None:
        """US dollars saved compared with always calling the fallback model; None if not known."""
        return self._total().routing.usd

    @property
    def saved_by_caching_usd(self) -> float | None:
        """US dollars saved compared with no caching, negative if caching cost more; None if not known."""
        return self._total().caching.usd

    def _total(self) -> Tally:
        with self._lock:
            return _sum(tally for models in self._targets.values() for tally in models.values())

    def to_dict(self) -> dict[str, Any]:
        """Return the report as a JSON-safe dictionary: US dollars, milliseconds, and shares from 0 to 1.

        Returns:
            ``since``, ``until``; ``totals``; ``targets``, each with its ``models``; ``models`` over all targets; ``by``
            label and value; ``timeline``; ``prices``, the table used for the savings of caching. Each set of totals
            holds:

            - ``calls`` that were answered, and their ``share``; ``errors`` by kind.
            - ``tokens``; ``calls_without_usage``, for which Bedrock reports no tokens (RetrieveAndGenerate).
            - ``cache_hit_rate``: tokens read from caches / (read + written).
            - ``cost_usd``, without the ``calls_without_price``; null if no call has a price.
            - ``saved_by_routing_usd`` compared with the same tokens on the fallback model, and ``saved_by_caching_usd``
              compared with the same tokens uncached; the cost of the same calls (``routed_cost_usd``,
              ``cached_cost_usd``); and the number of calls for which the savings are not known.
            - ``latency`` and ``service_tier``: requested → served → calls. The requested value is ``"none"`` if the
              request had none, and ``"unknown"`` if a log only shows that there was one.
            - ``latency_ms`` (as Bedrock reports it) and ``time_to_first_token_ms`` (of streams): ``p50`` and ``p95`` in
              whole milliseconds, exact for up to 128 calls and within 1% for more, and the number of calls.
            - ``stop_reasons`` (Converse's names) → calls; ``guardrail_interventions``.
        """
        report = self._copy()
        kinds, targets, failed = report._kinds, report._targets, report._failed  # noqa: SLF001 - another RoutingReport
        labels, timeline = report._labels.items(), report._timeline  # noqa: SLF001 - as above
        totals = _sum([*(tally for models in targets.values() for tally in models.values()), *failed.values()])
        by_model: dict[str | None, Tally] = {}
        for models in targets.values():
            for (model, _), tally in models.items():
                by_model.setdefault(model, Tally()).merge(tally)
        return {
            "since": timeline.since.isoformat() if timeline.since else None,
            "until": timeline.until.isoformat() if timeline.until else None,
            "totals": totals.as_dict(totals.calls),
            "targets": _by_target(kinds, targets, failed, totals.calls),
            "models": _sorted({"invoked_model": m, **tally.as_dict(totals.calls)} for m, tally in by_model.items()),
            "by": {name: _by_value(name, values, totals.calls) for name, values in labels},
            "timeline": timeline.as_list(),
            "prices": self._prices.source,
        }

    def to_json(self, *, indent: int | None = 2) -> str:
        """Return `to_dict` as JSON.

        Args:
            indent: The spaces of each level; None for one line.
        """
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False)

    def to_markdown(self) -> str:
        """Return the tables of the report in Markdown."""
        from .report_tables import as_markdown

        return as_markdown(self.to_dict())

    def plot(self) -> Any:
        """Draw the shares of calls and cost by model, the savings over time, and one panel for each label.

        Returns:
            A matplotlib ``Figure``. Notebooks show it; ``figure.savefig("report.png")`` writes it to a file.

        Raises:
            ImportError: matplotlib is not installed (``pip install "bedrock-routing-integrations[plot]"``).
        """
        from .plot import draw

        return draw(self.to_dict())

    def __str__(self) -> str:
        from .report_tables import as_text

        return as_text(self.to_dict())

    def __repr__(self) -> str:
        return f"<RoutingReport of {self.calls:,} call{'' if self.calls == 1 else 's'}>"

    def _repr_html_(self) -> str:
        from .report_tables import as_html

        return as_html(self.to_dict())

    # Copying

    def _copy(self) -> RoutingReport:
        copied = RoutingReport()
        copied._prices = self._prices
        with self._lock:  # no call is added during the copy
            copied._merge(self)
        return copied

    def __copy__(self) -> RoutingReport:
        return self._copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> RoutingReport:
        return self._copy()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self._copy()).items() if name not in ("_lock", "seen_calls")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self._lock = threading.Lock()
        self.seen_calls = SeenCalls()


def _bounded(tallies: dict[Any, Tally], key: Any, others: Any, most: int = MOST_ROWS) -> Tally:
    tally = tallies.get(key)
    if tally is None:
        tally = tallies.setdefault(key if len(tallies) < most else others, Tally())
    return tally


def _sum(tallies: Iterable[Tally]) -> Tally:
    total = Tally()
    for tally in tallies:
        total.merge(tally)
    return total


def _by_target(
    kinds: Mapping[str, str], targets: Mapping[str, _Models], failed: Mapping[str | None, Tally], calls: int
) -> list[dict[str, Any]]:
    answered = {**{name: {} for name in failed if name is not None}, **targets}
    rows = []
    for target, models in answered.items():
        total = _sum([*models.values(), failed.get(target, Tally())])
        below = _sorted(
            {"invoked_model": model, "is_fallback": fallback, **tally.as_dict(total.calls)}
            for (model, fallback), tally in models.items()
        )
        kind = kinds.get(target) or _kind_of(target)
        rows.append({"requested_model_id": target, "target_kind": kind, **total.as_dict(calls), "models": below})
    return _sorted(rows)


def _by_value(name: str, values: Mapping[str, Tally], calls: int) -> dict[str, dict[str, Any]]:
    """Return the totals of each value of a label, those with most calls first; days in chronological order."""
    ordered = sorted(values.items(), key=lambda item: (0 if is_by_day(name) else -item[1].calls, item[0]))
    return {value: tally.as_dict(calls) for value, tally in ordered}


def _sorted(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (-row["calls"], str(row.get("requested_model_id") or row.get("invoked_model"))))


def _kind_of(target: str) -> str:
    try:
        return parse_target(target).kind.value
    except InvalidTargetError:
        return OTHERS


def _checked_labels(labels: Mapping[str, str] | None) -> dict[str, str]:
    if labels is not None and not isinstance(labels, Mapping):
        raise InvalidRequestError(
            f"labels={labels!r:.200} is not valid: it must be a mapping, such as {{'team': 'search'}}."
        )
    return {text(name): text(value) for name, value in (labels or {}).items()}


def _aware(when: datetime | None) -> datetime:
    if when is None:
        return datetime.now(timezone.utc)
    if when.tzinfo is None:
        raise InvalidRequestError(f"when={when!r} is not valid: it has no time zone. Use datetime.now(timezone.utc).")
    try:
        return when.astimezone(timezone.utc)
    except OverflowError:
        raise InvalidRequestError(f"when={when!r} is not valid: in UTC it is outside the years 1 to 9999.") from None
