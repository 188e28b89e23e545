"""How the open ``with`` blocks of `RoutingCallbackHandler` hear of LangChain's runs.

LangChain asks its *configure hooks* at the start of each run which handlers to add. There is one of ours, registered
once for the process: the list of hooks only grows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tracers.context import register_configure_hook

from bedrock_routing_integrations.scopes import Scopes

if TYPE_CHECKING:
    from .callbacks import RoutingCallbackHandler

scopes: Scopes[RoutingCallbackHandler] = Scopes(
    "bedrock_routing_langchain",
    "Pass config={'callbacks': [handler]} to the call, or start the thread with contextvars.copy_context().run.",
)


class Listener(BaseCallbackHandler):
    """Hands what LangChain tells of a run to the handlers in whose blocks it was begun, while those are open."""

    run_inline = True
    ignore_chain = ignore_agent = ignore_retriever = ignore_retry = True

    def __init__(self, handlers: tuple[RoutingCallbackHandler, ...] = ()) -> None:
        self._all = handlers

    # LangChain adds a handler once: runs below one that has it already must not get it again.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Listener) and self._all == other._all

    def __hash__(self) -> int:
        return hash(self._all)

    def _open(self) -> list[RoutingCallbackHandler]:
        return [handler for handler in self._all if handler.is_open]

    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        """Hand it on."""
        for handler in self._open():
            handler.on_chat_model_start(*args, **kwargs)

    def on_llm_start(self, *args: Any, **kwargs: Any) -> None:
        """Hand it on."""
        for handler in self._open():
            handler.on_llm_start(*args, **kwargs)

    def on_llm_end(self, *args: Any, **kwargs: Any) -> None:
        """Hand it on."""
        for handler in self._open():
            handler.on_llm_end(*args, **kwargs)

    def on_llm_error(self, *args: Any, **kwargs: Any) -> None:
        """Hand it on."""
        for handler in self._open():
            handler.on_llm_error(*args, **kwargs)

    def on_custom_event(self, *args: Any, **kwargs: Any) -> None:
        """Hand it on."""
        for handler in self._open():
            handler.on_custom_event(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Listener:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Listener, ()  # nothing is open in another process


class _Hook:
    """What LangChain takes for a context variable."""

    def get(self) -> Listener | None:
        handlers = scopes.here() if scopes else ()
        return Listener(tuple(dict.fromkeys(handlers))) if handlers else None


class _Nobody(BaseCallbackHandler):
    """What LangChain makes where it asks the hook twice, and the last block is left in between."""

    def __new__(cls) -> Any:
        return Listener()


register_configure_hook(cast("Any", _Hook()), inheritable=True, handle_class=_Nobody)
