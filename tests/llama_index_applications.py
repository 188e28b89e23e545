"""Documents, and the invoked models by events, for the tests of LlamaIndex applications."""

from __future__ import annotations

import contextlib
from typing import Any

from llama_index.core import MockEmbedding, VectorStoreIndex
from llama_index.core.bridge.pydantic import Field
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.schema import TextNode

from bedrock_routing_integrations.llama_index import ModelRoutedEvent

LIGHTHOUSE = "The lighthouse of Varn was built in 1874 by Ingrid Solberg."
TICKET = "A ticket costs 12 crowns, and children travel free."
WOOL = "The wool is dyed blue with woad and sold in the market of Tarn."
PARAGRAPHS = (
    f"{LIGHTHOUSE} It stands on a granite rock, two miles off the coast.",
    f"The ferry to Varn leaves at nine in the morning. {TICKET}",
    f"Sheep are kept on the island for their wool. {WOOL}",
)
# To MockEmbedding all texts are alike: who retrieves as many as there are gets them all.
ALL = len(PARAGRAPHS)


def nodes():
    return [TextNode(text=text, id_=f"node-{number}") for number, text in enumerate(PARAGRAPHS)]


def vector_index():
    return VectorStoreIndex(nodes(), embed_model=MockEmbedding(embed_dim=8))


class _Routes(BaseEventHandler):
    events: list[Any] = Field(default_factory=list)

    @classmethod
    def class_name(cls):
        return "_Routes"

    def handle(self, event, **kwargs):
        if isinstance(event, ModelRoutedEvent):
            self.events.append(event)

    @property
    def models(self):
        """The models that answered, in the order of the events."""
        return [event.invoked_model for event in self.events]


@contextlib.contextmanager
def routes():
    """Collect the invoked models from the `ModelRoutedEvent`s of LlamaIndex's root dispatcher."""
    handler, dispatcher = _Routes(), get_dispatcher()
    dispatcher.add_event_handler(handler)
    try:
        yield handler
    finally:
        dispatcher.event_handlers.remove(handler)


def calls(bedrock):
    """The Converse and ConverseStream requests in the order of arrival."""
    return [entry for entry in bedrock.journal if entry.operation in ("Converse", "ConverseStream")]


def answered_by(bedrock):
    """The models that answered, by the emulator's own account."""
    return [entry.invoked for entry in calls(bedrock)]


def text_sent(entry):
    """All that the messages of a request say."""
    return "\n".join(block.get("text", "") for message in entry.request["messages"] for block in message["content"])


def errors_of(handler):
    """Return the errors that a `RoutingEventHandler` counted: target → errors by kind, possibly empty."""
    return {target["requested_model_id"]: target["errors"] for target in handler.report.to_dict()["targets"]}
