"""Bedrock's model-invocation logs → the report of a fleet: files and lines, the records in them, what they come to."""

from __future__ import annotations

from .files import STDIN, log_files
from .reading import NONE, History, read_history, stated_only

__all__ = ["NONE", "STDIN", "History", "log_files", "read_history", "stated_only"]
