"""What of a request can be left out when Bedrock refuses it, and for which targets that is known.

A router, or an application profile whose look-up IAM denies, hides which models answer, and catalogs are never
complete. So a request can hold something that a model refuses though the call makes sense without it. Such a request is
sent once more without it, before anything has reached the caller; that it was refused is remembered for the target for
a day, so that the next call is right at once.

What counts as such a refusal is read from Bedrock's messages, of which public reports and recordings are the source
(dates at each pattern). A message that fits nothing here is raised as it came.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import OrderedDict
from enum import Enum
from typing import TYPE_CHECKING, Any

from .reasoning import has_reasoning

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

REMEMBERED_SECONDS = 86_400.0
_MOST_REMEMBERED = 10_000


class Refused(str, Enum):
    """Something that a model refused. The value says what was left out, for warnings."""

    FORCED_TOOL_CHOICE = "the forced tool choice"
    STREAMED_TOOLS = "streaming together with tools"
    STREAMING = "streaming"
    SAMPLING = "temperature, topP and top_k"
    UNSIGNED_REASONING = "reasoning without a signature"
    REASONING_SIGNATURE = "the signatures of reasoning"
    REASONING = "the reasoning of earlier turns"
    SYSTEM_ROLE = "the role 'system' in messages"
    TOOL_RESULT_STATUS = "the status of tool results"
    OUTPUT_FORMAT = "the output format"
    COUNT_TOKENS = "CountTokens"

    def __str__(self) -> str:
        return self.value


_STREAMED_TOOLS = re.compile(
    r"tool\w*( use)? in (a )?stream|stream\w*[^.]{0,40}\btool", re.IGNORECASE
)  # llama_index#19655
_STREAMING = re.compile(
    r"(not|n't|un)\s?support\w*[^.]{0,40}\bstreaming|streaming[^.]{0,20} (not|un)\s?support", re.IGNORECASE
)
_FORCED_TOOL = re.compile(r"tool_?\s?choice", re.IGNORECASE)  # pydantic-ai#2091; "tool_choice forces tool use"
# "`temperature` is deprecated for this model." (cline#10572); "… and `top_p` cannot both be specified" is the caller's.
_SAMPLING = re.compile(r"\b(temperature|top_?p|top_?k)\b", re.IGNORECASE)
_NOT_TAKEN = re.compile(
    r"deprecat|not (be )?(support|allow|permit)|n't support|unsupported|extraneous|extra inputs|remove", re.IGNORECASE
)
_SIGNATURE = re.compile(r"\bsignature", re.IGNORECASE)
_REASONING = re.compile(r"reasoning|\bthinking\b|redacted", re.IGNORECASE)
_MISSING = re.compile(r"required|missing|must (have|be)", re.IGNORECASE)
# "When `thinking` is enabled, a final `assistant` message must start with a thinking block": less of it is no help.
_WANTS_THINKING = re.compile(r"expected `?(thinking|redacted_thinking)|must start with", re.IGNORECASE)
_ROLE = re.compile(r"\brole\b|\bsystem\b", re.IGNORECASE)
_STATUS = re.compile(r"\bstatus\b", re.IGNORECASE)
_OUTPUT_FORMAT = re.compile(
    r"output_?\s?(config|format)|text_?format|structured output|response_?format|json_?schema", re.IGNORECASE
)


def removable(  # noqa: PLR0911 - one return for each thing that can be left out
    error: BaseException, request: Mapping[str, Any], *, streamed: bool, ours: bool
) -> Refused | None:
    """Return what of a refused request can be left out; None where the refusal names nothing of that kind.

    Args:
        error: What boto3 raised.
        request: The request as it was sent.
        streamed: Whether it was sent to ConverseStream.
        ours: Whether ``outputConfig`` was added by this package, and not by the caller.
    """
    response = getattr(error, "response", None)
    refusal = (response.get("Error") or {}) if isinstance(response, dict) else {}
    message = str(refusal.get("Message") or refusal.get("message") or "")
    if str(refusal.get("Code")).lower() != "validationexception":
        return None
    if streamed:
        if request.get("toolConfig") and _STREAMED_TOOLS.search(message):
            return Refused.STREAMED_TOOLS
        if _STREAMING.search(message):
            return Refused.STREAMING
    choice = (request.get("toolConfig") or {}).get("toolChoice") or {}
    if ({"any", "tool"} & choice.keys()) and _FORCED_TOOL.search(message):
        return Refused.FORCED_TOOL_CHOICE
    messages = request.get("messages") or ()
    if has_reasoning(messages) and not _WANTS_THINKING.search(message):
        if _SIGNATURE.search(message):
            return Refused.UNSIGNED_REASONING if _MISSING.search(message) else Refused.REASONING_SIGNATURE
        if _REASONING.search(message):
            return Refused.REASONING
    if ours and request.get("outputConfig") and _OUTPUT_FORMAT.search(message):
        return Refused.OUTPUT_FORMAT
    if _SAMPLING.search(message) and _NOT_TAKEN.search(message) and "both" not in message and _samples(request):
        return Refused.SAMPLING
    if _has_status(messages) and _STATUS.search(message) and _NOT_TAKEN.search(message):
        return Refused.TOOL_RESULT_STATUS
    if any(each.get("role") == "system" for each in messages) and _ROLE.search(message):
        return Refused.SYSTEM_ROLE
    return None


def _samples(request: Mapping[str, Any]) -> bool:
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
    """Remember for which targets what was refused. Bounded; safe under threads.

    Args:
        clock: Seconds, only ever rising.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: OrderedDict[tuple[Hashable, Refused], float] = OrderedDict()
        self._lock = threading.Lock()

    def remember(self, target: Hashable, refused: Refused) -> None:
        """Leave it out of requests to a target for a day."""
        with self._lock:
            self._until[target, refused] = self._clock() + REMEMBERED_SECONDS
            self._until.move_to_end((target, refused))
            while len(self._until) > _MOST_REMEMBERED:
                self._until.popitem(last=False)

    def of(self, target: Hashable) -> frozenset[Refused]:
        """Return what is left out of requests to a target now."""
        if not self._until:  # the usual case, on the path of every call
            return frozenset()
        now = self._clock()
        with self._lock:
            return frozenset(refused for refused in Refused if self._until.get((target, refused), now) > now)

    def forget(self) -> None:
        """Forget everything; after a fork the lock may be held by a thread that is not there."""
        self._lock = threading.Lock()
        self._until.clear()


shared_refusals = RefusalMemory(time.monotonic)
"""What the targets of this process are known to refuse."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=shared_refusals.forget)
