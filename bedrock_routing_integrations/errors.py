"""The exceptions of this package, and how AWS's own are read.

    Exception
    └── BedrockRoutingError
        ├── InvalidTargetError      the model string is not a valid target of Converse
        ├── InvalidRequestError     an argument is not valid for the target; nothing was sent
        ├── MissingRegionError      neither argument, ARN, environment nor AWS configuration names a Region
        ├── InvalidAnswerError      the answer has no content, or Bedrock calls it malformed
        ├── SessionExpiredError     the session of a knowledge base is over
        ├── ToolCallError           (also a ValueError) the answer lacks a required tool call, or the call is broken
        ├── StreamInterruptedError  (also a ConnectionError) the stream ended early; ``partial`` has what arrived
        └── ContextOverflowError    (also botocore's ClientError) the prompt exceeds the model's context window

Other refusals of Bedrock are raised as boto3 raises them (``botocore.exceptions.ClientError`` and its subclasses).

An exception that a constructor raises is never a ValueError: pydantic would wrap it, and ``except BedrockRoutingError``
would miss it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from botocore.exceptions import ClientError


class BedrockRoutingError(Exception):
    """The base class of the exceptions of this package."""


class InvalidTargetError(BedrockRoutingError):
    """The model string is not a valid target of Converse. The message lists the accepted forms."""


class InvalidRequestError(BedrockRoutingError):
    """An argument is not valid, or not for this target. Raised before anything is sent."""


class MissingRegionError(BedrockRoutingError):
    """No AWS Region is known for a call."""


class SessionExpiredError(BedrockRoutingError):
    """The session of a `session_id` is over, or never existed.

    Attributes:
        session_id: The id.
    """

    def __init__(self, message: str, *, session_id: str) -> None:
        super().__init__(message)
        self.session_id = session_id

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_session_expired, (str(self), self.session_id)


class ToolCallError(BedrockRoutingError, ValueError):
    """The answer lacks a required tool call, or the call's arguments are not a JSON object.

    Also a ValueError, from which LlamaIndex recovers when it extracts or refines with many calls.
    """


class InvalidAnswerError(BedrockRoutingError):
    """The answer has no content, or Bedrock calls it malformed.

    Attributes:
        partial: The part that arrived, shaped like the operation's response; None if nothing could be read.
        stop_reason: Converse's ``stopReason``; None if there was none.
    """

    def __init__(self, message: str, *, partial: dict[str, Any] | None = None, stop_reason: str | None = None) -> None:
        super().__init__(message)
        self.partial = partial
        self.stop_reason = stop_reason

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_invalid_answer, (str(self), self.partial, self.stop_reason)


class StreamInterruptedError(BedrockRoutingError, ConnectionError):
    """A response stream ended before its last event.

    Attributes:
        partial: The part that arrived, shaped like a Converse response: ``output.message`` with its content blocks, and
            ``stopReason``, ``usage`` and ``metrics`` if they arrived. A tool call with incomplete arguments keeps them
            as text (``toolUse.input`` is then a ``str``).
    """

    def __init__(self, message: str, *, partial: dict[str, Any]) -> None:
        super().__init__(message)
        self.partial = partial

    @property
    def text(self) -> str:
        """The text that arrived, joined over the content blocks."""
        content = self.partial.get("output", {}).get("message", {}).get("content", [])
        return "".join(block.get("text", "") for block in content)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_stream_interrupted, (str(self), self.partial)


def _rebuild_invalid_answer(
    message: str, partial: dict[str, Any] | None, stop_reason: str | None
) -> InvalidAnswerError:
    return InvalidAnswerError(message, partial=partial, stop_reason=stop_reason)


def _rebuild_session_expired(message: str, session_id: str) -> SessionExpiredError:
    return SessionExpiredError(message, session_id=session_id)


def _rebuild_stream_interrupted(message: str, partial: dict[str, Any]) -> StreamInterruptedError:
    return StreamInterruptedError(message, partial=partial)


class AwsError(NamedTuple):
    """AWS's description of a failure. Empty for an exception that is not AWS's.

    Attributes:
        code: ``ThrottlingException``, also if a stream's event has ``throttlingException``.
        message: AWS's message.
        metadata: boto3's ``ResponseMetadata``: request id, status, headers, retries.
    """

    code: str
    message: str
    metadata: Mapping[str, Any]

    @property
    def request_id(self) -> str | None:
        """AWS's id of the request; None if it is not known."""
        return self.metadata.get("RequestId")


def aws_error(error: BaseException | None) -> AwsError:
    """Return AWS's code, message and metadata of a failure.

    The only function that reads ``error.response``: exceptions of other libraries have an attribute of that name, too.
    """
    response = getattr(error, "response", None)
    if not isinstance(response, Mapping):
        return AwsError("", "", {})
    refusal, metadata = response.get("Error"), response.get("ResponseMetadata")
    refusal = refusal if isinstance(refusal, Mapping) else {}
    code, message = refusal.get("Code"), refusal.get("Message") or refusal.get("message")
    code = code if isinstance(code, str) else ""
    return AwsError(code[:1].upper() + code[1:], str(message or ""), metadata if isinstance(metadata, Mapping) else {})


