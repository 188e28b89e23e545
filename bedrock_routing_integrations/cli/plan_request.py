"""A Converse request in a file: JSON as the AWS CLI writes it, bytes as base64, to what boto3 takes, and back."""

from __future__ import annotations

import base64
import binascii
import json
from functools import cache
from pathlib import Path
from typing import Any

import typer

from bedrock_routing_integrations.targets import TargetKind, parse_target

from .problems import NotWorkingError

__all__ = ["as_json", "read_request"]

_LONGEST_COMPLAINT = 240
# Members of what InvokeModel takes as its body, for Claude, Titan, Llama and Nova.
_BODY_OF_INVOKE_MODEL = ("anthropic_version", "inputText", "prompt", "schemaVersion")
_EXAMPLE = '{"modelId": "us.amazon.nova-pro-v1:0", "messages": [{"role": "user", "content": [{"text": "Hello"}]}]}'


def read_request(source: str) -> dict[str, Any]:
    """A Converse request, with its bytes as bytes.

    Args:
        source: The path of a file; ``"-"`` is standard input.

    Raises:
        NotWorkingError: There is no such file, or no Converse request in it; the message says what is wrong.
        InvalidTargetError: Its ``modelId`` is no target.
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
    """JSON, with bytes as base64 again."""
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
    """What Converse takes, by AWS's own service model. Read without a session: no profile of the user's matters."""
    from botocore.loaders import create_loader
    from botocore.model import ServiceModel

    document = create_loader().load_service_model("bedrock-runtime", "service-2")
    return ServiceModel(document, "bedrock-runtime").operation_model("Converse").input_shape


def _decoded(value: Any, shape: Any, where: str) -> Any:
    """The value with bytes where the service model has some; JSON documents (a tool's input) have no members there."""
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
    """Refuse what boto3 would refuse, in its words."""
    from botocore.validate import ParamValidator

    found = ParamValidator().validate(request, _shape())
    if found.has_errors():
        complaints = [line if len(line) <= _LONGEST_COMPLAINT else f"{line[:_LONGEST_COMPLAINT]} …"
                      for line in found.generate_report().splitlines()]  # fmt: skip
        raise NotWorkingError(f"{where} is no Converse request. " + " ".join(f"{line}." for line in complaints))
    if not request.get("messages") and parse_target(request["modelId"]).kind is not TargetKind.PROMPT:
        raise NotWorkingError(f"{where} has no messages. A Converse request looks like this: {_EXAMPLE}")
