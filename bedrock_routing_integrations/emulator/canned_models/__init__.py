"""Canned models: deterministic programs that answer Converse calls in place of foundation models.

They emulate the *service*, not intelligence. The same request always gets the same reply. They answer from the
request's content (the prompt, documents, earlier turns, tool results), call the tools of the request with arguments
that fit the tools' schemas, and follow `toolChoice`, `stopSequences`, `maxTokens` and structured output, so that an
application's plumbing can be tested without an account. Larger models answer correctly where smaller models fail
(`answers.CLEVER`), so that routing between them makes a visible difference. They know a few hundred words. Their
answers measure nothing about real models.
"""

from __future__ import annotations

from bedrock_routing_integrations.emulator.service.conversation_rules import ProgramRefusal

from .engine import Reply, deltas, reply

__all__ = ["ProgramRefusal", "Reply", "deltas", "reply"]
