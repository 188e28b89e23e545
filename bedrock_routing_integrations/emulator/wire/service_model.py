"""The operations of Bedrock as botocore's service models describe them: matching, parsing, serializing.

Nothing about paths, members or status codes is written down in this package: a request is matched by method
and `requestUri`, its members are read from where the model says they travel, and answers take the model's
status code.
"""

from __future__ import annotations

import functools
import json
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from .shapes import ShapeCompiler, path_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from botocore.model import OperationModel, Shape

    from .shapes import Parser, Serializer


# --- The errors that the emulated service answers with. ---

# The statuses in botocore's service models of bedrock and bedrock-runtime. The three before the last two are not
# modelled: any AWS endpoint may answer them before the operation is looked at.
STATUS: Mapping[str, int] = MappingProxyType(
    {
        "ValidationException": 400,
        "ConflictException": 400,
        "ServiceQuotaExceededException": 400,
        "TooManyTagsException": 400,
        "AccessDeniedException": 403,
        "ResourceNotFoundException": 404,
        "ModelTimeoutException": 408,
        "ModelErrorException": 424,
        "ModelStreamErrorException": 424,
        "ThrottlingException": 429,
        "ModelNotReadyException": 429,
        "InternalServerException": 500,
        "ServiceUnavailableException": 503,
        "MissingAuthenticationTokenException": 403,
        "IncompleteSignatureException": 403,
        "UnknownOperationException": 404,
        # Of bedrock-agent-runtime only, whose ConflictException is 409.
        "DependencyFailedException": 424,
        "BadGatewayException": 502,
    }
)


class ServiceError(Exception):
    """An answer other than success.

    Attributes:
        name: The error's name, as in `x-amzn-errortype`.
        message: The text for the caller.
        status: The HTTP status; from `STATUS` where it is not given, else 400.
    """

    def __init__(self, name: str, message: str, status: int | None = None) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name
        self.message = message
        self.status = STATUS.get(name, 400) if status is None else status


def validation(message: str) -> ServiceError:
    """The request is wrong (400)."""
    return ServiceError("ValidationException", message)


def not_found(message: str) -> ServiceError:
    """Something that the request names does not exist (404)."""
    return ServiceError("ResourceNotFoundException", message)


def too_deep() -> ServiceError:
    """The request's JSON is nested deeper than it can be read (400)."""
    return ServiceError("SerializationException", "The request body is nested too deeply")


def conflict(message: str) -> ServiceError:
    """The name is taken (400 for Bedrock, by its service model)."""
    return ServiceError("ConflictException", message)


SERVICES = ("bedrock-runtime", "bedrock", "bedrock-agent", "bedrock-agent-runtime")
_LABEL = re.compile(r"\{(\w+)\+?\}")


def _parse_query_value(shape: Shape, text: str) -> Any:
    """A query-string value in the type that its shape wants; text that does not fit is left to the check."""
    if shape.type_name in {"integer", "long"} and re.fullmatch(r"-?\d+", text):
        return int(text)
    if shape.type_name == "boolean" and text in {"true", "false"}:
        return text == "true"
    return text


