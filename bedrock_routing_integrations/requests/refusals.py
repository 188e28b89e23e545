"""Recognize which part of a request Bedrock refused, and remember it for the target.

A router hides which model will answer, and so does an application profile whose look-up IAM denies. A table of model
facts is never complete either. So a request can hold a part that a model refuses although the call makes sense without
it, such as a forced tool choice. `client.exchange` then sends the request once more without that part, before anything
has reached the caller. The refusal is remembered for the target for a day, so that the next call is right at once.

Bedrock has no error code for these refusals, so they are recognized by their messages. The patterns come from public
reports and recordings (named at each pattern). An error that matches no pattern is raised unchanged.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from bedrock_routing_integrations.bounded_cache import BoundedCache
from bedrock_routing_integrations.errors import aws_error

from .messages import has_reasoning

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

REMEMBERED_SECONDS = 86_400.0
_MOST_REMEMBERED = 10_000


class Refused(str, Enum):
    """A part of a request that a model can refuse. The value describes it in warnings."""

    FORCED_TOOL_CHOICE = "the forced tool choice"
    STREAMED_TOOLS = "streaming together with tools"
    STREAMING = "streaming"
    SAMPLING = "temperature, topP and top_k"
    TOP_P = "topP beside temperature"
    UNSIGNED_REASONING = "reasoning without a signature"
    REASONING_SIGNATURE = "the signatures of reasoning"
    REASONING = "the reasoning of earlier turns"
    SYSTEM_ROLE = "the role 'system' in messages"
    TOOL_RESULT_STATUS = "the status of tool results"
    OUTPUT_FORMAT = "the output format"
    COUNT_TOKENS = "CountTokens"

    def __str__(self) -> str:
        return self.value


REASONING = frozenset([Refused.UNSIGNED_REASONING, Refused.REASONING_SIGNATURE, Refused.REASONING])

# How models word that they do not accept something, in public reports and recordings.
_UNSUPPORTED = re.compile(
    r"deprecat|not (be )?(support|allow|permit|compatib)|n['\u2019]t support|unsupported|extraneous|extra inputs|remove"
    r"|cannot contain",
    re.IGNORECASE,
)
_STREAMED_TOOLS = re.compile(
    r"\btool\w*( use)? in (a )?stream|\bstreaming?\b[^.]{0,40}\btool", re.IGNORECASE
)  # llama_index#19655
_STREAMING = re.compile(r"\bstreaming\b", re.IGNORECASE)
_FORCED_TOOL = re.compile(r"tool_?\s?choice", re.IGNORECASE)  # pydantic-ai#2091
_FORCED_WHILE_THINKING = re.compile(
    r"tool_?choice\W+forces tool use", re.IGNORECASE
)  # "Thinking may not be enabled when …"
# "`temperature` is deprecated for this model." (cline#10572)
_SAMPLING = re.compile(r"\b(temperature|top_?p|top_?k)\b", re.IGNORECASE)
# "`temperature` and `top_p` cannot both be specified for this model." (Claude 4.1 and 4.5)
_TEMPERATURE_AND_TOP_P = re.compile(r"\bboth\b", re.IGNORECASE)
_WHILE_THINKING = re.compile(r"\bthinking is enabled", re.IGNORECASE)  # "`temperature` may only be set to 1 when …"
_SIGNATURE = re.compile(r"\bsignature", re.IGNORECASE)
_REASONING = re.compile(r"reasoning|\bthinking\b|redacted", re.IGNORECASE)
_MISSING = re.compile(r"required|missing|must (have|be)", re.IGNORECASE)
_INVALID = re.compile(r"invalid", re.IGNORECASE)
# "When `thinking` is enabled, a final `assistant` message must start with a thinking block": removing would not help.
_WANTS_THINKING = re.compile(r"expected `?(thinking|redacted_thinking)|must start with", re.IGNORECASE)
_ROLE = re.compile(r"\brole\b", re.IGNORECASE)
_STATUS = re.compile(r"\bstatus\b", re.IGNORECASE)
_OUTPUT_FORMAT = re.compile(
    r"output_?\s?(config|format)|text_?format|structured output|response_?format|json_?schema", re.IGNORECASE
)


class Removal(NamedTuple):
    """The part to remove from a refused request.

    Attributes:
        refused: The part.
        is_permanent: Whether the target always refuses this part, so that the refusal is remembered. False if the
            refusal is about this request only: a signature of another model, or a forced tool while thinking.
    """

    refused: Refused
    is_permanent: bool = True


def find_removal(  # noqa: PLR0911 - one return for each part that can be removed
    error: BaseException, request: Mapping[str, Any], *, streamed: bool, optional_output_format: bool
) -> Removal | None:
    """Return the part of a refused request that can be removed; None if the error names no such part.

    Args:
        error: The error that boto3 raised.
        request: The request that was sent.
        streamed: Whether it was sent to ConverseStream.
        optional_output_format: Whether a framework added ``outputConfig``, and not the caller.
    """
    code, message, _ = aws_error(error)
    if code != "ValidationException":
        return None
    is_unsupported, messages = _UNSUPPORTED.search(message), request.get("messages") or ()
    if streamed and is_unsupported:
        if request.get("toolConfig") and _STREAMED_TOOLS.search(message):
            return Removal(Refused.STREAMED_TOOLS)
        if _STREAMING.search(message):
            return Removal(Refused.STREAMING)
    if is_forced(request) and _FORCED_TOOL.search(message):
        if is_unsupported:
            return Removal(Refused.FORCED_TOOL_CHOICE, not _asks_for_reasoning(request))
        if _FORCED_WHILE_THINKING.search(message):
            return Removal(Refused.FORCED_TOOL_CHOICE, is_permanent=False)
    removal = _removable_sampling(message, request)
    if removal is None and has_reasoning(messages):
        removal = _removable_reasoning(message)
    if removal is not None:
        return removal
    if is_unsupported and _STATUS.search(message) and _has_status(messages):
        return Removal(Refused.TOOL_RESULT_STATUS)
    if optional_output_format and request.get("outputConfig") and _OUTPUT_FORMAT.search(message):
        return Removal(Refused.OUTPUT_FORMAT)
    if any(each.get("role") == "system" for each in messages) and _ROLE.search(message):
        return Removal(Refused.SYSTEM_ROLE)
    return None


def is_forced(request: Mapping[str, Any]) -> bool:
    """Return whether the request's tool choice forces the model to call a tool."""
    choice = (request.get("toolConfig") or {}).get("toolChoice") or {}
    return "any" in choice or "tool" in choice


