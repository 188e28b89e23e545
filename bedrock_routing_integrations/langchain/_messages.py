"""Small things done to LangChain's messages and results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

from bedrock_routing_integrations.invocation import ROUTING

from ._answer_blocks import cut_off_arguments

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_core.messages import BaseMessage
    from langchain_core.outputs import ChatResult


def name_the_model(message: BaseMessage) -> None:
    """Put the model that answered, where it is known, in ``model_name``: usage and cost are counted by it."""
    routing = message.response_metadata.get(ROUTING)
    if routing:
        message.response_metadata["model_name"] = routing["invoked_model"] or routing["requested_model_id"]
        if routing["usage"] is None:
            message.usage_metadata = None  # type: ignore[attr-defined]  # not known, where langchain-aws has zeros
    usage = getattr(message, "usage_metadata", None)
    if usage:  # upstream's total is what Bedrock says; LangChain's is this
        usage["total_tokens"] = usage["input_tokens"] + usage["output_tokens"]


def as_chunk(result: ChatResult) -> ChatGenerationChunk:
    """Return a whole answer as the only chunk of a stream."""
    message: Any = result.generations[0].message
    # langchain-core parses the arguments again, and would take those that are JSON for a valid call's.
    invalid: list[Any] = [
        {**call, "args": (call["args"] or "") + cut_off_arguments(call["args"] or "")}
        for call in message.invalid_tool_calls
    ]
    return ChatGenerationChunk(
        message=AIMessageChunk(
            content=message.content,
            additional_kwargs=message.additional_kwargs,
            response_metadata=message.response_metadata,
            tool_calls=message.tool_calls,
            invalid_tool_calls=invalid,
            usage_metadata=message.usage_metadata,
            id=message.id,
            chunk_position="last",
        )
    )


def copied_containers(raw_blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The user's raw messages with lists of their own: upstream appends cache points to them."""
    return [
        {**message, "content": list(message["content"])} if isinstance(message.get("content"), list) else dict(message)
        for message in raw_blocks
    ]


def token_usage(usages: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """The sum of some ``usage_metadata``, for callbacks that read ``llm_output["token_usage"]``.

    Under both names that are in use: LangChain's, and those of older callbacks, which are OpenAI's.
    """
    prompt = sum([usage.get("input_tokens") or 0 for usage in usages])
    completion = sum([usage.get("output_tokens") or 0 for usage in usages])
    total = prompt + completion
    return {
        "input_tokens": prompt, "output_tokens": completion, "total_tokens": total,
        "prompt_tokens": prompt, "completion_tokens": completion,
    }  # fmt: skip
