"""`RoutedClient`: a boto3-shaped client whose answers say who gave them."""

from __future__ import annotations

import functools
import logging
import time
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.caching import CachePlan, Planner, PrefixMemory, explain, policy_of, shared_memory
from bedrock_routing_integrations.connections import (
    Connection,
    GivenClient,
    GivenControlPlane,
    extra_headers,
    warn_of_pickle,
)
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.invocation import ROUTING, invoked_model_id, read_invocation
from bedrock_routing_integrations.logs import log_call, log_unanswered, logger
from bedrock_routing_integrations.pricing import Prices, costs
from bedrock_routing_integrations.resolution import ResolvedTarget, Resolver, from_base_models, shared_resolver
from bedrock_routing_integrations.streams import RoutedStream
from bedrock_routing_integrations.targets import Target, parse_target
from bedrock_routing_integrations.telemetry import Outer, Recorder, Telemetry, telemetry_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from typing_extensions import Self

    from bedrock_routing_integrations.caching import CachePolicy, Draft
    from bedrock_routing_integrations.partial import Received
    from bedrock_routing_integrations.resolution import ControlPlane


class RoutedClient:
    """A ``bedrock-runtime`` client that takes any target and reports what happened.

    `converse` and `converse_stream` have boto3's arguments, results and exceptions; everything else is the client
    inside. Added to a response, and to a stream's ``metadata`` event, is one key, ``"routing"``: see `Invocation`.

    Args:
        client: A boto3 ``bedrock-runtime`` client, used as it is; or a `Connection`, from which shared clients are
            made at the first call, in the Region of the target.
        bedrock_client: A boto3 ``bedrock`` client for look-ups. By default one like `client` is made when needed.
        base_models: Target → the base models that it can use, for targets that must not be looked up. The ids of
            profiles (``us.…``, ``global.…``) tell which price holds, where geographies differ in it.
        default_headers: HTTP headers for each call of this object (and of no other that shares its connection).
        cache: ``"auto"``: requests get the cachePoints that are expected to save money; ``"off"``: none; or a
            `CachePolicy`. Points that are in a request already are kept, and repaired where Bedrock would refuse them.
        prices: Model, profile or ARN → US dollars per million tokens, where they are not genai-prices': see `Prices`.
        telemetry: What OpenTelemetry is told: ``"auto"``: a span and metrics of each call where the current span is
            recording; ``"always"``, ``"off"``; or a `Telemetry`.
        clock: Seconds, only ever rising; look-ups and what is known of caches expire by it. With a clock of your own
            nothing is shared.

    Example:
        ```python
        import boto3
        from bedrock_routing_integrations import RoutedClient

        client = RoutedClient(boto3.client("bedrock-runtime"))
        response = client.converse(
            modelId="arn:aws:bedrock:us-east-1:123456789012:default-prompt-router/anthropic.claude:1",
            messages=[{"role": "user", "content": [{"text": "Say good morning."}]}],
        )
        response["routing"]["invoked_model"]  # "anthropic.claude-3-haiku-20240307-v1:0"
        ```
    """

    def __init__(
        self,
        client: Any,
        *,
        bedrock_client: Any = None,
        base_models: Mapping[str, Sequence[str]] | None = None,
        default_headers: Mapping[str, str] | None = None,
        cache: str | CachePolicy = "auto",
        prices: Mapping[str, Mapping[str, Any]] | None = None,
        telemetry: str | Telemetry = "auto",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not isinstance(client, Connection) and not hasattr(client, "converse"):
            what = getattr(getattr(client, "meta", None), "service_model", None)
            is_a = f"a client for {what.service_name!r}" if what else f"a {type(client).__name__}"
            raise InvalidRequestError(f"client must be a client for 'bedrock-runtime' (boto3), and is {is_a}.")
        self._source = client if isinstance(client, Connection) else GivenClient(client)
        self._control_plane: ControlPlane = self._source
        if bedrock_client is not None:
            self._control_plane = GivenControlPlane(bedrock_client, self._source)
        self._base_models = {parse_target(name).model_id: tuple(m) for name, m in (base_models or {}).items()}
        self._stated = {name: from_base_models(parse_target(name), m) for name, m in self._base_models.items()}
        self._default_headers = dict(default_headers or {})
        self._resolver = shared_resolver if clock is time.monotonic else Resolver(clock)
        self._policy = policy_of(cache)
        self._prices, self._own_prices = Prices(prices), prices
        self._recorder, self._outer = Recorder(telemetry_of(telemetry)), None
        self._planner = Planner(self._policy, _memory(self._policy.memory, alone=clock is not time.monotonic), clock)

    @property
    def policy(self) -> CachePolicy:
        """What may be done about prompt caching."""
        return self._policy

    def resolve(self, model_id: str) -> ResolvedTarget:
        """What is known of a target, asking the control plane where its id does not say it.

        Raises:
            InvalidTargetError: `model_id` is no target.
        """
        target = parse_target(model_id)
        return self._stated.get(target.model_id) or self._resolver.resolve(target, self._control_plane)

    def peek(self, model_id: str) -> ResolvedTarget:
        """What is known of a target now, without asking anybody."""
        target = parse_target(model_id)
        return self._stated.get(target.model_id) or self._resolver.peek(target, self._control_plane)

    def recall(self, model_id: str) -> ResolvedTarget:
        """What was last found out of a target; looked up only where this process never did."""
        target = parse_target(model_id)
        return self._stated.get(target.model_id) or self._resolver.recall(target, self._control_plane)

    def region(self, model_id: str) -> str | None:
        """The Region in which a target would be called; None where none is known yet."""
        return self._source.known_region(parse_target(model_id))

    def runtime_client(self, model_id: str) -> Any:
        """The boto3 client that a target is called through: the one passed in, or the shared one of its Region.

        Raises:
            MissingRegionError: No Region is known.
        """
        return self._runtime(parse_target(model_id))

    def converse(self, **request: Any) -> dict[str, Any]:
        """boto3's ``converse``, with ``"routing"`` in the response.

        Raises:
            InvalidTargetError: ``modelId`` is no target.
            MissingRegionError: No Region is known.
            botocore.exceptions.ClientError: Bedrock refused.
        """
        if "modelId" not in request:  # boto3 says best what is missing
            return self._runtime(None).converse(**request)  # type: ignore[no-any-return]
        resolved, client, draft = self._prepare(request)
        call = self._recorder.begin(client, draft.request, resolved, outer=self._outer)
        with call:
            response = self._send(client, "converse", draft, resolved)
        routing = self._report(client, draft, response, resolved)
        call.answered(routing)
        call.over(None, response)
        return {**response, ROUTING: routing}

    def converse_stream(self, **request: Any) -> dict[str, Any]:
        """boto3's ``converse_stream``; ``"routing"`` is in the stream's ``metadata`` event.

        Raises:
            InvalidTargetError: ``modelId`` is no target.
            MissingRegionError: No Region is known.
            botocore.exceptions.ClientError: Bedrock refused.
            StreamInterruptedError: While iterating, where the stream breaks off.
        """
        if "modelId" not in request:
            return self._runtime(None).converse_stream(**request)  # type: ignore[no-any-return]
        resolved, client, draft = self._prepare(request)
        call = self._recorder.begin(client, draft.request, resolved, stream=True, outer=self._outer)
        started = time.monotonic()
        with call:
            response = self._send(client, "converse_stream", draft, resolved)
        http = response.get("ResponseMetadata") or {}
        request_id = http.get("RequestId")
        call.opened(request_id)
        is_logged: list[bool] = []  # by one line, however often it is over

        def describe(metadata: dict[str, Any], first_token_ms: int | None) -> dict[str, Any]:
            is_logged.append(True)
            routing = self._report(client, draft, metadata, resolved, http=http, time_to_first_token_ms=first_token_ms)
            call.answered(routing)
            return routing

        def give_up() -> None:
            self._planner.failed(draft)

        def over(error: BaseException | None, received: Received) -> None:
            if not is_logged:
                is_logged.append(True)
                log_unanswered(resolved.target.model_id, error, request_id)
            call.stream_over(error, received)

        listener = over if call.tells or logger.isEnabledFor(logging.DEBUG) else None
        return {**response, "stream": RoutedStream(response["stream"], describe, started, give_up, listener)}

    def within(self, outer: Outer | None) -> Self:
        """This client, for a call that somebody else tells OpenTelemetry of; itself where nobody does."""
        if outer is None:
            return self
        other = object.__new__(type(self))
        vars(other).update(vars(self), _outer=outer)
        return other

    def _runtime(self, target: Target | None) -> Any:
        return self._source.client("bedrock-runtime", target)

    def plan_cache_points(self, **request: Any) -> CachePlan:
        """Which cachePoints a request would get now, and why; nothing is sent. See the function of this name.

        Raises:
            InvalidRequestError: It is no Converse request.
            InvalidTargetError: ``modelId`` is no target.
        """
        if "modelId" not in request:
            raise InvalidRequestError("plan_cache_points needs a Converse request, with modelId=…")
        return explain(self._plan(request, self.resolve(request["modelId"])))

    def _prepare(self, request: dict[str, Any]) -> tuple[ResolvedTarget, Any, Draft]:
        resolved = self.resolve(request["modelId"])
        return resolved, self._runtime(resolved.target), self._plan(request, resolved)

    def _plan(self, request: dict[str, Any], resolved: ResolvedTarget) -> Draft:
        sent = {**request, "modelId": resolved.target.model_id}
        return self._planner.plan(sent, resolved, self._scope(resolved))

    def _scope(self, resolved: ResolvedTarget) -> Hashable:
        return self._source.caller(), resolved.target.model_id

    def _send(self, client: Any, operation: str, draft: Draft, resolved: ResolvedTarget) -> Any:
        """Send; and once more without our cachePoints, where Bedrock refuses one of them."""
        send = getattr(client, operation)
        try:
            with extra_headers(client, self._default_headers):
                self._planner.sent(draft)
                try:
                    return send(**draft.request)
                except Exception as error:
                    self._planner.failed(draft)
                    refusal = (getattr(error, "response", None) or {}).get("Error") or {}
                    code, message = str(refusal.get("Code")), str(refusal.get("Message"))
                    if not self._planner.may_be_ours(draft, code, message):
                        raise
                response = send(**draft.without)
        except Exception as error:
            log_unanswered(resolved.target.model_id, error)
            raise
        self._planner.refused(draft, code, message, self._scope(resolved), str(resolved.target))
        draft.take_out_ours()
        return response

    def _report(
        self, client: Any, draft: Draft, response: Mapping[str, Any], resolved: ResolvedTarget, **measured: Any
    ) -> dict[str, Any]:
        traced = invoked_model_id(response)
        if traced is not None:
            self._resolver.learn(resolved, traced, self._control_plane)
        points = [point.as_dict() for point in draft.points]
        invocation = read_invocation(draft.request, response, resolved, cache_points=points, **measured)
        self._planner.answered(draft, invocation.invoked_model or traced, response.get("usage"))
        routing = invocation.as_dict()
        routing["cost_usd"], routing["fallback_cost_usd"] = costs(
            invocation, resolved, self._prices, region=getattr(getattr(client, "meta", None), "region_name", None)
        )
        log_call(routing)
        return routing

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # also while unpickling and copying, when there is no client to ask yet
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._runtime(None), name)

    def __repr__(self) -> str:
        source = self._source if isinstance(self._source, Connection) else "the boto3 client passed in"
        return f"<RoutedClient of {source}>"

    def __copy__(self) -> RoutedClient:
        return self  # nothing in it changes

    def __deepcopy__(self, memo: dict[int, Any]) -> RoutedClient:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # Without the headers, which may hold secrets, and the client for look-ups, which cannot be pickled.
        if self._default_headers or self._control_plane is not self._source:
            warn_of_pickle()
        again = functools.partial(
            type(self),
            base_models=self._base_models,
            cache=self._policy,
            prices=self._own_prices,
            telemetry=self._recorder.options,
        )
        return again, (self._source,)


def _memory(wanted: str | PrefixMemory, *, alone: bool) -> PrefixMemory | None:
    if isinstance(wanted, PrefixMemory):
        return wanted
    if wanted == "none":
        return None
    return PrefixMemory() if alone or wanted == "own" else shared_memory