def _removable_sampling(message: str, request: Mapping[str, Any]) -> Removal | None:
    if not _SAMPLING.search(message) or not _has_sampling(request):
        return None
    if _TEMPERATURE_AND_TOP_P.search(message):
        inference = request.get("inferenceConfig") or {}
        return Removal(Refused.TOP_P) if "temperature" in inference and "topP" in inference else None
    if _WHILE_THINKING.search(message):
        return Removal(Refused.SAMPLING, is_permanent=False)
    return Removal(Refused.SAMPLING) if _UNSUPPORTED.search(message) else None


def _removable_reasoning(message: str) -> Removal | None:
    if _WANTS_THINKING.search(message) or "budget" in message:
        return None
    if _SIGNATURE.search(message):
        if _INVALID.search(message):  # of this history: written by another model, or changed
            return Removal(Refused.REASONING, is_permanent=False)
        return Removal(Refused.UNSIGNED_REASONING if _MISSING.search(message) else Refused.REASONING_SIGNATURE)
    return Removal(Refused.REASONING) if _REASONING.search(message) else None


def _asks_for_reasoning(request: Mapping[str, Any]) -> bool:
    fields = request.get("additionalModelRequestFields") or {}
    return any("think" in name or "reason" in name for name in fields)


def _has_sampling(request: Mapping[str, Any]) -> bool:
    inference = request.get("inferenceConfig") or {}
    return (
        "temperature" in inference
        or "topP" in inference
        or "top_k" in (request.get("additionalModelRequestFields") or {})
    )


def _has_status(messages: Any) -> bool:
    return any("status" in block["toolResult"] for message in messages for block in message.get("content") or ()
               if "toolResult" in block)  # fmt: skip


class RefusalMemory:
    """Remember the refusals of each target for a day. Bounded in size, and safe to use from several threads.

    Args:
        clock: Return the time in seconds; it never goes back (`time.monotonic`).
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: BoundedCache[tuple[Hashable, Refused], float] = BoundedCache(_MOST_REMEMBERED)

    def remember(self, target: Hashable, refused: Refused) -> None:
        """Record that a target refuses a part of requests; `of` returns it for a day.

        Args:
            target: Identifies the target.
            refused: The part.
        """
        self._until.put((target, refused), self._clock() + REMEMBERED_SECONDS)

    def of(self, target: Hashable) -> frozenset[Refused]:
        """Return the parts to leave out of requests to a target now."""
        if not len(self._until):  # the usual case, on the path of every call
            return frozenset()
        now = self._clock()
        return frozenset(refused for refused in Refused if self._until.get((target, refused), now) > now)

    def reset(self) -> None:
        """Forget all refusals."""
        self._until.reset()
