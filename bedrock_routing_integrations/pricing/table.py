"""genai-prices' table: what it says of a model on a day."""

from __future__ import annotations

import functools
import re
from datetime import date, datetime, timezone
from typing import Any

from bedrock_routing_integrations.logs import logger
from bedrock_routing_integrations.targets import split_geography

from .rates import RATES, Rates, compiled


@functools.lru_cache(maxsize=1)
def _snapshots() -> Any:
    from genai_prices.data_snapshot import get_snapshot

    return get_snapshot


def table_now() -> tuple[int, datetime]:
    """Which table genai-prices has now: the one that it ships, or what its own ``UpdatePrices`` fetched."""
    snapshot = _snapshots()()
    return id(snapshot), snapshot.timestamp


def table_version() -> str:
    """The version of genai-prices, or when a table that is newer than it was fetched."""
    from importlib.metadata import version

    snapshot = _snapshots()()
    return f"of {snapshot.timestamp:%Y-%m-%d %H:%M}" if snapshot.from_auto_update else version("genai-prices")


@functools.lru_cache(maxsize=4096)
def listed_rates(listed: str, base: str | None, day: date, *_table: object) -> Rates | None:
    """What the table says of a model on a day; None where it has no price, or one of a kind that we do not know."""
    from genai_prices import Usage as TableUsage
    from genai_prices import calc_price

    noon = datetime(day.year, day.month, day.day, 12, tzinfo=timezone.utc)
    try:
        found = calc_price(TableUsage(), listed, provider_id="aws", genai_request_timestamp=noon)
    except LookupError:
        return None
    except Exception as error:  # noqa: BLE001 - a table that cannot be read must not cost the user the answer
        logger.debug("genai-prices has no price for %s: %s: %s", listed, type(error).__name__, error)
        return None
    if not _is_same(listed, found.model.id) or not _is_of_geography(listed, found.model):
        return None
    rates = {name: value for name, value in vars(found.model_price).items() if value is not None}
    return compiled(rates, base) if "input_mtok" in rates and rates.keys() <= set(RATES) else None


# What ends a model's id: version, revision, and what provisioned throughput adds; the date stands before it.
_VERSION = re.compile(r"(?P<version>-v\d+)?(?::(?P<revision>\d+))?(?::[a-z0-9]+)?$")
_DATE = re.compile(r"-20\d{6}$")


def _is_same(asked: str, found: str) -> bool:
    """Whether the table's id names the model that was asked for, and not just another one that begins like it.

    One of them may leave out the version (``-v1:0``), or the date.
    """
    (asked_name, *asked_version), (found_name, *found_version) = (_parts(name) for name in (asked, found))
    if any(mine and theirs and mine != theirs for mine, theirs in zip(asked_version, found_version, strict=True)):
        return False
    plain = _DATE.sub("", asked_name), _DATE.sub("", found_name)
    dated = asked_name != plain[0] and found_name != plain[1]
    return asked_name == found_name if dated else plain[0] == plain[1]


def _is_of_geography(asked: str, found: Any) -> bool:
    """Whether the price holds where it was asked for: everywhere, or not; and GovCloud's only where it says so."""
    geography, _ = split_geography(asked)
    if (geography == "global") != found.id.startswith("global."):
        return False
    return geography != "us-gov" or "us-gov." in repr(found.match)


def _parts(name: str) -> tuple[str, str | None, str | None]:
    model = split_geography(name.removeprefix("regional."))[1]
    ending = _VERSION.search(model)
    if ending is None:
        return model, None, None
    return model[: ending.start()], ending["version"], ending["revision"]


def day_of(when: datetime | None) -> date:
    """The day of a call, in UTC."""
    return (datetime.now(timezone.utc) if when is None else when.astimezone(timezone.utc)).date()
