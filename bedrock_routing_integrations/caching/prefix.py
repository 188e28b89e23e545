"""A Converse request as the prefix that Bedrock caches: where points could stand, and what is before them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from .rules import block_lists, ttl_of
from .sizes import measure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .sizes import Part

# Of additionalModelRequestFields: what changes how the prompt is rendered. A change of it breaks the prefix; sampling
# parameters do not (AWS user guide, prompt caching; names differ by model: thinking, reasoning_config …).
_RENDERED = ("think", "reason", "effort", "output", "beta", "tool")


@dataclass(eq=False)
class Place:
    """Behind one block: a place where a cachePoint could stand.

    Attributes:
        section: ``"tools"``, ``"system"`` or ``"messages"``.
        message: The index of the message; None outside of messages.
        index: The index of the block in its list.
        number: How many blocks of the whole prefix are before the place.
        words: Tokens of text before it, estimated, before calibration.
        media: Tokens of media before it, likewise.
        block: The block that it is behind.
        data: What identifies that block.
        ttl: How long the caller's own point that stands here lasts; None where there is none.
        digest: Identifies the whole prefix; 0 until it is asked for.
    """

    section: str
    message: int | None
    index: int
    number: int
    words: float
    media: float
    block: Mapping[str, Any]
    data: bytes
    ttl: str | None = None
    digest: int = 0


@dataclass(eq=False)
class Prefix:
    """The places of a request, in the order of the prefix, and what the request has besides blocks.

    Attributes:
        places: Every place, shallowest first.
        roles: The role of each message.
        application: What tells applications apart, which have habits of their own: a digest of tools and system.
    """

    places: list[Place]
    roles: list[str]
    seed: bytes
    choice: bytes
    application: int = field(default=0)

    @property
    def words(self) -> float:
        """Tokens of text, estimated."""
        return self.places[-1].words if self.places else 0.0

    @property
    def media(self) -> float:
        """Tokens of media, estimated."""
        return self.places[-1].media if self.places else 0.0

    def identify(self) -> None:
        """Fill in every place's digest. The costly part of a plan, so it is left until it is needed."""
        running = sha256(self.seed)
        message: int | None = None
        in_messages = False
        for place in self.places:
            if place.section == "messages":
                if not in_messages:
                    self.application = int.from_bytes(running.digest()[:8], "big")
                    in_messages = True
                    running.update(self.choice)  # another toolChoice breaks the messages only
                if place.message != message:
                    message = place.message
                    running.update(b"\x1e" + self.roles[message or 0].encode())
            # With its length: no text can pass for two blocks.
            running.update(f"{place.section}:{next(iter(place.block), '')}:{len(place.data)}:".encode())
            running.update(place.data)
            place.digest = int.from_bytes(running.copy().digest()[:8], "big")


def read_prefix(request: Mapping[str, Any]) -> Prefix:
    """Measure a Converse request; cachePoints in it count as marks on the places before them."""
    places: list[Place] = []
    words = media = 0.0
    for section, message, blocks in block_lists(request):
        for index, block in enumerate(blocks):
            if "cachePoint" in block:
                if index and places:
                    places[-1].ttl = ttl_of(block)
                continue
            part: Part = measure(block)
            words += part[2]
            media += part[3]
            places.append(Place(section, message, index, len(places) + 1, words, media, block, part[1]))
    fields = request.get("additionalModelRequestFields") or {}
    rendered = {name: v for name, v in fields.items() if any(word in name.lower() for word in _RENDERED)}
    latency = (request.get("performanceConfig") or {}).get("latency")
    seed = [rendered, request.get("outputConfig"), latency if latency != "standard" else None]
    choice = (request.get("toolConfig") or {}).get("toolChoice")
    return Prefix(
        places=places,
        roles=[message.get("role", "") for message in request.get("messages") or ()],
        seed=json.dumps(seed, default=repr).encode(),
        choice=json.dumps(choice, default=repr).encode() if choice not in (None, {"auto": {}}) else b"",
    )
