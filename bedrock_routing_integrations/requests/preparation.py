"""Make a Converse request valid for the models of its target.

`prepare_request` is a pure function of the request, the target and the target's known refusals. It never changes the
caller's request. Each larger rule has its own module. This module has their order and the small rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.targets import TargetKind

from .documents import name_documents
from .messages import fit_reasoning, place_system_messages
from .refusals import Refused, is_forced
from .tools import NO_TRANSLATION, legal_output_config, translate_tools, without_calls

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from bedrock_routing_integrations.models.candidates import ResolvedTarget

    from .messages import SystemPlacement
    from .tools import ToolTranslation


@dataclass(frozen=True)
class PreparedRequest:
    """A request that is ready to be sent.

    Attributes:
        request: The Converse request.
        streamed: Whether to send the request to ConverseStream (else to Converse).
        tools: The translation that restores the caller's tool names and arguments in the response.
    """

    request: dict[str, Any]
    streamed: bool
    tools: ToolTranslation


def prepare_request(
    request: Mapping[str, Any],
    resolved: ResolvedTarget,
    *,
    stream: bool = False,
    placement: SystemPlacement | None = None,
    refused: frozenset[Refused] = frozenset(),
    optional_output_format: bool = False,
) -> PreparedRequest:
    """Return the request to send.

    Args:
        request: A request with the arguments of boto3's ``converse``. It is not changed.
        resolved: The target with its candidate models.
        stream: Whether the caller asked for a stream. If the target cannot stream (or cannot stream with tools), the
            prepared request goes to Converse instead.
        placement: Where to put system messages in mid-conversation; None to use ``"native"`` if all candidate models
            are known to accept the role ``system``, else ``"inline"``.
        refused: The parts of a request that the target is known to refuse.
        optional_output_format: Whether ``outputConfig`` may be removed, because a framework added it and not the
            caller.

    Raises:
        InvalidRequestError: The tool choice is ``none`` and the target is a managed prompt.
    """
    streamed = stream and _streams(request, resolved, refused)
    if not _has_shape_of_a_request(request):  # boto3's own validation names the mistake
        return PreparedRequest(dict(request), streamed, NO_TRANSLATION)
    sent = dict(request)
    if sent.get("requestMetadata") == {}:  # Bedrock accepts 1 to 16 entries
        del sent["requestMetadata"]
    guardrail = sent.get("guardrailConfig")
    if not streamed and guardrail and "streamProcessingMode" in guardrail:  # only ConverseStream has this member
        sent["guardrailConfig"] = {name: value for name, value in guardrail.items() if name != "streamProcessingMode"}
    if "none" in ((sent.get("toolConfig") or {}).get("toolChoice") or {}):
        if resolved.target.kind is TargetKind.PROMPT:
            raise InvalidRequestError(
                f"toolChoice='none' is not valid for {resolved.target}: a managed prompt defines its own tools. "
                "Remove the tool choice from the request, or the tools from the prompt."
            )
        sent = dict(without_calls(sent))
    _prepare_messages(sent, resolved, placement, refused)
    if optional_output_format and Refused.OUTPUT_FORMAT in refused:
        sent.pop("outputConfig", None)
    if sent.get("outputConfig"):
        sent["outputConfig"] = legal_output_config(sent["outputConfig"])
    tools = NO_TRANSLATION
    if sent.get("toolConfig") or any(
        "toolUse" in block for m in sent.get("messages") or () for block in m.get("content") or ()
    ):
        translated, tools = translate_tools(sent)
        sent = dict(translated)
    return PreparedRequest(_without(sent, refused) if refused else sent, streamed, tools)


def _prepare_messages(
    sent: dict[str, Any], resolved: ResolvedTarget, placement: SystemPlacement | None, refused: frozenset[Refused]
) -> None:
    """Replace `sent`'s messages by messages that the candidate models accept."""
    facts = resolved.facts
    # One pass over all blocks decides which rules apply: most requests are plain text and need none.
    messages = sent.get("messages") or ()
    kinds = {kind for message in messages for block in message.get("content") or () for kind in block}
    if any(message.get("role") == "system" for message in messages):
        native = facts.system_in_messages and Refused.SYSTEM_ROLE not in refused
        placement = placement or ("native" if native else "inline")
        if Refused.SYSTEM_ROLE in refused and placement == "native":
            placement = "inline"
        sent.update(place_system_messages(sent, placement))
    if "reasoningContent" in kinds:
        sent["messages"] = fit_reasoning(sent["messages"], _reasoning(facts.reasoning, refused))
    if "document" in kinds or "toolResult" in kinds:
        sent["messages"] = name_documents(sent["messages"])
    if "toolResult" in kinds and Refused.TOOL_RESULT_STATUS in refused:
        sent["messages"] = _without_status(sent["messages"])


