"""Match, parse and serialize Bedrock's operations by botocore's service models.

The emulator defines no path, member or status code itself. A request is matched by method and `requestUri`. Members
are read from the locations that the service model defines, and responses have the service model's status code.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import re
from datetime import datetime, timezone
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from botocore.model import OperationModel, Shape

    # The path of a value in the request: (outer path, member name or index), or None at the top.
    Path = tuple["Path | None", "str | int"]
    Parser = Callable[[Any, Path | None, list[str]], Any]
    Serializer = Callable[[Any], Any]


# --- Parsers and serializers compiled from botocore's shapes ---

# Published patterns that are narrower than the service itself: the ARN of a custom router has no "default-", and
# the models of a global profile include an ARN without a Region, which can be invoked.
_WIDER_PATTERNS = {
    ":default-prompt-router/": ":(default-)?prompt-router/",
    "bedrock:[a-z0-9-]{1,20}:": "bedrock:[a-z0-9-]{0,20}:",
}


class ShapeError(Exception):
    """The emulator produced a response that does not fit its service model."""


def path_text(path: Path | None) -> str:
    """Return a path in AWS's notation: `messages.1.member.content`."""
    parts: list[str] = []
    while path is not None:
        path, key = path
        parts.append(f"{key + 1}.member" if isinstance(key, int) else key)
    return ".".join(reversed(parts))


def _fail(path: Path | None, errors: list[str], constraint: str) -> Any:
    """Append a violation to `errors`, and return None in place of the value."""
    errors.append(f"Value at '{path_text(path)}' failed to satisfy constraint: {constraint}")
    return None


def _wrong_type(path: Path | None, errors: list[str], wanted: str, value: object) -> Any:
    """Append a type violation to `errors`, and return None in place of the value."""
    errors.append(f"Value at '{path_text(path)}' of type {type(value).__name__} can not be converted to {wanted}")
    return None


class ShapeCompiler:
    """Compile the shapes of a service to parsers and serializers, on first use and once for each shape name."""

    def __init__(self) -> None:
        self._parsers: dict[str, Parser] = {}
        self._serializers: dict[str, Serializer] = {}

    def parser(self, shape: Shape) -> Parser:
        """Return a function (value, path, errors) that returns the parsed value and appends violations to `errors`."""
        known = self._parsers.get(shape.name)
        if known is None:
            # Shapes may contain themselves: register an indirection until the real closure exists.
            self._parsers[shape.name] = self._later(self._parsers, shape.name)
            known = self._parsers[shape.name] = self._make_parser(shape)
        return known

    def serializer(self, shape: Shape) -> Serializer:
        """Return a function that converts a member of a response to JSON.

        The function raises ShapeError for unknown and missing members.
        """
        known = self._serializers.get(shape.name)
        if known is None:
            self._serializers[shape.name] = self._later(self._serializers, shape.name)
            known = self._serializers[shape.name] = self._make_serializer(shape)
        return known

    @staticmethod
    def _later(table: Mapping[str, Callable[..., Any]], name: str) -> Callable[..., Any]:
        """Return a function that looks up and calls the entry `name` of `table` at each call."""

        def call(*arguments: Any) -> Any:
            return table[name](*arguments)

        return call

    def _make_parser(self, shape: Shape) -> Parser:
        if getattr(shape, "is_document_type", False):
            return lambda value, _path, _errors: value
        makers: dict[str, Callable[[Shape], Parser]] = {
            "structure": self._structure_parser,
            "list": self._list_parser,
            "map": self._map_parser,
            "blob": _blob_parser,
            "string": _string_parser,
            "boolean": lambda _: _boolean_parser,
        }
        maker = makers.get(shape.type_name)
        return maker(shape) if maker is not None else _number_parser(shape)

    def _structure_parser(self, shape: Shape) -> Parser:
        members = {name: self.parser(member) for name, member in shape.members.items()}
        required = tuple(shape.required_members)
        is_union = bool(getattr(shape, "is_tagged_union", False))

        def parse(value: Any, path: Path | None, errors: list[str]) -> Any:
            if not isinstance(value, dict):
                return _wrong_type(path, errors, "a structure", value)
            parsed: dict[str, Any] = {}
            for name, item in value.items():
                member = members.get(name)
                if member is None:
                    _fail(path, errors, f"Unknown member '{name}', must be one of: {', '.join(members)}")
                elif item is not None:  # null means absent in AWS's JSON protocols
                    parsed[name] = member(item, (path, name), errors)
            for name in required:
                if name not in parsed:
                    _fail((path, name), errors, "Member must not be null")
            if is_union and len(parsed) != 1:
                _fail(path, errors, f"Union must have exactly one member set, of: {', '.join(members)}")
            return parsed

        return parse

    def _list_parser(self, shape: Shape) -> Parser:
        item_parser = self.parser(shape.member)
        check_size = _size_check(shape.metadata, "length")

        def parse(value: Any, path: Path | None, errors: list[str]) -> Any:
            if not isinstance(value, list):
                return _wrong_type(path, errors, "a list", value)
            check_size(len(value), path, errors)
            return [item_parser(item, (path, index), errors) for index, item in enumerate(value)]

        return parse

    def _map_parser(self, shape: Shape) -> Parser:
        key_parser, value_parser = self.parser(shape.key), self.parser(shape.value)
        check_size = _size_check(shape.metadata, "length")

        def parse(value: Any, path: Path | None, errors: list[str]) -> Any:
            if not isinstance(value, dict):
                return _wrong_type(path, errors, "a map", value)
            check_size(len(value), path, errors)
            for key in value:
                key_parser(key, (path, key), errors)
            return {key: value_parser(item, (path, key), errors) for key, item in value.items()}

        return parse

    def _make_serializer(self, shape: Shape) -> Serializer:
        if shape.type_name == "structure" and not getattr(shape, "is_document_type", False):
            return self._structure_serializer(shape)
        if shape.type_name == "list":
            item = self.serializer(shape.member)
            return lambda value: [item(entry) for entry in value]
        if shape.type_name == "map":
            inner = self.serializer(shape.value)
            return lambda value: {key: inner(entry) for key, entry in value.items()}
        if shape.type_name == "blob":
            return lambda value: base64.b64encode(value).decode("ascii")
        if shape.type_name == "timestamp":
            return _iso8601
        return lambda value: value

    def _structure_serializer(self, shape: Shape) -> Serializer:
        members = {name: self.serializer(member) for name, member in shape.members.items()}
        required = tuple(shape.required_members)

        def serialize(value: Any) -> Any:
            try:
                answer = {name: members[name](item) for name, item in value.items() if item is not None}
            except (KeyError, AttributeError) as error:
                raise ShapeError(f"{shape.name} cannot hold {value!r}") from error
            missing = [name for name in required if name not in answer]
            if missing:
                raise ShapeError(f"{shape.name} needs {', '.join(missing)}; has {', '.join(answer)}")
            return answer

        return serialize


