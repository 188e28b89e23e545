"""Send Converse requests with boto3's interface, and add ``"routing"`` to each response.

`RoutedClient` is the seam of the package: LangChain, LlamaIndex and plain boto3 code call it like a boto3 client. It
resolves the target, has the request prepared and sent by `Exchange`, and reports the call to the observers.
"""

from __future__ import annotations

import functools
import sys
import time
from typing import TYPE_CHECKING, Any, Literal, cast

from bedrock_routing_integrations.caching import CachePlan, Planner, PrefixMemory, explain, policy_of
from bedrock_routing_integrations.connections import Connection, UserControlPlane, client_source, warn_about_pickle
from bedrock_routing_integrations.costs.prices import Prices, costs
from bedrock_routing_integrations.errors import InvalidRequestError
from bedrock_routing_integrations.invocation import ROUTING, invoked_model_id, read_invocation
from bedrock_routing_integrations.models.candidates import ResolvedTarget, from_base_models
from bedrock_routing_integrations.models.look_ups import Resolver
from bedrock_routing_integrations.observability import (
    CallStarted,
    LogObserver,
    OpenTelemetryObserver,
    Telemetry,
    observe_call,
    telemetry_of,
)
from bedrock_routing_integrations.requests import RefusalMemory, Refused, check_placement, prepare_request
from bedrock_routing_integrations.targets import Target, parse_target
from bedrock_routing_integrations.transport.streams import MALFORMED, RoutedStream, malformed

from .exchange import CallOptions, Exchange, Settings, count_tokens

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from bedrock_routing_integrations.caching import CachePolicy
    from bedrock_routing_integrations.models.look_ups import ControlPlane
    from bedrock_routing_integrations.observability import CallObserver, ObservedCall
    from bedrock_routing_integrations.runtime import Runtime
    from bedrock_routing_integrations.transport.stream_accumulator import StreamAccumulator