def _has_shape_of_a_request(request: Mapping[str, Any]) -> bool:
    """Return whether the members that the rules read are lists of dictionaries, as boto3 requires."""
    config, messages = request.get("toolConfig") or {}, request.get("messages") or ()
    if not isinstance(config, dict) or not isinstance(messages, (list, tuple)):
        return False
    if not all(isinstance(message, dict) for message in messages):
        return False
    lists = [config.get("tools") or (), request.get("system") or (), *(m.get("content", ()) for m in messages)]
    return all(isinstance(blocks, (list, tuple)) and all(isinstance(b, dict) for b in blocks) for blocks in lists)


def _streams(request: Mapping[str, Any], resolved: ResolvedTarget, refused: frozenset[Refused]) -> bool:
    config = request.get("toolConfig")
    facts, tools = resolved.facts, config.get("tools") if isinstance(config, dict) else None
    if not facts.streaming or Refused.STREAMING in refused:
        return False
    return not tools or (facts.streaming_with_tools and Refused.STREAMED_TOOLS not in refused)


def _reasoning(known: str | None, refused: frozenset[Refused]) -> str | None:
    if Refused.REASONING in refused:
        return "none"
    if Refused.REASONING_SIGNATURE in refused:
        return "none" if known in ("signed", "none") else "text"
    if Refused.UNSIGNED_REASONING in refused:
        return "none" if known in ("text", "none") else "signed"
    return known


def _without_status(messages: Any) -> list[Any]:
    return [
        {**message, "content": [_without_block_status(block) for block in message.get("content") or ()]}
        for message in messages
    ]


def _without_block_status(block: Mapping[str, Any]) -> Mapping[str, Any]:
    if "status" not in (block.get("toolResult") or {}):
        return block
    return {**block, "toolResult": {name: v for name, v in block["toolResult"].items() if name != "status"}}


def _without(request: dict[str, Any], refused: frozenset[Refused]) -> dict[str, Any]:
    if Refused.FORCED_TOOL_CHOICE in refused and is_forced(request):
        _leave_out(request, "toolConfig", ("toolChoice",))
    if Refused.TOP_P in refused and "temperature" in (request.get("inferenceConfig") or {}):
        _leave_out(request, "inferenceConfig", ("topP",))
    if Refused.SAMPLING in refused:
        _leave_out(request, "inferenceConfig", ("temperature", "topP"))
        _leave_out(request, "additionalModelRequestFields", ("top_k",))
    return request


def _leave_out(request: dict[str, Any], member: str, names: tuple[str, ...]) -> None:
    value = request.get(member)
    if not value or not any(name in value for name in names):
        return
    kept = {name: part for name, part in value.items() if name not in names}
    if kept:
        request[member] = kept
    else:
        del request[member]


# Arguments that applications written for other providers pass by habit. With a neutral value they have no effect, so
# they can be dropped; with any other value they are refused.

NEUTRAL_VALUES: Mapping[str, tuple[Any, ...]] = MappingProxyType({
    "best_of": (1,), "echo": (False,), "frequency_penalty": (0,), "length_penalty": (1,), "logprobs": (False, 0),
    "modalities": (["text"],), "n": (1,), "parallel_tool_calls": (True,), "presence_penalty": (0,),
    "repetition_penalty": (1,), "response_format": ({"type": "text"},), "store": (False,), "stream": (False,),
    "stream_usage": (True, False), "top_logprobs": (0,), "verbose": (False,),
})  # fmt: skip
"""Argument → values without effect. For every argument, empty values have no effect either: see `is_neutral`."""
_EMPTY: tuple[Any, ...] = (None, "", [], (), {})
_PLAIN = (bool, int, float, str, list, tuple, dict, type(None))


def without_neutral(arguments: Mapping[str, Any], known: Container[str]) -> dict[str, Any]:
    """Return the arguments without those that Bedrock does not have and whose values have no effect.

    Args:
        arguments: Argument name → value.
        known: The names of arguments that Bedrock has. They are kept, whatever their values.

    Returns:
        A new dictionary, in the order of `arguments`.
    """
    return {name: value for name, value in arguments.items() if name in known or not is_neutral(name, value)}


def is_neutral(name: str, value: Any) -> bool:
    """Return whether an argument that Bedrock does not have can be dropped, because its value has no effect.

    Args:
        name: The argument's name, such as ``"n"``.
        value: Its value, such as 1.
    """
    if not isinstance(value, _PLAIN):  # an object of another package may define == in its own way
        return False
    return value in _EMPTY or value in NEUTRAL_VALUES.get(name, ())
