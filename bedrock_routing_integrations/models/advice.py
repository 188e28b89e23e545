"""Advice about model ids that cannot be called as they are: misspelled, unlisted, or without on-demand throughput."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from bedrock_routing_integrations.errors import InvalidTargetError
from bedrock_routing_integrations.model_ids import CHECKED, GEOGRAPHIES, MODEL_IDS, did_you_mean, is_misspelled
from bedrock_routing_integrations.runtime import warn_once
from bedrock_routing_integrations.targets import TargetKind, parse_target, split_geography

from .families import base_model_id, is_chat, model_facts

if TYPE_CHECKING:
    from bedrock_routing_integrations.targets import Target

# Start of a Region → the geographies whose profiles can be called there, the most particular first. AWS's list of
# inference profiles, 2026-11.
_SERVED_BY: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("us-", ("us",)),
    ("eu-", ("eu",)),
    ("ap-northeast-1", ("jp", "apac")),
    ("ap-northeast-3", ("jp", "apac")),
    ("ap-southeast-2", ("au", "apac")),
    ("ap-southeast-4", ("au", "apac")),
    ("ap-southeast-6", ("au", "apac")),
    ("ap-south-", ("in", "apac")),
    ("ap-", ("apac",)),
    ("ca-", ("ca", "us")),
    ("sa-", ("sa", "us")),
)
# Every Region of the standard partition can call "global" profiles besides. What these can call is not known.
_OTHER_PARTITIONS = ("cn-", "us-iso", "eu-iso", "eusc-")
_NEW_COUNTRY = re.compile(r"[a-z]{2}(-[a-z]+)?")


@lru_cache(maxsize=4096)
def unknown_id_advice(target: Target) -> str | None:
    """Return a warning for a target whose model id is not a listed one; None if it is, or if it may be right.

    Ids that no family of the catalog covers get a warning with the nearest id that can be called. So do misspelled ids.
    An id of an unknown brand that resembles no listed id gets none.
    """
    if target.kind not in (TargetKind.FOUNDATION_MODEL, TargetKind.SYSTEM_INFERENCE_PROFILE):
        return None
    text = target.resource_id
    model = base_model_id(text)
    if not is_chat(text.lower()):
        return None
    if model is None:
        meant = did_you_mean(text)
        return f"{text} is not a known model id; {meant}?" if meant else None
    facts = model_facts(model)
    slip = is_misspelled(model) or _is_misspelled_geography(split_geography(text)[0])
    if facts.known and not slip:
        return None
    meant = did_you_mean(text)
    if facts.known or not facts.family:
        return f"{text} is not a known model id; {meant}?" if meant else None
    return (
        f"{text} is not a known model id (list of {CHECKED}){f'; {meant}?' if meant else '.'} If it is a new model, it "
        f"can be used; a context window of {facts.context_window:,} tokens is assumed, the smallest of its brand."
    )


def warn_about_unknown_id(target: Target) -> None:
    """Warn once about a target whose model id is not a known one."""
    advice = unknown_id_advice(target)
    if advice is not None:
        warn_once(("unknown id", target.resource_id), advice)


def _is_misspelled_geography(geography: str | None) -> bool:
    return geography is not None and geography not in GEOGRAPHIES and not _NEW_COUNTRY.fullmatch(geography)


def on_demand_advice(model_id: str, region: str | None) -> str | None:
    """Return which inference profile to call in place of a model that is not offered with on-demand throughput.

    For Bedrock's refusal "Invocation of model ID … with on-demand throughput isn't supported".

    Args:
        model_id: The id or ARN that was called.
        region: The Region of the client; None if it is not known.

    Returns:
        Advice that names the profile's id, or None if `model_id` does not name a foundation model.
    """
    try:
        target = parse_target(model_id)
    except InvalidTargetError:
        return None
    model = base_model_id(target.resource_id) if target.kind is TargetKind.FOUNDATION_MODEL else None
    if model is None:
        return None
    served = _geographies_of(target.region or region)
    offer = MODEL_IDS.get(model)
    listed = offer.geographies if offer else ()
    usable = [f"'{geography}.{model}'" for geography in served if geography in listed or not listed]
    if usable:
        article = "the inference profile" if listed else "an inference profile such as"
        return f"Use {article} {' or '.join(usable)}; its geography must be the client's."
    profiles = ", ".join(f"'{geography}.{model}'" for geography in listed or ("us", "eu", "apac", "global"))
    if served and listed:
        return f"No inference profile of {model} is listed for {target.region or region}; elsewhere: {profiles}."
    return f"Use an inference profile of the client's geography, of {profiles}."


def _geographies_of(region: str | None) -> tuple[str, ...]:
    """Return the geographies whose profiles can be called in a Region; none if that is not known."""
    if not region:
        return ()
    if region.startswith("us-gov-"):
        return ("us-gov",)
    if region.startswith(_OTHER_PARTITIONS):
        return ()
    return (*next((names for start, names in _SERVED_BY if region.startswith(start)), ()), "global")
