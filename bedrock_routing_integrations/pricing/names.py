"""What the model that answered is called, where its price is looked for, and in which mode it was served."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

from bedrock_routing_integrations.errors import InvalidTargetError
from bedrock_routing_integrations.resolution import base_model_of_id
from bedrock_routing_integrations.targets import TargetKind, parse_target, split_geography

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bedrock_routing_integrations.resolution import ResolvedTarget

STANDARD = "standard"
# Billed by the token at the model's listed price. All others are billed by the hour, or at prices of their own.
_BY_TOKEN = frozenset([
    TargetKind.FOUNDATION_MODEL, TargetKind.SYSTEM_INFERENCE_PROFILE, TargetKind.APPLICATION_INFERENCE_PROFILE,
    TargetKind.DEFAULT_PROMPT_ROUTER, TargetKind.CUSTOM_PROMPT_ROUTER, TargetKind.PROMPT,
])  # fmt: skip
# Regions of other partitions, which have prices of their own.
_ELSEWHERE = ("us-gov-", "cn-", "us-iso", "eu-iso", "eusc-")


class Names(NamedTuple):
    """What the model that answered is called.

    Attributes:
        base_model: The model.
        listed: How the price table calls it; None where it does not list what answered.
        keys: Under which names the user's own prices may have it, the most specific one first.
        or_listed: What else the price table may call it: where the prices differ, none is known.
    """

    base_model: str | None
    listed: str | None
    keys: tuple[str, ...]
    or_listed: str | None = None


def names_of(model_id: str, base: str | None, resolved: ResolvedTarget, region: str | None = None) -> Names:
    """The names of a model that answered for a target, called in a Region."""
    listed, or_listed = _listed_as(model_id, base, resolved), None
    if listed is not None and listed == base:  # no geography
        if (region or "").startswith(_ELSEWHERE):
            listed = None
        elif not _is_told(base, resolved):
            or_listed = f"global.{base}"
    return Names(base, listed, _keys_behind(model_id, base, resolved), or_listed)


def _is_told(base: str, resolved: ResolvedTarget) -> bool:
    """Whether it would be known, were a model's profile a global one: of a bare model's id, and of what AWS lists."""
    if resolved.target.kind is TargetKind.FOUNDATION_MODEL:
        return True
    sources = [candidate.source for candidate in resolved.candidates if candidate.base_model == base]
    return any(source not in ("base_models", "trace") for source in sources)


def _keys_behind(model_id: str, base: str | None, resolved: ResolvedTarget) -> tuple[str, ...]:
    """`_keys`; and those of the profile through which the target has the model, where it is one only."""
    keys = _keys(model_id, base)
    behind = {c.model_id for c in resolved.candidates if c.base_model == base} - {model_id}
    if base is None or len(behind) != 1 or resolved.target.kind not in _BY_TOKEN:
        return keys
    more = [key for key in (*keys, *_keys(behind.pop(), base)) if key != base]
    return (*dict.fromkeys(more), base)


@functools.lru_cache(maxsize=4096)
def _profile_named(model_id: str) -> str | None:
    try:
        target = parse_target(model_id)
    except InvalidTargetError:
        return None
    return target.resource_id if target.kind is TargetKind.SYSTEM_INFERENCE_PROFILE else None


@functools.lru_cache(maxsize=4096)
def _keys(model_id: str, base: str | None) -> tuple[str, ...]:
    """The names under which a price may stand: the id, the profile's or model's own id of an ARN, the base model."""
    try:
        target = parse_target(model_id)
    except InvalidTargetError:
        return (model_id, *([base] if base else []))
    if target.kind not in _BY_TOKEN:
        return (target.model_id,)
    own = target.resource_id if base_model_of_id(model_id) else None
    return tuple(dict.fromkeys(name for name in (target.model_id, own, base) if name))


def _listed_as(model_id: str, base: str | None, resolved: ResolvedTarget) -> str | None:
    """How the table calls what answered; None where it answered for another price than the table's."""
    if base is None or resolved.target.kind not in _BY_TOKEN:
        return None
    named = _profile_named(model_id)
    if named:
        return named
    ids = dict.fromkeys([model_id, *(c.model_id for c in resolved.candidates if c.base_model == base)])
    geographies = {"global" for c in resolved.candidates if c.base_model == base and c.is_global}
    for each in ids:
        try:
            target = parse_target(each)
        except InvalidTargetError:
            continue
        if target.kind not in _BY_TOKEN:
            return None
        if target.kind is TargetKind.SYSTEM_INFERENCE_PROFILE:
            geographies.add(split_geography(target.resource_id)[0] or "")
        elif target.partition not in (None, "aws"):
            return None  # China and GovCloud have prices of their own
    if "global" in geographies and len(geographies) > 1:
        return None  # a router over two profiles of one model, of which one is dearer
    geography = next(iter(sorted(geographies)), None)
    return f"{geography}.{base}" if geography else base


def possible_names(routing: Mapping[str, Any]) -> Iterator[Names]:
    """What the model of a ``"routing"`` entry may be called, which does not say all that its target did."""
    base: str | None = routing.get("invoked_model")
    keys = _keys(routing.get("invoked_model_id") or routing["requested_model_id"], base)
    named = [key for key in keys if not key.startswith("arn:") and split_geography(key)[0]]
    # An id that does not say its geography may be that of a global profile.
    listings: list[str | None] = [*named[:1]] or [base, f"global.{base}"]
    for listed in listings:
        yield Names(base, listed, keys)


def served_mode(latency: tuple[str | None, str | None], tier: tuple[str | None, str | None]) -> str | None:
    """What was served, of (requested, served) pairs; None where it is not known, or there is no price for both."""
    modes = []
    for (requested, served), standard in ((latency, STANDARD), (tier, "default")):
        # What is not reported of what was not asked for either is the standard.
        mode = served or (standard if requested in (None, standard) else None)
        if mode is None:
            return None
        if mode != standard:
            modes.append(mode)
    return STANDARD if not modes else modes[0] if len(modes) == 1 else None
