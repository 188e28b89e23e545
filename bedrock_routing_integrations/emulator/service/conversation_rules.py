"""Check the rules for conversations that Bedrock enforces in addition to the shapes of its service model.

`check` expects a request that already fits the service model. The messages that begin with "A conversation", "The text
field", "The content field", "The toolConfig field", "Expected toolResult", "The number of toolResult", "This model
doesn't support" and "The maximum tokens" follow known messages of the service. The wording of the others is the
emulator's own. No message was checked against a live account: tests should match the rule, not the sentence.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .models import EmulatedModel

__all__ = ["MAX_DOCUMENTS", "MAX_IMAGES", "ProgramRefusal", "check"]

MAX_IMAGES = 20
"""The maximum number of images in a request (Converse API reference, `ContentBlock`)."""

MAX_DOCUMENTS = 5
"""The maximum number of documents in a message (Converse API reference, `Message`)."""

_USER_ONLY = ("image", "document", "video", "audio", "toolResult", "searchResult")
_MEDIA = {"image": "IMAGE", "video": "VIDEO", "audio": "SPEECH"}


class ProgramRefusal(Exception):  # noqa: N818 - a refusal of the service, not an error of the canned model
    """The model refuses the request. The service responds with `ValidationException` and this message."""


def check(request: Mapping[str, Any], model: EmulatedModel) -> None:
    """Raise if Bedrock would refuse the conversation.

    Args:
        request: The members of a Converse request, named as in botocore.
        model: The invoked model.

    Raises:
        ProgramRefusal: Bedrock would refuse the request. The exception has the service's message.
    """
    messages: Sequence[Mapping[str, Any]] = request.get("messages") or ()
    _check_system(request, model)
    _check_order(messages, model)
    for index, message in enumerate(messages):
        _check_message(message, f"messages.{index}", model)
    _check_attachments(messages)
    _check_tool_pairs(messages)
    _check_tools(request, model)
    _check_limits(request, model)


def _check_system(request: Mapping[str, Any], model: EmulatedModel) -> None:
    """Refuse system blocks that are blank, or that the model does not support."""
    system = request.get("system") or ()
    if system and model.model_id.startswith("amazon.titan"):
        raise ProgramRefusal(
            "This model doesn't support system messages. Try again without system messages or use a model that "
            "supports system messages."
        )
    for index, block in enumerate(system):
        if "text" in block and not block["text"].strip():
            raise ProgramRefusal(
                f"The text field in the SystemContentBlock object at system.{index} is blank. "
                "Add text to the text field, and try again."
            )


def _check_order(messages: Sequence[Mapping[str, Any]], model: EmulatedModel) -> None:
    """Refuse a conversation that does not start with the user, or whose roles do not alternate."""
    if not messages or messages[0]["role"] != "user":
        raise ProgramRefusal(
            "A conversation must start with a user message. "
            "Try again with a conversation that starts with a user message."
        )
    for before, after in pairwise(messages):
        if before["role"] != after["role"]:
            continue
        if model.provider == "Anthropic":
            role = after["role"]
            raise ProgramRefusal(
                'messages: roles must alternate between "user" and "assistant", '
                f'but found multiple "{role}" roles in a row'
            )
        raise ProgramRefusal(
            "A conversation must alternate between user and assistant roles. Make sure the conversation alternates "
            "between user and assistant roles and try again."
        )


def _check_message(message: Mapping[str, Any], path: str, model: EmulatedModel) -> None:
    """Refuse an empty message, and blocks that `_check_block` refuses."""
    content = message["content"]
    if not content:
        raise ProgramRefusal(
            f"The content field in the Message object at {path} is empty. "
            "Add a ContentBlock object to the content field and try again."
        )
    for index, block in enumerate(content):
        _check_block(block, f"{path}.content.{index}", message["role"], model)


def _check_block(block: Mapping[str, Any], path: str, role: str, model: EmulatedModel) -> None:
    """Refuse a content block with blank text, of another role, or of a modality that the model does not read."""
    kind = next(iter(block))
    if kind == "text" and not block["text"].strip():
        raise ProgramRefusal(
            f"The text field in the ContentBlock object at {path} is blank. Add text to the text field, and try again."
        )
    if role == "assistant" and kind in _USER_ONLY:
        raise ProgramRefusal(f"The {kind} field at {path} is allowed only in messages of the user role.")
    if role == "user" and kind in ("toolUse", "reasoningContent"):
        raise ProgramRefusal(f"The {kind} field at {path} is allowed only in messages of the assistant role.")
    if kind in _MEDIA and _MEDIA[kind] not in model.input_modalities:
        raise ProgramRefusal(f"This model doesn't support the {kind} field. Remove {kind} and try again.")


def _check_attachments(messages: Sequence[Mapping[str, Any]]) -> None:
    """Refuse too many images or documents, a document without text in its message, and duplicate document names."""
    images = sum("image" in block for message in messages for block in _blocks(message))
    if images > MAX_IMAGES:
        raise ProgramRefusal(f"The number of images in the request ({images}) exceeds the limit of {MAX_IMAGES}.")
    names: set[str] = set()
    for index, message in enumerate(messages):
        documents = [block["document"] for block in message["content"] if "document" in block]
        if len(documents) > MAX_DOCUMENTS:
            raise ProgramRefusal(
                f"The number of documents at messages.{index}.content ({len(documents)}) exceeds the limit of "
                f"{MAX_DOCUMENTS}."
            )
        if documents and not any("text" in block for block in message["content"]):
            raise ProgramRefusal(
                f"A document at messages.{index}.content needs a text block beside it. "
                "Add a ContentBlock object with text and try again."
            )
        for document in documents:
            if document["name"] in names:
                raise ProgramRefusal(
                    f"Found duplicate document names: {document['name']}. Document names must be unique."
                )
            names.add(document["name"])


def _blocks(message: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the blocks of a message, and the blocks in its tool results."""
    for block in message["content"]:
        yield block
        yield from block.get("toolResult", {}).get("content", ())


