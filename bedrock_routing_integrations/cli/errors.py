"""Turn expected errors into one line with a remedy. No other module ends the command with an error."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import typer

from bedrock_routing_integrations.errors import BedrockRoutingError, InvalidTargetError, MissingRegionError, aws_error
from bedrock_routing_integrations.runtime import logger

from . import how_to_install

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "BEARER_HELP",
    "CREDENTIALS_HELP",
    "NotWorkingError",
    "clear_errors",
    "explain",
    "is_about_credentials",
    "is_denial",
    "is_hopeless",
]

# IAM actions whose names differ from the operation's (service authorization reference, Amazon Bedrock).
_ACTIONS = {"Converse": "InvokeModel", "ConverseStream": "InvokeModelWithResponseStream"}
_DENIED = frozenset({"accessdeniedexception", "accessdenied", "unauthorizedoperation"})
_BAD_CREDENTIALS = frozenset(
    {
        "expiredtoken",
        "expiredtokenexception",
        "incompletesignature",
        "incompletesignatureexception",
        "invalidclienttokenid",
        "invalidsignatureexception",
        "missingauthenticationtokenexception",
        "unrecognizedclientexception",
    }
)
CREDENTIALS_HELP = (
    "Log in (`aws login`, `aws sso login`) or set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. "
    "Without an AWS account: `bedrock-routing demo`, or `bedrock-routing emulate` and the variables that it prints."
)


BEARER_HELP = "A Bedrock API key is only sent over https://: unset AWS_BEARER_TOKEN_BEDROCK for an http:// endpoint."
_MODEL_HINT = (
    "Hint: `aws bedrock list-foundation-models` and `aws bedrock list-inference-profiles` list the ids of a Region."
)


class NotWorkingError(Exception):
    """Ends the command with exit code 1; its text is printed for the user."""


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
    """Print expected errors as one line on standard error, and exit. Unexpected errors keep their traceback."""
    warnings = _HeldWarnings(logging.WARNING)
    logger.addHandler(warnings)
    try:
        yield
        warnings.show()
    except Exception as error:
        said = explain(error)
        if said is None:
            raise
        # Without credentials or a connection the look-up has failed too. One line is enough.
        if not is_hopeless(error):
            warnings.show(beside=said)
        typer.secho(f"Error: {said}", err=True, fg="red")
        if _is_unknown_model(error):
            typer.echo(_MODEL_HINT, err=True)
        raise typer.Exit(2 if isinstance(error, InvalidTargetError) else 1) from None
    finally:
        logger.removeHandler(warnings)


class _HeldWarnings(logging.Handler):
    """A log handler that holds the package's warnings until it is known whether they add anything to an error."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._messages.append(record.getMessage())

    def show(self, beside: str = "") -> None:
        """Print the warnings on standard error, without those that the error text `beside` already contains."""
        for message in self._messages:
            if message in beside:
                continue
            typer.secho(f"Warning: {message}", err=True, fg="yellow")


def explain(error: Exception) -> str | None:
    """Return the line to print for an expected error; None for an unexpected one."""
    from botocore.exceptions import BotoCoreError, ClientError

    if isinstance(error, MissingRegionError):
        return "No AWS Region is known. Pass --region, use a target ARN that names one, or set AWS_REGION."
    if isinstance(error, (NotWorkingError, BedrockRoutingError)):
        return str(error)
    if isinstance(error, ClientError):
        return _explain_refusal(error)
    if isinstance(error, BotoCoreError):
        return _explain_no_call(error)
    if isinstance(error, ImportError):
        return how_to_install(error)
    return None


def is_hopeless(error: Exception) -> bool:
    """Return whether no other call could succeed: no usable credentials, no Region, or no connection."""
    from botocore import exceptions

    if isinstance(error, exceptions.ClientError):
        return aws_error(error).code.lower() in _BAD_CREDENTIALS
    unreachable = (exceptions.NoRegionError, exceptions.EndpointConnectionError, exceptions.ConnectTimeoutError)
    return isinstance(error, (MissingRegionError, *unreachable, *_no_credentials()))


def is_denial(name: str) -> bool:
    """Return whether an AWS error code means that an IAM permission is missing."""
    return name.lower() in _DENIED


def is_about_credentials(name: str) -> bool:
    """Return whether an AWS error code, or the name of a botocore exception, is about credentials."""
    from botocore import exceptions

    kind = getattr(exceptions, name, None)
    is_botocores = isinstance(kind, type) and issubclass(kind, _no_credentials())
    return is_botocores or name.lower() in _BAD_CREDENTIALS


def _no_credentials() -> tuple[type[Exception], ...]:
    """Return the exceptions that botocore raises before sending if credentials are missing or unreadable."""
    from botocore import exceptions

    return (
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.CredentialRetrievalError,
        exceptions.NoAuthTokenError,
        exceptions.ProfileNotFound,
        exceptions.SSOError,
        exceptions.TokenRetrievalError,
    )


def _is_unknown_model(error: Exception) -> bool:
    """Return whether Bedrock does not know the model id of a call."""
    from botocore.exceptions import ClientError

    if not isinstance(error, ClientError):
        return False
    code, message, _ = aws_error(error)
    return code == "ValidationException" and "model identifier is invalid" in message


def _action(operation: str) -> str:
    return f"bedrock:{_ACTIONS.get(operation, operation)}"


def _explain_refusal(error: Any) -> str:
    code, message, _ = aws_error(error)
    what = f"{code or 'error'}: {message or 'no message'}"
    if is_denial(code):
        return f"{error.operation_name} was refused ({what}). Allow the IAM action {_action(error.operation_name)}."
    if code.lower() in _BAD_CREDENTIALS:
        return f"AWS does not accept the credentials ({what}). {CREDENTIALS_HELP}"
    return f"{error.operation_name} failed ({what})."


def _explain_no_call(error: Exception) -> str:
    from botocore import exceptions

    if "Bearer authorization requires an HTTPS endpoint" in str(error):  # botocore 1.44
        return BEARER_HELP
    if isinstance(error, exceptions.NoRegionError):
        return explain(MissingRegionError()) or ""
    if isinstance(error, _no_credentials()):
        return f"No usable AWS credentials: {str(error).rstrip('.')}. {CREDENTIALS_HELP}"
    if isinstance(error, (exceptions.EndpointConnectionError, exceptions.ConnectTimeoutError)):
        endpoint = urlsplit(error.kwargs.get("endpoint_url", ""))
        return (
            f"Nobody answers at {endpoint.scheme}://{endpoint.netloc}. Check the network and the Region; another "
            "endpoint than AWS's comes from --endpoint-url or from a variable AWS_ENDPOINT_URL…."
        )
    return str(error)