class Operation:
    """One operation: reads requests and writes answers by its service model.

    Attributes:
        service: The service's name in botocore, e.g. "bedrock-runtime".
        name: The operation's name, e.g. "Converse".
        status: The HTTP status of success.
        path: The `requestUri` without its query, e.g. "/model/{modelId}/converse".
        labels: The members that travel in the path.
        streams: Whether the answer is an event stream.
    """

    def __init__(self, service: str, model: OperationModel, compiler: ShapeCompiler) -> None:
        self.service = service
        self.name: str = model.name
        self.method: str = model.http["method"]
        self.status: int = model.http.get("responseCode", 200)
        self.path: str = model.http["requestUri"].partition("?")[0].rstrip("/")
        self.labels = tuple(_LABEL.findall(self.path))
        self.streams: bool = model.has_event_stream_output
        self._model = model
        self._compiler = compiler

    @functools.cached_property
    def _encoded_pattern(self) -> re.Pattern[str]:
        return self._pattern("[^/]+")

    @functools.cached_property
    def _raw_pattern(self) -> re.Pattern[str]:
        return self._pattern(".+?")

    def _pattern(self, label: str) -> re.Pattern[str]:
        pieces = _LABEL.split(self.path)
        parts = (f"(?P<{piece}>{label})" if index % 2 else re.escape(piece) for index, piece in enumerate(pieces))
        return re.compile("".join(parts) + "/?")

    def match(self, method: str, raw_path: str, *, raw: bool) -> dict[str, str] | None:
        """The labels of a request to this operation, decoded; None when it is for another one.

        Args:
            method: The HTTP method.
            raw_path: The path as sent.
            raw: Whether labels may contain "/", as ids have it that are not percent-encoded.
        """
        if method != self.method:
            return None
        found = (self._raw_pattern if raw else self._encoded_pattern).fullmatch(raw_path)
        return None if found is None else {name: unquote(text) for name, text in found.groupdict().items()}

    @functools.cached_property
    def _members(self) -> Mapping[str, Parser]:
        members = self._model.input_shape.members if self._model.input_shape is not None else {}
        return {name: self._compiler.parser(shape) for name, shape in members.items()}

    @functools.cached_property
    def _query_members(self) -> Mapping[str, tuple[str, Shape]]:
        """Query-string name → (member, shape)."""
        members = self._model.input_shape.members if self._model.input_shape is not None else {}
        return {
            shape.serialization.get("name", name): (name, shape)
            for name, shape in members.items()
            if shape.serialization.get("location") == "querystring"
        }

    @functools.cached_property
    def _body_members(self) -> frozenset[str]:
        members = self._model.input_shape.members if self._model.input_shape is not None else {}
        return frozenset(name for name, shape in members.items() if "location" not in shape.serialization)

    @functools.cached_property
    def _required(self) -> tuple[str, ...]:
        return tuple(self._model.input_shape.required_members) if self._model.input_shape is not None else ()

    @functools.cached_property
    def _answer(self) -> Serializer | None:
        shape = self._model.output_shape
        return None if shape is None or self._model.has_event_stream_output else self._compiler.serializer(shape)

    @functools.cached_property
    def _events(self) -> Mapping[str, Serializer]:
        if not self._model.has_event_stream_output:
            return {}
        shape = self._model.get_event_stream_output()
        return {name: self._compiler.serializer(member) for name, member in shape.members.items()}

    def parse(self, labels: Mapping[str, str], query: str, body: bytes) -> dict[str, Any]:
        """The members of a request.

        Raises:
            ServiceError: ValidationException with every violation, worded as Amazon's services do;
                SerializationException for a body that is no JSON object, or nested too deeply.
        """
        try:
            return self._parse(labels, query, body)
        except RecursionError as error:
            raise too_deep() from error

    def _parse(self, labels: Mapping[str, str], query: str, body: bytes) -> dict[str, Any]:
        errors: list[str] = []
        raw: dict[str, Any] = {**labels, **self._read_query(query), **self._read_body(body, errors)}
        parsed: dict[str, Any] = {}
        for name, value in raw.items():
            if value is not None:
                parsed[name] = self._members[name](value, (None, name), errors)
        errors.extend(
            f"Value at '{path_text((None, name))}' failed to satisfy constraint: Member must not be null"
            for name in self._required
            if name not in parsed
        )
        if errors:
            count = f"{len(errors)} validation error{'s' if len(errors) > 1 else ''} detected: "
            raise validation(count + "; ".join(errors))
        return parsed

    def _read_query(self, query: str) -> dict[str, Any]:
        if not query:
            return {}
        pairs = parse_qsl(query, keep_blank_values=True)
        known = ((self._query_members[key], text) for key, text in pairs if key in self._query_members)
        return {name: _parse_query_value(shape, text) for (name, shape), text in known}

    def _read_body(self, body: bytes, errors: list[str]) -> dict[str, Any]:
        if not body or not self._body_members:
            return {}
        try:
            document = json.loads(body, parse_constant=_refuse_constant)
        except ValueError as error:
            raise ServiceError("SerializationException", f"The request body is no JSON: {error}") from error
        if not isinstance(document, dict):
            raise ServiceError("SerializationException", "The request body must be a JSON object")
        unknown = [name for name in document if name not in self._body_members]
        errors.extend(
            f"Value at '' failed to satisfy constraint: Unknown member '{name}', must be one of: "
            f"{', '.join(sorted(self._body_members))}"
            for name in unknown
        )
        return {name: value for name, value in document.items() if name in self._body_members}

    def serialize(self, answer: Mapping[str, Any] | None) -> bytes:
        """The body of a successful answer."""
        if self._answer is None:
            return b"{}"
        document = self._answer(answer or {})
        # A lone surrogate, which JSON can say and UTF-8 cannot, becomes a question mark.
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")

    def answer_headers(self, answer: Mapping[str, Any]) -> dict[str, str]:
        """The headers of a successful answer: those of its members that travel in one."""
        shape = self._model.output_shape
        members = shape.members if shape is not None else {}
        return {
            member.serialization["name"]: str(answer[name])
            for name, member in members.items()
            if member.serialization.get("location") == "header" and name in answer
        }

    def serialize_event(self, name: str, event: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON form of one event of the operation's stream."""
        document: dict[str, Any] = self._events[name](event)
        return document


def _refuse_constant(name: str) -> Any:
    """JSON has no NaN and no Infinity, though Python's parser reads them."""
    raise ValueError(f"{name} is not allowed")


class ServiceModels:
    """Every operation of the emulated services, found by request."""

    def __init__(self) -> None:
        # Only what the emulator answers with is needed of botocore: no boto3, no session, no credentials.
        from botocore.loaders import Loader
        from botocore.model import ServiceModel

        loader = Loader()
        self._by_name: dict[str, Operation] = {}
        self._by_start: dict[tuple[str, str], list[Operation]] = {}
        for service in SERVICES:
            model = ServiceModel(loader.load_service_model(service, "service-2"), service)
            compiler = ShapeCompiler()
            for name in model.operation_names:
                self._add(Operation(service, model.operation_model(name), compiler))

    def _add(self, operation: Operation) -> None:
        self._by_name.setdefault(operation.name, operation)
        start = operation.path.split("/")[1]
        self._by_start.setdefault((operation.method, start), []).append(operation)

    def __getitem__(self, name: str) -> Operation:
        return self._by_name[name]

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def find(self, method: str, raw_path: str) -> tuple[Operation, dict[str, str]] | None:
        """The operation that a request is for, with the labels of its path; None when there is none."""
        start = raw_path[1:].partition("/")[0]
        # A label with "/" in it would also match the longer paths of other operations: those come first.
        for raw in (False, True):
            for operation in self._by_start.get((method, start), ()):
                labels = operation.match(method, raw_path, raw=raw)
                if labels is not None:
                    return operation, labels
        return None


@functools.lru_cache(maxsize=1)
def service_models() -> ServiceModels:
    """The operations, loaded once per process: botocore's JSON files take a tenth of a second."""
    return ServiceModels()
