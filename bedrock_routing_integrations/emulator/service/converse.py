"""Answer Converse and ConverseStream: resolve the target, invoke the canned model, and simulate cache and latency."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bedrock_routing_integrations.emulator import canned_models as programs
from bedrock_routing_integrations.emulator.wire.service_model import too_deep, validation

from .prompt_caching import check_points
from .store import read_arn
from .targets import Choices, difficulty, pick, prompt_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from bedrock_routing_integrations.emulator.canned_models.engine import Reply

    from .models import EmulatedModel
    from .prompt_caching import CacheUse, PromptCaches
    from .store import PromptRouter, PromptVersion
    from .targets import Backend, Directory, Place

__all__ = ["Outcome", "Runtime", "check_latency", "simulated_latency"]

# The time that routing adds, from the user guide (P90), and the ratio of latencies from the launch of latency-optimized
# inference (1,958 ms instead of 3,438 ms).
_ROUTING_MS = 85.0
_OPTIMIZED_FACTOR = 0.57
# Assumptions of the emulator: a model reads tokens `_READING_SPEED` times faster than it writes tokens, and its
# `first_token_ms` includes reading `_TOKENS_READ_AT_ONCE` tokens. A response of 35 tokens from Claude 3.5 Sonnet v2
# then takes 55% less time if 29,841 tokens are read from the cache, as reported at the launch of prompt caching.
_READING_SPEED = 300.0
_TOKENS_READ_AT_ONCE = 1_000
_VARIABLE = re.compile(r"\{\{\s*([0-9a-zA-Z_-]+)\s*\}\}")
_REFUSED_WITH_PROMPT = ("system", "inferenceConfig", "toolConfig", "additionalModelRequestFields")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """An answered request.

    Attributes:
        reply: The canned model's reply.
        cache: The input tokens by cache use, or None for a model without prompt caching.
        model_id: The invoked model's id.
        first_token_ms: Simulated milliseconds until the first token.
        latency_ms: Simulated milliseconds until the last token.
        extras: The members that Converse's response shares with the stream's `metadata` event: trace, performanceConfig
            and serviceTier, if Bedrock returns them.
        difficulty: The router's estimate of the difficulty, 0 to 1, or None without a router.
        served_latency: The served latency, "standard" or "optimized". The requested latency can differ.
    """

    reply: Reply
    cache: CacheUse | None
    model_id: str
    first_token_ms: float
    latency_ms: float
    extras: Mapping[str, Any]
    difficulty: float | None
    served_latency: str = "standard"

    def usage(self) -> dict[str, Any]:
        """Return the `usage` member of the response."""
        cache = self.cache
        usage: dict[str, Any] = {
            "inputTokens": self.reply.input_tokens if cache is None else cache.plain,
            "outputTokens": self.reply.output_tokens,
            "totalTokens": self.reply.input_tokens + self.reply.output_tokens,
        }
        if cache is not None:
            usage["cacheReadInputTokens"] = cache.read
            usage["cacheWriteInputTokens"] = sum(cache.written.values())
            if cache.written:
                details = [{"ttl": ttl, "inputTokens": tokens} for ttl, tokens in cache.written.items()]
                usage["cacheDetails"] = details
        return usage

    @property
    def head(self) -> Mapping[str, Any]:
        """The members of the response that travel in headers. Converse has none."""
        return {}

    def answer(self) -> dict[str, Any]:
        """Return Converse's response."""
        return {
            "output": {"message": {"role": "assistant", "content": list(self.reply.content)}},
            "stopReason": self.reply.stop_reason,
            "usage": self.usage(),
            "metrics": {"latencyMs": round(self.latency_ms)},
            **self.extras,
        }

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield ConverseStream's events in Bedrock's order, as (name, members).

        Only blocks of tool uses have a contentBlockStart event.
        """
        yield "messageStart", {"role": "assistant"}
        for index, block in enumerate(self.reply.content):
            if "toolUse" in block:
                start = {key: block["toolUse"][key] for key in ("toolUseId", "name")}
                yield "contentBlockStart", {"start": {"toolUse": start}, "contentBlockIndex": index}
            for delta in programs.deltas(block):
                yield "contentBlockDelta", {"contentBlockIndex": index, "delta": delta}
            yield "contentBlockStop", {"contentBlockIndex": index}
        yield "messageStop", {"stopReason": self.reply.stop_reason}
        metrics = {"latencyMs": round(self.latency_ms)}
        yield "metadata", {"usage": self.usage(), "metrics": metrics, **self.extras}


class Runtime:
    """Answer Converse requests.

    Args:
        directory: Resolves targets.
        choices: The dictated routing choices.
        caches: The prompt caches.
        optimized_quota: The number of requests served with optimized latency before `standard` is served. None sets no
            limit.
        read_object: Returns the text of an S3 object by URI, or None if the object does not exist. The default finds
            no object.
    """

    def __init__(
        self,
        directory: Directory,
        choices: Choices,
        caches: PromptCaches,
        optimized_quota: int | None,
        read_object: Callable[[str], str | None] = lambda _uri: None,
    ) -> None:
        self._directory = directory
        self._read_object = read_object
        self._choices = choices
        self._caches = caches
        self._optimized_left = optimized_quota

    def converse(self, request: Mapping[str, Any], place: Place, *, streaming: bool) -> Outcome:
        """Answer a request.

        Args:
            request: The members of the request.
            place: The Region and account of the request.
            streaming: Whether the response is an event stream.

        Raises:
            ServiceError: Bedrock would refuse the request.
        """
        target = request["modelId"]
        arn = read_arn(target)
        if arn is not None and arn.kind == "prompt":
            version = self._directory.prompt(target)
            request = _render(version, request)
            target = version.model_id
        elif "messages" not in request:
            raise validation(
                "1 validation error detected: Value at 'messages' failed to satisfy constraint: Member must not be null"
            )
        _check_pointers(request)
        request = self._with_objects(request)
        backend, extras, hard = self.choose(target, request, place, streaming=streaming)
        served = self.serve_latency(request.get("performanceConfig", {}), backend, place)
        reply, cache = self._run(request, backend.model)
        unread = reply.input_tokens - (cache.read if cache is not None else 0)
        first, total = simulated_latency(
            backend.model, unread, reply.output_tokens, optimized=served == "optimized", routed=hard is not None
        )
        if "latency" in request.get("performanceConfig", {}):
            extras["performanceConfig"] = {"latency": served}
        if "serviceTier" in request:
            extras["serviceTier"] = {"type": _served_tier(request["serviceTier"]["type"])}
        return Outcome(
            reply=reply,
            cache=cache,
            model_id=backend.model.model_id,
            first_token_ms=first,
            latency_ms=total,
            extras=extras,
            difficulty=hard,
            served_latency=served,
        )

    def _with_objects(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the request with the text of documents in S3 inserted. Documents without an object stay unchanged."""
        messages = request["messages"]
        if not any(
            "s3Location" in block.get("document", {}).get("source", ()) for m in messages for block in m["content"]
        ):
            return request
        return {
            **request,
            "messages": [{**m, "content": [self._read(block) for block in m["content"]]} for m in messages],
        }

    def _read(self, block: dict[str, Any]) -> dict[str, Any]:
        document = block.get("document", {})
        place = document.get("source", {}).get("s3Location")
        text = None if place is None else self._read_object(place["uri"])
        return block if text is None else {"document": {**document, "source": {"text": text}}}

    def _run(self, request: Mapping[str, Any], model: EmulatedModel) -> tuple[Reply, CacheUse | None]:
        """Return the canned model's reply, and the cache use of the input tokens."""
        try:
            check_points(request, model)
            reply = programs.reply(request, model)
            return reply, self._caches.use(request, model, reply.input_tokens)
        except programs.ProgramRefusal as refusal:
            raise validation(str(refusal)) from refusal
        except RecursionError as error:  # JSON that could be parsed may be too deep to be serialized
            raise too_deep() from error

    def choose(
        self, target: str, request: Mapping[str, Any], place: Place, *, streaming: bool
    ) -> tuple[Backend, dict[str, Any], float | None]:
        """Return the model of a request.

        Args:
            target: The id or ARN of any target but a prompt.
            request: The request that a router estimates: the `messages` of a Converse request.
            place: The Region and account of the request.
            streaming: Whether the response is streamed. Some models cannot stream.

        Returns:
            The model, the members of the response about the choice (`trace` for a router), and the router's estimate of
            the difficulty (None without a router).

        Raises:
            ServiceError: The target does not exist, or the model does not serve the request.
        """
        arn = read_arn(target)
        extras: dict[str, Any] = {}
        hard: float | None = None
        if arn is None or arn.kind not in {"default-prompt-router", "prompt-router"}:
            backend = self._directory.backend(target, place)
        else:
            router = self._directory.router(target, place)
            hard = difficulty(request)
            backend = self._route(router, request, hard, place)
            extras["trace"] = {"promptRouter": {"invokedModelId": backend.arn}}
        backend.check()
        if streaming and not backend.model.streaming:
            raise validation("The model is unsupported for streaming.")
        return backend, extras, hard

    def _route(self, router: PromptRouter, request: Mapping[str, Any], hard: float, place: Place) -> Backend:
        candidates = [self._directory.backend(model, place) for model in router.models]
        dictated = self._choices.take(router.arn, candidates, prompt_text(request))
        if dictated is not None:
            return dictated
        return pick(hard, candidates, candidates[router.models.index(router.fallback)], router.difference)

    def serve_latency(self, performance: Mapping[str, Any], backend: Backend, place: Place) -> str:
        """Return the latency that is served. A request for optimized latency uses the quota.

        Args:
            performance: The request's `performanceConfig`.
            backend: The invoked model.
            place: The Region and account of the request.

        Raises:
            ServiceError: ValidationException, as in `check_latency`.
        """
        check_latency(performance, backend, place)
        if performance.get("latency") != "optimized":
            return "standard"
        if self._optimized_left is None:
            return "optimized"
        self._optimized_left -= 1
        return "optimized" if self._optimized_left >= 0 else "standard"