def _iso8601(value: datetime) -> str:
    return value.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")


def _size_check(metadata: Mapping[str, Any], what: str) -> Callable[[Any, Path | None, list[str]], None]:
    """Return a function that checks a length or a value against the shape's min and max."""
    low, high = metadata.get("min"), metadata.get("max")
    low = None if low is None else float(low)
    high = None if high is None else float(high)

    def check(size: Any, path: Path | None, errors: list[str]) -> None:
        if low is not None and size < low:
            _fail(path, errors, f"Member must have {what} greater than or equal to {low:g}")
        if high is not None and size > high:
            _fail(path, errors, f"Member must have {what} less than or equal to {high:g}")

    return check


def _pattern_of(shape: Shape) -> re.Pattern[str] | None:
    text = shape.metadata.get("pattern")
    if text is None:
        return None
    for narrow, wide in _WIDER_PATTERNS.items():
        text = text.replace(narrow, wide)
    return re.compile(text)


def _string_parser(shape: Shape) -> Parser:
    check_size = _size_check(shape.metadata, "length")
    enum = tuple(getattr(shape, "enum", None) or ())
    pattern = _pattern_of(shape)
    bounded = "min" in shape.metadata or "max" in shape.metadata

    def parse(value: Any, path: Path | None, errors: list[str]) -> Any:
        if not isinstance(value, str):
            return _wrong_type(path, errors, "a String", value)
        if bounded:
            check_size(len(value), path, errors)
        if enum and value not in enum:
            _fail(path, errors, f"Member must satisfy enum value set: [{', '.join(enum)}]")
        if pattern is not None and pattern.fullmatch(value) is None:
            _fail(path, errors, f"Member must satisfy regular expression pattern: {pattern.pattern}")
        return value

    return parse


def _blob_parser(shape: Shape) -> Parser:
    check_size = _size_check(shape.metadata, "length")

    def parse(value: Any, path: Path | None, errors: list[str]) -> Any:
        if not isinstance(value, str):
            return _wrong_type(path, errors, "a Blob", value)
        try:
            blob = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            return _fail(path, errors, "Member must be valid base64")
        check_size(len(blob), path, errors)
        return blob

    return parse


def _boolean_parser(value: Any, path: Path | None, errors: list[str]) -> Any:
    return value if isinstance(value, bool) else _wrong_type(path, errors, "a Boolean", value)


def _number_parser(shape: Shape) -> Parser:
    check_size = _size_check(shape.metadata, "value")
    whole = shape.type_name in {"integer", "long"}
    wanted = {"integer": "an Integer", "long": "a Long"}.get(shape.type_name, "a Float")

    def parse(value: Any, path: Path | None, errors: list[str]) -> Any:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or (whole and not float(value).is_integer()):
            return _wrong_type(path, errors, wanted, value)
        check_size(value, path, errors)
        return int(value) if whole else value

    return parse


# --- Error responses ---

