"""Read Bedrock's model-invocation logs into a `RoutingReport` of a whole fleet.

`files` finds files and splits them into JSON values, `json_records` and `cloudwatch_exports` read records that span
lines and CSV, `records` reads one record, `reading` counts the calls, and `unrecognized` names files that are other
logs.
"""

from __future__ import annotations

from .files import STDIN, log_files
from .reading import NONE, History, read_history, stated_only

__all__ = ["NONE", "STDIN", "History", "log_files", "read_history", "stated_only"]