def _served_tier(asked: str) -> str:
    """Return the service tier that is served: `default` for `reserved`, because the account reserves no capacity."""
    return "default" if asked == "reserved" else asked


def check_latency(performance: Mapping[str, Any], backend: Backend, place: Place) -> None:
    """Refuse optimized latency, except for a cross-Region profile of a model that offers optimized latency.

    Args:
        performance: The request's `performanceConfig`.
        backend: The invoked model.
        place: The Region and account of the request.

    Raises:
        ServiceError: ValidationException.
    """
    offered = backend.model.latency_optimized and backend.profile
    if performance.get("latency") == "optimized" and not offered:
        raise validation(
            f"Latency performance configuration is not supported for {backend.model.model_id} in {place.region}"
        )


def simulated_latency(
    model: EmulatedModel, unread: int, output_tokens: int, *, optimized: bool, routed: bool
) -> tuple[float, float]:
    """Return the simulated milliseconds until the first token and until the last token.

    Args:
        model: The invoked model.
        unread: The number of input tokens that are not read from the cache.
        output_tokens: The number of output tokens.
        optimized: Whether optimized latency is served.
        routed: Whether a router chose the model.
    """
    factor = _OPTIMIZED_FACTOR if optimized else 1.0
    token_ms = 1000.0 / model.tokens_per_second
    reading_ms = max(0, unread - _TOKENS_READ_AT_ONCE) * token_ms / _READING_SPEED
    first = (model.first_token_ms + reading_ms) * factor + (_ROUTING_MS if routed else 0.0)
    return first, first + factor * output_tokens * token_ms


