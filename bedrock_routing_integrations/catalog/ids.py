"""How Bedrock spells the ids of foundation models, and which of them belong to one family."""

from __future__ import annotations

import re

from bedrock_routing_integrations.targets import PROVIDERS, split_geography

# provider.name; a name starts with a letter and may have dots of its own (deepseek.v3.2, openai.gpt-5.6-sol).
_MODEL = re.compile(r"(?P<provider>[a-z][a-z0-9-]*)\.(?P<name>[a-z][a-z0-9-]*(?:[.:][a-z0-9-]+)*)")
# Provisioned throughput names the same model again by context size or modality: -v1:0:300k, :0:mm, :0:512.
_VARIANT = re.compile(r":(?:\d+k|mm|\d{3,})$")
# A version number that goes on: what follows claude-opus-4 in claude-opus-4-8, not in claude-opus-4-20250514.
_LATER_VERSION = re.compile(r"[-.]\d{1,2}(?![a-z0-9])")
# Models that Converse does not serve; what their brand's chat models allow says nothing about them.
_NOT_CHAT = frozenset({"canvas", "embed", "embeddings", "image", "reel", "rerank", "sonic"})


def base_model_id(text: str) -> str | None:
    """The plain foundation-model id that `text` names; None where it is no model id (an opaque id, an ARN).

    A region prefix (`us.`, `us-gov.`, `global.`, also one not seen yet) and a context suffix (`:300k`) are
    taken off: they name the same model. The version (`-v1:0`) stays, as it is part of the id.
    """
    _, bare = split_geography(_VARIANT.sub("", text.strip()))
    model = _MODEL.fullmatch(bare)
    if model is None:
        return None
    # A new provider's ids will still look like Bedrock's, which a host name or a file name does not.
    if model["provider"] not in PROVIDERS and not re.search(r"[-\d]", model["name"]):
        return None
    return bare


def is_chat(model: str) -> bool:
    """Whether nothing in the plain id says that the model makes images, speech or embeddings."""
    return _NOT_CHAT.isdisjoint(re.split(r"[-.:]", model))


def covers(family: str, model: str) -> bool:
    """Whether the plain id goes on after `family` with a size, a date or nothing, not a later version."""
    if not model.startswith(family):
        return False
    rest = model[len(family) :]
    return not rest or (rest[0] in "-.:" and not _LATER_VERSION.match(rest))