class RoutedClient:
    """A ``bedrock-runtime`` client that takes any target and reports the invoked model.

    `converse` and `converse_stream` have boto3's arguments, results and exceptions. All other attributes are those of
    the boto3 client inside. A response, and a stream's ``metadata`` event, get one additional key, ``"routing"``: see
    `Invocation`.

    Args:
        client: A boto3 ``bedrock-runtime`` client, which is used unchanged; or a `Connection`, from which shared
            clients are created at the first call, in the Region of the target.
        bedrock_client: A boto3 ``bedrock`` client for look-ups. By default one like `client` is created when needed.
        base_models: Target → the base models that it can use, for targets that must not be looked up. Ids of profiles
            (``us.…``, ``global.…``) also decide the price, if it differs between geographies.
        default_headers: HTTP headers for each request of this object (but not of others with the same connection).
        cache: ``"auto"``: add the cache points that are expected to save money; ``"off"``: add none; or a
            `CachePolicy`. The caller's own cache points are kept, and repaired where Bedrock would refuse them.
        prices: Model id, profile id or ARN → US dollars per million tokens, to replace genai-prices' prices: see
            `Prices`.
        telemetry: ``"auto"``: a span and metrics of each call if the current span is recording; ``"always"``;
            ``"off"``; or a `Telemetry`.
        mid_conversation_system: The position of messages of role ``system`` after the first other message: ``"native"``
            sends them unchanged, ``"inline"`` as an instruction in the user message at the same position, ``"hoist"``
            in the request's ``system``, which loses the cached conversation. None: ``"native"`` if the models are known
            to accept it, else ``"inline"``.
        runtime: The owner of everything that clients share: look-ups, cache and refusal memory, and the boto3 clients
            of a `Connection`. None: the connection's, or the default one of the process.

    Example:
        ```python
        import boto3
        from bedrock_routing_integrations import RoutedClient

        client = RoutedClient(boto3.client("bedrock-runtime"))
        response = client.converse(
            modelId="arn:aws:bedrock:us-east-1:123456789012:default-prompt-router/amazon.nova:1",
            messages=[{"role": "user", "content": [{"text": "Say good morning."}]}],
        )
        response["routing"]["invoked_model"]  # "amazon.nova-lite-v1:0"
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
        mid_conversation_system: str | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        if not isinstance(client, Connection) and not hasattr(client, "converse"):
            service = getattr(getattr(client, "meta", None), "service_model", None)
            kind = f"a client for {service.service_name!r}" if service else f"a {type(client).__name__}"
            raise InvalidRequestError(f"client is not valid: it is {kind}. Pass boto3.client('bedrock-runtime').")
        self._source = client_source(client, "bedrock-runtime", runtime)
        runtime = self._source.runtime
        self._control_plane: ControlPlane = self._source
        if bedrock_client is not None:
            self._control_plane = UserControlPlane(bedrock_client, self._source)
        self._base_models = {parse_target(name).model_id: tuple(m) for name, m in (base_models or {}).items()}
        self._stated = {name: from_base_models(parse_target(name), m) for name, m in self._base_models.items()}
        self._default_headers = dict(default_headers or {})
        self._resolver = runtime.shared(Resolver, runtime.clock)
        self._policy = policy_of(cache)
        self._prices, self._own_prices = Prices(prices), prices
        self._telemetry = telemetry_of(telemetry)
        self._observers: tuple[CallObserver, ...] = (LogObserver(), OpenTelemetryObserver(self._telemetry))
        self._placement = check_placement(mid_conversation_system)
        self._planner = Planner(self._policy, _memory(self._policy.memory, runtime), runtime.clock)
        runtime.attach(self._planner)
        self._refusals = runtime.shared(RefusalMemory, runtime.clock)

    @property
    def policy(self) -> CachePolicy:
        """The policy for prompt caching."""
        return self._policy

    def resolve(self, model_id: str, *, look_up: Literal["expired", "missing", "never"] = "expired") -> ResolvedTarget:
        """Return the candidate models of a target, its fallback model and their facts.

        Args:
            model_id: The target.
            look_up: When to ask the control plane about a target whose id does not name its model. ``"expired"``: if
                there is no result, or it has expired (after an hour). ``"missing"``: if there never was a result.
                ``"never"``: return what is known now.

        Raises:
            InvalidTargetError: `model_id` is not a valid target.
        """
        target = parse_target(model_id)
        stated = self._stated.get(target.model_id)
        return stated or self._resolver.resolve(target, self._control_plane, look_up=look_up)

    def region(self, model_id: str) -> str | None:
        """Return the Region in which a target would be called; None if none is known yet."""
        return self._source.known_region(parse_target(model_id))

    def runtime_client(self, model_id: str) -> Any:
        """Return the boto3 client for a target: the user's own, or the shared one of the target's Region.

        Raises:
            MissingRegionError: No Region is known.
        """
        return self._runtime(parse_target(model_id))

    def converse(self, **request: Any) -> dict[str, Any]:
        """Send a request as boto3's ``converse`` does, and return the response with ``"routing"``.

        Args:
            **request: The arguments of boto3's ``converse``. They are not changed.

        Raises:
            InvalidTargetError: ``modelId`` is not a valid target.
            InvalidRequestError: The request is not valid for this target. Nothing was sent.
            MissingRegionError: No Region is known.
            ContextOverflowError: The prompt is too long.
            InvalidAnswerError: The response has no message, or Bedrock reports that the answer is malformed.
            botocore.exceptions.ClientError: Bedrock refused the request.
        """
        return self._converse(request, _PLAIN)

    def converse_stream(self, **request: Any) -> dict[str, Any]:
        """Send a request as boto3's ``converse_stream`` does; the stream's ``metadata`` event has ``"routing"``.

        If the target cannot stream (or cannot stream with tools), the request goes to Converse, and the response is
        returned as the events of a stream.

        Args:
            **request: The arguments of boto3's ``converse_stream``. They are not changed.

        Raises:
            InvalidTargetError: ``modelId`` is not a valid target.
            InvalidRequestError: The request is not valid for this target. Nothing was sent.
            MissingRegionError: No Region is known.
            ContextOverflowError: The prompt is too long; also while iterating.
            botocore.exceptions.ClientError: Bedrock refused the request; also while iterating.
            StreamInterruptedError: While iterating: the stream broke off.
            InvalidAnswerError: While iterating: Bedrock reports that the answer is malformed.
        """
        return self._converse_stream(request, _PLAIN)

    def for_call(self, options: CallOptions) -> ClientForCall | RoutedClient:
        """Return a client whose ``converse`` and ``converse_stream`` use the options of one call of a framework."""
        return self if options == _PLAIN else ClientForCall(self, options)

    def _converse(self, request: dict[str, Any], options: CallOptions) -> dict[str, Any]:
        if "modelId" not in request:  # boto3's own error names the missing argument
            return self._runtime(None).converse(**request)  # type: ignore[no-any-return]
        exchange = self._exchange(request, options)
        with self._observe("Converse", exchange, options) as call:
            response = exchange.send(call)
            routing = self._report(exchange, response)
            answer = {**exchange.restored(response), ROUTING: routing}
            reason = response.get("stopReason")
            error = malformed(reason, answer) if reason in MALFORMED else None
            call.answered(lambda: response, routing, error)
        if error is not None:
            raise error
        return answer

    def _converse_stream(self, request: dict[str, Any], options: CallOptions) -> dict[str, Any]:
        if "modelId" not in request:
            return self._runtime(None).converse_stream(**request)  # type: ignore[no-any-return]
        exchange = self._exchange(request, options, stream=True)
        with self._observe("ConverseStream", exchange, options) as call:
            started = time.monotonic()
            response = exchange.send(call)

        def describe(
            metadata: dict[str, Any], first_token_ms: int | None, received: StreamAccumulator, http: Mapping[str, Any]
        ) -> dict[str, Any]:
            reason = received.stop_reason
            routing = self._report(
                exchange, metadata, http=http, time_to_first_token_ms=first_token_ms, stop_reason=reason
            )
            error = malformed(reason, received.response()) if reason in MALFORMED else None
            call.answered(received.response, routing, error)
            return routing

        def abandon_cache_plan() -> None:
            self._planner.record_failure(exchange.planned)

        def end(error: BaseException | None, received: StreamAccumulator) -> None:
            if error is None:
                call.abandoned(received.response)
            else:
                call.failed(error, received.response)

        reopen = functools.partial(exchange.reopen, call)
        listener = end if call.has_listeners else None
        stream = RoutedStream(
            exchange.open(response, started), describe, reopen, exchange.settle, abandon_cache_plan, listener
        )
        call.watch(iter(stream), stream.received.response)
        kept = {name: value for name, value in response.items() if name in ("stream", "ResponseMetadata")}
        return {**kept, "stream": stream}

    def _observe(self, operation: str, exchange: Exchange, options: CallOptions) -> ObservedCall:
        def start() -> CallStarted:
            return CallStarted(
                operation=operation,
                client=exchange.client,
                request=exchange.planned.request,
                resolved=exchange.resolved,
                external_span=options.external_span,
            )

        return observe_call((*self._observers, *options.observers), start)

    def _runtime(self, target: Target | None) -> Any:
        return self._source.client("bedrock-runtime", target)

    def count_prompt_tokens(self, **request: Any) -> int:
        """Return the number of tokens of the prompt of a Converse request: messages, system, tools.

        Bedrock counts them (CountTokens, IAM action ``bedrock:CountTokens``) if it can do so for all base models of the
        target; for a router the largest count is returned. Otherwise the count is estimated from the sizes of the parts
        and from Bedrock's counts in earlier responses.

        Args:
            **request: The arguments of `converse`. Members that are not part of the prompt may be omitted.

        Raises:
            InvalidRequestError: There is no ``modelId``, or the request is not a valid Converse request.
            InvalidTargetError: ``modelId`` is not a valid target.
        """
        if "modelId" not in request:
            raise InvalidRequestError("modelId is missing. Pass the arguments of converse to count_prompt_tokens.")
        resolved = self.resolve(request["modelId"])
        scope = self._scope(resolved)
        refused = self._refusals.of(scope)
        request = {**request, "modelId": resolved.target.model_id}
        prepared = prepare_request(request, resolved, placement=self._placement, refused=refused).request
        if Refused.COUNT_TOKENS not in refused and resolved.base_models and resolved.facts.count_tokens is not False:
            counted, is_refused = count_tokens(
                self._runtime(resolved.target), resolved, prepared, self._default_headers
            )
            if counted is not None:
                return counted
            if is_refused:
                self._refusals.remember(scope, Refused.COUNT_TOKENS)
        try:
            return self._planner.estimate_tokens(prepared, resolved, scope)
        except (AttributeError, TypeError) as error:
            raise InvalidRequestError(f"The request is not a valid Converse request: {error}") from error

    def plan_cache_points(self, **request: Any) -> CachePlan:
        """Return the cache points that a request would get now, with reasons. Nothing is sent.

        Args:
            **request: The arguments of `converse`.

        Raises:
            InvalidRequestError: The request is not a valid Converse request.
            InvalidTargetError: ``modelId`` is not a valid target.
        """
        if "modelId" not in request:
            raise InvalidRequestError("modelId is missing. Pass the arguments of converse to plan_cache_points.")
        resolved = self.resolve(request["modelId"])
        prepared = prepare_request(
            {**request, "modelId": resolved.target.model_id},
            resolved,
            placement=self._placement,
            refused=self._refusals.of(self._scope(resolved)),
        )
        return explain(self._planner.plan(prepared.request, resolved, self._scope(resolved)))

    def _exchange(self, request: dict[str, Any], options: CallOptions, *, stream: bool = False) -> Exchange:
        resolved = self.resolve(request["modelId"])
        client = self._runtime(resolved.target)
        return Exchange(self._call_settings(), client, resolved, self._scope(resolved), request, options, stream=stream)

    def _call_settings(self) -> Settings:
        return Settings(
            planner=self._planner, refusals=self._refusals, headers=self._default_headers, placement=self._placement
        )

    def _scope(self, resolved: ResolvedTarget) -> Hashable:
        return self._source.caller(), resolved.target.model_id

    def _report(self, exchange: Exchange, response: Mapping[str, Any], **measured: Any) -> dict[str, Any]:
        resolved, planned = exchange.resolved, exchange.planned
        traced = invoked_model_id(response)
        if traced is not None:
            self._resolver.learn(resolved, traced, self._control_plane)
        points = [point.as_dict() for point in planned.points]
        invocation = read_invocation(
            planned.request,
            response,
            resolved,
            cache_points=points,
            earlier_attempts=exchange.earlier_attempts,
            **measured,
        )
        self._planner.record_answer(planned, invocation.invoked_model or traced, response.get("usage"))
        if invocation.usage is not None:
            self._planner.record_token_count(planned, exchange.scope, response["usage"])
        routing = invocation.as_dict()
        routing["cost_usd"], routing["fallback_cost_usd"] = costs(
            invocation,
            resolved,
            self._prices,
            region=getattr(getattr(exchange.client, "meta", None), "region_name", None),
        )
        return routing

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # also during unpickling and copying, when there is no client yet
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._runtime(None), name)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        # A hack: instructor and others check `isinstance(client, botocore.client.BaseClient)`. A real subclass would
        # inherit botocore's constructor and state. This property makes only `isinstance` see botocore's class, as
        # `unittest.mock` does for ``spec=``. A caller who checks has imported botocore, so it is not imported here.
        kind: Any = type(self)
        return cast("type", _seen_as(kind) if "botocore.client" in sys.modules else kind)

    def __repr__(self) -> str:
        source = self._source if isinstance(self._source, Connection) else "the boto3 client passed in"
        return f"<RoutedClient of {source}>"

    def __copy__(self) -> RoutedClient:
        return self  # a client is immutable

    def __deepcopy__(self, memo: dict[int, Any]) -> RoutedClient:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # The headers may hold secrets, and a boto3 client cannot be pickled: both are left out.
        if self._default_headers or self._control_plane is not self._source:
            warn_about_pickle()
        again = functools.partial(
            type(self),
            base_models=self._base_models,
            cache=self._policy,
            prices=self._own_prices,
            telemetry=self._telemetry,
            mid_conversation_system=self._placement,
        )
        return again, (self._source,)


class ClientForCall:
    """A `RoutedClient` with the options of one call of a framework.

    Args:
        client: The client.
        options: The options that the framework adapter passes.
    """

    def __init__(self, client: RoutedClient, options: CallOptions) -> None:
        self._client, self._options = client, options

    def converse(self, **request: Any) -> dict[str, Any]:
        """Send a request as `RoutedClient.converse` does."""
        return self._client._converse(request, self._options)  # noqa: SLF001 - a view of the client

    def converse_stream(self, **request: Any) -> dict[str, Any]:
        """Send a request as `RoutedClient.converse_stream` does."""
        return self._client._converse_stream(request, self._options)  # noqa: SLF001 - a view of the client

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._client, name)


_PLAIN = CallOptions()


@functools.lru_cache(maxsize=16)
def _seen_as(kind: Any) -> Any:  # Any, because mypy does not treat classes as hashable
    """Return the class that `isinstance` sees in a client: a subclass of it and botocore's ``BaseClient``."""
    from botocore.client import BaseClient

    return type(kind.__name__, (kind, BaseClient), {"__module__": kind.__module__, "__qualname__": kind.__qualname__})


def _memory(memory: str | PrefixMemory, runtime: Runtime) -> PrefixMemory | None:
    if isinstance(memory, PrefixMemory):
        return memory
    if memory == "none":
        return None
    return PrefixMemory() if memory == "own" else runtime.shared(PrefixMemory)
