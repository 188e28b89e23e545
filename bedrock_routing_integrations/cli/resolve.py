"""Run ``bedrock-routing resolve``: show the candidate models of a target."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
from typing import TYPE_CHECKING, Any

import typer

from bedrock_routing_integrations.client import RoutedClient
from bedrock_routing_integrations.connections import Connection
from bedrock_routing_integrations.runtime import logger
from bedrock_routing_integrations.targets import parse_target

from .errors import BEARER_HELP, CREDENTIALS_HELP, is_about_credentials, is_denial
from .output import aligned, yes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bedrock_routing_integrations.models.candidates import ResolvedTarget
    from bedrock_routing_integrations.models.facts import CacheRules, ModelFacts

__all__ = ["as_json_object", "explain_incomplete", "print_target", "without_warnings"]

# botocore's exceptions for connections that failed or timed out.
_CONNECTION_ERRORS = frozenset(
    {
        "ConnectTimeoutError",
        "ConnectionClosedError",
        "ConnectionError",
        "EndpointConnectionError",
        "ProxyConnectionError",
        "ReadTimeoutError",
        "SSLError",
    }
)


def print_target(text: str, *, region: str | None, endpoint_url: str | None, as_json: bool) -> int:
    """Print the candidate models of a target and their limits. A target whose id does not name them is looked up.

    Args:
        text: The target.
        region: The Region; None for that of the target.
        endpoint_url: The endpoint; None for that of AWS.
        as_json: Whether to print one JSON object.

    Returns:
        The exit code: 1 if a look-up failed and no candidate model is known.

    Raises:
        InvalidTargetError: `text` is not a valid target.
    """
    client = RoutedClient(Connection(region_name=region, endpoint_url=endpoint_url))
    parse_target(text)
    called_in = client.region(text)
    with without_warnings():  # a look-up that failed is explained below
        resolved = client.resolve(text)
    if as_json:
        typer.echo(json.dumps(as_json_object(resolved, called_in), indent=2))
    else:
        for line in _describe(resolved, called_in, _region_source(resolved, region)):
            typer.echo(line)
    return 0 if resolved.complete or resolved.candidates else 1


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Suppress the package's warnings, where the command explains the same problem."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Collect the package's warnings, each once, instead of printing them."""
    found: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    handler, propagates = Collect(logging.WARNING), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates


def as_json_object(resolved: ResolvedTarget, region: str | None) -> dict[str, Any]:
    """Return the object that ``--json`` prints. If ``complete`` is false, ``refused`` is the reason.

    Args:
        resolved: The target with its candidate models.
        region: The Region of the call, if it is known.
    """
    target = resolved.target
    facts = dataclasses.asdict(resolved.facts)
    if facts["cache"]:
        facts["cache"]["fields"] = sorted(facts["cache"]["fields"])
        facts["cache"]["write_multipliers"] = dict(facts["cache"]["write_multipliers"])
    return {
        "target": target.model_id,
        "kind": target.kind.value,
        "region": region,
        "account": target.account,
        "candidates": [dataclasses.asdict(candidate) for candidate in resolved.candidates],
        "fallback": resolved.fallback,
        "complete": resolved.complete,
        "refused": resolved.refused,
        "facts": facts,
    }


def _region_source(resolved: ResolvedTarget, argument: str | None) -> str:
    if argument:
        return "from --region"
    if resolved.target.region:
        return "from the ARN"
    named = next((name for name in ("AWS_REGION", "AWS_DEFAULT_REGION") if os.environ.get(name)), None)
    return f"from {named}" if named else "from the AWS configuration file"


def _describe(resolved: ResolvedTarget, region: str | None, region_source: str) -> Iterable[str]:
    target = resolved.target
    yield target.model_id
    yield ""
    yield from aligned(
        [
            ("kind", target.kind.value.replace("_", " ")),
            ("region", f"{region} ({region_source})" if region else "not known: pass --region or set AWS_REGION"),
            ("account", target.account or "not in the id"),
        ]
    )
    yield ""
    yield from _candidates(resolved)
    if not resolved.complete:
        yield ""
        yield from explain_incomplete(resolved)
    yield ""
    if resolved.base_models or resolved.facts.known:
        yield from _facts(resolved.facts, len(resolved.base_models))
    else:
        yield "Limits: not known."


def _candidates(resolved: ResolvedTarget) -> Iterable[str]:
    if not resolved.candidates:
        yield "No candidate model is known."
        return
    rows = [("CANDIDATE MODEL", "", "SOURCE", "ID OR ARN")]
    for candidate in resolved.candidates:
        fallback = "fallback" if candidate.base_model and candidate.base_model == resolved.fallback else ""
        source = "the id" if candidate.source == "id" else candidate.source
        rows.append((candidate.base_model or "not known", fallback, source, candidate.model_id))
    yield from aligned(rows)


def explain_incomplete(resolved: ResolvedTarget) -> Iterable[str]:
    """Yield why a look-up failed, and the remedy. `refused` is like ``GetPromptRouter: AccessDeniedException``."""
    yield f"The candidate models are not all known. {resolved.refused or 'The look-up returned no models'}."
    api, _, why = (resolved.refused or "").partition(": ")
    if why == "ResourceNotFoundException":
        yield "This account and Region do not have this target, or it was deleted."
    elif is_denial(why):
        yield (
            f"Allow the IAM action bedrock:{api}, or state the models with base_models=[…] in your code. Calls work "
            "without it: the models are learned from the responses."
        )
    elif is_about_credentials(why):
        yield CREDENTIALS_HELP
    elif why == "InvalidEndpointConfigurationError" and os.environ.get("AWS_BEARER_TOKEN_BEDROCK"):
        yield BEARER_HELP
    elif why in _CONNECTION_ERRORS:
        yield "The endpoint did not answer: check the network, the Region and the endpoint URL."


def _facts(facts: ModelFacts, models: int) -> Iterable[str]:
    yield "Limits of both models:" if models == 2 else "Limits of all models:" if models > 2 else "Limits:"
    if not facts.known:
        limits = "the smallest limits of its provider's models" if facts.family else "permissive defaults"
        yield f"  (not in the table of models: these are {limits})"
    latency = "standard, optimized (in some Regions)" if facts.latency_optimized else "standard"
    rows = [
        ("context window", _tokens(facts.context_window)),
        ("maximum output", _tokens(facts.max_output_tokens)),
        ("streaming", yes(facts.streaming) + (", not with tools" if _streams_no_tools(facts) else "")),
        ("tools", f"yes; tool choice: {', '.join(facts.tool_choice)}" if facts.tools else "no"),
        ("images", yes(facts.image_input)),
        ("latency", latency),
        ("prompt caching", _caching(facts.cache)),
    ]
    yield from (f"  {line}" for line in aligned(rows))
    yield f"  Source: {facts.source}" + (f" ({facts.checked})" if facts.checked else "")


def _streams_no_tools(facts: ModelFacts) -> bool:
    return facts.streaming and facts.tools and not facts.streaming_with_tools


def _tokens(count: int | None) -> str:
    return "not known" if count is None else f"{count:,} tokens"


def _caching(rules: CacheRules | None) -> str:
    if rules is None:
        return "no"
    most = f", at most {rules.max_tokens:,} cached" if rules.max_tokens else ""
    return (
        f"from {rules.min_tokens:,} tokens{most}; ttl {', '.join(rules.ttls)}; in {', '.join(sorted(rules.fields))}; "
        f"up to {rules.max_points} points"
    )
