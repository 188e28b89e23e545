"""Converse and ConverseStream: from a parsed request to what the model said and what it cost."""

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

# The user guide's figure for the time that routing adds (P90), and the ratio seen at the launch of latency-
# optimised inference (3,438 to 1,958 ms).
_ROUTING_MS = 85.0
_OPTIMIZED_FACTOR = 0.57
# The emulator's own invention: a model reads so many times faster than it writes, and its time to the first token
# includes the reading of the first so many tokens. An answer of 35 tokens from Claude 3.5 Sonnet v2 thereby takes 55%
# less time where 29,841 tokens are read from the cache, as at the launch of prompt caching.
_READING_SPEED = 300.0
_TOKENS_READ_AT_ONCE = 1_000
_VARIABLE = re.compile(r"\{\{\s*([0-9a-zA-Z_-]+)\s*\}\}")
_REFUSED_WITH_PROMPT = ("system", "inferenceConfig", "toolConfig", "additionalModelRequestFields")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """An answered request.

    Attributes:
        reply: What the model's program said.
        cache: What became of the input tokens; None for a model without prompt caching.
        model_id: The base model that answered.
        first_token_ms: Simulated milliseconds until the first token.
        latency_ms: Simulated milliseconds until the last.
        extras: The members that Converse's answer and the stream's `metadata` event share: trace,
            performanceConfig, serviceTier, where the service gives them.
        difficulty: The router's estimate; None without a router.
        served_latency: "standard" or "optimized", whatever was asked for.
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
        """The `usage` member of the answer."""
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
        """The members of the answer that travel in headers: none."""
        return {}

    def answer(self) -> dict[str, Any]:
        """Converse's answer."""
        return {
            "output": {"message": {"role": "assistant", "content": list(self.reply.content)}},
            "stopReason": self.reply.stop_reason,
            "usage": self.usage(),
            "metrics": {"latencyMs": round(self.latency_ms)},
            **self.extras,
        }

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """ConverseStream's events in the service's order; only tool uses announce their block."""
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
    """Answers Converse requests.

    Args:
        directory: Finds what a `modelId` means.
        choices: Routings that a test has dictated.
        caches: The prompt caches.
        optimized_quota: Requests served as latency-optimised before `standard` is served; None without limit.
        read_object: The text of an object in S3; None where there is none.
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

        Raises:
            ServiceError: As Bedrock refuses it.
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
        """The request with the text of its documents that lie in S3, as far as there are such objects."""
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
        """Let a model answer, with its prompt cache."""
        try:
            check_points(request, model)
            reply = programs.reply(request, model)
            return reply, self._caches.use(request, model, reply.input_tokens)
        except programs.ProgramRefusal as refusal:
            raise validation(str(refusal)) from refusal
        except RecursionError as error:  # what could just be read may be too deep to be written
            raise too_deep() from error

    def choose(
        self, target: str, request: Mapping[str, Any], place: Place, *, streaming: bool
    ) -> tuple[Backend, dict[str, Any], float | None]:
        """What answers, with the trace where a router chose it, and the router's estimate.

        Args:
            target: The id or ARN of anything but a prompt.
            request: What the router judges by: the `messages` of a Converse request.
            place: Where the request came in.
            streaming: Whether the answer is streamed, which not every model can.

        Raises:
            ServiceError: For a target that does not exist, or a model that does not serve this.
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
        """The latency that is served for the `performanceConfig` that is asked; one request of the quota.

        Raises:
            ServiceError: As `check_latency`.
        """
        check_latency(performance, backend, place)
        if performance.get("latency") != "optimized":
            return "standard"
        if self._optimized_left is None:
            return "optimized"
        self._optimized_left -= 1
        return "optimized" if self._optimized_left >= 0 else "standard"


def _served_tier(asked: str) -> str:
    """Nothing is reserved in the emulated account, so `reserved` overflows into `default`."""
    return "default" if asked == "reserved" else asked


def check_latency(performance: Mapping[str, Any], backend: Backend, place: Place) -> None:
    """Refuse optimized latency where it is not offered: it is through cross-Region profiles only.

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
    """Simulated milliseconds until the first and the last token; `unread` input tokens are not in the cache."""
    factor = _OPTIMIZED_FACTOR if optimized else 1.0
    token_ms = 1000.0 / model.tokens_per_second
    reading_ms = max(0, unread - _TOKENS_READ_AT_ONCE) * token_ms / _READING_SPEED
    first = (model.first_token_ms + reading_ms) * factor + (_ROUTING_MS if routed else 0.0)
    return first, first + factor * output_tokens * token_ms


def _check_pointers(request: Mapping[str, Any]) -> None:
    """Refuse what is no JSON pointer, as the service documents; the programs have no more fields to give."""
    for pointer in request.get("additionalModelResponseFieldPaths", ()):
        if not pointer.startswith("/") or re.search(r"~(?![01])", pointer):
            raise validation(f"The JSON Pointer {pointer!r} of additionalModelResponseFieldPaths is malformed.")


def _render(version: PromptVersion, request: Mapping[str, Any]) -> dict[str, Any]:
    """The request that a managed prompt becomes: its text filled in, the caller's messages after it.

    Raises:
        ServiceError: For members that a prompt resource refuses, and for variables without a value.
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
        # Roles must alternate: the caller's first turn continues the prompt's.
        merged = {"role": "user", "content": [*first["content"], *messages[1]["content"]]}
        messages = [merged, *messages[2:]]
    return {**request, "messages": messages, "inferenceConfig": dict(version.inference)}
