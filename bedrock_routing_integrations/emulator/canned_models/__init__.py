"""The emulated models: deterministic programs that play a foundation model's part in a Converse call.

They emulate the *service*, not intelligence. The same request always gets the same reply. They answer from
what the request holds (the prompt, documents, earlier turns, tool results), call the tools that they are
given with arguments that fit the tools' schemas, and keep to `toolChoice`, `stopSequences`, `maxTokens` and
structured output, so that an application's plumbing can be tested without an account. Larger models get
right what smaller ones get wrong (`answers.CLEVER`), so that routing between them has something to show.
What they know is a few hundred words; what they say is no measure of any real model.
"""

from __future__ import annotations

from bedrock_routing_integrations.emulator.service.conversation_rules import ProgramRefusal

from .engine import Reply, deltas, reply

__all__ = ["ProgramRefusal", "Reply", "deltas", "reply"]
