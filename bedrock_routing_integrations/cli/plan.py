"""Run ``bedrock-routing plan``: show which cache points a Converse request would get, and why. Sends nothing."""

from __future__ import annotations

import base64
import binascii
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from bedrock_routing_integrations.caching import CachePolicy
from bedrock_routing_integrations.client import RoutedClient
from bedrock_routing_integrations.connections import Connection
from bedrock_routing_integrations.targets import TargetKind, parse_target

from .errors import NotWorkingError
from .output import Column, aligned, print_line, print_table
from .resolve import collected_warnings, explain_incomplete, without_warnings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bedrock_routing_integrations.caching import CachePlan, PlannedPoint
    from bedrock_routing_integrations.models.candidates import ResolvedTarget


_LONGEST_COMPLAINT = 240
# Members of InvokeModel's bodies for Claude, Titan, Llama and Nova.
_BODY_OF_INVOKE_MODEL = ("anthropic_version", "inputText", "prompt", "schemaVersion")
_EXAMPLE = '{"modelId": "us.amazon.nova-pro-v1:0", "messages": [{"role": "user", "content": [{"text": "Hello"}]}]}'


def read_request(source: str) -> dict[str, Any]:
    """Return the Converse request in a file, with bytes decoded.

    Args:
        source: The path of the file; ``"-"`` for standard input.

    Raises:
        NotWorkingError: There is no such file, or it does not hold a Converse request; the message names the mistake.
        InvalidTargetError: Its ``modelId`` is not a valid target.
    """
    where = "standard input" if source == "-" else source
    request = _parsed(_read(source), where)
    if not isinstance(request, dict):
        raise NotWorkingError(f"{where} holds no JSON object. A Converse request looks like this: {_EXAMPLE}")
    foreign = next((name for name in _BODY_OF_INVOKE_MODEL if name in request), None)
    if foreign is not None and "modelId" not in request:
        raise NotWorkingError(
            f"{where} looks like a body of InvokeModel (it has {foreign!r}); plan takes a Converse request: {_EXAMPLE}"
        )
    model_id = request.get("modelId")
    if not isinstance(model_id, str) or not model_id.strip():
        raise NotWorkingError(f'{where} has no modelId. Add one, as in {{"modelId": "us.amazon.nova-pro-v1:0", …}}')
    decoded: dict[str, Any] = _decoded(request, _shape(), where)
    _check(decoded, where)
    return decoded


def as_json(document: Any) -> str:
    """Return JSON, with bytes as base64."""
    return json.dumps(document, indent=2, ensure_ascii=False, default=lambda data: base64.b64encode(data).decode())


def _read(source: str) -> bytes:
    if source == "-":
        return typer.get_binary_stream("stdin").read()
    try:
        return Path(source).read_bytes()
    except FileNotFoundError:
        raise NotWorkingError(f"There is no file {source!r}. Give the path of one, or - for standard input.") from None
    except (OSError, ValueError) as error:  # a directory, no permission; a path with a null byte
        why = getattr(error, "strerror", None) or error
        raise NotWorkingError(f"{source!r} cannot be read: {why}.") from None


def _parsed(data: bytes, where: str) -> Any:
    if not data.strip():
        raise NotWorkingError(f"{where} is empty. A Converse request looks like this: {_EXAMPLE}")
    try:
        return json.loads(data)  # UTF-8, and UTF-16 as PowerShell writes it
    except json.JSONDecodeError as error:
        hint = " (JSON has double quotes)" if data.lstrip()[:2] == b"{'" else ""
        raise NotWorkingError(f"{where} is no JSON: {error.msg} in line {error.lineno}{hint}.") from None
    except (UnicodeDecodeError, RecursionError):
        raise NotWorkingError(f"{where} is no JSON.") from None


@cache
def _shape() -> Any:
    """Return Converse's input shape from AWS's service model. It is read without a session, so no profile is needed."""
    from botocore.loaders import create_loader
    from botocore.model import ServiceModel

    document = create_loader().load_service_model("bedrock-runtime", "service-2")
    return ServiceModel(document, "bedrock-runtime").operation_model("Converse").input_shape


def _decoded(value: Any, shape: Any, where: str) -> Any:
    """Return the value with bytes where the service model has blobs. Documents (a tool's input) are unchanged."""
    if shape.type_name == "structure" and isinstance(value, dict):
        members = shape.members
        return {
            name: _decoded(inner, members[name], f"{where}.{name}") if name in members else inner
            for name, inner in value.items()
        }
    if shape.type_name == "list" and isinstance(value, list):
        return [_decoded(inner, shape.member, f"{where}[{number}]") for number, inner in enumerate(value)]
    if shape.type_name == "blob" and isinstance(value, str):
        try:
            return base64.b64decode("".join(value.split()), validate=True)
        except (binascii.Error, ValueError):
            raise NotWorkingError(f"{where} is no base64, as which bytes are written in JSON.") from None
    return value


def _check(request: dict[str, Any], where: str) -> None:
    """Raise for a request that boto3 would refuse, with boto3's own words."""
    from botocore.validate import ParamValidator

    found = ParamValidator().validate(request, _shape())
    if found.has_errors():
        complaints = [line if len(line) <= _LONGEST_COMPLAINT else f"{line[:_LONGEST_COMPLAINT]} …"
                      for line in found.generate_report().splitlines()]  # fmt: skip
        raise NotWorkingError(f"{where} is no Converse request. " + " ".join(f"{line}." for line in complaints))
    if not request.get("messages") and parse_target(request["modelId"]).kind is not TargetKind.PROMPT:
        raise NotWorkingError(f"{where} has no messages. A Converse request looks like this: {_EXAMPLE}")