def error_kind(error: BaseException) -> str:
    """Return AWS's code of an exception, such as ``ThrottlingException``; without one, the name of its class."""
    return aws_error(error).code or type(error).__name__


# Fragments of Bedrock's messages for a prompt that exceeds the context window, in lower case. Sources: recordings of
# the service (Nova: "Input Tokens Exceeded"), public reports, langchain-aws 1.9.1.
_OVERFLOWS = (
    "input is too long",
    "prompt is too long",
    "input tokens exceeded",
    "too many input tokens",
    "maximum context length",
    "context_length_exceeded",
    "exceeds the context window",
    "exceed context limit",
    "input tokens exceed the configured limit",
    "exceed model maximum",
    "is longer than the model's context length",
    "context window limit",
)
# "prompt is too long: 215000 tokens > 200000 maximum", "maximum context length is 8192 tokens … 9000 tokens".
_COUNT_AND_LIMIT = re.compile(r"(\d[\d,]*)\s*tokens?\s*>\s*(\d[\d,]*)", re.IGNORECASE)
_SUM_AND_LIMIT = re.compile(r"exceed context limit: (\d+) \+ (\d+) > (\d+)", re.IGNORECASE)
_LIMIT = re.compile(
    r"(?:context length|context limit|context window)(?: of this model)?(?: is| of|:)?\s*(\d[\d,]*)", re.IGNORECASE
)
_COUNT = re.compile(
    r"(?:resulted in|requested(?: about)?|prompt contains(?: at least)?|has|got)\s*(\d[\d,]*)\s*(?:input )?tokens",
    re.IGNORECASE,
)


def is_context_overflow(error: BaseException) -> bool:
    """Return whether Bedrock refused a request because its prompt exceeds the model's context window."""
    if error_kind(error) != "ValidationException":
        return False
    message = aws_error(error).message.lower()
    return any(fragment in message for fragment in _OVERFLOWS)


def overflow_counts(message: str) -> tuple[int | None, int | None]:
    """Return the prompt's tokens and the model's limit from the message of a refusal; None for a count it lacks."""
    total = _SUM_AND_LIMIT.search(message)
    if total:
        prompt, answer, limit = (int(number) for number in total.groups())
        return prompt + answer, limit
    both = _COUNT_AND_LIMIT.search(message)
    if both:
        return _number(both[1]), _number(both[2])
    count, limits = _COUNT.search(message), _LIMIT.search(message)
    return _number(count[1]) if count else None, _number(limits[1]) if limits else None


def as_context_overflow(error: Any) -> ClientError:
    """Return a refusal as a `ContextOverflowError` that is also of the refusal's own class."""
    refusal: Any = type(error)
    kind = _overflow_class(refusal)
    raised: ClientError = kind(error.response, error.operation_name)
    return raised


def with_advice(error: Any, advice: str) -> ClientError:
    """Return an error of the same class and response with advice at the end of its message.

    Args:
        error: A botocore `ClientError`.
        advice: A sentence for the caller.
    """
    refusal = error.response.get("Error") or {}
    response = {**error.response, "Error": {**refusal, "Message": f"{aws_error(error).message} {advice}"}}
    raised: ClientError = type(error)(response, error.operation_name)
    return raised


def _number(digits: str) -> int:
    return int(digits.replace(",", ""))


@functools.lru_cache(maxsize=1)
def _context_overflow_error() -> Any:
    from botocore.exceptions import ClientError

    class ContextOverflowError(BedrockRoutingError, ClientError):  # type: ignore[misc]  # botocore has no types
        """The prompt is longer than the model's context window.

        Also botocore's `ClientError`, and boto3's modeled class (``client.exceptions.ValidationException``). Shorten
        the prompt, or call a model with a larger window.

        Attributes:
            tokens: Tokens of the prompt; None if Bedrock's message lacks them.
            maximum: Most tokens that the model takes; None if Bedrock's message lacks them.
        """

        @property
        def tokens(self) -> int | None:
            return overflow_counts(aws_error(self).message)[0]

        @property
        def maximum(self) -> int | None:
            return overflow_counts(aws_error(self).message)[1]

        def __reduce__(self) -> tuple[Any, ...]:
            return _rebuild_context_overflow, (self.response, self.operation_name)

    ContextOverflowError.__qualname__ = "ContextOverflowError"
    return ContextOverflowError


@functools.lru_cache(maxsize=64)
def _overflow_class(refusal: type[Any]) -> Any:
    """Return a class of overflows that ``except refusal`` catches, for a class such as ``ValidationException``."""
    ours = _context_overflow_error()
    if issubclass(ours, refusal):
        return ours
    if issubclass(refusal, ours):
        return refusal
    return type("ContextOverflowError", (ours, refusal), {"__module__": __name__})


def _rebuild_context_overflow(response: dict[str, Any], operation_name: str) -> Exception:
    raised: Exception = _context_overflow_error()(response, operation_name)
    return raised


def __getattr__(name: str) -> Any:
    # A subclass of botocore's error, made on first use: importing this package loads no boto3.
    if name == "ContextOverflowError":
        return _context_overflow_error()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
