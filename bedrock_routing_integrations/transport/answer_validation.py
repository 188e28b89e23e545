"""Refuse answers of Bedrock that are not answers, although their status is 200.

A proxy's sign-in page, an empty body and a body that was cut all come back from botocore as an empty response without
an error: its parser reads what is not JSON as ``{}`` (seen 2026-12 with botocore 1.44). Passed on, Converse would have
said nothing, Retrieve would have found nothing, and a model would answer from nothing. So the members that *are* the
answer must be there. What a gateway may leave out (usage, metrics, the session id) is None.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.errors import InvalidAnswerError
from bedrock_routing_integrations.runtime import warn_once

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ADVICE = "Either the answer was cut, or what answers there is not Bedrock: check endpoint_url and any proxy."


def checked_answer(response: dict[str, Any]) -> dict[str, Any]:
    """Return the response of Converse, which has a message with content; the content may be empty.

    Raises:
        InvalidAnswerError: The response has no message. `partial` is the rest of it.
    """
    output = response.get("output")
    message = output.get("message") if isinstance(output, dict) else None
    if not isinstance(message, dict) or not isinstance(message.get("content"), list):
        missing = "output.message.content" if isinstance(message, dict) else "output"
        arrived = {name: value for name, value in response.items() if name != "ResponseMetadata"}
        raise InvalidAnswerError(
            f"Converse answered without {missing} ({described(response)}). {_ADVICE}", partial=arrived or None
        )
    return response


def retrieval_results(response: Mapping[str, Any]) -> list[Any]:
    """Return the results of Retrieve; an explicitly empty list is a valid answer.

    Raises:
        InvalidAnswerError: The response has no list of results.
    """
    results = response.get("retrievalResults")
    if not isinstance(results, list):
        raise InvalidAnswerError(f"Retrieve answered without retrievalResults ({described(response)}). {_ADVICE}")
    return results


def checked_generation(response: dict[str, Any]) -> dict[str, Any]:
    """Return the response of RetrieveAndGenerate, which has a text; the text may be empty.

    Raises:
        InvalidAnswerError: The response has no text. `partial` is the rest of it.
    """
    output = response.get("output")
    if not isinstance(output, dict) or not isinstance(output.get("text"), str):
        arrived = {name: value for name, value in response.items() if name != "ResponseMetadata"}
        raise InvalidAnswerError(
            f"RetrieveAndGenerate answered without output.text ({described(response)}). {_ADVICE}",
            partial=arrived or None,
        )
    return response


def empty_stream(response: Mapping[str, Any], why: str, partial: dict[str, Any] | None = None) -> InvalidAnswerError:
    """Return the error for a stream of RetrieveAndGenerateStream in which no text came."""
    return InvalidAnswerError(
        f"RetrieveAndGenerateStream answered without a text ({why}; {described(response)}). {_ADVICE}", partial=partial
    )


def is_event_stream(response: Mapping[str, Any]) -> bool:
    """Return whether a response says that its body is an event stream; True where it does not say."""
    kind = _content_type(response)
    return kind is None or "eventstream" in kind


def session_id(response: Mapping[str, Any], operation: str) -> str | None:
    """Return the id of the session; None, with one warning, where the response has none."""
    found = response.get("sessionId")
    if isinstance(found, str) and found:
        return found
    warn_once(
        ("no session id", operation),
        f"{operation} answered without a session id, so the conversation cannot be continued. A gateway between this "
        "program and Bedrock may leave it out (the header x-amzn-bedrock-knowledge-base-session-id of streams).",
    )
    return None


@contextlib.contextmanager
def parse_errors_explained(operation: str) -> Iterator[None]:
    """Raise InvalidAnswerError for a body on which botocore's parser fails.

    The parser raises whatever Python raises there: UnicodeDecodeError for a body that was cut within a character,
    AttributeError or TypeError for JSON that is not an object, its own ResponseParserError. The module that raised them
    tells them from mistakes in a client that the user wrote.

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
    """Return status, content type and request id of a response, for messages."""
    http = response.get("ResponseMetadata") or {}
    kind = _content_type(response)
    return f"HTTP {http.get('HTTPStatusCode')}, content type {kind}, request {http.get('RequestId')}"


def _content_type(response: Mapping[str, Any]) -> str | None:
    headers = (response.get("ResponseMetadata") or {}).get("HTTPHeaders") or {}
    kind = headers.get("content-type")
    return kind if isinstance(kind, str) else None
