"""Run ``bedrock-routing report``: report on a fleet from Bedrock's own logs."""

from __future__ import annotations

import contextlib
import json
import re
import textwrap
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from bedrock_routing_integrations.client import RoutedClient
from bedrock_routing_integrations.costs.invocation_logs.files import STDIN, log_files
from bedrock_routing_integrations.costs.invocation_logs.reading import NONE, read_history, stated_only
from bedrock_routing_integrations.costs.report_tables import as_markdown, as_text
from bedrock_routing_integrations.errors import InvalidTargetError
from bedrock_routing_integrations.targets import parse_target

from .errors import CREDENTIALS_HELP, NotWorkingError, is_about_credentials
from .output import counted
from .resolve import without_warnings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bedrock_routing_integrations.connections import Connection
    from bedrock_routing_integrations.costs.invocation_logs.reading import History
    from bedrock_routing_integrations.models.candidates import ResolvedTarget

__all__ = ["Wanted", "base_models_of", "named", "prices_of", "print_report", "time_of"]

_MOST_NAMED = 3
_DAY = re.compile(r"\d{4}-?\d\d-?\d\d")
_WHAT_A_LOG_IS = (
    'A log has one JSON object for each call: {"schemaType": "ModelInvocationLog", "timestamp": "2026-11-21T20:00:00Z"'
    ', "operation": "Converse", "modelId": "…", "input": {"inputTokenCount": 27, …}, "output": {…}}. Bedrock writes it '
    "to S3 or CloudWatch Logs once it is told to: in its console under Settings, Model invocation logging, or with "
    "`aws bedrock put-model-invocation-logging-configuration`; in each Region by itself, and from then on."
)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The report to make.

    Attributes:
        paths: Files and folders; ``"-"`` for standard input.
        form: ``"text"``, ``"json"`` or ``"markdown"``.
        plot: The file to draw it in; None for no picture.
        by: The labels to count by; empty for those in the logs.
        since: The first moment to count.
        until: The first moment not to count.
        prices: The user's own prices.
        base_models: Target → the models that it can use.
    """

    paths: Sequence[str]
    form: str = "text"
    plot: Path | None = None
    by: Sequence[str] = ()
    since: datetime | None = None
    until: datetime | None = None
    prices: dict[str, Any] | None = None
    base_models: dict[str, list[str]]


def print_report(wanted: Wanted, connection: Connection | None) -> None:
    """Read the logs and print the report, then the problems, and what would improve the report.

    Args:
        wanted: The report to make.
        connection: The connection for looking up targets; None for no look-ups.

    Raises:
        NotWorkingError: No file could be read, there is no call in them, or the picture cannot be drawn.
        InvalidTargetError: A target of a price or of `base_models` is not valid.
    """
    plot = _checked_plot(wanted.plot)  # before reading, which may take long
    resolve = stated_only(wanted.base_models) if connection is None else _looking_up(connection, wanted.base_models)
    with without_warnings(), _progress(wanted.paths) as progress:  # look-ups that failed are told of below
        history = read_history(
            wanted.paths,
            resolve=resolve,
            prices=wanted.prices,
            labels=wanted.by or None,
            since=wanted.since,
            until=wanted.until,
            progress=progress,
        )
    if not history.calls:
        raise NotWorkingError(_why_nothing(history, wanted.paths))
    report = history.report.to_dict()
    if not wanted.by:
        # A label with a different value for almost every call is an id, and not useful for grouping.
        report["by"] = {name: rows for name, rows in report["by"].items() if name not in history.too_many_values}
    console = Console()
    if wanted.form == "json":
        typer.echo(json.dumps({**report, "history": history.as_dict()}, indent=2, ensure_ascii=False))
    elif wanted.form == "markdown":
        typer.echo(as_markdown(report), nl=False)
    else:
        typer.echo(as_text(report, console.width if console.is_terminal else None))
    for line in _notes(history, wanted, looked_up=connection is not None):
        if wanted.form == "text":
            typer.echo(f"\n{_wrapped(line, console.width) if console.is_terminal else line}")
        else:
            typer.echo(line, err=True)
    if plot is not None:
        _draw(report, plot)
        typer.echo(f"Drawn: {plot}", err=True)


def _wrapped(text: str, width: int) -> str:
    lines = text.splitlines()
    return "\n".join(
        textwrap.fill(line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        for line in lines
    )


def _looking_up(connection: Connection, base_models: dict[str, list[str]]) -> Callable[[str], ResolvedTarget]:
    return RoutedClient(connection, base_models=base_models).resolve


@contextlib.contextmanager
def _progress(paths: Sequence[str]) -> Iterator[Callable[[int], None] | None]:
    """Show a progress bar on standard error in a terminal, in compressed bytes."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    total = None if STDIN in paths else sum(_size(path) for path in log_files(paths))
    columns = (TextColumn("Reading"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda count: bar.advance(task, count)


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


def _checked_plot(path: Path | None) -> Path | None:
    """Return the file to draw in; PNG if it has no suffix."""
    if path is None:
        return None
    try:
        from bedrock_routing_integrations.costs.plot import ReportFigure
    except ImportError as error:
        raise NotWorkingError(str(error)) from None
    if path.is_dir():
        raise NotWorkingError(f"{str(path)!r} is a folder; name a file in it: --plot {path / 'report.png'}")
    path = path if path.suffix else path.with_suffix(".png")
    forms = sorted(ReportFigure().canvas.get_supported_filetypes())
    if path.suffix[1:].lower() not in forms:
        raise NotWorkingError(f"{str(path)!r} cannot be drawn; these can: {', '.join(forms)}")
    if not path.parent.is_dir():
        raise NotWorkingError(f"{str(path)!r} cannot be written: there is no folder {str(path.parent)!r}")
    return path


def _draw(report: Mapping[str, Any], path: Path) -> None:
    from bedrock_routing_integrations.costs.plot import draw

    try:
        draw(report).savefig(path)
    except OSError as error:
        raise NotWorkingError(f"{str(path)!r} cannot be written: {error.strerror or error}.") from None


def _why_nothing(history: History, paths: Sequence[str]) -> str:
    if history.unreadable:
        return "; ".join(f"{path!r} cannot be read: {why}" for path, why in history.unreadable) + "."
    if not history.files:
        return f"There is no file in {_some(list(map(repr, paths)))}."
    if history.outside:
        return f"None of the {counted(history.outside, 'call')} is in that time (--since, --until)."
    found = []
    if history.malformed:
        found.append(f"{counted(history.malformed, 'malformed line')} ({history.examples[0]})")
    if history.others:
        found += [
            f"these are {kind}, not model invocation logs" + (f": {advice}" if advice else "") + f" ({number:,})"
            for kind, number, advice in _others(history)
        ]
    what = "; ".join(found) or "nothing but white space"
    return f"There is no call in {counted(history.files, 'file')}: {what}. {_WHAT_A_LOG_IS}"


def _others(history: History) -> Iterator[tuple[str, int, str]]:
    """Yield the kind, number and advice of skipped records, the most frequent first and the last ones together."""
    for kind, number in history.others.most_common(_MOST_NAMED):
        yield kind, number, history.advice.get(kind, "")
    rest = history.skipped - sum(number for _, number in history.others.most_common(_MOST_NAMED))
    if rest:
        yield "records of other kinds", rest, ""


def _notes(history: History, wanted: Wanted, *, looked_up: bool) -> Iterator[str]:
    """Yield what could not be read, what was left out, and what would improve the report."""
    if history.unreadable_files:
        yield _listed(
            f"{counted(history.unreadable_files, 'file')} could not be read",
            [f"{path}: {why}" for path, why in history.unreadable],
            history.unreadable_files,
        )
    if history.malformed:
        yield _listed(
            f"{counted(history.malformed, 'malformed line')} left out",
            [str(example) for example in history.examples],
            history.malformed,
        )
    for kind, number, advice in _others(history):
        yield f"Left out as they are {kind}: {number:,}{f' ({advice})' if advice else ''}."
    for number, what in (
        (history.duplicates, "call{} logged twice (same requestId)"),
        (history.outside, "call{} of another time"),
    ):
        if number:
            yield f"Left out: {number:,} {what.format('' if number == 1 else 's')}."
    if not history.duplicates_found_all:
        yield "Only the first three million calls were remembered to find such as are logged twice."
    yield from _about_targets(history, looked_up=looked_up)
    if history.guessed_ttl:
        yield (
            f"{counted(history.guessed_ttl, 'call')} wrote to a cache and the log does not tell for how long: taken "
            "for five minutes. (Where bodies are too long for the log, download the folders data/ beside it too.)"
        )
    if history.without_bodies:
        yield (
            f"{counted(history.without_bodies, 'call')} logged without request and answer: taken for standard latency "
            "and the default tier. (Text logging is off, folders data/ are missing, or a query picked other fields.)"
        )
    by = history.report.to_dict()["by"]
    unknown = [name for name in wanted.by if all(value.endswith(NONE) for value in by.get(name, {}))]
    if unknown:
        found = _some(sorted(history.found_keys)) or "none"
        yield f"No call has {_some(unknown)} (--by). Keys of requestMetadata that were found: {found}."
    if not wanted.by:
        if history.too_many_values:
            yield (f"Not counted by {_some(sorted(history.too_many_values))}: over a thousand values. With --by it is.")
        if history.left_out_keys:
            yield f"More keys of requestMetadata, for --by: {_some(sorted(history.left_out_keys))}."


def _about_targets(history: History, *, looked_up: bool) -> Iterator[str]:
    """Yield why some targets have no prices or savings, and how to get them."""
    routers: list[str] = []
    others: list[str] = []
    reasons: dict[str, list[str]] = {}
    unpriced = {row["requested_model_id"] for row in history.report.to_dict()["targets"] if row["calls_without_price"]}
    for name, (_, refused) in history.incomplete.items():
        if _is_router(name):
            routers.append(name)
        elif name in unpriced:  # of one with a price of the user's own nothing is missing
            others.append(name)
        if refused:
            reasons.setdefault(refused, []).append(name)
    if not looked_up:
        if routers:
            yield (
                f"The log does not tell the fallback model of {_some(routers)}: without it nothing is known of what "
                "routing saved. --look-up asks AWS (GetPromptRouter), once for each router."
            )
        if others:
            yield (
                f"The log does not tell the model behind {_some(others)}, and so no price. --look-up asks AWS; "
                f"or say it: --base-models {others[0]}=MODEL"
            )
        return
    for why, names in reasons.items():
        yield f"Not looked up ({why}): {_some(names)}. --base-models TARGET=MODEL says what a target uses."
        if is_about_credentials(why.partition(": ")[2]):
            yield CREDENTIALS_HELP


def _is_router(name: str) -> bool:
    try:
        return parse_target(name).kind.is_router
    except InvalidTargetError:
        return False


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _listed(title: str, items: Sequence[str], number: int) -> str:
    more = [f"  … and {number - len(items):,} more"] if number > len(items) else []
    return "\n".join([f"{title}:", *(f"  {item}" for item in items), *more])


# Arguments


def time_of(text: str | None, *, name: str, is_end: bool = False) -> datetime | None:
    """Return a moment, in UTC by default. A date alone is its beginning or, as an end, the beginning of the next day.

    Args:
        text: The argument.
        name: The name of the option, for the error.
        is_end: Whether it ends a period.

    Raises:
        typer.BadParameter: `text` is not a date or time.
    """
    if text is None:
        return None
    given = text.strip()
    try:
        if _DAY.fullmatch(given):
            return datetime.fromisoformat(given).replace(tzinfo=timezone.utc) + timedelta(days=is_end)
        when = datetime.fromisoformat(given[:-1] + "+00:00" if given[-1:] in ("Z", "z") else given)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no time, such as 2026-11-21 or 2026-11-21T20:00 (UTC)", param_hint=name
        ) from None
    return when if when.tzinfo else when.replace(tzinfo=timezone.utc)


def named(names: Sequence[str], *, name: str) -> Sequence[str]:
    """Return the names.

    Args:
        names: The arguments.
        name: The name of the option, for the error.

    Raises:
        typer.BadParameter: A name is empty.
    """
    if not all(each.strip() for each in names):
        raise typer.BadParameter("an empty name", param_hint=name)
    return names


def base_models_of(given: Sequence[str]) -> dict[str, list[str]]:
    """Return target → models for arguments of the form ``TARGET=MODEL[,MODEL…]``.

    Raises:
        typer.BadParameter: An argument does not have this form.
    """
    found: dict[str, list[str]] = {}
    for each in given:
        target, equals, models = each.partition("=")
        names = [name.strip() for name in models.split(",") if name.strip()]
        if not equals or not target.strip() or not names:
            raise typer.BadParameter(f"{each!r} should be TARGET=MODEL[,MODEL…]", param_hint="--base-models")
        found.setdefault(target.strip(), []).extend(names)
    return found


def prices_of(path: Path | None) -> dict[str, Any] | None:
    """Return the prices in a file.

    Raises:
        NotWorkingError: The file cannot be read.
        InvalidRequestError: A price is not valid.
    """
    if path is None:
        return None
    try:
        prices = json.loads(path.read_bytes())
    except OSError as error:
        raise NotWorkingError(f"{str(path)!r} cannot be read: {error.strerror or error}.") from None
    except (ValueError, RecursionError):
        prices = None
    if not isinstance(prices, dict):
        raise NotWorkingError(
            f'{str(path)!r} holds no prices: {{"MODEL or ARN": {{"input_mtok": 3.0, "output_mtok": 15.0}}}}, in US '
            "dollars per million tokens."
        )
    return prices
