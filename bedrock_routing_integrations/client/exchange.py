"""One Converse call on its way: prepared for its target, sent, and sent once more without what Bedrock refuses."""

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
from bedrock_routing_integrations.models.advice import on_demand_advice, unknown_id_advice
from bedrock_routing_integrations.requests import REASONING, Refused, find_removal, is_forced, prepare_request
from bedrock_routing_integrations.runtime import logger, warn_once
from bedrock_routing_integrations.transport.answer_validation import checked_answer, parse_errors_explained
from bedrock_routing_integrations.transport.streams import OpenedStream, events_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

    from bedrock_routing_integrations.caching import Draft, Planner
    from bedrock_routing_integrations.models.candidates import ResolvedTarget
    from bedrock_routing_integrations.observability.external_spans import Outer
    from bedrock_routing_integrations.requests import PreparedRequest, RefusalMemory, Removal

# What an HTTP status of 429 or 5xx is, as a stream's event. botocore retries those (``standard`` mode) and not these.
_RETRYABLE = frozenset(["ThrottlingException", "ServiceUnavailableException", "InternalServerException"])
# "Invocation of model ID … with on-demand throughput isn't supported": recorded with a typographic apostrophe.
_NOT_ON_DEMAND = re.compile(r"on-demand throughput", re.IGNORECASE)
_UNKNOWN_ID = re.compile(r"model identifier is invalid", re.IGNORECASE)
_PROVIDER_COUNTING_CACHED_TOKENS_AS_INPUT = "openai"  # the provider whose streams do: see `without_cached_tokens`
_LONGEST_WAIT = 20.0  # seconds, as botocore's


