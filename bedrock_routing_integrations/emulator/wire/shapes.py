"""Checks and conversions compiled from botocore's shapes.

`parser(shape)` turns the JSON value of a request into what an operation works with (blobs as bytes) and
collects every violation in Amazon's wording. `serializer(shape)` turns an answer into JSON values (timestamps
ISO 8601, blobs base64). Both walk a shape once and return closures, because many requests share a core.
"""

from __future__ import annotations

import base64
import binascii
import re
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from botocore.model import Shape

    # The place of a value in the request: (outer place, member name or index), or None at the top.
    Path = tuple["Path | None", "str | int"]
    Parser = Callable[[Any, Path | None, list[str]], Any]
    Serializer = Callable[[Any], Any]

__all__ = ["ShapeCompiler", "ShapeError", "path_text"]

# Where the published pattern is narrower than the service that publishes it: custom routers have an ARN
# without "default-", and a global profile lists Region-less model ARNs, which can be invoked.
_WIDER_PATTERNS = {
    ":default-prompt-router/": ":(default-)?prompt-router/",
    "bedrock:[a-z0-9-]{1,20}:": "bedrock:[a-z0-9-]{0,20}:",
}


class ShapeError(Exception):
    """The emulator itself produced an answer that its service model does not know."""


def path_text(path: Path | None) -> str:
    """The place as Amazon writes it: `messages.1.member.content`."""
    parts: list[str] = []
    while path is not None:
        path, key = path
        parts.append(f"{key + 1}.member" if isinstance(key, int) else key)
    return ".".join(reversed(parts))


def _fail(path: Path | None, errors: list[str], constraint: str) -> Any:
    """Note a violation; what is parsed in place of the value is None."""
    errors.append(f"Value at '{path_text(path)}' failed to satisfy constraint: {constraint}")
    return None


def _wrong_type(path: Path | None, errors: list[str], wanted: str, value: object) -> Any:
    errors.append(f"Value at '{path_text(path)}' of type {type(value).__name__} can not be converted to {wanted}")
    return None


class ShapeCompiler:
    """The closures of one service, made on first use and kept by shape name."""

    def __init__(self) -> None:
        self._parsers: dict[str, Parser] = {}
        self._serializers: dict[str, Serializer] = {}

    def parser(self, shape: Shape) -> Parser:
        """A function (value, path, errors) that returns the parsed value and appends violations to errors."""
        known = self._parsers.get(shape.name)
        if known is None:
            # Shapes may contain themselves: an indirection stands in until the real closure is there.
            self._parsers[shape.name] = self._later(self._parsers, shape.name)
            known = self._parsers[shape.name] = self._make_parser(shape)
        return known

    def serializer(self, shape: Shape) -> Serializer:
        """A function that returns the JSON form of an answer.

        The function raises ShapeError for unknown and missing members.
        """
        known = self._serializers.get(shape.name)
        if known is None:
            self._serializers[shape.name] = self._later(self._serializers, shape.name)
            known = self._serializers[shape.name] = self._make_serializer(shape)
        return known

    @staticmethod
    def _later(table: Mapping[str, Callable[..., Any]], name: str) -> Callable[..., Any]:
        """A function that looks the real one up when it is called."""

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
    """A check of a length or a value against the shape's min and max."""
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
