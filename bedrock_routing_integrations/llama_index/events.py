"""What LlamaIndex's instrumentation hears of us."""

from __future__ import annotations

from typing import Any

from llama_index.core.instrumentation.events import BaseEvent
from pydantic import Field, PrivateAttr


class _CallEvent(BaseEvent):
    """How one call of ours went."""

    _counted_in: dict[int, object] = PrivateAttr(default_factory=dict)

    def _is_first_for(self, reader: object) -> bool:
        """Whether `reader` sees this event for the first time: handlers may be added to several dispatchers."""
        mine = object()
        return self._counted_in.setdefault(id(reader), mine) is mine  # one step, so that of many threads one is first


class ModelRoutedEvent(_CallEvent):
    """A call to Bedrock was answered: by which model, and what was served. One for each call, before its end event.

    Also for an answer that a knowledge base gave by itself, of which less is known.

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


class ModelCallFailedEvent(_CallEvent):
    """A call to Bedrock failed; one for each call, and none for a call that was answered.

    LlamaIndex itself tells of an exception in streams only, and never of whose call it was. A call that is given up, as
    a stream that is closed or a task that is cancelled, did not fail.

    Attributes:
        requested_model_id: The id or ARN that was called.
        exception: What is raised to the caller. It is not part of the event's dictionary or JSON.
    """

    requested_model_id: str
    exception: Any = Field(exclude=True, repr=False)

    @classmethod
    def class_name(cls) -> str:
        """LlamaIndex's name for this kind of event."""
        return "ModelCallFailedEvent"