def _check_pointers(request: Mapping[str, Any]) -> None:
    """Refuse malformed JSON pointers in `additionalModelResponseFieldPaths`, as documented for Converse.

    The canned models return no additional fields.
    """
    for pointer in request.get("additionalModelResponseFieldPaths", ()):
        if not pointer.startswith("/") or re.search(r"~(?![01])", pointer):
            raise validation(f"The JSON Pointer {pointer!r} of additionalModelResponseFieldPaths is malformed.")


def _render(version: PromptVersion, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request of a managed prompt: the prompt's filled-in text, then the caller's messages.

    Raises:
        ServiceError: The request has members that a prompt resource refuses, or a variable has no value.
    """
    refused = [name for name in _REFUSED_WITH_PROMPT if name in request]
    if refused:
        raise validation(f"You can't specify {', '.join(refused)} when the modelId is a prompt resource: leave it out.")
    values = {name: value.get("text", "") for name, value in request.get("promptVariables", {}).items()}
    missing = sorted({name for name in _VARIABLE.findall(version.text) if name not in values})
    if missing:
        raise validation(f"The prompt needs values for its variables: {', '.join(missing)}.")
    fill: Callable[[re.Match[str]], str] = lambda found: values[found[1]]  # noqa: E731
    first = {"role": "user", "content": [{"text": _VARIABLE.sub(fill, version.text)}]}
    messages = [first, *request.get("messages", ())]
    if len(messages) > 1 and messages[1]["role"] == "user":
        # Roles must alternate: merge the caller's first user message into the prompt's message.
        merged = {"role": "user", "content": [*first["content"], *messages[1]["content"]]}
        messages = [merged, *messages[2:]]
    return {**request, "messages": messages, "inferenceConfig": dict(version.inference)}
