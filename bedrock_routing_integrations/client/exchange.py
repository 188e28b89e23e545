"""Send one Converse call: prepare it, send it, and send it once more without a part that Bedrock refuses.

The life of a call:

1. `requests.prepare_request` makes the request valid for the target; the caching planner adds cache points.
2. `Exchange.send` sends it. If Bedrock refuses a part that can be removed (`requests.refusals`), or the cache points
   that the planner added, the request is prepared again without that part and sent once more.
3. `Exchange.settle` records the refusal when the second attempt has been answered, so that later requests to the
   target leave the part out at once.
4. A stream that fails before its first content is opened again (`Exchange.reopen`).
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.connections import extra_headers
from bedrock_routing_integrations.errors import (
    InvalidRequestError,
    as_context_overflow,
    aws_error,
    error_kind,
    is_context_overflow,
    with_advice,
)
from bedrock_routing_integrations.invocation import invoked_model_id, without_cached_tokens
from bedrock_routing_integrations.models.candidates import on_demand_advice, unknown_id_advice
from bedrock_routing_integrations.requests import REASONING, Refused, find_removal, is_forced, prepare_request
from bedrock_routing_integrations.runtime import logger, warn_once
from bedrock_routing_integrations.transport.answer_validation import checked_answer, parse_errors_explained
from bedrock_routing_integrations.transport.streams import OpenedStream, events_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

    from bedrock_routing_integrations.caching import PlannedRequest, Planner
    from bedrock_routing_integrations.models.candidates import ResolvedTarget
    from bedrock_routing_integrations.observability.call_events import CallObserver, ObservedCall
    from bedrock_routing_integrations.observability.external_spans import ExternalSpan
    from bedrock_routing_integrations.requests import PreparedRequest, RefusalMemory, Removal

# Errors inside a stream that correspond to HTTP status 429 or 5xx. botocore retries the status, but not these events.
_RETRYABLE = frozenset(["ThrottlingException", "ServiceUnavailableException", "InternalServerException"])
# "Invocation of model ID … with on-demand throughput isn't supported": recorded with a typographic apostrophe.
_NOT_ON_DEMAND = re.compile(r"on-demand throughput", re.IGNORECASE)
_UNKNOWN_ID = re.compile(r"model identifier is invalid", re.IGNORECASE)
_PROVIDER_COUNTING_CACHED_TOKENS_AS_INPUT = "openai"  # in streams: see `without_cached_tokens`
_LONGEST_WAIT = 20.0  # seconds; botocore's maximum


@dataclass(frozen=True)
class CallOptions:
    """Options of one call that a framework adapter passes to `RoutedClient`.

    Attributes:
        external_span: The OpenTelemetry span that an instrumentation of the framework created for the call.
        optional_output_format: Whether ``outputConfig`` may be removed if Bedrock refuses it.
        observers: Observers of this call, besides those of the client.
    """

    external_span: ExternalSpan | None = None
    optional_output_format: bool = False
    observers: tuple[CallObserver, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings shared by all calls of one `RoutedClient`.

    Attributes:
        planner: The planner of cache points.
        refusals: The known refusals of all targets.
        headers: HTTP headers for each request.
        placement: The placement of system messages in mid-conversation; None to choose by the models.
    """

    planner: Planner
    refusals: RefusalMemory
    headers: Mapping[str, str]
    placement: Any


