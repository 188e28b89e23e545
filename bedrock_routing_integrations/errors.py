"""Every error that this package raises on its own account.

    Exception
    └── BedrockRoutingError
        ├── InvalidTargetError      the model string names nothing that Bedrock can invoke
        ├── InvalidRequestError     an argument that the target cannot serve; nothing was sent
        ├── MissingRegionError      no Region in argument, ARN, environment or AWS configuration
        ├── StreamInterruptedError  (also a ConnectionError) a stream ended early; what had arrived is in ``partial``
        ├── InvalidAnswerError      an answer at status 200 that lacks what makes it an answer, or is malformed
        ├── SessionExpiredError     the conversation with a knowledge base that a session id names is over
        └── ToolCallError           (also a ValueError) an answer lacks a tool call that it had to have, or it is broken

What Bedrock itself refuses is raised as boto3 raises it (``botocore.exceptions.ClientError`` and its family).
None that a constructor raises is a ValueError: pydantic would wrap it, and ``except BedrockRoutingError`` miss it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class BedrockRoutingError(Exception):
    """The base of every error of this package."""


class InvalidTargetError(BedrockRoutingError):
    """A model string that is no target of Converse. The message lists what is accepted."""


class InvalidRequestError(BedrockRoutingError):
    """An argument that this target, as far as it is known, cannot serve. Raised before anything is sent."""


class MissingRegionError(BedrockRoutingError):
    """No AWS Region could be found for a call."""


class SessionExpiredError(BedrockRoutingError):
    """The conversation that a `session_id` names is over, or never was.

    Attributes:
        session_id: The id.
    """

    def __init__(self, message: str, *, session_id: str) -> None:
        super().__init__(message)
        self.session_id = session_id

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_session_expired, (str(self), self.session_id)


class ToolCallError(BedrockRoutingError, ValueError):
    """An answer in which a tool call was needed has none, or one whose arguments are no JSON object.

    A ValueError too: that is what LlamaIndex recovers from, when it extracts or refines with many calls.
    """


class InvalidAnswerError(BedrockRoutingError):
    """Report an answer at status 200 that is not usable: empty, cut, not Bedrock's, or malformed by the model.

    Attributes:
        partial: What had arrived, in the shape of the operation's response; None where nothing had.
        stop_reason: The stop reason that came with it; None where none came.
    """

    def __init__(self, message: str, *, partial: dict[str, Any] | None = None, stop_reason: str | None = None) -> None:
        super().__init__(message)
        self.partial = partial
        self.stop_reason = stop_reason

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_invalid_answer, (str(self), self.partial, self.stop_reason)


class StreamInterruptedError(BedrockRoutingError, ConnectionError):
    """A response stream ended before Bedrock said that it was complete.

    Attributes:
        partial: What had arrived, shaped like a Converse response: ``output.message`` with its content blocks, and
            ``stopReason``, ``usage`` and ``metrics`` where those had arrived too. A tool call whose arguments were
            cut keeps them as the text received so far (``toolUse.input`` is then a ``str``).
    """

    def __init__(self, message: str, *, partial: dict[str, Any]) -> None:
        super().__init__(message)
        self.partial = partial

    @property
    def text(self) -> str:
        """The text that had arrived, joined over the content blocks."""
        content = self.partial.get("output", {}).get("message", {}).get("content", [])
        return "".join(block.get("text", "") for block in content)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_stream_interrupted, (str(self), self.partial)


def _rebuild_session_expired(message: str, session_id: str) -> SessionExpiredError:
    return SessionExpiredError(message, session_id=session_id)


def _rebuild_invalid_answer(
    message: str, partial: dict[str, Any] | None, stop_reason: str | None
) -> InvalidAnswerError:
    return InvalidAnswerError(message, partial=partial, stop_reason=stop_reason)


def _rebuild_stream_interrupted(message: str, partial: dict[str, Any]) -> StreamInterruptedError:
    return StreamInterruptedError(message, partial=partial)


def error_kind(error: BaseException) -> str:
    """AWS's code of an error, ``ThrottlingException``, whether refused or inside a stream; else its class's name."""
    response = getattr(error, "response", None)
    code = (response.get("Error") or {}).get("Code") if isinstance(response, Mapping) else None
    if not isinstance(code, str) or not code:
        return type(error).__name__
    # Inside of a stream Bedrock spells it throttlingException.
    return code[:1].upper() + code[1:]
