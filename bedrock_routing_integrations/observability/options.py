"""`Telemetry`: what is recorded, and where."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bedrock_routing_integrations.errors import InvalidRequestError

MODES = ("auto", "always", "off")
_CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_CAPTURES_ON_SPANS = ("span_only", "span_and_event")


@dataclass(frozen=True, kw_only=True)
class Telemetry:
    """What OpenTelemetry is told of each call.

    Attributes:
        spans: ``"auto"``: a span for each call that is made inside of a span; ``"always"``: for every call; ``"off"``:
            no spans and no metrics. Where somebody else has a span of the call already, as an instrumentation of
            LangChain or LlamaIndex does, their span gets what it lacks instead, in both modes. Metrics do not depend on
            spans or their sampling: each call is measured once wherever a meter provider is configured (by us, unless
            that instrumentation does it).
        content: Whether the text of prompts and answers is recorded too: ``gen_ai.system_instructions``,
            ``gen_ai.input.messages`` and ``gen_ai.output.messages``; of images and documents their kind and size. None:
            where the standard variable ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` says ``SPAN_ONLY`` or
            ``SPAN_AND_EVENT``, which ask for just this. Its older ``true`` asks for log events, of which we make none.
        tracer_provider: Makes the spans; None for the process's own.
        meter_provider: Makes the metrics; None for the process's own.

    Raises:
        InvalidRequestError: A value that is none of these.
        ImportError: ``"always"``, and OpenTelemetry is not installed.

    Example:
        ```python
        from bedrock_routing_integrations.observability import Telemetry

        Telemetry(spans="always", content=True)
        ```
    """

    spans: str = "auto"
    content: bool | None = None
    tracer_provider: Any = field(default=None, repr=False)
    meter_provider: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.spans not in MODES:
            raise InvalidRequestError(f"telemetry must be one of {', '.join(MODES)}, and is {self.spans!r}.")
        if self.content not in (None, True, False):
            raise InvalidRequestError(f"content must be True, False or None, and is {self.content!r}.")
        for name, makes in (("tracer_provider", "get_tracer"), ("meter_provider", "get_meter")):
            provider = getattr(self, name)
            if provider is not None and not hasattr(provider, makes):
                raise InvalidRequestError(f"{name} must have {makes}(), and is a {type(provider).__name__}.")
        if self.spans == "always":
            _require_opentelemetry()

    @property
    def records_content(self) -> bool:
        """Whether the text of prompts and answers is asked for, now."""
        if self.content is None:
            return os.environ.get(_CAPTURE, "").strip().lower() in _CAPTURES_ON_SPANS
        return self.content

    def __deepcopy__(self, memo: dict[int, Any]) -> Telemetry:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # Providers hold threads and sockets: the process that loads it uses its own.
        return telemetry_of, ({"spans": self.spans, "content": self.content},)


def telemetry_of(given: object) -> Telemetry:
    """What an argument `telemetry` says: a mode, a `Telemetry`, or the dictionary that `written_telemetry` makes of it.

    Raises:
        InvalidRequestError: It says nothing of the kind.
        ImportError: ``"always"``, and OpenTelemetry is not installed.
    """
    if isinstance(given, Telemetry):
        return given
    if isinstance(given, str):
        return Telemetry(spans=given)
    if isinstance(given, Mapping) and set(given) <= {"spans", "content"}:
        return Telemetry(**given)
    raise InvalidRequestError(f"telemetry must be one of {', '.join(MODES)}, or a Telemetry, and is {given!r}.")


def written_telemetry(given: Any) -> Any:
    """An argument `telemetry` as JSON has it; without its providers."""
    return {"spans": given.spans, "content": given.content} if isinstance(given, Telemetry) else given


def _require_opentelemetry() -> None:
    try:
        import opentelemetry.metrics
        import opentelemetry.trace  # noqa: F401 - whether they are there
    except ImportError as error:
        raise ImportError(
            'telemetry="always" needs OpenTelemetry: pip install "bedrock-routing-integrations[otel]"'
        ) from error
