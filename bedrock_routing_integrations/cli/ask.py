"""Run ``bedrock-routing ask``: send one prompt with a plain `RoutedClient`, print the answer and the invoked model."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from bedrock_routing_integrations.client import RoutedClient
from bedrock_routing_integrations.connections import Connection
from bedrock_routing_integrations.invocation import ROUTING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Question", "answer"]


@dataclass(frozen=True, kw_only=True)
class Question:
    """A prompt and its target.

    Attributes:
        target: The id or ARN of the target.
        prompt: The prompt.
        latency: The ``performanceConfig.latency`` to request; None to request none.
        max_tokens: The greatest number of tokens of the answer; None for the model's own limit.
    """

    target: str
    prompt: str
    latency: str | None = None
    max_tokens: int | None = None

    def request(self) -> dict[str, Any]:
        """Return the Converse request."""
        request: dict[str, Any] = {
            "modelId": self.target,
            "messages": [{"role": "user", "content": [{"text": self.prompt}]}],
        }
        if self.latency:
            request["performanceConfig"] = {"latency": self.latency}
        if self.max_tokens:
            request["inferenceConfig"] = {"maxTokens": self.max_tokens}
        return request


def answer(
    question: Question, *, region: str | None, endpoint_url: str | None, stream: bool | None, as_json: bool
) -> None:
    """Print the answer on standard output, and the invoked model on standard error.

    Args:
        question: The prompt and its target.
        region: The Region; None for that of the target.
        endpoint_url: The endpoint; None for that of AWS.
        stream: Whether to print the answer as it arrives; None to do so in a terminal if the models can stream.
        as_json: Whether to print one object with ``text``, ``stop_reason`` and ``routing`` instead.
    """
    client = RoutedClient(Connection(region_name=region, endpoint_url=endpoint_url))
    if stream is None:
        stream = sys.stdout.isatty() and not as_json and client.resolve(question.target).facts.streaming
    pieces = _streamed(client, question) if stream else _whole(client, question)
    text = ""
    ending: dict[str, Any] = {}
    try:
        for piece in pieces:
            if isinstance(piece, dict):
                ending = piece
                continue
            text += piece
            if not as_json:
                typer.echo(piece, nl=False)
    finally:
        if text and not as_json:
            typer.echo()
    if as_json:
        typer.echo(json.dumps({"text": text, **ending}, indent=2, ensure_ascii=False))
    else:
        typer.secho(_who_answered(ending[ROUTING]), err=True, dim=True)


def _whole(client: RoutedClient, question: Question) -> Iterator[str | dict[str, Any]]:
    """Yield the text, then the stop reason and the ``"routing"`` entry."""
    response = client.converse(**question.request())
    yield "".join(block.get("text", "") for block in response["output"]["message"]["content"])
    yield {"stop_reason": response["stopReason"], ROUTING: response[ROUTING]}


def _streamed(client: RoutedClient, question: Question) -> Iterator[str | dict[str, Any]]:
    """Yield the text piece by piece, then the stop reason and the ``"routing"`` entry."""
    stop_reason = None
    with client.converse_stream(**question.request())["stream"] as events:
        for event in events:
            if "contentBlockDelta" in event:
                yield event["contentBlockDelta"]["delta"].get("text", "")
            elif "messageStop" in event:
                stop_reason = event["messageStop"]["stopReason"]
            elif "metadata" in event:
                yield {"stop_reason": stop_reason, ROUTING: event["metadata"][ROUTING]}


def _who_answered(routing: Mapping[str, Any]) -> str:
    model = (
        routing["invoked_model"] or routing["invoked_model_id"] or f"{routing['requested_model_id']} (model unknown)"
    )
    parts = [model]
    others = len(routing["candidates"]) - 1
    if routing["is_fallback"] is not None and others > 0:
        parts.append("the fallback" if routing["is_fallback"] else "not the fallback")
    usage = routing["usage"]
    if usage:
        parts.append(f"{usage['input']} tokens in, {usage['output']} out")
    if routing["latency_ms"] is not None:
        parts.append(f"{routing['latency_ms']:,} ms")
    asked, served = routing["latency"]["requested"], routing["latency"]["served"]
    if asked or served:
        parts.append(
            f"latency {served or 'unknown'} served" + (f", {asked} asked" if asked != served and asked else "")
        )
    return " | ".join(parts)
