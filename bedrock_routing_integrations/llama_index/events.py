"""What LlamaIndex's instrumentation hears of us."""

from __future__ import annotations

from typing import Any

from llama_index.core.instrumentation.events import BaseEvent


class ModelRoutedEvent(BaseEvent):
    """A call to Bedrock was answered: by which model, and what was served. One for each call, before its end event.

    Attributes:
        routing: The call's ``"routing"`` entry; see `Invocation`.

    Example:
        ```python
        from llama_index.core.instrumentation import get_dispatcher
        from llama_index.core.instrumentation.event_handlers import BaseEventHandler
        from bedrock_routing_integrations.llama_index import ModelRoutedEvent


        class WhoAnswered(BaseEventHandler):
            def handle(self, event, **kwargs):
                if isinstance(event, ModelRoutedEvent):
                    print(event.invoked_model)


        get_dispatcher().add_event_handler(WhoAnswered())
        ```
    """

    routing: dict[str, Any]

    @property
    def requested_model_id(self) -> str:
        """The id or ARN that was called."""
        requested: str = self.routing["requested_model_id"]
        return requested

    @property
    def invoked_model(self) -> str | None:
        """The base model that answered; None where it is not known."""
        invoked: str | None = self.routing["invoked_model"]
        return invoked

    @classmethod
    def class_name(cls) -> str:
        """LlamaIndex's name for this kind of event."""
        return "ModelRoutedEvent"
