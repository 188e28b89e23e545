"""OpenTelemetry: a span and metrics for each call, by the semantic conventions for generative AI.

`options` says what is wanted, `recorder` decides and `calls` does it; `attributes`, `content` and `operations` know the
conventions' names, `outer` who may be telling of a call already. Nothing of opentelemetry is imported before somebody
else has, or has asked for it.

The conventions are those of ``open-telemetry/semantic-conventions-genai`` (in development; read 2026-11). Of the names
that they have given up, such as ``gen_ai.system``, none is sent.
"""

from __future__ import annotations

from .external_spans import Outer, is_loaded, outer_of
from .options import Telemetry, telemetry_of, written_telemetry
from .spans import Call, Recorder

__all__ = ["Call", "Outer", "Recorder", "Telemetry", "is_loaded", "outer_of", "telemetry_of", "written_telemetry"]
