"""The errors that the emulated service answers with.

A `ServiceError` becomes an HTTP answer with the JSON body `{"message": …}` and the header `x-amzn-errortype`,
as botocore's rest-json parser expects it.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["STATUS", "ServiceError", "conflict", "not_found", "too_deep", "validation"]

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
