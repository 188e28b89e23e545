"""Check a request against the parts of botocore's service model that botocore ignores: lengths, patterns, enums."""

from __future__ import annotations

import functools
import re

import botocore.session
from botocore.validate import ParamValidator


@functools.cache
def input_shape(operation, service="bedrock-agent-runtime"):
    return botocore.session.Session().get_service_model(service).operation_model(operation).input_shape


def broken(request, operation):
    """Return the violations of a request, in words. Empty if there are none."""
    shape = input_shape(operation)
    report = ParamValidator().validate(request, shape)
    return [report.generate_report()] if report.has_errors() else list(_broken(request, shape, operation))


def _broken(value, shape, at):
    if getattr(shape, "is_document_type", False):
        return
    if value is None:
        yield f"{at} is None"
    elif shape.type_name == "structure":
        if getattr(shape, "is_tagged_union", False) and len(value) != 1:
            yield f"{at} is a union and has {sorted(value)}"
        for name, member in value.items():
            yield from _broken(member, shape.members[name], f"{at}.{name}")
    elif shape.type_name in ("list", "map"):
        yield from _outside(len(value), shape, at)
        members = value if shape.type_name == "list" else value.values()
        inner = shape.member if shape.type_name == "list" else shape.value
        for number, member in enumerate(members):
            yield from _broken(member, inner, f"{at}[{number}]")
    elif shape.type_name in ("string", "blob"):
        yield from _outside(len(value), shape, at)
        pattern, enum = shape.metadata.get("pattern"), shape.metadata.get("enum")
        if pattern and not re.search(pattern.replace("$", "\\Z"), value):
            yield f"{at} is {value[:80]!r}, which does not match {pattern}"
        if enum and value not in enum:
            yield f"{at} is {value!r}, which is none of {enum}"
    elif shape.type_name in ("integer", "long", "float", "double"):
        yield from _outside(value, shape, at)


def _outside(size, shape, at):
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if (least is not None and size < least) or (most is not None and size > most):
        yield f"{at} is {size}, and must be {least} to {most}"
