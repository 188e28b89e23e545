"""`RoutingReport`: what many calls cost, and what routing and caching saved of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.errors import InvalidRequestError, InvalidTargetError, error_kind
from bedrock_routing_integrations.targets import parse_target

from .prices import Prices
from .totals import OTHERS, Tally, Timeline, is_by_day, read_call, text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .totals import Call

MOST_ROWS = 1_000
"""Targets, and values of a label, that are told apart."""
MOST_MODELS = 20
"""Models of one target that are told apart."""
MOST_LABELS = 20
"""Labels that are kept."""
_Models = dict[tuple["str | None", "bool | None"], Tally]
"""Of one target: the model that answered, and whether it was the fallback → what its calls come to."""


class RoutingReport:
    """Sums of many calls: which models answered, tokens, cost, what was saved, how long it took, what failed.

    It can be added to from any number of threads, and holds as much after a million calls as after a thousand. Sums
    are exact: they do not depend on the order in which calls end. ``print`` shows a table.

    Args:
        prices: The prices of your own that the calls were priced by (`RoutedClient`'s `prices`): what caching saved is
            not in a ``"routing"`` entry, and is worked out here.

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

    # --- what is added ---

    def add(
        self,
        routing: Mapping[str, Any],
        *,
        when: datetime | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Count an answered call.

        Args:
            routing: Its ``"routing"`` entry.
            when: When it was, with its time zone; by default now.
            labels: What else to tell calls apart by, ``{"team": "search"}``; at most 20 labels are kept. Values of the
                label ``"day"`` are shown in order of time. Calls of a project have the label ``"project"`` besides.

        Raises:
            InvalidRequestError: It is no such entry, or the time has no time zone.
        """
        if not isinstance(routing, Mapping) or not isinstance(routing.get("requested_model_id"), str):
            what = "mapping without requested_model_id" if isinstance(routing, Mapping) else type(routing).__name__
            raise InvalidRequestError(
                f'a report counts "routing" entries, such as message.response_metadata["routing"]; this is a {what}'
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
        """Count a call that failed; it counts as an error, not as a call.

        Args:
            error: What was raised. Its kind is AWS's code, else the name of its class; or the kind itself.
            requested_model_id: What was called.
            when: When it was; by default now. (``timeline`` has no errors.)
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
        """Count what another report has, such as one of another process (reports can be pickled)."""
        other = other._copy()  # so that never two locks are held
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

    # --- what it says ---

    @property
    def calls(self) -> int:
        """Answered calls."""
        with self._lock:
            return sum(tally.calls for models in self._targets.values() for tally in models.values())

    @property
    def cost_usd(self) -> float | None:
        """US dollars of the calls whose price is known; None where calls were made and no price is known."""
        return self._total().cost.usd

    @property
    def saved_by_routing_usd(self) -> float | None:
        """US dollars saved against always the fallback model, as far as that is known."""
        return self._total().routing.usd

    @property
    def saved_by_caching_usd(self) -> float | None:
        """US dollars saved against no caching, as far as that is known; negative where it cost more."""
        return self._total().caching.usd

    def _total(self) -> Tally:
        with self._lock:
            return _sum(tally for models in self._targets.values() for tally in models.values())

    def to_dict(self) -> dict[str, Any]:
        """All of it, JSON-safe. Money is US dollars, times are milliseconds, shares and rates are 0 to 1.

        Returns:
            ``since``, ``until``; ``totals``; ``targets``, each with its ``models``; ``models`` over all targets; ``by``
            label and value; ``timeline``; ``prices``, the table by which caching was judged. What is summed is the same
            everywhere:

            - ``calls`` that were answered, and their ``share``; ``errors`` by kind.
            - ``tokens``; ``calls_without_usage``, of which Bedrock tells none (RetrieveAndGenerate).
            - ``cache_hit_rate``: tokens read from caches / (read + written), that is of what stood before a cachePoint.
            - ``cost_usd``, with ``calls_without_price`` not in it; null where no call has a price.
            - ``saved_by_routing_usd`` against the same tokens on the fallback model, and ``saved_by_caching_usd``
              against the same tokens uncached; what the same calls cost (``routed_cost_usd``, ``cached_cost_usd``); and
              the number of calls of which it is not known.
            - ``latency`` and ``service_tier``: asked for → served → calls. What was asked for is ``"none"`` where
              nothing was, and ``"unknown"`` where a log tells only that something was.
            - ``latency_ms`` (as Bedrock reports it) and ``time_to_first_token_ms`` (of streams): ``p50`` and ``p95`` in
              whole milliseconds, exact for up to 128 calls and within 1% for more, and of how many calls.
            - ``stop_reasons`` in Converse's words → calls, of those calls that tell one; ``guardrail_interventions``.
        """
        report = self._copy()
        kinds, targets, failed = report._kinds, report._targets, report._failed  # noqa: SLF001 - a copy of ourselves
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
        """`to_dict` as JSON."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False)

    def to_markdown(self) -> str:
        """Tables in Markdown."""
        from .report_tables import as_markdown

        return as_markdown(self.to_dict())

    def plot(self) -> Any:
        """Draw the share of calls and of cost by model, savings over time, and what each label tells apart.

        Returns:
            A matplotlib ``Figure``; notebooks show it, ``figure.savefig("report.png")`` writes it.

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

    # --- copies ---

    def _copy(self) -> RoutingReport:
        copied = RoutingReport()
        copied._prices = self._prices
        with self._lock:  # nothing is added while it is copied
            copied._merge(self)
        return copied

    def __copy__(self) -> RoutingReport:
        return self._copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> RoutingReport:
        return self._copy()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self._copy()).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._lock = threading.Lock()


def _bounded(tallies: dict[Any, Tally], key: Any, others: Any, most: int = MOST_ROWS) -> Tally:
    found = tallies.get(key)
    if found is None:
        found = tallies.setdefault(key if len(tallies) < most else others, Tally())
    return found


def _sum(tallies: Iterable[Tally]) -> Tally:
    total = Tally()
    for tally in tallies:
        total.merge(tally)
    return total


def _by_target(
    kinds: Mapping[str, str], targets: Mapping[str, _Models], failed: Mapping[str | None, Tally], calls: int
) -> list[dict[str, Any]]:
    answered = {**{name: {} for name in failed if name is not None}, **targets}
    found = []
    for target, models in answered.items():
        total = _sum([*models.values(), failed.get(target, Tally())])
        below = _sorted(
            {"invoked_model": model, "is_fallback": fallback, **tally.as_dict(total.calls)}
            for (model, fallback), tally in models.items()
        )
        said = {"requested_model_id": target, "target_kind": kinds.get(target) or _kind_of(target)}
        found.append({**said, **total.as_dict(calls), "models": below})
    return _sorted(found)


def _by_value(name: str, values: Mapping[str, Tally], calls: int) -> dict[str, dict[str, Any]]:
    """The values of a label: those with most calls first; days in order of time."""
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
        raise InvalidRequestError(f"labels must be a mapping, such as {{'team': 'search'}}, and is {labels!r:.200}")
    return {text(name): text(value) for name, value in (labels or {}).items()}


def _aware(when: datetime | None) -> datetime:
    if when is None:
        return datetime.now(timezone.utc)
    if when.tzinfo is None:
        raise InvalidRequestError(f"when={when!r} has no time zone; datetime.now(timezone.utc) has one")
    try:
        return when.astimezone(timezone.utc)
    except OverflowError:
        raise InvalidRequestError(f"when={when!r} is none of the years 1 to 9999 in UTC") from None
