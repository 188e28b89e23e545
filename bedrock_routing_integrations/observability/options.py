"""Define `Telemetry`, the options for OpenTelemetry."""

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
    """Select what OpenTelemetry records of each call.

    Attributes:
        spans: ``"auto"`` (default): a span for each call that is made inside of a span. ``"always"``: a span for each
            call. ``"off"``: no spans and no metrics. If another instrumentation has a span of the call already, such as
            one of LangChain or LlamaIndex, that span gets the attributes that it is missing, in both modes. Metrics do
            not depend on spans or their sampling: each call is measured once wherever a meter provider is configured,
            unless the other instrumentation measures it.
        content: Whether to record the text of prompts and answers: ``gen_ai.system_instructions``,
            ``gen_ai.input.messages`` and ``gen_ai.output.messages``. Of images and documents the kind and the size are
            recorded. None (default): yes if the standard variable
            ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` is ``SPAN_ONLY`` or ``SPAN_AND_EVENT``. Its older
            value ``true`` selects log events, which this package does not emit.
        tracer_provider: The provider of spans; None (default) for the process's own.
        meter_provider: The provider of metrics; None (default) for the process's own.

    Raises:
        InvalidRequestError: A value is not valid.
        ImportError: `spans` is ``"always"``, and OpenTelemetry is not installed.

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
            raise InvalidRequestError(f"telemetry={self.spans!r} is not valid. Use one of {', '.join(MODES)}.")
        if self.content not in (None, True, False):
            raise InvalidRequestError(f"content={self.content!r} is not valid. Use True, False or None.")
        for name, method in (("tracer_provider", "get_tracer"), ("meter_provider", "get_meter")):
            provider = getattr(self, name)
            if provider is not None and not hasattr(provider, method):
                raise InvalidRequestError(
                    f"{name}={provider!r} is not valid: it has no {method}(). Use a provider of OpenTelemetry."
                )
        if self.spans == "always":
            _require_opentelemetry()

    @property
    def records_content(self) -> bool:
        """Whether to record the text of prompts and answers, by the environment as it is now."""
        if self.content is None:
            return os.environ.get(_CAPTURE, "").strip().lower() in _CAPTURES_ON_SPANS
        return self.content

    def __deepcopy__(self, memo: dict[int, Any]) -> Telemetry:
        return self  # providers cannot be copied

    def __reduce__(self) -> tuple[Any, ...]:
        # Without providers, which hold threads and sockets. The process that loads the pickle uses its own.
        return telemetry_of, ({"spans": self.spans, "content": self.content},)


def telemetry_of(value: object) -> Telemetry:
    """Return the `Telemetry` of an argument `telemetry`.

    Args:
        value: A mode, a `Telemetry`, or the dictionary that `serialize_telemetry` makes of one.

    Raises:
        InvalidRequestError: `value` is not valid.
        ImportError: The mode is ``"always"``, and OpenTelemetry is not installed.
    """
    if isinstance(value, Telemetry):
        return value
    if isinstance(value, str):
        return Telemetry(spans=value)
    if isinstance(value, Mapping) and set(value) <= {"spans", "content"}:
        return Telemetry(**value)
    raise InvalidRequestError(f"telemetry={value!r} is not valid. Use one of {', '.join(MODES)}, or a Telemetry.")


def serialize_telemetry(value: Any) -> Any:
    """Return an argument `telemetry` as JSON, without its providers."""
    return {"spans": value.spans, "content": value.content} if isinstance(value, Telemetry) else value


def _require_opentelemetry() -> None:
    try:
        import opentelemetry.metrics
        import opentelemetry.trace  # noqa: F401 - are they installed?
    except ImportError as error:
        raise ImportError(
            'telemetry="always" needs OpenTelemetry: pip install "bedrock-routing-integrations[otel]"'
        ) from error