_ORDER = {"tools": 0, "system": 1, "messages": 2}
_GIVEN, _PLACED, _NOT_PLACED = "yours", "placed", "not placed"
_COLUMNS = (Column("State", style="green"), Column("Position"), Column("ttl"), Column("Reason", stretch=True))
_FIRST_OF_ITS_KIND = (
    "Nothing was sent. This is the plan for the first request of its kind: a running program learns which prefixes "
    "repeat, and plans later requests accordingly."
)


def print_plan(
    source: str,
    *,
    cache: str,
    ttl: str,
    base_models: Sequence[str],
    region: str | None,
    endpoint_url: str | None,
    as_json_object: bool,
) -> int:
    """Print the plan for the request in a file. A target whose id does not name its models is looked up.

    Args:
        source: The path of the file; ``"-"`` for standard input.
        cache: ``"auto"`` or ``"off"``.
        ttl: As in `CachePolicy`.
        base_models: The models that the target can use; if there are any, nothing is looked up.
        region: The Region; None for that of the target.
        endpoint_url: The endpoint; None for that of AWS.
        as_json_object: Whether to print one object, with the request as it would be sent.

    Returns:
        The exit code: 1 if no plan can be made, because a look-up failed and no model is known.

    Raises:
        NotWorkingError: The file does not hold a Converse request.
        InvalidTargetError: Its ``modelId`` or a base model is not valid.
    """
    request = read_request(source)
    client = RoutedClient(
        Connection(region_name=region, endpoint_url=endpoint_url),
        base_models={request["modelId"]: base_models} if base_models else None,
        cache="off" if cache == "off" else CachePolicy(ttl=ttl, memory="own"),
    )
    with without_warnings():  # a look-up that failed is explained below
        resolved = client.resolve(request["modelId"])
    with collected_warnings() as warnings:  # what is wrong with the points that are there
        plan = client.plan_cache_points(**request)
    if as_json_object:
        typer.echo(as_json({**plan.as_dict(), "warnings": warnings, "request": plan.request}))
    else:
        _print(plan, resolved, warnings, Console(highlight=False, markup=False))
    known = resolved.complete or resolved.candidates or resolved.target.kind is TargetKind.PROMPT
    return 0 if known else 1


def _print(plan: CachePlan, resolved: ResolvedTarget, warnings: Sequence[str], console: Console) -> None:
    for line in (resolved.target.model_id, "", *_sums(plan)):
        typer.echo(line)
    rows = list(_rows(plan))
    reasons = {why for *_, why in rows}
    if not plan.points and len(reasons) < 2:
        # For a model that is not in the table of models, the notes are more precise.
        print_line(console, ": ".join(["No cache point is placed", *(reasons if resolved.facts.known else ())]) + ".")
    else:
        print_table(console, "Cache points", _COLUMNS, rows)
        print_line(console)
    for line in (*warnings, *_notes(plan, resolved)):
        print_line(console, line)


def _sums(plan: CachePlan) -> list[str]:
    saving = f"about {plan.saving:,} plain input tokens, in this request and the next of its kind"
    return aligned(
        [
            ("tokens", f"about {plan.tokens:,} (estimated without a tokenizer)"),
            ("expected saving", saving if plan.saving else "none"),
        ]
    )


def _rows(plan: CachePlan) -> Iterator[tuple[str, str, str, str]]:
    """Yield the state, position, ttl and reason of each possible cache point, in the order of the prefix."""
    listed = [(point, _GIVEN if point.given else _PLACED) for point in plan.points]
    listed += [(point, _NOT_PLACED) for point in plan.not_placed]
    for point, what in sorted(listed, key=lambda pair: _depth(pair[0])):
        yield what, _where(point), "-" if what == _NOT_PLACED else point.ttl, point.reason


def _depth(point: PlannedPoint) -> tuple[int, int, int]:
    return _ORDER[point.section], point.message or 0, point.position


def _where(point: PlannedPoint) -> str:
    """Return the path of a cache point in the request as it would be sent."""
    if point.section == "messages":
        return f"messages[{point.message}].content[{point.position}]"
    return f"{'toolConfig.tools' if point.section == 'tools' else 'system'}[{point.position}]"


def _notes(plan: CachePlan, resolved: ResolvedTarget) -> Iterator[str]:
    """Yield the limits of the plan and how to use it."""
    if resolved.target.kind is TargetKind.PROMPT:
        yield "The text of a managed prompt is not in the request: set its cachePoints where the prompt is managed."
    elif not resolved.complete:
        yield from explain_incomplete(resolved)
        yield "Or name the models that can answer: --base-model ID, once for each."
    elif not resolved.facts.known and resolved.facts.cache is None:
        models = ", ".join(resolved.base_models) or resolved.target.model_id
        yield f"The catalog does not know {models}: whether it caches is not known, so no point is placed unasked."
        yield "Is the id spelled right? `aws bedrock list-foundation-models` lists those of a Region."
    if plan.points or plan.not_placed:
        yield "Positions are those in the request with its points."
    yield _FIRST_OF_ITS_KIND if plan.saving else "Nothing was sent."
