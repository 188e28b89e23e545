"""Observe calls: logs, OpenTelemetry, and the ``with`` blocks of the reports' handlers.

`RoutedClient` and `KnowledgeBaseClient` begin each call with `observe_call`, and the code that sends emits the events
of `call_events` to it: started, attempted, and one of answered, failed and abandoned. The observers of a client listen:
`logs.LogObserver` (Converse only) and `spans.OpenTelemetryObserver`; a framework's adapter adds observers of its own
through `CallOptions`, as LangChain's does to write the invoked model into the traces of its run. Reports count what a
framework hands to its user, which is less: a stream that was answered but not read to its end does not count. So
`RoutingCallbackHandler` and `RoutingEventHandler` listen to their framework's events, which carry the ``"routing"``
entry of `CallAnswered`; `active_handlers` knows which of them are open as ``with`` blocks.

OpenTelemetry is never imported unless the application has imported it or asks for it (`options`). Names follow the
conventions of ``open-telemetry/semantic-conventions-genai`` (in development; read 2026-11). Deprecated names, such as
``gen_ai.system``, are not sent.
"""

from __future__ import annotations

from .call_events import (
    AttemptMade,
    CallAbandoned,
    CallAnswered,
    CallFailed,
    CallObserver,
    CallStarted,
    ObservedCall,
    observe_call,
)
from .external_spans import ExternalSpan, find_external_span
from .logs import LogObserver
from .options import Telemetry, serialize_telemetry, telemetry_of
from .spans import OpenTelemetryObserver

__all__ = [
    "AttemptMade",
    "CallAbandoned",
    "CallAnswered",
    "CallFailed",
    "CallObserver",
    "CallStarted",
    "ExternalSpan",
    "LogObserver",
    "ObservedCall",
    "OpenTelemetryObserver",
    "Telemetry",
    "find_external_span",
    "observe_call",
    "serialize_telemetry",
    "telemetry_of",
]