def _check_tool_pairs(messages: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a toolUse without a toolResult in the next message, a toolResult without a toolUse, and duplicate ids."""
    asked: list[str] = []
    for index, message in enumerate(messages):
        path = f"messages.{index}.content"
        answered = [block["toolResult"]["toolUseId"] for block in message["content"] if "toolResult" in block]
        missing = [use for use in asked if use not in answered]
        if missing:
            raise ProgramRefusal(f"Expected toolResult blocks at {path} for the following Ids: {', '.join(missing)}")
        if len(answered) > len(asked):
            raise ProgramRefusal(
                f"The number of toolResult blocks at {path} exceeds the number of toolUse blocks of previous turn."
            )
        if len(set(answered)) < len(answered):
            raise ProgramRefusal(f"The toolResult blocks at {path} contain duplicate Ids: {', '.join(answered)}")
        asked = [block["toolUse"]["toolUseId"] for block in message["content"] if "toolUse" in block]
        if len(set(asked)) < len(asked):
            raise ProgramRefusal(f"The toolUse blocks at {path} contain duplicate Ids: {', '.join(asked)}")
    if asked:
        raise ProgramRefusal(
            f"Expected toolResult blocks at messages.{len(messages)}.content for the following Ids: {', '.join(asked)}"
        )


def _check_tools(request: Mapping[str, Any], model: EmulatedModel) -> None:
    """Refuse a missing toolConfig, tools or a toolChoice that the model does not support, and duplicate tool names.

    A toolChoice of a tool must name a tool of the toolConfig.
    """
    config: Mapping[str, Any] | None = request.get("toolConfig")
    if config is None:
        if any("toolUse" in block or "toolResult" in block for m in request["messages"] for block in m["content"]):
            raise ProgramRefusal(
                "The toolConfig field must be defined when using toolUse and toolResult content blocks."
            )
        return
    if not model.tools:
        raise ProgramRefusal("This model doesn't support tool use.")
    choice = next(iter(config.get("toolChoice") or ()), None)
    if choice is not None and choice not in model.tool_choice:
        field = f"toolConfig.toolChoice.{choice}"
        raise ProgramRefusal(f"This model doesn't support the {field} field. Remove {field} and try again.")
    names = [tool["toolSpec"]["name"] for tool in config["tools"] if "toolSpec" in tool]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ProgramRefusal(f"The tool {twice} is already defined at toolConfig.tools.{names.index(twice)}.")
    wanted = config["toolChoice"]["tool"]["name"] if choice == "tool" else None
    if wanted is not None and wanted not in names:
        raise ProgramRefusal(f"The tool {wanted} of toolConfig.toolChoice.tool isn't defined in toolConfig.tools.")


def _check_limits(request: Mapping[str, Any], model: EmulatedModel) -> None:
    """Refuse a maxTokens above the model's limit."""
    asked = (request.get("inferenceConfig") or {}).get("maxTokens")
    if asked is not None and asked > model.max_output_tokens:
        limit = model.max_output_tokens
        raise ProgramRefusal(
            f"The maximum tokens you requested exceeds the model limit of {limit}. "
            f"Try again with a maximum tokens value that is lower than {limit}."
        )
