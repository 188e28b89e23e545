"""Define the events that this package emits to LlamaIndex's instrumentation."""

from __future__ import annotations

from typing import Any

from llama_index.core.instrumentation.events import BaseEvent
from pydantic import Field


class ModelRoutedEvent(BaseEvent):
    """Report which model answered a call, and what was served. Each call has one, before LlamaIndex's end event.

    An answer of RetrieveAndGenerate has one too. Its entry has fewer values, as the API reports no usage.

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
        """The requested id or ARN."""
        requested: str = self.routing["requested_model_id"]
        return requested

    @property
    def invoked_model(self) -> str | None:
        """The base model that answered; None if unknown."""
        invoked: str | None = self.routing["invoked_model"]
        return invoked

    @classmethod
    def class_name(cls) -> str:
        """Return LlamaIndex's name of this class."""
        return "ModelRoutedEvent"


class ModelCallFailedEvent(BaseEvent):
    """Report that a call failed. Each failed call has one, and an answered call has none.

    LlamaIndex itself has events for exceptions in streams only, without the model. An abandoned call, such as a closed
    stream or a cancelled task, has not failed.

    Attributes:
        requested_model_id: The requested id or ARN.
        exception: The exception that the caller gets. The event's dictionary and JSON leave it out.
    """

    requested_model_id: str
    exception: Any = Field(exclude=True, repr=False)

    @classmethod
    def class_name(cls) -> str:
        """Return LlamaIndex's name of this class."""
        return "ModelCallFailedEvent"
