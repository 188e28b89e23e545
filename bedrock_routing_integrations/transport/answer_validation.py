"""Raise for responses that do not hold an answer, and recognize tool calls that are not complete.

Responses with status 200: botocore returns an empty response without an error for a proxy's sign-in page, an empty body
or a truncated body: its parser reads a body that is not JSON as ``{}`` (seen 2026-12 with botocore 1.44). Passed on,
that would look like an empty answer or like a search without results, and a model would answer without passages. So the
members that hold the answer must be present. Members that a gateway may omit (usage, metrics, the session id) are None.

Tool calls: an answer can stop in the middle of a tool call, and such a call must not run. The stop reason alone does
not show whether the call is complete, so each reason has a rule:

- ``max_tokens``, ``model_context_window_exceeded``: the last call is always treated as incomplete. The model ran out of
  tokens, and Bedrock may have completed the JSON on the way.
- ``guardrail_intervened``, ``content_filtered``: the same, because blocked content must not run, complete or not.
- ``stop_sequence``: the last call of a stream is complete if its ``contentBlockStop`` arrived and its arguments are a
  JSON object with members (a truncated JSON object is not valid JSON). In all other cases it is incomplete. An empty
  object is treated as incomplete too: for a call without arguments no arguments arrive at all.
- In a response that was not streamed the last call is treated as incomplete for all five reasons: Bedrock returns an
  object made from a part of the arguments, and documents no rule for it.

Calls before the last block are complete if their arguments are JSON.
"""

from __future__ import annotations

import contextlib
import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.errors import InvalidAnswerError
from bedrock_routing_integrations.runtime import warn_once

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ADVICE = "The response was truncated, or it is not from Bedrock. Check endpoint_url and any proxy."


def checked_answer(response: dict[str, Any]) -> dict[str, Any]:
    """Return a response of Converse after checking that it has a message with content. The content may be empty.

    Raises:
        InvalidAnswerError: The response has no message. `partial` holds the members that arrived.
    """
    output = response.get("output")
    message = output.get("message") if isinstance(output, dict) else None
    if not isinstance(message, dict) or not isinstance(message.get("content"), list):
        missing = "output.message.content" if isinstance(message, dict) else "output"
        members = {name: value for name, value in response.items() if name != "ResponseMetadata"}
        raise InvalidAnswerError(
            f"Converse answered without {missing} ({described(response)}). {_ADVICE}", partial=members or None
        )
    return response


def retrieval_results(response: Mapping[str, Any]) -> list[Any]:
    """Return the results of Retrieve. An empty list is valid.

    Raises:
        InvalidAnswerError: The response has no list of results.
    """
    results = response.get("retrievalResults")
    if not isinstance(results, list):
        raise InvalidAnswerError(f"Retrieve answered without retrievalResults ({described(response)}). {_ADVICE}")
    return results


def checked_generation(response: dict[str, Any]) -> dict[str, Any]:
    """Return a response of RetrieveAndGenerate after checking that it has a text. The text may be empty.

    Raises:
        InvalidAnswerError: The response has no text. `partial` holds the members that arrived.
    """
    output = response.get("output")
    if not isinstance(output, dict) or not isinstance(output.get("text"), str):
        members = {name: value for name, value in response.items() if name != "ResponseMetadata"}
        raise InvalidAnswerError(
            f"RetrieveAndGenerate answered without output.text ({described(response)}). {_ADVICE}",
            partial=members or None,
        )
    return response


def empty_stream(response: Mapping[str, Any], why: str, partial: dict[str, Any] | None = None) -> InvalidAnswerError:
    """Return the error for a RetrieveAndGenerateStream without any text.

    Args:
        response: The response that opened the stream.
        why: The reason, for the message.
        partial: The part that arrived.
    """
    return InvalidAnswerError(
        f"RetrieveAndGenerateStream answered without a text ({why}; {described(response)}). {_ADVICE}", partial=partial
    )


