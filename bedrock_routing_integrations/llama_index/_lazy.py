"""Responses whose text is put together when somebody looks at it.

In a stream LlamaIndex gives, with each chunk, all that came before. Copied each time, 20,000 chunks of one word are a
gigabyte; most readers look at `delta` only.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, ClassVar, SupportsIndex, TypeVar

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse
from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from typing_extensions import Self

_READ = "_read_later"
# Where Python keeps the attributes of a pydantic model. Pydantic's serializer, `copy`, `pickle` and `repr` all ask for
# ``__dict__``, so that is where the missing fields are filled in; tests/test_upstream_llama_index.py names this.
_attributes: Any = BaseModel.__dict__["__dict__"]
_set = object.__setattr__
_settling = threading.Lock()
M = TypeVar("M")


def bare(kind: type[M], attributes: dict[str, Any], fields: Iterable[str]) -> M:
    """A pydantic model of what needs no checking because we made it: a third of the time of its constructor.

    Args:
        kind: Its class.
        attributes: Its fields; becomes the model's own dictionary.
        fields: The names of those that count as set.
    """
    model = kind.__new__(kind)
    _set(model, "__pydantic_fields_set__", set(fields))
    _set(model, "__pydantic_extra__", None)
    _set(model, "__pydantic_private__", None)
    _attributes.__set__(model, attributes)
    return model


class _Lazy:
    """A pydantic model some of whose fields are read when they are first needed; from then on an ordinary one."""

    ordinary: ClassVar[type[BaseModel]]
    fields: ClassVar[tuple[str, ...]]

    @classmethod
    def later(cls, known: dict[str, Any], read: Callable[[], dict[str, Any]]) -> Self:
        """A model with some fields now; the others, the first ones, are what `read` returns when one is asked for.

        The fields are not validated: that would read them, and they are ours.
        """
        known[_READ] = read
        return bare(cls, known, cls.fields)

    @property
    def __dict__(self) -> dict[str, Any]:
        return _settle(self)

    @__dict__.setter
    def __dict__(self, attributes: dict[str, Any]) -> None:
        # Pydantic makes a model, or the copy of one: it has all fields, and needs nothing of this class.
        _attributes.__set__(self, attributes)
        _set(self, "__class__", self.ordinary)

    def __getattr__(self, name: str) -> Any:
        attributes = _settle(self)
        if name in attributes:
            return attributes[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        _settle(self)
        setattr(self, name, value)

    # `pickle` and `repr` ask for the class first: it must be the ordinary one by then.
    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        _settle(self)
        return self.__reduce_ex__(protocol)

    def __repr__(self) -> str:
        _settle(self)
        return repr(self)

    def __eq__(self, other: object) -> bool:
        _settle(self)
        return bool(self == other)  # an unread `other` comes here in its turn: Python asks a subclass first

    __hash__ = None  # type: ignore[assignment]  # as pydantic's models


def _settle(model: Any) -> dict[str, Any]:
    """Make it an ordinary model; returns its attributes.

    Two threads may do it at once, and read the same; neither sees an ordinary model that lacks fields. It is no method,
    because one thread can make the model ordinary, without such methods, while another is on its way here.
    """
    attributes: dict[str, Any] = _attributes.__get__(model)
    kind: Any = type(model)
    read = attributes.get(_READ)
    if read is not None:
        found = read()
        with _settling:  # what another thread has settled, and somebody perhaps changed, stays
            attributes = _attributes.__get__(model)
            if _READ in attributes:
                attributes = {**found, **attributes}  # in the order of the fields: those read later come first
                del attributes[_READ]
                _attributes.__set__(model, attributes)
    if issubclass(kind, _Lazy):
        _set(model, "__class__", kind.ordinary)
    return attributes


class LazyChat(_Lazy, ChatResponse):
    """A chunk of a chat: its `message` is all that had arrived by then."""

    ordinary: ClassVar[type[BaseModel]] = ChatResponse
    fields: ClassVar[tuple[str, ...]] = tuple(ChatResponse.model_fields)


class LazyCompletion(_Lazy, CompletionResponse):
    """A chunk of a completion: its `text` is all that had arrived by then."""

    ordinary: ClassVar[type[BaseModel]] = CompletionResponse
    fields: ClassVar[tuple[str, ...]] = tuple(CompletionResponse.model_fields)
