"""What Bedrock refuses about cachePoints.

The user guide says that most of these are refused, reports of live calls say how: the wordings about `cache_control`,
`extraneous key`, `Field required`, `nothing available to cache`, reasoning blocks and unsupported models are theirs.
Those for a ttl that the model does not offer, for too long a prefix, and all for Nova but that of its tools are ours,
and so is that anything is refused at all for too long a prefix: unverified. Match on the rule, not on the sentence.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import ServiceError, validation
from .prefixes import DEFAULT_TTL, block_lists, read_prefix

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .models import CacheOffer, EmulatedModel

__all__ = ["MAX_POINTS", "check_points"]

MAX_POINTS = 4
"""Most cachePoints in one request."""


class _Place(NamedTuple):
    """A cachePoint and what it stands behind."""

    field: str
    path: str
    position: int
    ttl: str
    before: Mapping[str, Any] | None
    points_before: int

    @property
    def pointer(self) -> str:
        """Where it stands, as Nova's validator writes it."""
        return f"#/{self.path.replace('.', '/')}/{self.position}"

    @property
    def claude_path(self) -> str:
        """The block that it becomes a mark of, as Claude's validator counts the blocks."""
        return f"{self.path.removeprefix('toolConfig.')}.{max(0, self.position - 1 - self.points_before)}"


def check_points(request: Mapping[str, Any], model: EmulatedModel) -> None:
    """Refuse cachePoints that Bedrock would refuse.

    Args:
        request: A Converse request of the right shape.
        model: The model that is to answer; behind a router the one that it chose.

    Raises:
        ServiceError: ValidationException; AccessDeniedException for a model without caching.
    """
    places = list(_places(request))
    if not places:
        return
    if model.cache is None:
        raise ServiceError(
            "AccessDeniedException",
            "You invoked an unsupported model or your request did not allow prompt caching.",
        )
    if (request.get("performanceConfig") or {}).get("latency") == "optimized":
        raise _unknown_member(places[0], model, "cache_control: Extra inputs are not permitted")
    for place in places:
        _check_position(place, model, model.cache)
    if len(places) > MAX_POINTS:
        raise _model_error(f"A maximum of {MAX_POINTS} blocks with cache_control may be provided. Found {len(places)}.")
    _check_ttls(places, model, model.cache)
    if model.cache.maximum_tokens is not None:
        _check_length(request, model.model_id, model.cache.maximum_tokens)


def _places(request: Mapping[str, Any]) -> Iterator[_Place]:
    for field, path, blocks in block_lists(request):
        seen = 0
        for index, block in enumerate(blocks):
            if "cachePoint" in block:
                before = blocks[index - 1] if index else None
                yield _Place(field, path, index, block["cachePoint"].get("ttl", DEFAULT_TTL), before, seen)
                seen += 1


def _model_error(text: str) -> ServiceError:
    return validation(f"The model returned the following errors: {text}")


def _unknown_member(place: _Place, model: EmulatedModel, claude_says: str) -> ServiceError:
    """A point that the model's own interface does not know there."""
    if model.provider == "Anthropic":
        return _model_error(f"{place.claude_path}.{claude_says}")
    return _model_error(
        f"Malformed input request: {place.pointer}: extraneous key [cachePoint] is not permitted, "
        "please reformat your input and try again."
    )


def _check_position(place: _Place, model: EmulatedModel, offer: CacheOffer) -> None:
    """The place of one point: in a field for it, behind something that can be cached."""
    before = place.before
    if before is None or "cachePoint" in before:
        raise validation("There is nothing available to cache.")
    if "reasoningContent" in before:
        raise validation("Cache point cannot be inserted after reasoning block.")
    if place.field not in offer.fields or any(kind in before for kind in offer.never_after):
        raise _unknown_member(place, model, "cache_control: Extra inputs are not permitted")
    if "document" in before and before["document"].get("format") != "pdf":
        if model.provider == "Anthropic":  # the point becomes a block of its own, and no valid one
            raise _model_error(f"{place.path}.{place.position}.type: Field required")
        raise _unknown_member(place, model, "")


def _check_ttls(places: list[_Place], model: EmulatedModel, offer: CacheOffer) -> None:
    """Lifetimes that the model offers, never rising."""
    for place in places:
        if place.ttl not in offer.ttls:
            raise _unknown_member(place, model, f"cache_control.ttl: Input should be '{DEFAULT_TTL}'")
    for earlier, later in pairwise(places):
        if earlier.ttl == "5m" and later.ttl == "1h":
            raise _model_error(
                f"{later.claude_path}.cache_control.ttl: a ttl='1h' cache_control block must not come after a "
                "ttl='5m' cache_control block. Note that blocks are processed in the following order: `tools`, "
                "`system`, `messages`."
            )


def _check_length(request: Mapping[str, Any], model_id: str, most: int) -> None:
    """No prefix longer than the model caches."""
    prefix = read_prefix(request, model_id)
    for point in prefix.points:
        tokens = prefix.tokens_of(point.blocks)
        if tokens > most:
            raise validation(
                f"The cachePoint at {point.path} ends a prefix of {tokens} tokens, which exceeds the limit of {most} "
                "cached tokens. Move the cachePoint, or remove it."
            )