def is_event_stream(response: Mapping[str, Any]) -> bool:
    """Return whether the content type of a response is that of an event stream; True if it has no content type."""
    kind = _content_type(response)
    return kind is None or "eventstream" in kind


def session_id(response: Mapping[str, Any], operation: str) -> str | None:
    """Return the session id of a response; None, with one warning, if it has none.

    Args:
        response: A response of RetrieveAndGenerate or RetrieveAndGenerateStream.
        operation: The name of the operation, for the warning.
    """
    value = response.get("sessionId")
    if isinstance(value, str) and value:
        return value
    warn_once(
        ("no session id", operation),
        f"{operation} answered without a session id, so the conversation cannot be continued. A gateway between this "
        "program and Bedrock may leave it out (the header x-amzn-bedrock-knowledge-base-session-id of streams).",
    )
    return None


@contextlib.contextmanager
def parse_errors_explained(operation: str) -> Iterator[None]:
    """Raise InvalidAnswerError for a body on which botocore's parser fails.

    The parser raises many kinds of errors: UnicodeDecodeError for a body that was truncated within a character,
    AttributeError or TypeError for JSON that is not an object, or its own ResponseParserError. The module in which an
    error was raised distinguishes them from errors in a client that the user wrote.

    Raises:
        InvalidAnswerError: The body cannot be parsed.
    """
    try:
        yield
    except Exception as error:
        if _raised_in(error) != "botocore.parsers":
            raise
        raise InvalidAnswerError(
            f"{operation} answered with a body that cannot be parsed ({type(error).__name__}: {error}). {_ADVICE}"
        ) from error


def _raised_in(error: BaseException) -> str | None:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return None if trace is None else trace.tb_frame.f_globals.get("__name__")


def described(response: Mapping[str, Any]) -> str:
    """Return the status, content type and request id of a response, for messages."""
    http = response.get("ResponseMetadata") or {}
    kind = _content_type(response)
    return f"HTTP {http.get('HTTPStatusCode')}, content type {kind}, request {http.get('RequestId')}"


def _content_type(response: Mapping[str, Any]) -> str | None:
    headers = (response.get("ResponseMetadata") or {}).get("HTTPHeaders") or {}
    kind = headers.get("content-type")
    return kind if isinstance(kind, str) else None


# --- Incomplete tool calls ---

CUT_OFF: Mapping[str, str] = MappingProxyType(
    {
        "max_tokens": "The answer reached max_tokens: raise max_tokens, or ask for less in one call.",
        "model_context_window_exceeded": "The context window is full: shorten the conversation, or ask for less.",
        "stop_sequence": "A stop sequence occurs in the arguments: leave out stop_sequences.",
        "content_filtered": "A content filter stopped the model: change the request.",
        "guardrail_intervened": "A guardrail stopped the answer: see the trace in the response.",
    }
)
"""Stop reason of an answer that may be incomplete → advice (``StopReason`` in botocore's service model, 1.44)."""
NEVER_COMPLETE = frozenset(["max_tokens", "model_context_window_exceeded", "guardrail_intervened", "content_filtered"])
"""The stop reasons with which the last call never runs."""


def is_incomplete_call(stop_reason: str | None, arguments: Any, *, is_closed: bool) -> bool:
    """Return whether a tool call that is the last content block of an answer must be treated as incomplete.

    Args:
        stop_reason: Converse's ``stopReason``.
        arguments: The arguments that arrived, as JSON text or as a parsed value.
        is_closed: Whether the call's ``contentBlockStop`` arrived; False for a response that was not streamed.
    """
    if stop_reason not in CUT_OFF:
        return False
    return stop_reason in NEVER_COMPLETE or not is_closed or not is_complete_json(arguments)


def is_complete_json(arguments: Any) -> bool:
    """Return whether arguments (JSON text or a parsed value) are a JSON object or array that is not empty."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return False
    return isinstance(arguments, (dict, list)) and bool(arguments)