class Exchange:
    """One Converse call: its request, its attempts and its response.

    Args:
        settings: The settings of the client.
        client: The boto3 client that sends.
        resolved: The target with its candidate models.
        scope: The key of the target (and the caller's identity) for remembered refusals and cache entries.
        request: The caller's request.
        options: The options that a framework adapter passes for this call.
        stream: Whether the caller asked for a stream.
    """

    def __init__(  # noqa: PLR0917 - each argument comes from another place
        self,
        settings: Settings,
        client: Any,
        resolved: ResolvedTarget,
        scope: Hashable,
        request: Mapping[str, Any],
        options: CallOptions,
        *,
        stream: bool,
    ) -> None:
        self.client, self.resolved = client, resolved
        self.earlier_attempts = 0
        self._settings, self.scope, self._options, self._stream = settings, scope, options, stream
        self._request = {**request, "modelId": resolved.target.model_id}
        self._refused = settings.refusals.of(scope)
        self._new_removal: Removal | None = None
        self._http: Mapping[str, Any] = {}
        self._refused_points: tuple[str, str] | None = None
        self._resent = self._without_points = False
        _check_members(client, request)
        self.prepared, self.planned = self._prepare()

    def _prepare(self) -> tuple[PreparedRequest, PlannedRequest]:
        prepared = prepare_request(
            self._request,
            self.resolved,
            stream=self._stream,
            placement=self._settings.placement,
            refused=self._refused,
            optional_output_format=self._options.optional_output_format,
        )
        return prepared, self._settings.planner.plan(prepared.request, self.resolved, self.scope)

    def send(self, call: ObservedCall) -> dict[str, Any]:
        """Send the request, and return boto3's response. If the target cannot stream, it is the response of Converse.

        Args:
            call: Each attempt is reported to it.

        Raises:
            ContextOverflowError: The prompt is too long.
            InvalidAnswerError: The response has no message.
            botocore.exceptions.ClientError: Bedrock refused the request.
        """
        with extra_headers(self.client, self._settings.headers):
            while True:
                try:
                    with call.sending():
                        response = self._send_once()
                except Exception as error:
                    self.earlier_attempts += 1 + (aws_error(error).metadata.get("RetryAttempts") or 0)
                    will_retry = self._change(error)
                    call.attempted({}, error, will_retry=will_retry)
                    if will_retry:
                        continue
                    raised = self._explained(error)
                    if raised is error:
                        raise
                    raise raised from error
                call.attempted(response)
                break
        if not self.prepared.streamed:
            self.settle()
        return response

    def open(self, response: Mapping[str, Any], started: float | None) -> OpenedStream:
        """Return the events of a response.

        Args:
            response: A response of `send`.
            started: ``time.monotonic()`` when the request was sent; None if the time to the first token has no meaning.
        """
        self._http = response.get("ResponseMetadata") or {}
        if not self.prepared.streamed:
            logger.debug("%s cannot stream this request; it was sent to Converse", self.resolved.target)
            return OpenedStream(events_of(self.restored(response)), http=self._http)
        counts_twice = self._may_count_twice()
        restored = self._restored_events if counts_twice or self.prepared.tools else None
        return OpenedStream(response["stream"], restored, started, self._http)

    def reopen(self, call: ObservedCall, error: Exception, wait: Callable[[float], bool]) -> OpenedStream | None:
        """Send again after a stream failed before its first content, and return the new events; None to fail.

        Args:
            call: Each attempt is reported to it.
            error: The error that ended the stream.
            wait: Sleep for some seconds; return False if the caller closed the stream meanwhile.
        """
        self._settings.planner.record_failure(self.planned)
        self.earlier_attempts += 1 + (self._http.get("RetryAttempts") or 0)
        if error_kind(error) in _RETRYABLE and self.earlier_attempts < _most_attempts(self.client):
            seconds = random.random() * 2 ** (self.earlier_attempts - 1)  # noqa: S311 - botocore's exponential backoff with jitter
            if not wait(min(seconds, _LONGEST_WAIT)):
                return None
        elif not self._change(error):
            return None
        started = time.monotonic()
        response = self.send(call)
        return self.open(response, started)

    def _restored_events(self, events: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        if self.prepared.tools:
            events = self.prepared.tools.restore_events(events)
        if not self._may_count_twice():
            yield from events
            return
        for event in events:
            usage = (event.get("metadata") or {}).get("usage")
            if usage and self._counts_twice(event["metadata"]):
                event = {"metadata": {**event["metadata"], "usage": without_cached_tokens(usage)}}  # noqa: PLW2901
            yield event

    def _may_count_twice(self) -> bool:
        """Return whether a candidate model may count cached tokens as input in streams."""
        return self.resolved.facts.provider in (_PROVIDER_COUNTING_CACHED_TOKENS_AS_INPUT, "")

    def _counts_twice(self, metadata: Mapping[str, Any]) -> bool:
        traced = invoked_model_id(metadata)
        model = self.resolved.base_model_of(traced) if traced else None
        provider = model.partition(".")[0] if model else self.resolved.facts.provider
        return provider == _PROVIDER_COUNTING_CACHED_TOKENS_AS_INPUT

    def restored(self, response: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a response of Converse with the caller's tool names and arguments."""
        if not self.prepared.tools:
            return response
        message = response["output"]["message"]
        content = self.prepared.tools.restore_content(message["content"])
        return {**response, "output": {**response["output"], "message": {**message, "content": content}}}

    def settle(self) -> None:
        """Record a refused part, after Bedrock has answered the request without it."""
        target = str(self.resolved.target)
        if self._refused_points is not None:
            code, message = self._refused_points
            self._refused_points = None
            self._settings.planner.record_refusal(self.planned, code, message, self.scope, target)
            self.planned.remove_added_points()
        if self._new_removal is None:
            return
        refused, is_permanent = self._new_removal
        self._new_removal = None
        # Claude accepts its own reasoning, so a refusal is about this history only.
        if not is_permanent or (refused in REASONING and self.resolved.facts.reasoning == "signed"):
            warn_once(
                ("refused once", target, refused),
                f"Bedrock refused {refused} in a request to {target}. The request was sent again without it.",
            )
            return
        self._settings.refusals.remember(self.scope, refused)
        warn_once(
            ("refused", target, refused),
            f"Bedrock refused {refused} for {target}. The request was sent again without it, and for a day requests to "
            "this target leave it out. If the target's models cannot be looked up, state them with base_models=[…].",
        )

    def _send_once(self) -> dict[str, Any]:
        operation = self.client.converse_stream if self.prepared.streamed else self.client.converse
        planner, planned = self._settings.planner, self.planned
        if not self._without_points:
            planner.record_sent(planned)
        try:
            with parse_errors_explained("ConverseStream" if self.prepared.streamed else "Converse"):
                response: dict[str, Any] = operation(
                    **(planned.base_request if self._without_points else planned.request)
                )
            return response if self.prepared.streamed else checked_answer(response)
        except Exception:
            planner.record_failure(planned)
            raise

    def _change(self, error: Exception) -> bool:
        """Remove the part that Bedrock refused, and return whether there was one. At most once for each call."""
        if self._resent:
            self._learn_from_second_refusal(error)
            return False
        code, message, _ = aws_error(error)
        points = self._settings.planner.may_refuse_added_points(self.planned, code, message)
        if not (points and "cach" in message.lower()):
            removal = find_removal(
                error,
                self.planned.request,
                streamed=self.prepared.streamed,
                optional_output_format=self._options.optional_output_format,
            )
            if removal is not None and self._leave_out(removal):
                return True
        if points:
            self._resent = self._without_points = True
            self._refused_points = (code, message)
        return points

    def _learn_from_second_refusal(self, error: Exception) -> None:
        """Record both refusals if the request without the first part is refused for a second one.

        This call fails, because each call is sent again at most once. The next call leaves out both parts.
        """
        first = self._new_removal
        second = find_removal(
            error,
            self.planned.request,
            streamed=self.prepared.streamed,
            optional_output_format=self._options.optional_output_format,
        )
        if first is None or second is None or first.refused is second.refused:
            return
        self.settle()
        self._new_removal = second
        self.settle()

    def _leave_out(self, removal: Removal) -> bool:
        before = self.prepared
        self._refused |= {removal.refused}
        if removal.refused is Refused.STREAMED_TOOLS and not self.resolved.facts.known:
            # A model that cannot stream tools may not accept a forced choice either, and only one resend is left.
            self._refused |= {Refused.FORCED_TOOL_CHOICE}
            if is_forced(before.request):
                target = str(self.resolved.target)
                warn_once(
                    ("unforced", target),
                    f"The request to {target} was sent again without its forced tool choice too: a model that cannot "
                    "stream tools may not accept one. The next request tries it.",
                )
        self.prepared, self.planned = self._prepare()
        if (before.request, before.streamed) == (self.prepared.request, self.prepared.streamed):
            return False
        self._resent, self._new_removal = True, removal
        return True

    def _explained(self, error: Exception) -> Exception:
        """Return the error as an error of this package, or with advice; unchanged if there is none."""
        raised: Exception
        if is_context_overflow(error):
            raised = as_context_overflow(error)
            return raised
        if error_kind(error) != "ValidationException":
            return error
        target, message = self.resolved.target, str(error)
        advice = None
        if _NOT_ON_DEMAND.search(message):
            region = getattr(getattr(self.client, "meta", None), "region_name", None)
            advice = on_demand_advice(target.model_id, region)
        elif _UNKNOWN_ID.search(message):
            advice = unknown_id_advice(target)
        raised = with_advice(error, advice) if advice else error
        return raised


def _check_members(client: Any, request: Mapping[str, Any]) -> None:
    """Raise if the installed boto3 lacks a member of the request: boto3's own error does not name the remedy."""
    if request.get("projectIdentifier") is None:
        return
    try:
        members = client.meta.service_model.operation_model("Converse").input_shape.members
    except AttributeError:  # a client that is not boto3's
        return
    if isinstance(members, Mapping) and "projectIdentifier" not in members:
        import boto3

        raise InvalidRequestError(
            f"project_identifier={request['projectIdentifier']!r} is not valid: boto3 {boto3.__version__} does not "
            "have projectIdentifier. Install a newer one: python -m pip install --upgrade 'boto3>=1.44.8'"
        )


def _most_attempts(client: Any) -> int:
    retries = getattr(getattr(getattr(client, "meta", None), "config", None), "retries", None) or {}
    most = retries.get("total_max_attempts") if isinstance(retries, dict) else None
    return most if isinstance(most, int) else 3  # botocore's default (1.44)


# Permanent refusals. All other errors may pass, or are about one request.
_COUNTING_REFUSED = frozenset(["AccessDeniedException", "AttributeError", "KeyError", "UnknownOperationException"])
_COUNTING_UNSUPPORTED = re.compile(r"n['\u2019]t support\w* counting", re.IGNORECASE)
# The members of a request that CountTokens accepts (``ConverseTokensRequest`` in botocore's service model, 1.43).
_COUNTED_MEMBERS = ("messages", "system", "toolConfig", "additionalModelRequestFields")


def count_tokens(
    client: Any, resolved: ResolvedTarget, request: Mapping[str, Any], headers: Mapping[str, str]
) -> tuple[int | None, bool]:
    """Return the largest CountTokens result of the target's base models, and whether counting is refused for good.

    CountTokens accepts base models only: for the id of a profile it answers "The provided model doesn't support
    counting tokens."

    Args:
        client: A boto3 ``bedrock-runtime`` client.
        resolved: The target with its candidate models.
        request: A Converse request.
        headers: HTTP headers for each request.

    Returns:
        The number of tokens, None if Bedrock did not count; and True if Bedrock will never count for this target.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    converse = {name: request[name] for name in _COUNTED_MEMBERS if request.get(name)}
    try:
        with extra_headers(client, headers):
            counts: list[int] = [
                client.count_tokens(modelId=model, input={"converse": converse})["inputTokens"]
                for model in resolved.base_models
            ]
    except (AttributeError, KeyError, BotoCoreError, ClientError) as error:
        logger.debug("CountTokens failed for %s: %s", resolved.target, error_kind(error))
        return None, error_kind(error) in _COUNTING_REFUSED or bool(
            _COUNTING_UNSUPPORTED.search(aws_error(error).message)
        )
    return max(counts), False
