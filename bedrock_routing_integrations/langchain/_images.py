"""Retrieved images in LangChain's types: who can read them, and the message that holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableWithFallbacks
from langchain_core.runnables.base import RunnableBindingBase

from bedrock_routing_integrations.knowledge_base import ImageSelection, reads_images, select_images

from ._calls import split_model
from .chat_models import ChatBedrockRouter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.messages import BaseMessage

    from bedrock_routing_integrations.knowledge_base import Passage, Prompt

_IMAGE_BLOCKS = ("image", "image_url")


def images_for(model: Any, passages: Sequence[Passage], history: Sequence[BaseMessage]) -> ImageSelection:
    """Select the images that a model is shown. May look up the model's target, so it is not for an event loop."""
    contents = [message.content for message in history if isinstance(message.content, list)]
    before = sum(_is_image(block) for content in contents for block in content if isinstance(block, dict))
    named = _name_of(model)
    # A look-up, so only where there is something to show.
    reads = any(passage.data_uri for passage in passages) and _reads_images(model)
    return select_images(passages, reads=reads, model=named, before=before)


def image_blocks(images: ImageSelection, prompt: Prompt) -> list[str | dict[str, Any]]:
    """Return LangChain's standard blocks for the images, each behind a text that names its passage."""
    blocks: list[str | dict[str, Any]] = []
    for label, image in images.labelled(prompt):
        blocks.append({"type": "text", "text": label})
        blocks.append({"type": "image", "base64": image.base64, "mime_type": image.media_type})
    return blocks


def _is_image(block: dict[str, Any]) -> bool:
    return block.get("type") in _IMAGE_BLOCKS or "image" in block


def _reads_images(model: Any, called: str | None = None) -> bool:
    """Whether a model is known to read images; `called` is the target that a binding names instead of its own."""
    if isinstance(model, RunnableBindingBase):
        return _reads_images(model.bound, called or split_model(model.kwargs)[0])
    if isinstance(model, RunnableWithFallbacks):
        return all(_reads_images(each, called) for each in (model.runnable, *model.fallbacks))
    if not isinstance(model, BaseChatModel):
        return False
    stated = bool((getattr(model, "profile", None) or {}).get("image_inputs"))
    if not isinstance(model, ChatBedrockRouter):
        return stated
    resolved = model.client.resolve(called or model.model_id)
    # Of a model that the catalog does not know, the user or langchain-aws may know it.
    return reads_images(resolved) or (resolved.facts.image_input is None and called is None and stated)


def _name_of(model: Any) -> str:
    while isinstance(model, RunnableBindingBase):
        model = model.bound
    return str(model.model_id) if isinstance(model, ChatBedrockRouter) else type(model).__name__