@dataclass(frozen=True)
class CallOptions:
    """Options of one call that a framework adapter passes to `RoutedClient`.

    Attributes:
        external_span: The OpenTelemetry span that an instrumentation of the framework has made for the call.
        optional_output_format: Whether ``outputConfig`` may be left out where Bedrock refuses it.
    """

    external_span: Outer | None = None
    optional_output_format: bool = False


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings shared by all calls of one `RoutedClient`.

    Attributes:
        planner: Plans the cachePoints.
        refusals: What targets are known to refuse.
        headers: HTTP headers for each call.
        placement: Where system messages amid a conversation go.
    """

    planner: Planner
    refusals: RefusalMemory
    headers: Mapping[str, str]
    placement: Any


class Exchange:
    """One call: its request, and what became of it.

    Args:
        settings: What the client's calls have in common.
        client: The boto3 client to send with.
        resolved: The target.
        scope: Identifies the target in what is remembered.
        request: The caller's request.
        options: What a framework says of the call.
        stream: Whether the caller asked for a stream.
    """

    def __init__(  # noqa: PLR0917 - what a call is made of comes from as many places
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
        self._given = {**request, "modelId": resolved.target.model_id}
        self._refused = settings.refusals.of(scope)
        self._new_removal: Removal | None = None
        self._http: Mapping[str, Any] = {}
        self._refused_points: tuple[str, str] | None = None
        self._resent = self._without_points = False
        _check_members(client, request)
        self.prepared, self.draft = self._prepare()

    def _prepare(self) -> tuple[PreparedRequest, Draft]:
        prepared = prepare_request(
            self._given,
            self.resolved,
            stream=self._stream,
            placement=self._settings.placement,
            refused=self._refused,
            optional_output_format=self._options.optional_output_format,
        )
        return prepared, self._settings.planner.plan(prepared.request, self.resolved, self.scope)

    def send(self) -> dict[str, Any]:
        """Send, and return boto3's response; of a stream that the target does not offer, the whole answer.

        Raises:
            ContextOverflowError: The prompt is too long.
            InvalidAnswerError: The answer has no content.
            botocore.exceptions.ClientError: Bedrock refused.
        """
        with extra_headers(self.client, self._settings.headers):
            while True:
                try:
                    response = self._send_once()
                except Exception as error:
                    self.earlier_attempts += 1 + (aws_error(error).metadata.get("RetryAttempts") or 0)
                    if self._change(error):
                        continue
                    raised = self._explained(error)
                    if raised is error:
                        raise
                    raise raised from error
                break
        if not self.prepared.streamed:
            self.settle()
        return response

    def open(self, response: Mapping[str, Any], started: float | None) -> OpenedStream:
        """Return the events of a response of `send`."""
        self._http = response.get("ResponseMetadata") or {}
        if not self.prepared.streamed:
            logger.debug("%s does not stream here; the whole answer was asked for", self.resolved.target)
            return OpenedStream(events_of(self.restored(response)), http=self._http)
        counts_twice = self._may_count_twice()
        restored = self._restored_events if counts_twice or self.prepared.tools else None
        return OpenedStream(response["stream"], restored, started, self._http)

    def reopen(self, error: Exception, wait: Callable[[float], bool]) -> OpenedStream | None:
        """Return the events of another attempt after an exception that came before any content; None for none.

        Args:
            error: The exception.
            wait: Waits for some seconds; returns False where nobody waits for the answer any more.
        """
        self._settings.planner.failed(self.draft)
        self.earlier_attempts += 1 + (self._http.get("RetryAttempts") or 0)
        if error_kind(error) in _RETRYABLE and self.earlier_attempts < _most_attempts(self.client):
            seconds = random.random() * 2 ** (self.earlier_attempts - 1)  # noqa: S311 - as botocore waits
            if not wait(min(seconds, _LONGEST_WAIT)):
                return None
        elif not self._change(error):
            return None
        started = time.monotonic()
        response = self.send()
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
        """Return whether a model may answer whose streams count cached tokens as input."""
        return self.resolved.facts.provider in (_PROVIDER_COUNTING_CACHED_TOKENS_AS_INPUT, "")

    def _counts_twice(self, metadata: Mapping[str, Any]) -> bool:
        traced = invoked_model_id(metadata)
        model = self.resolved.base_model_of(traced) if traced else None
        provider = model.partition(".")[0] if model else self.resolved.facts.provider
        return provider == _PROVIDER_COUNTING_CACHED_TOKENS_AS_INPUT

    def restored(self, response: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a whole answer with the tool calls as the caller knows the tools."""
        if not self.prepared.tools:
            return response
        message = response["output"]["message"]
        content = self.prepared.tools.restore_content(message["content"])
        return {**response, "output": {**response["output"], "message": {**message, "content": content}}}

    def settle(self) -> None:
        """Remember what Bedrock refused, now that it has answered without."""
        target = str(self.resolved.target)
        if self._refused_points is not None:
            code, message = self._refused_points
            self._refused_points = None
            self._settings.planner.refused(self.draft, code, message, self.scope, target)
            self.draft.take_out_ours()
        if self._new_removal is None:
            return
        refused, is_permanent = self._new_removal
        self._new_removal = None
        # Of Claude it is known that it takes its own reasoning: what was refused is this history's.
        if not is_permanent or (refused in REASONING and self.resolved.facts.reasoning == "signed"):
            warn_once(
                ("refused once", target, refused),
                f"Bedrock refused {refused} in a request to {target}. The request was sent again without.",
            )
            return
        self._settings.refusals.remember(self.scope, refused)
        warn_once(
            ("refused", target, refused),
            f"Bedrock refused {refused} for {target}. The request was sent again without, and for a day requests to it "
            "are sent without at once. base_models=[…] says which models answer, where a look-up cannot.",
        )

    def _send_once(self) -> dict[str, Any]:
        operation = self.client.converse_stream if self.prepared.streamed else self.client.converse
        planner, draft = self._settings.planner, self.draft
        if not self._without_points:
            planner.sent(draft)
        try:
            with parse_errors_explained("ConverseStream" if self.prepared.streamed else "Converse"):
                response: dict[str, Any] = operation(**(draft.without if self._without_points else draft.request))
            return response if self.prepared.streamed else checked_answer(response)
        except Exception:
            planner.failed(draft)
            raise

    def _change(self, error: Exception) -> bool:
        """Leave out what Bedrock refused; return whether there was such a thing. Once for each call."""
        if self._resent:
            self._learn_from_second_refusal(error)
            return False
        code, message, _ = aws_error(error)
        points = self._settings.planner.may_be_ours(self.draft, code, message)
        if not (points and "cach" in message.lower()):
            removal = find_removal(
                error,
                self.draft.request,
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
        """Remember two refused things where the request without the first is refused for another one.

        This call fails, as there is one resend for each. The next call is right at once.
        """
        first = self._new_removal
        second = find_removal(
            error,
            self.draft.request,
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
            # A model that streams no tools may take no forced choice either, and there is one resend for both.
            self._refused |= {Refused.FORCED_TOOL_CHOICE}
            if is_forced(before.request):
                target = str(self.resolved.target)
                warn_once(
                    ("unforced", target),
                    f"The request to {target} was sent again without its forced tool choice too: what streams no tools "
                    "may not take one. The next request tries it.",
                )
        self.prepared, self.draft = self._prepare()
        if (before.request, before.streamed) == (self.prepared.request, self.prepared.streamed):
            return False
        self._resent, self._new_removal = True, removal
        return True

    def _explained(self, error: Exception) -> Exception:
        """Return the error as one of ours, or with what to do about it; itself where neither is known."""
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
    """Refuse what the installed boto3 is too old for, as it would say no more than that it does not know the member."""
    if request.get("projectIdentifier") is None:
        return
    try:
        members = client.meta.service_model.operation_model("Converse").input_shape.members
    except AttributeError:  # somebody's own client
        return
    if isinstance(members, Mapping) and "projectIdentifier" not in members:
        import boto3

        raise InvalidRequestError(
            f"project_identifier (projectIdentifier={request['projectIdentifier']!r}) needs a newer boto3 than "
            f"{boto3.__version__}: python -m pip install --upgrade 'boto3>=1.44.8'"
        )


def _most_attempts(client: Any) -> int:
    retries = getattr(getattr(getattr(client, "meta", None), "config", None), "retries", None) or {}
    most = retries.get("total_max_attempts") if isinstance(retries, dict) else None
    return most if isinstance(most, int) else 3  # botocore's default (1.44)


# Refusals that will come again; all others may pass, or are about one request.
_NEVER_COUNTS = frozenset(["AccessDeniedException", "AttributeError", "KeyError", "UnknownOperationException"])
_NOT_COUNTED_FOR = re.compile(r"n['\u2019]t support\w* counting", re.IGNORECASE)
# Of a Converse request, what CountTokens takes (``ConverseTokensRequest`` in botocore's service model, 1.43).
_COUNTED = ("messages", "system", "toolConfig", "additionalModelRequestFields")


def count_tokens(
    client: Any, resolved: ResolvedTarget, request: Mapping[str, Any], headers: Mapping[str, str]
) -> tuple[int | None, bool]:
    """Return what Bedrock's CountTokens says of a request, the most of the target's models, and whether it never will.

    It takes base models only: the ids of profiles are refused ("The provided model doesn't support counting tokens.").
    """
    from botocore.exceptions import BotoCoreError, ClientError

    converse = {name: request[name] for name in _COUNTED if request.get(name)}
    try:
        with extra_headers(client, headers):
            counts: list[int] = [
                client.count_tokens(modelId=model, input={"converse": converse})["inputTokens"]
                for model in resolved.base_models
            ]
    except (AttributeError, KeyError, BotoCoreError, ClientError) as error:
        logger.debug("CountTokens is not to be had for %s: %s", resolved.target, error_kind(error))
        return None, error_kind(error) in _NEVER_COUNTS or bool(_NOT_COUNTED_FOR.search(aws_error(error).message))
    return max(counts), False