# HTTP statuses from botocore's service models of bedrock and bedrock-runtime. MissingAuthenticationTokenException,
# IncompleteSignatureException and UnknownOperationException are not in these models: any AWS endpoint may respond with
# them before it reads the operation.
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
        # Only in bedrock-agent-runtime. Its ConflictException has the status 409.
        "DependencyFailedException": 424,
        "BadGatewayException": 502,
    }
)


class ServiceError(Exception):
    """An error response of the service.

    Attributes:
        name: The error's name, as in `x-amzn-errortype`.
        message: The text for the caller.
        status: The HTTP status. The default comes from `STATUS`, or is 400 for names not in `STATUS`.
    """

    def __init__(self, name: str, message: str, status: int | None = None) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name
        self.message = message
        self.status = STATUS.get(name, 400) if status is None else status


def validation(message: str) -> ServiceError:
    """Return a ValidationException (400): the request is not valid."""
    return ServiceError("ValidationException", message)


def not_found(message: str) -> ServiceError:
    """Return a ResourceNotFoundException (404): a resource in the request does not exist."""
    return ServiceError("ResourceNotFoundException", message)


def too_deep() -> ServiceError:
    """Return a SerializationException (400): the request's JSON is nested too deeply."""
    return ServiceError("SerializationException", "The request body is nested too deeply")


def conflict(message: str) -> ServiceError:
    """Return a ConflictException (400 for Bedrock, by its service model): the name is taken."""
    return ServiceError("ConflictException", message)


# --- Operations ---

SERVICES = ("bedrock-runtime", "bedrock", "bedrock-agent", "bedrock-agent-runtime")
_LABEL = re.compile(r"\{(\w+)\+?\}")


def _parse_query_value(shape: Shape, text: str) -> Any:
    """Return a query-string value in its shape's type. The parser rejects text that does not fit."""
    if shape.type_name in {"integer", "long"} and re.fullmatch(r"-?\d+", text):
        return int(text)
    if shape.type_name == "boolean" and text in {"true", "false"}:
        return text == "true"
    return text


class Operation:
    """Read the requests and write the responses of an operation by its service model.

    Attributes:
        service: The service's name in botocore, e.g. "bedrock-runtime".
        name: The operation's name, e.g. "Converse".
        method: The HTTP method.
        status: The HTTP status of success.
        path: The `requestUri` without its query, e.g. "/model/{modelId}/converse".
        labels: The names of the members in the path.
        streams: Whether the response is an event stream.
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
        """Return the decoded path labels of a request, or None if the request is for another operation.

        Args:
            method: The HTTP method.
            raw_path: The path as sent.
            raw: Whether labels may contain "/", as in ids that are not percent-encoded.
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
        """Return the members of a request.

        Args:
            labels: The decoded path labels.
            query: The query string as sent, without "?".
            body: The request body.

        Raises:
            ServiceError: ValidationException with every violation, in the wording of AWS services.
                SerializationException for a body that is not a JSON object, or is nested too deeply.
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
        """Return the body of a successful response.

        Raises:
            ShapeError: The response does not fit the service model.
        """
        if self._answer is None:
            return b"{}"
        document = self._answer(answer or {})
        # A lone surrogate is valid in JSON but not in UTF-8: replace it with a question mark.
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")

    def answer_headers(self, answer: Mapping[str, Any]) -> dict[str, str]:
        """Return the headers of a successful response: its members with the location "header"."""
        shape = self._model.output_shape
        members = shape.members if shape is not None else {}
        return {
            member.serialization["name"]: str(answer[name])
            for name, member in members.items()
            if member.serialization.get("location") == "header" and name in answer
        }

    def serialize_event(self, name: str, event: Mapping[str, Any]) -> dict[str, Any]:
        """Return the JSON form of an event of the operation's stream.

        Args:
            name: The event's name, e.g. "contentBlockDelta".
            event: The event's members.

        Raises:
            ShapeError: The event does not fit the service model.
        """
        document: dict[str, Any] = self._events[name](event)
        return document


def _refuse_constant(name: str) -> Any:
    """Raise ValueError for NaN and Infinity, which Python's parser accepts and JSON does not have."""
    raise ValueError(f"{name} is not allowed")


class ServiceModels:
    """Hold every operation of the emulated services, by name and by request."""

    def __init__(self) -> None:
        # Only the service models are needed: no boto3, no session, no credentials.
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
        """Return the operation of a request and its decoded path labels, or None if no operation matches.

        Args:
            method: The HTTP method.
            raw_path: The path as sent, without the query.
        """
        start = raw_path[1:].partition("/")[0]
        # A label with "/" would also match longer paths of other operations: try labels without "/" first.
        for raw in (False, True):
            for operation in self._by_start.get((method, start), ()):
                labels = operation.match(method, raw_path, raw=raw)
                if labels is not None:
                    return operation, labels
        return None


@functools.lru_cache(maxsize=1)
def service_models() -> ServiceModels:
    """Return the operations, loaded once per process: reading botocore's JSON files takes 0.1 s."""
    return ServiceModels()
